//! The loop with its threads.

use super::*;
use crate::command::COMMANDS_MAX;
use crate::config::Config;
use crate::effect::Opener;
use crate::event_loop::handover::VISIT_MAX;
use crate::handle::Handle;
use crate::stream::Stream;
use pilot_core::{Addr, AddrPort};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A panic outside the guarded parts, on the loop's thread or under a guest, ends the node and leaves no thread waiting.
#[test]
fn when_the_loop_breaks_waiting_threads_are_told() {
    for under_guest in [true, false] {
        let home = std::env::temp_dir().join(format!("pilot-broken-{}-{under_guest}", std::process::id()));
        let started = start(Config::new(&home)).expect("a fresh folder");
        let handle = Handle::new(started.commands, started.waker, started.handover);
        let (id, no_one) = (StreamId::from_number(u64::MAX), AddrPort { addr: Addr::default(), port: 0 });
        // The loop's thread gives the loop away only to guests, so that a guest comes first.
        let as_guest = |act: &mut dyn FnMut(&mut EventLoop)| loop {
            handle.handover.visit(None, || Some(()));
            if handle.handover.try_turn(&mut *act).expect("the node lives") {
                break;
            }
        };
        let (sender, opened) = crossbeam_channel::bounded(1);
        as_guest(&mut |l| {
            let rooms = &mut l.rooms;
            rooms.streams.opened(&mut rooms.cx, id, Opener::Thread(sender.clone()));
        });
        let accepted = opened.recv().expect("given").expect("opened");
        let mut stream = Stream::new(accepted.shared, handle.clone(), no_one, no_one);
        let waiting = std::thread::spawn(move || stream.read(&mut [0]));
        std::thread::sleep(VISIT_MAX + Duration::from_millis(50)); // its visit is over
        if under_guest {
            let guest = catch_unwind(AssertUnwindSafe(|| as_guest(&mut |_| panic!("broken on purpose"))));
            assert!(guest.is_err());
        } else {
            handle.send(Command::Break).expect("the node lives");
        }
        started.thread.join().expect("it ends in order");
        assert!(waiting.join().expect("no panic there").is_err());
        assert!(handle.send(Command::Stop).is_err(), "the node has ended");
        std::fs::remove_dir_all(home).expect("made above");
    }
}

#[test]
fn a_caller_waits_while_the_mailbox_of_commands_is_full() {
    const SENT: usize = COMMANDS_MAX + 100;
    let home = std::env::temp_dir().join(format!("pilot-mailbox-{}", std::process::id()));
    let started = start(Config::new(&home)).expect("a fresh folder");
    let handle = Handle::new(started.commands, started.waker, started.handover);
    let sent = Arc::new(AtomicUsize::new(0));
    let (caller, count) = (handle.clone(), sent.clone());
    let caller = std::thread::spawn(move || {
        std::thread::park(); // until the loop is held
        for _ in 0..SENT {
            caller.send(Command::Look(StreamId::from_number(u64::MAX))).expect("the node lives");
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let hold = |_: &mut EventLoop| {
        caller.thread().unpark();
        while sent.load(Ordering::SeqCst) < COMMANDS_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(sent.load(Ordering::SeqCst), COMMANDS_MAX, "none is taken while the loop is held");
    };
    loop {
        handle.handover.visit(None, || Some(()));
        if handle.handover.try_turn(hold).expect("the node lives") {
            break;
        }
    }
    caller.join().expect("all are sent in the end");
    assert_eq!(sent.load(Ordering::SeqCst), SENT);
    handle.send(Command::Stop).expect("the node lives");
    started.thread.join().expect("it ends in order");
    std::fs::remove_dir_all(home).expect("made above");
}
