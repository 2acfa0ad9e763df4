//! Owns the verbs about files.

use crate::answer::Received;
use crate::failure::Failure;
use crate::mail::send_file::{SentFile, send_file};
use crate::node::Node;
use crate::request::Request;
use crate::services::DATA_EXCHANGE;
use std::path::Path;
use std::time::Duration;

/// The verbs about files; see [`Node::files`].
///
/// ```no_run
/// # fn with(node: &pilot_node::Node) -> Result<(), pilot_node::Failure> {
/// let sent = node.files().send("worker-node", "report.pdf")?;
/// println!("{} bytes, verified", sent.len);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Files<'a>(pub(super) &'a Node);

/// Longest silence of the receiver.
const SILENCE_MAX: Duration = Duration::from_secs(60);

impl Files<'_> {
    /// Sends a file to a peer and waits until the peer has it synced and verified. A transfer that broke goes on where it
    /// was when the same file is sent again.
    ///
    /// # Errors
    /// As [`Node::connect`] and [`send_file`]; `Timeout` when the receiver is silent for a minute.
    pub fn send(&self, node: &str, path: impl AsRef<Path>) -> Result<SentFile, Failure> {
        self.send_with(node, path, |_, _| {})
    }

    /// As [`Files::send`]; `progress` is told how many bytes of how many are acknowledged.
    ///
    /// # Errors
    /// As [`Files::send`].
    pub fn send_with(
        &self,
        node: &str,
        path: impl AsRef<Path>,
        progress: impl FnMut(u64, u64),
    ) -> Result<SentFile, Failure> {
        let mut stream = self.0.connect(node, DATA_EXCHANGE)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        send_file(&mut stream, path.as_ref(), progress)
    }

    /// The files that have arrived, and the folder where they are.
    ///
    /// # Errors
    /// When the disk fails, or the node has ended.
    pub fn received(&self) -> Result<Received, Failure> {
        self.0.ask(Request::Received)
    }
}
