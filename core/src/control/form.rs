//! Owns the bytes of the control messages (`docs/wire.md`, "Control messages").

use super::{
    Answer, CANDIDATES_MAX, Call, Candidates, Control, GRANTS_MAX, Grant, InboxNumber, KemAnswer, KemOffer,
    LETTER_LEN_MAX, LetterId, MESSAGE_LEN_MAX, Push, Query, Refusal, SEARCH_MAX, Ticket,
};
use crate::addr::Addr;
use crate::codec::{Malformed, Put, Reader};
use crate::extensions::{ExtensionType, Extensions};
use crate::identity::{HOSTNAME_MAX, IdentityKey, NodeRecord};
use crate::path::{Mapping, Meeting, Nat, Ports};
use crate::trust::Source;
use crate::underlay::{parse_endpoint, put_endpoint};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Longest message between members. Unit: bytes. Source: own choice; the control stream takes 66,000.
const GROUP_LEN_MAX: usize = 65_000;

impl Control {
    /// The message's bytes.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Call(id, call, extensions) => {
                out.put_u8(1);
                out.put_u32(id.0);
                call.emit(&mut out);
                extensions.emit(&mut out);
            }
            Self::Answer(id, answer, extensions) => {
                out.put_u8(2);
                out.put_u32(id.0);
                answer.emit(&mut out);
                extensions.emit(&mut out);
            }
            Self::Push(push) => {
                out.put_u8(3);
                push.emit(&mut out);
                Extensions::NONE.emit(&mut out);
            }
            Self::Candidates(candidates) => candidates.emit(&mut out),
            Self::Trust(message) => {
                out.put_u8(6);
                out.put_bytes(message);
            }
            Self::KemOffer(KemOffer { session, index, key }) => {
                out.put_u8(7);
                out.put_u32(*session);
                out.put_u32(*index);
                out.put(&**key);
                Extensions::NONE.emit(&mut out);
            }
            Self::KemAnswer(KemAnswer { offer, index, answer }) => {
                out.put_u8(8);
                out.put_u32(*offer);
                out.put_u32(*index);
                out.put(&**answer);
                Extensions::NONE.emit(&mut out);
            }
            Self::Group(message) => {
                out.put_u8(10);
                out.put_bytes(message);
            }
            Self::Meeting(meeting) => emit_meeting(meeting, &mut out),
            Self::Unknown(kind) => out.put_u8(*kind),
        }
        debug_assert!(out.len() <= MESSAGE_LEN_MAX, "{} bytes", out.len());
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When the bytes are no message, or something in them is longer than it may be. Kinds that are not known are no error.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            1 => {
                let (id, call) = (Ticket(r.u32()?), Call::parse(&mut r)?);
                if let Call::Unknown(_) = call {
                    return Ok(Self::Call(id, call, Extensions::NONE)); // the rest has a form that is not known
                }
                Self::Call(id, call, Extensions::parse(&mut r)?)
            }
            2 => {
                let (id, answer) = (Ticket(r.u32()?), Answer::parse(&mut r)?);
                if let Answer::Unknown(_) = answer {
                    return Ok(Self::Answer(id, answer, Extensions::NONE));
                }
                Self::Answer(id, answer, Extensions::parse(&mut r)?)
            }
            3 => {
                let push = Push::parse(&mut r)?;
                if let Push::Unknown(_) = push {
                    return Ok(Self::Push(push));
                }
                Extensions::parse(&mut r)?;
                Self::Push(push)
            }
            5 => Self::Candidates(Candidates::parse(&mut r)?),
            6 => Self::Trust(r.bytes(crate::trust::MESSAGE_LEN_MAX)?.into()),
            7 => {
                let offer = KemOffer { session: r.u32()?, index: r.u32()?, key: Box::new(r.array()?) };
                Extensions::parse(&mut r)?;
                Self::KemOffer(offer)
            }
            8 => {
                let answer = KemAnswer { offer: r.u32()?, index: r.u32()?, answer: Box::new(r.array()?) };
                Extensions::parse(&mut r)?;
                Self::KemAnswer(answer)
            }
            9 => Self::Meeting(parse_meeting(&mut r)?),
            10 => Self::Group(r.bytes(GROUP_LEN_MAX)?.into()),
            kind => return Ok(Self::Unknown(kind)),
        };
        r.finish()?;
        Ok(message)
    }
}

impl Candidates {
    fn emit(&self, out: &mut Vec<u8>) {
        let list = || self.list.iter().take(CANDIDATES_MAX);
        out.put_u8(5);
        out.put_u8(list().count() as u8);
        list().for_each(|addr| put_endpoint(out, Some(addr)));
        let places = list().enumerate().filter(|(_, addr)| self.mapped.contains(addr));
        let mapped: Vec<u8> = places.map(|(place, _)| place as u8).collect();
        let nat = (self.nat != Nat::default()).then(|| emit_nat(self.nat));
        let values = [(ExtensionType::NAT, nat.as_ref().map_or(&[][..], |nat| nat)), (ExtensionType::MAPPED, &mapped)];
        let some = values.into_iter().filter(|(_, value)| !value.is_empty());
        let extensions = some.fold(Extensions::NONE, |all, (of, value)| all.clone().with(of, value).unwrap_or(all));
        extensions.emit(out);
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = usize::from(r.u8()?);
        if count > CANDIDATES_MAX {
            return Err(Malformed);
        }
        let list = (0..count).map(|_| parse_endpoint(r)?.ok_or(Malformed));
        let list = list.collect::<Result<Vec<_>, _>>()?;
        let extensions = Extensions::parse(r)?;
        let nat = extensions.get(ExtensionType::NAT).and_then(|nat| nat.try_into().ok());
        let places = extensions.get(ExtensionType::MAPPED).unwrap_or_default().iter().take(CANDIDATES_MAX);
        let mapped = places.filter_map(|place| list.get(usize::from(*place)).copied()).collect();
        Ok(Self { list, mapped, nat: nat.map_or_else(Nat::default, parse_nat) })
    }
}

/// A NAT in four bytes: what its mappings depend on, which port a new one gets, and by how much that rises.
const fn emit_nat(nat: Nat) -> [u8; 4] {
    let mapping = match nat.mapping {
        Mapping::Unknown => 0,
        Mapping::Independent => 1,
        Mapping::AddressDependent => 2,
        Mapping::PortDependent => 3,
    };
    let (ports, step) = match nat.ports {
        Ports::Unknown => (0, 0),
        Ports::Kept => (1, 0),
        Ports::Sequential(step) => (2, step),
        Ports::Block => (3, 0),
        Ports::Random => (4, 0),
    };
    let step = step.to_le_bytes();
    [mapping, ports, step[0], step[1]]
}

const fn parse_nat([mapping, ports, low, high]: [u8; 4]) -> Nat {
    let mapping = match mapping {
        1 => Mapping::Independent,
        2 => Mapping::AddressDependent,
        3 => Mapping::PortDependent,
        _ => Mapping::Unknown,
    };
    let ports = match (ports, i16::from_le_bytes([low, high])) {
        (1, _) => Ports::Kept,
        (2, step) => Ports::Sequential(step),
        (3, _) => Ports::Block,
        (4, _) => Ports::Random,
        _ => Ports::Unknown,
    };
    Nat { mapping, ports }
}

fn emit_meeting(meeting: &Meeting, out: &mut Vec<u8>) {
    out.put_u8(9);
    out.put_u32(meeting.number);
    out.put_u8(meeting.is_answer.into());
    out.put(&emit_nat(meeting.nat));
    put_endpoint(out, Some(&meeting.at));
    out.put_u16(meeting.span.0);
    out.put_u16(meeting.span.1);
    Extensions::NONE.emit(out);
}

fn parse_meeting(r: &mut Reader<'_>) -> Result<Meeting, Malformed> {
    let meeting = Meeting {
        number: r.u32()?,
        is_answer: r.u8()? != 0,
        nat: parse_nat(r.array()?),
        at: parse_endpoint(r)?.ok_or(Malformed)?,
        span: (r.u16()?, r.u16()?),
    };
    Extensions::parse(r)?;
    Ok(meeting)
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
            Self::Post(to, id, letter) => {
                out.put_u8(4);
                out.put(&to.0);
                out.put(&id.0);
                out.put_bytes(letter);
            }
            Self::Taken(ids) => {
                out.put_u8(5);
                out.put_varint(ids.len() as u64);
                ids.iter().for_each(|id| out.put_u64(id.0));
            }
            Self::Grant(grant) => {
                out.put_u8(6);
                out.put_u8(grant.is_whole.into());
                for keys in [&grant.add, &grant.remove] {
                    out.put_varint(keys.len() as u64);
                    keys.iter().for_each(|key| out.put(&key.0));
                }
            }
            Self::OpenRelay(key) => {
                out.put_u8(7);
                out.put(&key.0);
            }
            Self::Leave(record) => {
                out.put_u8(8);
                out.put_bytes(record);
            }
            Self::Unknown(kind) => out.put_u8(*kind),
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
            4 => Self::Post(IdentityKey(r.array()?), LetterId(r.array()?), r.bytes(LETTER_LEN_MAX)?.into()),
            5 => Self::Taken(list(r, GRANTS_MAX, |r| Ok(InboxNumber(r.u64()?)))?),
            6 => {
                let is_whole = r.u8()? != 0;
                let add = list(r, GRANTS_MAX, |r| Ok(IdentityKey(r.array()?)))?;
                let remove = list(r, GRANTS_MAX - add.len(), |r| Ok(IdentityKey(r.array()?)))?;
                Self::Grant(Grant { is_whole, add, remove })
            }
            7 => Self::OpenRelay(IdentityKey(r.array()?)),
            8 => Self::Leave(r.bytes(NodeRecord::LEN_MAX)?.into()),
            kind => Self::Unknown(kind),
        })
    }
}

impl Push {
    fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Letter(id, source, letter) => {
                out.put_u8(1);
                out.put_u64(id.0);
                out.put_u64(Source::number(*source));
                out.put_bytes(letter);
            }
            Self::RelayOpened(channel, key) => {
                out.put_u8(2);
                out.put_u32(*channel);
                out.put(&key.0);
            }
            Self::Congested(channel) => {
                out.put_u8(3);
                out.put_u32(*channel);
            }
            Self::Move { to, after_ms } => {
                out.put_u8(4);
                put_endpoint(out, Some(to));
                out.put_u32(*after_ms);
            }
            Self::Elsewhere(addr) => {
                out.put_u8(5);
                put_endpoint(out, Some(addr));
            }
            Self::Observed(addr) => {
                out.put_u8(6);
                put_endpoint(out, Some(addr));
            }
            Self::Unknown(kind) => out.put_u8(*kind),
        }
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => {
                let (number, source) = (InboxNumber(r.u64()?), Source::from_number(r.u64()?));
                Self::Letter(number, source, r.bytes(LETTER_LEN_MAX)?.into())
            }
            2 => Self::RelayOpened(r.u32()?, IdentityKey(r.array()?)),
            3 => Self::Congested(r.u32()?),
            4 => Self::Move { to: parse_endpoint(r)?.ok_or(Malformed)?, after_ms: r.u32()? },
            5 => Self::Elsewhere(parse_endpoint(r)?.ok_or(Malformed)?),
            6 => Self::Observed(parse_endpoint(r)?.ok_or(Malformed)?),
            kind => Self::Unknown(kind),
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
                out.put_u8(why.code());
            }
            Self::Unknown(kind) => out.put_u8(*kind),
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
            kind => Self::Unknown(kind),
        })
    }
}

impl Refusal {
    const fn code(self) -> u8 {
        match self {
            Self::NotFound => 1,
            Self::NameTaken => 2,
            Self::BadRecord => 3,
            Self::TooMany => 4,
            Self::Full => 5,
            Self::NotRegistered => 6,
            Self::Storage => 7,
            Self::Unsupported => 8,
            Self::Mismatch => 9,
            Self::Later(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::NotFound,
            2 => Self::NameTaken,
            3 => Self::BadRecord,
            4 => Self::TooMany,
            5 => Self::Full,
            6 => Self::NotRegistered,
            7 => Self::Storage,
            8 => Self::Unsupported,
            9 => Self::Mismatch,
            code => Self::Later(code),
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
