//! What trusted peers and this node may reach at each other: the owner's changes, and requests for more in both directions.

use crate::answer::{Answer, Approved, Asked, Handshake, HandshakeSent, Pin, Rejected, Status};
use crate::call::After;
use crate::calls::trust::{self, QuotaChange, Wanted, end_of, parse_ports, parse_quota, trust_failure};
use crate::calls::{resolve, watch};
use crate::context::Context;
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use crate::log::notes::decision;
use crate::streams::names::name_of;
use pilot_core::Level;
use pilot_core::identity::IdentityKey;
use pilot_core::trust::{Ports, Regrant, Terms, TrustError, Undo};

/// Lets a peer reach more ports, or changes how much of this node the peer may use.
pub(crate) fn grant(cx: &mut Context, target: &str, wanted: Wanted, caller: Caller) {
    let change = parse_quota(wanted.quota.as_deref()).and_then(|quota| {
        let ports = wanted.ports.as_deref().map(parse_ports).transpose()?;
        if ports.is_none() && (quota.is_none() || wanted.expires_s.is_some()) {
            return Err(Failure::new(Code::InvalidArgument, "a grant names ports, or a quota without an end"));
        }
        let end = end_of(cx, wanted.expires_s)?;
        Ok((peer(cx, target)?, ports.map(|ports| Regrant::Grant(ports, end)), quota))
    });
    match change {
        Ok((key, Some(change), quota)) => regrant(cx, &key, (&change, quota), caller),
        Ok((key, None, quota)) => limit(cx, &key, quota, caller),
        Err(failure) => cx.fail(caller, failure),
    }
}

/// Lets a peer reach fewer ports.
pub(crate) fn revoke(cx: &mut Context, target: &str, ports: &str, caller: Caller) {
    match parse_ports(ports).and_then(|ports| Ok((peer(cx, target)?, ports))) {
        Ok((key, ports)) => regrant(cx, &key, (&Regrant::Withdraw(ports), None), caller),
        Err(failure) => cx.fail(caller, failure),
    }
}

/// Approves the request of the node that `target` names: for trust, or that of a trusted peer for more ports.
pub(crate) fn approve(cx: &mut Context, target: &str, wanted: Wanted, caller: Caller) {
    let Some((key, asked)) = wish_of(cx, target) else { return trust::approve(cx, target, wanted, caller) };
    let ports = wanted.ports.as_deref().map_or(Ok(asked), parse_ports);
    let quota = parse_quota(wanted.quota.as_deref());
    match ports.and_then(|ports| Ok((ports, end_of(cx, wanted.expires_s)?, quota?))) {
        Ok((ports, end, quota)) => regrant(cx, &key, (&Regrant::Approve(ports, end), quota), caller),
        Err(failure) => cx.fail(caller, failure),
    }
}

/// Declines the request of the node that `target` names: for trust, or that of a trusted peer for more ports.
pub(crate) fn reject(cx: &mut Context, target: &str, note: &str, caller: Caller) {
    let Some((key, _)) = wish_of(cx, target) else { return trust::reject(cx, target, note, caller) };
    match cx.stack.endpoint_mut().regrant(cx.now, &key, &Regrant::Decline(note.into())) {
        Ok(()) => {
            note_change(cx, &key, "ports_rejected", None);
            let answer = Rejected { status: Status::Rejected, node: target.into() };
            trust::save(cx, After::Withdrawal(caller, answer.into(), target.into()));
        }
        Err(e) => cx.fail(caller, trust_failure(e, target)),
    }
}

/// Asks the owner of a trusted peer for ports of the peer, if some are named.
pub(crate) fn ask(cx: &mut Context, key: &IdentityKey, terms: &Terms, names_ports: bool, caller: Caller) {
    let (ports, undo) = (&terms.ports, Undo::before(cx.stack.endpoint().trust(), key));
    let asked = match (terms.quota, names_ports) {
        (Some(_), _) => {
            let text = "the node is trusted already: what it may use here is changed by a grant";
            let failure = Failure::new(Code::InvalidArgument, text).hint("pilotctl grant NODE --quota memory=64MB");
            return cx.fail(caller, failure);
        }
        (None, true) => cx.stack.endpoint_mut().wish(cx.now, key, ports, &terms.note),
        (None, false) => Err(TrustError::AlreadyTrusted),
    };
    let Some(pin) = cx.stack.endpoint().trust().pin(key) else { return };
    let answer = match asked {
        Ok(()) => Handshake::Asked(HandshakeSent {
            status: Status::Sent,
            node: Asked {
                node_id: pin.addr.node,
                address: pin.addr.to_string(),
                hostname: pin.hostname.clone(),
                fingerprint: key.fingerprint(),
            },
            verified: None,
            asked_for: Some(ports.names()),
        }),
        Err(TrustError::AlreadyTrusted) => {
            let pin = Pin::from(pin);
            return cx.reply(caller, Handshake::Trusted(Box::new(Approved { status: Status::Trusted, pin })));
        }
        Err(e) => {
            let name = name_of(pin);
            return cx.fail(caller, trust_failure(e, &name));
        }
    };
    note_change(cx, key, "asked_for_ports", Some(ports));
    trust::save_undoably(cx, undo, caller, answer);
}

fn peer(cx: &Context, target: &str) -> Result<IdentityKey, Failure> {
    let pin = resolve::pinned(cx.stack.endpoint().trust(), target);
    pin.map(|pin| pin.identity).map_err(|failure| match failure.code {
        Code::NotFound => failure.hint(format!("pilotctl trust; pilotctl handshake {target}")),
        _ => failure,
    })
}

/// The trusted peer of this name and the ports for which it asks, if it asks for any.
fn wish_of(cx: &Context, target: &str) -> Option<(IdentityKey, Ports)> {
    let pin = resolve::pinned(cx.stack.endpoint().trust(), target).ok()?;
    pin.wish.as_ref().map(|wish| (pin.identity, wish.ports.clone()))
}

/// Changes how much of this node a peer may use, and nothing else.
fn limit(cx: &mut Context, key: &IdentityKey, quota: QuotaChange, caller: Caller) {
    let undo = Undo::before(cx.stack.endpoint().trust(), key);
    set_quota(cx, key, quota);
    let Some(pin) = cx.stack.endpoint().trust().pin(key).map(Pin::from) else { return };
    trust::save_undoably(cx, undo, caller, Approved { status: Status::Granted, pin });
}

fn set_quota(cx: &mut Context, key: &IdentityKey, quota: QuotaChange) {
    if let Some(quota) = quota
        && cx.stack.endpoint_mut().set_quota(cx.now, key, quota).is_ok()
    {
        note_change(cx, key, "quota", None);
    }
}

fn regrant(cx: &mut Context, key: &IdentityKey, (change, quota): (&Regrant, QuotaChange), caller: Caller) {
    let before = cx.stack.endpoint().trust().pin(key).map(|pin| (name_of(pin), pin.reach()));
    let Some((name, before)) = before else { return };
    let undo = Undo::before(cx.stack.endpoint().trust(), key);
    if let Err(e) = cx.stack.endpoint_mut().regrant(cx.now, key, change) {
        return cx.fail(caller, trust_failure(e, &name));
    }
    let (step, status, ports) = match change {
        Regrant::Grant(ports, _) => ("granted", Status::Granted, ports),
        Regrant::Approve(ports, _) => ("granted", Status::Approved, ports),
        Regrant::Withdraw(ports) => ("withdrawn", Status::Withdrawn, ports),
        Regrant::Only(_) | Regrant::Decline(_) => return,
    };
    note_change(cx, key, step, Some(ports));
    set_quota(cx, key, quota);
    let pin = cx.stack.endpoint().trust().pin(key);
    debug_assert!(pin.is_some_and(|pin| step == "granted" || before.covers(&pin.reach())), "{step}");
    let Some(answer) = pin.map(|pin| Answer::from(Approved { status, pin: Pin::from(pin) })) else { return };
    match change {
        Regrant::Withdraw(_) => trust::save(cx, After::Withdrawal(caller, answer, name)),
        _ => trust::save_undoably(cx, undo, caller, answer),
    }
    watch::tell_change(cx, key, step, None);
}

/// Writes a decision of this node's owner into the log.
fn note_change(cx: &mut Context, key: &IdentityKey, step: &'static str, ports: Option<&Ports>) {
    cx.trace(Level::Info, |cx| {
        let name = cx.stack.endpoint().trust().pin(key).map(name_of);
        let record = decision(key, name, step, "owner");
        match ports {
            Some(ports) => record.with("ports", ports.to_string()),
            None => record,
        }
    });
}
