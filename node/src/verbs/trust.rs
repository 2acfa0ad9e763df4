//! Owns the verbs about trust.

use crate::answer::{
    Approved, Handshake, Invited, Invites, Pending, Rejected, Trust as Book, Trusted, Uninvited, Untrusted,
};
use crate::failure::Failure;
use crate::node::Node;
use crate::request::Request;
use std::time::Duration;

/// The verbs about trust; see [`Node::trust`].
///
/// ```no_run
/// # fn with(alice: &pilot_node::Node, bob: &pilot_node::Node) -> Result<(), pilot_node::Failure> {
/// use pilot_node::Terms;
/// use std::time::Duration;
///
/// alice.trust().handshake("bob", Terms::default().note("it is me"))?;
/// // Meanwhile Bob, once the request has come:
/// bob.trust().approve("alice", Terms::default().ports("1000,8080"))?;
/// assert!(alice.trust().wait("bob", Duration::from_secs(30))?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Trust<'a>(pub(super) &'a Node);

/// The terms on which this node trusts another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    note: Option<String>,
    ports: Option<String>,
    expires_s: Option<u64>,
    quota: Option<String>,
}

impl Terms {
    /// With a text for the other node's owner, at most 256 bytes.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With the ports of this node that the other may reach, as `messages,80,8000-8010` or `all`. Otherwise as configured. In
    /// [`Trust::handshake`] with a trusted peer: with the ports of the peer for which its owner is asked.
    #[must_use]
    pub fn ports(mut self, ports: impl Into<String>) -> Self {
        self.ports = Some(ports.into());
        self
    }

    /// With an end, so long after now, in whole seconds. Otherwise there is none.
    #[must_use]
    pub const fn expires_in(mut self, after: Duration) -> Self {
        self.expires_s = Some(after.as_secs());
        self
    }

    /// With a limit of what the other may use of this node, such as `memory=64MB,streams=1000,disk=1GB,messages=10000/day`. For
    /// a node that is trusted already there is [`Trust::quota`].
    #[must_use]
    pub fn quota(mut self, quota: impl Into<String>) -> Self {
        self.quota = Some(quota.into());
        self
    }
}

impl Trust<'_> {
    /// Asks for trust; when the other node has asked already, this approves its request. `NAME#FINGERPRINT` also checks
    /// that the node of that name has that key. Returns once the request is on disk.
    ///
    /// # Errors
    /// `NotFound`; `Unreachable` when the rendezvous does not answer; `InvalidArgument`; `Full`.
    pub fn handshake(&self, node: &str, terms: Terms) -> Result<Handshake, Failure> {
        let Terms { note, ports, expires_s, quota } = terms;
        self.0.ask(Request::Handshake { node: node.into(), note, ports, expires_s, quota })
    }

    /// Takes back a request of this node that has not been answered, for trust or for ports.
    ///
    /// # Errors
    /// `NotFound` when the node was not asked; `Ambiguous`; `Full`.
    pub fn take_back(&self, node: &str) -> Result<Rejected, Failure> {
        self.0.ask(Request::TakeBack { node: node.into() })
    }

    /// Approves a request; returns once the trust is on disk.
    ///
    /// # Errors
    /// `NotFound` when the node has not asked; `Ambiguous`; `InvalidArgument`; `Full`.
    pub fn approve(&self, node: &str, terms: Terms) -> Result<Approved, Failure> {
        let Terms { note, ports, expires_s, quota } = terms;
        self.0.ask(Request::Approve { node: node.into(), note, ports, expires_s, quota })
    }

    /// Declines a request, with a reason for the other node's owner of at most 256 bytes.
    ///
    /// # Errors
    /// `NotFound` when the node has not asked; `Ambiguous`.
    pub fn reject(&self, node: &str, reason: &str) -> Result<Rejected, Failure> {
        self.0.ask(Request::Reject { node: node.into(), note: Some(reason.into()) })
    }

    /// Lets a trusted peer reach more ports, such as `messages,80,8000-8010`: until the trust ends, or for `expires_in`, in
    /// whole seconds from 1. Returns once that is on disk.
    ///
    /// # Errors
    /// `NotFound` when the node is not trusted; `Ambiguous`; `InvalidArgument`; `Full`.
    pub fn grant(&self, node: &str, ports: &str, expires_in: Option<Duration>) -> Result<Approved, Failure> {
        let expires_s = expires_in.map(|after| after.as_secs());
        self.0.ask(Request::Grant { node: node.into(), ports: Some(ports.into()), expires_s, quota: None })
    }

    /// Changes how much of this node a trusted peer may use, such as `memory=64MB,streams=1000`: the keys that are named, and no
    /// others. `default` takes back what was said before. Returns once that is on disk.
    ///
    /// # Errors
    /// `NotFound` when the node is not trusted; `Ambiguous`; `InvalidArgument` with the reason.
    pub fn quota(&self, node: &str, quota: &str) -> Result<Approved, Failure> {
        self.0.ask(Request::Grant { node: node.into(), ports: None, expires_s: None, quota: Some(quota.into()) })
    }

    /// Lets a trusted peer reach fewer ports, and resets the streams on the others. Returns once that is on disk.
    ///
    /// # Errors
    /// `NotFound` when the node is not trusted, or is granted none of the ports; `Ambiguous`; `InvalidArgument`; `Full`.
    pub fn revoke(&self, node: &str, ports: &str) -> Result<Approved, Failure> {
        self.0.ask(Request::Revoke { node: node.into(), ports: ports.into() })
    }

    /// Withdraws trust: every stream with the peer ends.
    ///
    /// # Errors
    /// `NotFound` when it is not trusted; `Ambiguous`.
    pub fn untrust(&self, node: &str) -> Result<Untrusted, Failure> {
        self.0.ask(Request::Untrust { node: node.into() })
    }

    /// Makes a code by which `uses` other nodes become trusted peers at once, within an hour, and may reach `ports`, or those
    /// that are configured. Returns once that is on disk. [`Request::Invite`] says more.
    ///
    /// # Errors
    /// `InvalidArgument`; `Full` when 64 invites are open; `Unreachable` without any way to this node.
    pub fn invite(&self, ports: Option<&str>, uses: u16) -> Result<Invited, Failure> {
        let (ports, uses) = (ports.map(Into::into), Some(uses));
        self.0.ask(Request::Invite { ports, uses, expires_s: None, short: None, direct: None })
    }

    /// The invites of this node.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn invites(&self) -> Result<Invites, Failure> {
        self.0.ask(Request::Invites)
    }

    /// Withdraws an invite. Peers that have joined by it stay.
    ///
    /// # Errors
    /// `NotFound` when no invite with this number is open.
    pub fn uninvite(&self, invite: &str) -> Result<Uninvited, Failure> {
        self.0.ask(Request::Uninvite { invite: invite.into() })
    }

    /// Makes a trusted peer of the node that has made a code, waiting for it at most an hour.
    ///
    /// # Errors
    /// `InvalidArgument` for a code that was typed wrongly, which says where; `TrustRequired` when it is used up, expired,
    /// withdrawn or dead; `Unreachable` when the rendezvous in the code does not answer, or is not this node's; `Timeout`.
    pub fn join(&self, code: &str, timeout: Duration) -> Result<Approved, Failure> {
        let timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self.0.ask(Request::Join { code: code.into(), ports: None, timeout_ms })
    }

    /// The requests that wait for a decision.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn pending(&self) -> Result<Pending, Failure> {
        self.0.ask(Request::Pending)
    }

    /// The trusted peers, and the nodes that this one has asked.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn pins(&self) -> Result<Book, Failure> {
        self.0.ask(Request::Trust)
    }

    /// Waits until a node is trusted, at most an hour, and tells whether it is.
    ///
    /// # Errors
    /// `Full` when too many callers wait; when the node has ended.
    pub fn wait(&self, node: &str, timeout: Duration) -> Result<bool, Failure> {
        let timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        Ok(self.0.ask::<Trusted>(Request::WaitTrust { node: node.into(), timeout_ms })?.trusted)
    }
}
