//! Owns the form of a message that has left the outbox without being delivered, as its owner is told of it later.

use crate::mail::message::{Kind, Outgoing};
use pilot_core::codec::{Malformed, Put as _, Reader};

/// Most messages that were given up of which is told; the oldest is forgotten first. Source: `docs/messages.md`, "How".
pub(crate) const GIVEN_UP_MAX: usize = 100;
/// Longest name of a recipient, and longest reason, that are kept. Unit: bytes.
const TEXT_LEN_MAX: usize = 255;

/// A message that was given up; its bytes are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// The number that it had in the outbox.
    pub(crate) seq: u64,
    pub(crate) id: [u8; 16],
    pub(crate) kind: Kind,
    /// Length of the body. Unit: bytes.
    pub(crate) len: u64,
    /// When it was given up. Unit: seconds since 1970.
    pub(crate) at: u64,
    /// The recipient's name at that time.
    pub(crate) node: String,
    pub(crate) reason: String,
}

impl GivenUp {
    pub(crate) fn new((seq, message): (u64, &Outgoing), at: u64, node: &str, reason: &str) -> Self {
        Self {
            seq,
            id: message.id,
            kind: message.kind,
            len: message.body.len() as u64,
            at,
            node: cut(node),
            reason: cut(reason),
        }
    }

    /// The row in the books, under the message's number.
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut out = self.id.to_vec();
        out.put_u8(self.kind as u8);
        out.put_u64(self.len);
        out.put_u64(self.at);
        for text in [&self.node, &self.reason] {
            debug_assert!(text.len() <= TEXT_LEN_MAX, "texts are cut when they are made");
            out.put_u8(text.len() as u8);
            out.put(text.as_bytes());
        }
        out
    }

    pub(crate) fn parse(seq: u64, row: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(row);
        let id = r.array()?;
        let kind = Kind::from_number(r.u8()?.into()).ok_or(Malformed)?;
        let (len, at) = (r.u64()?, r.u64()?);
        let mut text = || {
            let len = r.u8()?;
            String::from_utf8(r.take(len.into())?.to_vec()).map_err(|_| Malformed)
        };
        Ok(Self { seq, id, kind, len, at, node: text()?, reason: text()? })
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_LEN_MAX)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::message::Tag;
    use pilot_core::identity::IdentityKey;

    #[test]
    fn rows_round_trip_and_texts_are_cut() {
        let message = Outgoing {
            id: [7; 16],
            to: IdentityKey([2; 32]),
            kind: Kind::Json,
            since: 0,
            tag: Tag::Plain,
            body: vec![1; 9],
        };
        let row = GivenUp::new((3, &message), 5, "beta", &"ä".repeat(400));
        assert_eq!((row.len, row.reason.len()), (9, TEXT_LEN_MAX - 1));
        assert_eq!(GivenUp::parse(3, &row.emit()).as_ref(), Ok(&row));
        assert!(GivenUp::parse(3, &row.emit()[..40]).is_err());
    }
}
