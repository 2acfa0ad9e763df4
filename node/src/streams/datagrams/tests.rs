//! Datagram ports of clients, and datagrams between two nodes in memory.

use super::*;
use crate::platform::{recv_packet, send_packet};
use crate::tests::{Lab, addr, json, key};
use pilot_stack::Event;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

fn room() -> Datagrams {
    let poll = mio::Poll::new().expect("poll");
    Datagrams::new(poll.registry().try_clone().expect("registry"))
}

/// Opens a port; gives its number and the client's end.
fn open(room: &mut Datagrams, cx: &mut Context, port: u16) -> Result<(u16, OwnedFd), Code> {
    room.open(cx, ClientId(1), RequestNumber(1), port).map_err(|f| f.code)?;
    match cx.effects().remove(0) {
        Effect::ReplyDescriptor(_, _, data, fd) => Ok((json(&data)["port"].as_u64().expect("a number") as u16, fd)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_port_is_open_once_and_free_again_with_its_descriptor() {
    let (mut lab, mut room) = (Lab::alone(), room());
    let cx = &mut lab.nodes[0];
    let (port, theirs) = open(&mut room, cx, 0).expect("room");
    assert_eq!(port, FIRST_DYNAMIC_PORT);
    assert_eq!(open(&mut room, cx, port).map(|_| ()), Err(Code::Conflict));
    let (next, _other) = open(&mut room, cx, 0).expect("room");
    assert_eq!(next, FIRST_DYNAMIC_PORT + 1);
    drop(theirs);
    room.readiness(Room::Datagrams.token(port.into()));
    assert!(room.has_more());
    room.serve(cx);
    assert!(!room.has_more());
    assert_eq!(open(&mut room, cx, 0).expect("room").0, port);
}

#[test]
fn a_client_that_does_not_read_misses_datagrams_which_are_counted() {
    let (mut lab, mut room) = (Lab::alone(), room());
    let cx = &mut lab.nodes[0];
    let (port, theirs) = open(&mut room, cx, 5353).expect("room");
    let mut delivered = 0;
    while room.dropped == 0 {
        room.deliver(cx, addr(1), 7, port, b"hello");
        delivered += 1;
    }
    room.deliver(cx, addr(1), 7, 9999, b"for no client");
    assert_eq!(room.dropped, 1);
    let mut packet = [0; 64];
    for _ in 1..delivered {
        let n = recv_packet(&theirs, &mut [IoSliceMut::new(&mut packet)]).expect("a datagram");
        assert_eq!(packet[..n], [&addr(1).to_bytes()[..], &[0, 7], b"hello"].concat());
    }
}

#[test]
fn packets_of_a_client_reach_the_peer_that_they_name_some_in_each_turn() {
    let (mut lab, mut room) = (Lab::friends(2), room());
    let cx = &mut lab.nodes[0];
    let (port, theirs) = open(&mut room, cx, 0).expect("room");
    let packet = |node: usize| [&addr(node).to_bytes()[..], &5353u16.to_be_bytes(), b"hello"].concat();
    // The head is cut, and there is no node 9: both are lost.
    for bytes in [&b"short"[..], &packet(9), &packet(1)] {
        send_packet(&theirs, &[IoSlice::new(bytes)]).expect("room");
    }
    lab.nodes[1].stack.bind(5353).expect("free");
    room.readiness(Room::Datagrams.token(port.into()));
    room.serve(&mut lab.nodes[0]);
    assert!(!room.has_more());
    let (from, source, payload) = lab.event(1, |_, event| match event {
        Event::Datagram { from, source_port, payload, .. } => Some((from, source_port, payload)),
        _ => None,
    });
    assert_eq!((from, source, &payload[..]), (key(0), port, &b"hello"[..]));

    let cx = &mut lab.nodes[0];
    for _ in 0..PER_TURN {
        send_packet(&theirs, &[IoSlice::new(&packet(9))]).expect("room");
    }
    room.readiness(Room::Datagrams.token(port.into()));
    room.serve(cx);
    assert!(room.has_more(), "another turn sees that there are no more");
    room.serve(cx);
    assert!(!room.has_more());
    let code = |cx: &mut Context, node: &str, len| send_datagram(cx, node, (1, 2), &vec![0; len]).map_err(|f| f.code);
    assert_eq!(code(cx, "node-9", 5), Err(Code::TrustRequired));
    assert_eq!(code(cx, "node-1", 70_000), Err(Code::InvalidArgument));
}

#[test]
fn ports_have_a_maximum_and_all_are_free_again_with_their_descriptors() {
    let (mut lab, mut room) = (Lab::alone(), room());
    let cx = &mut lab.nodes[0];
    for _ in 0..2 {
        let ports: Vec<_> = (0..DATAGRAM_PORTS_MAX).map(|_| open(&mut room, cx, 0).expect("room")).collect();
        assert_eq!(open(&mut room, cx, 0).map(|_| ()), Err(Code::Full));
        assert_eq!(open(&mut room, cx, 7).map(|_| ()), Err(Code::Full));
        for (port, theirs) in ports {
            drop(theirs);
            room.readiness(Room::Datagrams.token(port.into()));
        }
        room.serve(cx);
        assert_eq!((room.ports.len(), room.readable.len()), (0, 0));
        assert!(cx.stack.bind(FIRST_DYNAMIC_PORT).is_ok(), "no port is bound in the stack either");
        cx.stack.unbind(FIRST_DYNAMIC_PORT);
    }
}
