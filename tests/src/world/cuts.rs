//! Owns which nodes cannot reach which others straight, and what routers do that their hosts do not notice.

use super::{NodeIndex, SimNode, World};
use crate::nat::Nat;
use pilot_core::time::Duration;
use std::net::SocketAddr;

/// Longest time until a rendezvous hears that a node has moved: its pause between keepalives, and a loss of one.
const MOVE_UNHEARD_MAX: Duration = Duration::from_secs(60);

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

    /// True for an address at which a node lives, or lived until some moments ago: a rendezvous hears of a move with the next keepalive.
    pub(super) fn is_home(&mut self, addr: SocketAddr) -> bool {
        let now = self.now;
        let of_node = |node: &SimNode| [Some(node.addr.ip()), node.nat.as_ref().map(Nat::public)];
        self.homes.extend(self.nodes.iter().flat_map(of_node).flatten().map(|ip| (ip, now)));
        self.homes.get(&addr.ip()).is_some_and(|lived| now.since(*lived) < MOVE_UNHEARD_MAX)
    }

    /// Lets a node's NAT map its port, and tells the node, as its gateway would.
    pub fn map_port(&mut self, node: NodeIndex, port: u16) {
        let inner = self.nodes[node].addr;
        let mapped = self.nodes[node].nat.as_mut().map(|nat| nat.map(inner, port));
        self.nodes[node].stack.endpoint_mut().set_mapped(self.now, mapped.into_iter().collect());
    }

    /// Gives a node's NAT another outer address and new ports.
    pub fn dial_in_nat(&mut self, node: NodeIndex) {
        if let Some(nat) = &mut self.nodes[node].nat {
            nat.dial_in();
        }
    }
}
