//! Owns the two helpers every codec is written with: a checked [`Reader`] and the [`Put`] extension of `Vec<u8>`.
//!
//! Integers of the PN1 wire are little-endian; lengths and counters inside frames are variable-length integers in the
//! form of RFC 9000 §16 (two bits of length, then 6, 14, 30 or 62 bits of value, big-endian).

use alloc::vec::Vec;
use core::fmt;

/// The bytes end too early or hold an impossible value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes end too early or hold an impossible value")
    }
}

impl core::error::Error for Malformed {}

/// Reads values from the front of a byte slice; every method fails with [`Malformed`] instead of panicking.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes not yet read.
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// True when everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// A 16-bit little-endian integer.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A 32-bit little-endian integer.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A 64-bit little-endian integer.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A variable-length integer (RFC 9000 §16).
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let first = *self.0.first().ok_or(Malformed)?;
        let len = 1usize << (first >> 6);
        let bytes = self.take(len)?;
        let value = bytes.iter().fold(0u64, |value, b| value << 8 | u64::from(*b));
        Ok(value & ((1u64 << (8 * len - 2)) - 1))
    }

    /// A byte string with its length in front, at most `max` bytes long.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = self.varint()?;
        if len > max as u64 {
            return Err(Malformed);
        }
        self.take(len as usize)
    }

    /// A UTF-8 string with its length in front, at most `max` bytes long.
    pub fn str(&mut self, max: usize) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.bytes(max)?).map_err(|_| Malformed)
    }

    /// Succeeds only when everything has been read.
    pub const fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Appends values to a byte vector; the mirror image of [`Reader`].
pub trait Put {
    /// Appends raw bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, v: u8) {
        self.put(&[v]);
    }
    /// Appends a 16-bit little-endian integer.
    fn put_u16(&mut self, v: u16) {
        self.put(&v.to_le_bytes());
    }
    /// Appends a 32-bit little-endian integer.
    fn put_u32(&mut self, v: u32) {
        self.put(&v.to_le_bytes());
    }
    /// Appends a 64-bit little-endian integer.
    fn put_u64(&mut self, v: u64) {
        self.put(&v.to_le_bytes());
    }
    /// Appends a variable-length integer; values of 2^62 and more are cut to 2^62 − 1.
    fn put_varint(&mut self, v: u64) {
        match v {
            0..0x40 => self.put(&[v as u8]),
            0x40..0x4000 => self.put(&(v as u16 | 0x4000).to_be_bytes()),
            0x4000..0x4000_0000 => self.put(&(v as u32 | 0x8000_0000).to_be_bytes()),
            _ => self.put(&(v.min((1 << 62) - 1) | 0xc000_0000_0000_0000).to_be_bytes()),
        }
    }
    /// Appends a byte string with its length in front.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_boundary() {
        let lengths = [1, 1, 1, 2, 2, 4, 4, 8, 8];
        let values = [0, 1, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, (1 << 62) - 1];
        for (v, len) in values.into_iter().zip(lengths) {
            let mut out = Vec::new();
            out.put_varint(v);
            assert_eq!(out.len(), len);
            assert_eq!(Reader::new(&out).varint(), Ok(v));
            assert_eq!(Reader::new(&out[..out.len() - 1]).varint(), Err(Malformed));
        }
    }

    #[test]
    fn lengths_above_the_maximum_are_refused() {
        let mut out = Vec::new();
        out.put_bytes(&[1; 10]);
        assert_eq!(Reader::new(&out).bytes(9), Err(Malformed));
        assert_eq!(Reader::new(&out).bytes(10), Ok(&[1u8; 10][..]));
    }
}
