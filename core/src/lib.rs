//! The Pilot protocol as pure state machines: addresses, the PN1 tunnel, the loss-recovering link, paths, trust.
//!
//! Nothing here reads a clock, opens a socket, starts a thread, touches a file or draws its own randomness. Time is an
//! argument and randomness is a seed, so that a whole network of endpoints runs in one thread, in virtual time,
//! reproducibly.
//!
//! # The layers, from the top
//!
//! | layer | holds | used by |
//! |---|---|---|
//! | [`endpoint`] | all peers on one UDP socket, the directory, the trust book in use | `pilot-stack`, and a rendezvous |
//! | `peer` | one peer: the states of its tunnel, its link and its paths | the endpoint |
//! | [`link`], [`path`] | recovery and congestion control; candidates, probes and the path in use | a peer |
//! | [`tunnel`] | key handshakes, sessions, the replay window | a peer; fuzz targets |
//! | [`noise`], [`aead`], [`agreement`] | the Noise handshake, the cipher, X25519; a node may bring faster ones | the tunnel |
//! | [`trust`], [`control`], [`identity`] | which nodes may connect; messages beside the data; keys and signed records | the endpoint, and a node |
//! | [`wire`], [`codec`], [`addr`], [`extensions`] | datagrams, the reader and writer of every codec, virtual addresses, what later versions add | everything above |
//! | [`trace`], [`timer`], [`time`], [`rng`] | notes for logs, reasons to wake up, moments, random numbers | everything above |
//!
//! # The main loop
//!
//! [`Endpoint`] has four kinds of methods: getters (`&self`), `handle_*` for input from the network and the clock, verbs for
//! commands, and `poll_*` for output. After every `handle_*` or verb its owner drains every `poll_*`. Here two endpoints
//! trust each other, and datagrams pass between them in memory until each has a tunnel to the other.
//!
//! ```
//! use pilot_core::endpoint::NoSink;
//! use pilot_core::identity::Profile;
//! use pilot_core::rng::Rng;
//! use pilot_core::trust::{Me, Terms, TrustBook};
//! use pilot_core::{Addr, Config, Endpoint, Event, Identity, Instant, NodeRecord};
//! use std::net::SocketAddr;
//!
//! // Two nodes. Each one shows the other a signed record.
//! let identities = [Identity::from_seed([1; 32]), Identity::from_seed([2; 32])];
//! let addrs: [SocketAddr; 2] = ["192.0.2.1:4000".parse()?, "192.0.2.2:4000".parse()?];
//! let records = [0, 1].map(|i| NodeRecord::sign(&identities[i], Addr::new(0, 1 + i as u32), &Profile::default(), 1));
//! let bytes = [records[0].emit(), records[1].emit()];
//!
//! // The owner of one asks, the owner of the other approves.
//! let (mut books, mut rng) = ([TrustBook::default(), TrustBook::default()], Rng::new([3; 32]));
//! let me = |i: usize| Me { identity: &identities[i], record: &bytes[i], now_s: 1_700_000_000, common_s: 1_700_000_000 };
//! let request = books[0].request(&me(0), &records[1], &Terms::default(), &mut rng).expect("not asked before");
//! books[1].receive(&me(1), &request, None);
//! let accept = books[1].approve(&me(1), &identities[0].public(), &Terms::default(), &mut rng).expect("asked");
//! books[0].receive(&me(0), &accept, None);
//! books[0].note_endpoint(&identities[1].public(), addrs[1]);
//!
//! // An endpoint for each. The first one wants a tunnel.
//! let mut seed = 10;
//! let mut endpoints: Vec<Endpoint> = identities.into_iter().zip(books).map(|(identity, book)| {
//!     seed += 1;
//!     let mut config = Config::new(identity, Rng::entropy([seed; 32]));
//!     config.trust = book;
//!     Endpoint::new(config)
//! }).collect();
//! let peer = endpoints[0].peers().next().ok_or("one peer is pinned")?;
//! let now = Instant::ZERO;
//! endpoints[0].reach(now, peer);
//!
//! // Datagrams from one to the other, until neither has anything more to say.
//! let (mut batch, mut up, mut moved) = (Vec::new(), [false; 2], true);
//! while moved {
//!     moved = false;
//!     for from in [0, 1] {
//!         while let Some(transmit) = endpoints[from].poll_transmit(now, &mut batch) {
//!             moved = true;
//!             for datagram in batch.chunks_mut(transmit.segment_len) {
//!                 endpoints[1 - from].handle_datagram(now, addrs[from], datagram, &mut NoSink)?;
//!             }
//!         }
//!     }
//!     for (endpoint, up) in endpoints.iter_mut().zip(&mut up) {
//!         while let Some(event) = endpoint.poll_event() {
//!             *up |= matches!(event, Event::Up(_));
//!         }
//!     }
//! }
//! assert_eq!(up, [true, true], "each has a tunnel to the other");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod aead;
pub mod agreement;
pub mod codec;
pub mod control;
mod discard;
pub mod endpoint;
pub mod extensions;
pub mod group;
mod hash;
pub mod identity;
mod inner;
pub mod invite;
pub mod link;
pub mod noise;
pub mod path;
mod peer;
mod relay;
pub mod rng;
pub mod seen;
pub mod sort;
pub mod tap;
pub mod time;
pub mod timer;
pub mod trace;
pub mod trust;
pub mod tunnel;
mod underlay;
pub mod wire;

pub use addr::{Addr, AddrPort};
pub use endpoint::{Config, Endpoint, Event, PeerId};
pub use identity::{Identity, NodeRecord};
pub use time::Instant;
pub use trace::{Level, Trace};
