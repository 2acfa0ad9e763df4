//! Requests for trust and their answers: the decisions of this node's owner, and those of the peers' owners.

use crate::answer::{Answer, Approved, Handshake, HandshakeSent, Pin, Rejected, Status, Trusted, Untrusted};
use crate::call::{AwaitTrust, Call};
use crate::calls::{resolve, watch};
use crate::context::Context;
use crate::disk::job::{Job, Meta};
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use crate::log::notes::{decision, name_of_key};
use crate::streams::names::name_of;
use pilot_core::identity::{IdentityKey, NodeRecord};
use pilot_core::time::Duration;
use pilot_core::trust::{Outcome, Ports, Quota, Terms, TrustError, TrustVersion};
use pilot_core::{Instant, Level};

/// Longest wait of a caller for trust.
const TRUST_WAIT_MAX: Duration = Duration::from_secs(3600);
/// Most callers that wait for trust.
pub(super) const TRUST_WAITERS_MAX: usize = 1024;
/// Pause between two looks for pins that have expired.
const EXPIRY_PAUSE: Duration = Duration::from_secs(60);

/// The terms of a trust in a caller's words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// `messages,80,8000-8010` or `all`; absent: as configured.
    pub(crate) ports: Option<String>,
    /// Unit: seconds from now.
    pub(crate) expires_s: Option<u64>,
    pub(crate) note: Option<String>,
    /// `memory=64MB,streams=1000`, or `default`; absent: as it is.
    pub(crate) quota: Option<String>,
}

impl Wanted {
    /// The terms, with this node's defaults.
    ///
    /// # Errors
    /// `InvalidArgument` for ports in another form.
    pub(crate) fn terms(self, cx: &Context) -> Result<Terms, Failure> {
        let ports = match self.ports {
            None => cx.config.default_ports.clone(),
            Some(text) => parse_ports(&text)?,
        };
        let not_after = end_of(cx, self.expires_s)?;
        Ok(Terms { ports, note: self.note.unwrap_or_default(), not_after, verified: false })
    }
}

/// Reads ports in a caller's words.
///
/// # Errors
/// `InvalidArgument` for ports in another form.
pub(super) fn parse_ports(text: &str) -> Result<Ports, Failure> {
    text.parse().map_err(|_| {
        let most = Ports::LIST_MAX;
        Failure::new(Code::InvalidArgument, format!("{text:?} names no ports, or more than {most} ranges"))
            .hint("echo, stdio, messages, events, numbers and ranges, such as messages,80,8000-8010; or all")
    })
}

/// A change of how much of this node a peer may use: `None` leaves all as it is, `Some(None)` goes back to the defaults.
pub(super) type QuotaChange = Option<Option<Quota>>;

/// Reads a quota in a caller's words.
///
/// # Errors
/// `InvalidArgument` with the reason for a text in another form.
pub(super) fn parse_quota(text: Option<&str>) -> Result<QuotaChange, Failure> {
    match text {
        None => Ok(None),
        Some("default") => Ok(Some(None)),
        Some(text) => text.parse().map(|quota| Some(Some(quota))).map_err(|why| {
            Failure::new(Code::InvalidArgument, format!("{text:?} is no quota: {why}"))
                .hint("memory=64MB,streams=1000,disk=1GB,messages=10000/day, or some of them; default takes all back")
        }),
    }
}

/// The end of a trust or a grant, so many seconds from now.
///
/// # Errors
/// `InvalidArgument` for 0.
pub(super) fn end_of(cx: &Context, expires_s: Option<u64>) -> Result<Option<u64>, Failure> {
    match expires_s {
        Some(0) => Err(Failure::new(Code::InvalidArgument, "a trust or grant ends after 1 second at the earliest")),
        after => Ok(after.map(|s| (cx.wall)().saturating_add(s))),
    }
}

/// Saves the trust book as it is now. The letters of its owner's decisions, and the answer to the caller, leave after the
/// sync: a power cut before leaves neither the book nor a letter that tells of it.
pub(crate) fn save(cx: &mut Context, answer: Option<(Caller, Answer)>) {
    let trust = cx.stack.endpoint().trust();
    let (version, bytes) = (trust.version(), trust.emit());
    cx.trust_submitted = version;
    cx.submit(Job::Put(Meta::Trust, bytes), Call::TrustSaved { version, answer });
}

/// The trust book has changed: unless a verb of the owner has saved it already, it is saved.
pub(crate) fn save_wanted(cx: &mut Context, version: TrustVersion) {
    if version > cx.trust_submitted {
        save(cx, None);
    }
}

/// The disk has synced a version of the trust book, or failed.
pub(crate) fn saved(
    cx: &mut Context,
    version: TrustVersion,
    answer: Option<(Caller, Answer)>,
    failure: Option<Failure>,
) {
    if failure.is_none() {
        cx.stack.endpoint_mut().trust_saved(cx.now, version);
    }
    match (answer, failure) {
        (Some((caller, answer)), None) => cx.reply(caller, answer),
        (Some((caller, _)), Some(failure)) => cx.fail(caller, failure),
        (None, _) => {}
    }
}

/// Writes a decision of this node's owner into the log.
fn note_decision(cx: &mut Context, key: &IdentityKey, name: Option<String>, step: &'static str) {
    cx.trace(Level::Info, |_| decision(key, name, step, "owner"));
}

fn save_and_answer(cx: &mut Context, caller: Caller, answer: impl Into<Answer>) {
    save(cx, Some((caller, answer.into())));
}

/// A message of a peer's owner has changed the trust book.
pub(crate) fn changed(cx: &mut Context, outcome: &Outcome) {
    announce(cx, outcome);
    if let (Outcome::Pending(key), true) = (outcome, cx.config.approve_all) {
        // As the configuration says: every request is approved.
        if let Ok(terms) = Wanted::default().terms(cx) {
            approve_key(cx, key, (&terms, None), (Caller::Node, Answer::from));
        }
    }
}

fn announce(cx: &mut Context, outcome: &Outcome) {
    watch::tell_trust(cx, outcome);
    answer_waiting(cx);
}

/// Asks a node for trust; a request that this node has sent before is approved instead.
pub(crate) fn request(cx: &mut Context, target: &str, record: &NodeRecord, terms: &Terms, caller: Caller) {
    if cx.stack.endpoint().trust().pending().any(|p| p.record.identity == record.identity) {
        let answer = |approved| Handshake::Trusted(approved).into();
        return approve_key(cx, &record.identity, (terms, None), (caller, answer));
    }
    let (node, verified) = (record.into(), Some(terms.verified));
    let mut answer = HandshakeSent { status: Status::Sent, node, verified, asked_for: None };
    match cx.stack.endpoint_mut().request_trust(cx.now, record, terms) {
        Ok(()) => {
            note_decision(cx, &record.identity, Some(record.hostname.clone()).filter(|name| !name.is_empty()), "asked");
            save_and_answer(cx, caller, Handshake::Asked(answer));
        }
        Err(TrustError::AlreadyTrusted) => {
            (answer.status, answer.verified) = (Status::Trusted, None);
            cx.reply(caller, Handshake::Asked(answer));
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
        [one] if one.record.hostname == target && resolve::is_taken(trust, &one.record) => {
            let text = format!("{target} is the name of a trusted peer with another key than the node that asks");
            let (address, fingerprint) = (one.record.addr, one.record.identity.fingerprint());
            let hint = format!("to trust both, name this one by its address {address} or fingerprint {fingerprint}");
            Err(Failure::new(Code::Conflict, text).hint(hint))
        }
        [one] => Ok(one.record.identity),
        [] => Err(Failure::new(Code::NotFound, format!("{target} has not asked")).hint("pilotctl pending")),
        _ => Err(Failure::new(Code::Ambiguous, format!("{target} means several requests")).hint("use the address")),
    }
}

/// Approves the request of the node that `target` names.
pub(crate) fn approve(cx: &mut Context, target: &str, wanted: Wanted, caller: Caller) {
    let quota = parse_quota(wanted.quota.as_deref());
    let terms = quota.and_then(|quota| Ok((wanted.terms(cx)?, quota, pending_key(cx, target)?)));
    match terms {
        Ok((terms, quota, key)) => approve_key(cx, &key, (&terms, quota), (caller, Answer::from)),
        Err(failure) => cx.fail(caller, failure),
    }
}

/// `answer` puts the approval into the words of the verb that it answers.
fn approve_key(
    cx: &mut Context,
    key: &IdentityKey,
    (terms, quota): (&Terms, QuotaChange),
    (caller, answer): (Caller, fn(Approved) -> Answer),
) {
    let approved = cx.stack.endpoint_mut().approve(cx.now, key, terms);
    let limited = quota.map_or(Ok(()), |quota| cx.stack.endpoint_mut().set_quota(cx.now, key, quota));
    match approved.and(limited) {
        Ok(()) => {
            let name = name_of_key(&cx.stack, key);
            note_decision(cx, key, name, "approved");
            let pin = cx.stack.endpoint().trust().pin(key).map(Pin::from);
            debug_assert!(pin.is_some(), "an approval makes a pin");
            let approved = pin.map(|pin| answer(Approved { status: Status::Approved, pin }));
            save(cx, approved.map(|answer| (caller, answer)));
            announce(cx, &Outcome::Pinned(*key));
        }
        Err(e) => cx.fail(caller, trust_failure(e, &key.fingerprint())),
    }
}

/// Rejects the request of the node that `target` names.
pub(crate) fn reject(cx: &mut Context, target: &str, note: &str, caller: Caller) {
    let rejected = pending_key(cx, target).and_then(|key| {
        let name = name_of_key(&cx.stack, &key);
        cx.stack.endpoint_mut().reject(cx.now, &key, note).map_err(|e| trust_failure(e, target))?;
        note_decision(cx, &key, name, "rejected");
        Ok(())
    });
    match rejected {
        Ok(()) => save_and_answer(cx, caller, Rejected { status: Status::Rejected, node: target.into() }),
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
            note_decision(cx, &pin.identity, Some(name_of(&pin)), "revoked");
            let answer = Untrusted {
                status: Status::Revoked,
                node_id: pin.addr.node,
                address: pin.addr.to_string(),
                hostname: pin.hostname.clone(),
            };
            save_and_answer(cx, caller, answer);
            announce(cx, &Outcome::Revoked(pin.identity));
        }
        Err(failure) => cx.fail(caller, failure),
    }
}

// Waiting for trust.

/// Answers when the node is trusted, or after `timeout` that it is not.
pub(crate) fn wait(cx: &mut Context, node: &str, timeout: Duration, caller: Caller) {
    if is_trusted(cx, node) || timeout.is_zero() {
        let answer = state(cx, node);
        return cx.reply(caller, answer);
    }
    if cx.calls.tickets(|call| matches!(call, Call::AwaitTrust(_))).len() >= TRUST_WAITERS_MAX {
        return cx.fail(caller, Failure::new(Code::Full, "too many callers wait for trust"));
    }
    let deadline = cx.now + timeout.min(TRUST_WAIT_MAX);
    cx.calls.open_until(Call::AwaitTrust(AwaitTrust { node: node.into(), caller }), deadline);
}

/// The time of a caller that waits for trust is over.
pub(crate) fn expired(cx: &mut Context, call: AwaitTrust) {
    let answer = state(cx, &call.node);
    cx.reply(call.caller, answer);
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

fn state(cx: &Context, node: &str) -> Trusted {
    match resolve::pinned(cx.stack.endpoint().trust(), node) {
        Ok(pin) => Trusted { node_id: pin.addr.node, trusted: true },
        Err(_) => Trusted { node_id: node.parse().unwrap_or(0), trusted: false },
    }
}

// Expiry.

/// The clockwork that ends pins and grants at their time.
#[derive(Default)]
pub(crate) struct Expiry {
    due: Instant,
    /// The version of the trust book for which `due` was computed.
    seen: TrustVersion,
}

impl Expiry {
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        let version = cx.stack.endpoint().trust().version();
        if cx.now >= self.due || version != self.seen {
            note_expired(cx);
            cx.stack.endpoint_mut().expire_trust(cx.now);
            // A save that failed is tried again.
            if cx.now >= self.due && !cx.stack.endpoint().trust_is_saved() {
                save(cx, None);
            }
            let endpoint = cx.stack.endpoint();
            let left = endpoint.trust().next_end().map(|at| at.saturating_sub(endpoint.wall_s(cx.now)));
            self.due = cx.now + left.map_or(EXPIRY_PAUSE, Duration::from_secs).min(EXPIRY_PAUSE);
            self.seen = endpoint.trust().version();
        }
    }

    /// The time at which [`Expiry::handle_timeout`] has something to do; at once when the ends may have changed.
    pub(crate) fn poll_timeout(&self, cx: &Context) -> Instant {
        if cx.stack.endpoint().trust().version() == self.seen { self.due } else { cx.now }
    }
}

/// Writes the expired pins and grants into the log, before they go, and tells of the grants.
fn note_expired(cx: &mut Context) {
    let (endpoint, now_s) = (cx.stack.endpoint(), cx.stack.endpoint().wall_s(cx.now));
    let has_ended = |(at, _): &(u64, Ports)| *at <= now_s;
    let regranted = endpoint.trust().pins().filter(|pin| pin.temporary.iter().any(has_ended));
    let regranted: Vec<_> = regranted.map(|pin| (pin.identity, name_of(pin))).collect();
    for (key, name) in regranted {
        cx.trace(Level::Info, |_| decision(&key, Some(name), "grant_expired", "time"));
        watch::tell_change(cx, &key, "expired", None);
    }
    if cx.trace_level < Some(Level::Info) {
        return;
    }
    let over = cx.stack.endpoint().trust().pins().filter(|pin| pin.not_after.is_some_and(|at| at <= now_s));
    let over: Vec<_> = over.map(|pin| (pin.identity, name_of(pin))).collect();
    for (key, name) in over {
        cx.trace(Level::Info, |_| decision(&key, Some(name), "expired", "time"));
    }
}

pub(super) fn trust_failure(error: TrustError, name: &str) -> Failure {
    match error {
        TrustError::Unknown => Failure::new(Code::NotFound, format!("{name} is neither trusted nor waiting"))
            .hint("pilotctl trust; pilotctl pending"),
        TrustError::AlreadyTrusted => Failure::new(Code::Conflict, format!("{name} is trusted already")),
        TrustError::Full => Failure::new(Code::Full, "too many requests, peers, ranges of ports or ends of grants"),
        TrustError::AddressTaken => {
            Failure::new(Code::Conflict, format!("another trusted peer has the address of {name}"))
                .hint("pilotctl trust; pilotctl untrust")
        }
        TrustError::NoteTooLong => Failure::new(Code::InvalidArgument, "a justification has at most 256 bytes"),
        TrustError::Oneself => Failure::new(Code::InvalidArgument, "that is this node itself"),
        TrustError::NotGranted => Failure::new(Code::NotFound, format!("{name} is granted none of these ports"))
            .hint(format!("pilotctl grant {name} --list")),
    }
}
