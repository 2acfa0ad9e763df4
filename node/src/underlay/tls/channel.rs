//! Owns a WebSocket connection that carries datagrams, of either side: a bounded queue before the socket, and messages out of it.

use crate::underlay::tls::frame::{Frames, MESSAGE_LEN_MAX, Malformed, Message, put};
use crate::underlay::tls::pipe::Pipe;
use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io;

/// Bytes of datagrams that wait for the socket. Source: own choice; at 1 MB/s a quarter of a second, beyond which a link sends
/// less. The oldest goes first: what is newest is of most use to the peer.
pub const QUEUE_LEN_MAX: usize = 256 << 10;
/// Bytes that are put into frames at once: one record of TLS.
const BURST_LEN: usize = 16 << 10;

/// A connection that carries datagrams.
pub struct Channel {
    pipe: Pipe,
    frames: Frames,
    queue: VecDeque<Box<[u8]>>,
    queued_len: usize,
    dropped: u64,
    /// State of the generator of masks, of a client. The masks keep plain caches on the way from taking a datagram for something
    /// else, and hide nothing.
    mask: Option<u32>,
    /// Answers to pings, and pings.
    control: Vec<u8>,
    burst: Vec<u8>,
    /// A message of any kind came.
    has_sign_of_life: bool,
}

impl Channel {
    /// `rest`: what came behind the head of HTTP. `mask`: a seed, of a client.
    pub(crate) const fn new(pipe: Pipe, rest: Vec<u8>, mask: Option<u32>) -> Self {
        let is_masked = mask.is_none();
        Self {
            pipe,
            frames: Frames::new(rest, is_masked),
            queue: VecDeque::new(),
            queued_len: 0,
            dropped: 0,
            mask,
            control: Vec::new(),
            burst: Vec::new(),
            has_sign_of_life: false,
        }
    }

    /// The socket, for a registry.
    pub const fn socket(&mut self) -> &mut TcpStream {
        self.pipe.socket()
    }

    /// Datagrams that found no room, or were too long for a message.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Queues a datagram; when there is no room the oldest goes. [`flush`](Self::flush) sends.
    pub fn send(&mut self, datagram: &[u8]) {
        if datagram.len() > MESSAGE_LEN_MAX {
            self.dropped += 1; // a probe of a larger size
            return;
        }
        self.queued_len += datagram.len();
        self.queue.push_back(datagram.into());
        while self.queued_len > QUEUE_LEN_MAX
            && let Some(oldest) = self.queue.pop_front()
        {
            self.queued_len -= oldest.len();
            self.dropped += 1;
        }
    }

    /// Asks the other side for a sign of life.
    pub(crate) fn ping(&mut self) {
        let mask = self.next_mask();
        put(&mut self.control, Message::Ping, mask, &[]);
    }

    /// True when a message of any kind came since the last look.
    pub const fn take_sign_of_life(&mut self) -> bool {
        std::mem::replace(&mut self.has_sign_of_life, false)
    }

    fn next_mask(&mut self) -> Option<[u8; 4]> {
        let state = self.mask.as_mut()?;
        // Marsaglia's xorshift32.
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        Some(state.to_le_bytes())
    }

    /// Sends what the kernel has room for.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.pipe.flush()? && !(self.queue.is_empty() && self.control.is_empty()) {
            let mut burst = std::mem::take(&mut self.burst);
            burst.clear();
            burst.append(&mut self.control);
            while burst.len() < BURST_LEN
                && let Some(datagram) = self.queue.pop_front()
            {
                self.queued_len -= datagram.len();
                let mask = self.next_mask();
                put(&mut burst, Message::Datagram, mask, &datagram);
            }
            self.pipe.write(&burst);
            self.burst = burst;
        }
        Ok(())
    }

    /// Reads, and gives each datagram to `f`; true when more may wait.
    ///
    /// # Errors
    /// The connection has ended or is broken, or the other side does not speak WebSocket. What came before was given to `f`.
    pub fn receive(&mut self, mut f: impl FnMut(&mut [u8])) -> io::Result<bool> {
        let read = self.pipe.read(self.frames.room());
        let mut payload = Vec::new();
        loop {
            let next = self.frames.next(&mut payload);
            self.has_sign_of_life |= matches!(next, Ok(Some(_)));
            match next {
                Ok(None) => return read,
                Ok(Some(Message::Datagram)) => f(&mut payload),
                Ok(Some(Message::Ping)) => {
                    // One answer is enough for several questions, so that a peer that does not read fills nothing.
                    if self.control.is_empty() {
                        let mask = self.next_mask();
                        put(&mut self.control, Message::Pong, mask, &payload);
                    }
                }
                Ok(Some(Message::Pong)) => {}
                Ok(Some(Message::Close)) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Err(Malformed) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "what came is no WebSocket"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Both ends of a connection: a client and a server.
    fn pair() -> (Channel, Channel) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a client");
        let (server, _) = listener.accept().expect("a server");
        let pipe = |stream: std::net::TcpStream| {
            stream.set_nonblocking(true).expect("non-blocking");
            Pipe::new(TcpStream::from_std(stream))
        };
        (Channel::new(pipe(client), Vec::new(), Some(7)), Channel::new(pipe(server), Vec::new(), None))
    }

    fn receive(channel: &mut Channel, count: usize) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        while got.len() < count {
            channel.receive(|datagram| got.push(datagram.to_vec())).expect("it goes on");
        }
        got
    }

    #[test]
    fn datagrams_go_both_ways_and_long_ones_do_not() {
        let (mut client, mut server) = pair();
        for (a, b) in [(true, 1), (false, 2)] {
            let (from, to) = if a { (&mut client, &mut server) } else { (&mut server, &mut client) };
            from.send(&[b; MESSAGE_LEN_MAX + 1]);
            from.ping();
            from.send(&[b; MESSAGE_LEN_MAX]);
            from.send(&[b]);
            from.flush().expect("sent");
            assert_eq!(receive(to, 2), [vec![b; MESSAGE_LEN_MAX], vec![b]]);
            assert_eq!(from.dropped(), 1);
            assert!(!to.control.is_empty(), "the ping is answered");
            to.flush().expect("sent");
        }
    }

    #[test]
    fn what_waits_for_the_socket_has_a_maximum_and_the_oldest_goes() {
        let (mut client, mut server) = pair();
        let datagram = |n: u32| [&n.to_le_bytes()[..], &[0; 996]].concat();
        let count = 3 * (QUEUE_LEN_MAX / 1000) as u32;
        (0..count).for_each(|n| client.send(&datagram(n)));
        assert!(client.queued_len <= QUEUE_LEN_MAX && client.queued_len > QUEUE_LEN_MAX - 1000);
        let kept = client.queue.len() as u32;
        assert_eq!(client.dropped(), u64::from(count - kept));
        let mut got = Vec::new();
        while got.len() < kept as usize {
            client.flush().expect("it goes on");
            server.receive(|datagram| got.push(datagram.to_vec())).expect("it goes on");
        }
        assert_eq!((client.queued_len, client.queue.len()), (0, 0));
        assert_eq!((&got[0], &got[kept as usize - 1]), (&datagram(count - kept), &datagram(count - 1)));
    }

    #[test]
    fn an_end_is_told_after_what_came_before() {
        let (mut client, mut server) = pair();
        client.send(b"last");
        client.flush().expect("sent");
        drop(client);
        let mut got = Vec::new();
        let error = loop {
            if let Err(e) = server.receive(|datagram| got.push(datagram.to_vec())) {
                break e;
            }
        };
        assert_eq!((got, error.kind()), (vec![b"last".to_vec()], io::ErrorKind::UnexpectedEof));
    }
}
