//! Owns a node's folder: its place, and the lock against a second process.

use crate::disk::identity_file;
use crate::failure::{Code, Failure};
use pilot_core::Identity;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The file in the folder that is locked; in it the number of the process.
const LOCK: &str = "lock";

/// A node's folder, locked as long as this lives.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// `$PILOT_HOME`, else `~/.pilot`. A service of systemd that has no home has it in its `$STATE_DIRECTORY`.
    pub fn default_path() -> PathBuf {
        path_by(&from_system)
    }

    /// Makes the folder (mode 0700) unless it exists, and locks it. The mode of a folder that exists stays as it is: others
    /// may use it, too, or another user may own it.
    ///
    /// # Errors
    /// `Conflict` when another process has locked the folder; `Internal` with the text of the file system.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::make(path)?;
        let mut lock = lock_file(path).map_err(|e| unusable(path, &e))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| not_locked(path, e))?;
        // For people, so it may fail.
        let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Makes the folder (mode 0700) unless it exists.
    ///
    /// # Errors
    /// `Internal` with the text of the file system.
    pub fn make(path: &Path) -> Result<(), Failure> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| unusable(path, &e))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(_) if path.is_dir() => Ok(()),
            made => made.map_err(|e| unusable(path, &e)),
        }
    }

    /// The folder of the user, in which all nodes of the user may share something: `~/.pilot`. Without a usable home, it is
    /// [`Home::default_path`].
    pub fn shared_path() -> PathBuf {
        if has_home(&from_system) { user_path(&from_system) } else { Self::default_path() }
    }

    /// True while a process has the folder at `path` open.
    pub fn is_locked(path: &Path) -> bool {
        let Ok(lock) = OpenOptions::new().read(true).open(path.join(LOCK)) else { return false };
        flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the identity, or makes one.
    ///
    /// # Errors
    /// See [`identity_file::load_or_create`].
    pub fn identity(&self) -> Result<Identity, Failure> {
        identity_file::load_or_create(&self.path)
    }
}

/// The values of variables of the environment that are paths; empty ones are not set. Of a list (systemd writes one with
/// colons) the first is meant.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// The variables of this process; `HOME` is, without such a variable, the user's home in the system's list of users.
pub(crate) fn from_system(name: &str) -> Option<PathBuf> {
    if name == "HOME" {
        return std::env::home_dir();
    }
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    let first = name.ends_with("_DIRECTORY").then(|| value.to_str()?.split_once(':')).flatten();
    Some(first.map_or_else(|| PathBuf::from(&value), |(first, _)| first.into()))
}

/// True where the user has a home, which services often do not.
fn has_home(variables: Variables<'_>) -> bool {
    variables("HOME").is_some_and(|home| home.parent().is_some() && home.is_dir())
}

/// The folder that systemd gives to a service for its state, for a user without a home.
pub(crate) fn without_home(variables: Variables<'_>) -> Option<PathBuf> {
    if has_home(variables) { None } else { variables("STATE_DIRECTORY") }
}

fn user_path(variables: Variables<'_>) -> PathBuf {
    variables("HOME").unwrap_or_else(|| "/".into()).join(".pilot")
}

fn path_by(variables: Variables<'_>) -> PathBuf {
    let path = variables("PILOT_HOME").or_else(|| without_home(variables));
    path.unwrap_or_else(|| user_path(variables))
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK))
}

/// The failure of a folder in which this user cannot write.
fn unusable(path: &Path, e: &io::Error) -> Failure {
    let failure = Failure::new(Code::Internal, format!("{}: {e}", path.display()));
    match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            failure.hint("set PILOT_HOME to a folder in which this user may write")
        }
        _ => failure,
    }
}

/// The failure of locking the folder.
fn not_locked(path: &Path, e: Errno) -> Failure {
    if e == Errno::WOULDBLOCK {
        let pid = fs::read_to_string(path.join(LOCK)).ok().filter(|pid| pid.parse::<u32>().is_ok());
        let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        return Failure::new(Code::Conflict, format!("a daemon already runs in {}{pid}", path.display()))
            .hint("pilotctl daemon stop, or another PILOT_HOME");
    }
    Failure::new(Code::Internal, format!("{} cannot be locked: {}", path.display(), io::Error::from(e)))
        .hint("its file system, perhaps of a network, has no locks: set PILOT_HOME to a folder on a local disk")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_home_is_found_by_the_first_variable_that_helps() {
        let by = |set: &[(&str, &str)]| {
            let variables = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value));
            path_by(&variables).display().to_string()
        };
        let state = ("STATE_DIRECTORY", "/var/lib/p");
        assert_eq!(by(&[("PILOT_HOME", "/h"), ("HOME", "/tmp"), state]), "/h");
        assert_eq!(by(&[("HOME", "/tmp"), state]), "/tmp/.pilot");
        for home in ["/", "/nonexistent", "relative"] {
            assert_eq!(by(&[("HOME", home), state]), "/var/lib/p", "{home}");
        }
        assert_eq!(by(&[state]), "/var/lib/p");
        assert_eq!(by(&[("HOME", "/nonexistent")]), "/nonexistent/.pilot");
        assert_eq!(by(&[]), "/.pilot");
    }

    #[test]
    fn only_a_folder_that_is_made_gets_its_mode_and_files_are_closed_to_others() {
        let folder = std::env::temp_dir().join(format!("pilot-home-{}", std::process::id()));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let made = folder.join("a/b");
        let home = Home::open(&made).unwrap();
        assert_eq!((mode(&made), mode(&made.join(LOCK))), (0o700, 0o600));
        assert!(Home::is_locked(&made));
        let refused = Home::open(&made).unwrap_err();
        assert!(
            refused.code == Code::Conflict && refused.message.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(home);
        assert!(!Home::is_locked(&made) && !Home::is_locked(&folder));
        for given in [0o1777, 0o2770, 0o755] {
            fs::set_permissions(&made, fs::Permissions::from_mode(given)).unwrap();
            Home::open(&made).unwrap();
            assert_eq!(mode(&made), given);
        }
        fs::write(folder.join("file"), b"").unwrap();
        assert_eq!(Home::open(&folder.join("file")).unwrap_err().code, Code::Internal);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_system_without_locks_is_told_from_a_daemon_that_runs() {
        let refused = not_locked(Path::new("/x"), Errno::NOLCK);
        assert!(refused.code == Code::Internal && refused.message.contains("cannot be locked"), "{refused}");
        assert!(refused.hint.contains("PILOT_HOME"));
        assert_eq!(not_locked(Path::new("/x"), Errno::WOULDBLOCK).code, Code::Conflict);
        let denied = unusable(Path::new("/x"), &io::ErrorKind::PermissionDenied.into());
        assert!(denied.hint.contains("PILOT_HOME"));
    }
}
