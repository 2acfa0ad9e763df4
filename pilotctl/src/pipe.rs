//! Owns the joining of a stream with stdin and stdout.

use pilot_node::{Client, Code, Failure, StreamReply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const BUFFER_LEN: usize = 256 * 1024;
/// Longest time until the daemon tells how a stream ended.
const END_TIMEOUT: Duration = Duration::from_secs(120);

/// Copies stdin to the stream and the stream to stdout until both are done; a stream that broke is a failure.
pub(crate) fn join(client: &mut Client, stream: StreamReply) -> Result<(), Failure> {
    let StreamReply { socket, data } = stream;
    let local = |e: io::Error| Failure::new(Code::Internal, e.to_string());
    let upstream = socket.try_clone().map_err(local)?;
    std::thread::spawn(move || {
        // The daemon reports a broken stream below; an error of stdin ends sending.
        let _ = copy(&mut io::stdin().lock(), &mut &upstream);
        finish_writing(&upstream);
    });
    let mut stdout = io::stdout().lock();
    let copied = copy(&mut &socket, &mut stdout).and_then(|()| stdout.flush());
    if let Err(e) = copied
        && e.kind() == io::ErrorKind::BrokenPipe
    {
        return Ok(()); // stdout is closed, so nothing more is shown
    }
    // The peer has ended its direction; the thread may still be sending, unless the stream broke.
    client.stream_end(data.stream, None)
}

/// Returns the bytes that stdin has already, at most `max`, without waiting.
pub(crate) fn waiting_input(max: usize) -> Result<Vec<u8>, Failure> {
    let local = |e: io::Error| Failure::new(Code::Internal, format!("stdin: {e}"));
    let mut first = vec![0; max];
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    let readable = polled.is_ok() && fds[0].revents().contains(PollFlags::IN);
    let len = if readable { stdin.lock().read(&mut first).map_err(local)? } else { 0 };
    first.truncate(len);
    Ok(first)
}

/// Reads a stream to its end; fails when it broke or has more than `max` bytes.
pub(crate) fn read_to_end(
    client: &mut Client,
    stream: &StreamReply,
    max: u64,
    timeout: Duration,
) -> Result<Vec<u8>, Failure> {
    let failure = |e: io::Error| match e.kind() {
        io::ErrorKind::WouldBlock => Failure::new(Code::Timeout, "no answer in time"),
        _ => Failure::new(Code::ConnectionReset, e.to_string()),
    };
    stream.socket.set_read_timeout(Some(timeout)).map_err(failure)?;
    let mut bytes = Vec::new();
    (&stream.socket).take(max + 1).read_to_end(&mut bytes).map_err(failure)?;
    if bytes.len() as u64 > max {
        return Err(
            Failure::new(Code::Full, format!("more than {max} bytes were sent")).hint("pilotctl listen has no limit")
        );
    }
    // The daemon tells how a stream ended once both directions have ended.
    finish_writing(&stream.socket);
    client.stream_end(stream.data.stream, Some(END_TIMEOUT))?;
    Ok(bytes)
}

pub(crate) fn finish_writing(socket: &UnixStream) {
    // The direction may have ended already.
    let _ = socket.shutdown(Shutdown::Write);
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                to.flush()?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
