//! Owns pairing codes: one line of text with which a node lets another one become its peer (`docs/trust.md`, "Pairing").
//!
//! ```text
//!   version 1 | inviter's identity key 32 | address 6 | number 4 | secret 10 | expiry 4 | ways
//!   ways: the group if it is a code for one, candidates of the inviter, then at most one rendezvous: its key with its places, or the first bytes of its key
//! ```
//! The text of a code is base32 with a checksum, in groups behind `pilot:`. A code by which nodes enrol in a group while no admin is
//! online has version 2 ([`EnrolmentCode`]).

mod enrolment;
mod text;

pub use enrolment::{CONTACTS_MAX, EnrolmentCode, JoinCode};
pub use text::{Place, TypingError};

use crate::addr::Addr;
use crate::codec::{Malformed, Put as _, Reader};
use crate::group::GroupId;
use crate::hash;
use crate::identity::{IdentityKey, StaticKey};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use zeroize::Zeroizing;

/// Version of the form of a code, and that of an enrolment.
const VERSION: u8 = 1;
const VERSION_ENROLMENT: u8 = 2;
/// Most addresses of the inviter in a code. Source: own choice; a code with four of them is as long as one with a rendezvous.
pub const CANDIDATES_MAX: usize = 4;
/// Most places of a rendezvous in a code. Source: own choice, that of a node's configuration.
pub const HOSTS_MAX: usize = 8;
/// Longest name of a host. Unit: bytes. Source: RFC 1035 §2.3.4.
const NAME_LEN_MAX: usize = 253;
/// Longest content of a code: its text is a word of the checksum's code. Unit: bytes.
const CONTENT_LEN_MAX: usize = (text::LETTERS_MAX - 6) * 5 / 8;
/// Port of a rendezvous that takes no room in a code. Source: `docs/trust.md`, "Registry".
const USUAL_PORT: u16 = 9000;
/// Bytes of a rendezvous' key that tell it from others.
const HINT_LEN: usize = 4;

/// Number of an invite among those of its node. Chance makes it, so that a stranger does not hit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InviteId(pub u32);

impl fmt::Display for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for InviteId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let is_exact = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|_| is_exact).map(Self).ok_or(Malformed)
    }
}

/// The part of a code that only its holders know: 80 bits of chance.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteSecret(Zeroizing<[u8; Self::LEN]>);

impl InviteSecret {
    /// Unit: bytes.
    pub const LEN: usize = 10;

    /// The secret with these bytes.
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes of the secret.
    pub fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// A key for one purpose.
    pub(crate) fn derive(&self, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0; 32]);
        secret[..Self::LEN].copy_from_slice(&*self.0);
        Zeroizing::new(hash::derive(&secret, parts))
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret")
    }
}

/// A place of a rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name that the joiner looks up, of a–z, 0–9, `-`, `.` and `_`, and a UDP port.
    Name(String, u16),
    /// An underlay address.
    At(SocketAddr),
}

/// The rendezvous over which the inviter is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendezvous {
    /// The one with this key at these places, from 1 to [`HOSTS_MAX`].
    At(StaticKey, Vec<Host>),
    /// The joiner's own one, with a key that begins so. Such a code is shorter.
    Same([u8; HINT_LEN]),
}

impl Rendezvous {
    /// The short form, for nodes that use this rendezvous already.
    pub fn same(key: &StaticKey) -> Self {
        Self::Same(*key.0.first_chunk().expect("4 of 32 bytes"))
    }

    /// True when the rendezvous with this key is meant.
    pub fn is(&self, key: &StaticKey) -> bool {
        match self {
            Self::At(meant, _) => meant == key,
            Self::Same(hint) => key.0.starts_with(hint),
        }
    }
}

/// The content of a pairing code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteCode {
    /// Identity key of the inviter, which is verified with this.
    pub inviter: IdentityKey,
    /// The inviter's address.
    pub addr: Addr,
    /// Number of the invite at the inviter.
    pub invite: InviteId,
    /// What proves the code to the inviter.
    pub secret: InviteSecret,
    /// When the invite ends by the inviter's clock, for people: the inviter decides. Unit: seconds since 1970, to 2106.
    pub expires: u32,
    /// Underlay addresses of the inviter, at most [`CANDIDATES_MAX`].
    pub candidates: Vec<SocketAddr>,
    /// The rendezvous of the inviter; there is one, or a candidate.
    pub rendezvous: Option<Rendezvous>,
    /// The group of which the joiner becomes a member.
    pub group: Option<GroupId>,
}

/// Why a text is no code that this version can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodeError {
    /// It was typed wrongly.
    Typing(TypingError),
    /// It is of another version of Pilot, which has this number.
    Version(u8),
    /// Its letters are right, and its content is not.
    Content,
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typing(error) => error.fmt(f),
            Self::Version(version) => {
                write!(f, "the code has version {version}, and this program knows {VERSION} and {VERSION_ENROLMENT}")
            }
            Self::Content => f.write_str("the code has right letters and a wrong content"),
        }
    }
}

impl core::error::Error for CodeError {}

/// What kind of way follows.
const NAME: u8 = 1;
const NAME_USUAL_PORT: u8 = 2;
const IPV4: u8 = 4;
const IPV6: u8 = 6;
const RENDEZVOUS: u8 = 8;
const SAME_RENDEZVOUS: u8 = 9;
/// Not a way: the group.
const GROUP: u8 = 10;
/// Of an enrolment, not ways: the group key that is not the first one, the founder as a contact, another contact.
const KEY_ROW: u8 = 11;
const FOUNDER: u8 = 12;
const CONTACT: u8 = 13;

impl InviteCode {
    /// The text of the code.
    ///
    /// # Errors
    /// `Content` without any way, with more ways than there may be, or with a name that no host has.
    pub fn emit(&self) -> Result<String, CodeError> {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put(&self.inviter.0);
        out.put(&self.addr.to_bytes());
        out.put_u32(self.invite.0);
        out.put(self.secret.bytes());
        out.put_u32(self.expires);
        if let Some(group) = &self.group {
            out.put_u8(GROUP);
            out.put(&group.0);
        }
        self.ways().emit(&mut out).map_err(|Malformed| CodeError::Content)?;
        if !self.is_whole() || out.len() > CONTENT_LEN_MAX {
            return Err(CodeError::Content);
        }
        Ok(text::emit(&out))
    }

    fn is_whole(&self) -> bool {
        self.ways().is_whole()
    }

    fn ways(&self) -> Ways {
        Ways { candidates: self.candidates.clone(), rendezvous: self.rendezvous.clone() }
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        r.u8()?; // the version
        let mut code = Self {
            inviter: IdentityKey(r.array()?),
            addr: Addr::from_bytes(r.array()?),
            invite: InviteId(r.u32()?),
            secret: InviteSecret::new(r.array()?),
            expires: r.u32()?,
            candidates: Vec::new(),
            rendezvous: None,
            group: None,
        };
        let mut ways = Ways::default();
        while !r.is_empty() {
            match r.u8()? {
                GROUP if code.group.is_none() => code.group = Some(GroupId(r.array()?)),
                kind => ways.read(kind, &mut r)?,
            }
        }
        (code.candidates, code.rendezvous) = (ways.candidates, ways.rendezvous);
        if code.is_whole() { Ok(code) } else { Err(Malformed) }
    }
}

impl FromStr for InviteCode {
    type Err = CodeError;

    /// Reads a code. Case, dashes and white space do not count.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let bytes = text::parse(text).map_err(CodeError::Typing)?;
        match bytes.first() {
            Some(&VERSION) => Self::read(&bytes).map_err(|Malformed| CodeError::Content),
            Some(version) => Err(CodeError::Version(*version)),
            None => Err(CodeError::Content),
        }
    }
}

/// How the holder of a code comes to the node that answers.
#[derive(Default)]
struct Ways {
    candidates: Vec<SocketAddr>,
    rendezvous: Option<Rendezvous>,
}

impl Ways {
    fn is_whole(&self) -> bool {
        let has_places = match &self.rendezvous {
            None => !self.candidates.is_empty(),
            Some(Rendezvous::Same(_)) => true,
            Some(Rendezvous::At(_, hosts)) => (1..=HOSTS_MAX).contains(&hosts.len()),
        };
        has_places && self.candidates.len() <= CANDIDATES_MAX
    }

    fn emit(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.candidates.iter().for_each(|addr| put_addr(addr, out));
        match &self.rendezvous {
            None => {}
            Some(Rendezvous::Same(hint)) => {
                out.put_u8(SAME_RENDEZVOUS);
                out.put(hint);
            }
            Some(Rendezvous::At(key, hosts)) => {
                out.put_u8(RENDEZVOUS);
                out.put(&key.0);
                hosts.iter().try_for_each(|host| put_host(host, out))?;
            }
        }
        Ok(())
    }

    /// Reads a part of this kind.
    fn read(&mut self, kind: u8, r: &mut Reader<'_>) -> Result<(), Malformed> {
        match (&mut self.rendezvous, kind) {
            (rendezvous @ None, RENDEZVOUS) => {
                *rendezvous = Some(Rendezvous::At(StaticKey(r.array()?), Vec::new()));
            }
            (rendezvous @ None, SAME_RENDEZVOUS) => *rendezvous = Some(Rendezvous::Same(r.array()?)),
            (None, _) => match read_host(kind, r)? {
                Host::At(addr) => self.candidates.push(addr),
                Host::Name(..) => return Err(Malformed),
            },
            (Some(Rendezvous::At(_, hosts)), _) => hosts.push(read_host(kind, r)?),
            (Some(Rendezvous::Same(_)), _) => return Err(Malformed),
        }
        Ok(())
    }
}

fn put_addr(addr: &SocketAddr, out: &mut Vec<u8>) {
    match addr.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(IPV4);
            out.put(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(IPV6);
            out.put(&ip.octets());
        }
    }
    out.put_u16(addr.port());
}

fn put_host(host: &Host, out: &mut Vec<u8>) -> Result<(), Malformed> {
    match host {
        Host::At(addr) => put_addr(addr, out),
        Host::Name(name, port) => {
            out.put_u8(if *port == USUAL_PORT { NAME_USUAL_PORT } else { NAME });
            put_name(name, out)?;
            if *port != USUAL_PORT {
                out.put_u16(*port);
            }
        }
    }
    Ok(())
}

fn read_host(kind: u8, r: &mut Reader<'_>) -> Result<Host, Malformed> {
    let host = match kind {
        IPV4 => Host::At(SocketAddr::from((r.array::<4>()?, r.u16()?))),
        IPV6 => Host::At(SocketAddr::from((r.array::<16>()?, r.u16()?))),
        NAME => Host::Name(read_name(r)?, r.u16()?),
        NAME_USUAL_PORT => Host::Name(read_name(r)?, USUAL_PORT),
        _ => return Err(Malformed),
    };
    let has_port = !matches!(&host, Host::At(addr) if addr.port() == 0) && !matches!(host, Host::Name(_, 0));
    if has_port { Ok(host) } else { Err(Malformed) }
}

/// Letters of a host's name. Three of them take two bytes, as the digits of a number; 0 fills the last three up.
const NAME_LETTERS: &[u8] = b"\0abcdefghijklmnopqrstuvwxyz0123456789-._";

fn put_name(name: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(Malformed);
    }
    out.put_u8(name.len().div_ceil(3) as u8);
    for three in name.as_bytes().chunks(3) {
        let mut number = 0;
        for i in 0..3 {
            let letter = three.get(i).map_or(0, |letter| letter.to_ascii_lowercase());
            let digit = NAME_LETTERS.iter().position(|known| *known == letter && (letter != 0 || i >= three.len()));
            number = number * NAME_LETTERS.len() + digit.ok_or(Malformed)?;
        }
        out.put_u16(number as u16); // 40³ numbers
    }
    Ok(())
}

fn read_name(r: &mut Reader<'_>) -> Result<String, Malformed> {
    let mut name = Vec::new();
    for _ in 0..r.u8()? {
        let mut number = usize::from(r.u16()?);
        let mut three = [0; 3];
        for letter in three.iter_mut().rev() {
            *letter = NAME_LETTERS[number % NAME_LETTERS.len()];
            number /= NAME_LETTERS.len();
        }
        if number > 0 {
            return Err(Malformed);
        }
        name.put(&three);
    }
    while name.last() == Some(&0) {
        name.pop();
    }
    let is_name = !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.contains(&0);
    String::from_utf8(name).ok().filter(|_| is_name).ok_or(Malformed)
}

#[cfg(test)]
mod tests;
