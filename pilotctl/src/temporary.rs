//! Owns the folder of a daemon that keeps nothing.

use pilot_node::{Code, Failure};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// How the names of such folders begin.
const PREFIX: &str = "pilot-ephemeral-";

/// A folder that this user alone may read. It is removed with all that is in it when the value is dropped.
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes a new one: in `$XDG_RUNTIME_DIR`, which most systems keep in memory, else where temporary files are.
    pub(crate) fn make() -> Result<Self, Failure> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_dir());
        let parent = runtime.unwrap_or_else(std::env::temp_dir);
        let mut number = 0u32;
        loop {
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            // Another user may have made the name in a folder that all may write.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(e) => return Err(Failure::new(Code::Internal, format!("{}: {e}", path.display()))),
            }
        }
    }

    /// Takes over a folder that [`TemporaryFolder::make`] has made in another process.
    ///
    /// # Errors
    /// `InvalidArgument` for any other folder: it would be removed with all that is in it.
    pub(crate) fn of(path: PathBuf) -> Result<Self, Failure> {
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(PREFIX)) {
            return Ok(Self(path));
        }
        let text = format!("{} is no folder of `daemon start --ephemeral`, and would be removed", path.display());
        Err(Failure::new(Code::InvalidArgument, text))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves the folder to the process that has taken it over.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What cannot be removed stays until the system clears such folders.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn each_folder_is_new_private_and_removed_with_its_contents() {
        let (one, other) = (TemporaryFolder::make().expect("one"), TemporaryFolder::make().expect("another"));
        assert_ne!(one.path(), other.path());
        assert_eq!(fs::metadata(one.path()).expect("there").mode() & 0o777, 0o700);
        fs::write(one.path().join("identity"), "secret").expect("writable");
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() && other.path().exists());
        let path = other.path().to_owned();
        other.keep();
        drop(TemporaryFolder::of(path.clone()).expect("made here"));
        assert!(!path.exists());
    }

    #[test]
    fn no_other_folder_is_taken_over_and_removed() {
        let other = std::env::temp_dir().join(format!("pilot-home-{}", std::process::id()));
        fs::create_dir(&other).expect("a folder");
        for path in [other.clone(), other.join(".."), PathBuf::from("/")] {
            assert_eq!(TemporaryFolder::of(path).err().map(|failure| failure.code), Some(Code::InvalidArgument));
        }
        assert!(other.exists());
        fs::remove_dir(&other).expect("it is there");
    }
}
