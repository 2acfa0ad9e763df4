//! A stream that the owner of the node ends by its number, whatever holds the stream.

use super::hostile::{TRICKS, World};
use super::*;
use crate::ipc::client_id::ClientId;
use crate::services::{DATA_EXCHANGE, STDIO};
use crate::streams::table::Listener;
use pilot_core::time::Duration;
use pilot_stack::StreamEnd;

const PORT: u16 = 3000;

/// Steps until something holds, for at most a minute.
fn run_until(world: &mut World, mut is_done: impl FnMut(&World) -> bool) {
    let end = world.now() + Duration::from_secs(60);
    while !is_done(world) {
        assert!(world.now() < end, "not in time");
        world.step();
    }
}

/// Ends the only stream of node 0.
fn disconnect(world: &mut World) {
    let stream = world.rooms.cx.stack.streams().next().expect("a stream").number();
    let answer = ask(&mut world.rooms, Request::Disconnect { stream }, b"");
    assert_eq!(answer().expect("at once").expect("it is there")["conn_id"], stream);
    (0..40).for_each(|_| world.step());
}

/// Nothing of a stream is left at node 0 once the disk has done what it was given, and node 1 was told.
fn assert_forgotten(world: &mut World, id: StreamId) {
    run_until(world, |world| world.rooms.services.held() == (0, 0, 0));
    let Rooms { cx, streams, .. } = &world.rooms;
    assert_eq!((cx.stack.streams().count(), streams.held()), (0, 0));
    let peer = cx.stack.endpoint().peers().next().expect("trusted");
    assert_eq!(cx.stack.usage(peer).streams, 0);
    assert_eq!(world.lab.nodes[1].stack.broken(id), Some(StreamEnd::Reset));
}

#[test]
fn a_stream_of_a_service_leaves_nothing_behind() {
    for (number, (trick, _)) in TRICKS.into_iter().enumerate() {
        let mut world = World::new(&format!("disconnect-{number}"));
        let id = world.open(1, trick.port());
        (0..20).for_each(|_| world.step());
        let (begin, more) = (trick.begin(number as u8), trick.go_on(number as u8));
        world.write(1, id, &[begin, more.clone(), more].concat());
        (0..20).for_each(|_| world.step());
        disconnect(&mut world);
        assert_forgotten(&mut world, id);
    }
    // A text of which the disk has not said whether it is written.
    let mut world = World::new("disconnect-text");
    let id = world.open(1, STDIO);
    (0..20).for_each(|_| world.step());
    world.write(1, id, b"hello");
    world.lab.nodes[1].stack.shutdown_write(id);
    run_until(&mut world, |world| world.rooms.services.held().2 > 0);
    disconnect(&mut world);
    assert_forgotten(&mut world, id);
}

#[test]
fn a_stream_that_no_program_has_accepted_leaves_nothing_behind() {
    for is_of_thread in [false, true] {
        let mut world = World::new("disconnect-backlog");
        let (sender, accepted) = unbounded();
        let client = ClientId(9);
        let Rooms { cx, streams, .. } = &mut world.rooms;
        match is_of_thread {
            true => streams.listen(cx, PORT, Listener::thread(sender)),
            false => streams.listen_for(cx, client, PORT),
        }
        .expect("free");
        let id = world.open(1, PORT);
        (0..20).for_each(|_| world.step());
        disconnect(&mut world);
        // A thread would take the stream all the same, and read how it ended.
        drop(accepted);
        let Rooms { cx, streams, .. } = &mut world.rooms;
        streams.unlisten(cx, PORT);
        assert_forgotten(&mut world, id);
    }
}

#[test]
fn a_message_whose_stream_is_ended_is_sent_again() {
    let mut world = World::new("disconnect-mail");
    world.lab.nodes[1].stack.listen(DATA_EXCHANGE).expect("free");
    let send = Request::SendMessage { node: "node-1".into(), kind: None, queue: None, timeout_ms: None };
    let _sent = ask(&mut world.rooms, send, b"hello");
    run_until(&mut world, |world| world.rooms.cx.stack.streams().next().is_some());
    (0..20).for_each(|_| world.step());
    let first = world.rooms.cx.stack.streams().next().expect("a stream");
    disconnect(&mut world);
    assert_eq!(world.rooms.post.len(), 1, "it waits");
    run_until(&mut world, |world| world.rooms.cx.stack.streams().any(|id| id != first));
}

#[test]
fn a_stream_that_does_not_stand_yet_fails_its_opener() {
    let mut world = World::new("disconnect-opening");
    let (sender, opened) = unbounded();
    let cx = &mut world.rooms.cx;
    connect::connect(cx, "node-1", PORT, Vec::new(), Opener::Thread(sender));
    world.rooms.carry_out();
    disconnect(&mut world);
    let failure = opened.try_recv().expect("at once").expect_err("a failure");
    assert_eq!(failure.code, Code::ConnectionReset);
    assert_eq!((world.rooms.cx.stack.streams().count(), world.rooms.cx.calls.len()), (0, 0));
}
