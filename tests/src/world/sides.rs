//! Owns the ports of the sockets that a node has beside its own one.

use pilot_core::path::Source;
use std::collections::BTreeMap;

/// The ports that a kernel gives to sockets that ask for none. Source: Linux, `ip_local_port_range`.
const PORTS: std::ops::Range<u32> = 32_768..61_000;
/// From one port to the next: it has no divisor in common with the number of ports, so that none comes twice in a row of all.
const STEP: u32 = 7919;

/// The open sockets of a machine beside its own one. A port is given again after all others: a router has forgotten what it had for
/// the socket before, as it nearly always has where a kernel chooses at random.
#[derive(Default)]
pub(super) struct Sides {
    by_port: BTreeMap<u16, Source>,
    by_source: BTreeMap<Source, u16>,
    opened: u32,
}

impl Sides {
    /// The port of a socket, which is opened now if it is not.
    pub(super) fn port_of(&mut self, source: Source) -> u16 {
        if let Some(port) = self.by_source.get(&source) {
            return *port;
        }
        let port = (PORTS.start + self.opened * STEP % PORTS.len() as u32) as u16;
        self.opened = (self.opened + 1) % PORTS.len() as u32;
        self.by_port.insert(port, source);
        self.by_source.insert(source, port);
        port
    }

    pub(super) fn source_at(&self, port: u16) -> Option<Source> {
        self.by_port.get(&port).copied()
    }

    pub(super) fn close(&mut self, source: Source) {
        let port = self.by_source.remove(&source);
        port.into_iter().for_each(|port| _ = self.by_port.remove(&port));
    }

    /// The process has ended.
    pub(super) fn close_all(&mut self) {
        self.by_port.clear();
        self.by_source.clear();
    }
}
