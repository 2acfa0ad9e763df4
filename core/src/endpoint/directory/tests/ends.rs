//! Every call ends: answered, told, or made again until it is confirmed.

use super::*;
use crate::extensions::ExtensionType;

impl Node {
    /// Lets time pass until `ms`, one timer after the other; gives all effects with their times.
    fn until(&mut self, ms: u64) -> Vec<(u64, Effect)> {
        let mut all = Vec::new();
        while let Some(due) = self.directory.poll_timeout().filter(|due| *due <= at(ms)) {
            let due = due.as_micros().div_ceil(1000);
            all.extend(self.input(due, |d, cx| d.handle_timeout(cx)).1.into_iter().map(|effect| (due, effect)));
        }
        all
    }

    fn refuse(&mut self, ms: u64, ticket: Ticket, why: Refusal, extensions: &Extensions) -> Vec<Effect> {
        self.input(ms, |d, cx| d.handle_answer(cx, ticket, Answer::Refused(why), extensions)).1
    }

    fn ask(&mut self, ms: u64, to: &NodeRecord) -> Vec<Effect> {
        let effects = self.input(ms, |d, cx| d.request_trust(cx, to, &Terms::default())).1;
        self.input(ms, |d, cx| d.trust_saved(cx.now, version(&effects))).1
    }
}

fn is_post(call: &Call) -> bool {
    matches!(call, Call::Post(..))
}

/// Refusals of every kind, and silence: a letter is posted again, under the same name, at most 30 s later.
#[test]
fn a_letter_is_posted_again_whatever_the_refusal() {
    let whys = [Refusal::TooMany, Refusal::Full, Refusal::Storage, Refusal::Later(99), Refusal::Unsupported];
    for why in whys.map(Some).into_iter().chain([None]) {
        let (mut a, b) = (Node::registered(1), Node::registered(2));
        let effects = a.ask(100, &b.record());
        let [(mut ticket, Call::Post(_, name, _))] = calls(&effects)[..] else { panic!("{effects:?}") };
        let mut last = 100;
        for _ in 0..12 {
            if let Some(why) = why {
                a.refuse(last, ticket, why, &Extensions::NONE);
            }
            let mut again = None;
            while again.is_none() {
                let due = a.directory.poll_timeout().expect("something is due").as_micros().div_ceil(1000);
                let mut effects = a.input(due, |d, cx| d.handle_timeout(cx)).1;
                if let Some((ticket, _)) = calls(&effects).iter().find(|(_, call)| matches!(call, Call::Register(_))) {
                    effects.extend(a.answer(due, *ticket, super::registered(1)));
                }
                for (ticket, call) in calls(&effects) {
                    match call {
                        Call::Post(_, same, _) => {
                            assert_eq!(same, name, "the rendezvous knows it again");
                            again = Some((due, ticket));
                        }
                        _ => drop(a.answer(due, ticket, Answer::Ok)),
                    }
                }
            }
            let (due, next) = again.expect("found above");
            assert!(due - last <= 30_000, "{why:?}: {} ms", due - last);
            (last, ticket) = (due, next);
        }
        a.answer(last, ticket, Answer::Ok);
        assert_eq!(a.directory.trust.letters().count(), 0);
    }
}

#[test]
fn a_full_mailbox_stops_only_its_own_letters_and_few_are_under_way_at_once() {
    let mut a = Node::registered(1);
    let mut posted: Vec<Ticket> = Vec::new();
    for n in 2..60 {
        let record = NodeRecord::sign(&Identity::from_seed([n; 32]), Addr::new(0, n.into()), &Profile::default(), 1);
        posted.extend(calls(&a.ask(100, &record)).iter().filter(|(_, call)| is_post(call)).map(|(ticket, _)| *ticket));
    }
    assert_eq!(posted.len(), 16, "those under way at once");
    let first = posted.remove(0);
    let effects = a.refuse(110, first, Refusal::Full, &Extensions::NONE);
    posted.extend(calls(&effects).iter().map(|(ticket, _)| *ticket));
    let mut done = 0;
    while let Some(ticket) = posted.pop() {
        done += 1;
        posted.extend(calls(&a.answer(120, ticket, Answer::Ok)).iter().map(|(ticket, _)| *ticket));
    }
    assert_eq!((done, a.directory.trust.letters().count()), (57, 1));
    let again = a.until(12_000);
    assert!(matches!(&again[..], [(_, Effect::Call(_, call))] if is_post(call)), "{again:?}");
}

#[test]
fn approvals_of_one_turn_are_one_grant_and_one_is_under_way_at_once() {
    let (mut a, mut ids) = (Node::registered(1), Vec::new());
    for n in 2..40 {
        let mut peer = Node::registered(n);
        let letter = super::ask(&mut peer, &a);
        a.input(100, |d, cx| d.handle_letter(cx, (InboxNumber(n.into()), None), &letter));
        ids.push(peer.identity.public());
    }
    let approve = |a: &mut Node, ids: &[IdentityKey]| {
        ids.iter().for_each(|key| a.input(200, |d, cx| d.approve(cx, key, &Terms::default())).0.expect("asked"));
        a.until(200)
    };
    let grants = |effects: &[(u64, Effect)]| -> Vec<(Ticket, Grant)> {
        let grant = |(_, effect): &(u64, Effect)| match effect {
            Effect::Call(ticket, Call::Grant(grant)) => Some((*ticket, grant.clone())),
            _ => None,
        };
        effects.iter().filter_map(grant).collect()
    };
    let first = grants(&approve(&mut a, &ids[..30]));
    assert!(matches!(&first[..], [(_, grant)] if !grant.is_whole && grant.add.len() == 30), "{first:?}");
    assert_eq!(grants(&approve(&mut a, &ids[30..])), [], "one call after the other");
    let effects = a.answer(210, first[0].0, Answer::Ok);
    let next: Vec<_> = effects.into_iter().map(|effect| (210, effect)).collect();
    assert!(matches!(&grants(&next)[..], [(_, grant)] if grant.add == ids[30..]), "{next:?}");
    let gone = a.input(220, |d, cx| d.revoke(cx, &ids[0])).0;
    assert!(gone.is_ok() && grants(&a.until(221)).is_empty());
    let effects = a.answer(230, grants(&next)[0].0, Answer::Ok);
    let last: Vec<_> = effects.into_iter().map(|effect| (230, effect)).collect();
    assert!(matches!(&grants(&last)[..], [(_, grant)] if grant.remove == ids[..1]), "{last:?}");
}

/// A full disk at the rendezvous, then room: registered again within 30 s, with no second question on one stream.
#[test]
fn a_refused_registration_is_repeated_and_never_twice_at_once() {
    let mut node = Node::registered(1);
    let effects = node.input(10, |d, cx| d.set_profile(cx, Profile::default())).1;
    let (mut now, mut ticket) = (10, last_ticket(&effects));
    for _ in 0..10 {
        node.refuse(now, ticket, Refusal::Storage, &Extensions::NONE);
        let effects = node.until(now + 30_000);
        let registers: Vec<_> = effects
            .iter()
            .filter_map(|(at, effect)| match effect {
                Effect::Call(ticket, Call::Register(_)) => Some((*at, *ticket)),
                _ => None,
            })
            .collect();
        (now, ticket) = *registers.first().expect("a repeated registration");
        node.directory.register_at = None; // the ones after the first were made for want of an answer
        node.directory.calls.retain(|_, (_, purpose)| *purpose != Purpose::Register);
        node.directory.calls.insert(ticket, (at(now + 15_000), Purpose::Register));
    }
    node.answer(now, ticket, super::registered(1));
    assert_eq!(node.directory.state(), DirectoryState::Ready(Addr::new(0, 1)));
    let effects = [0; 3].map(|_| node.input(now, |d, cx| d.register_again(cx)).1);
    assert_eq!(effects.iter().map(|effects| calls(effects).len()).collect::<Vec<_>>(), [1, 0, 0]);
}

#[test]
fn a_taken_name_is_left_out_told_once_and_asked_for_again() {
    let mut node = Node::registered(1);
    let profile = Profile { hostname: "taken".into(), ..Profile::default() };
    let effects = node.input(10, |d, cx| d.set_profile(cx, profile)).1;
    let registered_name = |effects: &[Effect]| match calls(effects)[..] {
        [(_, Call::Register(record))] => NodeRecord::parse(record).expect("signed"),
        _ => panic!("{effects:?}"),
    };
    assert_eq!(registered_name(&effects).hostname, "taken");
    let effects = node.refuse(20, last_ticket(&effects), Refusal::NameTaken, &Extensions::NONE);
    assert_eq!(effects[0], Effect::Warn(Warning::NameTaken));
    let nameless = registered_name(&effects);
    assert_eq!(nameless.hostname, "");
    let own = node.record();
    assert!(own.hostname.is_empty() && own.sequence > nameless.sequence, "peers keep the name that they know");
    node.answer(30, last_ticket(&effects), super::registered(1));
    assert!(matches!(node.directory.state(), DirectoryState::Ready(_)) && node.directory.name_is_taken());
    // Grants are answered; five minutes later the name is asked for, and refused once more without a word.
    let grant = node.directory.calls.iter().next().map(|(ticket, _)| *ticket).expect("the grant");
    node.answer(30, grant, Answer::Ok);
    let later = node.until(301_000);
    let again: Vec<_> = later.into_iter().map(|(_, effect)| effect).collect();
    assert_eq!(registered_name(&again).hostname, "taken");
    let effects = node.refuse(301_000, last_ticket(&again), Refusal::NameTaken, &Extensions::NONE);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Warn(_))), "{effects:?}");
    node.answer(301_010, last_ticket(&effects), super::registered(1));
    let grant = node.directory.calls.iter().next().map(|(ticket, _)| *ticket).expect("the grant");
    node.answer(301_010, grant, Answer::Ok);
    let later = node.until(602_000);
    let again: Vec<_> = later.into_iter().map(|(_, effect)| effect).collect();
    node.answer(602_000, last_ticket(&again), super::registered(1));
    assert!(!node.directory.name_is_taken() && node.directory.announced == "taken", "the name was free");
}

#[test]
fn an_old_sequence_is_raised_above_the_one_that_the_refusal_names_and_clocks_are_compared() {
    let mut node = Node::new(1);
    node.input(0, |d, cx| d.set_rendezvous(cx.now, StaticKey([9; 32]), addr_of(99)));
    let effects = node.input(0, |d, cx| d.on_up(cx)).1;
    let known = node.record().sequence + 3_600_000;
    let facts = Extensions::NONE
        .with_u64(ExtensionType::SEQUENCE, known)
        .with_u64(ExtensionType::CLOCK, WALL_US + 3_600_000_000);
    let effects = node.refuse(0, last_ticket(&effects), Refusal::BadRecord, &facts);
    assert!(matches!(calls(&effects)[..], [(_, Call::Register(_))]), "{effects:?}");
    assert_eq!((node.record().sequence, node.directory.clock_behind_s(at(0), WALL_US)), (known + 1, Some(3600)));
    let told = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Warn(Warning::Clock(3600))));
    assert!(told(&effects), "{effects:?}");
    let same = Extensions::NONE.with_u64(ExtensionType::CLOCK, WALL_US + 3_610_000_000);
    assert!(!told(&node.input(0, |d, cx| d.take_facts(cx, &same)).1), "one difference is told once");
    // A rendezvous that raises the sequence again and again is asked again after a pause only.
    let facts = Extensions::NONE.with_u64(ExtensionType::SEQUENCE, known + 100);
    let effects = node.refuse(0, last_ticket(&effects), Refusal::BadRecord, &facts);
    assert_eq!(calls(&effects), []);
    assert_eq!(node.directory.state(), DirectoryState::Refused(Refusal::BadRecord));
    let facts = Extensions::NONE.with_u64(ExtensionType::SEQUENCE, u64::MAX);
    node.input(0, |d, cx| d.take_facts(cx, &facts));
    assert!(node.directory.sequence < u64::MAX / 2, "a sequence must be able to rise");
}

#[test]
fn an_answer_about_another_node_is_none() {
    let mut node = Node::registered(1);
    let other = Identity::from_seed([8; 32]);
    let profile = Profile { hostname: "worker".into(), ..Profile::default() };
    let record = NodeRecord::sign(&other, Addr::new(0, 8), &profile, 1).emit();
    let queries = [
        (Query::Name("worker".into()), true),
        (Query::Addr(Addr::new(0, 8)), true),
        (Query::Key(other.public()), true),
        (Query::Name("workers".into()), false),
        (Query::Addr(Addr::new(0, 9)), false),
        (Query::Key(IdentityKey([8; 32])), false),
    ];
    for (query, is_right) in queries {
        let ticket = node.input(10, |d, cx| d.lookup(cx.now, query)).0.expect("registered");
        let right = if is_right { Answer::Found(record.clone()) } else { Answer::Refused(Refusal::Mismatch) };
        assert_eq!(node.answer(20, ticket, Answer::Found(record.clone())), [Effect::Answer(ticket, Some(right))]);
    }
}

#[test]
fn a_rendezvous_that_does_not_know_us_any_more_is_registered_with() {
    let mut node = Node::registered(1);
    let ticket = node.input(10, |d, cx| d.search(cx.now, String::new())).0.expect("registered");
    let effects = node.refuse(20, ticket, Refusal::NotRegistered, &Extensions::NONE);
    assert!(matches!(calls(&effects)[..], [(_, Call::Register(_))]), "{effects:?}");
    assert!(effects.contains(&Effect::Answer(ticket, Some(Answer::Refused(Refusal::NotRegistered)))));
    // A call without an answer may have the same cause.
    let mut node = Node::registered(1);
    let ticket = node.input(10, |d, cx| d.search(cx.now, String::new())).0.expect("registered");
    let effects: Vec<_> = node.until(4010).into_iter().map(|(_, effect)| effect).collect();
    assert!(effects.contains(&Effect::Answer(ticket, None)), "{effects:?}");
    assert!(matches!(calls(&effects)[..], [(_, Call::Register(_))]), "{effects:?}");
}

#[test]
fn a_rendezvous_that_moves_is_followed_in_time_and_a_twin_is_told_of_once() {
    let mut node = Node::registered(1);
    node.input(10, |d, cx| d.on_move(cx.now, addr_of(98), Duration::from_secs(2)));
    assert_eq!(node.until(2009), []);
    assert_eq!(node.until(2010), [(2010, Effect::Move(addr_of(98)))]);
    let told = |ms, node: &mut Node| node.input(ms, |d, cx| d.on_elsewhere(cx.now, addr_of(7))).1;
    assert_eq!(told(3000, &mut node), [Effect::Warn(Warning::Elsewhere(addr_of(7)))]);
    assert_eq!(told(20_000, &mut node), []);
    assert_eq!(node.directory.elsewhere(at(79_000)), Some(addr_of(7)));
    assert_eq!(node.directory.elsewhere(at(80_001)), None, "it has not been seen for long");
}

#[test]
fn a_node_that_leaves_says_so_signed_and_asks_for_nothing_after_that() {
    for (answer, is_forgotten) in [(Answer::Ok, true), (Answer::Refused(Refusal::Unsupported), false)] {
        let mut node = Node::registered(1);
        let known = node.record();
        let effects = node.input(5000, |d, cx| d.leave(cx)).1;
        let [(ticket, Call::Leave(record))] = &calls(&effects)[..] else { panic!("{effects:?}") };
        let record = NodeRecord::parse(record).expect("signed");
        assert!(record.sequence > known.sequence && record.identity == known.identity && record.hostname.is_empty());
        assert!(node.directory.is_leaving());
        let effects = node.answer(5100, *ticket, answer);
        assert_eq!((calls(&effects).len(), node.directory.is_leaving()), (0, false));
        assert_eq!(node.directory.is_forgotten(), is_forgotten);
        for ms in (6000..60_000).step_by(500) {
            let effects = node.input(ms, |d, cx| d.handle_timeout(cx)).1;
            assert!(calls(&effects).is_empty(), "{effects:?}");
        }
    }
    // A rendezvous that does not answer holds the end up for some seconds.
    let mut node = Node::registered(1);
    node.input(5000, |d, cx| d.leave(cx));
    assert!(node.directory.poll_timeout().is_some_and(|next| next <= at(9000)));
    node.input(9100, |d, cx| d.handle_timeout(cx));
    assert!(!node.directory.is_leaving() && !node.directory.is_forgotten());
    let mut node = Node::new(1);
    node.input(0, |d, cx| d.leave(cx));
    assert!(!node.directory.is_leaving(), "there is no rendezvous");
}
