//! Owns the record: one line of the log as values.

use pilot_core::identity::IdentityKey;
use pilot_core::{Level, PeerId};
use std::net::IpAddr;

/// The value of one field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for FieldValue {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// The cause of a record: each has its own share of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The node itself.
    Node,
    /// A peer.
    Peer(PeerId),
    /// The owner of a key.
    Key(IdentityKey),
    /// A machine on the network.
    Address(IpAddr),
}

/// The share of the log that a record's cause has as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// This node, its owner, or a trusted peer.
    Known,
    /// A stranger asks for something that the owner may want to know.
    Stranger,
    /// A stranger's datagram was ignored.
    Discard,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    level: Level,
    kind: &'static str,
    /// Wall clock. Unit: milliseconds since 1970.
    at_ms: u64,
    fields: Vec<(&'static str, FieldValue)>,
    source: Source,
    cause: Cause,
}

impl Record {
    /// A record without fields. `kind`: a stable word in snake_case.
    pub(crate) const fn new(level: Level, kind: &'static str) -> Self {
        Self { level, kind, at_ms: 0, fields: Vec::new(), source: Source::Node, cause: Cause::Known }
    }

    /// Adds a field. `key`: a stable word in snake_case.
    #[must_use]
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<FieldValue>) -> Self {
        self.push(key, value);
        self
    }

    /// Adds a field, as [`Record::with`] does.
    pub(crate) fn push(&mut self, key: &'static str, value: impl Into<FieldValue>) {
        debug_assert!(self.fields.iter().all(|(known, _)| *known != key), "{} has two fields {key}", self.kind);
        self.fields.push((key, value.into()));
    }

    /// Names the cause.
    #[must_use]
    pub(crate) const fn from(mut self, source: Source, cause: Cause) -> Self {
        (self.source, self.cause) = (source, cause);
        self
    }

    pub(crate) const fn set_time(&mut self, at_ms: u64) {
        self.at_ms = at_ms;
    }

    /// How much it matters.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Its kind: a stable word in snake_case.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// When it was made, by the wall clock. Unit: milliseconds since 1970.
    pub const fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// Its fields in order; keys are stable words in snake_case.
    pub fn fields(&self) -> &[(&'static str, FieldValue)] {
        &self.fields
    }

    pub(crate) const fn source(&self) -> Source {
        self.source
    }

    pub(crate) const fn cause(&self) -> Cause {
        self.cause
    }
}
