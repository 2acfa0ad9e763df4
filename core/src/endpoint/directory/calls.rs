//! Owns the calls to the rendezvous: their tickets, their time, and what their answers do. Every call ends: with its answer, or
//! with the word that there is none; what the rendezvous must know is told again until it is confirmed.

use super::{Context, Directory, Effect, Purpose, RETRY_MIN};
use crate::control::{Answer, Call, LetterId, Query, Refusal, Ticket};
use crate::extensions::{ExtensionType, Extensions};
use crate::hash;
use crate::identity::{IdentityKey, NodeRecord};
use crate::time::{Duration, Instant};
use crate::trust::LetterNumber;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// Calls that may wait for their answers.
pub const CALLS_MAX: usize = 1024;
/// Least time that an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// Time that the answer to a registration may take: the stream is reliable, and a second question would only be more work for
/// a rendezvous that is late.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(15);
/// Letters that are posted at once. Source: own choice, well below the calls that a rendezvous takes in a second.
const POSTS_MAX: usize = 16;

impl Directory {
    /// True while the call with this ticket waits for its answer.
    pub(crate) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.calls.contains_key(&ticket)
    }

    pub(crate) fn lookup(&mut self, now: Instant, query: Query) -> Option<Ticket> {
        self.call(now, Call::Lookup(query.clone()), Purpose::Lookup(query))
    }

    pub(crate) fn search(&mut self, now: Instant, tag: String) -> Option<Ticket> {
        self.call(now, Call::Search(tag), Purpose::Search)
    }

    /// Asks for a relay channel to a peer, unless that is under way.
    pub(crate) fn ask_for_relay(&mut self, now: Instant, to: IdentityKey) {
        let is_asked = self.is_under_way(|purpose| *purpose == Purpose::Relay(to));
        if !is_asked && self.call(now, Call::OpenRelay(to), Purpose::Relay(to)).is_none() {
            self.effects.push_back(Effect::NoBeacon(to));
        }
    }

    /// Time that an answer may take: more where that to the registration took long, as over two satellites.
    fn call_timeout(&self) -> Duration {
        CALL_TIMEOUT.max(self.registered_in * 2).min(REGISTER_TIMEOUT)
    }

    pub(super) fn is_under_way(&self, f: impl Fn(&Purpose) -> bool) -> bool {
        self.calls.values().any(|(_, purpose)| f(purpose))
    }

    pub(super) fn call(&mut self, now: Instant, call: Call, purpose: Purpose) -> Option<Ticket> {
        let is_register = purpose == Purpose::Register;
        let is_allowed = self.is_ready() || is_register;
        if self.rendezvous.is_none() || !is_allowed || self.has_left || self.calls.len() >= CALLS_MAX {
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0.wrapping_add(1).max(1));
        self.calls.insert(ticket, (now + if is_register { REGISTER_TIMEOUT } else { self.call_timeout() }, purpose));
        debug_assert!(self.calls.len() <= CALLS_MAX);
        self.effects.push_back(Effect::Call(ticket, call));
        Some(ticket)
    }

    // Input.

    /// Takes the rendezvous' answer to a call.
    pub(crate) fn handle_answer(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        answer: Answer,
        extensions: &Extensions,
    ) {
        let Some((until, purpose)) = self.calls.remove(&ticket) else { return };
        if purpose == Purpose::Register {
            self.registered_in = REGISTER_TIMEOUT.saturating_sub(until.since(cx.now));
        }
        self.take_facts(cx, extensions);
        let answer = match answer {
            Answer::Unknown(code) => Answer::Refused(Refusal::Later(code)),
            answer => answer,
        };
        if let Answer::Refused(Refusal::NotRegistered) = answer {
            self.register(cx); // the rendezvous has lost us, or another process with our identity has taken our place
        }
        match (purpose, answer) {
            (Purpose::Register, Answer::Registered { addr, reflexive, relay_key }) => {
                self.relay_key = relay_key;
                self.program = extensions.text(ExtensionType::PROGRAM, super::PROGRAM_LEN_MAX).map(Into::into);
                let has_moved = self.reflexive.replace(reflexive) != Some(reflexive);
                self.on_registered(cx, addr);
                if has_moved {
                    self.effects.push_back(Effect::Candidates);
                    let probes = extensions.endpoints(ExtensionType::PROBES);
                    self.effects.extend((!probes.is_empty()).then_some(Effect::Survey(probes)));
                }
            }
            (Purpose::Lookup(query), Answer::Found(record)) => {
                let answer = if is_about(&query, &record) { Answer::Found(record) } else { MISMATCH };
                self.effects.push_back(Effect::Answer(ticket, Some(answer)));
            }
            (Purpose::Lookup(_) | Purpose::Search, answer) => {
                self.effects.push_back(Effect::Answer(ticket, Some(answer)));
            }
            (Purpose::Relay(to), Answer::Relay { channel, online }) => {
                let seen = extensions.endpoints(ExtensionType::SEEN).pop();
                let is_passed_on = extensions.get(ExtensionType::INIT).is_some();
                self.effects.push_back(Effect::Relay { to, channel, online, seen, is_passed_on });
            }
            (Purpose::Relay(to), Answer::Refused(Refusal::NotFound)) => self.effects.push_back(Effect::NoRelay(to)),
            (Purpose::Letter(letter), Answer::Ok | Answer::Refused(Refusal::NotFound)) => {
                self.duties.confirmed();
                self.trust.remove_letter(letter);
                self.tend(cx.now);
            }
            (Purpose::Grant, Answer::Ok) => {
                self.duties.confirmed();
                self.duties.grant_ended(true);
                self.tend(cx.now);
            }
            (Purpose::Taken, Answer::Ok) => {
                self.duties.confirmed();
                self.duties.taken_ended(true);
                self.tend(cx.now);
            }
            (Purpose::Leave, answer) => self.is_forgotten = answer == Answer::Ok,
            (purpose, Answer::Refused(why)) => self.not_now(cx, purpose, why),
            (purpose, _) => self.not_now(cx, purpose, Refusal::Later(0)),
        }
    }

    /// What an answer says besides its content.
    pub(super) fn take_facts(&mut self, cx: &Context<'_>, extensions: &Extensions) {
        if let Some(clock_us) = extensions.u64(ExtensionType::CLOCK) {
            self.learn_clock(cx, clock_us);
        }
        if let Some(sequence) = extensions.u64(ExtensionType::SEQUENCE) {
            self.raise_sequence(sequence);
        }
    }

    /// Something that the rendezvous must know is not confirmed: a later call tells it again.
    fn not_now(&mut self, cx: &mut Context<'_>, purpose: Purpose, why: Refusal) {
        match purpose {
            Purpose::Register => return self.on_register_refused(cx, why),
            Purpose::Lookup(_) | Purpose::Search | Purpose::Leave => return,
            Purpose::Letter(letter) if why == Refusal::Full => {
                if let Some(&(to, _)) = self.trust.letter(letter) {
                    self.duties.mailbox_is_full(cx.now, to);
                }
                return self.tend(cx.now);
            }
            Purpose::Letter(_) => {}
            Purpose::Grant => self.duties.grant_ended(false),
            Purpose::Taken => self.duties.taken_ended(false),
            Purpose::Relay(to) => {
                self.effects.push_back(Effect::NoBeacon(to));
                self.duties.relays = true;
            }
        }
        self.duties.refused(cx.now, why == Refusal::TooMany);
    }

    /// The link to the rendezvous had no room for a call: nothing was sent.
    pub(crate) fn on_call_refused(&mut self, cx: &mut Context<'_>, ticket: Ticket) {
        match self.calls.remove(&ticket) {
            Some((_, Purpose::Register)) => self.register_at = Some(cx.now + RETRY_MIN),
            Some((_, purpose)) => self.not_now(cx, purpose, Refusal::TooMany),
            None => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.retry_at.take_if(|at| *at <= cx.now).is_some() {
            self.effects.push_back(Effect::Reach);
        }
        if let Some((_, to)) = self.move_at.take_if(|(at, _)| *at <= cx.now) {
            self.effects.push_back(Effect::Move(to));
        }
        let late: Vec<Ticket> = self.calls.iter().filter(|(_, (at, _))| *at <= cx.now).map(|(id, _)| *id).collect();
        let has_late = !late.is_empty();
        for ticket in late {
            match self.calls.remove(&ticket) {
                Some((_, Purpose::Lookup(_) | Purpose::Search)) => {
                    self.effects.push_back(Effect::Answer(ticket, None));
                }
                Some((_, Purpose::Register)) => {
                    let pause = self.duties.refused(cx.now, false);
                    self.register_at = Some(cx.now + pause);
                }
                Some((_, purpose)) => self.not_now(cx, purpose, Refusal::Later(0)),
                None => {}
            }
        }
        if has_late && self.is_ready() {
            self.register(cx); // another process may have taken our place
        }
        self.tend_enrolling(cx);
        self.tend_joins(cx.now);
        if self.register_at.take_if(|at| *at <= cx.now).is_some() {
            self.register_quietly(cx);
        }
        if self.duties.poll_timeout().is_some_and(|at| at <= cx.now) {
            self.tend(cx.now);
        }
    }

    /// Ends all calls without answers: the rendezvous that was asked is gone.
    pub(super) fn end_calls(&mut self) {
        for (ticket, (_, purpose)) in core::mem::take(&mut self.calls) {
            if matches!(purpose, Purpose::Lookup(_) | Purpose::Search) {
                self.effects.push_back(Effect::Answer(ticket, None));
            }
        }
        self.duties.begin();
        (self.register_at, self.register_again) = (None, false);
    }

    // What the rendezvous must know.

    /// Begins every call that is due: one with changes of grants, one with letters that were taken, some letters.
    pub(super) fn tend(&mut self, now: Instant) {
        if !self.is_ready() || !self.duties.is_due(now) {
            return;
        }
        if !self.is_under_way(|purpose| *purpose == Purpose::Grant) {
            let trust = &self.trust;
            let call = self.duties.next_grant(trust.pins().map(|pin| &pin.identity), |key| trust.pin(key).is_some());
            call.into_iter().for_each(|call| self.begin(now, call, Purpose::Grant));
        }
        if !self.is_under_way(|purpose| *purpose == Purpose::Taken) {
            let call = self.duties.next_taken();
            call.into_iter().for_each(|call| self.begin(now, call, Purpose::Taken));
        }
        self.post_letters(now);
        if core::mem::take(&mut self.duties.relays) {
            self.effects.push_back(Effect::AskForRelays);
        }
    }

    fn begin(&mut self, now: Instant, call: Call, purpose: Purpose) {
        if self.call(now, call, purpose.clone()).is_none() {
            match purpose {
                Purpose::Grant => self.duties.grant_ended(false),
                Purpose::Taken => self.duties.taken_ended(false),
                _ => {}
            }
            self.duties.refused(now, true); // as many calls as there may be wait already
        }
    }

    /// Posts the oldest letter to each node, unless one to that node is under way: letters to one node arrive in the order in
    /// which they were written, whatever the rendezvous refuses.
    fn post_letters(&mut self, now: Instant) {
        let under_way = |purpose: &Purpose| if let Purpose::Letter(number) = purpose { Some(*number) } else { None };
        let under_way: Vec<LetterNumber> = self.calls.values().filter_map(|(_, purpose)| under_way(purpose)).collect();
        let recipient = |number: LetterNumber| self.trust.letter(number).map(|letter| letter.0);
        let mut seen = BTreeSet::new();
        seen.extend(under_way.iter().filter_map(|number| recipient(*number)));
        let room = POSTS_MAX.saturating_sub(under_way.len());
        let oldest = self.trust.letters().filter(|number| recipient(*number).is_some_and(|to| seen.insert(to)));
        let is_ready = |number: &LetterNumber| {
            !self.is_held(*number) && recipient(*number).is_some_and(|to| !self.duties.has_full_mailbox(&to))
        };
        let ready: Vec<LetterNumber> = oldest.filter(is_ready).take(room).collect();
        for number in ready {
            if let Some((to, sealed)) = self.trust.letter(number).cloned() {
                // The same letter has the same name for ever, since what is sealed differs each time.
                let mut id = LetterId([0; 16]);
                id.0.copy_from_slice(&hash::blake2s(&[b"pn1-letter", &sealed])[..16]);
                self.begin(now, Call::Post(to, id, sealed), Purpose::Letter(number));
            }
        }
    }
}

/// What an owner is told when the rendezvous has answered with another node's record.
const MISMATCH: Answer = Answer::Refused(Refusal::Mismatch);

/// True when the record is that of the node that the query names. The owner verifies its signature.
fn is_about(query: &Query, record: &[u8]) -> bool {
    NodeRecord::parse_unverified(record).is_ok_and(|record| match query {
        Query::Name(name) => record.hostname == *name,
        Query::Addr(addr) => record.addr == *addr,
        Query::Key(key) => record.identity == *key,
    })
}
