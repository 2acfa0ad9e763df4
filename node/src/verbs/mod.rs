//! Owns the typed verbs of [`Node`]: each makes one [`Request`] and gives its answer. Any thread may call any of them; each
//! blocks until the node answers.

mod capture;
mod events;
mod files;
mod groups;
mod messages;
mod programs;
mod trust;

pub use capture::{Capture, CaptureOptions};
pub use events::Events;
pub use files::Files;
pub use groups::{GroupChange, GroupCode};
pub use messages::{AskOptions, Messages, SendOptions};
pub use programs::{ExposeOptions, Exposure, Forwarding};
pub use trust::{Terms, Trust};

use crate::answer::{
    Answer, Connections, Disconnected, Found, Info, Nodes, PeerPaths, Peers, Profile, Published, Sent,
};
use crate::failure::Failure;
use crate::node::Node;
use crate::request::Request;

impl Node {
    /// Makes a request without bytes beside it or its answer.
    fn ask<T: TryFrom<Answer, Error = Failure>>(&self, request: Request) -> Result<T, Failure> {
        Ok(self.ask_with(request, Vec::new())?.0)
    }

    fn ask_with<T: TryFrom<Answer, Error = Failure>>(
        &self,
        request: Request,
        body: Vec<u8>,
    ) -> Result<(T, Vec<u8>), Failure> {
        let (answer, body) = self.request(request, body)?;
        Ok((T::try_from(answer)?, body))
    }

    /// The verbs about trust: which nodes may reach this one, and on which ports.
    pub const fn trust(&self) -> Trust<'_> {
        Trust(self)
    }

    /// The verbs about messages: the outbox and the inbox.
    pub const fn messages(&self) -> Messages<'_> {
        Messages(self)
    }

    /// The verbs about files.
    pub const fn files(&self) -> Files<'_> {
        Files(self)
    }

    /// The node's events from now on, without what is published on its event stream.
    ///
    /// ```no_run
    /// # fn with(node: &pilot_node::Node) -> Result<(), pilot_node::Failure> {
    /// use pilot_node::Event;
    ///
    /// for event in node.events()? {
    ///     if let Event::Message { id, .. } = event? {
    ///         let (message, body) = node.messages().read(id)?;
    ///         println!("{}: {} bytes", message.from, body.len());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Full` when no file descriptors are left; when the node has ended.
    pub fn events(&self) -> Result<Events, Failure> {
        Events::of(self, None)
    }

    /// The node's events from now on, with what is published on its event stream under this topic, or below a prefix such
    /// as `sensor.*`.
    ///
    /// # Errors
    /// As [`Node::events`].
    pub fn subscribe(&self, topics: &str) -> Result<Events, Failure> {
        Events::of(self, Some(topics))
    }

    /// Gives bytes, 1 to 1,048,576, to the subscribers of this node's event stream.
    ///
    /// # Errors
    /// `InvalidArgument` when the topic or the payload is empty or too long; when the node has ended.
    pub fn publish(&self, topic: &str, payload: &[u8]) -> Result<Published, Failure> {
        Ok(self.ask_with(Request::Publish { topic: topic.into() }, payload.to_vec())?.0)
    }

    /// Sends a datagram from the port to the same port of a peer. It may be lost.
    ///
    /// # Errors
    /// `TrustRequired`; `InvalidArgument` when it is too long; `Unreachable` when there is no path now.
    pub fn send_datagram(&self, node: &str, port: u16, payload: &[u8]) -> Result<Sent, Failure> {
        let request = Request::SendDatagram { node: node.into(), port, source: None };
        Ok(self.ask_with(request, payload.to_vec())?.0)
    }

    /// The node's own state.
    ///
    /// ```no_run
    /// # fn with(node: &pilot_node::Node) -> Result<(), pilot_node::Failure> {
    /// let info = node.info()?;
    /// println!("{} is {}", info.hostname, info.address);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the node has ended.
    pub fn info(&self) -> Result<Info, Failure> {
        self.ask(Request::Info)
    }

    /// The trusted peers with their tunnels and paths.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn peers(&self) -> Result<Peers, Failure> {
        self.ask(Request::Peers)
    }

    /// How a trusted peer is reached, why so, and when a direct path is tried next.
    ///
    /// # Errors
    /// `TrustRequired` for a node that is no trusted peer; when the node has ended.
    pub fn path(&self, node: &str) -> Result<PeerPaths, Failure> {
        self.ask(Request::Path { node: node.into() })
    }

    /// The streams.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn connections(&self) -> Result<Connections, Failure> {
        self.ask(Request::Connections)
    }

    /// Aborts the stream with this number.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn disconnect(&self, stream: u64) -> Result<Disconnected, Failure> {
        self.ask(Request::Disconnect { stream })
    }

    /// Looks a node up: among the trusted peers, then at the rendezvous.
    ///
    /// # Errors
    /// `NotFound`; `Ambiguous`; `Unreachable` when the rendezvous does not answer.
    pub fn find(&self, node: &str) -> Result<Found, Failure> {
        self.ask(Request::Find { node: node.into() })
    }

    /// The public nodes that carry a tag.
    ///
    /// # Errors
    /// `Unreachable` when the rendezvous does not answer.
    pub fn search(&self, tag: &str) -> Result<Nodes, Failure> {
        self.ask(Request::Search { tag: tag.into() })
    }

    /// Changes the hostname, 1 to 63 characters of a–z, 0–9 and `-`; empty: none.
    ///
    /// # Errors
    /// `Conflict` when the name belongs to another node or another change is under way; `InvalidArgument`.
    pub fn set_hostname(&self, hostname: &str) -> Result<Profile, Failure> {
        self.ask(Request::Profile { hostname: Some(hostname.into()), public: None, tags: None })
    }

    /// Changes whether other nodes find this one without knowing its name.
    ///
    /// # Errors
    /// `Conflict` when another change is under way.
    pub fn set_public(&self, public: bool) -> Result<Profile, Failure> {
        self.ask(Request::Profile { hostname: None, public: Some(public), tags: None })
    }

    /// Changes the tags, at most three, shaped like hostnames.
    ///
    /// # Errors
    /// `InvalidArgument`; `Conflict` when another change is under way.
    pub fn set_tags(&self, tags: &[&str]) -> Result<Profile, Failure> {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        self.ask(Request::Profile { hostname: None, public: None, tags: Some(tags) })
    }
}
