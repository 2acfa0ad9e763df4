//! Owns the list of extensions in which every control body and every node record ends.
//!
//! ```text
//!   length of the list (varint) | type u16, length u16, value | type u16, length u16, value | …
//! ```
//! A reader takes the types that it knows; those that it does not know stay in the list and are passed on unchanged, so that
//! versions can live together. A type that comes twice counts the first time.

use crate::codec::{Malformed, Put as _, Reader};
use crate::underlay::{parse_endpoint, put_endpoint};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Longest list. Unit: bytes, without the length in front. Source: `docs/wire.md`, "Extensions".
pub const EXTENSIONS_LEN_MAX: usize = 512;
/// Bytes of type and length before each value.
const HEAD_LEN: usize = 4;

/// Name of one kind of extension. Source of the numbers: `docs/wire.md`, "Extensions".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionType(pub u16);

impl ExtensionType {
    /// In a refusal: the wall clock of the rendezvous. u64, microseconds since 1970.
    pub const CLOCK: Self = Self(1);
    /// In a refusal: the newest sequence that the rendezvous knows of the caller's record. u64.
    pub const SEQUENCE: Self = Self(2);
    /// In a node record: the versions of PN1 that the node speaks besides the second, one byte each, highest first. Reserved;
    /// a node of this version has none.
    pub const VERSIONS: Self = Self(3);
    /// In `OpenRelay`: the receiver's ticket. Reserved; a rendezvous of this version does not look at it.
    pub const TICKET: Self = Self(4);
    /// In answers to Register: addresses beside its own at which the rendezvous says what it sees, each as an underlay address. An
    /// unspecified one stands for the address of the rendezvous, with another port.
    pub const PROBES: Self = Self(5);
    /// In answers to OpenRelay: the underlay address from which the other node's datagrams come.
    pub const SEEN: Self = Self(6);
    /// In candidates: the sender's NAT. Four bytes.
    pub const NAT: Self = Self(7);
    /// In `OpenRelay`: an INIT to be passed to the other node as soon as the channel is there. In its answer, without a value: it
    /// was passed on.
    pub const INIT: Self = Self(8);
    /// In answers to Register: the version of the rendezvous' program, for people. Text.
    pub const PROGRAM: Self = Self(9);
    /// In candidates: the places, from 0, of the addresses in the list that a gateway maps. One byte each.
    pub const MAPPED: Self = Self(10);
}

/// Underlay addresses as the value of an extension has them.
pub fn emit_endpoints(addrs: &[SocketAddr]) -> Vec<u8> {
    let mut out = Vec::new();
    addrs.iter().for_each(|addr| put_endpoint(&mut out, Some(addr)));
    out
}

/// A list of extensions, kept in the form in which it travels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions(Vec<u8>);

impl Extensions {
    /// The empty list.
    pub const NONE: Self = Self(Vec::new());

    /// The value of the first extension of this type.
    pub fn get(&self, of: ExtensionType) -> Option<&[u8]> {
        let mut r = Reader::new(&self.0);
        while !r.is_empty() {
            let (found, value) = next(&mut r).ok()?;
            if found == of {
                return Some(value);
            }
        }
        None
    }

    /// The underlay addresses that the first extension of this type holds.
    pub fn endpoints(&self, of: ExtensionType) -> Vec<SocketAddr> {
        let mut r = Reader::new(self.get(of).unwrap_or_default());
        core::iter::from_fn(|| parse_endpoint(&mut r).ok().flatten()).collect()
    }

    /// The text that the first extension of this type holds, if it is one of at most `len_max` visible characters of ASCII.
    pub fn text(&self, of: ExtensionType, len_max: usize) -> Option<&str> {
        let is_text = |bytes: &&[u8]| (1..=len_max).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        core::str::from_utf8(self.get(of).filter(is_text)?).ok()
    }

    /// The number that the first extension of this type holds, if that has the length of one.
    pub fn u64(&self, of: ExtensionType) -> Option<u64> {
        self.get(of)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// The list with one extension more at its end.
    ///
    /// # Errors
    /// [`Malformed`] when the list would be longer than [`EXTENSIONS_LEN_MAX`].
    pub fn with(mut self, of: ExtensionType, value: &[u8]) -> Result<Self, Malformed> {
        if self.0.len() + HEAD_LEN + value.len() > EXTENSIONS_LEN_MAX {
            return Err(Malformed);
        }
        self.0.put_u16(of.0);
        self.0.put_u16(value.len() as u16);
        self.0.put(value);
        debug_assert!(self.get(of).is_some(), "what was added is found");
        Ok(self)
    }

    /// Like [`Extensions::with`], with a number; a list without room stays as it was.
    #[must_use]
    pub fn with_u64(self, of: ExtensionType, value: u64) -> Self {
        let unchanged = self.clone();
        self.with(of, &value.to_le_bytes()).unwrap_or(unchanged)
    }

    /// Appends the list to a body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.0);
    }

    /// Reads the list at the front of `r`.
    ///
    /// # Errors
    /// When the list is longer than it may be, or an extension reaches beyond its end.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let list = r.bytes(EXTENSIONS_LEN_MAX)?;
        let mut inner = Reader::new(list);
        while !inner.is_empty() {
            next(&mut inner)?;
        }
        Ok(Self(list.into()))
    }
}

fn next<'a>(r: &mut Reader<'a>) -> Result<(ExtensionType, &'a [u8]), Malformed> {
    let (of, len) = (ExtensionType(r.u16()?), r.u16()?);
    Ok((of, r.take(len.into())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: ExtensionType = ExtensionType(0xfff0);

    #[test]
    fn unknown_extensions_are_passed_on_unchanged_and_the_first_of_a_type_counts() {
        let list = Extensions::NONE.with(UNKNOWN, b"later").expect("room").with_u64(ExtensionType::CLOCK, 7);
        let list = list.with_u64(ExtensionType::CLOCK, 8);
        let mut out = Vec::new();
        list.emit(&mut out);
        let read = Extensions::parse(&mut Reader::new(&out)).expect("own form");
        let mut again = Vec::new();
        read.emit(&mut again);
        assert_eq!((&read, &again), (&list, &out));
        assert_eq!((read.get(UNKNOWN), read.u64(ExtensionType::CLOCK)), (Some(&b"later"[..]), Some(7)));
        assert_eq!((read.get(ExtensionType::TICKET), read.u64(UNKNOWN)), (None, None));
    }

    #[test]
    fn a_text_is_short_and_visible_or_none() {
        let text = |value: &[u8]| {
            let list = Extensions::NONE.with(ExtensionType::PROGRAM, value).expect("room");
            list.text(ExtensionType::PROGRAM, 5).map(alloc::string::String::from)
        };
        assert_eq!(text(b"1.2.3").as_deref(), Some("1.2.3"));
        for bad in [&b""[..], b"1.2.34", b"1 2", b"\x1b[2J", "1é".as_bytes(), b"\xff"] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
        assert_eq!(Extensions::NONE.text(ExtensionType::PROGRAM, 5), None);
    }

    #[test]
    fn a_list_has_a_maximum_and_no_extension_reaches_beyond_its_end() {
        let full = Extensions::NONE.with(UNKNOWN, &[1; EXTENSIONS_LEN_MAX - HEAD_LEN]).expect("just fits");
        assert_eq!(full.clone().with(UNKNOWN, &[]), Err(Malformed));
        assert_eq!(full.clone().with_u64(ExtensionType::CLOCK, 1), full);
        let mut out = Vec::new();
        out.put_bytes(&[0; EXTENSIONS_LEN_MAX + 4]);
        assert_eq!(Extensions::parse(&mut Reader::new(&out)), Err(Malformed));
        for bad in [&[1, 1, 0][..], &[5, 1, 0, 2, 0, 9], &[4, 1, 0, 1, 0, 9], &[9, 1, 0]] {
            assert_eq!(Extensions::parse(&mut Reader::new(bad)), Err(Malformed), "{bad:?}");
        }
    }
}
