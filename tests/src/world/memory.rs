//! Owns the invariant of memory: what others make a machine hold is within its budgets, whatever happens.

use super::World;
use pilot_rendezvous::Rendezvous;
use pilot_stack::Stack;

impl World {
    /// # Panics
    /// When other nodes make a machine hold more than its budget.
    pub(super) fn check_memory(&self) {
        self.nodes.iter().enumerate().for_each(|(i, node)| check_node(i, &node.stack));
        self.rendezvous.iter().chain(&self.spare).for_each(check_rendezvous);
    }
}

/// Control streams of all peers together; streams, and what waits of them, of each peer.
fn check_node(i: usize, stack: &Stack) {
    let (held, max) = (stack.endpoint().held_len(), stack.endpoint().held_len_max());
    assert!(held <= max, "node {i} holds {held} bytes for its peers, its budget is {max}");
    for (peer, usage) in stack.usages() {
        let is_within = usage.memory <= usage.memory_max && usage.streams <= usage.streams_max;
        assert!(is_within, "node {i} holds for {peer:?}: {usage:?}");
    }
}

/// Control streams of all clients together, and every table.
fn check_rendezvous(rendezvous: &Rendezvous) {
    let (held, max) = (rendezvous.endpoint().held_len(), rendezvous.endpoint().held_len_max());
    assert!(held <= max, "a rendezvous holds {held} bytes for its clients, its budget is {max}");
    if let Some((table, size, limit)) = rendezvous.limits().exceeded_by(&rendezvous.sizes()) {
        panic!("a rendezvous has {size} {table}, its limit is {limit}");
    }
}
