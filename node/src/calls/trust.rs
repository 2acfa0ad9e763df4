//! Requests for trust and their answers: the decisions of this node's owner, and those of the peers' owners.

use crate::answer::{Answer, Approved, Handshake, HandshakeSent, Pin, Rejected, Status, Trusted, Untrusted};
use crate::call::{After, AwaitTrust, Call};
use crate::calls::{resolve, watch};
use crate::context::Context;
use crate::disk::job::{Job, Meta};
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use crate::log::notes::{decision, name_of_key};
use crate::platform::StepWatch;
use crate::streams::names::name_of;
use pilot_core::identity::{IdentityKey, NodeRecord};
use pilot_core::time::{Duration, earliest};
use pilot_core::trust::{Outcome, Ports, Quota, Regrant, Terms, TrustError, TrustVersion, Undo};
use pilot_core::{Instant, Level};

/// Longest wait of a caller for trust.
const TRUST_WAIT_MAX: Duration = Duration::from_secs(3600);
/// Most callers that wait for trust.
pub(super) const TRUST_WAITERS_MAX: usize = 1024;
/// Longest trust and grant with an end. Unit: seconds (a hundred years). Source: own choice; a number that is far greater is
/// a mistake, or means no end.
const EXPIRES_MAX_S: u64 = 100 * 365 * 24 * 3600;
/// Pause between two saves that no owner asked for: strangers cause no more. Source: `docs/trust.md`.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
/// The same while a trusted peer waits for the save with its first stream. Source: as above.
const SAVE_PAUSE_URGENT: Duration = Duration::from_millis(20);

/// Time from a peer's new path to the look at the peers' places: a direct path mostly follows the relay. Source: own choice.
const PLACES_SETTLING: Duration = Duration::from_secs(1);
/// Pause between two such looks. Source: `docs/paths.md`, "Without the rendezvous".
const PLACES_PAUSE: Duration = Duration::from_secs(60);

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
    /// `InvalidArgument` for ports, an end or a quota in another form.
    pub(crate) fn terms(self, cx: &Context) -> Result<Terms, Failure> {
        let ports = match self.ports {
            None => cx.config.default_ports.clone(),
            Some(text) => parse_ports(&text)?,
        };
        let not_after = end_of(cx, self.expires_s)?;
        let quota = parse_quota(self.quota.as_deref())?.map(Option::unwrap_or_default);
        Ok(Terms { ports, note: self.note.unwrap_or_default(), not_after, verified: false, quota })
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
/// `InvalidArgument` for 0, and for more than [`EXPIRES_MAX_S`].
pub(super) fn end_of(cx: &Context, expires_s: Option<u64>) -> Result<Option<u64>, Failure> {
    match expires_s {
        None => Ok(None),
        Some(after) if (1..=EXPIRES_MAX_S).contains(&after) => Ok(Some(cx.stack.endpoint().wall_s(cx.now) + after)),
        Some(after) => {
            let text = format!("a trust or grant cannot end after {after} seconds: from 1 second to 100 years");
            Err(Failure::new(Code::InvalidArgument, text).hint("without --expires there is no end"))
        }
    }
}

/// Saves the trust book as it is now. The letters of its owner's decisions, and the answer to the caller, leave after the
/// sync: a power cut before leaves neither the book nor a letter that tells of it.
pub(crate) fn save(cx: &mut Context, after: After) {
    let trust = cx.stack.endpoint().trust();
    let (version, bytes) = (trust.version(), trust.emit());
    cx.trust_submitted = version;
    cx.trust_save_at = None;
    cx.submit(Job::Put(Meta::Trust, bytes), Call::TrustSaved { version, after });
}

/// The trust book has changed: unless a verb of the owner has saved it already, it is saved, once in a [`SAVE_PAUSE`] or
/// [`SAVE_PAUSE_URGENT`].
pub(crate) fn save_wanted(cx: &mut Context, version: TrustVersion) {
    if version <= cx.trust_submitted {
        return;
    }
    let pause = if cx.stack.endpoint().trust_save_is_urgent() { SAVE_PAUSE_URGENT } else { SAVE_PAUSE };
    match cx.trust_saved_unasked.map(|at| at + pause).filter(|at| *at > cx.now) {
        Some(at) => cx.trust_save_at = earliest(Some(at), cx.trust_save_at),
        None => {
            cx.trust_saved_unasked = Some(cx.now);
            save(cx, After::Nothing);
        }
    }
}

/// A peer has come up, or has another path: its place is on disk within [`PLACES_PAUSE`], and mostly at once.
pub(crate) fn place_changed(cx: &mut Context) {
    let next = cx.places_noted.map_or(Instant::ZERO, |at| at + PLACES_PAUSE);
    cx.places_at.get_or_insert(next.max(cx.now + PLACES_SETTLING));
}

/// The disk has synced a version of the trust book, or failed.
pub(crate) fn saved(cx: &mut Context, version: TrustVersion, after: After, failure: Option<Failure>) {
    let Some(failure) = failure else {
        cx.stack.endpoint_mut().trust_saved(cx.now, version);
        if let After::Answer(caller, answer, _) | After::Withdrawal(caller, answer, _) = after {
            cx.reply(caller, answer);
        }
        return;
    };
    // Everything that waits for the disk is saved as soon as there is room again.
    cx.trust_save_at = Some(cx.now + SAVE_PAUSE);
    match after {
        After::Nothing => {}
        After::Answer(caller, _, undo) => {
            if let Some(undo) = undo {
                cx.stack.endpoint_mut().undo(cx.now, *undo);
            }
            cx.fail(caller, failure);
        }
        After::Withdrawal(caller, _, name) => {
            let text = format!("{name} has lost this at once, but that is not on disk: {}", failure.message);
            let hint = "the daemon saves it as soon as there is room; until then a restart would undo it";
            cx.fail(caller, Failure::new(failure.code, text).hint(hint));
        }
    }
}

/// Saves the newest time that this node has used, at an orderly end.
pub(crate) fn save_times(cx: &mut Context) {
    let used_us = cx.stack.endpoint().used_us();
    save_ceiling(cx, used_us);
}

/// Saves a time that this node will not have used when it starts again.
pub(crate) fn save_ceiling(cx: &mut Context, ceiling_us: u64) {
    cx.submit(Job::Put(Meta::Times, ceiling_us.to_le_bytes().to_vec()), Call::TimesSaved);
}

/// The disk has saved that time, or failed.
pub(crate) fn ceiling_saved(cx: &mut Context, failure: Option<&Failure>) {
    if failure.is_some() {
        cx.stack.endpoint_mut().times_not_saved();
    }
}

/// Writes a decision of this node's owner into the log.
fn note_decision(cx: &mut Context, key: &IdentityKey, name: Option<String>, step: &'static str) {
    cx.trace(Level::Info, |_| decision(key, name, step, "owner"));
}

/// A message of a peer's owner has changed the trust book.
pub(crate) fn changed(cx: &mut Context, outcome: &Outcome) {
    announce(cx, outcome);
    if let (Outcome::Pending(key), true) = (outcome, cx.config.approve_all) {
        // As the configuration says: every request is approved.
        if let Ok(terms) = Wanted::default().terms(cx) {
            approve_key(cx, key, &terms.into(), (Caller::Node, Answer::from));
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
        let answer = |approved| Handshake::Trusted(Box::new(approved)).into();
        return approve_key(cx, &record.identity, &terms.clone().into(), (caller, answer));
    }
    let (node, verified) = (record.into(), Some(terms.verified));
    let mut answer = HandshakeSent { status: Status::Sent, node, verified, asked_for: None };
    let undo = Undo::before(cx.stack.endpoint().trust(), &record.identity);
    match cx.stack.endpoint_mut().request_trust(cx.now, record, terms) {
        Ok(()) => {
            note_decision(cx, &record.identity, Some(record.hostname.clone()).filter(|name| !name.is_empty()), "asked");
            save_undoably(cx, undo, caller, Handshake::Asked(answer));
        }
        Err(TrustError::AlreadyTrusted) => {
            (answer.status, answer.verified) = (Status::Trusted, None);
            cx.reply(caller, Handshake::Asked(answer));
        }
        Err(e) => cx.fail(caller, trust_failure(e, target)),
    }
}

/// Saves a decision that gives something, so that it is undone if it does not reach the disk.
pub(super) fn save_undoably(cx: &mut Context, undo: Undo, caller: Caller, answer: impl Into<Answer>) {
    let undo = undo.after(cx.stack.endpoint().trust());
    save(cx, After::Answer(caller, answer.into(), Some(Box::new(undo))));
}

/// Takes back what the node that `target` names was asked for.
pub(crate) fn cancel(cx: &mut Context, target: &str, caller: Caller) {
    let trust = cx.stack.endpoint().trust();
    let fits: Vec<_> = trust
        .outgoing()
        .filter(|record| resolve::is_called(target, record.addr, &record.hostname, &record.identity))
        .map(|record| (record.identity, record.hostname.clone()))
        .collect();
    let asked = match (fits.as_slice(), resolve::pinned(trust, target)) {
        ([one], _) => Ok(one.clone()),
        (_, Ok(pin)) if pin.asked.is_some() => Ok((pin.identity, name_of(pin))),
        ([], _) => Err(Failure::new(Code::NotFound, format!("{target} was not asked")).hint("pilotctl trust")),
        _ => Err(Failure::new(Code::Ambiguous, format!("{target} means several requests")).hint("use the address")),
    };
    let cancelled = asked.and_then(|(key, name)| {
        cx.stack.endpoint_mut().cancel(cx.now, &key).map_err(|e| trust_failure(e, target))?;
        note_decision(cx, &key, Some(name).filter(|name| !name.is_empty()), "cancelled");
        Ok(())
    });
    match cancelled {
        Ok(()) => {
            let answer = Rejected { status: Status::Cancelled, node: target.into() };
            save(cx, After::Withdrawal(caller, answer.into(), target.into()));
        }
        Err(failure) => cx.fail(caller, failure),
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

/// What an owner says with an approval.
struct Approval {
    terms: Terms,
    quota: QuotaChange,
    /// The ports are the owner's own words, so that a node with a pin may reach them and no others.
    names_ports: bool,
}

impl From<Terms> for Approval {
    fn from(terms: Terms) -> Self {
        Self { terms, quota: None, names_ports: false }
    }
}

/// Approves the request of the node that `target` names.
pub(crate) fn approve(cx: &mut Context, target: &str, wanted: Wanted, caller: Caller) {
    let (quota, names_ports) = (parse_quota(wanted.quota.as_deref()), wanted.ports.is_some());
    let approval = quota.and_then(|quota| {
        let terms = wanted.terms(cx)?;
        Ok((Approval { terms, quota, names_ports }, pending_key(cx, target)?))
    });
    match approval {
        Ok((approval, key)) => approve_key(cx, &key, &approval, (caller, Answer::from)),
        Err(failure) => cx.fail(caller, failure),
    }
}

/// `answer` puts the approval into the words of the verb that it answers.
fn approve_key(
    cx: &mut Context,
    key: &IdentityKey,
    Approval { terms, quota, names_ports }: &Approval,
    (caller, answer): (Caller, fn(Approved) -> Answer),
) {
    let trust = cx.stack.endpoint().trust();
    let (undo, is_known) = (Undo::before(trust, key), trust.pin(key).is_some());
    let (now, endpoint) = (cx.now, cx.stack.endpoint_mut());
    let approved = endpoint
        .approve(now, key, terms)
        .and_then(|()| quota.map_or(Ok(()), |quota| endpoint.set_quota(now, key, quota)))
        .and_then(|()| match is_known && *names_ports {
            true => endpoint.regrant(now, key, &Regrant::Only(terms.ports.clone())),
            false => Ok(()),
        });
    match approved {
        Ok(()) => {
            let name = name_of_key(&cx.stack, key);
            note_decision(cx, key, name, "approved");
            let pin = cx.stack.endpoint().trust().pin(key).map(Pin::from);
            debug_assert!(pin.is_some(), "an approval makes a pin");
            // What the configuration decides is saved as what others cause is.
            if let Some(pin) = pin.filter(|_| !matches!(caller, Caller::Node)) {
                save_undoably(cx, undo, caller, answer(Approved { status: Status::Approved, pin }));
            }
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
        Ok(()) => {
            let answer = Rejected { status: Status::Rejected, node: target.into() };
            save(cx, After::Withdrawal(caller, answer.into(), target.into()));
        }
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
            save(cx, After::Withdrawal(caller, answer.into(), name_of(&pin)));
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

/// The clockwork that ends pins and grants at their second, and saves what could not be saved, and the peers' places.
#[derive(Default)]
pub(crate) struct Expiry {
    /// When the next pin or grant ends. Unit: seconds since 1970.
    next_end_s: Option<u64>,
    /// The version of the trust book for which `next_end_s` was computed.
    seen: Option<TrustVersion>,
}

impl Expiry {
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        self.look(cx);
        let endpoint = cx.stack.endpoint();
        if self.next_end_s.is_some_and(|at| at <= endpoint.wall_s(cx.now)) {
            note_expired(cx);
            if cx.stack.endpoint_mut().expire_trust(cx.now) {
                save(cx, After::Nothing); // peers are told after that
            }
            self.look(cx);
        }
        if cx.stack.endpoint_mut().count_time(cx.now) {
            save(cx, After::Nothing);
        }
        if cx.places_at.take_if(|at| *at <= cx.now).is_some() {
            cx.places_noted = Some(cx.now);
            if cx.stack.endpoint_mut().note_places() {
                save(cx, After::Nothing);
            }
        }
        if cx.trust_save_at.is_some_and(|at| at <= cx.now) {
            cx.trust_saved_unasked = Some(cx.now);
            save(cx, After::Nothing);
        }
    }

    fn look(&mut self, cx: &Context) {
        let trust = cx.stack.endpoint().trust();
        if self.seen != Some(trust.version()) {
            (self.seen, self.next_end_s) = (Some(trust.version()), trust.next_end());
        }
    }

    /// The time at which [`Expiry::handle_timeout`] has something to do; at once when the ends may have changed.
    pub(crate) fn poll_timeout(&self, cx: &Context) -> Option<Instant> {
        let endpoint = cx.stack.endpoint();
        if self.seen != Some(endpoint.trust().version()) {
            return Some(cx.now);
        }
        let end = self.next_end_s.map(|at| {
            let left_us = at.saturating_mul(1_000_000).saturating_sub(endpoint.wall_us(cx.now));
            let left = Duration::from_micros(left_us);
            cx.now + StepWatch::look_every().map_or(left, |pause| pause.min(left))
        });
        earliest(end, earliest(cx.trust_save_at, cx.places_at))
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
        TrustError::OutOfRange => Failure::new(Code::InvalidArgument, "an invite is for 1 to 1000 nodes and 30 days at most"),
        TrustError::NoWay => Failure::new(Code::Unreachable, format!("the code of {name} leads over another rendezvous"))
            .hint("pilotctl daemon start --join CODE on a machine without a daemon, or ask for a code of pilotctl invite --direct"),
        TrustError::NotGranted => Failure::new(Code::NotFound, format!("{name} is granted none of these ports"))
            .hint(format!("pilotctl grant {name} --list")),
    }
}
