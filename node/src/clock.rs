//! Owns the wall clock of the operating system.

use std::time::SystemTime;

/// The wall clock. Unit: seconds since 1970.
pub(crate) fn wall_s() -> u64 {
    wall_ms() / 1000
}

/// The wall clock. Unit: milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    wall_us() / 1000
}

/// The wall clock. Unit: microseconds since 1970; 0 for a time before.
pub(crate) fn wall_us() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_micros() as u64)
}
