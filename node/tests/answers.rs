//! The JSON of every answer: its types read and write it without loss, and its members are those of `answers.json`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::answer::{
    Accepted, Approved, Bound, Cancelled, Connections, Delivered, Disconnected, Found, Group, GroupKey, Groups,
    Handshake, Inbox, Info, Invited, Invites, Members, Message, Nodes, Opened, Outbox, PeerPaths, Peers, Pending,
    Profile, Proxies, Proxy, Published, Question, Questions, Received, Rejected, RendezvousState, Replied, Sent,
    StreamState, Taken, Trust, Trusted, Uninvited, Untrusted, Version, WebhookSet,
};
use pilot_node::{Client, Code, Config, GroupAct, InboxPart, MessageKind, Node, RendezvousConfig, Request, send_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

const SECONDS_10: Option<Duration> = Some(Duration::from_secs(10));

/// The names and types of an answer's members; of a list, those of its first element.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(list) => Value::Array(list.first().map(shape).into_iter().collect()),
        Value::Object(members) => members
            .iter()
            // The reasons differ from run to run.
            .map(|(name, value)| (name.clone(), if name == "discards" { "reasons".into() } else { shape(value) }))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// True when both have the same members; a member without a value fits any.
fn fits(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => true,
        (Value::Array(a), Value::Array(b)) => a.iter().zip(b).all(|(a, b)| fits(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| fits(value, other)))
        }
        _ => a == b,
    }
}

/// A client that checks and collects its answers.
struct Asker {
    client: Client,
    shapes: Map<String, Value>,
}

impl Asker {
    fn ask<T: Serialize + DeserializeOwned>(&mut self, name: &str, request: Request, body: &[u8]) -> T {
        let reply = self.client.request(&request, body, SECONDS_10).unwrap_or_else(|f| panic!("{name}: {f}"));
        let answer: T = reply.read().unwrap_or_else(|f| panic!("{name}: {f}: {}", reply.data));
        assert_eq!(serde_json::to_value(&answer).unwrap(), reply.data, "{name}");
        self.shapes.insert(name.into(), shape(&reply.data));
        answer
    }

    /// Asks until the answer is as wanted.
    fn until<T: Serialize + DeserializeOwned>(&mut self, name: &str, request: &Request, done: fn(&T) -> bool) -> T {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = self.ask(name, request.clone(), b"");
            if done(&answer) {
                return answer;
            }
            assert!(Instant::now() < end, "{name}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn handshake(node: &str) -> Request {
    Request::Handshake { node: node.into(), note: Some("please".into()), ports: None, expires_s: None, quota: None }
}

fn approve(node: &str) -> Request {
    Request::Approve {
        node: node.into(),
        note: None,
        ports: Some("all".into()),
        expires_s: Some(3600),
        quota: Some("memory=64MB".into()),
    }
}

/// State and trust, of `node-a` and of a third node.
fn trust(lab: &Lab, asker: &mut Asker) {
    let b = || "node-b".to_owned();
    asker.ask::<Version>("version", Request::Version, b"");
    let info: Info = asker.ask("info", Request::Info, b"");
    asker.ask::<Peers>("peers", Request::Peers, b"");
    asker.ask::<PeerPaths>("path", Request::Path { node: b() }, b"");
    asker.ask::<Found>("find, trusted", Request::Find { node: b() }, b"");
    asker.ask::<Handshake>("handshake, trusted", handshake("node-b"), b"");
    asker.ask::<Trusted>("wait_trust", Request::WaitTrust { node: b(), timeout_ms: None }, b"");
    let invite = Request::Invite { ports: None, expires_s: None, uses: None, short: None, direct: Some(true) };
    let invited: Invited = asker.ask("invite", invite, b"");
    asker.ask::<Invites>("invites", Request::Invites, b"");
    asker.ask::<Uninvited>("uninvite", Request::Uninvite { invite: invited.invite.clone() }, b"");
    let profile = Request::Profile { hostname: None, public: Some(true), tags: Some(vec!["gpu".into()]) };
    asker.ask::<Profile>("profile", profile, b"");
    let webhook = Request::SetWebhook { url: String::new(), insecure: None, secret: None };
    asker.ask::<WebhookSet>("set_webhook", webhook, b"");
    let proxy = Request::Proxy { listen: "0".into(), direct: Some(true), auth_file: None, temporary: Some(true) };
    asker.ask::<Proxy>("proxy", proxy, b"");
    asker.ask::<Proxies>("proxies", Request::Proxies, b"");

    let mut config = Config::new(lab.folder.join("node-c"));
    (config.hostname, config.listen) = (Some("node-c".into()), "127.0.0.1:0".parse().unwrap());
    let (key, addr) = info.rendezvous_address.as_deref().unwrap().split_once('@').unwrap();
    config.rendezvous = RendezvousConfig::At(key.parse().unwrap(), addr.parse().unwrap());
    let c = Node::start(config).unwrap();
    let mut third = Asker { client: c.client().unwrap(), shapes: Map::new() };
    third.until::<Info>("info", &Request::Info, |info| info.rendezvous == RendezvousState::Ready);
    third.ask::<Nodes>("search", Request::Search { tag: "gpu".into() }, b"");
    third.ask::<Found>("find", Request::Find { node: "node-a".into() }, b"");
    third.ask::<Handshake>("handshake", handshake("node-a"), b"");
    third.ask::<Trust>("trust, asked", Request::Trust, b"");
    asker.until::<Pending>("pending", &Request::Pending, |p| !p.pending.is_empty());
    asker.ask::<Approved>("approve", approve("node-c"), b"");
    let ports = || "echo,8000-8010".to_owned();
    asker.ask::<Approved>(
        "grant",
        Request::Grant { node: "node-c".into(), ports: Some(ports()), expires_s: Some(60), quota: None },
        b"",
    );
    asker.ask::<Approved>("revoke", Request::Revoke { node: "node-c".into(), ports: ports() }, b"");
    let wish = Request::Handshake {
        node: "node-c".into(),
        note: None,
        ports: Some("22".into()),
        expires_s: None,
        quota: None,
    };
    third.until::<Trust>("trust", &Request::Trust, |t| t.total == 1);
    third.ask::<Approved>("join, trusted", Request::Join { code: invited.code, ports: None, timeout_ms: Some(1) }, b"");
    asker.ask::<Handshake>("handshake, ports", wish, b"");
    third.until::<Pending>("pending, ports", &Request::Pending, |p| !p.pending.is_empty());
    asker.ask::<Untrusted>("untrust", Request::Untrust { node: "node-c".into() }, b"");
    third.until::<Trust>("trust, none", &Request::Trust, |t| t.total == 0);
    third.ask::<Handshake>("handshake, again", handshake("node-a"), b"");
    asker.until::<Pending>("pending", &Request::Pending, |p| !p.pending.is_empty());
    asker.ask::<Rejected>("reject", Request::Reject { node: "node-c".into(), note: Some("no".into()) }, b"");
    third.ask::<Accepted>("stop", Request::Stop, b"");
    third.shapes.remove("info"); // of `node-a` there is more to tell
    asker.shapes.append(&mut third.shapes);
}

/// A group that `node-a` founds.
fn groups(a: &mut Asker) {
    let group = || "fleet".to_owned();
    let found =
        Request::Group { act: GroupAct::Create, group: group(), node: None, ports: Some("echo".into()), role: None };
    a.ask::<Group>("group", found, b"");
    a.ask::<Groups>("groups", Request::Groups, b"");
    a.ask::<Members>("group_members", Request::GroupMembers { group: group() }, b"");
    let invite = Request::GroupInvite {
        group: group(),
        expires_s: Some(60),
        uses: Some(3),
        short: None,
        direct: Some(true),
        offline: None,
    };
    a.ask::<Invited>("group_invite", invite, b"");
    let kept: GroupKey = a.ask("group_export", Request::GroupExport { group: group() }, b"");
    a.ask::<Group>("group_import", Request::GroupImport { group: group(), key: kept.key }, b"");
}

/// Messages, files, events and datagrams, from `node-a` to `node-b`.
fn mail(lab: &Lab, a: &mut Asker, b: &mut Asker) {
    let message = |node: &str| Request::SendMessage {
        node: node.into(),
        kind: Some(MessageKind::Json),
        queue: Some(false),
        timeout_ms: Some(10_000),
    };
    a.ask::<Delivered>("send_message", message("node-b"), b"{\"n\":1}");
    let inbox: Inbox = b.ask("inbox", Request::Inbox { limit: Some(1), before: None, only: None }, b"");
    let seq = inbox.messages[0].id;
    b.ask::<Message>("inbox_read", Request::InboxRead { seq }, b"");
    b.ask::<Message>("inbox_next", Request::InboxNext { after: None, only: None }, b"");
    assert_eq!(b.ask::<Taken>("inbox_take", Request::InboxTake { seqs: Some(vec![seq]) }, b"").cleared, 1);
    let path = lab.folder.join("a.txt");
    std::fs::write(&path, b"text").unwrap();
    send_file(&mut lab.nodes().0.connect("node-b", 1001).unwrap(), &path, |_, _| {}).unwrap();
    b.ask::<Outbox>("outbox", Request::Outbox { limit: None }, b"");
    b.until::<Received>("received", &Request::Received, |r| r.total == 1);
    a.ask::<Accepted>("events", Request::Events { topics: Some("*".into()) }, b"");
    assert_eq!(a.ask::<Published>("publish", Request::Publish { topic: "a".into() }, b"1").subscribers, 1);
    a.ask::<Sent>("send_datagram", Request::SendDatagram { node: "node-b".into(), port: 9, source: Some(8) }, b"1");
    a.ask::<Bound>("datagrams", Request::Datagrams { port: 0 }, b"");
}

/// A question of `node-a` that `node-b` answers.
fn questions(a: &mut Asker, b: &mut Asker) {
    let only = Some(InboxPart::Questions);
    let ask = Request::Ask {
        node: "node-b".into(),
        kind: Some(MessageKind::Text),
        timeout_ms: Some(0),
        deadline_s: Some(600),
    };
    let asked: Question = a.ask("ask", ask, b"how many?");
    let open = Request::Inbox { limit: None, before: None, only };
    b.until::<Inbox>("inbox, questions", &open, |inbox| inbox.total == 1);
    let question: Message = b.ask("inbox_next, question", Request::InboxNext { after: None, only }, b"");
    let fail = Request::FailQuestion { seq: question.id, reason: Some("no".into()) };
    b.ask::<Accepted>("fail_question", fail, b"");
    let failed = Request::Inbox { limit: None, before: None, only: Some(InboxPart::Failed) };
    b.ask::<Inbox>("inbox, failed", failed, b"");
    b.ask::<Replied>("reply", Request::Reply { question: question.message_id, kind: None }, b"42");
    let wait = Request::WaitAnswer { question: asked.message_id, timeout_ms: Some(10_000) };
    let answered: Question = a.ask("wait_answer", wait, b"");
    a.ask::<Questions>("answers", Request::Answers { limit: None }, b"");
    let seqs = answered.answer.map(|answer| vec![answer.id]);
    assert_eq!(a.ask::<Taken>("inbox_take", Request::InboxTake { seqs }, b"").cleared, 1);
}

/// Ports and streams, from `node-a` to `node-b`.
fn streams(a: &mut Asker, b: &mut Asker) {
    b.ask::<Bound>("listen", Request::Listen { port: 6000 }, b"");
    let connect = || Request::Connect { node: "node-b".into(), port: 6000 };
    a.ask::<Opened>("connect", connect(), b"early");
    let held: Opened = b.ask("accept", Request::Accept { port: 6000, hold: Some(true) }, b"");
    b.ask::<Opened>("take", Request::Take { stream: held.stream }, b"");
    a.ask::<Connections>("connections", Request::Connections, b"");
    b.until::<Connections>("connections, ended", &Request::Connections, |c| {
        c.connections.iter().all(|c| c.local_port != 6000)
    });
    let stream = a.client.open("node-b", 7, SECONDS_10).unwrap();
    let inode = rustix::fs::fstat(&stream.socket).unwrap().st_ino;
    a.ask::<StreamState>("stream_end, open", Request::StreamEnd { inode }, b"");
    (&stream.socket).write_all(b"echo").unwrap();
    stream.socket.shutdown(std::net::Shutdown::Write).unwrap();
    (&stream.socket).read_to_end(&mut Vec::new()).unwrap();
    let is_over = |state: &StreamState| *state != StreamState::Open;
    a.until::<StreamState>("stream_end", &Request::StreamEnd { inode }, is_over);
    let broken = a.client.open("node-b", 7, SECONDS_10).unwrap();
    let inode = rustix::fs::fstat(&broken.socket).unwrap().st_ino;
    a.ask::<Disconnected>("disconnect", Request::Disconnect { stream: broken.data.stream }, b"");
    a.until::<StreamState>("stream_end, error", &Request::StreamEnd { inode }, is_over);
    assert_eq!(a.client.stream_end(broken.data.stream, SECONDS_10).unwrap_err().code, Code::ConnectionReset);
    a.ask::<Cancelled>("cancel", Request::Cancel { request: None }, b"");
    b.ask::<Bound>("unlisten", Request::Unlisten { port: 6000 }, b"");
}

#[test]
fn every_answer_has_the_members_that_programs_know() {
    let lab = Lab::with_services("answers", &["node-a", "node-b"]);
    let (a, b) = lab.nodes();
    let [mut a, mut b] = [a, b].map(|node| Asker { client: node.client().unwrap(), shapes: Map::new() });
    mail(&lab, &mut a, &mut b);
    questions(&mut a, &mut b);
    streams(&mut a, &mut b);
    groups(&mut a);
    trust(&lab, &mut a);
    a.shapes.append(&mut b.shapes);
    let made = Value::Object(a.shapes);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/answers.json");
    if std::env::var_os("PILOT_BLESS").is_some() {
        std::fs::write(path, format!("{made:#}\n")).unwrap();
    }
    let known: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (name, shape) in known.as_object().unwrap() {
        assert!(fits(shape, &made[name]), "{name}: {shape} became {}", made[name]);
        assert!(made.get(name).is_some(), "{name} was not asked");
    }
    assert_eq!(known.as_object().unwrap().len(), made.as_object().unwrap().len());
}
