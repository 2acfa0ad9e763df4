//! Owns `pilotctl capture`: the inner packets of the daemon as a file, or as a stream for a program that shows them.
//!
//! The daemon waits for nothing here. What is not fetched in time is missing in the file, which tells how much.

use crate::args;
use crate::client::{daemon, duration};
use crate::output::Output;
use crate::signals::Signals;
use pilot_node::{Capture, CaptureOptions, Code, Failure};
use rustix::event::{PollFd, PollFlags};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

/// Time between two looks for signals while no packets come.
const LOOK: Duration = Duration::from_millis(100);
/// What a pipe that is ready takes without waiting for its reader. Unit: bytes. Source: pipe(7), PIPE_BUF.
const PIECE_LEN: usize = 4096;

pub(crate) fn capture(args: &args::Capture, output: &Output) -> Result<(), Failure> {
    let limit = args.seconds.as_deref().map(duration).transpose()?;
    let mut target = Target::open(&args.write)?;
    let mut options = CaptureOptions::default().max_bytes(args.max_bytes.unwrap_or(64 << 20));
    if let Some(node) = &args.node {
        options = options.node(node);
    }
    if let Some(port) = args.port {
        options = options.port(port);
    }
    // Before the first packet, so that a signal never leaves a file without its end.
    let mut signals = Signals::watch(&[SIGINT, SIGTERM, SIGHUP])?;
    let mut capture = Capture::over(daemon()?, options)?;
    output.note("captures packets in clear; Ctrl-C ends");
    record(&mut capture, &mut target, &mut signals, limit.map(|limit| Instant::now() + limit))?;
    let state = capture.state();
    if target.is_stdout {
        let missed = if state.missed > 0 { format!(", {} missed", state.missed) } else { String::new() };
        output.note(&format!("{} packets{missed}", state.packets));
    } else {
        output.ok(&json!({"file": args.write, "packets": state.packets, "missed": state.missed, "bytes": state.bytes}));
    }
    Ok(())
}

/// Writes what comes until the capture is over, or its reader has gone.
fn record(
    capture: &mut Capture,
    target: &mut Target,
    signals: &mut Signals,
    end: Option<Instant>,
) -> Result<(), Failure> {
    loop {
        let is_stopped = !signals.wait(None, Some(Duration::ZERO))?.is_empty();
        if is_stopped || end.is_some_and(|end| end <= Instant::now()) {
            return target.write(&capture.finish()?, signals).map(|_| ());
        }
        let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()).min(LOOK));
        let Some(blocks) = capture.next_timeout(left)? else { continue };
        let is_read = target.write(&blocks, signals)?;
        if capture.state().over || !is_read {
            return Ok(());
        }
    }
}

/// Where the blocks go.
struct Target {
    file: File,
    name: String,
    is_stdout: bool,
}

impl Target {
    /// Opens a file that this user alone may read, since it has what others have said in confidence.
    fn open(name: &str) -> Result<Self, Failure> {
        let is_stdout = name == "-";
        if is_stdout && io::stdout().is_terminal() {
            return Err(Failure::new(Code::InvalidArgument, "a capture is not text: a terminal cannot show it")
                .hint("pilotctl capture -w - | wireshark -k -i -"));
        }
        let file = if is_stdout {
            io::stdout().as_fd().try_clone_to_owned().map(File::from)
        } else {
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(name)
        };
        let file = file.map_err(|e| Failure::new(Code::Internal, format!("{name}: {e}")))?;
        Ok(Self { file, name: name.into(), is_stdout })
    }

    /// Writes blocks; false when the reader of a pipe has gone, or a signal has ended the wait for one that does not read.
    fn write(&mut self, blocks: &[u8], signals: &mut Signals) -> Result<bool, Failure> {
        if !self.is_stdout {
            return self.file.write_all(blocks).map(|()| true).map_err(|e| self.failure(&e));
        }
        for piece in blocks.chunks(PIECE_LEN) {
            let is_ready = PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::OUT);
            if !signals.wait_for(vec![is_ready], None)?.is_empty() {
                return Ok(false);
            }
            match self.file.write_all(piece) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(false),
                Err(e) => return Err(self.failure(&e)),
            }
        }
        Ok(true)
    }

    fn failure(&self, error: &io::Error) -> Failure {
        let hint = if error.kind() == ErrorKind::StorageFull { "--max-bytes N bounds the file" } else { "" };
        Failure::new(Code::Internal, format!("{}: {error}; the capture has ended", self.name)).hint(hint)
    }
}
