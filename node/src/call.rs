//! Owns the table of calls that wait: one entry for each thing that was asked for and has not come yet, be it from the disk,
//! the rendezvous or a peer. An entry holds the state with
//! which its call goes on.

use crate::answer::Answer;
use crate::disk::job::Done;
use crate::effect::{Caller, Opener, Ticket};
use crate::failure::{Code, Failure};
use crate::mail::message::{Kind, Letter, Outgoing, Tag};
use litemap::LiteMap;
use pilot_core::Instant;
use pilot_core::control::Ticket as Question;
use pilot_core::identity::{IdentityKey, NodeRecord, Profile};
use pilot_core::invite::JoinCode;
use pilot_core::trust::{Terms, TrustVersion, Undo};
use pilot_stack::StreamId;
use std::collections::VecDeque;

/// What follows when a change of the trust book is on disk, or is not.
#[derive(Debug)]
pub(crate) enum After {
    /// Nothing: no caller waits.
    Nothing,
    /// The caller gets the answer. A change that is not on disk is undone, and the caller learns why.
    Answer(Caller, Answer, Option<Box<Undo>>),
    /// The same, for a change that takes something away from a node of this name: it stays in force, and is saved again and
    /// again.
    Withdrawal(Caller, Answer, String),
}

/// The state of a waiting call.
#[derive(Debug)]
pub(crate) enum Call {
    /// Nothing follows.
    Forgotten,
    /// The answer is given once the books behind it are synced.
    Saved { caller: Caller, answer: Answer },
    /// The letters of this version of the trust book, and the answer to a verb, leave once the book is synced.
    TrustSaved { version: TrustVersion, after: After },
    /// The times that this node may use are put ahead, again if the disk refuses.
    TimesSaved,
    /// A service learns that its message is in the inbox.
    Delivery(Delivery),
    /// A service learns the outcome of its work on a file.
    File { stream: StreamId, sender: IdentityKey, file: u64, len: usize },
    /// A message enters the outbox once it is on disk.
    Queue(Queue),
    /// A message waits for its recipient's acknowledgement.
    Post(Post),
    /// The answer is read from the disk.
    Read(Caller),
    /// The answer to `peers` tells what their files take on the disk, if that answers in time.
    Peers(Caller),
    /// A question and its answer are read from the disk; a caller may wait for an answer that has not come.
    AskedFor(AskedFor),
    /// A caller waits for the answer to a question.
    AwaitAnswer(AskedFor),
    /// The questions of this node are read from the disk.
    ListAsked(Caller),
    /// A question is taken, and its answer, of so many bytes, enters the outbox.
    Reply(Caller, usize, Option<u64>),
    /// A stream is being opened.
    Connect(Connect),
    /// The rendezvous was asked.
    Lookup(Lookup),
    /// A node is to become trusted.
    AwaitTrust(AwaitTrust),
    /// The maker of a code is asked, or will be once the rendezvous is reached.
    AwaitJoin(AwaitJoin),
    /// A member of a group is asked, for a call to it.
    Meet(Meet),
    /// The rendezvous has not decided yet about a change of this node's record.
    Profile(ProfileChange),
}

/// A message of a service on its way into the inbox.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) stream: StreamId,
    pub(crate) sender: IdentityKey,
    /// The place of its answer among the stream's answers.
    pub(crate) slot: u64,
    pub(crate) id: [u8; 16],
    pub(crate) kind: Kind,
    pub(crate) tag: Tag,
    /// Length of the body. Unit: bytes.
    pub(crate) len: usize,
}

/// A caller that asks for one of this node's questions.
#[derive(Debug)]
pub(crate) struct AskedFor {
    pub(crate) caller: Caller,
    pub(crate) question: [u8; 16],
    /// Until then the caller waits for the answer; `None`: it is told what is known.
    pub(crate) until: Option<Instant>,
}

/// A message on its way into the outbox.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) message: Outgoing,
    pub(crate) caller: Caller,
    pub(crate) deadline: Instant,
    /// The message stays in the outbox after the deadline.
    pub(crate) keep: bool,
}

/// A message in the outbox, for which a caller waits for the acknowledgement.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) seq: u64,
    pub(crate) caller: Caller,
    pub(crate) keep: bool,
    pub(crate) kind: Kind,
    /// Length of the body. Unit: bytes.
    pub(crate) len: usize,
    pub(crate) to: IdentityKey,
    pub(crate) id: [u8; 16],
}

/// A stream that is being opened.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) stream: StreamId,
    pub(crate) opener: Opener,
    /// The name of the peer in error texts.
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// A question to the rendezvous.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// The node or tag, in the caller's words.
    pub(crate) target: String,
    pub(crate) purpose: Purpose,
}

/// A call to a member of a group that this node has not met.
#[derive(Debug)]
pub(crate) struct Meet {
    pub(crate) key: IdentityKey,
    pub(crate) lookup: Lookup,
}

/// The use of a record that was asked for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// To answer with the record.
    Find(Caller),
    /// To answer with all records of a tag.
    Search(Caller),
    /// To ask the node for trust, or for the ports that the caller names if it is a trusted peer with a new name.
    Handshake { caller: Caller, terms: Terms, fingerprint: Option<String>, names_ports: bool },
    /// To open a stream if the node is a trusted peer with a new name, and otherwise to tell why not.
    Connect { port: u16, early: Vec<u8>, opener: Opener },
    /// To send a message if the node is a trusted peer with a new name, and otherwise to tell why not.
    Send(Caller, Letter),
}

/// A caller that waits until a node is trusted.
#[derive(Debug)]
pub(crate) struct AwaitTrust {
    pub(crate) node: String,
    pub(crate) caller: Caller,
}

/// A caller that waits for the maker of a code, or for a member of the group that it is for.
#[derive(Debug)]
pub(crate) struct AwaitJoin {
    pub(crate) code: JoinCode,
    pub(crate) terms: Terms,
    pub(crate) is_asked: bool,
    /// How many contacts in the code have refused.
    pub(crate) refused: usize,
    pub(crate) deadline: Instant,
    pub(crate) caller: Caller,
}

/// A change of this node's record that the rendezvous has not decided about.
#[derive(Debug)]
pub(crate) struct ProfileChange {
    pub(crate) caller: Caller,
    pub(crate) answer: Answer,
    pub(crate) before: Profile,
}

/// Records that were found lately and are remembered.
pub(crate) const MET_MAX: usize = 256;

/// The questions under way, and the records that earlier ones found.
#[derive(Default)]
pub(crate) struct Lookups {
    /// By the endpoint's number of the question.
    pub(crate) asked: LiteMap<Question, Ticket>,
    /// The newest [`MET_MAX`] records that were found. Private nodes are found by name only; a node that was found so may be
    /// called by its address afterwards.
    pub(crate) met: VecDeque<NodeRecord>,
}

impl Lookups {
    /// Remembers a record, instead of an older one of the same node.
    pub(crate) fn remember(&mut self, record: &NodeRecord) {
        self.met.retain(|r| r.identity != record.identity);
        self.met.push_back(record.clone());
        if self.met.len() > MET_MAX {
            self.met.pop_front();
        }
        debug_assert!(self.met.len() <= MET_MAX);
    }
}

/// The waiting calls by ticket, and their deadlines in order.
#[derive(Default)]
pub(crate) struct Calls {
    waiting: LiteMap<Ticket, Box<(Call, Option<Instant>)>>,
    deadlines: LiteMap<(Instant, Ticket), ()>,
    streams: LiteMap<StreamId, Ticket>,
    last: u64,
    pub(crate) lookups: Lookups,
}

impl Calls {
    /// Enters a call that waits without a limit.
    pub(crate) fn open(&mut self, call: Call) -> Ticket {
        self.enter(call, None)
    }

    /// Enters a call that is [`expired`](Self::expired) at `deadline`.
    pub(crate) fn open_until(&mut self, call: Call, deadline: Instant) -> Ticket {
        self.enter(call, Some(deadline))
    }

    fn enter(&mut self, call: Call, deadline: Option<Instant>) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        if let Call::Connect(connect) = &call {
            let before = self.streams.insert(connect.stream, ticket);
            debug_assert!(before.is_none(), "a stream is opened once");
        }
        if let Some(at) = deadline {
            self.deadlines.insert((at, ticket), ());
        }
        self.waiting.insert(ticket, Box::new((call, deadline)));
        ticket
    }

    /// Takes a call out of the table.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Call> {
        let (call, deadline) = *self.waiting.remove(&ticket)?;
        if let Some(at) = deadline {
            let had = self.deadlines.remove(&(at, ticket));
            debug_assert!(had.is_some(), "a deadline stands in the order of deadlines");
        }
        if let Call::Connect(connect) = &call {
            self.streams.remove(&connect.stream);
        }
        Some(call)
    }

    /// The call that opens this stream.
    pub(crate) fn opening(&self, stream: StreamId) -> Option<Ticket> {
        if self.streams.is_empty() { None } else { self.streams.get(&stream).copied() }
    }

    /// Whether this call waits.
    pub(crate) fn waits(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// The tickets of the calls that `pick` wants. Looks at every call.
    pub(crate) fn tickets(&self, pick: impl Fn(&Call) -> bool) -> Vec<Ticket> {
        self.waiting.iter().filter(|(_, waiting)| pick(&waiting.0)).map(|(ticket, _)| *ticket).collect()
    }

    /// Takes the call with the earliest deadline, if that has come.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Call> {
        let (&(at, ticket), ()) = self.deadlines.first()?;
        if at <= now { self.take(ticket) } else { None }
    }

    /// The earliest deadline.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        debug_assert!(self.deadlines.len() <= self.waiting.len());
        self.deadlines.first().map(|((at, _), ())| *at)
    }

    /// Calls that wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// The failure that a disk's outcome means, if it means one.
pub(crate) fn disk_failure(done: &Done) -> Option<Failure> {
    match done {
        Done::Full(why) => Some(Failure::new(Code::Full, *why)),
        Done::DiskFull(why) => Some(Failure::new(Code::Full, format!("the disk is full: {why}"))),
        Done::Failed(why) => Some(Failure::new(Code::Internal, format!("the disk failed: {why}"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(stream: u64) -> Call {
        let stream = StreamId::from_number(stream);
        Call::Connect(Connect { stream, opener: Opener::Mail(IdentityKey([1; 32])), name: "peer".into(), port: 7 })
    }

    #[test]
    fn the_newest_records_are_remembered_once_each() {
        let mut lookups = Lookups::default();
        let record = |node: usize, sequence| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
            NodeRecord::sign(&pilot_core::Identity::from_seed(seed), Default::default(), &Profile::default(), sequence)
        };
        (0..MET_MAX + 2).for_each(|node| lookups.remember(&record(node, 1)));
        lookups.remember(&record(5, 2));
        assert_eq!(lookups.met.len(), MET_MAX);
        assert_eq!(lookups.met.back().map(|r| r.identity), Some(record(5, 2).identity));
        assert!(!lookups.met.iter().any(|r| r.identity == record(1, 1).identity), "the oldest is forgotten");
        assert_eq!(lookups.met.iter().filter(|r| r.identity == record(5, 1).identity).count(), 1);
    }

    #[test]
    fn calls_expire_in_the_order_of_their_deadlines_and_only_once() {
        let mut calls = Calls::default();
        let at = Instant::from_micros;
        calls.open_until(connect(1), at(20));
        let early = calls.open_until(connect(2), at(10));
        calls.open(Call::Forgotten);
        assert_eq!(calls.poll_timeout(), Some(at(10)));
        assert!(calls.expired(at(9)).is_none());
        assert_eq!(calls.opening(StreamId::from_number(2)), Some(early));
        let streams = std::iter::from_fn(|| calls.expired(at(30))).map(|call| match call {
            Call::Connect(connect) => connect.stream.number(),
            other => panic!("{other:?}"),
        });
        assert_eq!(streams.collect::<Vec<_>>(), [2, 1]);
        assert_eq!((calls.poll_timeout(), calls.len()), (None, 1));
        assert!(calls.opening(StreamId::from_number(2)).is_none());
    }

    #[test]
    fn a_call_that_was_taken_neither_expires_nor_comes_again() {
        let mut calls = Calls::default();
        let ticket = calls.open_until(connect(1), Instant::from_micros(5));
        assert!(matches!(calls.take(ticket), Some(Call::Connect(_))));
        assert!(calls.take(ticket).is_none());
        assert!(calls.expired(Instant::from_micros(9)).is_none());
        assert_eq!(calls.len(), 0);
    }
}
