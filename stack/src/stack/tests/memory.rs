//! What one peer makes a stack hold.

use super::*;
use crate::flow::StreamEnd;

const MEMORY: usize = 4 << 20;

/// A hub and two peers that have met.
fn greeted(sizes: StackConfig) -> Star {
    let mut star = Star::with(2, sizes);
    let ids: Vec<PeerId> = star.stacks[0].endpoint().peers().collect();
    let hello = ids.iter().map(|peer| star.stacks[0].connect(star.now, *peer, PORT).expect("trusted"));
    let hello: Vec<StreamId> = hello.collect();
    (0..100).for_each(|_| star.step(MS * 20));
    hello.into_iter().for_each(|id| star.stacks[0].abort(star.now, id));
    (0..100).for_each(|_| star.step(MS * 20));
    for stack in &mut star.stacks {
        stack.streams().collect::<Vec<_>>().into_iter().for_each(|id| stack.abort(star.now, id));
        while stack.poll_event().is_some() {}
    }
    (0..100).for_each(|_| star.step(MS * 20));
    star
}

/// A hub whose peers have little memory, and `count` streams of peer 1 to the hub.
fn crowd(count: usize) -> (Star, Vec<StreamId>) {
    let sizes = StackConfig { ring_len_max: 256 << 10, memory_per_peer_max: MEMORY, ..StackConfig::default() };
    let mut star = greeted(sizes);
    star.stacks[0].listen(PORT).expect("free");
    // The quota is the hub's. The others have room.
    star.stacks[1..].iter_mut().for_each(|stack| stack.config.memory_per_peer_max = 1 << 30);
    let streams = open(&mut star, 1, count);
    (star, streams)
}

fn open(star: &mut Star, number: usize, count: usize) -> Vec<StreamId> {
    let hub = star.stacks[number].endpoint().peers().next().expect("trusted");
    (0..count).map(|_| star.stacks[number].connect(star.now, hub, PORT).expect("few")).collect()
}

/// The hub's usage of the peer with this number.
fn usage(star: &Star, number: usize) -> Usage {
    let key = identity(number).public();
    let peer = star.stacks[0].endpoint().peer_by_identity(&key).expect("trusted");
    star.stacks[0].usage(peer)
}

/// The hub's streams, by the number of the peer.
fn incoming(star: &mut Star) -> Vec<(usize, StreamId)> {
    let hub = &mut star.stacks[0];
    let events: Vec<Event> = core::iter::from_fn(|| hub.poll_event()).collect();
    let ids = events.into_iter().filter_map(|event| match event {
        Event::Incoming { stream, .. } => Some(stream),
        _ => None,
    });
    let number = |hub: &Stack, id: StreamId| {
        let peer = hub.stream_info(id).expect("open").peer;
        let key = hub.endpoint().identity_of(peer).expect("trusted");
        (1..=2).find(|number| identity(*number).public() == key).expect("one of both")
    };
    ids.map(|id| (number(hub, id), id)).collect()
}

/// Writes zeros to the streams while they take any, up to `most` bytes each.
fn write(star: &mut Star, number: usize, streams: &[StreamId], written: &mut [usize], most: usize) {
    for (id, written) in streams.iter().zip(written) {
        let room = (most - *written).min(64 << 10);
        *written += star.stacks[number].send(*id, &vec![0; room]).unwrap_or(0);
    }
}

#[test]
fn unread_streams_of_a_peer_hold_no_more_than_its_budget_and_lose_nothing() {
    const STREAMS: usize = 60;
    const EACH: usize = 200 << 10;
    let (mut star, streams) = crowd(STREAMS);
    let mut written = [0; STREAMS];
    for _ in 0..400 {
        write(&mut star, 1, &streams, &mut written, EACH);
        star.step(MS * 5);
        let usage = usage(&star, 1);
        assert!(usage.memory <= MEMORY && usage.memory_max == MEMORY, "{usage:?}");
    }
    let theirs = incoming(&mut star);
    assert_eq!((theirs.len(), usage(&star, 1).streams), (STREAMS, STREAMS));
    assert!(usage(&star, 1).memory > MEMORY / 4, "{:?}", usage(&star, 1));

    // Another peer is not concerned.
    let other = open(&mut star, 2, 1);
    let mut sent = [0];
    for _ in 0..40 {
        write(&mut star, 2, &other, &mut sent, EACH);
        star.step(MS * 5);
    }
    assert_eq!((sent[0], usage(&star, 2).memory > EACH), (EACH, true));

    // What is read makes room, and everything arrives.
    let mut read = [0; STREAMS];
    let begin = star.now;
    while read.iter().sum::<usize>() < STREAMS * EACH {
        for ((_, id), read) in theirs.iter().zip(&mut read) {
            while let Recv::Data(n) = star.stacks[0].recv_with(*id, |bytes| bytes.len()) {
                *read += n;
            }
        }
        write(&mut star, 1, &streams, &mut written, EACH);
        star.step(MS * 5);
        assert!(star.now < begin + MS * 4_000, "at once, and not when TCP has lost its patience: {read:?}");
    }
}

#[test]
fn a_little_in_each_of_very_many_streams_is_within_the_budget_too() {
    const STREAMS: usize = 760;
    const EACH: usize = 4096;
    let (mut star, streams) = crowd(STREAMS);
    let mut written = [0; STREAMS];
    for _ in 0..400 {
        write(&mut star, 1, &streams, &mut written, EACH);
        star.step(MS * 5);
        let usage = usage(&star, 1);
        assert!(usage.memory <= MEMORY, "{usage:?}");
    }
    let theirs = incoming(&mut star);
    assert_eq!((theirs.len(), usage(&star, 1).streams), (STREAMS, STREAMS));

    // What is read makes room, and everything arrives.
    let (mut read, begin) = (0, star.now);
    while read < STREAMS * EACH {
        for (_, id) in &theirs {
            while let Recv::Data(n) = star.stacks[0].recv_with(*id, |bytes| bytes.len()) {
                read += n;
            }
        }
        write(&mut star, 1, &streams, &mut written, EACH);
        star.step(MS * 5);
        assert!(star.now < begin + MS * 4_000, "at once, and not when TCP has lost its patience: {read} bytes");
    }
}

#[test]
fn one_stream_that_is_read_goes_on_while_others_hold_the_budget() {
    let (mut star, streams) = crowd(60);
    let mut written = [0; 60];
    for _ in 0..400 {
        write(&mut star, 1, &streams, &mut written, 1 << 20);
        star.step(MS * 5);
    }
    let theirs = incoming(&mut star);
    let late = open(&mut star, 1, 1);
    let (mut sent, mut read, begin) = ([0], 0, star.now);
    (0..20).for_each(|_| star.step(MS * 5));
    let (_, id) = incoming(&mut star)[0];
    assert!(theirs.iter().all(|(_, other)| *other != id));
    while read < 100_000 {
        write(&mut star, 1, &late, &mut sent, 100_000);
        star.step(MS * 5);
        while let Recv::Data(n) = star.stacks[0].recv_with(id, |bytes| bytes.len()) {
            read += n;
        }
        assert!(star.now < begin + MS * 20_000, "{read} bytes");
    }
    assert!(usage(&star, 1).memory <= MEMORY);
}

#[test]
fn bytes_to_a_peer_that_reads_nothing_are_bounded_too() {
    let (mut star, streams) = crowd(60);
    (0..100).for_each(|_| star.step(MS * 5));
    let theirs: Vec<StreamId> = incoming(&mut star).into_iter().map(|(_, id)| id).collect();
    let mut written = vec![0; theirs.len()];
    for _ in 0..400 {
        write(&mut star, 0, &theirs, &mut written, 1 << 20);
        star.step(MS * 5);
        assert!(usage(&star, 1).memory <= MEMORY, "{:?}", usage(&star, 1));
    }
    let before: usize = written.iter().sum();
    let begin = star.now;
    while written.iter().sum::<usize>() < before + (8 << 20) {
        for id in &streams {
            while let Recv::Data(_) = star.stacks[1].recv_with(*id, |bytes| bytes.len()) {}
        }
        while star.stacks[0].poll_event().is_some() {}
        write(&mut star, 0, &theirs, &mut written, 1 << 20);
        star.step(MS * 5);
        assert!(star.now < begin + MS * 20_000, "{written:?}");
    }
}

#[test]
fn a_peer_without_budget_gets_no_streams_until_some_end() {
    let (mut star, mut streams) = crowd(0);
    for _ in 0..1100 {
        streams.extend(open(&mut star, 1, 1));
        star.step(MS);
        incoming(&mut star).into_iter().for_each(|(_, id)| star.stacks[0].accepted(id));
    }
    (0..100).for_each(|_| star.step(MS * 5));
    let usage_full = usage(&star, 1);
    assert!(usage_full.memory <= MEMORY && usage_full.streams > 700, "{usage_full:?}");
    let end = |star: &Star, id: &StreamId| star.stacks[1].stream_info(*id).and_then(|info| info.end);
    let refused = streams.iter().filter(|id| end(&star, id) == Some(StreamEnd::Refused)).count();
    assert_eq!(refused + usage_full.streams, 1100);
    for id in &streams[..200] {
        star.stacks[1].abort(star.now, *id);
    }
    (0..100).for_each(|_| star.step(MS * 5));
    let hub = &mut star.stacks[0];
    let over: Vec<StreamId> = hub.streams().filter(|id| hub.broken(*id).is_some()).collect();
    over.into_iter().for_each(|id| hub.close(star.now, id));
    (0..100).for_each(|_| star.step(MS * 5));
    let late = open(&mut star, 1, 1);
    (0..100).for_each(|_| star.step(MS * 5));
    assert!(end(&star, &late[0]).is_none());
}

#[test]
fn what_the_application_keeps_counts() {
    let (mut star, _) = crowd(3);
    (0..100).for_each(|_| star.step(MS * 5));
    let theirs: Vec<StreamId> = incoming(&mut star).into_iter().map(|(_, id)| id).collect();
    let hub = &mut star.stacks[0];
    assert!(hub.keep(theirs[0], MEMORY / 4) > 0);
    assert_eq!(hub.keep(theirs[1], MEMORY / 4), 0);
    assert_eq!(hub.keep(theirs[2], 96), 4000, "a little is always allowed");
    while hub.poll_event().is_some() {}
    hub.keep(theirs[0], 0);
    let events: Vec<Event> = core::iter::from_fn(|| hub.poll_event()).collect();
    assert!(events.contains(&Event::Stream(theirs[1])), "the stream that waits is told: {events:?}");
    assert!(hub.keep(theirs[1], MEMORY / 4) > 0);
    hub.close(star.now, theirs[1]);
    assert!(star.stacks[0].keep(theirs[0], MEMORY / 4) > 0, "a stream that is let go keeps nothing");
}

#[test]
fn a_quota_changes_the_budget_at_once() {
    let (mut star, _) = crowd(3);
    (0..100).for_each(|_| star.step(MS * 5));
    let key = identity(1).public();
    let quota = Some("memory=2MB,streams=3".parse().expect("a quota"));
    let now = star.now;
    star.stacks[0].endpoint_mut().set_quota(now, &key, quota).expect("a peer");
    star.step(MS);
    assert_eq!((usage(&star, 1).memory_max, usage(&star, 1).streams_max), (2_000_000, 3));
    let late = open(&mut star, 1, 1);
    (0..100).for_each(|_| star.step(MS * 5));
    assert_eq!(star.stacks[1].stream_info(late[0]).expect("open").end, Some(StreamEnd::Refused));
}

#[test]
fn no_sender_takes_the_place_of_all_datagrams() {
    let mut star = greeted(StackConfig::default());
    star.stacks[0].bind(PORT).expect("free");
    for number in [1, 2] {
        let hub = star.stacks[number].endpoint().peers().next().expect("trusted");
        for _ in 0..600 {
            star.stacks[number].send_datagram(hub, (9, PORT), b"x").expect("trusted");
            star.step(MS);
        }
    }
    let events = core::iter::from_fn(|| star.stacks[0].poll_event());
    let senders: Vec<_> = events
        .filter_map(|event| match event {
            Event::Datagram { from, .. } => Some(from),
            _ => None,
        })
        .collect();
    let of = |number: usize| senders.iter().filter(|from| **from == identity(number).public()).count();
    assert_eq!((of(1), of(2)), (256, 128));
    assert_eq!(star.stacks[0].datagrams_waiting, 0);
}

#[test]
fn streams_that_their_peer_resets_give_everything_back_whatever_was_dropped() {
    let (mut star, streams) = crowd(60);
    let (mut written, mut kept) = ([0; 60], [0; 60]);
    (0..100).for_each(|_| star.step(MS * 5));
    let theirs = incoming(&mut star);
    for _ in 0..400 {
        write(&mut star, 1, &streams, &mut written, 1 << 20);
        star.step(MS * 5);
        // The application keeps what it reads.
        for ((_, id), kept) in theirs.iter().zip(&mut kept) {
            let room = star.stacks[0].keep(*id, *kept);
            if let Recv::Data(n) = star.stacks[0].recv_with(*id, |bytes| bytes.len().min(room)) {
                *kept += n;
            }
        }
    }
    assert!(usage(&star, 1).memory > MEMORY / 4);
    streams.iter().for_each(|id| star.stacks[1].abort(star.now, *id));
    (0..400).for_each(|_| star.step(MS * 5));
    let hub = &mut star.stacks[0];
    let open = theirs.iter().filter(|(_, id)| hub.broken(*id).is_none()).count();
    assert_eq!(open, 0, "streams are told that they are over");
    theirs.iter().for_each(|(_, id)| hub.close(star.now, *id));
    (0..10).for_each(|_| star.step(MS * 5));
    assert_eq!((usage(&star, 1).memory, usage(&star, 1).streams), (0, 0));
}

#[test]
fn a_stream_that_is_given_up_before_it_stands_leaves_the_budget_at_once() {
    type End = fn(&mut Stack, Instant, StreamId);
    let ends: [End; 3] = [Stack::close, Stack::give_up, Stack::abort];
    for end in ends {
        let mut star = Star::new(1, 4096);
        let (hub, now) = (&mut star.stacks[0], star.now);
        let peer = hub.endpoint().peers().next().expect("trusted");
        let streams: Vec<StreamId> = (0..10).map(|_| hub.connect(now, peer, PORT).expect("few")).collect();
        // The question for a tunnel leaves, and nothing is answered.
        while hub.poll_transmit(now, &mut vec![]).is_some() {}
        assert_eq!(hub.usage(peer).streams, streams.len());
        for (given_up, id) in streams.into_iter().enumerate() {
            end(hub, now, id);
            assert_eq!((hub.usage(peer).streams, hub.usage(peer).memory), (9 - given_up, (9 - given_up) * 4096));
        }
        // The peer's stack follows when the question is repeated, and streams that come later are served.
        star.now = now + MS * 2000;
        let (hub, now) = (&mut star.stacks[0], star.now);
        hub.handle_timeout(now);
        while hub.poll_transmit(now, &mut vec![]).is_some() {}
        assert!(hub.slots.get(peer).is_none(), "nothing is left of it");
        let later = hub.connect(now, peer, PORT).expect("few");
        (0..500).for_each(|_| star.step(MS * 20));
        assert!(star.stacks[0].stream_info(later).is_some_and(|info| info.connected));
    }
}
