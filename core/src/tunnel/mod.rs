//! The tunnel: how two nodes get keys (`handshake`), how they seal datagrams with them ([`session`]), and how replays
//! are refused ([`replay`]).

pub(crate) mod door;
pub(crate) mod handshake;
pub mod replay;
pub mod session;

use crate::time::Duration;

// Specification constants (`docs/wire.md`, "Rules" and "Rekey").

/// Age after which a session in use is replaced.
pub const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Age after which a session is not used any more; its keys are erased.
pub const REJECT_AFTER: Duration = Duration::from_secs(180);
/// Datagrams after which a session is replaced.
pub const REKEY_AFTER_DATAGRAMS: u64 = 1 << 60;
/// Counters from here on are refused, far from wrapping.
pub const COUNTER_MAX: u64 = u64::MAX - (1 << 13);
/// Pauses between INITs without an answer; the last one repeats.
pub const INIT_RESEND: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(5)];
/// Time after which an unanswered key handshake is given up.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(90);
/// Mixed into every key handshake, so that no other protocol's messages can be taken for ours.
pub const PROLOGUE: &[u8] = b"pilot PN1 v1";
