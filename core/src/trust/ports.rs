//! Owns the grant of a pin: the ports that a peer may reach.

use crate::codec::{Malformed, Put as _, Reader};
use alloc::vec::Vec;
use core::fmt;

/// The ports of ours that a peer may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port.
    All,
    /// These ports, at most [`Ports::LIST_MAX`].
    List(Vec<u16>),
}

impl Ports {
    /// Most ports that can be named one by one.
    pub const LIST_MAX: usize = 64;

    /// True when `port` is granted.
    pub fn allow(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::List(list) => list.contains(&port),
        }
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::All => out.put_u8(u8::MAX),
            Self::List(list) => {
                out.put_u8(list.len().min(Self::LIST_MAX) as u8);
                list.iter().take(Self::LIST_MAX).for_each(|port| out.put_u16(*port));
            }
        }
    }

    pub(super) fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match usize::from(r.u8()?) {
            255 => Ok(Self::All),
            count if count <= Self::LIST_MAX => Ok(Self::List((0..count).map(|_| r.u16()).collect::<Result<_, _>>()?)),
            _ => Err(Malformed),
        }
    }
}

impl Default for Ports {
    /// Echo, stdio, messages and files, events. Source: `docs/trust.md`.
    fn default() -> Self {
        Self::List([7, 1000, 1001, 1002].into())
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::List(list) = self else { return f.write_str("all") };
        for (i, port) in list.iter().enumerate() {
            write!(f, "{}{port}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl core::str::FromStr for Ports {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text == "all" {
            return Ok(Self::All);
        }
        let list: Vec<u16> =
            text.split(',').map(|p| p.trim().parse().map_err(|_| Malformed)).collect::<Result<_, _>>()?;
        if list.len() > Self::LIST_MAX { Err(Malformed) } else { Ok(Self::List(list)) }
    }
}
