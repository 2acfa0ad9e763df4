//! Owns the part of the command line about pairing codes.

use argh::{ArgsInfo, FromArgs};

/// print a code by which another node becomes a trusted peer at once: pilotctl join CODE; starts the daemon if none runs
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "invite")]
pub(crate) struct Invite {
    /// our ports that the joiner may reach: echo,stdio,messages,events,80,8000-8010 or all (default: the four services)
    #[argh(option)]
    pub(crate) ports: Option<String>,
    /// how long the code can be used, 30 days at most. Unit: seconds from now (or 30m, 24h; default 1h)
    #[argh(option)]
    pub(crate) expires: Option<String>,
    /// how many nodes may join, 1000 at most (default 1)
    #[argh(option)]
    pub(crate) uses: Option<u16>,
    /// a shorter code, for nodes that use this node's rendezvous already
    #[argh(switch)]
    pub(crate) short: bool,
    /// a code with addresses of this node, which needs no rendezvous
    #[argh(switch)]
    pub(crate) direct: bool,
}

/// our invites and what became of them
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "invites")]
pub(crate) struct Invites {}

/// withdraw an invite; peers that have joined by it stay
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "uninvite")]
pub(crate) struct Uninvite {
    /// number of the invite, as invites shows it
    #[argh(positional)]
    pub(crate) invite: String,
}

/// become a trusted peer of the node that has printed a code; starts the daemon if none runs
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "join")]
pub(crate) struct Join {
    /// the code, pilot:…; - reads it from standard input, where other users of this machine cannot see it
    #[argh(positional)]
    pub(crate) code: String,
    /// our ports that the inviter may reach (default: the four services)
    #[argh(option)]
    pub(crate) ports: Option<String>,
    /// hostname for the daemon, if one is started
    #[argh(option)]
    pub(crate) hostname: Option<String>,
    /// longest wait for the inviter; the request stands after it
    #[argh(option, default = "String::from(\"60\")")]
    pub(crate) timeout: String,
}
