//! Questions: who waits for their answers, what peers of earlier versions make of them, and the answers that this node gives.

use super::*;
use crate::disk::job::{Asked, Done, Exchange, Unanswerable};
use crate::ipc::client_id::ClientId;
use crate::mail::message::{Message, QuestionName, answer_id};
use crate::mail::waits::WAITERS_MAX;
use pilot_core::Addr;

const ID: [u8; 16] = [7; 16];

/// A question to node 1 as the disk knows it.
fn exchange(answer: Option<&[u8]>) -> Exchange {
    let (tag, at) = (Tag::Answer(ID), WALL_S);
    let message = answer.map(|body| Message {
        id: answer_id(&ID),
        sender: key(1),
        addr: Addr::new(0, 2),
        kind: Kind::Json,
        at,
        tag,
        body: body.to_vec(),
    });
    let asked = Asked { seq: 3, to: key(1), asked_at: at, deadline: 60, answer: answer.map(|_| 9) };
    (ID, asked, message.map(|message| (message, 2)))
}

/// The disk has looked for the question.
fn look(post: &mut PostOffice, cx: &mut Context, found: Option<Exchange>) {
    let (job, ticket) = cx.jobs().pop().expect("a job");
    assert!(matches!(job, Job::Asked(_)), "{job:?}");
    let Some(Call::AskedFor(call)) = cx.calls.take(ticket) else { panic!("no call") };
    post.found_asked(cx, call, found.map(Box::new));
}

fn wait(post: &mut PostOffice, cx: &mut Context, number: usize, found: Option<Exchange>) {
    post.wait_answer(cx, &id_text(&ID), Some(Duration::from_secs(30)), caller(number as u32));
    look(post, cx, found);
}

/// Asks node 1, up to where the caller waits.
fn ask(post: &mut PostOffice, cx: &mut Context) {
    let question = || Letter { asks: Some(60), timeout: Some(Duration::from_secs(9)), ..letter(true, b"hello") };
    cx.config.services = false;
    post.send(cx, question(), caller(1));
    assert_eq!(cx.failure_of_one(), Code::InvalidArgument, "no answer could come");
    cx.config.services = true;
    post.send(cx, question(), caller(1));
    let (job, ticket) = cx.jobs().pop().expect("a job");
    assert!(
        matches!(&job, Job::Ask(message, WALL_S) if message.tag == Tag::Question { deadline: cx.counted_s() + 60 })
    );
    let Some(Call::Queue(queue)) = cx.calls.take(ticket) else { panic!("no message") };
    let id = queue.message.id;
    post.queued(cx, 3, queue);
    let mut found = exchange(None);
    found.0 = id;
    look(post, cx, Some(found));
    assert!(cx.answers().is_empty(), "the caller waits");
}

#[test]
fn callers_that_wait_for_one_answer_have_a_maximum() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    (0..=WAITERS_MAX).for_each(|n| wait(&mut post, cx, n, Some(exchange(None))));
    assert!(matches!(&cx.answers()[..], [(n, Err(f))] if *n as usize == WAITERS_MAX && f.code == Code::Full));
    post.answered(cx, exchange(Some(b"42")));
    let answers = cx.answers();
    assert_eq!((answers.len(), cx.calls.len()), (WAITERS_MAX, 0));
    let told = answers[0].1.as_ref().expect("an answer");
    assert_eq!(
        (&told["state"], &told["answer"]["id"], &told["node"]),
        (&"answered".into(), &9.into(), &"node-1".into())
    );
    wait(&mut post, cx, 1, Some(exchange(Some(b"42"))));
    assert_eq!(cx.answer_of_one().expect("at once")["answer"]["reply_to"], id_text(&ID));
    wait(&mut post, cx, 1, None);
    assert_eq!(cx.failure_of_one(), Code::NotFound);
}

#[test]
fn a_caller_whose_time_is_over_is_told_how_far_the_question_is() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    wait(&mut post, cx, 1, Some(exchange(None)));
    assert_eq!(cx.calls.poll_timeout(), Some(cx.now + Duration::from_secs(30)));
    cx.now = cx.now + Duration::from_secs(30);
    let Some(Call::AwaitAnswer(call)) = cx.calls.expired(cx.now) else { panic!("no call") };
    post.answer_is_late(cx, call);
    look(&mut post, cx, Some(exchange(None)));
    assert_eq!(cx.answer_of_one().expect("an answer")["state"], "delivered");
    // Nothing of it is left: an answer finds no caller.
    post.answered(cx, exchange(Some(b"42")));
    assert!(cx.answers().is_empty());
    // A caller that has gone is not waited for.
    wait(&mut post, cx, 1, Some(exchange(None)));
    post.client_gone(cx, ClientId(1));
    assert_eq!(cx.calls.len(), 0);
    let mut over = exchange(None);
    over.1.deadline = cx.counted_s();
    wait(&mut post, cx, 1, Some(over));
    assert_eq!(cx.answer_of_one().expect("at once")["state"], "expired");
}

#[test]
fn a_question_leaves_with_the_time_that_is_left_and_waits_for_its_answer() {
    let (mut lab, mut post) = friends();
    ask(&mut post, &mut lab.nodes[0]);
    let got = receive(&mut lab, &mut post, 1, "ACK TEXT 5 bytes as a question");
    assert!(got[0].contains(r#""deadline_s":60"#) && got[0].ends_with("hello"), "{got:?}");
    lab.run_until(|lab| {
        run_sender(&mut post, &mut lab.nodes[0]);
        post.len() == 0
    });
    let cx = &mut lab.nodes[0];
    assert_eq!((unqueued(cx), cx.answers().len()), (vec![3], 0));
    assert_eq!(cx.calls.poll_timeout().map(|at| at <= cx.now + Duration::from_secs(9)), Some(true));
}

#[test]
fn the_asker_learns_that_a_peer_knows_no_questions() {
    for (answer, outcome) in
        [("ACK TEXT 5 bytes", "as an ordinary message"), ("ERR unknown frame type 10", "refused it")]
    {
        let (mut lab, mut post) = friends();
        ask(&mut post, &mut lab.nodes[0]);
        receive(&mut lab, &mut post, 1, answer);
        lab.run_until(|lab| {
            run_sender(&mut post, &mut lab.nodes[0]);
            post.len() == 0
        });
        let cx = &mut lab.nodes[0];
        let failure = cx.answer_of_one().expect_err("no answer comes");
        assert_eq!(failure.code, Code::ConnectionRefused);
        assert!(failure.message.contains("node-1 runs a version") && failure.message.contains(outcome), "{failure}");
        assert!(matches!(&cx.jobs()[..], [(Job::GiveUp(row), _)] if row.seq == 3), "the books forget it");
    }
}

#[test]
fn answers_on_their_way_into_the_outbox_keep_their_room() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    post.replying_len = WAITING_LEN_MAX - 1;
    post.reply(cx, "7", Kind::Text, b"ab".to_vec(), caller(1));
    assert_eq!((cx.failure_of_one(), cx.jobs().len()), (Code::Full, 0));
    for (done, code) in [
        (Done::Unanswerable(Unanswerable::Answered), Some(Code::Conflict)),
        (Done::Unanswerable(Unanswerable::Gone), Some(Code::NotFound)),
        (Done::Replied { question: ID, entered: None }, None),
        (Done::Replied { question: ID, entered: Some((5, waits(0))) }, None),
    ] {
        post.reply(cx, &id_text(&ID), Kind::Text, b"a".to_vec(), caller(1));
        let (job, ticket) = cx.jobs().pop().expect("a job");
        assert!(matches!(job, Job::Reply(reply) if reply.question == QuestionName::Id(ID)));
        let Some(Call::Reply(caller, len, number)) = cx.calls.take(ticket) else { panic!("no call") };
        assert_eq!(post.replying_len, WAITING_LEN_MAX);
        post.replied(cx, (caller, len, number), Ok(done));
        assert_eq!((post.replying_len, cx.answer_of_one().err().map(|f| f.code)), (WAITING_LEN_MAX - 1, code));
    }
    assert_eq!(post.len(), 1, "one answer was new");
    for (name, body, code) in [("x", &b"a"[..], Code::NotFound), ("7", b"\xff", Code::InvalidArgument)] {
        post.reply(cx, name, Kind::Text, body.to_vec(), caller(1));
        assert_eq!(cx.failure_of_one(), code);
    }
}

/// A clock that is set ahead by a month, and one that is set back to its beginning.
fn set_clocks() -> [crate::context::WallClock; 2] {
    [|| WALL_S + 30 * 86_400, || 0]
}

#[test]
fn a_clock_that_is_set_ends_no_question_and_keeps_none() {
    for wall in set_clocks() {
        let (mut lab, mut post) = friends();
        ask(&mut post, &mut lab.nodes[0]);
        lab.nodes[0].wall = wall;
        let got = receive(&mut lab, &mut post, 1, "ACK TEXT 5 bytes as a question");
        assert!(got[0].contains(r#""deadline_s":60"#), "{got:?}");
        lab.run_until(|lab| {
            run_sender(&mut post, &mut lab.nodes[0]);
            post.len() == 0
        });
        let cx = &mut lab.nodes[0];
        cx.effects();
        for (deadline, state) in [(cx.counted_s() + 1, "delivered"), (cx.counted_s(), "expired")] {
            post.wait_answer(cx, &id_text(&ID), None, caller(1));
            let mut found = exchange(None);
            found.1.deadline = deadline;
            look(&mut post, cx, Some(found));
            let told = cx.answer_of_one().expect("an answer");
            assert_eq!((&told["state"], &told["deadline_at"]), (&state.into(), &cx.wall_of(deadline).into()));
        }
        // The disk is told the time by which it forgets questions, once a second.
        cx.now = cx.now + Duration::from_secs(61);
        cx.expire_questions();
        cx.expire_questions();
        assert!(matches!(cx.jobs()[..], [(Job::Expire(now), _)] if now == cx.counted_s()));
    }
}

#[test]
fn a_question_to_a_peer_that_could_not_answer_is_refused_with_what_to_type() {
    let (mut lab, mut post) = friends();
    let cx = &mut lab.nodes[0];
    cx.config.services = true;
    let change = Regrant::Withdraw(Ports::one(MAIL_PORT));
    cx.stack.endpoint_mut().regrant(cx.now, &key(1), &change).expect("a peer");
    post.send(cx, Letter { asks: Some(60), ..letter(true, b"hello") }, caller(1));
    let failure = cx.answer_of_one().expect_err("no answer could come");
    assert_eq!((failure.code, &*failure.hint), (Code::TrustRequired, "pilotctl grant node-1 --ports messages"));
    assert!(cx.jobs().is_empty());
    post.send(cx, letter(true, b"hello"), caller(1));
    assert_eq!(cx.jobs().len(), 1, "a message needs no way back");
}

#[test]
fn who_answers_learns_that_the_answer_waits_for_the_askers_grant() {
    let (mut lab, mut post) = (connected(), PostOffice::default());
    for change in [Regrant::Withdraw(Ports::one(MAIL_PORT)), Regrant::Grant(Ports::one(MAIL_PORT), None)] {
        let is_withdrawn = matches!(change, Regrant::Withdraw(_));
        regrant(&mut lab, &mut post, &change);
        let cx = &mut lab.nodes[0];
        cx.effects();
        post.reply(cx, &id_text(&ID), Kind::Text, b"a".to_vec(), caller(1));
        let (_, ticket) = cx.jobs().pop().expect("a job");
        let Some(Call::Reply(caller, len, number)) = cx.calls.take(ticket) else { panic!("no call") };
        let entered = Some((5 + u64::from(is_withdrawn), waits(0)));
        post.replied(cx, (caller, len, number), Ok(Done::Replied { question: ID, entered }));
        let told = cx.answer_of_one().expect("it is on disk");
        let expected = is_withdrawn.then_some("messages are not granted by node-1");
        assert_eq!(told["waits"].as_str(), expected);
    }
}
