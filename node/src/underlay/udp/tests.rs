use super::*;
use std::time::{Duration, Instant};

fn bind(addr: &str) -> Udp {
    Udp::bind(addr.parse().expect(addr)).expect(addr)
}

fn at(ip: &str, udp: &Udp) -> SocketAddr {
    SocketAddr::new(ip.parse().expect(ip), udp.local_addr().port())
}

/// The source and length of the next datagram.
fn received(udp: &mut Udp) -> (SocketAddr, usize) {
    let begin = Instant::now();
    loop {
        let mut got = None;
        udp.recv_batch(|from, batch, _| got = Some((from, batch.len())));
        match got {
            Some(got) => return got,
            None => assert!(begin.elapsed() < Duration::from_secs(10), "nothing came"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_socket_of_both_families_hears_and_answers_both_in_their_own_form() {
    let mut both = bind("[::]:0");
    if both.main.carries != Carries::Both {
        return; // a machine without IPv6
    }
    for ip in ["127.0.0.1", "::1"] {
        let mut other = bind(&SocketAddr::new(ip.parse().expect(ip), 0).to_string());
        other.send_batch(at(ip, &both), 100, &[1; 250]);
        let (from, len) = received(&mut both);
        assert_eq!(from, other.local_addr());
        assert!(len > 0);
        both.send_batch(from, 100, &[2; 70]);
        assert_eq!(received(&mut other), (at(ip, &both), 70));
    }
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let mut asked = bind(listen);
        let mut asker = bind("127.0.0.1:0");
        let from = asker.local_addr();
        // All of 127/8 is this machine's; the system itself would answer from 127.0.0.1.
        for ip in ["127.0.0.2", "127.0.0.3", "127.0.0.1"] {
            asker.send_batch(at(ip, &asked), 100, &[1; 100]);
            assert_eq!(received(&mut asked).0, from);
            asked.send_batch(from, 100, &[2; 100]);
            assert_eq!(received(&mut asker).0, at(ip, &asked), "{listen}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_is_gone_costs_neither_the_answer_nor_the_batches() {
    let mut asked = bind("0.0.0.0:0");
    let mut asker = bind("127.0.0.1:0");
    let (from, gso) = (asker.local_addr(), asked.main.gso);
    asked.main.sources.as_mut().expect("bound to all").note(from, IpAddr::from([192, 0, 2, 77]));
    asked.send_batch(from, 100, &[2; 250]);
    assert_eq!(received(&mut asker).0, at("127.0.0.1", &asked));
    assert_eq!((asked.main.gso, asked.main.state.max_gso_segments() > 1), (gso, gso));
    assert_eq!(asked.main.sources.as_mut().and_then(|sources| sources.local(&from)), None);
}

#[test]
fn a_socket_sends_only_where_its_family_leads() {
    let (v4, v6) = ("192.0.2.1:7".parse().expect("one"), "[2001:db8::1]:7".parse().expect("one"));
    let mut only_v4 = bind("127.0.0.1:0");
    assert_eq!((only_v4.main.destination(v4), only_v4.main.destination(v6)), (Some(v4), None));
    let mapped = "[::ffff:192.0.2.1]:7".parse().ok();
    let mut both = bind("[::]:0");
    if both.main.carries == Carries::Both {
        assert_eq!((both.main.destination(v4), both.main.destination(v6)), (mapped, Some(v6)));
        let shown = ["2001:db8:64::192.0.0.170".parse().expect("an address")];
        both.network_changed(Nat64::found(&shown));
        assert_eq!(both.main.destination(v4), "[2001:db8:64::192.0.2.1]:7".parse().ok());
        let loopback = "127.0.0.1:7".parse().expect("one");
        assert_eq!(both.main.destination(loopback), "[::ffff:127.0.0.1]:7".parse().ok());
        both.network_changed(None);
        assert_eq!(both.main.destination(v4), mapped);
        let mut only_v6 = bind("[::1]:0");
        assert_eq!((only_v6.main.destination(v4), only_v6.main.destination(v6)), (None, Some(v6)));
    }
}

#[test]
fn addresses_have_one_form() {
    for (raw, form) in [
        ("[::ffff:192.0.2.1]:7", "192.0.2.1:7"),
        ("192.0.2.1:7", "192.0.2.1:7"),
        ("[2001:db8::1%3]:7", "[2001:db8::1]:7"),
        ("[fe80::1%3]:7", "[fe80::1%3]:7"),
    ] {
        assert_eq!(canonical(raw.parse().expect(raw)).to_string(), form);
    }
    assert!(bind("[::ffff:127.0.0.1]:0").local_addr().is_ipv4());
}
