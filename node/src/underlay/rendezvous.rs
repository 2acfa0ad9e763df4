//! The room of the file that names the rendezvous: while the rendezvous cannot be reached, the file is read again.

use crate::config::RendezvousConfig;
use crate::context::Context;
use pilot_core::Instant;
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::StaticKey;
use pilot_core::time::Duration;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Pause between two looks into the file.
const PAUSE: Duration = Duration::from_secs(5);

/// The file, if one is configured: only a file can name another rendezvous later.
pub(crate) struct RendezvousFile {
    path: Option<PathBuf>,
    due: Option<Instant>,
}

impl RendezvousFile {
    pub(crate) fn new(config: &RendezvousConfig) -> Self {
        let path = if let RendezvousConfig::File(path) = config { Some(path.clone()) } else { None };
        Self { path, due: None }
    }

    /// The state of the rendezvous has changed.
    pub(crate) fn directory_changed(&mut self, now: Instant, state: DirectoryState) {
        match state {
            DirectoryState::Ready(_) => self.due = None,
            DirectoryState::Connecting => self.due = self.path.is_some().then(|| now + PAUSE),
            _ => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        if self.due.is_none_or(|at| at > cx.now) {
            return;
        }
        self.due = Some(cx.now + PAUSE);
        if let Some((key, addr)) = self.path.as_deref().and_then(read)
            && cx.stack.endpoint().rendezvous_address() != Some((key, addr))
        {
            cx.stack.endpoint_mut().set_rendezvous(cx.now, key, addr);
        }
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

/// The rendezvous that a file names (`KEY@host:port`); `None` while there is no such file.
pub(crate) fn read(path: &Path) -> Option<(StaticKey, SocketAddr)> {
    match std::fs::read_to_string(path).ok()?.parse() {
        Ok(RendezvousConfig::At(key, addr)) => Some((key, addr)),
        _ => None,
    }
}
