//! Owns enrolments: keys by which the holders of a code make themselves members while no admin is online.
//!
//! ```text
//!   group key ──signs──▶ enrolment {key, uses, end} ──signs──▶ statement of a member        no longer chain counts
//! ```
//! The code has the secret half of the key. A holder of the code signs a statement of its own, which counts until the enrolment
//! ends; an admin replaces it by one with the usual term, for as many nodes as the enrolment has uses. Those beyond are shown, and
//! end with the enrolment. A removal of an enrolment voids it with all that it alone has signed.

use crate::hash;
use crate::identity::{Identity, IdentityKey};
use core::fmt;
use zeroize::Zeroizing;

/// Most enrolments of a group at a time. Source: own choice; one does for many machines.
pub const ENROLMENTS_MAX: usize = 16;
/// Most uses of an enrolment. Source: that of an invite.
pub const ENROLMENT_USES_MAX: u16 = 1000;
/// Most members beyond its uses that a roster takes from one enrolment: a code that leaked fills no roster. Source: own choice.
pub const OVER_USES_MAX: usize = 64;
/// Longest term of an enrolment. Unit: seconds (30 days). Source: that of an invite.
pub const ENROLMENT_TERM_MAX_S: u32 = 30 * super::DAY_S;

/// Says that the holders of a code may make themselves members until a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The key with which they sign.
    pub key: IdentityKey,
    /// How many nodes an admin takes over, from 1 to [`ENROLMENT_USES_MAX`].
    pub uses: u16,
    /// When it was signed. Unit: seconds since 1970.
    pub issued: u32,
    /// End of the enrolment and of all that its key signs, at most [`ENROLMENT_TERM_MAX_S`] later. Unit: seconds since 1970.
    pub not_after: u32,
    /// Above the epochs of all removals that its signer knew: void once a member is removed.
    pub epoch: u32,
    pub(crate) signature: [u8; 64],
}

impl Enrolment {
    /// The first bytes of the key, by which people name an enrolment as they name an invite.
    pub fn number(&self) -> u32 {
        number_of(&self.key)
    }

    /// True for values that an enrolment may have.
    pub(crate) fn is_in_range(&self) -> bool {
        let term_s = self.not_after.checked_sub(self.issued);
        (1..=ENROLMENT_USES_MAX).contains(&self.uses)
            && term_s.is_some_and(|term_s| (1..=ENROLMENT_TERM_MAX_S).contains(&term_s))
    }

    pub(super) fn rank(&self) -> (u32, u32, &[u8; 64]) {
        (self.epoch, self.issued, &self.signature)
    }
}

/// The number of the enrolment with this key.
pub fn number_of(key: &IdentityKey) -> u32 {
    u32::from_be_bytes(*key.0.first_chunk().expect("4 of 32 bytes"))
}

/// What a code tells: 128 bits of chance, of which the enrolment key is made.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentSeed(Zeroizing<[u8; Self::LEN]>);

impl EnrolmentSeed {
    /// Unit: bytes.
    pub const LEN: usize = 16;

    /// The seed with these bytes.
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes of the seed.
    pub fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The keys of the enrolment.
    pub fn identity(&self) -> Identity {
        let mut secret = Zeroizing::new([0; 32]);
        secret[..Self::LEN].copy_from_slice(&*self.0);
        Identity::from_seed(hash::derive(&secret, &[b"pn1-enrolment"]))
    }
}

impl fmt::Debug for EnrolmentSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrolmentSeed")
    }
}
