//! Owns HTTP: a server, a client that counts and times, and the figures of downloads, requests and connections.

use super::amounts::Sizes;
use super::place::{Place, part};
use super::rows::{Against, Row};
use super::ways::Ways;
use crate::compare::Side;
use crate::contest::Outcome;
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Threads of the server, each with one connection at a time; more than any figure has clients.
const SERVERS: usize = 64;
/// Clients that make new connections.
const CLIENTS: usize = 20;
/// Length of the body of a small answer. Unit: bytes.
const SMALL: u64 = 200;
/// Length of a read. Unit: bytes.
const CHUNK: usize = 256 * 1024;
/// Longest line of a head. Unit: bytes.
const LINE_LEN_MAX: u64 = 8 * 1024;

/// Serves `GET /LENGTH` with as many bytes, on as many connections at once as there are threads.
pub(super) fn serve(bind: SocketAddr) -> Outcome<()> {
    let listener = TcpListener::bind(bind)?;
    // The backlog of the standard library is 128; many clients at once ask for more.
    rustix::net::listen(&listener, 4096)?;
    super::place::say_ready_until_end(&listener.local_addr()?.to_string());
    std::thread::scope(|scope| {
        for _ in 0..SERVERS {
            scope.spawn(|| {
                for stream in listener.incoming().flatten() {
                    // A client that goes away is no failure of the server.
                    let _ = serve_connection(stream);
                }
            });
        }
    });
    Ok(())
}

fn serve_connection(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, chunk) = (BufReader::new(&stream), vec![7; CHUNK]);
    while let Some((request, closes)) = read_head(&mut reader)? {
        let bad = || io::Error::from(ErrorKind::InvalidData);
        let length = request.split(' ').nth(1).and_then(|path| path.strip_prefix('/')?.parse::<u64>().ok());
        let mut left = length.ok_or_else(bad)?;
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n").into_bytes();
        // A small answer is one write, as servers do.
        let first = left.min(4096) as usize;
        answer.extend_from_slice(&chunk[..first]);
        (&stream).write_all(&answer)?;
        left -= first as u64;
        while left > 0 {
            let n = (&stream).write(&chunk[..left.min(CHUNK as u64) as usize])?;
            left -= n as u64;
        }
        if closes {
            break;
        }
    }
    Ok(())
}

/// Reads a head; returns its first line and whether the connection ends with it, or `None` at the end of the connection.
fn read_head(reader: &mut impl io::BufRead) -> io::Result<Option<(String, bool)>> {
    let (mut first, mut closes) = (None, false);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LINE_LEN_MAX).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        match &first {
            None => first = Some(line.to_owned()),
            Some(first) if line.is_empty() => return Ok(Some((first.clone(), closes))),
            Some(_) => closes |= line.eq_ignore_ascii_case("connection: close"),
        }
    }
}

/// A connection of a client.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::with_capacity(CHUNK, stream)))
    }

    /// Asks for a body of `length` bytes and reads it.
    fn get(&mut self, length: u64, closes: bool) -> Outcome<()> {
        let connection = if closes { "close" } else { "keep-alive" };
        let request = format!("GET /{length} HTTP/1.1\r\nHost: bench\r\nConnection: {connection}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let (status, _) = read_head(&mut self.0)?.ok_or("no answer")?;
        if status != "HTTP/1.1 200 OK" {
            return Err(status.into());
        }
        let mut left = length as usize;
        while left > 0 {
            let n = self.0.fill_buf()?.len().min(left);
            if n == 0 {
                return Err(format!("{left} bytes are missing").into());
            }
            self.0.consume(n);
            left -= n;
        }
        Ok(())
    }
}

/// The ways to a server that runs for as long as the value lives.
struct Served {
    ways: Ways,
    _server: Side,
}

fn served() -> Outcome<Served> {
    let (server, bound) = part(&Place::here(), 1, &["http"])?;
    Ok(Served { ways: Ways::to(bound.parse::<SocketAddr>()?.port())?, _server: server })
}

/// Measures one download, against the Rust `Stream` between two nodes.
pub(super) fn download(sizes: Sizes) -> Outcome<Vec<Row>> {
    let mut row = Row::new("one HTTP download", "MB/s", Against::Base("stream"), "≥ 0.8");
    let served = served()?;
    for _ in 0..sizes.rounds {
        row.base.add(stream(sizes.download)?);
        served.ways.rounds(1, &mut row, |to| {
            let mut client = Client::connect(to)?;
            client.get(sizes.download / 20, false)?;
            let begin = Instant::now();
            client.get(sizes.download, false)?;
            Ok(sizes.download as f64 / 1e6 / begin.elapsed().as_secs_f64())
        })?;
    }
    Ok(vec![row])
}

/// Measures the Rust `Stream` as `compare` does. Unit: MB/s.
fn stream(count: u64) -> Outcome<f64> {
    let start = |arguments: &[&str]| {
        let mut command = Command::new(std::env::current_exe()?);
        Side::start({
            command.args(["contest", "pilot"]).args(arguments).env("MALLOC_MMAP_THRESHOLD_", "131072");
            command
        })
    };
    let mut server = start(&["serve"])?;
    let to = server.expect("ready")?;
    let mut driver = start(&["drive", "--to", &to, "--task", "bulk", "--count", &count.to_string()])?;
    driver.expect("begin")?;
    driver.say("go")?;
    let result: Value = serde_json::from_str(&driver.expect("end")?)?;
    Ok(count as f64 / 1e6 / result["seconds"].as_f64().ok_or("no time")?)
}

/// Measures small requests on one connection, against `pilotctl ping`.
pub(super) fn request(sizes: Sizes) -> Outcome<Vec<Row>> {
    let mut row = Row::new("request of 200 B, keep-alive", "ms", Against::Base("ping"), "≤ 2");
    let served = served()?;
    for _ in 0..sizes.rounds {
        row.base.add(served.ways.daemons.ping(sizes.requests / 10)?.median().ok_or("no ping")?);
        served.ways.rounds(1, &mut row, |to| {
            let (mut client, mut times) = (Client::connect(to)?, super::rows::Samples::default());
            for _ in 0..sizes.requests {
                let begin = Instant::now();
                client.get(SMALL, false)?;
                times.add(begin.elapsed().as_secs_f64() * 1e3);
            }
            Ok(times.median().ok_or("no request")?)
        })?;
    }
    Ok(vec![row])
}

/// Measures requests that each make a connection, by several clients at once.
pub(super) fn connections(sizes: Sizes) -> Outcome<Vec<Row>> {
    let mut row = Row::new("new HTTP connection each, 20 clients", "requests/s", Against::Relays, "≥ 0.5");
    let served = served()?;
    served.ways.rounds(sizes.rounds, &mut row, |to| {
        let begin = Instant::now();
        fresh(to, sizes.connections)?;
        Ok(sizes.connections as f64 / begin.elapsed().as_secs_f64())
    })?;
    Ok(vec![row])
}

/// Makes requests with a connection each; returns their times. Unit: milliseconds.
fn fresh(to: SocketAddr, count: usize) -> Outcome<Vec<f64>> {
    let next = AtomicUsize::new(0);
    let one = || -> Result<Vec<f64>, String> {
        let mut times = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let begin = Instant::now();
            let answered = Client::connect(to).map_err(Into::into).and_then(|mut client| client.get(SMALL, true));
            answered.map_err(|e| e.to_string())?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| "a client failed")??);
        }
        Ok(all)
    })
}

/// Makes requests with a connection each and prints their times, from the namespace of the near side.
pub(super) fn fetch(to: SocketAddr, count: usize) -> Outcome<()> {
    println!("end {}", json!(fresh(to, count)?));
    Ok(())
}
