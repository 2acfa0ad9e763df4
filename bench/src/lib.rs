//! Measuring tools: a pair of stacks joined in memory, for the benches of the packet path.
#![forbid(unsafe_code)]

use pilot_core::aead::AeadProvider;
use pilot_core::endpoint::Transmit;
use pilot_core::identity::Profile;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::trust::{Me, Terms, TrustBook};
use pilot_core::{Addr, Config, Identity, Instant, NodeRecord};
use pilot_stack::{Event, Recv, Stack, StackConfig, StreamId};
use std::net::SocketAddr;

/// Two stacks that trust each other, joined by nothing but memory, in virtual time.
pub struct Pair {
    /// The sender and the receiver.
    pub stacks: [Stack; 2],
    /// Now.
    pub now: Instant,
    /// The stream's ends.
    pub streams: [StreamId; 2],
    batch: Vec<u8>,
}

fn underlay(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + side as u8], 4000))
}

impl Pair {
    /// A pair with one open stream.
    ///
    /// # Panics
    /// When the stream does not come up, which would be a bug.
    pub fn new(aead: &'static dyn AeadProvider) -> Self {
        let identities = [1, 2].map(|n| Identity::from_seed([n; 32]));
        let sign =
            |side: usize| NodeRecord::sign(&identities[side], Addr::new(0, 1 + side as u32), &Profile::default(), 1);
        let (records, mut rng) = ([sign(0), sign(1)], Rng::new([9; 32]));
        let bytes = [records[0].emit(), records[1].emit()];
        let me = |side: usize| Me { identity: &identities[side], record: &bytes[side], now_s: 1 };
        let mut books = [TrustBook::default(), TrustBook::default()];
        let request = books[0].request(&me(0), &records[1], &Terms::default(), &mut rng).expect("allowed");
        books[1].receive(&me(1), &request);
        let accept = books[1].approve(&me(1), &records[0].identity, &Terms::default(), &mut rng).expect("pending");
        books[0].receive(&me(0), &accept);
        books[0].note_endpoint(&records[1].identity, underlay(1));
        let mut books = books.into_iter();
        let mut side = 0;
        let mut make = || {
            let mut config = Config::new(Identity::from_seed([1 + side as u8; 32]), [50 + side as u8; 32]);
            config.aead = aead;
            config.addr = Addr::new(0, 1 + side as u32);
            config.wall_at_zero_us = 1_000_000;
            config.trust = books.next().expect("two books");
            side += 1;
            Stack::new(config, StackConfig::default())
        };
        let mut stacks = [make(), make()];
        stacks[1].listen(1000).expect("free");
        let peer = stacks[0].endpoint().peers().next().expect("pinned");
        let ours = stacks[0].connect(Instant::ZERO, peer, 1000).expect("trusted");
        let mut pair = Self { stacks, now: Instant::ZERO, streams: [ours, ours], batch: Vec::new() };
        for _ in 0..1000 {
            pair.step();
            while let Some(event) = pair.stacks[1].poll_event() {
                if let Event::Incoming { stream, .. } = event {
                    pair.streams[1] = stream;
                    return pair;
                }
            }
        }
        panic!("the stream did not come up")
    }

    /// Lets a little time pass and delivers everything both sides have to say.
    pub fn exchange(&mut self) {
        self.step();
        for stack in &mut self.stacks {
            while stack.poll_event().is_some() {}
        }
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_micros(200);
        for side in 0..2 {
            self.stacks[side].handle_timeout(self.now);
            while let Some((transmit, mut batch)) = self.poll_transmit(side) {
                self.deliver(1 - side, transmit, &mut batch);
            }
        }
    }

    /// One batch of one side; give the buffer back through [`Pair::deliver`].
    pub fn poll_transmit(&mut self, side: usize) -> Option<(Transmit, Vec<u8>)> {
        let mut batch = std::mem::take(&mut self.batch);
        match self.stacks[side].poll_transmit(self.now, &mut batch) {
            Some(transmit) => Some((transmit, batch)),
            None => {
                self.batch = batch;
                None
            }
        }
    }

    /// Takes a batch in on one side.
    pub fn deliver(&mut self, side: usize, transmit: Transmit, batch: &mut Vec<u8>) {
        for datagram in batch.chunks_mut(transmit.segment_len) {
            // Probes of sizes that the other side refuses are discarded; they are no part of what is measured.
            let _ = self.stacks[side].handle_datagram(self.now, underlay(1 - side), datagram);
        }
        self.batch = std::mem::take(batch);
    }

    /// Writes a chunk on the sending side; false when the window is full.
    pub fn send(&mut self, chunk: &[u8]) -> bool {
        self.stacks[0].send(self.streams[0], chunk).is_ok_and(|n| n == chunk.len())
    }

    /// Reads everything on the receiving side.
    pub fn recv(&mut self, buffer: &mut [u8]) -> usize {
        let mut total = 0;
        while let Recv::Data(n) = self.stacks[1].recv(self.streams[1], buffer) {
            total += n;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilot_core::aead::PORTABLE;

    #[test]
    fn a_pair_moves_what_it_is_given() {
        let (mut pair, mut buffer) = (Pair::new(&PORTABLE), vec![0; 65536]);
        let mut received = 0;
        for _ in 0..100 {
            assert!(pair.send(&[7; 10_000]));
            pair.exchange();
            pair.exchange();
            received += pair.recv(&mut buffer);
        }
        assert_eq!(received, 1_000_000);
    }
}
