//! Owns the run of a mapping without sockets, for the fuzz targets (`fuzz/`).

use super::mapper::Mapper;
use pilot_core::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// Gives datagrams of a gateway to a mapping for `client`: each after its pause, the first of `datagrams` to everybody in turns with
/// those to this node. Gives the mapped addresses in their order, and how many datagrams the gateway was sent. Does not block; any thread may call.
pub fn mapped(client: SocketAddr, datagrams: &[(Duration, &[u8])]) -> (Vec<SocketAddr>, usize) {
    let mut now = Instant::ZERO;
    let (mut mapper, mut mapped, mut sent) = (Mapper::new(now, client, *b"abcdefghijkl"), Vec::new(), 0);
    for (at, (pause, datagram)) in datagrams.iter().enumerate() {
        let until = now + *pause;
        while mapper.poll_timeout() <= until {
            now = now.max(mapper.poll_timeout());
            mapper.handle_timeout(now);
            assert!(mapper.poll_timeout() > now, "a timer that was served lies ahead");
            sent += std::iter::from_fn(|| mapper.poll_transmit()).count();
        }
        now = until;
        if at % 4 == 3 {
            mapper.hear(now, datagram);
        } else {
            mapper.handle(now, datagram);
        }
        mapped.extend(mapper.held().ok().map(|held| held.external));
    }
    mapped.dedup();
    (mapped, sent)
}
