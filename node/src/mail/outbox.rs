//! Owns the messages that leave: one stream to port 1001 of each recipient for which a message waits.
//!
//! Messages leave in order, many at once; each stays in the outbox until its acknowledgement has arrived. When the stream
//! breaks, every unacknowledged message is sent again, and the recipient recognizes by the ids those that it has.
//!
//! A recipient that has no room for a message takes none of those behind it either (see [`Line`](crate::mail::message::Line)).
//! Nothing more is put in flight until it has answered them all; then messages that stay are sent again after a pause.
//!
//! Pauses double while a recipient cannot be reached. A recipient without room was reached, and may have room at any moment: the
//! pause is as long as what was sent in vain asks for, so that small messages follow a second after there is room. A message that
//! joins ends every pause but the shortest.

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
/// Shortest pause before the next attempt; each failure doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause before the next attempt.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Bytes that are sent in vain to a recipient without room, for each second of the pause that follows. Unit: bytes/s. Source: ours; a
/// recipient that stays full costs less than a slow line carries.
const VAIN_PER_SECOND: usize = 64 * 1024;
/// Time for which an idle stream is kept for the next message.
const IDLE: Duration = Duration::from_secs(10);
/// Most bytes of all waiting messages in memory. Unit: bytes.
pub(crate) const WAITING_LEN_MAX: usize = 256 << 20;

/// The recipient's answer to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The recipient has the message on disk. The text is the answer.
    Taken(String, Outgoing),
    /// The recipient will never take this message. The text is the answer.
    Refused(String, Outgoing),
    /// The recipient does not take the message now; the message stays in the outbox. The text is the answer.
    Later(String),
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
    /// Messages that the recipient has no room for now.
    refused: VecDeque<(u64, Outgoing)>,
    /// Nothing is put in flight, since the recipient has refused a message with these words, and has not answered those behind
    /// it.
    halted: Option<String>,
    /// Messages in flight that are not to be sent again.
    given_up: BTreeSet<u64>,
    stream: Option<StreamId>,
    outgoing: VecDeque<u8>,
    incoming: FrameReader,
    retry_at: Option<Instant>,
    /// The end of the shortest pause, which a message that joins waits for.
    retry_min_at: Option<Instant>,
    failures: u32,
    idle_at: Option<Instant>,
    /// Why the last attempt failed.
    reason: Option<String>,
}

impl Outbox {
    /// Adds a message that the books hold under `seq`. False when [`WAITING_LEN_MAX`] is reached.
    pub(crate) fn add(&mut self, seq: u64, message: Outgoing) -> bool {
        if !self.has_room(message.body.len()) {
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
            for list in [&mut route.waiting, &mut route.refused] {
                if let Some(i) = list.iter().position(|(s, _)| *s == seq) {
                    self.waiting_len -= list.remove(i).map_or(0, |(_, message)| message.body.len());
                    return true;
                }
            }
            if route.in_flight.iter().any(|(s, _)| *s == seq) {
                route.given_up.insert(seq);
                return false;
            }
        }
        false
    }

    /// True when a message of this many bytes may join.
    pub(crate) const fn has_room(&self, len: usize) -> bool {
        self.waiting_len + len <= WAITING_LEN_MAX
    }

    /// Messages that wait or are in flight.
    pub(crate) fn len(&self) -> usize {
        self.routes.values().map(Route::len).sum()
    }

    /// Every message with its number, the state of its delivery, and why the last attempt failed.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (u64, &Outgoing, bool, Option<&str>)> {
        self.routes.values().flat_map(|r| {
            let sent = r.refused.iter().map(|m| (m, false)).chain(r.in_flight.iter().map(|m| (m, true)));
            let all = sent.chain(r.waiting.iter().map(|m| (m, false)));
            all.map(|((seq, message), is_sent)| (*seq, message, is_sent, r.reason.as_deref()))
        })
    }

    /// Takes the messages for a recipient that are not in flight, and of these only such as entered the outbox at `until` or
    /// before. Unit: seconds of counted time.
    pub(crate) fn take(&mut self, to: &IdentityKey, until: u64) -> Vec<(u64, Outgoing)> {
        let Some(route) = self.routes.get_mut(to) else { return Vec::new() };
        let mut taken = Vec::new();
        for list in [&mut route.refused, &mut route.waiting] {
            for entry in std::mem::take(list) {
                if entry.1.since <= until { taken.push(entry) } else { list.push_back(entry) }
            }
        }
        self.waiting_len -= taken.iter().map(|(_, message)| message.body.len()).sum::<usize>();
        taken
    }

    /// The recipients for which messages wait or are in flight.
    pub(crate) fn recipients(&self) -> Vec<IdentityKey> {
        self.waiting().map(|(key, ..)| *key).collect()
    }

    /// The recipients for which messages wait or are in flight, their number, and why the last attempt failed.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&IdentityKey, usize, Option<&str>)> {
        let waiting = self.routes.iter().map(|(key, r)| (key, r.len(), r.reason.as_deref()));
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
        self.routes.retain(|_, r| r.stream.is_some() || r.len() > 0);
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

    /// A message has joined: the pause before the next attempt is the shortest one.
    pub(crate) fn hasten(&mut self, to: &IdentityKey) {
        if let Some(route) = self.routes.get_mut(to) {
            route.retry_at = route.retry_at.min(route.retry_min_at);
        }
    }

    /// The stream to a recipient, if one stands or is being opened.
    pub(crate) fn stream_to(&self, to: &IdentityKey) -> Option<StreamId> {
        self.routes.get(to)?.stream
    }

    /// The first bytes for a recipient, which travel with the question for a stream. Their messages count as in flight. Unit of `counted`:
    /// seconds.
    pub(crate) fn early(&mut self, to: &IdentityKey, counted: u64) -> Vec<u8> {
        let Some(route) = self.routes.get_mut(to) else { return Vec::new() };
        route.load(counted);
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
        let pause = route.pause();
        while let Some(refused) = route.refused.pop_back() {
            route.waiting.push_front(refused);
        }
        route.halted = None;
        debug_assert!(route.given_up.is_empty(), "only messages in flight are given up");
        route.stream = None;
        route.idle_at = None;
        route.outgoing.clear();
        route.incoming.clear();
        (route.retry_at, route.retry_min_at) = (Some(now + pause), Some(now + RETRY_MIN));
    }

    /// Moves bytes in both directions; gives the answers that have arrived, by the messages' numbers, and why the stream is over
    /// if it is. Unit of `counted`: seconds.
    pub(crate) fn pump(
        &mut self,
        (now, counted): (Instant, u64),
        to: &IdentityKey,
        stack: &mut Stack,
    ) -> (Vec<(u64, Fate)>, Option<Over>) {
        let Some((route, stream)) = self.routes.get_mut(to).and_then(|r| r.stream.map(|s| (r, s))) else {
            return (Vec::new(), None);
        };
        let (mut fates, mut over) = (Vec::new(), None);
        let mut buffer = [0; 4096];
        while over.is_none() {
            match stack.recv(stream, &mut buffer) {
                Recv::Data(n) => {
                    route.incoming.extend(&buffer[..n]);
                    over = route.take_answers(&mut fates, &mut self.waiting_len);
                }
                Recv::Blocked => break,
                Recv::Fin | Recv::Ended(_) => over = Some(Over::Ended),
            }
        }
        if over.is_none() && route.fill(counted, stack, stream) {
            over = Some(Over::Ended);
        }
        route.idle_at = if route.len() == 0 { route.idle_at.or(Some(now + IDLE)) } else { None };
        (fates, over)
    }

    /// After the fates of messages were dealt with: ends a halt, once everything in flight is answered.
    pub(crate) fn settle(&mut self, to: &IdentityKey) -> Settled {
        let halted = self.routes.get_mut(to).filter(|r| r.in_flight.is_empty());
        match halted.and_then(|r| Some((r.halted.take()?, r.refused.is_empty()))) {
            Some((_, true)) => Settled::GoOn,
            Some((answer, false)) => Settled::Refused(answer),
            None => Settled::Nothing,
        }
    }
}

/// The state of a stream after a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// No message was refused, or answers are outstanding.
    Nothing,
    /// No refused message is left; more may be put in flight.
    GoOn,
    /// Messages that were refused with these words are left. The caller ends the stream, and [`Outbox::failed`] makes a pause.
    Refused(String),
}

/// Why a stream to a recipient is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The recipient or the tunnel has ended the stream.
    Ended,
    /// The recipient answers what was not sent, or its answers cannot be read.
    Broken,
}

impl Route {
    /// Messages that wait or are in flight.
    fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len() + self.refused.len()
    }

    /// The pause after an attempt that has failed.
    fn pause(&mut self) -> Duration {
        let pause = if self.refused.is_empty() {
            self.failures += 1;
            RETRY_MIN * (1 << (self.failures - 1).min(6))
        } else {
            self.failures = 0;
            let len: usize = self.refused.iter().map(|(_, message)| message.body.len()).sum();
            Duration::from_secs((len / VAIN_PER_SECOND) as u64)
        };
        pause.clamp(RETRY_MIN, RETRY_MAX)
    }

    /// Takes the answers that are complete. An answer without a message in flight, as a broken or hostile recipient sends them,
    /// ends the stream, so that no more than one answer is ever held.
    fn take_answers(&mut self, fates: &mut Vec<(u64, Fate)>, waiting_len: &mut usize) -> Option<Over> {
        loop {
            let text = match self.incoming.next(frame::parse_answer) {
                Ok(Some(text)) => text,
                Ok(None) => return None,
                Err(frame::Broken) => return Some(Over::Broken),
            };
            let Some((seq, message)) = self.in_flight.pop_front() else { return Some(Over::Broken) };
            let is_given_up = self.given_up.remove(&seq);
            let is_taken = text.starts_with("ACK");
            if is_taken || is_given_up || frame::is_final(&text) {
                *waiting_len -= message.body.len();
                fates.push((seq, if is_taken { Fate::Taken(text, message) } else { Fate::Refused(text, message) }));
                (self.failures, self.reason) = (0, None);
            } else {
                self.refused.push_back((seq, message));
                self.halted.get_or_insert_with(|| text.clone());
                fates.push((seq, Fate::Later(text)));
            }
        }
    }

    /// Puts waiting messages in flight, up to [`IN_FLIGHT_MAX`] and [`BUFFER_MAX`].
    fn load(&mut self, counted: u64) {
        while self.halted.is_none() && self.outgoing.len() < BUFFER_MAX && self.in_flight.len() < IN_FLIGHT_MAX {
            let Some((seq, message)) = self.waiting.pop_front() else { break };
            self.outgoing.extend(frame::emit_tagged(
                &message.id,
                message.tag.for_frame(counted),
                message.kind,
                &message.body,
            ));
            self.in_flight.push_back((seq, message));
        }
        debug_assert!(self.in_flight.len() <= IN_FLIGHT_MAX);
    }

    /// Writes into the stream until it has no room; true when the stream is over.
    fn fill(&mut self, counted: u64, stack: &mut Stack, stream: StreamId) -> bool {
        loop {
            self.load(counted);
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
    use crate::mail::message::{Kind, Tag};

    fn message(to: IdentityKey, len: usize) -> Outgoing {
        Outgoing { id: [1; 16], to, kind: Kind::Binary, since: 0, tag: Tag::Plain, body: vec![7; len] }
    }

    #[test]
    fn messages_and_bytes_in_flight_have_maxima() {
        for (len, in_flight) in [(1, IN_FLIGHT_MAX), (BUFFER_MAX, 1)] {
            let (mut outbox, to) = (Outbox::default(), IdentityKey([2; 32]));
            (0..2 * IN_FLIGHT_MAX as u64).for_each(|seq| assert!(outbox.add(seq, message(to, len))));
            outbox.early(&to, 0);
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
    fn a_message_that_joins_ends_every_pause_but_the_shortest() {
        let (mut outbox, to, mut now) = (Outbox::default(), IdentityKey([2; 32]), Instant::from_micros(5));
        assert!(outbox.add(1, message(to, 1)));
        (0..9).for_each(|_| outbox.failed(now, &to, "no"));
        for _ in 0..9 {
            outbox.hasten(&to);
            assert_eq!(outbox.next_deadline(), Some(now + RETRY_MIN));
            now = now + RETRY_MIN;
            outbox.failed(now, &to, "no");
            assert_eq!(outbox.next_deadline(), Some(now + RETRY_MAX), "nothing has joined");
        }
        now = now + RETRY_MIN * 2;
        outbox.hasten(&to);
        assert_eq!(outbox.wanted(now), [to], "at once, when the shortest pause is over");
    }

    #[test]
    fn the_pause_after_a_lack_of_room_grows_with_what_was_sent_in_vain_alone() {
        for (len, pause) in [(10, 1), (3 * VAIN_PER_SECOND, 3), (100 * VAIN_PER_SECOND, 60)] {
            let (mut outbox, to, now) = (Outbox::default(), IdentityKey([2; 32]), Instant::from_micros(5));
            assert!(outbox.add(1, message(to, len)));
            for _ in 0..20 {
                outbox.early(&to, 0);
                answer(&mut outbox, &to, &["ERR full"]);
                outbox.failed(now, &to, "no room");
                assert_eq!(outbox.next_deadline(), Some(now + Duration::from_secs(pause)), "{len} bytes");
            }
            outbox.failed(now, &to, "gone");
            assert_eq!(outbox.next_deadline(), Some(now + RETRY_MIN), "the recipient was reached before");
        }
    }

    /// A route with messages 1 to `count` in flight.
    fn in_flight(count: u64) -> (Outbox, IdentityKey) {
        let (mut outbox, to) = (Outbox::default(), IdentityKey([2; 32]));
        (1..=count).for_each(|seq| assert!(outbox.add(seq, message(to, 10))));
        outbox.early(&to, 0);
        (outbox, to)
    }

    fn answer(outbox: &mut Outbox, to: &IdentityKey, texts: &[&str]) -> (Vec<(u64, Fate)>, Option<Over>) {
        let (mut fates, route) = (Vec::new(), outbox.routes.get_mut(to).expect("a route"));
        texts.iter().for_each(|text| route.incoming.extend(&frame::emit_answer(text)));
        let over = route.take_answers(&mut fates, &mut outbox.waiting_len);
        (fates, over)
    }

    #[test]
    fn refused_messages_wait_in_their_order_and_the_next_attempt_comes_after_a_pause() {
        let (mut outbox, to) = in_flight(4);
        let (fates, over) = answer(&mut outbox, &to, &["ACK", "ERR full", "ERR full"]);
        assert_eq!((fates[1].clone(), over), ((2, Fate::Later("ERR full".into())), None));
        assert!(outbox.add(5, message(to, 10)));
        assert_eq!(outbox.settle(&to), Settled::Nothing, "an answer is missing");
        outbox.early(&to, 0);
        assert_eq!(outbox.routes[&to].in_flight.len(), 1, "nothing more is put in flight");
        answer(&mut outbox, &to, &["ERR malformed"]);
        assert_eq!(outbox.settle(&to), Settled::Refused("ERR full".into()));
        outbox.failed(Instant::ZERO, &to, "no room");
        assert!(outbox.messages().map(|(seq, ..)| seq).eq([2, 3, 5]));
        assert_eq!((outbox.wanted(Instant::ZERO), outbox.waiting_len), (Vec::new(), 30));
        outbox.early(&to, 0);
        assert_eq!(outbox.routes[&to].in_flight.len(), 3, "no longer halted");
    }

    #[test]
    fn a_refusal_that_leaves_no_message_does_not_end_the_stream() {
        let (mut outbox, to) = in_flight(1);
        answer(&mut outbox, &to, &["ERR full"]);
        assert!(outbox.cancel(1), "the recipient does not have the message");
        assert_eq!((outbox.settle(&to), outbox.settle(&to)), (Settled::GoOn, Settled::Nothing));
        assert_eq!((outbox.len(), outbox.waiting_len), (0, 0));
    }

    #[test]
    fn an_answer_without_a_message_ends_the_stream() {
        let (mut outbox, to) = in_flight(1);
        let (fates, over) = answer(&mut outbox, &to, &["ACK", "ACK", "ACK"]);
        assert_eq!((fates.len(), over), (1, Some(Over::Broken)));
        let (mut outbox, to) = in_flight(1);
        assert_eq!(answer(&mut outbox, &to, &[&"a".repeat(9999)]).1, Some(Over::Broken));
    }

    #[test]
    fn messages_are_taken_by_their_age_unless_they_are_in_flight() {
        let (mut outbox, to) = in_flight(1);
        for since in [5, 6, 7] {
            assert!(outbox.add(since, Outgoing { since, ..message(to, 10) }));
        }
        assert!(outbox.take(&to, 6).iter().map(|(seq, _)| *seq).eq([5, 6]));
        assert_eq!((outbox.len(), outbox.waiting_len), (2, 20));
    }

    #[test]
    fn a_message_given_up_in_flight_is_not_sent_again() {
        let (mut outbox, to) = (Outbox::default(), IdentityKey([2; 32]));
        (1..=3).for_each(|seq| assert!(outbox.add(seq, message(to, 2000))));
        assert!(outbox.cancel(3), "the message waits");
        assert_eq!(outbox.early(&to, 0).len(), EARLY_LEN_MAX);
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
