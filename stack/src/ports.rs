//! Owns the ports of this node: listeners and their backlog, ports for datagrams, and ephemeral ports.

use crate::asked::Asked;
use alloc::vec::Vec;
use litemap::LiteMap;
use pilot_core::PeerId;

/// First ephemeral port. Source: RFC 6335 §6.
pub const EPHEMERAL_FIRST: u16 = 49_152;
/// Number of ports among which a peer's first is drawn. Source: own choice.
const EPHEMERAL_STARTS: u64 = 16_000;

/// Streams that wait for one listener.
struct Backlog<P> {
    all: usize,
    of: Vec<(P, usize)>,
}

/// Listeners and datagram ports of one stack.
pub(crate) struct PortTable<P = PeerId> {
    /// Streams that wait to be taken, by the port of their listener: all of them, and those of each peer.
    listeners: LiteMap<u16, Backlog<P>>,
    /// Ports that take datagrams, in order.
    bound: Vec<u16>,
    /// Every port takes datagrams.
    is_bound_all: bool,
    /// Questions that left bound ports.
    asked: Asked<P>,
}

impl<P: Copy + PartialEq> PortTable<P> {
    pub(crate) const fn new() -> Self {
        Self { listeners: LiteMap::new(), bound: Vec::new(), is_bound_all: false, asked: Asked::new() }
    }

    // Streams.

    /// Adds a listener; false when the port has one.
    pub(crate) fn listen(&mut self, port: u16) -> bool {
        let is_free = !self.listeners.contains_key(&port);
        if is_free {
            self.listeners.insert(port, Backlog { all: 0, of: Vec::new() });
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

    /// Whether the listener of `port` has room for a stream of `peer`, if at most `max` streams may wait: a peer may have as many
    /// of them as are free. `None` without a listener.
    pub(crate) fn has_room(&self, peer: P, port: u16, max: usize) -> Option<bool> {
        let backlog = self.listeners.get(&port)?;
        let of_peer = backlog.of.iter().find(|(of, _)| *of == peer).map_or(0, |(_, waiting)| *waiting);
        Some(of_peer < max.saturating_sub(backlog.all))
    }

    /// Counts a stream of `peer` that waits for the listener of `port`.
    pub(crate) fn note_waiting(&mut self, peer: P, port: u16) {
        let Some(backlog) = self.listeners.get_mut(&port) else { return };
        backlog.all += 1;
        match backlog.of.iter_mut().find(|(of, _)| *of == peer) {
            Some((_, waiting)) => *waiting += 1,
            None => backlog.of.push((peer, 1)),
        }
    }

    /// Counts a stream that was taken or ended while it waited. The port may have another listener by now, for
    /// which it was never counted.
    pub(crate) fn note_gone(&mut self, peer: P, port: u16) {
        let Some(backlog) = self.listeners.get_mut(&port) else { return };
        let Some(i) = backlog.of.iter().position(|(of, _)| *of == peer) else { return };
        debug_assert!(backlog.all >= backlog.of[i].1, "the streams of a peer are some of all");
        backlog.all = backlog.all.saturating_sub(1);
        backlog.of[i].1 -= 1;
        if backlog.of[i].1 == 0 {
            backlog.of.swap_remove(i);
        }
    }

    /// Forgets all waiting streams, before those that are left are counted anew.
    pub(crate) fn forget_waiting(&mut self) {
        self.listeners.iter_mut().for_each(|(_, backlog)| *backlog = Backlog { all: 0, of: Vec::new() });
    }

    // Datagrams.

    /// Takes datagrams on `port`; false when the port is taken.
    pub(crate) fn bind(&mut self, port: u16) -> bool {
        let place = self.bound.binary_search(&port);
        place.map_err(|at| self.bound.insert(at, port)).is_err()
    }

    pub(crate) const fn bind_all(&mut self) {
        self.is_bound_all = true;
    }

    pub(crate) fn unbind(&mut self, port: u16) {
        if let Ok(at) = self.bound.binary_search(&port) {
            self.bound.remove(at);
        }
        self.asked.forget(port);
    }

    /// Notes that a datagram went from `port` to `peer`, which may answer there.
    pub(crate) fn note_asked(&mut self, peer: P, port: u16) {
        self.asked.note(peer, port);
    }

    /// True when a datagram of `peer` for `port` is taken. `is_granted` says that the peer's pin grants the port.
    pub(crate) fn takes_datagram(&self, peer: P, port: u16, is_granted: bool) -> bool {
        let is_bound = self.bound.binary_search(&port).is_ok();
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
        (0..3).for_each(|_| ports.note_waiting('a', 7));
        ports.note_gone('a', 7);
        let room = |ports: &PortTable<char>, max| (ports.has_room('a', 7, max), ports.has_room('a', 8, max));
        assert_eq!((room(&ports, 5), room(&ports, 4)), ((Some(true), None), (Some(false), None)));
        ports.unlisten(7);
        ports.note_gone('a', 7);
        assert!(ports.listen(7));
        ports.note_gone('a', 7);
        assert_eq!(ports.has_room('a', 7, 1), Some(true), "what waited for the last listener is none of the new one's");
    }

    #[test]
    fn no_peer_takes_the_whole_backlog() {
        const MAX: usize = 16;
        let mut ports = PortTable::new();
        ports.listen(7);
        let fill = |ports: &mut PortTable<char>, peer| {
            let mut count = 0;
            while ports.has_room(peer, 7, MAX) == Some(true) {
                ports.note_waiting(peer, 7);
                count += 1;
            }
            count
        };
        assert_eq!((fill(&mut ports, 'a'), fill(&mut ports, 'b'), fill(&mut ports, 'c')), (8, 4, 2));
        (0..8).for_each(|_| ports.note_gone('a', 7));
        assert_eq!(fill(&mut ports, 'd'), 5);
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
