//! The tunnel: how two nodes get keys (`handshake`), how they seal datagrams with them ([`session`]), and how replays
//! are refused ([`replay`]). [`kem`] keeps what is recorded today shut for the computers of tomorrow.

mod bucket;
pub(crate) mod door;
pub(crate) mod handshake;
pub mod kem;
pub mod replay;
pub mod session;
pub(crate) mod stance;

use crate::time::Duration;

// Specification constants (`docs/wire.md`, "Rules" and "Rekey").

/// Age after which a session between nodes is replaced while it is in use.
pub const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Age after which a session between nodes is not used any more; its keys are erased.
pub const REJECT_AFTER: Duration = Duration::from_secs(180);
/// Age after which a session with a rendezvous is replaced: it carries calls alone, and a rendezvous has many nodes.
pub const REKEY_AFTER_RENDEZVOUS: Duration = Duration::from_secs(30 * 60);
/// Age after which a session with a rendezvous is not used any more: half as much again, as between nodes.
pub const REJECT_AFTER_RENDEZVOUS: Duration = Duration::from_secs(45 * 60);
/// All keys are erased after this time without a key handshake or, with a rendezvous, without a datagram.
pub const ERASE_AFTER: Duration = Duration::from_secs(3 * REJECT_AFTER.as_secs());
/// Datagrams after which a session is replaced.
pub const REKEY_AFTER_DATAGRAMS: u64 = 1 << 60;
/// Counters from here on are refused, far from wrapping.
pub const COUNTER_MAX: u64 = u64::MAX - (1 << 13);
/// Pauses between INITs without an answer; the last one repeats.
pub const INIT_RESEND: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(5)];
/// Shortest and longest pause before the next INIT that a COOKIE can ask for. Source: own choice; the shortest keeps a
/// flood of cookies from making a flood of INITs, the longest leaves time for another INIT before the handshake is given
/// up.
pub const COOKIE_WAIT_MIN: Duration = Duration::from_millis(200);
/// See [`COOKIE_WAIT_MIN`].
pub const COOKIE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Time after which an unanswered key handshake is given up.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(90);
/// Mixed into every key handshake before the header of its INIT, so that no other protocol's messages can be taken for
/// ours.
pub const PROLOGUE: &[u8] = b"pilot PN1 v2";

#[cfg(test)]
mod golden;
