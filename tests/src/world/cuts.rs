//! Owns which nodes cannot reach which others straight, and what routers do that their hosts do not notice.

use super::{NodeIndex, World};
use std::net::SocketAddr;

impl World {
    /// Loses from now on what leaves `a` straight for `b`. The other direction, and what goes over the relay, arrives.
    pub fn cut(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cuts.insert((a, b));
    }

    /// Ends every cut.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    pub(super) fn is_cut(&self, from: NodeIndex, to: SocketAddr) -> bool {
        self.cuts.iter().any(|(a, b)| *a == from && self.is_at(*b, to))
    }

    /// True for an address of the node, or of its router.
    pub(super) fn is_at(&self, node: NodeIndex, addr: SocketAddr) -> bool {
        let node = &self.nodes[node];
        node.addr.ip() == addr.ip() || node.nat.as_ref().is_some_and(|nat| nat.public() == addr.ip())
    }

    /// Gives a node's NAT another outer address and new ports.
    pub fn dial_in_nat(&mut self, node: NodeIndex) {
        if let Some(nat) = &mut self.nodes[node].nat {
            nat.dial_in();
        }
    }
}
