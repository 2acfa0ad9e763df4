//! Owns the verbs of a node: every request that a program may make of it, and the JSON that carries one.
//!
//! A request travels as one JSON object with a member `op` that names the verb, such as `{"op":"connect","node":"worker-node",
//! "port":1000}`, with any bytes beside it (`docs/interfaces.md`, "IPC"). This file is the only place that spells the
//! names. The CLI, the C library, the translation of official commands and the tests build [`Request`] values; the Go
//! package writes the same JSON, which a test compares with this file.
//!
//! A new verb is a new variant: the compiler then lists every place that must handle it.

use crate::failure::{Code, Failure};
use crate::mail::message::Kind;
use crate::verb_json::{self, Members};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One request to a node.
///
/// `node` names another node in any of the ways that people name nodes: a hostname, an address such as
/// `0:0000.0001.F00D`, a node number, a public key or its fingerprint. A *client* is one connection to the node's socket,
/// or a [`Client`](crate::Client) of the same process.
///
/// [`Request::to_json`] and [`Request::from_json`] are the form of the wire; serde's own form of this type is another.
///
/// ```
/// use pilot_node::Request;
///
/// let request = Request::from_json(br#"{"op": "connect", "node": "worker-node", "port": 1000}"#)?;
/// assert_eq!(request, Request::Connect { node: "worker-node".into(), port: 1000 });
/// assert!(Request::from_json(br#"{"op": "connect", "node": "worker-node", "prot": 1000}"#).is_err());
/// # Ok::<(), pilot_node::Failure>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(tag = "op"))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Tells the node's own state.
    Info,
    /// Tells the version of the program.
    Version,
    /// Lists the trusted peers with their tunnels and paths.
    Peers,
    /// Tells how a trusted peer is reached, why so, why not directly, and when a direct path is tried next.
    Path {
        /// The peer.
        node: String,
    },
    /// Lists the streams.
    Connections,
    /// Lists the requests for trust that wait for a decision of this node's owner.
    Pending,
    /// Lists the trusted peers with the terms of their trust, and the requests that this node has sent.
    Trust,
    /// Looks a node up: among the trusted peers, then at the rendezvous.
    Find {
        /// The node.
        node: String,
    },
    /// Lists the public nodes that carry a tag.
    Search {
        /// The tag; 1 to 63 characters.
        tag: String,
    },
    /// Asks for trust. When the other node has asked already, this approves its request.
    Handshake {
        /// The node; `NAME#FINGERPRINT` also checks that the node of that name has that key.
        node: String,
        /// Text for the other node's owner; at most 256 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Of a node that is not trusted yet: ports of this node that the other may reach; absent: as configured. Of a
        /// trusted peer: ports of the peer for which its owner is asked. Written as `messages,80,8000-8010` or `all`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
        /// When the trust ends; absent: never. From 1. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
        /// How much of this node the other may use once both owners have approved, as `memory=64MB,streams=1000`; see
        /// `approve`. Only of a node that is not trusted yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quota: Option<String>,
    },
    /// Takes back a request of this node that has not been answered, for trust or for ports of a trusted peer. Answered once
    /// that is on disk; the other node's owner does not see the request any more.
    TakeBack {
        /// The node that was asked.
        node: String,
    },
    /// Approves a request for trust, or a trusted peer's request for more ports; answered once that is on disk.
    Approve {
        /// The node that asked.
        node: String,
        /// Text for the other node's owner; at most 256 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Ports of this node that the other may reach, as `messages,80,8000-8010` or `all`; absent: as configured, or what a
        /// trusted peer asks for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
        /// When the trust ends, or what a trusted peer is granted now; absent: never. From 1. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
        /// How much of this node the peer may use, as `memory=64MB,streams=1000,disk=1GB,messages=10000/day`: some of the keys.
        /// `default` takes back what was said before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quota: Option<String>,
    },
    /// Declines a request for trust or for more ports; answered once that is on disk.
    Reject {
        /// The node that asked.
        node: String,
        /// The reason, for the other node's owner; at most 256 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Lets a trusted peer reach more ports of this node, or changes how much of the node the peer may use; answered once that is on
    /// disk.
    Grant {
        /// The peer.
        node: String,
        /// The ports, as `messages,80,8000-8010` or `all`. Services: `echo`, `stdio`, `messages`, `events`. Absent: only the
        /// quota changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
        /// When the grant of these ports ends; absent: with the trust. From 1. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
        /// How much of this node the peer may use, as `memory=64MB,streams=1000,disk=1GB,messages=10000/day`: some of the keys.
        /// `default` takes back what was said before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quota: Option<String>,
    },
    /// Lets a trusted peer reach fewer ports of this node: its streams on the others are reset at once. Answered once that is
    /// on disk.
    Revoke {
        /// The peer.
        node: String,
        /// The ports, as `messages,80,8000-8010` or `all`.
        ports: String,
    },
    /// Withdraws trust: every stream with the peer ends; answered once that is on disk.
    Untrust {
        /// The peer.
        node: String,
    },
    /// Waits until a node is trusted, and tells whether it is.
    WaitTrust {
        /// The node.
        node: String,
        /// Longest wait, at most 3,600,000; absent or 0: none. Unit: milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Makes a code by which another node becomes a trusted peer at once. Answered once that is on disk.
    Invite {
        /// Ports of this node that the joiner may reach, as `messages,80,8000-8010` or `all`; absent: as configured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
        /// How long the code can be used; absent: an hour. From 1 to 2,592,000. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
        /// How many nodes may join by it, at most 1000; absent: one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uses: Option<u16>,
        /// Whether the code is shorter and only for nodes that use this node's rendezvous already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        short: Option<bool>,
        /// Whether the code has only addresses of this node, so that no rendezvous is needed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        direct: Option<bool>,
    },
    /// Lists the invites of this node.
    Invites,
    /// Withdraws an invite; peers that have joined by it stay. Answered once that is on disk.
    Uninvite {
        /// The number of the invite, as [`Request::Invites`] tells it.
        invite: String,
    },
    /// Makes a trusted peer of the node that has made a code; answered once both trust each other.
    Join {
        /// The code.
        code: String,
        /// Ports of this node that the inviter may reach, as `messages,80,8000-8010` or `all`; absent: as configured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
        /// Longest wait, at most 3,600,000; absent: 60,000. After it the request goes on. Unit: milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Lists the groups of this node.
    Groups,
    /// Lists the members of a group, as far as this node knows.
    GroupMembers {
        /// The group.
        group: String,
    },
    /// Makes a code by which other nodes become members of a group. Answered once that is on disk.
    GroupInvite {
        /// The group.
        group: String,
        /// How long the code can be used; absent: seven days. From 1 to 2,592,000. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
        /// How many nodes may join by it, at most 1000; absent: 50.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uses: Option<u16>,
        /// Whether the code is shorter and only for nodes that use this node's rendezvous already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        short: Option<bool>,
        /// Whether the code has only addresses of this node, so that joining needs no rendezvous.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        direct: Option<bool>,
        /// Whether any member answers, so that no admin need be online. Needs the group key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offline: Option<bool>,
    },
    /// Changes a group; answered once that is on disk. Members with a tunnel are told at once.
    Group {
        /// What is done.
        act: GroupAct,
        /// The group.
        group: String,
        /// The member that is removed, renewed or given a role; of `rekey` the admins that stay, with commas between.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Of `create` and `allow`: ports of this node that members may reach, as `messages,80,8000-8010`, `all` or `none`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
        /// `admin` or `member`: of `role` what the member becomes; of `allow` for whom the ports are, absent: members.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
    },
    /// Tells the secret key of a group, which is on the node that has founded it.
    GroupExport {
        /// The group.
        group: String,
    },
    /// Takes the secret key of a group from where it was kept: this node, a member, is an admin from now on. Answered once that is
    /// on disk.
    GroupImport {
        /// The group.
        group: String,
        /// The key, 64 hexadecimal digits, as `group_export` tells it.
        key: String,
    },
    /// Changes what this node says of itself; absent members stay. Answered once the rendezvous agrees.
    Profile {
        /// The hostname, 1 to 63 characters of a–z, 0–9 and `-`; empty: none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        /// Whether other nodes find this one without knowing its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        public: Option<bool>,
        /// The tags, at most three, shaped like hostnames.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tags: Option<Vec<String>>,
    },
    /// Puts the bytes beside the request into a peer's inbox; answered once they are on the peer's disk.
    SendMessage {
        /// The peer.
        node: String,
        /// The kind of the bytes; absent: text.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<MessageKind>,
        /// Whether the message stays in the outbox when the peer does not answer in time; absent: it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<bool>,
        /// Longest wait, at most 600,000; absent: 10,000. Unit: milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Asks a peer: puts the bytes beside the request into the peer's inbox as a question, and waits for the answer; its bytes come
    /// beside the request's own. When the time is over, that tells how far the question is, and the answer may come later.
    Ask {
        /// The peer.
        node: String,
        /// The kind of the bytes; absent: text.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<MessageKind>,
        /// Longest wait, at most until the deadline; absent: 600,000. Unit: milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
        /// When the question is not handed out any more, 1 to 604,800; absent: 604,800. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_s: Option<u64>,
    },
    /// Answers a question of the inbox with the bytes beside the request, and takes it away; answered once both are on disk. A second
    /// answer is refused; the same one again changes nothing.
    Reply {
        /// The question's number in the inbox, or its identity of 32 hexadecimal digits.
        question: String,
        /// The kind of the bytes; absent: text.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<MessageKind>,
    },
    /// Tells how far a question of this node is, and waits for its answer; its bytes come beside the request's own. The answer
    /// stays until its number is taken out of the inbox.
    WaitAnswer {
        /// The question's identity, 32 hexadecimal digits.
        question: String,
        /// Longest wait; absent: none. Unit: milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Lists the newest questions of this node that wait for an answer, or have one that was not taken.
    Answers {
        /// Most questions, at most 10,000; absent: 50.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// Marks a question of the inbox as failed: it stays, and is not handed out any more.
    FailQuestion {
        /// The question's number.
        seq: u64,
        /// Why, at most 255 bytes of which are kept; absent: it is handed out again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Lists the newest messages of the inbox.
    Inbox {
        /// Most messages, up to 10,000; absent: 50.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
        /// Only messages with a smaller number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        /// Only a part of the inbox; absent: all messages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<InboxPart>,
    },
    /// Reads one message; its bytes come beside the answer.
    InboxRead {
        /// The message's number.
        seq: u64,
    },
    /// Reads the oldest message with a greater number; its bytes come beside the answer.
    InboxNext {
        /// The number; absent: 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        /// Only a part of the inbox; absent: all messages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<InboxPart>,
    },
    /// Takes messages out of the inbox.
    InboxTake {
        /// Their numbers; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seqs: Option<Vec<u64>>,
    },
    /// Lists the files that have arrived.
    Received,
    /// Lists the outbox: first the messages that were given up, then those that wait, each oldest first.
    Outbox {
        /// Most messages on the list, at most 10,000; absent: 50.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// Gives the bytes beside the request, 1 to 1,048,576, to the subscribers of this node's event stream.
    Publish {
        /// The topic; 1 to 4096 bytes.
        topic: String,
    },
    /// Sends the bytes beside the request as one datagram, which may be lost.
    SendDatagram {
        /// The peer.
        node: String,
        /// The peer's port.
        port: u16,
        /// The port that the datagram comes from; absent: the same as `port`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<u16>,
    },
    /// Aborts a stream.
    Disconnect {
        /// The stream's number, as [`Request::Connections`] tells it.
        stream: u64,
    },
    /// Lets programs of this machine reach a peer's port: each connection to a local listener becomes a stream.
    Forward {
        /// The peer.
        node: String,
        /// The peer's port.
        port: u16,
        /// The listener, as `[HOST:]PORT` or `unix:PATH`; the loopback address without a host, any free port with port 0.
        listen: String,
        /// Whether it ends with the client that asks, or else with the node; absent: it is kept on disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temporary: Option<bool>,
    },
    /// Lists the forwards.
    Forwards,
    /// Removes a forward; connections that stand go on.
    Unforward {
        /// Its listener.
        listen: String,
    },
    /// Lets peers reach a program of this machine: each stream to a port of this node becomes a connection.
    Expose {
        /// The port.
        port: u16,
        /// The program's own listener, as `PORT` on this machine, `HOST:PORT` or `unix:PATH`.
        target: String,
        /// Whether the program speaks HTTP/1, and is told the peer in headers; absent: it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        http: Option<bool>,
        /// Whether the addresses in an A2A agent's card become the ones that the caller used; with `http`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        a2a: Option<bool>,
        /// Whether the program is told the peer by a header of the PROXY protocol, version 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proxy_protocol: Option<bool>,
        /// The only peers that may come, besides what trust says; absent: all that trust lets in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nodes: Option<Vec<String>>,
        /// Whether it ends with the client that asks, or else with the node; absent: it is kept on disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temporary: Option<bool>,
    },
    /// Lists the exposed ports.
    Exposes,
    /// Ends an expose; connections that stand go on.
    Unexpose {
        /// Its port.
        port: u16,
    },
    /// Lets programs of this machine say which peer they want: a listener speaks SOCKS 5 and the forms of HTTP for proxies.
    Proxy {
        /// The listener, as [`Request::Forward`] has it; other than on loopback addresses only with `auth_file`.
        listen: String,
        /// Whether hosts that are no nodes are reached too; absent: they are refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        direct: Option<bool>,
        /// A file of mode 0600 with lines `user:password`, one of which clients must know; absent: none is asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        auth_file: Option<String>,
        /// Whether it ends with the client that asks, or else with the node; absent: it is kept on disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temporary: Option<bool>,
    },
    /// Lists the proxies.
    Proxies,
    /// Removes a proxy; connections that stand go on.
    Unproxy {
        /// Its listener.
        listen: String,
    },
    /// Tells which peer is behind a connection that a program behind an exposed port has accepted.
    Whois {
        /// The address of the connection's client as that program sees it, as `ADDRESS:PORT`.
        local: String,
    },
    /// Posts what happens at this node to a URL, signed; only a daemon does so. Answered once that is on disk.
    SetWebhook {
        /// The URL: https, or http to this machine; empty: none.
        url: String,
        /// Whether plain http may leave this machine; absent: it may not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        insecure: Option<bool>,
        /// The key of the signatures, 16 to 256 bytes; absent: one is made and told with the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// Ends the node in order.
    Stop,
    /// Opens a stream to a peer and gives its descriptor. The bytes beside the request, at most
    /// [`EARLY_LEN_MAX`](crate::EARLY_LEN_MAX), are the stream's first. Clients only.
    Connect {
        /// The peer.
        node: String,
        /// The peer's port.
        port: u16,
    },
    /// Gives up a connect that the same client has under way. Clients only.
    Cancel {
        /// The number of the connect's request; absent: every connect of the client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<u32>,
    },
    /// Binds a port to the client without accepting yet. Clients only.
    Listen {
        /// The port.
        port: u16,
    },
    /// Gives a port of the client up and aborts the streams that it has not accepted. Clients only.
    Unlisten {
        /// The port.
        port: u16,
    },
    /// Accepts the next stream on a port, which is bound to the client if it is not yet. Clients only.
    Accept {
        /// The port.
        port: u16,
        /// Whether the stream stays with the node, under its number, until the client takes or claims it; absent: its
        /// descriptor comes with the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<bool>,
    },
    /// Gives the descriptor of a stream that the client has accepted with `hold`. Clients only.
    Take {
        /// The stream's number, from the answer to [`Request::Accept`].
        stream: u64,
    },
    /// Tells how a stream that was given as a descriptor has ended, or that it is open. Clients only.
    StreamEnd {
        /// The descriptor's inode (`st_ino` of `fstat`).
        inode: u64,
    },
    /// From now on the end of a descriptor that the client gets means a reset of its stream, unless [`Request::Finish`] came
    /// before: so the death of a program is told from its orderly end. Clients only.
    EndExplicitly {
        /// Only for the descriptor with this inode, which any client may have got; absent: for every later one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inode: Option<u64>,
    },
    /// Tells that the end of a descriptor, which follows, is meant; or resets its stream at once. Any client may ask, and the
    /// answer is that of [`Request::StreamEnd`]. Clients only.
    Finish {
        /// The descriptor's inode (`st_ino` of `fstat`).
        inode: u64,
        /// Whether the stream is reset at once; absent: it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reset: Option<bool>,
    },
    /// Opens a port for datagrams and gives a descriptor that carries them. Clients only.
    Datagrams {
        /// The port; 0: any free one from 49152 up.
        port: u16,
    },
    /// Sends the node's events to the client from now on. Clients only.
    Events {
        /// Also what is published on this node's event stream under this topic, or below a prefix such as `sensor.*`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topics: Option<String>,
    },
    /// Claims a question of the inbox, so that no other client works on it meanwhile. The claim ends with its time, with the answer or
    /// a mark, and with the client's connection; a client may renew its own. Clients only.
    ClaimQuestion {
        /// The question's number.
        seq: u64,
        /// Longest time of the claim, at most 604,800,000. Unit: milliseconds.
        timeout_ms: u64,
    },
    /// Captures the node's inner packets for the client from now on, in clear, as a pcapng file; its beginning comes beside the
    /// answer. A client has one capture at a time. Clients only.
    Capture {
        /// Only packets to and from this trusted peer; absent: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Only packets with this port at either end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// The capture ends when its file would become longer. From 1024; absent: 67,108,864. Unit: bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_bytes: Option<u64>,
    },
    /// Gives what the client's capture has since the last time, beside the answer. What is not fetched in time is missing in the
    /// file, and counted there. Clients only.
    CaptureNext {
        /// Whether the capture ends now; absent: it goes on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<bool>,
    },
}

/// The kind of a message's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
    /// One JSON value.
    Json,
}

/// What is done with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum GroupAct {
    /// It is founded, with this node as its first admin.
    Create,
    /// The owner of this node says what members may reach here.
    Allow,
    /// A member is removed.
    Remove,
    /// This node leaves.
    Leave,
    /// The term of a member is renewed.
    Renew,
    /// A member becomes an admin, or an admin a member.
    Role,
    /// The group gets another key.
    Rekey,
}

/// A part of the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum InboxPart {
    /// Questions that wait for their answers.
    Questions,
    /// Questions that were marked as failed.
    Failed,
}

impl From<MessageKind> for Kind {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
            MessageKind::Json => Self::Json,
        }
    }
}

impl From<Kind> for MessageKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
            Kind::Json => Self::Json,
        }
    }
}

impl std::str::FromStr for MessageKind {
    type Err = Failure;

    /// Reads `text`, `binary` or `json`.
    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "text" => Ok(Self::Text),
            "binary" => Ok(Self::Binary),
            "json" => Ok(Self::Json),
            other => Err(Failure::new(Code::InvalidArgument, format!("unknown type {other:?}; text, json or binary"))),
        }
    }
}

impl Request {
    /// Reads a request from JSON, which may come from anywhere.
    ///
    /// # Errors
    /// `InvalidArgument`, with a text that names the member at fault: the text is no JSON object, the verb is unknown, a
    /// member is missing, unknown, given twice, or has the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, Failure> {
        let invalid = |text: String| Failure::new(Code::InvalidArgument, text);
        let members = serde_json::from_slice::<Members>(json);
        let members = members.map_err(|e| invalid(format!("a request is a JSON object: {e}")))?;
        members.read().map_err(|e| invalid(members.explain::<Self>(&e)))
    }

    /// Reads the request of one verb from its members, which may come from anywhere.
    ///
    /// # Errors
    /// As [`Request::from_json`]; `InvalidArgument` also for a member that would name another verb.
    pub fn from_members(verb: &str, mut members: Map<String, Value>) -> Result<Self, Failure> {
        if members.insert("op".into(), verb.into()).is_some() {
            return Err(Failure::new(Code::InvalidArgument, format!("{verb}: unknown field `op`")));
        }
        Self::from_json(Value::Object(members).to_string().as_bytes())
    }

    /// Whether only clients may make the request, because its outcome stays with the client: a descriptor, a port, events.
    #[rustfmt::skip] // The list is long, and each verb has to be in one half.
    pub const fn is_of_client(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Cancel { .. } | Self::Listen { .. } | Self::Unlisten { .. } | Self::Accept { .. }
            | Self::Take { .. } | Self::StreamEnd { .. } | Self::EndExplicitly { .. } | Self::Finish { .. }
            | Self::Datagrams { .. } | Self::Events { .. } | Self::ClaimQuestion { .. } | Self::Capture { .. }
            | Self::CaptureNext { .. } => true,
            Self::Info | Self::Version | Self::Peers | Self::Path { .. } | Self::Connections | Self::Pending | Self::Trust
            | Self::Find { .. } | Self::Search { .. } | Self::Handshake { .. } | Self::TakeBack { .. }
            | Self::Approve { .. } | Self::Reject { .. } | Self::Grant { .. } | Self::Revoke { .. } | Self::Untrust { .. }
            | Self::WaitTrust { .. } | Self::Invite { .. } | Self::Invites | Self::Uninvite { .. } | Self::Join { .. }
            | Self::Groups | Self::GroupMembers { .. } | Self::GroupInvite { .. } | Self::Group { .. }
            | Self::GroupExport { .. } | Self::GroupImport { .. } | Self::Profile { .. } | Self::SendMessage { .. }
            | Self::Ask { .. } | Self::Reply { .. } | Self::WaitAnswer { .. } | Self::Answers { .. } | Self::FailQuestion { .. }
            | Self::Inbox { .. } | Self::InboxRead { .. } | Self::InboxNext { .. } | Self::InboxTake { .. } | Self::Received
            | Self::Outbox { .. } | Self::Publish { .. } | Self::SendDatagram { .. } | Self::Disconnect { .. }
            | Self::Forward { .. } | Self::Forwards | Self::Unforward { .. } | Self::Expose { .. } | Self::Exposes
            | Self::Unexpose { .. } | Self::Proxy { .. } | Self::Proxies | Self::Unproxy { .. } | Self::Whois { .. }
            | Self::SetWebhook { .. } | Self::Stop => false,
        }
    }

    /// The request as JSON, on one line.
    pub fn to_json(&self) -> String {
        verb_json::write(self)
    }
}

#[cfg(test)]
mod tests;
