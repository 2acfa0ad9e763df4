//! Owns the joining of a stream with stdin and stdout.

use pilot_node::{Client, Code, Failure, Finisher, StreamReply};
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
    let local = |e: io::Error| Failure::new(Code::Internal, e.to_string());
    let finisher = client.finisher(&stream).map_err(local)?;
    let StreamReply { socket, data } = stream;
    let upstream = socket.try_clone().map_err(local)?;
    std::thread::spawn(move || {
        // The daemon reports a broken stream below; an error of stdin ends sending without an orderly end.
        if copy(&mut io::stdin().lock(), &mut &upstream).is_ok() {
            finish_writing(&upstream, &finisher);
        } else {
            let _ = upstream.shutdown(Shutdown::Write);
        }
    });
    let mut stdout = io::stdout().lock();
    let copied = copy(&mut &socket, &mut stdout).and_then(|()| stdout.flush());
    match copied {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()), // stdout is closed, so nothing more is shown
        // The stream's own end is told below, with its reason.
        Err(e) if e.kind() != io::ErrorKind::ConnectionReset => {
            return Err(Failure::new(Code::Internal, format!("standard output: {e}")));
        }
        _ => {}
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

/// Reads a stream to its end, and ends its own direction; fails when it broke or has more than `max` bytes.
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
    if let Err(e) = (&stream.socket).take(max + 1).read_to_end(&mut bytes) {
        if e.kind() == io::ErrorKind::ConnectionReset {
            client.stream_end(stream.data.stream, Some(END_TIMEOUT))?; // the daemon knows the reason
        }
        return Err(failure(e));
    }
    if bytes.len() as u64 > max {
        return Err(
            Failure::new(Code::Full, format!("more than {max} bytes were sent")).hint("pilotctl listen has no limit")
        );
    }
    // The daemon tells how a stream ended once both directions have ended.
    end_writing(client, stream).map_err(failure)?;
    client.stream_end(stream.data.stream, Some(END_TIMEOUT))?;
    Ok(bytes)
}

/// Ends this side's direction in order.
pub(crate) fn end_writing(client: &mut Client, stream: &StreamReply) -> io::Result<()> {
    finish_writing(&stream.socket, &client.finisher(stream)?);
    Ok(())
}

/// Ends this side's direction in order, from another thread than the client's.
pub(crate) fn finish_writing(socket: &UnixStream, finisher: &Finisher) {
    // A daemon that has ended has ended the stream; the direction may have ended already.
    let _ = finisher.finish();
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
