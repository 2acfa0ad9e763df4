//! Owns the file with a process's identity: 32 secret bytes, which everything else about a node follows from.

use crate::crypto::entropy;
use crate::failure::{Code, Failure};
use pilot_core::Identity;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Reads `identity` in a folder. Where there is none, makes one and syncs it and its folder, so that a power cut right
/// afterwards cannot lose the key that others pin.
///
/// # Errors
/// `InvalidArgument` when the file can be read by others or has the wrong size; `Internal` with the text of the file system. A
/// damaged identity is never replaced.
pub fn load_or_create(folder: &Path) -> Result<Identity, Failure> {
    let path = folder.join("identity");
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
            let partial = folder.join("identity.new");
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&partial).map_err(error)?;
            file.write_all(&seed).and_then(|()| file.sync_all()).map_err(error)?;
            fs::rename(&partial, &path).map_err(error)?;
            File::open(folder).and_then(|dir| dir.sync_all()).map_err(error)?;
            Ok(Identity::from_seed(seed))
        }
        Err(e) => Err(error(e)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_identity_is_made_once_and_a_damaged_one_is_never_replaced() {
        let folder = std::env::temp_dir().join(format!("pilot-identity-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let made = load_or_create(&folder).unwrap().public();
        assert_eq!(load_or_create(&folder).unwrap().public(), made);
        let refusal = || load_or_create(&folder).err().unwrap();
        let path = folder.join("identity");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refusal().message.contains("read by others"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"short").unwrap();
        assert!(refusal().message.contains("5 bytes instead of 32"));
        assert_eq!(fs::read(&path).unwrap(), b"short");
        fs::remove_dir_all(folder).unwrap();
    }
}
