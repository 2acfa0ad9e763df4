//! Owns the rendezvous' end of a connection until it carries datagrams: TLS, the question for the upgrade, the answer.

use crate::underlay::tls::channel::Channel;
use crate::underlay::tls::http::Asked;
use crate::underlay::tls::pipe::Pipe;
use mio::net::TcpStream;
use std::io;
use std::net::IpAddr;

/// Reads of one turn.
const EXCHANGES: usize = 4;

/// A connection that was accepted and carries no datagrams yet.
pub struct Entering {
    pipe: Pipe,
    head: Vec<u8>,
    /// A stranger has its answer, and the connection ends when it has left.
    is_refused: bool,
}

/// What a connection has come to.
pub enum Entered {
    /// It waits.
    Waits(Entering),
    /// It carries datagrams. The address: the client, as a reverse proxy before this process names it.
    Stands(Channel, Option<IpAddr>),
    /// It has ended.
    Over,
}

impl Entering {
    /// `tls`: this side's TLS, or `None` for a WebSocket in plain.
    pub fn new(socket: TcpStream, tls: Option<rustls::ServerConnection>) -> Self {
        let mut pipe = Pipe::new(socket);
        if let Some(tls) = tls {
            pipe.start_tls(tls.into());
        }
        Self { pipe, head: Vec::new(), is_refused: false }
    }

    /// The socket, for a registry.
    pub const fn socket(&mut self) -> &mut TcpStream {
        self.pipe.socket()
    }

    /// Goes on as far as it can.
    pub fn advance(mut self) -> Entered {
        let read = self.exchange();
        if self.is_refused {
            // The rest of what the stranger says is read, so that the answer is not lost by a reset, and thrown away.
            self.head.clear();
            return if read.is_ok() { Entered::Waits(self) } else { Entered::Over };
        }
        match Asked::parse(&self.head) {
            None if read.is_ok() => Entered::Waits(self),
            None => Entered::Over,
            Some(Asked::Other(answer)) => {
                self.pipe.write(answer.as_bytes());
                self.is_refused = true;
                match self.pipe.flush() {
                    Ok(_) => Entered::Waits(self),
                    Err(_) => Entered::Over,
                }
            }
            Some(Asked::Upgrade { answer, len, forwarded }) => {
                self.pipe.write(answer.as_bytes());
                let rest = self.head.split_off(len);
                match self.pipe.flush() {
                    Ok(_) => Entered::Stands(Channel::new(self.pipe, rest, None), forwarded),
                    Err(_) => Entered::Over,
                }
            }
        }
    }

    fn exchange(&mut self) -> io::Result<()> {
        self.pipe.flush()?;
        for _ in 0..EXCHANGES {
            let has_more = self.pipe.read(&mut self.head)?;
            self.pipe.flush()?; // TLS answers what it read
            if !has_more {
                break;
            }
        }
        Ok(())
    }
}
