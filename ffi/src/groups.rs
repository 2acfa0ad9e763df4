//! Owns groups of nodes, as C founds and changes them. `pilot_call` lists them: `groups`, `group_members`.

use crate::error::{Fault, guarded, needed, pilot_error, room, text};
use crate::node::{CALL_TIMEOUT, NodeObject, give};
use crate::table::{Used, get, pilot_handle};
use pilot_node::answer::Invited;
use pilot_node::{GroupAct, Request};
use std::ffi::{c_char, c_int};

/// Founds a group, with this node as its first admin.
pub const PILOT_GROUP_CREATE: c_int = 1;
/// Says what members may reach at this node.
pub const PILOT_GROUP_ALLOW: c_int = 2;
/// Removes a member.
pub const PILOT_GROUP_REMOVE: c_int = 3;
/// Leaves the group.
pub const PILOT_GROUP_LEAVE: c_int = 4;
/// Renews the term of a member.
pub const PILOT_GROUP_RENEW: c_int = 5;
/// Makes a member an admin, or an admin a member.
pub const PILOT_GROUP_ROLE: c_int = 6;
/// Gives the group another key.
pub const PILOT_GROUP_REKEY: c_int = 7;

fn act(number: c_int) -> Result<GroupAct, Fault> {
    Ok(match number {
        PILOT_GROUP_CREATE => GroupAct::Create,
        PILOT_GROUP_ALLOW => GroupAct::Allow,
        PILOT_GROUP_REMOVE => GroupAct::Remove,
        PILOT_GROUP_LEAVE => GroupAct::Leave,
        PILOT_GROUP_RENEW => GroupAct::Renew,
        PILOT_GROUP_ROLE => GroupAct::Role,
        PILOT_GROUP_REKEY => GroupAct::Rekey,
        _ => return Err(Fault::invalid("an act is none of PILOT_GROUP_CREATE to PILOT_GROUP_REKEY")),
    })
}

/// Founds or changes a group; members with a tunnel hear of it at once. act: PILOT_GROUP_CREATE to PILOT_GROUP_REKEY. member: of
/// PILOT_GROUP_REMOVE, PILOT_GROUP_RENEW and PILOT_GROUP_ROLE the member; of PILOT_GROUP_REKEY the admins that stay, with commas
/// between, or NULL. ports: of PILOT_GROUP_CREATE and PILOT_GROUP_ALLOW what members may reach here, "none" too; NULL: as
/// configured. role: "admin" or "member": of PILOT_GROUP_ROLE what the member becomes, of PILOT_GROUP_ALLOW for whom the ports are
/// (NULL: members). Other acts take NULL for what they do not need.
/// Any thread; blocks until that is on the disk. PILOT_E_NOT_FOUND (no such group or member), PILOT_E_NOT_TRUSTED (this node is no admin,
/// or has not the group key), PILOT_E_CONFLICT (a group has the name), PILOT_E_INVALID, PILOT_E_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_group(
    node: pilot_handle,
    act_of_group: c_int,
    group: *const c_char,
    member: *const c_char,
    ports: *const c_char,
    role: *const c_char,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (group, member, ports, role) =
            unsafe { (needed(group, "group")?, text(member)?, text(ports)?, text(role)?) };
        let request = Request::Group {
            act: act(act_of_group)?,
            group: group.into(),
            node: member.map(str::to_owned),
            ports: ports.map(str::to_owned),
            role: role.map(str::to_owned),
        };
        let node: Used<NodeObject> = get(node)?;
        node.request(&request, &[], CALL_TIMEOUT)?;
        Ok(0)
    })
}

/// Makes a code by which `uses` other nodes (1 to 1000; 0: 50) become members of a group: pilot_join. The code can be used for
/// expires_s seconds (0: seven days, at most 30). offline: 0, or 1 for a code that any member answers while no admin is online, which
/// needs the group key. Writes at most code_len bytes of the code, NUL-terminated, and returns its full length; 2048 bytes hold any.
/// Any holder of the code may join, so keep it secret. Any thread; blocks until the invite is on the disk. PILOT_E_NOT_FOUND,
/// PILOT_E_NOT_TRUSTED (this node is no admin, or has not the group key), PILOT_E_INVALID, PILOT_E_FULL, PILOT_E_UNREACHABLE (no way
/// leads to this node).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_group_invite(
    node: pilot_handle,
    group: *const c_char,
    offline: c_int,
    uses: u16,
    expires_s: u64,
    code: *mut c_char,
    code_len: usize,
    error: *mut pilot_error,
) -> i64 {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (group, code) = unsafe { (needed(group, "group")?, room(code.cast(), code_len)?) };
        let request = Request::GroupInvite {
            group: group.into(),
            expires_s: (expires_s > 0).then_some(expires_s),
            uses: (uses > 0).then_some(uses),
            short: None,
            direct: None,
            offline: match offline {
                0 => None,
                1 => Some(true),
                _ => return Err(Fault::invalid("offline is 0 or 1")),
            },
        };
        let node: Used<NodeObject> = get(node)?;
        let invited: Invited = node.request(&request, &[], CALL_TIMEOUT)?.read()?;
        Ok(give(&invited.code, code))
    })
}
