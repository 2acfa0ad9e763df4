//! Owns the table of meetings, and the sockets beside the node's own one.

use super::survey::Survey;
use crate::inner::PeerId;
use crate::path::{Meeting, Nat, Source, Spread, is_reserved};
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// Meetings, and surveys of this node's own NAT, at once. Source: own choice; another round begins soon.
pub(super) const MEETINGS_MAX: usize = 4;
/// Sockets beside the node's own one from which peers are reached. Source: own choice.
pub(super) const KEPT_MAX: usize = 64;
/// Addresses of the rendezvous, beside its own, that are asked. Source: RFC 5780 uses two addresses with two ports.
pub(super) const PROBES_MAX: usize = 3;

/// All meetings, and the sockets beside the node's own one.
#[derive(Default)]
pub(super) struct Meetings {
    /// The newest number of a socket.
    pub(super) newest: Source,
    pub(super) list: Vec<Run>,
    /// Sockets from which peers are reached after their meeting.
    pub(super) kept: Vec<(PeerId, Source)>,
    pub(super) closed: VecDeque<Source>,
    /// Where else the rendezvous says what it sees, and whether it has ever answered there.
    pub(super) probes: Vec<(SocketAddr, bool)>,
    /// This node's NAT.
    pub(super) nat: Nat,
}

/// One meeting, or a survey for its own sake.
pub(super) struct Run {
    /// `None` for a survey alone.
    pub(super) peer: Option<PeerId>,
    pub(super) number: u32,
    pub(super) survey: Survey,
    pub(super) ours: Option<Meeting>,
    pub(super) theirs: Option<Meeting>,
    /// Where the rendezvous sees the peer now.
    pub(super) seen: Option<IpAddr>,
    /// Sockets of a birthday.
    pub(super) many: Vec<Source>,
    pub(super) stage: Stage,
    /// When something is to be done next.
    pub(super) due: Instant,
}

pub(super) enum Stage {
    /// The rendezvous is asked.
    Asking,
    /// The peer has been told and answers, or both fire at `due`.
    Told,
    /// Probes are under way.
    Fired(Option<Birthday>),
}

/// Many ports of one side against one of the other.
pub(super) enum Birthday {
    /// From one socket to many ports of this address.
    Spray(IpAddr, Spread),
    /// From all sockets of the birthday, each several times, to this address; so many datagrams have been sent.
    Sockets(SocketAddr, usize),
}

impl Run {
    /// The sockets of the run.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source> + '_ {
        self.survey.sources().into_iter().chain(self.many.iter().copied())
    }
}

impl Meetings {
    pub(super) fn fresh(&mut self) -> Source {
        self.newest.0 += 1;
        self.newest
    }

    pub(super) fn of(&mut self, peer: PeerId) -> Option<&mut Run> {
        self.list.iter_mut().find(|run| run.peer == Some(peer))
    }

    pub(super) fn has_birthday(&self) -> bool {
        self.list.iter().any(|run| matches!(run.stage, Stage::Fired(Some(_))))
    }

    /// Where the rendezvous at `beacon` says what it sees, beside that address.
    pub(super) fn set_probes(&mut self, beacon: SocketAddr, list: &[SocketAddr]) {
        let place = |addr: &SocketAddr| {
            let ip = if addr.ip().is_unspecified() { beacon.ip() } else { addr.ip() };
            SocketAddr::new(ip, addr.port())
        };
        let list: Vec<_> = list.iter().map(place).filter(|addr| !is_reserved(addr) && addr.port() != 0).collect();
        if !list.iter().take(PROBES_MAX).eq(self.probes.iter().map(|(addr, _)| addr)) {
            self.probes = list.into_iter().take(PROBES_MAX).map(|addr| (addr, false)).collect();
        }
    }

    pub(super) const fn nat(&self) -> Nat {
        self.nat
    }

    pub(super) fn is_probe(&self, addr: SocketAddr) -> bool {
        self.probes.iter().any(|(probe, _)| *probe == addr)
    }

    /// When something is to be done.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.list.iter().map(|run| run.due).min()
    }
}
