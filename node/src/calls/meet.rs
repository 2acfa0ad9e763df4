//! Owns the meeting of two members of a group, for which a call to one of them waits.

use crate::call::{After, Call, Lookup, Meet, Purpose};
use crate::calls::trust::{TRUST_WAITERS_MAX, save};
use crate::calls::{groups, lookup, resolve};
use crate::context::Context;
use crate::failure::{Code, Failure};
use pilot_core::group::GroupId;
use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_core::trust::{Outcome, TrustBook};

/// Time for a member to answer. Source: own choice, many times a round trip of letters.
const MEET_WAIT: Duration = Duration::from_secs(10);

/// The member of a group of this node, not a peer yet, that a caller means: by `name.group`, or by an address or key.
fn member_meant(book: &TrustBook, text: &str, now_s: u64) -> Option<(GroupId, IdentityKey)> {
    if let Some((id, row)) = book.member_named(text, now_s) {
        return Some((id, row.identity));
    }
    book.groups().find_map(|group| {
        let judge = group.roster.judge(now_s);
        let row = judge.members().find(|row| resolve::is_called(text, row.addr, "", &row.identity))?;
        Some((group.roster.id(), row.identity))
    })
}

/// Goes on with a call to a node that is no peer by this name: meets it when it is a member, and asks the rendezvous otherwise.
pub(crate) fn ask(cx: &mut Context, target: &str, purpose: Purpose) {
    if let Some(purpose) = meet(cx, Lookup { target: target.into(), purpose }) {
        lookup::ask(cx, target, purpose);
    }
}

/// Meets the member that a call is for; gives the purpose back when it is for no member.
fn meet(cx: &mut Context, lookup: Lookup) -> Option<Purpose> {
    let endpoint = cx.stack.endpoint();
    let meant = member_meant(endpoint.trust(), &lookup.target, endpoint.group_time(cx.now));
    let Some((id, key)) = meant.filter(|(_, key)| endpoint.trust().pin(key).is_none()) else {
        return Some(lookup.purpose);
    };
    if cx.calls.tickets(|call| matches!(call, Call::Meet(_))).len() >= TRUST_WAITERS_MAX {
        lookup::failed(cx, lookup.purpose, Failure::new(Code::Full, "too many calls wait for members"));
        return None;
    }
    match cx.stack.endpoint_mut().meet_member(cx.now, &id, &key) {
        Ok(()) => {
            save(cx, After::Nothing); // the request leaves after that
            let deadline = cx.now + MEET_WAIT;
            cx.calls.open_until(Call::Meet(Meet { key, lookup }), deadline);
        }
        Err(why) => lookup::failed(cx, lookup.purpose, groups::failure(why, &lookup.target)),
    }
    None
}

/// Trust has changed: goes on with the calls that waited for this member.
pub(crate) fn settled(cx: &mut Context, outcome: &Outcome) {
    let (Outcome::Pinned(key) | Outcome::JoinRefused(key, _)) = outcome else { return };
    for ticket in cx.calls.tickets(|call| matches!(call, Call::Meet(meet) if meet.key == *key)) {
        let Some(Call::Meet(Meet { lookup, .. })) = cx.calls.take(ticket) else { continue };
        match outcome {
            Outcome::JoinRefused(_, why) => {
                let failure = Failure::new(Code::TrustRequired, format!("{}: {why}", lookup.target));
                lookup::failed(cx, lookup.purpose, failure.hint("pilotctl group list"));
            }
            _ => lookup::met(cx, &lookup.target, key, lookup.purpose),
        }
    }
}

/// The member has not answered in time. The request stands.
pub(crate) fn expired(cx: &mut Context, Meet { lookup, .. }: Meet) {
    let text = format!("{} has not answered; the meeting goes on when it is back", lookup.target);
    lookup::failed(cx, lookup.purpose, Failure::new(Code::Timeout, text).hint("pilotctl info"));
}
