//! Owns the trace: typed notes of what an endpoint decides, kept in a bounded queue while a level is set.
//!
//! A note costs nothing while the trace is off: the place that makes it passes a closure, which runs only when the
//! note's level is wanted. Text and structured logs are written from [`Trace::name`] and [`Trace::visit`] without
//! parsing anything.

use crate::addr::Addr;
use crate::control::Refusal;
use crate::discard::Discard;
use crate::group::GroupId;
use crate::identity::IdentityKey;
use crate::inner::{PeerId, ResetReason};
use crate::invite::InviteId;
use crate::path::{PathAddr, PathReason};
use crate::time::Duration;
use alloc::collections::VecDeque;
use core::fmt;
use core::net::SocketAddr;

/// Most notes that wait to be read. Later ones are lost and counted.
pub const TRACES_MAX: usize = 1024;
/// Most notes of ignored datagrams among them: strangers cause these, and must not push other notes out.
pub const DISCARDS_MAX: usize = 64;

/// How much a note matters; a level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something does not work and needs its owner.
    Error = 1,
    /// Something does not work now; the machine goes on trying.
    Warn,
    /// Peers and the rendezvous come and go; trust changes.
    Info,
    /// Single steps and decisions: key handshakes, paths, ignored datagrams.
    Debug,
}

impl Level {
    const ALL: [(Self, &str); 4] =
        [(Self::Error, "error"), (Self::Warn, "warn"), (Self::Info, "info"), (Self::Debug, "debug")];

    /// Its name in logs and on command lines.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize - 1].1
    }
}

/// A word that names no [`Level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotALevel;

impl fmt::Display for NotALevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a level is error, warn, info or debug")
    }
}

impl core::error::Error for NotALevel {}

impl core::str::FromStr for Level {
    type Err = NotALevel;

    fn from_str(text: &str) -> Result<Self, NotALevel> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(level, _)| *level).ok_or(NotALevel)
    }
}

/// How far a key handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeStep {
    /// This endpoint sends an INIT, the first one or a repeated one.
    Started,
    /// This endpoint answers a peer's INIT.
    Answered,
    /// The peer's RESP has arrived.
    Finished,
    /// No answer came in the time allowed.
    Failed,
    /// This endpoint offers a key for a KEM secret.
    KemOffered,
    /// This endpoint answers a peer's key.
    KemAnswered,
    /// The answer to this endpoint's key has arrived.
    KemFinished,
}

impl HandshakeStep {
    /// Its name in logs: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Answered => "answered",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::KemOffered => "kem_offered",
            Self::KemAnswered => "kem_answered",
            Self::KemFinished => "kem_finished",
        }
    }
}

/// What a trust message, or the owner, changed about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustStep {
    /// A request waits for the owner.
    Pending,
    /// The key is trusted now.
    Pinned,
    /// A request to the key was declined.
    Rejected,
    /// The key is not trusted any more.
    Revoked,
    /// The key's owner has taken back a request.
    Cancelled,
    /// The key's owner has changed what this node may reach.
    Granted,
    /// The key's owner asks for more ports.
    Wished,
    /// The key's owner grants none of the ports that it was asked for.
    Declined,
    /// The key's owner has another name.
    Renamed,
    /// The key's owner wants the name of another trusted peer, and is called by its address instead.
    NameRefused,
    /// The key's owner has invited this node and does not take it any more.
    JoinRefused,
}

impl TrustStep {
    /// Its name in logs: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Cancelled => "cancelled",
            Self::Pinned => "pinned",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
            Self::Granted => "granted_to_us",
            Self::Wished => "asks_for_ports",
            Self::Declined => "ports_declined",
            Self::Renamed => "renamed",
            Self::NameRefused => "name_refused",
            Self::JoinRefused => "join_refused",
        }
    }
}

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trace {
    /// A tunnel with the peer exists.
    PeerUp {
        /// The peer.
        peer: PeerId,
        /// The path in use.
        path: Option<PathAddr>,
    },
    /// The tunnel with the peer is gone, and everything in flight with it.
    PeerDown {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: ResetReason,
    },
    /// The peer is another process than before; everything in flight is lost.
    PeerRestarted {
        /// The peer.
        peer: PeerId,
    },
    /// A key handshake went one step.
    Handshake {
        /// The peer.
        peer: PeerId,
        /// The step.
        step: HandshakeStep,
    },
    /// Data goes another way from now on.
    PathChosen {
        /// The peer.
        peer: PeerId,
        /// The path before, if any.
        from: Option<PathAddr>,
        /// The path from now on.
        to: PathAddr,
        /// Why.
        why: PathReason,
    },
    /// The path in use gives no answer.
    PathSilent {
        /// The peer.
        peer: PeerId,
        /// The path.
        path: PathAddr,
    },
    /// Larger datagrams, or only smaller ones, fit the path in use.
    PathSize {
        /// The peer.
        peer: PeerId,
        /// Largest datagram. Unit: bytes.
        len: usize,
    },
    /// A stream or datagram of the peer was refused.
    Refused {
        /// The peer.
        peer: PeerId,
        /// The virtual port it asked for.
        port: u16,
        /// A stable word in snake_case.
        reason: &'static str,
    },
    /// A datagram had no effect.
    Discarded {
        /// Its underlay sender.
        from: SocketAddr,
        /// Why.
        reason: Discard,
    },
    /// Trust in a key changed.
    Trust {
        /// The key.
        key: IdentityKey,
        /// The change.
        step: TrustStep,
    },
    /// This node is registered with the rendezvous.
    RendezvousUp {
        /// The address it is registered under.
        addr: Addr,
    },
    /// The rendezvous cannot be used.
    RendezvousDown {
        /// Its refusal; `None` when it does not answer.
        refusal: Option<Refusal>,
    },
    /// The hostname of this node belongs to another one.
    NameTaken,
    /// Another process has the identity of this node.
    IdentityElsewhere {
        /// Where the rendezvous sees that process.
        addr: SocketAddr,
    },
    /// So many wrong codes came that an invite of this node is dead.
    InviteDead {
        /// The invite.
        invite: InviteId,
    },
    /// More nodes have enrolled by a code of a group than may.
    OverUsed {
        /// The group.
        group: GroupId,
        /// The number of the enrolment.
        invite: InviteId,
    },
    /// The wall clock is not the rendezvous'.
    ClockSkew {
        /// Behind it, or ahead of it.
        is_behind: bool,
        /// By how much.
        by: Duration,
    },
    /// The wall clock was set to another time.
    ClockStep {
        /// True when it went forwards.
        forwards: bool,
        /// By how much.
        by: Duration,
    },
}

/// The value of one field of a note.
pub enum Field<'a> {
    /// A stable word in snake_case.
    Word(&'static str),
    /// A number.
    Number(u64),
    /// Anything with a text form.
    Text(&'a dyn fmt::Display),
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

impl Trace {
    /// How much it matters.
    pub const fn level(&self) -> Level {
        match self {
            Self::RendezvousDown { refusal: Some(_) } => Level::Error,
            Self::RendezvousDown { refusal: None }
            | Self::PeerDown {
                reason: ResetReason::Unreachable | ResetReason::SecretDiffers | ResetReason::TooNarrow,
                ..
            }
            | Self::Refused { .. }
            | Self::Trust { step: TrustStep::NameRefused | TrustStep::JoinRefused, .. }
            | Self::InviteDead { .. }
            | Self::OverUsed { .. }
            | Self::NameTaken
            | Self::IdentityElsewhere { .. }
            | Self::ClockSkew { .. }
            | Self::ClockStep { .. } => Level::Warn,
            Self::PeerUp { .. }
            | Self::PeerDown { .. }
            | Self::PeerRestarted { .. }
            | Self::PathChosen { from: Some(_), .. }
            | Self::Discarded { reason: Discard::Stranger | Discard::WrongIdentity, .. }
            | Self::Trust { .. }
            | Self::RendezvousUp { .. } => Level::Info,
            Self::Handshake { .. }
            | Self::PathChosen { .. }
            | Self::PathSilent { .. }
            | Self::PathSize { .. }
            | Self::Discarded { .. } => Level::Debug,
        }
    }

    /// Its kind: a stable word in snake_case.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PeerUp { .. } => "peer_up",
            Self::PeerDown { .. } => "peer_down",
            Self::PeerRestarted { .. } => "peer_restarted",
            Self::Handshake { .. } => "handshake",
            Self::PathChosen { .. } => "path_chosen",
            Self::PathSilent { .. } => "path_silent",
            Self::PathSize { .. } => "path_size",
            Self::Refused { .. } => "refused",
            Self::Discarded { .. } => "discarded",
            Self::Trust { .. } => "trust",
            Self::RendezvousUp { .. } => "rendezvous_up",
            Self::RendezvousDown { .. } => "rendezvous_down",
            Self::NameTaken => "name_taken",
            Self::IdentityElsewhere { .. } => "identity_elsewhere",
            Self::InviteDead { .. } => "invite_dead",
            Self::OverUsed { .. } => "over_used",
            Self::ClockSkew { .. } => "clock_skew",
            Self::ClockStep { .. } => "clock_step",
        }
    }

    /// The peer that it is about, if it is about one.
    pub const fn peer(&self) -> Option<PeerId> {
        match self {
            Self::PeerUp { peer, .. }
            | Self::PeerDown { peer, .. }
            | Self::PeerRestarted { peer }
            | Self::Handshake { peer, .. }
            | Self::PathChosen { peer, .. }
            | Self::PathSilent { peer, .. }
            | Self::PathSize { peer, .. }
            | Self::Refused { peer, .. } => Some(*peer),
            Self::Discarded { .. }
            | Self::Trust { .. }
            | Self::RendezvousUp { .. }
            | Self::RendezvousDown { .. }
            | Self::NameTaken
            | Self::IdentityElsewhere { .. }
            | Self::InviteDead { .. }
            | Self::OverUsed { .. }
            | Self::ClockSkew { .. }
            | Self::ClockStep { .. } => None,
        }
    }

    /// Calls `visit` with the key and value of each field, in a fixed order; keys are stable words in snake_case.
    pub fn visit(&self, visit: &mut dyn FnMut(&'static str, Field<'_>)) {
        if let Some(PeerId(peer)) = self.peer() {
            visit("peer", Field::Number(peer.into()));
        }
        match self {
            Self::PeerRestarted { .. } | Self::NameTaken => {}
            Self::PeerUp { path, .. } => {
                if let Some(path) = path {
                    visit("path", Field::Text(path));
                }
            }
            Self::PeerDown { reason, .. } => visit("reason", Field::Word(reason.name())),
            Self::Handshake { step, .. } => visit("step", Field::Word(step.name())),
            Self::PathChosen { from, to, why, .. } => {
                if let Some(from) = from {
                    visit("from", Field::Text(from));
                }
                visit("to", Field::Text(to));
                visit("why", Field::Word(why.name()));
            }
            Self::PathSilent { path, .. } => visit("path", Field::Text(path)),
            Self::PathSize { len, .. } => visit("len", Field::Number(*len as u64)),
            Self::Refused { port, reason, .. } => {
                visit("port", Field::Number((*port).into()));
                visit("reason", Field::Word(reason));
            }
            Self::Discarded { from, reason } => {
                visit("from", Field::Text(from));
                visit("reason", Field::Word(reason.name()));
            }
            Self::Trust { key, step } => {
                visit("key", Field::Text(key));
                visit("step", Field::Word(step.name()));
            }
            Self::IdentityElsewhere { addr } => visit("addr", Field::Text(addr)),
            Self::InviteDead { invite } => visit("invite", Field::Text(invite)),
            Self::OverUsed { group, invite } => {
                visit("group", Field::Text(group));
                visit("invite", Field::Text(invite));
            }
            Self::RendezvousUp { addr } => visit("addr", Field::Text(addr)),
            Self::RendezvousDown { refusal } => {
                visit("reason", Field::Word(refusal.map_or("unreachable", refusal_name)))
            }
            Self::ClockSkew { is_behind, by } => {
                visit("direction", Field::Word(if *is_behind { "behind" } else { "ahead" }));
                visit("by_s", Field::Number(by.as_secs()));
            }
            Self::ClockStep { forwards, by } => {
                visit("direction", Field::Word(if *forwards { "forwards" } else { "backwards" }));
                visit("by_ms", Field::Number(by.as_millis() as u64));
            }
        }
    }
}

/// `name key=value key=value`. Values with spaces stand in quotes.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = f.write_str(self.name());
        self.visit(&mut |key, value| {
            let quote = if matches!(value, Field::Text(_)) { "\"" } else { "" };
            result = result.and_then(|()| write!(f, " {key}={quote}{value}{quote}"));
        });
        result
    }
}

const fn refusal_name(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotFound => "not_found",
        Refusal::NameTaken => "name_taken",
        Refusal::BadRecord => "bad_record",
        Refusal::TooMany => "too_many",
        Refusal::Full => "full",
        Refusal::NotRegistered => "not_registered",
        Refusal::Storage => "storage",
        Refusal::Unsupported => "unsupported",
        Refusal::Mismatch => "mismatch",
        Refusal::Later(_) => "later",
    }
}

/// The notes that wait to be read.
#[derive(Default)]
pub(crate) struct TraceQueue {
    /// The least important level wanted; 0 is off.
    threshold: u8,
    queue: VecDeque<Trace>,
    /// Notes of ignored datagrams in the queue.
    discards: usize,
    lost: u64,
}

impl TraceQueue {
    /// Keeps notes up to `level` from now on. `None` turns the trace off and forgets what waits.
    pub(crate) fn set_level(&mut self, level: Option<Level>) {
        self.threshold = level.map_or(0, |level| level as u8);
        if level.is_none() {
            (self.queue, self.discards) = (VecDeque::new(), 0);
        }
    }

    /// True when notes of this level are kept. One comparison.
    pub(crate) const fn wants(&self, level: Level) -> bool {
        level as u8 <= self.threshold
    }

    /// Keeps the note that `make` gives when its level, at most as important as `level`, is wanted.
    pub(crate) fn push(&mut self, level: Level, make: impl FnOnce() -> Trace) {
        if self.wants(level) {
            self.keep(make());
        }
    }

    /// True when notes of some level are kept.
    pub(crate) const fn is_on(&self) -> bool {
        self.threshold > 0
    }

    /// Keeps a note if its own level is wanted.
    #[cold]
    pub(crate) fn keep(&mut self, trace: Trace) {
        if !self.wants(trace.level()) {
            return;
        }
        let is_discard = matches!(trace, Trace::Discarded { .. });
        if self.queue.len() < TRACES_MAX && (!is_discard || self.discards < DISCARDS_MAX) {
            self.queue.push_back(trace);
            self.discards += usize::from(is_discard);
        } else {
            self.lost += 1;
        }
        debug_assert!(self.queue.len() <= TRACES_MAX, "the queue is bounded");
    }

    pub(crate) fn pop(&mut self) -> Option<Trace> {
        let trace = self.queue.pop_front()?;
        self.discards -= usize::from(matches!(trace, Trace::Discarded { .. }));
        debug_assert!(!self.queue.is_empty() || self.discards == 0, "an empty queue holds no discards");
        Some(trace)
    }

    /// Notes that found the queue full.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn discarded() -> Trace {
        let from = SocketAddr::from(([192, 0, 2, 1], 4000));
        Trace::Discarded { from, reason: Discard::Mac1 }
    }

    #[test]
    fn nothing_is_made_while_the_trace_is_off() {
        let mut queue = TraceQueue::default();
        queue.push(Level::Error, || unreachable!("the trace is off"));
        queue.set_level(Some(Level::Info));
        queue.push(Level::Debug, || unreachable!("only more important notes are wanted"));
        queue.push(Level::Info, || Trace::PeerRestarted { peer: PeerId(7) });
        assert_eq!(queue.pop(), Some(Trace::PeerRestarted { peer: PeerId(7) }));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let mut queue = TraceQueue::default();
        queue.set_level(Some(Level::Debug));
        let restarted = || Trace::PeerRestarted { peer: PeerId(7) };
        (0..TRACES_MAX + 3).for_each(|_| queue.push(Level::Debug, restarted));
        assert_eq!((queue.queue.len(), queue.lost()), (TRACES_MAX, 3));
        queue.set_level(None);
        assert_eq!(queue.pop(), None, "notes without a reader are not kept");
    }

    #[test]
    fn ignored_datagrams_leave_room_for_other_notes() {
        let mut queue = TraceQueue::default();
        queue.set_level(Some(Level::Debug));
        (0..TRACES_MAX).for_each(|_| queue.push(Level::Debug, discarded));
        queue.push(Level::Info, || Trace::PeerRestarted { peer: PeerId(7) });
        assert_eq!((queue.queue.len(), queue.lost()), (DISCARDS_MAX + 1, (TRACES_MAX - DISCARDS_MAX) as u64));
        assert_eq!(core::iter::from_fn(|| queue.pop()).last(), Some(Trace::PeerRestarted { peer: PeerId(7) }));
        queue.push(Level::Debug, discarded);
        assert_eq!(queue.pop(), Some(discarded()), "there is room again");
    }

    #[test]
    fn levels_have_names() {
        for (level, name) in Level::ALL {
            assert_eq!((level.name(), name.parse()), (name, Ok(level)));
        }
        assert_eq!("loud".parse::<Level>(), Err(NotALevel));
    }

    #[test]
    fn a_note_is_a_name_and_fields() {
        assert_eq!(discarded().to_string(), "discarded from=\"192.0.2.1:4000\" reason=mac1");
        let (from, to) = (
            Some(PathAddr::Relay(crate::wire::Channel(7))),
            PathAddr::Direct(SocketAddr::from(([192, 0, 2, 1], 4000))),
        );
        let chosen = Trace::PathChosen { peer: PeerId(3), from, to, why: PathReason::Answered };
        let text = "path_chosen peer=3 from=\"relay channel 00000007\" to=\"direct 192.0.2.1:4000\" why=answered";
        assert_eq!(chosen.to_string(), text);
        let refused = Trace::Refused { peer: PeerId(3), port: 80, reason: "no_listener" };
        assert_eq!(refused.to_string(), "refused peer=3 port=80 reason=no_listener");
    }
}
