//! The scenarios of this program: in the simulator, in the link's laboratory, and `churn` and `inbox` with real processes.

pub(crate) mod churn;
pub(crate) mod inbox;
pub(crate) mod load;
pub(crate) mod path;
pub(crate) mod process;
mod processes;
mod star;

use pilot_core::time::Duration;
use pilot_stack::{Event, Recv, StreamId};
use pilot_tests::{NodeIndex, World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Port that the nodes of a scenario listen on.
const PORT: u16 = 1000;

/// Two nodes that trust each other and listen.
fn friends(seed: u64) -> World {
    let mut world = World::new(seed, 2);
    world.make_friends(0, 1);
    (0..2).for_each(|node| listen(&mut world, node));
    world
}

fn listen(world: &mut World, node: NodeIndex) {
    world.nodes[node].stack.listen(PORT).expect("a new stack");
}

/// Reads what has arrived; returns the number of bytes and how reading ended.
fn read_all(world: &mut World, node: NodeIndex, stream: StreamId) -> (usize, Recv) {
    let (mut len, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        match world.nodes[node].stack.recv(stream, &mut buffer) {
            Recv::Data(n) => len += n,
            end => return (len, end),
        }
    }
}

/// Asks over a new stream and waits for the answer; the request travels with the SYN.
fn exchange(world: &mut World, a: NodeIndex, b: NodeIndex) -> Duration {
    let start = world.now;
    let (ours, theirs) = world.open_with(a, b, PORT, b"question");
    world.nodes[b].stack.send(theirs, b"answer").expect("the stream stands");
    world.nodes[b].stack.shutdown_write(theirs);
    let mut got = 0;
    world.run_until("the answer arrives", |w| {
        got += read_all(w, a, ours).0;
        got == 6
    });
    let took = world.now.since(start);
    let now = world.now;
    world.nodes[a].stack.close(now, ours);
    world.nodes[b].stack.close(now, theirs);
    took
}

/// Runs until the stream has ended at this node, for at most `most`; returns the time that it took.
fn until_ended(world: &mut World, node: NodeIndex, stream: StreamId, most: Duration) -> Option<Duration> {
    let start = world.now;
    while world.now.since(start) <= most {
        if matches!(read_all(world, node, stream).1, Recv::Ended(_) | Recv::Fin) {
            return Some(world.now.since(start));
        }
        world.run_for(MS * 5);
    }
    None
}

/// Streams that came to a node and were not taken before this number of events.
fn incoming(world: &World, node: NodeIndex, seen: usize) -> usize {
    world.nodes[node].events[seen..].iter().filter(|event| matches!(event, Event::Incoming { .. })).count()
}

/// The value that a share `q` of the values does not exceed.
fn quantile(values: &mut [Duration], q: f64) -> Duration {
    values.sort_unstable();
    values.get(((values.len().max(1) - 1) as f64 * q) as usize).copied().unwrap_or_default()
}

/// Resident memory of this process. Unit: bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
