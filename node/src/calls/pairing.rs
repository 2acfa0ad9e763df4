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
use pilot_core::identity::{IdentityKey, StaticKey};
use pilot_core::invite::{CANDIDATES_MAX, EnrolmentCode, HOSTS_MAX, Host, InviteCode, InviteId, JoinCode, Rendezvous};
use pilot_core::time::Duration;
use pilot_core::trust::{GroupError, InviteTerms, JoinRefusal, Outcome, Pin as CorePin, TrustError};
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
    /// Any member of that group may answer: no admin need be online.
    pub(crate) is_offline: bool,
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
    if let Some(name) = wish.group.as_ref().filter(|_| wish.is_offline) {
        return try_enrolment(cx, name, &wish, ways);
    }
    let invite = match &wish.group {
        None => {
            let lifetime_s = wish.expires_s.unwrap_or(LIFETIME_S);
            let terms = InviteTerms { ports, uses: wish.uses.unwrap_or(1), lifetime_s };
            cx.stack.endpoint_mut().invite(cx.now, terms).map_err(|e| trust_failure(e, "this node"))?
        }
        Some(name) => {
            let id = groups::find(cx, name)?.roster.id();
            let terms = group_terms(&wish);
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
    note(cx, invite.id, "made");
    Ok(Invited::new(&invite, &code, text))
}

fn group_terms(wish: &InviteWish) -> (u16, u64) {
    (wish.uses.unwrap_or(GROUP_USES), wish.expires_s.unwrap_or(GROUP_LIFETIME_S))
}

/// Makes a code of a group of which any member answers.
fn try_enrolment(cx: &mut Context, name: &str, wish: &InviteWish, ways: Ways) -> Result<Invited, Failure> {
    let id = groups::find(cx, name)?.roster.id();
    let made = cx.stack.endpoint_mut().make_enrolment(cx.now, &id, group_terms(wish));
    let (enrolment, seed) = made.map_err(|why| match why {
        GroupError::NoKey => groups::failure(why, name).hint("the node that has the group key makes such codes"),
        _ => groups::failure(why, name),
    })?;
    let contacts = cx.stack.endpoint().contacts(cx.now, &id);
    let group = groups::find(cx, name)?;
    let key_row = group.roster.key_row().cloned();
    let Ways { candidates, rendezvous } = ways;
    let number = InviteId(enrolment.number());
    let mut code = EnrolmentCode {
        group: group.roster.group().clone(),
        key_row,
        seed,
        enrolment,
        contacts,
        candidates,
        rendezvous,
    };
    // With many hosts of a rendezvous there is room for fewer members.
    let text = loop {
        match code.emit() {
            Ok(text) => break text,
            Err(_) if code.contacts.len() > 1 => _ = code.contacts.pop(),
            Err(e) => return Err(Failure::new(Code::Internal, format!("no code can be made: {e}"))),
        }
    };
    note(cx, number, "made");
    Ok(Invited::of_enrolment(&code, text))
}

fn note(cx: &mut Context, id: InviteId, step: &'static str) {
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

/// Withdraws the invite with this number, of this node or of a group of which it is an admin.
pub(crate) fn uninvite(cx: &mut Context, number: &str, caller: Caller) {
    match try_uninvite(cx, number) {
        Ok(()) => {
            let answer = Uninvited { status: Status::Withdrawn, invite: number.into() };
            save(cx, After::Withdrawal(caller, answer.into(), format!("invite {number}")));
        }
        Err(failure) => cx.fail(caller, failure),
    }
}

fn try_uninvite(cx: &mut Context, number: &str) -> Result<(), Failure> {
    let gone = || Failure::new(Code::NotFound, format!("no invite {number:?} is open")).hint("pilotctl invites");
    let id: InviteId = number.parse().map_err(|_| gone())?;
    if cx.stack.endpoint_mut().withdraw_invite(cx.now, id).is_ok() {
        return Ok(());
    }
    cx.stack.endpoint_mut().withdraw_enrolment(cx.now, id).map_err(|why| match why {
        GroupError::Unknown => gone(),
        _ => groups::failure(why, &format!("invite {number}")),
    })
}

// Joining.

/// Joins the node that has made a code, or the group that it is for; answered once that node or a member has answered, or after
/// `timeout`.
pub(crate) fn join(cx: &mut Context, text: &str, wanted: Wanted, timeout: Option<Duration>, caller: Caller) {
    let code = text.parse::<JoinCode>().map_err(|e| {
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
    advance(cx, AwaitJoin { code, terms, is_asked: false, refused: 0, deadline, caller });
}

/// Asks the inviter or the contacts as soon as this node can be answered: directly at once, and by letter once the rendezvous has
/// given this node its address.
fn advance(cx: &mut Context, mut call: AwaitJoin) {
    let endpoint = cx.stack.endpoint();
    let is_ready = matches!(endpoint.directory_state(), DirectoryState::Ready(_));
    let is_meant = |key: &StaticKey| call.code.rendezvous().is_some_and(|rendezvous| rendezvous.is(key));
    // A rendezvous has no address while its name is looked up, and may be the one in the code.
    let may_be_meant = endpoint.rendezvous_address().is_none_or(|(key, _)| is_meant(&key));
    let has_rendezvous = cx.config.rendezvous != RendezvousConfig::None;
    if call.code.candidates().is_empty() && has_rendezvous && may_be_meant && !is_ready {
        return wait(cx, call);
    }
    match ask(cx, &call) {
        Ok(true) => {
            call.is_asked = true;
            groups::keep_address(cx);
            save(cx, After::Nothing); // the request leaves after that
            wait(cx, call);
        }
        Ok(false) => answer(cx, call),
        Err(failure) => cx.fail(call.caller, failure),
    }
}

/// Asks; false when there is nothing to ask.
fn ask(cx: &mut Context, call: &AwaitJoin) -> Result<bool, Failure> {
    let now = cx.now;
    match &call.code {
        JoinCode::Invite(code) => match cx.stack.endpoint_mut().join(now, code, &call.terms) {
            Err(TrustError::AlreadyTrusted) => Ok(false),
            asked => asked.map(|()| true).map_err(|e| trust_failure(e, &code.inviter.fingerprint())),
        },
        JoinCode::Enrolment(code) => match cx.stack.endpoint_mut().enrol(now, code, call.terms.ports.clone()) {
            Err(GroupError::AlreadyTrusted) => Ok(false),
            asked => asked.map(|()| true).map_err(|why| groups::failure(why, &code.group.name)),
        },
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

/// Trust has changed: answers the callers that waited for this inviter or contact.
pub(crate) fn settled(cx: &mut Context, outcome: &Outcome) {
    let (Outcome::Pinned(key) | Outcome::JoinRefused(key, _)) = outcome else { return };
    let is_awaited = |call: &Call| matches!(call, Call::AwaitJoin(call) if call.code.contacts().contains(key));
    for ticket in cx.calls.tickets(is_awaited) {
        let Some(Call::AwaitJoin(call)) = cx.calls.take(ticket) else { continue };
        match outcome {
            Outcome::JoinRefused(_, why) => refused(cx, call, *why),
            _ => answer(cx, call),
        }
    }
}

/// A contact refuses. The others in the code may decide otherwise, unless the code itself is over.
fn refused(cx: &mut Context, mut call: AwaitJoin, why: JoinRefusal) {
    call.refused += 1;
    let is_open = match &call.code {
        JoinCode::Invite(_) => false,
        JoinCode::Enrolment(code) => {
            let mut groups = cx.stack.endpoint().trust().groups();
            call.refused < code.contacts.len() && groups.any(|group| group.roster.id() == code.group.id())
        }
    };
    if is_open {
        return wait(cx, call);
    }
    let hint = match &call.code {
        JoinCode::Invite(_) => "ask for another code: pilotctl invite on the other machine",
        JoinCode::Enrolment(_) => "ask for another code: pilotctl group invite on a machine of the group",
    };
    cx.fail(call.caller, Failure::new(Code::TrustRequired, why.to_string()).hint(hint));
}

/// Tells a caller that the inviter, or a member of the group, is trusted.
fn answer(cx: &mut Context, call: AwaitJoin) {
    match pin_of(cx, &call.code) {
        Some(pin) => save(cx, After::Answer(call.caller, Approved { status: Status::Trusted, pin }.into(), None)),
        None => cx.fail(call.caller, Failure::new(Code::TrustRequired, "the inviter has ended the trust")),
    }
}

/// The pin that shows that a code has done its work.
fn pin_of(cx: &Context, code: &JoinCode) -> Option<Pin> {
    let trust = cx.stack.endpoint().trust();
    match code {
        JoinCode::Invite(code) => trust.pin(&code.inviter),
        JoinCode::Enrolment(code) => {
            let id = code.group.id();
            let is_by_group = |pin: &&CorePin| pin.groups.iter().any(|grant| grant.group == id);
            code.contacts.iter().filter_map(|key| trust.pin(key)).chain(trust.pins()).find(is_by_group)
        }
    }
    .map(Pin::from)
}

/// The time of a caller that joins is over. A request that has left stands.
pub(crate) fn expired(cx: &mut Context, call: AwaitJoin) {
    if pin_of(cx, &call.code).is_some() {
        return answer(cx, call); // the owner has approved the inviter's own request meanwhile
    }
    let state = cx.stack.endpoint().directory_state();
    let is_cut_off = call.code.rendezvous().is_some() && !matches!(state, DirectoryState::Ready(_));
    let failure = if is_cut_off && call.code.candidates().is_empty() {
        Failure::new(Code::Unreachable, "the rendezvous in the code does not answer").hint("pilotctl doctor")
    } else {
        let text = match &call.code {
            JoinCode::Invite(_) => "the inviter has not answered; the request stands until it does".into(),
            JoinCode::Enrolment(code) => {
                let asked: Vec<_> = code.contacts.iter().map(IdentityKey::fingerprint).collect();
                let group = &code.group.name;
                let asked = asked.join(", ");
                format!(
                    "no member of {group} in the code has answered; asked: {asked}; the requests stand until one does"
                )
            }
        };
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
