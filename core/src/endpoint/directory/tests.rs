//! The directory alone: inputs in, effects out, without an endpoint.

use super::departures::HELD_MAX;
use super::*;
use crate::control::{Grant, Query};
use crate::extensions::Extensions;
use crate::time::Duration;
use crate::trust::{Terms, TrustError};
use alloc::boxed::Box;
use std::vec;

mod ends;
mod joins;
mod power;

const WALL_US: u64 = 1_700_000_000_000_000;

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn addr_of(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4000))
}

/// A directory with what its endpoint would lend it.
struct Node {
    directory: Directory,
    identity: Identity,
    rng: Rng,
    entropy: Box<dyn Entropy>,
}

impl Node {
    fn new(n: u8) -> Self {
        Self::with_book(n, TrustBook::default(), [n; 32])
    }

    fn with_book(n: u8, book: TrustBook, seed: [u8; 32]) -> Self {
        let identity = Identity::from_seed([n; 32]);
        let addr = Addr::new(0, n.into());
        let directory = Directory::new(&identity, addr, Profile::default(), book, vec![addr_of(n)], 0);
        Self { directory, identity, rng: Rng::new(seed), entropy: Rng::entropy(seed) }
    }

    /// A node with a record that the rendezvous has confirmed.
    fn registered(n: u8) -> Self {
        let mut node = Self::new(n);
        let key = Identity::from_seed([99; 32]).static_key();
        node.input(0, |d, cx| d.set_rendezvous(cx.now, key, addr_of(99)));
        node.input(0, |d, cx| d.handle_timeout(cx));
        let effects = node.input(0, |d, cx| d.on_up(cx)).1;
        let effects = node.answer(0, last_ticket(&effects), registered(n));
        node.answer(0, last_ticket(&effects), Answer::Ok);
        node
    }

    /// Gives an input at `ms`, and takes all effects.
    fn input<R>(&mut self, ms: u64, f: impl FnOnce(&mut Directory, &mut Context<'_>) -> R) -> (R, Vec<Effect>) {
        let wall_us = WALL_US + ms * 1000;
        let (rng, entropy) = (&mut self.rng, &mut *self.entropy);
        let mut cx = Context { now: at(ms), wall_us, identity: &self.identity, rng, entropy };
        let result = f(&mut self.directory, &mut cx);
        let effects = core::iter::from_fn(|| self.directory.poll_effect());
        (result, effects.filter(|effect| !matches!(effect, Effect::SaveTimes(_))).collect())
    }

    fn answer(&mut self, ms: u64, ticket: Ticket, answer: Answer) -> Vec<Effect> {
        self.input(ms, |d, cx| d.handle_answer(cx, ticket, answer, &Extensions::NONE)).1
    }

    fn record(&self) -> NodeRecord {
        NodeRecord::parse(&self.directory.record()).expect("own record")
    }
}

fn registered(n: u8) -> Answer {
    Answer::Registered { addr: Addr::new(0, n.into()), reflexive: addr_of(100 + n), relay_key: [n; 32] }
}

fn calls(effects: &[Effect]) -> Vec<(Ticket, &Call)> {
    let call = |e| match e {
        &Effect::Call(ticket, ref call) => Some((ticket, call)),
        _ => None,
    };
    effects.iter().filter_map(call).collect()
}

fn last_ticket(effects: &[Effect]) -> Ticket {
    calls(effects).last().expect("a call").0
}

#[test]
fn a_node_registers_when_its_rendezvous_is_up() {
    let mut node = Node::new(1);
    assert_eq!(node.directory.state(), DirectoryState::Absent);
    let key = Identity::from_seed([99; 32]).static_key();
    let (_, effects) = node.input(5, |d, cx| d.set_rendezvous(cx.now, key, addr_of(99)));
    assert_eq!(effects, [Effect::State(DirectoryState::Connecting)]);
    assert_eq!(node.directory.poll_timeout(), Some(at(5)));
    assert_eq!(node.input(5, |d, cx| d.handle_timeout(cx)).1, [Effect::Reach]);
    assert_eq!(node.directory.poll_timeout(), None, "the handshake has timers of its own");
    let (_, effects) = node.input(30, |d, cx| d.on_up(cx));
    let [Effect::State(DirectoryState::Registering), Effect::Record(record), Effect::Call(ticket, call)] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(*call, Call::Register(record.to_vec()));
    let effects = node.answer(50, *ticket, registered(1));
    assert_eq!(effects[0], Effect::State(DirectoryState::Ready(Addr::new(0, 1))));
    assert_eq!(calls(&effects)[0].1, &Call::Grant(Grant { is_whole: true, ..Grant::default() }));
    assert_eq!(effects[2..], [Effect::AskForRelays, Effect::Candidates], "the rendezvous sees an address that is news");
    assert_eq!(node.directory.candidates(), [addr_of(1), addr_of(101)]);
    assert_eq!(*node.directory.relay_key(), [1; 32]);
    // Nothing is relayed where nothing has answered, nor once it is another rendezvous; the same one elsewhere relays here meanwhile.
    assert_eq!(node.directory.beacon(), None);
    node.directory.rendezvous_is_at(addr_of(99));
    assert!(node.directory.is_rendezvous(&addr_of(99)));
    let (key, _) = node.directory.rendezvous().expect("one");
    node.input(60, |d, cx| d.set_rendezvous(cx.now, key, addr_of(98)));
    assert_eq!(node.directory.beacon(), Some(addr_of(99)));
    node.input(70, |d, cx| d.set_rendezvous(cx.now, StaticKey([8; 32]), addr_of(98)));
    assert_eq!(node.directory.beacon(), None);
}

#[test]
fn a_record_is_signed_again_for_the_address_that_it_was_given() {
    let mut node = Node::new(1);
    node.input(0, |d, cx| d.set_rendezvous(cx.now, StaticKey([9; 32]), addr_of(99)));
    let effects = node.input(0, |d, cx| d.on_up(cx)).1;
    let before = node.record();
    let effects = node.answer(10, last_ticket(&effects), registered(7));
    assert!(matches!(calls(&effects)[..], [(_, Call::Register(_))]), "{effects:?}");
    let after = node.record();
    assert!(after.addr == Addr::new(0, 7) && after.sequence > before.sequence);
    node.answer(20, last_ticket(&effects), registered(7));
    assert_eq!(node.directory.state(), DirectoryState::Ready(Addr::new(0, 7)));
}

#[test]
fn a_refused_record_is_told_and_a_new_profile_is_tried() {
    let mut node = Node::registered(1);
    let profile = Profile { hostname: "new".into(), ..Profile::default() };
    let effects = node.input(10, |d, cx| d.set_profile(cx, profile)).1;
    let effects = node.answer(20, last_ticket(&effects), Answer::Refused(Refusal::Storage));
    assert_eq!(effects, [Effect::State(DirectoryState::Refused(Refusal::Storage))]);
    let effects = node.input(30, |d, cx| d.set_profile(cx, Profile::default())).1;
    assert!(matches!(calls(&effects)[..], [(_, Call::Register(_))]), "{effects:?}");
}

#[test]
fn a_call_ends_with_its_answer_or_its_time_or_the_tunnel() {
    let mut node = Node::new(1);
    let query = || Query::Name("worker".into());
    assert_eq!(node.input(0, |d, cx| d.lookup(cx.now, query())), (None, vec![]), "there is no rendezvous");
    let mut node = Node::registered(1);
    let ask = |node: &mut Node| node.input(100, |d, cx| d.lookup(cx.now, query())).0.expect("registered");
    let [first, second, third] = [0; 3].map(|_| ask(&mut node));
    assert!(node.directory.is_waiting(first));
    let profile = Profile { hostname: "worker".into(), ..Profile::default() };
    let record = |profile| NodeRecord::sign(&Identity::from_seed([8; 32]), Addr::new(0, 8), profile, 1).emit();
    let found = Answer::Found(record(&profile));
    assert_eq!(node.answer(110, first, found.clone()), [Effect::Answer(first, Some(found.clone()))]);
    assert_eq!(node.answer(110, first, found), [], "an answer is taken once");
    node.input(110, |d, cx| d.on_call_refused(cx, second));
    assert!(!node.directory.is_waiting(second));
    assert_eq!(node.input(4099, |d, cx| d.handle_timeout(cx)).1, []);
    let effects = node.input(4100, |d, cx| d.handle_timeout(cx)).1;
    assert_eq!(effects[0], Effect::Answer(third, None));
    node.answer(4100, last_ticket(&effects), registered(1));
    let fourth = ask(&mut node);
    let (_, effects) = node.input(5000, |d, cx| d.on_lost(cx));
    assert_eq!(effects, [Effect::Answer(fourth, None), Effect::State(DirectoryState::Connecting)]);
}

#[test]
fn calls_have_a_maximum() {
    let mut node = Node::registered(1);
    let mut ask = || node.input(10, |d, cx| d.search(cx.now, String::new())).0;
    let asked = core::iter::from_fn(&mut ask).take(2 * CALLS_MAX).count();
    assert_eq!(asked, CALLS_MAX);
    let effects = node.input(5000, |d, cx| d.handle_timeout(cx)).1;
    let told = effects.iter().filter(|effect| matches!(effect, Effect::Answer(_, None))).count();
    assert_eq!(told, CALLS_MAX, "each is told");
    assert_eq!(node.directory.calls.len(), 1, "the registration, since nothing was answered");
}

#[test]
fn a_lost_rendezvous_is_tried_again_after_a_growing_pause() {
    let mut node = Node::registered(1);
    let mut latest = Duration::ZERO;
    for _ in 0..12 {
        node.input(1000, |d, cx| d.on_lost(cx));
        let at_ms = node.directory.poll_timeout().expect("a retry");
        let pause = at_ms.since(at(1000));
        assert!((RETRY_MIN..=RETRY_MIN + RETRY_MAX).contains(&pause), "{pause:?}");
        latest = latest.max(pause);
    }
    assert!(latest > Duration::from_secs(5), "{latest:?}");
}

#[test]
fn a_relay_is_asked_for_once_and_its_answer_names_the_peer() {
    let mut node = Node::new(1);
    let peer = IdentityKey([5; 32]);
    assert_eq!(node.input(0, |d, cx| d.ask_for_relay(cx.now, peer)).1, [Effect::NoBeacon(peer)]);
    let mut node = Node::registered(1);
    let ask = |node: &mut Node| node.input(10, |d, cx| d.ask_for_relay(cx.now, peer)).1;
    let effects = ask(&mut node);
    assert_eq!(calls(&effects)[0].1, &Call::OpenRelay(peer));
    assert_eq!(ask(&mut node), [], "it has been asked for");
    let answer = Answer::Relay { channel: 7, online: true };
    let relay = Effect::Relay { to: peer, channel: 7, online: true, seen: None, is_passed_on: false };
    assert_eq!(node.answer(20, last_ticket(&effects), answer), [relay]);
    let effects = ask(&mut node);
    assert_eq!(node.answer(20, last_ticket(&effects), Answer::Refused(Refusal::NotFound)), [Effect::NoRelay(peer)]);
    let effects = ask(&mut node);
    assert_eq!(node.input(20, |d, cx| d.on_call_refused(cx, last_ticket(&effects))).1, [Effect::NoBeacon(peer)]);
}

#[test]
fn a_letter_to_another_key_is_taken_away_unread() {
    let mut node = Node::registered(1);
    let sealed = Identity::from_seed([2; 32]).static_key().seal(b"not yours", &mut Rng::new([3; 32]));
    let (_, effects) = node.input(10, |d, cx| d.handle_letter(cx, (InboxNumber(8), None), &sealed));
    assert_eq!(calls(&effects)[0].1, &Call::Taken(vec![InboxNumber(8)]));
    assert_eq!(effects.len(), 1);
}

/// What waits for a disk that does not come back has a maximum; the letters beyond it come again.
#[test]
fn departures_that_wait_for_the_disk_have_a_maximum_and_leave_with_it() {
    let (mut node, peer) = (Node::registered(1), Node::registered(2));
    let record = peer.record();
    let (asked, effects) = node.input(10, |d, cx| d.request_trust(cx, &record, &Terms::default()));
    assert_eq!(asked, Ok(()));
    for number in 0..HELD_MAX as u64 + 9 {
        assert_eq!(node.input(20, |d, cx| d.handle_letter(cx, (InboxNumber(number), None), b"unreadable")).1, []);
    }
    assert_eq!(node.directory.held.len(), HELD_MAX, "the letter of the request is one of them");
    let (_, effects) = node.input(30, |d, cx| d.trust_saved(cx.now, version(&effects)));
    assert_eq!(node.directory.held.len(), 0);
    let taken = |effects: &[Effect]| {
        let call = calls(effects).into_iter().map(|(ticket, call)| (ticket, call.clone()));
        call.rev().find_map(|(ticket, call)| if let Call::Taken(all) = call { Some((ticket, all.len())) } else { None })
    };
    let (ticket, one) = taken(&effects).expect("a call");
    let effects = node.answer(40, ticket, Answer::Ok);
    assert_eq!(taken(&effects).map(|(_, rest)| rest + one), Some(HELD_MAX - 1));
}

/// The version that the owner was told to save, which comes last.
fn version(effects: &[Effect]) -> TrustVersion {
    let Some(Effect::SaveTrust(version)) = effects.last() else { panic!("nothing to save: {effects:?}") };
    *version
}

/// `from` asks `to`; gives the letter once the request is saved.
fn ask(from: &mut Node, to: &Node) -> Vec<u8> {
    let record = to.record();
    let (result, effects) = from.input(100, |d, cx| d.request_trust(cx, &record, &Terms::default()));
    assert_eq!(result, Ok(()));
    assert_eq!(effects, [Effect::SaveTrust(version(&effects))], "nothing leaves before it is saved");
    assert!(!from.directory.trust_is_saved());
    let (_, effects) = from.input(120, |d, cx| d.trust_saved(cx.now, version(&effects)));
    let [(ticket, Call::Post(recipient, _, sealed))] = calls(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(*recipient, to.identity.public());
    assert_eq!(from.answer(140, ticket, Answer::Ok), []);
    sealed.clone()
}

#[test]
fn letters_leave_when_their_change_is_saved_and_are_taken_when_their_effect_is() {
    let (mut a, mut b) = (Node::registered(1), Node::registered(2));
    let letter = ask(&mut a, &b);
    let (_, effects) = b.input(150, |d, cx| d.handle_letter(cx, (InboxNumber(7), None), &letter));
    assert!(effects.contains(&Effect::Trust(Outcome::Pending(a.identity.public()))));
    assert!(!calls(&effects).iter().any(|(_, call)| matches!(call, Call::Taken(_))));
    assert_eq!(
        b.input(151, |d, cx| d.handle_letter(cx, (InboxNumber(8), None), &letter)).1,
        [],
        "a copy waits for the same save"
    );
    let (_, effects) = b.input(160, |d, cx| d.trust_saved(cx.now, version(&effects)));
    assert_eq!(calls(&effects).last().map(|(_, call)| *call), Some(&Call::Taken(vec![InboxNumber(7)])));
    let effects = b.answer(165, last_ticket(&effects), Answer::Ok);
    assert_eq!(calls(&effects)[0].1, &Call::Taken(vec![InboxNumber(8)]), "one call after the other");
    b.answer(166, last_ticket(&effects), Answer::Ok);
    let (_, effects) = b.input(170, |d, cx| d.handle_letter(cx, (InboxNumber(9), None), &letter));
    assert_eq!(calls(&effects)[0].1, &Call::Taken(vec![InboxNumber(9)]), "nothing is unsaved now");
}

#[test]
fn a_save_lets_go_what_it_holds_and_nothing_newer() {
    let (mut a, b, c) = (Node::registered(1), Node::registered(2), Node::registered(3));
    let [first, second] = [&b, &c].map(|to| {
        let record = to.record();
        version(&a.input(100, |d, cx| d.request_trust(cx, &record, &Terms::default())).1)
    });
    let recipients = |effects: &[Effect]| -> Vec<IdentityKey> {
        let post = |(_, call): &(Ticket, &Call)| if let Call::Post(to, ..) = call { Some(*to) } else { None };
        calls(effects).iter().filter_map(post).collect()
    };
    let (_, effects) = a.input(110, |d, cx| d.trust_saved(cx.now, first));
    assert_eq!(recipients(&effects), [b.identity.public()]);
    // Registering anew posts what was not answered, but not what is unsaved.
    let effects = a.input(120, |d, cx| d.on_restarted(cx)).1;
    let effects = a.answer(130, last_ticket(&effects), registered(1));
    assert_eq!(recipients(&effects), [b.identity.public()]);
    let (_, effects) = a.input(140, |d, cx| d.trust_saved(cx.now, second));
    assert_eq!(recipients(&effects), [c.identity.public()]);
}

#[test]
fn letters_to_one_node_are_posted_one_after_the_other() {
    let (mut a, b) = (Node::registered(1), Node::registered(2));
    let record = b.record();
    let mut again = |ms| {
        let effects = a.input(ms, |d, cx| d.request_trust(cx, &record, &Terms::default())).1;
        a.input(ms, |d, cx| d.trust_saved(cx.now, version(&effects))).1
    };
    let (first, second) = (again(100), again(200));
    assert_eq!((calls(&first).len(), second.len()), (1, 0));
    let refused = a.answer(210, last_ticket(&first), Answer::Refused(Refusal::Full));
    assert_eq!(refused, [], "there is no room");
    let due = a.directory.poll_timeout().expect("a later try").as_micros() / 1000;
    assert!(due > 1000 && due < 30_000, "{due}");
    let effects = a.input(due, |d, cx| d.handle_timeout(cx)).1;
    let post = |effects: &[Effect]| calls(effects).iter().find(|(_, c)| matches!(c, Call::Post(..))).map(|c| c.0);
    let next = a.answer(due, post(&effects).expect("the older letter"), Answer::Ok);
    assert!(post(&next).is_some() && a.answer(due, last_ticket(&next), Answer::Ok).is_empty());
    assert_eq!(a.directory.trust.letters().count(), 0);
}

#[test]
fn without_room_for_a_letter_only_a_revocation_has_an_effect() {
    let (mut a, mut b) = (Node::registered(1), Node::registered(2));
    let of_a = a.identity.public();
    let letter = ask(&mut a, &b);
    b.input(150, |d, cx| d.handle_letter(cx, (InboxNumber(1), None), &letter));
    let fill = |node: &mut Node| while node.directory.trust.add_letter(of_a, vec![]).is_some() {};
    fill(&mut b);
    let approved = b.input(160, |d, cx| d.approve(cx, &of_a, &Terms::default())).0;
    let rejected = b.input(160, |d, cx| d.reject(cx, &of_a, "no")).0;
    assert_eq!([approved, rejected], [Err(TrustError::Full); 2]);
    assert!(b.directory.trust().pin(&of_a).is_none() && b.directory.trust().pending().count() == 1);
    let numbers: Vec<_> = b.directory.trust.letters().collect();
    for number in numbers {
        b.directory.trust.remove_letter(number);
    }
    b.input(170, |d, cx| d.approve(cx, &of_a, &Terms::default())).0.expect("room");
    fill(&mut b);
    let (pin, effects) = b.input(180, |d, cx| d.revoke(cx, &of_a));
    assert_eq!(pin.expect("trusted").identity, of_a);
    assert!(matches!(&effects[..2], [Effect::Farewell(key, _), Effect::Peers] if *key == of_a), "{effects:?}");
}
