//! Owns the checks of this machine: what its kernel gives, and who may read the files of a node.

use super::check::{Check, Grade};
use pilot_node::parts::{SOCKET_BUFFER_LEN, Udp};
use pilot_node::{Home, socket_path};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The checks.
pub(super) fn checks() -> Vec<Check> {
    vec![permissions(&Home::default_path(), &socket_path()), socket_buffers()]
}

/// Other users may neither read the identity and the books nor ask the daemon anything.
fn permissions(home: &Path, socket: &Path) -> Check {
    let id = "permissions";
    let mode = |path: &Path| fs::metadata(path).ok().map(|meta| meta.permissions().mode() & 0o777);
    let Some(of_home) = mode(home) else {
        return Check::ok(id, format!("{} does not exist yet; a daemon makes it with mode 0700", home.display()));
    };
    let (identity, books) = (home.join("identity"), home.join("books"));
    let secret = [(identity.as_path(), 0o077), (books.as_path(), 0o007), (socket, 0o077), (home, 0o002)];
    let open = secret.iter().find_map(|(path, mask)| Some((path, mode(path)?)).filter(|(_, mode)| mode & mask != 0));
    match open {
        Some((path, mode)) => Check::fail(
            id,
            format!("{} has mode {mode:04o}, so others may use it", path.display()),
            format!("chmod go= {}", path.display()),
        ),
        None if of_home & 0o055 != 0 => Check::warn(
            id,
            format!("{} has mode {of_home:04o}: others see which files there are, and read none", home.display()),
            format!("chmod 700 {}", home.display()),
        ),
        None => Check::ok(id, format!("{} has mode {of_home:04o}; identity and books are this user's", home.display())),
    }
}

/// The buffers that the kernel grants to a socket as the daemon makes one.
fn socket_buffers() -> Check {
    match Udp::bind(([127, 0, 0, 1], 0).into()).map(|udp| udp.buffers()) {
        Ok(granted) => graded(granted),
        Err(e) => {
            Check::fail("socket_buffers", format!("no UDP socket can be made: {e}"), "ulimit -n; is UDP allowed?")
        }
    }
}

fn graded((send, receive): (usize, usize)) -> Check {
    let (asked, kib) = (SOCKET_BUFFER_LEN, |bytes: usize| bytes / 1024);
    let evidence =
        format!("{} KiB to send and {} KiB to receive of {} KiB asked for", kib(send), kib(receive), kib(asked));
    let grade = if send.min(receive) < asked { Grade::Warn } else { Grade::Ok };
    let todo = if grade == Grade::Ok {
        String::new()
    } else {
        format!("for fast transfers: sysctl -w net.core.rmem_max={asked} net.core.wmem_max={asked}")
    };
    Check { id: "socket_buffers", grade, evidence, todo }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_others_may_read_are_named_with_the_remedy() {
        let home = std::env::temp_dir().join(format!("pilot-doctor-{}", std::process::id()));
        let socket = home.join("pilot.sock");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own file");
        assert_eq!(permissions(&home, &socket).grade, Grade::Ok, "there is none yet");
        fs::create_dir_all(home.join("books")).expect("a folder");
        fs::write(home.join("identity"), b"x").expect("a file");
        set(&home, 0o700);
        set(&home.join("books"), 0o700);
        set(&home.join("identity"), 0o600);
        assert_eq!(permissions(&home, &socket).grade, Grade::Ok);
        set(&home, 0o755);
        assert_eq!(permissions(&home, &socket).grade, Grade::Warn);
        set(&home.join("identity"), 0o640);
        let check = permissions(&home, &socket);
        assert_eq!(check.grade, Grade::Fail);
        assert!(check.evidence.contains("identity has mode 0640") && check.todo.starts_with("chmod go= "), "{check:?}");
        set(&home.join("identity"), 0o600);
        set(&home, 0o702);
        assert_eq!(permissions(&home, &socket).grade, Grade::Fail);
        fs::remove_dir_all(&home).expect("own folder");
    }

    #[test]
    fn small_buffers_are_a_warning_with_the_setting_that_helps() {
        assert_eq!(graded((SOCKET_BUFFER_LEN, 2 * SOCKET_BUFFER_LEN)).grade, Grade::Ok);
        let check = graded((SOCKET_BUFFER_LEN, 425_984));
        assert_eq!(check.grade, Grade::Warn);
        assert!(check.evidence.contains("416 KiB to receive of 4096 KiB") && check.todo.contains("rmem_max=4194304"));
        let here = socket_buffers();
        assert!(here.grade != Grade::Fail && here.evidence.contains("KiB"), "{here:?}");
    }
}
