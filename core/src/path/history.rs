//! Owns how an address of a peer was learnt, and how the probes that went there fared.

use crate::time::Instant;

/// How an address of a peer became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The peer named an address of a local network.
    Lan,
    /// The peer named it.
    Named,
    /// The peer named it as an address that a gateway maps for it.
    Mapped,
    /// A datagram of the peer came from there.
    Heard,
    /// A meeting found it: the address of a fresh socket of the peer, or a predicted port.
    Met,
    /// This node's configuration or trust book has it.
    Saved,
    /// The rendezvous relays.
    Relay,
}

impl Origin {
    /// Its name in answers: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Named => "named",
            Self::Mapped => "mapped",
            Self::Heard => "heard",
            Self::Met => "met",
            Self::Saved => "saved",
            Self::Relay => "relay",
        }
    }
}

/// How an address was learnt, and how its probes fared.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    pub(super) origin: Origin,
    pub(super) probed_at: Instant,
    pub(super) probes: u16,
    pub(super) answers: u16,
    /// In a description: probes whose answers may still come.
    pub(super) awaited: u16,
}

impl History {
    pub(super) const fn new(origin: Origin) -> Self {
        Self { origin, probed_at: Instant::ZERO, probes: 0, answers: 0, awaited: 0 }
    }

    /// A probe leaves. Old probes count for less once there were very many.
    pub(super) fn on_probe(&mut self, now: Instant) {
        if self.probes == u16::MAX {
            (self.probes, self.answers) = (self.probes / 2, self.answers / 2);
        }
        self.probed_at = now;
        self.probes += 1;
    }

    /// A probe is answered.
    pub(super) const fn on_answer(&mut self) {
        self.answers = self.answers.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_probes_are_halved_and_the_loss_stays() {
        let mut history = History::new(Origin::Heard);
        for n in 0..100_000 {
            history.on_probe(Instant::ZERO);
            if n % 2 == 0 {
                history.on_answer();
            }
        }
        assert!(history.probes > u16::MAX / 2 && history.probes / 2 - history.answers <= 1, "{history:?}");
    }
}
