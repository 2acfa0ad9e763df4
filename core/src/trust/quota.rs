//! Owns quotas: how much of this node one trusted peer may use, and their texts.

use crate::codec::{Malformed, Put as _, Reader};
use core::fmt::{self, Write as _};

/// How much of this node one trusted peer may use. Absent values are the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes that the peer may make this node hold in memory: [`Quota::MEMORY_MIN`] to [`Quota::BYTES_MAX`].
    pub memory: Option<u64>,
    /// Streams with the peer at once: 1 to [`Quota::STREAMS_MAX`].
    pub streams: Option<u32>,
    /// Bytes of the peer's files on disk: 1 to [`Quota::BYTES_MAX`].
    pub disk: Option<u64>,
    /// Messages that the peer may put into the inbox in a day: 1 to 4,294,967,295. Without a value there is no limit.
    pub messages: Option<u32>,
}

/// Why a text is no quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// Not KEY=VALUE, or a value in another form.
    Malformed,
    /// No quota has this key.
    UnknownKey,
    /// A key is given twice.
    Twice,
    /// A value is 0.
    Zero,
    /// Less memory than [`Quota::MEMORY_MIN`].
    TooSmall,
    /// More than the most of its kind.
    TooLarge,
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a quota is KEY=VALUE, and a value is a number with a unit",
            Self::UnknownKey => "the keys are memory, streams, disk and messages",
            Self::Twice => "a key is given twice",
            Self::Zero => "0 is no quota; pilotctl revoke or untrust keeps a peer out",
            Self::TooSmall => "a peer needs 1MB of memory at least",
            Self::TooLarge => "at most 1PB of memory or disk, and 16384 streams",
        })
    }
}

impl core::error::Error for QuotaError {}

/// The units of sizes, smallest first.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

impl Quota {
    /// Memory of a peer for which the owner has said nothing. Unit: bytes. Source: `docs/trust.md`, "Quotas".
    pub const MEMORY: u64 = 64_000_000;
    /// Streams of a peer for which the owner has said nothing.
    pub const STREAMS: u32 = 12_000;
    /// Disk of a peer for which the owner has said nothing. Unit: bytes.
    pub const DISK: u64 = 10_000_000_000;
    /// Least memory. Unit: bytes. Source: own choice; some streams with the smallest rings.
    pub const MEMORY_MIN: u64 = 1_000_000;
    /// Most bytes of memory or disk. Unit: bytes.
    pub const BYTES_MAX: u64 = 1_000_000_000_000_000;
    /// Most streams. Source: the ephemeral ports, RFC 6335 §6.
    pub const STREAMS_MAX: u32 = 16_384;

    /// Bytes of memory that count.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(Self::MEMORY)
    }

    /// Streams that count.
    pub fn streams(&self) -> u32 {
        self.streams.unwrap_or(Self::STREAMS)
    }

    /// Bytes on disk that count.
    pub fn disk(&self) -> u64 {
        self.disk.unwrap_or(Self::DISK)
    }

    /// This quota, with the values of another one where this has none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            streams: self.streams.or(other.streams),
            disk: self.disk.or(other.disk),
            messages: self.messages.or(other.messages),
        }
    }

    pub(super) fn emit(&self, out: &mut alloc::vec::Vec<u8>) {
        let values = [self.memory, self.streams.map(u64::from), self.disk, self.messages.map(u64::from)];
        // Each value is at least 1, so that 0 means none.
        values.into_iter().for_each(|value| out.put_varint(value.unwrap_or(0)));
    }

    pub(super) fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut value = |most: u64| match r.varint()? {
            0 => Ok(None),
            value if value <= most => Ok(Some(value)),
            _ => Err(Malformed),
        };
        Ok(Self {
            memory: value(Self::BYTES_MAX)?,
            streams: value(Self::STREAMS_MAX.into())?.map(|value| value as u32),
            disk: value(Self::BYTES_MAX)?,
            messages: value(u32::MAX.into())?.map(|value| value as u32),
        })
    }
}

impl core::str::FromStr for Quota {
    type Err = QuotaError;

    /// Reads `memory=64MB,streams=1000,disk=1GB,messages=10000/day`: some of the keys in any order, each once.
    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let mut quota = Self::default();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or(QuotaError::Malformed)?;
            let value = value.trim();
            let is_twice = match key.trim() {
                "memory" => {
                    let bytes = size(value)?;
                    if bytes < Self::MEMORY_MIN {
                        return Err(QuotaError::TooSmall);
                    }
                    quota.memory.replace(bytes).is_some()
                }
                "disk" => quota.disk.replace(size(value)?).is_some(),
                "streams" => quota.streams.replace(count(value, Self::STREAMS_MAX)?).is_some(),
                "messages" => {
                    let value = value.strip_suffix("/day").unwrap_or(value);
                    quota.messages.replace(count(value, u32::MAX)?).is_some()
                }
                _ => return Err(QuotaError::UnknownKey),
            };
            if is_twice {
                return Err(QuotaError::Twice);
            }
        }
        Ok(quota)
    }
}

/// Reads a number from 1 to `most`.
fn count(text: &str, most: u32) -> Result<u32, QuotaError> {
    match u32::try_from(number(text)?) {
        Ok(0) => Err(QuotaError::Zero),
        Ok(count) if count <= most => Ok(count),
        _ => Err(QuotaError::TooLarge),
    }
}

/// Reads a size: a number, and a unit unless it is bytes.
fn size(text: &str) -> Result<u64, QuotaError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (value, unit) = text.split_at(digits);
    let unit = unit.trim();
    let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit) || (unit.is_empty() && *name == "B"));
    let (_, factor) = known.ok_or(QuotaError::Malformed)?;
    match number(value)?.checked_mul(*factor) {
        Some(0) => Err(QuotaError::Zero),
        Some(bytes) if bytes <= Quota::BYTES_MAX => Ok(bytes),
        _ => Err(QuotaError::TooLarge),
    }
}

/// Reads decimal digits and nothing else.
fn number(text: &str) -> Result<u64, QuotaError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QuotaError::Malformed);
    }
    text.parse().map_err(|_| QuotaError::TooLarge)
}

impl fmt::Display for Quota {
    /// Writes the values that are set, in the form that is read: `memory=64MB,streams=1000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        let values = [
            ("memory=", self.memory, true),
            ("streams=", self.streams.map(u64::from), false),
            ("disk=", self.disk, true),
            ("messages=", self.messages.map(u64::from), false),
        ];
        for (key, value, is_size) in values {
            let Some(value) = value else { continue };
            if !core::mem::take(&mut is_first) {
                f.write_char(',')?;
            }
            f.write_str(key)?;
            let whole = |(_, factor): &&(&str, u64)| is_size && value % factor == 0;
            let (unit, factor) = UNITS.iter().rev().find(whole).copied().unwrap_or(("", 1));
            (value / factor).fmt(f)?;
            f.write_str(if key == "messages=" { "/day" } else { unit })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;
    use std::vec::Vec;

    #[test]
    fn texts_are_read_and_written() {
        let all: Quota = "memory=64MB, streams=1000,disk=1GB,messages=10000/day".parse().expect("a quota");
        let expected =
            Quota { memory: Some(64_000_000), streams: Some(1000), disk: Some(1_000_000_000), messages: Some(10_000) };
        assert_eq!(all, expected);
        assert_eq!(all.to_string(), "memory=64MB,streams=1000,disk=1GB,messages=10000/day");
        for (text, written) in [
            ("memory=1500kb", "memory=1500KB"),
            ("disk=2GiB,memory=64MiB", "memory=64MiB,disk=2GiB"),
            ("disk=7", "disk=7B"),
            ("messages=5", "messages=5/day"),
        ] {
            let quota: Quota = text.parse().expect(text);
            assert_eq!(quota.to_string(), written);
            assert_eq!(written.parse(), Ok(quota));
        }
        let newer: Quota = "memory=2MB".parse().expect("a quota");
        assert_eq!(newer.or(all).to_string(), "memory=2MB,streams=1000,disk=1GB,messages=10000/day");
        assert_eq!((Quota::default().memory(), Quota::default().streams()), (Quota::MEMORY, Quota::STREAMS));
    }

    #[test]
    fn bad_texts_are_refused_with_their_reason() {
        use QuotaError::*;
        for (text, why) in [
            ("", Malformed),
            ("memory", Malformed),
            ("memory=", Malformed),
            ("memory=MB", Malformed),
            ("memory=-1MB", Malformed),
            ("memory=1.5GB", Malformed),
            ("memory=1XB", Malformed),
            ("streams=10MB", Malformed),
            ("messages=10/hour", Malformed),
            ("speed=1", UnknownKey),
            ("Memory=1MB", UnknownKey),
            ("memory=1MB,memory=2MB", Twice),
            ("streams=0", Zero),
            ("disk=0GB", Zero),
            ("messages=0/day", Zero),
            ("memory=999KB", TooSmall),
            ("streams=16385", TooLarge),
            ("messages=4294967296", TooLarge),
            ("memory=1001TB", TooLarge),
            ("disk=18446744073709551615TiB", TooLarge),
            ("disk=99999999999999999999", TooLarge),
        ] {
            assert_eq!(text.parse::<Quota>(), Err(why), "{text:?}");
        }
        assert!("memory=1MB,streams=16384,disk=1000TB,messages=4294967295/day".parse::<Quota>().is_ok());
    }

    #[test]
    fn bytes_are_read_back_and_damage_is_noticed() {
        for text in ["memory=64MB", "streams=5,messages=4294967295", "memory=1000TB,streams=16384,disk=1,messages=1"] {
            let (quota, mut out) = (text.parse::<Quota>().expect(text), Vec::new());
            quota.emit(&mut out);
            assert_eq!(Quota::parse(&mut Reader::new(&out)), Ok(quota));
            assert!((0..out.len()).all(|len| Quota::parse(&mut Reader::new(&out[..len])).is_err()));
        }
        let mut out = Vec::new();
        [1, Quota::STREAMS_MAX + 1, 1, 1].into_iter().for_each(|value| out.put_varint(value.into()));
        assert_eq!(Quota::parse(&mut Reader::new(&out)), Err(Malformed));
    }
}
