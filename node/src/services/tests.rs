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
    served.services.delivered(cx, delivery, Ok(Receipt { fresh: true, seq: 4 }));
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
    let message = crate::mail::frame::emit_tagged(&[3; 16], Kind::Json, b"{}");
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
    assert!(matches!(&jobs[1], Job::File(FileJob::Open { len: 100, .. })));
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
