//! Owns the answers about groups.

use pilot_core::group::{Judge, Role, Signer, Statement, Usage, number_of};
use pilot_core::invite::InviteId;
use pilot_core::trust::{GroupGrant, Membership};
use serde::{Deserialize, Serialize};

/// A group of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// Its name for machines: 32 hexadecimal digits.
    pub id: String,
    /// What this node is in it: `admin`, `member`, or why it is none.
    pub role: String,
    /// How many members it has.
    pub members: u64,
    /// When this node's membership ends, unless an admin renews it.
    pub expires_at: Option<u64>,
    /// Ports of this node that members may reach: services by name, others by number.
    pub granted: Vec<String>,
    /// Ports of this node that admins may reach.
    pub granted_to_admins: Vec<String>,
    /// Whether the group key is on this node.
    pub has_key: bool,
    /// Codes that work while no admin is online.
    pub enrolments: Vec<Enrolment>,
}

/// A code of a group that works while no admin is online, until it ends or is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Its number: eight hexadecimal digits.
    pub invite: String,
    /// How many nodes may join by it.
    pub uses: u64,
    /// How many members have, as far as this node knows. Those beyond `uses` are members until the code ends.
    pub used: u64,
    /// Whether more have than may.
    pub over_used: bool,
    /// When it was made.
    pub made_at: u64,
    /// When it ends.
    pub expires_at: u64,
}

/// The groups of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Each of them.
    pub groups: Vec<Group>,
}

/// The members of a group, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Name of the group.
    pub group: String,
    /// Each member, by key.
    pub members: Vec<Member>,
    /// Codes that work while no admin is online.
    pub enrolments: Vec<Enrolment>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name inside the group: `name.group` is a node in every command.
    pub name: String,
    /// `admin` or `member`.
    pub role: String,
    /// Node number.
    pub node_id: u32,
    /// Address.
    pub address: String,
    /// Identity key.
    pub public_key: String,
    /// Fingerprint of the key.
    pub fingerprint: String,
    /// When it became what it is.
    pub since: u64,
    /// When its membership ends, unless an admin renews it.
    pub expires_at: u64,
    /// Whether it and this node have met.
    pub trusted: bool,
    /// The number of the code by which it has joined, until an admin has signed for it.
    pub enrolled_by: Option<String>,
}

/// A group key, for keeping it away from this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupKey {
    /// Name of the group.
    pub group: String,
    /// Its name for machines.
    pub id: String,
    /// The secret key, 64 hexadecimal digits: with it admins are made.
    pub key: String,
}

/// What a peer has by a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOrigin {
    /// The group's name for machines.
    pub group: String,
    /// Ports of this node that the peer may reach as its member.
    pub granted: Vec<String>,
    /// End of the shorter one of both memberships.
    pub expires_at: u64,
}

impl From<&GroupGrant> for GroupOrigin {
    fn from(grant: &GroupGrant) -> Self {
        Self { group: grant.group.to_string(), granted: grant.ports.names(), expires_at: grant.not_after }
    }
}

/// The word for a role.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Member => "member",
    }
}

impl Group {
    pub(crate) fn new(membership: &Membership, own: &pilot_core::identity::IdentityKey, now_s: u64) -> Self {
        let judge = membership.roster.judge(now_s);
        let standing = judge.standing(own);
        Self {
            group: membership.roster.group().name.clone(),
            id: membership.roster.id().to_string(),
            role: standing.map_or_else(|why| why.to_string(), |row| role_name(row.role).into()),
            members: judge.members().count() as u64,
            expires_at: standing.ok().map(|row| row.not_after.into()),
            granted: membership.allowed(Role::Member).names(),
            granted_to_admins: membership.allowed(Role::Admin).names(),
            has_key: membership.has_key(),
            enrolments: enrolments(&judge),
        }
    }
}

/// The enrolments of a group that count.
pub(crate) fn enrolments(judge: &Judge<'_>) -> Vec<Enrolment> {
    let state = |usage: Usage<'_>| Enrolment {
        invite: InviteId(usage.enrolment.number()).to_string(),
        uses: usage.enrolment.uses.into(),
        used: usage.used as u64,
        over_used: usage.is_over_used(),
        made_at: usage.enrolment.issued.into(),
        expires_at: usage.enrolment.not_after.into(),
    };
    judge.enrolments().map(state).collect()
}

impl Member {
    pub(crate) fn new(row: &Statement, trusted: bool) -> Self {
        Self {
            name: row.name.clone(),
            role: role_name(row.role).into(),
            node_id: row.addr.node,
            address: row.addr.to_string(),
            public_key: row.identity.to_string(),
            fingerprint: row.identity.fingerprint(),
            since: row.since.into(),
            expires_at: row.not_after.into(),
            trusted,
            enrolled_by: enrolled_by(row),
        }
    }
}

fn enrolled_by(row: &Statement) -> Option<String> {
    match row.signer {
        Signer::Enrolment(key) => Some(InviteId(number_of(&key)).to_string()),
        _ => None,
    }
}
