//! The room of services, which the node itself provides to its peers: echo on 7, text on 1000, mail on 1001, events on 1002.
//!
//! A service is a struct with `take` (bytes have arrived) and, where it needs them, `has_room`, `end` and others; it puts its
//! output into its [`Io`]. A new service is a file here, a variant of [`Service`], and its port in [`PORTS`].

mod daily;
mod echo;
pub(crate) mod event;
mod events;
pub(crate) mod io;
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
use crate::mail::message::{Kind, Message};
use crate::mail::post::MAIL_PORT;
use crate::mail::receive::Receive;
use crate::node_event::Event;
use crate::streams::names::ends;
use daily::Daily;
use echo::Echo;
use event::Published;
use events::Events;
use io::{Io, Receipt};
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
/// What a peer learns whose bytes find no memory.
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

    /// True while the disk will make room.
    const fn is_writing(&self) -> bool {
        matches!(self, Self::Mail(mail) if mail.is_writing())
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

    fn written(&self, kind: Kind, len: usize, outcome: Result<Receipt, String>) -> Vec<u8> {
        match self {
            Self::Stdio(stdio) => stdio.written(kind, len, outcome),
            Self::Mail(mail) => mail.written(kind, len, outcome),
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
    /// Bytes of each peer's messages that the disk has not written; no peer without any.
    delivering: Vec<(IdentityKey, usize)>,
    daily: Daily,
}

impl Services {
    /// A peer has opened a stream to a service's port.
    pub(crate) fn begin(&mut self, cx: &mut Context, stream: StreamId, port: u16) {
        let info = cx.stack.stream_info(stream);
        let sender = info.and_then(|i| cx.stack.endpoint().identity_of(i.peer));
        match (Service::for_port(port, stream), sender) {
            (Some(service), Some(sender)) => {
                if matches!(service, Service::Events(_)) {
                    self.subscribers.insert(stream, ());
                }
                self.sessions.insert(stream, Box::new(Session { service, io: Io::default(), sender, delivering: 0 }));
            }
            _ => cx.out.push(Effect::GiveUp(stream)),
        }
    }

    /// Reads the bytes that have arrived, at most [`SLICE_LEN_MAX`], and sends the answers that are known.
    pub(crate) fn serve(&mut self, cx: &mut Context, stream: StreamId) {
        let Some(session) = self.sessions.get_mut(&stream) else { return };
        session.io.flush(&mut cx.stack, stream);
        let waits_for_disk =
            session.service.is_writing() || self.delivering.iter().any(|(of, _)| *of == session.sender);
        if !read(cx, stream, session, waits_for_disk) {
            note_no_memory(cx, &session.sender);
        }
        let Session { service, io, sender, delivering } = &mut **session;
        refuse_surplus(cx, &mut self.daily, (service, io), sender);
        io.flush(&mut cx.stack, stream);
        let is_over = io.is_broken || io.is_finished();
        if let (true, Service::Mail(mail)) = (is_over, &mut *service) {
            mail.give_up(io);
        }
        let len: usize = io.deliveries.iter().map(|delivery| delivery.body.len()).sum();
        if len > 0 {
            *delivering += len;
            match self.delivering.iter_mut().find(|(of, _)| of == sender) {
                Some((_, all)) => *all += len,
                None => self.delivering.push((*sender, len)),
            }
        }
        hand_on(cx, stream, io, *sender);
        cx.stack.keep(stream, session.held());
        let is_broken = session.io.is_broken;
        if is_over {
            self.sessions.remove(&stream);
            self.subscribers.remove(&stream);
            cx.out.push(if is_broken { Effect::GiveUp(stream) } else { Effect::Close(stream) });
        }
        debug_assert!(self.subscribers.len() <= self.sessions.len(), "a subscriber is a stream of the event service");
    }

    /// The disk has decided about a message.
    pub(crate) fn delivered(&mut self, cx: &mut Context, call: Delivery, outcome: Result<Receipt, String>) {
        let Delivery { stream, sender, slot, kind, len } = call;
        if let Some(i) = self.delivering.iter().position(|(of, _)| *of == sender) {
            self.delivering[i].1 = self.delivering[i].1.saturating_sub(len);
            if self.delivering[i].1 == 0 {
                self.delivering.swap_remove(i);
            }
        }
        if let Ok(Receipt { fresh: true, seq }) = &outcome {
            let (id, kind, bytes) = (*seq, kind.into(), len as u64);
            watch::tell_arrival(cx, stream, |from| Event::Message { id, kind, bytes, from });
        }
        if let Some(session) = self.sessions.get_mut(&stream) {
            let answer = session.service.written(kind, len, outcome);
            session.io.answer(slot, answer);
            session.delivering = session.delivering.saturating_sub(len);
            cx.ready(stream);
        }
    }

    /// The disk has done a job of `len` bytes for a file.
    pub(crate) fn file_done(&mut self, cx: &mut Context, stream: StreamId, (file, len): (u64, usize), done: FileDone) {
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

    /// Gives an event to every subscriber but the stream that published it; gives their number. A subscriber whose peer has no
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

/// Lets a service take what has arrived on its stream. False when the service was refused more memory, which ends the stream.
fn read(cx: &mut Context, stream: StreamId, session: &mut Session, waits_for_disk: bool) -> bool {
    let mut left = SLICE_LEN_MAX;
    loop {
        let room = cx.stack.keep(stream, session.held());
        let Session { service, io, sender, .. } = session;
        if io.has_ended || io.is_broken {
            return true;
        }
        if !service.has_room(io) {
            io.flush(&mut cx.stack, stream);
            if !service.has_room(io) {
                return true; // an acknowledgement of the peer or of the disk serves the stream again
            }
        }
        if left == 0 {
            cx.ready(stream);
            return true;
        }
        if room == 0 && cx.stack.stream_info(stream).is_some_and(|info| info.readable > 0) {
            if !waits_for_disk {
                service.refuse(io);
            }
            return waits_for_disk; // then room follows, and an event of the stack
        }
        let most = left.min(TAKE_LEN_MAX).min(room.max(1));
        let result = cx.stack.recv_with(stream, |bytes| {
            let len = bytes.len().min(most);
            service.take(io, &bytes[..len], *sender);
            len
        });
        match result {
            Recv::Data(n) => left -= n,
            Recv::Blocked => return true,
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
            let answer = service.written(delivery.kind, delivery.body.len(), Err(why));
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

/// Hands the work that a service wants done to the disk and to the event stream.
fn hand_on(cx: &mut Context, stream: StreamId, io: &mut Io, sender: IdentityKey) {
    if !io.deliveries.is_empty() {
        let (_, peer) = ends(&cx.stack, stream);
        for io::Delivery { slot, id, kind, body } in io.deliveries.drain(..) {
            let call = Call::Delivery(Delivery { stream, sender, slot, kind, len: body.len() });
            let (addr, at) = (peer.addr, (cx.wall)());
            let message = |id| Message { id, sender, addr, kind, at, body };
            let job = match id {
                Some(id) => Job::DeliverInLine(message(id), io.line.clone()),
                None => Job::Deliver(message(entropy())),
            };
            cx.submit(job, call);
        }
    }
    for job in io.files.drain(..) {
        let call = match &job {
            FileJob::Open { id, .. } | FileJob::End { id } => Call::File { stream, file: *id, len: 0 },
            FileJob::Data { id, bytes, .. } => Call::File { stream, file: *id, len: bytes.len() },
            FileJob::Drop { .. } | FileJob::List => Call::Forgotten,
        };
        cx.submit(Job::File(job), call);
    }
    for event in io.published.drain(..) {
        cx.out.push(Effect::Publish(Some(stream), event));
    }
}

#[cfg(test)]
mod tests;
