//! Owns what a world can have beside honest nodes with room and time: full disks, owners that decide, a friend, a
//! traitor, a rendezvous that lies.

use super::{NodeIndex, RENDEZVOUS_ADDR, SimNode, WALL_AT_ZERO_US, World};
use crate::friend::{FRIEND_ADDR, FRIEND_NUMBER, Friend};
use crate::liar::Liar;
use crate::traitor::TRAITOR;
use pilot_core::endpoint::DirectoryState;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::trust::{Quota, Undo};
use pilot_core::{Config, Identity, Instant};
use std::net::SocketAddr;

impl SimNode {
    /// When the next of its pins or grants ends, if the process looks at its clock then.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        let endpoint = self.stack.endpoint();
        let end_s = endpoint.trust().next_end()?;
        Some(now + Duration::from_micros(end_s.saturating_mul(1_000_000).saturating_sub(endpoint.wall_us(now))))
    }

    /// Ends the pins and grants that are over, as the clockwork of a daemon does.
    pub(super) fn end_trust(&mut self, now: Instant) {
        if self.next_end(now).is_some_and(|at| at <= now) {
            self.stack.endpoint_mut().expire_trust(now);
        }
    }
}

impl World {
    /// Fills a node's disk: so many saves of its trust book fit into the reserve. `None` makes room again.
    pub fn set_disk_room(&mut self, node: NodeIndex, saves: Option<u32>) {
        self.nodes[node].disk.room = saves;
    }

    /// True when everything that a node has to save is on its disk.
    pub fn is_saved(&self, node: NodeIndex) -> bool {
        self.nodes[node].stack.endpoint().trust_is_saved()
    }

    /// Lets the owner of `node` change how much `other` may use. False when the disk refuses, and then nothing has changed.
    /// What is confirmed later is never lost.
    pub fn decide(&mut self, node: NodeIndex, other: NodeIndex) -> bool {
        let key = self.nodes[other].stack.endpoint().identity().public();
        let (now, node) = (self.now, &mut self.nodes[node]);
        let (value, endpoint) = (node.owner.next(), node.stack.endpoint_mut());
        let undo = Undo::before(endpoint.trust(), &key);
        let quota = Quota { messages: Some(value), ..Quota::default() };
        endpoint.set_quota(now, &key, Some(quota)).expect("they trust each other");
        let undo = undo.after(endpoint.trust());
        let version = endpoint.trust().version();
        let is_taken = node.disk.save(now, endpoint.trust(), &mut self.rng);
        if is_taken {
            node.disk.decided = version;
            node.owner.wait((version, key, value));
        } else {
            endpoint.undo(now, undo);
        }
        is_taken
    }

    /// Adds an honest machine that `of` trusts, and that needs a session again and again from now on. It has one within two
    /// seconds. `of` must have no NAT.
    pub fn add_friend(&mut self, of: NodeIndex) {
        let index = self.nodes.len();
        self.add_machine(FRIEND_NUMBER, FRIEND_ADDR);
        self.make_friends(index, of);
        let node = self.nodes.pop().expect("just added");
        let (endpoint, host) = (node.stack.endpoint(), &self.nodes[of]);
        let key = host.stack.endpoint().identity().public();
        let friend = Friend::new(self.now, endpoint.trust().emit(), endpoint.addr(), key, host.whereabouts());
        self.friend = Some((of, friend));
    }

    /// The longest that the friend has waited.
    pub fn friend_waited(&self) -> Duration {
        self.friend.as_ref().map_or(Duration::ZERO, |(_, friend)| friend.longest)
    }

    /// Puts a machine in the place of the rendezvous, with its keys, that lies.
    pub fn let_rendezvous_lie(&mut self) {
        self.rendezvous = None;
        let mut config = Config::new(Identity::from_seed([200; 32]), Rng::entropy(self.rng.bytes()));
        config.wall_at_zero_us = WALL_AT_ZERO_US;
        self.liar = Some(Liar::new(self.now, config, self.rng.bytes()));
    }

    /// Has all nodes that have no rendezvous seek it where it was configured, as programs do.
    pub fn seek_rendezvous(&mut self) {
        for node in &mut self.nodes {
            let endpoint = node.stack.endpoint_mut();
            if !matches!(endpoint.directory_state(), DirectoryState::Ready(_)) {
                endpoint.set_rendezvous(self.now, self.rendezvous_key, RENDEZVOUS_ADDR);
            }
        }
    }

    /// Ends what [`World::let_rendezvous_lie`] began, and starts the honest rendezvous again. Returns how many calls were answered and
    /// how much was told unasked.
    pub fn end_lies(&mut self) -> (u64, u64) {
        self.restart_rendezvous();
        self.liar.take().map_or((0, 0), |liar| liar.told)
    }

    pub(super) fn transmit_of_liar(&mut self, batch: &mut Vec<u8>) {
        let now = self.now;
        while let Some((to, segment_len)) = self.liar.as_mut().and_then(|liar| liar.poll_transmit(now, batch)) {
            for datagram in batch.chunks(segment_len) {
                self.launch(RENDEZVOUS_ADDR.ip(), RENDEZVOUS_ADDR, to, datagram);
            }
        }
    }

    /// Adds a machine that all nodes trust, and that breaks its control streams from now on. Returns its index.
    pub fn add_traitor(&mut self) -> NodeIndex {
        let index = self.nodes.len();
        let number = index as u8 + 1;
        self.add_machine(number, SocketAddr::from(([10, 0, number, 1], 4000)));
        (0..index).for_each(|other| self.make_friends(index, other));
        self.nodes[index].aead = &TRAITOR;
        self.restart(index);
        index
    }
}
