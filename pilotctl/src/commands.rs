//! Owns the dispatch of commands, and the commands for settings, streams, messages and measurements.

use crate::args::{self, Arguments, Verb};
use crate::capture;
use crate::client::{CALL_TIMEOUT, daemon, daemon_for_streams, duration};
use crate::deliver;
use crate::exec;
use crate::forward;
use crate::grants;
use crate::group;
use crate::info;
use crate::output::Output;
use crate::pairing;
use crate::path;
use crate::ping;
use crate::pipe;
use crate::proxy;
use crate::questions;
use crate::serve;
use crate::set_webhook;
use crate::settings;
use argh::ArgsInfo as _;
use pilot_node::answer::{Handshake, Inbox, Peers, Pending, Status, Taken, Trust};
use pilot_node::{Client, Code, EARLY_LEN_MAX, Failure, InboxPart, Request, StreamReply};
use serde_json::{Value, json};
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

/// Longest answer that `--message`, `send` and `recv` show. Unit: bytes.
const ANSWER_MAX: u64 = 16 << 20;

pub(crate) fn run(verb: Verb, output: &Output) -> Result<(), Failure> {
    match verb {
        Verb::Init(args) => settings::init(&args, output),
        Verb::Config(args) => settings::config(args.set.as_deref(), output),
        Verb::Version(_) => {
            output.ok(&json!({"version": env!("CARGO_PKG_VERSION")}));
            Ok(())
        }
        Verb::Context(_) => {
            output.line(&context().to_string());
            Ok(())
        }
        Verb::Connect(args) => connect(&args, output),
        Verb::Send(args) => exchange(&args.node, args.port, &args.data, &args.timeout, output),
        Verb::Recv(args) => recv(&args, output),
        Verb::Listen(args) if args.exec => exec::serve(&args, output),
        Verb::Listen(args) => listen(&args, output),
        Verb::SendMessage(args) => send_message(&args, output),
        Verb::Inbox(args) => inbox(&args, output),
        Verb::Ask(args) => questions::ask(&args, output),
        Verb::Reply(args) => questions::reply(&args, output),
        Verb::Answers(args) => questions::answers(&args, output),
        Verb::Serve(args) => serve::serve(&args, output),
        Verb::SendFile(args) => deliver::send_file(&args, output),
        Verb::Proxy(args) => proxy::proxy(args, output),
        Verb::Publish(args) => deliver::publish(&args, output),
        Verb::Subscribe(args) => deliver::subscribe(&args, output),
        Verb::Events(args) => deliver::events(&args, output),
        Verb::Capture(args) => capture::capture(&args, output),
        Verb::Dgram(args) => deliver::dgram(&args, output),
        Verb::Ping(args) => ping::ping(&args, output),
        Verb::Bench(args) => bench(&args, output),
        Verb::SetWebhook(args) => set_webhook::run(args, output),
        Verb::Approve(args) => grants::approve(args, output),
        Verb::Grant(args) => grants::grant(args, output),
        Verb::Revoke(args) => grants::revoke(args, output),
        Verb::Group(args) => group::run(args.verb, output),
        Verb::Invite(args) => pairing::invite(args, output),
        Verb::Invites(_) => pairing::invites(output),
        Verb::Join(args) => pairing::join(args, output),
        Verb::Forward(args) => forward::forward(args, output),
        Verb::Expose(args) => forward::expose(args, output),
        Verb::Whois(args) => forward::whois(args, output),
        Verb::Info(_) => info::info(output),
        Verb::Path(args) => path::path(&args, output),
        Verb::Peers(args) => peers(args.search.as_deref(), output),
        verb => ask(&request(verb), output),
    }
}

/// The request of a command that makes one and shows its answer.
fn request(verb: Verb) -> Request {
    let profile = |hostname, public, tags| Request::Profile { hostname, public, tags };
    match verb {
        Verb::Find(a) => Request::Find { node: a.node },
        Verb::Search(a) => Request::Search { tag: a.tag },
        Verb::Handshake(a) if a.cancel => Request::TakeBack { node: a.node },
        Verb::Handshake(a) => {
            Request::Handshake { node: a.node, note: Some(a.why), ports: a.ports, expires_s: None, quota: a.quota }
        }
        Verb::Pending(_) => Request::Pending,
        Verb::Reject(a) => Request::Reject { node: a.node, note: Some(a.why) },
        Verb::Trust(_) => Request::Trust,
        Verb::Uninvite(a) => Request::Uninvite { invite: a.invite },
        Verb::Untrust(a) => Request::Untrust { node: a.node },
        Verb::Received(_) => Request::Received,
        Verb::Outbox(a) => Request::Outbox { limit: a.limit },
        Verb::Connections(_) => Request::Connections,
        Verb::Disconnect(a) => Request::Disconnect { stream: a.id },
        Verb::SetHostname(a) => profile(Some(a.hostname), None, None),
        Verb::ClearWebhook(_) => Request::SetWebhook { url: String::new(), insecure: None, secret: None },
        Verb::ClearHostname(_) => profile(Some(String::new()), None, None),
        Verb::SetPublic(_) => profile(None, Some(true), None),
        Verb::SetPrivate(_) => profile(None, Some(false), None),
        Verb::SetTags(a) => profile(None, None, Some(a.tags)),
        _ => Request::Info,
    }
}

fn ask(request: &Request, output: &Output) -> Result<(), Failure> {
    let reply = daemon()?.request(request, &[], Some(CALL_TIMEOUT))?;
    output.ok(&reply.data);
    match request {
        Request::Handshake { .. } if reply.read::<Handshake>()?.status() == Status::Sent => {
            output.note("asked; on the other side: pilotctl pending, pilotctl approve")
        }
        Request::Pending if reply.read::<Pending>()?.pending.is_empty() => output.note("nobody waits"),
        Request::Trust if reply.read::<Trust>()?.total == 0 => {
            output.note("nobody is trusted; pilotctl handshake NAME")
        }
        _ => {}
    }
    Ok(())
}

// Streams.

fn connect(args: &args::Connect, output: &Output) -> Result<(), Failure> {
    if output.json && args.message.is_none() {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text).map_err(|e| Failure::new(Code::Internal, format!("stdin: {e}")))?;
        return exchange_bytes(&args.node, args.port, &text, duration(&args.timeout)?, output);
    }
    if let Some(message) = &args.message {
        return exchange(&args.node, args.port, message, &args.timeout, output);
    }
    let mut client = daemon_for_streams()?;
    let first = pipe::waiting_input(EARLY_LEN_MAX)?;
    let stream = client.open_with(&args.node, args.port, &first, Some(duration(&args.timeout)?))?;
    pipe::join(&mut client, stream)
}

fn exchange(node: &str, port: u16, text: &str, timeout: &str, output: &Output) -> Result<(), Failure> {
    exchange_bytes(node, port, text.as_bytes(), duration(timeout)?, output)
}

/// Opens a stream, sends bytes, ends its own direction, and shows the answer.
fn exchange_bytes(node: &str, port: u16, bytes: &[u8], timeout: Duration, output: &Output) -> Result<(), Failure> {
    let mut client = daemon_for_streams()?;
    let (first, rest) = bytes.split_at(bytes.len().min(EARLY_LEN_MAX));
    let stream = client.open_with(node, port, first, Some(timeout))?;
    let lost = |e: io::Error| Failure::new(Code::ConnectionReset, e.to_string());
    // The reason of a stream that broke comes with its end.
    let sent = (&stream.socket).write_all(rest).and_then(|()| pipe::end_writing(&mut client, &stream));
    let answer = pipe::read_to_end(&mut client, &stream, ANSWER_MAX, timeout)?;
    sent.map_err(lost)?;
    let text = String::from_utf8_lossy(&answer);
    if output.json {
        output.ok(&json!({"target": stream.data.peer, "port": port, "sent": bytes.len(), "bytes": answer.len(), "response": text}));
    } else {
        output.bytes(&answer);
    }
    Ok(())
}

fn recv(args: &args::Recv, output: &Output) -> Result<(), Failure> {
    let timeout = duration(&args.timeout)?;
    let mut client = daemon_for_streams()?;
    let mut messages = Vec::new();
    for seq in 0..args.count {
        let stream = accept(&mut client, args.port, Some(timeout))?;
        if let Some(reply) = &args.reply {
            (&stream.socket)
                .write_all(reply.as_bytes())
                .map_err(|e| Failure::new(Code::ConnectionReset, e.to_string()))?;
        }
        let bytes = pipe::read_to_end(&mut client, &stream, ANSWER_MAX, timeout)?;
        if output.json {
            let text = String::from_utf8_lossy(&bytes);
            messages.push(
                json!({"seq": seq, "port": args.port, "from": stream.data.peer, "data": text, "bytes": bytes.len()}),
            );
        } else {
            output.bytes(&bytes);
        }
    }
    if output.json {
        output.ok(&json!({"messages": messages, "timeout": false}));
    }
    Ok(())
}

fn accept(client: &mut Client, port: u16, timeout: Option<Duration>) -> Result<StreamReply, Failure> {
    client.stream(&Request::Accept { port, hold: None }, timeout).map_err(|f| match f.code {
        Code::Timeout => Failure::new(Code::Timeout, format!("nobody connected to port {port} in time")),
        _ => f,
    })
}

fn listen(args: &args::Listen, output: &Output) -> Result<(), Failure> {
    if !args.command.is_empty() {
        return Err(Failure::new(Code::InvalidArgument, format!("{:?} is no argument of listen", args.command[0]))
            .hint("pilotctl listen PORT --exec CMD ARG…"));
    }
    let timeout = args.timeout.as_deref().map(duration).transpose()?;
    let mut client = daemon_for_streams()?;
    let stream = accept(&mut client, args.port, timeout)?;
    output.note(&format!("stream from {}", stream.data.peer));
    pipe::join(&mut client, stream)
}

fn bench(args: &args::Bench, output: &Output) -> Result<(), Failure> {
    let total = args.mb.clamp(1, 4096) << 20;
    let mut client = daemon_for_streams()?;
    let stream = client.open(&args.node, 7, Some(CALL_TIMEOUT))?;
    let lost = |e: io::Error| Failure::new(Code::ConnectionReset, e.to_string());
    let upstream = stream.socket.try_clone().map_err(lost)?;
    let finisher = client.finisher(&stream).map_err(lost)?;
    let begin = Instant::now();
    let sender = std::thread::spawn(move || -> io::Result<Duration> {
        let chunk = vec![0x5a; 1 << 18];
        let mut left = total as usize;
        while left > 0 {
            let n = left.min(chunk.len());
            (&upstream).write_all(&chunk[..n])?;
            left -= n;
        }
        pipe::finish_writing(&upstream, &finisher);
        Ok(begin.elapsed())
    });
    let received = io::copy(&mut &stream.socket, &mut io::sink()).map_err(lost)?;
    let total_time = begin.elapsed();
    let send_time = sender.join().map_err(|_| Failure::new(Code::Internal, "sending failed"))?.map_err(lost)?;
    client.stream_end(stream.data.stream, Some(CALL_TIMEOUT))?;
    if received != total {
        return Err(Failure::new(Code::Internal, format!("{received} bytes came back of {total}")));
    }
    let rate = |t: Duration| total as f64 / 1e6 / t.as_secs_f64();
    output.ok(&json!({
        "target": args.node, "sent_bytes": total, "recv_bytes": received, "send_duration_ms": send_time.as_secs_f64() * 1e3,
        "total_duration_ms": total_time.as_secs_f64() * 1e3, "send_mbps": rate(send_time), "total_mbps": rate(total_time),
    }));
    Ok(())
}

fn peers(search: Option<&str>, output: &Output) -> Result<(), Failure> {
    let reply = daemon()?.request(&Request::Peers, &[], Some(CALL_TIMEOUT))?;
    let mut peers: Peers = reply.read()?;
    if let Some(search) = search {
        peers.peers.retain(|peer| peer.hostname.contains(search) || peer.address.contains(search));
        peers.total = peers.peers.len() as u64;
        output.ok(&json!(peers));
    } else {
        output.ok(&reply.data);
    }
    grants::note_budgets(&peers, output);
    Ok(())
}

// Messages.

fn send_message(args: &args::SendMessage, output: &Output) -> Result<(), Failure> {
    let timeout = duration(&args.timeout)?;
    let bytes = questions::data(args.data.as_deref(), args.data_file.as_deref(), timeout)?;
    let request = Request::SendMessage {
        node: args.node.clone(),
        kind: Some(args.kind.parse()?),
        queue: Some(!args.no_queue),
        timeout_ms: Some(timeout.as_millis() as u64),
    };
    let mut reply = daemon()?.request(&request, &bytes, Some(timeout + CALL_TIMEOUT))?;
    reply.data["target"] = args.node.clone().into();
    output.ok(&reply.data);
    Ok(())
}

fn inbox(args: &args::Inbox, output: &Output) -> Result<(), Failure> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let number = |word: &str| {
        word.parse::<u64>().map_err(|_| {
            Failure::new(Code::InvalidArgument, format!("{word:?} is not a message's id")).hint("pilotctl inbox")
        })
    };
    match words.as_slice() {
        [] if args.clear && args.all => ask(&Request::InboxTake { seqs: None }, output),
        [] if args.clear => clear(args, output),
        _ if args.all => Err(Failure::new(Code::InvalidArgument, "--all belongs to inbox --clear")),
        [] => ask(&Request::Inbox { limit: Some(args.limit), before: args.before, only: part(args)? }, output),
        ["retry", id] => ask(&Request::FailQuestion { seq: number(id)?, reason: None }, output),
        ["read", id] => {
            let reply = daemon()?.request(&Request::InboxRead { seq: number(id)? }, &[], Some(CALL_TIMEOUT))?;
            if output.json {
                let mut data = reply.data;
                data["data"] = String::from_utf8_lossy(&reply.blob).into();
                output.ok(&data);
            } else {
                output.bytes(&reply.blob);
            }
            Ok(())
        }
        ["ack", ids @ ..] if !ids.is_empty() => {
            let ids: Vec<u64> = ids.iter().map(|id| number(id)).collect::<Result<_, _>>()?;
            ask(&Request::InboxTake { seqs: Some(ids) }, output)
        }
        _ => Err(Failure::new(
            Code::InvalidArgument,
            "inbox, inbox read ID, inbox ack ID…, inbox retry ID, inbox --clear",
        )),
    }
}

/// The part of the inbox that is meant.
fn part(args: &args::Inbox) -> Result<Option<InboxPart>, Failure> {
    match (args.questions, args.failed) {
        (false, false) => Ok(None),
        (true, false) => Ok(Some(InboxPart::Questions)),
        (false, true) => Ok(Some(InboxPart::Failed)),
        (true, true) => Err(Failure::new(Code::InvalidArgument, "either --questions or --failed")),
    }
}

/// Lists messages and takes away exactly these, so that none goes without having been shown.
fn clear(args: &args::Inbox, output: &Output) -> Result<(), Failure> {
    let mut client = daemon()?;
    let list = Request::Inbox { limit: Some(args.limit), before: args.before, only: part(args)? };
    let mut reply = client.request(&list, &[], Some(CALL_TIMEOUT))?;
    let seqs = reply.read::<Inbox>()?.messages.iter().map(|message| message.id).collect();
    let taken: Taken = client.ask(&Request::InboxTake { seqs: Some(seqs) }, Some(CALL_TIMEOUT))?;
    reply.data["cleared"] = taken.cleared.into();
    output.ok(&reply.data);
    Ok(())
}

/// Describes every command, flag and error code for agents, from the same source as the help.
fn context() -> Value {
    let commands: serde_json::Map<String, Value> = Arguments::get_args_info()
        .commands
        .into_iter()
        .map(|c| {
            let flags: Vec<Value> = c.command.flags.iter().map(|f| json!({"flag": f.long, "description": f.description})).collect();
            let positionals: Vec<Value> = c.command.positionals.iter().map(|p| json!({"name": p.name, "description": p.description})).collect();
            let subcommands: Vec<Value> = c.command.commands.iter().map(|s| json!({"name": s.name, "description": s.command.description})).collect();
            (c.name.into(), json!({"description": c.command.description, "args": positionals, "flags": flags, "subcommands": subcommands}))
        })
        .collect();
    let codes: serde_json::Map<String, Value> =
        Code::ALL.iter().map(|c| (c.name().into(), c.exit_status().into())).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commands": commands,
        "error_codes": codes,
        "global_flags": ["--json"],
        "environment": ["PILOT_HOME", "PILOT_SOCKET", "PILOT_RENDEZVOUS", "PILOT_HOSTNAME", "PILOT_LOCAL_RENDEZVOUS", "PILOT_JOIN", "PILOT_JOIN_FILE"],
        "config_file": settings::path(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_names_every_command_and_code() {
        let context = context();
        assert!(args::verbs().iter().all(|verb| context["commands"][verb]["description"].is_string()));
        assert_eq!(context["error_codes"]["trust_required"], 5);
    }
}
