//! Owns punch rounds: when the candidates of a peer are probed, and how often those that never answered.

use super::{Path, PathAddr, PathNews, Paths, Prober, PunchRound, Source, Standing};
use crate::time::{Duration, Instant};
use alloc::vec::Vec;

/// When the probes of one punch round leave, after its start. Unit: ms. Source: `docs/paths.md`, "Rules".
const ROUND_MS: [u64; 7] = [0, 20, 60, 140, 300, 600, 1000];
/// Steps of a round in which addresses that never answered are probed as well.
const UNPROVEN_STEPS: [usize; TRIES_MAX as usize] = [0, 2, 4];
/// Steps of a round at which a meeting may begin, since no answer has come so far. Source: `docs/paths.md`, "Meeting".
const FRUITLESS_STEPS: [usize; 2] = [3, 4];
/// Probes that an address gets which has never answered, within [`TRIES_AGAIN`]. Source: `docs/paths.md`, "Rules".
pub(super) const TRIES_MAX: u8 = 3;
/// Probes that all such addresses of one peer get in [`TRIES_AGAIN`]: a list of candidates has sixteen.
/// Source: `docs/paths.md`, "Rules".
pub(super) const PEER_TRIES_MAX: u8 = 16 * TRIES_MAX;
/// Time after which such addresses are tried again. Source: `docs/paths.md`, "Rules".
pub(super) const TRIES_AGAIN: Duration = Duration::from_secs(300);
/// Pauses between rounds; the last one repeats, or the one before where relays are to be measured. Unit: s. Source:
/// `docs/paths.md`, "Rules".
const ROUND_PAUSE_S: [u64; 5] = [2, 5, 15, 60, 300];

impl PunchRound {
    /// When the next probes of the round leave.
    pub(super) fn due_at(&self) -> Instant {
        self.start + Duration::from_millis(*ROUND_MS.get(self.step).unwrap_or(&0))
    }
}

impl Paths {
    pub(super) fn forget_tries(&mut self, now: Instant) {
        (self.tries, self.tries_since) = (0, now);
        self.list.iter_mut().for_each(|path| path.tries = 0);
    }

    /// Begins probing every direct candidate at this moment, and again after the pauses between rounds.
    pub(super) fn begin_rounds(&mut self, at: Instant) {
        (self.rounds, self.round_at, self.rests) = (0, at, false);
        self.round = Some(PunchRound { start: at, step: 0 });
    }

    pub(super) fn punch(&mut self, now: Instant, in_use: bool, prober: &mut Prober<'_>) {
        let (has_direct, has_choice) = (self.has_direct(), self.relays().count() > 1);
        while let Some(round) = &mut self.round {
            let Some(offset) = ROUND_MS.get(round.step) else {
                let longest = ROUND_PAUSE_S.len() - 1 - usize::from(has_choice);
                let pause = ROUND_PAUSE_S[self.rounds.min(longest)];
                self.rounds += usize::from(!has_direct);
                // A peer out of use is not worth waking the radio for.
                self.round =
                    (in_use && !has_direct).then(|| PunchRound { start: now + Duration::from_secs(pause), step: 0 });
                return;
            };
            if round.start + Duration::from_millis(*offset) > now {
                return;
            }
            let step = round.step;
            let targets = self.targets(now, step);
            let Some(round) = &mut self.round else { return };
            if let Err(wait) = prober.budget.take(now, targets.len()) {
                round.start = round.start + wait;
                return;
            }
            round.step += 1;
            if let Some(half) = FRUITLESS_STEPS.iter().position(|at| *at == step && !has_direct) {
                // A meeting is for peers in use: it may cost thousands of datagrams.
                match in_use {
                    true => self.note(PathNews::Fruitless(self.rounds, half > 0)),
                    false => self.rests = true,
                }
            }
            for to in targets {
                self.note_try(now, to);
                self.probe(now, to, None, prober.rng);
            }
        }
    }

    /// What a step of a round probes: addresses that have answered before, in some steps others, a few times, and relays: in the
    /// first step, and more often where there are several.
    fn targets(&mut self, now: Instant, step: usize) -> Vec<PathAddr> {
        if now.since(self.tries_since) >= TRIES_AGAIN {
            self.forget_tries(now);
        }
        // Beside a direct path only those are probed that may be faster.
        if self.has_direct() {
            let answers = self.list.iter().filter(|path| path.addr.is_direct() && path.validated);
            let list: Vec<PathAddr> = answers.map(|path| path.addr).collect();
            return if list.len() > 1 { list } else { Vec::new() };
        }
        let is_step = UNPROVEN_STEPS.contains(&step);
        let mut left = if is_step { PEER_TRIES_MAX - self.tries } else { 0 };
        let mut is_target = |path: &&Path| {
            // What a meeting names lies where the rendezvous sees the peer.
            let is_met = path.addr.source() != Source::MAIN && is_step;
            let is_tried = path.standing == Standing::Named && (is_met || left > 0) && path.tries < TRIES_MAX;
            left -= u8::from(is_tried && !is_met);
            path.addr.is_direct() && (path.is_open() || is_tried)
        };
        let list: Vec<PathAddr> = self.list.iter().filter(|path| is_target(path)).map(|path| path.addr).collect();
        // The ports of some NATs count flows: what a meeting names comes first, in its order.
        let of = |is_main: bool| list.iter().filter(move |addr| (addr.source() == Source::MAIN) == is_main);
        // How long the only relay takes, too: by that time both sides of a meeting fire together.
        let is_measured = step == 0 || is_step && self.relays().count() > 1;
        let relays = self.relays().map(|path| &path.addr).filter(|_| is_measured);
        of(false).chain(of(true)).chain(relays).copied().collect()
    }

    /// True when a datagram may go to this path now, which counts as one of the tries of an address that has not answered.
    pub(crate) fn may_try(&mut self, now: Instant, to: PathAddr) -> bool {
        if now.since(self.tries_since) >= TRIES_AGAIN {
            self.forget_tries(now);
        }
        let Some(path) = self.find(to) else { return false };
        let may = path.is_open() || path.tries < TRIES_MAX && self.tries < PEER_TRIES_MAX;
        if may {
            self.note_try(now, to);
        }
        may
    }

    fn note_try(&mut self, now: Instant, to: PathAddr) {
        let Some(path) = self.find_mut(to).filter(|path| !path.is_open()) else { return };
        path.tries += 1;
        if to.source() != Source::MAIN {
            return;
        }
        if self.tries == 0 {
            self.tries_since = now;
        }
        self.tries += 1;
        debug_assert!(self.tries <= PEER_TRIES_MAX, "a peer's budget has a rim");
    }
}
