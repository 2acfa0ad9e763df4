//! Owns our own side of the contest: two nodes in two processes, through the public API.

use super::task::{Connection, Outcome, Task, await_end, drive_connections, say_end, say_ready, serve_connections};
use pilot_node::answer::RendezvousState;
use pilot_node::{Config, Failure, Node, RendezvousConfig, Stream, Terms};
use pilot_rendezvous::server::{Server, ServerConfig};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const PORT: u16 = 1000;
pub(crate) const SERVER: &str = "bench-server";
pub(crate) const DRIVER: &str = "bench-driver";

impl Connection for Stream {
    fn end_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A temporary folder, removed when the value is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("pilot-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The folder may never have been made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts a node with a folder of its own in `folder`, and with an IPC socket where one is named.
pub(crate) fn start(
    folder: &Path,
    name: &str,
    bind: IpAddr,
    rendezvous: RendezvousConfig,
    datagram: usize,
    socket: Option<PathBuf>,
) -> Result<Node, Failure> {
    let mut config = Config::new(folder.join(name));
    config.hostname = Some(name.into());
    config.listen = SocketAddr::new(bind, 0);
    config.rendezvous = rendezvous;
    config.datagram_len_max = datagram;
    config.socket = socket;
    Node::start(config)
}

/// Repeats a question until its answer is as wanted.
pub(crate) fn until(what: &str, done: impl Fn() -> Outcome<bool>) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !done()? {
        if Instant::now() > end {
            return Err(format!("{what}: no progress in ten seconds").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits until a node is registered.
pub(crate) fn until_registered(node: &Node) -> Outcome<()> {
    until("registration", || Ok(node.info()?.rendezvous == RendezvousState::Ready))
}

pub(super) fn serve(bind: IpAddr, datagram: usize) -> Outcome<()> {
    let folder = Folder::new("bench-server");
    let listen = SocketAddr::new(bind, 0);
    let server = Server::bind(&ServerConfig { home: folder.0.join("rendezvous"), listen, idle_exit: None })?;
    let (key, addr) = server.endpoint();
    let stopper = server.stopper();
    let serving = std::thread::spawn(move || server.run());
    let node = start(&folder.0, SERVER, bind, RendezvousConfig::At(key, addr), datagram, None)?;
    until_registered(&node)?;
    let listener = node.listen(PORT)?;
    std::thread::spawn(move || serve_connections(listener.incoming().flatten()));
    let approving = node.clone();
    std::thread::spawn(move || {
        // The loop ends with the driver's approval, or with the process.
        let _ = until("a request", || Ok(!approving.trust().pending()?.pending.is_empty()));
        let _ = approving.trust().approve(DRIVER, Terms::default());
    });
    say_ready(&format!("{key}@{addr}"));
    await_end()?;
    drop(node);
    stopper.stop();
    serving.join().map_err(|_| "the rendezvous failed")??;
    Ok(())
}

pub(super) fn drive(to: &str, task: Task, count: u64, datagram: usize) -> Outcome<()> {
    let folder = Folder::new("bench-driver");
    let rendezvous: RendezvousConfig = to.parse()?;
    let loopback = matches!(&rendezvous, RendezvousConfig::At(_, addr) if addr.ip().is_loopback());
    let bind = IpAddr::from(if loopback { [127, 0, 0, 1] } else { [0, 0, 0, 0] });
    let begin = || start(&folder.0, DRIVER, bind, rendezvous.clone(), datagram, None);
    let mut node = Some(begin()?);
    if let Some(node) = &node {
        until_registered(node)?;
        befriend(node)?;
    }
    let result = if task == Task::Exchange {
        // A node that was just started has no tunnel. The start itself is not measured.
        super::task::exchange(count, || {
            node = None;
            let fresh = begin()?;
            until_registered(&fresh)?;
            std::thread::sleep(Duration::from_millis(20)); // the rest of the registration is not measured either
            node = Some(fresh.clone());
            Ok(move || serve_once(&fresh))
        })?
    } else {
        let node = node.as_ref().ok_or("just made")?;
        let mut result = drive_connections(task, count, |first| Ok(node.connect_with(SERVER, PORT, first)?))?;
        let peer = node.peers()?.peers.pop().ok_or("the peer is gone")?;
        result["datagram_len"] = peer.datagram_len.into();
        result["window"] = peer.window.into();
        result["datagrams_sent"] = peer.datagrams_sent.into();
        result["datagrams_lost"] = peer.datagrams_lost.into();
        result["srtt_ms"] = peer.srtt_ms.into();
        result["path"] = peer.path.into();
        result
    };
    say_end(&result);
    Ok(())
}

/// Makes the server trust a node, and opens a first stream, which makes the tunnel and finds the direct path.
pub(crate) fn befriend(node: &Node) -> Outcome<()> {
    node.trust().handshake(SERVER, Terms::default())?;
    until("trust", || Ok(node.trust().pins()?.total == 1))?;
    serve_once(node)
}

/// Opens a stream, sends a byte and reads one.
fn serve_once(node: &Node) -> Outcome<()> {
    use std::io::Read as _;
    let mut stream = node.connect_with(SERVER, PORT, b"O")?;
    Ok(stream.read_exact(&mut [0])?)
}
