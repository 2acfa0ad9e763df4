//! Owns the time of two nodes in one process.

use pilot_core::Instant;
use pilot_stack::Stack;

/// Runs the timers of the next moment at which one is due, unless that is after `end`; gives the moment, which is `now` for
/// timers that are late.
pub(crate) fn run_due(stacks: &mut [Stack; 2], now: Instant, end: Instant) -> Option<Instant> {
    let next = stacks.iter().filter_map(|stack| stack.poll_timeout().map(|(at, _)| at)).min()?;
    let next = now.max(next);
    if next > end {
        return None;
    }
    stacks.iter_mut().for_each(|stack| stack.handle_timeout(next));
    Some(next)
}
