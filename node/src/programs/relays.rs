//! Owns the course of connections with a filter: what follows when their bytes were moved.

use crate::context::Context;
use crate::effect::Effect;
use crate::failure::{Code, Failure};
use crate::programs::entry::Expose;
use crate::programs::filter::Filter;
use crate::programs::http::{Exposed, HEAD_TIME, Peer};
use crate::programs::joint::Phase;
use crate::programs::joint_id::JointId;
use crate::programs::proxy_protocol;
use crate::programs::relay::{End, Moved, Relay, Server};
use crate::programs::room::Programs;
use crate::programs::sockets::local_address;
use crate::programs::target::Target;
use crate::programs::wire::{Readiness, Wire};
use crate::streams::names::{ends, name_of};
use crate::underlay::dial::{Address, CONNECT_TIMEOUT, Dial, Dialed};
use pilot_stack::StreamId;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a refused client may still speak, so that the last bytes to it arrive. Own choice.
const CLOSING_TIME: Duration = Duration::from_secs(2);
/// Steps of one call before the loop goes on with others. Own choice.
const STEPS_MAX: usize = 16;

/// The connection of a peer's stream to the program behind an exposed port, if that wants to learn the peer; `None` when
/// bytes pass unseen.
pub(super) fn introduce(cx: &Context, expose: &Expose, stream: StreamId) -> Option<Relay> {
    if !expose.http && !expose.proxy_protocol {
        return None;
    }
    let key = cx.stack.stream_info(stream).and_then(|info| cx.stack.endpoint().identity_of(info.peer));
    let (ours, theirs) = ends(&cx.stack, stream);
    let name = key.and_then(|key| cx.stack.endpoint().trust().pin(&key)).map(name_of).unwrap_or_default();
    let (address, fingerprint) = (theirs.addr.to_string(), key.map(|key| key.fingerprint()).unwrap_or_default());
    let peer = Peer { name: &name, address: &address, fingerprint: &fingerprint };
    let host = match &expose.target {
        Target::Unix(_) => "localhost".to_owned(),
        target => target.to_string(),
    };
    let filter = if expose.http { Filter::exposed(Exposed::new(host, &peer, expose.a2a)) } else { Filter::Raw };
    let mut relay = Relay::new(filter, End::Stream(stream));
    if expose.proxy_protocol {
        relay.lead_in(&proxy_protocol::header(theirs, ours, &fingerprint, &name));
    }
    Some(relay)
}

impl Programs {
    /// Moves the bytes of a connection with a filter, and does what follows.
    pub(super) fn move_relay(&mut self, cx: &mut Context, id: JointId) {
        for _ in 0..STEPS_MAX {
            let Some(relay) = self.relay(id) else { return };
            let moved = relay.pump(&mut cx.stack);
            if !self.follow(cx, id, moved) {
                return self.set_patience(cx, id);
            }
        }
        self.again.push(id);
    }

    /// Does what an unusual step asks for, and moves on.
    fn go_on(&mut self, cx: &mut Context, id: JointId, step: Result<(), Moved>) {
        let goes_on = match step {
            Ok(()) => true,
            Err(moved) => self.follow(cx, id, moved),
        };
        if goes_on {
            self.move_relay(cx, id);
        }
    }

    fn relay(&mut self, id: JointId) -> Option<&mut Relay> {
        match self.joints.get_mut(id).map(|joint| &mut joint.phase) {
            Some(Phase::Relayed(relay)) => Some(relay),
            _ => None,
        }
    }

    /// Does what the last step asks for; true when another step may follow at once.
    fn follow(&mut self, cx: &mut Context, id: JointId, moved: Moved) -> bool {
        match moved {
            Moved::On(has_more) => {
                if has_more {
                    self.again.push(id);
                }
                false
            }
            Moved::Wants(to, waits) => {
                let moved = self.reach(cx, id, &to, waits);
                self.follow(cx, id, moved)
            }
            Moved::Raw => {
                self.unfilter(cx, id);
                false
            }
            Moved::Closing(why) => {
                self.let_server_go(cx, id, why.as_deref());
                true
            }
            Moved::Finished => {
                self.end_relay(cx, id, false);
                false
            }
            Moved::Broken(why) => {
                if let Some(entry) = self.joints.get_mut(id).map(|joint| joint.entry) {
                    self.note_failure(cx, entry, &why);
                }
                self.end_relay(cx, id, true);
                false
            }
        }
    }

    fn end_relay(&mut self, cx: &mut Context, id: JointId, is_reset: bool) {
        let stream = self.joints.get_mut(id).and_then(|joint| joint.stream);
        self.end(id, is_reset);
        cx.out.extend(stream.map(if is_reset { Effect::Abort } else { Effect::Close }));
    }

    /// Lets the server of a client go that gets its last bytes: in order, or with a reset when there is a reason.
    fn let_server_go(&mut self, cx: &mut Context, id: JointId, why: Option<&str>) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Relayed(relay) = &mut joint.phase else { return };
        let entry = joint.entry;
        if let Server::Joined(End::Stream(_)) = std::mem::replace(&mut relay.server, Server::Nowhere) {
            let effect = if why.is_some() { Effect::Abort } else { Effect::Close };
            cx.out.extend(joint.stream.take().map(effect));
        }
        self.joints.set_deadline(id, Some(cx.now + CLOSING_TIME));
        if let Some(why) = why {
            self.note_failure(cx, entry, why);
        }
    }

    /// Lets the bytes of a connection pass unseen from now on.
    fn unfilter(&mut self, cx: &mut Context, id: JointId) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Relayed(relay) = std::mem::replace(&mut joint.phase, Phase::Between) else { return };
        if let Some(socket) = relay.into_socket() {
            joint.phase = Phase::Joined(Wire::new(socket));
        }
        debug_assert!(matches!(joint.phase, Phase::Joined(_)), "one end is a socket and the other a stream");
        cx.out.extend(joint.stream.map(Effect::Ready));
        self.joints.set_deadline(id, None);
    }

    /// Sets the end of the patience with a client, and with a server that is called.
    fn set_patience(&mut self, cx: &Context, id: JointId) {
        let Some(relay) = self.relay(id) else { return };
        if relay.is_closing() || matches!(relay.server, Server::Dialing(_) | Server::Naming(_)) {
            return;
        }
        let due = relay.awaited_since(cx.now).map(|since| since + HEAD_TIME);
        self.joints.set_deadline(id, due);
    }

    /// The kernel has reported readiness of one of the sockets.
    pub(super) fn relay_ready(&mut self, cx: &mut Context, id: JointId, news: Readiness) {
        let Some(relay) = self.relay(id) else { return };
        relay.note(news);
        match relay.server {
            Server::Dialing(_) => self.dial_server(cx, id),
            _ => self.move_relay(cx, id),
        }
    }

    /// Calls the server of a connection.
    pub(super) fn call_server(&mut self, cx: &mut Context, id: JointId, dial: Dial) {
        if let Some(relay) = self.relay(id) {
            relay.server = Server::Dialing(dial);
            self.dial_server(cx, id);
        }
    }

    /// Calls a host that is no node, once its addresses are known.
    pub(super) fn name_server(&mut self, cx: &mut Context, id: JointId) {
        let Some(Server::Naming(to)) = self.relay(id).map(|relay| &relay.server) else { return };
        let to = to.clone();
        let with_port = |ip| Address::Tcp(SocketAddr::new(ip, to.port));
        match self.resolver.addresses(cx.now, &to.host) {
            Some(Ok(ips)) => self.call_server(cx, id, Dial::new(ips.into_iter().map(with_port).collect(), cx.now)),
            Some(Err(why)) => self.relay_not_opened(cx, id, &Failure::new(Code::Unreachable, why)),
            None => {
                self.named.push(id);
                self.joints.set_deadline(id, Some(cx.now + CONNECT_TIMEOUT));
            }
        }
    }

    /// Goes on with the call of a server.
    pub(super) fn dial_server(&mut self, cx: &mut Context, id: JointId) {
        let token = Self::joint_token(id);
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Relayed(relay) = &mut joint.phase else { return };
        let Server::Dialing(dial) = &mut relay.server else { return };
        let moved = match dial.progress(cx.now, &self.registry, token) {
            Dialed::Waits(until) => {
                self.joints.set_deadline(id, Some(until));
                return self.move_relay(cx, id);
            }
            Dialed::Connected(socket) => {
                joint.local = local_address(&socket);
                relay.joined(End::socket(socket))
            }
            Dialed::Failed(why) => {
                let text = format!("the program behind this port cannot be reached: {why}");
                Err(relay.unreached(&Failure::new(Code::ConnectionRefused, text)))
            }
        };
        self.go_on(cx, id, moved);
    }

    /// The stream to the server that a client wants stands.
    pub(super) fn relay_opened(&mut self, cx: &mut Context, id: JointId, stream: StreamId) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Relayed(relay) = &mut joint.phase else { return };
        joint.stream = Some(stream);
        let moved = relay.joined(End::Stream(stream));
        self.go_on(cx, id, moved);
    }

    /// The server that a client wants cannot be reached.
    pub(super) fn relay_not_opened(&mut self, cx: &mut Context, id: JointId, failure: &Failure) {
        let Some(relay) = self.relay(id) else { return };
        let moved = relay.unreached(failure);
        self.go_on(cx, id, Err(moved));
    }

    /// The end of the patience has come.
    pub(super) fn relay_due(&mut self, cx: &mut Context, id: JointId) {
        let Some(relay) = self.relay(id) else { return };
        if relay.is_closing() {
            return self.end_relay(cx, id, false);
        }
        if matches!(relay.server, Server::Dialing(_)) {
            return self.dial_server(cx, id);
        }
        let moved = match relay.server {
            Server::Naming(_) => relay.unreached(&Failure::new(Code::Timeout, "the host is not found in time")),
            _ => relay.too_slow(),
        };
        self.go_on(cx, id, Err(moved));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::entry::Life;
    use crate::programs::proxy::ProxyTerms;
    use crate::programs::relay::RELAY_MAX;
    use crate::tests::Lab;
    use crate::token::Room;
    use mio::{Events, Poll, Waker};
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    /// A node with one proxy; the test plays its loop.
    struct Proxied {
        lab: Lab,
        poll: Poll,
        programs: Programs,
        listen: String,
    }

    impl Proxied {
        fn new() -> Self {
            let (mut lab, poll) = (Lab::alone(), Poll::new().expect("poll"));
            let waker = Waker::new(poll.registry(), Room::Waker.token(0)).expect("waker");
            let mut programs = Programs::new(poll.registry().try_clone().expect("registry"), Arc::new(waker));
            let terms = ProxyTerms { listen: "0".into(), fd: None, direct: true, auth_file: None };
            let listen = programs.proxy(&lab.nodes[0], terms, Life::Run, true).expect("a proxy").listen;
            lab.nodes[0].now = pilot_core::Instant::from_micros(1);
            Self { lab, poll, programs, listen }
        }

        /// A client that has said this, and was accepted.
        fn client(&mut self, says: &[u8]) -> TcpStream {
            let mut client = TcpStream::connect(&self.listen).expect("the proxy listens");
            client.write_all(says).expect("room");
            client.set_nonblocking(true).expect("a socket");
            while self.programs.joints.len() == 0 {
                self.turn();
            }
            client
        }

        fn turn(&mut self) {
            let mut events = Events::with_capacity(16);
            self.poll.poll(&mut events, Some(Duration::from_millis(5))).expect("events");
            let cx = &mut self.lab.nodes[0];
            for event in &events {
                let (readable, writable, is_broken) = (event.is_readable(), event.is_writable(), event.is_error());
                let news = Readiness { readable, writable, is_broken, ..Readiness::default() };
                self.programs.readiness(cx, event.token(), news);
            }
            self.programs.handle_timeout(cx);
        }

        /// Lets time pass.
        fn pass(&mut self, time: Duration) {
            self.lab.nodes[0].now = self.lab.nodes[0].now + time;
            self.programs.handle_timeout(&mut self.lab.nodes[0]);
        }
    }

    fn read(mut client: &TcpStream) -> Result<String, ErrorKind> {
        let mut bytes = [0; 1024];
        let len = client.read(&mut bytes).map_err(|e| e.kind())?;
        Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    #[test]
    fn a_client_has_ten_seconds_for_a_head_and_two_to_read_why() {
        let mut proxied = Proxied::new();
        let client = proxied.client(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX");
        proxied.pass(HEAD_TIME - Duration::from_millis(1));
        assert_eq!(read(&client), Err(ErrorKind::WouldBlock));
        proxied.pass(Duration::from_millis(1));
        assert!(read(&client).is_ok_and(|text| text.starts_with("HTTP/1.1 408 ")), "the head has taken too long");
        assert_eq!(read(&client), Ok(String::new()));
        assert_eq!(proxied.programs.joints.len(), 1, "the client may still speak");
        proxied.pass(CLOSING_TIME);
        assert_eq!((proxied.programs.joints.len(), proxied.programs.poll_timeout()), (0, None));
    }

    #[test]
    fn a_client_of_socks_that_says_nothing_is_sent_away() {
        let mut proxied = Proxied::new();
        let client = proxied.client(b"\x05");
        proxied.pass(HEAD_TIME);
        assert_eq!(read(&client), Ok(String::new()));
        drop(client);
        proxied.turn();
        assert_eq!(proxied.programs.joints.len(), 0, "the end of the client ends the connection");
    }

    #[test]
    fn a_reader_that_stops_stops_the_writer() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = server.local_addr().expect("an address");
        let mut proxied = Proxied::new();
        let client = proxied.client(format!("CONNECT {to} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let (mut writer, _) = server.accept().expect("the proxy's call");
        writer.set_nonblocking(true).expect("a socket");
        let mut is_full = 0;
        // The kernel's own buffers take some megabytes at most.
        while is_full < 20 {
            match writer.write(&[7; 65_536]) {
                Ok(_) => is_full = 0,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::WouldBlock);
                    is_full += 1;
                }
            }
            proxied.turn();
            let id = proxied.programs.joints.at(0).expect("a connection");
            let held = proxied.programs.relay(id).map(|relay| relay.held()).expect("a filter");
            assert!(held <= RELAY_MAX, "{held} bytes");
        }
        drop(client);
    }

    #[test]
    fn a_server_learns_that_its_client_is_gone() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = server.local_addr().expect("an address");
        let mut proxied = Proxied::new();
        let client = proxied.client(format!("CONNECT {to} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let (mut writer, _) = server.accept().expect("the proxy's call");
        writer.set_nonblocking(true).expect("a socket");
        client.shutdown(std::net::Shutdown::Write).expect("half of the connection");
        let mut byte = [0];
        while writer.read(&mut byte).map_err(|e| e.kind()) == Err(ErrorKind::WouldBlock) {
            proxied.turn();
        }
        assert_eq!(proxied.programs.joints.len(), 1, "the other half stays");
        drop(client);
        let mut outcome = Ok(0);
        for _ in 0..1000 {
            outcome = writer.write(&[7; 1000]).map_err(|e| e.kind());
            proxied.turn();
            if outcome.is_err_and(|e| e != ErrorKind::WouldBlock) {
                break;
            }
        }
        assert!(matches!(outcome, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "{outcome:?}");
        assert_eq!(proxied.programs.joints.len(), 0);
    }

    #[test]
    fn a_dead_server_is_told_at_once() {
        let dead = TcpListener::bind("127.0.0.1:0").and_then(|server| server.local_addr()).expect("an address");
        let mut proxied = Proxied::new();
        let client = proxied.client(format!("CONNECT {dead} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let mut answer = read(&client);
        while answer == Err(ErrorKind::WouldBlock) {
            proxied.turn();
            answer = read(&client);
        }
        assert!(answer.is_ok_and(|text| text.starts_with("HTTP/1.1 502 ")), "the reason comes before the end");
    }
}
