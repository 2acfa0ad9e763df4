//! Owns the entries and the connections, and moves the connections' bytes.

use crate::context::Context;
use crate::effect::Effect;
use crate::failure::Failure;
use crate::ipc::client_id::ClientId;
use crate::log::record::Record;
use crate::programs::entry::{Entry, Kind, Life};
use crate::programs::joint::{Joint, Phase};
use crate::programs::joint_id::JointId;
use crate::programs::joints::Joints;
use crate::programs::sockets::reset_on_close;
use crate::programs::wire::{Moved, Readiness, Wire};
use crate::streams::names::failure_of;
use crate::token::Room;
use crate::underlay::resolver::Resolver;
use mio::{Registry, Token, Waker};
use pilot_core::{Instant, Level};
use pilot_stack::StreamId;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Most connections of programs at one time, in both directions together. Source: own choice, `docs/programs.md`, "Limits".
pub(crate) const CONNECTIONS_MAX: usize = 10_000;
/// Most entries of each kind. Source: `docs/programs.md`, "Limits".
pub(super) const ENTRIES_MAX: usize = 1024;
/// Numbers of entries.
const NUMBERS: u32 = 1 << 20;

/// The entries, and the connections that came by them.
pub(crate) struct Programs {
    pub(super) registry: Registry,
    pub(super) entries: Vec<Entry>,
    last_number: u32,
    pub(super) joints: Joints,
    pub(super) connections_max: usize,
    /// Entries with a listener at which programs may wait.
    pub(super) knocked: Vec<u32>,
    /// No program is accepted before this moment, or before a connection ends.
    pub(super) paused_until: Option<Instant>,
    /// The earliest moment at which a listener that could not be bound is tried again.
    pub(super) retry_at: Option<Instant>,
    /// Connections with a filter that have more to move.
    pub(super) again: Vec<JointId>,
    pub(super) resolver: Resolver,
    /// Connections that wait for the addresses of a host.
    pub(super) named: Vec<JointId>,
    /// Lines of the books that could not be carried out.
    pub(super) unread: Vec<String>,
}

impl Programs {
    pub(crate) fn new(registry: Registry, waker: Arc<Waker>) -> Self {
        Self {
            registry,
            entries: Vec::new(),
            last_number: 0,
            joints: Joints::default(),
            connections_max: CONNECTIONS_MAX,
            knocked: Vec::new(),
            paused_until: None,
            retry_at: None,
            again: Vec::new(),
            resolver: Resolver::new(waker),
            named: Vec::new(),
            unread: Vec::new(),
        }
    }

    // Entries.

    /// A number for another entry.
    pub(super) fn next_number(&mut self) -> u32 {
        loop {
            self.last_number = (self.last_number + 1) % NUMBERS;
            if self.entry_mut(self.last_number).is_none() {
                return self.last_number;
            }
        }
    }

    pub(super) fn entry_mut(&mut self, number: u32) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.number == number)
    }

    /// The token of an entry's listener.
    pub(super) const fn listener_token(number: u32) -> Token {
        Room::Programs.token(number as usize * 2 + 1)
    }

    /// The token of a connection's sockets.
    pub(super) const fn joint_token(id: JointId) -> Token {
        Room::Programs.token(id.slot as usize * 2)
    }

    /// Removes an entry. Connections that stand go on.
    pub(super) fn remove_entry(&mut self, number: u32) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.number == number)?;
        let mut entry = self.entries.remove(at);
        if let Some(door) = entry.listener_mut().and_then(|listener| listener.door.take()) {
            door.close(&self.registry);
        }
        self.knocked.retain(|n| *n != number);
        Some(entry)
    }

    /// Notes in an entry and in the log why one of its connections failed.
    pub(super) fn note_failure(&mut self, cx: &mut Context, number: u32, why: &str) {
        let Some(entry) = self.entry_mut(number) else { return };
        entry.last_error = Some(why.into());
        let (kind, name) = match &entry.kind {
            Kind::Forward { listener, .. } => ("forward_failed", listener.listen.to_string()),
            Kind::Expose(expose) => ("expose_failed", expose.port.to_string()),
            Kind::Proxy(proxy) => ("proxy_failed", proxy.listener.listen.to_string()),
        };
        cx.trace(Level::Warn, |_| Record::new(Level::Warn, kind).with("at", name).with("reason", why));
    }

    /// Ends what belonged to a client that is gone; gives the exposed ports that nothing is behind any more.
    pub(crate) fn client_gone(&mut self, client: ClientId) -> Vec<u16> {
        let is_its = |entry: &&Entry| entry.life == Life::Client(client);
        let numbers: Vec<u32> = self.entries.iter().filter(is_its).map(|entry| entry.number).collect();
        let removed = numbers.into_iter().filter_map(|number| self.remove_entry(number));
        removed.filter_map(|entry| entry.expose().map(|expose| expose.port)).collect()
    }

    // Connections.

    /// Enters a connection that came by the entry of this number, which lives.
    pub(super) fn add(&mut self, joint: Joint) -> JointId {
        debug_assert!(self.joints.len() < self.connections_max, "the caller has looked");
        if let Some(entry) = self.entry_mut(joint.entry) {
            entry.connections += 1;
            entry.total += 1;
        }
        self.joints.insert(joint)
    }

    /// Forgets a connection, and closes its sockets: with a reset, or in order.
    pub(super) fn end(&mut self, id: JointId, is_reset: bool) {
        let Some(joint) = self.joints.remove(id) else { return };
        if is_reset {
            joint.descriptors().into_iter().for_each(reset_on_close);
        }
        // No copies of the descriptors exist, so closing them takes them out of the loop.
        if let Some(entry) = self.entry_mut(joint.entry) {
            entry.connections -= 1;
        }
        self.paused_until = None;
    }

    /// The loop has news of a socket of a connection, or of a listener.
    pub(crate) fn readiness(&mut self, cx: &mut Context, token: Token, news: Readiness) {
        let number = Room::Programs.number(token);
        if number % 2 == 1 {
            return self.note_knock(number as u32 / 2);
        }
        let Some(id) = self.joints.at(number / 2) else { return };
        let Some(joint) = self.joints.get_mut(id) else { return };
        match &mut joint.phase {
            Phase::Early(_) => self.ask_peer(cx, id),
            Phase::Opening(wire) => {
                if !wire.note(news) {
                    // The stream that may still come finds no connection, and is reset.
                    self.end(id, true);
                }
            }
            Phase::Dialing(_) => self.dial(cx, id),
            Phase::Relayed(_) => self.relay_ready(cx, id, news),
            Phase::Joined(wire) => {
                wire.note(news);
                if let Some(stream) = joint.stream {
                    cx.ready(stream);
                }
            }
            Phase::Naming | Phase::Between => {} // news of a socket that had the place before
        }
    }

    /// Moves the bytes of a connection when its stream may have something to move.
    pub(crate) fn serve(&mut self, cx: &mut Context, id: JointId, stream: StreamId) {
        let Some(joint) = self.joints.get_mut(id) else {
            return cx.out.push(Effect::Abort(stream)); // the program has gone meanwhile
        };
        if let Phase::Relayed(_) = joint.phase {
            return match joint.stream {
                None => self.relay_opened(cx, id, stream),
                Some(_) => self.move_relay(cx, id),
            };
        }
        if let Phase::Opening(_) = joint.phase {
            joint.stream = Some(stream);
            if let Phase::Opening(wire) = std::mem::replace(&mut joint.phase, Phase::Between) {
                joint.phase = Phase::Joined(wire);
            }
        }
        debug_assert_eq!(joint.stream, Some(stream));
        match &mut joint.phase {
            Phase::Joined(wire) => match wire.pump(&mut cx.stack, stream) {
                Moved::On => {}
                Moved::Finished => {
                    self.end(id, false);
                    cx.out.push(Effect::Close(stream));
                }
                Moved::ProgramReset => {
                    self.end(id, true);
                    cx.out.push(Effect::Abort(stream));
                }
                Moved::StreamBroke(why) => {
                    let (entry, why) = (joint.entry, failure_of(&cx.stack, stream, why));
                    self.note_failure(cx, entry, &why.message);
                    self.end(id, true);
                    cx.out.push(Effect::Close(stream));
                }
            },
            // The peer may have gone meanwhile.
            Phase::Naming | Phase::Dialing(_) if cx.stack.stream_info(stream).is_none_or(|i| i.end.is_some()) => {
                self.end(id, true);
                cx.out.push(Effect::Close(stream));
            }
            _ => {}
        }
    }

    /// The stream that a program asked for cannot be opened.
    pub(crate) fn not_opened(&mut self, cx: &mut Context, id: JointId, failure: &Failure) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        if let Phase::Relayed(_) = joint.phase {
            return self.relay_not_opened(cx, id, failure);
        }
        let entry = joint.entry;
        self.note_failure(cx, entry, &failure.message);
        self.end(id, true);
    }

    /// A connection's socket stands, and so does its stream.
    pub(super) fn join(&mut self, cx: &mut Context, id: JointId, socket: OwnedFd) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        joint.phase = Phase::Joined(Wire::new(socket));
        if let Some(stream) = joint.stream {
            cx.ready(stream);
        }
        self.joints.set_deadline(id, None);
    }

    // Time.

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let paused = self.paused_until.filter(|_| !self.knocked.is_empty());
        [self.joints.poll_timeout(), paused, self.retry_at].into_iter().flatten().min()
    }

    /// True while programs may wait that no readiness announces again.
    pub(crate) fn has_more(&self) -> bool {
        !self.again.is_empty() || (!self.knocked.is_empty() && self.paused_until.is_none())
    }

    /// Does what is due, and accepts programs that wait.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        if self.paused_until.is_some_and(|at| at <= cx.now) {
            self.paused_until = None;
        }
        while let Some(id) = self.joints.expired(cx.now) {
            match self.joints.get_mut(id).map(|joint| &joint.phase) {
                Some(Phase::Early(_)) => self.ask_peer(cx, id),
                Some(Phase::Dialing(_)) => self.dial(cx, id),
                Some(Phase::Relayed(_)) => self.relay_due(cx, id),
                Some(Phase::Naming) => self.refuse(cx, id, "its host is not found in time"),
                _ => debug_assert!(false, "no other phase has a deadline"),
            }
        }
        if !self.named.is_empty() && self.resolver.poll(cx.now) {
            self.hosts_are_known(cx);
        }
        if self.retry_at.is_some_and(|at| at <= cx.now) {
            self.open_listeners(cx);
        }
        for id in std::mem::take(&mut self.again) {
            self.move_relay(cx, id);
        }
        if !self.knocked.is_empty() && self.paused_until.is_none() {
            self.accept(cx);
        }
    }
}
