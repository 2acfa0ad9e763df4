//! Owns the form of a command's failure for people and programs: one table of codes for CLI, IPC and C.

use pilot_core::endpoint::ResetReason;
use pilot_core::trust::Ports;
use pilot_stack::StreamEnd;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::io;

/// The kind of a failure, with a stable name for JSON and a stable exit status for the CLI (`docs/interfaces.md`, "pilotctl").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// A fault of the disk, of the operating system, or of a program, which the caller cannot avoid.
    Internal,
    /// The command, or a value in it, is not valid.
    InvalidArgument,
    /// No daemon answers.
    NotRunning,
    /// There is no such node, message, or stream.
    NotFound,
    /// The name means several peers.
    Ambiguous,
    /// The owners of the two nodes have not approved each other.
    TrustRequired,
    /// No answer came in time.
    Timeout,
    /// The peer cannot be reached.
    Unreachable,
    /// The peer does not listen on that port, or has not granted it to this node.
    ConnectionRefused,
    /// The stream broke.
    ConnectionReset,
    /// A name or port is taken, or a daemon runs already.
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

    /// The code's name in JSON.
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

    /// The code with this name; [`Code::Internal`] for a name that no code has.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.name() == name).unwrap_or(Self::Internal)
    }

    /// The exit status of the CLI. 1 to 8.
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

    /// The kind that an error of `std::net` has in the same case.
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

/// A failure with its reason and a hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub code: Code,
    /// The reason, for people.
    pub message: String,
    /// A command or other remedy that helps, for people; may be empty.
    #[serde(default)]
    pub hint: String,
    /// For a stream that broke: how many bytes of this side the other node's TCP had acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
}

impl Failure {
    /// A failure without hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new(), acknowledged: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The failure of a call to a node that has ended.
    pub(crate) fn stopped() -> Self {
        Self::new(Code::NotRunning, "the node has ended")
    }

    /// The failure of reaching a port that the peer called `name` does not grant to this node.
    pub(crate) fn not_granted(name: &str, port: u16) -> Self {
        let service = Ports::name_of(port);
        let is_many = service.ends_with('s');
        let (what, is) =
            if service.parse::<u16>().is_ok() { ("port ", "is") } else { ("", if is_many { "are" } else { "is" }) };
        Self::new(Code::TrustRequired, format!("{what}{service} {is} not granted by {name}"))
            .hint(format!("ask: pilotctl handshake {name} --ports {service}"))
    }

    /// The failure that the end of a stream to the peer called `name` means.
    pub(crate) fn from_end(end: StreamEnd, name: &str, port: u16) -> Self {
        match end {
            StreamEnd::Refused => Self::new(Code::ConnectionRefused, format!("{name} refuses port {port}"))
                .hint(format!("on the other side: pilotctl listen {port}, or approve with --ports")),
            StreamEnd::Aborted => Self::new(Code::ConnectionReset, "the stream was aborted here"),
            StreamEnd::Reset => Self::new(Code::ConnectionReset, format!("{name} aborted the stream")),
            StreamEnd::Tunnel(reason) => Self::from_reset(reason, name),
            StreamEnd::Withdrawn => {
                Self::new(Code::ConnectionReset, format!("the port is not granted to {name} any more"))
                    .hint(format!("pilotctl grant {name} --list"))
            }
            _ => Self::new(Code::ConnectionReset, "the stream broke"),
        }
    }

    /// The failure that the end of the tunnel to the peer called `name` means.
    pub(crate) fn from_reset(reason: ResetReason, name: &str) -> Self {
        match reason {
            ResetReason::Closed => Self::new(Code::ConnectionReset, format!("{name} was shut down")),
            ResetReason::Restarted => Self::new(Code::ConnectionReset, format!("{name} was restarted")),
            ResetReason::GivenUp => {
                let text = format!("{name} had no answer from this node for a minute and more, and ended the streams");
                Self::new(Code::ConnectionReset, text).hint("connect again")
            }
            ResetReason::TooNarrow => {
                let text = format!("the path to {name} carries no IP packet of 576 bytes, only shorter ones");
                Self::new(Code::Unreachable, text)
                    .hint("a tunnel or a router on the way is set to less: its MTU must be larger")
            }
            ResetReason::Away => Self::new(Code::Unreachable, format!("{name} is not connected"))
                .hint("messages wait for it: pilotctl send-message"),
            ResetReason::Revoked => Self::new(Code::TrustRequired, format!("trust with {name} was withdrawn"))
                .hint(format!("pilotctl handshake {name}")),
            ResetReason::Renewed => {
                let text = format!("the pair secret with {name} was renewed, which ended the streams of before");
                Self::new(Code::ConnectionReset, text).hint("connect again")
            }
            ResetReason::SecretDiffers => {
                let text = format!("{name} does not hold the pair secret of its pin (pair_secret_differs)");
                Self::new(Code::Unreachable, text).hint(
                    "one side was restored or reinstalled: pilotctl pending, then pilotctl approve, on both sides",
                )
            }
            _ => Self::new(Code::Unreachable, format!("{name} does not answer on any path"))
                .hint(format!("pilotctl peers; is {name} running?")),
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
    /// Gives the failure inside the error, as the streams of this crate have it; otherwise one with a code that fits.
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
