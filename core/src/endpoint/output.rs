//! Owns the output of an endpoint: events, batches, and the description of a peer.

use super::directory::{DirectoryState, Warning};
use crate::control::{Answer, Call, Ticket};
use crate::extensions::Extensions;
use crate::identity::{IdentityKey, NodeRecord};
use crate::inner::{PeerId, ResetReason};
use crate::link::LinkStats;
use crate::path::{Nat, Outlook, Path, PathAddr, PathReason, Source};
use crate::time::{Duration, Instant};
use crate::trace::{Trace, TraceQueue, TrustStep};
use crate::trust::{Outcome, TrustVersion};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// News for the owner of the endpoint.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session with the peer exists.
    Up(PeerId),
    /// Everything in flight to and from the peer is lost.
    Reset(PeerId, ResetReason),
    /// The rendezvous does not have the peer connected, and it does not answer. What stands waits for it; what has no answer yet
    /// need not.
    Away(PeerId),
    /// Another path is in use; or, without a change of the path, another datagram size.
    PathChanged(PeerId, Option<PathChange>),
    /// A stranger or the rendezvous has shown its record.
    Introduced(PeerId, Box<NodeRecord>),
    /// A message of another node changed trust.
    Trust(Outcome),
    /// This node grants the peer other ports than before: streams on ports that are not granted any more must end.
    Regranted(PeerId),
    /// Trust has changed: put [`Endpoint::trust`](super::Endpoint::trust) on disk, then call
    /// [`Endpoint::trust_saved`](super::Endpoint::trust_saved) with the version that the book had.
    SaveTrust(TrustVersion),
    /// Put this number on disk for [`Config::used_us`](super::Config::used_us) of the next start; no sync is needed at once.
    /// Once in an hour, and after a step of the clock.
    SaveTimes(u64),
    /// A stranger asks something (rendezvous only).
    Call(PeerId, Ticket, Call, Extensions),
    /// The answer to a call of ours; `None` when there was none in time.
    Answer(Ticket, Option<Answer>),
    /// The rendezvous connection changed.
    Directory(DirectoryState),
    /// The rendezvous told what the owner should know.
    Warning(Warning),
}

/// A change of the path in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// The path that was in use.
    pub from: PathAddr,
    /// The path that is.
    pub to: PathAddr,
    /// Why.
    pub why: PathReason,
}

/// One batch to be sent: the datagrams lie one behind the other in the buffer given to
/// [`Endpoint::poll_transmit`](super::Endpoint::poll_transmit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The socket from which the batch leaves.
    pub source: Source,
    /// Size of each datagram but the last, which may be smaller. Unit: bytes.
    pub segment_len: usize,
}

/// A description of a peer, for `info` and `peers`.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Identity key, once known.
    pub identity: Option<IdentityKey>,
    /// True when data can be sealed now.
    pub up: bool,
    /// Age of the session.
    pub session_age: Option<Duration>,
    /// The path in use.
    pub path: Option<PathAddr>,
    /// When that came into use, and why.
    pub chosen: Option<(Instant, PathReason)>,
    /// All paths.
    pub paths: Vec<Path>,
    /// Why the peer is not reached directly, and when that is tried next.
    pub outlook: Outlook,
    /// An answer of the peer is overdue.
    pub is_overdue: bool,
    /// Datagram size on the path in use. Unit: bytes.
    pub datagram_len: usize,
    /// Smoothed round-trip time.
    pub srtt: Option<Duration>,
    /// Smallest round-trip time seen.
    pub min_rtt: Duration,
    /// Congestion window. Unit: bytes.
    pub window: u64,
    /// In flight. Unit: bytes.
    pub in_flight: u64,
    /// Congestion controller.
    pub controller: &'static str,
    /// Datagrams sent, relay headers included. Unit: bytes.
    pub bytes_sent: u64,
    /// Datagrams received, without relay headers. Unit: bytes.
    pub bytes_received: u64,
    /// Link counters.
    pub link: LinkStats,
    /// When an authentic datagram last came.
    pub last_received: Option<Instant>,
    /// Since when the rendezvous says that it does not have the peer connected; `None` unless a key handshake waits for the peer.
    pub away_since: Option<Instant>,
    /// The peer's NAT, as far as the peer knows.
    pub nat: Nat,
    /// The peer does not hold the pair secret of its pin, as it has said or as a key handshake has shown.
    pub secret_differs: bool,
}

/// Events that wait for the owner, and the trace, in which most of them leave a note as well.
#[derive(Default)]
pub(super) struct Events {
    queue: VecDeque<Event>,
    pub(super) trace: TraceQueue,
}

impl Events {
    pub(super) fn push_back(&mut self, event: Event) {
        if self.trace.is_on()
            && let Some(trace) = trace_of(&event)
        {
            self.trace.keep(trace);
        }
        self.queue.push_back(event);
    }

    pub(super) fn pop_front(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }
}

/// The note of an event; `None` for one that is an application's own affair.
fn trace_of(event: &Event) -> Option<Trace> {
    Some(match event {
        Event::Reset(peer, ResetReason::Restarted) => Trace::PeerRestarted { peer: *peer },
        Event::Reset(peer, reason) => Trace::PeerDown { peer: *peer, reason: *reason },
        Event::Directory(DirectoryState::Ready(addr)) => Trace::RendezvousUp { addr: *addr },
        Event::Directory(DirectoryState::Connecting) => Trace::RendezvousDown { refusal: None },
        Event::Directory(DirectoryState::Refused(why)) => Trace::RendezvousDown { refusal: Some(*why) },
        Event::Warning(Warning::NameTaken) => Trace::NameTaken,
        Event::Warning(Warning::Elsewhere(addr)) => Trace::IdentityElsewhere { addr: *addr },
        Event::Warning(Warning::Clock(behind_s)) => {
            Trace::ClockSkew { is_behind: *behind_s > 0, by: Duration::from_secs(behind_s.unsigned_abs()) }
        }
        Event::Trust(outcome) => {
            let (key, step) = match outcome {
                Outcome::Pending(key) => (key, TrustStep::Pending),
                Outcome::Pinned(key) => (key, TrustStep::Pinned),
                Outcome::Rejected(key) => (key, TrustStep::Rejected),
                Outcome::Revoked(key) => (key, TrustStep::Revoked),
                Outcome::Cancelled(key) => (key, TrustStep::Cancelled),
                Outcome::Granted(key) => (key, TrustStep::Granted),
                Outcome::Wished(key) => (key, TrustStep::Wished),
                Outcome::Declined(key) => (key, TrustStep::Declined),
                Outcome::Renamed(key, how) if how.is_refused => (key, TrustStep::NameRefused),
                Outcome::Renamed(key, _) => (key, TrustStep::Renamed),
                Outcome::JoinRefused(key, _) => (key, TrustStep::JoinRefused),
                Outcome::InviteDead(invite) => return Some(Trace::InviteDead { invite: *invite }),
                Outcome::OverUsed(group, invite) => return Some(Trace::OverUsed { group: *group, invite: *invite }),
                Outcome::GroupChanged(_) | Outcome::Discarded(_) => return None,
            };
            Trace::Trust { key: *key, step }
        }
        _ => return None,
    })
}
