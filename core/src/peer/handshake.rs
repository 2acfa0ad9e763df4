//! Owns a key handshake that this side began: when its INIT is repeated, and when it is given up.

use crate::inner::ResetReason;
use crate::path::PathAddr;
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::tunnel::handshake::{Cookie, Pending};
use crate::tunnel::{COOKIE_WAIT_MAX, COOKIE_WAIT_MIN, GIVE_UP_AFTER, INIT_RESEND};

/// How long a key handshake is tried when the rendezvous says that the peer is not connected.
const AWAY_AFTER: Duration = Duration::from_secs(3);
/// Most that is added to the pause before an INIT is repeated, so that two ends do not repeat theirs at the same time
/// for ever. Unit: ms. Source: WireGuard's third of a second.
const RESEND_JITTER_MS: u64 = 333;

/// What the rendezvous has said of the peer since the key handshake began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Nothing that speaks against an answer.
    Likely,
    /// It does not have the peer connected.
    Away,
}

/// A key handshake that waits for the peer's RESP.
pub(crate) struct Handshake {
    pending: Pending,
    started: Instant,
    sent_at: Instant,
    /// When the INIT left over the relay, if that was after `sent_at`.
    relayed_at: Option<Instant>,
    /// INITs sent.
    attempts: usize,
    resend_at: Instant,
    presence: Presence,
    /// The newest cookie of the peer, for the next INITs.
    cookie: Option<Cookie>,
    /// The INIT that was sent last has been answered with a cookie.
    has_new_cookie: bool,
    /// The peer holds another KEM secret than this side, or none that fits: the INITs say that this side holds none.
    without_kem: bool,
    /// A RESP came that even the pair secret alone does not open.
    is_refused: bool,
}

impl Handshake {
    /// A key handshake with the INIT `pending`; `before` is its state with the INIT before that one.
    pub(super) fn new(now: Instant, pending: Pending, before: Option<&Self>, rng: &mut Rng) -> Self {
        let attempts = before.map_or(0, |before| before.attempts);
        let presence = before.map_or(Presence::Likely, |before| before.presence);
        let pause = match presence {
            Presence::Likely => INIT_RESEND[attempts.min(INIT_RESEND.len() - 1)],
            Presence::Away => INIT_RESEND[0], // there is little time, and the peer may come at any moment
        };
        Self {
            pending,
            started: before.map_or(now, |before| before.started),
            sent_at: now,
            relayed_at: None,
            attempts: attempts + 1,
            resend_at: now + pause + Duration::from_millis(rng.below(RESEND_JITTER_MS)),
            presence,
            cookie: before.and_then(|before| before.cookie),
            has_new_cookie: false,
            without_kem: before.is_some_and(|before| before.without_kem),
            is_refused: before.is_some_and(|before| before.is_refused),
        }
    }

    /// The INIT that was sent last, and what is needed to read its answer.
    pub(crate) const fn pending(&self) -> &Pending {
        &self.pending
    }

    /// The newest cookie of the peer.
    pub(crate) const fn cookie(&self) -> Option<Cookie> {
        self.cookie
    }

    /// Takes a cookie of the peer and the wait that it asks for: the next INIT carries the cookie. Up to a quarter more is
    /// waited, so that not all senders come back at once. A second cookie for one INIT says nothing new.
    pub(super) fn on_cookie(&mut self, now: Instant, (cookie, wait): (Cookie, Duration), rng: &mut Rng) {
        if !core::mem::replace(&mut self.has_new_cookie, true) {
            let wait = wait.clamp(COOKIE_WAIT_MIN, COOKIE_WAIT_MAX);
            self.cookie = Some(cookie);
            self.resend_at = now + wait + Duration::from_micros(rng.below(wait.as_micros() as u64 / 4));
        }
    }

    /// True when the INITs say that this side holds no KEM secret, whether or not it does.
    pub(crate) const fn does_without_kem(&self) -> bool {
        self.without_kem
    }

    /// A RESP came that no secret of this side opens. If the KEM secrets of the two sides differ, as after a restored disk,
    /// the pair secret alone still fits: the next INIT leaves at once, without the word that a KEM secret is held. Once: a
    /// RESP that was forged costs no more than that.
    pub(super) fn on_refused(&mut self, now: Instant) {
        if !self.pending.offers_kem() {
            self.is_refused = true; // even the pair secret alone does not fit
        } else if !core::mem::replace(&mut self.without_kem, true) {
            self.resend_at = now;
        }
    }

    /// True while only one INIT was sent.
    pub(super) const fn is_first_attempt(&self) -> bool {
        self.attempts == 1
    }

    /// When the INIT is to be repeated.
    pub(super) const fn resend_at(&self) -> Instant {
        self.resend_at
    }

    /// When no answer is expected any more.
    pub(super) fn give_up_at(&self) -> Instant {
        match self.presence {
            Presence::Likely if !self.is_refused => self.started + GIVE_UP_AFTER,
            _ => self.started + AWAY_AFTER,
        }
    }

    /// What the streams to the peer end with when the key handshake is given up.
    pub(super) const fn give_up_reason(&self) -> ResetReason {
        match self.presence {
            _ if self.is_refused => ResetReason::SecretDiffers,
            Presence::Likely => ResetReason::Unreachable,
            Presence::Away => ResetReason::Away,
        }
    }

    /// Notes whether the rendezvous has the peer connected.
    pub(super) const fn set_away(&mut self, away: bool) {
        self.presence = if away { Presence::Away } else { Presence::Likely };
    }

    /// Notes that the INIT leaves over the relay as well.
    pub(super) const fn on_relayed(&mut self, now: Instant) {
        self.relayed_at = Some(now); // too short a round trip at worst, which costs a probe too many
    }

    /// The round trip that an answer from `from` at `now` shows.
    pub(super) fn round_trip(&self, now: Instant, from: PathAddr) -> Duration {
        let relayed_at = self.relayed_at.filter(|_| !from.is_direct());
        now.since(relayed_at.unwrap_or(self.sent_at))
    }
}
