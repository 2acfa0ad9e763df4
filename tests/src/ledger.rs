//! Owns the account of what a machine sends to addresses that may be anybody's.
//!
//! A datagram's source address can be forged. Until an address has answered, a machine sends there at most three times what
//! came from there (RFC 9000 §8.1), and beside that what [`CANDIDATE_LEN_MAX`] names. Addresses of the machine's own
//! configuration and trust book get INITs at their pace.

use pilot_core::path::Path;
use pilot_core::time::Duration;
use pilot_core::{Endpoint, Instant};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What an address gets unasked, for each peer that names it as a candidate, in [`AGAIN`]: three probes. Unit: bytes.
const CANDIDATE_LEN_MAX: u64 = 3 * 41;
/// What an address gets besides where a node lives with which the machine has a meeting, in [`MEETING_AGAIN`]: a probe from each of
/// 256 sockets, twice. Unit: bytes.
const MEETING_LEN_MAX: u64 = 512 * 41;
/// Time after which the machine has another meeting with many sockets. A node that has begun anew takes the same ports.
const MEETING_AGAIN: Duration = Duration::from_secs(600);
/// Time after which a candidate is tried again.
const AGAIN: Duration = Duration::from_secs(300);
/// Longest datagram that goes to a known address which has not answered: an INIT. Unit: bytes.
const INIT_LEN_MAX: usize = 160;
/// What an address may be sent for each byte that came from there.
const AMPLIFICATION_MAX: u64 = 3;

/// One machine's traffic with one address.
#[derive(Clone, Copy, Default)]
struct Account {
    received: u64,
    sent: u64,
    /// The machine has heard an answer from there.
    is_open: bool,
    /// A node lives there, or lived there when something was sent.
    is_home: bool,
}

/// One machine's traffic with all addresses.
#[derive(Default)]
pub(crate) struct Ledger {
    accounts: BTreeMap<SocketAddr, Account>,
    /// Own moves of the machine, and restarts of its peers, which name their candidates anew.
    chances: u64,
}

impl Ledger {
    /// The machine has moved, or a peer has restarted: candidates that gave no answer are tried again.
    pub(crate) const fn give_chance(&mut self) {
        self.chances += 1;
    }

    /// Notes a datagram that came from `from`, or claims so.
    pub(crate) fn receive(&mut self, from: SocketAddr, len: usize) {
        self.accounts.entry(from).or_default().received += len as u64;
    }

    /// Notes a datagram that leaves for `to`, where a node lives or not (`is_home`).
    ///
    /// # Panics
    /// When the machine must not send so much there.
    pub(crate) fn send(&mut self, now: Instant, to: (SocketAddr, bool), len: usize, endpoint: &Endpoint) {
        let (to, is_home) = to;
        let account = self.accounts.entry(to).or_default();
        if account.is_open {
            return;
        }
        if endpoint.is_open(to) {
            // An address that has answered and is forgotten later has not become a stranger's.
            account.is_open = account.received > 0 || has_answered_a_probe(now, to, endpoint);
            let is_init = len <= INIT_LEN_MAX;
            assert!(account.is_open || is_init, "{len} bytes at once to {to}, which is known but has not answered");
            return;
        }
        account.sent += len as u64;
        account.is_home |= is_home;
        let times = |pause: Duration| 1 + now.since(Instant::ZERO).as_secs() / pause.as_secs();
        let named = CANDIDATE_LEN_MAX * (endpoint.peers().count() as u64) * (self.chances + times(AGAIN))
            + if account.is_home { MEETING_LEN_MAX * times(MEETING_AGAIN) } else { 0 };
        assert!(
            account.sent <= AMPLIFICATION_MAX * account.received + named,
            "{} bytes to {to}, from where {} came, and nothing has answered there",
            account.sent,
            account.received
        );
    }
}

/// True when a peer has answered a probe that went to `to`. The answer may have taken another way, and shows all the same that the
/// peer hears what is sent there.
fn has_answered_a_probe(now: Instant, to: SocketAddr, endpoint: &Endpoint) -> bool {
    let mut infos = endpoint.peers().filter_map(|peer| endpoint.peer_info(now, peer));
    let is_it = |path: &Path| path.addr.addr() == Some(to) && path.loss().is_some_and(|loss| loss < 1.0);
    infos.any(|info| info.paths.iter().any(is_it))
}
