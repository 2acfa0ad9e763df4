//! Measuring tools: a pair of stacks joined in memory, for the benches of the packet path.
#![forbid(unsafe_code)]

use pilot_core::Instant;
use pilot_core::aead::AeadProvider;
use pilot_core::endpoint::Transmit;
use pilot_core::time::Duration;
use pilot_stack::{Event, Recv, Stack, StackConfig, StreamId};
use pilot_tests::lab::{befriended, underlay};

/// Port of the receiving side.
const PORT: u16 = 1000;

/// Two stacks that trust each other, joined in memory, in virtual time.
pub struct Pair {
    /// The sender and the receiver.
    pub stacks: [Stack; 2],
    /// The virtual time.
    pub now: Instant,
    /// Both ends of every stream.
    streams: Vec<[StreamId; 2]>,
    next: usize,
    batch: Vec<u8>,
}

impl Pair {
    /// Makes a pair with one open stream.
    ///
    /// # Panics
    /// When the stream does not come up, which would be a bug.
    pub fn new(aead: &'static dyn AeadProvider) -> Self {
        Self::with_rings(aead, StackConfig::default().ring_len_max)
    }

    /// Makes a pair with one open stream and rings of at most `ring_len_max` bytes.
    ///
    /// # Panics
    /// As [`Pair::new`].
    pub fn with_rings(aead: &'static dyn AeadProvider, ring_len_max: usize) -> Self {
        let mut stacks = befriended(
            aead,
            StackConfig { ring_len_max, ring_memory: pilot_node::system::map_rings, ..StackConfig::default() },
            9,
        );
        stacks[1].listen(PORT).expect("free");
        let mut pair = Self { stacks, now: Instant::ZERO, streams: Vec::new(), next: 0, batch: Vec::new() };
        pair.open(1);
        pair
    }

    /// Opens `count` more streams.
    ///
    /// # Panics
    /// When a stream does not come up, which would be a bug.
    pub fn open(&mut self, count: usize) {
        let peer = self.stacks[0].endpoint().peers().next().expect("pinned");
        for _ in 0..count {
            let ours = self.stacks[0].connect(self.now, peer, PORT).expect("trusted");
            let theirs = (0..1000).find_map(|_| {
                self.step();
                std::iter::from_fn(|| self.stacks[1].poll_event()).find_map(|event| match event {
                    Event::Incoming { stream, .. } => Some(stream),
                    _ => None,
                })
            });
            let theirs = theirs.expect("the stream comes up");
            self.stacks[1].accepted(theirs);
            self.streams.push([ours, theirs]);
        }
    }

    /// Writes `payload` once on each of the next `count` streams, in turn; returns how many streams had room.
    pub fn send_on_each(&mut self, payload: &[u8], count: usize) -> usize {
        let mut sent = 0;
        for _ in 0..count {
            self.next = (self.next + 1) % self.streams.len();
            let [ours, _] = self.streams[self.next];
            sent += usize::from(self.stacks[0].send(ours, payload).is_ok_and(|n| n == payload.len()));
        }
        sent
    }

    /// Reads everything that the receiver's streams have.
    pub fn drain(&mut self) {
        while let Some(event) = self.stacks[1].poll_event() {
            if let Event::Stream(id) = event {
                while let Recv::Data(_) = self.stacks[1].recv_with(id, |bytes| bytes.len()) {}
            }
        }
        while self.stacks[0].poll_event().is_some() {}
    }

    /// Lets a little time pass and delivers every datagram of both sides.
    pub fn exchange(&mut self) {
        self.step();
        while self.stacks[0].poll_event().is_some() {}
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

    /// Returns one batch of one side, with the buffer that [`Pair::deliver`] takes back.
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

    /// Delivers a batch to one side.
    pub fn deliver(&mut self, side: usize, transmit: Transmit, batch: &mut Vec<u8>) {
        self.stacks[side].handle_batch(self.now, underlay(1 - side), batch, transmit.segment_len);
        self.batch = std::mem::take(batch);
    }

    /// Writes a chunk on the sending side; tells whether the window had room for all of it.
    pub fn send(&mut self, chunk: &[u8]) -> bool {
        self.stacks[0].send(self.streams[0][0], chunk).is_ok_and(|n| n == chunk.len())
    }

    /// Reads everything on the receiving side.
    pub fn recv(&mut self, buffer: &mut [u8]) -> usize {
        let mut total = 0;
        while let Recv::Data(n) = self.stacks[1].recv(self.streams[0][1], buffer) {
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

    #[test]
    fn many_streams_of_a_pair_all_carry_what_they_are_given() {
        let mut pair = Pair::new(&PORTABLE);
        pair.open(300);
        let sent: usize = (0..10)
            .map(|_| {
                let sent = pair.send_on_each(&[7; 100], 301);
                pair.exchange();
                pair.exchange();
                sent
            })
            .sum();
        let unread: usize = pair.stacks[1]
            .streams()
            .collect::<Vec<_>>()
            .into_iter()
            .fold(0, |sum, id| sum + pair.stacks[1].stream_info(id).map_or(0, |info| info.readable));
        assert_eq!((sent, unread), (3010, 301_000));
        pair.drain();
        assert!(pair.stacks[1].streams().all(|id| pair.stacks[1].stream_info(id).is_some_and(|i| i.readable == 0)));
    }
}
