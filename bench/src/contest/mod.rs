//! The contestants: each is a process that serves and a process that drives, so that the two sides share no scheduler and no
//! cache. The parent (`compare`) starts them, gives the word, and reads their CPU time.
//!
//! A server prints `ready DETAILS` and ends with its standard input. A driver prepares, prints `begin`, waits for a line,
//! works, and prints `end JSON`. A connection's first byte names its task ([`task::Task`]).

mod pilot;
mod task;
mod tcp;
mod udp;

pub(crate) use pilot::{DRIVER, Folder, PORT, SERVER, befriend, start, until, until_registered};
pub(crate) use task::{Outcome, REQUEST_LEN};

use argh::FromArgs;
use std::net::IpAddr;

/// One side of a contest (started by `compare`).
#[derive(FromArgs)]
#[argh(subcommand, name = "contest")]
pub(crate) struct Contest {
    /// pilot, tcp, tls, udp or limit (UDP with the cipher)
    #[argh(positional)]
    who: String,
    /// serve or drive
    #[argh(positional)]
    side: String,
    /// address to serve on
    #[argh(option, default = "IpAddr::from([127, 0, 0, 1])")]
    bind: IpAddr,
    /// what the server said after `ready`
    #[argh(option, default = "String::new()")]
    to: String,
    /// bulk, ping, open or exchange
    #[argh(option, default = "String::new()")]
    task: String,
    /// bytes, or round trips
    #[argh(option, default = "0")]
    count: u64,
    /// largest datagram. Unit: bytes of UDP payload
    #[argh(option, default = "65000")]
    datagram: usize,
}

impl Contest {
    /// Serves or drives until done.
    ///
    /// # Errors
    /// Every error of the contestant; the parent shows it.
    pub(crate) fn run(&self) -> Outcome<()> {
        match (self.who.as_str(), self.side.as_str()) {
            ("pilot", "serve") => pilot::serve(self.bind, self.datagram),
            ("pilot", _) => pilot::drive(&self.to, self.task.parse()?, self.count, self.datagram),
            ("tcp", "serve") => tcp::serve(self.bind, false),
            ("tls", "serve") => tcp::serve(self.bind, true),
            ("tcp", _) => tcp::drive(&self.to, self.task.parse()?, self.count, false),
            ("tls", _) => tcp::drive(&self.to, self.task.parse()?, self.count, true),
            ("udp" | "limit", "serve") => udp::serve(self.bind, self.who == "limit"),
            ("udp" | "limit", _) => {
                udp::drive(&self.to, self.task.parse()?, self.count, self.datagram, self.who == "limit")
            }
            (who, _) => Err(format!("nobody here is called {who}").into()),
        }
    }
}
