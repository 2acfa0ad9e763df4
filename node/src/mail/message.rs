//! Owns the form of a message in the inbox and in the outbox.

use pilot_core::Addr;
use pilot_core::identity::IdentityKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest body of a message. Unit: bytes. Source: `docs/messages.md`, "How".
pub(crate) const MESSAGE_LEN_MAX: usize = 16 << 20;
/// Lifetime of a message in the outbox. Unit: seconds (7 days) of counted time. Source: `docs/messages.md`, "The promise".
pub(crate) const OUTBOX_LIFETIME_S: u64 = 7 * 24 * 3600;
/// Characters of a body that a listing shows.
pub(crate) const PREVIEW_CHARS: usize = 120;

/// The kind of a message's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Text = 1,
    Binary = 2,
    Json = 3,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Json => "json",
        }
    }

    pub(crate) const fn from_number(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            3 => Some(Self::Json),
            _ => None,
        }
    }
}

/// A message as the inbox holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: [u8; 16],
    pub(crate) sender: IdentityKey,
    pub(crate) addr: Addr,
    pub(crate) kind: Kind,
    /// Time of arrival. Unit: seconds since 1970.
    pub(crate) at: u64,
    pub(crate) body: Vec<u8>,
}

/// The messages of one stream, of which none is taken behind one that was refused: the sender sends it and all behind it again,
/// and their order must stay. True while a message was refused and the answers to those behind it are outstanding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<AtomicBool>);

impl Line {
    pub(crate) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The disk has refused a message.
    pub(crate) fn break_off(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Everything was answered; the next message is the first of a new line.
    pub(crate) fn mend(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A message in its sender's words.
#[derive(Debug)]
pub(crate) struct Letter {
    /// The recipient.
    pub(crate) node: String,
    pub(crate) kind: Kind,
    /// The message stays in the outbox when the recipient does not answer in time.
    pub(crate) keep: bool,
    /// Longest wait of the caller, at most 600 s; absent: 10 s.
    pub(crate) timeout: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// A message that waits for its recipient to take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) id: [u8; 16],
    pub(crate) to: IdentityKey,
    pub(crate) kind: Kind,
    /// Counted time at which the message entered the outbox. Unit: seconds.
    pub(crate) since: u64,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The beginning of the body as text.
    pub(crate) fn preview(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(PREVIEW_CHARS)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}
