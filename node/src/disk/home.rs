//! Owns a node's folder: its place, the lock against a second process, and the place of the IPC socket.

use crate::disk::identity_file;
use crate::failure::{Code, Failure};
use pilot_core::Identity;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A node's folder, locked as long as this lives.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// `$PILOT_HOME`, else `~/.pilot`.
    pub fn default_path() -> PathBuf {
        match std::env::var_os("PILOT_HOME").filter(|v| !v.is_empty()) {
            Some(home) => home.into(),
            None => std::env::home_dir().unwrap_or_else(|| "/".into()).join(".pilot"),
        }
    }

    /// Makes the folder (mode 0700) unless it exists, and locks it.
    ///
    /// # Errors
    /// `Conflict` when another process has locked the folder; `Internal` with the text of the file system.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", path.display()));
        fs::create_dir_all(path).map_err(error)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(error)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(error)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::new(Code::Conflict, format!("a daemon already runs in {}", path.display()))
                .hint("pilotctl daemon stop, or another PILOT_HOME")
        })?;
        Ok(Self { path: path.into(), _lock: lock })
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

/// The path of the daemon's IPC socket: `$PILOT_SOCKET`, else `pilot.sock` inside `$PILOT_HOME` when that is set, else
/// `$XDG_RUNTIME_DIR/pilot.sock`, else `/tmp/pilot.sock`. Source: `docs/interfaces.md`, "pilotctl".
pub fn socket_path() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("PILOT_SOCKET")
        .or_else(|| var("PILOT_HOME").map(|home| home.join("pilot.sock")))
        .or_else(|| var("XDG_RUNTIME_DIR").map(|dir| dir.join("pilot.sock")))
        .unwrap_or_else(|| "/tmp/pilot.sock".into())
}
