//! Owns the thread that posts a node's events to the webhook's URL. The daemon starts it when a webhook is set first.
//!
//! 1. The thread waits for the node's events, for the next attempt, and for a change of the setting.
//! 2. An event becomes a body of JSON with an id, which stays the same in all attempts ([`queue`]).
//! 3. An attempt is one request of ureq, which blocks this thread only. Meanwhile events wait in the node, which counts what
//!    it has to drop.
//!
//! What waits is in memory: the end of the daemon loses it. Messages and files themselves are on disk.

mod queue;
mod sign;

use pilot_node::parts::entropy;
use pilot_node::{Failure, Node, Webhook, WebhookSetting};
use queue::{Outcome, Post, Queue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sign::signature;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// Longest time of one attempt, from looking up the name to the answer's head and body.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read, so that the connection may be used again; what is longer closes it.
const ANSWER_MAX: u64 = 4096;
/// Pause after the node has refused to tell its events, as when no descriptors are left.
const BROKEN_PAUSE: Duration = Duration::from_secs(5);

/// Starts the thread; it ends with the process.
pub(crate) fn start(node: Node, webhook: Webhook) {
    let body = move || {
        loop {
            match webhook.setting() {
                None => wait(&[webhook.changed()], None),
                Some(setting) => {
                    if let Err(failure) = (Worker { node: &node, webhook: &webhook, setting }).run() {
                        webhook.report(|state| state.last_error = Some(failure.message));
                        wait(&[webhook.changed()], Some(BROKEN_PAUSE));
                    }
                }
            }
            webhook.changed().drain();
        }
    };
    // Without a thread there are no posts, which `info` shows: nothing is delivered.
    let _ = std::thread::Builder::new().name("pilot-webhook".into()).spawn(body);
}

struct Worker<'a> {
    node: &'a Node,
    webhook: &'a Webhook,
    setting: WebhookSetting,
}

impl Worker<'_> {
    /// Posts events until the setting changes.
    fn run(&self) -> Result<(), Failure> {
        let mut client = self.node.client()?;
        client.watch(None)?;
        let (agent, mut queue) = (agent(), Queue::new(unique()));
        let (mut last_error, mut lost) = (None, 0);
        while self.webhook.setting().as_ref() == Some(&self.setting) {
            let node = self.node.info()?.address;
            while let Some(event) = client.next_event(Some(Duration::ZERO))? {
                queue.push(Instant::now(), &node, wall_s(), &event.data);
            }
            let outcome = queue.due(Instant::now()).map(|post| self.attempt(&agent, post));
            if let Some(outcome) = &outcome {
                queue.done(Instant::now(), &node, wall_s(), outcome);
                let error = match outcome {
                    Outcome::Taken => None,
                    Outcome::Failed(why) | Outcome::Refused(why) => Some(why.clone()),
                };
                if let Some(why) = error.as_ref().filter(|_| last_error.is_none() || queue.lost > lost) {
                    self.node.note_webhook(why, queue.lost);
                    lost = queue.lost;
                }
                last_error = error;
            }
            self.webhook.report(|state| {
                (state.waiting, state.delivered, state.lost) = (queue.len() as u64, queue.delivered, queue.lost);
                state.last_error.clone_from(&last_error);
            });
            let limit = queue.poll_timeout(Instant::now()).map(|at| at.saturating_duration_since(Instant::now()));
            wait(&[self.webhook.changed(), &client], limit);
            // First the signal, then the setting, so that no change is missed.
            self.webhook.changed().drain();
        }
        Ok(())
    }

    fn attempt(&self, agent: &Agent, post: &Post) -> Outcome {
        let request = agent
            .post(&self.setting.url)
            .header("Content-Type", "application/json")
            .header("Pilot-Event-Id", &post.id)
            .header("Pilot-Attempt", post.attempt.to_string())
            .header("Pilot-Signature", signature(&self.setting.secret, &post.body));
        match request.send(&post.body[..]) {
            Err(e) => Outcome::Failed(e.to_string()),
            Ok(mut answer) => {
                // Only for the connection's sake; an answer that is too long or broken closes it.
                let _ = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
                match answer.status().as_u16() {
                    200..=299 => Outcome::Taken,
                    status @ 300..=399 => Outcome::Failed(format!("status {status}: redirects are not followed")),
                    // The server says that this event is at fault, so that another attempt would end in the same way.
                    status @ (400 | 410 | 413 | 415 | 422) => Outcome::Refused(format!("status {status}")),
                    status => Outcome::Failed(format!("status {status}")),
                }
            }
        }
    }
}

/// A client of HTTP that follows no redirect and asks no proxy, and trusts the system's certificates.
fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .timeout_global(Some(ATTEMPT_TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("pilot/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build();
    config.new_agent()
}

/// What the ids of one run of the worker begin with.
fn unique() -> String {
    entropy::<8>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wall_s() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// Waits until one of the descriptors is readable, at most `limit` (`None`: for ever).
fn wait(fds: &[&dyn AsFd], limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut fds: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
    // Whatever ends the wait, the caller looks at everything anew.
    let _ = poll(&mut fds, limit.as_ref());
}
