//! Owns the verbs about groups.

use crate::answer::{Group, Groups, Invited, Members};
use crate::failure::Failure;
use crate::request::{GroupAct, Request};
use crate::verbs::trust::Trust;

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

    /// Makes a code by which `uses` other nodes become members of a group within seven days. [`Request::GroupInvite`] says more.
    ///
    /// # Errors
    /// `NotFound`; `TrustRequired` when this node is no admin of the group; `Full`; `Unreachable` without any way to this node.
    pub fn group_invite(&self, group: &str, uses: u16) -> Result<Invited, Failure> {
        let (group, uses) = (group.into(), Some(uses));
        self.0.ask(Request::GroupInvite { group, expires_s: None, uses, short: None, direct: None, offline: None })
    }

    /// Founds, leaves or changes a group; `node` is the member that it is about, or `ports` what members may reach on this node.
    /// [`Request::Group`] says more. Returns once that is on disk.
    ///
    /// # Errors
    /// `NotFound`; `TrustRequired` when another key must say so; `Conflict`; `InvalidArgument`; `Full`.
    pub fn group(&self, act: GroupAct, group: &str, node: Option<&str>, ports: Option<&str>) -> Result<Group, Failure> {
        let (group, node, ports) = (group.into(), node.map(Into::into), ports.map(Into::into));
        self.0.ask(Request::Group { act, group, node, ports, role: None })
    }
}
