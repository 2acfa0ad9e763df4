//! The examples, built into this test and run as they stand, each within a time limit.
#![allow(clippy::duplicate_mod, reason = "each example has what they share as a module of its own")]

#[path = "../examples/agent_inbox.rs"]
mod agent_inbox;
#[path = "../examples/chat.rs"]
mod chat;
#[path = "../examples/echo.rs"]
mod echo;
#[path = "../examples/http_over_stream.rs"]
mod http_over_stream;
#[path = "../examples/two_peers.rs"]
mod two_peers;

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

/// Longest that an example may take.
const LIMIT: Duration = Duration::from_secs(60);

fn run(example: fn() -> Result<(), Box<dyn Error + Send + Sync>>) {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || done.send(example().map_err(|e| e.to_string())));
    match outcome.recv_timeout(LIMIT) {
        Ok(outcome) => assert_eq!(outcome, Ok(())),
        Err(e) => panic!("the example panicked, or was not done within {LIMIT:?}: {e}"),
    }
}

#[test]
fn an_agent_works_from_its_inbox() {
    run(agent_inbox::main);
}

#[test]
fn two_people_chat() {
    run(chat::main);
}

#[test]
fn an_echo_comes_back() {
    run(echo::main);
}

#[test]
fn http_is_spoken_over_streams() {
    run(http_over_stream::main);
}

#[test]
fn two_embedded_peers_come_to_trust_each_other() {
    run(two_peers::main);
}
