//! An agent that works from its inbox: it waits for messages, does each task, answers, and takes the message away last, so
//! that a task is not lost when the agent stops in the middle.
//!
//! `cargo run -p pilot-node --example agent_inbox`

mod common;

use common::{Network, Outcome};
use pilot_node::{Event, MessageKind, Node};
use serde_json::{Value, json};
use std::thread;
use std::time::Duration;

const TASKS: u64 = 3;

/// Runs the agent until it has done every task.
pub(crate) fn main() -> Outcome<()> {
    let network = Network::start("agent")?;
    let agent = network.bob.clone();
    let working = thread::spawn(move || work(&agent));
    for task in 0..TASKS {
        let text = json!({"task": task, "numbers": [1, 2, task]}).to_string();
        // Returns once the message is on the disk of the agent's node.
        let sent = network.alice.messages().send("bob", MessageKind::Json, text.as_bytes())?;
        println!("task {task}: {}", sent.ack);
    }
    let results = working.join().map_err(|_| "the agent failed")??;
    assert_eq!(results, [3, 4, 5]);
    assert_eq!(network.bob.messages().inbox(10)?.total, 0);
    Ok(())
}

fn work(node: &Node) -> Outcome<Vec<u64>> {
    // Events from now on; what came before is in the inbox.
    let mut events = node.events()?;
    let mut results = Vec::new();
    loop {
        while let Some((message, body)) = node.messages().next(0)? {
            let task: Value = serde_json::from_slice(&body)?;
            let sum = task["numbers"].as_array().into_iter().flatten().filter_map(Value::as_u64).sum();
            println!("{} wants task {}: {sum}", message.hostname, task["task"]);
            results.push(sum);
            node.messages().take(&[message.id])?;
        }
        if results.len() as u64 == TASKS {
            return Ok(results);
        }
        match events.next_timeout(Duration::from_secs(10))? {
            Some(Event::Message { id, .. }) => println!("message {id} has come"),
            Some(_) => {}
            None => return Err("no task came in ten seconds".into()),
        }
    }
}
