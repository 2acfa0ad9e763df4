//! Owns the commands for files, events and datagrams.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon, duration};
use crate::output::Output;
use pilot_node::{
    Client, Code, Event, Failure, FrameReader, Published, Request, StreamReply, ports, send_file as send,
};
use serde_json::{Value, json};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(200);

pub(crate) fn send_file(args: &args::SendFile, output: &Output) -> Result<(), Failure> {
    let stream = open_transfer(&mut daemon()?, &args.node, duration(&args.timeout)?)?;
    let (shows, mut shown) = (!output.json && io::stderr().is_terminal(), Instant::now());
    let sent = transfer(&stream, &args.path, |acknowledged, len| {
        if shows && (shown.elapsed() >= PROGRESS || acknowledged == len) {
            shown = Instant::now();
            let percent = acknowledged * 100 / len.max(1);
            // A terminal that is gone needs no progress.
            let _ = write!(io::stderr(), "\r{percent:3} %  {acknowledged} of {len} bytes");
        }
    });
    if shows {
        let _ = writeln!(io::stderr());
    }
    output.ok(&sent?);
    Ok(())
}

/// Opens the stream of a transfer, on which the peer may be silent for `timeout`.
pub(crate) fn open_transfer(client: &mut Client, node: &str, timeout: Duration) -> Result<StreamReply, Failure> {
    let stream = client.open(node, ports::DATA_EXCHANGE, Some(timeout))?;
    let local = |e: io::Error| Failure::new(Code::Internal, e.to_string());
    stream.socket.set_read_timeout(Some(timeout)).map_err(local)?;
    stream.socket.set_write_timeout(Some(timeout)).map_err(local)?;
    Ok(stream)
}

/// Sends a file; `progress` gets the acknowledged bytes and all bytes.
pub(crate) fn transfer(stream: &StreamReply, path: &Path, progress: impl FnMut(u64, u64)) -> Result<Value, Failure> {
    let begin = Instant::now();
    let sent = send(&mut &stream.socket, path, progress)?;
    let sha256: String = sent.sha256.iter().map(|b| format!("{b:02x}")).collect();
    let seconds = begin.elapsed().as_secs_f64();
    Ok(json!({
        "filename": sent.name, "bytes": sent.len, "bytes_resumed": sent.resumed, "bytes_sent": sent.len - sent.resumed,
        "destination": stream.data.peer, "sha256": sha256, "verified": true, "elapsed_ms": (seconds * 1e3) as u64,
        "throughput_mbps": (sent.len - sent.resumed) as f64 / 1e6 / seconds.max(1e-9),
    }))
}

pub(crate) fn publish(args: &args::Publish, output: &Output) -> Result<(), Failure> {
    let mut client = daemon()?;
    let data = if args.node == "." {
        let request = Request::Publish { topic: args.topic.clone() };
        client.request(&request, args.data.as_bytes(), Some(CALL_TIMEOUT))?.data
    } else {
        let stream = open_events(&mut client, &args.node, &args.topic, args.data.as_bytes())?;
        emit(&mut client, &stream, &args.topic, args.data.as_bytes())?
    };
    output.ok(&data);
    Ok(())
}

/// Opens a peer's event stream for one event.
pub(crate) fn open_events(
    client: &mut Client,
    node: &str,
    topic: &str,
    payload: &[u8],
) -> Result<StreamReply, Failure> {
    if topic.is_empty() || topic.len() > 4096 || payload.is_empty() || payload.len() > 1 << 20 {
        return Err(Failure::new(Code::InvalidArgument, "a topic has 1 to 4096 bytes, a payload 1 to 1048576"));
    }
    client.open(node, ports::EVENT_STREAM, Some(CALL_TIMEOUT))
}

/// Publishes one event at a peer; returns once the peer has read it.
pub(crate) fn emit(client: &mut Client, stream: &StreamReply, topic: &str, payload: &[u8]) -> Result<Value, Failure> {
    let frames = [Published::emit(topic, b""), Published::emit(topic, payload)].concat();
    (&stream.socket).write_all(&frames).map_err(|e| Failure::new(Code::ConnectionReset, e.to_string()))?;
    // The peer has read everything when it ends its own direction.
    crate::pipe::end_writing(client, stream).map_err(|e| Failure::new(Code::ConnectionReset, e.to_string()))?;
    crate::pipe::read_to_end(client, stream, 1 << 24, CALL_TIMEOUT)?;
    Ok(json!({"status": "published", "topic": topic, "bytes": payload.len()}))
}

/// Time between two looks whether the reader of a listing has gone.
const LOOK: Duration = Duration::from_secs(1);

/// Limits of a listing: a number of lines, a time.
struct Limit {
    left: Option<u64>,
    end: Option<Instant>,
}

impl Limit {
    fn new(count: Option<u64>, timeout: Option<&str>) -> Result<Self, Failure> {
        let timeout = timeout.map(duration).transpose()?;
        Ok(Self { left: count, end: timeout.map(|t| Instant::now() + t) })
    }

    /// Returns how long to wait for the next line before asking again; `None` when a limit is reached, or when the reader of
    /// the lines has gone.
    fn wait(&self, output: &Output) -> Option<Duration> {
        let left = self.end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()).min(LOOK));
        (self.left != Some(0) && !left.is_zero() && !output.is_closed()).then_some(left)
    }

    fn count(&mut self) {
        self.left = self.left.map(|n| n - 1);
    }
}

pub(crate) fn events(args: &args::Events, output: &Output) -> Result<(), Failure> {
    watch(None, Limit::new(args.count, args.timeout.as_deref())?, output)
}

/// Shows this node's events; with a topic, the events published at this node under that topic.
fn watch(topic: Option<&str>, mut limit: Limit, output: &Output) -> Result<(), Failure> {
    let mut client = daemon()?;
    client.watch(topic)?;
    while let Some(left) = limit.wait(output) {
        let Some(event) = client.next_event(Some(left))? else { continue };
        let published = matches!(event.read()?, Event::Published { .. } | Event::Missed { .. });
        if published == topic.is_some() {
            let mut line = event.data;
            if published {
                line["data"] = String::from_utf8_lossy(&event.payload).into();
            }
            if output.next_line(&line.to_string()).is_err() {
                break; // `| head` has its lines
            }
            limit.count();
        }
    }
    Ok(())
}

pub(crate) fn subscribe(args: &args::Subscribe, output: &Output) -> Result<(), Failure> {
    let mut limit = Limit::new(args.count, args.timeout.as_deref())?;
    if args.node == "." {
        return watch(Some(&args.topic), limit, output);
    }
    let mut client = daemon()?;
    let stream = client.open(&args.node, ports::EVENT_STREAM, Some(CALL_TIMEOUT))?;
    let lost = |e: io::Error| Failure::new(Code::ConnectionReset, e.to_string());
    (&stream.socket).write_all(&Published::emit(&args.topic, b"")).map_err(lost)?;
    output.note(&format!("subscribed to {} at {}", args.topic, args.node));
    let mut reader = EventReader { socket: &stream.socket, buffer: FrameReader::new() };
    while let Some(left) = limit.wait(output) {
        match reader.next(Some(left)).map_err(lost)? {
            Next::Event(Published { topic, payload }) => {
                let line = json!({"topic": topic, "data": String::from_utf8_lossy(&payload)});
                if output.next_line(&line.to_string()).is_err() {
                    break; // `| head` has its lines
                }
                limit.count();
            }
            Next::Nothing => {}
            Next::End => return client.stream_end(stream.data.stream, Some(CALL_TIMEOUT)),
        }
    }
    Ok(())
}

struct EventReader<'a> {
    socket: &'a UnixStream,
    buffer: FrameReader,
}

enum Next {
    Event(Published),
    Nothing,
    End,
}

impl EventReader<'_> {
    fn next(&mut self, wait: Option<Duration>) -> io::Result<Next> {
        loop {
            if let Some(event) = Published::take(&mut self.buffer).map_err(|_| io::ErrorKind::InvalidData)? {
                return Ok(Next::Event(event));
            }
            self.socket.set_read_timeout(wait)?;
            let mut bytes = [0; 64 * 1024];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(Next::End),
                Ok(n) => self.buffer.extend(&bytes[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Next::Nothing),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

pub(crate) fn dgram(args: &args::Dgram, output: &Output) -> Result<(), Failure> {
    let request = Request::SendDatagram { node: args.node.clone(), port: args.port, source: None };
    let mut data = daemon()?.request(&request, args.data.as_bytes(), Some(CALL_TIMEOUT))?.data;
    data["target"] = args.node.clone().into();
    data["port"] = args.port.into();
    output.ok(&data);
    Ok(())
}
