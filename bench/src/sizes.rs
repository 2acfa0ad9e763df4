//! Owns the figures that need no second process: memory, and the cost of a packet among many streams.

use crate::contest::{Folder, Outcome};
use crate::figures::Figures;
use argh::FromArgs;
use pilot_bench::Pair;
use pilot_core::Instant as Moment;
use pilot_core::aead::PORTABLE;
use pilot_core::endpoint::Event as EndpointEvent;
use pilot_node::{Config, Node};
use pilot_stack::{Event, Stack, StackConfig};
use pilot_tests::lab::{star, underlay};
use std::process::Command;
use std::time::{Duration, Instant};

/// Open streams of the larger measurement.
const MANY: usize = 10_000;
/// Peers of the measurement of idle peers.
const PEERS: usize = 500;
/// Those of them that come and rest before the measurement: what their key handshakes needed is free by then, and is used again.
const PEERS_BEFORE: usize = 100;
/// Time in which all peers are idle before memory is measured. Unit: 0.1 s of virtual time.
const PAUSE: usize = 300;
/// Packets of one measurement.
const PACKETS: usize = 200_000;
/// Longest ring of the streams in the measurement of packets, which touches all rings again and again. Unit: bytes.
const RING_LEN: usize = 8 * 1024;
/// Payload of a packet. Unit: bytes.
const PAYLOAD: usize = 512;

/// Measure memory, and what a packet costs among many streams (started by `compare`).
#[derive(FromArgs)]
#[argh(subcommand, name = "sizes")]
pub(crate) struct Sizes {
    /// rounds of what is timed
    #[argh(option, default = "5")]
    rounds: usize,
}

impl Sizes {
    /// Measures and prints a figure a line.
    ///
    /// # Errors
    /// When a tunnel does not come up.
    pub(crate) fn run(&self) -> Outcome<()> {
        measure(self.rounds, &mut |name, value, unit| println!("{name}\t{value}\t{unit}"))
    }
}

/// Measures the figures in another process.
pub(crate) fn measure_apart(rounds: usize, figures: &mut Figures) -> Outcome<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sizes", "--rounds", &rounds.to_string()]);
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    for line in text.lines() {
        let [name, value, unit] = line.split('\t').collect::<Vec<_>>()[..] else { return Err(line.into()) };
        figures.add_one(name, value.parse()?, if unit == "ns" { "ns" } else { "KiB" });
    }
    Ok(())
}

fn measure(rounds: usize, add: &mut dyn FnMut(&str, f64, &str)) -> Outcome<()> {
    let before = resident()?;
    let folder = Folder::new("bench-memory");
    let node = Node::start(Config::new(folder.0.join("node")))?;
    std::thread::sleep(Duration::from_millis(300));
    add("memory/node", (resident()? - before) / 1024.0, "KiB");
    drop(node);

    add("memory/idle-peer, with tunnel", idle_peer()? / 1024.0, "KiB");

    let mut pair = Pair::new(&PORTABLE);
    let before = resident()?;
    pair.open(MANY);
    // The process has both ends of every stream.
    add("memory/idle-stream", (resident()? - before) / (2 * MANY) as f64 / 1024.0, "KiB");
    drop(pair);

    let [mut many, mut few] = [MANY, 10].map(|count| {
        let mut pair = Pair::with_rings(&PORTABLE, RING_LEN);
        pair.open(count - 1);
        pair
    });
    for round in 0..=rounds.max(1) {
        let figure = [per_packet(&mut many), per_packet(&mut few)];
        // The first round fetches every ring from the system.
        if round > 0 {
            add("stack/per-packet/10000-streams", figure[0], "ns");
            add("stack/per-packet/10-streams", figure[1], "ns");
        }
    }
    Ok(())
}

/// Measures the memory of one more idle peer with a tunnel: the growth of a stack for each peer it knows, and half of the growth
/// of both stacks for their tunnel. Ten tunnels come up in a second. Unit: bytes.
fn idle_peer() -> Outcome<f64> {
    let config = StackConfig::default();
    let (hub, mut others) = star(pilot_node::fastest_aead(), config, PEERS, 5);
    let (mut batch, mut now, before) = (Vec::new(), Moment::ZERO, resident()?);
    let mut hub = Stack::new(hub, config);
    let known = (resident()? - before) / PEERS as f64;
    let mut before = resident()?;
    let peers: Vec<_> = hub.endpoint().peers().collect();
    let (first, rest) = peers.split_at(PEERS_BEFORE);
    let first = first.iter().map(Some).chain([None; PAUSE]);
    let steps = first.chain(rest.iter().map(Some)).chain([None; PAUSE]);
    for (i, peer) in steps.enumerate() {
        if i == PEERS_BEFORE + PAUSE {
            before = resident()?;
        }
        if let Some(peer) = peer {
            hub.endpoint_mut().reach(now, *peer);
        }
        for _ in 0..10 {
            while let Some(transmit) = hub.poll_transmit(now, &mut batch) {
                let number = usize::from(transmit.to.port() - underlay(0).port());
                others[number - 1].handle_batch(now, underlay(0), &mut batch, transmit.segment_len);
            }
            for (i, other) in others.iter_mut().enumerate() {
                while let Some(transmit) = other.poll_transmit(now, &mut batch) {
                    hub.handle_batch(now, underlay(i + 1), &mut batch, transmit.segment_len);
                }
                settle(other, now);
            }
            settle(&mut hub, now);
            now = now + Duration::from_millis(10);
            hub.handle_timeout(now);
            others.iter_mut().for_each(|other| other.handle_timeout(now));
        }
    }
    let up = hub.endpoint().peers().filter(|peer| hub.endpoint().is_up(now, *peer)).count();
    if up < PEERS {
        return Err(format!("{up} tunnels of {PEERS}").into());
    }
    Ok(known + (resident()? - before) / (2 * (PEERS - PEERS_BEFORE)) as f64)
}

/// Takes the events of a stack, and lets what waits for the disk leave, as a node does.
fn settle(stack: &mut Stack, now: Moment) {
    while let Some(event) = stack.poll_event() {
        if let Event::Endpoint(EndpointEvent::SaveTrust(version)) = event {
            stack.endpoint_mut().trust_saved(now, version);
        }
    }
}

/// Measures the time per packet, both sides together, when all streams send in turn. Unit: nanoseconds.
fn per_packet(pair: &mut Pair) -> f64 {
    let (payload, begin) = ([7; PAYLOAD], Instant::now());
    let mut sent = 0;
    while sent < PACKETS {
        sent += pair.send_on_each(&payload, 200);
        pair.exchange();
        pair.drain();
    }
    begin.elapsed().as_nanos() as f64 / sent as f64
}

/// Returns the resident memory of this process. Unit: bytes.
fn resident() -> Outcome<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = statm.split_whitespace().nth(1).ok_or("a strange /proc/self/statm")?.parse()?;
    Ok(pages * rustix::param::page_size() as f64)
}
