//! The command `doctor`: looks at everything a node depends on, and says for each what was found and what to do. The checks run side
//! by side, none holds the others, and all of them together end in time.

mod bundle;
mod check;
mod machine;
mod network;
mod node;

use crate::args;
use crate::output::Output;
use check::{Check, Grade};
use network::Places;
use node::{News, Told};
use pilot_node::{Code, Failure};
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Every check, in the order in which they are shown.
const IDS: [&str; 14] = [
    "daemon",
    "versions",
    "permissions",
    "socket_buffers",
    "ipv4",
    "ipv6",
    "udp",
    "tls",
    "rendezvous",
    "relay",
    "clock",
    "nat",
    "port_mapping",
    "mtu",
];
/// Time in which the daemon says where its rendezvous is; then the places come from the settings.
const DAEMON_TIME: Duration = Duration::from_secs(2);
/// Time for everything. Source: a person waits for it.
const TIME_MAX: Duration = Duration::from_secs(9);

/// Runs all checks and shows them.
pub(crate) fn run(args: &args::Doctor, output: &Output) -> Result<(), Failure> {
    let (checks, told) = examine(Instant::now() + TIME_MAX);
    let rows: Vec<Value> = checks.iter().map(Check::json).collect();
    if output.json {
        output.ok(&json!({"checks": rows}));
    } else {
        output.line(&checks.iter().map(Check::text).collect::<Vec<_>>().join("\n"));
    }
    if let Some(path) = &args.report {
        bundle::write(path, rows, told.as_ref())?;
        output.note(&format!(
            "written to {}: addresses and names of peers are in it, keys and messages are not",
            path.display()
        ));
    }
    let failed: Vec<&str> = checks.iter().filter(|check| check.grade == Grade::Fail).map(|check| check.id).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Internal, format!("checks failed: {}", failed.join(", "))).hint("do what each of them says"))
}

/// Every check in its order, and what the daemon has told. One without a result in time says so.
fn examine(until: Instant) -> (Vec<Check>, Option<Told>) {
    let ((sender, news), mut found) = (channel(), Findings::default());
    begin(&sender, node::examine);
    begin(&sender, |sender| give(sender, machine::checks()));
    found.collect(&news, Instant::now() + DAEMON_TIME, |found| found.told.is_some());
    let places = Places::new(found.told.as_ref().and_then(|told| told.as_ref().ok()));
    for check in [network::families as fn(&Places) -> Vec<Check>, network::udp, network::tls] {
        let places = places.clone();
        begin(&sender, move |sender| give(sender, check(&places)));
    }
    found.collect(&news, until, |found| found.checks.len() == IDS.len());
    debug_assert!(found.checks.iter().all(|check| IDS.contains(&check.id)), "every check has its place");
    let late = |id| Check::warn(id, "no result in time", "try again; pilotctl log");
    let of = |id| found.checks.iter().find(|check| check.id == id).cloned().unwrap_or_else(|| late(id));
    (IDS.map(of).to_vec(), found.told.and_then(Result::ok))
}

fn begin(sender: &Sender<News>, work: impl FnOnce(&Sender<News>) + Send + 'static) {
    let sender = sender.clone();
    // A thread that cannot be made leaves its checks without a result.
    let _ = thread::Builder::new().spawn(move || work(&sender));
}

/// Hands over the results of a thread, which may come too late.
fn give(sender: &Sender<News>, checks: Vec<Check>) {
    let _ = sender.send(News::Checks(checks));
}

/// What has been found so far.
#[derive(Default)]
struct Findings {
    checks: Vec<Check>,
    /// The daemon's word, or why there is none.
    told: Option<Result<Told, Failure>>,
}

impl Findings {
    /// Takes news until there are enough, or until the time is over.
    fn collect(&mut self, news: &Receiver<News>, until: Instant, is_enough: fn(&Self) -> bool) {
        while !is_enough(self) {
            match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(News::Told(word)) => self.told = Some(*word),
                Ok(News::Checks(more)) => self.checks.extend(more),
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_hangs_holds_no_other_and_is_told() {
        let (sender, news) = channel();
        begin(&sender, |sender| give(sender, vec![Check::ok("udp", "x")]));
        begin(&sender, |_| {
            loop {
                thread::park();
            }
        });
        let (mut found, end) = (Findings::default(), Instant::now() + Duration::from_millis(300));
        found.collect(&news, end, |found| found.checks.len() == 2);
        assert_eq!((found.checks.len(), found.told.is_some()), (1, false));
        assert!(Instant::now() < end + Duration::from_secs(5));
    }
}
