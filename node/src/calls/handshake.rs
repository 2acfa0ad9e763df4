//! The verb `handshake`: asks the owner of another node for trust, or the owner of a trusted peer for ports.

use crate::call::Purpose;
use crate::calls::trust::Wanted;
use crate::calls::{grants, lookup, resolve, trust};
use crate::context::Context;
use crate::effect::Caller;
use pilot_core::identity::{IdentityKey, NodeRecord};

/// Asks the node that `target` names (`NAME`, or `NAME#FINGERPRINT` to check its key) for trust; a trusted peer for ports, if
/// some are named.
pub(crate) fn handshake(cx: &mut Context, target: &str, wanted: Wanted, caller: Caller) {
    let names_ports = wanted.ports.is_some();
    let terms = match wanted.terms(cx) {
        Ok(terms) => terms,
        Err(failure) => return cx.fail(caller, failure),
    };
    let (name, fingerprint) = match target.split_once('#') {
        Some((name, fingerprint)) => (name, Some(fingerprint.to_owned())),
        None => (target, None),
    };
    match resolve::pinned(cx.stack.endpoint().trust(), name).map(|pin| pin.identity) {
        Ok(key) => match waiting(cx, &key).filter(|_| !names_ports) {
            Some(record) => trust::request(cx, name, &record, &terms, caller),
            None => grants::ask(cx, &key, &terms, names_ports, caller),
        },
        Err(_) => lookup::ask(cx, name, Purpose::Handshake { caller, terms, fingerprint, names_ports }),
    }
}

/// The record of a trusted peer that waits for a new pair secret, since it has lost that of its pin.
fn waiting(cx: &Context, key: &IdentityKey) -> Option<NodeRecord> {
    let pending = cx.stack.endpoint().trust().pending().find(|request| request.record.identity == *key);
    pending.map(|request| request.record.clone())
}
