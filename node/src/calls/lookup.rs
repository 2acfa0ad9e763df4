//! The call that asks the rendezvous for a node's record, and the uses of the answer.

use crate::answer::{Found, Nodes, Pin, Record};
use crate::call::{Call, Lookup, Purpose};
use crate::calls::report::refusal_text;
use crate::calls::{grants, report, resolve, trust};
use crate::context::Context;
use crate::effect::{Caller, Effect};
use crate::failure::{Code, Failure};
use crate::streams::names::name_of;
use pilot_core::control::{Answer as DirectoryAnswer, Query, Refusal, Ticket as Question};
use pilot_core::identity::{IdentityKey, NodeRecord};

/// Asks for the node that `target` names.
pub(crate) fn ask(cx: &mut Context, target: &str, purpose: Purpose) {
    let query = match resolve::query(target) {
        Ok(query) => query,
        Err(failure) => return failed(cx, purpose, failure),
    };
    if let Query::Addr(addr) = &query
        && let Some(record) = cx.calls.lookups.met.iter().rev().find(|r| r.addr == *addr).cloned()
    {
        return found(cx, target, &record, purpose);
    }
    let asked = cx.stack.endpoint_mut().lookup(cx.now, query);
    wait(cx, asked, target, purpose);
}

/// Asks for the public nodes that carry a tag.
pub(crate) fn search(cx: &mut Context, tag: &str, caller: Caller) {
    let asked = cx.stack.endpoint_mut().search(cx.now, tag.to_owned());
    match asked {
        None => cx.fail(caller, no_rendezvous("other nodes")),
        asked => wait(cx, asked, tag, Purpose::Search(caller)),
    }
}

fn wait(cx: &mut Context, asked: Option<Question>, target: &str, purpose: Purpose) {
    match asked {
        Some(number) => {
            let ticket = cx.calls.open(Call::Lookup(Lookup { target: target.into(), purpose }));
            cx.calls.lookups.asked.insert(number, ticket);
        }
        None => failed(cx, purpose, no_rendezvous(target)),
    }
}

/// Finds a node: among the trusted peers, then at the rendezvous.
pub(crate) fn find(cx: &mut Context, target: &str, caller: Caller) {
    match resolve::pinned(cx.stack.endpoint().trust(), target).map(Pin::from) {
        Ok(pin) => cx.reply(caller, Found::Trusted(pin)),
        Err(_) => ask(cx, target, Purpose::Find(caller)),
    }
}

/// The rendezvous has answered, or cannot be reached (`None`).
pub(crate) fn answered(cx: &mut Context, number: Question, answer: Option<DirectoryAnswer>) {
    let Some(ticket) = cx.calls.lookups.asked.remove(&number) else { return };
    let Some(Call::Lookup(Lookup { target, purpose })) = cx.calls.take(ticket) else { return };
    match answer {
        Some(DirectoryAnswer::Found(bytes)) => match NodeRecord::parse(&bytes) {
            Ok(record) => {
                cx.calls.lookups.remember(&record);
                cx.stack.endpoint_mut().refresh(cx.now, &record);
                found(cx, &target, &record, purpose);
            }
            Err(_) => failed(cx, purpose, Failure::new(Code::Internal, "the rendezvous sent a forged record")),
        },
        Some(DirectoryAnswer::List(list)) => {
            let nodes: Vec<Record> =
                list.iter().filter_map(|b| NodeRecord::parse(b).ok()).map(|r| Record::from(&r)).collect();
            if let Purpose::Search(caller) = purpose {
                cx.reply(caller, Nodes { total: nodes.len() as u64, nodes });
            }
        }
        Some(DirectoryAnswer::Refused(Refusal::NotFound)) => {
            let text = format!("no node is called {target}, or it cannot be found that way");
            let failure = Failure::new(Code::NotFound, text);
            failed(cx, purpose, failure.hint("private nodes are found by their exact hostname"));
        }
        Some(DirectoryAnswer::Refused(why)) => failed(cx, purpose, Failure::new(Code::Conflict, refusal_text(why))),
        _ => failed(cx, purpose, no_rendezvous(&target)),
    }
}

pub(crate) fn failed(cx: &mut Context, purpose: Purpose, mut failure: Failure) {
    // A wrong clock may be the reason, and is worth a word where a first request ends.
    if let Some(skew) = report::skew(cx) {
        failure.hint = if failure.hint.is_empty() { skew } else { format!("{}; {skew}", failure.hint) };
    }
    match purpose {
        Purpose::Find(caller)
        | Purpose::Search(caller)
        | Purpose::Handshake { caller, .. }
        | Purpose::Send(caller, _) => cx.fail(caller, failure),
        Purpose::Connect { opener, .. } => cx.out.push(Effect::NotOpened(opener, failure)),
    }
}

fn found(cx: &mut Context, target: &str, record: &NodeRecord, purpose: Purpose) {
    if cx.stack.endpoint().trust().pin(&record.identity).is_some() {
        return found_peer(cx, target, record, purpose);
    }
    let untrusted = || {
        Failure::new(Code::TrustRequired, format!("{target} is not trusted: nothing was sent"))
            .hint(format!("pilotctl handshake {target}"))
    };
    match purpose {
        Purpose::Find(caller) => cx.reply(caller, Found::Stranger(record.into())),
        Purpose::Connect { opener, .. } => cx.out.push(Effect::NotOpened(opener, untrusted())),
        Purpose::Send(caller, _) => cx.fail(caller, untrusted()),
        Purpose::Search(caller) => {
            cx.fail(caller, Failure::new(Code::Internal, "the rendezvous answered another question"))
        }
        Purpose::Handshake { caller, mut terms, fingerprint, .. } => {
            let actual = record.identity.fingerprint();
            if let Some(wanted) = fingerprint {
                if wanted != actual {
                    let text = format!(
                        "the fingerprint of {target} is {actual}, not {wanted}: somebody else may have its name"
                    );
                    return cx.fail(caller, Failure::new(Code::TrustRequired, text));
                }
                terms.verified = true;
            }
            // A typed key is compared with the record's by the endpoint: no other node answers to it.
            terms.verified |= target.parse() == Ok(record.identity);
            trust::request(cx, target, record, &terms, caller);
        }
    }
}

/// The member that was asked is a peer now.
pub(crate) fn met(cx: &mut Context, target: &str, key: &IdentityKey, purpose: Purpose) {
    let pin = cx.stack.endpoint().trust().pin(key);
    let record = pin.map(|pin| NodeRecord::unsigned(pin.identity, pin.static_key, pin.addr, &pin.hostname));
    match record {
        Some(record) => found_peer(cx, target, &record, purpose),
        None => failed(cx, purpose, Failure::new(Code::TrustRequired, format!("{target} has ended the trust"))),
    }
}

/// The node that was looked up is a trusted peer: under a new name, if the trust book did not know `target`.
fn found_peer(cx: &mut Context, target: &str, record: &NodeRecord, purpose: Purpose) {
    let trust = cx.stack.endpoint().trust();
    let Some(pin) = trust.pin(&record.identity) else { return };
    if resolve::pinned(trust, target).is_err() {
        // The rendezvous has an old record, or the name is refused.
        let text = format!("the node called {target} is the trusted peer {}", name_of(pin));
        return failed(cx, purpose, Failure::new(Code::Conflict, text).hint("use that name; pilotctl trust"));
    }
    match purpose {
        Purpose::Find(caller) => cx.reply(caller, Found::Trusted(Pin::from(pin))),
        Purpose::Connect { port, early, opener } => cx.out.push(Effect::Connect(target.into(), port, early, opener)),
        Purpose::Send(caller, letter) => cx.out.push(Effect::Send(letter, caller)),
        Purpose::Handshake { caller, terms, names_ports, .. } => {
            grants::ask(cx, &record.identity, &terms, names_ports, caller);
        }
        Purpose::Search(caller) => {
            cx.fail(caller, Failure::new(Code::Internal, "the rendezvous answered another question"))
        }
    }
}

fn no_rendezvous(target: &str) -> Failure {
    Failure::new(
        Code::Unreachable,
        format!("{target} is not a trusted peer, and the rendezvous cannot be reached to look it up"),
    )
    .hint("pilotctl info shows the rendezvous; peers you trust already need none")
}
