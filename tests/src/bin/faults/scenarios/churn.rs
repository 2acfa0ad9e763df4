//! Owns the churn: real daemons under steady load while peers come and go, the rendezvous restarts and a disk fills twice.
//! What the processes hold afterwards, at rest, is compared with what they held before, at rest.

use super::processes::{Daemon, Held, Lab};
use crate::measured::Measured;
use pilot_node::{Client, Failure, Request, ports};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MESSAGES_PER_SECOND: u32 = 100;
const STREAMS_PER_SECOND: u32 = 10;
/// Length without `--minutes`.
const SAMPLE: Duration = Duration::from_secs(60);
/// Load before the first look, so that what is allocated once is there.
const WARM_UP: Duration = Duration::from_secs(10);
/// Rest before each look: streams linger, spare sockets and buffers go back.
const REST: Duration = Duration::from_secs(20);
/// Time between two peers that come or go.
const GUEST_STAYS: Duration = Duration::from_secs(7);
/// Time for which a disk stays full.
const DISK_FULL: Duration = Duration::from_secs(3);
/// Restarts of the rendezvous.
const RENDEZVOUS_RESTARTS: u32 = 3;
/// Memory that a process may have more at the end than at the beginning, besides a tenth. Unit: bytes.
const GROWTH_MAX: u64 = 3 << 20;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the load has done.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    sent: AtomicU64,
    /// Messages that were refused, each with a reason: the disk was full, the peer away.
    refused: AtomicU64,
    taken: AtomicU64,
    echoes: AtomicU64,
    broken: AtomicU64,
}

impl Load {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// Runs the churn for a minute, or for so many.
pub(crate) fn run(minutes: Option<f64>) -> Measured {
    let span = minutes.map_or(SAMPLE, |minutes| Duration::from_secs_f64(minutes * 60.0));
    match churn(span) {
        Ok(measured) => measured,
        Err(error) => Measured::new(false, error.replace(['\n', '|'], " ")),
    }
}

fn churn(span: Duration) -> Result<Measured, String> {
    let mut lab = Lab::new()?;
    let [sender, receiver] = [lab.node("sender")?, lab.node_on_small_disk("receiver")?];
    let guest = lab.node("guest")?;
    sender.befriend(&receiver)?;
    guest.befriend(&receiver)?;
    work(&Load::default(), &sender, &receiver, || {
        std::thread::sleep(WARM_UP);
        Ok(())
    })?;
    let before = look(&lab, [&sender, &receiver])?;
    let load = Load::default();
    let mut faults = Faults::default();
    work(&load, &sender, &receiver, || faults.make(&mut lab, &guest, &receiver, span))?;
    // What waits for a peer or for room is delivered, and the inbox is emptied once more.
    std::thread::sleep(REST / 2);
    drain(&receiver)?;
    let after = look(&lab, [&sender, &receiver])?;
    Ok(judge(&load, &faults, &before, &after, span))
}

/// Runs the load while `during` runs.
fn work(
    load: &Load,
    sender: &Daemon,
    receiver: &Daemon,
    during: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    std::thread::scope(|scope| {
        let messages = scope.spawn(|| paced(load, MESSAGES_PER_SECOND, || send_message(load, sender, receiver)));
        let streams = scope.spawn(|| paced(load, STREAMS_PER_SECOND, || echo(load, sender, receiver)));
        let reader = scope.spawn(|| paced(load, 5, || take(load, receiver)));
        let outcome = during();
        load.is_over.store(true, Ordering::Relaxed);
        let ended = [messages, streams, reader].into_iter().all(|worker| worker.join().is_ok());
        outcome.and(if ended { Ok(()) } else { Err("a worker of the load panicked".into()) })
    })
}

/// Calls `act` so many times a second, and never more often to make up for a pause.
fn paced(load: &Load, per_second: u32, mut act: impl FnMut()) {
    let step = Duration::from_secs(1) / per_second;
    let mut next = Instant::now();
    while load.goes_on() {
        act();
        next = (next + step).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn send_message(load: &Load, sender: &Daemon, receiver: &Daemon) {
    let request = Request::SendMessage { node: receiver.name.clone(), kind: None, queue: None, timeout_ms: Some(2000) };
    let outcome = sender.with_client(|client| client.request(&request, &[b'm'; 200], Some(PATIENCE)).map(|_| ()));
    Load::count(if outcome.is_ok() { &load.sent } else { &load.refused });
}

fn echo(load: &Load, sender: &Daemon, receiver: &Daemon) {
    let outcome = sender.with_client(|client| exchange(client, &receiver.name));
    Load::count(if outcome.is_ok() { &load.echoes } else { &load.broken });
}

/// Sends a thousand bytes through a peer's echo service.
fn exchange(client: &mut Client, node: &str) -> Result<(), Failure> {
    let reply = client.open(node, ports::ECHO, Some(PATIENCE))?;
    let broken = |error: std::io::Error| Failure::new(pilot_node::Code::Internal, error.to_string());
    let mut socket = reply.socket;
    socket.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    socket.write_all(&[b'e'; 1000]).map_err(broken)?;
    socket.shutdown(Shutdown::Write).map_err(broken)?;
    let mut back = Vec::new();
    socket.read_to_end(&mut back).map_err(broken)?;
    if back.len() == 1000 { Ok(()) } else { Err(Failure::new(pilot_node::Code::Internal, "the echo is short")) }
}

fn take(load: &Load, receiver: &Daemon) {
    let taken = receiver.with_client(|client| client.request(&Request::InboxTake { seqs: None }, &[], Some(PATIENCE)));
    if taken.is_ok() {
        Load::count(&load.taken);
    }
}

fn drain(receiver: &Daemon) -> Result<(), String> {
    let taken = receiver.with_client(|client| client.request(&Request::InboxTake { seqs: None }, &[], Some(PATIENCE)));
    taken.map(|_| ()).map_err(|failure| format!("the inbox cannot be emptied: {failure}"))
}

/// What each process holds at rest: the two nodes, then the rendezvous.
fn look(lab: &Lab, nodes: [&Daemon; 2]) -> Result<Vec<(String, Held)>, String> {
    std::thread::sleep(REST);
    let mut held = Vec::new();
    for node in nodes {
        held.push((node.name.clone(), node.held()?));
    }
    held.push(("rendezvous".into(), lab.rendezvous_held()?));
    Ok(held)
}

/// The faults that were made.
#[derive(Default)]
struct Faults {
    rendezvous: u32,
    guests: u32,
    full_disks: u32,
    /// Why the disk could not be filled, or a process did not start.
    error: Option<String>,
}

impl Faults {
    /// Makes the faults of one run, evenly over its time.
    fn make(&mut self, lab: &mut Lab, guest: &Daemon, receiver: &Daemon, span: Duration) -> Result<(), String> {
        let begin = Instant::now();
        let (mut guest_is_there, mut next_guest) = (true, begin + GUEST_STAYS);
        while begin.elapsed() < span {
            let share = begin.elapsed().as_secs_f64() / span.as_secs_f64();
            if share * f64::from(RENDEZVOUS_RESTARTS + 1) >= f64::from(self.rendezvous + 1) {
                lab.restart_rendezvous()?;
                self.rendezvous += 1;
            }
            if share * 3.0 >= f64::from(self.full_disks + 1) && lab.has_small_disk() {
                receiver.fill_disk()?;
                std::thread::sleep(DISK_FULL);
                receiver.free_disk()?;
                self.full_disks += 1;
            }
            if Instant::now() >= next_guest {
                if guest_is_there {
                    guest.stop()?
                } else {
                    guest.start()?
                }
                (guest_is_there, next_guest) = (!guest_is_there, Instant::now() + GUEST_STAYS);
                self.guests += 1;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if !guest_is_there {
            guest.start()?;
        }
        if !lab.has_small_disk() {
            self.error = Some("the disk was not filled: no file system of its own can be mounted here".into());
        }
        Ok(())
    }
}

fn judge(
    load: &Load,
    faults: &Faults,
    before: &[(String, Held)],
    after: &[(String, Held)],
    span: Duration,
) -> Measured {
    let (mut is_ok, mut texts) = (true, Vec::new());
    for ((name, before), (_, after)) in before.iter().zip(after) {
        let most = before.memory + before.memory / 10 + GROWTH_MAX;
        is_ok &= after.memory <= most && after.descriptors <= before.descriptors && after.tables == before.tables;
        let kb = |bytes: u64| bytes / 1000;
        texts.push(format!(
            "{name}: {} → {} kB, {} → {} descriptors, tables {} → {}",
            kb(before.memory),
            kb(after.memory),
            before.descriptors,
            after.descriptors,
            before.tables,
            after.tables,
        ));
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (sent, echoes) = (count(&load.sent), count(&load.echoes));
    // The load itself went through: most of it, in spite of the faults.
    let seconds = span.as_secs_f64();
    is_ok &= sent as f64 >= seconds * f64::from(MESSAGES_PER_SECOND) / 4.0;
    is_ok &= echoes as f64 >= seconds * f64::from(STREAMS_PER_SECOND) / 4.0;
    texts.push(format!(
        "{:.0} s: {sent} messages, {} refused or queued, {echoes} echoes, {} broken; rendezvous restarted {} ×, guest {} ×, disk \
         full {} ×",
        seconds,
        count(&load.refused),
        count(&load.broken),
        faults.rendezvous,
        faults.guests,
        faults.full_disks,
    ));
    texts.extend(faults.error.clone());
    Measured::new(is_ok && faults.error.is_none(), texts.join("; "))
}
