//! A rendezvous that serves TLS, nodes whose UDP leads nowhere, and a proxy.

use pilot_node::answer::RendezvousState;
use pilot_node::{Config, LogConfig, LogLevel, MemoryLog, Node, ProxySetting, RendezvousConfig, Terms};
use pilot_rendezvous::Certificate;
use pilot_rendezvous::server::{Server, ServerConfig};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) struct Lab {
    pub folder: PathBuf,
    /// What the nodes have logged, in the order of their names; printed when a test fails.
    pub logs: [MemoryLog; 2],
    pub key: pilot_core::identity::StaticKey,
    /// Where the rendezvous serves UDP and TLS.
    pub udp: SocketAddr,
    pub tls: SocketAddr,
    /// Where nothing listens. The socket is held so that no other process gets the port.
    pub nowhere: UdpSocket,
    stopper: pilot_rendezvous::server::Stopper,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pilot-node-{name}-{}", std::process::id()));
        let config = ServerConfig { home: folder.join("r"), listen: loopback(), idle_exit: None };
        let mut server = Server::bind(&config).unwrap();
        let tls = server.listen_tcp(loopback(), Some(&Certificate::Own)).unwrap();
        let ((key, udp), stopper) = (server.endpoint(), server.stopper());
        let server = Some(std::thread::spawn(move || server.run()));
        let nowhere = UdpSocket::bind(loopback()).unwrap();
        Self { folder, logs: Default::default(), key, udp, tls, nowhere, stopper, server }
    }

    /// Settings of a node without UDP to the rendezvous.
    pub(crate) fn config(&self, name: &str) -> Config {
        let mut config = Config::new(self.folder.join(name));
        config.hostname = Some(name.into());
        (config.listen, config.services) = (loopback(), name == "node-b");
        config.rendezvous = RendezvousConfig::At(self.key, self.nowhere.local_addr().unwrap());
        (config.tls.at, config.tls.proxy) = (Some(self.tls.into()), ProxySetting::None);
        let log = &self.logs[usize::from(name == "node-b")];
        config.log = Some(LogConfig::new(LogLevel::Debug, log.clone()));
        config
    }

    /// A node that has registered.
    pub(crate) fn node(&self, name: &str, change: impl FnOnce(&mut Config)) -> Node {
        let mut config = self.config(name);
        change(&mut config);
        let node = Node::start(config).unwrap();
        until("registration", || node.info().unwrap().rendezvous == RendezvousState::Ready);
        node
    }

    pub(crate) fn befriend(&self, a: &Node, b: &Node) {
        a.trust().handshake("node-b", Terms::default()).unwrap();
        until("request", || !b.trust().pending().unwrap().pending.is_empty());
        b.trust().approve("node-a", Terms::default().ports("all")).unwrap();
        until("approval", || a.trust().pins().unwrap().total == 1);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stopper.stop();
        self.server.take().unwrap().join().unwrap().unwrap();
        let _ = std::fs::remove_dir_all(&self.folder);
        if std::thread::panicking() {
            for (name, log) in ["node-a", "node-b"].iter().zip(&self.logs) {
                log.lines().iter().for_each(|line| println!("{name}: {line}"));
            }
        }
    }
}

/// A proxy for CONNECT with a password, which leads everything to one place.
pub(crate) struct HttpProxy {
    pub addr: SocketAddr,
    /// The targets that were asked for with the right password.
    pub targets: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    pub(crate) fn new(authorization: &'static str, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback()).unwrap();
        let (addr, targets) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let asked = targets.clone();
        std::thread::spawn(move || {
            while let Ok((mut near, _)) = listener.accept() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && near.read(&mut byte).is_ok_and(|len| len > 0) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                if !head.contains(&format!("\r\nProxy-Authorization: {authorization}\r\n")) {
                    let _ = near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                    continue;
                }
                let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
                asked.lock().unwrap().push(target.into());
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                let far = TcpStream::connect(to).unwrap();
                for (mut from, mut to) in [(&near, &far), (&far, &near)].map(|(a, b)| (clone(a), clone(b))) {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { addr, targets }
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().unwrap()
}

/// A machine between one node and the UDP of the rendezvous, which can be told to lose everything.
pub(crate) struct UdpMiddle {
    pub addr: SocketAddr,
    pub is_blocked: Arc<AtomicBool>,
}

impl UdpMiddle {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind(loopback()).unwrap();
        let (addr, is_blocked) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let blocked = is_blocked.clone();
        std::thread::spawn(move || {
            let (mut node, mut bytes) = (None, [0; 65_536]);
            while let Ok((len, from)) = socket.recv_from(&mut bytes) {
                if from != to {
                    node = Some(from);
                }
                let next = if from == to { node } else { Some(to) };
                if let Some(next) = next.filter(|_| !blocked.load(Ordering::SeqCst)) {
                    let _ = socket.send_to(&bytes[..len], next);
                }
            }
        });
        Self { addr, is_blocked }
    }
}
