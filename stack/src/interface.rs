//! Owns smoltcp's interface for one peer: segments in and out, one at a time, between two fixed addresses.

use crate::device::PeerDevice;
use crate::ring_socket::RingSocket;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use pilot_core::Instant;
use smoltcp::iface::{Interface, PollResult, SocketSet};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

/// smoltcp between this node and one peer.
pub(crate) struct PeerInterface {
    smoltcp: Interface,
    pub(crate) device: PeerDevice,
    /// For smoltcp's initial sequence numbers.
    seed: u64,
    local: Ipv6Addr,
    remote: Ipv6Addr,
}

fn smol_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(now.as_micros() as i64)
}

fn core_time(at: smoltcp::time::Instant) -> Instant {
    Instant::from_micros(at.total_micros().max(0) as u64)
}

fn interface(now: Instant, device: &mut PeerDevice, local: Ipv6Addr, seed: u64) -> Interface {
    let mut config = smoltcp::iface::Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, device, smol_time(now));
    interface.update_ip_addrs(|addrs| {
        // The table starts empty and takes at least one.
        let _ = addrs.push(IpCidr::new(IpAddress::from(local), 0));
    });
    interface
}

impl PeerInterface {
    pub(crate) fn new(now: Instant, local: Ipv6Addr, remote: Ipv6Addr, segment_len_max: usize, seed: u64) -> Self {
        let mut device = PeerDevice::new(segment_len_max);
        let smoltcp = interface(now, &mut device, local, seed);
        Self { smoltcp, device, seed, local, remote }
    }

    /// Follows the path's datagram size. smoltcp reads the size of packets when an interface is made, so a new one is
    /// made; the connections live in their sockets.
    pub(crate) fn set_segment_len_max(&mut self, now: Instant, len: usize) {
        if self.device.segment_len_max != len {
            self.device.segment_len_max = len;
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.smoltcp = interface(now, &mut self.device, self.local, self.seed);
        }
    }

    /// Lets a closed socket send a SYN to the peer; false for a port of 0.
    pub(crate) fn connect(&mut self, tcp: &mut RingSocket, (local, remote): (u16, u16)) -> bool {
        let to = (IpAddress::from(self.remote), remote);
        tcp.with_mut(|socket| socket.connect(self.smoltcp.context(), to, local).is_ok())
    }

    /// Lets a closed socket take the peer's next SYN; false for a port of 0.
    pub(crate) fn listen(&self, tcp: &mut RingSocket, port: u16) -> bool {
        tcp.with_mut(|socket| socket.listen((IpAddress::from(self.local), port)).is_ok())
    }

    /// Offers a segment of the peer, for the next [`PeerInterface::receive`].
    pub(crate) fn offer(&mut self, segment: &[u8]) {
        self.device.offer(segment, self.remote, self.local);
    }

    /// Hands the offered segment to TCP.
    pub(crate) fn receive(&mut self, now: Instant, tcp: &mut RingSocket) {
        tcp.with_set_mut(|set| self.smoltcp.poll_ingress_single(smol_time(now), &mut self.device, set));
    }

    /// Answers the offered segment, which belongs to no flow.
    pub(crate) fn refuse(&mut self, now: Instant) {
        self.smoltcp.poll_ingress_single(smol_time(now), &mut self.device, &mut SocketSet::new(Vec::new()));
    }

    /// Lets TCP write at most one segment; false when nothing was to be done.
    pub(crate) fn transmit(&mut self, now: Instant, tcp: &mut RingSocket) -> bool {
        let result = tcp.with_set_mut(|set| self.smoltcp.poll_egress(smol_time(now), &mut self.device, set));
        result != PollResult::None || !self.device.outgoing.is_empty()
    }

    /// When TCP wants to be asked for a segment again; not after `now` when it has one to send.
    pub(crate) fn poll_at(&mut self, now: Instant, tcp: &RingSocket) -> Option<Instant> {
        tcp.with_set(|set| self.smoltcp.poll_at(smol_time(now), set)).map(core_time)
    }
}
