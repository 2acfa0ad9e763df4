//! Checks the cost of a packet in instructions, which other load of the machine does not change.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

/// Instructions of one packet of 1100 bytes with its share of acknowledgements, both sides together, without the cipher,
/// as `cargo test` builds it. After an improvement, replace the figure by the one that the test prints.
const PER_PACKET: u64 = 9_276;
/// Growth that fails the test. Other processors choose other routines for copying.
const SLACK_PERCENT: u64 = 15;

fn instructions(count: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_pilot-bench"), "packets"])
        .args(["--count", &count.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.split_once("Collected :")).unwrap();
    line.1.trim().parse().unwrap()
}

#[test]
fn a_packet_costs_no_more_instructions_than_before() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must have valgrind");
        println!("skipped: valgrind is not installed");
        return;
    }
    // The difference of two runs leaves out start, key handshake and size probes.
    let (few, many) = (2_000, 12_000);
    let per_packet = (instructions(many) - instructions(few)) / (many - few);
    println!("{per_packet} instructions per packet");
    let limit = PER_PACKET * (100 + SLACK_PERCENT) / 100;
    assert!(per_packet <= limit, "{per_packet} instructions per packet, {limit} allowed");
}
