//! Owns the checks that an INIT or RESP passes before any X25519: mac1 always, cookies under load
//! (`docs/wire.md`, "Denial of service").

use crate::hash::{blake2s, equal, mac16};
use crate::identity::StaticKey;
use crate::rng::{Entropy, Rng};
use crate::time::{Duration, Instant};
use crate::tunnel::bucket::{Bucket, Sources};
use crate::wire::{COOKIE_LEN, HandshakeKind, INIT_LEN, MAC_LEN, array_at, handshake_header};
use alloc::vec::Vec;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// Lifetime of a cookie and of the secret that it is made with.
const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// What a COOKIE seals: a cookie and a wait. Unit: bytes.
pub(super) const COOKIE_TEXT_LEN: usize = 16 + 2;

pub(super) fn mac1_key(receiver: &StaticKey) -> [u8; 32] {
    blake2s(&[b"mac1----", &receiver.0])
}

pub(super) fn cookie_key(receiver: &StaticKey) -> [u8; 32] {
    blake2s(&[b"cookie--", &receiver.0])
}

/// Decides which INITs are worth an X25519: mac1 always, cookies under load.
pub(crate) struct Doorkeeper {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    /// Makes cookies.
    secret: Zeroizing<[u8; 32]>,
    secret_since: Option<Instant>,
    /// All agreements.
    total: Bucket,
    /// INITs from addresses that are not proven.
    unproven: Bucket,
    /// INITs from proven addresses beyond what each source may send.
    spare: Bucket,
    /// Answers to keys that are not known.
    strangers: Bucket,
    sources: Sources,
    /// Keys that are known beside those of peers, as bits of a filter; empty where strangers are not served.
    known: Vec<u64>,
}

/// The decision about an INIT before its contents are opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Goes on to the key handshake.
    Go,
    /// mac1 is wrong: the sender does not know our static key.
    Refuse,
    /// Under load: sends this COOKIE and forgets.
    Cookie([u8; COOKIE_LEN]),
    /// Under load, and the sender has proven its address but exceeds the rate all the same.
    Overload,
}

/// Agreements (X25519) in a second: 40 % of it at 50 µs each. Source: own choice; `bench/RESULTS.md` has the time of one.
const AGREEMENTS_PER_SECOND: u64 = 8000;
/// Agreements of an answer, beside the one that reads an INIT.
const ANSWER_COST: u64 = 2;
/// Answers to unknown keys in a second, and at once. Source: own choice.
const STRANGERS_PER_SECOND: u64 = 500;
const STRANGERS_BURST: u64 = 400;
/// Bits of the filter of known keys, and how many a key sets: one stranger of a hundred passes for known when a hundred
/// thousand keys are.
const KNOWN_BITS: usize = 1 << 20;
const KNOWN_HASHES: usize = 4;

impl Doorkeeper {
    /// INITs without a cookie that may come at once. Source: own choice.
    pub(super) const BURST: u64 = 200;
    /// INITs from proven addresses that may come at once beyond what each source may send.
    const SPARE: u64 = 200;
    /// INITs that one source may send at once when it has proven its address.
    #[cfg(test)]
    pub(super) const PROVEN_DEBT: u64 = Self::SPARE + crate::tunnel::bucket::SOURCE_BURST as u64;

    /// How long a sender without a cookie waits with its next INIT. Source: own choice; short enough for two more attempts
    /// in the two seconds in which a known node is served.
    pub(super) const COOKIE_WAIT: Duration = Duration::from_millis(400);

    pub(crate) fn new(own: &StaticKey, serves_strangers: bool) -> Self {
        Self {
            mac1_key: mac1_key(own),
            cookie_key: cookie_key(own),
            secret: Zeroizing::default(),
            secret_since: None,
            total: Bucket::new(AGREEMENTS_PER_SECOND, AGREEMENTS_PER_SECOND / 4),
            unproven: Bucket::new(AGREEMENTS_PER_SECOND / 8, Self::BURST),
            spare: Bucket::new(AGREEMENTS_PER_SECOND / 8, Self::SPARE),
            strangers: Bucket::new(STRANGERS_PER_SECOND, STRANGERS_BURST),
            sources: Sources::default(),
            known: if serves_strangers { alloc::vec![0; KNOWN_BITS / 64] } else { Vec::new() },
        }
    }

    /// Notes a key that will be known from now on, though no peer has it.
    pub(crate) fn remember(&mut self, key: &StaticKey) {
        for bit in self.known_bits(key) {
            if let Some(word) = self.known.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
    }

    /// True for keys that [`Doorkeeper::remember`] was told of, and for one of a hundred others at most.
    fn remembers(&self, key: &StaticKey) -> bool {
        self.known_bits(key).iter().all(|bit| self.known.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1))
    }

    /// The bits of a key depend on this node's own key: a key that passes here passes nowhere else.
    fn known_bits(&self, key: &StaticKey) -> [usize; KNOWN_HASHES] {
        let hash = mac16(&self.mac1_key, &[b"known", &key.0]);
        core::array::from_fn(|i| crate::wire::u32_at(&hash, 4 * i) as usize % KNOWN_BITS)
    }

    /// Decides whether an INIT is answered once its static key has been read. Peers' keys, and remembered ones, always are:
    /// strangers use up another bucket.
    pub(crate) fn admit_key(&mut self, now: Instant, key: &StaticKey, is_peer: bool) -> bool {
        if !is_peer && !self.remembers(key) {
            if !self.strangers.has(now, 1) {
                return false;
            }
            self.strangers.take(1);
        }
        self.total.take(ANSWER_COST);
        true
    }

    /// Checks mac1 of an INIT or RESP.
    pub(crate) fn mac1_is_valid(&self, datagram: &[u8]) -> bool {
        debug_assert!(datagram.len() > 2 * MAC_LEN, "`wire` has checked the size");
        let (body, macs) = datagram.split_at(datagram.len() - 2 * MAC_LEN);
        equal(&mac16(&self.mac1_key, &[body]), &macs[..MAC_LEN])
    }

    /// Decides about an INIT from `source` (the sender's address in bytes).
    pub(crate) fn admit_init(
        &mut self,
        now: Instant,
        source: &[u8],
        init: &[u8; INIT_LEN],
        (rng, entropy): (&mut Rng, &mut dyn Entropy),
    ) -> Admission {
        if !self.mac1_is_valid(init) {
            return Admission::Refuse;
        }
        self.sources.rest(now);
        let has_any = self.total.has(now, 1);
        if has_any && self.unproven.has(now, 1) {
            self.unproven.take(1);
            self.total.take(1);
            return Admission::Go;
        }
        let cookie = self.cookie(now, source, entropy);
        let (body, mac2) = init.split_at(INIT_LEN - MAC_LEN);
        if !equal(&mac16(&cookie, &[body]), mac2) {
            return Admission::Cookie(self.seal_cookie(init, cookie, rng));
        }
        if !has_any {
            return Admission::Overload;
        }
        let hash = mac16(&*self.secret, &[b"source", network_of(source)]);
        if !self.sources.take(now, u64::from_le_bytes(array_at(&hash, 0))) {
            if !self.spare.has(now, 1) {
                return Admission::Overload;
            }
            self.spare.take(1);
        }
        self.total.take(1);
        Admission::Go
    }

    fn cookie(&mut self, now: Instant, source: &[u8], entropy: &mut dyn Entropy) -> [u8; 16] {
        if self.secret_since.is_none_or(|since| now.since(since) >= COOKIE_LIFETIME) {
            self.secret = entropy.secret();
            self.secret_since = Some(now);
        }
        mac16(&*self.secret, &[source])
    }

    fn seal_cookie(&self, init: &[u8; INIT_LEN], cookie: [u8; 16], rng: &mut Rng) -> [u8; COOKIE_LEN] {
        emit_cookie(&self.cookie_key, init, &rng.bytes(), (&cookie, Self::COOKIE_WAIT))
    }
}

/// A COOKIE that answers `init`: it seals a cookie, and how long to wait with the next INIT (in tenths of a second).
pub(super) fn emit_cookie(
    key: &[u8; 32],
    init: &[u8; INIT_LEN],
    nonce: &[u8; 24],
    (cookie, wait): (&[u8; 16], Duration),
) -> [u8; COOKIE_LEN] {
    let tenths = u16::try_from(wait.as_millis() / 100).unwrap_or(u16::MAX);
    let mut sealed = [0; COOKIE_TEXT_LEN];
    sealed[..16].copy_from_slice(cookie);
    sealed[16..].copy_from_slice(&tenths.to_le_bytes());
    let mac1: [u8; MAC_LEN] = array_at(init, INIT_LEN - 2 * MAC_LEN);
    let cipher = XChaCha20Poly1305::new(key.into());
    let tag = cipher.encrypt_inout_detached(&XNonce::from(*nonce), &mac1, (&mut sealed[..]).into());
    let mut out = [0; COOKIE_LEN];
    out[..4].copy_from_slice(&handshake_header(HandshakeKind::Cookie));
    out[4..8].copy_from_slice(&init[4..8]); // the initiator's sender index is the receiver here
    out[8..32].copy_from_slice(nonce);
    out[32..][..COOKIE_TEXT_LEN].copy_from_slice(&sealed);
    out[32 + COOKIE_TEXT_LEN..].copy_from_slice(&tag.expect("eighteen bytes are within the cipher's limits"));
    out
}

/// The part of a source's bytes that is the same for addresses of one network: /24 of IPv4, /56 of IPv6.
fn network_of(source: &[u8]) -> &[u8] {
    match source.len() {
        SOURCE_LEN_V4 => &source[..3],
        SOURCE_LEN_V6 => &source[..7],
        _ => source,
    }
}

/// Lengths of what [`source_bytes`] gives. Unit: bytes.
const SOURCE_LEN_V4: usize = 4 + 2;
const SOURCE_LEN_V6: usize = 16 + 2;

/// The bytes that stand for a source address in cookies.
pub(crate) fn source_bytes(addr: &core::net::SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(SOURCE_LEN_V6);
    match addr.ip().to_canonical() {
        core::net::IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        core::net::IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_le_bytes());
    out
}
