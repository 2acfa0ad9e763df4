//! The service on port 1000: a text stream that no program of this machine reads becomes a message.

use crate::mail::message::{Kind, MESSAGE_LEN_MAX, Tag};
use crate::services::io::{Io, Receipt};
use serde_json::json;

/// One stream of the service.
#[derive(Default)]
pub(crate) struct Stdio {
    text: Vec<u8>,
}

impl Stdio {
    pub(crate) fn take(&mut self, io: &mut Io, bytes: &[u8]) {
        if self.text.capacity() - self.text.len() < bytes.len() {
            // By an eighth: doubling would cost a third of the peer's budget.
            self.text.reserve_exact(bytes.len() + self.text.len() / 8);
        }
        self.text.extend_from_slice(bytes);
        io.is_broken |= self.text.len() > MESSAGE_LEN_MAX;
    }

    /// Bytes of text that is not complete.
    pub(crate) fn held(&self) -> usize {
        self.text.capacity()
    }

    /// There is no memory for more: the text so far goes, and the peer learns why.
    pub(crate) fn refuse(&mut self, io: &mut Io, why: &str) {
        self.text = Vec::new();
        io.say(self.written(Kind::Text, 0, Err(why.into())));
    }

    /// The peer has ended its side: the text is complete, and becomes a message unless it is empty.
    pub(crate) fn end(&mut self, io: &mut Io) {
        if self.text.is_empty() {
            return;
        }
        let body = std::mem::take(&mut self.text);
        let kind = match std::str::from_utf8(&body) {
            Ok(text) if serde_json::from_slice::<serde::de::IgnoredAny>(text.trim().as_bytes()).is_ok() => Kind::Json,
            Ok(_) => Kind::Text,
            Err(_) => Kind::Binary,
        };
        io.deliver((None, Tag::Plain), kind, body);
    }

    /// The answer to the peer once the message is on disk.
    pub(crate) fn written(&self, kind: Kind, len: usize, outcome: Result<Receipt, String>) -> Vec<u8> {
        let data = match outcome {
            Ok(Receipt { fresh, seq, .. }) => {
                json!({"status": "stored", "id": seq, "bytes": len, "type": kind.name(), "duplicate": !fresh})
            }
            Err(why) => json!({"status": "error", "message": why}),
        };
        format!("{data}\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_becomes_one_message_of_the_kind_that_it_looks_like() {
        for (text, kind) in [(&b"{\"a\":1}\n"[..], Kind::Json), (b"hello", Kind::Text), (b"\xff", Kind::Binary)] {
            let (mut stdio, mut io) = (Stdio::default(), Io::default());
            text.iter().for_each(|byte| stdio.take(&mut io, &[*byte]));
            stdio.end(&mut io);
            let got: Vec<(Kind, &[u8])> = io.deliveries.iter().map(|d| (d.kind, &d.body[..])).collect();
            assert_eq!(got, [(kind, text)]);
        }
    }

    #[test]
    fn an_empty_stream_is_no_message_and_a_long_one_breaks() {
        let (mut stdio, mut io) = (Stdio::default(), Io::default());
        stdio.end(&mut io);
        assert!(io.deliveries.is_empty());
        stdio.take(&mut io, &vec![b'x'; MESSAGE_LEN_MAX]);
        assert!(!io.is_broken);
        stdio.take(&mut io, b"x");
        assert!(io.is_broken);
    }
}
