//! Owns a plain relay: each connection that is accepted is joined with one to the target. One thread, epoll by mio.

use crate::contest::Outcome;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

/// Buffer of each direction. Unit: bytes. Source: docs/programs.md says that a joint of ours has at most as much.
const BUFFER_LEN: usize = 256 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// Serves until standard input ends.
pub(super) fn serve(bind: SocketAddr, target: SocketAddr) -> Outcome<()> {
    let listener = TcpListener::bind(bind)?;
    super::place::say_ready_until_end(&listener.local_addr()?.to_string());
    relay(listener, target)
}

fn relay(mut listener: TcpListener, target: SocketAddr) -> Outcome<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut events, mut joints) = (Events::with_capacity(1024), Joints::default());
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                joints.accept(&listener, target, poll.registry())?;
            } else {
                joints.pump(event.token().0 / 2);
            }
        }
    }
}

/// The joints by number, and what ended joints leave for new ones.
#[derive(Default)]
struct Joints {
    slots: Vec<Option<Joint>>,
    free: Vec<usize>,
    /// Buffers, so that a new connection costs the relay no memory of the system.
    spare: Vec<[Half; 2]>,
}

impl Joints {
    fn accept(&mut self, listener: &TcpListener, target: SocketAddr, registry: &Registry) -> Outcome<()> {
        loop {
            let client = match listener.accept() {
                Ok((client, _)) => client,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            let at = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            let mut sockets = [client, TcpStream::connect(target)?];
            for (side, socket) in sockets.iter_mut().enumerate() {
                socket.set_nodelay(true)?;
                registry.register(socket, Token(2 * at + side), Interest::READABLE | Interest::WRITABLE)?;
            }
            let halves = self.spare.pop().unwrap_or_else(|| [Half::new(), Half::new()]);
            self.slots[at] = Some(Joint { sockets, halves });
        }
    }

    fn pump(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        if let Some(joint) = slot.take_if(|joint| !joint.pump()) {
            self.free.push(at);
            self.spare.push(joint.halves.map(Half::again));
        }
    }
}

/// Two connections and what is on its way between them.
struct Joint {
    sockets: [TcpStream; 2],
    halves: [Half; 2],
}

impl Joint {
    /// Moves what can be moved, as edge-triggered readiness asks for; tells whether the joint stays.
    fn pump(&mut self) -> bool {
        let [one, other] = &self.sockets;
        let [there, back] = &mut self.halves;
        let moved = there.pump(one, other).and_then(|()| back.pump(other, one));
        moved.is_ok() && !(there.ended && back.ended)
    }
}

/// One direction of a joint.
struct Half {
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    /// The sender has said all.
    complete: bool,
    /// The receiver knows.
    ended: bool,
}

impl Half {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER_LEN].into(), begin: 0, end: 0, complete: false, ended: false }
    }

    /// Returns the half for another connection.
    fn again(self) -> Self {
        Self { begin: 0, end: 0, complete: false, ended: false, ..self }
    }

    fn pump(&mut self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        loop {
            if self.begin == self.end && !self.complete {
                match waiting(from.read(&mut self.buffer))? {
                    Some(0) => self.complete = true,
                    Some(n) => (self.begin, self.end) = (0, n),
                    None => return Ok(()),
                }
            }
            if self.begin < self.end {
                match waiting(to.write(&self.buffer[self.begin..self.end]))? {
                    Some(n) => self.begin += n,
                    None => return Ok(()),
                }
            } else if self.complete {
                if !self.ended {
                    to.shutdown(Shutdown::Write)?;
                    self.ended = true;
                }
                return Ok(());
            }
        }
    }
}

/// A connection that is not up yet is as one that has no room.
fn waiting(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{SocketAddr, TcpListener, relay};
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, Shutdown, TcpStream};
    use std::thread;

    #[test]
    fn a_relay_carries_both_directions_and_their_ends() {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let target = std::net::TcpListener::bind(local).unwrap();
        let (there, listener) = (target.local_addr().unwrap(), TcpListener::bind(local).unwrap());
        let here = listener.local_addr().unwrap();
        // The relay serves until the test's process ends.
        thread::spawn(move || relay(listener, there).map_err(|e| e.to_string()));
        let echo = thread::spawn(move || {
            let (mut stream, _) = target.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let mut client = TcpStream::connect(here).unwrap();
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert!(got == sent);
        echo.join().unwrap();
    }
}
