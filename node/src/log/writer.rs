//! Owns the way from the loop to the sink: limits, the wall clock's time, and the queue to the thread that writes.

use crate::clock::wall_ms;
use crate::log::limit::Limit;
use crate::log::record::Record;
use crate::log::sink::{LogConfig, LogSink};
use crossbeam_channel::{Receiver, Sender, bounded, never};
use pilot_core::{Instant, Level};
use std::sync::{Arc, Mutex, PoisonError};

/// Most records that wait for the writing thread. Later ones are lost and counted.
const WAITING_MAX: usize = 1024;

/// One thing for the thread that writes.
pub(crate) enum Order {
    /// Give the record to the sink.
    Line(Record),
    /// Let the sink open its file anew.
    Reopen,
}

/// The writing thread's end of the log.
pub(crate) struct Lines {
    pub(crate) orders: Receiver<Order>,
    sink: Option<Arc<Mutex<dyn LogSink>>>,
}

impl Lines {
    /// Carries an order out.
    pub(crate) fn write(&self, order: Order) {
        let Some(sink) = &self.sink else { return };
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        match order {
            Order::Line(record) => sink.line(&record),
            Order::Reopen => sink.reopen(),
        }
    }

    /// Carries out what waits, after the loop has ended.
    pub(crate) fn finish(&self) {
        self.orders.try_iter().for_each(|order| self.write(order));
    }
}

/// The loop's end of the log.
pub(crate) struct Writer {
    limit: Limit,
    /// `None` without a log.
    orders: Option<Sender<Order>>,
    /// Records that found no room before the writing thread.
    lost: u64,
    /// Notes that the core's trace had lost at the last look.
    trace_lost: u64,
}

impl Writer {
    /// Makes both ends; without a sink no order ever comes.
    pub(crate) fn new(config: Option<&LogConfig>) -> (Self, Lines) {
        let (orders, taken) = config.map(|_| bounded(WAITING_MAX)).unzip();
        let lines = Lines { orders: taken.unwrap_or_else(never), sink: config.map(|config| config.sink.clone()) };
        (Self { limit: Limit::default(), orders, lost: 0, trace_lost: 0 }, lines)
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
        let sink = Gate(gate, memory.clone());
        let (mut log, lines) = Writer::new(Some(&LogConfig::new(Level::Info, sink)));
        let writing = std::thread::spawn(move || lines.orders.iter().for_each(|order| lines.write(order)));
        let kinds = (0..WAITING_MAX as u64 + 10).map(|n| Record::new(Level::Info, "test").with("number", n));
        kinds.for_each(|record| log.send(record));
        assert!(log.lost > 0, "more than fit");
        let lost = log.lost;
        drop(open);
        while log.orders.as_ref().is_some_and(|orders| !orders.is_empty()) {
            std::thread::yield_now();
        }
        log.send(Record::new(Level::Info, "after"));
        drop(log);
        writing.join().expect("no panic there");
        let lines = memory.lines();
        let [.., note, last] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(note.contains(&format!("log_lost count={lost}")) && last.ends_with("after"), "{note} {last}");
    }

    #[test]
    fn without_a_sink_nothing_is_queued() {
        let (mut log, lines) = Writer::new(None);
        log.write(Instant::ZERO, Record::new(Level::Error, "test"));
        log.reopen();
        assert!(lines.orders.is_empty());
        lines.finish();
    }
}
