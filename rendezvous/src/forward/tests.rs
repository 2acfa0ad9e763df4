//! The queues alone.

use super::*;

const ROOM: usize = 16 << 20;

fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 9))
}

fn sender(n: u8) -> IdentityKey {
    IdentityKey([n; 32])
}

fn waiting(now: Instant, to: u8, len: usize) -> Waiting {
    Waiting { to: addr(to), channel: u32::from(to), at: now, datagram: vec![7; len] }
}

#[test]
fn relayed_datagrams_to_one_address_leave_in_batches() {
    let (mut forward, now) = (Forward::new(ROOM), Instant::ZERO);
    let lens = [(1, 100), (1, 100), (1, 60), (1, 100), (2, 100), (2, 120), (1, 40_000), (1, 40_000)];
    assert!(lens.into_iter().all(|(to, len)| forward.push(sender(1), waiting(now, to, len))));
    let mut out = Vec::new();
    let batches: Vec<_> = std::iter::from_fn(|| {
        let transmit = forward.poll(now, &mut out, |_, _| panic!("nothing waited"))?;
        Some((transmit.to, transmit.segment_len, out.len()))
    })
    .collect();
    let [a, b] = [addr(1), addr(2)];
    let expected =
        [(a, 100, 260), (a, 100, 100), (b, 100, 100), (b, 120, 120), (a, 40_000, 40_000), (a, 40_000, 40_000)];
    assert_eq!(batches, expected);
    assert_eq!((forward.len(), forward.queues.len(), forward.turns.len()), (0, 0, 0));
}

/// One sender has four channels and offers ten times what another one does, a third one less than its share.
#[test]
fn senders_have_equal_shares_of_a_budget_whatever_they_offer() {
    const RATE: u64 = 2_000_000;
    let (mut forward, mut out, mut sent, mut told) = (Forward::new(ROOM), Vec::new(), [0; 3], [0; 3]);
    forward.set_budget(Instant::ZERO, Some(RATE));
    for ms in 0..1500 {
        if ms == 500 {
            (sent, told) = ([0; 3], [0; 3]); // the queues stand
        }
        let now = Instant::from_micros(ms * 1000);
        for n in 0..10 {
            forward.push(sender(0), waiting(now, 10 + n % 4, 1200));
        }
        forward.push(sender(1), waiting(now, 1, 1200));
        forward.push(sender(2), waiting(now, 2, 600));
        while let Some(transmit) = forward.poll(now, &mut out, |of, _| told[of.0[0] as usize] += 1) {
            let host = transmit.to.ip().to_canonical().to_string();
            let of = if host.ends_with(".1") { 1 } else { usize::from(host.ends_with(".2")) * 2 };
            sent[of] += out.len();
        }
        assert!(forward.poll_timeout().is_none_or(|at| at > now && at.since(now) < Duration::from_millis(40)));
    }
    // The third offers less than a third of the rate and loses nothing; the others share what is left.
    let [greedy, modest, small] = sent;
    assert!(small >= 600 * 960 && told[2] == 0, "{sent:?} {told:?}");
    assert!(greedy.abs_diff(modest) * 20 < modest, "{sent:?}");
    assert!(told[0] > 0, "{told:?}");
    let all = (greedy + modest + small) as u64;
    assert!(all < RATE + burst(RATE) && all > RATE * 9 / 10, "{all}");
}

#[test]
fn queues_have_maxima_and_leave_room_for_senders_that_come_late() {
    let (mut forward, now, mut out) = (Forward::new(1 << 20), Instant::ZERO, Vec::new());
    let fill =
        |forward: &mut Forward, n: u8| (0..1000).filter(|_| forward.push(sender(n), waiting(now, n, 1024))).count();
    assert_eq!(fill(&mut forward, 1), QUEUE_LEN_MAX / 1024, "as much as one sender may have");
    assert_eq!(fill(&mut forward, 2), 256, "half of what is left");
    assert_eq!(fill(&mut forward, 3), 128);
    assert_eq!(forward.queues.len(), 3);
    assert!(!forward.push(sender(4), waiting(now, 4, 512 << 10)) && forward.queues.len() == 3);
    while forward.poll(now, &mut out, |_, _| {}).is_some() {}
    assert_eq!((forward.len(), forward.queues.len(), forward.turns.len()), (0, 0, 0));
}

#[test]
fn a_sender_is_told_of_what_waits_and_the_oldest_is_dropped() {
    let (mut forward, mut out, mut told) = (Forward::new(ROOM), Vec::new(), Vec::new());
    for ms in [0, 100, 200, 299] {
        forward.push(sender(1), waiting(Instant::from_micros(ms * 1000), ms as u8 + 1, 100));
    }
    let mut sent = Vec::new();
    while let Some(transmit) = forward.poll(Instant::from_micros(300_000), &mut out, |_, channel| told.push(channel)) {
        sent.push(transmit.to);
    }
    assert_eq!(sent, [addr(101), addr(201), addr(44)], "the first has waited for too long");
    assert_eq!(told, [1, 101, 201], "the last has not waited");
    assert_eq!(forward.len(), 0);
    // The only one that waits is not dropped, however old it is.
    forward.push(sender(1), waiting(Instant::ZERO, 1, 100));
    assert!(forward.poll(Instant::from_micros(9_000_000), &mut out, |_, _| {}).is_some());
}
