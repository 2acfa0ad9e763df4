//! The verbs of pairing: invites of this node, and joining another one by its code.

use crate::answer::{Approved, Invited, Invites, Pin, Status, Uninvited};
use crate::call::{After, AwaitJoin, Call};
use crate::calls::groups;
use crate::calls::trust::{TRUST_WAITERS_MAX, Wanted, parse_ports, save, trust_failure};
use crate::config::RendezvousConfig;
use crate::context::Context;
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use crate::host::RendezvousHost;
use crate::log::record::Record;
use crate::underlay::rendezvous::RendezvousPlace;
use pilot_core::Level;
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::StaticKey;
use pilot_core::invite::{CANDIDATES_MAX, HOSTS_MAX, Host, InviteCode, Rendezvous};
use pilot_core::time::Duration;
use pilot_core::trust::{Invite, InviteTerms, Outcome, TrustError};
use std::net::{IpAddr, SocketAddr};

/// Lifetime of an invite for which its owner names none. Unit: seconds.
const LIFETIME_S: u64 = 3600;
/// The same for an invite to a group, and how many may join by it.
const GROUP_LIFETIME_S: u64 = 7 * 24 * 3600;
const GROUP_USES: u16 = 50;
/// Time for an inviter to answer when the caller names none, and the longest one.
const JOIN_WAIT: Duration = Duration::from_secs(60);
const JOIN_WAIT_MAX: Duration = Duration::from_secs(3600);

/// What the owner says with an invite.
pub(crate) struct InviteWish {
    pub(crate) ports: Option<String>,
    pub(crate) expires_s: Option<u64>,
    pub(crate) uses: Option<u16>,
    /// The group that the joiner enters.
    pub(crate) group: Option<String>,
    /// The code is for nodes that use this node's rendezvous.
    pub(crate) is_short: bool,
    /// The code has this node's addresses only.
    pub(crate) is_direct: bool,
}

/// How the holder of a code finds this node.
struct Ways {
    candidates: Vec<SocketAddr>,
    rendezvous: Option<Rendezvous>,
}

/// Makes an invite and its code.
pub(crate) fn invite(cx: &mut Context, place: &RendezvousPlace, wish: InviteWish, caller: Caller) {
    match try_invite(cx, place, wish) {
        // An invite that does not reach the disk has a code that is told to no caller.
        Ok(answer) => save(cx, After::Answer(caller, answer.into(), None)),
        Err(failure) => cx.fail(caller, failure),
    }
}

fn try_invite(cx: &mut Context, place: &RendezvousPlace, wish: InviteWish) -> Result<Invited, Failure> {
    let ports = match &wish.ports {
        None => cx.config.default_ports.clone(),
        Some(text) => parse_ports(text)?,
    };
    let ways = ways(cx, place, &wish)?;
    let invite = match &wish.group {
        None => {
            let lifetime_s = wish.expires_s.unwrap_or(LIFETIME_S);
            let terms = InviteTerms { ports, uses: wish.uses.unwrap_or(1), lifetime_s };
            cx.stack.endpoint_mut().invite(cx.now, terms).map_err(|e| trust_failure(e, "this node"))?
        }
        Some(name) => {
            let id = groups::find(cx, name)?.roster.id();
            let terms = (wish.uses.unwrap_or(GROUP_USES), wish.expires_s.unwrap_or(GROUP_LIFETIME_S));
            let invite = cx.stack.endpoint_mut().group_invite(cx.now, &id, terms);
            invite.map_err(|why| groups::failure(why, name))?
        }
    };
    groups::keep_address(cx);
    let expires_at = Invited::expires_at(&invite);
    let endpoint = cx.stack.endpoint();
    let code = InviteCode {
        inviter: endpoint.identity().public(),
        addr: endpoint.addr(),
        invite: invite.id,
        secret: invite.secret.clone(),
        expires: u32::try_from(expires_at).unwrap_or(u32::MAX),
        candidates: ways.candidates,
        rendezvous: ways.rendezvous,
        group: invite.group,
    };
    let text = code.emit().map_err(|e| Failure::new(Code::Internal, format!("no code can be made: {e}")))?;
    note(cx, &invite, "made");
    Ok(Invited::new(&invite, &code, text))
}

fn note(cx: &mut Context, invite: &Invite, step: &'static str) {
    let id = invite.id;
    cx.trace(Level::Info, |_| {
        let mut record = Record::new(Level::Info, "invite");
        record.push("invite", id.to_string());
        record.push("step", step);
        record
    });
}

fn ways(cx: &Context, place: &RendezvousPlace, wish: &InviteWish) -> Result<Ways, Failure> {
    let named = place.named().filter(|_| !wish.is_direct);
    if wish.is_short {
        let (key, _) = named.ok_or_else(|| {
            let text = "a short code is for nodes that use this node's rendezvous, and it has none";
            Failure::new(Code::InvalidArgument, text).hint("pilotctl invite")
        })?;
        return Ok(Ways { candidates: Vec::new(), rendezvous: Some(Rendezvous::same(key)) });
    }
    match named {
        Some((key, hosts)) if !hosts.iter().all(is_here) => {
            Ok(Ways { candidates: Vec::new(), rendezvous: Some(at(key, hosts)) })
        }
        // A rendezvous of this machine is of use to nodes of this machine; others come directly.
        named => {
            let rendezvous = named.map(|(key, _)| Rendezvous::same(key));
            let candidates = candidates(&cx.stack.endpoint().candidates());
            if candidates.is_empty() && rendezvous.is_none() {
                let text = "this node has no rendezvous and no address that another machine can reach";
                return Err(Failure::new(Code::Unreachable, text).hint("pilotctl daemon start --rendezvous KEY@HOST"));
            }
            Ok(Ways { candidates, rendezvous })
        }
    }
}

fn at(key: &StaticKey, hosts: &[RendezvousHost]) -> Rendezvous {
    let host = |host: &RendezvousHost| match host.name.parse::<IpAddr>() {
        Ok(ip) => Host::At(SocketAddr::new(ip, host.port)),
        Err(_) => Host::Name(host.name.clone(), host.port),
    };
    Rendezvous::At(*key, hosts.iter().filter(|host| !is_here(host)).take(HOSTS_MAX).map(host).collect())
}

/// True for a place that only this machine reaches.
fn is_here(host: &RendezvousHost) -> bool {
    host.name == "localhost" || host.name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// The addresses for a code: of the first few that lead here from another machine, those of IPv4 first, since they are short.
fn candidates(all: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_link_local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let mut list: Vec<_> = all.iter().copied().filter(|addr| addr.port() != 0 && !is_link_local(addr.ip())).collect();
    list.sort_by_key(SocketAddr::is_ipv6);
    if list.iter().any(|addr| !addr.ip().is_loopback()) {
        list.retain(|addr| !addr.ip().is_loopback());
    }
    list.truncate(CANDIDATES_MAX);
    list
}

/// Lists the invites.
pub(crate) fn list(cx: &Context) -> Invites {
    Invites { invites: cx.stack.endpoint().trust().invites().map(Into::into).collect() }
}

/// Withdraws the invite with this number.
pub(crate) fn uninvite(cx: &mut Context, number: &str, caller: Caller) {
    let gone = || Failure::new(Code::NotFound, format!("no invite {number:?} is open")).hint("pilotctl invites");
    let id = number.parse().map_err(|_| gone());
    let withdrawn = id.and_then(|id| cx.stack.endpoint_mut().withdraw_invite(cx.now, id).map_err(|_| gone()));
    match withdrawn {
        Ok(()) => {
            let answer = Uninvited { status: Status::Withdrawn, invite: number.into() };
            save(cx, After::Withdrawal(caller, answer.into(), format!("invite {number}")));
        }
        Err(failure) => cx.fail(caller, failure),
    }
}

// Joining.

/// Joins the node that has made a code; answered once that has answered, or after `timeout`.
pub(crate) fn join(cx: &mut Context, text: &str, wanted: Wanted, timeout: Option<Duration>, caller: Caller) {
    let code = text.parse::<InviteCode>().map_err(|e| {
        Failure::new(Code::InvalidArgument, e.to_string()).hint("copy the whole line that pilotctl invite has printed")
    });
    let terms = wanted.terms(cx);
    let (code, terms) = match (code, terms) {
        (Ok(code), Ok(terms)) => (code, terms),
        (Err(failure), _) | (_, Err(failure)) => return cx.fail(caller, failure),
    };
    if cx.calls.tickets(|call| matches!(call, Call::AwaitJoin(_))).len() >= TRUST_WAITERS_MAX {
        return cx.fail(caller, Failure::new(Code::Full, "too many callers wait for trust"));
    }
    let deadline = cx.now + timeout.unwrap_or(JOIN_WAIT).min(JOIN_WAIT_MAX);
    advance(cx, AwaitJoin { code: Box::new(code), terms, is_asked: false, deadline, caller });
}

/// Asks the inviter as soon as this node can be answered: directly at once, and by letter once the rendezvous has given this
/// node its address.
fn advance(cx: &mut Context, mut call: AwaitJoin) {
    let endpoint = cx.stack.endpoint();
    let is_ready = matches!(endpoint.directory_state(), DirectoryState::Ready(_));
    let is_meant = |key: &StaticKey| call.code.rendezvous.as_ref().is_some_and(|rendezvous| rendezvous.is(key));
    // A rendezvous has no address while its name is looked up, and may be the one in the code.
    let may_be_meant = endpoint.rendezvous_address().is_none_or(|(key, _)| is_meant(&key));
    let has_rendezvous = cx.config.rendezvous != RendezvousConfig::None;
    if call.code.candidates.is_empty() && has_rendezvous && may_be_meant && !is_ready {
        return wait(cx, call);
    }
    match cx.stack.endpoint_mut().join(cx.now, &call.code, &call.terms) {
        Ok(()) => {
            call.is_asked = true;
            groups::keep_address(cx);
            save(cx, After::Nothing); // the request leaves after that
            wait(cx, call);
        }
        Err(TrustError::AlreadyTrusted) => answer(cx, call),
        Err(e) => cx.fail(call.caller, trust_failure(e, &call.code.inviter.fingerprint())),
    }
}

fn wait(cx: &mut Context, call: AwaitJoin) {
    let deadline = call.deadline;
    cx.calls.open_until(Call::AwaitJoin(call), deadline);
}

/// The rendezvous has been reached, or lost.
pub(crate) fn directory_changed(cx: &mut Context) {
    for ticket in cx.calls.tickets(|call| matches!(call, Call::AwaitJoin(call) if !call.is_asked)) {
        if let Some(Call::AwaitJoin(call)) = cx.calls.take(ticket) {
            advance(cx, call);
        }
    }
}

/// Trust has changed: answers the callers that waited for this inviter.
pub(crate) fn settled(cx: &mut Context, outcome: &Outcome) {
    let (Outcome::Pinned(key) | Outcome::JoinRefused(key, _)) = outcome else { return };
    for ticket in cx.calls.tickets(|call| matches!(call, Call::AwaitJoin(call) if call.code.inviter == *key)) {
        let Some(Call::AwaitJoin(call)) = cx.calls.take(ticket) else { continue };
        match outcome {
            Outcome::JoinRefused(_, why) => {
                let hint = "ask for another code: pilotctl invite on the other machine";
                cx.fail(call.caller, Failure::new(Code::TrustRequired, why.to_string()).hint(hint));
            }
            _ => answer(cx, call),
        }
    }
}

/// Tells a caller that the inviter is trusted.
fn answer(cx: &mut Context, call: AwaitJoin) {
    match cx.stack.endpoint().trust().pin(&call.code.inviter).map(Pin::from) {
        Some(pin) => save(cx, After::Answer(call.caller, Approved { status: Status::Trusted, pin }.into(), None)),
        None => cx.fail(call.caller, Failure::new(Code::TrustRequired, "the inviter has ended the trust")),
    }
}

/// The time of a caller that joins is over. A request that has left stands.
pub(crate) fn expired(cx: &mut Context, call: AwaitJoin) {
    if cx.stack.endpoint().trust().pin(&call.code.inviter).is_some() {
        return answer(cx, call); // the owner has approved the inviter's own request meanwhile
    }
    let state = cx.stack.endpoint().directory_state();
    let is_cut_off = call.code.rendezvous.is_some() && !matches!(state, DirectoryState::Ready(_));
    let failure = if is_cut_off && call.code.candidates.is_empty() {
        Failure::new(Code::Unreachable, "the rendezvous in the code does not answer").hint("pilotctl doctor")
    } else {
        let text = "the inviter has not answered; the request stands until it does";
        Failure::new(Code::Timeout, text).hint("pilotctl trust shows whether it has been answered")
    };
    cx.fail(call.caller, failure);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_the_addresses_that_other_machines_reach_and_loopback_only_without_any() {
        let addrs = |list: &[&str]| list.iter().map(|a| a.parse().expect("an address")).collect::<Vec<SocketAddr>>();
        let all = addrs(&["[fe80::1]:9", "[fd00::1]:9", "127.0.0.1:9", "10.0.0.1:9", "169.254.0.1:9", "192.0.2.1:0"]);
        assert_eq!(candidates(&all), addrs(&["10.0.0.1:9", "[fd00::1]:9"]));
        assert_eq!(candidates(&addrs(&["127.0.0.1:9"])), addrs(&["127.0.0.1:9"]));
        let many = vec![SocketAddr::from(([10, 0, 0, 1], 9)); 9];
        assert_eq!(candidates(&many).len(), CANDIDATES_MAX);
    }

    #[test]
    fn a_rendezvous_of_this_machine_is_in_no_code() {
        let host = |text: &str| text.parse::<RendezvousHost>().expect("a host");
        for here in ["localhost", "127.0.0.1:9", "[::1]", "[::]:9000"] {
            assert!(is_here(&host(here)), "{here}");
        }
        assert!(!is_here(&host("rendezvous.example")) && !is_here(&host("10.0.0.1")));
        let key = StaticKey([1; 32]);
        let Rendezvous::At(_, hosts) = at(&key, &[host("127.0.0.1"), host("a.example:7"), host("[2001:db8::1]")])
        else {
            panic!("a place")
        };
        let address = Host::At("[2001:db8::1]:9000".parse().expect("an address"));
        assert_eq!(hosts, [Host::Name("a.example".into(), 7), address]);
    }
}
