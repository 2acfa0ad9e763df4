//! Owns the questions to the rendezvous that show how this node's NAT maps two fresh sockets.

use crate::path::{Nat, PathAddr, Sample, Source, classify};
use crate::rng::Rng;
use crate::seen::{Nonce, question};
use crate::time::Duration;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Time for an answer before a question is repeated, and after that. Source: own choice.
pub(super) const WAIT: Duration = Duration::from_millis(250);

/// Answers that tell the order of ports. Source: four random ports lie in one block once in 60,000 times.
const SAMPLES: usize = 4;

struct Asked {
    from: Source,
    to: SocketAddr,
    nonce: Nonce,
    seen: Option<SocketAddr>,
}

/// What is asked from both sockets, in the order in which it leaves.
pub(super) struct Survey {
    sources: [Source; 2],
    asked: Vec<Asked>,
    is_repeated: bool,
}

impl Survey {
    /// Questions from the first of `sources` to the rendezvous at `beacon` and at its other addresses, and some from the second.
    pub(super) fn new(sources: [Source; 2], beacon: SocketAddr, probes: &[(SocketAddr, bool)], rng: &mut Rng) -> Self {
        let to = || core::iter::once(beacon).chain(probes.iter().map(|(addr, _)| *addr));
        let to = || to().filter(|addr| addr.is_ipv4() == beacon.is_ipv4());
        let others = SAMPLES.saturating_sub(to().count()).max(1);
        let all = to().map(|to| (sources[0], to)).chain(to().take(others).map(|to| (sources[1], to)));
        let asked = all.map(|(from, to)| Asked { from, to, nonce: rng.bytes(), seen: None }).collect();
        Self { sources, asked, is_repeated: false }
    }

    pub(super) const fn sources(&self) -> [Source; 2] {
        self.sources
    }

    /// The datagrams of all questions.
    pub(super) fn questions(&self) -> Vec<(PathAddr, Vec<u8>)> {
        self.asked.iter().map(Asked::datagram).collect()
    }

    /// The questions that are worth repeating, once.
    pub(super) fn asks_again(&mut self, probes: &[(SocketAddr, bool)]) -> Option<Vec<(PathAddr, Vec<u8>)>> {
        let is_mute = |to: SocketAddr| probes.iter().any(|(addr, has_answered)| *addr == to && !has_answered);
        let open: Vec<_> =
            self.asked.iter().filter(|asked| asked.seen.is_none() && !is_mute(asked.to)).map(Asked::datagram).collect();
        let repeats = !core::mem::replace(&mut self.is_repeated, true) && !open.is_empty();
        repeats.then_some(open)
    }

    /// Takes an answer; false when it belongs to no question.
    pub(super) fn take(&mut self, from: PathAddr, nonce: &Nonce, seen: SocketAddr) -> bool {
        let to = (from.addr(), from.source());
        let asked = self.asked.iter_mut().find(|asked| asked.nonce == *nonce && (Some(asked.to), asked.from) == to);
        asked.is_some_and(|asked| asked.seen.replace(seen).is_none())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.asked.iter().all(|asked| asked.seen.is_some())
    }

    /// Addresses that gave no answer.
    pub(super) fn silent(&self) -> Vec<SocketAddr> {
        let has_answered = |to: SocketAddr| self.asked.iter().any(|asked| asked.to == to && asked.seen.is_some());
        self.asked.iter().map(|asked| asked.to).filter(|to| !has_answered(*to)).collect()
    }

    /// The NAT, the address of the first socket for a peer, and the ports that were seen. The newest address of all counts where it
    /// depends on the destination.
    pub(super) fn result(&self) -> (Nat, Option<SocketAddr>, (u16, u16)) {
        let sample = |asked: &Asked| Some(Sample { source: asked.from, asked: asked.to, seen: asked.seen? });
        let samples: Vec<Sample> = self.asked.iter().filter_map(sample).collect();
        let nat = classify(&samples);
        let first = samples.iter().find(|sample| sample.source == self.sources[0]);
        let at = if nat.is_easy() { first } else { first.and(samples.last()) };
        let ports = || samples.iter().map(|sample| sample.seen.port());
        (nat, at.map(|sample| sample.seen), (ports().min().unwrap_or(0), ports().max().unwrap_or(0)))
    }
}

impl Asked {
    fn datagram(&self) -> (PathAddr, Vec<u8>) {
        (PathAddr::from_source(self.to, self.from), question(&self.nonce).to_vec())
    }
}
