//! Owns the form of a message in the inbox and in the outbox.

use pilot_core::Addr;
use pilot_core::codec::{Malformed, Put as _, Reader};
use pilot_core::identity::IdentityKey;
use sha2::{Digest as _, Sha256};
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

/// Longest life of a question, and that of one without a deadline of its own. Unit: seconds (7 days). Source: `docs/messages.md`,
/// "Questions".
pub(crate) const DEADLINE_MAX_S: u64 = OUTBOX_LIFETIME_S;

/// The part of a message in a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tag {
    /// The message stands alone.
    #[default]
    Plain,
    /// The message asks, and is not handed out after `deadline`. Unit: seconds, in a frame from now, elsewhere of this
    /// node's counted time, so that neither clocks that differ nor a clock that is set matter.
    Question { deadline: u64 },
    /// The message answers that with this id.
    Answer([u8; 16]),
}

impl Tag {
    /// Most bytes of a tag in a row of the books. Unit: bytes.
    pub(crate) const ROW_LEN_MAX: usize = 16;

    pub(crate) const fn is_question(self) -> bool {
        matches!(self, Self::Question { .. })
    }

    /// The tag of a frame that leaves now. Unit of `counted`: seconds.
    pub(crate) fn for_frame(self, counted: u64) -> Self {
        match self {
            Self::Question { deadline } => Self::Question { deadline: deadline.saturating_sub(counted) },
            other => other,
        }
    }

    /// The tag of a frame that has arrived now. Unit of `counted`: seconds.
    pub(crate) fn of_frame(self, counted: u64) -> Self {
        match self {
            Self::Question { deadline } => {
                Self::Question { deadline: counted.saturating_add(deadline.min(DEADLINE_MAX_S)) }
            }
            other => other,
        }
    }

    /// What a row's byte for the kind has besides.
    const fn bit(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Question { .. } => 0x10,
            Self::Answer(_) => 0x20,
        }
    }

    /// Bytes that the tag takes between the head of a row and the body.
    pub(crate) const fn row_len(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Question { .. } => 8,
            Self::Answer(_) => 16,
        }
    }
}

/// A row's byte for the kind of a message, which also tells the form of its tag.
pub(crate) const fn row_kind(kind: Kind, tag: Tag) -> u8 {
    kind as u8 | tag.bit()
}

/// Writes a tag behind the head of a row.
pub(crate) fn emit_tag(tag: Tag, out: &mut Vec<u8>) {
    match tag {
        Tag::Plain => {}
        Tag::Question { deadline } => out.put_u64(deadline),
        Tag::Answer(question) => out.put(&question),
    }
}

/// Reads the kind from a row's byte, and the tag behind the head.
pub(crate) fn parse_tag(kind: u8, r: &mut Reader<'_>) -> Result<(Kind, Tag), Malformed> {
    let (bits, kind) = (kind & 0xf0, Kind::from_number(u32::from(kind & 0x0f)).ok_or(Malformed)?);
    let tag = match bits {
        0 => Tag::Plain,
        0x10 => Tag::Question { deadline: r.u64()? },
        0x20 => Tag::Answer(r.array()?),
        _ => return Err(Malformed),
    };
    Ok((kind, tag))
}

/// The id of the only answer to a question: a second one has the same, and is known.
pub(crate) fn answer_id(question: &[u8; 16]) -> [u8; 16] {
    short_hash(&[b"pilot answer", question])
}

/// The first half of SHA-256 of the parts.
pub(crate) fn short_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    *hash.finalize().first_chunk().expect("SHA-256 has 32 bytes")
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
    pub(crate) tag: Tag,
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
    /// Longest wait of the caller, at most 600 s; absent: 10 s. For a question, the wait for its answer.
    pub(crate) timeout: Option<Duration>,
    /// The message is a question for this long. Unit: seconds from now.
    pub(crate) asks: Option<u64>,
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
    pub(crate) tag: Tag,
    pub(crate) body: Vec<u8>,
}

/// An answer in its writer's words.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) question: QuestionName,
    pub(crate) kind: Kind,
    /// Counted time now, at which the answer enters the outbox. Unit: seconds.
    pub(crate) since: u64,
    pub(crate) body: Vec<u8>,
}

/// The ways to name a question of the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuestionName {
    /// Its number in the inbox.
    Number(u64),
    /// Its identity, the same at both ends.
    Id([u8; 16]),
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
