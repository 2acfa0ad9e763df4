//! Owns the capture of a node's inner packets, as a program reads it.

use crate::answer::Captured;
use crate::failure::{Code, Failure};
use crate::ipc::client::Client;
use crate::node::Node;
use crate::request::Request;
use std::time::{Duration, Instant};

/// Pause between two looks while few packets come. Source: own choice; a daemon keeps what comes in three times as long at 1 Gbit/s.
const PAUSE: Duration = Duration::from_millis(20);
/// Blocks of this length are followed by a look at once. Unit: bytes.
const BUSY_LEN: usize = 64 << 10;
/// Longest wait for the daemon.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The packets that a [`Capture`] has: all, unless something else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureOptions {
    node: Option<String>,
    port: Option<u16>,
    max_bytes: Option<u64>,
}

impl CaptureOptions {
    /// Only packets to and from this trusted peer.
    #[must_use]
    pub fn node(mut self, node: &str) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Only packets with this port at either end.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The capture ends when its file would become longer. Unit: bytes; at least 1024, 64 MiB unless something else is said.
    #[must_use]
    pub const fn max_bytes(mut self, max: u64) -> Self {
        self.max_bytes = Some(max);
        self
    }
}

/// The inner packets of a node, in clear, as the pieces of a pcapng file; see [`Node::capture`]. It ends when it is dropped.
pub struct Capture {
    client: Client,
    /// Blocks that were fetched and not given out.
    blocks: Vec<u8>,
    state: Captured,
    /// How long to wait before the next look.
    pause: Duration,
}

impl Capture {
    /// Begins a capture at the node behind a connection, which does nothing else from now on.
    ///
    /// # Errors
    /// As [`Node::capture`].
    pub fn over(mut client: Client, options: CaptureOptions) -> Result<Self, Failure> {
        let CaptureOptions { node, port, max_bytes } = options;
        let reply = client.request(&Request::Capture { node, port, max_bytes }, &[], Some(ANSWER_TIMEOUT))?;
        Ok(Self { client, state: reply.read()?, blocks: reply.blob, pause: Duration::ZERO })
    }

    /// How far the capture is.
    pub const fn state(&self) -> Captured {
        self.state
    }

    /// The next blocks of the file, waiting at most `timeout` for them; `None`: none came. After the last ones
    /// [`Captured::over`] is true.
    ///
    /// # Errors
    /// `NotRunning` when the node has ended.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Vec<u8>>, Failure> {
        let end = Instant::now() + timeout;
        while self.blocks.is_empty() && !self.state.over {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(self.pause.min(left));
            self.fetch(false)?;
        }
        let blocks = std::mem::take(&mut self.blocks);
        Ok((!blocks.is_empty()).then_some(blocks))
    }

    /// Ends the capture; gives the last blocks of the file, which tell how many packets are missing in it.
    ///
    /// # Errors
    /// `NotRunning` when the node has ended.
    pub fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        if !self.state.over {
            self.fetch(true)?;
        }
        Ok(std::mem::take(&mut self.blocks))
    }

    fn fetch(&mut self, is_last: bool) -> Result<(), Failure> {
        let request = Request::CaptureNext { end: is_last.then_some(true) };
        let reply = self.client.request(&request, &[], Some(ANSWER_TIMEOUT))?;
        self.state = reply.read()?;
        self.pause = if reply.blob.len() >= BUSY_LEN { Duration::ZERO } else { PAUSE };
        self.blocks.extend(reply.blob);
        Ok(())
    }
}

impl Iterator for Capture {
    type Item = Result<Vec<u8>, Failure>;

    /// Waits for the next blocks; ends with the capture.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_timeout(ANSWER_TIMEOUT) {
                Ok(Some(blocks)) => return Some(Ok(blocks)),
                Ok(None) if self.state.over => return None,
                Ok(None) => {}
                Err(failure) if failure.code == Code::NotRunning => return None,
                Err(failure) => return Some(Err(failure)),
            }
        }
    }
}

impl Node {
    /// Captures the inner packets of this node from now on: what its streams and datagrams look like between the two stacks, with
    /// what was sent again.
    ///
    /// ```no_run
    /// # fn with(node: &pilot_node::Node) -> Result<(), Box<dyn std::error::Error>> {
    /// use pilot_node::CaptureOptions;
    /// use std::io::Write as _;
    ///
    /// let mut file = std::fs::File::create("pilot.pcapng")?;
    /// for blocks in node.capture(CaptureOptions::default().port(1000))? {
    ///     file.write_all(&blocks?)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Full` when four captures are under way or no file descriptors are left; `NotFound` or `Ambiguous` for a node that is no
    /// trusted peer; `InvalidArgument` for a file that is too short; when the node has ended.
    pub fn capture(&self, options: CaptureOptions) -> Result<Capture, Failure> {
        Capture::over(self.client()?, options)
    }
}
