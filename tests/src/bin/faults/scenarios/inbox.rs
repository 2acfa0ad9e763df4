//! Owns `kill-inbox`: a real daemon that is killed again and again while a peer's messages enter its inbox. What the peer's
//! owner was told, and what the inbox holds in the end, must agree.

use super::processes::{Daemon, Lab};
use crate::measured::Measured;
use pilot_node::answer::{Inbox, Info};
use pilot_node::{Code, Request};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KILLS: usize = 500;
/// Time after which no more kills are made. Source: own choice, so that a slow machine ends the row too.
const SPAN_MAX: Duration = Duration::from_secs(240);
/// Senders at once, so that some message is always on its way to the disk, and the pause of each behind a message.
const SENDERS: usize = 4;
const SENDER_PAUSE: Duration = Duration::from_millis(50);
/// Longest life of a process that serves.
const LIFE_MAX_MS: u64 = 500;
/// Longest time from the start of a process until it serves.
const RECOVERY_MAX: Duration = Duration::from_secs(1);
/// Longest wait for an answer, and for what waits in the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most messages of one page of the inbox.
const PAGE: u64 = 10_000;

/// What the senders have done.
#[derive(Default)]
struct Traffic {
    is_over: AtomicBool,
    sent: [AtomicU64; SENDERS],
    acknowledged: AtomicU64,
    /// What is no acknowledgement, and no word that the message waits.
    refusals: Mutex<Vec<String>>,
}

/// Kills the receiver [`KILLS`] times, or as often as fits into [`SPAN_MAX`].
pub(crate) fn kills() -> Measured {
    match run() {
        Ok(measured) => measured,
        Err(error) => Measured::new(false, error.replace(['\n', '|'], " ")),
    }
}

fn run() -> Result<Measured, String> {
    let mut lab = Lab::new()?;
    let [sender, receiver] = [lab.node("sender")?, lab.node("receiver")?];
    sender.befriend(&receiver)?;
    let traffic = Traffic::default();
    let (load, from, to) = (&traffic, &sender, &receiver);
    let recoveries = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SENDERS).map(|number| scope.spawn(move || send(load, number, from, to))).collect();
        let recoveries = kill_again_and_again(&receiver);
        traffic.is_over.store(true, Ordering::Relaxed);
        let have_ended = workers.into_iter().all(|worker| worker.join().is_ok());
        if have_ended { recoveries } else { Err("a sender panicked".into()) }
    })?;
    wait_until_delivered(&sender)?;
    judge(&traffic, recoveries, &previews(&receiver)?)
}

/// Sends numbered messages until the kills are over.
fn send(traffic: &Traffic, number: usize, sender: &Daemon, receiver: &Daemon) {
    let request = Request::SendMessage { node: receiver.name.clone(), kind: None, queue: None, timeout_ms: Some(500) };
    while !traffic.is_over.load(Ordering::Relaxed) {
        let text = format!("{number} {}", traffic.sent[number].fetch_add(1, Ordering::Relaxed));
        match sender.with_client(|client| client.request(&request, text.as_bytes(), Some(PATIENCE)).map(|_| ())) {
            Ok(()) => drop(traffic.acknowledged.fetch_add(1, Ordering::Relaxed)),
            Err(failure) if failure.code == Code::Unreachable => {} // it waits in the outbox
            Err(failure) => {
                let refusals = traffic.refusals.lock();
                refusals.expect("no sender panics").push(format!("message {text}: {failure}"));
            }
        }
        std::thread::sleep(SENDER_PAUSE);
    }
}

/// Gives how long each new process took until it served.
fn kill_again_and_again(receiver: &Daemon) -> Result<Vec<Duration>, String> {
    let (begin, mut recoveries, mut number) = (Instant::now(), Vec::new(), 1u64);
    while recoveries.len() < KILLS && begin.elapsed() < SPAN_MAX {
        number = number * 48_271 % 0x7fff_ffff; // Lehmer's generator
        std::thread::sleep(Duration::from_millis(number % LIFE_MAX_MS));
        receiver.kill()?;
        recoveries.push(receiver.start_timed()?);
    }
    Ok(recoveries)
}

fn wait_until_delivered(sender: &Daemon) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let info = sender.with_client(|client| client.ask::<Info>(&Request::Info, Some(PATIENCE)));
        match info.map_err(|failure| failure.to_string())?.outbox {
            0 => return Ok(()),
            left if Instant::now() > end => {
                return Err(format!("{left} messages wait {PATIENCE:?} after the last kill"));
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The texts of the inbox, oldest first.
fn previews(receiver: &Daemon) -> Result<Vec<String>, String> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let request = Request::Inbox { limit: Some(PAGE), before, only: None };
        let page = receiver.with_client(|client| client.ask::<Inbox>(&request, Some(PATIENCE)));
        let page = page.map_err(|failure| format!("the inbox cannot be read: {failure}"))?.messages;
        let Some(first) = page.first() else { break };
        before = Some(first.id);
        all.extend(page.iter().rev().map(|message| message.preview.clone()));
    }
    all.reverse();
    Ok(all)
}

/// Each sender's messages must be there, once each and in their order.
fn judge(traffic: &Traffic, mut recoveries: Vec<Duration>, arrived: &[String]) -> Result<Measured, String> {
    let mut next: BTreeMap<usize, u64> = BTreeMap::new();
    for text in arrived {
        let parts = text.split_once(' ').and_then(|(sender, n)| Some((sender.parse().ok()?, n.parse::<u64>().ok()?)));
        let (sender, n) = parts.ok_or_else(|| format!("{text:?} was never sent"))?;
        let wanted = next.entry(sender).or_default();
        if n != *wanted {
            let fault = if n < *wanted { "came twice or late" } else { "is there, and one before it is lost" };
            return Ok(Measured::new(false, format!("message {text} {fault}")));
        }
        *wanted += 1;
    }
    let sent: Vec<u64> = traffic.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).collect();
    let missing: u64 = sent.iter().enumerate().map(|(i, sent)| sent - next.get(&i).copied().unwrap_or(0)).sum();
    let refusals = traffic.refusals.lock().map_err(|_| "a sender panicked")?;
    recoveries.sort_unstable();
    let slowest = recoveries.last().copied().unwrap_or_default();
    let text = format!(
        "{} kills in message traffic: {} messages sent, {} acknowledged at once, {missing} lost, none twice, {} refused{}; a new \
         process serves after {:.0?} (median), {slowest:.0?} (slowest)",
        recoveries.len(),
        sent.iter().sum::<u64>(),
        traffic.acknowledged.load(Ordering::Relaxed),
        refusals.len(),
        refusals.first().map(|first| format!(" ({first})")).unwrap_or_default(),
        recoveries.get(recoveries.len() / 2).copied().unwrap_or_default(),
    );
    let is_ok = missing == 0 && refusals.is_empty() && slowest <= RECOVERY_MAX && !recoveries.is_empty();
    Ok(Measured::new(is_ok, text.replace(['\n', '|'], " ")))
}
