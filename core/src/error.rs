//! Owns the texts of the public errors.

use crate::codec::Malformed;
use crate::control::Refusal;
use crate::trust::TrustError;
use crate::tunnel::session::OpenError;
use crate::wire::WireError;
use core::error::Error;
use core::fmt::{Display, Formatter, Result};

impl Display for Malformed {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("the bytes end too early or hold an impossible value")
    }
}

impl Error for Malformed {}

impl Display for WireError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Type => "no datagram has this type",
            Self::Length => "the size does not fit the datagram's type",
            Self::Version => "the version or reserved bits are unknown",
        })
    }
}

impl Error for WireError {}

impl Display for OpenError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Tag => "the datagram is forged, damaged, or sealed under other keys",
            Self::Replay => "the datagram was seen before, or is too old to tell",
            Self::Counter => "the counter is beyond the limit of a session",
        })
    }
}

impl Error for OpenError {}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::NotFound => "there is no such node, or it cannot be found by the caller",
            Self::NameTaken => "the hostname belongs to another node",
            Self::BadRecord => "the record is malformed, not the caller's, or not newer than the stored one",
            Self::TooMany => "there are too many calls",
            Self::Full => "the rendezvous has no room",
            Self::NotRegistered => "the caller is not registered",
            Self::Storage => "the storage of the rendezvous failed",
        })
    }
}

impl Error for Refusal {}

impl Display for TrustError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Unknown => "there is no such peer or request",
            Self::AlreadyTrusted => "the peer is trusted already",
            Self::Full => "there are too many requests or peers",
            Self::AddressTaken => "another trusted peer has the address",
            Self::NoteTooLong => "the note is too long",
            Self::Oneself => "a node cannot ask itself",
        })
    }
}

impl Error for TrustError {}
