//! Runs wrong uses of the C interface: plainly, under valgrind, and under the address sanitizer.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Folder, Lab, compile, run, tool};
use std::process::Command;

fn parts(parts: &[&str], flags: &[&str], under: &[&str]) {
    let lab = Lab::new("misuse");
    let program = compile("tests/c/misuse.c", &lab.folder.path, flags);
    for part in parts {
        let folder = lab.folder.path.join(part);
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = match under.split_first() {
            Some((tool, options)) => {
                let mut command = Command::new(tool);
                command.args(options).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        let text = run(command.arg(part).arg(folder).arg(&lab.endpoint));
        println!("{part}: {text}");
        assert!(text.ends_with("ok\n"), "{part}: {text}");
    }
}

/// Sequences of random calls. A seed that found something is added to the first ones.
const SEQUENCES: u64 = 12;

/// Runs `tests/c/sequence.c` for some seeds.
fn sequences(seeds: std::ops::Range<u64>, flags: &[&str]) {
    let built = Folder::new("sequences");
    let program = compile("tests/c/sequence.c", &built.path, flags);
    for seed in seeds {
        // The names of the nodes are taken at the rendezvous of the seed before.
        let lab = Lab::new("sequence");
        let mut command = Command::new(&program);
        let text = run(command.arg("sequence").arg(&lab.folder.path).arg(&lab.endpoint).arg(seed.to_string()));
        assert!(text.ends_with("ok\n"), "seed {seed}: {text}");
    }
}

#[test]
fn calls_in_any_order_are_answered_as_their_handles_are() {
    sequences(0..SEQUENCES, &[]);
}

#[test]
fn calls_in_any_order_are_clean_under_the_address_sanitizer() {
    sequences(0..3, &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
}

#[test]
fn bad_use_gives_codes() {
    parts(&["nonsense", "streams", "killed"], &[], &[]);
}

#[test]
fn ten_thousand_cycles_leak_nothing() {
    parts(&["cycles"], &[], &[]);
}

#[test]
fn few_descriptors_and_a_full_disk_are_survived() {
    parts(&["limits"], &[], &[]);
}

#[test]
fn bad_use_is_clean_under_valgrind() {
    let Some(_) = tool("valgrind") else { return };
    // Threads that the end of the process cuts off leave their memory, which counts as "possibly" lost.
    let valgrind =
        ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"];
    parts(&["nonsense", "streams", "killed"], &[], &[&valgrind[..], &["--child-silent-after-fork=yes"]].concat());
}

#[test]
fn bad_use_is_clean_under_the_address_sanitizer() {
    parts(&["nonsense", "streams"], &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], &[]);
}
