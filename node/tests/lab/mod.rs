//! A rendezvous and two nodes that trust each other, in this process; `node-b` answers on the services' ports.

use pilot_node::answer::RendezvousState;
use pilot_node::{Config, LogConfig, LogLevel, MemoryLog, Node, RendezvousConfig, Terms};
use pilot_rendezvous::server::{Server, ServerConfig, Stopper};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) struct Lab {
    pub folder: PathBuf,
    stopper: Stopper,
    server: Option<JoinHandle<std::io::Result<()>>>,
    pub a: Option<Node>,
    pub b: Option<Node>,
    /// What the nodes have logged; printed when a test fails.
    #[allow(dead_code, reason = "some test programs look at it")]
    pub logs: [MemoryLog; 2],
}

impl Lab {
    #[allow(dead_code, reason = "each test program uses one of both")]
    pub(crate) fn new(name: &str) -> Self {
        Self::with_services(name, &["node-b"])
    }

    /// The same with services on these nodes.
    pub(crate) fn with_services(name: &str, serving: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("pilot-node-{name}-{}", std::process::id()));
        let loopback = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(&ServerConfig { home: folder.join("r"), listen: loopback, idle_exit: None }).unwrap();
        let ((key, addr), stopper) = (server.endpoint(), server.stopper());
        let server = Some(std::thread::spawn(move || server.run()));
        let logs = [MemoryLog::default(), MemoryLog::default()];
        let start = |name: &str, log: &MemoryLog| {
            let mut config = Config::new(folder.join(name));
            (config.hostname, config.listen, config.services) = (Some(name.into()), loopback, serving.contains(&name));
            config.rendezvous = RendezvousConfig::At(key, addr);
            config.log = Some(LogConfig::new(LogLevel::Debug, log.clone()));
            Node::start(config).unwrap()
        };
        let (a, b) = (start("node-a", &logs[0]), start("node-b", &logs[1]));
        let until = |what: &str, done: &dyn Fn() -> bool| {
            let end = Instant::now() + Duration::from_secs(10);
            while !done() {
                assert!(Instant::now() < end, "{what}");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        for node in [&a, &b] {
            until("registration", &|| node.info().unwrap().rendezvous == RendezvousState::Ready);
        }
        a.trust().handshake("node-b", Terms::default()).unwrap();
        until("request", &|| !b.trust().pending().unwrap().pending.is_empty());
        b.trust().approve("node-a", Terms::default().ports("all")).unwrap();
        until("approval", &|| a.trust().pins().unwrap().total == 1);
        Self { folder, stopper, server, a: Some(a), b: Some(b), logs }
    }

    pub(crate) fn nodes(&self) -> (&Node, &Node) {
        (self.a.as_ref().unwrap(), self.b.as_ref().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop((self.a.take(), self.b.take()));
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
