//! Owns the second relay of a world: a rendezvous with a key and books of its own, which nodes use to relay alone.

use super::{RENDEZVOUS_ADDR, SPARE_ADDR, WALL_AT_ZERO_US, World};
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::{Config, Identity};
use pilot_rendezvous::{Rendezvous, State};

impl World {
    /// Starts a relay beside the rendezvous; all nodes that are here use it from now on.
    pub fn add_spare(&mut self) {
        self.restart_spare();
        let key = Identity::from_seed([201; 32]).static_key();
        for node in &mut self.nodes {
            assert!(node.stack.endpoint_mut().add_relay(self.now, key, SPARE_ADDR), "there is room");
        }
    }

    /// Kills its process, without a word.
    pub fn kill_spare(&mut self) {
        self.spare = None;
    }

    /// Starts another process, which knows nothing of the nodes.
    pub fn restart_spare(&mut self) {
        let mut config = Config::new(Identity::from_seed([201; 32]), Rng::entropy(self.rng.bytes()));
        config.wall_at_zero_us = WALL_AT_ZERO_US;
        let mut spare = Rendezvous::new(config, State::default(), Box::new(pilot_rendezvous::NoJournal));
        spare.handle_timeout(self.now);
        self.spare = Some(spare);
    }

    /// Makes the way from the rendezvous longer than that from the spare relay, or shorter when false.
    pub fn set_rendezvous_farther(&mut self, is_farther: bool, by: Duration) {
        let (far, near) = if is_farther { (RENDEZVOUS_ADDR, SPARE_ADDR) } else { (SPARE_ADDR, RENDEZVOUS_ADDR) };
        self.network.farther = [(far.ip(), by), (near.ip(), Duration::ZERO)].into();
    }

    pub(super) fn transmit_of_spare(&mut self, batch: &mut Vec<u8>) {
        let now = self.now;
        while let Some(transmit) = self.spare.as_mut().and_then(|spare| spare.poll_transmit(now, batch)) {
            for datagram in batch.chunks(transmit.segment_len) {
                self.launch(SPARE_ADDR.ip(), SPARE_ADDR, transmit.to, datagram);
            }
        }
    }
}
