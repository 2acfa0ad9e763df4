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

    /// Records up to `level` are wanted from now on. The change itself is told under both levels.
    pub(crate) fn set_level(cx: &mut Context, level: Level) {
        if let Some(before) = cx.trace_level {
            cx.trace_level = Some(before.max(level));
            Self::note_setting(cx, "log_level", Ok(()));
            cx.trace_level = Some(level);
            cx.stack.endpoint_mut().set_trace_level(cx.trace_level);
        }
    }

    /// The owner has changed a setting, and it is in force, or it is not for a reason.
    pub(crate) fn note_setting(cx: &mut Context, setting: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                cx.trace(Level::Info, |_| Record::new(Level::Info, "setting_changed").with("setting", setting));
            }
            Err(reason) => cx.trace(Level::Warn, |_| {
                Record::new(Level::Warn, "setting_kept").with("setting", setting).with("reason", reason)
            }),
        }
    }

    /// A node that is for this run alone ends: the rendezvous has forgotten it, or keeps its name for a while.
    pub(crate) fn note_leave(cx: &mut Context) {
        if !cx.config.ephemeral {
        } else if cx.stack.endpoint().is_forgotten() {
            cx.trace(Level::Info, |_| Record::new(Level::Info, "given_back"));
        } else {
            cx.trace(Level::Warn, |_| Record::new(Level::Warn, "not_given_back"));
        }
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

    /// Another program has the port of the run before, so that peers which cannot ask the rendezvous do not find this node.
    pub(crate) fn note_port_taken(cx: &mut Context, before: u16, now: u16) {
        cx.trace(Level::Warn, |_| {
            Record::new(Level::Warn, "port_taken").with("port", u64::from(before)).with("instead", u64::from(now))
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

    /// The webhook's server does not take events.
    pub(crate) fn note_webhook(&mut self, cx: &mut Context, reason: &str, lost: u64) {
        cx.trace(Level::Warn, |_| Record::new(Level::Warn, "webhook_failed").with("reason", reason).with("lost", lost));
    }

    /// Tells when the disk begins to fail, and when it works again.
    pub(crate) fn note_disk(&mut self, cx: &mut Context, done: &Done) {
        match done {
            Done::Failed(why) | Done::DiskFull(why) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Calls;
    use crate::config::Config;
    use crate::effect::Effect;
    use crate::log::format::LogFormat;
    use crate::log::sink::MemoryLog;
    use pilot_core::Identity;
    use pilot_core::rng::Rng;
    use pilot_stack::{Stack, StackConfig};

    fn context(level: Option<Level>) -> Context {
        let mut config = Config::new("unused");
        config.log = level.map(|level| LogConfig::new(level, MemoryLog::default()));
        let stack = Stack::new(
            pilot_core::Config::new(Identity::from_seed([1; 32]), Rng::entropy([0; 32])),
            StackConfig::default(),
        );
        Context::new(stack, || 0, Calls::default(), config)
    }

    /// The records among the effects, as text without their time.
    fn told(cx: &mut Context) -> Vec<String> {
        let records = std::mem::take(&mut cx.out).into_iter().filter_map(|effect| match effect {
            Effect::Trace(record) => Some(LogFormat::Text.line(&record)),
            _ => None,
        });
        records.filter_map(|line| Some(line.trim_end().split_once(' ')?.1.to_owned())).collect()
    }

    #[test]
    fn nothing_is_made_that_no_log_takes() {
        context(None).trace(Level::Error, |_| unreachable!("there is no log"));
        let mut cx = context(Some(Level::Warn));
        cx.trace(Level::Info, |_| unreachable!("only more important records are wanted"));
        cx.trace(Level::Warn, |_| Record::new(Level::Warn, "test"));
        assert_eq!(told(&mut cx), ["warn test"]);
    }

    #[test]
    fn the_level_changes_while_the_node_runs_and_settings_are_told() {
        let mut cx = context(Some(Level::Warn));
        LogRoom::set_level(&mut cx, Level::Debug);
        cx.trace(Level::Debug, |_| Record::new(Level::Debug, "test"));
        LogRoom::note_setting(&mut cx, "rendezvous", Err("restart".into()));
        LogRoom::set_level(&mut cx, Level::Error);
        cx.trace(Level::Warn, |_| unreachable!("only errors are wanted"));
        let changed = "info setting_changed setting=log_level";
        let kept = "warn setting_kept setting=rendezvous reason=restart";
        assert_eq!(told(&mut cx), [changed, "debug test", kept, changed]);
        let mut without = context(None);
        LogRoom::set_level(&mut without, Level::Debug);
        assert_eq!(without.trace_level, None);
    }

    #[test]
    fn a_disk_that_fails_and_recovers_is_told() {
        let (mut cx, (mut log, _lines)) = (context(Some(Level::Info)), LogRoom::new(None));
        log.note_disk(&mut cx, &Done::Written);
        let failed = || Done::Failed("No space left on device".into());
        (0..2).for_each(|_| log.note_disk(&mut cx, &failed()));
        log.note_disk(&mut cx, &Done::Full("the inbox holds as many messages as it may"));
        (0..2).for_each(|_| log.note_disk(&mut cx, &Done::Written));
        let failure = "error disk_failed reason=\"No space left on device\"";
        let limit = "warn disk_limit reason=\"the inbox holds as many messages as it may\"";
        assert_eq!(told(&mut cx), [failure, failure, limit, "info disk_recovered failures=2"]);
    }

    #[test]
    fn start_end_and_refused_clients_are_told() {
        let (mut cx, (mut log, _lines)) = (context(Some(Level::Info)), LogRoom::new(None));
        log.note_client(&mut cx, "another_user");
        log.note_webhook(&mut cx, "status 500", 2);
        LogRoom::note_start(&mut cx, "127.0.0.1:7");
        log.note_stop(&mut cx);
        let mut lines = told(&mut cx);
        assert_eq!(lines.remove(1), "warn webhook_failed reason=\"status 500\" lost=2");
        assert_eq!(lines[0], "warn client_refused reason=another_user");
        assert!(
            lines[1].starts_with("info started version=") && lines[1].contains(" udp=127.0.0.1:7 "),
            "{}",
            lines[1]
        );
        assert_eq!(lines[2], "info stopped uptime_s=0");
    }
}
