//! Owns the place of the daemon's socket: its path, the folder that belongs to one user, and paths that are longer than an
//! address of a socket may be.

use crate::disk::home::{Variables, from_system, without_home};
use crate::failure::{Code, Failure};
use crate::platform::{peer_is_ours, peer_uid};
use mio::net::UnixListener;
use rustix::process::geteuid;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest path in a socket's address. Unit: bytes. Source: unix(7); the BSDs have four bytes fewer.
const PATH_LEN_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Longest wait for a daemon with a full queue of clients. Own choice: a daemon that works empties it many times a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two attempts meanwhile.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// The path of the daemon's IPC socket: `$PILOT_SOCKET`, else `pilot.sock` inside `$PILOT_HOME` when that is set, else
/// `$XDG_RUNTIME_DIR/pilot.sock`, else `/tmp/pilot-UID/pilot.sock`. A service of systemd that has no home has it in its
/// `$RUNTIME_DIRECTORY`, else in its `$STATE_DIRECTORY`. Source: `docs/interfaces.md`, "pilotctl".
pub fn socket_path() -> PathBuf {
    path_by(&from_system)
}

fn path_by(variables: Variables<'_>) -> PathBuf {
    let folder = || {
        let service = without_home(variables).map(|state| variables("RUNTIME_DIRECTORY").unwrap_or(state));
        let folder = variables("PILOT_HOME").or(service).or_else(|| variables("XDG_RUNTIME_DIR"));
        folder.unwrap_or_else(own_folder)
    };
    variables("PILOT_SOCKET").unwrap_or_else(|| folder().join("pilot.sock"))
}

/// The folder for the socket of a user for whom the system has none.
fn own_folder() -> PathBuf {
    format!("/tmp/pilot-{}", geteuid().as_raw()).into()
}

/// Binds a socket, and makes its folder if that is missing. A file at the path is replaced if it is a socket that no process
/// serves.
///
/// # Errors
/// `Conflict` when a process serves it, when another file has the path, or when the user's own folder in `/tmp` is not
/// that user's alone; `Internal` with the text of the file system.
pub(super) fn bind(path: &Path) -> Result<UnixListener, Failure> {
    let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", path.display()));
    let taken = |why: String| Failure::new(Code::Conflict, why);
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(taken(format!("{} is a file, not a socket", path.display()))
                .hint("PILOT_SOCKET=PATH names another place"));
        }
        Ok(_) if is_served(path) => {
            return Err(taken(format!("a daemon already serves {}", path.display())).hint("pilotctl daemon stop"));
        }
        Ok(_) => fs::remove_file(path).map_err(error)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(error(e)),
    }
    if let Some(folder) = path.parent() {
        if folder == own_folder() { make_own(folder)? } else { fs::create_dir_all(folder).map_err(error)? }
    }
    let (short, _folder) = shortened(path).map_err(|e| too_long(path, &e))?;
    UnixListener::bind(short).map_err(error)
}

/// Makes a folder that this user alone may use, in one that all users may write, and checks that it is such a folder.
fn make_own(folder: &Path) -> Result<(), Failure> {
    let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", folder.display()));
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(error(e)),
        _ => {}
    }
    let found = fs::symlink_metadata(folder).map_err(error)?;
    let why = match found.uid() {
        _ if !found.is_dir() => "is no folder".to_owned(),
        uid if uid != geteuid().as_raw() => format!("belongs to another user ({uid})"),
        _ if found.mode() & 0o077 != 0 => format!("can be used by others (mode {:o})", found.mode() & 0o777),
        _ => return Ok(()),
    };
    Err(Failure::new(Code::Conflict, format!("{} {why}", folder.display()))
        .hint("remove it, or name another place with PILOT_SOCKET=PATH"))
}

/// Connects to the process that serves `path`, if that is one of this user or root. Root is also served by the owner of the
/// folder, if no other user may write there: root has named it. Nothing is written to the socket.
///
/// # Errors
/// `NotRunning` when no process serves it; `Conflict` when another user's does; `Timeout` when it takes no clients.
pub(super) fn connect(path: &Path) -> Result<UnixStream, Failure> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let stream = loop {
        match connect_once(path) {
            Ok(stream) => break stream,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(CONNECT_PAUSE);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(Failure::new(Code::Timeout, format!("the daemon at {} takes no clients", path.display()))
                    .hint("pilotctl daemon status"));
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Err(too_long(path, &e)),
            Err(e) => {
                return Err(Failure::new(Code::NotRunning, format!("no daemon answers at {} ({e})", path.display()))
                    .hint("pilotctl daemon start"));
            }
        }
    };
    let is_folders_owner = |uid: u32| {
        let folder = path.parent().and_then(|folder| fs::metadata(folder).ok());
        geteuid().is_root() && folder.is_some_and(|folder| folder.uid() == uid && folder.mode() & 0o022 == 0)
    };
    match peer_uid(&stream) {
        _ if peer_is_ours(&stream) => Ok(stream),
        Some(uid) if is_folders_owner(uid.as_raw()) => Ok(stream),
        uid => {
            let other = uid.map_or_else(|| "an unknown user".to_owned(), |uid| format!("user {}", uid.as_raw()));
            let text = format!("{} is served by {other}, not by this user or root", path.display());
            Err(Failure::new(Code::Conflict, text).hint("PILOT_HOME or PILOT_SOCKET names another daemon"))
        }
    }
}

/// Connects without waiting for room among the clients that wait.
fn connect_once(path: &Path) -> io::Result<UnixStream> {
    let (short, _folder) = shortened(path)?;
    let stream = UnixStream::from(OwnedFd::from(mio::net::UnixStream::connect(short)?));
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// True also when the process that serves the path has too many clients that wait.
fn is_served(path: &Path) -> bool {
    connect_once(path).map_or_else(|e| e.kind() == io::ErrorKind::WouldBlock, |_| true)
}

fn too_long(path: &Path, e: &io::Error) -> Failure {
    Failure::new(Code::InvalidArgument, format!("{}: {e}", path.display()))
        .hint("name a shorter place for the socket: PILOT_SOCKET=PATH")
}

/// A path for the same file that fits into a socket's address. It holds as long as the descriptor of the folder.
#[cfg(target_os = "linux")]
fn shortened(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    use rustix::fs::{Mode, OFlags, open};
    use std::os::fd::AsRawFd as _;
    if path.as_os_str().len() <= PATH_LEN_MAX {
        return Ok((path.into(), None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok((path.into(), None)) };
    let folder = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    check_len(&short)?;
    Ok((short, Some(folder)))
}

#[cfg(not(target_os = "linux"))]
fn shortened(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    check_len(path)?;
    Ok((path.into(), None))
}

fn check_len(path: &Path) -> io::Result<()> {
    if path.as_os_str().len() <= PATH_LEN_MAX {
        return Ok(());
    }
    let text = format!("the path of a socket has at most {PATH_LEN_MAX} bytes");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("pilot-place-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_socket_lies_where_the_first_variable_says() {
        let by = |set: &[(&str, &str)]| {
            let variables = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value));
            path_by(&variables).display().to_string()
        };
        let (home, xdg) = (("HOME", "/"), ("XDG_RUNTIME_DIR", "/run/user/7"));
        let (state, run) = (("STATE_DIRECTORY", "/var/lib/p"), ("RUNTIME_DIRECTORY", "/run/p"));
        assert_eq!(by(&[("PILOT_SOCKET", "/s"), ("PILOT_HOME", "/h"), xdg]), "/s");
        assert_eq!(by(&[("PILOT_HOME", "/h"), xdg, state, run]), "/h/pilot.sock");
        assert_eq!(by(&[home, state, run, xdg]), "/run/p/pilot.sock");
        assert_eq!(by(&[home, state, xdg]), "/var/lib/p/pilot.sock");
        assert_eq!(by(&[("HOME", "/tmp"), state, run, xdg]), "/run/user/7/pilot.sock", "not a service's own");
        assert_eq!(by(&[("HOME", "/tmp")]), format!("/tmp/pilot-{}/pilot.sock", geteuid().as_raw()));
    }

    #[test]
    fn a_long_path_is_bound_and_found() {
        let folder = Folder::new("long");
        let deep = folder.0.join("d".repeat(90)).join("e".repeat(90));
        fs::create_dir_all(&deep).unwrap();
        let path = deep.join("pilot.sock");
        if !cfg!(target_os = "linux") {
            assert!(bind(&path).unwrap_err().hint.contains("PILOT_SOCKET"));
            return;
        }
        let listener = bind(&path).unwrap();
        connect(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().code, Code::Conflict, "it is served");
        drop(listener);
        assert_eq!(connect(&path).unwrap_err().code, Code::NotRunning);
        bind(&path).unwrap();
        let name = deep.join("s".repeat(100));
        assert!(bind(&name).unwrap_err().hint.contains("PILOT_SOCKET"), "no way leads there");
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_replaced() {
        let folder = Folder::new("file");
        let path = folder.0.join("notes");
        fs::write(&path, b"mine").unwrap();
        assert_eq!(bind(&path).unwrap_err().code, Code::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_folder_for_one_user_is_of_that_user_alone() {
        let folder = Folder::new("own");
        let own = folder.0.join("own");
        make_own(&own).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
        make_own(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make_own(&own).unwrap_err().message.contains("can be used by others"));
        fs::remove_dir(&own).unwrap();
        std::os::unix::fs::symlink("/tmp", &own).unwrap();
        assert!(make_own(&own).unwrap_err().message.contains("is no folder"));
        if geteuid().is_root() {
            fs::remove_file(&own).unwrap();
            fs::create_dir(&own).unwrap();
            std::os::unix::fs::chown(&own, Some(4002), None).unwrap();
            assert!(make_own(&own).unwrap_err().message.contains("another user (4002)"));
        }
    }

    #[test]
    fn a_daemon_that_takes_no_clients_is_not_waited_for_without_end() {
        let folder = Folder::new("full");
        let path = folder.0.join("pilot.sock");
        // A listener of the system's, with room for no more than one waiting client.
        let listener =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(client) = connect_once(&path) {
            waiting.push(client);
            assert!(waiting.len() < 100);
        }
        let begin = Instant::now();
        assert_eq!(connect(&path).unwrap_err().code, Code::Timeout);
        assert!(begin.elapsed() < 4 * CONNECT_TIMEOUT);
        assert_eq!(bind(&path).unwrap_err().code, Code::Conflict, "it is served");
    }
}
