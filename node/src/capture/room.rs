//! The room of captures: what clients want to see of the inner packets, and the blocks that wait for them.
//!
//! A client begins a capture and fetches its blocks when it likes. What it does not fetch in time is missing in its file, and is
//! counted there; the packets themselves wait for nothing.

use crate::answer::Captured;
use crate::calls::resolve;
use crate::capture::{packet, pcapng};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::ipc::client_id::ClientId;
use crate::log::record::Record;
use crate::node_event::{CaptureEvent, Event};
use crate::streams::names::name_of;
use pilot_core::identity::IdentityKey;
use pilot_core::tap::{Direction, Tapped};
use pilot_core::{Endpoint, Level, PeerId};
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// Most captures at once. Source: own choice; each costs a copy of every packet.
const CAPTURES_MAX: usize = 4;
/// Most bytes of one capture that wait for its client; later packets are missed. Unit: bytes. Source: own choice, 60 ms of 1 Gbit/s.
const WAITING_LEN_MAX: usize = 8 << 20;
/// The length of a file for which nothing else is asked, and the least. Unit: bytes.
const FILE_LEN: u64 = 64 << 20;
const FILE_LEN_MIN: u64 = 1 << 10;
/// Room that is kept in the file for its end. Unit: bytes.
const END_LEN: u64 = 64;

/// The packets that a client wants to see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Those to and from this peer; `None`: of all.
    pub(crate) node: Option<String>,
    /// Those with this port at either end.
    pub(crate) port: Option<u16>,
    /// Longest file.
    pub(crate) max_bytes: Option<u64>,
}

/// The captures of all clients.
#[derive(Default)]
pub(crate) struct Captures(Vec<Capture>);

/// The capture of one client.
struct Capture {
    client: ClientId,
    /// The peer that is wanted, with its name.
    peer: Option<(IdentityKey, String)>,
    port: Option<u16>,
    /// The wall clock at the loop's time 0, as it was at the beginning: no step of the clock disturbs the order of packets.
    wall_at_zero_us: u64,
    /// Addresses of peers that the file names.
    named: BTreeMap<PeerId, Ipv6Addr>,
    /// Blocks for the client.
    waiting: Vec<u8>,
    /// Bytes of the file so far, and how many there may be.
    len: u64,
    len_max: u64,
    packets: u64,
    missed: u64,
    /// What of `missed` the file tells.
    missed_told: u64,
    is_full: bool,
}

impl Captures {
    /// Begins a capture; its first blocks come beside the answer.
    ///
    /// # Errors
    /// `Conflict` when the client has one; `Full` when there are too many; `InvalidArgument` for a file that is too short; `NotFound`
    /// or `Ambiguous` for a node that is no trusted peer.
    pub(crate) fn begin(
        &mut self,
        cx: &mut Context,
        client: ClientId,
        wanted: Wanted,
    ) -> Result<(Captured, Vec<u8>), Failure> {
        if self.0.iter().any(|capture| capture.client == client) {
            return Err(Failure::new(Code::Conflict, "this client captures already"));
        }
        if self.0.len() >= CAPTURES_MAX {
            return Err(Failure::new(Code::Full, format!("{CAPTURES_MAX} captures are under way; end one")));
        }
        let len_max = wanted.max_bytes.unwrap_or(FILE_LEN);
        if len_max < FILE_LEN_MIN {
            let text = format!("a capture has at least {FILE_LEN_MIN} bytes");
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        let endpoint = cx.stack.endpoint();
        let pin = wanted.node.map(|node| resolve::pinned(endpoint.trust(), &node)).transpose()?;
        let peer = pin.map(|pin| (pin.identity, name_of(pin)));
        let mut capture = Capture {
            client,
            peer,
            port: wanted.port,
            wall_at_zero_us: endpoint.wall_us(cx.now).saturating_sub(cx.now.as_micros()),
            named: BTreeMap::new(),
            waiting: Vec::new(),
            len: 0,
            len_max,
            packets: 0,
            missed: 0,
            missed_told: 0,
            is_full: false,
        };
        pcapng::begin(&mut capture.waiting, "pilot", "inner packets of this node, in clear");
        capture.tell(cx, true);
        let answer = capture.fetch(cx);
        self.0.push(capture);
        debug_assert!(self.0.len() <= CAPTURES_MAX);
        self.follow(cx);
        Ok(answer)
    }

    /// What has come since the last time; with `is_last` the end of the file, too.
    ///
    /// # Errors
    /// `NotFound` when the client captures nothing.
    pub(crate) fn fetch(
        &mut self,
        cx: &mut Context,
        client: ClientId,
        is_last: bool,
    ) -> Result<(Captured, Vec<u8>), Failure> {
        self.handle_tap(cx);
        let at = self.0.iter().position(|capture| capture.client == client);
        let at = at.ok_or_else(|| Failure::new(Code::NotFound, "this client captures nothing"))?;
        if is_last || self.0[at].is_full {
            let capture = self.0.remove(at);
            self.follow(cx);
            capture.tell(cx, false);
            return Ok(capture.finish(cx));
        }
        Ok(self.0[at].fetch(cx))
    }

    /// The client has gone.
    pub(crate) fn client_gone(&mut self, cx: &mut Context, client: ClientId) {
        for capture in self.0.extract_if(.., |capture| capture.client == client) {
            capture.tell(cx, false);
        }
        self.follow(cx);
    }

    /// Takes the packets that have come and left. Work is bounded by what the tap holds.
    pub(crate) fn handle_tap(&mut self, cx: &mut Context) {
        let captures = &mut self.0;
        if captures.is_empty() {
            return;
        }
        let missed = cx.stack.endpoint_mut().poll_tapped(|endpoint, tapped| {
            captures.iter_mut().for_each(|capture| capture.take(endpoint, &tapped));
        });
        captures.iter_mut().filter(|capture| !capture.is_full).for_each(|capture| capture.missed += missed);
        self.follow(cx);
    }

    /// Packets are copied while a file has room for them.
    fn follow(&self, cx: &mut Context) {
        cx.stack.endpoint_mut().set_tap(self.0.iter().any(|capture| !capture.is_full));
    }
}

impl Capture {
    fn wants(&self, endpoint: &Endpoint, tapped: &Tapped<'_>) -> bool {
        let is_its_peer = self.peer.as_ref().is_none_or(|(key, _)| endpoint.identity_of(tapped.peer) == Some(*key));
        let has_port = |port| packet::ports(tapped.bytes).is_some_and(|(from, to)| from == port || to == port);
        is_its_peer && self.port.is_none_or(has_port)
    }

    /// Takes a packet into the file, if it is wanted and there is room.
    fn take(&mut self, endpoint: &Endpoint, tapped: &Tapped<'_>) {
        if self.is_full || !self.wants(endpoint, tapped) {
            return;
        }
        if self.waiting.len() + pcapng::PACKET_OVERHEAD + packet::len(tapped) + 3 > WAITING_LEN_MAX {
            self.missed += 1;
            return;
        }
        let before = self.waiting.len();
        let peer = self.addr(endpoint, tapped.peer);
        let (own, at_us) = (endpoint.addr().to_ipv6(), self.wall_at_zero_us.saturating_add(tapped.at.as_micros()));
        let is_out = tapped.direction == Direction::Out;
        pcapng::packet(&mut self.waiting, at_us, is_out, packet::len(tapped), |out| {
            packet::emit(out, tapped, own, peer);
        });
        if self.len + self.waiting.len() as u64 + END_LEN > self.len_max {
            self.waiting.truncate(before);
            self.is_full = true;
        } else {
            self.packets += 1;
        }
    }

    /// The address of a peer, which the file names from now on.
    fn addr(&mut self, endpoint: &Endpoint, peer: PeerId) -> Ipv6Addr {
        if let Some(addr) = self.named.get(&peer) {
            return *addr;
        }
        let pin = endpoint.identity_of(peer).and_then(|key| endpoint.trust().pin(&key));
        let Some(pin) = pin else { return Ipv6Addr::UNSPECIFIED };
        let addr = pin.addr.to_ipv6();
        pcapng::name(&mut self.waiting, addr, &name_of(pin));
        self.named.insert(peer, addr);
        addr
    }

    fn fetch(&mut self, cx: &Context) -> (Captured, Vec<u8>) {
        if self.missed > self.missed_told {
            self.tell_missed(cx);
        }
        let blocks = std::mem::take(&mut self.waiting);
        self.len += blocks.len() as u64;
        (Captured { packets: self.packets, missed: self.missed, bytes: self.len, over: false }, blocks)
    }

    fn finish(mut self, cx: &Context) -> (Captured, Vec<u8>) {
        self.tell_missed(cx);
        let (answer, blocks) = self.fetch(cx);
        (Captured { over: true, ..answer }, blocks)
    }

    fn tell_missed(&mut self, cx: &Context) {
        let at_us = self.wall_at_zero_us.saturating_add(cx.now.as_micros());
        pcapng::statistics(&mut self.waiting, at_us, self.packets + self.missed, self.missed);
        self.missed_told = self.missed;
    }

    /// Tells the log and the clients that watch of the beginning or the end.
    fn tell(&self, cx: &mut Context, has_begun: bool) {
        let (peer, port) = (self.peer.as_ref().map(|(_, name)| name.clone()), self.port);
        let (kind, state) = if has_begun { ("capture_began", "began") } else { ("capture_ended", "ended") };
        cx.trace(Level::Info, |_| {
            let mut record = Record::new(Level::Info, kind);
            peer.iter().for_each(|peer| record.push("peer", peer.clone()));
            port.iter().for_each(|port| record.push("port", u64::from(*port)));
            if has_begun { record } else { record.with("packets", self.packets).with("missed", self.missed) }
        });
        let (packets, missed) = (self.packets, self.missed);
        cx.tell(|_| Event::Capture(CaptureEvent { state: state.into(), peer, port, packets, missed }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::pcapng::tests::blocks;
    use crate::tests::Lab;

    const CLIENT: ClientId = ClientId(1);

    fn wanted(max_bytes: u64) -> Wanted {
        Wanted { max_bytes: Some(max_bytes), ..Wanted::default() }
    }

    /// Two nodes with a tunnel.
    fn lab() -> Lab {
        let mut lab = Lab::friends(2);
        send(&mut lab, 9, b"hello");
        lab.run_until(|lab| {
            lab.nodes[0].stack.endpoint().peers().any(|peer| lab.nodes[0].stack.endpoint().srtt(peer).is_some())
        });
        (0..50).for_each(|_| lab.step());
        lab
    }

    /// Sends a datagram from node 0, from a port and to the same one.
    fn send(lab: &mut Lab, port: u16, payload: &[u8]) {
        let cx = &mut lab.nodes[0];
        let peer = cx.stack.endpoint().peers().next().expect("a peer");
        cx.stack.send_datagram(peer, (port, port), payload).expect("a tunnel");
    }

    fn begin(captures: &mut Captures, lab: &mut Lab, wanted: Wanted) -> Vec<u8> {
        captures.begin(&mut lab.nodes[0], CLIENT, wanted).expect("a capture").1
    }

    /// The kinds of blocks.
    fn kinds(file: &[u8]) -> Vec<u32> {
        blocks(file).into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn a_file_has_the_packets_of_its_peer_and_port_and_its_end() {
        let (mut lab, mut captures) = (lab(), Captures::default());
        let (node, port) = (Some("node-1".into()), Some(80));
        let mut file = begin(&mut captures, &mut lab, Wanted { node, port, max_bytes: None });
        for port in [80, 81, 80] {
            send(&mut lab, port, b"payload");
            lab.step();
        }
        captures.handle_tap(&mut lab.nodes[0]);
        let (state, more) = captures.fetch(&mut lab.nodes[0], CLIENT, false).expect("it goes on");
        assert_eq!((state.packets, state.missed, state.over), (2, 0, false));
        file.extend(more);
        let (state, end) = captures.fetch(&mut lab.nodes[0], CLIENT, true).expect("it ends");
        file.extend(end);
        assert_eq!((state.bytes, state.over), (file.len() as u64, true));
        assert_eq!(kinds(&file), [0x0a0d_0d0a, 1, 4, 6, 6, 5]);
        send(&mut lab, 80, b"after");
        lab.step();
        let cx = &mut lab.nodes[0];
        assert_eq!(
            cx.stack.endpoint_mut().poll_tapped(|_, tapped| panic!("{tapped:?}")),
            0,
            "nothing is copied any more"
        );
        assert_eq!(captures.fetch(cx, CLIENT, false).expect_err("over").code, Code::NotFound);
    }

    #[test]
    fn captures_have_a_maximum_and_end_with_their_clients() {
        let (mut lab, mut captures) = (Lab::friends(2), Captures::default());
        let cx = &mut lab.nodes[0];
        for client in 0..CAPTURES_MAX as u64 {
            captures.begin(cx, ClientId(client), Wanted::default()).expect("room");
            let again = captures.begin(cx, ClientId(client), Wanted::default()).expect_err("one for each client");
            assert_eq!(again.code, Code::Conflict);
        }
        let mut code = |client, wanted| captures.begin(cx, client, wanted).map_err(|failure| failure.code).err();
        assert_eq!(code(ClientId(99), Wanted::default()), Some(Code::Full));
        captures.client_gone(cx, ClientId(0));
        let mut code = |client, wanted| captures.begin(cx, client, wanted).map_err(|failure| failure.code).err();
        assert_eq!(code(ClientId(99), wanted(FILE_LEN_MIN - 1)), Some(Code::InvalidArgument));
        let stranger = Wanted { node: Some("node-7".into()), ..Wanted::default() };
        assert_eq!(code(ClientId(99), stranger), Some(Code::NotFound));
        assert_eq!(code(ClientId(99), wanted(FILE_LEN_MIN)), None);
    }

    #[test]
    fn what_a_slow_client_misses_is_counted_in_its_file() {
        let (mut lab, mut captures) = (lab(), Captures::default());
        let mut file = begin(&mut captures, &mut lab, wanted(u64::MAX));
        let (payload, mut sent) = (vec![7; 1000], 0u64);
        while captures.0[0].missed == 0 {
            (0..50).for_each(|_| send(&mut lab, 9, &payload));
            sent += 50;
            lab.step();
            captures.handle_tap(&mut lab.nodes[0]);
            assert!(captures.0[0].waiting.len() <= WAITING_LEN_MAX && sent < 20_000);
        }
        let (state, blocks) = captures.fetch(&mut lab.nodes[0], CLIENT, false).expect("it goes on");
        file.extend(blocks);
        let kinds = kinds(&file);
        assert_eq!((kinds.last(), state.missed > 0), (Some(&5), true), "the loss is told at once");
        assert_eq!(kinds.iter().filter(|kind| **kind == 6).count() as u64, state.packets);
        // The link drops datagrams itself when more come than it sends.
        assert!(state.packets + state.missed <= sent && state.packets > 7000, "{state:?}");
        send(&mut lab, 9, &payload);
        lab.step();
        let (later, _) = captures.fetch(&mut lab.nodes[0], CLIENT, true).expect("it ends");
        assert_eq!((later.packets, later.missed), (state.packets + 1, state.missed), "there is room again");
    }

    #[test]
    fn a_file_ends_before_it_is_too_long() {
        let (mut lab, mut captures) = (lab(), Captures::default());
        let mut file = begin(&mut captures, &mut lab, wanted(5000));
        for _ in 0..10 {
            send(&mut lab, 9, &[7; 1000]);
            lab.step();
            captures.handle_tap(&mut lab.nodes[0]);
        }
        let (state, blocks) = captures.fetch(&mut lab.nodes[0], CLIENT, false).expect("its end");
        file.extend(blocks);
        assert!(state.over && state.missed == 0 && file.len() <= 5000 && file.len() > 3900, "{state:?}");
        assert_eq!((kinds(&file).last(), file.len() as u64), (Some(&5), state.bytes));
        assert!(captures.0.is_empty());
    }
}
