//! Owns the figures that need no second process: memory, and what a packet costs among many streams.

use crate::compare::Figures;
use crate::contest::{Folder, Outcome};
use pilot_bench::Pair;
use pilot_core::aead::PORTABLE;
use pilot_node::{Config, Node};
use std::time::Instant;

/// Streams that are open in the larger measurement.
const MANY: usize = 10_000;
/// Packets of one measurement.
const PACKETS: usize = 200_000;
/// Rings of the streams then: all of them are touched, over and over.
const RING_LEN: usize = 8 * 1024;
/// Payload of each. Unit: bytes.
const PAYLOAD: usize = 512;

pub(crate) fn measure(rounds: usize, figures: &mut Figures) -> Outcome<()> {
    let before = resident()?;
    let folder = Folder::new("bench-memory");
    let node = Node::start(Config::new(folder.0.join("node")))?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    figures.add_one("memory/node", (resident()? - before) / 1024.0, "KiB");
    drop(node);

    let mut pair = Pair::new(&PORTABLE);
    let before = resident()?;
    pair.open(MANY);
    figures.add_one("memory/idle-stream, both ends", (resident()? - before) / MANY as f64, "B");
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
            figures.add_one("stack/per-packet/10000-streams", figure[0], "ns");
            figures.add_one("stack/per-packet/10-streams", figure[1], "ns");
        }
    }
    Ok(())
}

/// Nanoseconds per packet, both sides together, when all streams send in turn.
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

/// Bytes of this process that are in memory.
fn resident() -> Outcome<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = statm.split_whitespace().nth(1).ok_or("a strange /proc/self/statm")?.parse()?;
    Ok(pages * rustix::param::page_size() as f64)
}
