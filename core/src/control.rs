//! Owns the control messages that a node and its rendezvous, or two nodes, exchange on the control stream of a tunnel.
//!
//! A call carries a [`Ticket`] that its answer repeats. Everything is bounded: strings, lists, and the message as a whole
//! ([`MESSAGE_LEN_MAX`]). `form` holds their bytes. Kinds that this version does not know are read as unknown, and ended in the
//! manner of each: a message is ignored, a call refused, and a refusal means "try later".

mod form;

pub use crate::link::control::MESSAGE_LEN_MAX;
pub use crate::trust::LETTER_LEN_MAX;

use crate::addr::Addr;
use crate::extensions::Extensions;
use crate::identity::IdentityKey;
use crate::path::{Meeting, Nat};
use crate::trust::Source;
use crate::tunnel::kem::{ANSWER_LEN, OFFER_LEN};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Most candidates in one list. Source: `docs/paths.md`.
pub const CANDIDATES_MAX: usize = 16;
/// Most keys in one grant, and most numbers in one list of letters.
pub const GRANTS_MAX: usize = 1024;
/// Most records in one search answer.
pub const SEARCH_MAX: usize = 64;

/// Number of a call among those that one node has made of late. Its answer repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u32);

/// Number of a letter in the mailbox of its recipient. The rendezvous keeps the letter until a [`Call::Taken`] names the
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "the letter comes again and again until its number is among those taken"]
pub struct InboxNumber(pub u64);

/// Name of a letter, chosen by its sender. A letter that is posted again under its name is kept once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub [u8; 16]);

/// One control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A node calls its rendezvous.
    Call(Ticket, Call, Extensions),
    /// The rendezvous answers the call with this ticket.
    Answer(Ticket, Answer, Extensions),
    /// The rendezvous tells a node something without having been called.
    Push(Push),
    /// Where the sender may be reached directly. Only between trusted peers.
    Candidates(Candidates),
    /// A trust message for the recipient, delivered directly.
    Trust(Vec<u8>),
    /// A message between members of a group.
    Group(Vec<u8>),
    /// A key for a session that has no KEM secret. Only between trusted peers.
    KemOffer(KemOffer),
    /// The answer to such a key. Only between trusted peers.
    KemAnswer(KemAnswer),
    /// An invitation to probe at one moment, or its answer. Only between trusted peers.
    Meeting(Meeting),
    /// A message of a later version, to be ignored.
    Unknown(u8),
}

/// Where a node may be reached directly, for a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Its underlay addresses, at most [`CANDIDATES_MAX`].
    pub list: Vec<SocketAddr>,
    /// Those of them that a gateway maps.
    pub mapped: Vec<SocketAddr>,
    /// Its NAT.
    pub nat: Nat,
}

/// An ML-KEM-768 key, for the answer of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KemOffer {
    /// The recipient's index of the session that gives the exporter.
    pub session: u32,
    /// The sender's index of the session that follows.
    pub index: u32,
    /// The encapsulation key.
    pub key: Box<[u8; OFFER_LEN]>,
}

/// The answer to a [`KemOffer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KemAnswer {
    /// The index in the offer.
    pub offer: u32,
    /// The sender's index of the session that follows.
    pub index: u32,
    /// The ciphertext.
    pub answer: Box<[u8; ANSWER_LEN]>,
}

/// A call of a node to its rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Stores this record and answers the caller's address; a record without an address asks for one.
    Register(Vec<u8>),
    /// Answers the record of one node.
    Lookup(Query),
    /// Answers public nodes with this tag, or all public nodes when the tag is empty.
    Search(String),
    /// Keeps this letter in the mailbox of an identity until its node has taken it.
    Post(IdentityKey, LetterId, Vec<u8>),
    /// Forgets these letters: their effect is on the caller's disk.
    Taken(Vec<InboxNumber>),
    /// Changes which identities may open a relay channel to the caller.
    Grant(Grant),
    /// Opens, or confirms, a relay channel to this node.
    OpenRelay(IdentityKey),
    /// Forgets the caller: its address, name, grants and letters. With a newer record of the caller that says nothing, so that it is
    /// signed; see [`Endpoint::leave`](crate::Endpoint::leave).
    Leave(Vec<u8>),
    /// A call of a later version, to be refused as [`Refusal::Unsupported`].
    Unknown(u8),
}

/// A change of grants. Making the same change twice has no second effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// All former grants end first.
    pub is_whole: bool,
    /// Identities that may open a channel from now on; with those of `remove` at most [`GRANTS_MAX`].
    pub add: Vec<IdentityKey>,
    /// Identities that may not.
    pub remove: Vec<IdentityKey>,
}

/// The key by which a record is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Exact hostname.
    Name(String),
    /// Virtual address.
    Addr(Addr),
    /// Identity key.
    Key(IdentityKey),
}

/// An answer of the rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Register`.
    Registered {
        /// The caller's address, for life.
        addr: Addr,
        /// Underlay address from which the caller's datagrams come.
        reflexive: SocketAddr,
        /// Key of the tags on the caller's relay leg.
        relay_key: [u8; 32],
    },
    /// To `Lookup`: the signed record.
    Found(Vec<u8>),
    /// To `Search`: signed records.
    List(Vec<Vec<u8>>),
    /// To `OpenRelay`.
    Relay {
        /// The caller's number for the pair.
        channel: u32,
        /// The other node is connected now.
        online: bool,
    },
    /// The call has had its effect.
    Ok,
    /// The call has had no effect.
    Refused(Refusal),
    /// An answer of a later version: its call ends as if it had been refused for now.
    Unknown(u8),
}

/// Reason of a refusal. An unknown node and one that the caller may not know of give the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No such node, or none that the caller may know of.
    NotFound,
    /// The hostname belongs to another key.
    NameTaken,
    /// The record is malformed, not the caller's, or not newer than the stored one.
    BadRecord,
    /// Too many calls; try again in a second.
    TooMany,
    /// The recipient's mailbox, or a table, is full.
    Full,
    /// The caller must register first.
    NotRegistered,
    /// The storage failed; nothing was changed.
    Storage,
    /// The rendezvous does not know this kind of calls.
    Unsupported,
    /// What was found is not what was asked for.
    Mismatch,
    /// A reason that this version does not know, with its code: try again later.
    Later(u8),
}

/// A message of the rendezvous that answers no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A letter of the mailbox, and the network from which it was posted. Comes again after each registration until the letter
    /// is taken.
    Letter(InboxNumber, Option<Source>, Vec<u8>),
    /// Another node opened a relay channel to the caller.
    RelayOpened(u32, IdentityKey),
    /// The rendezvous has dropped datagrams that the caller sent into this relay channel.
    Congested(u32),
    /// The rendezvous serves under this address from now on; the caller is to come there after `after_ms`.
    Move {
        /// The other address of the same rendezvous.
        to: SocketAddr,
        /// Unit: milliseconds.
        after_ms: u32,
    },
    /// Another process has the caller's identity, and is reached at this address.
    Elsewhere(SocketAddr),
    /// The caller's datagrams come from another underlay address than before, at which it has answered.
    Observed(SocketAddr),
    /// A message of a later version, to be ignored.
    Unknown(u8),
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no such node",
            Self::NameTaken => "the hostname belongs to another key",
            Self::BadRecord => "the record is malformed, foreign, or older than the stored one",
            Self::TooMany => "too many calls in a second",
            Self::Full => "no room",
            Self::NotRegistered => "not registered",
            Self::Storage => "the storage failed",
            Self::Unsupported => "a call that the rendezvous does not know",
            Self::Mismatch => "the record of another node than the one that was asked for",
            Self::Later(_) => "a reason of a later version",
        })
    }
}

impl core::error::Error for Refusal {}

impl Refusal {
    /// True for what only another question, or another node, can mend; false for what may be granted a little later.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::NotFound | Self::NameTaken | Self::BadRecord | Self::Unsupported | Self::Mismatch)
    }
}

#[cfg(test)]
mod tests;
