//! Owns the calls to the rendezvous: their tickets, their time, and what their answers do.

use super::{Context, Directory, DirectoryState, Effect, Purpose};
use crate::control::{Answer, Call, Query, Refusal, Ticket};
use crate::identity::IdentityKey;
use crate::time::{Duration, Instant};
use alloc::string::String;
use alloc::vec::Vec;

/// Calls that may wait for their answers.
pub const CALLS_MAX: usize = 1024;
/// Time an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

impl Directory {
    /// True while the call with this ticket waits for its answer.
    pub(crate) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.calls.contains_key(&ticket)
    }

    pub(crate) fn lookup(&mut self, now: Instant, query: Query) -> Option<Ticket> {
        self.call(now, Call::Lookup(query), Purpose::Application)
    }

    pub(crate) fn search(&mut self, now: Instant, tag: String) -> Option<Ticket> {
        self.call(now, Call::Search(tag), Purpose::Application)
    }

    /// Asks for a relay channel to a peer, unless that is under way.
    pub(crate) fn ask_for_relay(&mut self, now: Instant, to: IdentityKey) {
        let is_asked = self.calls.values().any(|(_, purpose)| *purpose == Purpose::Relay(to));
        if !is_asked && self.call(now, Call::OpenRelay(to), Purpose::Relay(to)).is_none() {
            self.effects.push_back(Effect::NoBeacon(to));
        }
    }

    pub(super) fn call(&mut self, now: Instant, call: Call, purpose: Purpose) -> Option<Ticket> {
        let is_allowed = self.is_ready() || matches!(purpose, Purpose::Register);
        if self.rendezvous.is_none() || !is_allowed || self.calls.len() >= CALLS_MAX {
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0.wrapping_add(1).max(1));
        self.calls.insert(ticket, (now + CALL_TIMEOUT, purpose));
        debug_assert!(self.calls.len() <= CALLS_MAX);
        self.effects.push_back(Effect::Call(ticket, call));
        Some(ticket)
    }

    /// Takes the rendezvous' answer to a call.
    pub(crate) fn handle_answer(&mut self, cx: &mut Context<'_>, ticket: Ticket, answer: Answer) {
        let Some((_, purpose)) = self.calls.remove(&ticket) else { return };
        match (purpose, answer) {
            (Purpose::Application, answer) => self.effects.push_back(Effect::Answer(ticket, Some(answer))),
            (Purpose::Register, Answer::Registered { addr, reflexive, relay_key }) => {
                self.relay_key = relay_key;
                let has_moved = self.reflexive.replace(reflexive) != Some(reflexive);
                self.on_registered(cx, addr);
                if has_moved {
                    self.effects.push_back(Effect::Candidates);
                }
            }
            (Purpose::Register, Answer::Refused(why)) => self.set_state(DirectoryState::Refused(why)),
            (Purpose::Relay(to), Answer::Relay { channel, online }) => {
                self.effects.push_back(Effect::Relay { to, channel, online });
            }
            (Purpose::Relay(to), Answer::Refused(Refusal::NotFound)) => self.effects.push_back(Effect::NoRelay(to)),
            (Purpose::Letter(letter), Answer::Ok | Answer::Refused(Refusal::NotFound)) => {
                let to = self.trust.remove_letter(letter);
                to.into_iter().for_each(|to| self.post_next(cx.now, to));
            }
            _ => {}
        }
    }

    /// The link to the rendezvous had no room for a call: nothing was sent.
    pub(crate) fn on_call_refused(&mut self, ticket: Ticket) {
        if let Some((_, Purpose::Relay(to))) = self.calls.remove(&ticket) {
            self.effects.push_back(Effect::NoBeacon(to));
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.retry_at.take_if(|at| *at <= cx.now).is_some() {
            self.effects.push_back(Effect::Reach);
        }
        let late: Vec<Ticket> = self.calls.iter().filter(|(_, (at, _))| *at <= cx.now).map(|(id, _)| *id).collect();
        for ticket in late {
            match self.calls.remove(&ticket) {
                Some((_, Purpose::Application)) => self.effects.push_back(Effect::Answer(ticket, None)),
                Some((_, Purpose::Register)) => self.register(cx),
                _ => {}
            }
        }
    }
}
