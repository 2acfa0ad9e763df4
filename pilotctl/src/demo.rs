//! Owns `demo`: trust, a stream, a message and a transfer between two real daemons, in temporary folders.

use crate::output::Output;
use crate::rendezvous::on_signal;
use pilot_node::answer::{
    Approved, Bound, Delivered, Handshake, Inbox, Info, Peer, Peers, Pending, RendezvousState, Trust,
};
use pilot_node::{Client, Code, Failure, MessageKind, Request};
use serde_json::{Value, json};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time of each step.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Hostname of the node that asks.
const PRIMARY: &str = "primary-node";
/// Hostname of the node that answers.
const WORKER: &str = "worker-node";
/// Size of the transfer. Unit: bytes.
const TRANSFER_LEN: usize = 64_000_000;

/// Folder and processes of the demo; all of them end with the value.
struct Stage {
    folder: PathBuf,
    children: Mutex<Vec<Child>>,
    /// A signal has come.
    ending: AtomicBool,
}

impl Stage {
    fn clear(&self) {
        for child in self.children.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // The process may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        // The folder is temporary, so a failure to remove it does not matter.
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    fn run(&self, home: &Path, args: &[&str]) -> Result<(), Failure> {
        let error = |e: io::Error| Failure::new(Code::Internal, format!("cannot start {args:?}: {e}"));
        let log = std::fs::File::create(home.with_extension("log")).map_err(error)?;
        let mut command = Command::new(std::env::current_exe().map_err(error)?);
        command
            .args(args)
            .env("PILOT_HOME", home)
            .env_remove("PILOT_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // Ctrl-C must reach this process only, which then ends the others.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(error)?;
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        Ok(())
    }
}

pub(crate) fn run(output: &Output) -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("pilot-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| Failure::new(Code::Internal, format!("{}: {e}", folder.display())))?;
    let stage = Arc::new(Stage { folder, children: Mutex::default(), ending: AtomicBool::new(false) });
    let interrupted = stage.clone();
    on_signal(move || {
        interrupted.ending.store(true, Ordering::SeqCst);
        interrupted.clear();
        std::process::exit(130);
    })?;
    let result = play(&stage, output);
    while stage.ending.load(Ordering::SeqCst) {
        std::thread::sleep(TIMEOUT); // the signal's thread cleans up and ends the process; its cleaning caused the failure
    }
    stage.clear();
    let data = result?;
    if output.json {
        output.ok(&data);
    } else {
        output.line("everything was shut down; nothing is left behind");
    }
    Ok(())
}

/// Calls `f` until it gives a value.
fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let end = Instant::now() + TIMEOUT;
    while Instant::now() < end {
        if let Some(value) = f() {
            return Ok(value);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(Failure::new(Code::Timeout, format!("{what} did not happen in time")))
}

/// Starts a daemon and waits for its registration; returns a connection to it, and its state.
fn daemon(stage: &Stage, name: &str, rendezvous: &str) -> Result<(Client, Info), Failure> {
    let home = stage.folder.join(name);
    stage.run(&home, &["daemon", "run", "--hostname", name, "--rendezvous", rendezvous, "--listen", "127.0.0.1:0"])?;
    let socket = home.join("pilot.sock");
    let mut client = until("the daemon's start", || Client::connect(&socket).ok())?;
    let info = until("registration", || {
        client.ask::<Info>(&Request::Info, Some(TIMEOUT)).ok().filter(|info| info.rendezvous == RendezvousState::Ready)
    })?;
    Ok((client, info))
}

/// Starts a rendezvous and two daemons, plays every scene, and returns the figures.
fn play(stage: &Stage, output: &Output) -> Result<Value, Failure> {
    let home = stage.folder.join("rendezvous");
    let home_text = home.display().to_string();
    stage.run(&home, &["rendezvous", "run", "--home", &home_text, "--listen", "127.0.0.1:0"])?;
    let rendezvous = until("the rendezvous' start", || std::fs::read_to_string(home.join("endpoint")).ok())?;
    say(output, &format!("rendezvous    {rendezvous}"));
    let (primary, a) = daemon(stage, PRIMARY, &rendezvous)?;
    let (worker, b) = daemon(stage, WORKER, &rendezvous)?;
    for info in [&a, &b] {
        say(output, &format!("{:13} {}  fingerprint {}", info.hostname, info.address, info.fingerprint));
    }
    let mut scenes = Scenes { output, primary, worker };
    let (refusal, request, approved) = scenes.trust()?;
    let (answer, first_byte) = scenes.stream(approved)?;
    let (ack, message) = scenes.message()?;
    let (took, rate) = scenes.transfer()?;
    let peer = scenes.path()?;
    Ok(json!({
        "rendezvous": rendezvous, "nodes": [
            {"hostname": a.hostname, "address": a.address, "fingerprint": a.fingerprint},
            {"hostname": b.hostname, "address": b.address, "fingerprint": b.fingerprint}],
        "refused_before_trust": refusal, "request": request, "stream_answer": answer,
        "approval_to_answer_ms": first_byte.as_secs_f64() * 1e3, "message_ack": ack, "message": message,
        "transfer_bytes": TRANSFER_LEN, "transfer_seconds": took.as_secs_f64(), "transfer_mb_per_second": rate,
        "path": peer.path, "datagram_len": peer.datagram_len, "cipher": peer.cipher,
    }))
}

/// Shows a line, unless the output is JSON.
fn say(output: &Output, line: &str) {
    if !output.json {
        output.line(line);
    }
}

/// The scenes of the demo, each between the two daemons and shown in one or two lines.
struct Scenes<'a> {
    output: &'a Output,
    primary: Client,
    worker: Client,
}

impl Scenes<'_> {
    /// Refuses a stream before trust, and approves a request. Returns the refusal, the note of the request, and the time of
    /// the approval.
    fn trust(&mut self) -> Result<(String, String, Instant), Failure> {
        let refusal = self.primary.open(WORKER, 1000, Some(TIMEOUT)).map(drop).expect_err_code()?;
        say(self.output, &format!("before trust  {refusal}"));
        let handshake = Request::Handshake {
            node: WORKER.into(),
            note: Some("demo".into()),
            ports: None,
            expires_s: None,
            quota: None,
        };
        self.primary.ask::<Handshake>(&handshake, Some(TIMEOUT))?;
        let request = until("the trust request", || {
            self.worker.ask::<Pending>(&Request::Pending, Some(TIMEOUT)).ok()?.pending.pop()
        })?;
        let from = format!("{} ({})", request.hostname, request.fingerprint);
        say(self.output, &format!("request       from {from}: {}", request.justification));
        let approved = Instant::now();
        let approve = Request::Approve { node: PRIMARY.into(), note: None, ports: None, expires_s: None, quota: None };
        self.worker.ask::<Approved>(&approve, Some(TIMEOUT))?;
        until("the approval's arrival", || {
            self.primary.ask::<Trust>(&Request::Trust, Some(TIMEOUT)).ok().filter(|t| t.total == 1)
        })?;
        Ok((refusal, request.justification, approved))
    }

    /// Sends a line through a stream. Returns the answer, and the time from the approval to the answer.
    fn stream(&mut self, approved: Instant) -> Result<(String, Duration), Failure> {
        let line = "{\"action\":\"execute_query\"}\n";
        // The port is bound first, because the daemon's own service has it until then.
        self.worker.ask::<Bound>(&Request::Listen { port: 1000 }, Some(TIMEOUT))?;
        let (primary, worker) = (&mut self.primary, &mut self.worker);
        let answer = std::thread::scope(|scope| {
            let server = scope.spawn(|| serve_once(worker));
            let opened = primary.open(WORKER, 1000, Some(TIMEOUT))?;
            (&opened.socket).write_all(line.as_bytes()).map_err(lost)?;
            crate::pipe::end_writing(primary, &opened).map_err(lost)?;
            let mut answer = String::new();
            (&opened.socket).read_to_string(&mut answer).map_err(lost)?;
            primary.stream_end(opened.data.stream, Some(TIMEOUT))?;
            server.join().map_err(|_| Failure::new(Code::Internal, "the server failed"))??;
            Ok::<_, Failure>(answer.trim().to_owned())
        })?;
        let first_byte = approved.elapsed();
        let ms = first_byte.as_secs_f64() * 1e3;
        say(self.output, &format!("stream        {} → {answer} ({ms:.0} ms after approval)", line.trim()));
        Ok((answer, first_byte))
    }

    /// Sends a message. Returns its acknowledgement, and its text in the inbox.
    fn message(&mut self) -> Result<(String, String), Failure> {
        let kind = Some(MessageKind::Json);
        let send = Request::SendMessage { node: WORKER.into(), kind, queue: None, timeout_ms: None };
        let sent: Delivered = self.primary.request(&send, b"{\"status\":\"complete\"}", Some(TIMEOUT))?.read()?;
        let missing = || Failure::new(Code::Internal, "the message is not in the inbox");
        let mut inbox: Inbox =
            self.worker.ask(&Request::Inbox { limit: None, before: None, only: None }, Some(TIMEOUT))?;
        let message = inbox.messages.pop().ok_or_else(missing)?;
        let arrived = format!("{} from {}", message.preview, message.hostname);
        say(self.output, &format!("message       {} → inbox of worker-node: {arrived}", sent.ack));
        Ok((sent.ack, message.preview))
    }

    /// Moves the bytes of the transfer. Returns its time, and its rate in MB/s.
    fn transfer(&mut self) -> Result<(Duration, f64), Failure> {
        let took = transfer(&mut self.primary, &mut self.worker)?;
        let rate = TRANSFER_LEN as f64 / 1e6 / took.as_secs_f64();
        let seconds = took.as_secs_f64();
        say(self.output, &format!("transfer      64 MB in {seconds:.2} s: {rate:.0} MB/s, every byte checked"));
        Ok((took, rate))
    }

    /// Shows the path that the bytes took; returns its peer.
    fn path(&mut self) -> Result<Peer, Failure> {
        let gone = || Failure::new(Code::Internal, "the peer is gone");
        let peer = self.primary.ask::<Peers>(&Request::Peers, Some(TIMEOUT))?.peers.pop().ok_or_else(gone)?;
        let (path, len) = (peer.path.as_deref().unwrap_or_default(), peer.datagram_len);
        let cipher = &peer.cipher;
        say(self.output, &format!("path          {path}, datagrams of {len} bytes, ChaCha20-Poly1305 by {cipher}"));
        Ok(peer)
    }
}

fn lost(e: io::Error) -> Failure {
    Failure::new(Code::ConnectionReset, e.to_string())
}

/// Takes one stream on port 1000 and answers its line.
fn serve_once(worker: &mut Client) -> Result<(), Failure> {
    let stream = worker.stream(&Request::Accept { port: 1000, hold: None }, Some(TIMEOUT))?;
    let mut line = String::new();
    (&stream.socket).read_to_string(&mut line).map_err(lost)?;
    let action: Value = serde_json::from_str(&line).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    let answer = json!({"status": "done", "action": action["action"]});
    writeln!(&stream.socket, "{answer}").map_err(lost)?;
    crate::pipe::end_writing(worker, &stream).map_err(lost)?;
    worker.stream_end(stream.data.stream, Some(TIMEOUT))
}

/// Moves the transfer's bytes from one daemon to the other, checks each of them, and returns the time. The worker has bound
/// the port before.
fn transfer(primary: &mut Client, worker: &mut Client) -> Result<Duration, Failure> {
    let pattern = |i: usize| (i.wrapping_mul(2_654_435_761) >> 11) as u8;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let stream = worker.stream(&Request::Accept { port: 1000, hold: None }, Some(TIMEOUT))?;
            let (mut buffer, mut got) = (vec![0; 1 << 18], 0);
            loop {
                let n = (&stream.socket).read(&mut buffer).map_err(lost)?;
                if n == 0 {
                    break;
                }
                if !buffer[..n].iter().enumerate().all(|(i, byte)| *byte == pattern(got + i)) {
                    return Err(Failure::new(Code::Internal, format!("a wrong byte after {got}")));
                }
                got += n;
            }
            crate::pipe::end_writing(worker, &stream).map_err(lost)?;
            worker.stream_end(stream.data.stream, Some(TIMEOUT))?;
            Ok(got)
        });
        let stream = primary.open(WORKER, 1000, Some(TIMEOUT))?;
        let bytes: Vec<u8> = (0..TRANSFER_LEN).map(pattern).collect();
        let begin = Instant::now();
        (&stream.socket).write_all(&bytes).map_err(lost)?;
        crate::pipe::end_writing(primary, &stream).map_err(lost)?;
        let got = server.join().map_err(|_| Failure::new(Code::Internal, "receiving failed"))??;
        let took = begin.elapsed();
        if got != TRANSFER_LEN {
            return Err(Failure::new(Code::Internal, format!("{got} bytes arrived of {TRANSFER_LEN}")));
        }
        primary.stream_end(stream.data.stream, Some(TIMEOUT))?;
        Ok(took)
    })
}

/// Expects a failure: a success becomes an error.
trait MustFail {
    fn expect_err_code(self) -> Result<String, Failure>;
}

impl MustFail for Result<(), Failure> {
    fn expect_err_code(self) -> Result<String, Failure> {
        match self {
            Err(f) if f.code == Code::TrustRequired => {
                Ok(format!("{}: {} (try: {})", f.code.name(), f.message, f.hint))
            }
            Err(f) => Err(f),
            Ok(()) => Err(Failure::new(Code::Internal, "a stream was opened before trust")),
        }
    }
}
