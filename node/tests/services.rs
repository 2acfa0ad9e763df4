//! Files, events and datagrams between two nodes, through the public API.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::answer::{Bound, Cancelled, StreamState};
use pilot_node::system::{recv_packet, send_packet};
use pilot_node::{Client, Code, Request, Terms, send_file};
use serde_json::{Value, json};
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const SECONDS_5: Option<Duration> = Some(Duration::from_secs(5));

/// Bytes without a short period.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

fn wait_event(client: &mut Client, kind: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if let Some(event) = client.next_event(SECONDS_5).unwrap()
            && event.data["event"] == kind
        {
            return event.data;
        }
    }
    panic!("no event {kind}");
}

#[test]
fn a_file_arrives_whole_and_verified_and_a_broken_transfer_goes_on() {
    let lab = Lab::new("files");
    let (a, b) = lab.nodes();
    let mut events = b.client().unwrap();
    events.watch(None).unwrap();
    let bytes = noise(5 << 20);
    let path = lab.folder.join("report.bin");
    std::fs::write(&path, &bytes).unwrap();

    // The first attempt breaks in the middle: the stream is aborted once a megabyte is acknowledged.
    let stream = a.connect("node-b", 1001).unwrap();
    let broken = send_file(&mut stream.clone(), &path, |acknowledged, _| {
        if acknowledged > 1 << 20 {
            let _ = a.disconnect(a.connections().unwrap().connections[0].id);
        }
    });
    assert_eq!(broken.unwrap_err().code, Code::ConnectionReset);
    drop(stream);

    let end = Instant::now() + Duration::from_secs(10);
    let sent = loop {
        // The receiver may not have noticed the end of the first attempt yet.
        let mut stream = a.connect("node-b", 1001).unwrap();
        let mut last = (0, 0);
        match send_file(&mut stream, &path, |acknowledged, len| last = (acknowledged, len)) {
            Ok(sent) => {
                assert_eq!(last, (5 << 20, 5 << 20));
                break sent;
            }
            Err(failure) => assert!(Instant::now() < end, "{failure}"),
        }
    };
    assert!(sent.resumed > 1 << 20 && sent.resumed < sent.len, "{}", sent.resumed);
    assert_eq!(std::fs::read(lab.folder.join("node-b/received/report.bin")).unwrap(), bytes);
    assert_eq!(wait_event(&mut events, "file")["bytes"], 5 << 20);
    let received = b.files().received().unwrap();
    assert_eq!((received.total, received.files[0].name.as_str()), (1, "report.bin"));
}

#[test]
fn a_file_in_one_frame_and_messages_beside_it_are_answered_in_order() {
    let lab = Lab::new("frames");
    let (a, _) = lab.nodes();
    let mut stream = a.connect("node-b", 1001).unwrap();
    let frame = |kind: u32, payload: &[u8]| {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend((payload.len() as u32).to_be_bytes());
        out.extend(payload);
        out
    };
    let data = noise(20 << 20);
    let mut file = vec![0, 10];
    file.extend(b"../../evil");
    file.extend(&data);
    stream.write_all(&frame(1, b"before")).unwrap();
    stream.write_all(&frame(4, &file)).unwrap();
    stream.write_all(&frame(2, b"after")).unwrap();
    stream.write_all(&frame(4, &[0, 9, b'x'])).unwrap(); // the name is longer than the frame: the last answer
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).unwrap();
    let text = String::from_utf8_lossy(&answers).into_owned();
    let places: Vec<_> = ["ACK TEXT 6 bytes", "ACK FILE 20971532 bytes", "ACK BINARY 5 bytes", "ERR malformed"]
        .iter()
        .map(|ack| text.find(ack).unwrap_or_else(|| panic!("{ack} is missing in {text}")))
        .collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(std::fs::read(lab.folder.join("node-b/received/evil")).unwrap(), data);
}

#[test]
fn subscribers_get_published_events_and_a_slow_one_holds_no_other_back() {
    let lab = Lab::new("events");
    let (a, b) = lab.nodes();
    let event = |topic: &str, payload: &[u8]| {
        let mut out = (topic.len() as u16).to_be_bytes().to_vec();
        out.extend(topic.as_bytes());
        out.extend((payload.len() as u32).to_be_bytes());
        out.extend(payload);
        out
    };
    let subscribe = |pattern: &str| {
        let mut stream = a.connect("node-b", 1002).unwrap();
        stream.write_all(&event(pattern, b"")).unwrap();
        stream
    };
    let slow = subscribe("*");
    let mut quick = subscribe("sensor.*");
    let mut own = b.client().unwrap();
    own.watch(Some("sensor.temperature")).unwrap();
    let publish = |topic: &str, payload: &[u8]| b.publish(topic, payload).unwrap().subscribers;
    let end = Instant::now() + Duration::from_secs(5);
    while publish("warm.up", b"x") < 1 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut publisher = subscribe("unrelated");
    publisher.write_all(&event("sensor.temperature", b"21.5")).unwrap();
    let wanted = event("sensor.temperature", b"21.5");
    let mut got = vec![0; wanted.len()];
    quick.read_exact(&mut got).unwrap();
    assert_eq!(got, wanted);
    let published = wait_event(&mut own, "published");
    assert_eq!((&published["topic"], &published["hostname"]), (&json!("sensor.temperature"), &json!("node-a")));

    // The slow subscriber does not read 64 MB: more than its rings and its queue.
    let reader = std::thread::spawn(move || {
        let (mut count, mut buffer) = (0, vec![0; 1 << 20]);
        while count < 64 * (1 << 20) {
            match quick.read(&mut buffer) {
                Ok(n) if n > 0 => count += n,
                other => panic!("{other:?} after {count}"),
            }
        }
    });
    let payload = noise(1 << 20);
    for _ in 0..128 {
        publish("sensor.bulk", &payload);
        std::thread::sleep(Duration::from_millis(4));
    }
    reader.join().unwrap();
    let failure = b.publish("x", &vec![0; (1 << 20) + 1]).unwrap_err();
    assert_eq!(failure.code, Code::InvalidArgument);
    drop(slow);
}

fn datagram_socket(client: &mut Client, port: u16) -> Result<(u16, OwnedFd), Code> {
    let reply = client.request(&Request::Datagrams { port }, &[], SECONDS_5).map_err(|f| f.code)?;
    Ok((reply.read::<Bound>().unwrap().port, reply.fd.unwrap()))
}

#[test]
fn datagrams_reach_the_port_they_are_for_and_can_be_answered() {
    let lab = Lab::new("datagrams");
    let (a, b) = lab.nodes();
    let (mut client_a, mut client_b) = (a.client().unwrap(), b.client().unwrap());
    let (port, theirs) = datagram_socket(&mut client_b, 5353).unwrap();
    assert_eq!(port, 5353);
    assert_eq!(datagram_socket(&mut client_b, 5353).unwrap_err(), Code::Conflict);
    let (own, ours) = datagram_socket(&mut client_a, 0).unwrap();
    assert!(own >= 49_152);

    let addr: pilot_core::Addr = a.find("node-b").unwrap().address().parse().unwrap();
    let mut packet = addr.to_bytes().to_vec();
    packet.extend(5353u16.to_be_bytes());
    packet.extend(b"who is there?");
    send_packet(&ours, &[IoSlice::new(&packet)]).unwrap();
    let mut buffer = [0; 2048];
    let n = recv_packet(&theirs, &mut [IoSliceMut::new(&mut buffer)]).unwrap();
    assert_eq!(&buffer[8..n], b"who is there?");
    assert_eq!(u16::from_be_bytes([buffer[6], buffer[7]]), own);
    // The head of the packet is the address of the answer.
    let answer = [&buffer[..8], b"node-b"].concat();
    send_packet(&theirs, &[IoSlice::new(&answer)]).unwrap();
    let n = recv_packet(&ours, &mut [IoSliceMut::new(&mut buffer)]).unwrap();
    assert_eq!(&buffer[8..n], b"node-b");

    let too_long = a.send_datagram("node-b", 5353, &[0; 70_000]).unwrap_err();
    assert_eq!(too_long.code, Code::InvalidArgument);
    let unknown = a.send_datagram("no-node", 5353, &[0; 7]).unwrap_err();
    assert_eq!(unknown.code, Code::TrustRequired);

    // The port is free again once its descriptor is closed.
    drop(theirs);
    let end = Instant::now() + Duration::from_secs(5);
    while datagram_socket(&mut client_b, 5353).is_err() {
        assert!(Instant::now() < end);
    }
}

#[test]
fn waiting_for_trust_ends_with_trust_or_in_time() {
    let lab = Lab::new("wait");
    let (a, b) = lab.nodes();
    let wait = |ms: u64| a.trust().wait("node-b", Duration::from_millis(ms)).unwrap();
    assert!(wait(5_000));
    a.trust().untrust("node-b").unwrap();
    let begin = Instant::now();
    assert!(!wait(50));
    assert!(begin.elapsed() >= Duration::from_millis(50));

    let mut events = b.client().unwrap();
    events.watch(None).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(10_000));
        a.trust().handshake("node-b", Terms::default().note("again")).unwrap();
        let request = wait_event(&mut events, "trust_request");
        assert_eq!((&request["hostname"], &request["justification"]), (&json!("node-a"), &json!("again")));
        b.trust().approve("node-a", Terms::default()).unwrap();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn a_connect_can_be_given_up_and_ports_go_with_their_client() {
    let lab = Lab::new("cancel");
    let (a, b) = lab.nodes();
    let mut client = b.client().unwrap();
    let listen = Request::Listen { port: 6000 };
    client.request(&listen, &[], SECONDS_5).unwrap();
    let taken = b.client().unwrap().request(&listen, &[], SECONDS_5).unwrap_err();
    assert_eq!(taken.code, Code::Conflict);
    let accept = client.send(&Request::Accept { port: 6000, hold: None }, &[]).unwrap();
    let mut dialer = a.client().unwrap();
    let stream = dialer.open("node-b", 6000, SECONDS_5).unwrap();
    let accepted = client.answer(accept, Some(Instant::now() + Duration::from_secs(5))).unwrap();
    assert!(accepted.fd.is_some());
    drop((stream, accepted));
    let too_much = dialer.open_with("node-b", 6000, &[7; pilot_node::EARLY_LEN_MAX + 1], SECONDS_5);
    assert_eq!(too_much.err().map(|e| e.code), Some(Code::InvalidArgument));

    // With the client gone, its port is free and its connects are given up.
    drop(client);
    let end = Instant::now() + Duration::from_secs(5);
    while b.client().unwrap().request(&listen, &[], SECONDS_5).is_err() {
        assert!(Instant::now() < end);
    }
    let pending = dialer.send(&Request::Connect { node: "node-b".into(), port: 1000 }, &[]).unwrap();
    let cancelled = dialer.request(&Request::Cancel { request: Some(pending) }, &[], SECONDS_5).unwrap();
    // The stream may have stood before the cancel arrived.
    assert!(cancelled.read::<Cancelled>().unwrap().cancelled <= 1);
}

#[test]
fn the_end_of_a_stream_can_be_asked_by_its_descriptor() {
    let lab = Lab::new("ends");
    let (a, b) = lab.nodes();
    let listener = b.listen(7000).unwrap();
    let mut client = a.client().unwrap();
    let end_of = |inode: u64| {
        let reply = a.client().unwrap().request(&Request::StreamEnd { inode }, &[], SECONDS_5)?;
        reply.read::<StreamState>()
    };
    for broken in [false, true] {
        let ours = client.open("node-b", 7000, SECONDS_5).unwrap().socket;
        let theirs = listener.accept_timeout(Duration::from_secs(5)).unwrap();
        let inode = rustix::fs::fstat(&ours).unwrap().st_ino;
        assert_eq!(end_of(inode).unwrap(), StreamState::Open);
        if broken {
            b.disconnect(b.connections().unwrap().connections[0].id).unwrap();
        }
        drop(theirs);
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        // The reader learns of the reset as a reader of a TCP socket does.
        let read = (&ours).read(&mut [0; 9]).map_err(|e| e.kind());
        let resets = cfg!(all(target_os = "linux", not(feature = "portable-platform"))) && broken;
        assert_eq!(read, if resets { Err(std::io::ErrorKind::ConnectionReset) } else { Ok(0) });
        let until = Instant::now() + Duration::from_secs(5);
        let end = loop {
            let end = end_of(inode).unwrap();
            if end != StreamState::Open {
                break end;
            }
            assert!(Instant::now() < until);
        };
        assert_eq!(matches!(end, StreamState::Error { .. }), broken, "{end:?}");
    }
    assert_eq!(end_of(1).unwrap_err().code, Code::NotFound);
}

#[test]
fn a_closed_descriptor_frees_its_stream_even_if_the_peer_goes_on() {
    let lab = Lab::new("closed");
    let (a, b) = lab.nodes();
    let listener = b.listen(7000).unwrap();
    let mut client = a.client().unwrap();
    let count = || a.connections().unwrap().total;
    let mut theirs = Vec::new();
    for half_closed_before in [false, true] {
        let ours = client.open("node-b", 7000, SECONDS_5).unwrap().socket;
        theirs.push(listener.accept_timeout(Duration::from_secs(5)).unwrap());
        (&ours).write_all(b"last words").unwrap();
        if half_closed_before {
            ours.shutdown(std::net::Shutdown::Write).unwrap();
            // A stream that is half closed still brings the answer.
            theirs[1].write_all(b"answer").unwrap();
            (&ours).read_exact(&mut [0; 6]).unwrap();
        }
        drop(ours);
    }
    let end = Instant::now() + Duration::from_secs(5);
    while count() > 0 {
        assert!(Instant::now() < end, "{} streams are left", count());
        std::thread::sleep(Duration::from_millis(5));
    }
    for mut stream in theirs {
        let mut got = [0; 10];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"last words");
    }
}

#[test]
fn the_tables_that_clients_fill_have_maxima_and_are_freed_with_the_client() {
    let lab = Lab::new("maxima");
    let (a, _) = lab.nodes();
    let answer = |client: &mut Client, number| client.answer(number, Some(Instant::now() + Duration::from_secs(10)));
    let code = |client: &mut Client, number| answer(client, number).map(|reply| reply.data).map_err(|f| f.code);

    // Calls that wait for trust.
    let mut client = a.client().unwrap();
    let wait = Request::WaitTrust { node: "stranger".into(), timeout_ms: Some(3_600_000) };
    for _ in 0..1024 {
        client.send(&wait, &[]).unwrap();
    }
    let one_more = client.send(&wait, &[]).unwrap();
    assert_eq!(code(&mut client, one_more), Err(Code::Full));
    drop(client);
    let mut client = a.client().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    let short = Request::WaitTrust { node: "stranger".into(), timeout_ms: Some(1) };
    while client.request(&short, &[], SECONDS_5).is_err() {
        assert!(Instant::now() < end, "the places of a client that is gone are free");
    }

    // Requests for streams of one port.
    let accept = Request::Accept { port: 9000, hold: None };
    for _ in 0..128 {
        client.send(&accept, &[]).unwrap();
    }
    let one_more = client.send(&accept, &[]).unwrap();
    assert_eq!(code(&mut client, one_more), Err(Code::Full));

    // Datagram ports.
    let mut sockets = Vec::new();
    let failed = loop {
        match datagram_socket(&mut client, 0) {
            Ok(socket) => sockets.push(socket),
            Err(code) => break code,
        }
    };
    assert_eq!((failed, sockets.len()), (Code::Full, 256));
    drop(sockets);

    // Events for a client that does not read; it is told how many it missed.
    let mut watcher = a.client().unwrap();
    watcher.watch(Some("*")).unwrap();
    let payload = noise(1 << 20);
    for _ in 0..32 {
        a.publish("bulk", &payload).unwrap();
    }
    let mut got = 0;
    while watcher.next_event(Some(Duration::from_millis(500))).unwrap().is_some() {
        got += 1;
    }
    assert!((1..32).contains(&got), "{got}");
    a.publish("bulk", &payload).unwrap();
    let missed = wait_event(&mut watcher, "missed");
    assert_eq!(missed["count"], 32 - got);
}
