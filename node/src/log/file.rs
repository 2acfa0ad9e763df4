//! Owns the log file: bounded in size, with one predecessor, and able to go on after a full disk.

use crate::log::format::LogFormat;
use crate::log::record::Record;
use crate::log::sink::LogSink;
use pilot_core::Level;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Largest size of a log file. Unit: bytes. A longer one becomes the predecessor, in the place of an older predecessor.
pub const LOG_LEN_MAX: u64 = 4 << 20;

/// Writes to a file. What cannot be written is counted, and the number is told when the disk takes lines again.
pub struct LogFile {
    path: PathBuf,
    format: LogFormat,
    len_max: u64,
    /// `None` after a failure; the next line tries again.
    file: Option<File>,
    lost: u64,
    /// This process's standard error went to the file when it was opened first, so it follows the file: for the text of a
    /// panic.
    has_stderr: bool,
}

impl LogFile {
    /// Opens the file for appending, making it if it is missing (mode 0600).
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, format: LogFormat) -> io::Result<Self> {
        Self::open_with_len(path, format, LOG_LEN_MAX)
    }

    fn open_with_len(path: &Path, format: LogFormat, len_max: u64) -> io::Result<Self> {
        let file = append(path)?;
        let has_stderr = is_same(&file, &io::stderr());
        Ok(Self { path: path.into(), format, len_max, file: Some(file), lost: 0, has_stderr })
    }

    /// The name of the predecessor of the log at `path`.
    pub fn predecessor(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".1");
        name.into()
    }

    /// The open file with room for `len` more bytes, and its length. Anything but a regular file has no length.
    fn file(&mut self, len: u64) -> io::Result<(&File, u64)> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open_again()?,
        };
        let mut metadata = file.metadata()?;
        if metadata.is_file() && metadata.len() > 0 && metadata.len() + len > self.len_max {
            fs::rename(&self.path, Self::predecessor(&self.path))?;
            file = self.open_again()?;
            metadata = file.metadata()?;
        }
        let before = if metadata.is_file() { metadata.len() } else { 0 };
        Ok((self.file.insert(file), before))
    }

    fn open_again(&self) -> io::Result<File> {
        let file = append(&self.path)?;
        if self.has_stderr {
            rustix::stdio::dup2_stderr(&file)?;
        }
        Ok(file)
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        let (mut file, before) = self.file(line.len() as u64)?;
        let written = file.write_all(line.as_bytes());
        if written.is_err() {
            // The part of the line that the disk did take; only a regular file can give it back.
            let _ = file.set_len(before);
            self.file = None;
        }
        written
    }
}

impl LogSink for LogFile {
    fn line(&mut self, record: &Record) {
        let mut lines = String::new();
        if self.lost > 0 {
            let mut note = Record::new(Level::Warn, "log_lost").with("count", self.lost);
            note.set_time(record.at_ms());
            lines = self.format.line(&note);
        }
        lines.push_str(&self.format.line(record));
        match self.append(&lines) {
            Ok(()) => self.lost = 0,
            Err(_) => self.lost += 1,
        }
    }

    fn reopen(&mut self) {
        // A failure is met again by the next line, which is counted then.
        self.file = self.open_again().ok();
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// True when both descriptors are of one file.
fn is_same(a: &impl AsFd, b: &impl AsFd) -> bool {
    let place = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    place(a.as_fd()).is_some_and(|place_of_a| place(b.as_fd()) == Some(place_of_a))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pilot-log-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder for tests");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record(number: u64) -> Record {
        Record::new(Level::Info, "test").with("number", number)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn the_size_is_bounded_and_one_predecessor_is_kept() {
        let folder = Folder::new("size");
        let path = folder.0.join("pilot.log");
        let mut log = LogFile::open_with_len(&path, LogFormat::Text, 1000).expect("a new file");
        (0..100).for_each(|number| log.line(&record(number)));
        let (before, now) = (read(&LogFile::predecessor(&path)), read(&path));
        assert!(before.len() <= 1000 && now.len() <= 1000, "{} {}", before.len(), now.len());
        assert!(now.ends_with("number=99\n"));
        let last = before.lines().last().expect("full").split_once("number=").expect("a field").1;
        let first = now.lines().next().expect("begun").split_once("number=").expect("a field").1;
        assert_eq!(first.parse::<u64>(), last.parse().map(|n: u64| n + 1), "no line is missing between them");
        assert_eq!(fs::read_dir(&folder.0).expect("a folder").count(), 2);
    }

    #[test]
    fn a_file_that_was_moved_is_opened_anew() {
        let folder = Folder::new("moved");
        let (path, moved) = (folder.0.join("pilot.log"), folder.0.join("old"));
        let mut log = LogFile::open(&path, LogFormat::Text).expect("a new file");
        log.line(&record(1));
        fs::rename(&path, &moved).expect("moved");
        log.line(&record(2));
        log.reopen();
        log.line(&record(3));
        assert_eq!((read(&moved).lines().count(), read(&path).lines().count()), (2, 1));
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told() {
        let folder = Folder::new("full");
        let path = folder.0.join("gone").join("pilot.log");
        fs::create_dir(folder.0.join("gone")).expect("a folder");
        let mut log = LogFile::open(&path, LogFormat::Json).expect("a new file");
        fs::remove_dir_all(folder.0.join("gone")).expect("there");
        log.reopen();
        (0..5).for_each(|number| log.line(&record(number)));
        fs::create_dir(folder.0.join("gone")).expect("a folder again");
        log.line(&record(5));
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("\"log_lost\"") && lines[0].contains("\"count\":5"), "{text}");
        assert_eq!(lines.len(), 2);
    }

    /// The device for which every write fails as on a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let mut log = LogFile::open(Path::new("/dev/full"), LogFormat::Text).expect("every Linux has it");
        (0..3).for_each(|number| log.line(&record(number)));
        assert_eq!(log.lost, 3);
    }
}
