//! Owns a peer's KEM run: the key that one side offers in a session without a KEM secret, and the answer to it.
//!
//! ```text
//!   initiator of the session                    other side
//!   offer_kem        -- KemOffer -->            answer_kem: secret to disk, keys ready
//!   finish_kem       <-- KemAnswer --           release_kem_answer, once the secret is on disk
//! ```
//! Both go on under the session that the run makes; it takes its exporter of the one in which the key was offered. Only
//! then do inner packets flow. When two sides offer at once, the one with the lower identity key is answered; of two offers in
//! sessions of different times, the one in the later. A pair that waits for a run in vain makes another session.
//!
//! Over a relay a round trip is saved: there the key comes with the RESP, and the initiator waits for it for a moment before it
//! offers one itself.
//!
//! ```text
//!   initiator of the session                         other side
//!   answer_kem           <-- RESP, EARLY KemOffer --  offer_kem_early
//!   release_kem_answer   -- EARLY KemAnswer, data --> finish_kem
//! ```
//! The initiator goes on at once, and its answer leaves again with each probe timeout until the peer uses the new keys.

use super::early::seal_early;
use super::kem_run::Run;
use super::{Peer, Role};
use crate::aead::AeadProvider;
use crate::control::{Control, KemAnswer, KemOffer};
use crate::identity::IdentityKey;
use crate::path::PathAddr;
use crate::rng::Entropy;
use crate::time::{Duration, Instant};
use crate::tunnel::handshake::{Age, Incarnation, Introduction};
use crate::tunnel::kem::{self, Mixed};
use crate::tunnel::session::{Ends, Indexes, Session, Side};
use crate::tunnel::stance::Stance;
use crate::wire::{LocalIndex, RemoteIndex};
use alloc::boxed::Box;
use zeroize::Zeroizing;

/// By how much a session of two that cross may seem older at one side than at the other: a round trip. Source: own choice.
const CROSSING: Duration = Duration::from_secs(1);
/// How long a session without a KEM secret may keep streams waiting before another one is made. Source: own choice; a disk that
/// takes seconds for a sync has saved by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the initiator of a session without a KEM secret waits over a relay for the key that comes with the RESP. Source: own
/// choice, above the jitter of most paths.
const EARLY_PATIENCE: Duration = Duration::from_millis(25);
/// How long a side that has offered a key with its RESP, and has finished a key handshake of its own meanwhile, waits for the
/// peer, which answers the key or offers one itself. Source: own choice, a long round trip.
const OFFERED_PATIENCE: Duration = Duration::from_secs(1);

impl Peer {
    /// True when this side is to offer a key now.
    pub(crate) fn kem_is_due(&self, now: Instant) -> bool {
        self.kem_due_at.is_some_and(|at| at <= now) && self.is_up(now)
    }

    /// Offers a key in the current session; the next one will have our index `index`.
    pub(crate) fn offer_kem(&mut self, index: LocalIndex, entropy: &mut dyn Entropy) -> Option<KemOffer> {
        self.kem_due_at = None;
        let Indexes { local, remote } = self.sessions.current().filter(|session| !session.is_mixed())?.indexes;
        let key = kem::Offer::draw(entropy);
        let offer = KemOffer { session: remote.0, index: index.0, key: key.public() };
        self.kem = Some(Box::new(Run::Offered { key, session: local, index, is_early: false }));
        Some(offer)
    }

    /// Offers a key with the RESP that leaves for `to`, for a session with our index `index`. False when it is not to be: of two
    /// that begin at once, neither offers early.
    pub(crate) fn offer_kem_early(&mut self, to: PathAddr, index: LocalIndex, entropy: &mut dyn Entropy) -> bool {
        let is_free = self.kem.is_none() && self.handshake().is_none();
        let Some(next) = self.sessions.next_mut().filter(|next| is_free && !next.is_mixed()) else { return false };
        let Indexes { local, remote } = next.indexes;
        let key = kem::Offer::draw(entropy);
        let offer = KemOffer { session: remote.0, index: index.0, key: key.public() };
        let has_left = self.say_early(to, &Control::KemOffer(offer).emit());
        if has_left {
            self.kem = Some(Box::new(Run::Offered { key, session: local, index, is_early: true }));
        }
        has_left
    }

    /// Answers a key that the peer offers, with the session that will have our index `index`; gives the KEM secret, which
    /// is to be saved before [`Peer::release_kem_answer`]. `None` when the key answers nothing that is open here.
    pub(crate) fn answer_kem(
        &mut self,
        now: Instant,
        (own, aead): (&IdentityKey, &'static dyn AeadProvider),
        (offer, is_early): (&KemOffer, bool),
        index: LocalIndex,
        entropy: &mut dyn Entropy,
    ) -> Option<Zeroizing<[u8; 32]>> {
        let peer = self.identity.filter(|_| self.role == Role::Trusted)?;
        let begun = self.sessions.find_mut(LocalIndex(offer.session))?.created;
        // The peer answers ours, if that is the one that counts: always, when its own came early and has been overtaken.
        if self.offered_since(if is_early || *own < peer { begun } else { begun + CROSSING }) {
            return None;
        }
        if is_early && self.sessions.current().is_none_or(|current| current.indexes.local.0 != offer.session) {
            return None; // it says nothing about a session that is over
        }
        let first = self.sessions.find_mut(LocalIndex(offer.session))?;
        let (exporter, incarnation) = (first.take_exporter()?, first.incarnation);
        let (bytes, shared) = kem::answer(&offer.key, &entropy.secret())?;
        let mixed = Mixed::new(&shared, &exporter, &peer, own);
        let indexes = Indexes { local: index, remote: RemoteIndex(offer.index) };
        let session = Session::new(aead, &mixed.keys_of_answerer(), indexes, Side::Responder, now);
        let session = Box::new(session.of(introduction(incarnation), Ends::Nodes));
        let answer = Box::new(KemAnswer { offer: offer.index, index: index.0, answer: bytes });
        self.kem = Some(Box::new(Run::Answered { session, answer, is_early }));
        self.kem_due_at = None;
        Some(mixed.secret)
    }

    /// The KEM secret behind the answer with our index `index` is on disk: the session waits for the peer from now on, which
    /// gets the answer that this gives. To a key that came early the answer leaves with this, and this side goes on at once.
    pub(crate) fn release_kem_answer(&mut self, now: Instant, index: LocalIndex) -> Option<Box<KemAnswer>> {
        let is_it = |run: &mut Box<Run>| matches!(&**run, Run::Answered { answer, .. } if answer.index == index.0);
        let Run::Answered { session, answer, is_early } = *self.kem.take_if(is_it)? else { return None };
        if !is_early {
            self.sessions.set_next(*session);
            return Some(answer);
        }
        let local = session.indexes.local;
        self.make_current(now, session);
        self.kem = Some(Box::new(Run::Told { session: local, answer }));
        self.tell_kem_answer();
        None
    }

    /// Sends the answer to a key that came early, for which the session stands in which it came, until the peer uses the next.
    pub(super) fn tell_kem_answer(&mut self) {
        let Some(Run::Told { answer, .. }) = self.kem.as_deref() else { return };
        let message = Control::KemAnswer((**answer).clone()).emit();
        let Some((to, session)) = self.paths.selected().zip(self.sessions.previous_mut()) else { return };
        let datagram = seal_early(session, &message);
        if self.paths.charge(to, datagram.len()) {
            self.send_raw(to, datagram);
        }
    }

    /// The peer has used the session with our index `used`.
    pub(super) fn note_kem_used(&mut self, used: LocalIndex) {
        self.kem.take_if(|run| matches!(&**run, Run::Told { session, .. } if *session == used));
    }

    /// Takes the answer to our key and goes on under the session that it makes; gives the KEM secret. `None` when it
    /// answers no key of ours, or the session in which that was offered is gone.
    pub(crate) fn finish_kem(
        &mut self,
        now: Instant,
        (own, aead): (&IdentityKey, &'static dyn AeadProvider),
        answer: &KemAnswer,
    ) -> Option<Zeroizing<[u8; 32]>> {
        let peer = self.identity?;
        let is_it = |run: &mut Box<Run>| matches!(&**run, Run::Offered { index, .. } if index.0 == answer.offer);
        let Run::Offered { key, session, index, .. } = *self.kem.take_if(is_it)? else { return None };
        let first = self.sessions.find_mut(session)?;
        let (exporter, incarnation) = (first.take_exporter()?, first.incarnation);
        let mixed = Mixed::new(&key.open(&answer.answer), &exporter, own, &peer);
        let indexes = Indexes { local: index, remote: RemoteIndex(answer.index) };
        let session = Session::new(aead, mixed.keys_of_offerer(), indexes, Side::Initiator, now);
        let (_, restarted) = self.make_current(now, Box::new(session.of(introduction(incarnation), Ends::Nodes)));
        debug_assert!(!restarted, "the same process");
        Some(mixed.secret)
    }

    /// When another session is to be made, since nothing has come of a run for which streams wait. A run that waits for this
    /// side's disk has its time.
    pub(super) fn kem_overdue_at(&self) -> Option<Instant> {
        let waits_for_disk = matches!(self.kem.as_deref(), Some(Run::Answered { .. }));
        let is_waiting = self.in_use && !waits_for_disk && self.sessions.handshake().is_none();
        let session = self.sessions.current().filter(|session| is_waiting && !session.is_mixed())?;
        Some(session.created + PATIENCE)
    }

    /// True when this side has offered a key in a session that is no older than one of `begun`, and is still there. Of an older
    /// one the peer may know nothing any more.
    fn offered_since(&mut self, begun: Instant) -> bool {
        let session = match self.kem.as_deref() {
            Some(Run::Offered { session, is_early: false, .. }) => self.sessions.find_mut(*session),
            _ => None,
        };
        session.is_some_and(|session| session.created >= begun)
    }

    /// When this side, which has finished a key handshake without a KEM secret over `from`, is to offer a key.
    pub(super) fn kem_wanted_at(&self, now: Instant, from: PathAddr) -> Instant {
        let patience = match self.kem.as_deref() {
            Some(Run::Offered { is_early: true, .. }) => OFFERED_PATIENCE,
            _ if from.is_direct() => Duration::ZERO,
            _ => EARLY_PATIENCE,
        };
        now + patience
    }

    /// True when this side has offered a key in the session with our index `local`.
    pub(super) fn has_offered_in(&self, local: LocalIndex) -> bool {
        matches!(self.kem.as_deref(), Some(Run::Offered { session, .. }) if *session == local)
    }

    /// The index of the session that our offered key will make.
    pub(super) fn offered_index(&self) -> Option<LocalIndex> {
        match self.kem.as_deref() {
            Some(Run::Offered { index, .. }) => Some(*index),
            _ => None,
        }
    }
}

/// What is known of the peer's end of the session that a run makes.
const fn introduction(incarnation: Incarnation) -> Introduction {
    Introduction { incarnation, age: Age(0), stance: Stance::new(false) }
}
