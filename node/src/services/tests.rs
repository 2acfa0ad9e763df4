//! Services of one node, for a peer in memory.

use super::*;
use crate::tests::{Lab, WALL_S, json, key};
use pilot_stack::Event;

/// Node 0 with its services, and node 1, which opens streams.
struct Served {
    lab: Lab,
    services: Services,
    /// Effects that no test has taken, in order.
    effects: Vec<Effect>,
}

impl Served {
    fn new() -> Self {
        let mut lab = Lab::friends(2);
        PORTS.iter().for_each(|port| lab.nodes[0].stack.listen(*port).expect("free"));
        Self { lab, services: Services::default(), effects: Vec::new() }
    }

    /// Runs the services for the events of node 0.
    fn serve(&mut self) {
        let cx = &mut self.lab.nodes[0];
        let mut ready = Vec::new();
        while let Some(event) = cx.stack.poll_event() {
            match event {
                Event::Incoming { port, stream } => {
                    self.services.begin(cx, stream, port);
                    ready.push(stream);
                }
                Event::Stream(id) => ready.push(id),
                _ => {}
            }
        }
        loop {
            for effect in cx.effects() {
                match effect {
                    Effect::Ready(id) => ready.push(id),
                    Effect::Close(id) => cx.stack.close(cx.now, id),
                    Effect::GiveUp(id) => cx.stack.give_up(cx.now, id),
                    Effect::Publish(from, event) => drop(self.services.publish(cx, from, &event)),
                    other => self.effects.push(other),
                }
            }
            if ready.is_empty() && cx.out.is_empty() {
                return;
            }
            ready.drain(..).for_each(|id| self.services.serve(cx, id));
        }
    }

    /// Opens a stream from node 1 and writes `bytes`.
    fn open(&mut self, port: u16, bytes: &[u8]) -> StreamId {
        let cx = &mut self.lab.nodes[1];
        let peer = cx.stack.endpoint().peer_by_identity(&key(0)).expect("trusted");
        let id = cx.stack.connect_with(cx.now, peer, port, bytes.to_vec()).expect("trusted");
        while cx.stack.poll_event().is_some() {}
        id
    }

    fn run_until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..2000 {
            self.serve();
            if is_done(self) {
                return;
            }
            let mut steps = 0;
            self.lab.run_until(|_| {
                steps += 1;
                steps > 1
            });
        }
        panic!("the services do nothing more");
    }

    /// The next `len` bytes at node 1's end.
    fn read(&mut self, id: StreamId, len: usize) -> Vec<u8> {
        let mut got = Vec::new();
        self.run_until(|served| {
            let mut buffer = vec![0; len - got.len()];
            if let Recv::Data(n) = served.lab.nodes[1].stack.recv(id, &mut buffer) {
                got.extend_from_slice(&buffer[..n]);
            }
            got.len() == len
        });
        got
    }
}

#[test]
fn echo_gives_every_byte_back_and_ends_with_its_peer() {
    let mut served = Served::new();
    let id = served.open(ECHO, b"hello");
    assert_eq!(served.read(id, 5), b"hello");
    served.lab.nodes[1].stack.shutdown_write(id);
    served.run_until(|served| served.services.sessions.is_empty());
    served.run_until(|served| served.lab.nodes[1].stack.recv(id, &mut [0]) == Recv::Fin);
}

#[test]
fn events_reach_every_subscriber_but_their_publisher() {
    let mut served = Served::new();
    let all = served.open(EVENT_STREAM, &Published::emit("*", b""));
    let some = served.open(EVENT_STREAM, &Published::emit("b.*", b""));
    let both = [Published::emit("*", b""), Published::emit("a.x", b"1")].concat();
    served.run_until(|served| served.services.subscribers.len() == 2);
    let publisher = served.open(EVENT_STREAM, &both);
    let expected = Published::emit("a.x", b"1");
    assert_eq!(served.read(all, expected.len()), expected);

    let event = Published { topic: "b.y".into(), payload: b"2".to_vec() };
    let count = served.services.publish(&mut served.lab.nodes[0], None, &event);
    assert_eq!(count, 3, "the node's own event is for everyone");
    let expected = Published::emit("b.y", b"2");
    for id in [all, some, publisher] {
        assert_eq!(served.read(id, expected.len()), expected, "the publisher did not get its own event before");
    }
}

#[test]
fn a_text_stream_is_answered_once_its_message_is_on_disk() {
    let mut served = Served::new();
    served.lab.nodes[0].is_watched = true;
    let id = served.open(STDIO, b"hello");
    served.lab.nodes[1].stack.shutdown_write(id);
    served.run_until(|served| !served.effects.is_empty());
    let Some(Effect::Submit(Job::Deliver(message), ticket)) = served.effects.pop() else { panic!("no message") };
    assert_eq!((message.sender, message.kind, message.at), (key(1), Kind::Text, WALL_S));
    let cx = &mut served.lab.nodes[0];
    let Some(Call::Delivery(delivery)) = cx.calls.take(ticket) else { panic!("no call") };
    served.services.delivered(cx, delivery, Ok(Receipt { fresh: true, seq: 4, answers: false }));
    let answer = served.read(id, 10);
    assert!(answer.starts_with(b"{"), "{answer:?}");
    let is_told = |effect: &Effect| matches!(effect, Effect::Tell(event) if json(event)["event"] == "message");
    assert!(served.effects.iter().any(is_told));
    served.run_until(|served| served.services.sessions.is_empty());
}

#[test]
fn mail_hands_messages_and_files_to_the_disk_and_gives_files_up_with_their_stream() {
    let mut served = Served::new();
    let file = crate::mail::frame::emit_frame(crate::mail::frame::FILE, &[&1u16.to_be_bytes(), b"a", &[7; 100]]);
    let message = crate::mail::frame::emit_tagged(&[3; 16], Tag::Plain, Kind::Json, b"{}");
    let id = served.open(DATA_EXCHANGE, &[&message[..], &file[..60]].concat());
    served.run_until(|served| served.effects.len() >= 3);
    let jobs: Vec<Job> = served
        .effects
        .drain(..)
        .map(|effect| match effect {
            Effect::Submit(job, _) => job,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(matches!(&jobs[0], Job::DeliverInLine(message, _) if message.id == [3; 16]));
    assert!(matches!(&jobs[1], Job::File(FileJob::Open { file, .. }) if file.len == 100));
    assert!(matches!(&jobs[2], Job::File(FileJob::Data { offset: 0, .. })));
    let cx = &mut served.lab.nodes[1];
    cx.stack.abort(cx.now, id);
    served.run_until(|served| served.services.sessions.is_empty());
    assert!(matches!(served.effects[..], [Effect::Submit(Job::File(FileJob::Drop { .. }), _)]));
}

#[test]
fn a_stream_that_no_service_knows_is_reset() {
    let mut lab = Lab::alone();
    let (mut services, id) = (Services::default(), StreamId::from_number(9));
    for port in [ECHO, 9] {
        services.begin(&mut lab.nodes[0], id, port);
        assert!(matches!(lab.nodes[0].effects()[..], [Effect::GiveUp(stream)] if stream == id));
    }
    services.serve(&mut lab.nodes[0], id);
    assert_eq!(lab.nodes[0].effects().len(), 0);
}

impl Served {
    /// Node 0 with this quota for node 1, and node 2 beside.
    fn limited(quota: &str) -> Self {
        let mut served = Self { lab: Lab::friends(3), ..Self::new() };
        let cx = &mut served.lab.nodes[0];
        PORTS.iter().for_each(|port| cx.stack.listen(*port).expect("free"));
        let quota = quota.parse().expect("a quota");
        cx.stack.endpoint_mut().set_quota(cx.now, &key(1), Some(quota)).expect("a peer");
        served
    }

    /// Memory that node 1 makes node 0 hold, and the most.
    fn memory(&self) -> (usize, usize) {
        let stack = &self.lab.nodes[0].stack;
        let peer = stack.endpoint().peer_by_identity(&key(1)).expect("trusted");
        let usage = stack.usage(peer);
        (usage.memory, usage.memory_max)
    }

    /// Writes `len` bytes at node 1's end, as far as they fit; gives how many.
    fn write(&mut self, id: StreamId, len: usize) -> usize {
        self.lab.nodes[1].stack.send(id, &vec![b'x'; len]).unwrap_or(0)
    }

    /// The ends of node 1's streams.
    fn state(&self, id: StreamId) -> Option<pilot_stack::StreamEnd> {
        self.lab.nodes[1].stack.stream_info(id).and_then(|info| info.end)
    }
}

#[test]
fn unfinished_text_and_frames_are_bounded_for_a_peer_and_the_peer_learns_why() {
    let head = [&2u32.to_be_bytes()[..], &(16u32 << 20).to_be_bytes()].concat();
    for (port, begin) in [(STDIO, &b"{"[..]), (DATA_EXCHANGE, &head)] {
        let mut served = Served::limited("memory=4MB");
        let streams: Vec<StreamId> = (0..40).map(|_| served.open(port, begin)).collect();
        let (mut sent, mut rounds) = (vec![0; streams.len()], 0);
        served.run_until(|served| {
            for (id, sent) in streams.iter().zip(&mut sent) {
                *sent += served.write(*id, (1 << 20) - *sent);
            }
            let (memory, max) = served.memory();
            assert!(memory <= max, "{memory} of {max} on {port}");
            rounds += 1;
            rounds == 600
        });
        assert!(sent.iter().all(|sent| *sent > 4096), "each stream had its turn: {sent:?}");
        let ended: Vec<StreamId> = streams.iter().copied().filter(|id| served.state(*id).is_some()).collect();
        assert!((1..=streams.len()).contains(&ended.len()), "{} streams were refused", ended.len());
        let mut answer = [0; 200];
        let Recv::Data(len) = served.lab.nodes[1].stack.recv(ended[0], &mut answer) else { panic!("no answer") };
        let words = String::from_utf8_lossy(&answer[..len]);
        assert!(words.contains(NO_MEMORY), "{words}");
        assert!(served.effects.iter().all(|effect| !matches!(effect, Effect::Submit(..))), "nothing was stored");

        // Another peer is not concerned.
        let cx = &mut served.lab.nodes[2];
        let hub = cx.stack.endpoint().peer_by_identity(&key(0)).expect("trusted");
        let other = cx.stack.connect_with(cx.now, hub, STDIO, b"hello".to_vec()).expect("trusted");
        cx.stack.shutdown_write(other);
        served.run_until(|served| !served.effects.is_empty());
        assert!(matches!(&served.effects[..], [Effect::Submit(Job::Deliver(message), _)] if message.sender == key(2)));

        for id in streams {
            let cx = &mut served.lab.nodes[1];
            cx.stack.abort(cx.now, id);
        }
        served.run_until(|served| served.services.sessions.len() == 1);
        served.run_until(|served| served.memory().0 == 0);
    }
}

#[test]
fn a_message_that_fills_the_budget_is_no_reason_to_refuse_the_next_while_the_disk_writes() {
    let mut served = Served::limited("memory=4MB");
    let frame = crate::mail::frame::emit_tagged(&[3; 16], Tag::Plain, Kind::Binary, &vec![7; 1_400_000]);
    let id = served.open(DATA_EXCHANGE, b"");
    let (bytes, mut sent) = ([&frame[..], &frame[..]].concat(), 0);
    let mut write = |served: &mut Served| sent += served.lab.nodes[1].stack.send(id, &bytes[sent..]).expect("open");
    let is_delivery = |effect: &Effect| matches!(effect, Effect::Submit(Job::DeliverInLine(..), _));
    served.run_until(|served| {
        write(served);
        served.effects.iter().any(is_delivery)
    });
    let mut rounds = 0;
    served.run_until(|served| {
        write(served);
        rounds += 1;
        rounds == 200
    });
    assert_eq!((served.effects.len(), served.state(id)), (1, None), "it waits for the disk");
    let Some(Effect::Submit(_, ticket)) = served.effects.pop() else { panic!("no job") };
    let cx = &mut served.lab.nodes[0];
    let Some(Call::Delivery(delivery)) = cx.calls.take(ticket) else { panic!("no call") };
    served.services.delivered(cx, delivery, Ok(Receipt { fresh: true, seq: 1, answers: false }));
    served.run_until(|served| {
        write(served);
        served.effects.iter().any(is_delivery)
    });
}

#[test]
fn subscribers_that_read_nothing_are_bounded_for_their_peer() {
    let mut served = Served::limited("memory=4MB");
    let subscribe = Published::emit("*", b"");
    for _ in 0..10 {
        served.open(EVENT_STREAM, &subscribe);
    }
    served.run_until(|served| served.services.subscribers.len() == 10);
    let event = Published { topic: "a".into(), payload: vec![7; 100_000] };
    let mut counts = Vec::new();
    for _ in 0..10 {
        counts.push(served.services.publish(&mut served.lab.nodes[0], None, &event));
        let mut rounds = 0;
        served.run_until(|_| {
            rounds += 1;
            rounds > 20
        });
        let (memory, max) = served.memory();
        assert!(memory <= max, "{memory} of {max}");
    }
    assert!(counts[0] == 10 && counts[9] < 10, "{counts:?}");
}

#[test]
fn messages_beyond_the_quota_of_a_day_are_answered_and_stored_nowhere() {
    let mut served = Served::limited("messages=2/day");
    let frame = |n: u8| crate::mail::frame::emit_tagged(&[n; 16], Tag::Plain, Kind::Text, b"hi");
    let id = served.open(DATA_EXCHANGE, &[frame(1), frame(2), frame(3), frame(4)].concat());
    served.run_until(|served| served.effects.len() >= 2);
    for effect in std::mem::take(&mut served.effects) {
        let Effect::Submit(Job::DeliverInLine(..), ticket) = effect else { panic!("{effect:?}") };
        let cx = &mut served.lab.nodes[0];
        let Some(Call::Delivery(delivery)) = cx.calls.take(ticket) else { panic!("no call") };
        served.services.delivered(cx, delivery, Ok(Receipt { fresh: true, seq: 1, answers: false }));
    }
    let full = "ERR the inbox is full for this peer today: its quota is 2 messages a day";
    let expected: Vec<u8> = ["ACK TEXT 2 bytes", "ACK TEXT 2 bytes", full, full]
        .iter()
        .flat_map(|text| crate::mail::frame::emit_answer(text))
        .collect();
    assert_eq!(served.read(id, expected.len()), expected);
    assert!(served.effects.is_empty());
}

#[test]
fn a_stream_that_waits_for_the_disk_only_ends_with_its_reset() {
    let mut served = Served::new();
    // A file of which the disk has everything, and a malformed one, after which nothing more is read.
    let whole = crate::mail::frame::emit_frame(crate::mail::frame::FILE, &[&1u16.to_be_bytes(), b"a", &[7; 100]]);
    let malformed = crate::mail::frame::emit_frame(crate::mail::frame::FILE, &[&[0xff, 0xff]]);
    let id = served.open(DATA_EXCHANGE, &[whole, malformed].concat());
    let is_end = |effect: &Effect| matches!(effect, Effect::Submit(Job::File(FileJob::End { .. }), _));
    served.run_until(|served| served.effects.iter().any(is_end));
    let cx = &mut served.lab.nodes[1];
    cx.stack.abort(cx.now, id);
    served.run_until(|served| served.services.sessions.is_empty());
    served.run_until(|served| served.memory().0 == 0);
}

#[test]
fn a_stream_gives_its_service_a_slice_in_a_round() {
    let mut served = Served::new();
    let id = served.open(STDIO, b"");
    let mut sent = 0;
    for _ in 0..200 {
        sent += served.write(id, (1 << 20) - sent);
        let mut steps = 0;
        served.lab.run_until(|_| {
            steps += 1;
            steps > 1
        });
    }
    // The ring is full; the first look takes it in slices.
    let cx = &mut served.lab.nodes[0];
    let mut incoming = None;
    while let Some(event) = cx.stack.poll_event() {
        if let Event::Incoming { port, stream } = event {
            served.services.begin(cx, stream, port);
            incoming = Some(stream);
        }
    }
    let stream = incoming.expect("a stream");
    let before = cx.stack.stream_info(stream).expect("open").readable;
    assert!(before > 200_000, "{before} bytes");
    served.services.serve(cx, stream);
    let left = cx.stack.stream_info(stream).expect("open").readable;
    assert_eq!(before - left, SLICE_LEN_MAX);
    assert!(cx.effects().iter().any(|effect| matches!(effect, Effect::Ready(id) if *id == stream)), "the rest follows");
}

#[test]
fn a_file_is_measured_by_the_quota_of_its_sender() {
    let file = crate::mail::frame::emit_frame(crate::mail::frame::FILE, &[&1u16.to_be_bytes(), b"a", &[7; 100]]);
    for (quota, bytes) in [("disk=1KB", 1000), ("memory=4MB", pilot_core::trust::Quota::DISK)] {
        let mut served = Served::limited(quota);
        served.open(DATA_EXCHANGE, &file[..60]);
        served.run_until(|served| !served.effects.is_empty());
        let Effect::Submit(Job::File(FileJob::Open { file, .. }), _) = &served.effects[0] else { panic!("no file") };
        assert_eq!(file.quota, bytes);
    }
}

#[test]
fn subscribers_of_a_peer_have_a_maximum_and_walk_back_to_none() {
    let mut served = Served::new();
    let subscribe = Published::emit("*", b"");
    let streams: Vec<StreamId> = (0..=SUBSCRIBERS_OF_PEER_MAX).map(|_| served.open(EVENT_STREAM, &subscribe)).collect();
    served.run_until(|served| streams.iter().any(|id| served.state(*id).is_some()));
    assert_eq!(served.services.held(), (SUBSCRIBERS_OF_PEER_MAX, SUBSCRIBERS_OF_PEER_MAX, 0));
    for id in streams {
        let cx = &mut served.lab.nodes[1];
        cx.stack.abort(cx.now, id);
    }
    served.run_until(|served| served.services.held() == (0, 0, 0));
}
