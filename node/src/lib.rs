//! A node: one process on a machine that has a Pilot address, with streams like `std::net::TcpStream`.
//!
//! [`Node::start`] opens a UDP socket and starts two threads: the loop, which owns the whole protocol
//! ([`pilot_stack::Stack`]), and a worker for the disk. [`Stream`], [`Listener`] and the verbs of [`Node`] may be used
//! from any thread; they talk to the loop through bounded queues. There is no async runtime and no global state, and
//! several nodes may live in one process.
//!
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

mod aead;
mod agreement;
pub mod answer;
mod byte_queue;
mod command;
mod config;
mod courier;
mod driver;
mod exchange;
mod failure;
mod fd_stream;
mod files;
mod helm;
mod home;
mod ipc;
mod network;
mod node;
mod node_event;
mod request;
mod resolve;
mod send_file;
mod services;
mod store;
mod stream;
mod udp;
mod verbs;

pub use aead::fastest as fastest_aead;
pub use agreement::fastest as fastest_agreement;
pub use config::{Config, RendezvousConfig};
pub use failure::{Code, Failure};
pub use home::{Home, socket_path};
pub use ipc::client::{Client, NumberedAnswer, Reply, StreamReply};
pub use ipc::framing;
pub use node::{Listener, Node};
pub use node_event::{Event, NodeEvent, PathState, PeerEvent, Sender, Subject, TrustEvent};
pub use pilot_core::{Addr, AddrPort};
pub use pilot_stack::EARLY_LEN_MAX;
/// Well-known ports.
pub mod ports {
    pub use crate::services::{DATA_EXCHANGE, ECHO, EVENT_STREAM, STDIO};
}
pub use request::{MessageKind, Request};
pub use send_file::{SentFile, send_file};
pub use services::events::{NotAnEvent, Published};
pub use stream::Stream;
pub use verbs::{Events, Files, Messages, SendOptions, Terms, Trust};
