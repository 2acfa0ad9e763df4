//! Owns the form of the trust book on disk.

use super::groups::Groups;
use super::invites::Invites;
use super::message::{MESSAGE_LEN_MAX, NOTE_LEN_MAX, emit_temporary, parse_temporary};
use super::pin::{Asked, Marks, Pin, Wish};
use super::ports::Ports;
use super::quota::Quota;
use super::unanswered::Unanswered;
use super::{LETTER_LEN_MAX, Outgoing, PendingRequest, Source, TrustBook};
use crate::addr::Addr;
use crate::codec::{Malformed, Put as _, Reader};
use crate::group::GroupId;
use crate::identity::{HOSTNAME_MAX, IdentityKey, NodeRecord, StaticKey};
use crate::underlay::{parse_endpoint, put_endpoint};
use alloc::boxed::Box;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// The version of the form. Books of version 2 have records of another form, so that they cannot be read.
const VERSION: u8 = 3;
/// The version of a book that ends in invites.
const VERSION_WITH_INVITES: u8 = 4;
/// The version of a book that ends in invites, then groups.
const VERSION_WITH_GROUPS: u8 = 5;
/// The version of a book that ends in invites, groups, then joins without an answer.
const VERSION_WITH_UNANSWERED: u8 = 6;

impl TrustBook {
    /// All of it as bytes.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let (has_invites, has_groups) = (!self.invites.list.is_empty(), !self.groups.list.is_empty());
        let version = match (!self.unanswered.is_empty(), has_groups, has_invites) {
            (true, ..) => VERSION_WITH_UNANSWERED,
            (_, true, _) => VERSION_WITH_GROUPS,
            (_, _, true) => VERSION_WITH_INVITES,
            _ => VERSION,
        };
        out.put_u8(version);
        out.put_u64(self.own_epoch);
        out.put_varint(self.pins.len() as u64);
        for pin in self.pins.values() {
            emit_pin(pin, &mut out);
            emit_grants(pin, &mut out);
        }
        out.put_varint(self.pending.len() as u64);
        for p in self.pending.values() {
            out.put_bytes(&p.record.emit());
            out.put_bytes(p.note.as_bytes());
            out.put_u64(p.received_at);
            out.put_u8(u8::from(p.is_seen) | u8::from(p.is_question) << 1);
            out.put_u64(Source::number(p.source));
            out.put_u64(p.epoch);
            out.put(&p.nonce);
            out.put(&p.hash);
        }
        out.put_varint(self.outgoing.len() as u64);
        for o in self.outgoing.values() {
            out.put_bytes(&o.record.emit());
            o.ports.emit(&mut out);
            out.put(&o.nonce);
            out.put(&o.hash);
            out.put_u64(o.expires);
            let kinds = [o.verified, o.is_question, o.is_stale, o.is_anew];
            let flags =
                kinds.into_iter().chain([o.quota.is_some(), o.not_after.is_some(), o.is_join, o.group.is_some()]);
            out.put_u8(flags.rev().fold(0, |bits, flag| bits << 1 | u8::from(flag)));
            o.quota.iter().for_each(|quota| quota.emit(&mut out));
            o.not_after.iter().for_each(|at| out.put_u64(*at));
            o.group.iter().for_each(|group| out.put(&group.0));
        }
        out.put_varint(self.epochs.len() as u64);
        self.epochs.iter().for_each(|(key, epoch)| emit_epoch(key, *epoch, &mut out));
        out.put_varint(self.revoked.len() as u64);
        self.revoked.iter().for_each(|(key, epoch)| emit_epoch(key, *epoch, &mut out));
        out.put_varint(self.letters.len() as u64);
        for (to, sealed) in self.letters.values() {
            out.put(&to.0);
            out.put_bytes(sealed);
        }
        if version >= VERSION_WITH_INVITES {
            self.invites.emit(&mut out);
        }
        if version >= VERSION_WITH_GROUPS {
            self.invites.emit_groups(&mut out);
            self.groups.emit(&mut out);
        }
        if version >= VERSION_WITH_UNANSWERED {
            self.unanswered.emit(&mut out);
        }
        out
    }

    /// Reads what [`TrustBook::emit`] wrote.
    ///
    /// # Errors
    /// When the bytes were damaged; the caller must not go on with an empty book.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let version = r.u8()?;
        if !(VERSION..=VERSION_WITH_UNANSWERED).contains(&version) {
            return Err(Malformed);
        }
        let mut book = Self { own_epoch: r.u64()?, ..Self::default() };
        for _ in 0..r.varint()? {
            let mut pin = parse_pin(&mut r)?;
            parse_grants(&mut pin, &mut r)?;
            book.pins.insert(pin.identity, pin);
        }
        for _ in 0..r.varint()? {
            let record = NodeRecord::parse(r.bytes(NodeRecord::LEN_MAX)?)?;
            let (note, received_at) = (r.str(4 * NOTE_LEN_MAX)?.into(), r.u64()?);
            let (flags, source, epoch) = (r.u8()?, r.u64()?, r.u64()?);
            let [is_seen, is_question] = [1, 2].map(|flag| flags & flag != 0);
            let (nonce, hash) = (r.array()?, r.array()?);
            let source = Source::from_number(source);
            let request =
                PendingRequest { record, note, received_at, is_seen, is_question, source, epoch, nonce, hash };
            book.pending.insert(request.record.identity, request);
        }
        for _ in 0..r.varint()? {
            let outgoing = parse_outgoing(&mut r)?;
            book.outgoing.insert(outgoing.record.identity, outgoing);
        }
        for _ in 0..r.varint()? {
            book.epochs.insert(IdentityKey(r.array()?), r.u64()?);
        }
        for _ in 0..r.varint()? {
            book.note_revocation(IdentityKey(r.array()?), r.u64()?);
        }
        for _ in 0..r.varint()? {
            let to = IdentityKey(r.array()?);
            book.add_letter(to, r.bytes(LETTER_LEN_MAX)?.into()).ok_or(Malformed)?;
        }
        if version >= VERSION_WITH_INVITES {
            book.invites = Invites::parse(&mut r)?;
        }
        if version >= VERSION_WITH_GROUPS {
            book.invites.parse_groups(&mut r)?;
            book.groups = Groups::parse(&mut r)?;
        }
        if version >= VERSION_WITH_UNANSWERED {
            book.unanswered = Unanswered::parse(&mut r)?;
        }
        r.finish()?;
        Ok(book)
    }
}

fn parse_outgoing(r: &mut Reader<'_>) -> Result<Outgoing, Malformed> {
    let record = NodeRecord::parse_unverified(r.bytes(NodeRecord::LEN_MAX)?)?; // perhaps one without a signature
    let ports = Ports::parse(r)?;
    let (nonce, hash) = (r.array()?, r.array()?);
    let (expires, flags) = (r.u64()?, r.u8()?);
    let [verified, is_question, is_stale, is_anew, has_quota, has_end, is_join, has_group] =
        [1, 2, 4, 8, 16, 32, 64, 128].map(|flag| flags & flag != 0);
    let quota = if has_quota { Some(Quota::parse(r)?) } else { None };
    let not_after = if has_end { Some(r.u64()?) } else { None };
    let group = if has_group { Some(GroupId(r.array()?)) } else { None };
    Ok(Outgoing {
        record,
        ports,
        nonce,
        hash,
        expires,
        verified,
        quota,
        not_after,
        is_question,
        is_anew,
        is_stale,
        is_join,
        group,
    })
}

fn emit_epoch(key: &IdentityKey, epoch: u64, out: &mut Vec<u8>) {
    out.put(&key.0);
    out.put_u64(epoch);
}

fn emit_pin(pin: &Pin, out: &mut Vec<u8>) {
    out.put(&pin.identity.0);
    out.put(&pin.static_key.0);
    out.put(&pin.addr.to_bytes());
    out.put_bytes(pin.hostname.as_bytes());
    pin.ports.emit(out);
    out.put(&*pin.secret);
    out.put_u64(pin.approved_at);
    out.put_u64(pin.not_after.unwrap_or(u64::MAX));
    out.put_u8(pin.verified.into());
    put_endpoint(out, pin.last_endpoint.as_ref());
}

fn parse_pin(r: &mut Reader<'_>) -> Result<Pin, Malformed> {
    Ok(Pin {
        identity: IdentityKey(r.array()?),
        static_key: StaticKey(r.array()?),
        addr: Addr::from_bytes(r.array()?),
        hostname: r.str(HOSTNAME_MAX)?.into(),
        ports: Ports::parse(r)?,
        secret: Zeroizing::new(r.array()?),
        kem: None,
        approved_at: r.u64()?,
        not_after: Some(r.u64()?).filter(|at| *at != u64::MAX),
        verified: r.u8()? != 0,
        last_endpoint: parse_endpoint(r)?,
        temporary: Vec::new(),
        granted: None,
        granted_ends: Vec::new(),
        wish: None,
        asked: None,
        quota: None,
        by_hand: true,
        groups: Box::default(),
        marks: Marks::default(),
    })
}

/// Which parts of the grants follow.
const GRANTED: u8 = 1;
const WISH: u8 = 2;
const ASKED: u8 = 4;
const QUOTA: u8 = 8;
const KEM: u8 = 16;
/// Not a part: the pin is there by a group alone.
const BY_GROUP: u8 = 32;

fn emit_grants(pin: &Pin, out: &mut Vec<u8>) {
    let marks = &pin.marks;
    [marks.stated, marks.heard, marks.wished, marks.sequence].into_iter().for_each(|mark| out.put_u64(mark));
    out.put(&marks.answered);
    emit_temporary(&pin.temporary, out);
    emit_temporary(&pin.granted_ends, out);
    let parts = [
        (pin.granted.is_some(), GRANTED),
        (pin.wish.is_some(), WISH),
        (pin.asked.is_some(), ASKED),
        (pin.quota.is_some(), QUOTA),
        (pin.kem.is_some(), KEM),
        (!pin.by_hand, BY_GROUP),
    ];
    out.put_u8(parts.iter().filter(|(is_there, _)| *is_there).map(|(_, part)| part).sum());
    pin.granted.iter().for_each(|ports| ports.emit(out));
    if let Some(wish) = &pin.wish {
        wish.ports.emit(out);
        out.put_bytes(wish.note.as_bytes());
        out.put_u64(wish.received_at);
        out.put(&wish.hash);
    }
    if let Some(asked) = &pin.asked {
        asked.ports.emit(out);
        out.put_u64(asked.asked_at);
        out.put_bytes(&asked.message);
    }
    pin.quota.iter().for_each(|quota| quota.emit(out));
    pin.kem.iter().for_each(|secret| out.put(&**secret));
}

fn parse_grants(pin: &mut Pin, r: &mut Reader<'_>) -> Result<(), Malformed> {
    pin.marks = Marks { stated: r.u64()?, heard: r.u64()?, wished: r.u64()?, sequence: r.u64()?, answered: r.array()? };
    (pin.temporary, pin.granted_ends) = (parse_temporary(r)?, parse_temporary(r)?);
    let parts = r.u8()?;
    pin.by_hand = parts & BY_GROUP == 0;
    if parts & GRANTED != 0 {
        pin.granted = Some(Ports::parse(r)?);
    }
    if parts & WISH != 0 {
        let (ports, note) = (Ports::parse(r)?, r.str(4 * NOTE_LEN_MAX)?.into());
        pin.wish = Some(Box::new(Wish { ports, note, received_at: r.u64()?, hash: r.array()? }));
    }
    if parts & ASKED != 0 {
        let (ports, asked_at) = (Ports::parse(r)?, r.u64()?);
        pin.asked = Some(Box::new(Asked { ports, asked_at, message: r.bytes(MESSAGE_LEN_MAX)?.into() }));
    }
    if parts & QUOTA != 0 {
        pin.quota = Some(Box::new(Quota::parse(r)?));
    }
    if parts & KEM != 0 {
        pin.kem = Some(Zeroizing::new(r.array()?));
    }
    Ok(())
}
