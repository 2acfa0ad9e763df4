//! The rooms of a node and the ways between them: events of the stack and outcomes of the disk go to the room that owns
//! them, and the effects of the rooms are carried out.

use crate::call::{Call, disk_failure};
use crate::calls::report::{self, Facts, Uses};
use crate::calls::trust::Expiry;
use crate::calls::{connect, lookup, meet, pairing, profile, trust, watch};
use crate::capture::Captures;
use crate::context::{Context, Reason};
use crate::disk::files::{FileDone, FileJob};
use crate::disk::job::{Done, Job, Meta};
use crate::disk::worker::Worker;
use crate::effect::{Caller, Effect, Opener, Ticket};
use crate::event_loop::turns::Turns;
use crate::failure::Failure;
use crate::ipc::client_id::ClientId;
use crate::ipc::server::Ipc;
use crate::ipc::{official, official_frame};
use crate::lan::Lan;
use crate::log::room::LogRoom;
use crate::mail::inbox;
use crate::mail::post::PostOffice;
use crate::mapping::Mapping;
use crate::node_event::Event;
use crate::programs::Programs;
use crate::services::Services;
use crate::services::event::{Published, matches};
use crate::services::io::Receipt;
use crate::streams::datagrams::Datagrams;
use crate::streams::names::{ends, hostname_of};
use crate::streams::table::{Streams, Turn};
use crate::underlay::relays::RelayPlaces;
use crate::underlay::rendezvous::RendezvousPlace;
use litemap::LiteMap;
use pilot_core::Instant;
use pilot_core::endpoint::{DirectoryState, Event as EndpointEvent};
use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_core::trust::Outcome;
use pilot_stack::{Event as StackEvent, StreamId};
use std::os::fd::OwnedFd;

/// Every room, and what they share.
pub(crate) struct Rooms {
    pub(crate) cx: Context,
    pub(crate) streams: Streams,
    pub(crate) datagrams: Datagrams,
    pub(crate) services: Services,
    pub(crate) post: PostOffice,
    pub(crate) programs: Programs,
    pub(crate) ipc: Ipc,
    pub(crate) expiry: Expiry,
    pub(crate) rendezvous: RendezvousPlace,
    pub(crate) relays: RelayPlaces,
    pub(crate) mapping: Mapping,
    pub(crate) lan: Lan,
    pub(crate) captures: Captures,
    pub(crate) worker: Worker,
    pub(crate) facts: Facts,
    pub(crate) log: LogRoom,
    /// Streams that may have something to move; unordered, perhaps more than once.
    pub(crate) ready: Vec<StreamId>,
    pub(crate) turns: Turns,
    /// Calls with a job that the disk did not take.
    pub(crate) refused: Vec<Ticket>,
    pub(crate) is_stopping: bool,
    /// A node for one run is stopping, and leaves its groups and the rendezvous by then.
    pub(crate) leave_by: Option<Instant>,
    /// The descriptor beside the request that is being run.
    pub(crate) beside: Option<OwnedFd>,
    /// Room for the effects that are being carried out.
    pub(crate) effects: Vec<Effect>,
}

/// How long a node for one run that ends waits for a tunnel with a member of each of its groups, which it may have joined just now.
/// Source: own choice, some key handshakes over the relay.
const LEAVE_WAIT: Duration = Duration::from_secs(1);
/// How long a caller that asks about peers waits for the disk. Source: own choice; a disk that hangs hides nothing else.
const MEASURE_WAIT: Duration = Duration::from_secs(1);

impl Rooms {
    // Inputs.

    pub(crate) fn handle_event(&mut self, event: StackEvent) {
        match event {
            StackEvent::Incoming { port, stream } => self.streams.incoming(&mut self.cx, port, stream),
            StackEvent::Stream(id) => self.ready.push(id),
            StackEvent::Datagram { from, source_port, port, payload } => {
                let pin = self.cx.stack.endpoint().trust().pin(&from);
                let from = pin.map(|p| p.addr).unwrap_or_default();
                self.datagrams.deliver(&mut self.cx, from, source_port, port, &payload);
                self.ipc.push_datagram(from, source_port, port, &payload);
            }
            StackEvent::Endpoint(event) => self.endpoint_event(event),
            _ => {}
        }
        self.carry_out();
    }

    fn endpoint_event(&mut self, event: EndpointEvent) {
        let cx = &mut self.cx;
        match event {
            EndpointEvent::Trust(outcome) => {
                trust::changed(cx, &outcome);
                pairing::settled(cx, &outcome);
                meet::settled(cx, &outcome);
                if let Outcome::Granted(key) | Outcome::Renamed(key, _) = &outcome {
                    self.post.regranted(cx, key);
                }
            }
            EndpointEvent::SaveTrust(version) => trust::save_wanted(cx, version),
            EndpointEvent::SaveTimes(ceiling_us) => trust::save_ceiling(cx, ceiling_us),
            EndpointEvent::Directory(state) => {
                if let DirectoryState::Ready(addr) = state {
                    cx.submit(Job::Put(Meta::Addr, addr.to_bytes().to_vec()), Call::Forgotten);
                }
                self.rendezvous.directory_changed(cx.now, state);
                profile::settled(cx, state);
                pairing::directory_changed(cx);
            }
            EndpointEvent::Warning(warning) => watch::tell_warning(cx, warning),
            EndpointEvent::Answer(number, answer) => lookup::answered(cx, number, answer),
            EndpointEvent::Up(peer) => {
                if let Some(key) = cx.stack.endpoint().identity_of(peer) {
                    self.post.encourage(&key);
                }
                trust::place_changed(cx);
                watch::tell_peer(cx, peer, Event::PeerUp, None);
            }
            EndpointEvent::Reset(peer, reason) => {
                self.lan.hurry(cx.now);
                watch::tell_peer(cx, peer, Event::PeerDown, Some(reason));
            }
            EndpointEvent::PathChanged(peer, change) => {
                trust::place_changed(cx);
                watch::tell_path(cx, peer, change);
            }
            _ => {}
        }
    }

    /// Takes the outcomes of the disk.
    pub(crate) fn handle_disk(&mut self) {
        while let Some((ticket, done)) = self.worker.poll() {
            self.done(ticket, done);
        }
        for ticket in std::mem::take(&mut self.refused) {
            self.done(ticket, Done::Full("the disk is too far behind"));
        }
    }

    /// The call goes on with the outcome of its work on the disk.
    fn done(&mut self, ticket: Ticket, done: Done) {
        self.log.note_disk(&mut self.cx, &done);
        let Some(call) = self.cx.calls.take(ticket) else { return };
        let (cx, failure) = (&mut self.cx, disk_failure(&done));
        match (call, failure) {
            (Call::Saved { caller, answer }, None) => cx.reply(caller, answer),
            (Call::Read(caller), None) => inbox::answer(cx, caller, done),
            (Call::Peers(caller), _) => {
                let disk = if let Done::File(FileDone::Measured(sizes)) = &done { Some(sizes) } else { None };
                Self::tell_peers(cx, &self.services, caller, disk);
            }
            (Call::Saved { caller, .. } | Call::Read(caller), Some(failure)) => cx.fail(caller, failure),
            (Call::Queue(queue), Some(failure)) => cx.fail(queue.caller, failure),
            (Call::Queue(queue), None) => {
                if let Done::Queued(seq) = done {
                    self.post.queued(cx, seq, queue);
                }
            }
            (Call::AskedFor(call), Some(failure)) => cx.fail(call.caller, failure),
            (Call::AskedFor(call), None) => {
                if let Done::Asked(found) = done {
                    self.post.found_asked(cx, call, found);
                }
            }
            (Call::ListAsked(caller), Some(failure)) => cx.fail(caller, failure),
            (Call::ListAsked(caller), None) => {
                if let Done::ListAsked(rows, total) = done {
                    self.post.listed_asked(cx, caller, (rows, total));
                }
            }
            (Call::Reply(caller, len, number), failure) => {
                self.post.replied(cx, (caller, len, number), failure.map_or(Ok(done), Err));
            }
            (Call::TrustSaved { version, after }, failure) => trust::saved(cx, version, after, failure),
            (Call::TimesSaved, failure) => trust::ceiling_saved(cx, failure.as_ref()),
            (Call::File { stream, sender, file, len }, failure) => {
                let done = match (failure, done) {
                    (Some(failure), _) => FileDone::Failed(failure.message),
                    (None, Done::File(done)) => done,
                    (None, _) => return,
                };
                self.services.file_done(cx, (stream, sender), (file, len), done);
            }
            (Call::Delivery(delivery), failure) => {
                let (outcome, exchange) = match (failure, done) {
                    (Some(failure), _) => (Err(failure.message), None),
                    (None, Done::Delivered { fresh, seq }) => (Ok(Receipt { fresh, seq, answers: false }), None),
                    (None, Done::Answered(exchange)) => {
                        let seq = exchange.1.answer.unwrap_or_default();
                        (Ok(Receipt { fresh: true, seq, answers: true }), Some(exchange))
                    }
                    (None, _) => return,
                };
                if delivery.tag.is_question() {
                    self.post.count(cx);
                }
                self.services.delivered(cx, delivery, outcome);
                if let Some(exchange) = exchange {
                    self.post.answered(cx, *exchange);
                }
            }
            // The others wait for something else than the disk.
            _ => {}
        }
        self.carry_out();
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self) {
        let cx = &mut self.cx;
        while let Some(call) = cx.calls.expired(cx.now) {
            match call {
                Call::Connect(call) => connect::expired(cx, call),
                Call::AwaitTrust(call) => trust::expired(cx, call),
                Call::AwaitJoin(call) => pairing::expired(cx, call),
                Call::Meet(call) => meet::expired(cx, call),
                Call::Post(post) => self.post.expired(cx, post),
                Call::AwaitAnswer(wait) => self.post.answer_is_late(cx, wait),
                Call::Peers(caller) => Self::tell_peers(cx, &self.services, caller, None),
                other => debug_assert!(false, "no deadline ends {other:?}"),
            }
        }
        if self.post.poll_timeout().is_some_and(|at| at <= cx.now) {
            self.post.handle_timeout(cx);
        }
        self.rendezvous.handle_timeout(cx);
        self.relays.handle_timeout(cx);
        self.mapping.handle_timeout(cx);
        self.lan.handle_timeout(cx);
        self.expiry.handle_timeout(cx);
        if self.datagrams.has_more() {
            self.datagrams.serve(cx);
        }
        self.programs.handle_timeout(cx);
        self.ipc.handle_timeout(cx.now);
        self.log.handle_timeout(cx);
        self.leave();
        self.carry_out();
    }

    /// The earliest deadline of any room, and its reason.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, Reason)> {
        [
            (self.cx.stack.poll_timeout().map(|(at, _)| at), Reason::Stack),
            (self.cx.calls.poll_timeout(), Reason::Call),
            (self.post.poll_timeout(), Reason::Mail),
            (self.rendezvous.poll_timeout(), Reason::RendezvousFile),
            (self.relays.poll_timeout(), Reason::RendezvousFile),
            (self.mapping.poll_timeout(), Reason::Mapping),
            (self.lan.poll_timeout(), Reason::Lan),
            (self.expiry.poll_timeout(&self.cx), Reason::Expiry),
            (self.log.poll_timeout(), Reason::Log),
            (self.programs.poll_timeout(), Reason::Programs),
            (self.ipc.poll_timeout(), Reason::Clients),
            (self.leave_by, Reason::Call),
        ]
        .into_iter()
        .filter_map(|(at, reason)| Some((at?, reason)))
        .min_by_key(|(at, _)| *at)
    }

    /// Tells a caller about the peers, once the disk has said what their files take, or after [`MEASURE_WAIT`].
    pub(crate) fn ask_for_peers(&mut self, caller: Caller) {
        let ticket = self.cx.calls.open_until(Call::Peers(caller), self.cx.now + MEASURE_WAIT);
        self.cx.out.push(Effect::Submit(Job::File(FileJob::Measure), ticket));
    }

    fn tell_peers(cx: &mut Context, services: &Services, caller: Caller, disk: Option<&LiteMap<String, u64>>) {
        let messages = |peer: &IdentityKey| services.messages_today((cx.wall)(), peer);
        let peers = report::peers(cx, &Uses { disk, messages: &messages });
        cx.reply(caller, peers);
    }

    /// Ends the node. One that is for this run alone first gives back what the rendezvous keeps of it.
    pub(crate) fn stop(&mut self) {
        if !std::mem::replace(&mut self.is_stopping, true) && self.cx.config.ephemeral {
            self.leave_by = Some(self.cx.now + LEAVE_WAIT);
            self.leave();
        }
    }

    /// Leaves as soon as a member of each group hears it, or when the time for that is over.
    fn leave(&mut self) {
        let (now, endpoint) = (self.cx.now, self.cx.stack.endpoint_mut());
        if self.leave_by.take_if(|by| *by <= now || endpoint.is_heard_in_groups(now)).is_some() {
            endpoint.leave(now);
        }
    }

    /// True when the node ends and the rendezvous, if it was asked, has answered.
    pub(crate) fn is_over(&self) -> bool {
        self.is_stopping && self.leave_by.is_none() && !self.cx.stack.endpoint().is_leaving()
    }

    /// True while there is work that no deadline or readiness announces.
    pub(crate) fn has_more(&self) -> bool {
        !self.ready.is_empty()
            || self.datagrams.has_more()
            || self.programs.has_more()
            || !self.refused.is_empty()
            || self.ipc.has_more()
            || self.streams.has_unexplained()
            || self.is_over()
    }

    // Streams.

    /// Moves the bytes of every stream that may have some; true when there was any.
    pub(crate) fn serve_ready(&mut self) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let (mut ready, mut turns) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.turns));
        turns.order(&mut ready, |id| self.cx.stack.peer_of(id));
        turns.serve(&mut ready, |id| self.serve(id));
        ready.append(&mut self.ready);
        (self.ready, self.turns) = (ready, turns);
        true
    }

    fn serve(&mut self, id: StreamId) {
        if let Some(ticket) = self.cx.calls.opening(id) {
            connect::progressed(&mut self.cx, ticket, id);
        } else {
            match self.streams.serve(&mut self.cx, id) {
                None => {}
                Some(Turn::Service) => self.services.serve(&mut self.cx, id),
                Some(Turn::Mail(key)) => self.post.serve(&mut self.cx, id, &key),
                Some(Turn::Program(joint)) => self.programs.serve(&mut self.cx, joint, id),
                Some(Turn::Framed { client, connection }) => {
                    let is_broken = self.ipc.serve_framed(&mut self.cx, id, client, connection);
                    if is_broken {
                        self.streams.close(&mut self.cx, id);
                    }
                }
            }
        }
        self.carry_out();
    }

    // Effects.

    /// Carries out the effects of the rooms, and those that follow from them.
    pub(crate) fn carry_out(&mut self) {
        while !self.cx.out.is_empty() {
            let mut effects = std::mem::take(&mut self.effects);
            std::mem::swap(&mut effects, &mut self.cx.out);
            for effect in effects.drain(..) {
                self.effect(effect);
            }
            self.effects = effects;
        }
    }

    fn effect(&mut self, effect: Effect) {
        let cx = &mut self.cx;
        match effect {
            Effect::Ready(id) => self.ready.push(id),
            Effect::Reply(Caller::Thread(sender), answer) => drop(sender.send(answer)), // the thread may have gone
            Effect::Reply(Caller::Client(client, request), answer) => self.ipc.reply(client, request, answer),
            Effect::Reply(Caller::Official(client, command), answer) => {
                self.ipc.send(client, official::answer(command, answer.map(|(answer, _)| official::json(&answer))));
            }
            Effect::Reply(Caller::Node, _) => {}
            Effect::Submit(job, ticket) => {
                // The call fails in this turn or the next, never inside the room that made it.
                if !self.worker.submit(ticket, job) {
                    self.refused.push(ticket);
                }
            }
            Effect::Connect(target, port, early, opener) => connect::connect(cx, &target, port, early, opener),
            Effect::Send(letter, caller) => self.post.send(cx, letter, caller),
            Effect::Opened(id, opener) => self.streams.opened(cx, id, opener),
            Effect::NotOpened(opener, failure) => self.not_opened(opener, failure),
            Effect::Close(id) => self.streams.close(cx, id),
            Effect::GiveUp(id) => self.streams.give_up(cx, id),
            Effect::Abort(id) => self.streams.abort(cx, id),
            Effect::Serve(id, port) => self.services.begin(cx, id, port),
            Effect::Expose(id, port) => {
                if let Some(joint) = self.programs.incoming(cx, id, port) {
                    self.streams.hold(id, joint);
                }
            }
            Effect::Tell(event) => drop(self.ipc.push_event(&event, &[], |_| true)),
            Effect::Publish(from, event) => drop(self.publish(from, &event)),
            Effect::ReplyDescriptor(client, request, data, fd) => {
                self.ipc.reply_descriptor(client, request, &data, fd);
            }
            Effect::Frame(client, frame) => self.ipc.send(client, frame),
            Effect::Trace(record) => self.log.write(cx.now, record),
        }
    }

    fn not_opened(&mut self, opener: Opener, failure: Failure) {
        match opener {
            Opener::Thread(sender) => drop(sender.send(Err(failure))), // the thread may have gone
            Opener::Client(client, request) => self.ipc.reply(client, request, Err(failure)),
            Opener::Framed(client) => self.ipc.send(client, official_frame::error(&failure.message)),
            Opener::Mail(key) => self.post.failed(&mut self.cx, &key, &failure),
            Opener::Program(joint) => self.programs.not_opened(&mut self.cx, joint, &failure),
        }
    }

    /// Gives an event to every subscriber but the stream that it came from, and to clients that asked for its topic; gives
    /// their number.
    pub(crate) fn publish(&mut self, from: Option<StreamId>, event: &Published) -> usize {
        let count = self.services.publish(&mut self.cx, from, event);
        if !self.ipc.is_watched() {
            return count;
        }
        let addr = from.map(|id| ends(&self.cx.stack, id).1.addr);
        let told = Event::Published {
            topic: event.topic.clone(),
            address: addr.map(|addr| addr.to_string()),
            hostname: addr.map(|addr| hostname_of(&self.cx.stack, addr)),
            payload: Vec::new(), // travels beside
        };
        let wants = |topics: Option<&str>| topics.is_some_and(|pattern| matches(pattern, &event.topic));
        count + self.ipc.push_event(&told, &event.payload, wants)
    }

    // Clients.

    /// Ends what belonged to clients that are gone, and goes on with those that read again.
    pub(crate) fn handle_clients(&mut self) {
        for client in self.ipc.take_drained() {
            self.ready.extend(self.streams.framed_of(client));
        }
        for client in self.ipc.take_closed() {
            self.client_gone(client);
        }
        for reason in self.ipc.take_refused() {
            self.log.note_client(&mut self.cx, reason);
        }
        self.cx.is_watched = self.ipc.is_watched();
        self.carry_out();
    }

    fn client_gone(&mut self, client: ClientId) {
        let cx = &mut self.cx;
        connect::cancel(cx, client, None);
        let is_its = |call: &Call| match call {
            Call::AwaitTrust(wait) => wait.caller.is(client),
            Call::AwaitJoin(join) => join.caller.is(client),
            _ => false,
        };
        for ticket in cx.calls.tickets(is_its) {
            cx.calls.take(ticket);
        }
        self.post.client_gone(cx, client);
        self.captures.client_gone(cx, client);
        self.streams.client_gone(cx, client);
        for port in self.programs.client_gone(client) {
            self.streams.unlisten(&mut self.cx, port);
        }
    }
}

#[cfg(test)]
mod tests;
