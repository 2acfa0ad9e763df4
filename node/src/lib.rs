//! A node: one process on a machine that has a Pilot address, with streams like `std::net::TcpStream`.
//!
//! [`Node::start`] opens a UDP socket and starts two threads: the loop, which owns the whole protocol
//! ([`pilot_stack::Stack`]), and a worker for the disk. [`Stream`], [`Listener`] and the verbs of [`Node`] may be used
//! from any thread; they talk to the loop through bounded queues. There is no async runtime and no global state, and
//! several nodes may live in one process.
//!
//! # Layers
//! | layer | what it does | its users |
//! |---|---|---|
//! | [`Node`], [`Stream`], [`Listener`] | verbs and `Read`/`Write`, blocking, from any thread | applications |
//! | [`Client`] | the same node over its socket: requests, events, descriptors | `pilotctl`, C, Go |
//! | [`Request`], [`answer`], [`Event`] | the words between both sides, typed, with their JSON | both of the above |
//! | the loop | drives the rooms with sockets, a clock and the disk | this crate |
//! | rooms: streams, calls, mail, services, clients | state machines: an input comes, effects go | the loop |
//! | [`pilot_stack::Stack`] | TCP/IP for each peer on top of encrypted tunnels | the rooms |
//!
//! # Example
//! ```no_run
//! use pilot_node::{Config, Node};
//! use std::io::{Read, Write};
//!
//! let node = Node::start(Config::new("/var/lib/my-agent"))?;
//! let mut stream = node.connect("worker-node", 1000)?;
//! stream.write_all(b"{\"action\":\"execute_query\"}\n")?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer)?;
//! # Ok::<(), std::io::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod answer;
mod call;
mod calls;
mod capture;
mod clock;
mod command;
mod config;
mod context;
mod crypto;
mod disk;
mod effect;
mod event_loop;
mod failure;
mod frame_reader;
mod handle;
mod harmful;
mod host;
mod ipc;
#[cfg(feature = "discovery")]
mod lan;
#[cfg(not(feature = "discovery"))]
#[path = "without_discovery.rs"]
mod lan;
mod log;
mod mail;
#[cfg(feature = "discovery")]
mod mapping;
#[cfg(not(feature = "discovery"))]
use lan as mapping;
mod node;
mod node_event;
mod platform;
mod programs;
mod request;
mod services;
mod stream;
mod streams;
mod sync;
#[cfg(test)]
mod tests;
mod token;
mod underlay;
mod verb_json;
mod verbs;
mod webhook;

pub use config::{Config, RendezvousConfig, RendezvousHost};
#[cfg(feature = "tls")]
pub use config::{ProxySetting, TlsConfig};
pub use crypto::aead::fastest as fastest_aead;
pub use crypto::agreement::fastest as fastest_agreement;
pub use disk::home::Home;
/// The parts of a node that other servers of the underlay use too: the rendezvous.
pub mod parts {
    pub use crate::crypto::{SystemEntropy, entropy};
    pub use crate::disk::identity_file::{accept as accept_identity, load_or_create as load_or_create_identity};
    pub use crate::platform::keep_memory_private;
    pub use crate::underlay::echo::{ECHO_LEN, echo, is_answer as is_echo_answer, question as echo_question};
    #[cfg(feature = "tls")]
    pub use crate::underlay::tls::{Channel, Entered, Entering, QUEUE_LEN_MAX, TlsTrouble, TlsWay, try_tls};
    pub use crate::underlay::udp::{SOCKET_BUFFER_LEN, Udp};
}
/// Parts that meet bytes from outside, for fuzzing.
pub mod probe {
    pub use crate::disk::probe::{Recovered, recover};
    pub use crate::ipc::probe::{Heard, frames};
    #[cfg(feature = "discovery")]
    pub use crate::mapping::probe::mapped;
    pub use crate::programs::probe::{Filtered, filter};
    #[cfg(feature = "tls")]
    pub use crate::underlay::tls::probe::{Heard as WebHeard, Kind, put_web_messages, web_head, web_messages};
}
/// Other nodes' texts, for programs that show them.
pub mod text {
    pub use crate::harmful::is_harmful;
}
/// What differs by system, for programs that use a node's descriptors.
pub mod system {
    pub use crate::platform::{Edges, Signal, map_rings, recv_packet, send_now, send_packet};
}
pub use failure::{Code, Failure};
pub use frame_reader::{FrameReader, Parsed};
pub use ipc::client::{Client, Finisher, NumberedAnswer, Reply, StreamReply};
pub use ipc::official_frame as framing;
pub use ipc::place::socket_path;
pub use node::{Listener, Node};
pub use node_event::{CaptureEvent, Event, NodeEvent, PathState, PeerEvent, Sender, Subject, TrustEvent};
pub use pilot_core::group::Role as GroupRole;
pub use pilot_core::{Addr, AddrPort, Level as LogLevel};
pub use pilot_stack::EARLY_LEN_MAX;
/// Well-known ports.
pub mod ports {
    pub use crate::services::{DATA_EXCHANGE, ECHO, EVENT_STREAM, STDIO};
}
pub use log::file::{LOG_LEN_MAX, LogFile};
pub use log::format::LogFormat;
pub use log::record::{FieldValue, Record};
pub use log::sink::{LogConfig, LogSink, MemoryLog, StderrLog};
pub use mail::send_file::{SentFile, send_file};
pub use request::{GroupAct, InboxPart, MessageKind, Request};
pub use services::event::{NotAnEvent, Published};
pub use stream::Stream;
#[cfg(feature = "tls")]
pub use underlay::tls::Proxy;
pub use verbs::{
    AskOptions, Capture, CaptureOptions, Events, ExposeOptions, Exposure, Files, Forwarding, GroupChange, GroupCode,
    Messages, SendOptions, Terms, Trust,
};
pub use webhook::{Webhook, WebhookSetting};
