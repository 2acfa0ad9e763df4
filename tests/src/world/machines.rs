//! Owns what a world can have beside honest nodes with room and time: full disks, owners that decide, a friend, a traitor.

use super::{NodeIndex, SimNode, World};
use crate::friend::{FRIEND_ADDR, FRIEND_NUMBER, Friend};
use crate::traitor::TRAITOR;
use pilot_core::Instant;
use pilot_core::time::Duration;
use pilot_core::trust::{Quota, Undo};
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
