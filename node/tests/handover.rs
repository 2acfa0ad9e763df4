//! The cost of a guest that keeps the loop. Alone in its process, since it counts the sleeps of all loops.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use std::time::{Duration, Instant};

/// The number of times that the threads of all loops have slept.
fn sleeps() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let loops =
        tasks.filter(|t| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|c| c.trim() == "pilot-loop"));
    let status = loops.map(|task| std::fs::read_to_string(task.path().join("status")).unwrap());
    let count = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:").map(str::to_owned));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    status.map(count).sum()
}

#[test]
fn a_guest_that_stays_lets_the_loops_thread_sleep_and_is_followed_by_it() {
    let lab = Lab::new("guest");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    std::thread::sleep(Duration::from_millis(300)); // the work that follows a start is done
    let before = sleeps();
    for span in [1, 200, 200, 200] {
        let begin = Instant::now();
        listener.accept_timeout(Duration::from_millis(span)).unwrap_err();
        assert!(begin.elapsed() >= Duration::from_millis(span));
    }
    let during = sleeps() - before;
    assert!(during < 150, "{during} times in 600 ms; every half millisecond would be 1200");
    // The loop's own thread has the loop again.
    let begin = Instant::now();
    let stream = a.connect("node-b", 5000).unwrap();
    assert!(begin.elapsed() < Duration::from_millis(200), "{:?}", begin.elapsed());
    drop((stream, listener.accept().unwrap()));
}
