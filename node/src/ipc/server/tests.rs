//! Clients of the socket, each the other half of a pair.

use super::*;
use crate::answer::Bound;
use crate::ipc::frame::{REQUEST, parse_frame};
use crate::node_event::Event as Told;
use crate::tests::{Lab, key};
use pilot_stack::Event as StackEvent;
use serde_json::json;
use std::io::Read as _;
use std::os::unix::net::UnixStream as StdStream;

const MIB: usize = 1 << 20;
const NOW: Instant = Instant::ZERO;

fn room() -> Ipc {
    let poll = mio::Poll::new().expect("poll");
    Ipc::private(poll.registry().try_clone().expect("registry"))
}

/// Another client; gives its half of the pair.
fn join(ipc: &mut Ipc, may_be_official: bool) -> (ClientId, StdStream) {
    let (ours, theirs) = StdStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    theirs.set_nonblocking(true).expect("a socket");
    ipc.add(UnixStream::from_std(ours), may_be_official);
    let id = ClientId(ipc.last as u64);
    assert_eq!(ipc.receive(NOW).len(), 0);
    (id, theirs)
}

fn readable(ipc: &mut Ipc, id: ClientId) -> Vec<Frame> {
    ipc.readiness(Room::Ipc.token(id.0 as usize), true, false);
    ipc.receive(NOW)
}

/// Reads everything that the node has sent, while the node goes on sending.
fn read_all(ipc: &mut Ipc, id: ClientId, mut theirs: &StdStream) -> Vec<(u8, Vec<u8>)> {
    let (mut reader, mut buffer) = (FrameReader::new(), vec![0; MIB]);
    loop {
        match theirs.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => reader.extend(&buffer[..n]),
            Err(_) if ipc.clients.get(&id).is_none_or(|c| c.outgoing_len == 0) => break,
            Err(_) => ipc.readiness(Room::Ipc.token(id.0 as usize), false, true),
        }
    }
    std::iter::from_fn(|| reader.next(parse_frame).expect("well-formed")).collect()
}

#[test]
fn frames_come_in_any_pieces_and_nothing_is_read_without_readiness() {
    let mut ipc = room();
    let (id, mut theirs) = join(&mut ipc, true);
    let frame = numbered(REQUEST, 7, &json!({"any": "JSON"}), b"bytes");
    for (i, byte) in frame.iter().enumerate() {
        theirs.write_all(&[*byte]).expect("room");
        assert!(!ipc.has_more());
        assert_eq!(ipc.receive(NOW).len(), 0, "no client is looked at that was not reported");
        let frames = readable(&mut ipc, id);
        assert_eq!(frames.len(), usize::from(i + 1 == frame.len()), "at {i}");
    }
    theirs.write_all(&[frame.clone(), frame].concat()).expect("room");
    let frames = readable(&mut ipc, id);
    assert!(frames.iter().all(|frame| frame.client == id && frame.command == REQUEST));
    assert_eq!(frames.len(), 2);
    drop(theirs);
    assert_eq!(readable(&mut ipc, id).len(), 0);
    assert!(ipc.take_closed().contains(&id));
    assert!(ipc.clients.is_empty() && ipc.take_closed().is_empty());
}

#[test]
fn an_impossible_length_is_told_and_ends_the_client() {
    for head in [[0, 0, 0, 0, REQUEST], [0xff, 0xff, 0xff, 0xff, REQUEST], [0, 0x10, 0, 1, 0x01]] {
        let mut ipc = room();
        let (id, mut theirs) = join(&mut ipc, true);
        theirs.write_all(&head).expect("room");
        assert_eq!(readable(&mut ipc, id).len(), 0);
        let frames = read_all(&mut ipc, id, &theirs);
        assert!(matches!(&frames[..], [(official_frame::ERROR, text)] if text.ends_with(b"bytes")), "{frames:?}");
        assert!(ipc.take_closed().contains(&id));
    }
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_no_other() {
    let mut ipc = room();
    let ((slow, _slow), (quick, _quick)) = (join(&mut ipc, false), join(&mut ipc, false));
    for _ in 0..OUTGOING_MAX / MIB {
        ipc.send(slow, vec![0; MIB]);
    }
    assert!(ipc.take_closed().is_empty(), "the kernel's buffer has some of it");
    ipc.send(slow, vec![0; MIB]);
    ipc.send(quick, vec![0; 10]);
    assert!(ipc.take_closed().into_iter().eq([slow]));
    assert!(ipc.clients.contains_key(&quick));
}

#[test]
fn a_watcher_that_does_not_read_misses_events_and_is_told_how_many() {
    let mut ipc = room();
    let ((slow, theirs), (other, _other)) = (join(&mut ipc, false), join(&mut ipc, false));
    assert!(!ipc.is_watched());
    ipc.watch(slow, RequestNumber(9), Some("a.*".into()));
    let event = |n: usize| Told::Published { topic: n.to_string(), address: None, hostname: None, payload: Vec::new() };
    let blob = vec![7; MIB];
    assert_eq!(ipc.push_event(&event(0), &blob, |topics| topics == Some("b")), 0, "another topic");
    let told: usize = (0..8).map(|n| ipc.push_event(&event(n), &blob, |topics| topics == Some("a.*"))).sum();
    let waiting = ipc.clients[&slow].outgoing_len;
    assert!((1..8).contains(&told) && waiting <= EVENTS_WAITING_MAX + 1024, "{told} events, {waiting} bytes");
    assert_eq!(ipc.clients[&other].outgoing_len, 0);
    assert_eq!(read_all(&mut ipc, slow, &theirs).len(), told);
    assert_eq!(ipc.push_event(&event(8), b"", |_| true), 1);
    let frames = read_all(&mut ipc, slow, &theirs);
    let texts: Vec<String> =
        frames.iter().map(|(_, payload)| String::from_utf8_lossy(&payload[8..]).into_owned()).collect();
    assert!(matches!(&texts[..], [note, _] if note.contains(&format!("\"count\":{}", 8 - told))), "{texts:?}");
    assert!(frames.iter().all(|(command, payload)| *command == EVENT && payload[..4] == 9u32.to_be_bytes()));
    drop(theirs);
    readable(&mut ipc, slow);
    ipc.take_closed();
    assert!(!ipc.is_watched());
}

#[test]
fn official_clients_miss_datagrams_that_they_do_not_read_and_others_get_none() {
    let mut ipc = room();
    let ((official, theirs), (ours, _ours)) = (join(&mut ipc, true), join(&mut ipc, true));
    ipc.mark_ours(ours);
    let payload = vec![7; 60_000];
    for _ in 0..100 {
        ipc.push_datagram(Addr::new(0, 1), 5, 6, &payload);
    }
    let waiting = ipc.clients[&official].outgoing_len;
    assert!((DATAGRAMS_WAITING_MAX..DATAGRAMS_WAITING_MAX + 61_000).contains(&waiting), "{waiting}");
    assert_eq!(ipc.clients[&ours].outgoing_len, 0);
    assert!((1..100).contains(&read_all(&mut ipc, official, &theirs).len()));
}

#[test]
fn a_client_with_too_many_unsent_bytes_is_read_again_once_they_are_gone() {
    let mut ipc = room();
    let (id, mut theirs) = join(&mut ipc, true);
    theirs.write_all(&official_frame::frame(official_frame::INFO, &[])).expect("room");
    ipc.keep_unsent(id, 5, &vec![0; UNSENT_MAX]);
    assert_eq!(readable(&mut ipc, id).len(), 0);
    assert!(!ipc.has_more(), "the loop sleeps meanwhile");
    ipc.forget_framed(id, 5);
    assert!(ipc.has_more());
    assert_eq!(ipc.receive(NOW).len(), 1);
}

/// A stream between both nodes, as each names it.
fn connected(lab: &mut Lab) -> (StreamId, StreamId) {
    lab.nodes[1].stack.listen(5000).expect("free");
    let cx = &mut lab.nodes[0];
    let peer = cx.stack.endpoint().peer_by_identity(&key(1)).expect("trusted");
    let ours = cx.stack.connect(cx.now, peer, 5000).expect("trusted");
    let theirs = lab.event(1, |_, event| match event {
        StackEvent::Incoming { stream, .. } => Some(stream),
        _ => None,
    });
    (ours, theirs)
}

#[test]
fn streams_of_an_official_client_wait_while_it_does_not_read() {
    let (mut lab, mut ipc) = (Lab::friends(2), room());
    let (id, theirs) = join(&mut ipc, true);
    let (ours, peers) = connected(&mut lab);
    lab.run_until(|lab| {
        let sent = lab.nodes[1].stack.send(peers, &[7; 4096]);
        assert!(!ipc.serve_framed(&mut lab.nodes[0], ours, id, 5));
        // The kernel's buffer is full, then the client's queue, then the rings of TCP.
        sent == Ok(0) && ipc.clients[&id].was_full
    });
    let waiting = ipc.clients[&id].outgoing_len;
    assert!((FRAMED_WAITING_MAX..FRAMED_WAITING_MAX + 20_000).contains(&waiting), "{waiting}");
    assert!(ipc.take_drained().is_empty());
    assert!(read_all(&mut ipc, id, &theirs).iter().all(|(command, _)| *command == official_frame::RECV));
    assert!(ipc.take_drained().into_iter().eq([id]), "its streams are served again");
    assert!(!ipc.serve_framed(&mut lab.nodes[0], ours, id, 5));
    assert!(!read_all(&mut ipc, id, &theirs).is_empty());

    let cx = &mut lab.nodes[0];
    cx.stack.abort(cx.now, ours);
    for _ in 0..2 {
        assert!(ipc.serve_framed(cx, ours, id, 5), "the stream broke");
    }
    let frames = read_all(&mut ipc, id, &theirs);
    assert!(matches!(&frames[..], [(official_frame::CLOSE_OK, _)]), "its end is told once");
}

#[test]
fn a_stream_that_an_official_client_closes_ends_after_everything_sent() {
    let (mut lab, mut ipc) = (Lab::friends(2), room());
    let (id, _theirs) = join(&mut ipc, true);
    let (ours, peers) = connected(&mut lab);
    // More than the rings of TCP hold.
    let sent = 4 * MIB;
    ipc.keep_unsent(id, 5, &vec![7; sent]);
    assert!(!ipc.serve_framed(&mut lab.nodes[0], ours, id, 5));
    ipc.close_framed(id, 5);
    ipc.close_framed(id, 5);
    ipc.keep_unsent(id, 5, b"after the end");
    let (mut got, mut buffer) = (0, vec![0; 65536]);
    lab.run_until(|lab| {
        while let Recv::Data(n) = lab.nodes[1].stack.recv(peers, &mut buffer) {
            got += n;
        }
        ipc.serve_framed(&mut lab.nodes[0], ours, id, 5)
    });
    let cx = &mut lab.nodes[0];
    cx.stack.close(cx.now, ours);
    lab.run_until(|lab| match lab.nodes[1].stack.recv(peers, &mut buffer) {
        Recv::Data(n) => {
            got += n;
            false
        }
        Recv::Blocked => false,
        end => end == Recv::Fin,
    });
    let client = &ipc.clients[&id];
    assert_eq!((got, client.unsent_len, client.unsent.len(), client.closing.len()), (sent, 0, 0, 0));
}

#[test]
fn a_descriptor_arrives_with_its_answer_behind_frames_that_wait() {
    let mut ipc = room();
    let (id, theirs) = join(&mut ipc, false);
    (0..8).for_each(|_| ipc.send(id, official_frame::frame(ANSWER, &[&vec![0; MIB / 4]])));
    let (passed, _kept) = StdStream::pair().expect("a pair");
    ipc.reply_descriptor(id, RequestNumber(3), &Bound { port: 7 }.into(), passed.into());
    let frames = read_all(&mut ipc, id, &theirs);
    assert_eq!((frames.len(), &frames[8].1[..4]), (9, &3u32.to_be_bytes()[..]));
    assert!(String::from_utf8_lossy(&frames[8].1).contains("\"fd\":true"));
}

/// True when this process still has the descriptor's file open somewhere else than at `reader`.
fn is_open(mut reader: &StdStream) -> bool {
    reader.set_nonblocking(true).expect("a socket");
    reader.read(&mut [0; 1]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn a_descriptor_comes_with_the_request_that_says_so_and_no_other() {
    let mut ipc = room();
    let (id, mut theirs) = join(&mut ipc, false);
    let (passed, reader) = StdStream::pair().expect("a pair");
    let (plain, with) = (numbered(REQUEST, 1, &json!({}), b""), numbered(REQUEST_WITH_FD, 2, &json!({}), b""));
    // The one without a descriptor is read in the same call, and one that says so without any comes last.
    theirs.write_all(&plain).expect("room");
    assert_eq!(send_with_fd(&theirs, &with, passed.as_fd()).expect("room"), with.len());
    theirs.write_all(&with).expect("room");
    drop(passed);
    let frames = readable(&mut ipc, id);
    let has: Vec<(u8, bool)> = frames.iter().map(|frame| (frame.command, frame.fd.is_some())).collect();
    assert_eq!(has, [(REQUEST, false), (REQUEST_WITH_FD, true), (REQUEST_WITH_FD, false)]);
    assert!(is_open(&reader));
    drop(frames);
    assert!(!is_open(&reader), "a descriptor that no request takes is closed");
}

#[test]
fn descriptors_that_no_request_asks_for_are_few_and_end_with_the_client() {
    let mut ipc = room();
    let (id, theirs) = join(&mut ipc, false);
    let readers: Vec<StdStream> = (0..FDS_MAX + 3)
        .map(|_| {
            let (passed, reader) = StdStream::pair().expect("a pair");
            send_with_fd(&theirs, &numbered(REQUEST, 1, &json!({}), b""), passed.as_fd()).expect("room");
            assert!(readable(&mut ipc, id).iter().all(|frame| frame.fd.is_none()));
            reader
        })
        .collect();
    assert_eq!(readers.iter().filter(|reader| is_open(reader)).count(), FDS_MAX);
    drop(theirs);
    readable(&mut ipc, id);
    ipc.take_closed();
    assert!(!readers.iter().any(is_open));
}

/// Everything that the clients have sent, in the order in which it is given, call by call.
fn rounds(ipc: &mut Ipc) -> Vec<Vec<(ClientId, u8)>> {
    let mut rounds = Vec::new();
    while ipc.has_more() {
        assert!(rounds.len() < 100, "a client that is not told to the end");
        rounds.push(ipc.receive(NOW).iter().map(|frame| (frame.client, frame.payload[3])).collect());
    }
    rounds
}

#[test]
fn a_client_with_many_requests_waits_for_the_others_and_none_is_lost() {
    let mut ipc = room();
    let ((many, mut first), (few, mut second)) = (join(&mut ipc, false), join(&mut ipc, false));
    let sent: Vec<u8> = (0..3 * FRAMES_PER_CLIENT + 1).map(|n| n as u8).collect();
    let frames: Vec<u8> = sent.iter().flat_map(|n| numbered(REQUEST, u32::from(*n), &json!({}), b"")).collect();
    first.write_all(&frames).expect("room");
    drop(first);
    second.write_all(&numbered(REQUEST, 1, &json!({}), b"")).expect("room");
    for id in [many, few] {
        ipc.readiness(Room::Ipc.token(id.0 as usize), true, false);
    }
    let rounds = rounds(&mut ipc);
    assert_eq!(
        rounds.iter().map(Vec::len).collect::<Vec<_>>(),
        [FRAMES_PER_CLIENT + 1, FRAMES_PER_CLIENT, FRAMES_PER_CLIENT, 1]
    );
    assert!(rounds[0].contains(&(few, 1)), "its first turn is not put off");
    let got: Vec<u8> = rounds.iter().flatten().filter(|(id, _)| *id == many).map(|(_, n)| *n).collect();
    assert!(got == sent, "in their order, also those of a client that has ended");
    assert!(ipc.take_closed().into_iter().eq([many]));
}

#[test]
fn another_client_waits_for_one_share_of_megabytes_of_tiny_frames() {
    const FRAMES: usize = (4 << 20) / 5;
    let mut ipc = room();
    let ((flood, mut first), (other, mut second)) = (join(&mut ipc, true), join(&mut ipc, false));
    let (bytes, asks) = ([0, 0, 0, 1, 0x06].repeat(FRAMES), numbered(REQUEST, 1, &json!({}), b""));
    let (mut written, mut taken, mut turns) = (0, 0, 0);
    while taken < FRAMES {
        written += first.write(&bytes[written..]).unwrap_or(0);
        second.write_all(&asks).expect("room");
        for id in [flood, other] {
            ipc.readiness(Room::Ipc.token(id.0 as usize), true, false);
        }
        let frames = ipc.receive(NOW);
        assert_eq!(frames.iter().filter(|frame| frame.client == other).count(), 1, "it is served in every turn");
        assert!(frames.len() <= FRAMES_PER_CLIENT + 1);
        assert!(ipc.clients[&flood].incoming.held() <= 2 * READ_PER_TURN);
        (taken, turns) = (taken + frames.len() - 1, turns + 1);
    }
    // Turns are short where the socket ran dry.
    let least = FRAMES.div_ceil(FRAMES_PER_CLIENT);
    assert!(taken == FRAMES && turns <= least * 5 / 4, "{taken} frames in {turns} turns");
}

#[test]
fn the_clients_that_a_turn_had_no_room_for_are_first_in_the_next() {
    let mut ipc = room();
    let frames = numbered(REQUEST, 1, &json!({}), b"").repeat(2 * FRAMES_PER_CLIENT);
    let clients: Vec<(ClientId, StdStream)> = (0..2 * FRAMES_PER_TURN / FRAMES_PER_CLIENT)
        .map(|_| {
            let (id, mut theirs) = join(&mut ipc, false);
            theirs.write_all(&frames).expect("room");
            (id, theirs)
        })
        .collect();
    for (id, _) in &clients {
        ipc.readiness(Room::Ipc.token(id.0 as usize), true, false);
    }
    let rounds = rounds(&mut ipc);
    assert!(rounds[..4].iter().all(|round| round.len() == FRAMES_PER_TURN), "{:?}", rounds.iter().map(Vec::len));
    let served: BTreeSet<ClientId> = rounds[..2].iter().flatten().map(|(id, _)| *id).collect();
    assert_eq!(served.len(), clients.len(), "two turns reach all of them");
    assert_eq!(rounds.iter().flatten().count(), clients.len() * 2 * FRAMES_PER_CLIENT);
}

#[test]
fn what_a_client_said_before_its_end_counts_also_when_writing_finds_the_end_first() {
    let mut ipc = room();
    let (id, mut theirs) = join(&mut ipc, false);
    theirs.write_all(&numbered(REQUEST, 1, &json!({}), b"")).expect("room");
    drop(theirs);
    ipc.send(id, vec![0; 10]);
    assert!(ipc.take_closed().is_empty(), "its request is not read yet");
    assert_eq!(ipc.receive(NOW).len(), 1);
    assert!(!ipc.has_more());
    assert!(ipc.take_closed().into_iter().eq([id]));
}

#[test]
fn what_was_written_before_a_question_is_heard_although_its_client_writes_on() {
    let mut ipc = room();
    let (id, mut theirs) = join(&mut ipc, false);
    let flood = numbered(REQUEST, 1, &json!({}), b"").repeat(2 * FRAMES_PER_CLIENT);
    theirs.write_all(&flood).expect("room");
    ipc.readiness(Room::Ipc.token(id.0 as usize), true, false);
    assert_eq!(ipc.receive(NOW).len(), FRAMES_PER_CLIENT);
    theirs.write_all(&numbered(REQUEST, 7, &json!({}), b"")).expect("room");
    ipc.readiness(Room::Ipc.token(id.0 as usize), true, false);
    ipc.mark();
    let mut got = Vec::new();
    for _ in 0..20 {
        if ipc.has_heard() {
            break;
        }
        theirs.write_all(&flood).expect("room");
        ipc.readiness(Room::Ipc.token(id.0 as usize), true, false);
        got.extend(ipc.receive(NOW).iter().map(|frame| frame.payload[3]));
    }
    assert!(ipc.has_heard() && got.contains(&7));
    assert!(ipc.has_more(), "it still has much to say");
}

/// Clients beyond the maximum find their sockets closed, and the log hears of some in each turn.
#[test]
fn clients_and_refusals_have_maxima_and_both_walk_back_to_none() {
    let mut ipc = room();
    ipc.clients_max = 20;
    for _ in 0..2 {
        let clients: Vec<_> = (0..20).map(|_| join(&mut ipc, false)).collect();
        for _ in 0..REFUSALS_MAX + 9 {
            let (_, mut refused) = join(&mut ipc, false);
            assert_eq!(refused.read(&mut [0; 1]).ok(), Some(0), "its socket is closed");
        }
        assert_eq!((ipc.clients.len(), ipc.take_refused().len(), ipc.take_refused().len()), (20, REFUSALS_MAX, 0));
        for (id, theirs) in clients {
            drop(theirs);
            assert_eq!(readable(&mut ipc, id).len(), 0);
        }
        ipc.take_closed();
        assert_eq!((ipc.clients.len(), ipc.has_news()), (0, false));
    }
}
