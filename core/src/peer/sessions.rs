//! Owns the states of a tunnel: which keys exist, and whether a key handshake of this side is under way.
//!
//! | state | keys | key handshake of this side | left by |
//! |---|---|---|---|
//! | `Down` | none | none | `move_to_handshake`, `move_to_up` |
//! | `Connecting` | none | waits for the RESP | `move_to_up`, `end_handshake` |
//! | `Up` | current, for a while previous | none | `move_to_handshake`, age |
//! | `Renewing` | current, for a while previous | waits for the RESP | `move_to_up`, `end_handshake`, age |
//!
//! `move_to_down` leads from everywhere to `Down`.
//!
//! An INIT of the peer changes no state: its session waits in `next` until a datagram opens under it, which proves that
//! the initiator has the keys as well; then it moves the tunnel up. Sessions of the INITs before it wait beside it, since the peer
//! repeats its INIT before the answer has come where the round trip is long, and uses the answer that comes first.

use super::handshake::{Handshake, INITS_MAX};
use crate::time::{Duration, Instant, earliest};
use crate::timer::{PeerTimer, Soonest};
use crate::tunnel::handshake::Incarnation;
use crate::tunnel::session::{Session, Side};
use crate::wire::LocalIndex;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The sessions that a tunnel in use has.
struct Keys {
    /// Seals and opens.
    current: Box<Session>,
    /// Opens what was on its way when `current` took its place.
    previous: Option<Box<Session>>,
}

/// See the module's documentation.
enum State {
    /// There are no keys, and this side asks for none.
    Down,
    /// There are no keys yet; this side's INIT waits for its answer.
    Connecting(Box<Handshake>),
    /// There are keys.
    Up(Keys),
    /// There are keys, and this side's INIT asks for new ones.
    Renewing(Keys, Box<Handshake>),
}

/// How long a peer that began anew takes to use its keys at most: a long round trip. Source: own choice.
const USE_WITHIN: Duration = Duration::from_millis(500);

/// A tunnel's state, and the session that its peer has begun.
pub(super) struct Sessions {
    state: State,
    /// What the peer has begun and not used, of which the newest comes last; [`INITS_MAX`] at most.
    #[expect(clippy::vec_box, reason = "keys that do not move leave no copy behind")]
    next: Vec<Box<Session>>,
    /// Until when no key handshake is begun, since the peer is expected to use `next`.
    expect_use_until: Option<Instant>,
    /// When the keys may be old enough to be erased.
    look_at: Instant,
    /// Counts the changes of what [`Sessions::indexes`] gives.
    version: u32,
}

impl Sessions {
    pub(super) const fn new() -> Self {
        Self { state: State::Down, next: Vec::new(), expect_use_until: None, look_at: Instant::ZERO, version: 0 }
    }

    // Getters.

    const fn keys(&self) -> Option<&Keys> {
        match &self.state {
            State::Down | State::Connecting(_) => None,
            State::Up(keys) | State::Renewing(keys, _) => Some(keys),
        }
    }

    const fn keys_mut(&mut self) -> Option<&mut Keys> {
        match &mut self.state {
            State::Down | State::Connecting(_) => None,
            State::Up(keys) | State::Renewing(keys, _) => Some(keys),
        }
    }

    /// The session that seals. It may be too old to be used.
    pub(super) fn current(&self) -> Option<&Session> {
        self.keys().map(|keys| &*keys.current)
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Session> {
        self.keys_mut().map(|keys| &mut *keys.current)
    }

    pub(super) fn handshake(&self) -> Option<&Handshake> {
        match &self.state {
            State::Down | State::Up(_) => None,
            State::Connecting(handshake) | State::Renewing(_, handshake) => Some(handshake),
        }
    }

    pub(super) fn handshake_mut(&mut self) -> Option<&mut Handshake> {
        match &mut self.state {
            State::Down | State::Up(_) => None,
            State::Connecting(handshake) | State::Renewing(_, handshake) => Some(handshake),
        }
    }

    /// The session with our index `local`.
    pub(super) fn find_mut(&mut self, local: LocalIndex) -> Option<&mut Session> {
        let Self { state, next, .. } = self;
        let keys = match state {
            State::Down | State::Connecting(_) => None,
            State::Up(keys) | State::Renewing(keys, _) => Some(keys),
        };
        if let Some(keys) = keys {
            if keys.current.indexes.local == local {
                return Some(&mut keys.current);
            }
            if let Some(previous) = &mut keys.previous
                && previous.indexes.local == local
            {
                return Some(previous);
            }
        }
        next.iter_mut().map(|next| &mut **next).find(|next| next.indexes.local == local)
    }

    /// The session before the current one, while it opens.
    pub(super) fn previous_mut(&mut self) -> Option<&mut Session> {
        self.keys_mut()?.previous.as_deref_mut()
    }

    /// The newest session that the peer has begun and not used.
    pub(super) fn next_mut(&mut self) -> Option<&mut Session> {
        self.next.last_mut().map(|next| &mut **next)
    }

    /// Our indexes under which the peer may answer.
    pub(super) fn indexes(&self) -> impl Iterator<Item = LocalIndex> + '_ {
        let previous = self.keys().and_then(|keys| keys.previous.as_deref());
        let next = self.next.iter().map(|next| &**next);
        let sessions = [previous, self.current()].into_iter().flatten().chain(next);
        let pending = self.handshake().into_iter().flat_map(Handshake::indexes);
        sessions.map(|session| session.indexes.local).chain(pending)
    }

    /// True while the peer, which began anew, is expected to use the keys of its own key handshake at any moment.
    pub(super) fn expects_use(&self) -> bool {
        self.expect_use_until.is_some() && !self.next.is_empty()
    }

    /// The incarnation that `remote` was shown with keys that it has not used.
    pub(super) fn shown_to(&self, remote: Incarnation) -> Option<Incarnation> {
        self.next.last().filter(|next| next.incarnation == remote)?.shown.as_deref().copied()
    }

    /// Another number whenever [`Sessions::indexes`] may give something else.
    pub(super) const fn version(&self) -> u32 {
        self.version
    }

    const fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
    }

    // Transitions.

    /// Begins a key handshake, or goes on with another INIT.
    pub(super) fn move_to_handshake(&mut self, handshake: Handshake) {
        let mut handshake = Box::new(handshake);
        let (keys, before) = self.take_parts();
        before.into_iter().for_each(|before| handshake.follow(*before));
        self.state = match keys {
            None => State::Connecting(handshake),
            Some(keys) => State::Renewing(keys, handshake),
        };
    }

    /// Seals under `session` from now on and ends the key handshake of this side, which it gives back. The keys before
    /// still open, unless they belong to another incarnation of the peer.
    pub(super) fn move_to_up(&mut self, session: Box<Session>) -> Option<Box<Handshake>> {
        let incarnation = session.incarnation;
        self.next.retain(|next| next.incarnation == incarnation);
        let (keys, handshake) = self.take_parts();
        let previous = keys.map(|keys| keys.current).filter(|current| current.incarnation == incarnation);
        self.look_at = session.erase_at(None);
        self.state = State::Up(Keys { current: session, previous });
        handshake
    }

    /// Forgets all keys and every key handshake.
    pub(super) fn move_to_down(&mut self) {
        (self.state, self.next) = (State::Down, Vec::new());
        self.changed();
    }

    /// Stops waiting for the answer to this side's INIT.
    pub(super) fn end_handshake(&mut self) {
        self.state = match self.take_state() {
            State::Down | State::Connecting(_) => State::Down,
            State::Up(keys) | State::Renewing(keys, _) => State::Up(keys),
        };
    }

    /// Leaves `Down` behind, and gives what the state before had.
    fn take_parts(&mut self) -> (Option<Keys>, Option<Box<Handshake>>) {
        match self.take_state() {
            State::Down => (None, None),
            State::Connecting(handshake) => (None, Some(handshake)),
            State::Up(keys) => (Some(keys), None),
            State::Renewing(keys, handshake) => (Some(keys), Some(handshake)),
        }
    }

    /// Leaves `Down` behind, for a transition that puts another state there at once.
    const fn take_state(&mut self) -> State {
        self.changed();
        core::mem::replace(&mut self.state, State::Down)
    }

    /// Keeps a session that a peer's INIT began until the peer uses it.
    pub(super) fn set_next(&mut self, session: Session) {
        debug_assert!(session.side == Side::Responder, "an initiator's session is used at once");
        // An INIT of this side would have the name that the link is about to lose, and would look like yet another process.
        self.expect_use_until = session.shown.is_some().then(|| session.created + USE_WITHIN);
        self.next.drain(..self.next.len().saturating_sub(INITS_MAX - 1));
        self.next.push(Box::new(session));
        self.changed();
    }

    /// The waiting session, if `local` is our index of it; those before it are forgotten. One without a KEM secret goes on waiting,
    /// and opens, while this side seals under one with it for the same process.
    pub(super) fn take_next(&mut self, local: LocalIndex) -> Option<Box<Session>> {
        let mixed_with = self.current().filter(|current| current.is_mixed()).map(|current| current.incarnation);
        let is_step_back = |next: &Session| !next.is_mixed() && mixed_with == Some(next.incarnation);
        let at = self.next.iter().position(|next| next.indexes.local == local && !is_step_back(next))?;
        self.changed();
        self.next.drain(..=at).next_back()
    }

    // Time.

    /// Erases the keys that are too old; `heard` is when the peer last spoke.
    pub(super) fn handle_timeout(&mut self, now: Instant, heard: Option<Instant>) {
        self.expect_use_until.take_if(|until| now >= *until);
        if self.next.first().is_some_and(|next| now >= next.reject_at()) {
            self.next.retain(|next| now < next.reject_at());
            self.changed();
        }
        let Some(keys) = self.keys_mut() else { return };
        if keys.previous.take_if(|previous| now >= previous.reject_at()).is_some() {
            self.changed();
        }
        let Some(keys) = self.keys() else { return };
        self.look_at = keys.current.erase_at(heard);
        if now >= self.look_at {
            self.state = match self.take_state() {
                State::Down | State::Up(_) => State::Down,
                State::Connecting(handshake) | State::Renewing(_, handshake) => State::Connecting(handshake),
            };
        }
    }

    /// Frees what the next datagram can make again.
    pub(super) fn rest(&mut self) {
        self.next.iter_mut().for_each(|session| session.rest());
        if let Some(keys) = self.keys_mut() {
            keys.current.rest();
            keys.previous.iter_mut().for_each(|session| session.rest());
        }
    }

    /// Notes when keys are erased, an INIT is repeated or given up and, for a tunnel `in_use`, keys are replaced.
    pub(super) fn note_deadlines(&self, in_use: bool, soonest: &mut Soonest) {
        if let Some(handshake) = self.handshake() {
            soonest.note(PeerTimer::Resend, Some(handshake.resend_at()).filter(|_| !handshake.is_greeting()));
            soonest.note(PeerTimer::GiveUp, earliest(Some(handshake.give_up_at(in_use)), handshake.tell_away_at()));
        }
        if let Some(oldest) = self.next.first() {
            soonest.note(PeerTimer::EraseOld, Some(oldest.reject_at()));
            soonest.note(PeerTimer::Resend, self.expect_use_until);
        }
        let Some(Keys { current, previous }) = self.keys() else { return };
        if let Some(previous) = previous {
            soonest.note(PeerTimer::EraseOld, Some(previous.reject_at()));
        }
        soonest.note(PeerTimer::Erase, Some(self.look_at));
        if in_use && current.side == Side::Initiator && self.handshake().is_none() && !self.expects_use() {
            soonest.note(PeerTimer::Rekey, Some(current.rekey_at()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::PORTABLE;
    use crate::agreement::{self, KeyPair};
    use crate::identity::Identity;
    use crate::noise::{StaticShared, TrafficKeys};
    use crate::path::PathAddr;
    use crate::peer::handshake::VANISHED_AFTER;
    use crate::rng::Rng;
    use crate::time::Duration;
    use crate::tunnel::handshake::{Age, Cookie, Incarnation, Introduction, Opening, Pending};
    use crate::tunnel::session::{Ends, Indexes};
    use crate::tunnel::stance::Stance;
    use crate::tunnel::{COOKIE_WAIT_MAX, COOKIE_WAIT_MIN, ERASE_AFTER, REJECT_AFTER, REKEY_AFTER};
    use crate::wire::{Channel, RemoteIndex};
    use std::vec;

    fn session(index: u32, side: Side, incarnation: u8, now: Instant) -> Session {
        let indexes = Indexes { local: LocalIndex(index), remote: RemoteIndex(index) };
        let keys = TrafficKeys { send: [1; 32], receive: [2; 32], exporter: [3; 32] };
        Session::new(&PORTABLE, &keys, indexes, side, now).of(introduction(incarnation), Ends::Nodes)
    }

    fn introduction(n: u8) -> Introduction {
        Introduction { incarnation: Incarnation([n; 6]), age: Age::default(), stance: Stance::new(false) }
    }

    fn handshake(index: u32, now: Instant, before: Option<&Handshake>) -> Handshake {
        handshake_in(None, index, now, before)
    }

    fn handshake_in(heard: Option<Instant>, index: u32, now: Instant, before: Option<&Handshake>) -> Handshake {
        let (own, peer, mut rng) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]), Rng::new([3; 32]));
        let responder = peer.static_key();
        let opening = Opening {
            responder: &responder,
            shared: &StaticShared::new(own.static_pair(), &responder.0).expect("an honest key"),
            local_index: LocalIndex(index),
            stamp: &[0; 12],
            own: introduction(1),
            cookie: None,
        };
        let ephemeral = KeyPair::new(&agreement::PORTABLE, rng.bytes());
        let pending = Pending::start(&own, &opening, ephemeral).expect("an honest key");
        Handshake::new(now, pending, before, heard, &mut rng)
    }

    fn soonest(sessions: &Sessions, in_use: bool) -> Option<(Instant, PeerTimer)> {
        let mut soonest = Soonest::default();
        sessions.note_deadlines(in_use, &mut soonest);
        soonest.get()
    }

    fn indexes(sessions: &Sessions) -> Vec<u32> {
        sessions.indexes().map(|index| index.0).collect()
    }

    const T: Instant = Instant::ZERO;

    #[test]
    fn new_keys_take_the_place_of_old_ones_and_end_the_handshake() {
        let mut sessions = Sessions::new();
        sessions.move_to_handshake(handshake(1, T, None));
        assert!(sessions.handshake().is_some() && sessions.current().is_none());
        assert!(sessions.move_to_up(Box::new(session(1, Side::Initiator, 7, T))).is_some());
        assert!(sessions.handshake().is_none());
        sessions.move_to_handshake(handshake(2, T, None));
        assert_eq!(indexes(&sessions), [1, 2]);
        sessions.end_handshake();
        assert_eq!(indexes(&sessions), [1], "the keys stay");
        sessions.move_to_up(Box::new(session(3, Side::Initiator, 7, T)));
        assert_eq!(indexes(&sessions), [1, 3], "the keys before still open");
        sessions.move_to_up(Box::new(session(4, Side::Initiator, 8, T)));
        assert_eq!(indexes(&sessions), [4], "those of another process do not");
        sessions.move_to_down();
        assert!(indexes(&sessions).is_empty());
    }

    #[test]
    fn a_session_that_the_peer_began_waits_until_it_is_used() {
        let mut sessions = Sessions::new();
        sessions.set_next(session(1, Side::Responder, 7, T));
        assert!(sessions.current().is_none() && sessions.find_mut(LocalIndex(1)).is_some());
        assert!(sessions.take_next(LocalIndex(2)).is_none());
        let next = sessions.take_next(LocalIndex(1)).expect("it waited");
        sessions.move_to_up(next);
        sessions.set_next(session(2, Side::Responder, 7, T));
        sessions.move_to_up(Box::new(session(3, Side::Initiator, 8, T)));
        assert_eq!(indexes(&sessions), [3], "what a process that is gone has begun is forgotten");
    }

    #[test]
    fn answers_to_the_inits_before_count_up_to_a_maximum() {
        let (mut asker, mut other) = (Sessions::new(), Sessions::new());
        for n in 1..=INITS_MAX as u32 + 2 {
            let now = T + Duration::from_secs(n.into());
            asker.move_to_handshake(handshake(n, now, asker.handshake()));
            other.set_next(session(n, Side::Responder, 7, now));
        }
        assert_eq!((indexes(&asker), indexes(&other)), (vec![3, 4, 5], vec![3, 4, 5]), "the oldest are forgotten");
        let waiting = asker.handshake().expect("under way");
        assert!(waiting.pending_at(LocalIndex(2)).is_none() && waiting.pending_at(LocalIndex(3)).is_some());
        let took = waiting.round_trip(T + Duration::from_secs(7), PathAddr::Relay(Channel(1)), LocalIndex(3));
        assert_eq!(took, Duration::from_secs(4), "since that INIT left");
        assert!(asker.move_to_up(Box::new(session(3, Side::Initiator, 7, T))).is_some());
        assert_eq!(indexes(&asker), [3], "the first answer is taken");
        let used = other.take_next(LocalIndex(4)).expect("it waited");
        other.move_to_up(used);
        assert_eq!(indexes(&other), [4, 5], "what came before is forgotten");
    }

    #[test]
    fn keys_are_erased_by_age_and_the_handshake_goes_on() {
        let mut sessions = Sessions::new();
        sessions.move_to_up(Box::new(session(1, Side::Initiator, 7, T)));
        let later = T + Duration::from_secs(100);
        sessions.move_to_up(Box::new(session(2, Side::Initiator, 7, later)));
        assert_eq!(soonest(&sessions, true), Some((T + REJECT_AFTER, PeerTimer::EraseOld)));
        sessions.handle_timeout(T + REJECT_AFTER, None);
        assert_eq!(soonest(&sessions, true), Some((later + REKEY_AFTER, PeerTimer::Rekey)));
        assert_eq!(soonest(&sessions, false), Some((later + ERASE_AFTER, PeerTimer::Erase)));
        sessions.move_to_handshake(handshake(3, later + ERASE_AFTER, None));
        sessions.handle_timeout(later + ERASE_AFTER, None);
        assert!(sessions.current().is_none() && sessions.handshake().is_some());
    }

    #[test]
    fn keys_for_a_rendezvous_last_while_it_is_heard() {
        let minutes = |n: u64| T + Duration::from_secs(60 * n);
        let up = || {
            let mut sessions = Sessions::new();
            let session = session(170, Side::Initiator, 7, T).of(introduction(7), Ends::Rendezvous);
            sessions.move_to_up(Box::new(session));
            sessions
        };
        let mut sessions = up();
        let session = sessions.current().expect("keys");
        assert!((minutes(27)..=minutes(30)).contains(&session.rekey_at()));
        assert!(session.usable(minutes(44)) && !session.usable(minutes(45)));
        assert!(session.wants_rekey(minutes(30)) && !session.wants_rekey(minutes(26)));
        for n in 1..45 {
            sessions.handle_timeout(minutes(n), Some(minutes(n)));
            assert!(sessions.current().is_some(), "minute {n}");
        }
        sessions.handle_timeout(minutes(45), Some(minutes(45)));
        assert!(sessions.current().is_none(), "no keys are used for longer");
        let mut silent = up();
        assert_eq!(soonest(&silent, false), Some((T + ERASE_AFTER, PeerTimer::Erase)));
        silent.handle_timeout(minutes(9), Some(minutes(1)));
        assert_eq!(soonest(&silent, false), Some((minutes(10), PeerTimer::Erase)));
        silent.handle_timeout(minutes(10), Some(minutes(1)));
        assert!(silent.current().is_none(), "a node that is gone leaves none");
    }

    #[test]
    fn a_cookie_says_when_the_next_init_leaves() {
        for (told, least) in [
            (Duration::ZERO, COOKIE_WAIT_MIN),
            (Duration::from_secs(2), Duration::from_secs(2)),
            (Duration::from_secs(6000), COOKIE_WAIT_MAX),
        ] {
            let (mut rng, mut waiting) = (Rng::new([3; 32]), handshake(1, T, None));
            let now = T + Duration::from_millis(50);
            waiting.on_cookie(now, (Cookie([7; 16]), told), &mut rng);
            assert!((now + least..=now + least * 5 / 4).contains(&waiting.resend_at()), "{told:?}");
            let at = waiting.resend_at();
            waiting.on_cookie(now, (Cookie([8; 16]), Duration::ZERO), &mut rng);
            assert_eq!(waiting.resend_at(), at, "one cookie for each INIT");
            assert!(waiting.resend_at() < waiting.give_up_at(true));
            assert_eq!(waiting.cookie(), Some(Cookie([7; 16])));
            let next = handshake(2, at, Some(&waiting));
            assert_eq!(next.cookie(), Some(Cookie([7; 16])), "an INIT may be lost");
        }
    }

    #[test]
    fn a_handshake_is_given_up_sooner_when_the_peer_is_away() {
        let later = T + Duration::from_secs(20);
        let mut first = handshake(1, T, None);
        first.set_away(later, true);
        let mut second = handshake(2, later + Duration::from_secs(1), Some(&first));
        assert_eq!((first.is_first_attempt(), second.is_first_attempt()), (true, false));
        assert_eq!(second.give_up_at(true), later + Duration::from_secs(3), "it counts from when that was said");
        second.set_away(later + Duration::from_secs(2), true);
        assert_eq!(second.give_up_at(true), first.give_up_at(true), "said again, that is no news");
        second.set_away(later, false);
        assert_eq!(second.give_up_at(true), T + crate::tunnel::GIVE_UP_AFTER);
        let third = handshake(3, T + Duration::from_secs(2), Some(&second));
        assert!(third.resend_at() >= T + Duration::from_secs(6), "the third pause is longer");
    }

    #[test]
    fn what_stands_waits_whatever_the_rendezvous_says_and_what_asks_is_told() {
        let heard = T + Duration::from_secs(100);
        let now = heard + Duration::from_secs(2);
        let mut standing = handshake_in(Some(heard), 1, now, None);
        assert_eq!(standing.tell_away_at(), None);
        standing.set_away(now, true);
        assert_eq!(standing.give_up_at(true), heard + VANISHED_AFTER);
        assert_eq!(standing.give_up_at(false), now + Duration::from_secs(3), "nothing stands any more");
        assert_eq!(standing.tell_away_at(), Some(now + Duration::from_secs(3)));
        standing.note_told_away(now + Duration::from_secs(3));
        let next = handshake(2, now + Duration::from_secs(1), Some(&standing));
        assert_eq!(next.tell_away_at(), Some(now + Duration::from_secs(6)), "streams may have come since");
        assert_eq!(next.give_up_at(true), heard + VANISHED_AFTER);
        let woken = handshake_in(Some(heard), 1, heard + VANISHED_AFTER, None);
        assert_eq!(woken.give_up_at(true), heard + VANISHED_AFTER + Duration::from_secs(10), "time to be answered");
    }

    #[test]
    fn a_peer_that_is_away_is_asked_three_times() {
        let (mut newest, mut inits) = (handshake(1, T, None), 1);
        newest.set_away(T, true);
        while newest.resend_at() < newest.give_up_at(true) {
            newest = handshake(inits + 1, newest.resend_at(), Some(&newest));
            inits += 1;
        }
        assert_eq!(inits, 3);
    }
}
