//! Owns a key handshake that this side began: when its INIT is repeated, which answers count, and when it is given up.

use crate::inner::ResetReason;
use crate::path::PathAddr;
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::tunnel::handshake::{Cookie, Pending};
use crate::tunnel::{COOKIE_WAIT_MAX, COOKIE_WAIT_MIN, GIVE_UP_AFTER, INIT_RESEND};
use crate::wire::LocalIndex;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// How long a key handshake is tried after the rendezvous has said that the peer is not connected.
const AWAY_AFTER: Duration = Duration::from_secs(3);
/// How long streams that stand wait for a silent peer, whatever the rendezvous says of it, since the peer was last heard. Source:
/// own choice; an absence of a minute, and the pause before the next INIT, are survived, and after 90 s the owner knows.
pub(super) const VANISHED_AFTER: Duration = Duration::from_secs(85);
/// The least time that they wait after the first INIT, as when this machine slept. Source: own choice.
const VANISHED_TRY: Duration = Duration::from_secs(10);
/// Most that is added to the pause before an INIT is repeated, so that two ends do not repeat theirs at the same time
/// for ever. Unit: ms. Source: WireGuard's third of a second.
const RESEND_JITTER_MS: u64 = 333;
/// INITs of one key handshake of which an answer counts: what answers the first one may take longer than the pause after it. Source:
/// the pauses after three INITs are 7 s together, a longer round trip than any network's.
pub(super) const INITS_MAX: usize = 3;
/// How long the answer to a greeting may take. Source: own choice, as for [`INITS_MAX`].
const GREETING_LASTS: Duration = Duration::from_secs(7);

/// An INIT, what is needed to read its answer, and when it left.
struct Asked {
    pending: Pending,
    sent_at: Instant,
    /// When the INIT left over the relay, if that was after `sent_at`.
    relayed_at: Option<Instant>,
}

/// A key handshake that waits for the peer's RESP.
pub(crate) struct Handshake {
    /// The INIT that was sent last.
    newest: Box<Asked>,
    /// Those before it, of which the oldest comes first.
    #[expect(clippy::vec_box, reason = "secrets that do not move leave no copy behind")]
    earlier: Vec<Box<Asked>>,
    started: Instant,
    /// The INIT has gone along with the question for a relay.
    has_gone_along: bool,
    /// INITs sent.
    attempts: usize,
    resend_at: Instant,
    /// Since when the rendezvous says that it does not have the peer connected.
    away_since: Option<Instant>,
    /// When the streams that had no answer then were told that the peer is away.
    told_away_at: Option<Instant>,
    /// When the peer was last heard in the tunnel that stood when the key handshake began.
    heard: Option<Instant>,
    /// The newest cookie of the peer, for the next INITs.
    cookie: Option<Cookie>,
    /// The INIT that was sent last has been answered with a cookie.
    has_new_cookie: bool,
    /// The peer holds another KEM secret than this side, or none that fits: the INITs say that this side holds none.
    without_kem: bool,
    /// A RESP came that even the pair secret alone does not open.
    is_refused: bool,
    /// Nothing waits for it: its one INIT is not repeated, and its end is told to nothing.
    is_greeting: bool,
}

impl Handshake {
    /// A key handshake with the INIT `pending`; `before` is its state with the INIT before that one. `heard`: when the peer was
    /// last heard in a tunnel that stands; only for the first INIT.
    pub(super) fn new(
        now: Instant,
        pending: Pending,
        before: Option<&Self>,
        heard: Option<Instant>,
        rng: &mut Rng,
    ) -> Self {
        let attempts = before.map_or(0, |before| before.attempts);
        let heard = before.map_or(heard, |before| before.heard);
        let away_since = before.and_then(|before| before.away_since);
        let pause = match away_since {
            // There is little time, and the peer may come at any moment.
            Some(_) if heard.is_none() => INIT_RESEND[0],
            _ => INIT_RESEND[attempts.min(INIT_RESEND.len() - 1)],
        };
        Self {
            newest: Box::new(Asked { pending, sent_at: now, relayed_at: None }),
            earlier: Vec::new(),
            started: before.map_or(now, |before| before.started),
            has_gone_along: false,
            attempts: attempts + 1,
            resend_at: now + pause + Duration::from_millis(rng.below(RESEND_JITTER_MS)),
            away_since,
            told_away_at: before.and_then(|before| before.told_away_at),
            heard,
            cookie: before.and_then(|before| before.cookie),
            has_new_cookie: false,
            without_kem: before.is_some_and(|before| before.without_kem),
            is_refused: before.is_some_and(|before| before.is_refused),
            is_greeting: false,
        }
    }

    /// Takes the place of `before`, the key handshake with the INIT before this one, whose answers still count.
    pub(super) fn follow(&mut self, before: Self) {
        self.earlier = before.earlier;
        self.earlier.push(before.newest);
        self.earlier.drain(..self.earlier.len().saturating_sub(INITS_MAX - 1));
    }

    /// The INIT that was sent last, and what is needed to read its answer.
    pub(crate) const fn pending(&self) -> &Pending {
        &self.newest.pending
    }

    /// The INITs of which an answer counts; the newest comes last.
    fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.earlier.iter().chain([&self.newest]).map(|asked| &**asked)
    }

    /// The INIT that a RESP to our index `local` answers, and what is needed to read that.
    pub(super) fn pending_at(&self, local: LocalIndex) -> Option<&Pending> {
        self.asked().map(|asked| &asked.pending).find(|pending| pending.local_index == local)
    }

    /// Our indexes under which the peer may answer.
    pub(super) fn indexes(&self) -> impl Iterator<Item = LocalIndex> + '_ {
        self.asked().map(|asked| asked.pending.local_index)
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

    /// A RESP to our index `local` came that no secret of this side opens. If the KEM secrets of the two sides differ, as after a
    /// restored disk, the pair secret alone still fits: the next INIT leaves at once, without the word that a KEM secret is held.
    /// Once: a RESP that was forged costs no more than that.
    pub(super) fn on_refused(&mut self, now: Instant, local: LocalIndex) {
        if self.pending_at(local).is_some_and(|pending| !pending.offers_kem()) {
            self.is_refused = true; // even the pair secret alone does not fit
        } else if !core::mem::replace(&mut self.without_kem, true) {
            self.resend_at = now;
        }
    }

    /// Notes whether nothing waits for this key handshake.
    pub(super) const fn set_greeting(&mut self, is_greeting: bool) {
        self.is_greeting = is_greeting;
    }

    /// True when nothing waits for this key handshake.
    pub(super) const fn is_greeting(&self) -> bool {
        self.is_greeting
    }

    /// True while only one INIT was sent.
    pub(super) const fn is_first_attempt(&self) -> bool {
        self.attempts == 1
    }

    /// When the first INIT left.
    pub(super) const fn started(&self) -> Instant {
        self.started
    }

    /// When the INIT is to be repeated, unless it is a greeting.
    pub(super) const fn resend_at(&self) -> Instant {
        self.resend_at
    }

    /// When no answer is expected any more; `in_use`: streams wait for it. What the rendezvous says ends no stream that stands.
    pub(super) fn give_up_at(&self, in_use: bool) -> Instant {
        match (self.heard.filter(|_| in_use), self.away_since) {
            _ if self.is_greeting => self.started + GREETING_LASTS,
            _ if self.is_refused => self.started + AWAY_AFTER,
            (Some(heard), _) => (heard + VANISHED_AFTER).max(self.started + VANISHED_TRY),
            (None, Some(since)) => since + AWAY_AFTER,
            (None, None) => self.started + GIVE_UP_AFTER,
        }
    }

    /// When the streams without an answer are told that the peer is away, although others stand and wait; again and again, since
    /// new ones may come.
    pub(super) fn tell_away_at(&self) -> Option<Instant> {
        let since = self.away_since.filter(|_| self.heard.is_some())?;
        Some(self.told_away_at.unwrap_or(since) + AWAY_AFTER)
    }

    /// Notes that they are told.
    pub(super) const fn note_told_away(&mut self, now: Instant) {
        self.told_away_at = Some(now);
    }

    /// What the streams to the peer end with when the key handshake is given up; `None` for a greeting, which ends nothing:
    /// streams that have come meanwhile begin another.
    pub(super) const fn give_up_reason(&self) -> Option<ResetReason> {
        match self.away_since {
            _ if self.is_greeting => None,
            _ if self.is_refused => Some(ResetReason::SecretDiffers),
            None => Some(ResetReason::Unreachable),
            Some(_) => Some(ResetReason::Away),
        }
    }

    /// Since when the rendezvous says that it does not have the peer connected.
    pub(super) const fn away_since(&self) -> Option<Instant> {
        self.away_since
    }

    /// Notes whether the rendezvous has the peer connected.
    pub(super) fn set_away(&mut self, now: Instant, away: bool) {
        match away {
            true => _ = self.away_since.get_or_insert(now),
            false => (self.away_since, self.told_away_at) = (None, None),
        }
    }

    /// Notes that the INIT leaves over the relay as well.
    pub(super) fn on_relayed(&mut self, now: Instant) {
        // The channel of an earlier tunnel mostly stands, so that the first one is answered, also when it goes again.
        self.newest.relayed_at.get_or_insert(now);
    }

    /// The INIT that has left over the relay is lost with its channel, and is answered when it goes again; one that went along with the
    /// question for the channel is not.
    pub(super) fn on_channel_lost(&mut self) {
        self.newest.relayed_at.take_if(|_| !self.has_gone_along);
    }

    /// The INIT, once, to go along with the question for a relay, unless it has left over one that stands.
    pub(super) fn go_along(&mut self, now: Instant, stands: bool) -> Option<&[u8]> {
        if self.has_gone_along || (stands && self.newest.relayed_at.is_some()) {
            return None;
        }
        self.has_gone_along = true;
        self.newest.relayed_at.get_or_insert(now);
        Some(&self.newest.pending.datagram)
    }

    /// The rendezvous has answered whether it passed on an INIT that went along. False when the present one is still to leave.
    pub(super) fn has_arrived_along(&mut self, is_passed_on: bool) -> bool {
        self.newest.relayed_at.take_if(|_| self.has_gone_along && !is_passed_on);
        self.has_gone_along && is_passed_on
    }

    /// The round trip that an answer from `from` at `now` to our index `local` shows.
    pub(super) fn round_trip(&self, now: Instant, from: PathAddr, local: LocalIndex) -> Duration {
        let is_it = |asked: &&Asked| asked.pending.local_index == local;
        let Asked { sent_at, relayed_at, .. } = self.asked().find(is_it).unwrap_or(&*self.newest);
        now.since(relayed_at.filter(|_| !from.is_direct()).unwrap_or(*sent_at))
    }
}
