//! Calls from their first word to their last, in memory.

mod grants;
mod path;
mod saves;

use super::trust::{Expiry, Wanted};
use super::{connect, handshake, lookup, pairing, profile, report, trust};
use crate::call::{After, Call, Purpose, disk_failure};
use crate::context::Context;
use crate::disk::job::{Done, Job, Meta};
use crate::effect::{Effect, Opener, Ticket};
use crate::failure::Code;
use crate::ipc::client_id::{ClientId, RequestNumber};
use crate::mail::message::{Kind, Letter};
use crate::streams::names::failure_of;
use crate::tests::{Lab, WALL_S, addr, caller, json, key};
use pilot_core::endpoint::{DirectoryState, Event as EndpointEvent, ResetReason};
use pilot_core::time::Duration;
use pilot_core::trust::{InviteTerms, Ports};
use pilot_stack::{Event, StreamEnd};
use serde_json::Value;

const HOUR: Duration = Duration::from_secs(3600);

fn opener(client: u64, request: u32) -> Opener {
    Opener::Client(ClientId(client), RequestNumber(request))
}

/// The requests that were told why they get no stream, with the code.
fn not_opened(cx: &mut Context) -> Vec<(u32, Code)> {
    let refusals = cx.effects().into_iter().filter_map(|effect| match effect {
        Effect::NotOpened(Opener::Client(_, number), failure) => Some((number.0, failure.code)),
        _ => None,
    });
    refusals.collect()
}

/// Hands the rendezvous' next answer to the call that waits for it.
fn answer_lookup(lab: &mut Lab, node: usize) {
    lab.event(node, |cx, event| match event {
        Event::Endpoint(EndpointEvent::Answer(number, answer)) => {
            lookup::answered(cx, number, answer);
            Some(())
        }
        _ => None,
    });
}

/// Hands the next change of trust to the room of trust.
fn change_trust(lab: &mut Lab, node: usize) {
    lab.event(node, |cx, event| match event {
        Event::Endpoint(EndpointEvent::Trust(outcome)) => {
            trust::changed(cx, &outcome);
            Some(())
        }
        Event::Endpoint(EndpointEvent::SaveTrust(version)) => {
            trust::save_wanted(cx, version);
            None
        }
        _ => None,
    });
    let cx = &mut lab.nodes[node];
    while let Some(event) = cx.stack.poll_event() {
        if let Event::Endpoint(EndpointEvent::SaveTrust(version)) = event {
            trust::save_wanted(cx, version);
        }
    }
}

/// The disk does its jobs, which save the trust book; gives their number.
fn sync_trust(cx: &mut Context) -> usize {
    let jobs = cx.jobs();
    for (_, ticket) in &jobs {
        match cx.calls.take(*ticket) {
            Some(Call::TrustSaved { version, .. }) => trust::saved(cx, version, After::Nothing, None),
            other => panic!("{other:?}"),
        }
    }
    jobs.len()
}

/// The ticket of the only job, which saves `what`.
fn saves(cx: &mut Context, what: Meta) -> Ticket {
    let mut jobs = cx.jobs();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let (job, ticket) = jobs.remove(0);
    assert!(matches!(job, Job::Put(saved, _) if saved as u64 == what as u64));
    ticket
}

/// The disk has done the job under `ticket`: the answer that its caller gets.
fn saved(cx: &mut Context, ticket: Ticket) -> Value {
    match cx.calls.take(ticket) {
        Some(Call::Saved { answer, .. } | Call::TrustSaved { after: After::Answer(_, answer, _), .. }) => json(&answer),
        Some(Call::TrustSaved { after: After::Withdrawal(_, answer, _), .. }) => json(&answer),
        other => panic!("{other:?}"),
    }
}

/// Takes the answer to the verb that saves the trust book now.
fn saved_trust(cx: &mut Context) -> Value {
    let ticket = saves(cx, Meta::Trust);
    assert_eq!(cx.answers().len(), 0, "no answer before the disk's");
    saved(cx, ticket)
}

/// The disk of a node has saved its trust book.
fn sync(lab: &mut Lab, node: usize) {
    let cx = &mut lab.nodes[node];
    let version = cx.stack.endpoint().trust().version();
    cx.stack.endpoint_mut().trust_saved(cx.now, version);
}

// Connect.

#[test]
fn an_unknown_node_without_rendezvous_is_unreachable() {
    let mut lab = Lab::alone();
    let cx = &mut lab.nodes[0];
    connect::connect(cx, "node-1", 7, Vec::new(), opener(1, 1));
    assert_eq!(not_opened(cx), [(1, Code::Unreachable)]);
    connect::connect(cx, "No Name", 7, Vec::new(), opener(1, 2));
    assert_eq!(not_opened(cx), [(2, Code::InvalidArgument)]);
    assert_eq!(cx.calls.len(), 0);
}

#[test]
fn the_rendezvous_is_asked_why_a_node_is_unknown() {
    let mut lab = Lab::strangers(2);
    for (name, code) in [("node-1", Code::TrustRequired), ("node-9", Code::NotFound)] {
        connect::connect(&mut lab.nodes[0], name, 7, Vec::new(), opener(1, 1));
        assert_eq!(not_opened(&mut lab.nodes[0]), []);
        answer_lookup(&mut lab, 0);
        assert_eq!(not_opened(&mut lab.nodes[0]), [(1, code)], "{name}");
    }
    assert_eq!(lab.nodes[0].calls.len(), 0);
}

/// Runs until the stream that is being opened stands or fails.
fn progress(lab: &mut Lab) -> Vec<Effect> {
    lab.run_until(|lab| {
        let cx = &mut lab.nodes[0];
        while let Some(event) = cx.stack.poll_event() {
            if let Event::Stream(id) = event
                && let Some(ticket) = cx.calls.opening(id)
            {
                connect::progressed(cx, ticket, id);
            }
        }
        cx.calls.len() == 0
    });
    lab.nodes[0].effects()
}

#[test]
fn a_stream_that_stands_is_given_to_its_opener() {
    let mut lab = Lab::friends(2);
    lab.nodes[1].stack.listen(7).expect("free");
    connect::connect(&mut lab.nodes[0], "node-1", 7, b"first".to_vec(), opener(1, 1));
    let stream = lab.nodes[0].stack.streams().next().expect("asked for");
    let effects = progress(&mut lab);
    assert!(matches!(effects[..], [Effect::Ready(_), Effect::Opened(id, Opener::Client(..))] if id == stream));
    assert_eq!(lab.nodes[0].calls.opening(stream), None);
}

#[test]
fn the_end_of_a_stream_names_the_peer_whose_trust_was_withdrawn() {
    let mut lab = Lab::friends(2);
    lab.nodes[1].stack.listen(7).expect("free");
    connect::connect(&mut lab.nodes[0], "node-1", 7, b"first".to_vec(), opener(1, 1));
    let stream = lab.nodes[0].stack.streams().next().expect("asked for");
    progress(&mut lab);
    let cx = &mut lab.nodes[0];
    trust::revoke(cx, "node-1", caller(1));
    let why = failure_of(&cx.stack, stream, StreamEnd::Tunnel(ResetReason::Revoked));
    assert_eq!(why.message, "trust with node-1 was withdrawn");
}

#[test]
fn a_clock_that_is_not_the_rendezvous_is_told_where_a_look_up_ends() {
    let mut lab = Lab::strangers(1);
    let cx = &mut lab.nodes[0];
    assert_eq!((cx.stack.endpoint().clock_behind_s(cx.now), report::skew(cx)), (Some(0), None));
    let wall_us = (WALL_S - 192 * 60 - 30) * 1_000_000 + cx.now.as_micros();
    cx.stack.endpoint_mut().set_wall(cx.now, wall_us);
    lookup::find(cx, "node-9", caller(1));
    answer_lookup(&mut lab, 0);
    let failure = lab.nodes[0].answer_of_one().expect_err("no such node");
    assert!(failure.hint.ends_with("this machine's clock is 3 h 12 min behind the rendezvous'"), "{failure:?}");
}

#[test]
fn a_refused_stream_is_told_to_its_opener_and_forgotten() {
    let mut lab = Lab::friends(2);
    connect::connect(&mut lab.nodes[0], "node-1", 7, Vec::new(), opener(1, 1));
    lab.nodes[0].effects();
    let effects = progress(&mut lab);
    assert!(matches!(&effects[..], [Effect::NotOpened(_, failure)] if failure.code == Code::ConnectionRefused));
    assert_eq!(lab.nodes[0].stack.streams().count(), 0);
}

#[test]
fn a_connect_expires_at_its_deadline() {
    let mut lab = Lab::friends(2);
    lab.is_cut = true;
    let cx = &mut lab.nodes[0];
    connect::connect(cx, "node-1", 7, Vec::new(), opener(1, 1));
    cx.effects();
    let deadline = cx.calls.poll_timeout().expect("a deadline");
    assert_eq!(deadline, cx.now + cx.config.connect_timeout);
    assert!(cx.calls.expired(cx.now).is_none());
    cx.now = deadline;
    let Some(Call::Connect(call)) = cx.calls.expired(deadline) else { panic!("no connect") };
    connect::expired(cx, call);
    assert_eq!(not_opened(cx), [(1, Code::Timeout)]);
    assert_eq!((cx.calls.poll_timeout(), cx.stack.streams().count()), (None, 0));
}

#[test]
fn connects_are_cancelled_by_request_and_with_their_client() {
    let mut lab = Lab::friends(2);
    let cx = &mut lab.nodes[0];
    for opener in [opener(1, 1), opener(1, 2), opener(2, 1), Opener::Framed(ClientId(1))] {
        connect::connect(cx, "node-1", 7, Vec::new(), opener);
    }
    cx.effects();
    assert_eq!(connect::cancel(cx, ClientId(1), Some(RequestNumber(1))), 1);
    assert_eq!(not_opened(cx), [(1, Code::ConnectionReset)]);
    assert_eq!(connect::cancel(cx, ClientId(1), Some(RequestNumber(1))), 0, "once");
    assert_eq!(connect::cancel(cx, ClientId(1), None), 2);
    let framed = |effect: &Effect| matches!(effect, Effect::NotOpened(Opener::Framed(ClientId(1)), _));
    assert_eq!(cx.effects().iter().filter(|effect| framed(effect)).count(), 1);
    assert_eq!((cx.calls.len(), cx.stack.streams().count()), (1, 1), "another client's connect goes on");
}

// Trust.

#[test]
fn the_fingerprint_decides_whether_trust_is_asked_for() {
    let mut lab = Lab::strangers(2);
    handshake::handshake(&mut lab.nodes[0], "node-1#0000", Wanted::default(), caller(1));
    answer_lookup(&mut lab, 0);
    assert_eq!(lab.nodes[0].failure_of_one(), Code::TrustRequired);
    assert_eq!(lab.nodes[0].jobs().len(), 0, "nothing was asked");

    let target = format!("node-1#{}", key(1).fingerprint());
    handshake::handshake(&mut lab.nodes[0], &target, Wanted::default(), caller(1));
    answer_lookup(&mut lab, 0);
    let cx = &mut lab.nodes[0];
    let ticket = saves(cx, Meta::Trust);
    assert_eq!(cx.effects().len(), 0, "no answer before the disk's");
    let data = saved(cx, ticket);
    assert_eq!((&data["status"], &data["verified"]), (&"sent".into(), &true.into()));
}

#[test]
fn a_node_that_is_named_by_its_whole_key_is_verified() {
    let mut lab = Lab::strangers(2);
    let public = profile::Change { public: Some(true), ..profile::Change::default() };
    profile::set(&mut lab.nodes[1], public, caller(2));
    lab.event(1, |_, event| match event {
        Event::Endpoint(EndpointEvent::Directory(DirectoryState::Ready(_))) => Some(()),
        _ => None,
    });
    handshake::handshake(&mut lab.nodes[0], &key(1).to_string(), Wanted::default(), caller(1));
    answer_lookup(&mut lab, 0);
    let cx = &mut lab.nodes[0];
    let ticket = saves(cx, Meta::Trust);
    let data = saved(cx, ticket);
    assert_eq!((&data["status"], &data["verified"]), (&"sent".into(), &true.into()));
}

#[test]
fn a_trusted_node_is_not_asked_again() {
    let mut lab = Lab::friends(2);
    let cx = &mut lab.nodes[0];
    handshake::handshake(cx, "node-1", Wanted::default(), caller(1));
    assert_eq!(cx.answer_of_one().expect("trusted")["status"], "trusted");
    let wanted = Wanted { ports: Some("every".into()), ..Wanted::default() };
    handshake::handshake(cx, "node-2", wanted, caller(1));
    assert_eq!(cx.failure_of_one(), Code::InvalidArgument);
    assert_eq!((cx.effects().len(), cx.calls.len()), (0, 0));
}

/// Node 0 has asked node 1 for trust.
fn asked() -> Lab {
    let mut lab = Lab::strangers(2);
    handshake::handshake(&mut lab.nodes[0], "node-1", Wanted::default(), caller(1));
    answer_lookup(&mut lab, 0);
    assert_eq!(sync_trust(&mut lab.nodes[0]), 1, "the request leaves afterwards");
    lab.nodes[0].effects();
    lab
}

#[test]
fn an_approval_is_answered_after_the_disks_outcome() {
    let mut lab = asked();
    lab.nodes[1].is_watched = true;
    change_trust(&mut lab, 1);
    let cx = &mut lab.nodes[1];
    let ticket = saves(cx, Meta::Trust);
    let call = cx.calls.take(ticket);
    assert!(
        matches!(call, Some(Call::TrustSaved { after: After::Nothing, .. })),
        "the acknowledgement waits for the disk"
    );
    assert!(matches!(&cx.effects()[..], [Effect::Tell(event)] if json(event)["event"] == "trust_request"));

    trust::wait(cx, "node-0", HOUR, caller(7));
    assert_eq!(cx.answers().len(), 0);
    let wanted = Wanted { ports: Some("1000,1001".into()), expires_s: Some(60), ..Wanted::default() };
    trust::approve(cx, "node-0", wanted.clone(), caller(1));
    let ticket = saves(cx, Meta::Trust);
    let answers = cx.answers();
    let [(7, Ok(waited))] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(waited["trusted"], true);
    assert!(matches!(&cx.effects()[..], [Effect::Tell(event)] if json(event)["event"] == "trusted"));
    assert_eq!(saved(cx, ticket)["status"], "approved");
    let pin = cx.stack.endpoint().trust().pin(&key(0)).expect("pinned");
    assert!(pin.ports.allow(1000) && !pin.ports.allow(7));
    assert_eq!(pin.not_after, Some(WALL_S + 60));

    trust::approve(cx, "node-0", wanted, caller(1));
    assert_eq!(cx.failure_of_one(), Code::NotFound, "a request is approved once");
}

#[test]
fn a_node_that_approves_all_approves_without_an_answer() {
    let mut lab = asked();
    lab.nodes[1].config.approve_all = true;
    change_trust(&mut lab, 1);
    let cx = &mut lab.nodes[1];
    assert_eq!((sync_trust(cx), cx.answers().len()), (1, 0), "the book has both, the request and the approval");
    assert!(cx.stack.endpoint().trust().pin(&key(0)).is_some());
    change_trust(&mut lab, 0);
    assert!(lab.nodes[0].stack.endpoint().trust().pin(&key(1)).is_some());
}

#[test]
fn a_request_is_rejected_once_and_trust_is_withdrawn_once() {
    let mut lab = asked();
    change_trust(&mut lab, 1);
    let cx = &mut lab.nodes[1];
    cx.effects();
    trust::reject(cx, "node-0", "no", caller(1));
    let ticket = saves(cx, Meta::Trust);
    assert_eq!(saved(cx, ticket)["status"], "rejected");
    trust::reject(cx, "node-0", "no", caller(1));
    assert_eq!(cx.failure_of_one(), Code::NotFound);

    let mut lab = Lab::friends(2);
    let cx = &mut lab.nodes[0];
    trust::revoke(cx, &addr(1).to_string(), caller(1));
    let ticket = saves(cx, Meta::Trust);
    assert_eq!(saved(cx, ticket)["status"], "revoked");
    assert_eq!(cx.stack.endpoint().trust().pins().count(), 0);
    trust::revoke(cx, "node-1", caller(1));
    assert_eq!(cx.failure_of_one(), Code::NotFound);
}

#[test]
fn callers_that_wait_for_trust_have_a_maximum_and_a_deadline() {
    let mut lab = Lab::friends(2);
    let cx = &mut lab.nodes[0];
    trust::wait(cx, "node-9", Duration::ZERO, caller(1));
    assert_eq!(cx.answer_of_one().expect("an answer")["trusted"], false);
    trust::wait(cx, "node-1", HOUR, caller(1));
    assert_eq!(cx.answer_of_one().expect("an answer")["trusted"], true);

    (0..trust::TRUST_WAITERS_MAX as u32).for_each(|n| trust::wait(cx, "node-9", HOUR * 9, caller(n)));
    assert_eq!(cx.answers().len(), 0);
    trust::wait(cx, "node-9", HOUR, caller(1));
    assert_eq!(cx.failure_of_one(), Code::Full);
    assert_eq!(cx.calls.poll_timeout(), Some(cx.now + HOUR), "the longest wait");
    cx.now = cx.now + HOUR;
    while let Some(call) = cx.calls.expired(cx.now) {
        let Call::AwaitTrust(call) = call else { panic!("{call:?}") };
        trust::expired(cx, call);
    }
    let answers = cx.answers();
    assert_eq!(answers.len(), trust::TRUST_WAITERS_MAX);
    assert!(answers.iter().all(|(_, answer)| answer.as_ref().is_ok_and(|data| data["trusted"] == false)));
}

#[test]
fn pins_end_with_their_time() {
    let mut lab = asked();
    change_trust(&mut lab, 1);
    let cx = &mut lab.nodes[1];
    trust::approve(cx, "node-0", Wanted { expires_s: Some(60), ..Wanted::default() }, caller(1));
    sync_trust(cx);
    let mut expiry = Expiry::default();
    expiry.handle_timeout(cx);
    assert_eq!(cx.jobs().len(), 0);
    // Where no timer tells of a step of the wall clock, the room looks at it in between.
    let begin = cx.now;
    while cx.stack.endpoint().trust().pins().count() > 0 {
        cx.now = expiry.poll_timeout(cx).expect("an end");
        assert!(cx.now <= begin + Duration::from_secs(60), "at its second");
        expiry.handle_timeout(cx);
    }
    assert!(cx.now > begin + Duration::from_secs(59), "at its second");
    saves(cx, Meta::Trust);
    assert_eq!(cx.stack.endpoint().trust().pins().count(), 0);
}

#[test]
fn an_invite_grows_old_on_disk_and_for_its_owner_while_nothing_else_happens() {
    let mut lab = asked();
    let cx = &mut lab.nodes[1];
    let terms = InviteTerms { ports: cx.config.default_ports.clone(), uses: 1, lifetime_s: 7200 };
    cx.stack.endpoint_mut().invite(cx.now, terms).expect("room");
    let mut expiry = Expiry::default();
    for (saves, state) in [(1, "open"), (0, "expired")] {
        cx.now = cx.now + Duration::from_secs(3600);
        expiry.handle_timeout(cx);
        assert_eq!((sync_trust(cx), &*pairing::list(cx).invites[0].state), (saves, state));
    }
}

#[test]
fn ends_have_bounds_and_a_clock_that_is_set_counts_at_once() {
    let mut lab = asked();
    change_trust(&mut lab, 1);
    let cx = &mut lab.nodes[1];
    sync_trust(cx);
    for expires_s in [0, 100 * 365 * 24 * 3600 + 1, u64::MAX] {
        trust::approve(cx, "node-0", Wanted { expires_s: Some(expires_s), ..Wanted::default() }, caller(1));
        assert_eq!(cx.failure_of_one(), Code::InvalidArgument, "{expires_s}");
    }
    trust::approve(cx, "node-0", Wanted { expires_s: Some(600), ..Wanted::default() }, caller(1));
    sync_trust(cx);
    let mut expiry = Expiry::default();
    expiry.handle_timeout(cx);
    // The machine has slept for an hour: its monotonic clock has not.
    cx.stack.endpoint_mut().set_wall(cx.now, (WALL_S + 3600) * 1_000_000);
    assert_eq!(expiry.poll_timeout(cx), Some(cx.now));
    expiry.handle_timeout(cx);
    assert_eq!(cx.stack.endpoint().trust().pins().count(), 0);
}

/// The disk has no room for the job under `ticket`.
fn not_saved(cx: &mut Context, ticket: Ticket) {
    let failure = disk_failure(&Done::Full("no room"));
    match cx.calls.take(ticket) {
        Some(Call::TrustSaved { version, after }) => trust::saved(cx, version, after, failure),
        other => panic!("{other:?}"),
    }
}

/// A node that dies then must not begin with times that it has used: each of its key handshakes would be refused as a replay.
#[test]
fn times_that_cannot_be_saved_are_saved_with_the_next_one_that_is_used() {
    let mut lab = asked();
    let key = lab.nodes[1].stack.endpoint().identity().public();
    let cx = &mut lab.nodes[0];
    let ceilings = |cx: &mut Context| {
        let events = core::iter::from_fn(|| cx.stack.endpoint_mut().poll_event());
        events.filter(|event| matches!(event, EndpointEvent::SaveTimes(_))).count()
    };
    cx.stack.endpoint_mut().cancel(cx.now, &key).expect("asked");
    ceilings(cx);
    for outcome in [Done::Full("no room"), Done::Written] {
        cx.jobs();
        trust::save_ceiling(cx, u64::MAX);
        let ticket = saves(cx, Meta::Times);
        assert!(matches!(cx.calls.take(ticket), Some(Call::TimesSaved)));
        trust::ceiling_saved(cx, disk_failure(&outcome).as_ref());
        let is_lost = !matches!(outcome, Done::Written);
        // An epoch is used, also for what is refused.
        assert!(cx.stack.endpoint_mut().cancel(cx.now, &key).is_err());
        assert_eq!(ceilings(cx), usize::from(is_lost), "an hour is asked for once");
    }
}

#[test]
fn what_gives_trust_is_undone_when_it_cannot_be_saved_and_what_takes_it_stays() {
    let mut lab = asked();
    change_trust(&mut lab, 1);
    let cx = &mut lab.nodes[1];
    sync_trust(cx);
    trust::approve(cx, "node-0", Wanted::default(), caller(1));
    let ticket = saves(cx, Meta::Trust);
    not_saved(cx, ticket);
    assert_eq!(cx.failure_of_one(), Code::Full);
    let trust_of = |cx: &Context| (cx.stack.endpoint().trust().pins().count(), cx.stack.endpoint().trust().waiting());
    assert_eq!(trust_of(cx), (0, 1), "it did not happen, and can be asked for again");
    // What is saved next tells nothing of it.
    let mut expiry = Expiry::default();
    expiry.handle_timeout(cx);
    cx.now = expiry.poll_timeout(cx).expect("a save");
    expiry.handle_timeout(cx);
    assert_eq!((sync_trust(cx), trust_of(cx)), (1, (0, 1)));
    assert!(cx.stack.endpoint().trust_is_saved());

    let mut lab = Lab::friends(2);
    let cx = &mut lab.nodes[0];
    let wanted = Wanted { ports: Some("22".into()), expires_s: Some(60), ..Wanted::default() };
    super::grants::grant(cx, "node-1", wanted, caller(1));
    let ticket = saves(cx, Meta::Trust);
    not_saved(cx, ticket);
    assert_eq!(cx.failure_of_one(), Code::Full);
    assert!(cx.stack.endpoint().trust().pins().all(|pin| pin.temporary.is_empty() && pin.ports == Ports::All));
    trust::revoke(cx, "node-1", caller(1));
    let ticket = saves(cx, Meta::Trust);
    not_saved(cx, ticket);
    let failure = cx.answer_of_one().expect_err("not on disk");
    assert!(failure.message.starts_with("node-1 has lost this at once, but that is not on disk"), "{failure:?}");
    assert_eq!(cx.stack.endpoint().trust().pins().count(), 0, "a withdrawal is in force");
    // It is saved again until it is on disk.
    let mut expiry = Expiry::default();
    for _ in 0..3 {
        expiry.handle_timeout(cx);
        cx.now = expiry.poll_timeout(cx).expect("a save");
        expiry.handle_timeout(cx);
        let ticket = saves(cx, Meta::Trust);
        not_saved(cx, ticket);
    }
    cx.now = expiry.poll_timeout(cx).expect("a save");
    expiry.handle_timeout(cx);
    assert_eq!(sync_trust(cx), 1);
    expiry.handle_timeout(cx);
    assert_eq!((cx.stack.endpoint().trust_is_saved(), expiry.poll_timeout(cx)), (true, None));
}

#[test]
fn a_request_is_taken_back_once() {
    let mut lab = asked();
    change_trust(&mut lab, 1);
    sync_trust(&mut lab.nodes[1]);
    let cx = &mut lab.nodes[0];
    trust::cancel(cx, "node-1", caller(1));
    assert_eq!(saved_trust(cx)["status"], "cancelled");
    let version = cx.stack.endpoint().trust().version();
    cx.stack.endpoint_mut().trust_saved(cx.now, version);
    trust::cancel(cx, "node-1", caller(1));
    assert_eq!(cx.failure_of_one(), Code::NotFound);
    change_trust(&mut lab, 1);
    assert_eq!(lab.nodes[1].stack.endpoint().trust().waiting(), 0, "the other owner sees it no more");
}

// Records.

#[test]
fn records_are_looked_up_at_the_rendezvous_and_remembered() {
    let mut lab = Lab::strangers(3);
    lookup::find(&mut lab.nodes[0], "node-1", caller(1));
    answer_lookup(&mut lab, 0);
    let found = lab.nodes[0].answer_of_one().expect("found");
    assert_eq!(found["fingerprint"], key(1).fingerprint());
    // A private node is found by its name only, and by its address once it was found.
    let address = |lab: &Lab, node: usize| lab.nodes[node].stack.endpoint().addr().to_string();
    let (met, unmet) = (address(&lab, 1), address(&lab, 2));
    lookup::find(&mut lab.nodes[0], &met, caller(1));
    assert_eq!(lab.nodes[0].answer_of_one(), Ok(found));
    lookup::find(&mut lab.nodes[0], &unmet, caller(1));
    answer_lookup(&mut lab, 0);
    assert_eq!(lab.nodes[0].failure_of_one(), Code::NotFound);

    lookup::search(&mut lab.nodes[0], "gpu", caller(1));
    answer_lookup(&mut lab, 0);
    assert_eq!(lab.nodes[0].answer_of_one().expect("a list")["total"], 0);
}

#[test]
fn every_question_without_a_rendezvous_is_answered_at_once() {
    let mut lab = Lab::alone();
    let cx = &mut lab.nodes[0];
    let (kind, timeout) = (Kind::Text, None);
    let letter = Letter { node: "node-1".into(), kind, keep: true, timeout, asks: None, body: Vec::new() };
    for purpose in [Purpose::Find(caller(1)), Purpose::Send(caller(1), letter), Purpose::Search(caller(1))] {
        lookup::ask(cx, "node-1", purpose);
        assert_eq!(cx.failure_of_one(), Code::Unreachable);
    }
    lookup::search(cx, "gpu", caller(1));
    assert_eq!(cx.failure_of_one(), Code::Unreachable);
    assert_eq!(cx.calls.len(), 0);
}

/// Hands the next decision of the rendezvous to the room of this node's record.
fn settle_profile(lab: &mut Lab) {
    lab.event(0, |cx, event| match event {
        Event::Endpoint(EndpointEvent::Directory(state)) => {
            profile::settled(cx, state);
            (!matches!(state, DirectoryState::Registering)).then_some(())
        }
        _ => None,
    });
}

fn hostname(name: &str) -> profile::Change {
    profile::Change { hostname: Some(name.into()), ..profile::Change::default() }
}

#[test]
fn a_refused_record_is_the_one_before_again() {
    let mut lab = Lab::strangers(2);
    profile::set(&mut lab.nodes[0], hostname("node-1"), caller(1));
    assert_eq!(lab.nodes[0].effects().len(), 0, "the rendezvous decides");
    profile::set(&mut lab.nodes[0], hostname("other"), caller(1));
    assert_eq!(lab.nodes[0].failure_of_one(), Code::Conflict, "one change at a time");
    settle_profile(&mut lab);
    assert_eq!(lab.nodes[0].failure_of_one(), Code::Conflict);
    assert_eq!(lab.nodes[0].jobs().len(), 0, "nothing is saved");
    assert_eq!(lab.nodes[0].stack.endpoint().profile().hostname, "node-0");
    settle_profile(&mut lab);

    profile::set(&mut lab.nodes[0], hostname("other"), caller(1));
    settle_profile(&mut lab);
    let cx = &mut lab.nodes[0];
    let ticket = saves(cx, Meta::Profile);
    assert_eq!(cx.answers().len(), 0, "no answer before the disk's");
    assert_eq!(saved(cx, ticket)["hostname"], "other");
}

#[test]
fn a_record_is_checked_and_without_rendezvous_saved_at_once() {
    let mut lab = Lab::alone();
    let cx = &mut lab.nodes[0];
    let tags = |tags: &[&str]| profile::Change {
        tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
        ..profile::Change::default()
    };
    for bad in [hostname("No Name"), hostname("7"), tags(&["a", "b", "c", "d"]), tags(&["A"])] {
        profile::set(cx, bad, caller(1));
        assert_eq!(cx.failure_of_one(), Code::InvalidArgument);
    }
    profile::set(cx, tags(&["a", "b", "c"]), caller(1));
    let ticket = saves(cx, Meta::Profile);
    assert_eq!(saved(cx, ticket)["tags"][2], "c");
}

#[test]
fn terms_have_the_configured_ports_and_an_end_that_does_not_overflow() {
    let mut lab = Lab::alone();
    let cx = &mut lab.nodes[0];
    cx.config.default_ports = Ports::All;
    assert_eq!(Wanted::default().terms(cx).expect("valid").ports, Ports::All);
    let far = Wanted { expires_s: Some(u64::MAX), ..Wanted::default() };
    assert_eq!(far.terms(cx).expect_err("a mistake").code, Code::InvalidArgument);
}
