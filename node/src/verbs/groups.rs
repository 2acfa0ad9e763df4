//! Owns the verbs about groups.

use crate::answer::{Group, GroupKey, Groups, Invited, Members, role_name};
use crate::failure::Failure;
use crate::request::{GroupAct, Request};
use crate::verbs::trust::Trust;
use pilot_core::group::Role;
use std::time::Duration;

/// A change of a group; see [`Trust::group`]. A member is called by its name in the group, its address, key or fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupChange<'a> {
    /// It is founded, with this node as its first admin.
    Create {
        /// Ports of this node that members may reach, as `messages,80,8000-8010`, `all` or `none`; otherwise as configured.
        ports: Option<&'a str>,
    },
    /// The owner of this node says what members of a role may reach here, at once.
    Allow {
        /// The members that it is said for. Admins without a word of their own reach what all members do.
        role: Role,
        /// The ports of this node, as in [`GroupChange::Create`].
        ports: &'a str,
    },
    /// A member is removed, and codes of the group that are out are void. An admin's node says so.
    Remove(&'a str),
    /// This node leaves. Peers by hand stay peers.
    Leave,
    /// The term of a member is renewed. An admin's node says so, and does by itself in the last third of the term.
    Renew(&'a str),
    /// A member gets a role. The node with the group key says so.
    Role(&'a str, Role),
    /// The group gets another key, and what the old one has signed is void, but for the admins that are kept. The founder says so.
    Rekey {
        /// Admins that stay, beside this node.
        keep: &'a [&'a str],
    },
}

impl GroupChange<'_> {
    fn request(self, group: &str) -> Request {
        let text = |text: &str| Some(text.to_owned());
        let role_text = |role: Role| text(role_name(role));
        let (act, node, ports, role) = match self {
            Self::Create { ports } => (GroupAct::Create, None, ports.and_then(text), None),
            Self::Allow { role, ports } => (GroupAct::Allow, None, text(ports), role_text(role)),
            Self::Remove(node) => (GroupAct::Remove, text(node), None, None),
            Self::Leave => (GroupAct::Leave, None, None, None),
            Self::Renew(node) => (GroupAct::Renew, text(node), None, None),
            Self::Role(node, role) => (GroupAct::Role, text(node), None, role_text(role)),
            Self::Rekey { keep } => (GroupAct::Rekey, (!keep.is_empty()).then(|| keep.join(",")), None, None),
        };
        Request::Group { act, group: group.into(), node, ports, role }
    }
}

/// The terms of a code of a group: 50 uses within seven days, and an admin answers, unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCode {
    uses: Option<u16>,
    expires_s: Option<u64>,
    is_offline: bool,
}

impl GroupCode {
    /// With so many nodes that may join, from 1 to 1000.
    #[must_use]
    pub const fn uses(mut self, uses: u16) -> Self {
        self.uses = Some(uses);
        self
    }

    /// With an end, so long after now, in whole seconds and at most 30 days.
    #[must_use]
    pub const fn expires_in(mut self, after: Duration) -> Self {
        self.expires_s = Some(after.as_secs());
        self
    }

    /// Any member answers, so that no admin need be online. The node with the group key makes such codes.
    #[must_use]
    pub const fn offline(mut self) -> Self {
        self.is_offline = true;
        self
    }
}

impl Trust<'_> {
    /// The groups of this node.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn groups(&self) -> Result<Groups, Failure> {
        self.0.ask(Request::Groups)
    }

    /// The members of a group, as far as this node knows.
    ///
    /// # Errors
    /// `NotFound` when this node has no such group.
    pub fn group_members(&self, group: &str) -> Result<Members, Failure> {
        self.0.ask(Request::GroupMembers { group: group.into() })
    }

    /// Makes a code by which other nodes become members of a group: [`Trust::join`]. Returns once that is on disk.
    ///
    /// # Errors
    /// `NotFound`; `TrustRequired` when this node is no admin of the group, or has not the group key for an offline code;
    /// `InvalidArgument` for terms out of range; `Full`; `Unreachable` without any way to this node.
    pub fn group_invite(&self, group: &str, terms: GroupCode) -> Result<Invited, Failure> {
        let GroupCode { uses, expires_s, is_offline } = terms;
        let offline = is_offline.then_some(true);
        self.0.ask(Request::GroupInvite { group: group.into(), expires_s, uses, short: None, direct: None, offline })
    }

    /// Founds, leaves or changes a group. Returns once that is on disk.
    ///
    /// ```no_run
    /// # fn with(founder: &pilot_node::Node, worker: &pilot_node::Node) -> Result<(), pilot_node::Failure> {
    /// use pilot_node::{GroupChange, GroupCode, GroupRole};
    /// use std::time::Duration;
    ///
    /// founder.trust().group("fleet", GroupChange::Create { ports: Some("messages") })?;
    /// let code = founder.trust().group_invite("fleet", GroupCode::default().uses(20))?.code;
    /// worker.trust().join(&code, Duration::from_secs(60))?;
    /// founder.trust().group("fleet", GroupChange::Role("worker", GroupRole::Admin))?;
    /// worker.trust().group("fleet", GroupChange::Allow { role: GroupRole::Admin, ports: "all" })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound`; `TrustRequired` when another key must say so; `Conflict`; `InvalidArgument`; `Full`.
    pub fn group(&self, group: &str, change: GroupChange<'_>) -> Result<Group, Failure> {
        self.0.ask(change.request(group))
    }

    /// The secret key of a group, 64 hexadecimal digits, to be kept elsewhere: with it admins are made.
    ///
    /// # Errors
    /// `NotFound`; `TrustRequired` when the key is not on this node.
    pub fn group_export(&self, group: &str) -> Result<GroupKey, Failure> {
        self.0.ask(Request::GroupExport { group: group.into() })
    }

    /// Takes the secret key of a group: this node, a member, is an admin from now on. Returns once that is on disk.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for what is no key, or another group's; `TrustRequired` when this node is no member.
    pub fn group_import(&self, group: &str, key: &str) -> Result<Group, Failure> {
        self.0.ask(Request::GroupImport { group: group.into(), key: key.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_a_request_of_its_own() {
        let change = |act, node: Option<&str>, ports: Option<&str>, role: Option<&str>| {
            let [node, ports, role] = [node, ports, role].map(|text| text.map(str::to_owned));
            Request::Group { act, group: "fleet".into(), node, ports, role }
        };
        for (made, asked) in [
            (GroupChange::Create { ports: None }, change(GroupAct::Create, None, None, None)),
            (GroupChange::Create { ports: Some("none") }, change(GroupAct::Create, None, Some("none"), None)),
            (
                GroupChange::Allow { role: Role::Admin, ports: "80" },
                change(GroupAct::Allow, None, Some("80"), Some("admin")),
            ),
            (GroupChange::Remove("a"), change(GroupAct::Remove, Some("a"), None, None)),
            (GroupChange::Leave, change(GroupAct::Leave, None, None, None)),
            (GroupChange::Renew("a"), change(GroupAct::Renew, Some("a"), None, None)),
            (GroupChange::Role("a", Role::Member), change(GroupAct::Role, Some("a"), None, Some("member"))),
            (GroupChange::Rekey { keep: &[] }, change(GroupAct::Rekey, None, None, None)),
            (GroupChange::Rekey { keep: &["a", "b"] }, change(GroupAct::Rekey, Some("a,b"), None, None)),
        ] {
            assert_eq!(made.request("fleet"), asked);
        }
    }
}
