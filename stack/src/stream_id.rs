//! Owns the name of a stream.

/// Names a stream; never reused while its stack lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The inverse of [`StreamId::number`]. The result names no stream unless a stream has that number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number, for logs and IPC. Range: from 1, in the order in which streams are opened.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The stream that is opened after this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
