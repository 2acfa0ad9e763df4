//! Requests for trust and their answers: the decisions of this node's owner, and those of the peers' owners.

use crate::call::{AwaitTrust, Call};
use crate::calls::report::pin_json;
use crate::calls::{resolve, watch};
use crate::context::Context;
use crate::disk::job::{Job, Meta};
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use pilot_core::Instant;
use pilot_core::control::InboxNumber;
use pilot_core::endpoint::TrustChange;
use pilot_core::identity::{IdentityKey, NodeRecord};
use pilot_core::time::Duration;
use pilot_core::trust::{Outcome, Terms, TrustError};
use serde_json::{Value, json};

/// Longest wait of a caller for trust.
const TRUST_WAIT_MAX: Duration = Duration::from_secs(3600);
/// Most callers that wait for trust.
pub(super) const TRUST_WAITERS_MAX: usize = 1024;
/// Pause between two looks for pins that have expired.
const EXPIRY_PAUSE: Duration = Duration::from_secs(60);

/// The terms of a trust in a caller's words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// `1000,1001` or `all`; absent: as configured.
    pub(crate) ports: Option<String>,
    /// Unit: seconds from now.
    pub(crate) expires_s: Option<u64>,
    pub(crate) note: Option<String>,
}

impl Wanted {
    /// The terms, with this node's defaults.
    ///
    /// # Errors
    /// `InvalidArgument` for ports in another form.
    pub(crate) fn terms(self, cx: &Context) -> Result<Terms, Failure> {
        let ports = match self.ports {
            None => cx.config.default_ports.clone(),
            Some(text) => {
                text.parse().map_err(|_| Failure::new(Code::InvalidArgument, "ports are given as 1000,1001 or all"))?
            }
        };
        let not_after = self.expires_s.map(|s| (cx.wall)().saturating_add(s));
        Ok(Terms { ports, note: self.note.unwrap_or_default(), not_after, verified: false })
    }
}

/// Saves the trust book; `call` goes on after the sync.
pub(crate) fn save(cx: &mut Context, call: Call) {
    let bytes = cx.stack.endpoint().trust().emit();
    cx.submit(Job::Put(Meta::Trust, bytes), call);
}

fn save_and_answer(cx: &mut Context, caller: Caller, data: Value) {
    save(cx, Call::Saved { caller, data });
}

/// The trust book has changed by what a peer's owner decided.
pub(crate) fn changed(cx: &mut Context, change: &TrustChange) {
    save(cx, change.letter.map_or(Call::Forgotten, Call::Letter));
    announce(cx, &change.outcome);
    if let (Outcome::Pending(key), true) = (&change.outcome, cx.config.approve_all) {
        // As the configuration says: every request is approved.
        if let Ok(terms) = Wanted::default().terms(cx) {
            approve_key(cx, key, &terms, Caller::Node);
        }
    }
}

/// A letter of the rendezvous is behind a synced trust book.
pub(crate) fn letter_saved(cx: &mut Context, letter: InboxNumber) {
    cx.stack.endpoint_mut().letter_taken(cx.now, letter);
}

fn announce(cx: &mut Context, outcome: &Outcome) {
    watch::tell_trust(cx, outcome);
    answer_waiting(cx);
}

/// Asks a node for trust; a request that this node has sent before is approved instead.
pub(crate) fn request(cx: &mut Context, target: &str, record: &NodeRecord, terms: &Terms, caller: Caller) {
    if cx.stack.endpoint().trust().pending().any(|p| p.record.identity == record.identity) {
        return approve_key(cx, &record.identity, terms, caller);
    }
    let fingerprint = record.identity.fingerprint();
    let mut data = json!({"status": "sent", "node_id": record.addr.node, "address": record.addr.to_string(),
        "hostname": record.hostname, "fingerprint": fingerprint});
    match cx.stack.endpoint_mut().request_trust(cx.now, record, terms) {
        Ok(()) => {
            data["verified"] = terms.verified.into();
            save_and_answer(cx, caller, data);
        }
        Err(TrustError::AlreadyTrusted) => {
            data["status"] = "trusted".into();
            cx.reply(caller, data);
        }
        Err(e) => cx.fail(caller, trust_failure(e, target)),
    }
}

fn pending_key(cx: &Context, target: &str) -> Result<IdentityKey, Failure> {
    let trust = cx.stack.endpoint().trust();
    let fits: Vec<_> = trust
        .pending()
        .filter(|p| resolve::is_called(target, p.record.addr, &p.record.hostname, &p.record.identity))
        .collect();
    match fits.as_slice() {
        [one] => Ok(one.record.identity),
        [] => Err(Failure::new(Code::NotFound, format!("{target} has not asked")).hint("pilotctl pending")),
        _ => Err(Failure::new(Code::Ambiguous, format!("{target} means several requests")).hint("use the address")),
    }
}

/// Approves the request of the node that `target` names.
pub(crate) fn approve(cx: &mut Context, target: &str, wanted: Wanted, caller: Caller) {
    let terms = wanted.terms(cx).and_then(|terms| Ok((pending_key(cx, target)?, terms)));
    match terms {
        Ok((key, terms)) => approve_key(cx, &key, &terms, caller),
        Err(failure) => cx.fail(caller, failure),
    }
}

fn approve_key(cx: &mut Context, key: &IdentityKey, terms: &Terms, caller: Caller) {
    match cx.stack.endpoint_mut().approve(cx.now, key, terms) {
        Ok(()) => {
            let mut data = cx.stack.endpoint().trust().pin(key).map(pin_json).unwrap_or_default();
            data["status"] = "approved".into();
            save_and_answer(cx, caller, data);
            announce(cx, &Outcome::Pinned(*key));
        }
        Err(e) => cx.fail(caller, trust_failure(e, &key.fingerprint())),
    }
}

/// Rejects the request of the node that `target` names.
pub(crate) fn reject(cx: &mut Context, target: &str, note: &str, caller: Caller) {
    let key = pending_key(cx, target);
    let rejected =
        key.and_then(|key| cx.stack.endpoint_mut().reject(cx.now, &key, note).map_err(|e| trust_failure(e, target)));
    match rejected {
        Ok(()) => save_and_answer(cx, caller, json!({"status": "rejected", "node": target})),
        Err(failure) => cx.fail(caller, failure),
    }
}

/// Ends the trust with the peer that `target` names.
pub(crate) fn revoke(cx: &mut Context, target: &str, caller: Caller) {
    let key = resolve::pinned(cx.stack.endpoint().trust(), target).map(|p| p.identity);
    let revoked =
        key.and_then(|key| cx.stack.endpoint_mut().revoke(cx.now, &key).map_err(|e| trust_failure(e, target)));
    match revoked {
        Ok(pin) => {
            let data = json!({"status": "revoked", "node_id": pin.addr.node, "address": pin.addr.to_string(),
                "hostname": pin.hostname});
            save_and_answer(cx, caller, data);
            announce(cx, &Outcome::Revoked(pin.identity));
        }
        Err(failure) => cx.fail(caller, failure),
    }
}

// Waiting for trust.

/// Answers when the node is trusted, or after `timeout` that it is not.
pub(crate) fn wait(cx: &mut Context, node: &str, timeout: Duration, caller: Caller) {
    if is_trusted(cx, node) || timeout.is_zero() {
        let data = state_json(cx, node);
        return cx.reply(caller, data);
    }
    if cx.calls.tickets(|call| matches!(call, Call::AwaitTrust(_))).len() >= TRUST_WAITERS_MAX {
        return cx.fail(caller, Failure::new(Code::Full, "too many callers wait for trust"));
    }
    let deadline = cx.now + timeout.min(TRUST_WAIT_MAX);
    cx.calls.open_until(Call::AwaitTrust(AwaitTrust { node: node.into(), caller }), deadline);
}

/// The time of a caller that waits for trust is over.
pub(crate) fn expired(cx: &mut Context, call: AwaitTrust) {
    let data = state_json(cx, &call.node);
    cx.reply(call.caller, data);
}

/// Answers the callers that wait for a node that is trusted now.
fn answer_waiting(cx: &mut Context) {
    let trust = cx.stack.endpoint().trust();
    let is_over = |call: &Call| matches!(call, Call::AwaitTrust(a) if resolve::pinned(trust, &a.node).is_ok());
    for ticket in cx.calls.tickets(is_over) {
        if let Some(Call::AwaitTrust(call)) = cx.calls.take(ticket) {
            expired(cx, call);
        }
    }
}

fn is_trusted(cx: &Context, node: &str) -> bool {
    resolve::pinned(cx.stack.endpoint().trust(), node).is_ok()
}

fn state_json(cx: &Context, node: &str) -> Value {
    match resolve::pinned(cx.stack.endpoint().trust(), node) {
        Ok(pin) => json!({"node_id": pin.addr.node, "trusted": true}),
        Err(_) => json!({"node_id": node.parse::<u32>().unwrap_or(0), "trusted": false}),
    }
}

// Expiry.

/// The clockwork that ends pins after their time.
#[derive(Default)]
pub(crate) struct Expiry {
    due: Instant,
}

impl Expiry {
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        if cx.now >= self.due {
            self.due = cx.now + EXPIRY_PAUSE;
            if cx.stack.endpoint_mut().expire_trust(cx.now) {
                save(cx, Call::Forgotten);
            }
        }
    }

    pub(crate) const fn poll_timeout(&self) -> Instant {
        self.due
    }
}

fn trust_failure(error: TrustError, name: &str) -> Failure {
    match error {
        TrustError::Unknown => Failure::new(Code::NotFound, format!("{name} is neither trusted nor waiting"))
            .hint("pilotctl trust; pilotctl pending"),
        TrustError::AlreadyTrusted => Failure::new(Code::Conflict, format!("{name} is trusted already")),
        TrustError::Full => Failure::new(Code::Full, "too many requests or peers"),
        TrustError::AddressTaken => {
            Failure::new(Code::Conflict, format!("another trusted peer has the address of {name}"))
                .hint("pilotctl trust; pilotctl untrust")
        }
        TrustError::NoteTooLong => Failure::new(Code::InvalidArgument, "a justification has at most 256 bytes"),
        TrustError::Oneself => Failure::new(Code::InvalidArgument, "that is this node itself"),
    }
}
