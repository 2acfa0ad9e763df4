//! The room with real sockets on this machine and peers in memory.

use super::entry::{Entry, Kind, Listener};
use super::forward::ForwardTerms;
use super::listen::Listen;
use super::room::{CONNECTIONS_MAX, ENTRIES_MAX};
use super::*;
use crate::context::Context;
use crate::effect::Effect;
use crate::failure::Code;
use crate::request::Request;
use crate::tests::Lab;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

fn room() -> (mio::Poll, Programs) {
    let poll = mio::Poll::new().expect("poll");
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
    let programs = Programs::new(poll.registry().try_clone().expect("registry"), waker);
    (poll, programs)
}

fn forward(programs: &mut Programs, cx: &Context, listen: &str) -> Result<String, Code> {
    let terms = ForwardTerms { listen: listen.into(), node: "node-1".into(), port: 80, fd: None };
    programs.forward(cx, terms, Life::Kept, true).map(|forward| forward.listen).map_err(|failure| failure.code)
}

fn expose(programs: &mut Programs, cx: &Context, port: u16) -> Result<(), Code> {
    let (target, nodes) = ("8080".into(), Vec::new());
    let terms = ExposeTerms { port, target, http: false, a2a: false, proxy_protocol: false, nodes };
    programs.expose(cx, terms, Life::Kept).map(drop).map_err(|failure| failure.code)
}

/// Lets the room accept until `count` connections are there.
fn accept(programs: &mut Programs, cx: &mut Context, count: usize) {
    for _ in 0..1000 {
        if programs.joints.len() == count {
            return;
        }
        programs.note_knock(programs.entries[0].number);
        programs.handle_timeout(cx);
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} connections, not {count}", programs.joints.len());
}

#[test]
fn forwards_and_exposed_ports_have_maxima() {
    let (lab, (_poll, mut programs)) = (Lab::friends(2), room());
    let cx = &lab.nodes[0];
    for port in 1..=ENTRIES_MAX as u16 {
        assert_eq!(expose(&mut programs, cx, port), Ok(()));
    }
    assert_eq!(expose(&mut programs, cx, 1), Err(Code::Conflict));
    assert_eq!(expose(&mut programs, cx, 5000), Err(Code::Full));
    for port in 1..=ENTRIES_MAX as u16 {
        let listen = Listen::parse(&port.to_string()).expect("a port");
        let listener = Listener { listen, door: None, closed: None, tries: 0 };
        let kind = Kind::Forward { listener, node: "node-1".into(), port: 80 };
        let number = programs.next_number();
        programs.entries.push(Entry::new(number, Life::Kept, kind));
    }
    assert_eq!(forward(&mut programs, cx, "1"), Err(Code::Full));
    programs.unforward("7").expect("there is one");
    let listen = forward(&mut programs, cx, "0").expect("a free place");
    // The table walks back to nothing.
    programs.unforward(&listen).expect("there is one");
    for port in 1..=ENTRIES_MAX as u16 {
        programs.unexpose(cx, port).expect("it is exposed");
        assert_eq!(programs.unforward(&port.to_string()).is_ok(), port != 7);
    }
    assert!(programs.entries.is_empty() && programs.poll_timeout().is_none());
}

#[test]
fn accepting_pauses_at_the_maximum_and_goes_on_when_a_connection_ends() {
    let (mut lab, (_poll, mut programs)) = (Lab::friends(2), room());
    assert_eq!(programs.connections_max, CONNECTIONS_MAX);
    programs.connections_max = 2;
    let cx = &mut lab.nodes[0];
    let listen = forward(&mut programs, cx, "0").expect("a free port");
    let _clients: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(&listen).expect("the kernel accepts")).collect();
    accept(&mut programs, cx, 2);
    programs.note_knock(programs.entries[0].number);
    programs.handle_timeout(cx);
    assert!(!programs.has_more(), "the loop may sleep");
    assert_eq!(programs.joints.len(), 2);
    assert!(programs.poll_timeout().is_some_and(|at| at > cx.now), "and is woken later");
    let first = programs.joints.at(0).expect("a connection");
    programs.end(first, true);
    assert!(programs.has_more());
    accept(&mut programs, cx, 2);
    assert_eq!(programs.entries[0].total, 3);
}

#[test]
fn the_books_make_the_same_entries_again() {
    let (mut lab, (_poll, mut programs)) = (Lab::friends(2), room());
    let cx = &mut lab.nodes[0];
    let listen = forward(&mut programs, cx, "0").expect("a free port");
    let terms = ForwardTerms { listen: "0".into(), node: "node-1".into(), port: 81, fd: None };
    programs.forward(cx, terms, Life::Run, true).expect("a free port");
    let nodes = vec!["node-1".into()];
    let terms = ExposeTerms { port: 80, target: "8080".into(), http: true, a2a: false, proxy_protocol: false, nodes };
    programs.expose(cx, terms, Life::Kept).expect("free");
    programs.keep_unread("of a later version");
    let saved = String::from_utf8(programs.saved()).expect("text");
    let nodes = Some(vec![crate::tests::key(1).to_string()]);
    let (http, a2a, proxy_protocol, temporary) = (Some(true), None, None, None);
    let target = "127.0.0.1:8080".into();
    let expected = [
        Request::Forward { node: "node-1".into(), port: 80, listen, temporary }.to_json(),
        Request::Expose { port: 80, target, http, a2a, proxy_protocol, nodes, temporary }.to_json(),
        "of a later version".into(),
    ];
    assert_eq!(saved.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_listener_that_is_taken_is_tried_again_with_longer_pauses() {
    let (mut lab, (_poll, mut programs)) = (Lab::friends(2), room());
    let cx = &mut lab.nodes[0];
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = taken.local_addr().expect("bound").to_string();
    assert_eq!(forward(&mut programs, cx, &listen), Err(Code::Conflict));
    assert!(programs.entries.is_empty());
    let terms = ForwardTerms { listen, node: "node-1".into(), port: 80, fd: None };
    let restored = programs.forward(cx, terms, Life::Kept, false).expect("listed");
    assert!(restored.error.is_some());
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let at = programs.poll_timeout().expect("a try");
        pauses.push(at.since(cx.now).as_secs());
        cx.now = at;
        programs.handle_timeout(cx);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    drop(taken);
    cx.now = programs.poll_timeout().expect("a try");
    programs.handle_timeout(cx);
    assert_eq!(programs.poll_timeout(), None);
    assert!(programs.forwards().forwards[0].error.is_none());
}

#[test]
fn a_stream_without_its_program_is_reset() {
    let (mut lab, (_poll, mut programs)) = (Lab::friends(2), room());
    let cx = &mut lab.nodes[0];
    let stream = pilot_stack::StreamId::from_number(9);
    let gone = joint_id::JointId { slot: 3, generation: 1 };
    programs.serve(cx, gone, stream);
    assert!(programs.incoming(cx, stream, 80).is_none(), "no such port is exposed");
    assert!(matches!(cx.effects()[..], [Effect::Abort(a), Effect::Abort(b)] if a == stream && b == stream));
}
