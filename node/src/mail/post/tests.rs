//! Messages between two nodes in memory; the tests play the disk and the recipient.

mod questions;

use super::*;
use crate::calls::connect;
use crate::frame_reader::FrameReader;
use crate::mail::counted::PAUSE_MAX_S;
use crate::mail::frame::{emit_answer, parse_frame};
use crate::mail::outbox::WAITING_LEN_MAX;
use crate::node_event::Event as NodeEvent;
use crate::tests::{Lab, WALL_S, caller, key};
use pilot_core::trust::{Ports, Regrant};
use pilot_stack::{Event, Recv};

fn letter(keep: bool, body: &[u8]) -> Letter {
    Letter { node: "node-1".into(), kind: Kind::Text, keep, timeout: None, asks: None, body: body.to_vec() }
}

/// The disk has put the message into the books under `seq`.
fn put_on_disk(post: &mut PostOffice, cx: &mut Context, seq: u64) {
    let mut jobs = cx.jobs();
    let (job, ticket) = jobs.pop().expect("a job");
    assert!(jobs.is_empty() && matches!(job, Job::Queue(_)));
    let Some(Call::Queue(queue)) = cx.calls.take(ticket) else { panic!("no message") };
    post.queued(cx, seq, queue);
}

/// The numbers of the messages that the disk is to forget.
fn unqueued(cx: &mut Context) -> Vec<u64> {
    let of = |(job, _)| match job {
        Job::Unqueue(seq) => seq,
        other => panic!("{other:?}"),
    };
    cx.jobs().into_iter().map(of).collect()
}

/// Runs the sender's rooms for its events, and gives its effects to the next room.
fn run_sender(post: &mut PostOffice, cx: &mut Context) {
    if post.poll_timeout().is_some_and(|at| at <= cx.now) || cx.stack.streams().count() == 0 {
        post.handle_timeout(cx);
    }
    while let Some(event) = cx.stack.poll_event() {
        let Event::Stream(id) = event else { continue };
        match cx.calls.opening(id) {
            Some(ticket) => connect::progressed(cx, ticket, id),
            None => post.serve(cx, id, &key(1)),
        }
    }
    for effect in cx.effects() {
        match effect {
            Effect::Opened(id, Opener::Mail(to)) => post.serve(cx, id, &to),
            Effect::NotOpened(Opener::Mail(to), failure) => post.failed(cx, &to, &failure),
            Effect::Close(id) => cx.stack.close(cx.now, id),
            Effect::Ready(_) => {}
            other => cx.out.push(other),
        }
    }
}

/// Runs both nodes until the recipient has `count` messages, each of which it answers with `answer`. Gives their bodies.
fn receive(lab: &mut Lab, post: &mut PostOffice, count: usize, answer: &str) -> Vec<String> {
    let (mut stream, mut reader, mut got) = (None, FrameReader::new(), Vec::new());
    lab.run_until(|lab| {
        run_sender(post, &mut lab.nodes[0]);
        let cx = &mut lab.nodes[1];
        while let Some(event) = cx.stack.poll_event() {
            if let Event::Incoming { stream: id, .. } = event {
                stream = Some(id);
            }
        }
        let Some(id) = stream else { return false };
        let mut buffer = [0; 4096];
        while let Recv::Data(n) = cx.stack.recv(id, &mut buffer) {
            reader.extend(&buffer[..n]);
        }
        while let Some((_, payload)) = reader.next(parse_frame).expect("well-formed") {
            got.push(String::from_utf8_lossy(&payload).into_owned());
            let answer = emit_answer(answer);
            assert_eq!(cx.stack.send(id, &answer), Ok(answer.len()));
        }
        got.len() >= count
    });
    got
}

fn friends() -> (Lab, PostOffice) {
    let mut lab = Lab::friends(2);
    lab.nodes[1].stack.listen(MAIL_PORT).expect("free");
    (lab, PostOffice::default())
}

#[test]
fn bad_bodies_are_refused_and_reach_no_disk() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    let long = vec![b'x'; MESSAGE_LEN_MAX + 1];
    for (kind, body) in [(Kind::Text, &long[..]), (Kind::Json, b"{"), (Kind::Text, &[0xff]), (Kind::Binary, &long)] {
        post.send(cx, Letter { kind, ..letter(true, body) }, caller(1));
        assert_eq!(cx.failure_of_one(), Code::InvalidArgument);
    }
    assert_eq!((cx.effects().len(), cx.calls.len(), post.len()), (0, 0, 0));
    post.send(cx, letter(true, &long[1..]), caller(1));
    assert_eq!(cx.jobs().len(), 1, "the longest message is queued");
    post.send(cx, Letter { node: "node-9".into(), ..letter(true, b"hi") }, caller(1));
    assert_eq!(cx.failure_of_one(), Code::Unreachable, "no rendezvous says whether it exists");
}

#[test]
fn a_message_leaves_after_it_is_on_disk_and_the_acknowledgement_answers() {
    let (mut lab, mut post) = friends();
    post.send(&mut lab.nodes[0], letter(true, b"hello"), caller(1));
    let cx = &mut lab.nodes[0];
    post.handle_timeout(cx);
    assert_eq!((post.len(), cx.stack.streams().count(), post.poll_timeout()), (0, 0, None), "nothing leaves");
    put_on_disk(&mut post, cx, 7);
    assert_eq!(post.len(), 1);
    let got = receive(&mut lab, &mut post, 1, "ACK TEXT 5 bytes");
    assert!(got[0].ends_with("hello"), "{got:?}");
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        post.len() == 0
    });
    let cx = &mut lab.nodes[0];
    let data = cx.answer_of_one().expect("taken");
    assert_eq!((&data["delivered"], &data["ack"]), (&true.into(), &"ACK TEXT 5 bytes".into()));
    assert_eq!(unqueued(cx), [7]);

    // A second message takes the same stream, which is closed once it was idle for some time.
    post.send(cx, letter(true, b"again"), caller(1));
    put_on_disk(&mut post, cx, 8);
    assert!(matches!(cx.effects()[..], [Effect::Ready(_)]), "the stream that stands");
    assert_eq!(cx.stack.streams().count(), 1);
}

#[test]
fn an_answer_that_is_no_acknowledgement_is_a_failure() {
    let (mut lab, mut post) = friends();
    post.send(&mut lab.nodes[0], letter(true, b"hello"), caller(1));
    put_on_disk(&mut post, &mut lab.nodes[0], 7);
    receive(&mut lab, &mut post, 1, "ERR the inbox holds as many bytes as it may");
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        post.len() == 0
    });
    let failure = lab.nodes[0].answer_of_one().expect_err("refused");
    assert_eq!((failure.code, failure.message.contains("the inbox holds")), (Code::Full, true));
    assert_eq!(unqueued(&mut lab.nodes[0]), [7], "a refused message is not sent again");
}

#[test]
fn answers_to_nothing_and_answers_without_an_end_cost_the_recipient_its_stream() {
    let endless = [&1u32.to_be_bytes()[..], &(16u32 << 20).to_be_bytes(), &vec![b'A'; 100_000]].concat();
    for unasked in [emit_answer("ACK"), endless] {
        let (mut lab, mut post) = friends();
        post.send(&mut lab.nodes[0], letter(true, b"hello"), caller(1));
        put_on_disk(&mut post, &mut lab.nodes[0], 7);
        receive(&mut lab, &mut post, 1, "ACK TEXT 5 bytes");
        lab.run_until(|lab| {
            run_sender(&mut post, &mut lab.nodes[0]);
            post.len() == 0
        });
        assert!(post.outbox.stream_to(&key(1)).is_some(), "it is kept for the next message");
        let mut sent = 0;
        lab.run_until(|lab| {
            let stack = &mut lab.nodes[1].stack;
            let id = stack.streams().next();
            sent += id.map_or(0, |id| stack.send(id, &unasked[sent..]).unwrap_or(0));
            run_sender(&mut post, &mut lab.nodes[0]);
            post.outbox.stream_to(&key(1)).is_none()
        });
    }
}

#[test]
fn at_the_deadline_a_kept_message_stays_and_another_is_forgotten() {
    let (mut lab, mut post) = friends();
    lab.is_cut = true;
    let cx = &mut lab.nodes[0];
    for (seq, keep) in [(1, true), (2, false)] {
        let timeout = Some(Duration::from_secs(seq * 1000)); // the second is cut to the longest wait
        post.send(cx, Letter { timeout, ..letter(keep, b"hello") }, caller(seq as u32));
        put_on_disk(&mut post, cx, seq);
    }
    assert_eq!(cx.calls.poll_timeout(), Some(cx.now + SEND_TIMEOUT_MAX));
    cx.now = cx.now + SEND_TIMEOUT_MAX;
    while let Some(call) = cx.calls.expired(cx.now) {
        let Call::Post(call) = call else { panic!("{call:?}") };
        post.expired(cx, call);
    }
    let codes: Vec<_> = cx.answers().into_iter().map(|(n, answer)| (n, answer.map_err(|f| f.code).err())).collect();
    assert_eq!(codes, [(1, Some(Code::Unreachable)), (2, Some(Code::Timeout))]);
    assert_eq!((unqueued(cx), post.len()), (vec![2], 1));
}

#[test]
fn the_reason_for_which_a_message_waits_is_that_of_its_streams_end() {
    let (mut lab, mut post) = friends();
    post.send(&mut lab.nodes[0], letter(true, b"hello"), caller(1));
    put_on_disk(&mut post, &mut lab.nodes[0], 1);
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        lab.nodes[1].stack.streams().next().is_some() && post.outbox.stream_to(&key(1)).is_some()
    });
    lab.nodes[1].stack.endpoint_mut().close_all();
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        post.reason_for(&key(1)).is_some()
    });
    assert_eq!(post.reason_for(&key(1)), Some("node-1 was shut down"));
}

#[test]
fn a_caller_that_does_not_queue_is_told_at_once_that_no_stream_opens() {
    let (mut lab, mut post) = friends();
    lab.nodes[1].stack.unlisten(MAIL_PORT);
    for (seq, keep) in [(1, true), (2, false)] {
        post.send(&mut lab.nodes[0], letter(keep, b"hello"), caller(seq as u32));
        put_on_disk(&mut post, &mut lab.nodes[0], seq);
    }
    let mut answers = Vec::new();
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        answers.extend(lab.nodes[0].answers());
        !answers.is_empty()
    });
    assert!(matches!(&answers[..], [(2, Err(failure))] if failure.code == Code::ConnectionRefused));
    let cx = &mut lab.nodes[0];
    assert_eq!((unqueued(cx), post.len()), (vec![2], 1));
    // The other message waits for the next attempt, or for the peer.
    assert_eq!(post.poll_timeout(), Some(cx.now + Duration::from_secs(1)));
    post.encourage(&key(1));
    assert_eq!(post.poll_timeout(), Some(Instant::ZERO), "at once");
}

#[test]
fn messages_for_a_recipient_that_is_not_trusted_any_more_do_not_leave() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    for (seq, keep) in [(1, true), (2, false)] {
        post.send(cx, letter(keep, b"hello"), caller(seq as u32));
        put_on_disk(&mut post, cx, seq);
    }
    let Some(Call::Post(first)) = cx.calls.take(post.waiting[&1]) else { panic!("no call") };
    post.expired(cx, first);
    assert_eq!(cx.failure_of_one(), Code::Unreachable, "the first stays in the outbox");
    cx.stack.endpoint_mut().revoke(cx.now, &key(1)).expect("trusted");
    post.handle_timeout(cx);
    assert!(matches!(&cx.answers()[..], [(2, Err(failure))] if failure.code == Code::TrustRequired));
    let [Effect::Submit(Job::Unqueue(2), _), Effect::Submit(Job::GiveUp(row), _)] = &cx.effects()[..] else { panic!() };
    assert_eq!((row.seq, row.reason.as_str(), row.len), (1, NOT_TRUSTED, 5));
    assert_eq!((cx.stack.streams().count(), post.len()), (0, 0));
}

#[test]
fn the_bytes_that_wait_in_memory_have_a_maximum() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    let message = |len| Outgoing { kind: Kind::Binary, body: vec![0; len], ..waits(0) };
    let queue = |cx: &Context, len| Queue { message: message(len), caller: caller(1), deadline: cx.now, keep: true };
    let fit = (WAITING_LEN_MAX / MESSAGE_LEN_MAX) as u64;
    for seq in 1..=fit {
        let queue = queue(cx, MESSAGE_LEN_MAX);
        post.queued(cx, seq, queue);
    }
    assert_eq!(cx.answers().len(), 0);
    let more = queue(cx, 1);
    post.queued(cx, fit + 1, more);
    assert_eq!((cx.failure_of_one(), unqueued(cx), post.len()), (Code::Full, vec![fit + 1], fit as usize));
}

/// Counted time as a run has saved it that ended `ago` before this one started, by the wall clock. Unit: seconds.
fn counted(total: u64, ago: u64) -> Vec<u8> {
    [total.to_le_bytes(), (WALL_S - ago).to_le_bytes()].concat()
}

fn waits(since: u64) -> Outgoing {
    Outgoing { id: [1; 16], to: key(1), kind: Kind::Text, since, tag: Tag::Plain, body: b"hi".to_vec() }
}

#[test]
fn a_message_is_given_up_after_seven_days_of_counted_time_and_its_owner_is_told() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    (cx.is_watched, cx.trace_level) = (true, Some(Level::Warn));
    // A boot with a clock that is weeks ahead ages a message by a day.
    let saved = counted(OUTBOX_LIFETIME_S, 30 * 24 * 3600);
    post.restore(
        cx,
        vec![(1, waits(PAUSE_MAX_S)), (2, waits(PAUSE_MAX_S + 7200)), (3, waits(u64::MAX))],
        vec![],
        Some(&saved),
    );
    assert_eq!(post.len(), 2, "the first is seven days old");
    let [Effect::Submit(Job::GiveUp(row), _), Effect::Trace(trace), Effect::Tell(told), Effect::Submit(noted, _)] =
        &cx.effects()[..]
    else {
        panic!("other effects")
    };
    assert_eq!((row.seq, row.reason.as_str(), row.node.as_str()), (1, TOO_OLD, "node-1"));
    assert_eq!(trace.kind(), "mail_given_up");
    assert!(matches!(told, NodeEvent::GivenUp { to, bytes: 2, .. } if to == "node-1"));
    assert!(matches!(noted, Job::Put(Meta::Counted, row) if row[..8] == (8 * PAUSE_MAX_S).to_le_bytes()));
    // While the node runs, messages grow old too.
    for (hours, left) in [(1, 2), (2, 1), (7 * 24, 0)] {
        cx.now = Instant::ZERO + Duration::from_secs(hours * 3600);
        post.check_age(cx);
        assert_eq!(post.len(), left, "after {hours} hours");
    }
    assert_eq!((post.check_at, post.given_up.len()), (None, 3));
    let list = post.list(cx, None);
    assert_eq!((list.given_up, list.waiting, list.messages[0].state), (3, 0, answer::OutboxState::GivenUp));
}

#[test]
fn messages_that_were_given_up_are_told_up_to_a_maximum() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    let messages = (1..=GIVEN_UP_MAX as u64 + 1).map(|seq| (seq, waits(0))).collect();
    post.give_up(cx, &key(1), messages, &Failure::new(Code::Timeout, TOO_OLD));
    assert_eq!((post.given_up.len(), post.given_up[0].seq), (GIVEN_UP_MAX, 2));
    assert_eq!(post.list(cx, Some(u64::MAX)).shown, GIVEN_UP_MAX as u64);
}

#[test]
fn a_message_that_waits_is_refused_for_now_and_arrives_later() {
    let (mut lab, mut post) = friends();
    post.restore(&mut lab.nodes[0], vec![(1, waits(0)), (2, waits(0))], vec![], None);
    lab.nodes[0].effects();
    let refused = receive(&mut lab, &mut post, 2, "ERR the inbox holds as many messages as it may");
    assert_eq!(refused.len(), 2);
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        post.outbox.stream_to(&key(1)).is_none()
    });
    let rows = post.list(&lab.nodes[0], None).messages;
    assert_eq!((rows.len(), rows[0].state), (2, answer::OutboxState::Waiting));
    assert!(rows[0].reason.as_ref().is_some_and(|reason| reason.contains("the inbox holds")), "{rows:?}");
    assert!(unqueued(&mut lab.nodes[0]).is_empty(), "nothing is lost");
    assert!(post.poll_timeout().is_some_and(|at| at >= lab.nodes[0].now), "after a pause");
    let got = receive(&mut lab, &mut post, 2, "ACK TEXT 2 bytes");
    assert_eq!(got.len(), 2);
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        post.len() == 0
    });
    assert_eq!(unqueued(&mut lab.nodes[0]), [1, 2], "in order");
}

/// Lets simulated time pass until the recipient has refused for `time`, with the words of a full disk.
fn refuse_for(lab: &mut Lab, post: &mut PostOffice, time: Duration) {
    let until = lab.nodes[0].now + time;
    while lab.nodes[0].now < until {
        receive(lab, post, 1, "ERR the disk is full");
        lab.run_until(|lab| {
            run_sender(post, &mut lab.nodes[0]);
            post.outbox.stream_to(&key(1)).is_none()
        });
    }
}

#[test]
fn one_second_after_a_full_disk_has_room_messages_arrive() {
    // What waits, with a message that its owner sends then, or without it.
    for is_sent in [true, false] {
        let (mut lab, mut post) = (connected(), PostOffice::default());
        lab.nodes[1].stack.listen(MAIL_PORT).expect("free");
        post.restore(&mut lab.nodes[0], vec![(1, waits(0))], vec![], None);
        lab.nodes[0].effects();
        refuse_for(&mut lab, &mut post, Duration::from_secs(100));
        let (begin, mut count) = (lab.nodes[0].now, 1);
        if is_sent {
            post.send(&mut lab.nodes[0], letter(false, b"now"), caller(1));
            put_on_disk(&mut post, &mut lab.nodes[0], 2);
            count += 1;
        }
        let got = receive(&mut lab, &mut post, count, "ACK");
        assert!(got.len() == count && got[0].ends_with("hi"), "{got:?}");
        let late = lab.nodes[0].now.since(begin);
        assert!(late <= Duration::from_millis(1200), "{late:?} after there is room");
    }
}

#[test]
fn a_new_message_is_tried_within_a_second_although_many_attempts_have_failed() {
    let (mut lab, mut post) = (connected(), PostOffice::default());
    post.restore(&mut lab.nodes[0], vec![(1, waits(0))], vec![], None);
    lab.nodes[0].effects();
    let until = lab.nodes[0].now + Duration::from_secs(40); // the peer refuses streams to its port
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        lab.nodes[0].now >= until
    });
    lab.nodes[1].stack.listen(MAIL_PORT).expect("free");
    let begin = lab.nodes[0].now;
    assert!(post.poll_timeout().is_some_and(|at| at > begin + SEND_TIMEOUT), "the pause is longer than a caller waits");
    post.send(&mut lab.nodes[0], letter(false, b"now"), caller(1));
    put_on_disk(&mut post, &mut lab.nodes[0], 2);
    assert_eq!(receive(&mut lab, &mut post, 2, "ACK").len(), 2);
    let late = lab.nodes[0].now.since(begin);
    assert!(late <= Duration::from_millis(1200), "{late:?} after the message has joined");
}

#[test]
fn a_message_that_will_never_be_taken_is_given_up() {
    let (mut lab, mut post) = friends();
    post.restore(&mut lab.nodes[0], vec![(1, waits(0))], vec![], None);
    lab.nodes[0].effects();
    receive(&mut lab, &mut post, 1, "ERR malformed message");
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        post.len() == 0
    });
    assert!(matches!(&lab.nodes[0].jobs()[..], [(Job::GiveUp(row), _)] if row.reason.contains("malformed")));
}

/// Node 1 lets node 0 reach these ports, and node 0 has heard of it; the room is told as by the rooms.
fn regrant(lab: &mut Lab, post: &mut PostOffice, change: &Regrant) {
    let now = lab.nodes[1].now;
    lab.nodes[1].stack.endpoint_mut().regrant(now, &key(0), change).expect("a peer");
    let version = lab.nodes[1].stack.endpoint().trust().version();
    lab.nodes[1].stack.endpoint_mut().trust_saved(now, version);
    let wanted = lab.nodes[1].stack.endpoint().trust().pin(&key(0)).map(|pin| pin.reach());
    lab.run_until(|lab| lab.nodes[0].stack.endpoint().trust().pin(&key(1)).is_some_and(|pin| pin.granted == wanted));
    post.regranted(&mut lab.nodes[0], &key(1));
}

/// A lab with a tunnel between nodes 0 and 1.
fn connected() -> Lab {
    let mut lab = Lab::friends(2);
    let cx = &mut lab.nodes[0];
    let peer = cx.stack.endpoint().peer_by_identity(&key(1)).expect("a peer");
    cx.stack.endpoint_mut().reach(cx.now, peer);
    lab.run_until(|lab| connect::is_up(&lab.nodes[0], &key(1)) && connect::is_up(&lab.nodes[1], &key(0)));
    lab
}

#[test]
fn a_message_to_a_peer_that_grants_none_is_refused_at_once() {
    let (mut lab, mut post) = (connected(), PostOffice::default());
    regrant(&mut lab, &mut post, &Regrant::Withdraw(Ports::one(MAIL_PORT)));
    let cx = &mut lab.nodes[0];
    post.send(cx, letter(true, b"x"), caller(1));
    let failure = cx.answer_of_one().expect_err("refused");
    assert_eq!((failure.code, failure.message.as_str()), (Code::TrustRequired, "messages are not granted by node-1"));
    assert_eq!(failure.hint, "ask: pilotctl handshake node-1 --ports messages");
    assert_eq!((cx.jobs().len(), post.len()), (0, 0), "nothing is queued");
}

#[test]
fn messages_that_wait_stay_when_the_grant_goes_and_their_callers_are_told_why() {
    let (mut lab, mut post) = (connected(), PostOffice::default());
    lab.nodes[0].trace_level = Some(Level::Warn);
    let waits = Outgoing { body: b"before".to_vec(), ..waits(0) };
    post.restore(&mut lab.nodes[0], vec![(1, waits)], vec![], None);
    lab.nodes[0].jobs();
    post.send(&mut lab.nodes[0], letter(true, b"now"), caller(1));
    put_on_disk(&mut post, &mut lab.nodes[0], 2);
    regrant(&mut lab, &mut post, &Regrant::Withdraw(Ports::one(MAIL_PORT)));
    let cx = &mut lab.nodes[0];
    assert_eq!(cx.failure_of_one(), Code::TrustRequired);
    assert_eq!((unqueued(cx), post.len()), (vec![2], 1));
    let told = post.waiting(cx);
    assert_eq!((told.len(), told[0].node.as_str(), told[0].messages), (1, "node-1", 1));
    assert_eq!(told[0].reason.as_deref(), Some("messages are not granted by node-1"));
    assert!(matches!(&cx.effects()[..], [Effect::Trace(record)] if record.kind() == "mail_held"));
    post.handle_timeout(cx);
    assert_eq!(cx.stack.streams().count(), 0, "nothing is tried in vain");
    // The grant comes back: what waited arrives.
    regrant(&mut lab, &mut post, &Regrant::Grant(Ports::one(MAIL_PORT), None));
    lab.nodes[1].stack.listen(MAIL_PORT).expect("free");
    let got = receive(&mut lab, &mut post, 1, "ACK");
    assert!(got.len() == 1 && got[0].ends_with("before"), "{got:?}");
}

#[test]
fn recipients_of_which_is_told_why_messages_wait_have_a_maximum() {
    let (mut lab, mut post) = (Lab::alone(), PostOffice::default());
    let cx = &mut lab.nodes[0];
    let to = |n| Outgoing { id: [n; 16], to: IdentityKey([n; 32]), ..waits(0) };
    let messages = (0..=WAITING_TOLD_MAX as u8).map(|n| (n.into(), to(n))).collect();
    post.restore(cx, messages, vec![], None);
    assert_eq!((post.waiting(cx).len(), post.len()), (WAITING_TOLD_MAX, WAITING_TOLD_MAX + 1));
}
