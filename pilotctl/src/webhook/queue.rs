//! Owns the events that wait to be posted, and the time of the next attempt.
//!
//! Events leave in their order, one at a time. While the server fails, the first one is tried again after longer and longer
//! pauses; it is given up when it is too old, or at once when the server says that it is at fault itself.

use crate::clean;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most events that wait; further ones are lost, counted, and told to the server. Source: the official daemon's queue.
const WAITING_MAX: usize = 1024;
/// Pause after the first failed attempt; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause. Own choice: a server that is back is found within a minute.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Time after which an event is given up. Own choice: a server that is away for longer reads the inbox instead.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// How one attempt has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// The server is away or overloaded, for this reason.
    Failed(String),
    /// The server will never take this event, for this reason.
    Refused(String),
}

/// One event to be posted.
pub(super) struct Post {
    pub(super) id: String,
    /// Attempts so far, with the one that is being made.
    pub(super) attempt: u32,
    pub(super) body: Vec<u8>,
    since: Instant,
}

/// The events that wait.
pub(super) struct Queue {
    waiting: VecDeque<Post>,
    /// What the ids begin with.
    prefix: String,
    made: u64,
    /// The next attempt is not made before.
    not_before: Option<Instant>,
    pause: Duration,
    /// Events that were lost because too many waited, of which the server has not been told.
    missed: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
}

impl Queue {
    /// `prefix`: different for each queue that ever was, so that ids are too.
    pub(super) fn new(prefix: String) -> Self {
        Self {
            waiting: VecDeque::new(),
            prefix,
            made: 0,
            not_before: None,
            pause: PAUSE_MIN,
            missed: 0,
            delivered: 0,
            lost: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds an event. `node`: this node's address; `time_s`: the wall clock in seconds since 1970.
    pub(super) fn push(&mut self, now: Instant, node: &str, time_s: u64, event: &Value) {
        if self.waiting.len() >= WAITING_MAX {
            self.missed += 1;
            self.lost += 1;
            return;
        }
        self.made += 1;
        let id = format!("{}-{}", self.prefix, self.made);
        let body = json!({"id": id, "time": time_s, "node": node, "event": event}).to_string();
        let body = clean::lines(&body).into_bytes();
        self.waiting.push_back(Post { id, attempt: 0, body, since: now });
        debug_assert!(self.waiting.len() <= WAITING_MAX);
    }

    /// The event that is to be posted now.
    pub(super) fn due(&mut self, now: Instant) -> Option<&Post> {
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let post = self.waiting.front_mut()?;
        post.attempt += 1;
        Some(post)
    }

    /// Takes the outcome of the attempt for the event that was due.
    pub(super) fn done(&mut self, now: Instant, node: &str, time_s: u64, outcome: &Outcome) {
        match outcome {
            Outcome::Taken => {
                self.delivered += 1;
                self.waiting.pop_front();
            }
            Outcome::Refused(_) => {
                self.lost += 1;
                self.waiting.pop_front();
            }
            Outcome::Failed(_) => {
                self.not_before = Some(now + self.pause);
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                while self.waiting.front().is_some_and(|post| now.duration_since(post.since) >= AGE_MAX) {
                    self.waiting.pop_front();
                    self.lost += 1;
                }
            }
        }
        if !matches!(outcome, Outcome::Failed(_)) {
            (self.not_before, self.pause) = (None, PAUSE_MIN);
        }
        if self.missed > 0 && self.waiting.len() < WAITING_MAX {
            let count = std::mem::take(&mut self.missed);
            self.push(now, node, time_s, &json!({"event": "missed", "count": count}));
        }
    }

    /// When the next event is due; `None`: nothing waits.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.waiting.front().map(|_| self.not_before.unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn event(n: u64) -> Value {
        json!({"event": "message", "id": n})
    }

    /// The id, the attempt and the event of what is due.
    fn due(queue: &mut Queue, now: Instant) -> Option<(String, u32, Value)> {
        let post = queue.due(now)?;
        let body: Value = serde_json::from_slice(&post.body).expect("JSON");
        assert_eq!((body["id"].as_str(), body["node"].as_str()), (Some(&*post.id), Some("node")));
        Some((post.id.clone(), post.attempt, body["event"].clone()))
    }

    fn done(queue: &mut Queue, now: Instant, outcome: &Outcome) {
        queue.done(now, "node", 7, outcome);
    }

    #[test]
    fn events_leave_in_order_and_are_tried_again_after_longer_pauses() {
        let (mut queue, begin) = (Queue::new("q".into()), Instant::now());
        assert_eq!(queue.poll_timeout(begin), None);
        (1..=2).for_each(|n| queue.push(begin, "node", 7, &event(n)));
        let (mut now, mut pauses) = (begin, Vec::new());
        for attempt in 1..=9 {
            assert_eq!(due(&mut queue, now), Some(("q-1".into(), attempt, event(1))));
            done(&mut queue, now, &Outcome::Failed("away".into()));
            let next = queue.poll_timeout(now).expect("an attempt");
            assert_eq!(due(&mut queue, next - SECOND / 2), None);
            pauses.push(next.duration_since(now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(due(&mut queue, now).map(|d| d.0), Some("q-1".into()));
        done(&mut queue, now, &Outcome::Taken);
        assert_eq!(due(&mut queue, now), Some(("q-2".into(), 1, event(2))), "without a pause");
        done(&mut queue, now, &Outcome::Failed("away".into()));
        assert_eq!(queue.poll_timeout(now), Some(now + SECOND), "pauses begin anew");
        assert_eq!((queue.delivered, queue.lost, queue.len()), (1, 0, 1));
    }

    #[test]
    fn an_event_is_given_up_when_it_is_refused_or_too_old() {
        let (mut queue, begin) = (Queue::new("q".into()), Instant::now());
        (1..=3).for_each(|n| queue.push(begin, "node", 7, &event(n)));
        queue.push(begin + SECOND, "node", 7, &event(4));
        assert!(due(&mut queue, begin).is_some());
        done(&mut queue, begin, &Outcome::Refused("status 400".into()));
        assert_eq!((queue.lost, due(&mut queue, begin).map(|d| d.2)), (1, Some(event(2))));
        done(&mut queue, begin + AGE_MAX, &Outcome::Failed("away".into()));
        assert_eq!((queue.lost, queue.len()), (3, 1), "what waited as long goes too");
        assert_eq!(due(&mut queue, begin + AGE_MAX + SECOND).map(|d| d.2), Some(event(4)));
    }

    #[test]
    fn what_is_lost_in_a_full_queue_is_told() {
        let (mut queue, now) = (Queue::new("q".into()), Instant::now());
        let more = 5;
        (0..(WAITING_MAX + more) as u64).for_each(|n| queue.push(now, "node", 7, &event(n)));
        assert_eq!((queue.len(), queue.lost), (WAITING_MAX, more as u64));
        let mut got = Vec::new();
        while let Some((_, _, event)) = due(&mut queue, now) {
            got.push(event);
            done(&mut queue, now, &Outcome::Taken);
        }
        let last = got.pop().expect("an event");
        assert_eq!(last, json!({"event": "missed", "count": more}));
        assert!(got.iter().enumerate().all(|(n, got)| *got == event(n as u64)));
    }
}
