//! Owns the key handshake: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (Noise Protocol Framework, revision 34).
//!
//! Two messages, each consumed by value so that no step runs twice:
//! ```text
//!   initiator                                   responder
//!   Initiation::write  -- e, es, s, ss, {payload} -->  Received::read
//!   Initiation::finish <-- e, ee, se, psk, {payload} --  Received::respond
//! ```
//! Checked against the published cacophony vectors and against `snow` (see `tests/noise_vectors.rs`).

use crate::aead::{AeadProvider as _, PORTABLE, TAG_LEN};
use crate::agreement::KeyPair;
use crate::codec::{Put, Reader};
use crate::hash::{blake2s, derive, hkdf, mac8};
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroize as _;

const PROTOCOL: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";

/// The message is forged, damaged, or meant for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeFailed;

impl fmt::Display for HandshakeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message of the key handshake is forged, damaged, or meant for another node")
    }
}

impl core::error::Error for HandshakeFailed {}

/// The two traffic keys of a finished key handshake, from this side's point of view.
pub struct TrafficKeys {
    /// Key for datagrams this side sends.
    pub send: [u8; 32],
    /// Key for datagrams this side receives.
    pub receive: [u8; 32],
    /// A secret of this session alone, for what is derived beside its traffic.
    pub exporter: [u8; 32],
}

impl Drop for TrafficKeys {
    fn drop(&mut self) {
        self.send.zeroize();
        self.receive.zeroize();
        self.exporter.zeroize();
    }
}

/// The secret that the static keys of a pair share (`ss`). It is the same in every key handshake of the pair, so that
/// it is best computed in advance and kept.
#[derive(Clone)]
pub struct StaticShared([u8; 32]);

impl StaticShared {
    /// Computes it of our static keys and the peer's public one; `None` when that is a low-order point.
    pub fn new(own: &KeyPair, peer: &[u8; 32]) -> Option<Self> {
        own.agree(peer).map(Self)
    }

    /// A short mark over `parts`, for a use beside the key handshake that `label` names.
    pub(crate) fn mark(&self, label: &str, parts: &[&[u8]]) -> [u8; 8] {
        mac8(&derive(&self.0, &[label.as_bytes()]), parts)
    }
}

impl Drop for StaticShared {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The initiator after its message, waiting for the answer.
#[derive(Clone)]
pub struct Initiation {
    state: Symmetric,
    ephemeral: KeyPair,
}

impl Initiation {
    /// Writes the first message for the owner of `responder` and returns it with the waiting state. `own` is our public
    /// static key, `shared` the secret that it shares with `responder`, `ephemeral` a pair that no other key handshake
    /// uses. The prologue holds what precedes the message in its datagram, so that no bit of that can be changed.
    ///
    /// # Errors
    /// When `responder` is a low-order point.
    pub fn write(
        prologue: &[u8],
        own: &[u8; 32],
        (responder, shared): (&[u8; 32], &StaticShared),
        ephemeral: KeyPair,
        payload: &[u8],
    ) -> Result<(Self, Vec<u8>), HandshakeFailed> {
        let mut state = Symmetric::new(prologue, responder);
        let mut message = Vec::with_capacity(96 + payload.len() + TAG_LEN);
        state.mix_ephemeral(ephemeral.public());
        message.put(ephemeral.public());
        state.mix_dh(&ephemeral, responder)?; // es
        state.seal(own, &mut message); // s
        state.mix_key(&shared.0); // ss
        state.seal(payload, &mut message);
        Ok((Self { state, ephemeral }, message))
    }

    /// Reads the answer, which `header` precedes in its datagram. Takes `&self`: a forged answer must not end a pending
    /// key handshake (`docs/wire.md`, "Rules").
    ///
    /// # Errors
    /// When the answer does not authenticate under our keys and `psk`.
    pub fn finish(
        &self,
        own: &KeyPair,
        psk: &[u8; 32],
        answer: (&[u8], &[u8]),
    ) -> Result<(TrafficKeys, Vec<u8>), HandshakeFailed> {
        self.finish_any(own, &[psk], answer).map(|(_, keys, payload)| (keys, payload))
    }

    /// The same with several secrets, of which the first one that fits is taken; gives its place.
    ///
    /// # Errors
    /// When the answer authenticates under none of them.
    pub fn finish_any(
        &self,
        own: &KeyPair,
        psks: &[&[u8; 32]],
        (header, message): (&[u8], &[u8]),
    ) -> Result<(usize, TrafficKeys, Vec<u8>), HandshakeFailed> {
        let mut state = self.state.clone();
        state.mix_header(header);
        let mut r = Reader::new(message);
        let theirs: [u8; 32] = r.array().map_err(|_| HandshakeFailed)?;
        state.mix_ephemeral(&theirs);
        state.mix_dh(&self.ephemeral, &theirs)?; // ee
        state.mix_dh(own, &theirs)?; // se
        for (place, psk) in psks.iter().enumerate() {
            let mut state = state.clone();
            state.mix_psk(psk);
            if let Ok(payload) = state.open(r.rest()) {
                let (send, receive) = state.split();
                return Ok((place, TrafficKeys { send, receive, exporter: state.export() }, payload));
            }
        }
        Err(HandshakeFailed)
    }
}

/// The responder after the first message: the initiator's key is known, and nothing has been sent yet.
pub struct Received {
    state: Symmetric,
    ephemeral: [u8; 32],
    /// The initiator's static key, authenticated.
    pub initiator: [u8; 32],
    /// The secret that its static key and ours share.
    pub shared: StaticShared,
    /// The first message's payload.
    pub payload: Vec<u8>,
}

impl Received {
    /// Reads the first message. `own` are our static keys; `known` gives the secret that ours and an initiator's share,
    /// if it has been computed before.
    ///
    /// # Errors
    /// When it was not made for our static key, or was changed.
    pub fn read(
        prologue: &[u8],
        own: &KeyPair,
        message: &[u8],
        known: impl FnOnce(&[u8; 32]) -> Option<StaticShared>,
    ) -> Result<Self, HandshakeFailed> {
        let mut state = Symmetric::new(prologue, own.public());
        let mut r = Reader::new(message);
        let ephemeral: [u8; 32] = r.array().map_err(|_| HandshakeFailed)?;
        state.mix_ephemeral(&ephemeral);
        state.mix_dh(own, &ephemeral)?; // es
        let sealed = r.take(32 + TAG_LEN).map_err(|_| HandshakeFailed)?;
        let initiator: [u8; 32] = state.open(sealed)?.try_into().map_err(|_| HandshakeFailed)?;
        let shared = known(&initiator).or_else(|| StaticShared::new(own, &initiator)).ok_or(HandshakeFailed)?;
        state.mix_key(&shared.0); // ss
        let payload = state.open(r.rest())?;
        Ok(Self { state, ephemeral, initiator, shared, payload })
    }

    /// Writes the answer. `ephemeral` is a pair that no other key handshake uses, `psk` the pair secret that both sides
    /// got at approval, or zero towards a rendezvous; `header` is what precedes the answer in its datagram.
    ///
    /// # Errors
    /// When the initiator sent a low-order point.
    pub fn respond(
        mut self,
        ephemeral: &KeyPair,
        psk: &[u8; 32],
        (header, payload): (&[u8], &[u8]),
    ) -> Result<(TrafficKeys, Vec<u8>), HandshakeFailed> {
        let mut message = Vec::with_capacity(32 + payload.len() + TAG_LEN);
        self.state.mix_header(header);
        self.state.mix_ephemeral(ephemeral.public());
        message.put(ephemeral.public());
        self.state.mix_dh(ephemeral, &self.ephemeral)?; // ee
        self.state.mix_dh(ephemeral, &self.initiator)?; // se
        self.state.mix_psk(psk);
        self.state.seal(payload, &mut message);
        let (receive, send) = self.state.split();
        Ok((TrafficKeys { send, receive, exporter: self.state.export() }, message))
    }
}

/// Noise's SymmetricState with the cipher key of its CipherState.
#[derive(Clone)]
struct Symmetric {
    chaining_key: [u8; 32],
    hash: [u8; 32],
    key: [u8; 32],
    counter: u64,
}

impl Symmetric {
    fn new(prologue: &[u8], responder: &[u8; 32]) -> Self {
        // The full name is longer than a hash, so Noise §5.2 hashes it.
        let name = blake2s(&[PROTOCOL]);
        let mut state = Self { chaining_key: name, hash: name, key: [0; 32], counter: 0 };
        state.mix_hash(prologue);
        state.mix_hash(responder);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = blake2s(&[&self.hash, data]);
    }

    /// Mixes what precedes the answer in its datagram. The published handshake has nothing there.
    fn mix_header(&mut self, header: &[u8]) {
        if !header.is_empty() {
            self.mix_hash(header);
        }
    }

    fn mix_key(&mut self, input: &[u8]) {
        let [chaining_key, key] = hkdf(&self.chaining_key, input);
        (self.chaining_key, self.key, self.counter) = (chaining_key, key, 0);
    }

    /// In PSK patterns an ephemeral is mixed into the key as well (Noise §9.2).
    fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        self.mix_key(public);
    }

    fn mix_dh(&mut self, own: &KeyPair, public: &[u8; 32]) -> Result<(), HandshakeFailed> {
        let mut shared = own.agree(public).ok_or(HandshakeFailed)?;
        self.mix_key(&shared);
        shared.zeroize();
        Ok(())
    }

    fn mix_psk(&mut self, psk: &[u8; 32]) {
        let [chaining_key, hash, key] = hkdf(&self.chaining_key, psk);
        self.mix_hash(&hash);
        (self.chaining_key, self.key, self.counter) = (chaining_key, key, 0);
    }

    fn seal(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.put(text);
        out.put(&[0; TAG_LEN]);
        let sealed = &mut out[start..];
        PORTABLE.key(&self.key).seal(self.counter, &self.hash, sealed);
        self.counter += 1;
        self.hash = blake2s(&[&self.hash, sealed]);
    }

    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, HandshakeFailed> {
        let mut text = sealed.to_vec();
        if !PORTABLE.key(&self.key).open(self.counter, &self.hash, &mut text) {
            return Err(HandshakeFailed);
        }
        self.counter += 1;
        self.mix_hash(sealed);
        text.truncate(text.len() - TAG_LEN);
        Ok(text)
    }

    fn split(&self) -> ([u8; 32], [u8; 32]) {
        let [initiator_sends, responder_sends] = hkdf(&self.chaining_key, &[]);
        (initiator_sends, responder_sends)
    }

    /// A secret beside the traffic keys, bound to all that was said.
    fn export(&self) -> [u8; 32] {
        derive(&self.chaining_key, &[b"pn1-exporter", &self.hash])
    }
}

impl Drop for Symmetric {
    fn drop(&mut self) {
        self.chaining_key.zeroize();
        self.key.zeroize();
    }
}
