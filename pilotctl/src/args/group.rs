//! Owns the part of the command line about groups.

use argh::{ArgsInfo, FromArgs};

/// nodes of one owner that trust each other without a question each
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "group")]
pub(crate) struct Group {
    #[argh(subcommand)]
    pub(crate) verb: GroupVerb,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub(crate) enum GroupVerb {
    Allow(GroupAllow),
    Create(GroupCreate),
    Export(GroupExport),
    Import(GroupImport),
    Invite(GroupInvite),
    Join(super::Join),
    Leave(GroupLeave),
    List(GroupList),
    Members(GroupMembers),
    Rekey(GroupRekey),
    Remove(GroupRemove),
    Renew(GroupRenew),
    Role(GroupRole),
}

/// found a group; this node is its first admin and has its key; starts the daemon if none runs
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "create")]
pub(crate) struct GroupCreate {
    /// name of the group: a-z, 0-9 and dashes, 32 at most
    #[argh(positional)]
    pub(crate) group: String,
    /// our ports that members may reach: echo,stdio,messages,events,80,8000-8010, all or none (default: the four services)
    #[argh(option)]
    pub(crate) ports: Option<String>,
}

/// print a code by which other nodes become members: pilotctl join CODE; starts the daemon if none runs
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "invite")]
pub(crate) struct GroupInvite {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
    /// how long the code can be used, 30 days at most. Unit: seconds from now (or 30m, 24h, 7d; default 7d)
    #[argh(option)]
    pub(crate) expires: Option<String>,
    /// how many nodes may join, 1000 at most (default 50)
    #[argh(option)]
    pub(crate) uses: Option<u16>,
    /// a shorter code, for nodes that use this node's rendezvous already
    #[argh(switch)]
    pub(crate) short: bool,
    /// a code with addresses of this node, so that joining needs no rendezvous
    #[argh(switch)]
    pub(crate) direct: bool,
    /// a code that any member answers, so that this machine may be off; needs the group key
    #[argh(switch)]
    pub(crate) offline: bool,
}

/// say what members of a group may reach on this node, at once
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "allow")]
pub(crate) struct GroupAllow {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
    /// our ports: echo,stdio,messages,events,80,8000-8010, all or none
    #[argh(option)]
    pub(crate) ports: String,
    /// for whom: member or admin (default member)
    #[argh(option)]
    pub(crate) role: Option<String>,
}

/// the members of a group
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "members")]
pub(crate) struct GroupMembers {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
}

/// remove a member; codes that are out are void then
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "remove")]
pub(crate) struct GroupRemove {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
    /// the member
    #[argh(positional)]
    pub(crate) node: String,
}

/// leave a group; peers by hand stay peers
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "leave")]
pub(crate) struct GroupLeave {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
}

/// renew a membership before an admin does so by itself, which it does in the last third of the term
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "renew")]
pub(crate) struct GroupRenew {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
    /// the member
    #[argh(positional)]
    pub(crate) node: String,
}

/// make an admin of a member, or a member of an admin; needs the group key
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "role")]
pub(crate) struct GroupRole {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
    /// the member
    #[argh(positional)]
    pub(crate) node: String,
    /// admin or member
    #[argh(positional)]
    pub(crate) role: String,
}

/// our groups
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list")]
pub(crate) struct GroupList {}

/// print the secret key of a group, to be kept elsewhere
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "export")]
pub(crate) struct GroupExport {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
}

/// take the key of a group from stdin, as export printed it; this node, a member, is an admin from now on
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "import")]
pub(crate) struct GroupImport {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
}

/// give a group another key after the old one was stolen; only on the node that has founded it
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "rekey")]
pub(crate) struct GroupRekey {
    /// the group
    #[argh(positional)]
    pub(crate) group: String,
    /// admins that stay, with commas between (default: this node alone)
    #[argh(option)]
    pub(crate) keep: Option<String>,
}
