use super::super::codec::answers;
use super::*;

const EXTERNAL: &str = "203.0.113.9:6000";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn after(now: Instant, s: u64) -> Instant {
    now + Duration::from_secs(s)
}

/// A mapper, its clock, and the datagrams that have left.
struct Table {
    now: Instant,
    mapper: Mapper,
    sent: Vec<Vec<u8>>,
}

impl Table {
    fn new(client: &str) -> Self {
        let mut table = Self {
            now: Instant::ZERO,
            mapper: Mapper::new(Instant::ZERO, addr(client), *b"abcdefghijkl"),
            sent: Vec::new(),
        };
        table.run(0);
        table
    }

    /// Lets time pass.
    fn run(&mut self, s: u64) {
        let until = after(self.now, s);
        while self.mapper.poll_timeout() <= until {
            self.now = self.now.max(self.mapper.poll_timeout());
            self.mapper.handle_timeout(self.now);
            self.sent.extend(std::iter::from_fn(|| self.mapper.poll_transmit()));
        }
        self.now = until;
    }

    fn takes(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// Answers the newest request of PCP.
    fn answer(&mut self, result: u8, (lifetime_s, epoch_s): (u32, u32), external: &str) {
        let request = self.sent.last().expect("a question").clone();
        self.mapper.handle(self.now, &answers::pcp(&request, result, (lifetime_s, epoch_s), addr(external)));
    }

    fn external(&self) -> Result<SocketAddr, Lack> {
        self.mapper.held().map(|held| held.external)
    }
}

#[test]
fn a_mapping_of_pcp_is_renewed_at_half_and_given_back() {
    let mut table = Table::new("192.168.1.2:5000");
    assert_eq!((table.sent.len(), table.external()), (1, Err(Lack::Asking)));
    table.answer(0, (7200, 100), EXTERNAL);
    assert_eq!(table.external(), Ok(addr(EXTERNAL)));
    table.takes();
    table.run(3599);
    assert!(table.sent.is_empty());
    table.run(1);
    assert_eq!(table.sent.len(), 1, "half of its lifetime");
    assert_eq!(table.sent[0][42..44], 6000u16.to_be_bytes(), "the same port is asked for");
    table.answer(0, (7200, 3700), EXTERNAL);
    table.takes();
    // Without an answer it is asked for ever faster, a few times, and is over at its end.
    table.run(7199);
    assert!((5..=12).contains(&table.sent.len()) && table.external().is_ok(), "{}", table.sent.len());
    let farewell = table.mapper.farewell();
    assert_eq!((farewell.len(), &farewell[0][4..8], &farewell[0][42..44]), (1, &[0; 4][..], &[0; 2][..]));
    table.run(1);
    assert_eq!((table.external(), table.mapper.farewell().len()), (Err(Lack::Silent), 0));
}

#[test]
fn a_gateway_that_speaks_nat_pmp_only_is_asked_in_its_way() {
    let mut table = Table::new("192.168.1.2:5000");
    table.takes();
    table.mapper.handle(table.now, &answers::unsupported());
    table.run(0);
    let asked = table.takes();
    assert_eq!(asked, [nat_pmp_question(), nat_pmp_request(5000, 5000, LIFETIME_S)]);
    let [address, port] = answers::nat_pmp(5000, (3600, 7), ([203, 0, 113, 9].into(), 6000));
    for (one, other) in [(&address, &port), (&port, &address)] {
        let mut table = Table::new("192.168.1.2:5000");
        table.mapper.handle(table.now, &answers::unsupported());
        table.run(0);
        table.mapper.handle(table.now, one);
        assert_eq!(table.external(), Err(Lack::Asking));
        table.mapper.handle(table.now, other);
        assert_eq!(table.external(), Ok(addr(EXTERNAL)));
        assert_eq!(table.mapper.farewell(), [nat_pmp_request(5000, 0, 0)]);
    }
}

#[test]
fn a_silent_gateway_costs_a_few_datagrams_in_an_hour_and_ipv6_has_pcp_alone() {
    for (client, first, hourly) in [("192.168.1.2:5000", 6, 3), ("[2001:db8::2]:5000", 2, 1)] {
        let mut table = Table::new(client);
        table.run(60);
        assert_eq!((table.takes().len(), table.external()), (first, Err(Lack::Silent)), "{client}");
        table.run(24 * 3600);
        assert!((20 * hourly..=28 * hourly).contains(&table.takes().len()), "{client}");
        // A gateway that has no such program says so at once.
        let mut table = Table::new(client);
        table.mapper.on_unreachable(table.now);
        table.run(0);
        table.mapper.on_unreachable(table.now);
        table.run(0);
        assert_eq!(table.external(), Err(Lack::Silent), "{client}");
    }
}

#[test]
fn a_gateway_that_lies_gains_nothing() {
    for external in [
        "224.0.0.1:5",
        "127.0.0.1:5",
        "10.0.0.1:5",
        "100.64.0.1:5",
        "169.254.1.1:5",
        "0.0.0.0:5",
        "255.255.255.255:5",
        "[::1]:5",
        "[fe80::1]:5",
        "[fd00::1]:5",
        "[ff02::1]:5",
        "203.0.113.9:0",
    ] {
        let mut table = Table::new("192.168.1.2:5000");
        table.answer(0, (7200, 1), external);
        assert_eq!(table.external(), Err(Lack::NotPublic), "{external}");
        table.takes();
        table.run(PAUSE_MIN.as_secs() - 1);
        assert_eq!(table.takes().len(), 0, "{external}: asked again after a pause");
    }
    for (lifetime_s, held) in [(0, Err(Lack::TooShort)), (59, Err(Lack::TooShort)), (u32::MAX, Ok(addr(EXTERNAL)))] {
        let mut table = Table::new("192.168.1.2:5000");
        table.answer(0, (lifetime_s, 1), EXTERNAL);
        assert_eq!(table.external(), held, "{lifetime_s}");
        assert!(table.mapper.poll_timeout() <= after(table.now, u64::from(LIFETIME_MAX_S) / 2), "{lifetime_s}");
    }
    // Another nonce, another port, a question as its own answer, the other protocol, and what was not asked for.
    let mut table = Table::new("192.168.1.2:5000");
    let question = table.sent[0].clone();
    let good = answers::pcp(&question, 0, (7200, 1), addr(EXTERNAL));
    for at in [24, 35, 36, 40, 41] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        table.mapper.handle(table.now, &bad);
    }
    let nat_pmp = answers::nat_pmp(5000, (7200, 1), ([203, 0, 113, 9].into(), 6000));
    nat_pmp.iter().chain([&question]).for_each(|bad| table.mapper.handle(table.now, bad));
    assert_eq!(table.external(), Err(Lack::Asking));
    table.mapper.handle(table.now, &good);
    assert_eq!(table.external(), Ok(addr(EXTERNAL)));
    let other = answers::pcp(&question, 0, (7200, 1), addr("198.51.100.1:1"));
    table.mapper.handle(table.now, &other);
    assert_eq!(table.external(), Ok(addr(EXTERNAL)), "one answer to one question");
}

#[test]
fn a_refusal_ends_the_round_and_no_mapping() {
    let mut table = Table::new("192.168.1.2:5000");
    table.answer(2, (1800, 1), EXTERNAL);
    assert_eq!(table.external(), Err(Lack::Refused));
    table.takes();
    table.run(PAUSE_MIN.as_secs() - 1);
    assert!(table.takes().is_empty());
    table.run(1);
    table.answer(0, (7200, 600), EXTERNAL);
    table.run(3600);
    table.answer(8, (30, 4200), EXTERNAL);
    assert_eq!(table.external(), Ok(addr(EXTERNAL)), "promised for two hours");
}

#[test]
fn a_gateway_that_has_begun_anew_is_asked_at_once_and_not_too_often() {
    let mut table = Table::new("192.168.1.2:5000");
    table.answer(0, (7200, 1000), EXTERNAL);
    table.takes();
    table.run(100);
    table.mapper.hear(table.now, &answers::announcement(1100));
    table.mapper.hear(table.now, &[0; 3]);
    table.run(0);
    assert!(table.takes().is_empty(), "its clock has gone on");
    table.mapper.hear(table.now, &answers::announcement(2));
    table.run(0);
    assert_eq!(table.sent.len(), 1);
    table.answer(0, (7200, 2), "203.0.113.77:6000");
    assert_eq!(table.external(), Ok(addr("203.0.113.77:6000")));
    table.takes();
    // Lies about the clock cost a datagram in ten seconds.
    for n in 0..100 {
        table.mapper.hear(table.now, &answers::announcement(n % 2 * 50_000));
        table.run(1);
    }
    assert!((5..=15).contains(&table.sent.len()), "{}", table.sent.len());
    // The clock of a gateway may be a little faster or slower than this one.
    for (passed, told, is_anew) in [(1600, 1500, false), (1600, 1700, false), (1600, 1400, true), (1600, 1900, true)] {
        let mut table = Table::new("192.168.1.2:5000");
        assert!(!table.mapper.note_epoch(table.now, 10));
        assert_eq!(table.mapper.note_epoch(after(table.now, passed), 10 + told), is_anew, "{told}");
    }
}

#[test]
fn datagrams_that_wait_have_a_maximum_and_leave() {
    let mut table = Table::new("192.168.1.2:5000");
    for s in 0..100_000 {
        table.mapper.handle_timeout(after(table.now, s));
        assert!(table.mapper.out.len() <= OUT_MAX);
    }
    assert!(table.mapper.poll_transmit().is_some());
    while table.mapper.poll_transmit().is_some() {}
    assert!(table.mapper.out.is_empty());
}
