//! Owns the checks that an INIT or RESP passes before any X25519: mac1 always, cookies under load
//! (`docs/wire.md`, "Denial of service").

use crate::hash::{blake2s, equal, mac16};
use crate::identity::StaticKey;
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::{COOKIE_LEN, HandshakeKind, INIT_LEN, MAC_LEN, array_at, handshake_header};
use alloc::vec::Vec;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

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
    secret: [u8; 32],
    secret_since: Option<Instant>,
    /// INITs that may be served now; refills over time. The last [`Self::PROVEN_DEBT`] are for senders with a cookie.
    tokens: u64,
    refilled: Instant,
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

impl Doorkeeper {
    /// INITs per second that are served without asking for a cookie. Source: own choice; X25519 takes about 100 µs.
    const RATE: u64 = 500;
    /// INITs that may come at once.
    pub(super) const BURST: u64 = 200;
    /// INITs beyond it that are served when they carry a valid cookie.
    pub(super) const PROVEN_DEBT: u64 = 200;

    /// How long a sender without a cookie waits with its next INIT. Source: own choice; by then twice as many INITs as may
    /// come at once have been served.
    pub(super) const COOKIE_WAIT: Duration = Duration::from_millis(800);

    pub(crate) fn new(own: &StaticKey) -> Self {
        Self {
            mac1_key: mac1_key(own),
            cookie_key: cookie_key(own),
            secret: [0; 32],
            secret_since: None,
            tokens: Self::BURST + Self::PROVEN_DEBT,
            refilled: Instant::ZERO,
        }
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
        rng: &mut Rng,
    ) -> Admission {
        if !self.mac1_is_valid(init) {
            return Admission::Refuse;
        }
        let earned = now.since(self.refilled).as_micros() as u64 * Self::RATE / 1_000_000;
        if earned > 0 {
            self.tokens = (self.tokens + earned).min(Self::BURST + Self::PROVEN_DEBT);
            self.refilled = now;
        }
        debug_assert!(self.tokens <= Self::BURST + Self::PROVEN_DEBT, "the bucket has a rim");
        if self.tokens > Self::PROVEN_DEBT {
            self.tokens -= 1;
            return Admission::Go;
        }
        let cookie = self.cookie(now, source, rng);
        let (body, mac2) = init.split_at(INIT_LEN - MAC_LEN);
        if !equal(&mac16(&cookie, &[body]), mac2) {
            return Admission::Cookie(self.seal_cookie(init, cookie, rng));
        }
        if self.tokens == 0 {
            return Admission::Overload;
        }
        self.tokens -= 1;
        Admission::Go
    }

    fn cookie(&mut self, now: Instant, source: &[u8], rng: &mut Rng) -> [u8; 16] {
        if self.secret_since.is_none_or(|since| now.since(since) >= COOKIE_LIFETIME) {
            self.secret = rng.bytes();
            self.secret_since = Some(now);
        }
        mac16(&self.secret, &[source])
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

/// The bytes that stand for a source address in cookies.
pub(crate) fn source_bytes(addr: &core::net::SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    match addr.ip() {
        core::net::IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        core::net::IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_le_bytes());
    out
}
