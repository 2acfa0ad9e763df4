//! The verbs of groups, and the meeting of two members, for which a call to one of them waits.

use crate::answer::{Group, GroupKey, Groups, Member, Members};
use crate::call::{After, Call, Lookup, Meet};
use crate::calls::trust::{parse_ports, save};
use crate::calls::{lookup, resolve};
use crate::context::Context;
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use crate::request::GroupAct;
use pilot_core::group::{GroupId, Role, Statement};
use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_core::trust::{GroupError, Membership, Outcome, Ports, TrustBook};

/// Time for a member to answer. Source: own choice, that of a lookup and a round trip of letters, many times over.
const MEET_WAIT: Duration = Duration::from_secs(10);
/// Most calls that wait for members. Source: own choice.
const MEETINGS_MAX: usize = 256;

/// What a caller wants of a group.
pub(crate) struct Change {
    pub(crate) act: GroupAct,
    pub(crate) group: String,
    pub(crate) node: Option<String>,
    pub(crate) ports: Option<String>,
    pub(crate) role: Option<String>,
}

/// Lists the groups.
pub(crate) fn list(cx: &Context) -> Groups {
    let endpoint = cx.stack.endpoint();
    let groups = endpoint.trust().groups().map(|group| state(cx, group));
    Groups { groups: groups.collect() }
}

fn state(cx: &Context, group: &Membership) -> Group {
    let endpoint = cx.stack.endpoint();
    Group::new(group, &endpoint.identity().public(), endpoint.group_time(cx.now))
}

/// Lists the members of a group.
pub(crate) fn members(cx: &Context, name: &str) -> Result<Members, Failure> {
    let endpoint = cx.stack.endpoint();
    let group = find(cx, name)?;
    let is_own = |row: &Statement| row.identity == endpoint.identity().public();
    let member = |row: &Statement| Member::new(row, is_own(row) || endpoint.trust().pin(&row.identity).is_some());
    let members = group.roster.judge(endpoint.group_time(cx.now)).members().map(member).collect();
    Ok(Members { group: group.roster.group().name.clone(), members })
}

/// Tells the group key.
pub(crate) fn export(cx: &Context, name: &str) -> Result<GroupKey, Failure> {
    let group = find(cx, name)?;
    let seed = group.key_seed().ok_or_else(|| failure(GroupError::NoKey, name))?;
    Ok(GroupKey {
        group: group.roster.group().name.clone(),
        id: group.roster.id().to_string(),
        key: IdentityKey(*seed).to_string(),
    })
}

/// The group that a caller names.
pub(crate) fn find<'a>(cx: &'a Context, name: &str) -> Result<&'a Membership, Failure> {
    cx.stack.endpoint().trust().group(name).ok_or_else(|| failure(GroupError::Unknown, name))
}

/// Changes a group; answered once that is on disk.
pub(crate) fn change(cx: &mut Context, change: Change, caller: Caller) {
    match try_change(cx, &change) {
        Ok(group) => {
            let what = format!("group {}", change.group);
            let after = match change.act {
                GroupAct::Create => After::Answer(caller, group.into(), None),
                _ => After::Withdrawal(caller, group.into(), what),
            };
            save(cx, after);
        }
        Err(failure) => cx.fail(caller, failure),
    }
}

fn try_change(cx: &mut Context, change: &Change) -> Result<Group, Failure> {
    let (now, name) = (cx.now, change.group.as_str());
    let refused = |why| failure(why, name);
    if change.act == GroupAct::Create {
        let ports = ports(change)?.unwrap_or_else(|| cx.config.default_ports.clone());
        let id = cx.stack.endpoint_mut().create_group(now, name, ports).map_err(refused)?;
        crate::calls::pairing::keep_address(cx);
        return after(cx, &id);
    }
    let id = find(cx, name)?.roster.id();
    let before = after(cx, &id)?;
    let node = || {
        let node = change.node.as_deref();
        let node = node.ok_or_else(|| Failure::new(Code::InvalidArgument, "which member?"))?;
        member(cx, &id, node)
    };
    match change.act {
        GroupAct::Create => {}
        GroupAct::Allow => {
            let missing = || {
                Failure::new(Code::InvalidArgument, "which ports may members reach?")
                    .hint("--ports messages,80 or none")
            };
            let (ports, role) = (ports(change)?.ok_or_else(missing)?, role(change)?.unwrap_or(Role::Member));
            cx.stack.endpoint_mut().allow_group(now, &id, role, ports).map_err(refused)?;
        }
        GroupAct::Remove => {
            let key = node()?;
            cx.stack.endpoint_mut().remove_member(now, &id, &key).map_err(refused)?;
        }
        GroupAct::Renew => {
            let key = node()?;
            cx.stack.endpoint_mut().renew_member(now, &id, &key).map_err(refused)?;
        }
        GroupAct::Role => {
            let key = node()?;
            let role = role(change)?.ok_or_else(|| Failure::new(Code::InvalidArgument, "admin or member?"))?;
            cx.stack.endpoint_mut().set_role(now, &id, &key, role).map_err(refused)?;
        }
        GroupAct::Rekey => {
            let kept: Vec<_> = match &change.node {
                None => Vec::new(),
                Some(list) => list.split(',').map(|node| member(cx, &id, node)).collect::<Result<_, _>>()?,
            };
            cx.stack.endpoint_mut().rekey_group(now, &id, &kept).map_err(refused)?;
        }
        GroupAct::Leave => {
            cx.stack.endpoint_mut().leave_group(now, &id).map_err(refused)?;
            return Ok(Group { role: "left".into(), ..before });
        }
    }
    after(cx, &id)
}

fn after(cx: &Context, id: &GroupId) -> Result<Group, Failure> {
    find(cx, &id.to_string()).map(|group| state(cx, group))
}

fn ports(change: &Change) -> Result<Option<Ports>, Failure> {
    match change.ports.as_deref() {
        None => Ok(None),
        Some("none") => Ok(Some(Ports::NONE)),
        Some(text) => parse_ports(text).map(Some),
    }
}

fn role(change: &Change) -> Result<Option<Role>, Failure> {
    match change.role.as_deref() {
        None => Ok(None),
        Some("admin") => Ok(Some(Role::Admin)),
        Some("member") => Ok(Some(Role::Member)),
        Some(other) => Err(Failure::new(Code::InvalidArgument, format!("{other:?} is no role; admin or member"))),
    }
}

/// The member of a group that a caller names: by its name there, with or without the group, an address, a key or fingerprint.
fn member(cx: &Context, id: &GroupId, text: &str) -> Result<IdentityKey, Failure> {
    let endpoint = cx.stack.endpoint();
    let group = find(cx, &id.to_string())?;
    let judge = group.roster.judge(endpoint.group_time(cx.now));
    let name = text.strip_suffix(&format!(".{}", group.roster.group().name)).unwrap_or(text);
    let fits = |row: &&Statement| resolve::is_called(name, row.addr, "", &row.identity);
    let found = judge.named(name).or_else(|| judge.members().find(fits));
    let group = &group.roster.group().name;
    found.map(|row| row.identity).ok_or_else(|| {
        Failure::new(Code::NotFound, format!("{group} has no member {text}"))
            .hint(format!("pilotctl group members {group}"))
    })
}

pub(crate) fn failure(why: GroupError, name: &str) -> Failure {
    let code = match why {
        GroupError::Unknown | GroupError::NotAMember(_) => Code::NotFound,
        GroupError::NameTaken | GroupError::TooSoon | GroupError::AlreadyTrusted => Code::Conflict,
        GroupError::Full => Code::Full,
        GroupError::BadName | GroupError::OutOfRange => Code::InvalidArgument,
        _ => Code::TrustRequired,
    };
    Failure::new(code, format!("{name}: {why}")).hint("pilotctl group list")
}

// Meeting.

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

/// Meets the member that a lookup is for; gives the lookup back when it is for no member.
pub(crate) fn meet(cx: &mut Context, lookup: Lookup) -> Option<Lookup> {
    let endpoint = cx.stack.endpoint();
    let meant = member_meant(endpoint.trust(), &lookup.target, endpoint.group_time(cx.now));
    let Some((id, key)) = meant.filter(|(_, key)| endpoint.trust().pin(key).is_none()) else { return Some(lookup) };
    if cx.calls.tickets(|call| matches!(call, Call::Meet(_))).len() >= MEETINGS_MAX {
        lookup::failed(cx, lookup.purpose, Failure::new(Code::Full, "too many calls wait for members"));
        return None;
    }
    match cx.stack.endpoint_mut().meet_member(cx.now, &id, &key) {
        Ok(()) => {
            save(cx, After::Nothing); // the request leaves after that
            let deadline = cx.now + MEET_WAIT;
            cx.calls.open_until(Call::Meet(Meet { key, lookup }), deadline);
        }
        Err(why) => lookup::failed(cx, lookup.purpose, failure(why, &lookup.target)),
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
