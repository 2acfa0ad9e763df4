//! Owns the form of a pin: a trusted peer, what each side may reach at the other, and what either has asked for.

use super::ports::Ports;
use super::quota::Quota;
use crate::addr::Addr;
use crate::group::GroupId;
use crate::identity::{IdentityKey, StaticKey};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use zeroize::Zeroizing;

/// The only thing that lets data in: a peer, after its owner and ours have approved each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Identity key of the peer. A changed key is another peer.
    pub identity: IdentityKey,
    /// The peer's key in key handshakes.
    pub static_key: StaticKey,
    /// Address of the peer when it was approved.
    pub addr: Addr,
    /// Hostname of the peer as its newest record has it, or empty. No two pins have one hostname.
    pub hostname: String,
    /// Our ports that the peer may reach as long as the trust lasts.
    pub ports: Ports,
    /// Our ports that the peer may reach until a time, in seconds since 1970. At most [`Pin::TEMPORARY_MAX`], each port in
    /// one of them and not in `ports`.
    pub temporary: Vec<(u64, Ports)>,
    /// Ports of the peer that this node may reach, as the peer has said; `None` when it has said nothing.
    pub granted: Option<Ports>,
    /// The part of `granted` that ends, with its ends in seconds since 1970 by our clock. At most [`Pin::TEMPORARY_MAX`].
    pub granted_ends: Vec<(u64, Ports)>,
    /// What the peer asks for, which waits for our owner.
    pub wish: Option<Box<Wish>>,
    /// What this node has asked the peer for, which waits for the peer's owner.
    pub asked: Option<Box<Asked>>,
    /// The pair secret, mixed into every key handshake with the peer (psk2). It is erased with the pin.
    pub secret: Zeroizing<[u8; 32]>,
    /// What an ML-KEM exchange of both sides made: it is mixed into the pair secret for every key handshake, so that what is
    /// recorded stays shut for a quantum computer too. `None` before the first session.
    pub kem: Option<Zeroizing<[u8; 32]>>,
    /// Time of the approval. Unit: seconds since 1970.
    pub approved_at: u64,
    /// End of the approval. Unit: seconds since 1970.
    pub not_after: Option<u64>,
    /// A person compared the fingerprint, or gave it with the request; otherwise it was only taken from the registry.
    pub verified: bool,
    /// Underlay address at which the peer was last reached directly; only a hint.
    pub last_endpoint: Option<SocketAddr>,
    /// How much of this node the peer may use, as far as the owner has said.
    pub quota: Option<Box<Quota>>,
    /// Both owners have approved each other; otherwise the pin goes with the last of its groups.
    pub by_hand: bool,
    /// What the peer may reach as a member of groups, besides. It follows from the groups.
    pub groups: Box<[GroupGrant]>,
    pub(super) marks: Marks,
}

/// What a pin has by a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupGrant {
    /// The group.
    pub group: GroupId,
    /// Our ports that the peer may reach as its member.
    pub ports: Ports,
    /// End of the shorter one of both memberships. Unit: seconds since 1970, by the clock of the signers.
    pub not_after: u64,
}

/// How far the two sides have told each other of their grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Epoch of our grant to the peer; 0 when it was never told.
    pub(super) stated: u64,
    /// Epoch of the newest statement of the peer: older ones do not count.
    pub(super) heard: u64,
    /// Epoch of the newest wish of the peer: older ones do not count.
    pub(super) wished: u64,
    /// Sequence of the record from which the hostname comes.
    pub(super) sequence: u64,
    /// Hash of the wish of the peer that our owner decided about last.
    pub(super) answered: [u8; 32],
}

/// A trusted peer's request for more ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Our ports that the peer wants to reach.
    pub ports: Ports,
    /// The justification, made safe for terminals.
    pub note: String,
    /// Time of its arrival. Unit: seconds since 1970.
    pub received_at: u64,
    pub(super) hash: [u8; 32],
}

/// This node's request for more ports of a trusted peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Ports of the peer.
    pub ports: Ports,
    /// Time of the request. Unit: seconds since 1970.
    pub asked_at: u64,
    /// The signed request, which is sent until it is answered.
    pub(super) message: Vec<u8>,
}

/// A decision of this node's owner about what a trusted peer may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regrant {
    /// The peer may reach these ports too, until a time in seconds since 1970 or as long as the trust lasts. The newest
    /// decision about a port counts: a lasting grant becomes a temporary one and the other way round.
    Grant(Ports, Option<u64>),
    /// The peer may reach these ports as long as the trust lasts, and no others.
    Only(Ports),
    /// The peer may not reach these ports any more.
    Withdraw(Ports),
    /// The same as `Grant`, as the answer to the peer's wish.
    Approve(Ports, Option<u64>),
    /// The peer's wish is declined, with a reason.
    Decline(String),
}

impl Pin {
    /// Most ends of temporary grants to one peer.
    pub const TEMPORARY_MAX: usize = 16;

    /// True when the peer may reach our `port` now.
    pub fn allows(&self, port: u16) -> bool {
        let by_group = self.groups.iter().any(|grant| grant.ports.allow(port));
        by_group || self.ports.allow(port) || self.temporary.iter().any(|(_, ports)| ports.allow(port))
    }

    /// True when the peer may reach our `port` at this time: what has ended by then counts no more, also before it is taken out. Unit
    /// of `now_s`: seconds since 1970.
    pub fn allows_at(&self, port: u16, now_s: u64) -> bool {
        let lasts = |end: u64| now_s < end;
        let by_group = self.groups.iter().any(|grant| grant.ports.allow(port));
        if !self.not_after.is_none_or(lasts) {
            return by_group && self.by_hand; // the groups go on
        }
        by_group || self.ports.allow(port) || self.temporary.iter().any(|(end, ports)| lasts(*end) && ports.allow(port))
    }

    /// Our ports that the peer may reach as long as the trust lasts, by hand or by group.
    pub fn lasting(&self) -> Ports {
        let by_group = self.groups.iter().map(|grant| &grant.ports);
        by_group.fold(self.ports.clone(), |all, ports| all.with(ports).unwrap_or(all))
    }

    /// Our ports that the peer may reach now.
    pub fn reach(&self) -> Ports {
        let mut all = self.lasting();
        for (_, ports) in &self.temporary {
            // A grant that makes too many ranges was refused.
            all = all.with(ports).unwrap_or(all);
        }
        all
    }

    /// How much of this node the peer may use.
    pub fn quota(&self) -> Quota {
        self.quota.as_deref().copied().unwrap_or_default()
    }

    /// True when the peer has said that this node may not reach `port`.
    pub fn is_denied(&self, port: u16) -> bool {
        self.granted.as_ref().is_some_and(|ports| !ports.allow(port))
    }
}
