//! All rooms together, with a disk that the test plays.

mod disconnect;
mod hostile;

use super::*;
use crate::disk::schedule::JOBS_MAX;
use crate::disk::worker::Paper;
use crate::event_loop::dispatch;
use crate::failure::Code;
use crate::request::Request;
use crate::tests::{Lab, json};
use crossbeam_channel::unbounded;
use serde_json::Value;

/// The rooms of node 0 of a lab, and its disk.
fn rooms(lab: Lab) -> (Rooms, Paper) {
    rooms_of(lab.nodes.into_iter().next().expect("a node"))
}

fn rooms_of(cx: Context) -> (Rooms, Paper) {
    let poll = mio::Poll::new().expect("poll");
    let registry = || poll.registry().try_clone().expect("registry");
    let waker = std::sync::Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
    let (worker, disk) = Worker::on_paper();
    let rendezvous = RendezvousPlace::new(&cx.config.rendezvous, waker.clone());
    let relays = RelayPlaces::new(&cx.config.relays, waker.clone());
    let rooms = Rooms {
        cx,
        streams: Streams::new(registry()),
        datagrams: Datagrams::new(registry()),
        services: Services::default(),
        post: PostOffice::default(),
        programs: Programs::new(registry(), waker.clone()),
        ipc: Ipc::private(registry()),
        expiry: Expiry::default(),
        rendezvous,
        relays,
        mapping: Mapping::new(false, registry(), waker.clone()),
        lan: Lan::new(false, registry()),
        captures: Captures::default(),
        worker,
        log: LogRoom::new(None).0,
        facts: Facts::default(),
        ready: Vec::new(),
        turns: Turns::default(),
        refused: Vec::new(),
        is_stopping: false,
        leave_by: None,
        beside: None,
        effects: Vec::new(),
    };
    (rooms, disk)
}

/// Runs a request of a thread. The result takes the answer as JSON; `None`: it has not come.
fn ask(rooms: &mut Rooms, request: Request, bytes: &[u8]) -> impl Fn() -> Option<Result<Value, Failure>> + use<> {
    let (sender, answer) = unbounded();
    dispatch::request(rooms, request, bytes.to_vec(), Caller::Thread(sender));
    rooms.carry_out();
    move || answer.try_recv().ok().map(|answer| answer.map(|(data, _)| json(&data)))
}

fn code(answer: impl Fn() -> Option<Result<Value, Failure>>) -> Option<Code> {
    answer().map(|answer| answer.expect_err("a failure").code)
}

#[test]
fn a_job_that_the_disk_does_not_take_fails_its_call() {
    let (mut rooms, disk) = rooms(Lab::friends(2));
    let waiting: Vec<_> = (0..JOBS_MAX as u64).map(|seq| ask(&mut rooms, Request::InboxRead { seq }, b"")).collect();
    let send = Request::SendMessage { node: "node-1".into(), kind: None, queue: None, timeout_ms: None };
    for request in [Request::InboxRead { seq: 9 }, send, Request::Untrust { node: "node-1".into() }] {
        let refused = ask(&mut rooms, request, b"hello");
        assert!(refused().is_none(), "a call never fails inside the room that made it");
        assert!(rooms.has_more(), "the loop does not sleep before the call has failed");
        rooms.handle_disk();
        assert_eq!(code(&refused), Some(Code::Full));
    }
    assert!(!rooms.has_more());
    assert!(waiting.iter().all(|answer| answer().is_none()));
    // With the first outcome taken there is room again.
    let (ticket, job) = disk.jobs.try_recv().expect("a job");
    assert!(matches!(job, Job::Read(0)));
    disk.done.send((ticket, Done::Message(None))).expect("the loop lives");
    rooms.handle_disk();
    assert_eq!(code(&waiting[0]), Some(Code::NotFound));
    assert!(ask(&mut rooms, Request::InboxRead { seq: 9 }, b"")().is_none());
    assert!(!rooms.has_more());
}

#[test]
fn a_failed_disk_fails_the_call_and_sends_nothing() {
    let (mut rooms, disk) = rooms(Lab::friends(2));
    let send = Request::SendMessage { node: "node-1".into(), kind: None, queue: None, timeout_ms: None };
    let sent = ask(&mut rooms, send.clone(), b"hello");
    let (ticket, _) = disk.jobs.try_recv().expect("a job");
    disk.done.send((ticket, Done::Failed("it is gone".into()))).expect("the loop lives");
    rooms.handle_disk();
    assert_eq!(code(&sent), Some(Code::Internal));
    assert_eq!((rooms.post.len(), rooms.cx.stack.streams().count()), (0, 0));
    let sent = ask(&mut rooms, send, b"hello");
    let (ticket, _) = disk.jobs.try_recv().expect("a job");
    disk.done.send((ticket, Done::Queued(5))).expect("the loop lives");
    rooms.handle_disk();
    assert_eq!(rooms.post.len(), 1);
    rooms.cx.now = rooms.poll_timeout().expect("a deadline").0;
    rooms.handle_timeout();
    assert!(sent().is_none() && rooms.cx.stack.streams().count() <= 1);
}

#[test]
fn requests_of_clients_need_a_client_and_values_have_bounds() {
    let (mut rooms, disk) = rooms(Lab::alone());
    for request in [Request::Listen { port: 7 }, Request::Events { topics: None }, Request::Cancel { request: None }] {
        assert_eq!(code(ask(&mut rooms, request, b"")), Some(Code::InvalidArgument));
    }
    let unknown = Request::Disconnect { stream: 9 };
    assert_eq!(code(ask(&mut rooms, unknown, b"")), Some(Code::NotFound));
    for (topic, payload) in [(String::new(), &b"x"[..]), ("a".into(), b""), ("a".repeat(4097), b"x")] {
        assert_eq!(code(ask(&mut rooms, Request::Publish { topic }, payload)), Some(Code::InvalidArgument));
    }
    let (limit, before) = (Some(u64::MAX), None);
    assert!(ask(&mut rooms, Request::Inbox { limit, before, only: None }, b"")().is_none());
    assert!(matches!(disk.jobs.try_recv(), Ok((_, Job::List { limit, .. })) if limit as u64 == inbox::PAGE_MAX));
    let info = ask(&mut rooms, Request::Info, b"")().expect("at once").expect("ok");
    assert_eq!((&info["hostname"], &info["rendezvous"]), (&"node-0".into(), &"absent".into()));
}
