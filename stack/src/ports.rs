//! Owns the ports of this node: listeners and their backlog, ports for datagrams, and ephemeral ports.

use crate::asked::Asked;
use alloc::collections::BTreeSet;
use litemap::LiteMap;
use pilot_core::PeerId;

/// First ephemeral port. Source: RFC 6335 §6.
pub const EPHEMERAL_FIRST: u16 = 49_152;
/// Number of ports among which a peer's first is drawn. Source: own choice.
const EPHEMERAL_STARTS: u64 = 16_000;

/// Listeners and datagram ports of one stack.
pub(crate) struct PortTable<P = PeerId> {
    /// Streams that wait to be taken, by the port of their listener.
    listeners: LiteMap<u16, usize>,
    /// Ports that take datagrams.
    bound: BTreeSet<u16>,
    /// Every port takes datagrams.
    is_bound_all: bool,
    /// Questions that left bound ports.
    asked: Asked<P>,
}

impl<P: Copy + PartialEq> PortTable<P> {
    pub(crate) const fn new() -> Self {
        Self { listeners: LiteMap::new(), bound: BTreeSet::new(), is_bound_all: false, asked: Asked::new() }
    }

    // Streams.

    /// Adds a listener; false when the port has one.
    pub(crate) fn listen(&mut self, port: u16) -> bool {
        let is_free = !self.listeners.contains_key(&port);
        if is_free {
            self.listeners.insert(port, 0);
        }
        is_free
    }

    pub(crate) fn unlisten(&mut self, port: u16) {
        self.listeners.remove(&port);
    }

    /// Ports with a listener.
    pub(crate) fn listening(&self) -> impl Iterator<Item = u16> + '_ {
        self.listeners.keys().copied()
    }

    /// Number of streams that wait for the listener of `port`; `None` without a listener.
    pub(crate) fn backlog(&self, port: u16) -> Option<usize> {
        self.listeners.get(&port).copied()
    }

    /// Counts a stream that waits for the listener of `port`.
    pub(crate) fn note_waiting(&mut self, port: u16) {
        if let Some(waiting) = self.listeners.get_mut(&port) {
            *waiting += 1;
        }
    }

    /// Counts a stream that was taken or ended while it waited. The port may have another listener by now, for
    /// which it was never counted.
    pub(crate) fn note_gone(&mut self, port: u16) {
        if let Some(waiting) = self.listeners.get_mut(&port) {
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// Forgets all waiting streams, before those that are left are counted anew.
    pub(crate) fn forget_waiting(&mut self) {
        self.listeners.iter_mut().for_each(|(_, waiting)| *waiting = 0);
    }

    // Datagrams.

    /// Takes datagrams on `port`; false when the port is taken.
    pub(crate) fn bind(&mut self, port: u16) -> bool {
        self.bound.insert(port)
    }

    pub(crate) const fn bind_all(&mut self) {
        self.is_bound_all = true;
    }

    pub(crate) fn unbind(&mut self, port: u16) {
        self.bound.remove(&port);
        self.asked.forget(port);
    }

    /// Notes that a datagram went from `port` to `peer`, which may answer there.
    pub(crate) fn note_asked(&mut self, peer: P, port: u16) {
        self.asked.note(peer, port);
    }

    /// True when a datagram of `peer` for `port` is taken. `is_granted` says that the peer's pin grants the port.
    pub(crate) fn takes_datagram(&self, peer: P, port: u16, is_granted: bool) -> bool {
        let is_bound = self.bound.contains(&port);
        let is_answer = is_bound && self.asked.contains(peer, port);
        (is_bound || self.is_bound_all) && (is_granted || is_answer)
    }
}

/// Local ports of the streams that this node opens to one peer, in turn.
pub(crate) struct EphemeralPorts {
    next: u16,
}

impl EphemeralPorts {
    /// Begins with a port that follows from `seed`, so that a new process does not begin with the ports of the last
    /// one.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { next: EPHEMERAL_FIRST + (seed % EPHEMERAL_STARTS) as u16 }
    }

    /// The next port for which `is_taken` is false; `None` when all are taken. Work is bounded by the number of
    /// ephemeral ports.
    pub(crate) fn take(&mut self, is_taken: impl Fn(u16) -> bool) -> Option<u16> {
        (EPHEMERAL_FIRST..=u16::MAX).find_map(|_| {
            let port = self.next;
            debug_assert!(port >= EPHEMERAL_FIRST, "well-known ports are never given out");
            self.next = port.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
            (!is_taken(port)).then_some(port)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_one_listener_and_its_backlog_is_counted() {
        let mut ports: PortTable<char> = PortTable::new();
        assert!(ports.listen(7) && !ports.listen(7));
        (0..3).for_each(|_| ports.note_waiting(7));
        ports.note_gone(7);
        assert_eq!((ports.backlog(7), ports.backlog(8)), (Some(2), None));
        ports.unlisten(7);
        ports.note_gone(7);
        assert!(ports.listen(7));
        ports.note_gone(7);
        assert_eq!(ports.backlog(7), Some(0), "what waited for the last listener is none of the new one's");
    }

    #[test]
    fn datagrams_need_a_bound_port_and_a_grant_or_a_question() {
        let mut ports = PortTable::new();
        assert!(!ports.takes_datagram('a', 7, true), "nothing is bound");
        assert!(ports.bind(7) && !ports.bind(7));
        assert!(ports.takes_datagram('a', 7, true) && !ports.takes_datagram('a', 7, false));
        ports.note_asked('a', 7);
        assert!(ports.takes_datagram('a', 7, false) && !ports.takes_datagram('b', 7, false));
        ports.unbind(7);
        ports.bind_all();
        assert!(ports.takes_datagram('a', 7, true) && !ports.takes_datagram('a', 7, false));
        assert!(ports.bind(7));
        assert!(!ports.takes_datagram('a', 7, false), "the question was asked by the port's last owner");
    }

    #[test]
    fn ephemeral_ports_come_in_turn_until_all_are_taken() {
        let mut ports = EphemeralPorts::new(EPHEMERAL_STARTS - 1);
        let first = ports.take(|_| false).expect("all are free");
        assert_eq!(ports.take(|_| false), Some(first + 1));
        assert_eq!(ports.take(|port| port != EPHEMERAL_FIRST), Some(EPHEMERAL_FIRST), "around the end");
        assert_eq!(ports.take(|_| true), None);
    }
}
