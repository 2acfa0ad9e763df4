//! Owns the listeners' work: binding, binding again after a failure, and accepting the programs that connect.

use crate::context::Context;
use crate::failure::Failure;
use crate::log::record::Record;
use crate::platform::{keep_quiet, send_at_once};
use crate::programs::entry::{Kind, Listener};
use crate::programs::filter::Filter;
use crate::programs::joint::{Joint, Phase};
use crate::programs::listen::{Came, Door, Listen};
use crate::programs::relay::{End, Relay};
use crate::programs::room::Programs;
use crate::programs::sockets::reset_on_close;
use crate::programs::wire::Wire;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use pilot_core::{Instant, Level};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

/// Programs that one listener lets in, in one turn of the loop.
const ACCEPTS_PER_TURN: usize = 64;
/// Longest pause of accepting while no descriptor is left or the connections are at their maximum. Own choice.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// First and longest pause before a listener is bound again. Source: `docs/programs.md`, "Forward".
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Listener {
    /// A listener that is bound now, or was handed over by a client. Unless `must_listen`, an address that cannot be bound
    /// is tried again.
    ///
    /// # Errors
    /// As [`Door::open`] and [`Door::take`].
    pub(super) fn begin(
        listen: Listen,
        fd: Option<OwnedFd>,
        must_listen: bool,
        (now, registry, number): (Instant, &Registry, u32),
    ) -> Result<Self, Failure> {
        let mut listener = Self { listen, door: None, closed: None, tries: 0 };
        match fd {
            Some(fd) => {
                listener.door = Some(Door::take(&listener.listen, fd, registry, Programs::listener_token(number))?);
            }
            None => match listener.open(now, registry, number) {
                Err(failure) if must_listen => return Err(failure),
                Ok(()) | Err(_) => {}
            },
        }
        debug_assert!(listener.door.is_some() || listener.closed.is_some());
        Ok(listener)
    }

    /// Binds the address; after a failure [`closed`](Self::closed) tells when to try again.
    pub(super) fn open(&mut self, now: Instant, registry: &Registry, number: u32) -> Result<(), Failure> {
        match Door::open(&self.listen, registry, Programs::listener_token(number)) {
            Ok(door) => {
                self.listen = door.listen.clone();
                (self.door, self.closed, self.tries) = (Some(door), None, 0);
                Ok(())
            }
            Err(failure) => {
                let pause = RETRY_MAX.min(RETRY_FIRST * 2u32.saturating_pow(self.tries.min(8)));
                self.tries += 1;
                self.closed = Some((failure.message.clone(), now + pause));
                Err(failure)
            }
        }
    }
}

impl Programs {
    /// Programs may wait at a listener.
    pub(super) fn note_knock(&mut self, number: u32) {
        if !self.knocked.contains(&number) {
            self.knocked.push(number);
        }
    }

    /// A listener is not bound, and will be tried again.
    pub(super) fn note_closed(&mut self, listener: &Listener) {
        let again_at = listener.closed.as_ref().map(|(_, at)| *at);
        self.retry_at = self.retry_at.into_iter().chain(again_at).min();
    }

    /// Binds listeners that could not be bound before, after their pause.
    pub(super) fn open_listeners(&mut self, cx: &mut Context) {
        let (registry, now, mut next) = (&self.registry, cx.now, None);
        for entry in &mut self.entries {
            let number = entry.number;
            let Some(listener) = entry.listener_mut() else { continue };
            if listener.closed.as_ref().is_some_and(|(_, at)| *at <= now) {
                let is_first = listener.tries == 1;
                match listener.open(now, registry, number) {
                    Ok(()) => {
                        let at = listener.listen.to_string();
                        cx.trace(Level::Info, |_| Record::new(Level::Info, "listening").with("at", at));
                    }
                    Err(failure) if is_first => {
                        let record = Record::new(Level::Warn, "not_listening").with("reason", failure.message);
                        cx.trace(Level::Warn, |_| record);
                    }
                    Err(_) => {}
                }
            }
            next = next.into_iter().chain(listener.closed.as_ref().map(|(_, at)| *at)).min();
        }
        self.retry_at = next;
    }

    /// Accepts programs that wait, at most [`ACCEPTS_PER_TURN`] at each listener. Pauses when there is no room for another.
    pub(super) fn accept(&mut self, cx: &mut Context) {
        for number in std::mem::take(&mut self.knocked) {
            for accepted in 0.. {
                if accepted == ACCEPTS_PER_TURN || self.paused_until.is_some() {
                    self.knocked.push(number);
                    break;
                }
                if self.joints.len() >= self.connections_max {
                    self.pause(cx, "too many connections");
                    continue;
                }
                let door = self.entry_mut(number).and_then(|e| e.listener_mut()).and_then(|l| l.door.as_ref());
                match door.map(Door::accept) {
                    Some(Came::Socket(socket)) => self.let_in(cx, number, socket),
                    Some(Came::NoDescriptors) => self.pause(cx, "no descriptors are left"),
                    Some(Came::Nothing) | None => break,
                }
            }
        }
    }

    fn pause(&mut self, cx: &mut Context, why: &'static str) {
        self.paused_until = Some(cx.now + PAUSE);
        cx.trace(Level::Warn, |_| Record::new(Level::Warn, "accept_paused").with("reason", why));
    }

    /// A program has connected to an entry's listener.
    fn let_in(&mut self, cx: &mut Context, number: u32, socket: OwnedFd) {
        send_at_once(&socket);
        keep_quiet(&socket);
        let token = Self::joint_token(self.joints.next());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest).is_err() {
            return reset_on_close(&socket);
        }
        if let Some(Kind::Proxy(proxy)) = self.entry_mut(number).map(|entry| &entry.kind) {
            let filter = Filter::proxy(proxy.access.clone());
            let relay = Relay::new(filter, End::socket(socket));
            let id = self.add(Joint::new(number, Phase::Relayed(Box::new(relay)), None));
            return self.move_relay(cx, id);
        }
        let id = self.add(Joint::new(number, Phase::Early(Wire::new(socket)), None));
        self.ask_peer(cx, id);
    }
}
