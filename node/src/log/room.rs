//! The room of the log: puts what the event loop, the disk and the core tell into records, and passes all records on.

use crate::clock::wall_ms;
use crate::context::Context;
use crate::disk::files::FileDone;
use crate::disk::job::Done;
use crate::log::clock_watch::ClockWatch;
use crate::log::notes::Names;
use crate::log::record::{Cause, Record, Source};
use crate::log::sink::LogConfig;
use crate::log::writer::{Lines, Writer};
use pilot_core::{Instant, Level, PeerId, Trace};

/// The log, and what is known for it.
pub(crate) struct LogRoom {
    writer: Writer,
    names: Names,
    clock: ClockWatch,
    /// Jobs that the disk has failed since it last did one.
    disk_failures: u64,
}

impl LogRoom {
    /// The log of a node, and the end of it for the thread that writes.
    pub(crate) fn new(config: Option<&LogConfig>) -> (Self, Lines) {
        let (writer, lines) = Writer::new(config);
        (Self { writer, names: Names::default(), clock: ClockWatch::default(), disk_failures: 0 }, lines)
    }

    /// Writes a record.
    pub(crate) fn write(&mut self, now: Instant, record: Record) {
        self.writer.write(now, record);
    }

    /// The file of the log may have been moved away.
    pub(crate) fn reopen(&mut self, cx: &mut Context) {
        self.writer.reopen();
        cx.trace(Level::Info, |_| Record::new(Level::Info, "log_reopened"));
    }

    // Time.

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.writer.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        self.writer.handle_timeout(cx.now);
        if cx.trace_level >= Some(Level::Warn)
            && let Some(step) = self.clock.look(cx.now, wall_ms)
        {
            let note = Trace::ClockStep { forwards: step.forwards, by: step.by };
            cx.trace(Level::Warn, |cx| self.names.record_of(&cx.stack, &note));
        }
    }

    // What is told.

    /// Takes the notes of the core's trace.
    pub(crate) fn handle_traces(&mut self, cx: &mut Context) {
        if cx.trace_level.is_none() {
            return;
        }
        while let Some(note) = cx.stack.endpoint_mut().poll_trace() {
            let record = self.names.record_of(&cx.stack, &note);
            self.writer.write(cx.now, record);
        }
        self.writer.note_lost_traces(cx.now, cx.stack.endpoint().traces_lost());
    }

    /// The node begins. `udp`: the bound address.
    pub(crate) fn note_start(cx: &mut Context, udp: &str) {
        cx.trace(Level::Info, |cx| {
            let endpoint = cx.stack.endpoint();
            let mut record = Record::new(Level::Info, "started").with("version", env!("CARGO_PKG_VERSION"));
            record.push("address", endpoint.addr().to_string());
            record.push("hostname", endpoint.profile().hostname.as_str());
            record.push("home", cx.config.home.display().to_string());
            record.push("udp", udp);
            if let Some(socket) = &cx.config.socket {
                record.push("socket", socket.display().to_string());
            }
            record.with("peers", endpoint.trust().pins().count() as u64)
        });
    }

    /// The node ends in order.
    pub(crate) fn note_stop(&mut self, cx: &mut Context) {
        let uptime_s = cx.now.as_micros() / 1_000_000;
        cx.trace(Level::Info, |_| Record::new(Level::Info, "stopped").with("uptime_s", uptime_s));
    }

    /// The stacks of these peers broke; their streams are lost.
    pub(crate) fn note_broken(&mut self, cx: &mut Context, peers: &[PeerId]) {
        for peer in peers {
            cx.trace(Level::Error, |cx| {
                let record =
                    Record::new(Level::Error, "stack_broken").with("peer", self.names.of_peer(&cx.stack, *peer));
                record.from(Source::Peer(*peer), Cause::Known)
            });
        }
    }

    /// A client of the socket was refused or dropped.
    pub(crate) fn note_client(&mut self, cx: &mut Context, reason: &'static str) {
        cx.trace(Level::Warn, |_| {
            let record = Record::new(Level::Warn, "client_refused").with("reason", reason);
            // Other users of this machine are strangers.
            record.from(Source::Node, Cause::Stranger)
        });
    }

    /// Tells when the disk begins to fail, and when it works again.
    pub(crate) fn note_disk(&mut self, cx: &mut Context, done: &Done) {
        match done {
            Done::Failed(why) => {
                self.disk_failures += 1;
                cx.trace(Level::Error, |_| Record::new(Level::Error, "disk_failed").with("reason", why.as_str()));
            }
            Done::File(FileDone::Failed(why)) => {
                cx.trace(Level::Warn, |_| Record::new(Level::Warn, "file_failed").with("reason", why.as_str()));
            }
            Done::Full(why) => cx.trace(Level::Warn, |_| Record::new(Level::Warn, "disk_limit").with("reason", *why)),
            Done::Written | Done::Delivered { .. } | Done::Queued(_) | Done::Taken(_) if self.disk_failures > 0 => {
                let failures = std::mem::take(&mut self.disk_failures);
                cx.trace(Level::Info, |_| Record::new(Level::Info, "disk_recovered").with("failures", failures));
            }
            _ => {}
        }
    }
}
