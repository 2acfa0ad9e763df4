//! Owns the look-up of hosts' addresses, which may take seconds: a thread of its own asks the system, and answers are known
//! for a while. The thread begins with the first host that is a name.

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use mio::Waker;
use pilot_core::Instant;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer is known. Own choice: a burst of connections asks once, and a host that moves is found soon.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// Most addresses of a host that are tried. Source: own choice; more are hardly alive.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// Most hosts that are known or asked for; the one that was asked for longest ago is forgotten first.
const HOSTS_MAX: usize = 256;
/// Most questions that wait for the thread.
const QUESTIONS_MAX: usize = 64;

/// Addresses of a host in the order in which to try them, or the reason why there are none.
pub(crate) type Addresses = Result<Vec<IpAddr>, String>;

/// A host with its answer.
type Found = (String, Addresses);

struct Host {
    name: String,
    /// When the answer came, with it; `None` while there is none.
    told: Option<(Instant, Addresses)>,
}

/// The look-ups.
pub(crate) struct Resolver {
    waker: Arc<Waker>,
    thread: Option<(Sender<String>, Receiver<Found>)>,
    /// The one asked for last stands last.
    hosts: Vec<Host>,
}

impl Resolver {
    pub(crate) const fn new(waker: Arc<Waker>) -> Self {
        Self { waker, thread: None, hosts: Vec::new() }
    }

    /// Look-ups of which the test hears the questions and gives the answers.
    #[cfg(test)]
    pub(crate) fn played(waker: Arc<Waker>) -> (Self, Receiver<String>, Sender<Found>) {
        let (questions, asked) = bounded(QUESTIONS_MAX);
        let (answered, answers) = unbounded();
        (Self { thread: Some((questions, answers)), ..Self::new(waker) }, asked, answered)
    }

    /// The addresses of a host; `None` until [`poll`](Self::poll) gives an answer.
    pub(crate) fn addresses(&mut self, now: Instant, host: &str) -> Option<Addresses> {
        if let Ok(ip) = host.parse() {
            return Some(Ok(vec![ip]));
        }
        self.hosts.retain(|h| h.told.as_ref().is_none_or(|(at, _)| now < *at + KNOWN_FOR));
        if let Some(known) = self.hosts.iter().find(|h| h.name == host) {
            return known.told.as_ref().map(|(_, addresses)| addresses.clone());
        }
        let waker = &self.waker;
        let thread = self.thread.get_or_insert_with(|| start(waker.clone()));
        if thread.0.try_send(host.into()).is_err() {
            return Some(Err("too many hosts are being looked up".into()));
        }
        if self.hosts.len() >= HOSTS_MAX {
            self.hosts.remove(0);
        }
        self.hosts.push(Host { name: host.into(), told: None });
        debug_assert!(self.hosts.len() <= HOSTS_MAX);
        None
    }

    /// Takes the answers that have come; true when there was any.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        let Some((_, answers)) = &self.thread else { return false };
        let mut has_any = false;
        while let Ok((name, addresses)) = answers.try_recv() {
            has_any = true;
            if let Some(host) = self.hosts.iter_mut().find(|h| h.name == name) {
                host.told = Some((now, addresses));
            }
        }
        has_any
    }
}

/// Starts the thread, which ends with the question's sender. Without a thread no question is taken.
fn start(waker: Arc<Waker>) -> (Sender<String>, Receiver<Found>) {
    let (questions, asked) = bounded::<String>(QUESTIONS_MAX);
    let (answered, answers) = unbounded(); // one answer for each question
    let body = move || {
        for host in asked {
            let addresses = look_up(&host);
            if answered.send((host, addresses)).is_err() {
                return;
            }
            // A loop that has ended needs no waking.
            let _ = waker.wake();
        }
    };
    // A failure drops the thread's ends, so that every question is refused.
    let _ = std::thread::Builder::new().name("pilot-hosts".into()).spawn(body);
    (questions, answers)
}

fn look_up(host: &str) -> Addresses {
    let found = (host, 0).to_socket_addrs().map_err(|e| format!("{host}: {e}"))?;
    Ok(in_turns(found.map(|addr| addr.ip())))
}

/// The addresses with both families in turns, beginning with the first one's (RFC 8305 §4).
fn in_turns(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let found: Vec<IpAddr> = found.collect();
    let is_first_v6 = found.first().is_some_and(IpAddr::is_ipv6);
    let (first, other): (Vec<IpAddr>, Vec<IpAddr>) = found.iter().partition(|ip| ip.is_ipv6() == is_first_v6);
    let mut turns = Vec::with_capacity(found.len());
    for at in 0..first.len().max(other.len()) {
        turns.extend([first.get(at), other.get(at)].into_iter().flatten());
    }
    turns.truncate(ADDRESSES_MAX);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Poll, Token};

    fn resolver() -> (Poll, Resolver) {
        let poll = Poll::new().expect("poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        (poll, Resolver::new(waker))
    }

    #[test]
    fn families_take_turns() {
        let ips = |text: &str| text.split(' ').map(|ip| ip.parse::<IpAddr>().expect("an address")).collect::<Vec<_>>();
        assert_eq!(in_turns(ips("::1 ::2 ::3 1.1.1.1 1.1.1.2").into_iter()), ips("::1 1.1.1.1 ::2 1.1.1.2 ::3"));
        assert_eq!(in_turns(ips("1.1.1.1").into_iter()), ips("1.1.1.1"));
        assert_eq!(in_turns((0..100).map(|n| IpAddr::from([1, 1, 1, n]))).len(), ADDRESSES_MAX);
    }

    #[test]
    fn an_address_needs_no_thread_and_a_name_is_known_for_a_while() {
        let (mut poll, mut resolver) = resolver();
        let at = Instant::from_micros;
        assert_eq!(resolver.addresses(at(0), "::1"), Some(Ok(vec![IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])])));
        assert!(resolver.thread.is_none());
        assert_eq!(resolver.addresses(at(0), "localhost"), None);
        let mut events = mio::Events::with_capacity(1);
        while !resolver.poll(at(10)) {
            poll.poll(&mut events, Some(Duration::from_millis(100))).expect("poll");
        }
        let known = resolver.addresses(at(10), "localhost").expect("known").expect("addresses");
        assert!(known.iter().all(IpAddr::is_loopback) && !known.is_empty(), "{known:?}");
        let later = at(10) + KNOWN_FOR;
        assert_eq!(resolver.addresses(later, "localhost"), None, "asked again");
    }

    #[test]
    fn hosts_and_questions_have_maxima() {
        let (_poll, mut resolver) = resolver();
        // A thread that never answers.
        let (questions, asked) = bounded(QUESTIONS_MAX);
        let (answered, answers) = unbounded();
        resolver.thread = Some((questions, answers));
        let at = Instant::from_micros(1);
        for n in 0..QUESTIONS_MAX {
            assert_eq!(resolver.addresses(at, &format!("host-{n}")), None);
        }
        assert!(matches!(resolver.addresses(at, "one-more"), Some(Err(_))));
        for n in 0..HOSTS_MAX + 5 {
            let _ = resolver.addresses(at, &format!("more-{n}"));
            while let Ok(host) = asked.try_recv() {
                answered.send((host, Err("none".into()))).expect("a receiver");
            }
            resolver.poll(at);
        }
        assert_eq!(resolver.hosts.len(), HOSTS_MAX);
        assert_eq!(resolver.addresses(at + KNOWN_FOR, "later"), None);
        assert_eq!(
            resolver.hosts.len(),
            1,
            "what was known is forgotten, and the table is as small as in the beginning"
        );
    }
}
