//! Owns the sinks: where a node's records go.

use crate::log::format::LogFormat;
use crate::log::record::Record;
use pilot_core::Level;
use std::collections::VecDeque;
use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most lines that a [`MemoryLog`] keeps.
const MEMORY_LINES_MAX: usize = 4096;

/// Takes records. Called on the disk's thread, one record after the other; the disk waits for it.
pub trait LogSink: Send {
    /// Takes one record.
    fn line(&mut self, record: &Record);

    /// The file behind the sink may have been moved away: opens it again.
    fn reopen(&mut self) {}
}

/// Which records a node makes, and where they go. Clones share the sink.
#[derive(Clone)]
pub struct LogConfig {
    pub(crate) level: Level,
    pub(crate) sink: Arc<Mutex<dyn LogSink>>,
}

impl LogConfig {
    /// Records up to `level` go to `sink`.
    pub fn new(level: Level, sink: impl LogSink + 'static) -> Self {
        Self { level, sink: Arc::new(Mutex::new(sink)) }
    }
}

impl fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogConfig").field("level", &self.level).finish_non_exhaustive()
    }
}

/// Writes to standard error, for a supervisor that collects it.
pub struct StderrLog(pub LogFormat);

impl LogSink for StderrLog {
    fn line(&mut self, record: &Record) {
        // A closed standard error takes nothing, and there is no other place to say so.
        let _ = std::io::stderr().write_all(self.0.line(record).as_bytes());
    }
}

/// Keeps the newest 4096 lines in memory, as text. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<VecDeque<String>>>);

impl MemoryLog {
    /// The lines, oldest first, without their ends.
    pub fn lines(&self) -> Vec<String> {
        self.queue().iter().cloned().collect()
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for MemoryLog {
    fn line(&mut self, record: &Record) {
        let mut lines = self.queue();
        if lines.len() >= MEMORY_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(LogFormat::Text.line(record).trim_end().to_owned());
        debug_assert!(lines.len() <= MEMORY_LINES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_in_memory() {
        let mut log = MemoryLog::default();
        for n in 0..MEMORY_LINES_MAX as u64 + 9 {
            log.line(&Record::new(Level::Info, "test").with("n", n));
        }
        let lines = log.lines();
        assert_eq!(lines.len(), MEMORY_LINES_MAX);
        assert!(
            lines[0].contains("n=9") && lines[MEMORY_LINES_MAX - 1].ends_with(&format!("n={}", MEMORY_LINES_MAX + 8))
        );
    }
}
