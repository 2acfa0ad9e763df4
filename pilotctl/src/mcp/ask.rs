//! Owns the tool that opens a stream to a peer, says something and returns the answer.

use crate::client::CALL_TIMEOUT;
use crate::mcp::arguments::{Arguments, invalid};
use crate::mcp::bytes;
use crate::mcp::calls::Call;
use crate::pipe::finish_writing;
use pilot_node::{Client, Code, EARLY_LEN_MAX, Failure, Request, socket_path};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest answer that is returned. Unit: bytes. Source: more fills an agent's memory rather than informs it.
pub(super) const ANSWER_MAX: u64 = 1 << 20;
/// Answer that is returned unless the agent says more. Unit: bytes.
const ANSWER_LEN: u64 = 64 << 10;
/// The port of texts, where a message is kept when no program listens.
const PORT: u64 = 1000;
/// How long the end of the stream is waited for at a time.
const END_WAIT: Duration = Duration::from_secs(1);

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The peer has ended its direction.
    End,
    /// The answer is longer than was asked for.
    Limit,
    /// The time is over, or the call was cancelled.
    Timeout,
}

/// Opens a stream, sends bytes, ends its own direction, and returns what comes back.
pub(super) fn run(call: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    let node = arguments.needed_text("node")?;
    let port = arguments.number("port", u64::from(u16::MAX))?.unwrap_or(PORT);
    let limit = arguments.number("limit", ANSWER_MAX)?.unwrap_or(ANSWER_LEN);
    let timeout = arguments.seconds("timeout_s", 30)?;
    let asked = bytes::take(&mut arguments)?;
    let port = u16::try_from(port).map_err(|_| invalid("port: an integer from 0 to 65535 is wanted"))?;
    let deadline = Instant::now() + timeout;
    let mut client = call.client()?;
    client.end_explicitly()?;
    let (first, rest) = asked.split_at(asked.len().min(EARLY_LEN_MAX));
    let stream = client.open_with(&node, port, first, Some(timeout))?;
    // The daemon ends a stream in order when its socket or client has gone, but that of a cancelled call is aborted.
    let (told, ending) = UnixStream::pair()?;
    call.ends_only(&told).inspect_err(|_| abort(stream.data.stream))?;
    let finisher = client.finisher(&stream)?;
    // The peer may answer before it has read everything, so both directions move at once.
    let (answer, stop) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let sent = stream.socket.set_write_timeout(Some(timeout)).and_then(|()| (&stream.socket).write_all(rest));
            if sent.is_ok() {
                finish_writing(&stream.socket, &finisher);
            }
        });
        let read = read(&stream.socket, &ending, limit, deadline);
        if call.is_cancelled() || !matches!(read, Ok((_, Stop::End))) {
            // The thread above waits no longer.
            abort(stream.data.stream);
            let _ = stream.socket.shutdown(std::net::Shutdown::Both);
        }
        read
    })?;
    if stop == Stop::End {
        await_end(call, &mut client, stream.data.stream, deadline)?;
    }
    if stop == Stop::Timeout && answer.is_empty() {
        return Err(Failure::new(Code::Timeout, format!("{node} sent no answer in time")));
    }
    let mut result = Map::new();
    result.insert("peer".into(), stream.data.peer.into());
    result.insert("hostname".into(), stream.data.hostname.into());
    result.insert("sent".into(), asked.len().into());
    result.insert("bytes".into(), answer.len().into());
    result.insert("is_complete".into(), (stop == Stop::End).into());
    bytes::show(&mut result, trimmed(&answer, stop));
    if stop != Stop::End {
        let why = if stop == Stop::Limit { "the answer is longer than limit" } else { "the time was over" };
        result.insert("why_incomplete".into(), why.into());
    }
    Ok(Value::Object(result))
}

/// Waits until the daemon tells how the stream ended, or the time is over: then the answer is whole, although the peer has not
/// acknowledged everything.
fn await_end(call: &Call, client: &mut Client, stream: u64, deadline: Instant) -> Result<(), Failure> {
    loop {
        match client.stream_end(stream, Some(END_WAIT)) {
            Err(failure) if failure.code == Code::Timeout => {}
            ended => return ended,
        }
        if call.is_cancelled() || Instant::now() >= deadline {
            return Ok(());
        }
    }
}

/// Aborts a stream of which no more is wanted, over a connection of its own, since that of a cancelled call has ended.
fn abort(stream: u64) {
    // A daemon that has gone has no streams.
    let client = Client::connect(&socket_path());
    let _ = client.and_then(|mut client| client.request(&Request::Disconnect { stream }, &[], Some(CALL_TIMEOUT)));
}

/// Reads up to the end, the limit or the deadline, or until `ending` ends.
fn read(
    mut socket: &UnixStream,
    ending: &UnixStream,
    limit: u64,
    deadline: Instant,
) -> Result<(Vec<u8>, Stop), Failure> {
    let lost = |e: io::Error| Failure::new(Code::ConnectionReset, e.to_string());
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(ending, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return Ok((answer, Stop::Timeout)),
            Ok(_) if !fds[1].revents().is_empty() => return Ok((answer, Stop::Timeout)),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(lost(e.into())),
        }
        match socket.read(&mut buffer) {
            Ok(0) => return Ok((answer, Stop::End)),
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(lost(e)),
        }
        if answer.len() as u64 > limit {
            answer.truncate(limit as usize);
            return Ok((answer, Stop::Limit));
        }
    }
}

/// An answer that was cut, without the part of a character at its end.
fn trimmed(answer: &[u8], stop: Stop) -> &[u8] {
    match std::str::from_utf8(answer) {
        Err(e) if stop != Stop::End && e.error_len().is_none() => &answer[..e.valid_up_to()],
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(sent: &[u8], ends: bool, limit: u64, timeout_ms: u64) -> (Vec<u8>, Stop) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(sent).expect("room");
        let (_told, ending) = UnixStream::pair().expect("a pair");
        let kept = (!ends).then_some(theirs);
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let read = read(&ours, &ending, limit, deadline).expect("no error");
        drop(kept);
        read
    }

    #[test]
    fn an_answer_ends_at_its_end_its_limit_or_its_time() {
        assert_eq!(read_of(b"hello", true, 5, 60_000), (b"hello".to_vec(), Stop::End));
        assert_eq!(read_of(b"hello", true, 4, 60_000), (b"hell".to_vec(), Stop::Limit));
        assert_eq!(read_of(b"hello", false, 5, 50), (b"hello".to_vec(), Stop::Timeout));
        assert_eq!(read_of(b"", false, 5, 0), (Vec::new(), Stop::Timeout));
    }

    #[test]
    fn a_cut_text_has_no_half_character() {
        assert_eq!(trimmed(&"aé".as_bytes()[..2], Stop::Limit), b"a");
        assert_eq!(trimmed(&"aé".as_bytes()[..2], Stop::End), &"aé".as_bytes()[..2]);
        assert_eq!(trimmed(b"\xff\xfe", Stop::Limit), b"\xff\xfe");
    }
}
