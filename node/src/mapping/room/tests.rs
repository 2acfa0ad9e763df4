use super::super::codec::answers;
use super::*;
use crate::tests::Lab;
use pilot_core::time::Duration;

const EXTERNAL: &str = "203.0.113.9:6000";

fn room(is_on: bool, poll: &mio::Poll) -> Mapping {
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
    Mapping::new(is_on, poll.registry().try_clone().expect("a registry"), waker)
}

/// A gateway on this machine, and a room that asks it.
fn asked() -> (Lab, Mapping, UdpSocket, mio::Poll) {
    let poll = mio::Poll::new().expect("a poll");
    let gateway = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    gateway.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut room = room(true, &poll);
    let at = gateway.local_addr().expect("bound");
    room.use_doors(Instant::ZERO, &[Door { at, client: "127.0.0.1:5000".parse().expect("one") }]);
    (Lab::alone(), room, gateway, poll)
}

fn question(gateway: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut room = [0; 100];
    let (len, from) = gateway.recv_from(&mut room).expect("a question");
    (room[..len].to_vec(), from)
}

/// Lets the room read until `is_done`.
fn read_until(room: &mut Mapping, cx: &mut Context, mut is_done: impl FnMut(&Mapping) -> bool) {
    let begin = std::time::Instant::now();
    while !is_done(room) {
        assert!(begin.elapsed() < Duration::from_secs(5), "nothing comes");
        room.readiness(cx.now, Room::Mapping.token(0));
        room.handle_timeout(cx);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn peers_are_told_the_mapped_address_while_it_lasts_and_the_gateway_gets_it_back() {
    let (mut lab, mut room, gateway, _poll) = asked();
    let cx = &mut lab.nodes[0];
    room.handle_timeout(cx);
    let (asked, from) = question(&gateway);
    let external = EXTERNAL.parse().expect("one");
    let good = answers::pcp(&asked, 0, (7200, 9), external);
    // Another program of the same network says something else.
    let liar = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    liar.send_to(&answers::pcp(&asked, 0, (7200, 9), "198.51.100.66:1".parse().expect("one")), from).expect("sent");
    gateway.send_to(&good, from).expect("sent");
    read_until(&mut room, cx, |room| !room.told.is_empty());
    assert_eq!(room.told, [external]);
    assert!(cx.stack.endpoint().candidates().contains(&external));
    let report = PortMapping {
        kind: Some("pcp".into()),
        external: Some(EXTERNAL.into()),
        until: Some((cx.wall)() + 7200),
        why: None,
    };
    assert_eq!(room.report(cx), report);
    room.end();
    let (farewell, _) = question(&gateway);
    assert_eq!(farewell[4..8], [0; 4], "a lifetime of nothing");
    assert_eq!(question(&gateway).0, farewell);
    // Nothing answers the renewals.
    while room.gates[0].mapper.held().is_ok() {
        cx.now = room.poll_timeout().expect("renewals");
        room.handle_timeout(cx);
    }
    assert!(room.told.is_empty() && !cx.stack.endpoint().candidates().contains(&external));
}

#[test]
fn a_gateway_that_is_gone_in_mid_question_is_left() {
    let (mut lab, mut room, gateway, _poll) = asked();
    let cx = &mut lab.nodes[0];
    room.handle_timeout(cx);
    question(&gateway);
    drop(gateway);
    // The system says that no program has the port any more.
    room.gates[0].socket.send(&[0]).expect("sent");
    let first = room.poll_timeout();
    read_until(&mut room, cx, |room| room.poll_timeout() != first);
    let other = Door { at: "127.0.0.1:1".parse().expect("one"), client: "127.0.0.1:5000".parse().expect("one") };
    room.use_doors(cx.now, &[other]);
    assert_eq!((room.gates.len(), room.gates[0].at), (1, other.at));
    room.use_doors(cx.now, &[]);
    assert_eq!((room.poll_timeout(), room.news.is_none()), (None, true));
}

#[test]
fn nothing_is_asked_without_a_gateway_or_when_it_is_off() {
    let poll = mio::Poll::new().expect("a poll");
    let mut room = room(false, &poll);
    room.look(Instant::ZERO, "[::]:5000".parse().expect("one"));
    assert_eq!((room.poll_timeout(), room.gates.len()), (None, 0));
    assert_eq!(room.report(&Lab::alone().nodes[0]).why.as_deref(), Some("off"));
    assert!(doors("127.0.0.1:5000".parse().expect("one")).is_empty(), "a socket of this machine alone");
    assert!(doors("203.0.113.7:5000".parse().expect("one")).is_empty(), "a public address");
    let private = |door: &Door| door.at.is_ipv6() || is_private(door.client.ip());
    assert!(doors("[::]:5000".parse().expect("one")).iter().all(private));
}
