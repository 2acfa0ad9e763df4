//! A rendezvous and two nodes that trust each other, in this process; `node-b` answers on the services' ports.

use pilot_node::{Config, LogConfig, LogLevel, MemoryLog, Node, RendezvousConfig};
use pilot_rendezvous::server::{Server, ServerConfig, Stopper};
use serde_json::json;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub struct Lab {
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
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pilot-node-{name}-{}", std::process::id()));
        let loopback = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(&ServerConfig { home: folder.join("r"), listen: loopback, idle_exit: None }).unwrap();
        let ((key, addr), stopper) = (server.endpoint(), server.stopper());
        let server = Some(std::thread::spawn(move || server.run()));
        let logs = [MemoryLog::default(), MemoryLog::default()];
        let start = |name: &str, log: &MemoryLog| {
            let mut config = Config::new(folder.join(name));
            (config.hostname, config.listen, config.services) = (Some(name.into()), loopback, name == "node-b");
            config.rendezvous = RendezvousConfig::At(key, addr);
            config.log = Some(LogConfig::new(LogLevel::Debug, log.clone()));
            Node::start(config).unwrap()
        };
        let (a, b) = (start("node-a", &logs[0]), start("node-b", &logs[1]));
        let until = |node: &Node, op: &str, done: &dyn Fn(&serde_json::Value) -> bool| {
            let end = Instant::now() + Duration::from_secs(10);
            while !done(&node.call(json!({"op": op}), Vec::new()).unwrap().0) {
                assert!(Instant::now() < end, "{op}");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        [&a, &b].iter().for_each(|n| until(n, "info", &|i| i["rendezvous"] == "ready"));
        a.call(json!({"op": "handshake", "node": "node-b"}), Vec::new()).unwrap();
        until(&b, "pending", &|p| p["pending"].as_array().is_some_and(|l| !l.is_empty()));
        b.call(json!({"op": "approve", "node": "node-a", "ports": "all"}), Vec::new()).unwrap();
        until(&a, "trust", &|t| t["total"] == 1);
        Self { folder, stopper, server, a: Some(a), b: Some(b), logs }
    }

    pub fn nodes(&self) -> (&Node, &Node) {
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
