//! Owns the keys of a node: its Ed25519 identity, the X25519 static key derived from that, and the record that binds both to
//! an address and a name.

use crate::addr::Addr;
use crate::aead::{AeadProvider as _, PORTABLE, TAG_LEN};
use crate::agreement::{self, KeyAgreement, KeyPair};
use crate::codec::{Malformed, Put, Reader};
use crate::extensions::Extensions;
use crate::hash;
use crate::rng::Rng;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// An Ed25519 public key: the only long-lived name of a node, and the one that trust pins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey(pub [u8; 32]);

/// An X25519 public key: the name of a node in key handshakes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StaticKey(pub [u8; 32]);

/// A node's own keys. The seed is the only secret that must be kept.
pub struct Identity {
    signing: SigningKey,
    public: IdentityKey,
    static_pair: KeyPair,
}

impl Identity {
    /// Derives the identity from a 32-byte secret seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(&seed);
        // A label of its own, not the birational map: neither key says anything about the other. Source: `docs/wire.md`.
        let static_pair = KeyPair::new(&agreement::PORTABLE, hash::derive(&seed, &[b"pn1-x25519"]));
        let public = IdentityKey(signing.verifying_key().to_bytes());
        Self { signing, public, static_pair }
    }

    /// The same identity with another implementation of X25519 for its key handshakes.
    pub fn with_agreement(self, agreement: &'static dyn KeyAgreement) -> Self {
        Self { static_pair: self.static_pair.with_agreement(agreement), ..self }
    }

    /// The secret seed, for writing the identity file.
    pub fn seed(&self) -> [u8; 32] {
        self.signing.to_bytes()
    }

    /// The public identity key.
    pub const fn public(&self) -> IdentityKey {
        self.public
    }

    /// The public static key.
    pub const fn static_key(&self) -> StaticKey {
        StaticKey(*self.static_pair.public())
    }

    /// Both halves of the static key.
    pub(crate) const fn static_pair(&self) -> &KeyPair {
        &self.static_pair
    }

    /// Signs `label`, which names the kind of `bytes`, followed by `bytes`.
    pub fn sign(&self, label: &str, bytes: &[u8]) -> [u8; 64] {
        let mut message = Vec::from(label.as_bytes());
        message.put(bytes);
        self.signing.sign(&message).to_bytes()
    }

    /// Opens a box that [`StaticKey::seal`] made for this node; `None` when it was made for another key, or changed.
    pub fn open_sealed(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (ephemeral, body) = sealed.split_first_chunk::<32>()?;
        let shared = self.static_pair.agree(ephemeral)?;
        let mut body = body.to_vec();
        let key = box_key(&shared, ephemeral, &self.static_key());
        PORTABLE.key(&key).open(0, &[], &mut body).then(|| {
            body.truncate(body.len() - TAG_LEN);
            body
        })
    }
}

impl IdentityKey {
    /// True when `signature` was made by this key over `label` and `bytes`. Strict: no malleable encodings.
    pub fn verify(&self, label: &str, bytes: &[u8], signature: &[u8; 64]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
        let mut message = Vec::from(label.as_bytes());
        message.put(bytes);
        key.verify_strict(&message, &Signature::from_bytes(signature)).is_ok()
    }

    /// The text that two people compare: 64 bits of the key's hash as four groups of hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let hash = hash::blake2s(&[b"pn1-fingerprint", &self.0]);
        let mut text = String::new();
        for (i, pair) in hash[..8].chunks(2).enumerate() {
            use fmt::Write as _;
            let dash = if i > 0 { "-" } else { "" };
            let _ = write!(text, "{dash}{:02x}{:02x}", pair[0], pair[1]);
        }
        text
    }
}

impl StaticKey {
    /// Seals `bytes` so that only the owner of this key can read them: ephemeral key 32, ciphertext, tag 16.
    pub fn seal(&self, bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
        let ephemeral = KeyPair::new(&agreement::PORTABLE, rng.bytes());
        // A static key of low order shares nothing: the box gets a random key, and cannot be opened.
        let shared = ephemeral.agree(&self.0).unwrap_or_else(|| rng.bytes());
        let mut out = Vec::from(*ephemeral.public());
        let mut body = Vec::with_capacity(bytes.len() + TAG_LEN);
        body.put(bytes);
        body.put(&[0; TAG_LEN]);
        PORTABLE.key(&box_key(&shared, ephemeral.public(), self)).seal(0, &[], &mut body);
        out.put(&body);
        out
    }
}

fn box_key(shared: &[u8; 32], ephemeral: &[u8; 32], recipient: &StaticKey) -> [u8; 32] {
    hash::derive(shared, &[b"pn1-box", ephemeral, &recipient.0])
}

/// Address, keys, name and tags of a node, signed with its identity key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The virtual address that was assigned to the node.
    pub addr: Addr,
    /// Identity key; the signer.
    pub identity: IdentityKey,
    /// Static key, for key handshakes.
    pub static_key: StaticKey,
    /// Hostname, or empty. See [`valid_hostname`].
    pub hostname: String,
    /// True when the node may be found by search. Never means that the node may be reached.
    pub public: bool,
    /// Search tags, each shaped like a hostname; at most [`NodeRecord::TAGS_MAX`].
    pub tags: Vec<String>,
    /// Rises with every record of this identity. Unit: milliseconds of wall clock, or one more than the last.
    pub sequence: u64,
    /// What the record says besides. Types that this version does not know are kept, since the signature covers them.
    pub extensions: Extensions,
    signature: [u8; 64],
}

impl NodeRecord {
    /// Most tags in a record. Source: `docs/trust.md`.
    pub const TAGS_MAX: usize = 3;
    /// Longest encoding of a record. Unit: bytes.
    pub const LEN_MAX: usize = 1024;
    const LABEL: &'static str = "pn1-record";

    /// Makes and signs the record of `identity`.
    pub fn sign(identity: &Identity, addr: Addr, profile: &Profile, sequence: u64) -> Self {
        Self::sign_with(identity, addr, profile, sequence, Extensions::NONE)
    }

    /// Makes and signs the record of `identity`, with extensions.
    pub fn sign_with(
        identity: &Identity,
        addr: Addr,
        profile: &Profile,
        sequence: u64,
        extensions: Extensions,
    ) -> Self {
        let mut record = Self {
            addr,
            identity: identity.public(),
            static_key: identity.static_key(),
            hostname: profile.hostname.clone(),
            public: profile.public,
            tags: profile.tags.clone(),
            sequence,
            extensions,
            signature: [0; 64],
        };
        let body = record.body();
        debug_assert!(body.len() + record.signature.len() <= Self::LEN_MAX, "{} bytes", body.len());
        record.signature = identity.sign(Self::LABEL, &body);
        record
    }

    /// A record without a signature, for a node with keys that this node has pinned. It convinces no other node.
    pub fn unsigned(identity: IdentityKey, static_key: StaticKey, addr: Addr, hostname: &str) -> Self {
        Self {
            addr,
            identity,
            static_key,
            hostname: hostname.into(),
            public: false,
            tags: Vec::new(),
            sequence: 0,
            extensions: Extensions::NONE,
            signature: [0; 64],
        }
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(&self.addr.to_bytes());
        out.put(&self.identity.0);
        out.put(&self.static_key.0);
        out.put_u8(self.public.into());
        out.put_u64(self.sequence);
        out.put_bytes(self.hostname.as_bytes());
        out.put_u8(self.tags.len() as u8);
        self.tags.iter().for_each(|tag| out.put_bytes(tag.as_bytes()));
        self.extensions.emit(&mut out);
        out
    }

    /// The record's bytes: body, then signature 64.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = self.body();
        out.put(&self.signature);
        out
    }

    /// Reads a record and verifies its signature.
    ///
    /// # Errors
    /// The same for a forged record as for a malformed one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let record = Self::parse_unverified(bytes)?;
        let signed = record.identity.verify(Self::LABEL, &record.body(), &record.signature);
        if signed { Ok(record) } else { Err(Malformed) }
    }

    /// Reads a record without looking at its signature: for the very bytes that were verified before.
    ///
    /// # Errors
    /// When the record is malformed.
    pub(crate) fn parse_unverified(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let addr = Addr::from_bytes(r.array()?);
        let (identity, static_key) = (IdentityKey(r.array()?), StaticKey(r.array()?));
        let (public, sequence) = (r.u8()? != 0, r.u64()?);
        let hostname = String::from(r.str(HOSTNAME_MAX)?);
        let count = usize::from(r.u8()?);
        if count > Self::TAGS_MAX || !(hostname.is_empty() || valid_hostname(&hostname)) {
            return Err(Malformed);
        }
        let mut tags = Vec::new();
        for _ in 0..count {
            let tag = r.str(HOSTNAME_MAX)?;
            if !valid_hostname(tag) {
                return Err(Malformed);
            }
            tags.push(tag.into());
        }
        let extensions = Extensions::parse(&mut r)?;
        let signature = r.array()?;
        r.finish()?;
        Ok(Self { addr, identity, static_key, hostname, public, tags, sequence, extensions, signature })
    }
}

/// The part of a node's record that its owner chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Hostname, or empty.
    pub hostname: String,
    /// True when the node may be found by search.
    pub public: bool,
    /// Search tags, at most [`NodeRecord::TAGS_MAX`].
    pub tags: Vec<String>,
}

/// Longest hostname. Unit: bytes. Source: `docs/trust.md`.
pub const HOSTNAME_MAX: usize = 63;

/// Hostnames that could be mistaken for something else. Source: `docs/trust.md`.
const RESERVED: [&str; 6] = ["localhost", "pilot", "registry", "beacon", "rendezvous", "self"];

/// True for 1–63 characters of `a–z 0–9 -` that neither begin nor end with a dash, are not only digits (those are node
/// numbers) and are not reserved.
pub fn valid_hostname(name: &str) -> bool {
    let shape = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=HOSTNAME_MAX).contains(&name.len())
        && name.bytes().all(shape)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.bytes().all(|b| b.is_ascii_digit())
        && !RESERVED.contains(&name)
}

macro_rules! hex_text {
    ($($t:ty),*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl core::str::FromStr for $t {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                if text.len() != 64 || !text.is_ascii() {
                    return Err(Malformed);
                }
                let mut out = [0; 32];
                for (slot, i) in out.iter_mut().zip((0..64).step_by(2)) {
                    *slot = u8::from_str_radix(&text[i..i + 2], 16).map_err(|_| Malformed)?;
                }
                Ok(Self(out))
            }
        }
    )*};
}
hex_text!(IdentityKey, StaticKey);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extensions::{EXTENSIONS_LEN_MAX, ExtensionType};
    use std::string::ToString;

    #[test]
    fn records_survive_the_wire_and_refuse_any_change() {
        let identity = Identity::from_seed([1; 32]);
        let profile = Profile { hostname: "worker-node".into(), public: true, tags: std::vec!["gpu".into()] };
        let record = NodeRecord::sign(&identity, Addr::new(0, 9), &profile, 5);
        let bytes = record.emit();
        assert!(bytes.len() <= NodeRecord::LEN_MAX);
        assert_eq!(NodeRecord::parse(&bytes), Ok(record));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert_eq!(NodeRecord::parse(&bad), Err(Malformed), "byte {i}");
        }
    }

    #[test]
    fn the_largest_record_keeps_what_a_later_version_signed() {
        let identity = Identity::from_seed([1; 32]);
        let long = "a".repeat(HOSTNAME_MAX);
        let profile = Profile { hostname: long.clone(), public: true, tags: std::vec![long; NodeRecord::TAGS_MAX] };
        let later = ExtensionType(0xfff0);
        let extensions = Extensions::NONE.with(later, &[7; EXTENSIONS_LEN_MAX - 4]).expect("just fits");
        let bytes = NodeRecord::sign_with(&identity, Addr::new(0, 9), &profile, 5, extensions).emit();
        assert!(bytes.len() <= NodeRecord::LEN_MAX, "{}", bytes.len());
        let record = NodeRecord::parse(&bytes).expect("signed");
        assert_eq!(record.extensions.get(later).map(<[u8]>::len), Some(EXTENSIONS_LEN_MAX - 4));
        assert_eq!(record.emit(), bytes);
    }

    #[test]
    fn sealed_boxes_open_only_for_their_recipient() {
        let (a, b) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let sealed = a.static_key().seal(b"hello", &mut Rng::new([3; 32]));
        assert_eq!(a.open_sealed(&sealed).as_deref(), Some(&b"hello"[..]));
        assert_eq!(b.open_sealed(&sealed), None);
        assert_eq!(a.open_sealed(&sealed[..40]), None);
    }

    #[test]
    fn hostnames_are_checked() {
        for good in ["a", "worker-node", "node7", &"a".repeat(63)] {
            assert!(valid_hostname(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "7", "localhost", &"a".repeat(64), "é"] {
            assert!(!valid_hostname(bad), "{bad}");
        }
    }

    #[test]
    fn keys_round_trip_as_text() {
        let key = Identity::from_seed([1; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.fingerprint().len(), 19);
        assert!("zz".repeat(32).parse::<IdentityKey>().is_err());
    }
}
