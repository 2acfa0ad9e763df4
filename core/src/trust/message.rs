//! Owns the form of trust messages: what is signed, and its bounds.

use super::pin::Pin;
use super::ports::Ports;
use crate::codec::{Malformed, Put as _, Reader};
use crate::identity::{Identity, IdentityKey, NodeRecord};
use alloc::string::String;
use alloc::vec::Vec;

/// Longest trust message. Unit: bytes. Source: `docs/trust.md`.
pub const MESSAGE_LEN_MAX: usize = 1920;
/// Longest justification. Unit: bytes.
pub const NOTE_LEN_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Accept,
    Reject,
    Revoke,
    /// What the recipient may reach at the sender, and the sender's newest record. Between nodes that trust each other.
    Statement,
    /// The sender asks for more ports. Between nodes that trust each other.
    Wish,
    /// A request that is proven by an invite of the recipient: sealed under the secret of that (`join`).
    Join,
    /// The sender does not take the recipient, although the code was right.
    Refuse,
    /// A request with the proof that its sender is a member of a group.
    Meet,
    /// The answer to that: an accept with the sender's proof.
    Met,
    /// The accept of a join that makes the recipient a member of a group.
    Welcome,
}

impl Kind {
    /// True for a kind of messages that carry the sender's record.
    pub(super) const fn has_record(self) -> bool {
        matches!(self, Self::Request | Self::Accept | Self::Statement | Self::Join | Self::Meet | Self::Met)
    }

    /// True for a kind of messages that end in a set of ports.
    const fn has_ports(self) -> bool {
        matches!(self, Self::Statement | Self::Wish)
    }

    /// True for a kind of messages that end in the proof of a membership.
    const fn has_membership(self) -> bool {
        matches!(self, Self::Meet | Self::Met | Self::Welcome)
    }
}

/// One trust message, signed by its sender.
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) from: IdentityKey,
    pub(super) to: IdentityKey,
    pub(super) nonce: [u8; 32],
    pub(super) issued: u64,
    pub(super) expires: u64,
    pub(super) epoch: u64,
    pub(super) in_reply_to: [u8; 32],
    /// The sender's record, in requests, accepts and statements.
    pub(super) record: Vec<u8>,
    pub(super) note: String,
    /// Ports of the sender in a statement, as long as the trust lasts; ports of the recipient in a wish, which is taken back
    /// by an empty one; nothing in the other kinds.
    pub(super) ports: Ports,
    /// Ports of the sender in a statement until a time. Unit: seconds since 1970.
    pub(super) temporary: Vec<(u64, Ports)>,
    /// The end of the trust in an accept. Unit: seconds since 1970.
    pub(super) end: Option<u64>,
    /// The number of the recipient's invite in a join; the reason in a refusal; 0 in the other kinds.
    pub(super) invite: u32,
    /// The proof of a membership in a meeting, with the group before it in a welcome; nothing in the other kinds.
    pub(super) membership: Vec<u8>,
}

const LABEL: &str = "pn1-trust";

impl Message {
    /// The bytes of the message, signed with `identity`.
    pub(super) fn emit(&self, identity: &Identity) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(self.kind as u8);
        out.put(&self.from.0);
        out.put(&self.to.0);
        out.put(&self.nonce);
        out.put_u64(self.issued);
        out.put_u64(self.expires);
        out.put_u64(self.epoch);
        out.put(&self.in_reply_to);
        out.put_bytes(&self.record);
        out.put_bytes(self.note.as_bytes());
        if self.kind.has_ports() {
            self.ports.emit(&mut out);
        }
        match self.kind {
            Kind::Statement => emit_temporary(&self.temporary, &mut out),
            Kind::Accept => out.put_u64(self.end.unwrap_or(u64::MAX)),
            Kind::Join | Kind::Refuse => out.put_u32(self.invite),
            kind if kind.has_membership() => out.put_bytes(&self.membership),
            _ => {}
        }
        let signature = identity.sign(LABEL, &out);
        out.put(&signature);
        debug_assert!(out.len() <= MESSAGE_LEN_MAX, "{} bytes", out.len());
        out
    }

    /// Reads a message and verifies its signature.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let body = bytes.len().checked_sub(64).filter(|_| bytes.len() <= MESSAGE_LEN_MAX).ok_or(Malformed)?;
        let (body, signature) = bytes.split_at(body);
        let mut r = Reader::new(body);
        let kind = match r.u8()? {
            0 => Kind::Request,
            1 => Kind::Accept,
            2 => Kind::Reject,
            3 => Kind::Revoke,
            4 => Kind::Statement,
            5 => Kind::Wish,
            6 => Kind::Join,
            7 => Kind::Refuse,
            8 => Kind::Meet,
            9 => Kind::Met,
            10 => Kind::Welcome,
            _ => return Err(Malformed),
        };
        let message = Self {
            kind,
            from: IdentityKey(r.array()?),
            to: IdentityKey(r.array()?),
            nonce: r.array()?,
            issued: r.u64()?,
            expires: r.u64()?,
            epoch: r.u64()?,
            in_reply_to: r.array()?,
            record: r.bytes(NodeRecord::LEN_MAX)?.into(),
            note: r.str(NOTE_LEN_MAX)?.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            ports: if kind.has_ports() { Ports::parse(&mut r)? } else { Ports::NONE },
            temporary: if kind == Kind::Statement { parse_temporary(&mut r)? } else { Vec::new() },
            end: if kind == Kind::Accept { Some(r.u64()?).filter(|at| *at != u64::MAX) } else { None },
            invite: if matches!(kind, Kind::Join | Kind::Refuse) { r.u32()? } else { 0 },
            membership: if kind.has_membership() { r.bytes(MESSAGE_LEN_MAX)?.into() } else { Vec::new() },
        };
        r.finish()?;
        let signature = signature.try_into().map_err(|_| Malformed)?;
        if message.from.verify(LABEL, body, &signature) { Ok(message) } else { Err(Malformed) }
    }
}

pub(super) fn emit_temporary(list: &[(u64, Ports)], out: &mut Vec<u8>) {
    debug_assert!(list.len() <= Pin::TEMPORARY_MAX, "{} ends", list.len());
    out.put_u8(list.len() as u8);
    for (at, ports) in list {
        out.put_u64(*at);
        ports.emit(out);
    }
}

pub(super) fn parse_temporary(r: &mut Reader<'_>) -> Result<Vec<(u64, Ports)>, Malformed> {
    let count = usize::from(r.u8()?);
    if count > Pin::TEMPORARY_MAX {
        return Err(Malformed);
    }
    (0..count).map(|_| Ok((r.u64()?, Ports::parse(r)?))).collect()
}
