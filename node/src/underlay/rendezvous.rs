//! The room of the place of the rendezvous: while the rendezvous does not answer, the file that names it is read again, its
//! names are looked up again on a thread of their own, and its addresses are tried in turn, for ever. Each try asks the next few
//! addresses as well, one after the other, and the first that answers is used (RFC 8305).

use crate::config::{RendezvousConfig, RendezvousHost};
use crate::context::Context;
use crate::underlay::resolver::Resolver;
use mio::Waker;
use pilot_core::Instant;
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::StaticKey;
use pilot_core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bounds of the pause between two tries: time for an address to answer, and the most that a name is not looked up again.
const PAUSE_MIN: Duration = Duration::from_secs(3);
const PAUSE_MAX: Duration = Duration::from_secs(24);

/// Pause before the next address is asked as well. Source: RFC 8305 §5.
const RACE_PAUSE: Duration = Duration::from_millis(250);
/// Most addresses that are asked in one try. Source: own choice, two of each family; the others have their turn.
const RACED_MAX: usize = 4;

/// Silence after which a rendezvous with other addresses is left, although its tunnel is not given up. Source: docs/trust.md,
/// "When the rendezvous is away"; more than the keepalive of its tunnel and a key handshake.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// Stands for a rendezvous with a name that cannot be looked up here, but by a proxy on the way over TLS. Nothing is there (RFC 6666).
#[cfg(feature = "tls")]
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)), 9);

/// Time for a look-up after which a name is taken for one that only a proxy knows. Source: docs/paths.md, "Without UDP".
#[cfg(feature = "tls")]
const LOOK_UP_PATIENCE: Duration = Duration::from_millis(300);

/// What names the rendezvous, and what is known of its place.
pub(crate) struct RendezvousPlace {
    /// Only a file can name another rendezvous later.
    file: Option<PathBuf>,
    named: Option<(StaticKey, Vec<RendezvousHost>)>,
    resolver: Resolver,
    /// The names were asked for, and the answers are awaited.
    is_asking: bool,
    due: Option<Instant>,
    pause: Duration,
    /// When the next address is asked as well, and how many were asked in this try.
    race: Option<(Instant, usize)>,
    /// Nothing was tried here yet but an address that needs no look-up.
    is_new: bool,
}

impl RendezvousPlace {
    pub(crate) fn new(config: &RendezvousConfig, waker: Arc<Waker>) -> Self {
        let mut place = Self {
            file: None,
            named: None,
            resolver: Resolver::new(waker),
            is_asking: false,
            due: None,
            pause: PAUSE_MIN,
            race: None,
            is_new: true,
        };
        match config {
            RendezvousConfig::File(path) => {
                place.file = Some(path.clone());
                place.due = Some(Instant::ZERO);
            }
            RendezvousConfig::Hosts(key, hosts) => {
                place.named = Some((*key, hosts.clone()));
                place.due = Some(Instant::ZERO);
            }
            // The rendezvous may send this node elsewhere, where nothing answers.
            RendezvousConfig::At(key, addr) => place.named = Some((*key, vec![(*addr).into()])),
            RendezvousConfig::None => {}
        }
        place
    }

    /// True when there may be a rendezvous with an address that is not known yet.
    pub(crate) const fn is_named(&self) -> bool {
        self.file.is_some() || self.named.is_some()
    }

    /// The key of the rendezvous and its places, as they were configured.
    pub(crate) fn named(&self) -> Option<(&StaticKey, &[RendezvousHost])> {
        self.named.as_ref().map(|(key, hosts)| (key, hosts.as_slice()))
    }

    /// The places that are known by name.
    #[cfg(feature = "tls")]
    pub(crate) fn hosts(&self) -> &[RendezvousHost] {
        self.named.as_ref().map_or(&[], |(_, hosts)| hosts)
    }

    /// The state of the rendezvous has changed.
    pub(crate) fn directory_changed(&mut self, now: Instant, state: DirectoryState) {
        if state != DirectoryState::Connecting {
            self.race = None;
        }
        match state {
            DirectoryState::Ready(_) => {
                let look = self.may_have_others().then_some(now + SILENCE_MAX);
                (self.due, self.pause, self.is_asking) = (look, PAUSE_MIN, false);
            }
            DirectoryState::Connecting | DirectoryState::Registering if self.is_named() => {
                let next = now + self.pause;
                self.due = Some(self.due.map_or(next, |due| due.min(next)));
            }
            DirectoryState::Refused(_) => self.due = None,
            _ => {}
        }
    }

    /// True when the rendezvous may have more than one address.
    fn may_have_others(&self) -> bool {
        let is_literal = |host: &RendezvousHost| host.name.parse::<IpAddr>().is_ok();
        self.named.as_ref().is_some_and(|(_, hosts)| hosts.len() > 1 || !hosts.iter().all(is_literal))
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        if self.due.is_some_and(|at| at <= cx.now)
            && let endpoint = cx.stack.endpoint()
            && matches!(endpoint.directory_state(), DirectoryState::Ready(_))
            && !Self::is_nowhere(cx)
            && let Some(look) = endpoint.rendezvous_heard().map(|at| at + SILENCE_MAX).filter(|at| *at > cx.now)
        {
            // The rendezvous answers.
            (self.due, self.pause) = (Some(look), PAUSE_MIN);
        }
        let has_answers = self.is_asking && self.resolver.poll(cx.now);
        let is_due = self.due.is_some_and(|at| at <= cx.now);
        if is_due {
            self.due = Some(cx.now + self.pause);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            if let Some(named) = self.file.as_deref().and_then(read) {
                self.named = Some(named);
            }
        }
        if is_due || has_answers {
            self.go_on(cx, is_due);
        }
        if let Some((_, asked)) = self.race.take_if(|(at, _)| *at <= cx.now) {
            self.ask_another(cx, asked);
        }
    }

    /// True while the rendezvous is reached by its name alone.
    #[cfg(feature = "tls")]
    fn is_nowhere(cx: &Context) -> bool {
        cx.stack.endpoint().rendezvous_address().is_some_and(|(_, addr)| addr == NOWHERE)
    }

    #[cfg(not(feature = "tls"))]
    const fn is_nowhere(_: &Context) -> bool {
        false
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.race.map(|(at, _)| at)).min()
    }

    /// The addresses of the rendezvous that are known now, and the place of the one in use among them.
    fn known(&mut self, cx: &Context) -> (Vec<SocketAddr>, Option<usize>) {
        let (mut known, mut is_asking): (Vec<SocketAddr>, _) = (Vec::new(), false);
        for host in self.named.iter().flat_map(|(_, hosts)| hosts) {
            match self.resolver.addresses(cx.now, &host.name) {
                Some(Ok(ips)) => known.extend(ips.iter().map(|ip| SocketAddr::new(*ip, host.port))),
                Some(Err(_)) => {} // asked again with the next try
                None => is_asking = true,
            }
        }
        let was_asking = std::mem::replace(&mut self.is_asking, is_asking);
        known.retain(|addr| cx.config.listen.is_ipv6() || addr.is_ipv4());
        self.add_nowhere(cx, &mut known, is_asking && !was_asking);
        let key = self.named.as_ref().map(|(key, _)| *key);
        let in_use = cx.stack.endpoint().rendezvous_address().filter(|(in_use, _)| Some(*in_use) == key);
        let at = known.iter().position(|addr| in_use.is_some_and(|(_, in_use)| in_use == *addr));
        (known, at)
    }

    /// Adds the place of a rendezvous that only a proxy can look up, once a look-up has had its time.
    #[cfg(feature = "tls")]
    fn add_nowhere(&mut self, cx: &Context, known: &mut Vec<SocketAddr>, begins_to_ask: bool) {
        if known.is_empty() && cx.config.tls.is_on && cx.stack.endpoint().rendezvous_address().is_none() {
            if begins_to_ask {
                self.due = Some(cx.now + LOOK_UP_PATIENCE);
            } else {
                known.push(NOWHERE);
            }
        }
    }

    #[cfg(not(feature = "tls"))]
    const fn add_nowhere(&mut self, _: &Context, _: &mut Vec<SocketAddr>, _: bool) {}

    /// Uses the address after the one in use, as far as addresses are known. An answer of the look-up, and the first look, only
    /// tell of others while one is in use.
    fn go_on(&mut self, cx: &mut Context, is_due: bool) {
        let (known, at) = self.known(cx);
        let moves = is_due && !std::mem::replace(&mut self.is_new, false);
        let next = match at {
            Some(at) if moves => (at + 1) % known.len(),
            Some(at) => at,
            None => 0,
        };
        let Some((key, addr)) = self.named.as_ref().map(|(key, _)| *key).zip(known.get(next).copied()) else { return };
        if at != Some(next) {
            cx.stack.endpoint_mut().set_rendezvous(cx.now, key, addr);
        } else if self.race.is_some() {
            return;
        }
        self.race = (known.len() > 1).then_some((cx.now + RACE_PAUSE, 1));
    }

    /// Asks the next address as well, while none has answered.
    fn ask_another(&mut self, cx: &mut Context, asked: usize) {
        debug_assert!(asked < RACED_MAX, "a try asks a few addresses");
        let (known, at) = self.known(cx);
        let is_waiting = cx.stack.endpoint().directory_state() == DirectoryState::Connecting;
        let Some(at) = at.filter(|_| is_waiting && asked < known.len()) else { return };
        cx.stack.endpoint_mut().also_ask_rendezvous(known[(at + asked) % known.len()]);
        self.race = Some((cx.now + RACE_PAUSE, asked + 1)).filter(|_| asked + 1 < RACED_MAX.min(known.len()));
    }
}

/// The rendezvous that a file names (`KEY@host:port`); `None` while there is no such file.
fn read(path: &Path) -> Option<(StaticKey, Vec<RendezvousHost>)> {
    match std::fs::read_to_string(path).ok()?.parse().ok()? {
        RendezvousConfig::At(key, addr) => Some((key, vec![addr.into()])),
        RendezvousConfig::Hosts(key, hosts) => Some((key, hosts)),
        RendezvousConfig::File(_) | RendezvousConfig::None => None,
    }
}

/// The rendezvous to begin with, where its address needs no look-up.
pub(crate) fn known(config: &RendezvousConfig) -> Option<(StaticKey, SocketAddr)> {
    let of_hosts = |(key, hosts): (StaticKey, &[RendezvousHost])| {
        let literal = |host: &RendezvousHost| Some(SocketAddr::new(host.name.parse().ok()?, host.port));
        hosts.iter().find_map(literal).map(|addr| (key, addr))
    };
    match config {
        RendezvousConfig::At(key, addr) => Some((*key, *addr)),
        RendezvousConfig::Hosts(key, hosts) => of_hosts((*key, hosts)),
        RendezvousConfig::File(path) => read(path).and_then(|(key, hosts)| of_hosts((key, &hosts))),
        RendezvousConfig::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "tls")]
    use crate::crypto::SystemEntropy;
    use crate::tests::Lab;

    const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    fn waker() -> Arc<Waker> {
        let poll = mio::Poll::new().expect("a poll");
        Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("a waker"))
    }

    fn place(text: &str) -> RendezvousPlace {
        RendezvousPlace::new(&format!("{KEY}@{text}").parse().expect(text), waker())
    }

    fn in_use(cx: &Context) -> String {
        cx.stack.endpoint().rendezvous_address().expect("one is tried").1.to_string()
    }

    #[test]
    fn addresses_that_do_not_answer_are_left_for_the_next_for_ever() {
        let mut lab = Lab::strangers(1);
        let cx = &mut lab.nodes[0];
        let mut place = place("192.0.2.1,192.0.2.2:7,192.0.2.3");
        cx.stack.endpoint_mut().set_rendezvous(cx.now, StaticKey([1; 32]), "192.0.2.9:7".parse().expect("an address"));
        let mut tried = vec![in_use(cx)];
        while tried.len() < 8 {
            let due = place.poll_timeout().expect("for ever");
            assert!(tried.len() == 1 || due.since(cx.now) <= PAUSE_MAX);
            cx.now = due.max(cx.now);
            place.handle_timeout(cx);
            tried.extend(Some(in_use(cx)).filter(|addr| tried.last() != Some(addr)));
        }
        tried.remove(0);
        let round = ["192.0.2.1:9000", "192.0.2.2:7", "192.0.2.3:9000"];
        assert_eq!(tried, [&round[..], &round, &round[..1]].concat());
        place.directory_changed(cx.now, DirectoryState::Ready(pilot_core::Addr::new(0, 1)));
        assert_eq!(place.poll_timeout(), Some(cx.now + SILENCE_MAX));
        place.directory_changed(cx.now, DirectoryState::Connecting);
        assert_eq!(place.poll_timeout(), Some(cx.now + PAUSE_MIN));
    }

    #[test]
    fn the_first_address_that_answers_is_used_and_the_others_are_asked_a_quarter_of_a_second_apart() {
        let mut lab = Lab::strangers(1);
        let (key, addr) = lab.nodes[0].stack.endpoint().rendezvous_address().expect("one");
        let mut place = place(&format!("[2001:db8::1]:7,192.0.2.9:7,{addr},192.0.2.8:7,192.0.2.7:7,192.0.2.6:7"));
        place.named.as_mut().expect("named").0 = key;
        let (begin, mut asked) = (lab.nodes[0].now, Vec::new());
        let dead = "[2001:db8::1]:7".parse().expect("one");
        lab.nodes[0].stack.endpoint_mut().set_rendezvous(begin, key, dead);
        lab.run_until(|lab| {
            let cx = &mut lab.nodes[0];
            let before = place.race;
            place.handle_timeout(cx);
            if place.race != before {
                asked.push(cx.now.since(begin).as_micros() / 50_000);
            }
            matches!(cx.stack.endpoint().directory_state(), DirectoryState::Ready(_))
        });
        let cx = &mut lab.nodes[0];
        assert_eq!(in_use(cx), addr.to_string(), "where the relay is from now on, too");
        assert_eq!(asked[..3], [0, 5, 10], "the first at once, and the one that answers as the third");
        assert!(cx.now.since(begin) < Duration::from_secs(1));
        // Where none answers, a few are asked before the next try.
        cx.stack.endpoint_mut().set_rendezvous(cx.now, StaticKey([1; 32]), "192.0.2.9:7".parse().expect("one"));
        place.named.as_mut().expect("named").0 = StaticKey([1; 32]);
        place.race = None;
        place.go_on(cx, false);
        for _ in 1..RACED_MAX {
            let (at, _) = place.race.expect("another");
            cx.now = at;
            place.handle_timeout(cx);
        }
        assert_eq!((place.race, in_use(cx)), (None, "192.0.2.9:7".into()));
    }

    #[test]
    fn a_rendezvous_that_falls_silent_is_left_for_another_of_its_addresses() {
        let mut lab = Lab::strangers(1);
        lab.run_until(|lab| matches!(lab.nodes[0].stack.endpoint().directory_state(), DirectoryState::Ready(_)));
        let cx = &mut lab.nodes[0];
        let first = in_use(cx);
        let mut only = place(&first);
        only.directory_changed(cx.now, cx.stack.endpoint().directory_state());
        assert_eq!(only.poll_timeout(), None, "there is no other");
        let mut place = place(&format!("{first},192.0.2.1:7"));
        place.named.as_mut().expect("named").0 = cx.stack.endpoint().rendezvous_address().expect("one").0;
        place.directory_changed(cx.now, cx.stack.endpoint().directory_state());
        place.is_new = false;
        let heard = cx.stack.endpoint().rendezvous_heard().expect("a tunnel");
        cx.now = heard + SILENCE_MAX - Duration::from_millis(1);
        place.due = Some(cx.now);
        place.handle_timeout(cx);
        assert_eq!((place.poll_timeout(), in_use(cx)), (Some(heard + SILENCE_MAX), first));
        cx.now = heard + SILENCE_MAX;
        place.handle_timeout(cx);
        assert_eq!(in_use(cx), "192.0.2.1:7");
    }

    #[test]
    fn a_node_that_was_sent_where_nothing_answers_comes_back() {
        let mut lab = Lab::strangers(1);
        let cx = &mut lab.nodes[0];
        let mut place = place("192.0.2.1:7");
        let elsewhere = "192.0.2.9:7".parse().expect("an address");
        cx.stack.endpoint_mut().set_rendezvous(cx.now, StaticKey([1; 32]), elsewhere);
        place.directory_changed(cx.now, DirectoryState::Connecting);
        cx.now = place.poll_timeout().expect("another try");
        place.handle_timeout(cx);
        assert_eq!(in_use(cx), "192.0.2.1:7");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_name_that_cannot_be_looked_up_is_left_to_a_proxy_until_it_can() {
        for answers_late in [false, true] {
            let mut config = pilot_core::Config::new(pilot_core::Identity::from_seed([1; 32]), Box::new(SystemEntropy));
            config.rendezvous = None;
            let stack = pilot_stack::Stack::new(config, pilot_stack::StackConfig::default());
            let mut cx = Context::new(stack, || 0, crate::call::Calls::default(), crate::Config::new(""));
            let mut place = place("rdv.example:7");
            let (resolver, asked, answers) = Resolver::played(waker());
            place.resolver = resolver;
            place.handle_timeout(&mut cx);
            assert_eq!(asked.recv().expect("a question"), "rdv.example");
            let tell = |told| answers.send(("rdv.example".into(), told)).expect("it listens");
            if answers_late {
                cx.now = place.poll_timeout().expect("a look");
                assert_eq!(cx.now, Instant::ZERO + LOOK_UP_PATIENCE);
            } else {
                tell(Err("no network".into()));
            }
            place.handle_timeout(&mut cx);
            assert_eq!(in_use(&cx), NOWHERE.to_string());
            cx.now = cx.now + Duration::from_secs(6);
            place.handle_timeout(&mut cx);
            tell(Ok(vec!["192.0.2.1".parse().expect("an address")]));
            place.handle_timeout(&mut cx);
            assert_eq!(in_use(&cx), "192.0.2.1:7");
        }
    }

    #[test]
    fn a_rendezvous_whose_name_gets_another_address_is_followed() {
        let mut lab = Lab::strangers(1);
        let cx = &mut lab.nodes[0];
        let mut place = place("rdv.example:7");
        let (resolver, asked, answers) = Resolver::played(waker());
        place.resolver = resolver;
        for (address, seconds) in [("192.0.2.1", 40), ("192.0.2.1", 3), ("192.0.2.2", 3)] {
            let begin = cx.now;
            let expected = format!("{address}:7");
            while asked.is_empty() {
                cx.now = place.poll_timeout().expect("for ever").max(cx.now);
                place.handle_timeout(cx);
                assert!(cx.now.since(begin) <= Duration::from_secs(seconds), "{:?}", cx.now.since(begin));
            }
            let name = asked.recv().expect("a question");
            assert_eq!(name, "rdv.example");
            answers.send((name, Ok(vec![address.parse().expect("an address")]))).expect("it listens");
            place.handle_timeout(cx);
            place.handle_timeout(cx);
            assert_eq!(in_use(cx), expected);
            // The address answers for a while, and no more.
            place.directory_changed(cx.now, DirectoryState::Ready(pilot_core::Addr::new(0, 1)));
            cx.now = cx.now + Duration::from_secs(600);
            place.directory_changed(cx.now, DirectoryState::Connecting);
        }
    }

    #[test]
    fn a_name_is_looked_up_beside_the_loop_and_again_until_it_is_known() {
        let mut lab = Lab::strangers(1);
        let cx = &mut lab.nodes[0];
        let before = cx.stack.endpoint().rendezvous_address();
        let mut unknown = place("no-such-host.invalid");
        unknown.handle_timeout(cx);
        assert!(unknown.poll_timeout().is_some() && cx.stack.endpoint().rendezvous_address() == before);
        let mut place = place("localhost:7");
        for _ in 0..1000 {
            cx.now = place.poll_timeout().expect("until there is an answer");
            place.handle_timeout(cx);
            if cx.stack.endpoint().rendezvous_address() != before {
                return assert_eq!(in_use(cx), "127.0.0.1:7");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("localhost was never found");
    }
}
