//! Owns the list of received files by their senders, against which the quota of each sender is held.

use litemap::LiteMap;
use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Most files on the list; the oldest leaves, and counts no more.
pub(super) const KEPT_MAX: usize = 10_000;
/// Name of the list in the folder of received files. It begins with a dot, as no received file does.
const LIST: &str = ".senders";

struct Kept {
    /// Fingerprint.
    sender: String,
    /// Unit: bytes.
    len: u64,
    name: String,
}

/// The received files that count.
pub(super) struct Ledger {
    folder: PathBuf,
    kept: VecDeque<Kept>,
    /// Lines of the file, those of files that count no more included.
    lines: usize,
}

impl Ledger {
    pub(super) fn open(folder: &Path) -> Self {
        // A list that cannot be read costs the senders of the files, and no file.
        let text = fs::read(folder.join(LIST)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut ledger = Self { folder: folder.into(), kept: VecDeque::new(), lines: 0 };
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            if let (Some(sender), Some(Ok(len)), Some(name)) =
                (words.next(), words.next().map(str::parse), words.next())
            {
                ledger.enter(Kept { sender: sender.into(), len, name: name.into() });
            }
        }
        ledger
    }

    fn enter(&mut self, kept: Kept) {
        self.lines += 1;
        self.kept.push_back(kept);
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
        debug_assert!(self.kept.len() <= KEPT_MAX);
    }

    /// Notes a file that was kept. Its name has no line break.
    pub(super) fn add(&mut self, sender: &str, len: u64, path: &Path) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
        self.enter(Kept { sender: sender.into(), len, name: name.into() });
        let written = if self.lines > 2 * KEPT_MAX { self.rewrite() } else { self.append() };
        // Without its line the file counts until the next start.
        let _ = written;
    }

    fn append(&self) -> io::Result<()> {
        let Some(kept) = self.kept.back() else { return Ok(()) };
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.folder.join(LIST))?;
        file.write_all(line(kept).as_bytes())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let (path, new) = (self.folder.join(LIST), self.folder.join(".senders.new"));
        let text: String = self.kept.iter().map(line).collect();
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
        self.lines = self.kept.len();
        fs::rename(new, path)
    }

    /// The bytes of a sender's files that are in the folder still; exact when there are more than `enough`. Unit: bytes.
    pub(super) fn len_of(&mut self, sender: &str, enough: u64) -> u64 {
        let noted = self.sum(sender);
        if noted <= enough {
            return noted;
        }
        let folder = &self.folder;
        self.kept.retain(|kept| {
            kept.sender != sender || fs::metadata(folder.join(&kept.name)).is_ok_and(|meta| meta.len() == kept.len)
        });
        self.sum(sender)
    }

    /// Adds the bytes of the files that are in the folder still to those of their senders. Unit: bytes.
    pub(super) fn add_to(&mut self, sizes: &mut LiteMap<String, u64>) {
        let folder = &self.folder;
        self.kept.retain(|kept| fs::metadata(folder.join(&kept.name)).is_ok_and(|meta| meta.len() == kept.len));
        self.kept.iter().for_each(|kept| *sizes.entry(kept.sender.clone()).or_default() += kept.len);
    }

    fn sum(&self, sender: &str) -> u64 {
        self.kept.iter().filter(|kept| kept.sender == sender).map(|kept| kept.len).sum()
    }
}

fn line(kept: &Kept) -> String {
    format!("{} {} {}\n", kept.sender, kept.len, kept.name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn files_count_for_their_sender_while_they_are_there_up_to_a_maximum() {
        let folder = std::env::temp_dir().join(format!("pilot-ledger-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut ledger = Ledger::open(&folder);
        for name in ["a b.txt", "c"] {
            fs::write(folder.join(name), b"12345").unwrap();
            ledger.add("PEER", 5, &folder.join(name));
        }
        ledger.add("OTHER", 100, &folder.join("gone"));
        let mut ledger = Ledger::open(&folder);
        assert_eq!((ledger.len_of("PEER", 0), ledger.len_of("OTHER", 100), ledger.len_of("OTHER", 0)), (10, 100, 0));
        fs::remove_file(folder.join("a b.txt")).unwrap();
        assert_eq!((ledger.len_of("PEER", 10), ledger.len_of("PEER", 9)), (10, 5), "looked at only when it matters");
        for _ in 0..2 * KEPT_MAX {
            ledger.add("MANY", 1, Path::new("x"));
        }
        assert_eq!((ledger.kept.len(), ledger.len_of("MANY", u64::MAX)), (KEPT_MAX, KEPT_MAX as u64));
        assert_eq!(Ledger::open(&folder).kept.len(), KEPT_MAX);
        assert!(fs::read_to_string(folder.join(LIST)).unwrap().lines().count() <= 2 * KEPT_MAX);
        fs::remove_dir_all(folder).unwrap();
    }
}
