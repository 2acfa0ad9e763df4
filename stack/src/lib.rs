//! TCP/IP for each peer: smoltcp on top of `pilot-core`, still pure — no clock, socket, thread or file.
//!
//! A [`Stack`] is a state machine for one thread. Its owner hands in datagrams and the time ([`Stack::handle_batch`],
//! [`Stack::handle_timeout`]) and the application's commands ([`Stack::connect`], [`Stack::send`], …), and after each
//! of them drains what comes out: [`Stack::poll_event`], [`Stack::poll_transmit`], [`Stack::poll_timeout`].
//!
//! # Layers, from the top
//!
//! | layer | what it does | used by |
//! |---|---|---|
//! | [`Stack`] | streams, ports and datagrams of all peers; the gate that a pin's ports open | `pilot-node`, the simulator, benches, fuzz targets |
//! | `ports` | listeners, ports for datagrams, ephemeral ports | `Stack` |
//! | `agenda` | lists of what is to be done, so that idle peers and streams cost nothing in a turn | all layers |
//! | `peer_stack`, `io` | one peer: its flows by port pair, in which order they send | `Stack` |
//! | `flow` | one TCP connection, with `reorder` and `early` beside it | `peer_stack` |
//! | `ring_socket`, `socket_pool` | smoltcp's sockets, with the memory of their rings | `flow` |
//! | `interface`, `device` | smoltcp, which sees one segment at a time | `peer_stack` |
//! | [`Endpoint`](pilot_core::Endpoint) | tunnels, links and paths to all peers | `Stack` |
//!
//! The link below makes a lossy path look loss-free and holds the congestion controller that all streams to a peer
//! share. The stack therefore never sees an unauthenticated byte, never listens on the underlay, and never congests.
//! Work of every call is bounded by what came in and by the room in the links.
//!
//! # Example
//!
//! Two stacks that trust each other, joined by nothing but memory. One opens a stream, the other echoes:
//!
//! ```
//! use pilot_core::identity::{NodeRecord, Profile};
//! use pilot_core::rng::Rng;
//! use pilot_core::time::Duration;
//! use pilot_core::trust::{Me, Terms, TrustBook};
//! use pilot_core::{Addr, Config, Identity, Instant};
//! use pilot_stack::{Event, Recv, Stack, StackConfig};
//! use std::net::SocketAddr;
//!
//! // Trust: one owner asks, the other approves. Nodes exchange these two letters through their rendezvous.
//! let mut rng = Rng::new([7; 32]);
//! let identities = [Identity::from_seed([1; 32]), Identity::from_seed([2; 32])];
//! let addrs = [Addr::new(0, 1), Addr::new(0, 2)];
//! let underlay = [SocketAddr::from(([192, 0, 2, 1], 4000)), SocketAddr::from(([192, 0, 2, 2], 4000))];
//! let records = [0, 1].map(|i| NodeRecord::sign(&identities[i], addrs[i], &Profile::default(), 1));
//! let emitted = [0, 1].map(|i| records[i].emit());
//! let me = |i: usize| Me { identity: &identities[i], record: &emitted[i], now_s: 1, common_s: 1 };
//! let mut books = [TrustBook::default(), TrustBook::default()];
//! let request = books[0].request(&me(0), &records[1], &Terms::default(), &mut rng).expect("within limits");
//! books[1].receive(&me(1), &request, None);
//! let approval = books[1].approve(&me(1), &records[0].identity, &Terms::default(), &mut rng).expect("within limits");
//! books[0].receive(&me(0), &approval, None);
//! books[0].note_endpoint(&records[1].identity, underlay[1]);
//!
//! let mut stacks = [0, 1].map(|i| {
//!     let mut config = Config::new(Identity::from_seed([1 + i as u8; 32]), Rng::entropy(rng.bytes()));
//!     (config.addr, config.trust) = (addrs[i], std::mem::take(&mut books[i]));
//!     config.wall_at_zero_us = 1_000_000;
//!     Stack::new(config, StackConfig::default())
//! });
//!
//! let mut now = Instant::ZERO;
//! stacks[1].listen(1000)?;
//! let peer = stacks[0].endpoint().peer_by_identity(&records[1].identity).expect("pinned");
//! let stream = stacks[0].connect_with(now, peer, 1000, b"hello".to_vec())?;
//! let (mut batch, mut answer) = (Vec::new(), Vec::new());
//! while answer != b"hello" {
//!     for i in 0..2 {
//!         stacks[i].handle_timeout(now);
//!         // What must survive a power cut, such as the secret that a first session makes, is on disk before it is used.
//!         let version = stacks[i].endpoint().trust().version();
//!         stacks[i].endpoint_mut().trust_saved(now, version);
//!         while let Some(event) = stacks[i].poll_event() {
//!             let Event::Stream(id) = event else { continue };
//!             let mut bytes = [0; 64];
//!             while let Recv::Data(len) = stacks[i].recv(id, &mut bytes) {
//!                 if id == stream && i == 0 {
//!                     answer.extend_from_slice(&bytes[..len]);
//!                 } else {
//!                     stacks[i].send(id, &bytes[..len])?;
//!                 }
//!             }
//!         }
//!         while let Some(transmit) = stacks[i].poll_transmit(now, &mut batch) {
//!             stacks[1 - i].handle_batch(now, underlay[i], &mut batch, transmit.segment_len);
//!         }
//!     }
//!     now = now + Duration::from_millis(1);
//!     assert!(now < Instant::ZERO + Duration::from_secs(1));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unnameable_types)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod agenda;
mod asked;
mod budget;
mod config;
mod device;
mod early;
mod flow;
mod interface;
mod io;
mod peer_stack;
mod ports;
mod reorder;
mod ring_socket;
mod segment;
mod shared;
mod sink;
mod slots;
mod socket_pool;
mod stack;
mod stream_id;

pub use budget::Usage;
pub use config::StackConfig;
pub use early::EARLY_LEN_MAX;
pub use flow::{Recv, StreamEnd};
pub use ports::EPHEMERAL_FIRST;
pub use ring_socket::{RingMemory, RingSource};
pub use segment::SEGMENT;
pub use stack::{CommandError, Event, Reason, Stack, StreamInfo};
pub use stream_id::StreamId;
