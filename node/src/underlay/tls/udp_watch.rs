//! Owns what is known of UDP to the rendezvous: whether it is answered, and what was sent while it is not.

use crate::crypto::entropy;
use crate::underlay::echo::{ECHO_LEN, is_answer, question};
use pilot_core::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Time without an answer after which the way over TLS is tried. Source: `docs/paths.md`, "Without UDP".
const SILENCE: Duration = Duration::from_millis(300);
/// When the first echo is asked for: what a node sends through the relay is not always answered.
const FIRST_ECHO: Duration = Duration::from_millis(100);
/// Pause between two echoes, and how many are asked for.
const ECHO_PAUSE: Duration = Duration::from_millis(50);
const ECHOES: u8 = 3;
/// After so much silence datagrams are kept, to be said again over TLS.
const KEEP_AFTER: Duration = Duration::from_millis(100);
/// Datagrams that are kept; the oldest goes first. Source: own choice; key handshakes and calls, which the core sends again only
/// after a second.
pub(super) const KEPT_MAX: usize = 16;

/// The watch.
#[derive(Default)]
pub(super) struct UdpWatch {
    /// When the first datagram left that has no answer.
    unanswered: Option<Instant>,
    heard: Option<Instant>,
    /// When the next echo is asked for, and how many are asked for after that.
    ask: Option<(Instant, u8)>,
    nonce: Option<[u8; 16]>,
    kept: VecDeque<Box<[u8]>>,
}

impl UdpWatch {
    /// Datagrams leave for the rendezvous by UDP.
    pub(super) fn sent(&mut self, now: Instant, datagrams: impl Iterator<Item = impl Into<Box<[u8]>>>) {
        if self.unanswered.is_none() {
            self.unanswered = Some(now);
            self.ask = Some((now + FIRST_ECHO, ECHOES - 1));
        }
        if self.heard.is_some_and(|at| now.since(at) < KEEP_AFTER) {
            return;
        }
        for datagram in datagrams {
            if self.kept.len() == KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back(datagram.into());
        }
        debug_assert!(self.kept.len() <= KEPT_MAX);
    }

    /// A datagram came from the rendezvous by UDP.
    pub(super) fn answered(&mut self, now: Instant) {
        (self.unanswered, self.heard, self.ask) = (None, Some(now), None);
        self.kept.clear();
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.unanswered.is_some_and(|at| at + SILENCE <= now)
    }

    /// When [`is_silent`](Self::is_silent) becomes true.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        self.unanswered.map(|at| at + SILENCE)
    }

    /// What was sent in vain, once.
    pub(super) fn take_kept(&mut self) -> VecDeque<Box<[u8]>> {
        std::mem::take(&mut self.kept)
    }

    /// Asks for echoes from now on.
    pub(super) fn ask(&mut self, now: Instant) {
        self.ask = Some((now, ECHOES - 1));
    }

    /// Asks for no more echoes.
    pub(super) fn stop_asking(&mut self) {
        self.ask = None;
    }

    /// When the next echo is asked for.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.ask.map(|(at, _)| at)
    }

    /// The question that is due.
    pub(super) fn question(&mut self, now: Instant) -> Option<[u8; ECHO_LEN]> {
        let (_, left) = self.ask.filter(|(at, _)| *at <= now)?;
        self.ask = left.checked_sub(1).map(|left| (now + ECHO_PAUSE, left));
        Some(question(self.nonce.get_or_insert_with(entropy)))
    }

    /// True for the answer to a question of this watch, which nothing off the way can make.
    pub(super) fn is_echo(&self, datagram: &[u8]) -> bool {
        self.nonce.is_some_and(|nonce| is_answer(datagram, &nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::underlay::echo::echo;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn silence_is_found_after_its_time_and_echoes_prevent_that() {
        let mut watch = UdpWatch::default();
        watch.sent(at(0), [[1; 9]].into_iter());
        watch.sent(at(50), [[2; 9]].into_iter());
        assert!(!watch.is_silent(at(299)) && watch.is_silent(at(300)));
        assert_eq!((watch.silent_at(), watch.ask_at()), (Some(at(300)), Some(at(100))));
        let mut asked = Vec::new();
        for ms in [99, 100, 149, 150, 199, 200, 250, 299] {
            asked.extend(watch.question(at(ms)));
        }
        assert_eq!((asked.len(), watch.ask_at()), (usize::from(ECHOES), None));
        let answer = echo(&asked[0]).expect("a question");
        assert!(watch.is_echo(&answer) && !watch.is_echo(&asked[0]) && !watch.is_echo(&[7; ECHO_LEN]));
        watch.answered(at(299));
        assert!(!watch.is_silent(at(9_000)) && watch.take_kept().is_empty());
    }

    #[test]
    fn what_is_sent_in_vain_is_kept_up_to_a_maximum() {
        let mut watch = UdpWatch::default();
        watch.answered(at(0));
        watch.sent(at(99), [[0; 9]].into_iter());
        assert!(watch.kept.is_empty(), "an answer is still to come");
        (0..KEPT_MAX as u8 + 4).for_each(|n| watch.sent(at(100), [[n; 9]].into_iter()));
        let kept = watch.take_kept();
        assert_eq!((kept.len(), kept[0][0], watch.take_kept().len()), (KEPT_MAX, 4, 0));
    }
}
