//! Owns the surroundings of every room: the protocol stack, the time of this turn, the waiting calls, and the effects that the
//! event loop carries out afterwards.

use crate::answer::Answer;
use crate::call::{Call, Calls};
use crate::config::Config;
use crate::disk::job::Job;
use crate::effect::{Answered, Caller, Effect};
use crate::failure::Failure;
use crate::log::record::Record;
use crate::mail::counted::Counted;
use crate::node_event::Event;
use crate::underlay::carrier::Carrier;
use pilot_core::trust::TrustVersion;
use pilot_core::{Instant, Level};
use pilot_stack::{Stack, StreamId};

/// The wall clock as a function, so that tests bring their own. Unit: seconds since 1970.
pub(crate) type WallClock = fn() -> u64;

/// The reason of a deadline, so that a busy loop can explain itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A waiting call's time is over.
    Call,
    /// A stream of the outbox is opened or closed.
    Mail,
    /// Pins that have expired are looked for.
    Expiry,
    /// The file that names the rendezvous is read again.
    RendezvousFile,
    /// This machine's addresses are looked at.
    Addresses,
    /// A gateway is asked for a mapping.
    Mapping,
    /// This node announces itself on its networks.
    Lan,
    /// The way to the rendezvous over TLS is tried, or UDP is.
    Tls,
    /// The protocol stack has a timer of its own.
    Stack,
    /// The number of suppressed lines of the log is told.
    Log,
    /// A program's connection waits no longer, or a listener is tried again.
    Programs,
    /// A client for which no descriptor was left is accepted.
    Clients,
}

/// The surroundings of a room while it handles one input.
pub(crate) struct Context {
    pub(crate) stack: Stack,
    /// The time of this turn.
    pub(crate) now: Instant,
    pub(crate) wall: WallClock,
    pub(crate) calls: Calls,
    pub(crate) config: Config,
    /// The newest version of the trust book that was given to the disk.
    pub(crate) trust_submitted: TrustVersion,
    /// When the trust book is saved without being asked for, and when that was done last.
    pub(crate) trust_save_at: Option<Instant>,
    pub(crate) trust_saved_unasked: Option<Instant>,
    /// When the peers' places are noted, and when that was done last.
    pub(crate) places_at: Option<Instant>,
    pub(crate) places_noted: Option<Instant>,
    /// The way to the rendezvous.
    pub(crate) carrier: Carrier,
    /// By which messages and questions grow old.
    pub(crate) counted: Counted,
    /// Questions of this node or of peers may be in the books.
    pub(crate) has_questions: bool,
    /// When the disk was last told to forget the questions that are over, in counted time. Unit: seconds.
    expired_s: u64,
    /// At least one client watches events; otherwise none are made.
    pub(crate) is_watched: bool,
    /// The least important level that the log takes; `None` without a log.
    pub(crate) trace_level: Option<Level>,
    /// In the order in which they are carried out.
    pub(crate) out: Vec<Effect>,
}

impl Context {
    pub(crate) fn new(mut stack: Stack, wall: WallClock, calls: Calls, config: Config) -> Self {
        let trace_level = config.log.as_ref().map(|log| log.level);
        stack.endpoint_mut().set_trace_level(trace_level);
        Self {
            trust_submitted: stack.endpoint().trust().version(),
            trust_save_at: None,
            trust_saved_unasked: None,
            places_at: None,
            places_noted: None,
            stack,
            now: Instant::ZERO,
            wall,
            calls,
            config,
            carrier: Carrier::default(),
            counted: Counted::default(),
            has_questions: false,
            expired_s: 0,
            is_watched: false,
            trace_level,
            out: Vec::new(),
        }
    }

    /// Counted time now. Unit: seconds.
    pub(crate) fn counted_s(&self) -> u64 {
        self.counted.at(self.now)
    }

    /// What the wall clock says at a moment of counted time, if it is not set meanwhile. Unit: seconds since 1970.
    pub(crate) fn wall_of(&self, counted_s: u64) -> u64 {
        let (wall, now) = ((self.wall)(), self.counted_s());
        wall.saturating_add(counted_s.saturating_sub(now)).saturating_sub(now.saturating_sub(counted_s))
    }

    /// Lets the disk forget the questions of peers that are over: once a second at most, and where there may be any.
    pub(crate) fn expire_questions(&mut self) {
        let now = self.counted_s();
        if self.has_questions && self.expired_s < now {
            self.expired_s = now;
            self.submit(Job::Expire(now), Call::Forgotten);
        }
    }

    pub(crate) fn answer(&mut self, caller: Caller, answer: Answered) {
        if !matches!(caller, Caller::Node) {
            self.out.push(Effect::Reply(caller, answer));
        }
    }

    pub(crate) fn reply(&mut self, caller: Caller, answer: impl Into<Answer>) {
        self.answer(caller, Ok((answer.into(), Vec::new())));
    }

    pub(crate) fn fail(&mut self, caller: Caller, failure: Failure) {
        self.answer(caller, Err(failure));
    }

    /// Hands work to the disk; `call` goes on after the sync.
    pub(crate) fn submit(&mut self, job: Job, call: Call) {
        let ticket = self.calls.open(call);
        self.out.push(Effect::Submit(job, ticket));
    }

    pub(crate) fn ready(&mut self, stream: StreamId) {
        self.out.push(Effect::Ready(stream));
    }

    /// Writes the record that `make` gives into the log, if the log takes its level. One comparison when it does not.
    pub(crate) fn trace(&mut self, level: Level, make: impl FnOnce(&Self) -> Record) {
        if self.trace_level >= Some(level) {
            let record = make(self);
            debug_assert_eq!(record.level(), level, "the level of {}", record.kind());
            self.out.push(Effect::Trace(record));
        }
    }

    /// Tells the clients that watch events, if there are any.
    pub(crate) fn tell(&mut self, event: impl FnOnce(&Self) -> Event) {
        if self.is_watched {
            let event = event(self);
            self.out.push(Effect::Tell(event));
        }
    }
}
