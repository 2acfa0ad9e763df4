//! Owns the output side that all services share: bytes that leave, answers that wait for the disk in their order, and work for
//! the disk and the event stream.

use crate::disk::files::FileJob;
use crate::mail::message::{Kind, Line, Tag};
use crate::services::event::Published;
use crate::services::lanes::JOBS_OF_PEER_MAX;
use pilot_stack::{Stack, StreamId};
use std::collections::VecDeque;

/// Most answers of one stream that wait for the disk; at the limit no more frames are taken.
const ANSWERS_MAX: usize = 256;
/// Most events that one stream publishes at once; the rest waits for the streams of others. Source: own choice; each goes to
/// every subscriber.
pub(crate) const PUBLISHED_MAX: usize = 32;

/// A message for the inbox.
pub(crate) struct Delivery {
    /// The slot of the answer.
    pub(crate) slot: u64,
    /// The sender's id; `None`: the sender cannot send the message again.
    pub(crate) id: Option<[u8; 16]>,
    /// With a deadline that counts from now.
    pub(crate) tag: Tag,
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
}

/// The place of a delivered message.
pub(crate) struct Receipt {
    /// The inbox did not have the message before.
    pub(crate) fresh: bool,
    /// The message's number in the inbox.
    pub(crate) seq: u64,
    /// The message answers a question of this node.
    pub(crate) answers: bool,
}

/// The output side of one stream of a service.
#[derive(Default)]
pub(crate) struct Io {
    /// Bytes that leave as soon as the stream takes them.
    pub(crate) outgoing: VecDeque<u8>,
    /// Answers in order, by slot; `None` while the disk works on the answer.
    answers: VecDeque<(u64, Option<Vec<u8>>)>,
    next_slot: u64,
    pub(crate) deliveries: Vec<Delivery>,
    /// Of the messages that their sender can send again.
    pub(crate) line: Line,
    pub(crate) files: Vec<FileJob>,
    pub(crate) published: Vec<Published>,
    /// Jobs of the stream's peer that the disk has not done yet.
    pub(crate) load: usize,
    /// The stream is not read any more, and ends after its last answer.
    pub(crate) has_ended: bool,
    /// The stream ends now.
    pub(crate) is_broken: bool,
}

impl Io {
    /// Bytes of answers that wait.
    pub(crate) fn held(&self) -> usize {
        let waiting = self.answers.iter().map(|(_, answer)| answer.as_ref().map_or(0, Vec::len)).sum::<usize>();
        self.outgoing.len() + waiting
    }

    /// True while another answer may be promised, another event published, and another job given to the disk.
    pub(crate) fn has_room(&self) -> bool {
        self.answers.len() < ANSWERS_MAX && self.published.len() < PUBLISHED_MAX && !self.is_behind()
    }

    /// True when the peer's jobs for the disk are as many as they may be, so that frames wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.load + self.deliveries.len() + self.files.len() >= JOBS_OF_PEER_MAX
    }

    /// True when the last answer has left for the stream, and no other follows.
    pub(crate) fn is_finished(&self) -> bool {
        self.has_ended && self.answers.is_empty() && self.outgoing.is_empty()
    }

    /// The slot that the next [`Io::promise`] gives.
    pub(crate) const fn next_slot(&self) -> u64 {
        self.next_slot
    }

    /// Reserves the next place in the order of answers.
    pub(crate) fn promise(&mut self) -> u64 {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.answers.push_back((slot, None));
        slot
    }

    /// Gives an answer that was not promised, after those that were promised before.
    pub(crate) fn say(&mut self, answer: Vec<u8>) {
        self.answers.push_back((u64::MAX, Some(answer)));
    }

    /// Gives the answer that was promised under a slot. A second answer under the same slot leaves at once.
    pub(crate) fn answer(&mut self, slot: u64, answer: Vec<u8>) {
        debug_assert!(slot < self.next_slot, "an answer was promised before");
        match self.answers.iter_mut().find(|(s, a)| *s == slot && a.is_none()) {
            Some((_, place)) => *place = Some(answer),
            None => self.outgoing.extend(answer),
        }
    }

    /// Delivers a message under a promised answer.
    pub(crate) fn deliver(&mut self, (id, tag): (Option<[u8; 16]>, Tag), kind: Kind, body: Vec<u8>) {
        if self.answers.is_empty() {
            self.line.mend();
        }
        let slot = self.promise();
        self.deliveries.push(Delivery { slot, id, tag, kind, body });
    }

    /// Moves answers and bytes into the stream, while it has room.
    pub(crate) fn flush(&mut self, stack: &mut Stack, stream: StreamId) {
        while let Some((_, Some(_))) = self.answers.front() {
            self.outgoing.extend(self.answers.pop_front().and_then(|(_, answer)| answer).unwrap_or_default());
        }
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match stack.send(stream, front) {
                Ok(0) => return,
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(_) => return self.is_broken = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_their_order_and_have_a_maximum() {
        let mut io = Io::default();
        let (first, second) = (io.promise(), io.promise());
        io.say(b"third".to_vec());
        io.answer(second, b"second".to_vec());
        assert!(io.answers.front().is_some_and(|(_, answer)| answer.is_none()), "the first is not known yet");
        io.answer(first, b"first".to_vec());
        let said: Vec<u8> = io.answers.iter().flat_map(|(_, answer)| answer.clone().unwrap_or_default()).collect();
        assert_eq!(said, b"firstsecondthird");
        while io.has_room() {
            io.promise();
        }
        assert_eq!(io.answers.len(), ANSWERS_MAX);
        // The line of a refused message is mended when everything was answered.
        io.line.break_off();
        io.deliver((None, Tag::Plain), Kind::Text, Vec::new());
        assert!(io.line.is_broken());
        io.answers.clear();
        io.deliver((None, Tag::Plain), Kind::Text, Vec::new());
        assert!(!io.line.is_broken());
    }
}
