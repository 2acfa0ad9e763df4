//! Owns the HTTP/1.x of one connection: requests are rewritten, answers are followed to their ends. Bytes in, bytes out; no
//! socket, no clock.
//!
//! 1. [`Http::push_request`] collects a head. One that two readers could understand differently is refused.
//! 2. Behind `expose --http` the head is rewritten at once. Behind the proxy [`Http::wanted`] names its server first, and
//!    [`Http::connected`] lets the head go on when a stream to that server stands.
//! 3. The body goes on, and the next head is read.
//! 4. [`Http::push_response`] follows the answers. After 101, or after 2xx to CONNECT, both directions are bytes and nothing
//!    else.

mod body;
mod card;
mod head;
mod reject;
mod request;
mod response;
#[cfg(test)]
mod tests;

use crate::programs::authority::Authority;
use body::{Body, Keep};
use head::Lines;
pub(crate) use reject::Reject;
use request::Kind;
pub(crate) use request::{Exposed, Peer};
use response::Responses;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Longest time between a connection's beginning and the end of its first head, and between the first byte and the end of
/// each further one. Source: `docs/programs.md`, "Limits".
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(10);
/// Most requests behind `expose --http` that wait for their answers; at the limit no further one is read. Own choice.
pub(crate) const PIPELINE_MAX: usize = 32;
/// How HTTP/2 begins. Source: RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// The side on which requests are rewritten.
#[derive(Debug)]
enum Mode {
    /// Of a server behind `expose --http`.
    Exposed(Exposed),
    /// Of a client of the proxy. With the server to which a stream stands.
    Proxied { credentials: Arc<[String]>, current: Option<Authority> },
}

/// The place in the requests.
#[derive(Debug)]
enum State {
    /// In a head, or before it.
    Head,
    /// Behind a head, while its server is wanted.
    Wanted {
        to: Authority,
        is_connect: bool,
    },
    Body(Body),
    /// Behind a request, while its answer decides how the next bytes are read.
    Held,
    /// The connection is no HTTP any more.
    Raw,
}

/// The HTTP of one connection.
#[derive(Debug)]
pub(crate) struct Http {
    mode: Mode,
    state: State,
    lines: Lines,
    /// Heads that were whole.
    heads: u32,
    /// The newest request decides about the bytes after it.
    decides: bool,
    /// The requests without a whole answer, the oldest first.
    waiting: VecDeque<Kind>,
    responses: Responses,
}

impl Http {
    /// The connection of a peer to a server behind `expose --http`.
    pub(crate) fn exposed(server: Exposed) -> Self {
        Self::new(Mode::Exposed(server))
    }

    /// The connection of a client of the proxy. `credentials`: one of these, as Basic authentication writes them, is asked
    /// for; none when empty.
    pub(crate) fn proxied(credentials: Arc<[String]>) -> Self {
        Self::new(Mode::Proxied { credentials, current: None })
    }

    fn new(mode: Mode) -> Self {
        let (lines, responses) = (Lines::default(), Responses::default());
        Self { mode, state: State::Head, lines, heads: 0, decides: false, waiting: VecDeque::new(), responses }
    }

    /// The number of the head that has [`HEAD_TIME`]; `None` while none is awaited. An idle connection may stay.
    pub(crate) fn awaited_head(&self) -> Option<u32> {
        let is_awaited = matches!(self.state, State::Head) && (self.heads == 0 || !self.lines.is_empty());
        is_awaited.then_some(self.heads)
    }

    /// True when the connection is no HTTP any more, and nothing needs to be looked at.
    pub(crate) const fn is_raw(&self) -> bool {
        matches!(self.state, State::Raw) && self.responses.is_raw()
    }

    /// True while the client's next bytes wait for an answer.
    pub(crate) fn is_held(&self) -> bool {
        !self.takes() && !self.waiting.is_empty() && !matches!(self.state, State::Wanted { .. })
    }

    /// The server that the proxy's client asks for next, and true when it waits for the stream (CONNECT).
    pub(crate) const fn wanted(&self) -> Option<(&Authority, bool)> {
        if let State::Wanted { to, is_connect } = &self.state { Some((to, *is_connect)) } else { None }
    }

    /// A stream to the wanted server stands, or is being opened: the request goes on into `out`. The answer to CONNECT comes back.
    pub(crate) fn connected(&mut self, out: &mut Vec<u8>) -> Result<&'static [u8], Reject> {
        let State::Wanted { to, is_connect } = std::mem::replace(&mut self.state, State::Raw) else { return Ok(&[]) };
        if is_connect {
            self.responses.switch();
            self.lines = Lines::default();
            return Ok(b"HTTP/1.1 200 Connected\r\n\r\n");
        }
        if let Mode::Proxied { current, .. } = &mut self.mode {
            *current = Some(to);
        }
        self.head(out)?;
        Ok(&[])
    }

    /// Takes bytes of the client's, and gives their number. Fewer than all are taken while answers are waited for, or a stream
    /// is: the rest comes again after the next bytes of the server, or after [`Self::connected`].
    pub(crate) fn push_request(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Reject> {
        let mut used = 0;
        loop {
            self.go_on();
            let rest = &input[used..];
            if rest.is_empty() || !self.takes() {
                return Ok(used);
            }
            used += match &mut self.state {
                State::Raw => {
                    out.extend_from_slice(rest);
                    rest.len()
                }
                State::Body(body) => body.push(rest, Keep::Request, out)?,
                State::Head => {
                    let (len, is_whole) = self.lines.take(rest, true)?;
                    if self.lines.bytes.starts_with(PREFACE) {
                        return Err(Reject::new(505, "HTTP/2 is not rewritten: expose this port without --http"));
                    }
                    if is_whole {
                        self.heads = self.heads.wrapping_add(1).max(1);
                        self.whole_head(out)?;
                    }
                    len
                }
                State::Wanted { .. } | State::Held => 0,
            };
        }
    }

    /// Takes all bytes of the server's.
    pub(crate) fn push_response(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Reject> {
        self.responses.push(input, &mut self.waiting, out)
    }

    /// The server sends nothing more.
    pub(crate) fn end_response(&mut self, out: &mut Vec<u8>) -> Result<(), Reject> {
        self.responses.end(&self.waiting, out)
    }

    /// The last bytes to a client that is refused; none when they would be taken for a part of another answer.
    pub(crate) fn farewell(&self, reject: &Reject) -> Vec<u8> {
        let own = usize::from(matches!(self.state, State::Body(_)));
        if self.waiting.len() == own { self.farewell_of_server(reject) } else { Vec::new() }
    }

    /// The same when the reason is the server.
    pub(crate) fn farewell_of_server(&self, reject: &Reject) -> Vec<u8> {
        if self.responses.is_between() { reject.answer() } else { Vec::new() }
    }

    /// True when the client's next bytes are taken.
    fn takes(&self) -> bool {
        let waiting_max = if matches!(self.mode, Mode::Exposed(_)) { PIPELINE_MAX } else { 1 };
        match self.state {
            State::Head => self.waiting.len() < waiting_max,
            State::Raw | State::Body(_) => true,
            State::Wanted { .. } | State::Held => false,
        }
    }

    /// Leaves the states that have ended.
    fn go_on(&mut self) {
        if self.responses.is_raw() {
            self.state = State::Raw;
        }
        if matches!(self.state, State::Body(Body::Over)) {
            self.state = if self.decides { State::Held } else { State::Head };
        }
        if matches!(self.state, State::Held) && self.waiting.is_empty() {
            self.state = State::Head;
        }
    }

    fn whole_head(&mut self, out: &mut Vec<u8>) -> Result<(), Reject> {
        let Mode::Proxied { credentials, current } = &self.mode else { return self.head(out) };
        let (to, is_connect) = request::proxied_to(&self.lines.bytes, credentials)?;
        if is_connect || current.as_ref() != Some(&to) {
            self.state = State::Wanted { to, is_connect };
            return Ok(());
        }
        self.head(out)
    }

    fn head(&mut self, out: &mut Vec<u8>) -> Result<(), Reject> {
        let bytes = std::mem::take(&mut self.lines).bytes;
        let (body, kind) = match &self.mode {
            Mode::Exposed(server) => request::expose(&bytes, server, out)?,
            Mode::Proxied { .. } => request::proxied(&bytes, out)?,
        };
        self.decides = kind.decides();
        self.waiting.push_back(kind);
        self.state = State::Body(body);
        debug_assert!(self.waiting.len() <= PIPELINE_MAX);
        Ok(())
    }
}
