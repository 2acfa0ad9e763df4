//! Owns the command line: every command once, as argh's structs. Help and `context` come from here.

use argh::{ArgsInfo, FromArgs};
use pilot_node::LogLevel;
use std::path::PathBuf;

mod capture;
mod group;
mod life;
mod pairing;
mod questions;

pub(crate) use capture::Capture;
pub(crate) use group::*;
pub(crate) use life::{
    Daemon, DaemonRun, DaemonStart, DaemonVerb, Rendezvous, RendezvousDrain, RendezvousRun, RendezvousVerb,
};
pub(crate) use pairing::{Invite, Invites, Join, Uninvite};
pub(crate) use questions::{Answers, Ask, Reply, Serve};

/// Pilot: permanent addresses, mutual trust and encrypted streams for agents. `--json` may stand anywhere.
#[derive(FromArgs, ArgsInfo)]
pub(crate) struct Arguments {
    #[argh(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub(crate) enum Verb {
    Answers(Answers),
    Approve(Approve),
    Ask(Ask),
    Bench(Bench),
    Capture(Capture),
    ClearHostname(ClearHostname),
    ClearWebhook(ClearWebhook),
    Config(Config),
    Connect(Connect),
    Connections(Connections),
    Context(Context),
    Daemon(Daemon),
    Demo(Demo),
    Dgram(Dgram),
    Disconnect(Disconnect),
    Doctor(Doctor),
    Events(Events),
    Expose(Expose),
    Find(Find),
    Forward(Forward),
    Grant(Grant),
    Group(Group),
    Handshake(Handshake),
    Inbox(Inbox),
    Info(Info),
    Init(Init),
    Invite(Invite),
    Invites(Invites),
    Join(Join),
    Listen(Listen),
    Log(Log),
    Mcp(Mcp),
    Peers(Peers),
    Path(Path),
    Outbox(Outbox),
    Pending(Pending),
    Ping(Ping),
    Proxy(Proxy),
    Publish(Publish),
    Received(Received),
    Recv(Recv),
    Reject(Reject),
    Rendezvous(Rendezvous),
    Reply(Reply),
    Revoke(Revoke),
    Run(Run),
    Search(Search),
    Send(Send),
    SendFile(SendFile),
    SendMessage(SendMessage),
    Serve(Serve),
    SetHostname(SetHostname),
    SetPrivate(SetPrivate),
    SetPublic(SetPublic),
    SetTags(SetTags),
    SetWebhook(SetWebhook),
    Subscribe(Subscribe),
    Trust(Trust),
    Uninvite(Uninvite),
    Untrust(Untrust),
    Version(Version),
    Whois(Whois),
}

/// The names of all commands.
pub(crate) fn verbs() -> Vec<String> {
    Arguments::get_args_info().commands.into_iter().map(|c| c.name.into()).collect()
}

/// write the settings that `daemon start` uses when its flags do not say
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "init")]
pub(crate) struct Init {
    /// rendezvous as KEY@HOST,… where a HOST may have a :PORT
    #[argh(option)]
    pub(crate) rendezvous: Option<String>,
    /// hostname
    #[argh(option)]
    pub(crate) hostname: Option<String>,
}

/// show the settings, or change one
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "config")]
pub(crate) struct Config {
    /// KEY=VALUE; KEY is rendezvous, hostname or log_level
    #[argh(option)]
    pub(crate) set: Option<String>,
}

/// show the main job: two daemons, trust, a stream, a message, a transfer
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "demo")]
pub(crate) struct Demo {}

/// this node's address, keys and state
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "info")]
pub(crate) struct Info {}

/// look a node up
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "find")]
pub(crate) struct Find {
    /// hostname, address or key
    #[argh(positional)]
    pub(crate) node: String,
}

/// public nodes, all or with a tag
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "search")]
pub(crate) struct Search {
    /// tag
    #[argh(positional, default = "String::new()")]
    pub(crate) tag: String,
}

/// ask a node's owner for trust (or accept, if it asked first); with --ports, a trusted peer's owner for those ports
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "handshake")]
pub(crate) struct Handshake {
    /// hostname, address or key; NAME#FINGERPRINT also checks the key
    #[argh(positional)]
    pub(crate) node: String,
    /// why, shown to the other owner
    #[argh(positional, default = "String::new()")]
    pub(crate) why: String,
    /// our ports that it may reach (default: the four services); of a peer that is trusted already, its ports for which its
    /// owner is asked. Services and ports: messages,80,8000-8010; or all
    #[argh(option)]
    pub(crate) ports: Option<String>,
    /// how much of this node it may use once both owners have approved: memory=64MB,streams=1000,disk=1GB,messages=10000/day, or
    /// some of them
    #[argh(option)]
    pub(crate) quota: Option<String>,
    /// take a request back that was not answered yet
    #[argh(switch)]
    pub(crate) cancel: bool,
}

/// requests that wait for an answer
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "pending")]
pub(crate) struct Pending {}

/// accept a request for trust, or for more ports
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "approve")]
pub(crate) struct Approve {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// exactly our ports that it may reach: echo,stdio,messages,events,80,8000-8010 or all (default: the four services, or
    /// what a trusted peer asks for)
    #[argh(option)]
    pub(crate) ports: Option<String>,
    /// when that ends. Unit: seconds from now (or 30m, 24h)
    #[argh(option)]
    pub(crate) expires: Option<String>,
    /// how much of this node it may use: memory=64MB,streams=1000,disk=1GB,messages=10000/day, or some of them; default takes
    /// back what was said before
    #[argh(option)]
    pub(crate) quota: Option<String>,
}

/// let a trusted peer reach more of our ports, or use more or less of this node
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "grant")]
pub(crate) struct Grant {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// the ports: echo,stdio,messages,events,80,8000-8010 or all
    #[argh(option)]
    pub(crate) ports: Option<String>,
    /// when the grant of these ports ends. Unit: seconds from now (or 30m, 24h); default: with the trust
    #[argh(option)]
    pub(crate) expires: Option<String>,
    /// how much of this node it may use: memory=64MB,streams=1000,disk=1GB,messages=10000/day, or some of them; default takes
    /// back what was said before
    #[argh(option)]
    pub(crate) quota: Option<String>,
    /// show what the peer can reach, and what we can reach at the peer
    #[argh(switch)]
    pub(crate) list: bool,
}

/// let a trusted peer reach fewer of our ports; its streams on the others end at once
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "revoke")]
pub(crate) struct Revoke {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// the ports: messages,80,8000-8010 or all
    #[argh(option)]
    pub(crate) ports: String,
}

/// decline a request
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "reject")]
pub(crate) struct Reject {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// why
    #[argh(positional, default = "String::new()")]
    pub(crate) why: String,
}

/// look at everything a node depends on: network, rendezvous, clock, files, versions; each check says what to do
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "doctor")]
pub(crate) struct Doctor {
    /// also write all that was found into this new file, to send to another person; it has no keys and no messages
    #[argh(option)]
    pub(crate) report: Option<PathBuf>,
}

/// how a peer is reached: every path, which one is in use and why, why not directly, and when that is tried next
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "path")]
pub(crate) struct Path {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// then show each change as it comes
    #[argh(switch)]
    pub(crate) watch: bool,
}

/// trusted peers
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "trust")]
pub(crate) struct Trust {}

/// withdraw trust; streams end at once
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "untrust")]
pub(crate) struct Untrust {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
}

/// open a stream: stdin goes to the peer, its answer to stdout
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "connect")]
pub(crate) struct Connect {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// port (default 1000)
    #[argh(positional, default = "1000")]
    pub(crate) port: u16,
    /// send this instead of stdin and show one answer
    #[argh(option)]
    pub(crate) message: Option<String>,
    /// how long to wait for the connection and, with --message, for the answer. Unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"30\")")]
    pub(crate) timeout: String,
}

/// send data to a port and show the answer
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "send")]
pub(crate) struct Send {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// port
    #[argh(positional)]
    pub(crate) port: u16,
    /// what to send
    #[argh(option)]
    pub(crate) data: String,
    /// unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"30\")")]
    pub(crate) timeout: String,
}

/// receive streams on a port, one after the other, each up to its end
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "recv")]
pub(crate) struct Recv {
    /// port
    #[argh(positional)]
    pub(crate) port: u16,
    /// how many (default 1)
    #[argh(option, default = "1")]
    pub(crate) count: u64,
    /// answer each with this
    #[argh(option)]
    pub(crate) reply: Option<String>,
    /// unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"30\")")]
    pub(crate) timeout: String,
}

/// wait for one stream on a port and join it with stdin and stdout; or run a program for each stream
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "listen")]
pub(crate) struct Listen {
    /// port
    #[argh(positional)]
    pub(crate) port: u16,
    /// run a program for each stream, which is its stdin and stdout: --exec CMD ARG…, last on the line
    #[argh(switch)]
    pub(crate) exec: bool,
    /// with --exec: how many programs may run at once; further streams wait (default 256)
    #[argh(option, default = "256")]
    pub(crate) max: usize,
    /// with --exec: end after so many streams
    #[argh(option)]
    pub(crate) count: Option<u64>,
    /// unit: seconds (or 5s, 2m); default: for ever
    #[argh(option)]
    pub(crate) timeout: Option<String>,
    /// the program of --exec, with its arguments
    #[argh(positional)]
    pub(crate) command: Vec<String>,
}

/// run a program that reaches peers by name, through a proxy that its environment names: run -- CMD ARG…
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "run")]
pub(crate) struct Run {
    /// the program reaches peers and nothing else: it gets a network of its own
    #[argh(switch)]
    pub(crate) only: bool,
    /// a peer's port at 127.0.0.1:PORT, for programs that know no proxy: PORT=NODE:PORT; any number of times
    #[argh(option)]
    pub(crate) forward: Vec<String>,
    /// the program, with its arguments
    #[argh(positional)]
    pub(crate) command: Vec<String>,
}

/// show the daemon's log: what it refused, paths, trust, peers and the rendezvous that come and go, trouble with the disk
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "log")]
pub(crate) struct Log {
    /// go on with new lines as they come
    #[argh(switch)]
    pub(crate) follow: bool,
    /// least important level that is shown: error, warn, info or debug (default debug)
    #[argh(option, default = "LogLevel::Debug")]
    pub(crate) level: LogLevel,
    /// how many lines to show, newest last (default 50)
    #[argh(option, default = "50")]
    pub(crate) lines: usize,
    /// the log to read (default: pilot.log in the daemon's folder)
    #[argh(option)]
    pub(crate) log_file: Option<PathBuf>,
}

/// serve an agent on stdin and stdout by the Model Context Protocol: tools for trust, messages, streams, files and peers
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "mcp")]
pub(crate) struct Mcp {
    /// let the agent approve requests for trust (default: the owner does)
    #[argh(switch)]
    pub(crate) allow_approve: bool,
    /// let the agent send only files below this folder (default: any that you can read)
    #[argh(option)]
    pub(crate) files: Option<PathBuf>,
    /// print the entry with which PROGRAM starts this server, and end
    #[argh(switch)]
    pub(crate) print_config: bool,
    /// with --print-config: generic (the default), claude, cursor, vscode, gemini, codex or zed
    #[argh(positional)]
    pub(crate) program: Option<String>,
}

/// put a message into a peer's inbox; succeeds when it is on the peer's disk
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "send-message")]
pub(crate) struct SendMessage {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// the message; - reads stdin
    #[argh(option)]
    pub(crate) data: Option<String>,
    /// read the message from a file
    #[argh(option)]
    pub(crate) data_file: Option<PathBuf>,
    /// text, json or binary (default text)
    #[argh(option, long = "type", default = "String::from(\"text\")")]
    pub(crate) kind: String,
    /// fail at once when the peer cannot be reached, instead of leaving the message in the outbox
    #[argh(switch)]
    pub(crate) no_queue: bool,
    /// how long to wait for the peer. Unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"10\")")]
    pub(crate) timeout: String,
}

/// send a file to a peer; a transfer that broke goes on where it was
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "send-file")]
pub(crate) struct SendFile {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// the file
    #[argh(positional)]
    pub(crate) path: PathBuf,
    /// how long the peer may be silent. Unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"60\")")]
    pub(crate) timeout: String,
}

/// messages that wait for their recipients, and messages that were given up
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "outbox")]
pub(crate) struct Outbox {
    /// most messages on the list, at most 10000; default: 50
    #[argh(option)]
    pub(crate) limit: Option<u64>,
}

/// files that peers sent
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "received")]
pub(crate) struct Received {}

/// publish an event to the subscribers at a node
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "publish")]
pub(crate) struct Publish {
    /// hostname, address or node number; . is this node
    #[argh(positional)]
    pub(crate) node: String,
    /// topic
    #[argh(positional)]
    pub(crate) topic: String,
    /// the payload
    #[argh(option)]
    pub(crate) data: String,
}

/// show what is published at a node, one JSON object a line
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "subscribe")]
pub(crate) struct Subscribe {
    /// hostname, address or node number; . is this node
    #[argh(positional)]
    pub(crate) node: String,
    /// topic; a final * stands for any rest
    #[argh(positional)]
    pub(crate) topic: String,
    /// end after so many events
    #[argh(option)]
    pub(crate) count: Option<u64>,
    /// end after this time. Unit: seconds (or 5s, 2m); default: never
    #[argh(option)]
    pub(crate) timeout: Option<String>,
}

/// let programs of this machine reach peers by name: SOCKS 5, CONNECT and HTTP on one port
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "proxy")]
pub(crate) struct Proxy {
    /// where to listen: PORT, HOST:PORT or unix:PATH
    #[argh(option, default = "String::from(\"127.0.0.1:1080\")")]
    pub(crate) listen: String,
    /// reach hosts that are no nodes too
    #[argh(switch)]
    pub(crate) direct: bool,
    /// file of mode 0600 with lines user:password; needed for other addresses than those of this machine
    #[argh(option)]
    pub(crate) auth: Option<PathBuf>,
    /// end with this command
    #[argh(switch)]
    pub(crate) foreground: bool,
    /// list the proxies
    #[argh(switch)]
    pub(crate) list: bool,
    /// remove the proxy that listens there
    #[argh(option)]
    pub(crate) remove: Option<String>,
}

/// show what happens at this node, one JSON object a line: trust requests, peers, paths, messages, files
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "events")]
pub(crate) struct Events {
    /// end after so many events
    #[argh(option)]
    pub(crate) count: Option<u64>,
    /// end after this time. Unit: seconds (or 5s, 2m); default: never
    #[argh(option)]
    pub(crate) timeout: Option<String>,
}

/// send a datagram, which may be lost
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "dgram")]
pub(crate) struct Dgram {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// port
    #[argh(positional)]
    pub(crate) port: u16,
    /// the payload
    #[argh(option)]
    pub(crate) data: String,
}

/// messages that peers left: list, read one, or take them away
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "inbox")]
pub(crate) struct Inbox {
    /// nothing, or: read ID, ack ID…, retry ID (hand a failed question out again)
    #[argh(positional)]
    pub(crate) words: Vec<String>,
    /// list, and take away what is listed
    #[argh(switch)]
    pub(crate) clear: bool,
    /// with --clear: take everything away, also what is not listed
    #[argh(switch)]
    pub(crate) all: bool,
    /// how many to list, newest last (default 50)
    #[argh(option, default = "50")]
    pub(crate) limit: u64,
    /// only messages before this id
    #[argh(option)]
    pub(crate) before: Option<u64>,
    /// only questions that wait for an answer
    #[argh(switch)]
    pub(crate) questions: bool,
    /// only questions that `serve` has given up
    #[argh(switch)]
    pub(crate) failed: bool,
}

/// measure the round trip to a peer's echo service
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "ping")]
pub(crate) struct Ping {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// how often (default 4)
    #[argh(option, default = "4")]
    pub(crate) count: u64,
    /// unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"30\")")]
    pub(crate) timeout: String,
    /// go on until the path is direct, at most for --timeout; then the exit status is that of a timeout, and the reason is told
    #[argh(switch)]
    pub(crate) until_direct: bool,
}

/// measure the throughput to a peer's echo service and back
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "bench")]
pub(crate) struct Bench {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// megabytes (default 1)
    #[argh(positional, default = "1")]
    pub(crate) mb: u64,
}

/// peers and the paths to them
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "peers")]
pub(crate) struct Peers {
    /// only peers with this in their hostname or address
    #[argh(option)]
    pub(crate) search: Option<String>,
}

/// streams
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "connections")]
pub(crate) struct Connections {}

/// end a stream at once
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "disconnect")]
pub(crate) struct Disconnect {
    /// number from `connections`
    #[argh(positional)]
    pub(crate) id: u64,
}

/// change this node's hostname
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "set-hostname")]
pub(crate) struct SetHostname {
    /// hostname: 1–63 characters of a–z 0–9 -
    #[argh(positional)]
    pub(crate) hostname: String,
}

/// give this node's hostname up
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "clear-hostname")]
pub(crate) struct ClearHostname {}

/// post what happens at this node to a URL, signed; shows the secret of the signatures, once
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "set-webhook")]
pub(crate) struct SetWebhook {
    /// where to: https://…, or http://… to this machine
    #[argh(positional)]
    pub(crate) url: String,
    /// http:// may also go to other machines, which shows every event to the network
    #[argh(switch)]
    pub(crate) insecure: bool,
    /// file with the secret of the signatures, 16 to 256 bytes on one line (default: a secret is made)
    #[argh(option)]
    pub(crate) secret_file: Option<PathBuf>,
}

/// post events no longer
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "clear-webhook")]
pub(crate) struct ClearWebhook {}

/// let this node be found by search
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "set-public")]
pub(crate) struct SetPublic {}

/// let this node be found by its exact hostname only
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "set-private")]
pub(crate) struct SetPrivate {}

/// set search tags, at most three
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "set-tags")]
pub(crate) struct SetTags {
    /// tags; none clears them
    #[argh(positional)]
    pub(crate) tags: Vec<String>,
}

/// the version of this program
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "version")]
pub(crate) struct Version {}

/// every command, flag and error code as JSON, for agents
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "context")]
pub(crate) struct Context {}

/// let programs of this machine reach a peer's port: each connection to a local listener becomes a stream
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "forward")]
pub(crate) struct Forward {
    /// list the forwards
    #[argh(switch)]
    pub(crate) list: bool,
    /// remove the forward with this listener; connections that stand go on
    #[argh(option)]
    pub(crate) remove: Option<String>,
    /// end the forward with this command
    #[argh(switch)]
    pub(crate) foreground: bool,
    /// LISTENER NODE:PORT; a listener is PORT (of loopback; any free one with 0), HOST:PORT or unix:PATH
    #[argh(positional)]
    pub(crate) from_to: Vec<String>,
}

/// let peers reach a program of this machine: each stream to a port becomes a connection to the program
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "expose")]
pub(crate) struct Expose {
    /// the program speaks HTTP/1: tell it the peer in headers
    #[argh(switch)]
    pub(crate) http: bool,
    /// with --http: an A2A agent's card names the address that its caller used
    #[argh(switch)]
    pub(crate) a2a: bool,
    /// tell the program the peer by the PROXY protocol of this version: v2
    #[argh(option)]
    pub(crate) proxy_protocol: Option<String>,
    /// only this peer may come, besides what trust says; may be given more than once
    #[argh(option)]
    pub(crate) ports_for: Vec<String>,
    /// list the exposed ports
    #[argh(switch)]
    pub(crate) list: bool,
    /// end the expose of this port; connections that stand go on
    #[argh(option)]
    pub(crate) remove: Option<u16>,
    /// end the expose with this command
    #[argh(switch)]
    pub(crate) foreground: bool,
    /// PORT TARGET: the port that peers reach, and where the program listens: PORT on this machine, HOST:PORT or unix:PATH
    #[argh(positional)]
    pub(crate) from_to: Vec<String>,
}

/// show which peer is behind a connection that a program behind an exposed port has accepted
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "whois")]
pub(crate) struct Whois {
    /// the address of the connection's client as that program sees it, as ADDRESS:PORT
    #[argh(option)]
    pub(crate) local: String,
}
