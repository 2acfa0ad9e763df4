//! A rendezvous that serves TLS, nodes whose UDP leads nowhere, and a proxy.

use super::*;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) struct Lab {
    pub folder: PathBuf,
    /// What the nodes have logged, in the order of their names; printed when a test fails.
    pub logs: [MemoryLog; 2],
    pub key: pilot_core::identity::StaticKey,
    /// Where the rendezvous serves UDP, TLS and WebSocket.
    pub udp: SocketAddr,
    pub tls: SocketAddr,
    pub ws: SocketAddr,
    /// Where nothing listens. The socket is held so that no other process gets the port.
    pub nowhere: std::net::UdpSocket,
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
        let ws = server.listen_tcp(loopback(), None).unwrap();
        let ((key, udp), stopper) = (server.endpoint(), server.stopper());
        let server = Some(std::thread::spawn(move || server.run()));
        let nowhere = std::net::UdpSocket::bind(loopback()).unwrap();
        Self { folder, logs: Default::default(), key, udp, tls, ws, nowhere, stopper, server }
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
