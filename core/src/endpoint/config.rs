//! Owns what an endpoint is made of.

use crate::addr::Addr;
use crate::aead::{self, AeadProvider};
use crate::agreement::{self, KeyAgreement};
use crate::identity::{Identity, Profile, StaticKey};
use crate::rng::Entropy;
use crate::trust::TrustBook;
use crate::tunnel::stance::Stance;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Which nodes may make sessions with this endpoint besides pinned peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// None: strangers get no answer of any kind.
    Refuse,
    /// All, for control calls only, as a rendezvous does.
    Serve {
        /// Most strangers at once.
        max: usize,
    },
}

impl Strangers {
    /// What this node says of itself in key handshakes: one that serves strangers is a rendezvous.
    pub(super) const fn stance(self) -> Stance {
        Stance::new(matches!(self, Self::Serve { .. }))
    }
}

/// Everything that an endpoint is made of.
pub struct Config {
    /// Our keys.
    pub identity: Identity,
    /// The source of everything secret.
    pub entropy: Box<dyn Entropy>,
    /// Seed of what is random but no secret.
    pub seed: [u8; 32],
    /// The cipher's implementation on the data path.
    pub aead: &'static dyn AeadProvider,
    /// The implementation of X25519 for key handshakes.
    pub agreement: &'static dyn KeyAgreement,
    /// Which other nodes may speak.
    pub strangers: Strangers,
    /// Wall clock at `Instant::ZERO`. Unit: microseconds since 1970.
    pub wall_at_zero_us: u64,
    /// What [`Event::SaveTimes`](super::Event::SaveTimes) gave last, or [`Endpoint::used_us`](super::Endpoint::used_us) at an
    /// orderly end; 0 at the first start. Records and key handshakes of this node have later times, whatever the wall clock
    /// says.
    pub used_us: u64,
    /// Our address from an earlier run, or unassigned.
    pub addr: Addr,
    /// Hostname, visibility, tags.
    pub profile: Profile,
    /// Trust from an earlier run.
    pub trust: TrustBook,
    /// Static key and underlay address of our rendezvous.
    pub rendezvous: Option<(StaticKey, SocketAddr)>,
    /// Underlay addresses at which this node may be reached directly.
    pub candidates: Vec<SocketAddr>,
    /// Largest datagram that is tried on any path. Unit: bytes; at least 1216 is always used.
    pub datagram_len_max: usize,
}

impl Config {
    /// A node with these keys that knows no other. Equal sources make equal endpoints.
    pub fn new(identity: Identity, mut entropy: Box<dyn Entropy>) -> Self {
        Self {
            identity,
            seed: *entropy.secret(),
            entropy,
            aead: &aead::PORTABLE,
            agreement: &agreement::PORTABLE,
            strangers: Strangers::Refuse,
            wall_at_zero_us: 0,
            used_us: 0,
            addr: Addr::default(),
            profile: Profile::default(),
            trust: TrustBook::default(),
            rendezvous: None,
            candidates: Vec::new(),
            datagram_len_max: crate::path::DATAGRAM_LEN_MAX,
        }
    }
}
