//! Owns the part of the command line about captures.

use argh::{ArgsInfo, FromArgs};

/// record this node's inner packets, in clear, as a pcapng file for Wireshark, until Ctrl-C: capture -w FILE, or capture PEER -w FILE
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "capture")]
pub(crate) struct Capture {
    /// hostname, address or node number of a peer; none: packets of all peers
    #[argh(positional)]
    pub(crate) node: Option<String>,
    /// only packets with this port at either end
    #[argh(option)]
    pub(crate) port: Option<u16>,
    /// end after this time. Unit: seconds (or 5s, 2m)
    #[argh(option)]
    pub(crate) seconds: Option<String>,
    /// end before the file becomes longer, from 1024. Unit: bytes (default 67108864)
    #[argh(option)]
    pub(crate) max_bytes: Option<u64>,
    /// where to write; - is stdout, for `| wireshark -k -i -`
    #[argh(option, short = 'w', long = "write")]
    pub(crate) write: String,
}
