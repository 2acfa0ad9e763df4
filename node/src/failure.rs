//! Owns what a command's failure looks like to people and programs: one table of codes for CLI, IPC and C.

use pilot_core::endpoint::ResetReason;
use pilot_stack::StreamEnd;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::io;

/// The kind of a failure; stable text for JSON and a stable exit status for the CLI (interfaces.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// Something inside went wrong.
    Internal,
    /// The command makes no sense.
    InvalidArgument,
    /// No daemon answers.
    NotRunning,
    /// No such node, message, or stream.
    NotFound,
    /// The name means several peers.
    Ambiguous,
    /// The peer's owner and ours have not approved each other.
    TrustRequired,
    /// No answer in time.
    Timeout,
    /// The peer cannot be reached.
    Unreachable,
    /// The peer has nobody on that port, or does not let us use it.
    ConnectionRefused,
    /// The stream broke.
    ConnectionReset,
    /// Something is in the way: a name or port is taken, a daemon runs already.
    #[serde(rename = "already_exists")]
    Conflict,
    /// A table, queue or disk is full.
    Full,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::Internal,
        Self::InvalidArgument,
        Self::NotRunning,
        Self::NotFound,
        Self::Ambiguous,
        Self::TrustRequired,
        Self::Timeout,
        Self::Unreachable,
        Self::ConnectionRefused,
        Self::ConnectionReset,
        Self::Conflict,
        Self::Full,
    ];

    /// The code as JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::InvalidArgument => "invalid_argument",
            Self::NotRunning => "not_running",
            Self::NotFound => "not_found",
            Self::Ambiguous => "ambiguous",
            Self::TrustRequired => "trust_required",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionReset => "connection_reset",
            Self::Conflict => "already_exists",
            Self::Full => "full",
        }
    }

    /// The inverse of [`Code::name`]; anything unknown is internal.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.name() == name).unwrap_or(Self::Internal)
    }

    /// Exit status of the CLI.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Internal | Self::ConnectionRefused | Self::ConnectionReset | Self::Full => 1,
            Self::InvalidArgument => 2,
            Self::NotRunning => 3,
            Self::NotFound | Self::Ambiguous => 4,
            Self::TrustRequired => 5,
            Self::Timeout => 6,
            Self::Unreachable => 7,
            Self::Conflict => 8,
        }
    }

    /// What `std::net` would call it.
    pub const fn error_kind(self) -> io::ErrorKind {
        match self {
            Self::InvalidArgument | Self::Ambiguous => io::ErrorKind::InvalidInput,
            Self::NotRunning => io::ErrorKind::NotConnected,
            Self::NotFound => io::ErrorKind::NotFound,
            Self::TrustRequired => io::ErrorKind::PermissionDenied,
            Self::Timeout => io::ErrorKind::TimedOut,
            Self::Unreachable => io::ErrorKind::HostUnreachable,
            Self::ConnectionRefused => io::ErrorKind::ConnectionRefused,
            Self::ConnectionReset => io::ErrorKind::ConnectionReset,
            Self::Conflict => io::ErrorKind::AddrInUse,
            Self::Full => io::ErrorKind::StorageFull,
            Self::Internal => io::ErrorKind::Other,
        }
    }
}

impl<'de> Deserialize<'de> for Code {
    /// Reads a name as [`Code::from_name`] does.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Self::from_name(&name))
    }
}

/// A failure with its reason and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub code: Code,
    /// What happened, for people.
    pub message: String,
    /// The next command, or empty.
    #[serde(default)]
    pub hint: String,
}

impl Failure {
    /// A failure without hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new() }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(crate) fn from_end(end: StreamEnd, who: &str, port: u16) -> Self {
        match end {
            StreamEnd::Refused => Self::new(Code::ConnectionRefused, format!("{who} refuses port {port}"))
                .hint(format!("on the other side: pilotctl listen {port}, or approve with --ports")),
            StreamEnd::Aborted => Self::new(Code::ConnectionReset, "the stream was aborted here"),
            StreamEnd::Reset => Self::new(Code::ConnectionReset, format!("{who} aborted the stream")),
            StreamEnd::Tunnel(reason) => Self::from_reset(reason, who),
            _ => Self::new(Code::ConnectionReset, "the stream broke"),
        }
    }

    pub(crate) fn from_reset(reason: ResetReason, who: &str) -> Self {
        match reason {
            ResetReason::Closed => Self::new(Code::ConnectionReset, format!("{who} was shut down")),
            ResetReason::Restarted => Self::new(Code::ConnectionReset, format!("{who} was restarted")),
            ResetReason::Away => Self::new(Code::Unreachable, format!("{who} is not connected"))
                .hint("messages wait for it: pilotctl send-message"),
            ResetReason::Revoked => Self::new(Code::TrustRequired, format!("trust with {who} was withdrawn"))
                .hint(format!("pilotctl handshake {who}")),
            _ => Self::new(Code::Unreachable, format!("{who} does not answer on any path"))
                .hint(format!("pilotctl peers; is {who} running?")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.code.error_kind(), failure)
    }
}

impl From<io::Error> for Failure {
    /// Gives the failure inside the error, as the streams of this crate have it; otherwise one whose code fits.
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(|error| {
            let code = match error.kind() {
                io::ErrorKind::WouldBlock => Code::Timeout, // a socket's own time limit
                kind => Code::ALL.into_iter().find(|code| code.error_kind() == kind).unwrap_or(Code::Internal),
            };
            Self::new(code, error.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_being_an_io_error() {
        for code in Code::ALL {
            let failure = Failure::new(code, "text").hint("hint");
            let error = io::Error::from(failure.clone());
            assert_eq!(error.kind(), code.error_kind());
            assert_eq!(Failure::from(error), failure);
        }
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::WouldBlock)).code, Code::Timeout);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::NotFound)).code, Code::NotFound);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code, Code::Internal);
    }

    #[test]
    fn codes_are_written_and_read_by_their_names() {
        for code in Code::ALL {
            let json = serde_json::to_value(code).expect("a string");
            assert_eq!(json, code.name());
            assert_eq!(serde_json::from_value::<Code>(json).expect("a name"), code);
            assert_eq!(Code::from_name(code.name()), code);
        }
        assert_eq!(serde_json::from_str::<Code>("\"of_a_later_version\"").expect("any name"), Code::Internal);
    }
}
