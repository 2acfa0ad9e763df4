//! Scenarios of streams that end, in the simulator: a reader gets everything or learns that it did not, and a writer learns
//! that its bytes are not read. A failure prints its seed; `PILOT_SEED` repeats that seed.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::endpoint::ResetReason;
use pilot_core::time::Duration;
use pilot_stack::{CommandError, Recv, StreamEnd, StreamId};
use pilot_tests::{Conditions, World, seed};

/// Round trip over links in their default condition, and what acknowledgements may wait.
const ROUND_TRIP: Duration = Duration::from_millis(20 + 10);
const TEXT: &[u8] = b"a few bytes";

fn connected(seed: u64) -> (World, StreamId, StreamId) {
    println!("seed {seed}");
    let mut world = World::new(seed, 2);
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    let (a, b) = world.open(0, 1, 1000);
    (world, a, b)
}

fn read_all(world: &mut World, node: usize, stream: StreamId) -> (Vec<u8>, Recv) {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 65536]);
    loop {
        match world.nodes[node].stack.recv(stream, &mut buffer) {
            Recv::Data(n) => all.extend_from_slice(&buffer[..n]),
            other => return (all, other),
        }
    }
}

fn readable(world: &World, node: usize, stream: StreamId) -> usize {
    world.nodes[node].stack.stream_info(stream).unwrap().readable
}

fn close(world: &mut World, node: usize, stream: StreamId) {
    let now = world.now;
    world.nodes[node].stack.close(now, stream);
}

#[test]
fn closing_with_unread_bytes_resets_within_a_round_trip() {
    let (mut world, a, b) = connected(seed(301));
    world.nodes[0].stack.send(a, TEXT).unwrap();
    world.run_until("the bytes arrive", |w| readable(w, 1, b) == TEXT.len());
    close(&mut world, 1, b);
    world.run_for(ROUND_TRIP);
    assert_eq!(read_all(&mut world, 0, a), (vec![], Recv::Ended(StreamEnd::Reset)));
    assert_eq!(world.nodes[0].stack.send(a, TEXT), Err(CommandError::Ended(StreamEnd::Reset)));
    let info = world.nodes[0].stack.stream_info(a).unwrap();
    assert_eq!((info.acknowledged, info.end), (TEXT.len() as u64, Some(StreamEnd::Reset)));
}

#[test]
fn bytes_that_arrive_after_an_orderly_close_reset_their_writer_alone() {
    let (mut world, a, b) = connected(seed(302));
    world.nodes[1].stack.send(b, TEXT).unwrap();
    close(&mut world, 1, b);
    world.run_for(ROUND_TRIP);
    assert_eq!(world.nodes[0].stack.send(a, TEXT), Ok(TEXT.len()), "half closed");
    world.run_for(ROUND_TRIP);
    assert_eq!(world.nodes[0].stack.send(a, TEXT), Err(CommandError::Ended(StreamEnd::Reset)));
    // The direction from the closing node has ended in order before.
    assert_eq!(read_all(&mut world, 0, a), (TEXT.to_vec(), Recv::Fin));
    assert_eq!(world.nodes[0].stack.broken(a), Some(StreamEnd::Reset));
}

#[test]
fn a_writer_never_pushes_more_than_the_rings_into_a_closed_stream() {
    let (mut world, a, b) = connected(seed(303));
    close(&mut world, 1, b);
    let (mut written, chunk, begin) = (0, vec![7; 65536], world.now);
    world.run_until("the writer is told", |w| match w.nodes[0].stack.send(a, &chunk) {
        Ok(n) => {
            written += n;
            false
        }
        Err(e) => {
            assert_eq!(e, CommandError::Ended(StreamEnd::Reset));
            true
        }
    });
    // The peer's FIN is acknowledged behind what the link carries already.
    assert!(world.now.since(begin) <= ROUND_TRIP * 4, "{:?}", world.now.since(begin));
    assert!(written <= 32 << 20, "{written}");
}

#[test]
fn what_was_written_arrives_before_the_reset_at_every_loss_rate() {
    let total = 400_000;
    for (loss, begin) in [(0, 304), (50, 305), (200, 306)] {
        let (mut world, a, b) = connected(seed(begin));
        world.set_conditions(Conditions { loss, reorder: loss, ..Conditions::default() });
        world.nodes[0].stack.send(a, TEXT).unwrap();
        world.run_until("the question arrives", |w| readable(w, 1, b) == TEXT.len());
        let answer: Vec<u8> = (0..total).map(|i| i as u8).collect();
        assert_eq!(world.nodes[1].stack.send(b, &answer), Ok(total), "the ring takes the answer");
        close(&mut world, 1, b);
        let mut got = Vec::new();
        world.run_until("the stream ends", |w| {
            let (bytes, end) = read_all(w, 0, a);
            got.extend(bytes);
            assert!(matches!(end, Recv::Blocked | Recv::Ended(StreamEnd::Reset)), "{end:?}");
            end != Recv::Blocked
        });
        assert!(got == answer, "{} of {total} bytes at a loss of {loss} ‰", got.len());
    }
}

#[test]
fn a_stream_that_is_given_up_never_looks_complete() {
    let (mut world, a, b) = connected(seed(307));
    world.nodes[0].stack.send(a, b"{\"action\": \"delete\", \"path\": \"/tmp/a").unwrap();
    let now = world.now;
    world.nodes[0].stack.give_up(now, a);
    world.run_for(ROUND_TRIP * 2);
    let (bytes, end) = read_all(&mut world, 1, b);
    assert_eq!((bytes.len(), end), (36, Recv::Ended(StreamEnd::Reset)));
}

#[test]
fn bytes_that_wait_are_read_before_a_received_reset() {
    let (mut world, a, b) = connected(seed(308));
    world.nodes[0].stack.send(a, TEXT).unwrap();
    world.run_until("the bytes arrive", |w| readable(w, 1, b) == TEXT.len());
    let now = world.now;
    world.nodes[0].stack.abort(now, a);
    world.run_for(ROUND_TRIP);
    assert_eq!(world.nodes[1].stack.broken(b), Some(StreamEnd::Reset), "known before anything is read");
    assert_eq!(readable(&world, 1, b), TEXT.len());
    assert_eq!(read_all(&mut world, 1, b), (TEXT.to_vec(), Recv::Ended(StreamEnd::Reset)));
}

#[test]
fn an_end_in_order_stays_in_order_when_the_peer_resets_or_restarts_later() {
    let (mut world, a, b) = connected(seed(309));
    world.nodes[0].stack.send(a, TEXT).unwrap();
    world.nodes[0].stack.shutdown_write(a);
    world.run_for(ROUND_TRIP);
    let now = world.now;
    world.nodes[0].stack.abort(now, a);
    world.run_for(ROUND_TRIP);
    assert_eq!(read_all(&mut world, 1, b), (TEXT.to_vec(), Recv::Fin), "all of it had come");
    assert_eq!(world.nodes[1].stack.send(b, TEXT), Err(CommandError::Ended(StreamEnd::Reset)));

    // Both directions have ended: neither the peer's restart nor a late reset is news.
    let (mut world, a, b) = connected(seed(310));
    world.nodes[0].stack.send(a, TEXT).unwrap();
    world.nodes[0].stack.shutdown_write(a);
    world.nodes[1].stack.shutdown_write(b);
    world.run_for(ROUND_TRIP * 2);
    world.restart(0);
    world.run_until("the peer is back", |w| w.is_registered(0));
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.nodes[1].stack.broken(b), None);
    assert_eq!(read_all(&mut world, 1, b), (TEXT.to_vec(), Recv::Fin));

    // One that goes on is told the restart.
    let (mut world, _, b) = connected(seed(311));
    world.restart(0);
    let restarted = Some(StreamEnd::Tunnel(ResetReason::Restarted));
    world.run_until("the restart is known", |w| w.nodes[1].stack.broken(b) == restarted);
}

#[test]
fn a_closed_stream_with_a_peer_that_does_not_read_ends_with_the_linger() {
    let (mut world, a, b) = connected(seed(312));
    world.nodes[0].stack.send(a, TEXT).unwrap();
    world.run_until("the bytes arrive", |w| readable(w, 1, b) == TEXT.len());
    let chunk = vec![7; 1 << 20];
    // The rings of both nodes fill, since nothing is read.
    world.run_until("nothing more is taken", |w| w.nodes[1].stack.send(b, &chunk) == Ok(0) && readable(w, 0, a) > 0);
    world.run_for(Duration::from_secs(2));
    close(&mut world, 1, b);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.nodes[0].stack.broken(a), None, "what was written may still be read");
    world.run_for(Duration::from_secs(40));
    assert_eq!(world.nodes[0].stack.broken(a), Some(StreamEnd::Reset));
}
