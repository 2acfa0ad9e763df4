//! The verbs of groups.

use crate::answer::{Group, GroupKey, Groups, Member, Members, enrolments};
use crate::call::{After, Call};
use crate::calls::resolve;
use crate::calls::trust::{parse_ports, save};
use crate::context::Context;
use crate::disk::job::{Job, Meta};
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use crate::request::GroupAct;
use pilot_core::group::{GroupId, Role, Statement};
use pilot_core::identity::IdentityKey;
use pilot_core::trust::{GroupError, Membership, Ports};

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
    let judge = group.roster.judge(endpoint.group_time(cx.now));
    let members = judge.members().map(member).collect();
    Ok(Members { group: group.roster.group().name.clone(), members, enrolments: enrolments(&judge) })
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

/// Takes the group key from where it was kept; answered once that is on disk.
pub(crate) fn import(cx: &mut Context, name: &str, key: &str, caller: Caller) {
    match try_import(cx, name, key) {
        Ok(group) => save(cx, After::Answer(caller, group.into(), None)),
        Err(failure) => cx.fail(caller, failure),
    }
}

fn try_import(cx: &mut Context, name: &str, key: &str) -> Result<Group, Failure> {
    let id = find(cx, name)?.roster.id();
    let not_a_key = |_| {
        Failure::new(Code::InvalidArgument, "a group key has 64 hexadecimal digits")
            .hint(format!("pilotctl group export {name}, on the node that has it"))
    };
    let IdentityKey(seed) = key.parse().map_err(not_a_key)?;
    cx.stack.endpoint_mut().import_group_key(cx.now, &id, &seed).map_err(|why| failure(why, name))?;
    after(cx, &id)
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
        keep_address(cx);
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

/// A node without a rendezvous has taken an address, which it keeps.
pub(crate) fn keep_address(cx: &mut Context) {
    let addr = cx.stack.endpoint().addr();
    cx.submit(Job::Put(Meta::Addr, addr.to_bytes().to_vec()), Call::Forgotten);
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
        GroupError::NoWay => Code::Unreachable,
        GroupError::BadName | GroupError::WrongKey | GroupError::OutOfRange => Code::InvalidArgument,
        _ => Code::TrustRequired,
    };
    Failure::new(code, format!("{name}: {why}")).hint("pilotctl group list")
}
