//! The room of services, which the node itself provides to its peers: echo on 7, text on 1000, mail on 1001, events on 1002.
//!
//! A service is a struct with `take` (bytes have arrived) and, where it needs them, `has_room`, `end` and others; it puts its
//! output into its [`Io`]. A new service is a file here, a variant of [`Service`], and its port in [`PORTS`].

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
use crate::mail::message::{Kind, Message};
use crate::mail::post::MAIL_PORT;
use crate::mail::receive::Receive;
use crate::node_event::Event;
use crate::streams::names::ends;
use echo::Echo;
use event::Published;
use events::Events;
use io::{Io, Receipt};
use litemap::LiteMap;
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
}

/// The streams that services hold.
#[derive(Default)]
pub(crate) struct Services {
    sessions: LiteMap<StreamId, Box<Session>>,
    /// Streams that subscribe to the event stream.
    subscribers: LiteMap<StreamId, ()>,
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
                self.sessions.insert(stream, Box::new(Session { service, io: Io::default(), sender }));
            }
            _ => cx.out.push(Effect::GiveUp(stream)),
        }
    }

    /// Reads the bytes that have arrived, and sends the answers that are known. Bounded by the stream's window.
    pub(crate) fn serve(&mut self, cx: &mut Context, stream: StreamId) {
        let Some(Session { service, io, sender }) = self.sessions.get_mut(&stream).map(|session| &mut **session) else {
            return;
        };
        io.flush(&mut cx.stack, stream);
        let mut buffer = [0; 16 * 1024];
        while !io.has_ended && !io.is_broken {
            if !service.has_room(io) {
                io.flush(&mut cx.stack, stream);
                if !service.has_room(io) {
                    break; // an acknowledgement of the peer or of the disk serves the stream again
                }
            }
            match cx.stack.recv(stream, &mut buffer) {
                Recv::Data(n) => service.take(io, &buffer[..n], *sender),
                Recv::Blocked => break,
                Recv::Fin => {
                    io.has_ended = true;
                    service.end(io);
                }
                Recv::Ended(_) => io.is_broken = true,
            }
        }
        io.flush(&mut cx.stack, stream);
        let is_over = io.is_broken || io.is_finished();
        if let (true, Service::Mail(mail)) = (is_over, &mut *service) {
            mail.give_up(io);
        }
        hand_on(cx, stream, io, *sender);
        let is_broken = io.is_broken;
        if is_over {
            self.sessions.remove(&stream);
            self.subscribers.remove(&stream);
            cx.out.push(if is_broken { Effect::GiveUp(stream) } else { Effect::Close(stream) });
        }
        debug_assert!(self.subscribers.len() <= self.sessions.len(), "a subscriber is a stream of the event service");
    }

    /// The disk has decided about a message.
    pub(crate) fn delivered(&mut self, cx: &mut Context, call: Delivery, outcome: Result<Receipt, String>) {
        let Delivery { stream, slot, kind, len } = call;
        if let Ok(Receipt { fresh: true, seq }) = &outcome {
            let (id, kind, bytes) = (*seq, kind.into(), len as u64);
            watch::tell_arrival(cx, stream, |from| Event::Message { id, kind, bytes, from });
        }
        if let Some(session) = self.sessions.get_mut(&stream) {
            let answer = session.service.written(kind, len, outcome);
            session.io.answer(slot, answer);
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

    /// Gives an event to every subscriber but the stream that published it; gives their number.
    pub(crate) fn publish(&mut self, cx: &mut Context, from: Option<StreamId>, event: &Published) -> usize {
        let mut count = 0;
        for id in self.subscribers.keys().filter(|id| from != Some(**id)) {
            if let Some(Session { service: Service::Events(events), io, .. }) =
                self.sessions.get_mut(id).map(|session| &mut **session)
                && events.offer(io, event)
            {
                count += 1;
                cx.ready(*id);
            }
        }
        count
    }
}

/// Hands the work that a service wants done to the disk and to the event stream.
fn hand_on(cx: &mut Context, stream: StreamId, io: &mut Io, sender: IdentityKey) {
    if !io.deliveries.is_empty() {
        let (_, peer) = ends(&cx.stack, stream);
        for io::Delivery { slot, id, kind, body } in io.deliveries.drain(..) {
            let call = Call::Delivery(Delivery { stream, slot, kind, len: body.len() });
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
