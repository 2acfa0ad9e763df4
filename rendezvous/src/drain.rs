//! Owns the order to send all clients elsewhere and end: a file in the folder of the rendezvous, by which a command gives it.

use pilot_core::time::Duration;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Longest time in which clients leave. Unit: seconds.
const SPAN_MAX_S: u64 = 3600;

/// Where the clients of a rendezvous go when it ends, and in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The address where the same rendezvous, with the same key, serves from now on.
    pub to: SocketAddr,
    /// Time over which the clients leave, each at a random moment; an hour at most.
    pub span: Duration,
}

impl Drain {
    /// Leaves the order in the folder of a rendezvous, which follows it when it is ended in order.
    ///
    /// # Errors
    /// The error of the file system; `InvalidInput` when the time is longer than an hour.
    pub fn leave(&self, home: &Path) -> io::Result<()> {
        if self.span.as_secs() > SPAN_MAX_S {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "clients leave within an hour"));
        }
        let new = home.join("drain.new");
        fs::write(&new, format!("{} {}", self.to, self.span.as_secs()))?;
        fs::rename(new, file(home))
    }

    /// Takes the order, if there is one that can be read.
    pub(crate) fn take(home: &Path) -> Option<Self> {
        let text = fs::read_to_string(file(home)).ok()?;
        forget(home);
        let (to, seconds) = text.split_once(' ')?;
        let span = seconds.parse().ok().filter(|seconds| *seconds <= SPAN_MAX_S).map(Duration::from_secs)?;
        Some(Self { to: to.parse().ok()?, span })
    }
}

/// Removes an order that an earlier process did not follow.
pub(crate) fn forget(home: &Path) {
    // Usually there is none.
    let _ = fs::remove_file(file(home));
}

fn file(home: &Path) -> PathBuf {
    home.join("drain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_followed_once_and_only_when_it_is_whole() {
        let home = std::env::temp_dir().join(format!("pilot-drain-{}", std::process::id()));
        fs::create_dir_all(&home).expect("a folder");
        assert_eq!(Drain::take(&home), None);
        let longest = Drain { to: "[::1]:9000".parse().expect("valid"), span: Duration::from_secs(SPAN_MAX_S) };
        longest.leave(&home).expect("written");
        assert_eq!((Drain::take(&home), Drain::take(&home)), (Some(longest), None));
        let too_long = Drain { span: Duration::from_secs(SPAN_MAX_S + 1), ..longest };
        assert_eq!(too_long.leave(&home).map_err(|e| e.kind()), Err(io::ErrorKind::InvalidInput));
        for text in ["", "1.2.3.4:5", "1.2.3.4:5 x", "nowhere 5", "1.2.3.4:5 9999", "1.2.3.4:5 -1"] {
            fs::write(file(&home), text).expect("writable");
            assert_eq!((Drain::take(&home), Drain::take(&home)), (None, None), "{text:?}");
        }
        fs::remove_dir_all(home).expect("made above");
    }
}
