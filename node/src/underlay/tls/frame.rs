//! Owns the framing of WebSocket (RFC 6455): one datagram is one binary message. Reads what a proxy on the way may have cut into
//! other fragments.

/// Longest datagram that a message carries: one of the base size behind the header of the relay leg. Unit: bytes. So larger sizes
/// are never found to work over TCP (`docs/paths.md`, "Without UDP").
pub(crate) const MESSAGE_LEN_MAX: usize = pilot_core::wire::DATAGRAM_LEN_BASE + pilot_core::wire::RELAY_HEADER_LEN;
/// Longest header of a frame that carries one: two bytes, the length in two, the mask.
const HEADER_LEN_MAX: usize = 2 + 2 + 4;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A message of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A datagram.
    Datagram,
    /// The other side wants a [`Message::Pong`] with the same bytes.
    Ping,
    /// The answer to a ping.
    Pong,
    /// The other side ends the connection.
    Close,
}

/// The bytes make no sense as frames: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends a frame. `mask`: of a client, which must have one.
pub(crate) fn put(out: &mut Vec<u8>, message: Message, mask: Option<[u8; 4]>, payload: &[u8]) {
    debug_assert!(payload.len() <= MESSAGE_LEN_MAX);
    let code = match message {
        Message::Datagram => BINARY,
        Message::Ping => PING,
        Message::Pong => PONG,
        Message::Close => CLOSE,
    };
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | code);
    match payload.len() {
        len @ 0..126 => out.push(masked | len as u8),
        len => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| mask));
    let begin = out.len();
    out.extend_from_slice(payload);
    apply(mask.unwrap_or_default(), &mut out[begin..]);
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    if mask != [0; 4] {
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// Bytes until they are whole messages.
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Bytes that were read as frames already.
    taken: usize,
    /// The fragments of a message of which the last one has not come.
    begun: Option<Vec<u8>>,
    /// The other side is a client, and masks.
    is_masked: bool,
}

impl Frames {
    /// `bytes`: what came behind the head of HTTP. `is_masked`: the other side is a client.
    pub(crate) const fn new(bytes: Vec<u8>, is_masked: bool) -> Self {
        Self { bytes, taken: 0, begun: None, is_masked }
    }

    /// Room for bytes that have just been read; a caller takes all messages before it reads more.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        &mut self.bytes
    }

    /// The next message, with its bytes in `payload`; `None` until more has been read.
    ///
    /// # Errors
    /// What no WebSocket peer of ours sends: text, a length above [`MESSAGE_LEN_MAX`], a missing or needless mask.
    pub(crate) fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Message>, Malformed> {
        loop {
            let Some((code, is_last)) = self.frame(payload)? else { return Ok(None) };
            let message = match (code, self.begun.take()) {
                (PING | PONG | CLOSE, _) if !is_last => return Err(Malformed),
                (PING | PONG | CLOSE, begun) => {
                    self.begun = begun; // these may stand between two fragments
                    [Message::Close, Message::Ping, Message::Pong][usize::from(code - CLOSE)]
                }
                (BINARY, None) if is_last => Message::Datagram,
                (BINARY, None) => {
                    self.begun = Some(std::mem::take(payload));
                    continue;
                }
                (CONTINUATION, Some(mut begun)) => {
                    begun.append(payload);
                    if begun.len() > MESSAGE_LEN_MAX {
                        return Err(Malformed);
                    }
                    if !is_last {
                        self.begun = Some(begun);
                        continue;
                    }
                    *payload = begun;
                    Message::Datagram
                }
                _ => return Err(Malformed),
            };
            return Ok(Some(message));
        }
    }

    /// Takes one frame: its code, whether it is the last of its message, and its bytes.
    fn frame(&mut self, payload: &mut Vec<u8>) -> Result<Option<(u8, bool)>, Malformed> {
        let bytes = &self.bytes[self.taken..];
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        // No extension was agreed on, so the reserved bits are zero.
        if first & 0x70 != 0 || (second & 0x80 != 0) != self.is_masked {
            return Err(Malformed);
        }
        let (len, rest) = match (second & 0x7f, rest) {
            (127, _) => return Err(Malformed),
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (126, _) => return Ok(None),
            (len, rest) => (usize::from(len), rest),
        };
        if len > MESSAGE_LEN_MAX {
            return Err(Malformed);
        }
        let (mask, rest) = match self.is_masked {
            true => match rest.split_first_chunk() {
                Some((mask, rest)) => (*mask, rest),
                None => return Ok(None),
            },
            false => ([0; 4], rest),
        };
        let Some(body) = rest.get(..len) else { return Ok(None) };
        payload.clear();
        payload.extend_from_slice(body);
        apply(mask, payload);
        self.taken += bytes.len() - rest.len() + len;
        debug_assert!(self.taken <= self.bytes.len() && bytes.len() - rest.len() <= HEADER_LEN_MAX);
        Ok(Some((first & 0x0f, first & 0x80 != 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// All messages of bytes that come in pieces of this size.
    fn read(bytes: &[u8], is_masked: bool, piece: usize) -> Result<Vec<(Message, Vec<u8>)>, Malformed> {
        let (mut frames, mut out, mut payload) = (Frames::new(Vec::new(), is_masked), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            frames.room().extend_from_slice(piece);
            while let Some(message) = frames.next(&mut payload)? {
                out.push((message, payload.clone()));
            }
        }
        Ok(out)
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        for mask in [None, Some(MASK)] {
            let long = vec![7; MESSAGE_LEN_MAX];
            let (mut bytes, mut sent) = (Vec::new(), Vec::new());
            let kinds = [Message::Datagram, Message::Ping, Message::Pong, Message::Close];
            for (payload, message) in [&b""[..], &[1; 125], &[2; 126], &long].into_iter().zip(kinds) {
                put(&mut bytes, message, mask, payload);
                sent.push((message, payload.to_vec()));
            }
            for piece in [1, 3, 1000, 10_000] {
                assert_eq!(read(&bytes, mask.is_some(), piece).as_ref(), Ok(&sent), "{piece}");
            }
        }
    }

    #[test]
    fn fragments_are_joined_and_a_ping_may_stand_between_them() {
        let bytes = [&[0x02, 2, 1, 2][..], &[0x89, 1, 9], &[0x00, 1, 3], &[0x80, 1, 4]].concat();
        let expected = vec![(Message::Ping, vec![9]), (Message::Datagram, vec![1, 2, 3, 4])];
        assert_eq!(read(&bytes, false, 1), Ok(expected));
    }

    #[test]
    fn what_is_no_message_of_ours_ends_the_connection() {
        let fragment = [&[0x02, 126, 4, 208][..], &[0; 1232]].concat();
        let more = [&[0x80, 126, 4, 208][..], &[0; 1232]].concat();
        let too_long = [fragment, more].concat();
        let cases: [(&str, &[u8]); 9] = [
            ("text", &[0x81, 1, b'a']),
            ("a mask where none belongs", &[0x82, 0x80, 0, 0, 0, 0]),
            ("a reserved bit", &[0xc2, 0]),
            ("a length of eight bytes", &[0x82, 127]),
            ("a length above the maximum", &[0x82, 126, 4, 209]),
            ("fragments of more than that", &too_long),
            ("a continuation of nothing", &[0x80, 0]),
            ("a ping in fragments", &[0x09, 0]),
            ("a message within another", &[0x02, 0, 0x82, 0]),
        ];
        for (what, bytes) in cases {
            assert_eq!(read(bytes, false, 7000), Err(Malformed), "{what}");
        }
        assert_eq!(read(&[0x82, 0], true, 9), Err(Malformed), "a client without a mask");
    }
}
