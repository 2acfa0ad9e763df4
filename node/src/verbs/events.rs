//! Owns the events of a node as an iterator.

use crate::failure::Failure;
use crate::ipc::client::Client;
use crate::node::Node;
use crate::node_event::Event;
use std::time::Duration;

/// The events of a node, as they happen; see [`Node::events`]. As an iterator it waits for the next event and ends with the
/// node. Events that are not taken are kept up to 4 MiB; then they are missed, which [`Event::Missed`] tells.
pub struct Events {
    client: Client,
    /// Told once that the node has ended.
    ended: bool,
}

impl Events {
    pub(super) fn of(node: &Node, topics: Option<&str>) -> Result<Self, Failure> {
        let mut client = node.client()?;
        client.watch(topics)?;
        Ok(Self { client, ended: false })
    }

    /// The next event, waiting at most `timeout`; `None`: none came.
    ///
    /// # Errors
    /// `NotRunning` when the node has ended.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, Failure> {
        self.client.next_event(Some(timeout))?.map(|event| event.read()).transpose()
    }
}

impl Iterator for Events {
    type Item = Result<Event, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.client.next_event(None).transpose()?.and_then(|event| event.read());
        self.ended = event.is_err();
        Some(event)
    }
}
