//! Owns the reading of what comes by TLS without sockets, for the fuzz targets (`fuzz/`).

use super::frame::{Frames, Message, put};
use super::http::{Answer, Asked};

/// What was read from the bytes of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The messages, in their order.
    pub messages: Vec<(Kind, Vec<u8>)>,
    /// The connection was ended.
    pub is_malformed: bool,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A datagram.
    Datagram,
    /// A ping, a pong, or the end of the connection.
    Control(u8),
}

/// Reads messages from pieces of a connection. `is_masked`: the other side is a client. Does not block; any thread may call.
pub fn web_messages(is_masked: bool, pieces: &[&[u8]]) -> Heard {
    let (mut frames, mut heard, mut payload) = (Frames::new(Vec::new(), is_masked), Heard::default(), Vec::new());
    for piece in pieces {
        frames.room().extend_from_slice(piece);
        loop {
            match frames.next(&mut payload) {
                Ok(Some(message)) => heard.messages.push((kind(message), payload.clone())),
                Ok(None) => break,
                Err(_) => return Heard { is_malformed: true, ..heard },
            }
        }
    }
    heard
}

const KINDS: [Message; 4] = [Message::Datagram, Message::Ping, Message::Pong, Message::Close];

fn kind(message: Message) -> Kind {
    let place = KINDS.iter().position(|kind| *kind == message).unwrap_or_default();
    if place == 0 { Kind::Datagram } else { Kind::Control(place as u8) }
}

/// Writes messages that [`web_messages`] has read. `mask`: of a client.
pub fn put_web_messages(messages: &[(Kind, Vec<u8>)], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, payload) in messages {
        let place = if let Kind::Control(place) = kind { usize::from(*place) } else { 0 };
        put(&mut out, KINDS[place.min(KINDS.len() - 1)], mask, payload);
    }
    out
}

/// What a rendezvous and a node make of the head of a connection, in words that differ when the outcome does; `None` while the
/// head is not whole.
pub fn web_head(is_question: bool, bytes: &[u8]) -> Option<String> {
    if is_question {
        return Asked::parse(bytes).map(|asked| format!("{asked:?}"));
    }
    match Answer::parse(bytes) {
        Ok(None) => None,
        Ok(Some(answer)) => Some(format!("{answer:?} {}", answer.is_upgrade(&[0; 16]))),
        Err(malformed) => Some(format!("{malformed:?}")),
    }
}
