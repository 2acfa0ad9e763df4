//! Owns plain smoltcp over UDP with its own CUBIC as a [`Host`]: streams without the link.

use super::Host;
use pilot_core::Instant;
use smoltcp_stock::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp_stock::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp_stock::socket::tcp;
use smoltcp_stock::time;
use smoltcp_stock::wire::{HardwareAddress, IpAddress, IpCidr};

/// Length of an inner packet that a tunnel's header and tag would extend to a full Ethernet packet. Unit: bytes.
const MTU: usize = 1420;
const PORT: u16 = 1000;

/// One side of one TCP connection that is kept full.
pub struct StockHost {
    interface: Interface,
    device: Wire,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    is_sender: bool,
    deadline: Option<Instant>,
    received: Vec<u64>,
    chunk: Vec<u8>,
}

/// Makes a sender and its receiver, with buffers of `ring_len` bytes.
///
/// # Panics
/// When the sockets cannot be set up, which would be a bug.
pub fn stock_pair(ring_len: usize, seed: u64) -> [StockHost; 2] {
    [0, 1].map(|side: u8| {
        let mut device = Wire { incoming: None, outgoing: Vec::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 2 * seed + u64::from(side);
        let mut interface = Interface::new(config, &mut device, time::Instant::ZERO);
        interface.update_ip_addrs(|addrs| {
            addrs.push(IpCidr::new(IpAddress::v4(10, 0, 0, 1 + side), 24)).expect("the table starts empty");
        });
        let ring = || tcp::SocketBuffer::new(vec![0; ring_len]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        if side == 0 {
            socket.connect(interface.context(), (IpAddress::v4(10, 0, 0, 2), PORT), 40_000).expect("a fresh socket");
        } else {
            socket.listen(PORT).expect("a fresh socket");
        }
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let (received, chunk) = (vec![0], vec![7; 64 * 1024]);
        StockHost {
            interface,
            device,
            sockets,
            handle,
            is_sender: side == 0,
            deadline: Some(Instant::ZERO),
            received,
            chunk,
        }
    })
}

fn smol_time(now: Instant) -> time::Instant {
    time::Instant::from_micros(now.as_micros() as i64)
}

impl StockHost {
    fn serve(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if self.is_sender {
            while socket.can_send() && socket.send_slice(&self.chunk).is_ok_and(|n| n > 0) {}
        }
        while socket.can_recv() {
            let n = socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap_or_default();
            self.received[0] += n as u64;
        }
    }
}

impl Host for StockHost {
    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        self.device.incoming = Some(datagram.to_vec());
        self.interface.poll(smol_time(now), &mut self.device, &mut self.sockets);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.interface.poll(smol_time(now), &mut self.device, &mut self.sockets);
    }

    fn poll_transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        self.serve();
        self.interface.poll(smol_time(now), &mut self.device, &mut self.sockets);
        self.device.outgoing.drain(..).for_each(|packet| send(&packet));
        let due = self.interface.poll_at(smol_time(now), &self.sockets);
        self.deadline = due.map(|at| Instant::from_micros(at.total_micros().max(0) as u64));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn received(&self) -> &[u64] {
        &self.received
    }

    fn is_ready(&self) -> bool {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).may_send()
    }
}

struct Wire {
    incoming: Option<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

struct In(Vec<u8>);
struct Out<'a>(&'a mut Vec<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: time::Instant) -> Option<(In, Out<'_>)> {
        Some((In(self.incoming.take()?), Out(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Out<'_>> {
        Some(Out(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}
