//! Owns the messages that leave: one stream to port 1001 of each recipient for which a message waits.
//!
//! Messages leave in order, many at once; each stays in the outbox until its acknowledgement has arrived. When the stream
//! breaks, every unacknowledged message is sent again, and the recipient recognizes by the ids those that it has.

use crate::frame_reader::FrameReader;
use crate::mail::frame;
use crate::mail::message::Outgoing;
use litemap::LiteMap;
use pilot_core::Instant;
use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_stack::{EARLY_LEN_MAX, Recv, Stack, StreamId};
use std::collections::{BTreeSet, VecDeque};

/// Most messages in flight to one recipient.
pub(crate) const IN_FLIGHT_MAX: usize = 128;
/// Bytes for one recipient that wait for room in TCP's ring; at the limit no further message joins them. Unit: bytes.
const BUFFER_MAX: usize = 256 * 1024;
/// Longest answer to a message; a recipient that goes on loses its stream. Unit: bytes. Source: own choice; answers are a line.
const ANSWER_LEN_MAX: usize = 64 * 1024;
/// Bytes that are read of the answers before they are looked at. Unit: bytes.
const READ_LEN_MAX: usize = 256 * 1024;
/// Shortest pause before the next attempt; each failure doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause before the next attempt.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Time for which an idle stream is kept for the next message.
const IDLE: Duration = Duration::from_secs(10);
/// Most bytes of all waiting messages in memory. Unit: bytes.
pub(crate) const WAITING_LEN_MAX: usize = 256 << 20;

/// The recipient's answer to a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The recipient has the message on disk. The text is the answer.
    Taken(String),
    /// The recipient does not take the message. The text is the answer.
    Refused(String),
}

/// The messages in the outbox, by recipient.
#[derive(Default)]
pub(crate) struct Outbox {
    routes: LiteMap<IdentityKey, Route>,
    waiting_len: usize,
}

#[derive(Default)]
struct Route {
    waiting: VecDeque<(u64, Outgoing)>,
    in_flight: VecDeque<(u64, Outgoing)>,
    /// Messages in flight that are not to be sent again.
    given_up: BTreeSet<u64>,
    stream: Option<StreamId>,
    outgoing: VecDeque<u8>,
    incoming: FrameReader,
    retry_at: Option<Instant>,
    failures: u32,
    idle_at: Option<Instant>,
    /// Why the last attempt failed.
    reason: Option<String>,
}

impl Outbox {
    /// Adds a message that the books hold under `seq`. False when [`WAITING_LEN_MAX`] is reached.
    pub(crate) fn add(&mut self, seq: u64, message: Outgoing) -> bool {
        if self.waiting_len + message.body.len() > WAITING_LEN_MAX {
            return false;
        }
        self.waiting_len += message.body.len();
        debug_assert!(self.waiting_len <= WAITING_LEN_MAX);
        self.routes.entry(message.to).or_default().waiting.push_back((seq, message));
        true
    }

    /// Forgets a message. False when the recipient may have the message already.
    pub(crate) fn cancel(&mut self, seq: u64) -> bool {
        for (_, route) in &mut self.routes {
            if let Some(i) = route.waiting.iter().position(|(s, _)| *s == seq) {
                if let Some((_, message)) = route.waiting.remove(i) {
                    self.waiting_len -= message.body.len();
                }
                return true;
            }
            if route.in_flight.iter().any(|(s, _)| *s == seq) {
                route.given_up.insert(seq);
                return false;
            }
        }
        false
    }

    /// Messages that wait or are in flight.
    pub(crate) fn len(&self) -> usize {
        self.routes.values().map(|r| r.waiting.len() + r.in_flight.len()).sum()
    }

    /// The recipients for which messages wait or are in flight, their number, and why the last attempt failed.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&IdentityKey, usize, Option<&str>)> {
        let waiting =
            self.routes.iter().map(|(key, r)| (key, r.waiting.len() + r.in_flight.len(), r.reason.as_deref()));
        waiting.filter(|(_, count, _)| *count > 0)
    }

    /// The recipients to which a stream is to be opened now.
    pub(crate) fn wanted(&self, now: Instant) -> Vec<IdentityKey> {
        let due = |r: &Route| r.stream.is_none() && !r.waiting.is_empty() && r.retry_at.is_none_or(|at| at <= now);
        self.routes.iter().filter(|(_, r)| due(r)).map(|(key, _)| *key).collect()
    }

    /// Takes the streams that were idle for [`IDLE`], for the caller to close.
    pub(crate) fn idle(&mut self, now: Instant) -> Vec<StreamId> {
        let mut idle = Vec::new();
        for (_, route) in &mut self.routes {
            if route.idle_at.is_some_and(|at| at <= now) {
                route.idle_at = None;
                idle.extend(route.stream.take());
            }
        }
        self.routes.retain(|_, r| r.stream.is_some() || !r.waiting.is_empty() || !r.in_flight.is_empty());
        idle
    }

    /// The earliest time at which [`wanted`](Self::wanted) or [`idle`](Self::idle) gives something.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        // A route without a time to wait for is due at once.
        let retry = |r: &Route| {
            let is_wanted = r.stream.is_none() && !r.waiting.is_empty();
            is_wanted.then(|| r.retry_at.unwrap_or(Instant::ZERO))
        };
        self.routes.values().flat_map(|r| [retry(r), r.idle_at]).flatten().min()
    }

    /// Ends the pause before the next attempt, because the recipient has sent something.
    pub(crate) fn encourage(&mut self, to: &IdentityKey) {
        if let Some(route) = self.routes.get_mut(to) {
            (route.retry_at, route.failures, route.reason) = (None, 0, None);
        }
    }

    /// The stream to a recipient, if one stands or is being opened.
    pub(crate) fn stream_to(&self, to: &IdentityKey) -> Option<StreamId> {
        self.routes.get(to)?.stream
    }

    /// The first bytes for a recipient, which travel with the question for a stream. Their messages count as in flight.
    pub(crate) fn early(&mut self, to: &IdentityKey) -> Vec<u8> {
        let Some(route) = self.routes.get_mut(to) else { return Vec::new() };
        route.load();
        let len = route.outgoing.len().min(EARLY_LEN_MAX);
        route.outgoing.drain(..len).collect()
    }

    /// A stream to the recipient is being opened.
    pub(crate) fn opened(&mut self, to: &IdentityKey, stream: StreamId) {
        if let Some(route) = self.routes.get_mut(to) {
            route.stream = Some(stream);
        }
    }

    /// The stream ended or could not be opened: every unacknowledged message waits again, in order.
    pub(crate) fn failed(&mut self, now: Instant, to: &IdentityKey, reason: &str) {
        let Some(route) = self.routes.get_mut(to) else { return };
        route.reason = Some(reason.into());
        while let Some((seq, message)) = route.in_flight.pop_back() {
            if route.given_up.remove(&seq) {
                self.waiting_len -= message.body.len();
            } else {
                route.waiting.push_front((seq, message));
            }
        }
        debug_assert!(route.given_up.is_empty(), "only messages in flight are given up");
        route.stream = None;
        route.idle_at = None;
        route.outgoing.clear();
        route.incoming.clear();
        let pause = (RETRY_MIN * (1 << route.failures.min(6))).min(RETRY_MAX);
        route.failures += 1;
        route.retry_at = Some(now + pause);
    }

    /// Moves bytes in both directions; gives the answers that have arrived, by the messages' numbers, and whether the stream
    /// is over.
    pub(crate) fn pump(&mut self, now: Instant, to: &IdentityKey, stack: &mut Stack) -> (Vec<(u64, Fate)>, bool) {
        let Some((route, stream)) = self.routes.get_mut(to).and_then(|r| r.stream.map(|s| (r, s))) else {
            return (Vec::new(), false);
        };
        let mut fates = Vec::new();
        let mut over = false;
        let mut buffer = [0; 4096];
        loop {
            if route.incoming.rest().len() >= READ_LEN_MAX {
                stack.look(stream); // the rest is for the next round
                break;
            }
            match stack.recv(stream, &mut buffer) {
                Recv::Data(n) => route.incoming.extend(&buffer[..n]),
                Recv::Blocked => break,
                Recv::Fin | Recv::Ended(_) => {
                    over = true;
                    break;
                }
            }
        }
        loop {
            match route.incoming.next(frame::parse_frame) {
                Ok(Some((_, text))) => {
                    let Some((seq, message)) = route.in_flight.pop_front() else {
                        over = true; // an answer to nothing
                        break;
                    };
                    self.waiting_len -= message.body.len();
                    route.given_up.remove(&seq);
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let fate = if text.starts_with("ACK") { Fate::Taken(text) } else { Fate::Refused(text) };
                    fates.push((seq, fate));
                    (route.failures, route.reason) = (0, None);
                }
                Ok(None) => {
                    over |= route.incoming.rest().len() > ANSWER_LEN_MAX;
                    break;
                }
                Err(frame::Broken) => {
                    over = true;
                    break;
                }
            }
        }
        over |= route.fill(stack, stream);
        let quiet = route.waiting.is_empty() && route.in_flight.is_empty();
        route.idle_at = if quiet { route.idle_at.or(Some(now + IDLE)) } else { None };
        (fates, over)
    }
}

impl Route {
    /// Puts waiting messages in flight, up to [`IN_FLIGHT_MAX`] and [`BUFFER_MAX`].
    fn load(&mut self) {
        while self.outgoing.len() < BUFFER_MAX && self.in_flight.len() < IN_FLIGHT_MAX {
            let Some((seq, message)) = self.waiting.pop_front() else { break };
            self.outgoing.extend(frame::emit_tagged(&message.id, message.kind, &message.body));
            self.in_flight.push_back((seq, message));
        }
        debug_assert!(self.in_flight.len() <= IN_FLIGHT_MAX);
    }

    /// Writes into the stream until it has no room; true when the stream is over.
    fn fill(&mut self, stack: &mut Stack, stream: StreamId) -> bool {
        loop {
            self.load();
            let (front, _) = self.outgoing.as_slices();
            if front.is_empty() {
                return false;
            }
            match stack.send(stream, front) {
                Ok(0) => return false,
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::message::Kind;

    fn message(to: IdentityKey, len: usize) -> Outgoing {
        Outgoing { id: [1; 16], to, kind: Kind::Binary, expires: 0, body: vec![7; len] }
    }

    #[test]
    fn messages_and_bytes_in_flight_have_maxima() {
        for (len, in_flight) in [(1, IN_FLIGHT_MAX), (BUFFER_MAX, 1)] {
            let (mut outbox, to) = (Outbox::default(), IdentityKey([2; 32]));
            (0..2 * IN_FLIGHT_MAX as u64).for_each(|seq| assert!(outbox.add(seq, message(to, len))));
            outbox.early(&to);
            assert_eq!(outbox.routes[&to].in_flight.len(), in_flight);
            assert_eq!(outbox.len(), 2 * IN_FLIGHT_MAX);
            outbox.failed(Instant::ZERO, &to, "no");
            assert!(outbox.routes[&to].waiting.iter().map(|(seq, _)| *seq).eq(0..2 * IN_FLIGHT_MAX as u64), "in order");
        }
    }

    #[test]
    fn pauses_between_attempts_double_up_to_a_maximum() {
        let (mut outbox, to, now) = (Outbox::default(), IdentityKey([2; 32]), Instant::from_micros(5));
        assert!(outbox.add(1, message(to, 1)));
        assert_eq!(outbox.wanted(now), [to]);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            outbox.failed(now, &to, "no");
            assert_eq!(outbox.wanted(now), []);
            pauses.push(outbox.next_deadline().expect("another attempt").since(now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        outbox.encourage(&to);
        assert_eq!(outbox.wanted(now), [to]);
    }

    #[test]
    fn a_message_given_up_in_flight_is_not_sent_again() {
        let (mut outbox, to) = (Outbox::default(), IdentityKey([2; 32]));
        (1..=3).for_each(|seq| assert!(outbox.add(seq, message(to, 2000))));
        assert!(outbox.cancel(3), "the message waits");
        assert_eq!(outbox.early(&to).len(), EARLY_LEN_MAX);
        assert!(!outbox.cancel(1), "the message may have arrived");
        outbox.failed(Instant::ZERO, &to, "no");
        assert_eq!((outbox.len(), outbox.waiting_len), (1, 2000));
        assert_eq!(outbox.routes[&to].waiting[0].0, 2);
        assert!(outbox.routes[&to].given_up.is_empty());
    }
    #[test]
    fn an_encouraged_route_is_due_at_once() {
        let (mut outbox, to) = (Outbox::default(), IdentityKey([2; 32]));
        let now = Instant::ZERO + Duration::from_secs(100);
        assert!(outbox.add(1, message(to, 10)));
        outbox.failed(now, &to, "no");
        assert!(outbox.wanted(now).is_empty() && outbox.next_deadline().is_some_and(|at| at > now));
        outbox.encourage(&to);
        assert_eq!(outbox.wanted(now), [to]);
        assert!(outbox.next_deadline().is_some_and(|at| at <= now), "the loop must not sleep");
    }
}
