//! What is asked of the node: one place that gives each command, request and official command to its room.

use crate::answer::{self, Accepted, Answer, Bound, Cancelled, Disconnected, Info, Sent, Status, Version};
use crate::call::Call;
use crate::calls::groups::Change as GroupChange;
use crate::calls::pairing::InviteWish;
use crate::calls::profile::Change;
use crate::calls::report::Uses;
use crate::calls::trust::Wanted;
use crate::calls::{connect, grants, groups, handshake, lookup, pairing, path, profile, report, trust, webhook};
use crate::capture::room::Wanted as WantedPackets;
use crate::command::Command;
use crate::context::Context;
use crate::disk::files::FileJob;
use crate::disk::job::{Job, Part};
use crate::effect::{Caller, Opener};
use crate::event_loop::rooms::Rooms;
use crate::failure::{Code, Failure};
use crate::ipc::client_id::{ClientId, RequestNumber};
use crate::ipc::frame::{REQUEST, REQUEST_WITH_FD, parse_numbered};
use crate::ipc::official::{self, Official};
use crate::ipc::official_frame::{self, BIND_OK, SEND_TO_CONFIRM, UNBIND};
use crate::ipc::server::Frame;
use crate::log::record::Record;
use crate::log::room::LogRoom;
use crate::mail::inbox::{PAGE, PAGE_MAX};
use crate::mail::message::{DEADLINE_MAX_S, Kind, Letter};
use crate::programs::{ExposeTerms, ForwardTerms, Life, ProxyTerms};
use crate::request::{InboxPart, Request};
use crate::services::event::{PAYLOAD_LEN_MAX, Published, TOPIC_LEN_MAX};
use crate::streams::datagrams::send_datagram;
use crate::streams::table::{Hold, Listener};
use mio::net::UnixStream;
use pilot_core::Level;
use pilot_stack::{EARLY_LEN_MAX, StreamId};
use serde_json::Value;
use std::time::Duration;

/// Wait for an answer of a caller that names no time. Source: `docs/messages.md`, "Questions".
const ASK_TIMEOUT: Duration = Duration::from_secs(600);

/// Runs a command of a thread of this process.
pub(crate) fn command(rooms: &mut Rooms, command: Command) {
    let cx = &mut rooms.cx;
    // A thread that has asked may have gone; then its answer is dropped.
    match command {
        Command::Request(r, bytes, reply) => request(rooms, r, bytes, Caller::Thread(reply)),
        Command::Connect(target, port, early, reply) => {
            connect::connect(cx, &target, port, early, Opener::Thread(reply));
        }
        Command::Listen(port, streams, reply) => {
            drop(reply.send(rooms.streams.listen(cx, port, Listener::thread(streams))))
        }
        Command::Claim(stream, reply) => drop(reply.send(rooms.streams.claim_held(cx, stream))),
        Command::Taken(port) => rooms.streams.note_taken(cx, port),
        Command::Unlisten(port) => rooms.streams.unlisten(cx, port),
        Command::GivenUp => rooms.streams.abort_orphans(cx),
        Command::Look(id) => rooms.ready.push(id),
        Command::Close(id) => rooms.streams.finish(cx, id),
        Command::Attach(socket) => {
            // A socket that cannot be made non-blocking is dropped, which its holder sees.
            if socket.set_nonblocking(true).is_ok() {
                rooms.ipc.add(UnixStream::from_std(socket), false);
            }
        }
        Command::ReopenLog => rooms.log.reopen(cx),
        Command::SetLogLevel(level) => LogRoom::set_level(cx, level),
        Command::NoteSetting(setting, outcome) => LogRoom::note_setting(cx, &setting, outcome),
        Command::NoteWebhook(reason, lost) => rooms.log.note_webhook(cx, &reason, lost),
        Command::Stop => rooms.stop(),
        #[cfg(test)]
        Command::Break => panic!("broken on purpose"),
    }
    rooms.carry_out();
}

/// Runs what a client of the socket asks.
pub(crate) fn frame(rooms: &mut Rooms, frame: Frame) {
    let Frame { client, command, payload, fd } = frame;
    if command == REQUEST || command == REQUEST_WITH_FD {
        rooms.ipc.mark_ours(client);
        rooms.beside = fd;
        match parse_numbered(&payload) {
            Some((number, json, bytes)) => {
                let caller = Caller::Client(client, RequestNumber(number));
                match Request::from_json(json) {
                    Ok(r) => request(rooms, r, bytes, caller),
                    Err(failure) => rooms.cx.fail(caller, failure),
                }
            }
            None => rooms.ipc.send(client, official_frame::error("malformed request")),
        }
        rooms.beside = None; // what the request has not taken is closed
    } else {
        match official::translate(command, &payload).and_then(|asked| run_official(rooms, client, command, asked)) {
            Ok(None) => {}
            Ok(Some(frame)) => rooms.ipc.send(client, frame),
            Err(text) => rooms.ipc.send(client, official_frame::error(&text)),
        }
    }
    rooms.carry_out();
}

/// Runs a request; the answer may come later.
pub(crate) fn request(rooms: &mut Rooms, request: Request, bytes: Vec<u8>, caller: Caller) {
    let cx = &mut rooms.cx;
    let answer = match request {
        Request::Info => Ok(info(rooms).into()),
        Request::Version => Ok(Version { version: env!("CARGO_PKG_VERSION").into() }.into()),
        Request::Peers => return rooms.ask_for_peers(caller),
        Request::Path { node } => path::report(cx, &node).map(Answer::from),
        Request::Connections => Ok(report::connections(cx).into()),
        Request::Pending => Ok(report::pending(cx).into()),
        Request::Trust => Ok(report::trusted(cx).into()),
        Request::Find { node } => return lookup::find(cx, &node, caller),
        Request::Search { tag } => return lookup::search(cx, &tag, caller),
        Request::Handshake { .. }
        | Request::TakeBack { .. }
        | Request::Approve { .. }
        | Request::Reject { .. }
        | Request::Grant { .. }
        | Request::Revoke { .. }
        | Request::Untrust { .. }
        | Request::WaitTrust { .. } => return trust_verb(cx, request, caller),
        Request::Invites => Ok(pairing::list(cx).into()),
        request if is_of_codes(&request) => return pair(rooms, request, caller),
        Request::Groups => Ok(groups::list(cx).into()),
        Request::Profile { hostname, public, tags } => {
            return profile::set(cx, Change { hostname, public, tags }, caller);
        }
        Request::SendMessage { .. }
        | Request::Inbox { .. }
        | Request::InboxRead { .. }
        | Request::InboxNext { .. }
        | Request::InboxTake { .. }
        | Request::Ask { .. }
        | Request::Reply { .. }
        | Request::WaitAnswer { .. }
        | Request::Answers { .. }
        | Request::FailQuestion { .. }
        | Request::Received
        | Request::Outbox { .. } => return mail(rooms, request, bytes, caller),
        Request::Publish { topic } => publish(rooms, topic, bytes),
        Request::SendDatagram { node, port, source } => datagram(cx, &node, (source.unwrap_or(port), port), &bytes),
        Request::Disconnect { stream } => disconnect(rooms, stream),
        Request::Forward { .. }
        | Request::Unforward { .. }
        | Request::Expose { .. }
        | Request::Unexpose { .. }
        | Request::Proxy { .. }
        | Request::Unproxy { .. } => {
            return programs(rooms, request, caller);
        }
        Request::Forwards => Ok(rooms.programs.forwards().into()),
        Request::Exposes => Ok(rooms.programs.exposes(cx).into()),
        Request::Proxies => Ok(rooms.programs.proxies().into()),
        Request::Whois { local } => rooms.programs.whois(cx, &local).map(Answer::from),
        Request::SetWebhook { url, insecure, secret } => {
            return webhook::set(cx, &url, insecure.unwrap_or(false), secret, caller);
        }
        Request::Stop => Ok(stop(rooms).into()),
        other => match caller {
            Caller::Client(client, number) => match client_request(rooms, other, bytes, (client, number)) {
                Some(answer) => answer,
                None => return,
            },
            _ => Err(Failure::new(Code::InvalidArgument, "this operation belongs to a client of the socket")),
        },
    };
    rooms.cx.answer(caller, answer.map(|answer| (answer, Vec::new())));
}

fn datagram(cx: &mut Context, node: &str, ports: (u16, u16), bytes: &[u8]) -> Result<Answer, Failure> {
    send_datagram(cx, node, ports, bytes)?;
    Ok(Sent { status: Status::Sent, bytes: bytes.len() as u64 }.into())
}

fn stop(rooms: &mut Rooms) -> Accepted {
    rooms.stop();
    Accepted { status: Status::Stopping }
}

/// Runs a verb about trust.
fn trust_verb(cx: &mut Context, request: Request, caller: Caller) {
    match request {
        Request::Handshake { node, note, ports, expires_s, quota } => {
            handshake::handshake(cx, &node, Wanted { ports, expires_s, note, quota }, caller);
        }
        Request::Approve { node, note, ports, expires_s, quota } => {
            grants::approve(cx, &node, Wanted { ports, expires_s, note, quota }, caller);
        }
        Request::Reject { node, note } => grants::reject(cx, &node, &note.unwrap_or_default(), caller),
        Request::Grant { node, ports, expires_s, quota } => {
            grants::grant(cx, &node, Wanted { ports, expires_s, note: None, quota }, caller);
        }
        Request::Revoke { node, ports } => grants::revoke(cx, &node, &ports, caller),
        Request::TakeBack { node } => trust::cancel(cx, &node, caller),
        Request::Untrust { node } => trust::revoke(cx, &node, caller),
        Request::WaitTrust { node, timeout_ms } => {
            trust::wait(cx, &node, Duration::from_millis(timeout_ms.unwrap_or(0)), caller);
        }
        _ => cx.fail(caller, Failure::new(Code::Internal, "a request without a room")),
    }
}

/// True for a verb about codes and groups that [`pair`] runs.
const fn is_of_codes(request: &Request) -> bool {
    matches!(
        request,
        Request::Invite { .. }
            | Request::Uninvite { .. }
            | Request::Join { .. }
            | Request::GroupMembers { .. }
            | Request::GroupExport { .. }
            | Request::GroupImport { .. }
            | Request::GroupInvite { .. }
            | Request::Group { .. }
    )
}

/// Runs a verb about codes and groups.
fn pair(rooms: &mut Rooms, request: Request, caller: Caller) {
    let cx = &mut rooms.cx;
    match request {
        Request::Invite { ports, expires_s, uses, short, direct } => {
            let (is_short, is_direct) = (short.unwrap_or(false), direct.unwrap_or(false));
            let wish = InviteWish { ports, expires_s, uses, group: None, is_offline: false, is_short, is_direct };
            pairing::invite(cx, &rooms.rendezvous, wish, caller);
        }
        Request::GroupMembers { group } => match groups::members(cx, &group) {
            Ok(members) => cx.reply(caller, members),
            Err(failure) => cx.fail(caller, failure),
        },
        Request::GroupExport { group } => match groups::export(cx, &group) {
            Ok(key) => cx.reply(caller, key),
            Err(failure) => cx.fail(caller, failure),
        },
        Request::GroupImport { group, key } => groups::import(cx, &group, &key, caller),
        Request::GroupInvite { group, expires_s, uses, short, direct, offline } => {
            let [is_short, is_direct, is_offline] = [short, direct, offline].map(|flag| flag.unwrap_or(false));
            let wish = InviteWish { ports: None, expires_s, uses, group: Some(group), is_offline, is_short, is_direct };
            pairing::invite(cx, &rooms.rendezvous, wish, caller);
        }
        Request::Group { act, group, node, ports, role } => {
            groups::change(cx, GroupChange { act, group, node, ports, role }, caller);
        }
        Request::Uninvite { invite } => pairing::uninvite(cx, &invite, caller),
        Request::Join { code, ports, timeout_ms } => {
            let wanted = Wanted { ports, ..Wanted::default() };
            pairing::join(cx, &code, wanted, timeout_ms.map(Duration::from_millis), caller);
        }
        _ => cx.fail(caller, Failure::new(Code::Internal, "a request without a room")),
    }
}

/// Runs a verb about messages and files that have arrived or leave.
fn mail(rooms: &mut Rooms, request: Request, bytes: Vec<u8>, caller: Caller) {
    let cx = &mut rooms.cx;
    match request {
        Request::SendMessage { node, kind, queue, timeout_ms } => {
            let timeout = timeout_ms.map(Duration::from_millis);
            let kind = kind.map_or(Kind::Text, Kind::from);
            let letter = Letter { node, kind, keep: queue.unwrap_or(true), timeout, asks: None, body: bytes };
            rooms.post.send(cx, letter, caller);
        }
        Request::Ask { node, kind, timeout_ms, deadline_s } => {
            let timeout = Some(timeout_ms.map_or(ASK_TIMEOUT, Duration::from_millis));
            let kind = kind.map_or(Kind::Text, Kind::from);
            let asks = Some(deadline_s.unwrap_or(DEADLINE_MAX_S));
            rooms.post.send(cx, Letter { node, kind, keep: true, timeout, asks, body: bytes }, caller);
        }
        Request::Reply { question, kind } => {
            rooms.post.reply(cx, &question, kind.map_or(Kind::Text, Kind::from), bytes, caller);
        }
        Request::WaitAnswer { question, timeout_ms } => {
            let timeout = timeout_ms.map(|ms| Duration::from_millis(ms).min(Duration::from_secs(DEADLINE_MAX_S)));
            rooms.post.wait_answer(cx, &question, timeout, caller);
        }
        Request::Answers { limit } => rooms.post.list_asked(cx, limit, caller),
        Request::FailQuestion { seq, reason } => {
            rooms.post.end_claim(seq);
            cx.submit(Job::Fail(seq, reason), Call::Read(caller));
        }
        Request::Inbox { limit, before, only } => {
            let limit = limit.unwrap_or(PAGE).min(PAGE_MAX) as usize;
            let part = part(only, cx);
            cx.submit(Job::List { limit, before, part }, Call::Read(caller));
        }
        Request::InboxRead { seq } => cx.submit(Job::Read(seq), Call::Read(caller)),
        Request::InboxNext { after, only } => {
            let part = part(only, cx);
            cx.submit(Job::Next(after.unwrap_or(0), part), Call::Read(caller));
        }
        Request::InboxTake { seqs } => cx.submit(Job::Take(seqs), Call::Read(caller)),
        Request::Received => cx.submit(Job::File(FileJob::List), Call::Read(caller)),
        Request::Outbox { limit } => {
            let list = rooms.post.list(cx, limit);
            cx.reply(caller, list);
        }
        _ => cx.fail(caller, Failure::new(Code::Internal, "a request without a room")),
    }
}

/// The part of the inbox that a caller wants now.
fn part(only: Option<InboxPart>, cx: &Context) -> Part {
    match only {
        None => Part::All,
        Some(InboxPart::Questions) => Part::Open(cx.counted_s()),
        Some(InboxPart::Failed) => Part::Failed,
    }
}

/// Runs a request that leaves something with its client; `None`: the answer comes later, or with a descriptor.
fn client_request(
    rooms: &mut Rooms,
    request: Request,
    bytes: Vec<u8>,
    (client, number): (ClientId, RequestNumber),
) -> Option<Result<Answer, Failure>> {
    let cx = &mut rooms.cx;
    match request {
        Request::Connect { .. } if bytes.len() > EARLY_LEN_MAX => {
            let text = format!("at most {EARLY_LEN_MAX} bytes travel with a connect");
            Some(Err(Failure::new(Code::InvalidArgument, text)))
        }
        Request::Connect { node, port } => {
            connect::connect(cx, &node, port, bytes, Opener::Client(client, number));
            None
        }
        Request::Cancel { request } => {
            let cancelled = connect::cancel(cx, client, request.map(RequestNumber));
            Some(Ok(Cancelled { cancelled: cancelled as u64 }.into()))
        }
        Request::Listen { port } => Some(rooms.streams.listen_for(cx, client, port).map(|()| Bound { port }.into())),
        Request::Unlisten { port } => {
            rooms.streams.unlisten_for(cx, client, port);
            Some(Ok(Bound { port }.into()))
        }
        Request::Accept { port, hold } => {
            let hold = if hold == Some(true) { Hold::Yes } else { Hold::No };
            rooms.streams.accept_for(cx, client, number, (port, hold)).err().map(Err)
        }
        Request::Take { stream } => {
            let stream = StreamId::from_number(stream);
            rooms.streams.take_held(cx, client, number, stream).err().map(Err)
        }
        Request::StreamEnd { inode } => Some(rooms.streams.end_of(inode).map(Answer::from)),
        Request::EndExplicitly { inode } => {
            rooms.streams.end_explicitly(client, inode);
            Some(Ok(Accepted { status: Status::Accepted }.into()))
        }
        Request::Finish { inode, reset } => {
            Some(rooms.streams.finish_of(cx, inode, reset == Some(true)).map(Answer::from))
        }
        Request::Datagrams { port } => rooms.datagrams.open(cx, client, number, port).err().map(Err),
        Request::Events { topics } => {
            rooms.ipc.watch(client, number, topics);
            rooms.cx.is_watched = true;
            Some(Ok(Accepted { status: Status::Watching }.into()))
        }
        Request::ClaimQuestion { seq, timeout_ms } => {
            let time = Duration::from_millis(timeout_ms);
            Some(rooms.post.claim(cx, seq, client, time).map(Answer::from))
        }
        Request::Capture { node, port, max_bytes } => {
            let begun = rooms.captures.begin(cx, client, WantedPackets { node, port, max_bytes });
            captured(cx, Caller::Client(client, number), begun);
            None
        }
        Request::CaptureNext { end } => {
            let blocks = rooms.captures.fetch(cx, client, end == Some(true));
            captured(cx, Caller::Client(client, number), blocks);
            None
        }
        _ => Some(Err(Failure::new(Code::Internal, "a request without a room"))),
    }
}

/// Answers with blocks of a capture beside its state.
fn captured(cx: &mut Context, caller: Caller, answer: Result<(answer::Captured, Vec<u8>), Failure>) {
    cx.answer(caller, answer.map(|(state, blocks)| (state.into(), blocks)));
}

fn info(rooms: &mut Rooms) -> Info {
    let mut facts = rooms.facts.clone();
    (facts.outbox, facts.datagrams_dropped) = (rooms.post.len(), rooms.datagrams.dropped);
    facts.has_rendezvous = rooms.rendezvous.is_named();
    facts.outbox_waiting = rooms.post.waiting(&rooms.cx);
    (facts.mapping, facts.lan) = (rooms.mapping.report(&rooms.cx), rooms.lan.report());
    // The answer tells what is known; the next one has the rendezvous' sign of life, or its absence.
    let info = report::info(&rooms.cx, &facts);
    rooms.cx.stack.endpoint_mut().ask_rendezvous(rooms.cx.now);
    info
}

fn publish(rooms: &mut Rooms, topic: String, payload: Vec<u8>) -> Result<Answer, Failure> {
    if topic.is_empty() || topic.len() > TOPIC_LEN_MAX || payload.is_empty() || payload.len() > PAYLOAD_LEN_MAX {
        let text = format!("a topic has 1 to {TOPIC_LEN_MAX} bytes, a payload 1 to {PAYLOAD_LEN_MAX}");
        return Err(Failure::new(Code::InvalidArgument, text));
    }
    let (bytes, event) = (payload.len(), Published { topic, payload });
    let subscribers = rooms.publish(None, &event);
    let (bytes, subscribers) = (bytes as u64, subscribers as u64);
    Ok(answer::Published { status: Status::Published, topic: event.topic, bytes, subscribers }.into())
}

/// Runs a request that changes what is set up for programs; the answer comes once that is on disk.
fn programs(rooms: &mut Rooms, request: Request, caller: Caller) {
    match set_up(rooms, request, &caller) {
        Ok((answer, life)) => rooms.programs.answer(&mut rooms.cx, caller, life == Life::Kept, answer),
        Err(failure) => rooms.cx.fail(caller, failure),
    }
}

/// Changes what is set up for programs. The second part of the result tells whether the books must have it.
fn set_up(rooms: &mut Rooms, request: Request, caller: &Caller) -> Result<(Answer, Life), Failure> {
    let cx = &mut rooms.cx;
    match request {
        Request::Forward { node, port, listen, temporary } => {
            let (life, is_new) = (Life::of(temporary, caller), !matches!(caller, Caller::Node));
            let terms = ForwardTerms { listen, fd: rooms.beside.take(), node, port };
            let forward = rooms.programs.forward(cx, terms, life, is_new);
            forward.map(|forward| (Answer::from(forward), life))
        }
        Request::Unforward { listen } => {
            rooms.programs.unforward(&listen).map(|(forward, life)| (forward.into(), life))
        }
        Request::Expose { port, target, http, a2a, proxy_protocol, nodes, temporary } => {
            let [http, a2a, proxy_protocol] = [http, a2a, proxy_protocol].map(|flag| flag == Some(true));
            let nodes = nodes.unwrap_or_default();
            let terms = ExposeTerms { port, target, http, a2a, proxy_protocol, nodes };
            let life = Life::of(temporary, caller);
            expose(rooms, terms, life).map(|answer| (answer, life))
        }
        Request::Unexpose { port } => rooms.programs.unexpose(cx, port).map(|(exposed, life)| {
            rooms.streams.unlisten(cx, port);
            (exposed.into(), life)
        }),
        Request::Proxy { listen, direct, auth_file, temporary } => {
            let (life, is_new) = (Life::of(temporary, caller), !matches!(caller, Caller::Node));
            let terms = ProxyTerms { listen, fd: rooms.beside.take(), direct: direct == Some(true), auth_file };
            rooms.programs.proxy(cx, terms, life, is_new).map(|proxy| (proxy.into(), life))
        }
        Request::Unproxy { listen } => rooms.programs.unproxy(&listen).map(|(proxy, life)| (proxy.into(), life)),
        _ => Err(Failure::new(Code::Internal, "a request without a room")),
    }
}

/// Enters an expose, and binds its port.
fn expose(rooms: &mut Rooms, terms: ExposeTerms, life: Life) -> Result<Answer, Failure> {
    let (cx, port) = (&mut rooms.cx, terms.port);
    let exposed = rooms.programs.expose(cx, terms, life)?;
    if let Err(failure) = rooms.streams.listen(cx, port, Listener::Program) {
        rooms.programs.unexpose(cx, port)?;
        return Err(failure);
    }
    Ok(exposed.into())
}

/// Runs a request that the books have kept. One that fails is kept for another start.
pub(crate) fn restore(rooms: &mut Rooms, line: &[u8]) {
    let done = Request::from_json(line).and_then(|request| set_up(rooms, request, &Caller::Node));
    if let Err(failure) = done {
        let line = String::from_utf8_lossy(line);
        let record = Record::new(Level::Warn, "not_restored").with("what", &*line).with("reason", failure.message);
        rooms.cx.trace(Level::Warn, |_| record);
        rooms.programs.keep_unread(&line);
    }
    rooms.carry_out();
}

fn disconnect(rooms: &mut Rooms, number: u64) -> Result<Answer, Failure> {
    let id = rooms.cx.stack.streams().find(|id| id.number() == number);
    let id = id.ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no stream {number}")).hint("pilotctl connections")
    })?;
    rooms.cx.stack.abort(rooms.cx.now, id);
    rooms.ready.push(id);
    Ok(Disconnected { conn_id: number }.into())
}

/// Runs an official command; gives the reply, if that is known at once. An error is the text of an Error frame.
fn run_official(rooms: &mut Rooms, client: ClientId, command: u8, asked: Official) -> Result<Option<Vec<u8>>, String> {
    let cx = &mut rooms.cx;
    let reply = |data: &Value| Ok(Some(official::reply(command + 1, data)));
    match asked {
        Official::Bind(port) => {
            let bound = rooms.streams.listen(cx, port, Listener::Framed(client));
            bound.map_err(|f| format!("bind: {}", f.message))?;
            return Ok(Some(official_frame::frame(BIND_OK, &[&port.to_be_bytes()])));
        }
        Official::Unbind(port) => {
            rooms.streams.unlisten_for(cx, client, port);
            return Ok(Some(official_frame::frame(UNBIND + 1, &[&port.to_be_bytes()])));
        }
        Official::Dial(to) => {
            connect::connect(cx, &to.addr.to_string(), to.port, Vec::new(), Opener::Framed(client));
        }
        Official::Send { connection, bytes } => {
            if let Some(id) = rooms.streams.framed(client, connection) {
                rooms.ipc.keep_unsent(client, connection, &bytes);
                rooms.ready.push(id);
            }
        }
        Official::Close { connection } => {
            match rooms.streams.framed(client, connection) {
                // The bytes that were sent before go out first.
                Some(id) => {
                    rooms.ipc.close_framed(client, connection);
                    rooms.ready.push(id);
                }
                None => rooms.ipc.forget_framed(client, connection),
            }
            return Ok(Some(official_frame::closed(connection)));
        }
        Official::SendTo { to, bytes, confirm } => {
            let sent = send_datagram(cx, &to.addr.to_string(), (to.port, to.port), &bytes);
            if confirm {
                sent.map_err(|f| format!("sendto: {}", f.message))?;
                return Ok(Some(official_frame::frame(SEND_TO_CONFIRM + 1, &[])));
            }
        }
        Official::Request(r) => request(rooms, r, Vec::new(), Caller::Official(client, command + 1)),
        Official::Info => {
            let now_s = (rooms.cx.wall)();
            let messages = |peer: &_| rooms.services.messages_today(now_s, peer);
            let peers = official::json(&report::peers(&rooms.cx, &Uses { disk: None, messages: &messages }));
            let connections = official::json(&report::connections(&rooms.cx));
            return reply(&official::info(official::json(&info(rooms)), peers, connections));
        }
        Official::Health => return reply(&official::health(&official::json(&info(rooms)))),
        Official::Networks => return reply(&official::networks(cx.stack.endpoint().trust().pins().count())),
        Official::Cancel => drop(connect::cancel(cx, client, None)),
        Official::Reply(frame) => return Ok(Some(frame)),
        Official::Nothing => {}
    }
    Ok(None)
}
