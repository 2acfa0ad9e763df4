//! Owns a node's folder: the identity file, the lock against a second process, and where the IPC socket is.

use crate::crypto::entropy;
use crate::failure::{Code, Failure};
use pilot_core::Identity;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
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

    /// Makes the folder if need be (mode 0700) and locks it.
    ///
    /// # Errors
    /// `Conflict` when another process has it; otherwise what the file system says.
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
    /// When the file is readable by others, has the wrong size, or cannot be read. A damaged identity is never replaced.
    pub fn identity(&self) -> Result<Identity, Failure> {
        let path = self.path.join("identity");
        let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", path.display()));
        match fs::metadata(&path) {
            Ok(meta) if meta.mode() & 0o077 != 0 => {
                let text = format!("{} can be read by others (mode {:o})", path.display(), meta.mode() & 0o777);
                Err(Failure::new(Code::InvalidArgument, text).hint(format!("chmod 600 {}", path.display())))
            }
            Ok(_) => {
                let bytes = fs::read(&path).map_err(error)?;
                let seed = bytes.try_into().map_err(|bytes: Vec<u8>| {
                    let text = format!("{} is damaged: {} bytes instead of 32", path.display(), bytes.len());
                    Failure::new(Code::InvalidArgument, text)
                        .hint("restore it from a backup; a new identity gets a new address")
                })?;
                Ok(Identity::from_seed(seed))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let seed: [u8; 32] = entropy();
                let partial = self.path.join("identity.new");
                let mut file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&partial)
                    .map_err(error)?;
                file.write_all(&seed).and_then(|()| file.sync_all()).map_err(error)?;
                fs::rename(&partial, &path).map_err(error)?;
                File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(error)?;
                Ok(Identity::from_seed(seed))
            }
            Err(e) => Err(error(e)),
        }
    }
}

/// Where the daemon's IPC socket is: `$PILOT_SOCKET`, else `pilot.sock` inside `$PILOT_HOME` when that is set, else
/// `$XDG_RUNTIME_DIR/pilot.sock`, else `/tmp/pilot.sock`. Source: interfaces.md.
pub fn socket_path() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("PILOT_SOCKET")
        .or_else(|| var("PILOT_HOME").map(|home| home.join("pilot.sock")))
        .or_else(|| var("XDG_RUNTIME_DIR").map(|dir| dir.join("pilot.sock")))
        .unwrap_or_else(|| "/tmp/pilot.sock".into())
}
