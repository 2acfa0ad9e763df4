//! Owns the surroundings of every room: the protocol stack, the time of this turn, the waiting calls, and the effects that the
//! event loop carries out afterwards.

use crate::call::{Call, Calls};
use crate::config::Config;
use crate::disk::job::Job;
use crate::effect::{Answer, Caller, Effect};
use crate::failure::Failure;
use pilot_core::Instant;
use pilot_stack::{Stack, StreamId};
use serde_json::Value;

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
    /// The protocol stack has a timer of its own.
    Stack,
}

/// The surroundings of a room while it handles one input.
pub(crate) struct Context {
    pub(crate) stack: Stack,
    /// The time of this turn.
    pub(crate) now: Instant,
    pub(crate) wall: WallClock,
    pub(crate) calls: Calls,
    pub(crate) config: Config,
    /// At least one client watches events; otherwise none are made.
    pub(crate) is_watched: bool,
    /// In the order in which they are carried out.
    pub(crate) out: Vec<Effect>,
}

impl Context {
    pub(crate) const fn new(stack: Stack, wall: WallClock, calls: Calls, config: Config) -> Self {
        Self { stack, now: Instant::ZERO, wall, calls, config, is_watched: false, out: Vec::new() }
    }

    pub(crate) fn answer(&mut self, caller: Caller, answer: Answer) {
        if !matches!(caller, Caller::Node) {
            self.out.push(Effect::Reply(caller, answer));
        }
    }

    pub(crate) fn reply(&mut self, caller: Caller, data: Value) {
        self.answer(caller, Ok((data, Vec::new())));
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

    /// Tells the clients that watch events, if there are any.
    pub(crate) fn tell(&mut self, event: impl FnOnce(&Self) -> Value) {
        if self.is_watched {
            let event = event(self);
            self.out.push(Effect::Tell(event));
        }
    }
}
