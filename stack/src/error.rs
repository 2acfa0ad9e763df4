//! Owns the texts of the public errors.

use crate::CommandError;
use core::error::Error;
use core::fmt::{Display, Formatter, Result};

impl Display for CommandError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::UnknownStream => "there is no such stream",
            Self::UnknownPeer => "there is no such trusted peer",
            Self::PortInUse => "the port has a listener already",
            Self::TooMany => "no local port is free, or there are too many streams to the peer",
            Self::TooLong => "the datagram does not fit the path, or the early data is too long",
            Self::ShutDown => "this side of the stream is shut down",
            Self::Ended(_) => "the stream has ended",
        })
    }
}

impl Error for CommandError {}
