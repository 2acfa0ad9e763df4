//! How streams end between two nodes of one process: in order, or with an error at both ends.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::{Code, Node, Stream};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const TEXT: &[u8] = b"a few bytes";

/// A stream from the first node to the second, with time limits.
fn pair(lab: &Lab, port: u16) -> (Stream, Stream) {
    let (a, b) = lab.nodes();
    let listener = b.listen(port).unwrap();
    let ours = a.connect("node-b", port).unwrap();
    let theirs = listener.accept_timeout(SOON).unwrap();
    for stream in [&ours, &theirs] {
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
    }
    (ours, theirs)
}

/// Waits until writing fails; gives the kind of the failure.
fn write_until_failure(mut stream: &Stream) -> ErrorKind {
    let end = Instant::now() + SOON;
    loop {
        if let Err(e) = stream.write(TEXT) {
            return e.kind();
        }
        assert!(Instant::now() < end, "the writer is never told");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_abort_is_an_error_for_every_reader_and_writer() {
    let lab = Lab::new("abort");
    let (mut ours, mut theirs) = pair(&lab, 5000);
    let clone = ours.clone();
    ours.abort();
    for stream in [&mut ours, &mut theirs] {
        assert_eq!(stream.read(&mut [0]).map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
        assert_eq!(write_until_failure(stream), ErrorKind::ConnectionReset);
    }
    assert_eq!((&clone).write(TEXT).map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset), "clones share the stream");
    drop((ours, clone, theirs));
    let (a, b) = lab.nodes();
    // The loop of each node hears of its program's last handle by itself.
    let (begin, total) = (Instant::now(), |node: &Node| node.connections().unwrap().total);
    while (total(a), total(b)) != (0, 0) {
        assert!(begin.elapsed() < SOON, "{:?}", (total(a), total(b)));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn dropping_with_unread_bytes_delivers_what_was_written_and_resets() {
    let lab = Lab::new("unread");
    let (mut ours, mut theirs) = pair(&lab, 5000);
    ours.write_all(TEXT).unwrap();
    assert_eq!(theirs.peek(&mut [0; 9]).unwrap(), 9);
    theirs.write_all(b"refused: too long").unwrap();
    drop(theirs);
    let mut got = Vec::new();
    assert_eq!(ours.read_to_end(&mut got).map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
    assert_eq!(got, b"refused: too long");
    assert_eq!(write_until_failure(&ours), ErrorKind::ConnectionReset);
}

#[test]
fn closing_one_clone_is_the_end_for_all() {
    let lab = Lab::new("close");
    for has_unread in [false, true] {
        let (mut ours, mut theirs) = pair(&lab, 5000);
        let mut clone = theirs.clone();
        if has_unread {
            ours.write_all(TEXT).unwrap();
            assert!(theirs.peek(&mut [0; 9]).unwrap() > 0);
        }
        theirs.write_all(b"answer").unwrap();
        clone.close();
        assert_eq!(theirs.read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(clone.write(TEXT).map_err(|e| e.kind()), Err(ErrorKind::BrokenPipe));
        let mut got = Vec::new();
        let read = ours.read_to_end(&mut got).map_err(|e| e.kind());
        assert_eq!(read, if has_unread { Err(ErrorKind::ConnectionReset) } else { Ok(6) });
        assert_eq!(got, b"answer");
    }
}

#[test]
fn bytes_for_a_stream_that_reads_no_more_reset_it_when_both_directions_were_ended() {
    let lab = Lab::new("both");
    let (mut ours, mut theirs) = pair(&lab, 5000);
    // The end of reading alone drops bytes, as for a TCP socket, and the other direction goes on.
    theirs.shutdown(Shutdown::Read).unwrap();
    ours.write_all(&vec![7; 3 << 20]).unwrap();
    theirs.write_all(TEXT).unwrap();
    let mut got = [0; 11];
    ours.read_exact(&mut got).unwrap();
    assert_eq!(got, TEXT);
    theirs.shutdown(Shutdown::Both).unwrap();
    assert_eq!(write_until_failure(&ours), ErrorKind::ConnectionReset);
}

#[test]
fn a_thread_that_panics_resets_its_stream_and_one_that_is_done_ends_it() {
    let lab = Lab::new("panic");
    for panics in [true, false] {
        let (ours, mut theirs) = pair(&lab, 5000);
        let thread = std::thread::spawn(move || {
            (&ours).write_all(TEXT).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert!(!panics, "on purpose");
            drop(ours);
        });
        assert_eq!(thread.join().is_err(), panics);
        let mut got = Vec::new();
        let read = theirs.read_to_end(&mut got).map_err(|e| e.kind());
        assert_eq!(read, if panics { Err(ErrorKind::ConnectionReset) } else { Ok(TEXT.len()) });
    }
}

#[test]
fn the_end_of_a_reset_stream_tells_how_many_bytes_were_acknowledged() {
    let lab = Lab::new("acknowledged");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    let mut client = a.client().unwrap();
    let stream = client.open_with("node-b", 5000, b"early ", Some(SOON)).unwrap();
    let mut theirs = listener.accept_timeout(SOON).unwrap();
    (&stream.socket).write_all(TEXT).unwrap();
    theirs.read_exact(&mut [0; 16]).unwrap();
    drop(theirs); // one byte is unread
    let failure = client.stream_end(stream.data.stream, Some(SOON)).unwrap_err();
    assert_eq!((failure.code, failure.acknowledged), (Code::ConnectionReset, Some(17)));
    // A descriptor of which only the writing is in use learns it too.
    assert_eq!((&stream.socket).write(TEXT).map_err(|e| e.kind()), Err(ErrorKind::BrokenPipe));
}

#[test]
fn a_service_that_refuses_resets_and_stores_nothing() {
    let lab = Lab::new("refuses");
    let (a, b) = lab.nodes();
    let mut stream = a.connect("node-b", 1000).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let written = stream.write_all(&vec![b'x'; (16 << 20) + 1]).and_then(|()| stream.shutdown(Shutdown::Write));
    let read = stream.read_to_end(&mut Vec::new());
    let end = written.and(read.map(drop)).map_err(|e| e.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    // Half a text, and then a reset.
    let mut stream = a.connect("node-b", 1000).unwrap();
    stream.write_all(b"{\"action\": \"dele").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stream.abort();
    let end = Instant::now() + SOON;
    while b.connections().unwrap().total > 0 {
        assert!(Instant::now() < end);
    }
    assert_eq!(b.messages().inbox(9).unwrap().total, 0);
}
