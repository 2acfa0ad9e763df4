//! Owns the namespaces of `run --only`: this process enters a network of its own, in which the program then lives.
//!
//! 1. A user namespace, in which this user has the rights for the rest, and with it namespaces for network and mounts.
//! 2. The loopback interface is put into service; the network has no other.
//! 3. The daemon's socket and folder are covered, and the sockets of the system's name services.
//! 4. When the listeners are bound, all rights in the namespace are given up for good, so that the program cannot undo this.

use pilot_node::{Code, Failure};
use std::path::Path;

/// Sockets of services that ask the network on behalf of programs.
#[cfg(target_os = "linux")]
const NAME_SERVICES: [&str; 3] =
    ["/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket", "/run/dbus/system_bus_socket"];
/// Settings of the kernel that forbid namespaces to users without rights, and the values that allow them.
#[cfg(target_os = "linux")]
const SETTINGS: [(&str, &str); 3] = [
    ("kernel/unprivileged_userns_clone", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "0"),
    ("user/max_user_namespaces", "10000"),
];

/// Moves this process, which has one thread, into a network of its own. `home`: the daemon's folder.
#[cfg(target_os = "linux")]
pub(crate) fn enter(home: &Path, socket: &Path) -> Result<(), Failure> {
    use nix::sched::{CloneFlags, unshare};
    use rustix::mount::{MountFlags, mount, mount_bind};
    use rustix::process::{getegid, geteuid};
    use std::io::Error;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let here = std::env::current_dir().map_err(|e| failed("the current folder", &e))?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|e| failed("new namespaces", &e.into()))?;
    for (file, text) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("{uid} {uid} 1")), ("gid_map", format!("{gid} {gid} 1"))]
    {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|e| failed(file, &e))?;
    }
    raise_loopback().map_err(|e| failed("the loopback interface", &e.into()))?;
    let cover = |path: &Path| mount_bind("/dev/null", path).map_err(|e| failed("covering a socket", &e.into()));
    cover(socket)?;
    NAME_SERVICES.iter().map(Path::new).filter(|path| path.exists()).try_for_each(cover)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("pilot", home, "tmpfs", flags, c"size=4k").map_err(|e| failed("covering the daemon's folder", &e.into()))?;
    // By its name, so that a folder which is covered now is not the current one any more.
    std::env::set_current_dir(here)
        .map_err(|e: Error| failed("the current folder", &e).hint("start from a folder outside of the daemon's"))
}

/// Gives all rights in the namespace up, for this process and the programs that it starts; these cannot look into this process.
#[cfg(target_os = "linux")]
pub(crate) fn drop_rights() -> Result<(), Failure> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    use rustix::thread::{
        CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    };
    let step = |e: rustix::io::Errno| failed("giving up rights", &e.into());
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) if bit > 0 => break, // the kernel has no more
            Err(e) => return Err(step(e)),
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).map_err(step)?;
    set_no_new_privs(true).map_err(step)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step)
}

/// Puts the loopback interface into service. Source: rtnetlink(7); it is the first interface of each network.
#[cfg(target_os = "linux")]
fn raise_loopback() -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const UP: u32 = 1;
    const LEN: u32 = 32;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::new();
    // The head: length, kind, flags, number, sender; then the interface: family and kind, index, flags and which of them count.
    message.extend(LEN.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    for word in [1, 0, 0, 1, UP, UP] {
        message.extend(word.to_ne_bytes());
    }
    debug_assert_eq!(message.len(), LEN as usize);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, len) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // The number of the error, negative, stands behind the head.
    match answer[..len].get(16..).and_then(|rest| rest.first_chunk()).map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(rustix::io::Errno::from_raw_os_error(-code)),
        None => Err(rustix::io::Errno::IO),
    }
}

/// The failure of one step, with the setting of the kernel that may be the reason.
#[cfg(target_os = "linux")]
fn failed(what: &str, error: &std::io::Error) -> Failure {
    let reads = |name: &str| std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
    Failure::new(Code::Internal, format!("--only cannot isolate the program: {what}: {error}")).hint(hint(reads))
}

/// Names the setting that forbids namespaces here.
#[cfg(target_os = "linux")]
fn hint(reads: impl Fn(&str) -> Option<String>) -> String {
    let wrong = SETTINGS.iter().find(|(name, good)| {
        let forbidden = if *good == "0" { "1" } else { "0" };
        reads(name).is_some_and(|value| value.trim() == forbidden)
    });
    match wrong {
        Some((name, good)) => format!("sysctl -w {}={good}", name.replace('/', ".")),
        None => "the kernel or this container forbids namespaces; without --only the program runs unisolated".into(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn enter(_: &Path, _: &Path) -> Result<(), Failure> {
    Err(Failure::new(Code::Internal, "--only needs the namespaces of Linux")
        .hint("without --only the program runs unisolated"))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn drop_rights() -> Result<(), Failure> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_namespaces_is_named() {
        let with =
            |name: &'static str, value: &'static str| hint(move |asked| (asked == name).then(|| format!("{value}\n")));
        assert_eq!(with("kernel/unprivileged_userns_clone", "0"), "sysctl -w kernel.unprivileged_userns_clone=1");
        let apparmor = "kernel/apparmor_restrict_unprivileged_userns";
        assert_eq!(with(apparmor, "1"), "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0");
        assert_eq!(with("user/max_user_namespaces", "0"), "sysctl -w user.max_user_namespaces=10000");
        for (name, value) in [(apparmor, "0"), ("user/max_user_namespaces", "1"), ("kernel/none", "0")] {
            assert!(with(name, value).contains("without --only"), "{name}={value}");
        }
    }
}
