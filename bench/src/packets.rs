//! `pilot-bench packets`: moves packets through two stacks and does nothing else, for tools that count instructions.

use crate::contest::Outcome;
use argh::FromArgs;
use pilot_bench::Pair;
use pilot_tests::lab::TRANSPARENT;

/// Payload of a packet, which fits the smallest datagram. Unit: bytes.
const PAYLOAD: usize = 1100;
/// Packets of one turn.
const AT_ONCE: usize = 10;

/// Move packets through two stacks in memory, without a cipher.
#[derive(FromArgs)]
#[argh(subcommand, name = "packets")]
pub(crate) struct Packets {
    /// how many (default 10000)
    #[argh(option, default = "10_000")]
    count: usize,
}

impl Packets {
    /// Moves the packets.
    ///
    /// # Errors
    /// When a packet does not arrive.
    pub(crate) fn run(&self) -> Outcome<()> {
        let (mut pair, mut buffer, mut sent, mut received) = (Pair::new(&TRANSPARENT), vec![0; 64 * 1024], 0, 0);
        while sent < self.count {
            sent += (0..AT_ONCE).filter(|_| pair.send(&[7; PAYLOAD])).count();
            pair.exchange();
            received += pair.recv(&mut buffer);
        }
        (0..100).for_each(|_| pair.exchange());
        received += pair.recv(&mut buffer);
        if received == sent * PAYLOAD { Ok(()) } else { Err(format!("{received} bytes of {sent} packets").into()) }
    }
}
