//! Owns the way from the loop to the sink: limits, the wall clock's time, and the thread that writes.

use crate::clock::wall_ms;
use crate::log::limit::Limit;
use crate::log::record::Record;
use crate::log::sink::{LogConfig, LogSink};
use crossbeam_channel::{Receiver, Sender, bounded};
use pilot_core::{Instant, Level};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

/// Most records that wait for the writing thread. Later ones are lost and counted.
const WAITING_MAX: usize = 1024;

enum Order {
    Line(Record),
    Reopen,
}

/// The loop's end of the log.
pub(crate) struct Writer {
    limit: Limit,
    /// `None` without a log.
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// Records that found no room before the writing thread.
    lost: u64,
    /// Notes that the core's trace had lost at the last look.
    trace_lost: u64,
}

impl Writer {
    /// Starts the writing thread, if there is a sink.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub(crate) fn start(config: Option<&LogConfig>) -> io::Result<Self> {
        let mut log = Self { limit: Limit::default(), orders: None, thread: None, lost: 0, trace_lost: 0 };
        if let Some(config) = config {
            let (orders, taken) = bounded(WAITING_MAX);
            let sink = config.sink.clone();
            let body = move || write(&taken, &sink);
            log.thread = Some(std::thread::Builder::new().name("pilot-log".into()).spawn(body)?);
            log.orders = Some(orders);
        }
        Ok(log)
    }

    /// Writes a record, unless there are too many of its kind and source.
    pub(crate) fn write(&mut self, now: Instant, record: Record) {
        if let Some(record) = self.limit.admit(now, record) {
            self.send(record);
        }
    }

    /// The core's trace has lost this many notes since it was made.
    pub(crate) fn note_lost_traces(&mut self, now: Instant, total: u64) {
        debug_assert!(total >= self.trace_lost, "losses are counted up");
        if total > self.trace_lost {
            self.limit.count_lost(now, total - self.trace_lost);
            self.trace_lost = total;
        }
    }

    /// The file behind the sink may have been moved away.
    pub(crate) fn reopen(&self) {
        if let Some(orders) = &self.orders {
            // A full queue is written to the file as it is opened now.
            let _ = orders.try_send(Order::Reopen);
        }
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.limit.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for record in self.limit.handle_timeout(now) {
            self.send(record);
        }
    }

    fn send(&mut self, mut record: Record) {
        let Some(orders) = &self.orders else { return };
        let at_ms = wall_ms();
        if self.lost > 0 {
            let mut note = Record::new(Level::Warn, "log_lost").with("count", self.lost);
            note.set_time(at_ms);
            if orders.try_send(Order::Line(note)).is_ok() {
                self.lost = 0;
            }
        }
        record.set_time(at_ms);
        self.lost += u64::from(orders.try_send(Order::Line(record)).is_err());
    }

    /// Writes what waits, and ends the thread.
    pub(crate) fn end(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A sink that panicked takes nothing more.
            let _ = thread.join();
        }
    }
}

fn write(orders: &Receiver<Order>, sink: &Mutex<dyn LogSink>) {
    for order in orders {
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        match order {
            Order::Line(record) => sink.line(&record),
            Order::Reopen => sink.reopen(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::sink::MemoryLog;

    /// A sink that waits until the test lets it go on.
    struct Gate(Receiver<()>, MemoryLog);

    impl LogSink for Gate {
        fn line(&mut self, record: &Record) {
            let _ = self.0.recv();
            self.1.line(record);
        }
    }

    #[test]
    fn a_slow_sink_holds_nothing_up_and_losses_are_told() {
        let (open, gate) = bounded(0);
        let memory = MemoryLog::default();
        let mut log = Writer::start(Some(&LogConfig::new(Level::Info, Gate(gate, memory.clone())))).expect("a thread");
        let kinds = (0..WAITING_MAX as u64 + 10).map(|n| Record::new(Level::Info, "test").with("number", n));
        kinds.for_each(|record| log.send(record));
        assert!(log.lost > 0, "more than fit");
        let lost = log.lost;
        drop(open);
        while log.orders.as_ref().is_some_and(|orders| !orders.is_empty()) {
            std::thread::yield_now();
        }
        log.send(Record::new(Level::Info, "after"));
        log.end();
        let lines = memory.lines();
        let [.., note, last] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(note.contains(&format!("log_lost count={lost}")) && last.ends_with("after"), "{note} {last}");
    }

    #[test]
    fn without_a_sink_there_is_no_thread() {
        let mut log = Writer::start(None).expect("nothing to start");
        log.write(Instant::ZERO, Record::new(Level::Error, "test"));
        log.reopen();
        assert!(log.thread.is_none());
        log.end();
    }
}
