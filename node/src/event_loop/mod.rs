//! The loop: one thread that drives the rooms with sockets, a clock, commands and the disk.
//!
//! A turn, in this order: due timeouts → received batches (bounded) → commands (bounded) → outcomes of the disk → clients →
//! streams and output, until nothing changes → new deadline. Nothing in a turn may end the loop: one bad peer, socket or
//! client costs only itself.

mod dispatch;
pub(crate) mod handover;
mod rooms;
mod start;
mod turns;

use crate::call::After;
use crate::calls::trust;
use crate::clock::wall_us;
use crate::command::Command;
use crate::context::Reason;
use crate::disk::home::Home;
use crate::failure::Failure;
use crate::log::room::LogRoom;
use crate::platform::StepWatch;
use crate::programs::Readiness;
use crate::token::Room;
use crate::underlay::addresses::Addresses;
use crate::underlay::sides::Sides;
use crate::underlay::tls::TlsLink;
use crate::underlay::udp::Udp;
use crossbeam_channel::Receiver;
use handover::Turn;
use mio::{Events, Poll};
use pilot_core::Instant;
use pilot_core::path::Source;
use pilot_stack::StreamId;
use rooms::Rooms;
pub(crate) use start::start;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Receive calls per turn.
const RECEIVES_PER_TURN: usize = 8;
/// Commands per turn.
const COMMANDS_PER_TURN: usize = 256;
/// Rounds of streams and output per turn: what serving causes to change is for the next round.
const ROUNDS_PER_TURN: usize = 64;
/// Longest time in which the rounds of a turn begin; then datagrams and clients have their turn. Source: own choice, a tenth of what
/// an acknowledgement may take.
const ROUNDS_TIME_MAX: Duration = Duration::from_millis(10);
/// Pause while the kernel has no room for datagrams.
const BLOCKED_PAUSE: Duration = Duration::from_millis(1);

/// The loop's state.
pub(crate) struct EventLoop {
    rooms: Rooms,
    poll: Poll,
    udp: Udp,
    udp_readable: bool,
    sides: Sides,
    addresses: Addresses,
    tls: TlsLink,
    /// `None` where the system does not tell of steps: then each turn reads the clock all the same.
    steps: Option<StepWatch>,
    /// The moment at which the loop's clock is zero.
    zero: std::time::Instant,
    commands: Receiver<Command>,
    /// Nothing has happened since the last turn, which wanted to sleep until the time in it (`None` in it: for ever).
    settled: Option<Option<Instant>>,
    /// The last turn left work to the next.
    is_behind: bool,
    /// Locked as long as the loop lives.
    _home: Home,
    /// Room for the events of one poll.
    polled: Events,
    /// Room for one batch to be sent.
    batch: Vec<u8>,
}

impl Turn for EventLoop {
    fn turn(&mut self) -> Option<Duration> {
        self.read_clock();
        if let Some(left) = self.is_settled() {
            return left;
        }
        let cx = &mut self.rooms.cx;
        cx.stack.endpoint_mut().set_wall(cx.now, wall_us());
        // What has ended lets nothing in that has just arrived.
        self.rooms.expiry.handle_timeout(cx);
        self.guarded(|l| l.rooms.cx.stack.handle_timeout(l.rooms.cx.now));
        self.receive();
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(command) => dispatch::command(&mut self.rooms, command),
                Err(_) => break,
            }
        }
        self.rooms.handle_disk();
        self.serve_clients();
        if self.addresses.handle_timeout(&mut self.rooms.cx, &mut self.udp) {
            self.rooms.mapping.look(self.rooms.cx.now, self.udp.local_addr());
            self.rooms.lan.look(self.rooms.cx.now, self.udp.local_addr());
        }
        self.rooms.handle_timeout();
        self.tls.handle_timeout(&mut self.rooms.cx, &self.rooms.rendezvous, &mut self.udp);
        self.drain();
        self.serve_clients();
        self.rooms.captures.handle_tap(&mut self.rooms.cx);
        self.rooms.log.handle_traces(&mut self.rooms.cx);
        let next = self.deadline();
        self.settled = (next != Some(Duration::ZERO)).then(|| next.map(|left| self.rooms.cx.now + left));
        next
    }

    fn sleep(&mut self, timeout: Option<Duration>) -> bool {
        let result = self.poll.poll(&mut self.polled, timeout);
        let interrupted = result.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::Interrupted);
        if result.is_ok() {
            self.note_readiness();
        }
        result.is_ok() || interrupted
    }

    fn is_stopping(&self) -> bool {
        self.rooms.is_over()
    }

    /// Says goodbye to peers, clients and applications, and waits for the disk.
    fn end(mut self) {
        LogRoom::note_leave(&mut self.rooms.cx);
        self.rooms.log.note_stop(&mut self.rooms.cx);
        self.rooms.cx.stack.endpoint_mut().close_all();
        self.transmit();
        self.rooms.cx.stack.endpoint_mut().note_places();
        trust::save(&mut self.rooms.cx, After::Nothing);
        trust::save_times(&mut self.rooms.cx);
        self.rooms.carry_out();
        self.rooms.mapping.end();
        self.rooms.worker.stop();
        self.rooms.ipc.end();
        // Threads that wait for a stream learn it as the streams are dropped.
        self.rooms.streams.end(&Failure::stopped());
    }
}

impl EventLoop {
    /// A stream's queues have changed.
    pub(crate) fn look(&mut self, id: StreamId) {
        self.settled = None;
        self.rooms.ready.push(id);
    }

    /// How long the loop may still sleep, when there is nothing to do before: a thread that takes the loop over right after
    /// a turn need not make another one.
    fn is_settled(&mut self) -> Option<Option<Duration>> {
        let is_quiet = self.commands.is_empty() && self.rooms.cx.out.is_empty() && !self.rooms.has_more();
        let deadline = self.settled.filter(|_| is_quiet)?;
        match deadline {
            Some(at) if at <= self.rooms.cx.now => None,
            Some(at) => Some(Some(at.since(self.rooms.cx.now))),
            None => Some(None),
        }
    }

    fn read_clock(&mut self) {
        self.rooms.cx.now = self.moment();
    }

    fn moment(&self) -> Instant {
        Instant::from_micros(self.zero.elapsed().as_micros() as u64)
    }

    /// Gives what poll has reported to the rooms that own it.
    fn note_readiness(&mut self) {
        let rooms = &mut self.rooms;
        if !self.polled.is_empty() {
            self.settled = None;
        }
        for event in &self.polled {
            let (token, readable, writable) = (event.token(), event.is_readable(), event.is_writable());
            match Room::of(token) {
                Some(Room::Underlay) => self.udp_readable = true,
                Some(Room::Sides) => self.sides.readiness(),
                Some(Room::Addresses) => self.addresses.readiness(),
                Some(Room::Mapping) => rooms.mapping.readiness(rooms.cx.now, token),
                Some(Room::Lan) => rooms.lan.readiness(&mut rooms.cx, token),
                Some(Room::Clock) => self.steps.iter().for_each(StepWatch::drain),
                Some(Room::Ipc) => rooms.ipc.readiness(token, readable, writable),
                Some(Room::Streams) => {
                    let ready = (readable, writable, event.is_read_closed());
                    rooms.streams.readiness(&mut rooms.cx, token, ready);
                }
                Some(Room::Datagrams) => rooms.datagrams.readiness(token),
                Some(Room::Programs) => {
                    let (is_ended, is_broken) = (event.is_read_closed(), event.is_error());
                    let news = Readiness { readable, writable, is_ended, is_broken };
                    rooms.programs.readiness(&mut rooms.cx, token, news);
                }
                #[cfg(feature = "tls")]
                Some(Room::Tls) => self.tls.readiness(token, readable),
                Some(Room::Waker) | None => {}
            }
        }
        // A full list may be a part of what there was.
        if self.polled.iter().count() < self.polled.capacity() && rooms.streams.note_polled() {
            rooms.ipc.mark();
        }
        rooms.carry_out();
    }

    /// Runs code that drives smoltcp, which may panic on a peer's arithmetic (`docs/link.md`, "Hazards met while
    /// prototyping"): that peer's streams are lost, the loop is not. The stack takes the peer out of its slot first, so nothing
    /// half-changed is used again.
    fn guarded<R: Default>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        catch_unwind(AssertUnwindSafe(|| f(self))).unwrap_or_else(|_| {
            let lost = self.rooms.cx.stack.recover();
            self.rooms.log.note_broken(&mut self.rooms.cx, &lost);
            R::default()
        })
    }

    fn receive(&mut self) {
        self.receive_udp();
        self.guarded(|l| {
            let cx = &mut l.rooms.cx;
            l.sides.receive(&mut l.udp, |from, source, batch, len| {
                cx.stack.handle_batch_at(cx.now, (from, source), batch, len);
            });
        });
        self.guarded(|l| l.tls.receive(&mut l.rooms.cx));
    }

    fn receive_udp(&mut self) {
        for _ in 0..RECEIVES_PER_TURN {
            if !self.udp_readable {
                return;
            }
            // After a panic the rest of the batch is a lossy network's loss, and more may wait (edge-triggered).
            let is_drained = self.guarded(|l| {
                let (cx, udp, tls) = (&mut l.rooms.cx, &mut l.udp, &mut l.tls);
                !udp.recv_batch(|from, batch, segment_len| {
                    if !tls.hears(cx, from, segment_len, batch) {
                        cx.stack.handle_batch(cx.now, from, batch, segment_len);
                    }
                })
            });
            self.udp_readable = !is_drained;
        }
    }

    /// Takes what clients ask, and cleans up behind those that left.
    fn serve_clients(&mut self) {
        if self.rooms.ipc.has_news() {
            for frame in self.rooms.ipc.receive(self.rooms.cx.now) {
                dispatch::frame(&mut self.rooms, frame);
            }
            self.rooms.handle_clients();
        }
        if self.rooms.streams.has_unexplained() && self.rooms.ipc.has_heard() {
            self.rooms.streams.settle_ends(&mut self.rooms.cx);
            self.rooms.carry_out();
        }
    }

    /// Serves streams, sends and handles events until nothing is left to do.
    fn drain(&mut self) {
        self.is_behind = false;
        for round in 0..ROUNDS_PER_TURN {
            // The second round mostly finds nothing to do, which costs less than a look at the clock.
            if round > 1 && self.moment().since(self.rooms.cx.now) >= ROUNDS_TIME_MAX {
                break;
            }
            while let Some(event) = self.rooms.cx.stack.poll_event() {
                self.rooms.handle_event(event);
            }
            let has_served = self.rooms.serve_ready();
            let has_sent = self.guarded(Self::transmit);
            if !has_served && !has_sent {
                return;
            }
        }
        self.is_behind = true;
    }

    /// Sends what may leave; true when there was something.
    fn transmit(&mut self) -> bool {
        let mut has_sent = false;
        let cx = &mut self.rooms.cx;
        while !self.udp.is_blocked()
            && !self.sides.is_blocked()
            && let Some(transmit) = cx.stack.poll_transmit(cx.now, &mut self.batch)
        {
            if transmit.source != Source::MAIN {
                self.sides.send(&self.udp, &transmit, &self.batch);
            } else if !self.tls.takes(cx.now, transmit.to, transmit.segment_len, &self.batch) {
                self.udp.send_batch(transmit.to, transmit.segment_len, &self.batch);
            }
            has_sent = true;
        }
        while let Some(source) = cx.stack.endpoint_mut().poll_closed_source() {
            self.sides.close(source);
        }
        self.tls.flush();
        has_sent
    }

    /// How long the loop may sleep; `None`: until something happens.
    fn deadline(&mut self) -> Option<Duration> {
        if self.is_behind
            || self.udp_readable
            || self.sides.is_readable()
            || !self.commands.is_empty()
            || self.rooms.has_more()
            || self.tls.has_more()
        {
            return Some(Duration::ZERO);
        }
        if self.udp.is_blocked() || self.sides.is_blocked() {
            return Some(BLOCKED_PAUSE);
        }
        let addresses = self.addresses.poll_timeout().map(|at| (at, Reason::Addresses));
        let tls = self.tls.poll_timeout().map(|at| (at, Reason::Tls));
        let next = self.rooms.poll_timeout().into_iter().chain(addresses).chain(tls).min_by_key(|(at, _)| *at);
        next.map(|(at, _)| at.since(self.rooms.cx.now))
    }
}

#[cfg(test)]
mod tests;
