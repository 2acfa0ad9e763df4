//! Ports, holders and ends of streams. Most streams are numbers that the stack does not know: they have ended.

use super::*;
use crate::command::ACCEPT_MAX;
use crate::tests::{Lab, json};
use pilot_stack::Recv;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

const CLIENT: ClientId = ClientId(1);
const OTHER: ClientId = ClientId(2);

fn room() -> (Lab, Streams) {
    let poll = mio::Poll::new().expect("poll");
    (Lab::alone(), Streams::new(poll.registry().try_clone().expect("registry")))
}

fn id(number: u64) -> StreamId {
    StreamId::from_number(number)
}

/// The descriptors among the effects, and the rest.
fn descriptors(cx: &mut Context) -> Vec<(RequestNumber, OwnedFd)> {
    let of = |effect| match effect {
        Effect::ReplyDescriptor(_, request, _, fd) => Some((request, fd)),
        _ => None,
    };
    cx.effects().into_iter().filter_map(of).collect()
}

fn held_for(streams: &Streams, client: ClientId) -> usize {
    streams.holders.values().filter(|holder| matches!(holder, Holder::Held(of) if *of == client)).count()
}

#[test]
fn a_port_has_one_listener() {
    let (mut lab, mut streams) = room();
    let cx = &mut lab.nodes[0];
    streams.listen_for(cx, CLIENT, 5000).expect("free");
    for client in [CLIENT, OTHER] {
        assert_eq!(streams.listen_for(cx, client, 5000).map_err(|f| f.code), Err(Code::Conflict));
    }
    assert_eq!(streams.listen(cx, 5000, Listener::Framed(OTHER)).map_err(|f| f.code), Err(Code::Conflict));
    streams.unlisten_for(cx, OTHER, 5000);
    assert!(cx.stack.ports().eq([5000]), "only its owner gives a port up");
    streams.unlisten_for(cx, CLIENT, 5000);
    assert_eq!(cx.stack.ports().count(), 0);
    streams.listen_for(cx, OTHER, 5000).expect("free again");
}

#[test]
fn a_service_keeps_its_port_or_gets_it_back() {
    let (mut lab, mut streams) = room();
    let cx = &mut lab.nodes[0];
    streams.serve_ports(cx, &[7, 1000], 1000);
    let is_served = |streams: &mut Streams, cx: &mut Context, number| {
        streams.incoming(cx, 1000, id(number));
        cx.effects().iter().any(|effect| matches!(effect, Effect::Serve(..)))
    };
    assert!(is_served(&mut streams, cx, 1));
    streams.listen_for(cx, CLIENT, 1000).expect("a program may take the service's place here");
    assert!(!is_served(&mut streams, cx, 2));
    assert_eq!(streams.listen_for(cx, OTHER, 1000).map_err(|f| f.code), Err(Code::Conflict));
    // The others stay with the node, whichever way a program asks.
    let (sender, _accepted) = crossbeam_channel::bounded(1);
    for listener in [Listener::Framed(OTHER), Listener::Thread(sender, VecDeque::new())] {
        let refused = streams.listen(cx, 7, listener).expect_err("the node's own");
        assert_eq!((refused.code, refused.message.as_str()), (Code::Conflict, "port 7 already bound"));
    }
    let refused = streams.accept_for(cx, OTHER, RequestNumber(1), (7, Hold::No));
    assert_eq!(refused.map_err(|f| f.code), Err(Code::Conflict));
    streams.unlisten_for(cx, OTHER, 7);
    streams.client_gone(cx, CLIENT);
    assert!(is_served(&mut streams, cx, 3));
    assert!(cx.stack.ports().eq([7, 1000]));
    assert_eq!(streams.serve(cx, id(3)), Some(Turn::Service));
}

#[test]
fn streams_and_requests_that_wait_for_each_other_have_maxima() {
    let (mut lab, mut streams) = room();
    let cx = &mut lab.nodes[0];
    streams.listen_for(cx, CLIENT, 5000).expect("free");
    (0..REQUESTS_MAX as u64).for_each(|number| streams.incoming(cx, 5000, id(number)));
    assert_eq!(streams.holders.len(), REQUESTS_MAX);
    cx.effects();

    let accept = |streams: &mut Streams, cx: &mut Context, number| {
        streams.accept_for(cx, CLIENT, RequestNumber(number), (5000, Hold::Yes)).map_err(|f| f.code)
    };
    for number in 0..2 * REQUESTS_MAX as u32 {
        assert_eq!(accept(&mut streams, cx, number), Ok(()));
    }
    let answers = cx.answers();
    assert!(answers.iter().map(|(number, _)| *number).eq(0..REQUESTS_MAX as u32), "the oldest requests");
    assert_eq!(accept(&mut streams, cx, 0), Err(Code::Full));
    streams.incoming(cx, 5000, id(900));
    assert_eq!(cx.answers()[0].0, REQUESTS_MAX as u32, "the request that waits for longest");
    let other = streams.accept_for(cx, OTHER, RequestNumber(1), (5000, Hold::No));
    assert_eq!(other.map_err(|f| f.code), Err(Code::Conflict));
    // What waits goes with the client.
    streams.client_gone(cx, CLIENT);
    assert!(streams.listen_for(cx, OTHER, 5000).is_ok(), "the port is free again");
    assert_eq!(streams.accept_for(cx, OTHER, RequestNumber(1), (5000, Hold::No)).map_err(|f| f.code), Ok(()));
    assert_eq!(cx.answers().len(), 0, "no stream of before waits for it");
}

/// Opens streams of node 0 to port 5000 of node 1, and runs both until `count` of them were given to the room.
fn arrive(lab: &mut Lab, streams: &mut Streams, opened: usize, count: usize) {
    let peer = lab.nodes[0].stack.endpoint().peers().next().expect("a friend");
    let now = lab.nodes[0].now;
    for _ in 0..opened {
        lab.nodes[0].stack.connect(now, peer, 5000).expect("within limits");
    }
    let mut come = 0;
    lab.run_until(|lab| {
        let cx = &mut lab.nodes[1];
        while let Some(event) = cx.stack.poll_event() {
            if let pilot_stack::Event::Incoming { port, stream } = event {
                streams.incoming(cx, port, stream);
                come += 1;
            }
        }
        come == count
    });
}

/// Streams of one peer that may wait: as many as are free.
const ONE_MAX: usize = ACCEPT_MAX / 2;

#[test]
fn streams_above_the_backlog_of_a_client_come_when_others_were_accepted() {
    let (mut lab, mut streams) = (Lab::friends(2), room().1);
    streams.listen_for(&mut lab.nodes[1], CLIENT, 5000).expect("free");
    arrive(&mut lab, &mut streams, ONE_MAX + 76, ONE_MAX);
    (0..ONE_MAX as u32).for_each(|number| {
        let accepted = streams.accept_for(&mut lab.nodes[1], CLIENT, RequestNumber(number), (5000, Hold::Yes));
        accepted.expect("a stream waits");
    });
    arrive(&mut lab, &mut streams, 0, 76);
    assert_eq!(streams.holders.len(), ONE_MAX + 76, "their peer has asked again");
}

#[test]
fn the_stack_learns_which_streams_the_threads_have_taken() {
    let (mut lab, mut streams) = (Lab::friends(2), room().1);
    let (sender, accepted) = crossbeam_channel::bounded(ACCEPT_MAX);
    streams.listen(&mut lab.nodes[1], 5000, Listener::thread(sender)).expect("free");
    arrive(&mut lab, &mut streams, ONE_MAX + 76, ONE_MAX);
    accepted.try_iter().take(76).for_each(drop);
    streams.note_taken(&mut lab.nodes[1], 5000);
    arrive(&mut lab, &mut streams, 0, 76);
    assert_eq!(accepted.len(), ONE_MAX);
}

#[test]
fn a_held_stream_is_given_to_its_client_or_claimed_once() {
    let (mut lab, mut streams) = room();
    let cx = &mut lab.nodes[0];
    for number in [1, 2] {
        streams.accept_for(cx, CLIENT, RequestNumber(number), (5000, Hold::Yes)).expect("bound");
        streams.incoming(cx, 5000, id(number.into()));
    }
    assert_eq!((cx.answers().len(), held_for(&streams, CLIENT)), (2, 2));
    assert_eq!(streams.serve(cx, id(1)), None, "it waits");
    let take = |streams: &mut Streams, cx: &mut Context, client| {
        streams.take_held(cx, client, RequestNumber(9), id(1)).map_err(|f| f.code)
    };
    assert_eq!(take(&mut streams, cx, OTHER), Err(Code::NotFound));
    assert_eq!(take(&mut streams, cx, CLIENT), Ok(()));
    assert_eq!(take(&mut streams, cx, CLIENT), Err(Code::NotFound), "once");
    assert!(matches!(descriptors(cx)[..], [(RequestNumber(9), _)]));
    assert_eq!(streams.claim_held(cx, id(1)).map(|_| ()).map_err(|f| f.code), Err(Code::NotFound));
    let claimed = streams.claim_held(cx, id(2)).expect("held");
    assert_eq!(claimed.shared.id, id(2));
    assert!(matches!(streams.holders[&id(2)], Holder::Thread(_)));
}

#[test]
fn a_client_that_is_gone_leaves_its_descriptors_only() {
    let (mut lab, mut streams) = room();
    let cx = &mut lab.nodes[0];
    for client in [CLIENT, OTHER] {
        let port = 5000 + client.0 as u16;
        let number = |n: u64| id(10 * client.0 + n);
        streams.accept_for(cx, client, RequestNumber(1), (port, Hold::Yes)).expect("bound");
        streams.incoming(cx, port, number(0)); // held
        streams.incoming(cx, port, number(1)); // waits
        streams.opened(cx, number(2), Opener::Client(client, RequestNumber(2)));
        streams.opened(cx, number(3), Opener::Framed(client));
    }
    let theirs = descriptors(cx);
    assert_eq!((streams.framed(CLIENT, 13), streams.framed(OTHER, 13)), (Some(id(13)), None));
    assert_eq!(streams.framed_of(CLIENT), [id(13)]);
    streams.client_gone(cx, CLIENT);
    let left: Vec<u64> = streams.holders.keys().map(|id| id.number()).collect();
    assert_eq!(left, [12, 20, 21, 22, 23]);
    assert!(cx.stack.ports().eq([5002]));
    drop(theirs);
}

#[test]
fn the_ends_of_descriptors_can_be_asked_for_until_there_are_too_many() {
    let (mut lab, mut streams) = room();
    let cx = &mut lab.nodes[0];
    let mut first = None;
    for number in 0..=ENDS_MAX as u64 {
        streams.opened(cx, id(number), Opener::Client(CLIENT, RequestNumber(1)));
        let inode = rustix::fs::fstat(&descriptors(cx)[0].1).expect("a socket").st_ino;
        let first = *first.get_or_insert(inode);
        if number == 1 {
            assert_eq!(json(&streams.end_of(first).expect("known"))["end"], "error");
            assert_eq!(json(&streams.end_of(inode).expect("known"))["end"], "open");
        }
        streams.serve(cx, id(number));
        assert!(matches!(cx.effects()[..], [Effect::Frame(CLIENT, _)]), "its client is told");
    }
    assert_eq!((streams.ends.len(), streams.holders.len(), streams.tokens.len()), (ENDS_MAX, 0, 0));
    let forgotten = streams.end_of(first.expect("made above"));
    assert_eq!(forgotten.map_err(|f| f.code), Err(Code::NotFound));
}

#[test]
fn a_thread_that_does_not_accept_and_one_that_gave_up_keep_no_stream() {
    let (mut lab, mut streams) = room();
    let cx = &mut lab.nodes[0];
    let (sender, accepted) = crossbeam_channel::bounded(ACCEPT_MAX);
    streams.listen(cx, 5000, Listener::thread(sender)).expect("free");
    (0..ACCEPT_MAX as u64).for_each(|number| streams.incoming(cx, 5000, id(number)));
    assert_eq!(streams.holders.len(), ACCEPT_MAX);
    drop(accepted);
    streams.unlisten(cx, 5000);
    assert_eq!(streams.holders.len(), 0);

    // A thread gives up after the stream was given to it, and another one before.
    let (sender, opened) = crossbeam_channel::bounded(1);
    streams.opened(cx, id(900), Opener::Thread(sender));
    assert_eq!(streams.holders.len(), 1);
    drop(opened);
    streams.abort_orphans(cx);
    assert_eq!(streams.holders.len(), 0);
    let (sender, opened) = crossbeam_channel::bounded(1);
    drop(opened);
    streams.opened(cx, id(901), Opener::Thread(sender));
    assert_eq!(streams.holders.len(), 0);
    streams.incoming(cx, 6000, id(902));
    assert_eq!(streams.holders.len(), 0, "no port without a listener");
}

/// A stream of node 0 to node 1 that stands, and its number at node 1.
fn connected(lab: &mut Lab) -> (StreamId, StreamId) {
    use pilot_stack::Event;
    let peer = lab.nodes[0].stack.endpoint().peers().next().expect("a friend");
    lab.nodes[1].stack.listen(5000).expect("free");
    let now = lab.nodes[0].now;
    let ours = lab.nodes[0].stack.connect(now, peer, 5000).expect("trusted");
    let theirs = lab.event(1, |_, event| match event {
        Event::Incoming { stream, .. } => Some(stream),
        _ => None,
    });
    lab.run_until(|lab| lab.nodes[0].stack.stream_info(ours).is_some_and(|info| info.connected));
    (ours, theirs)
}

/// Hands a stream of node 0 out to a client, and gives the client's end.
fn handed_out(lab: &mut Lab, streams: &mut Streams, id: StreamId) -> std::os::unix::net::UnixStream {
    streams.opened(&mut lab.nodes[0], id, Opener::Client(CLIENT, RequestNumber(1)));
    let mut made = descriptors(&mut lab.nodes[0]);
    made.remove(0).1.into()
}

/// One turn of the loop, with the readiness that the system would report.
fn turn(lab: &mut Lab, streams: &mut Streams, id: StreamId) {
    let cx = &mut lab.nodes[0];
    if let Some(Holder::Descriptor(descriptor)) = streams.holders.get(&id) {
        let token = descriptor.token;
        streams.readiness(cx, token, (true, true, true));
    }
    streams.serve(cx, id);
}

/// Reads everything at node 1, and how the reading ended.
fn read_all(lab: &mut Lab, id: StreamId) -> (Vec<u8>, Recv) {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let mut end = Recv::Blocked;
    lab.run_until(|lab| {
        end = lab.nodes[1].stack.recv(id, &mut buffer);
        if let Recv::Data(n) = end {
            all.extend_from_slice(&buffer[..n]);
        }
        matches!(end, Recv::Fin | Recv::Ended(_))
    });
    (all, end)
}

#[test]
fn a_plain_descriptor_ends_as_a_tcp_socket_does() {
    use std::io::Write as _;
    let unread: &[u8] = b"never read";
    for (leaves_unread, end) in [(false, Recv::Fin), (true, Recv::Ended(StreamEnd::Reset))] {
        let (mut lab, (_, mut streams)) = (Lab::friends(2), room());
        let (ours, theirs) = connected(&mut lab);
        let mut socket = handed_out(&mut lab, &mut streams, ours);
        if leaves_unread {
            lab.nodes[1].stack.send(theirs, unread).expect("open");
            lab.run_until(|lab| lab.nodes[0].stack.stream_info(ours).is_some_and(|info| info.readable > 0));
            turn(&mut lab, &mut streams, ours);
        }
        socket.write_all(b"last words").expect("room");
        drop(socket);
        turn(&mut lab, &mut streams, ours);
        assert!(streams.holders.is_empty() && !streams.has_unexplained());
        assert_eq!(read_all(&mut lab, theirs), (b"last words".to_vec(), end));
    }
}

#[test]
fn an_explicit_descriptor_needs_a_word_before_its_end() {
    use std::io::Write as _;
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Word {
        Before,
        Late,
        Never,
    }
    for (word, by_shutdown) in
        [(Word::Before, false), (Word::Late, false), (Word::Late, true), (Word::Never, false), (Word::Never, true)]
    {
        let (mut lab, (_, mut streams)) = (Lab::friends(2), room());
        let (ours, theirs) = connected(&mut lab);
        streams.end_explicitly(CLIENT, None);
        let mut socket = handed_out(&mut lab, &mut streams, ours);
        let inode = rustix::fs::fstat(&socket).expect("a socket").st_ino;
        socket.write_all(b"half a comm").expect("room");
        if word == Word::Before {
            assert_eq!(streams.finish_of(&mut lab.nodes[0], inode, false).ok(), Some(StreamState::Open));
        }
        let kept = by_shutdown.then(|| socket.try_clone().expect("a descriptor"));
        socket.shutdown(std::net::Shutdown::Write).expect("open");
        drop(socket);
        turn(&mut lab, &mut streams, ours);
        assert_eq!(streams.has_unexplained(), word != Word::Before, "{word:?}");
        // The word may be among what clients have written already, so one look at them comes first.
        streams.settle_ends(&mut lab.nodes[0]);
        assert!(!streams.holders.is_empty() || word == Word::Before, "not before the system was asked");
        if word == Word::Late {
            streams.finish_of(&mut lab.nodes[0], inode, false).expect("known");
        }
        assert_eq!(streams.note_polled(), word != Word::Before);
        streams.settle_ends(&mut lab.nodes[0]);
        turn(&mut lab, &mut streams, ours);
        let end = if word == Word::Never { Recv::Ended(StreamEnd::Reset) } else { Recv::Fin };
        assert_eq!(read_all(&mut lab, theirs), (b"half a comm".to_vec(), end), "{word:?} {by_shutdown}");
        assert!(!streams.has_unexplained());
        drop(kept);
    }
}

#[test]
fn a_client_that_is_gone_before_or_after_its_descriptor_changes_nothing() {
    for client_first in [true, false] {
        let (mut lab, (_, mut streams)) = (Lab::friends(2), room());
        let (ours, theirs) = connected(&mut lab);
        streams.end_explicitly(CLIENT, None);
        let socket = handed_out(&mut lab, &mut streams, ours);
        let inode = rustix::fs::fstat(&socket).expect("a socket").st_ino;
        streams.finish_of(&mut lab.nodes[0], inode, false).expect("known");
        if client_first {
            streams.client_gone(&mut lab.nodes[0], CLIENT);
        }
        drop(socket);
        turn(&mut lab, &mut streams, ours);
        if !client_first {
            streams.client_gone(&mut lab.nodes[0], CLIENT);
        }
        assert_eq!(read_all(&mut lab, theirs), (vec![], Recv::Fin));
    }
}

#[test]
fn a_reset_reaches_the_reader_after_the_bytes_and_the_writer_before_them() {
    use std::io::{ErrorKind, Read as _, Write as _};
    let (mut lab, (_, mut streams)) = (Lab::friends(2), room());
    let (ours, theirs) = connected(&mut lab);
    let mut socket = handed_out(&mut lab, &mut streams, ours);
    socket.write_all(b"acknowledged").expect("room");
    turn(&mut lab, &mut streams, ours);
    // More than the pair of sockets holds, so that bytes wait in TCP.
    let answer = vec![7; 250_000];
    lab.nodes[1].stack.send(theirs, &answer).expect("open");
    lab.run_until(|lab| lab.nodes[0].stack.stream_info(ours).is_some_and(|info| info.readable == answer.len()));
    turn(&mut lab, &mut streams, ours);
    let now = lab.nodes[1].now;
    lab.nodes[1].stack.abort(now, theirs);
    lab.run_until(|lab| lab.nodes[0].stack.broken(ours).is_some());
    turn(&mut lab, &mut streams, ours);
    assert_eq!(socket.write(b"x").map_err(|e| e.kind()), Err(ErrorKind::BrokenPipe));
    let (mut got, mut buffer) = (0, vec![0; 65536]);
    let end = loop {
        match socket.read(&mut buffer) {
            Ok(0) => break None,
            Ok(n) => got += n,
            Err(e) => break Some(e.kind()),
        }
        turn(&mut lab, &mut streams, ours);
    };
    // Elsewhere a reader sees the end, and asks.
    let is_told = cfg!(all(target_os = "linux", not(feature = "portable-platform")));
    assert_eq!((got, end), (answer.len(), is_told.then_some(ErrorKind::ConnectionReset)));
    let end = json(&streams.ends.back().expect("told").1);
    assert_eq!((&end["code"], &end["acknowledged"]), (&"connection_reset".into(), &12.into()));
}
