//! The room of services, which the node itself provides to its peers: echo on 7, text on 1000, mail on 1001, events on 1002.
//!
//! A service is a struct with `take` (bytes have arrived) and, where it needs them, `has_room`, `end` and others; it puts its
//! output into its [`Io`]. A new service is a file here, a variant of [`Service`], and its port in [`PORTS`].

mod daily;
mod echo;
pub(crate) mod event;
mod events;
pub(crate) mod io;
mod lanes;
mod stdio;

use crate::call::{Call, Delivery};
use crate::calls::watch;
use crate::context::Context;
use crate::crypto::entropy;
use crate::disk::files::{FileDone, FileJob};
use crate::disk::job::Job;
use crate::effect::Effect;
use crate::log::notes::name_of_key;
use crate::log::record::{Cause, Record, Source};
use crate::mail::frame::id_text;
use crate::mail::message::{Kind, Message, Tag};
use crate::mail::post::MAIL_PORT;
use crate::mail::receive::Receive;
use crate::node_event::Event;
use crate::streams::names::ends;
use daily::Daily;
use echo::Echo;
use event::Published;
use events::Events;
use io::{Io, Receipt};
use lanes::Lanes;
use litemap::LiteMap;
use pilot_core::Level;
use pilot_core::identity::IdentityKey;
use pilot_stack::{Recv, StreamId};
use stdio::Stdio;

/// Echo (RFC 862).
pub const ECHO: u16 = 7;
/// Text streams; a stream that arrives while no program listens becomes a message.
pub const STDIO: u16 = 1000;
/// Messages and files.
pub const DATA_EXCHANGE: u16 = MAIL_PORT;
/// Events.
pub const EVENT_STREAM: u16 = 1002;
/// Every port that is served.
pub(crate) const PORTS: [u16; 4] = [ECHO, STDIO, DATA_EXCHANGE, EVENT_STREAM];

/// Most bytes that one stream gives to its service in a round of the loop; the rest waits for the streams of others. Unit: bytes.
/// Source: own choice; a millisecond of work.
const SLICE_LEN_MAX: usize = 128 * 1024;
/// Most bytes that a service takes at once. Unit: bytes.
const TAKE_LEN_MAX: usize = 64 * 1024;
/// Most streams of one peer to the event stream; one more is reset. Source: own choice; each event of a peer is offered to all of
/// its own.
const SUBSCRIBERS_OF_PEER_MAX: usize = 128;
/// The refusal that a peer gets when its bytes find no memory.
const NO_MEMORY: &str = "the memory that this peer may use here is full; try later";

enum Service {
    Echo(Echo),
    Stdio(Stdio),
    Mail(Receive),
    Events(Events),
}

impl Service {
    fn for_port(port: u16, stream: StreamId) -> Option<Self> {
        Some(match port {
            ECHO => Self::Echo(Echo),
            STDIO => Self::Stdio(Stdio::default()),
            DATA_EXCHANGE => Self::Mail(Receive::new(stream)),
            EVENT_STREAM => Self::Events(Events::default()),
            _ => return None,
        })
    }

    fn has_room(&self, io: &Io) -> bool {
        io.has_room()
            && match self {
                Self::Echo(echo) => echo.has_room(io),
                Self::Mail(mail) => mail.has_room(),
                Self::Stdio(_) | Self::Events(_) => true,
            }
    }

    fn take(&mut self, io: &mut Io, bytes: &[u8], sender: IdentityKey) {
        match self {
            Self::Echo(echo) => echo.take(io, bytes),
            Self::Stdio(stdio) => stdio.take(io, bytes),
            Self::Mail(mail) => mail.take(io, bytes, sender),
            Self::Events(events) => events.take(io, bytes),
        }
    }

    /// Bytes that the service keeps for its stream.
    fn held(&self, io: &Io) -> usize {
        let own = match self {
            Self::Echo(_) => 0,
            Self::Stdio(stdio) => stdio.held(),
            Self::Mail(mail) => mail.held(),
            Self::Events(events) => events.held(),
        };
        own + io.held()
    }

    /// True for a service that gives jobs to the disk.
    const fn writes(&self) -> bool {
        matches!(self, Self::Stdio(_) | Self::Mail(_))
    }

    /// There is no memory for more: the stream ends after this is said, if there are words for it.
    fn refuse(&mut self, io: &mut Io) {
        match self {
            Self::Stdio(stdio) => stdio.refuse(io, NO_MEMORY),
            Self::Mail(mail) => mail.refuse(io, NO_MEMORY),
            Self::Echo(_) | Self::Events(_) => io.is_broken = true,
        }
        io.has_ended = true;
    }

    fn end(&mut self, io: &mut Io) {
        match self {
            Self::Stdio(stdio) => stdio.end(io),
            Self::Mail(mail) => mail.end(io),
            Self::Echo(_) | Self::Events(_) => {}
        }
    }

    fn written(&self, (kind, tag): (Kind, Tag), len: usize, outcome: Result<Receipt, String>) -> Vec<u8> {
        match self {
            Self::Stdio(stdio) => stdio.written(kind, len, outcome),
            Self::Mail(mail) => mail.written((kind, tag), len, outcome),
            Self::Echo(_) | Self::Events(_) => Vec::new(), // they deliver no messages
        }
    }
}

struct Session {
    service: Service,
    io: Io,
    sender: IdentityKey,
    /// Bytes of messages that the disk has not written.
    delivering: usize,
    /// The stream waits in its peer's lane, for its turn or for memory.
    is_waiting: bool,
    is_starving: bool,
}

impl Session {
    fn held(&self) -> usize {
        self.service.held(&self.io) + self.delivering
    }
}

/// The streams that services hold.
#[derive(Default)]
pub(crate) struct Services {
    sessions: LiteMap<StreamId, Box<Session>>,
    /// Streams that subscribe to the event stream.
    subscribers: LiteMap<StreamId, ()>,
    lanes: Lanes,
    daily: Daily,
}

impl Services {
    /// A peer has opened a stream to a service's port.
    pub(crate) fn begin(&mut self, cx: &mut Context, stream: StreamId, port: u16) {
        let info = cx.stack.stream_info(stream);
        let sender = info.and_then(|i| cx.stack.endpoint().identity_of(i.peer));
        match (Service::for_port(port, stream), sender) {
            (Some(Service::Events(_)), Some(sender)) if self.has_all_subscribers(&sender) => {
                cx.out.push(Effect::GiveUp(stream));
            }
            (Some(service), Some(sender)) => {
                if matches!(service, Service::Events(_)) {
                    self.subscribers.insert(stream, ());
                }
                let session = Session {
                    service,
                    io: Io::default(),
                    sender,
                    delivering: 0,
                    is_waiting: false,
                    is_starving: false,
                };
                self.sessions.insert(stream, Box::new(session));
            }
            _ => cx.out.push(Effect::GiveUp(stream)),
        }
    }

    /// Messages of a peer today that count against its quota; none are counted without one. Unit of `now_s`: seconds since 1970.
    pub(crate) fn messages_today(&self, now_s: u64, peer: &IdentityKey) -> u32 {
        self.daily.count(peer, now_s)
    }

    fn has_all_subscribers(&self, peer: &IdentityKey) -> bool {
        let of_peer = self.subscribers.keys().filter(|id| self.sessions.get(id).is_some_and(|s| s.sender == *peer));
        of_peer.count() >= SUBSCRIBERS_OF_PEER_MAX
    }

    /// Reads the bytes that have arrived, at most [`SLICE_LEN_MAX`], and sends the answers that are known.
    pub(crate) fn serve(&mut self, cx: &mut Context, stream: StreamId) {
        let Some(session) = self.sessions.get_mut(&stream) else { return };
        session.io.flush(&mut cx.stack, stream);
        session.io.load = if session.service.writes() { self.lanes.load(&session.sender) } else { 0 };
        let waits_for_disk = self.lanes.has_bytes(&session.sender);
        let stop = read(cx, stream, session, waits_for_disk);
        if stop == Stop::Refused {
            note_no_memory(cx, &session.sender);
        }
        let Session { service, io, sender, delivering, is_waiting, is_starving } = &mut **session;
        refuse_surplus(cx, &mut self.daily, (service, io), sender);
        io.flush(&mut cx.stack, stream);
        let is_over = io.is_broken || io.is_finished();
        if let (true, Service::Mail(mail)) = (is_over, &mut *service) {
            mail.give_up(io);
        }
        let waits = io.is_behind() && !is_over;
        *delivering += hand_on(cx, stream, io, (sender, &mut self.lanes));
        let starves = stop == Stop::Starved && !is_over;
        let was = (std::mem::replace(is_waiting, waits), std::mem::replace(is_starving, starves));
        if was != (waits, starves) {
            self.lanes.leave(sender, stream);
            if waits {
                self.lanes.wait(sender, stream);
            }
            if starves {
                self.lanes.starve(sender, stream);
            }
        }
        let (sender, is_broken) = (*sender, io.is_broken);
        cx.stack.keep(stream, session.held());
        if is_over {
            self.sessions.remove(&stream);
            self.subscribers.remove(&stream);
            cx.out.push(if is_broken { Effect::GiveUp(stream) } else { Effect::Close(stream) });
        }
        self.wake_next(cx, &sender);
        debug_assert!(self.subscribers.len() <= self.sessions.len(), "a subscriber is a stream of the event service");
    }

    /// Serves the next stream that waits for its peer's jobs, if the peer may give more to the disk. It wakes the one behind it when
    /// it leaves room.
    fn wake_next(&mut self, cx: &mut Context, peer: &IdentityKey) {
        if let Some(stream) = self.lanes.next(peer) {
            let session = self.sessions.get_mut(&stream);
            debug_assert!(session.is_some(), "a stream that is over does not wait");
            session.into_iter().for_each(|session| session.is_waiting = false);
            cx.ready(stream);
        }
    }

    /// The disk has done one of a peer's jobs, of `len` bytes.
    fn disk_has_done(&mut self, cx: &mut Context, peer: &IdentityKey, len: usize) {
        for stream in self.lanes.done(peer, len) {
            self.sessions.get_mut(&stream).into_iter().for_each(|session| session.is_starving = false);
            cx.ready(stream);
        }
        self.wake_next(cx, peer);
    }

    /// The disk has decided about a message.
    pub(crate) fn delivered(&mut self, cx: &mut Context, call: Delivery, outcome: Result<Receipt, String>) {
        let Delivery { stream, sender, slot, id, kind, tag, len } = call;
        self.disk_has_done(cx, &sender, len);
        if let Ok(Receipt { fresh: true, seq, answers }) = outcome {
            let (kind, bytes) = (kind.into(), len as u64);
            let deadline_at = if let Tag::Question { deadline } = tag { cx.wall_of(deadline) } else { 0 };
            watch::tell_arrival(cx, stream, |from| match tag {
                Tag::Question { .. } => {
                    Event::Question { id: seq, message_id: id_text(&id), kind, bytes, deadline_at, from }
                }
                Tag::Answer(question) if answers => {
                    Event::Answer { id: seq, reply_to: id_text(&question), kind, bytes, from }
                }
                _ => Event::Message { id: seq, kind, bytes, from },
            });
        }
        if let Some(session) = self.sessions.get_mut(&stream) {
            let answer = session.service.written((kind, tag), len, outcome);
            session.io.answer(slot, answer);
            session.delivering = session.delivering.saturating_sub(len);
            cx.ready(stream);
        }
    }

    /// The disk has done a job of `len` bytes for a file.
    pub(crate) fn file_done(
        &mut self,
        cx: &mut Context,
        (stream, sender): (StreamId, IdentityKey),
        (file, len): (u64, usize),
        done: FileDone,
    ) {
        self.disk_has_done(cx, &sender, len);
        if let FileDone::Kept { path, len } = &done {
            let (path, bytes) = (path.to_string_lossy().into_owned(), *len);
            watch::tell_arrival(cx, stream, |from| Event::File { path, bytes, from });
        }
        if let Some(Session { service: Service::Mail(mail), io, .. }) =
            self.sessions.get_mut(&stream).map(|session| &mut **session)
        {
            mail.file_done(io, file, len, done);
            cx.ready(stream);
        }
    }

    /// Streams, subscribers, and peers with jobs for the disk.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize, usize) {
        (self.sessions.len(), self.subscribers.len(), self.lanes.len())
    }

    /// Gives an event to every subscriber but the stream that published it; gives their number. A subscriber of a peer without
    /// memory left misses the event.
    pub(crate) fn publish(&mut self, cx: &mut Context, from: Option<StreamId>, event: &Published) -> usize {
        let mut count = 0;
        for id in self.subscribers.keys().filter(|id| from != Some(**id)) {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let room = cx.stack.keep(*id, session.held());
            if let Session { service: Service::Events(events), io, .. } = &mut **session
                && events.offer(io, event, room)
            {
                count += 1;
                cx.stack.keep(*id, session.held());
                cx.ready(*id);
            }
        }
        count
    }
}

/// Why a service takes no more bytes for now.
#[derive(PartialEq, Eq)]
enum Stop {
    /// There are none, or an event tells when to go on.
    Quiet,
    /// There is no memory, until the disk has done what it does for the peer.
    Starved,
    /// The service was refused more memory, which ends the stream.
    Refused,
}

/// Lets a service take what has arrived on its stream.
fn read(cx: &mut Context, stream: StreamId, session: &mut Session, waits_for_disk: bool) -> Stop {
    let mut left = SLICE_LEN_MAX;
    loop {
        let room = cx.stack.keep(stream, session.held());
        let Session { service, io, sender, .. } = session;
        if io.has_ended || io.is_broken {
            // Answers that wait for the disk behind a reset reach the peer no more.
            io.is_broken |= cx.stack.broken(stream).is_some();
            return Stop::Quiet;
        }
        service.take(io, &[], *sender); // frames that had no room before
        if !service.has_room(io) {
            io.flush(&mut cx.stack, stream);
            if !io.published.is_empty() {
                cx.ready(stream);
            }
            if !service.has_room(io) {
                // Frames that wait behind a reset can be answered no more.
                io.is_broken |= cx.stack.broken(stream).is_some();
                return Stop::Quiet; // an acknowledgement of the peer or of the disk serves the stream again
            }
        }
        if left == 0 {
            cx.ready(stream);
            return Stop::Quiet;
        }
        if room == 0 && cx.stack.stream_info(stream).is_some_and(|info| info.readable > 0) {
            if cx.stack.broken(stream).is_some() {
                io.is_broken = true;
                return Stop::Quiet;
            }
            if waits_for_disk {
                return Stop::Starved;
            }
            service.refuse(io);
            return Stop::Refused;
        }
        let most = left.min(TAKE_LEN_MAX).min(room.max(1));
        let result = cx.stack.recv_with(stream, |bytes| {
            let len = bytes.len().min(most);
            service.take(io, &bytes[..len], *sender);
            len
        });
        match result {
            Recv::Data(n) => left -= n,
            Recv::Blocked => return Stop::Quiet,
            Recv::Fin => {
                io.has_ended = true;
                service.end(io);
            }
            Recv::Ended(_) => io.is_broken = true,
        }
    }
}

/// Answers the messages that are more than the peer's quota of today, and keeps them from the inbox.
fn refuse_surplus(cx: &Context, daily: &mut Daily, (service, io): (&Service, &mut Io), sender: &IdentityKey) {
    let quota = if io.deliveries.is_empty() { None } else { cx.stack.endpoint().trust().pin(sender) };
    let Some(max) = quota.and_then(|pin| pin.quota().messages) else { return };
    for delivery in std::mem::take(&mut io.deliveries) {
        if daily.take(sender, max, (cx.wall)()) {
            io.deliveries.push(delivery);
        } else {
            let why = format!("the inbox is full for this peer today: its quota is {max} messages a day");
            let answer = service.written((delivery.kind, delivery.tag), delivery.body.len(), Err(why));
            io.answer(delivery.slot, answer);
        }
    }
}

fn note_no_memory(cx: &mut Context, sender: &IdentityKey) {
    cx.trace(Level::Warn, |cx| {
        let name = name_of_key(&cx.stack, sender).unwrap_or_else(|| sender.fingerprint());
        let record = Record::new(Level::Warn, "memory_full").with("peer", name);
        record.from(Source::Key(*sender), Cause::Known)
    });
}

/// Hands the work that a service wants done to the disk and to the event stream. Gives the bytes of messages for the disk.
fn hand_on(cx: &mut Context, stream: StreamId, io: &mut Io, (sender, lanes): (&IdentityKey, &mut Lanes)) -> usize {
    let (sender, mut delivering) = (*sender, 0);
    if !io.deliveries.is_empty() {
        let (_, peer) = ends(&cx.stack, stream);
        for io::Delivery { slot, id: known, tag, kind, body } in io.deliveries.drain(..) {
            lanes.add(&sender, body.len());
            delivering += body.len();
            let (addr, at, id) = (peer.addr, (cx.wall)(), known.unwrap_or_else(entropy));
            let tag = tag.of_frame(cx.counted_s());
            cx.expire_questions();
            cx.has_questions |= tag.is_question();
            let call = Call::Delivery(Delivery { stream, sender, slot, id, kind, tag, len: body.len() });
            let message = Message { id, sender, addr, kind, at, tag, body };
            let line = io.line.clone();
            let job = if known.is_some() { Job::DeliverInLine(message, line) } else { Job::Deliver(message) };
            cx.submit(job, call);
        }
    }
    for mut job in io.files.drain(..) {
        let len = job.len();
        let call = match &mut job {
            FileJob::Open { id, file } => {
                let pin = cx.stack.endpoint().trust().pin(&sender);
                file.quota = pin.map_or(0, |pin| pin.quota().disk());
                Call::File { stream, sender, file: *id, len }
            }
            FileJob::End { id } | FileJob::Data { id, .. } => Call::File { stream, sender, file: *id, len },
            // These end what was opened, and wait for nothing.
            FileJob::Drop { .. } | FileJob::List | FileJob::Measure => Call::Forgotten,
        };
        if !matches!(call, Call::Forgotten) {
            lanes.add(&sender, len);
        }
        cx.submit(Job::File(job), call);
    }
    for event in io.published.drain(..) {
        cx.out.push(Effect::Publish(Some(stream), event));
    }
    delivering
}

#[cfg(test)]
mod tests;
