//! Owns the traffic that a fault meets: numbered lines through the echo service, and when each came back.

use pilot_tests::netlab::Outcome;
use pilot_tests::netlab::daemons::{Daemons, Lines, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A line leaves so often.
const PAUSE: Duration = Duration::from_millis(5);
/// Longest wait for the lines that are still under way when the sender stops.
const DRAIN: Duration = Duration::from_secs(90);

/// Lines on their way through the echo service.
pub(crate) struct Traffic {
    is_over: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Arrivals>,
}

/// What came back.
#[derive(Default)]
struct Arrivals {
    times: Vec<Instant>,
    /// Why the stream ended before its time.
    end: Option<String>,
}

/// How the traffic fared.
#[derive(Clone, Debug)]
pub(crate) struct Fared {
    /// Longest pause between two lines that came back.
    pub(crate) longest_stall: Duration,
    /// Lines that were sent and did not come back, or not in their order.
    pub(crate) lost: u64,
    /// Why the stream ended before its time.
    pub(crate) end: Option<String>,
}

impl Traffic {
    /// Opens a stream from side a to side b, and sends lines on it from now on.
    pub(crate) fn start(daemons: &Daemons<'_>) -> Outcome<Self> {
        let (sender, lines) = daemons.echo()?.split();
        let is_over = Arc::new(AtomicBool::new(false));
        let is_over_there = Arc::clone(&is_over);
        Ok(Self {
            is_over,
            sender: std::thread::spawn(move || send(sender, &is_over_there)),
            receiver: std::thread::spawn(move || receive(&lines)),
        })
    }

    /// Sends nothing more, waits until everything has come back, and says how it fared.
    pub(crate) fn finish(self) -> Outcome<Fared> {
        self.is_over.store(true, Ordering::Relaxed);
        let sent = self.sender.join().map_err(|_| "the sender failed")?;
        let arrivals = self.receiver.join().map_err(|_| "the receiver failed")?;
        let pauses = arrivals.times.windows(2).map(|two| two[1] - two[0]);
        Ok(Fared {
            longest_stall: pauses.max().unwrap_or_default(),
            lost: sent - arrivals.times.len() as u64,
            end: arrivals.end,
        })
    }
}

/// Sends numbered lines until it is over, and then ends the stream's direction; gives how many.
fn send(mut sender: Sender, is_over: &AtomicBool) -> u64 {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) && sender.send(&count.to_string()).is_ok() {
        count += 1;
        std::thread::sleep(PAUSE);
    }
    count
}

/// Takes lines while they come in their order, until the stream ends.
fn receive(lines: &Lines) -> Arrivals {
    let mut arrivals = Arrivals::default();
    loop {
        match lines.next(DRAIN) {
            Some((at, line)) if line == arrivals.times.len().to_string() => arrivals.times.push(at),
            Some((_, line)) if line == Lines::IN_ORDER => return arrivals,
            Some((_, line)) => return Arrivals { end: Some(line), ..arrivals },
            None => return Arrivals { end: Some(format!("nothing came for {DRAIN:?}")), ..arrivals },
        }
    }
}
