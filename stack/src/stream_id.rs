//! Owns the name of a stream.

/// A stream; never reused while the stack lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The inverse of [`StreamId::number`]; it names no stream unless one has that number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number, for logs and IPC. Streams are counted from 1 in the order in which they were opened.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The stream that is opened after this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
