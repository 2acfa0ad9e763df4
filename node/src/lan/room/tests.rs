use super::*;
use crate::tests::Lab;

fn registry() -> (mio::Poll, Registry) {
    let poll = mio::Poll::new().expect("a poll");
    let registry = poll.registry().try_clone().expect("a registry");
    (poll, registry)
}

fn listed(text: &str) -> Vec<Spot> {
    let of = |word: &str| {
        let (ip, interface) = word.split_once('%').expect(word);
        (ip.parse().expect(ip), interface.parse().expect(interface))
    };
    text.split_whitespace().map(of).collect()
}

#[test]
fn announcements_leave_from_every_network_and_from_a_few_addresses() {
    let here = listed("127.0.0.1%1 ::1%1 fe80::1%2 10.0.0.1%2 fd00::1%2 fd00::2%2 fe80::2%3 169.254.1.1%3 10.0.0.1%2");
    let on = |bound: &str| spots(bound.parse().expect(bound), &here);
    assert_eq!(on("[::]:7"), listed("10.0.0.1%2 fd00::1%2 169.254.1.1%3 fe80::2%3"));
    assert_eq!(on("0.0.0.0:7"), listed("10.0.0.1%2 169.254.1.1%3"));
    assert_eq!(on("10.0.0.1:7"), listed("10.0.0.1%2"));
    assert_eq!(on("127.0.0.1:7"), []);
    let many: Vec<Spot> = (0..100).map(|n| (IpAddr::from([10, 0, n, 1]), u32::from(n))).collect();
    assert_eq!(spots("[::]:7".parse().expect("one"), &many).len(), SPOTS_MAX);
}

#[test]
fn a_node_announces_itself_ever_more_seldom_and_sooner_for_a_reason() {
    let mut lab = Lab::misplaced();
    let cx = &mut lab.nodes[0];
    let (_poll, registry) = registry();
    let mut room = Lan::new(true, registry);
    assert_eq!(room.poll_timeout(), None);
    // Nothing leaves this machine: the address is one for documentation.
    room.use_spots(cx.now, 7, listed("192.0.2.77%1"));
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let at = room.poll_timeout().expect("for ever");
        pauses.push(at.since(cx.now).as_millis());
        cx.now = at;
        room.handle_timeout(cx);
        assert_eq!(room.announced_at, Some(at));
    }
    assert!(pauses[0] < 500, "{pauses:?}");
    for (pause, s) in pauses[1..].iter().zip([3, 10, 60, 300, 300, 300]) {
        assert!((s * 800..=s * 1200).contains(pause), "{pauses:?}");
    }
    let soon = |room: &Lan, cx: &Context| room.poll_timeout().expect("one").since(cx.now) < Duration::from_secs(1);
    room.hurry(cx.now);
    assert!(!soon(&room, cx), "it was announced just now");
    cx.now = cx.now + CAUSED_PAUSE;
    room.hurry(cx.now);
    assert!(soon(&room, cx));
    // Another network.
    room.use_spots(cx.now, 7, listed("192.0.2.78%1"));
    assert!(soon(&room, cx) && room.step == 0);
    room.use_spots(cx.now, 7, Vec::new());
    assert_eq!(room.poll_timeout(), None);
}

#[test]
fn off_means_that_nothing_is_heard_or_said() {
    let (_poll, registry) = registry();
    let mut room = Lan::new(false, registry);
    room.look(Instant::ZERO, "[::]:7".parse().expect("one"));
    assert!(room.ears.iter().all(Option::is_none) && room.poll_timeout().is_none());
    assert_eq!(room.report(), answer::Lan { on: false, heard: 0 });
}

/// Announcements over the loopback interface, of which real nodes make none.
#[test]
fn announcements_are_heard_on_the_network_and_few_of_a_flood_are_looked_at() {
    let mut lab = Lab::misplaced();
    let (_poll, registry) = registry();
    let loopback = listed("127.0.0.1%1");
    let mut room = Lan::new(true, registry);
    room.use_spots(Instant::ZERO, 7, loopback.clone());
    let (now, from) = (lab.nodes[0].now, "127.0.0.1:7".parse().expect("one"));
    let announcement = lab.nodes[0].stack.endpoint_mut().announcement(now, from);
    let announcement = announcement.expect("a peer is missed");
    let ear = room.ears[0].as_ref().expect("an ear");
    ear.set_nonblocking(false).expect("a socket");
    ear.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a socket");
    send(&loopback[0], &announcement).expect("sent");
    let (mut room_for_one, mut is_heard) = ([0; ANNOUNCEMENT_LEN_MAX], false);
    while !is_heard {
        // Other tests of this machine may announce themselves as well.
        let (len, _) = ear.recv_from(&mut room_for_one).expect("heard");
        is_heard = room_for_one[..len] == announcement;
    }
    ear.set_nonblocking(true).expect("a socket");
    for _ in 0..5 * HEARD_PER_SECOND_MAX {
        send(&loopback[0], b"noise").expect("sent");
    }
    let cx = &mut lab.nodes[1];
    cx.now = cx.now + Duration::from_secs(2);
    for _ in 0..100 {
        room.readiness(cx, Room::Lan.token(0));
    }
    assert_eq!((room.left, room.heard), (0, 0));
}
