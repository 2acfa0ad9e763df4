//! Measures each interface of a node beside the Rust `Stream`, in one run: `cargo bench -p pilot-ffi`.
//!
//! Bulk: one process writes 512 MiB through a node to a node in a second process, which reads through the same interface.
//! Echo: 64 bytes there and back. The interfaces run in rounds, one after the other; the median round counts.
#![allow(clippy::unwrap_used, reason = "a program for developers")]

use pilot::*;
use pilot_node::answer::RendezvousState;
use pilot_node::{Config, Node, RendezvousConfig, Terms};
use pilot_rendezvous::server::{Server, ServerConfig};
use std::ffi::{CString, c_int};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BULK_LEN: usize = 512 << 20;
const CHUNK_LEN: usize = 256 << 10;
const ECHOES: usize = 5000;
const ROUNDS: usize = 7;
const WAYS: [Way; 4] = [Way::Rust, Way::Handle, Way::Descriptor, Way::Daemon];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `pilot_node::Stream`.
    Rust,
    /// `pilot_stream_read` and `_write`, with the node in the process.
    Handle,
    /// `pilot_connect`'s descriptor, with the node in the process.
    Descriptor,
    /// `pilot_connect`'s descriptor, attached to a daemon in a process of its own.
    Daemon,
}

impl Way {
    fn named(name: &str) -> Self {
        WAYS.into_iter().find(|way| format!("{way:?}") == name).unwrap()
    }
}

/// A stream of one of the interfaces.
enum Stream {
    Rust(pilot_node::Stream),
    Handle(pilot_handle),
    Descriptor(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Rust(stream) => stream.read(buf),
            Self::Descriptor(stream) => stream.read(buf),
            // SAFETY: the buffer is valid for its length.
            Self::Handle(stream) => {
                Ok(
                    checked(unsafe {
                        pilot_stream_read(*stream, buf.as_mut_ptr(), buf.len(), -1, std::ptr::null_mut())
                    }) as usize,
                )
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Rust(stream) => stream.write(buf),
            Self::Descriptor(stream) => stream.write(buf),
            // SAFETY: the buffer is valid for its length.
            Self::Handle(stream) => {
                Ok(checked(unsafe { pilot_stream_write(*stream, buf.as_ptr(), buf.len(), -1, std::ptr::null_mut()) })
                    as usize)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Stream {
    fn finish(&self) {
        match self {
            Self::Rust(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Self::Descriptor(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Self::Handle(stream) => drop(pilot_stream_shutdown(*stream, PILOT_SHUT_WRITE, std::ptr::null_mut())),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Self::Handle(stream) = self {
            pilot_close(*stream);
        }
    }
}

fn checked(value: i64) -> i64 {
    assert!(value >= 0, "code {value}");
    value
}

fn descriptor(fd: c_int) -> Stream {
    checked(fd.into());
    // SAFETY: the library has just handed the descriptor out, and this is its only owner.
    Stream::Descriptor(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// A node behind one of the interfaces.
struct Side {
    way: Way,
    node: Option<Node>,
    handle: pilot_handle,
}

impl Side {
    fn start(way: Way, folder: &Path, name: &str, rendezvous: &str) -> Self {
        let (home, null) = (folder.join(name), std::ptr::null_mut());
        let text = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
        let (node, handle) = match way {
            Way::Rust => (Some(start(&home, name, rendezvous, None)), 0),
            Way::Daemon => {
                // SAFETY: a valid string.
                (None, checked(unsafe { pilot_attach(text(&home.join("pilot.sock")).as_ptr(), null) }))
            }
            Way::Handle | Way::Descriptor => {
                let (home, name) = (text(&home), CString::new(name).unwrap());
                let (rendezvous, listen) = (CString::new(rendezvous).unwrap(), c"127.0.0.1:0");
                let config = pilot_config {
                    struct_size: size_of::<pilot_config>(),
                    home: home.as_ptr(),
                    hostname: name.as_ptr(),
                    rendezvous: rendezvous.as_ptr(),
                    socket: std::ptr::null(),
                    listen: listen.as_ptr(),
                    stream_ring_len_max: 0,
                    services: 0,
                };
                // SAFETY: a valid struct of valid strings.
                (None, checked(unsafe { pilot_node_start(&config, null) }))
            }
        };
        Self { way, node, handle }
    }

    fn connect(&self, peer: &str, port: u16) -> Stream {
        let (name, null) = (CString::new(peer).unwrap(), std::ptr::null_mut());
        // SAFETY: valid strings.
        unsafe {
            match self.way {
                Way::Rust => Stream::Rust(self.node.as_ref().unwrap().connect(peer, port).unwrap()),
                Way::Handle => {
                    Stream::Handle(checked(pilot_stream_connect(self.handle, name.as_ptr(), port, -1, null)))
                }
                _ => descriptor(pilot_connect(self.handle, name.as_ptr(), port, -1, std::ptr::null_mut(), null)),
            }
        }
    }

    /// Serves streams: port 1 reads everything and answers with a byte, port 2 echoes.
    fn serve(&self) {
        std::thread::scope(|scope| {
            for port in [1, 2] {
                scope.spawn(move || {
                    let (null, at) = (std::ptr::null_mut(), std::ptr::null_mut());
                    let rust = self.node.as_ref().map(|node| node.listen(port).unwrap());
                    let listener = if rust.is_none() { checked(pilot_listen(self.handle, port, null)) } else { 0 };
                    loop {
                        let mut stream = match (&rust, self.way) {
                            (Some(rust), _) => Stream::Rust(rust.accept().unwrap()),
                            // SAFETY: NULL is allowed.
                            (None, Way::Handle) => {
                                Stream::Handle(checked(unsafe { pilot_stream_accept(listener, -1, at, null) }))
                            }
                            // SAFETY: NULL is allowed.
                            _ => descriptor(unsafe { pilot_accept(listener, -1, at, null) }),
                        };
                        let mut buffer = vec![0; CHUNK_LEN];
                        loop {
                            match stream.read(&mut buffer).unwrap() {
                                0 => break,
                                n if port == 2 => stream.write_all(&buffer[..n]).unwrap(),
                                _ => {}
                            }
                        }
                        if port == 1 {
                            stream.write_all(b"x").unwrap();
                        }
                        stream.finish();
                    }
                });
            }
        });
    }
}

fn start(home: &Path, name: &str, rendezvous: &str, socket: Option<PathBuf>) -> Node {
    let mut config = Config::new(home);
    config.hostname = Some(name.into());
    config.rendezvous = rendezvous.parse::<RendezvousConfig>().unwrap();
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.socket = socket;
    Node::start(config).unwrap()
}

/// Ends a process that was started for the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(args: &[&str]) -> Running {
    let mut child = Command::new(std::env::current_exe().unwrap()).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap(); // the process is ready
    Running(child)
}

fn say_ready() {
    println!("r");
}

struct Figures {
    /// Throughput. Unit: MB/s.
    bulk: Vec<f64>,
    /// Median round trip. Unit: µs.
    echo: Vec<f64>,
}

fn measure(side: &Side, figures: &mut Figures) {
    let mut stream = side.connect("far", 1);
    let chunk = vec![7; CHUNK_LEN];
    let begin = Instant::now();
    (0..BULK_LEN / CHUNK_LEN).for_each(|_| stream.write_all(&chunk).unwrap());
    stream.finish();
    stream.read_exact(&mut [0]).unwrap();
    figures.bulk.push(BULK_LEN as f64 / 1e6 / begin.elapsed().as_secs_f64());

    let mut stream = side.connect("far", 2);
    let mut times: Vec<Duration> = (0..ECHOES)
        .map(|_| {
            let begin = Instant::now();
            stream.write_all(&[1; 64]).unwrap();
            stream.read_exact(&mut [0; 64]).unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort();
    figures.echo.push(times[ECHOES / 2].as_secs_f64() * 1e6);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Starts both nodes in this process and lets them approve each other; their books keep the approval.
fn befriend(folder: &Path, rendezvous: &str) {
    let a = start(&folder.join("near"), "near", rendezvous, None);
    let b = start(&folder.join("far"), "far", rendezvous, None);
    let until = |done: &dyn Fn() -> bool| {
        while !done() {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for node in [&a, &b] {
        until(&|| node.info().is_ok_and(|info| info.rendezvous == RendezvousState::Ready));
    }
    until(&|| a.trust().handshake("far", Terms::default().ports("all")).is_ok());
    until(&|| b.trust().approve("near", Terms::default().ports("all")).is_ok());
    until(&|| a.trust().pins().is_ok_and(|pins| pins.total == 1));
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["daemon", folder, name, rendezvous] => {
            let home = Path::new(folder).join(name);
            let node = start(&home, name, rendezvous, Some(home.join("pilot.sock")));
            say_ready();
            node.wait();
        }
        ["far", way, folder, rendezvous] => {
            let side = Side::start(Way::named(way), Path::new(folder), "far", rendezvous);
            say_ready();
            side.serve();
        }
        // `cargo test` runs benches too; the library's own tests replace the measurement there.
        ["--test"] => {}
        _ => compare(),
    }
}

fn compare() {
    let folder = std::env::temp_dir().join(format!("pilot-interfaces-{}", std::process::id()));
    let config = ServerConfig { home: folder.join("r"), listen: "127.0.0.1:0".parse().unwrap(), idle_exit: None };
    let server = Server::bind(&config).unwrap();
    let ((key, addr), stopper) = (server.endpoint(), server.stopper());
    let rendezvous = format!("{key}@{addr}");
    let server = std::thread::spawn(move || server.run());
    befriend(&folder, &rendezvous);
    let mut figures: Vec<Figures> = WAYS.iter().map(|_| Figures { bulk: Vec::new(), echo: Vec::new() }).collect();
    for _ in 0..ROUNDS {
        for (way, figures) in WAYS.into_iter().zip(&mut figures) {
            let folder_text = folder.to_str().unwrap();
            let daemons: Vec<Running> = ["near", "far"]
                .into_iter()
                .filter(|_| way == Way::Daemon)
                .map(|name| spawn(&["daemon", folder_text, name, &rendezvous]))
                .collect();
            let far = spawn(&["far", &format!("{way:?}"), folder_text, &rendezvous]);
            let side = Side::start(way, &folder, "near", &rendezvous);
            std::thread::sleep(Duration::from_millis(300)); // its ports are bound, and both are registered
            measure(&side, figures);
            drop((far, daemons));
            if side.handle != 0 {
                pilot_close(side.handle);
            }
        }
    }
    stopper.stop();
    server.join().unwrap().unwrap();
    let _ = std::fs::remove_dir_all(&folder);
    let rows: Vec<(f64, f64)> = figures.iter_mut().map(|f| (median(&mut f.bulk), median(&mut f.echo))).collect();
    println!("{:12} {:>12} {:>8} {:>12} {:>8}", "", "bulk, MB/s", "÷ Rust", "echo, µs", "÷ Rust");
    for (way, (bulk, echo)) in WAYS.into_iter().zip(&rows) {
        let name = format!("{way:?}");
        println!("{name:12} {bulk:>12.0} {:>8.2} {echo:>12.1} {:>8.2}", bulk / rows[0].0, echo / rows[0].1);
    }
}
