//! The start of most examples: two nodes in this process that trust each other. `two_peers` shows each step.

use pilot_node::answer::RendezvousState;
use pilot_node::{Config, Node, RendezvousConfig, Terms};
use pilot_rendezvous::server::{Server, ServerConfig, Stopper};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The outcome of an example.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The nodes `alice` and `bob`, and the rendezvous by which they have found each other. Dropping it ends all three and removes
/// their folder.
pub(crate) struct Network {
    /// A node that has no services of its own.
    pub(crate) alice: Node,
    /// A node that also answers on the well-known ports: echo, messages, files and events.
    pub(crate) bob: Node,
    _rendezvous: Rendezvous,
}

struct Rendezvous {
    folder: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Network {
    /// Starts everything on the loopback interface.
    pub(crate) fn start(name: &str) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("pilot-example-{name}-{}", std::process::id()));
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(&ServerConfig { home: folder.join("rendezvous"), listen, idle_exit: None })?;
        let ((key, addr), stopper) = (server.endpoint(), server.stopper());
        let thread = Some(thread::spawn(move || server.run()));
        let rendezvous = Rendezvous { folder: folder.clone(), stopper, thread };

        let start = |hostname: &str, services: bool| {
            let mut config = Config::new(folder.join(hostname));
            config.hostname = Some(hostname.into());
            config.rendezvous = RendezvousConfig::At(key, addr);
            (config.listen, config.services) = (listen, services);
            Node::start(config)
        };
        let network = Self { alice: start("alice", false)?, bob: start("bob", true)?, _rendezvous: rendezvous };
        network.befriend()?;
        Ok(network)
    }

    fn befriend(&self) -> Outcome<()> {
        let (alice, bob) = (&self.alice, &self.bob);
        for node in [alice, bob] {
            until("registration", || Ok(node.info()?.rendezvous == RendezvousState::Ready))?;
        }
        alice.trust().handshake("bob", Terms::default().ports("all"))?;
        until("the request", || Ok(!bob.trust().pending()?.pending.is_empty()))?;
        bob.trust().approve("alice", Terms::default().ports("all"))?;
        if alice.trust().wait("bob", Duration::from_secs(10))? { Ok(()) } else { Err("no approval came".into()) }
    }
}

impl Drop for Network {
    /// Ends the nodes and thereby the streams and listeners of threads that still have clones of them.
    fn drop(&mut self) {
        for node in [&self.alice, &self.bob] {
            node.stopper()();
            node.wait();
        }
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(Ok(Err(e))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the rendezvous ended: {e}");
        }
        if let Err(e) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {e}", self.folder.display());
        }
    }
}

/// Waits until `done` gives true, for at most ten seconds.
pub(crate) fn until(what: &str, done: impl Fn() -> Outcome<bool>) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !done()? {
        if Instant::now() > end {
            return Err(format!("{what} did not happen in ten seconds").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
