//! The memory that streams leave behind, in a process of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use std::io::{Read as _, Write as _};

/// Streams that are opened and closed.
const STREAMS: usize = 2_000;
/// Streams that are open at once.
const AT_ONCE: usize = 50;
/// Bytes that each stream carries there and back. Unit: bytes.
const LEN: usize = 20_000;
/// Most memory that all of them may leave behind, for both nodes. Unit: bytes. Two of their 2,000 rings have 2 MiB, and the
/// sockets that two nodes keep 8.
const LEFT_MAX: u64 = 24 << 20;

/// Anonymous memory of this process that is not swapped out. Unit: bytes.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn streams_that_are_over_give_their_memory_back() {
    let lab = Lab::new("memory");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    let before = anonymous();
    let (mut most, payload) = (0, vec![7; LEN]);
    for _ in 0..STREAMS / AT_ONCE {
        let mut pairs: Vec<_> =
            (0..AT_ONCE).map(|_| (a.connect("node-b", 5000).unwrap(), listener.accept().unwrap())).collect();
        for (ours, theirs) in &mut pairs {
            let mut buffer = vec![0; LEN];
            ours.write_all(&payload).unwrap();
            theirs.read_exact(&mut buffer).unwrap();
            theirs.write_all(&buffer).unwrap();
            ours.read_exact(&mut buffer).unwrap();
            assert_eq!(buffer, payload);
        }
        most = most.max(anonymous());
    }
    let left = anonymous().saturating_sub(before);
    assert!(left < LEFT_MAX, "{left} bytes are left behind; {before} before, {most} at most");
}
