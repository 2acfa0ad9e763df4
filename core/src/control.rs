//! Owns the control messages that a node and its rendezvous, or two nodes, exchange on the control stream of a tunnel.
//!
//! A call carries a [`Ticket`] that its answer repeats. Everything is bounded: strings, lists, and the message as a whole
//! ([`MESSAGE_LEN_MAX`]).

pub use crate::link::control::MESSAGE_LEN_MAX;
pub use crate::trust::LETTER_LEN_MAX;

use crate::addr::Addr;
use crate::codec::{Malformed, Put, Reader};
use crate::identity::{HOSTNAME_MAX, IdentityKey, NodeRecord};
use crate::tunnel::kem::{ANSWER_LEN, OFFER_LEN};
use crate::underlay::{parse_endpoint, put_endpoint};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Most candidates in one list. Source: `docs/paths.md`.
pub const CANDIDATES_MAX: usize = 16;
/// Most keys in one grant list.
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

/// One control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A node calls its rendezvous.
    Call(Ticket, Call),
    /// The rendezvous answers the call with this ticket.
    Answer(Ticket, Answer),
    /// The rendezvous tells a node something without having been called.
    Push(Push),
    /// Underlay addresses of the sender, for direct paths. Only between trusted peers.
    Candidates(Vec<SocketAddr>),
    /// A trust message for the recipient, delivered directly.
    Trust(Vec<u8>),
    /// A key for a session that has no KEM secret. Only between trusted peers.
    KemOffer(KemOffer),
    /// The answer to such a key. Only between trusted peers.
    KemAnswer(KemAnswer),
}

/// An ML-KEM-768 key, for the answer of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KemOffer {
    /// The recipient's index of the session whose exporter both sides use.
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
    Post(IdentityKey, Vec<u8>),
    /// Forgets these letters: their effect is on the caller's disk.
    Taken(Vec<InboxNumber>),
    /// Lets exactly these identities open a relay channel to the caller.
    Grant(Vec<IdentityKey>),
    /// Opens, or confirms, a relay channel to this node.
    OpenRelay(IdentityKey),
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
}

/// Reason of a refusal. An unknown node and one that the caller may not know of give the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Refusal {
    /// No such node, or none that the caller may know of.
    NotFound = 1,
    /// The hostname belongs to another key.
    NameTaken = 2,
    /// The record is malformed, not the caller's, or not newer than the stored one.
    BadRecord = 3,
    /// Too many calls; try again in a second.
    TooMany = 4,
    /// The recipient's mailbox, or a table, is full.
    Full = 5,
    /// The caller must register first.
    NotRegistered = 6,
    /// The storage failed; nothing was changed.
    Storage = 7,
}

/// A message of the rendezvous that answers no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A letter of the mailbox. Comes again after each registration until the letter is taken.
    Letter(InboxNumber, Vec<u8>),
    /// Another node opened a relay channel to the caller.
    RelayOpened(u32, IdentityKey),
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
        })
    }
}

impl core::error::Error for Refusal {}

impl Control {
    /// The message's bytes.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Call(id, call) => {
                out.put_u8(1);
                out.put_u32(id.0);
                call.emit(&mut out);
            }
            Self::Answer(id, answer) => {
                out.put_u8(2);
                out.put_u32(id.0);
                answer.emit(&mut out);
            }
            Self::Push(Push::Letter(id, letter)) => {
                out.put_u8(3);
                out.put_u64(id.0);
                out.put_bytes(letter);
            }
            Self::Push(Push::RelayOpened(channel, key)) => {
                out.put_u8(4);
                out.put_u32(*channel);
                out.put(&key.0);
            }
            Self::Candidates(list) => {
                out.put_u8(5);
                out.put_u8(list.len().min(CANDIDATES_MAX) as u8);
                list.iter().take(CANDIDATES_MAX).for_each(|addr| put_endpoint(&mut out, Some(addr)));
            }
            Self::Trust(message) => {
                out.put_u8(6);
                out.put_bytes(message);
            }
            Self::KemOffer(KemOffer { session, index, key }) => {
                out.put_u8(7);
                out.put_u32(*session);
                out.put_u32(*index);
                out.put(&**key);
            }
            Self::KemAnswer(KemAnswer { offer, index, answer }) => {
                out.put_u8(8);
                out.put_u32(*offer);
                out.put_u32(*index);
                out.put(&**answer);
            }
        }
        debug_assert!(out.len() <= MESSAGE_LEN_MAX, "{} bytes", out.len());
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When the bytes are no message, or something in them is longer than it may be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            1 => Self::Call(Ticket(r.u32()?), Call::parse(&mut r)?),
            2 => Self::Answer(Ticket(r.u32()?), Answer::parse(&mut r)?),
            3 => Self::Push(Push::Letter(InboxNumber(r.u64()?), r.bytes(LETTER_LEN_MAX)?.into())),
            4 => Self::Push(Push::RelayOpened(r.u32()?, IdentityKey(r.array()?))),
            5 => {
                let count = usize::from(r.u8()?);
                if count > CANDIDATES_MAX {
                    return Err(Malformed);
                }
                let list = (0..count).map(|_| parse_endpoint(&mut r)?.ok_or(Malformed));
                Self::Candidates(list.collect::<Result<_, _>>()?)
            }
            6 => Self::Trust(r.bytes(crate::trust::MESSAGE_LEN_MAX)?.into()),
            7 => Self::KemOffer(KemOffer { session: r.u32()?, index: r.u32()?, key: Box::new(r.array()?) }),
            8 => Self::KemAnswer(KemAnswer { offer: r.u32()?, index: r.u32()?, answer: Box::new(r.array()?) }),
            _ => return Err(Malformed),
        };
        r.finish()?;
        Ok(message)
    }
}

impl Call {
    fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Register(record) => {
                out.put_u8(1);
                out.put_bytes(record);
            }
            Self::Lookup(query) => {
                out.put_u8(2);
                match query {
                    Query::Name(name) => {
                        out.put_u8(1);
                        out.put_bytes(name.as_bytes());
                    }
                    Query::Addr(addr) => {
                        out.put_u8(2);
                        out.put(&addr.to_bytes());
                    }
                    Query::Key(key) => {
                        out.put_u8(3);
                        out.put(&key.0);
                    }
                }
            }
            Self::Search(tag) => {
                out.put_u8(3);
                out.put_bytes(tag.as_bytes());
            }
            Self::Post(to, letter) => {
                out.put_u8(4);
                out.put(&to.0);
                out.put_bytes(letter);
            }
            Self::Taken(ids) => {
                out.put_u8(5);
                out.put_varint(ids.len() as u64);
                ids.iter().for_each(|id| out.put_u64(id.0));
            }
            Self::Grant(keys) => {
                out.put_u8(6);
                out.put_varint(keys.len() as u64);
                keys.iter().for_each(|key| out.put(&key.0));
            }
            Self::OpenRelay(key) => {
                out.put_u8(7);
                out.put(&key.0);
            }
        }
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => Self::Register(r.bytes(NodeRecord::LEN_MAX)?.into()),
            2 => Self::Lookup(match r.u8()? {
                1 => Query::Name(r.str(HOSTNAME_MAX)?.into()),
                2 => Query::Addr(Addr::from_bytes(r.array()?)),
                3 => Query::Key(IdentityKey(r.array()?)),
                _ => return Err(Malformed),
            }),
            3 => Self::Search(r.str(HOSTNAME_MAX)?.into()),
            4 => Self::Post(IdentityKey(r.array()?), r.bytes(LETTER_LEN_MAX)?.into()),
            5 => Self::Taken(list(r, GRANTS_MAX, |r| Ok(InboxNumber(r.u64()?)))?),
            6 => Self::Grant(list(r, GRANTS_MAX, |r| Ok(IdentityKey(r.array()?)))?),
            7 => Self::OpenRelay(IdentityKey(r.array()?)),
            _ => return Err(Malformed),
        })
    }
}

impl Answer {
    fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Registered { addr, reflexive, relay_key } => {
                out.put_u8(1);
                out.put(&addr.to_bytes());
                put_endpoint(out, Some(reflexive));
                out.put(relay_key);
            }
            Self::Found(record) => {
                out.put_u8(2);
                out.put_bytes(record);
            }
            Self::List(records) => {
                out.put_u8(3);
                out.put_varint(records.len() as u64);
                records.iter().for_each(|record| out.put_bytes(record));
            }
            Self::Relay { channel, online } => {
                out.put_u8(4);
                out.put_u32(*channel);
                out.put_u8((*online).into());
            }
            Self::Ok => out.put_u8(5),
            Self::Refused(why) => {
                out.put_u8(6);
                out.put_u8(*why as u8);
            }
        }
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => Self::Registered {
                addr: Addr::from_bytes(r.array()?),
                reflexive: parse_endpoint(r)?.ok_or(Malformed)?,
                relay_key: r.array()?,
            },
            2 => Self::Found(r.bytes(NodeRecord::LEN_MAX)?.into()),
            3 => Self::List(list(r, SEARCH_MAX, |r| Ok(r.bytes(NodeRecord::LEN_MAX)?.into()))?),
            4 => Self::Relay { channel: r.u32()?, online: r.u8()? != 0 },
            5 => Self::Ok,
            6 => Self::Refused(Refusal::from_code(r.u8()?)),
            _ => return Err(Malformed),
        })
    }
}

impl Refusal {
    const fn from_code(code: u8) -> Self {
        match code {
            2 => Self::NameTaken,
            3 => Self::BadRecord,
            4 => Self::TooMany,
            5 => Self::Full,
            6 => Self::NotRegistered,
            7 => Self::Storage,
            _ => Self::NotFound,
        }
    }
}

fn list<'a, T>(
    r: &mut Reader<'a>,
    max: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = r.varint()?;
    if count > max as u64 {
        return Err(Malformed);
    }
    (0..count).map(|_| item(r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn samples() -> Vec<Control> {
        let (key, addr) = (IdentityKey([3; 32]), Addr::new(1, 2));
        let v4: SocketAddr = "192.0.2.1:9".parse().expect("address");
        let v6: SocketAddr = "[2001:db8::1]:9".parse().expect("address");
        vec![
            Control::Call(Ticket(1), Call::Register(vec![1, 2])),
            Control::Call(Ticket(2), Call::Lookup(Query::Name("a".into()))),
            Control::Call(Ticket(2), Call::Lookup(Query::Addr(addr))),
            Control::Call(Ticket(2), Call::Lookup(Query::Key(key))),
            Control::Call(Ticket(3), Call::Search("gpu".into())),
            Control::Call(Ticket(4), Call::Post(key, vec![9; LETTER_LEN_MAX])),
            Control::Call(Ticket(5), Call::Taken(vec![InboxNumber(1), InboxNumber(u64::MAX)])),
            Control::Call(Ticket(6), Call::Grant(vec![key; GRANTS_MAX])),
            Control::Call(Ticket(7), Call::OpenRelay(key)),
            Control::Answer(Ticket(1), Answer::Registered { addr, reflexive: v4, relay_key: [4; 32] }),
            Control::Answer(Ticket(2), Answer::Found(vec![5])),
            Control::Answer(Ticket(3), Answer::List(vec![vec![5], vec![6]])),
            Control::Answer(Ticket(4), Answer::Relay { channel: 7, online: true }),
            Control::Answer(Ticket(5), Answer::Ok),
            Control::Answer(Ticket(6), Answer::Refused(Refusal::NameTaken)),
            Control::Push(Push::Letter(InboxNumber(8), vec![1])),
            Control::Push(Push::RelayOpened(9, key)),
            Control::Candidates(vec![v4, v6]),
            Control::Trust(vec![1; 100]),
            kem_offer(),
            kem_answer(),
        ]
    }

    fn kem_offer() -> Control {
        let key = Box::new(core::array::from_fn(|i| i as u8));
        Control::KemOffer(KemOffer { session: 0x0403_0201, index: 0x0807_0605, key })
    }

    fn kem_answer() -> Control {
        let answer = Box::new(core::array::from_fn(|i| 255 - i as u8));
        Control::KemAnswer(KemAnswer { offer: 0x0403_0201, index: 0x0807_0605, answer })
    }

    #[test]
    fn kem_messages_have_their_frozen_bytes() {
        let (offer, answer) = (kem_offer().emit(), kem_answer().emit());
        assert_eq!((offer.len(), &offer[..12]), (1193, &[7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2][..]));
        assert_eq!((answer.len(), &answer[..12]), (1097, &[8, 1, 2, 3, 4, 5, 6, 7, 8, 255, 254, 253][..]));
    }

    #[test]
    fn every_message_round_trips_and_no_prefix_of_one_is_a_message() {
        for message in samples() {
            let bytes = message.emit();
            assert!(bytes.len() <= MESSAGE_LEN_MAX);
            assert_eq!(Control::parse(&bytes).as_ref(), Ok(&message));
            for len in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
                assert!(Control::parse(&bytes[..len]).is_err(), "{message:?} cut at {len}");
            }
        }
    }
}
