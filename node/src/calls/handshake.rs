//! The verb `handshake`: asks the owner of another node for trust.

use crate::answer::{Approved, Handshake, Pin, Status};
use crate::call::Purpose;
use crate::calls::trust::Wanted;
use crate::calls::{lookup, resolve};
use crate::context::Context;
use crate::effect::Caller;

/// Asks the node that `target` names (`NAME`, or `NAME#FINGERPRINT` to check its key) for trust.
pub(crate) fn handshake(cx: &mut Context, target: &str, wanted: Wanted, caller: Caller) {
    let terms = match wanted.terms(cx) {
        Ok(terms) => terms,
        Err(failure) => return cx.fail(caller, failure),
    };
    let (name, fingerprint) = match target.split_once('#') {
        Some((name, fingerprint)) => (name, Some(fingerprint.to_owned())),
        None => (target, None),
    };
    match resolve::pinned(cx.stack.endpoint().trust(), name).map(Pin::from) {
        Ok(pin) => cx.reply(caller, Handshake::Trusted(Approved { status: Status::Trusted, pin })),
        Err(_) => lookup::ask(cx, name, Purpose::Handshake { caller, terms, fingerprint }),
    }
}
