//! The machine alone.

use super::*;
use crate::state::NoJournal;
use pilot_core::Identity;

#[test]
fn relayed_datagrams_to_one_address_leave_in_batches() {
    let config = Config::new(Identity::from_seed([1; 32]), Rng::entropy([2; 32]));
    let mut rendezvous = Rendezvous::new(config, State::default(), Box::new(NoJournal));
    let [a, b] = ["192.0.2.1:9", "192.0.2.2:9"].map(|addr| addr.parse::<SocketAddr>().expect("an address"));
    let lens = [(a, 100), (a, 100), (a, 60), (a, 100), (b, 100), (b, 120)].into_iter();
    rendezvous.forward.extend(lens.chain([(a, 40_000); 2]).map(|(to, len)| (to, vec![7; len])));
    let mut out = Vec::new();
    let batches: Vec<_> = std::iter::from_fn(|| {
        let transmit = rendezvous.poll_transmit(Instant::ZERO, &mut out)?;
        Some((transmit.to, transmit.segment_len, out.len()))
    })
    .collect();
    let expected =
        [(a, 100, 260), (a, 100, 100), (b, 100, 100), (b, 120, 120), (a, 40_000, 40_000), (a, 40_000, 40_000)];
    assert_eq!(batches, expected);
}
