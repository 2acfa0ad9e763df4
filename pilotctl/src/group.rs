//! Owns the commands about groups.

use crate::args::{self, GroupVerb};
use crate::client::{CALL_TIMEOUT, daemon};
use crate::daemon::daemon_or_start;
use crate::grants::seconds;
use crate::input;
use crate::output::Output;
use crate::pairing;
use pilot_node::{Failure, GroupAct, Request};

pub(crate) fn run(verb: GroupVerb, output: &Output) -> Result<(), Failure> {
    let change = |act, group, node, ports, role| Request::Group { act, group, node, ports, role };
    let request = match verb {
        GroupVerb::Join(join) => return pairing::join(join, output),
        GroupVerb::Invite(args) => return invite(args, output),
        GroupVerb::List(_) => Request::Groups,
        GroupVerb::Members(a) => Request::GroupMembers { group: a.group },
        GroupVerb::Export(a) => Request::GroupExport { group: a.group },
        GroupVerb::Import(a) => {
            Request::GroupImport { group: a.group, key: key_of(&String::from_utf8_lossy(&input::stdin()?)) }
        }
        GroupVerb::Create(a) => change(GroupAct::Create, a.group, None, a.ports, None),
        GroupVerb::Allow(a) => change(GroupAct::Allow, a.group, None, Some(a.ports), a.role),
        GroupVerb::Remove(a) => change(GroupAct::Remove, a.group, Some(a.node), None, None),
        GroupVerb::Leave(a) => change(GroupAct::Leave, a.group, None, None, None),
        GroupVerb::Renew(a) => change(GroupAct::Renew, a.group, Some(a.node), None, None),
        GroupVerb::Role(a) => change(GroupAct::Role, a.group, Some(a.node), None, Some(a.role)),
        GroupVerb::Rekey(a) => change(GroupAct::Rekey, a.group, a.keep, None, None),
    };
    let is_beginning = matches!(&request, Request::Group { act: GroupAct::Create, .. });
    let mut client = if is_beginning { daemon_or_start(None, None, output)? } else { daemon()? };
    let reply = client.request(&request, &[], Some(CALL_TIMEOUT))?;
    output.ok(&reply.data);
    Ok(())
}

/// The key in what `group export` printed, in plain or as JSON, or in the digits alone.
fn key_of(text: &str) -> String {
    let is_key = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split(|c: char| !c.is_ascii_alphanumeric()).rfind(is_key).unwrap_or(text.trim()).into()
}

/// Makes an invite to a group and shows its code.
fn invite(args: args::GroupInvite, output: &Output) -> Result<(), Failure> {
    let [short, direct, offline] = [args.short, args.direct, args.offline].map(|flag| flag.then_some(true));
    let expires_s = seconds(args.expires.as_deref())?;
    let request = Request::GroupInvite { group: args.group, expires_s, uses: args.uses, short, direct, offline };
    pairing::show_code(&request, output)
}
