//! Owns the file with a process's identity: 32 secret bytes, which everything else about a node follows from; and a second file
//! with the public key, by which damage and loss of the first are noticed.

use crate::crypto::entropy;
use crate::failure::{Code, Failure};
use pilot_core::Identity;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

const SECRET: &str = "identity";
/// Holds the public key in hexadecimal digits.
const PUBLIC: &str = "identity.pub";
const HINT: &str =
    "restore it from a backup, or go on with another key, which no peer trusts: daemon start --accept-loss";

/// Reads `identity` in a folder. Where there is none, makes one and syncs it and its folder, so that a power cut right
/// afterwards cannot lose the key that others pin.
///
/// # Errors
/// `InvalidArgument` when the file can be read by others, has the wrong size, is missing, or does not have the key that
/// `identity.pub` names; `Internal` with the text of the file system. A damaged identity is never replaced.
pub fn load_or_create(folder: &Path) -> Result<Identity, Failure> {
    let path = folder.join(SECRET);
    let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", path.display()));
    let damaged = |what: String| {
        Err(Failure::new(Code::InvalidArgument, format!("{} is damaged: {what}", path.display())).hint(HINT))
    };
    let public = public(folder).map_err(error)?;
    match fs::metadata(&path) {
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            let text = format!("{} can be read by others (mode {:o})", path.display(), meta.mode() & 0o777);
            Err(Failure::new(Code::InvalidArgument, text).hint(format!("chmod 600 {}", path.display())))
        }
        Ok(_) => {
            let bytes = fs::read(&path).map_err(error)?;
            let identity = match <[u8; 32]>::try_from(bytes) {
                Ok(seed) => Identity::from_seed(seed),
                Err(bytes) => return damaged(format!("{} bytes instead of 32", bytes.len())),
            };
            let key = identity.public().to_string();
            match public {
                Some(known) if known != key => damaged(format!("its key is {key}, and {PUBLIC} names {known}")),
                Some(_) => Ok(identity),
                None => write(folder, PUBLIC, key.as_bytes()).map_err(error).map(|()| identity),
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(known) = public {
                let text = format!("{} is missing, and {PUBLIC} names the key {known}", path.display());
                return Err(Failure::new(Code::InvalidArgument, text).hint(HINT));
            }
            let seed: [u8; 32] = entropy();
            let identity = Identity::from_seed(seed);
            write(folder, SECRET, &seed).map_err(error)?;
            write(folder, PUBLIC, identity.public().to_string().as_bytes()).map_err(error)?;
            Ok(identity)
        }
        Err(e) => Err(error(e)),
    }
}

/// Takes whatever identity a folder has for the right one from now on. One that cannot be used is moved aside.
///
/// # Errors
/// `Internal` with the text of the file system.
pub fn accept(folder: &Path) -> Result<(), Failure> {
    let path = folder.join(SECRET);
    let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", path.display()));
    let gone = |done: io::Result<()>| match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(error(e)),
        _ => Ok(()),
    };
    if fs::metadata(&path).is_ok_and(|meta| meta.len() != 32) {
        gone(fs::rename(&path, folder.join("identity.damaged")))?;
    }
    gone(fs::remove_file(folder.join(PUBLIC)))
}

/// The key that the second file names. A file that a crash tore names none.
fn public(folder: &Path) -> io::Result<Option<String>> {
    match fs::read(folder.join(PUBLIC)) {
        Ok(text) => Ok(String::from_utf8(text).ok().filter(|text| text.len() == 64)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a file that is whole or not there.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let partial = folder.join("identity.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes).and_then(|()| file.sync_all())?;
    fs::rename(&partial, folder.join(name))?;
    File::open(folder)?.sync_all()
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

    #[test]
    fn an_identity_with_a_turned_bit_or_missing_is_refused_until_its_owner_accepts_the_loss() {
        let folder = std::env::temp_dir().join(format!("pilot-identity-lost-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let made = load_or_create(&folder).unwrap().public();
        let (path, public) = (folder.join(SECRET), folder.join(PUBLIC));
        assert_eq!(fs::read_to_string(&public).unwrap(), made.to_string());
        let seed = fs::read(&path).unwrap();
        for bit in 0..256 {
            let mut other = seed.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, other).unwrap();
            let refusal = load_or_create(&folder).err().unwrap();
            assert!(
                refusal.message.contains("is damaged") && refusal.hint.contains("--accept-loss"),
                "{bit}: {}",
                refusal.message
            );
        }
        fs::remove_file(&path).unwrap();
        assert!(load_or_create(&folder).err().unwrap().message.contains("is missing"));
        // Restored from a backup.
        fs::write(&path, &seed).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load_or_create(&folder).unwrap().public(), made);
        // Only the secret was restored, on another machine.
        fs::remove_file(&public).unwrap();
        assert_eq!(load_or_create(&folder).unwrap().public(), made);
        assert!(public.exists());
        fs::write(&path, b"short").unwrap();
        accept(&folder).unwrap();
        assert_ne!(load_or_create(&folder).unwrap().public(), made);
        assert_eq!(fs::read(folder.join("identity.damaged")).unwrap(), b"short");
        fs::remove_dir_all(folder).unwrap();
    }
}
