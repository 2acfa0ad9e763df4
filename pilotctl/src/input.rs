//! Owns the reading of what a message is made of: a file, a pipe, or standard input.

use pilot_node::{Code, Failure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Bytes that are read: one more than the longest message has, so that the node refuses what is longer. Unit: bytes.
const LEN_MAX: u64 = (16 << 20) + 1;

/// Reads standard input to its end.
pub(crate) fn stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(LEN_MAX).read_to_end(&mut bytes);
    read.map_err(|e| Failure::new(Code::Internal, format!("stdin: {e}")))?;
    Ok(bytes)
}

/// Reads a file. A named pipe may be without a writer, or silent, for `timeout` at a time.
pub(crate) fn file(path: &Path, timeout: Duration) -> Result<Vec<u8>, Failure> {
    let failed = |e: io::Error| {
        let code = if e.kind() == io::ErrorKind::TimedOut { Code::Timeout } else { Code::NotFound };
        Failure::new(code, format!("{}: {e}", path.display()))
    };
    // Otherwise opening a pipe would wait for a writer.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?.take(LEN_MAX);
    let limit = Timespec::try_from(timeout).ok();
    let mut bytes = Vec::new();
    loop {
        let polled = poll(&mut [PollFd::new(file.get_ref(), PollFlags::IN)], limit.as_ref());
        if polled.map_err(|e| failed(e.into()))? == 0 {
            return Err(failed(io::Error::new(io::ErrorKind::TimedOut, "nothing is written to it")));
        }
        match file.read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_pipe_is_read_to_its_end_and_one_that_stays_silent_is_told() {
        let folder = std::env::temp_dir().join(format!("pilot-input-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let silent = file(&path, Duration::from_millis(50)).unwrap_err();
        assert_eq!(silent.code, Code::Timeout, "{silent}");
        let at = path.clone();
        let writer = std::thread::spawn(move || {
            let mut pipe = OpenOptions::new().write(true).open(at).unwrap();
            for _ in 0..3 {
                pipe.write_all(&[7; 50_000]).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(file(&path, Duration::from_secs(60)).unwrap().len(), 150_000);
        writer.join().unwrap();
        assert_eq!(file(&folder.join("none"), Duration::ZERO).unwrap_err().code, Code::NotFound);
        assert_eq!(file(Path::new("/dev/zero"), Duration::ZERO).unwrap().len() as u64, LEN_MAX, "it has no end");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
