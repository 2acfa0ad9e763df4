//! Owns `listen --exec`: each stream of a port becomes stdin and stdout of a program of its own.
//!
//! The program has the stream's descriptor, so that no byte goes through this process, which starts programs and reaps them.
//! At the limit no stream is asked for: the next one waits in the daemon's backlog.

use crate::args;
use crate::children::{self, Peer};
use crate::client::{CALL_TIMEOUT, daemon};
use crate::output::Output;
use crate::signals::Signals;
use pilot_node::answer::Opened;
use pilot_node::{Client, Code, Failure, Reply, Request};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

/// Largest `--max`: programs that one listener runs at once. Own choice: a quarter of the descriptors of a usual session, 1024
/// of which each program takes for a moment only, and a bound on what a peer can start.
const PROGRAMS_MAX: usize = 4096;

/// The port, the program, and its runs.
struct Listener<'a> {
    port: u16,
    command: &'a [String],
    client: Client,
    /// The number of the request for the next stream.
    asked: Option<u32>,
    /// Streams that may still come.
    left: u64,
    running: Vec<Child>,
}

/// Runs the program for each stream until a signal comes, or `--count` streams are done.
pub(crate) fn serve(args: &args::Listen, output: &Output) -> Result<(), Failure> {
    let invalid = |text: String| Failure::new(Code::InvalidArgument, text);
    if args.timeout.is_some() {
        return Err(invalid("--timeout is for one stream, not for --exec".into()).hint("timeout 60 pilotctl listen …"));
    }
    if !(1..=PROGRAMS_MAX).contains(&args.max) {
        return Err(invalid(format!("--max is 1 to {PROGRAMS_MAX}")));
    }
    let program = children::find(&args.command, &format!("pilotctl listen {} --exec CMD ARG…", args.port))?;
    // Before the port is bound, so that no program is left behind.
    let mut signals = Signals::watch(&[SIGCHLD, SIGTERM, SIGINT, SIGHUP])?;
    let mut client = daemon()?;
    client.request(&Request::Listen { port: args.port }, &[], Some(CALL_TIMEOUT))?;
    output.note(&format!("each stream on port {} runs {program}", args.port));
    let left = args.count.unwrap_or(u64::MAX);
    let command = &args.command;
    let mut listener = Listener { port: args.port, command, client, asked: None, left, running: Vec::new() };
    let served = listener.serve(args.max, &mut signals, output);
    listener.end(&mut signals)?;
    served
}

impl Listener<'_> {
    fn serve(&mut self, max: usize, signals: &mut Signals, output: &Output) -> Result<(), Failure> {
        loop {
            self.reap();
            debug_assert!(self.running.len() <= max, "a stream is asked for only while there is room");
            if self.left == 0 && self.running.is_empty() {
                return Ok(());
            }
            if self.asked.is_none() && self.left > 0 && self.running.len() < max {
                let request = Request::Accept { port: self.port, hold: None };
                self.asked = Some(self.client.send(&request, &[])?);
            }
            if signals.wait(Some(&self.client), None)?.iter().any(|signal| *signal != SIGCHLD) {
                return Ok(());
            }
            while let Some((number, reply)) = self.client.try_answer()? {
                if self.asked == Some(number) {
                    self.asked = None;
                    self.left -= 1;
                    self.start(reply?, output)?;
                }
            }
        }
    }

    /// Starts the program for a stream. A program that cannot be started costs its peer the stream and nothing else.
    fn start(&mut self, reply: Reply, output: &Output) -> Result<(), Failure> {
        let opened: Opened = reply.read()?;
        let stream = reply.fd.ok_or_else(|| Failure::new(Code::Internal, "the daemon sent no descriptor"))?;
        match self.spawn(stream, &opened) {
            Ok(child) => self.running.push(child),
            Err(e) => {
                output.note(&format!("{}: {e}; the stream from {} is reset", self.command[0], opened.peer));
                self.client.send(&Request::Disconnect { stream: opened.stream }, &[])?;
            }
        }
        Ok(())
    }

    fn spawn(&self, stream: OwnedFd, opened: &Opened) -> io::Result<Child> {
        let address = opened.peer.rsplit_once(':').map_or(&*opened.peer, |(address, _)| address);
        let peer = Peer { hostname: &opened.hostname, address, fingerprint: &opened.fingerprint };
        let mut command = children::command(self.command, &peer)?;
        command.env("PILOT_PORT", self.port.to_string());
        command.stdin(Stdio::from(stream.try_clone()?)).stdout(Stdio::from(stream)).spawn()
    }

    fn reap(&mut self) {
        // A child that cannot be waited for is gone.
        self.running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Gives the port up, asks the programs to end, and ends those that do not.
    fn end(mut self, signals: &mut Signals) -> Result<(), Failure> {
        // The daemon may have ended; then there is no port.
        let _ = self.client.request(&Request::Unlisten { port: self.port }, &[], Some(CALL_TIMEOUT));
        children::end(self.running, signals)
    }
}
