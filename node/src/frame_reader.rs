//! Owns bytes that arrive in any pieces and go in others: until they make whole frames, for which each protocol brings its own
//! parser, or until a socket has taken them.

/// The result of a parser: the length of the frame at the front and its contents; `None` when bytes are missing.
pub type Parsed<T, E> = Result<Option<(usize, T)>, E>;

/// Largest buffer that is kept for the next frame. Unit: bytes.
const KEPT_LEN_MAX: usize = 64 * 1024;

/// Bytes that have arrived; those before `start` are consumed.
///
/// Consumed bytes stay in the buffer until they are at least as many as the others, so the cost of moving bytes to the front
/// is at most one move for each byte that arrives, however short the frames are.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    start: usize,
    /// Bytes that were moved to the front.
    #[cfg(test)]
    moved: usize,
}

impl FrameReader {
    /// Makes a reader without bytes.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            #[cfg(test)]
            moved: 0,
        }
    }

    /// The bytes that are not consumed.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// True when all bytes are consumed.
    pub const fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Bytes in memory: those that are not consumed, and consumed ones that were not moved away yet.
    pub const fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Appends bytes that have arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.end().extend_from_slice(bytes);
    }

    /// The buffer, to append bytes to; those before its end may be consumed ones.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        let rest = self.rest().len();
        if self.start >= rest {
            #[cfg(test)]
            (self.moved += rest);
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Consumes the first `len` bytes of the rest; all of the rest when there are fewer.
    pub fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.rest().len(), "no more is consumed than has arrived");
        self.start = (self.start + len).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_LEN_MAX);
        }
    }

    /// Takes the frame at the front; `None` when bytes are missing.
    ///
    /// # Errors
    /// Those of `parse`; nothing is consumed then.
    pub fn next<T, E>(&mut self, mut parse: impl FnMut(&[u8]) -> Parsed<T, E>) -> Result<Option<T>, E> {
        let Some((len, frame)) = parse(self.rest())? else { return Ok(None) };
        debug_assert!(len > 0, "a frame has a head, so that reading frames ends");
        self.consume(len);
        Ok(Some(frame))
    }

    /// Drops all bytes.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_LEN_MAX);
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame is its length in one byte and as many bytes; 255 is no length.
    fn parse(bytes: &[u8]) -> Parsed<Vec<u8>, &'static str> {
        match bytes.split_first() {
            Some((255, _)) => Err("no length"),
            Some((len, rest)) => Ok(rest.get(..(*len).into()).map(|body| (1 + body.len(), body.to_vec()))),
            None => Ok(None),
        }
    }

    #[test]
    fn frames_in_any_pieces_come_out_whole_and_in_order() {
        let frames: Vec<Vec<u8>> = (0..250u8).map(|i| vec![i; usize::from(i) * 7 % 240]).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(|f| [&[f.len() as u8], &f[..]].concat()).collect();
        for piece in [1, 2, 3, 100, 1000, bytes.len()] {
            let (mut reader, mut got) = (FrameReader::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                reader.extend(piece);
                while let Some(frame) = reader.next(parse).expect("well-formed") {
                    got.push(frame);
                }
            }
            assert!(got == frames, "pieces of {piece}");
            assert_eq!(reader.rest(), b"");
            assert!(reader.moved <= bytes.len(), "{} of {} in pieces of {piece}", reader.moved, bytes.len());
        }
    }

    #[test]
    fn a_long_frame_leaves_no_memory_behind() {
        let mut reader = FrameReader::new();
        reader.extend(&vec![0; 16 << 20]);
        assert_eq!(reader.held(), 16 << 20);
        reader.consume(16 << 20);
        assert!(reader.held() == 0 && reader.bytes.capacity() <= KEPT_LEN_MAX);
    }

    #[test]
    fn many_short_frames_that_arrive_at_once_are_not_moved_one_by_one() {
        let mut reader = FrameReader::new();
        let many = [1, b'x'].repeat(500_000);
        for _ in 0..4 {
            reader.extend(&many);
            // The reader is far behind: it takes a part of the frames only.
            (0..400_000).for_each(|_| assert_eq!(reader.next(parse), Ok(Some(b"x".to_vec()))));
        }
        assert!(reader.moved <= 4 * many.len(), "{} bytes", reader.moved);
        assert!(reader.bytes.len() <= 3 * many.len(), "consumed bytes do not stay for ever");
    }

    #[test]
    fn a_malformed_frame_is_an_error_that_stays_until_the_bytes_are_dropped() {
        let mut reader = FrameReader::new();
        reader.extend(&[1, b'x', 255, 1, b'y']);
        assert_eq!(reader.next(parse), Ok(Some(b"x".to_vec())));
        assert_eq!((reader.next(parse), reader.next(parse)), (Err("no length"), Err("no length")));
        assert_eq!(reader.rest(), [255, 1, b'y']);
        reader.clear();
        assert_eq!(reader.next(parse), Ok(None));
    }
}
