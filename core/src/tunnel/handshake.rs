//! Owns the contents of the INIT, RESP and COOKIE datagrams: building and reading them. `door` checks them first.

use super::door::{COOKIE_TEXT_LEN, cookie_key, mac1_key};
use crate::aead::TAG_LEN;
use crate::agreement::{KeyAgreement, KeyPair};
use crate::hash::mac16;
use crate::identity::{Identity, StaticKey};
use crate::noise::{HandshakeFailed, Initiation, Received, StaticShared, TrafficKeys};
use crate::rng::{Entropy, Rng};
use crate::time::{Duration, Instant};
use crate::tunnel::PROLOGUE;
use crate::tunnel::stance::Stance;
use crate::wire::{
    COOKIE_LEN, HandshakeKind, INIT_HEADER_LEN, INIT_LEN, LocalIndex, MAC_LEN, RESP_HEADER_LEN, RESP_LEN, RemoteIndex,
    array_at, handshake_header, u32_at,
};
use alloc::vec::Vec;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

/// Bytes of the TAI64N timestamp that an INIT carries.
pub(crate) const TIMESTAMP_LEN: usize = 12;
pub(crate) type Timestamp = [u8; TIMESTAMP_LEN];

/// Names one side's state of the link between two peers: a number that changes whenever the link begins anew. When a
/// key handshake is finished, each side knows with which state of the other, before anything is sent to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Incarnation(pub(crate) [u8; 6]);

impl Incarnation {
    /// Bytes that name the process; the others name its state of the link. Two processes have the same ones by chance once in
    /// 65,536 times, and then the peer is said to have given up where it was restarted.
    const PROCESS_LEN: usize = 2;

    /// The first incarnation of a process towards a peer.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self(rng.bytes())
    }

    /// Another incarnation of the same process.
    pub(crate) fn next(self, rng: &mut Rng) -> Self {
        let mut next = Self::new(rng);
        next.0[..Self::PROCESS_LEN].copy_from_slice(&self.0[..Self::PROCESS_LEN]);
        next
    }

    /// True when both are of one process.
    pub(crate) fn is_same_process(self, other: Self) -> bool {
        self.0[..Self::PROCESS_LEN] == other.0[..Self::PROCESS_LEN]
    }
}

/// For how long one side's state of the link has lasted at least. Unit: 2 ms, at most 131 s, which is longer than any
/// stream waits for its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Age(pub(crate) u16);

impl Age {
    const UNIT: Duration = Duration::from_millis(2);

    /// The age at `now` of what began at `began`.
    pub(crate) fn new(now: Instant, began: Instant) -> Self {
        let units = now.since(began).as_micros() / Self::UNIT.as_micros();
        Self(u16::try_from(units).unwrap_or(u16::MAX))
    }

    /// The latest moment at which something can have begun that has this age at `now`.
    pub(crate) fn began(self, now: Instant) -> Instant {
        now - Self::UNIT * self.0.into()
    }
}

/// What the payload of an INIT or RESP says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Introduction {
    pub(crate) incarnation: Incarnation,
    pub(crate) age: Age,
    pub(crate) stance: Stance,
}

impl Introduction {
    const LEN: usize = 9;

    fn emit(self) -> [u8; Self::LEN] {
        let mut out = [self.stance.0; Self::LEN];
        out[..6].copy_from_slice(&self.incarnation.0);
        out[6..8].copy_from_slice(&self.age.0.to_le_bytes());
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (incarnation, rest) = bytes.split_first_chunk()?;
        let (age, stance) = rest.split_first_chunk()?;
        Some(Self {
            incarnation: Incarnation(*incarnation),
            age: Age(u16::from_le_bytes(*age)),
            stance: Stance(*stance.first()?),
        })
    }
}

/// TAI64N of a wall clock (TAI − UTC leap seconds are left out: only the order matters).
pub(crate) fn tai64n(wall_us: u64) -> Timestamp {
    let mut out = [0; TIMESTAMP_LEN];
    out[..8].copy_from_slice(&((1 << 62) + wall_us / 1_000_000).to_be_bytes());
    out[8..].copy_from_slice(&((wall_us % 1_000_000) as u32 * 1000).to_be_bytes());
    out
}

/// The microsecond after the moment of a timestamp of [`tai64n`], on its clock.
pub(crate) fn micros_of(stamp: &Timestamp) -> u64 {
    let (seconds, nanos) = (u64::from_be_bytes(array_at(stamp, 0)), u32::from_be_bytes(array_at(stamp, 8)));
    (seconds - (1 << 62)) * 1_000_000 + u64::from(nanos / 1000) + 1
}

/// How long after a key handshake the key for the next one is made. Source: own choice; most key handshakes are over by
/// then, so that making the key delays no answer.
const REFILL_AFTER: Duration = Duration::from_millis(20);

/// The ephemeral keys of the next key handshake, made in advance: one pair, which nothing has used yet.
pub(crate) struct Reserve {
    agreement: &'static dyn KeyAgreement,
    ephemeral: Option<KeyPair>,
    refill_at: Option<Instant>,
}

impl Reserve {
    pub(crate) fn new(agreement: &'static dyn KeyAgreement, entropy: &mut dyn Entropy) -> Self {
        Self { agreement, ephemeral: Some(KeyPair::draw(agreement, entropy)), refill_at: None }
    }

    pub(crate) fn take(&mut self, now: Instant, entropy: &mut dyn Entropy) -> KeyPair {
        self.refill_at = Some(now + REFILL_AFTER);
        self.ephemeral.take().unwrap_or_else(|| KeyPair::draw(self.agreement, entropy))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        if self.refill_at.take_if(|at| *at <= now).is_some() {
            self.ephemeral.get_or_insert_with(|| KeyPair::draw(self.agreement, entropy));
        }
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.refill_at
    }
}

/// The contents of an INIT.
pub(crate) struct Opening<'a> {
    pub(crate) responder: &'a StaticKey,
    /// The secret that the responder's static key and ours share.
    pub(crate) shared: &'a StaticShared,
    /// Our index of the session to come.
    pub(crate) local_index: LocalIndex,
    /// Above every timestamp sent before.
    pub(crate) stamp: &'a Timestamp,
    /// This side's words about itself, and its offer.
    pub(crate) own: Introduction,
    /// The responder's newest cookie, if it asked for one.
    pub(crate) cookie: Option<Cookie>,
}

/// A proof of a source address, for mac2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cookie(pub(crate) [u8; 16]);

/// A key handshake that this side began and that has not been answered.
pub(crate) struct Pending {
    noise: Initiation,
    pub(crate) local_index: LocalIndex,
    offer: Stance,
    /// The INIT. Each repetition is a new one: the same one again would be refused as a replay.
    pub(crate) datagram: Vec<u8>,
    mac1: [u8; MAC_LEN],
}

impl Pending {
    pub(crate) fn start(
        identity: &Identity,
        &Opening { responder, shared, local_index, stamp, own, cookie }: &Opening<'_>,
        ephemeral: KeyPair,
    ) -> Result<Self, HandshakeFailed> {
        let (key, mut payload) = (identity.static_key(), [0; TIMESTAMP_LEN + Introduction::LEN]);
        payload[..TIMESTAMP_LEN].copy_from_slice(stamp);
        payload[TIMESTAMP_LEN..].copy_from_slice(&own.emit());
        let mut datagram = Vec::with_capacity(INIT_LEN);
        datagram.extend_from_slice(&handshake_header(HandshakeKind::Init));
        datagram.extend_from_slice(&local_index.0.to_le_bytes());
        let prologue = prologue(&datagram);
        let (noise, message) = Initiation::write(&prologue, &key.0, (&responder.0, shared), ephemeral, &payload)?;
        datagram.extend_from_slice(&message);
        let mac1 = append_macs(&mut datagram, responder, cookie);
        debug_assert!(datagram.len() == INIT_LEN);
        Ok(Self { noise, local_index, offer: own.stance, datagram, mac1 })
    }

    /// True when the INIT says that this side holds a KEM secret.
    pub(crate) const fn offers_kem(&self) -> bool {
        self.offer.has_kem()
    }

    /// Reads the peer's RESP; gives the peer's index, what it says of itself, and the keys. `pair` is the pair secret,
    /// `mixed` the psk with the KEM secret, which the peer need not hold.
    pub(crate) fn finish(
        &self,
        identity: &Identity,
        (pair, mixed): (&[u8; 32], Option<&[u8; 32]>),
        resp: &[u8; RESP_LEN],
    ) -> Result<(RemoteIndex, Introduction, TrafficKeys), HandshakeFailed> {
        let message = resp[..RESP_LEN - 2 * MAC_LEN].split_at(RESP_HEADER_LEN);
        let mixed = mixed.filter(|_| self.offers_kem());
        let psks = [mixed.unwrap_or(pair), pair];
        let psks = if mixed.is_some() { &psks[..] } else { &psks[..1] };
        let (place, keys, payload) = self.noise.finish_any(identity.static_pair(), psks, message)?;
        let peer = Introduction::parse(&payload).ok_or(HandshakeFailed)?;
        let says_truth = peer.stance.has_kem() == (mixed.is_some() && place == 0);
        if !says_truth || !peer.stance.answers(self.offer) {
            return Err(HandshakeFailed);
        }
        Ok((RemoteIndex(u32_at(resp, 4)), peer, keys))
    }

    /// The cookie that a COOKIE datagram holds, and how long to wait with the next INIT, when it answers exactly our last
    /// INIT.
    pub(crate) fn open_cookie(&self, responder: &StaticKey, datagram: &[u8; COOKIE_LEN]) -> Option<(Cookie, Duration)> {
        let nonce: [u8; 24] = array_at(datagram, 8);
        let mut sealed: [u8; COOKIE_TEXT_LEN] = array_at(datagram, 32);
        let tag: [u8; TAG_LEN] = array_at(datagram, 32 + COOKIE_TEXT_LEN);
        let cipher = XChaCha20Poly1305::new(&cookie_key(responder).into());
        let opened =
            cipher.decrypt_inout_detached(&XNonce::from(nonce), &self.mac1, (&mut sealed[..]).into(), &tag.into());
        let wait = Duration::from_millis(100 * u64::from(u16::from_le_bytes(array_at(&sealed, 16))));
        opened.is_ok().then(|| (Cookie(array_at(&sealed, 0)), wait))
    }
}

/// The first message of a peer's key handshake, read and authenticated.
pub(crate) struct InitReceived {
    noise: Received,
    pub(crate) remote_index: RemoteIndex,
    pub(crate) static_key: StaticKey,
    pub(crate) stamp: Timestamp,
    pub(crate) peer: Introduction,
}

impl InitReceived {
    /// Reads an INIT. `known` gives the secret that our static key and an initiator's share, if it has been computed
    /// before.
    pub(crate) fn read(
        identity: &Identity,
        init: &[u8; INIT_LEN],
        known: impl FnOnce(&StaticKey) -> Option<StaticShared>,
    ) -> Result<Self, HandshakeFailed> {
        let (header, message) = init[..INIT_LEN - 2 * MAC_LEN].split_at(INIT_HEADER_LEN);
        let own = identity.static_pair();
        let noise = Received::read(&prologue(header), own, message, |key| known(&StaticKey(*key)))?;
        let (stamp, peer) = noise.payload.split_first_chunk().ok_or(HandshakeFailed)?;
        let peer = Introduction::parse(peer).ok_or(HandshakeFailed)?;
        let (static_key, stamp) = (StaticKey(noise.initiator), *stamp);
        Ok(Self { remote_index: RemoteIndex(u32_at(init, 4)), static_key, stamp, peer, noise })
    }

    /// The secret that our static key and the initiator's share.
    pub(crate) const fn shared(&self) -> &StaticShared {
        &self.noise.shared
    }

    pub(crate) fn respond(
        self,
        (local_index, own): (LocalIndex, Introduction),
        psk: &[u8; 32],
        ephemeral: &KeyPair,
    ) -> Result<(Vec<u8>, TrafficKeys), HandshakeFailed> {
        debug_assert!(own.stance.answers(self.peer.stance), "the initiator would refuse it");
        let initiator = self.static_key;
        let mut datagram = Vec::with_capacity(RESP_LEN);
        datagram.extend_from_slice(&handshake_header(HandshakeKind::Resp));
        datagram.extend_from_slice(&local_index.0.to_le_bytes());
        datagram.extend_from_slice(&self.remote_index.0.to_le_bytes());
        let (keys, message) = self.noise.respond(ephemeral, psk, (&datagram, &own.emit()))?;
        datagram.extend_from_slice(&message);
        append_macs(&mut datagram, &initiator, None);
        Ok((datagram, keys))
    }
}

/// What both sides know before the first key: that this is PN1, and the INIT's header.
fn prologue(header: &[u8]) -> [u8; PROLOGUE.len() + INIT_HEADER_LEN] {
    debug_assert!(header.len() == INIT_HEADER_LEN);
    let mut out = [0; PROLOGUE.len() + INIT_HEADER_LEN];
    out[..PROLOGUE.len()].copy_from_slice(PROLOGUE);
    out[PROLOGUE.len()..].copy_from_slice(header);
    out
}

/// Appends mac1 and mac2; gives mac1.
fn append_macs(datagram: &mut Vec<u8>, receiver: &StaticKey, cookie: Option<Cookie>) -> [u8; MAC_LEN] {
    let mac1 = mac16(&mac1_key(receiver), &[datagram]);
    datagram.extend_from_slice(&mac1);
    let mac2 = cookie.map_or([0; MAC_LEN], |cookie| mac16(&cookie.0, &[datagram]));
    datagram.extend_from_slice(&mac2);
    mac1
}

/// The psk of a pair that has no secret.
pub(crate) const NO_PSK: [u8; 32] = [0; 32];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::PORTABLE;
    use crate::rng::Rng;
    use crate::tunnel::door::{Admission, Doorkeeper};

    fn introduction(n: u8) -> Introduction {
        Introduction { incarnation: Incarnation([n; 6]), age: Age(n.into()), stance: Stance::new(false) }
    }

    fn init(rng: &mut Rng, responder: &Identity, cookie: Option<Cookie>) -> Pending {
        let initiator = Identity::from_seed([1; 32]);
        let key = responder.static_key();
        let shared = StaticShared::new(initiator.static_pair(), &key.0).expect("an honest key");
        let ephemeral = KeyPair::new(&PORTABLE, rng.bytes());
        let opening = Opening {
            responder: &key,
            shared: &shared,
            local_index: LocalIndex(77),
            stamp: &tai64n(5),
            own: introduction(6),
            cookie,
        };
        Pending::start(&initiator, &opening, ephemeral).expect("an honest key")
    }

    #[test]
    fn handshake_datagrams_have_the_documented_sizes_and_give_equal_keys() {
        let (a, b, mut rng) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]), Rng::new([3; 32]));
        let pending = init(&mut rng, &b, None);
        let datagram: [u8; INIT_LEN] = pending.datagram.clone().try_into().expect("its length");
        let received = InitReceived::read(&b, &datagram, |_| None).expect("valid");
        assert_eq!(
            (received.static_key, received.remote_index, received.stamp),
            (a.static_key(), RemoteIndex(77), tai64n(5))
        );
        assert_eq!(received.peer, introduction(6));
        let ephemeral = KeyPair::new(&PORTABLE, rng.bytes());
        let (resp, keys) = received.respond((LocalIndex(88), introduction(7)), &NO_PSK, &ephemeral).expect("valid");
        let resp: [u8; RESP_LEN] = resp.try_into().expect("its length");
        let (index, peer, ours) = pending.finish(&a, (&NO_PSK, None), &resp).expect("valid");
        assert_eq!((index, peer), (RemoteIndex(88), introduction(7)));
        assert_eq!((ours.send, ours.receive), (keys.receive, keys.send));
    }

    #[test]
    fn an_age_never_tells_of_a_beginning_before_it_was() {
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        for (began, now, told) in [(5, 5, 5), (5, 6, 6), (5, 7, 5), (4, 8, 4), (0, 131_070, 0), (0, 200_000, 68_930)] {
            let latest = Age::new(at(now), at(began)).began(at(now));
            assert_eq!(latest, at(told), "from {began} to {now} ms");
        }
        assert_eq!(Age(u16::MAX).began(at(7)), Instant::ZERO, "the clock here began later");
    }

    #[test]
    fn the_key_for_the_next_handshake_is_made_a_moment_after_the_last() {
        let (mut rng, now) = (Rng::new([3; 32]), Instant::from_micros(7));
        let mut reserve = Reserve::new(&PORTABLE, &mut rng);
        let (first, second) = (reserve.take(now, &mut rng), reserve.take(now, &mut rng));
        assert_ne!(first.public(), second.public());
        let at = reserve.poll_timeout().expect("it waits");
        assert_eq!(at, now + REFILL_AFTER);
        reserve.handle_timeout(now, &mut rng);
        assert!(reserve.ephemeral.is_none());
        reserve.handle_timeout(at, &mut rng);
        assert!(reserve.ephemeral.is_some() && reserve.poll_timeout().is_none());
    }

    #[test]
    fn under_load_a_cookie_is_asked_for_and_then_accepted() {
        let (b, mut rng) = (Identity::from_seed([2; 32]), Rng::new([3; 32]));
        let mut door = Doorkeeper::new(&b.static_key(), false);
        let first = init(&mut rng, &b, None);
        let datagram: [u8; INIT_LEN] = first.datagram.clone().try_into().expect("its length");
        let mut answer = Admission::Go;
        for _ in 0..=Doorkeeper::BURST {
            answer = door.admit_init(Instant::ZERO, b"here", &datagram, (&mut rng, &mut Rng::new([4; 32])));
        }
        let Admission::Cookie(cookie) = answer else { panic!("expected a cookie, got {answer:?}") };
        let (cookie, wait) = first.open_cookie(&b.static_key(), &cookie).expect("sealed for this very INIT");
        assert_eq!(wait, Doorkeeper::COOKIE_WAIT);
        let second = init(&mut rng, &b, Some(cookie));
        let datagram: [u8; INIT_LEN] = second.datagram.clone().try_into().expect("its length");
        assert_eq!(
            door.admit_init(Instant::ZERO, b"here", &datagram, (&mut rng, &mut Rng::new([4; 32]))),
            Admission::Go
        );
        let elsewhere = door.admit_init(Instant::ZERO, b"elsewhere", &datagram, (&mut rng, &mut Rng::new([4; 32])));
        assert!(matches!(elsewhere, Admission::Cookie(_)), "a cookie is bound to its source");
        for _ in 0..Doorkeeper::PROVEN_DEBT {
            answer = door.admit_init(Instant::ZERO, b"here", &datagram, (&mut rng, &mut Rng::new([4; 32])));
        }
        assert_eq!(answer, Admission::Overload, "cookies do not lift the maximum");
    }

    #[test]
    fn a_wrong_mac1_is_refused_before_any_cryptography() {
        let (b, mut rng) = (Identity::from_seed([2; 32]), Rng::new([3; 32]));
        let mut door = Doorkeeper::new(&b.static_key(), false);
        let mut datagram: [u8; INIT_LEN] = init(&mut rng, &b, None).datagram.try_into().expect("its length");
        datagram[20] ^= 1;
        assert_eq!(
            door.admit_init(Instant::ZERO, b"here", &datagram, (&mut rng, &mut Rng::new([4; 32]))),
            Admission::Refuse
        );
    }
}
