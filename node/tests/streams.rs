//! Two nodes in one process, through the public API.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

#[test]
fn streams_behave_like_tcp_streams() {
    let lab = Lab::new("tcp");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    assert_eq!(b.listen(5000).err().map(|e| e.kind()), Some(ErrorKind::AddrInUse));
    assert_eq!(a.connect("node-b", 5001).err().map(|e| e.kind()), Some(ErrorKind::ConnectionRefused));
    assert_eq!(a.connect("no-node", 5000).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
    let mut ours = a.connect("node-b", 5000).unwrap();
    let mut theirs = listener.accept_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!((ours.peer_addr(), ours.local_addr()), (theirs.local_addr(), theirs.peer_addr()));

    let mut buffer = [0; 16];
    ours.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(ours.read(&mut buffer).err().map(|e| e.kind()), Some(ErrorKind::WouldBlock), "as TcpStream's time-out");
    ours.set_nonblocking(true).unwrap();
    assert_eq!(ours.read(&mut buffer).err().map(|e| e.kind()), Some(ErrorKind::WouldBlock));
    ours.set_nonblocking(false).unwrap();
    ours.set_read_timeout(None).unwrap();

    theirs.write_all(b"hello").unwrap();
    assert_eq!((ours.peek(&mut buffer).unwrap(), &buffer[..5]), (5, &b"hello"[..]));
    assert_eq!(ours.read(&mut buffer).unwrap(), 5);

    // Half-close: our end first, their answer after it.
    (&ours).write_all(b"question").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ours.write(b"more").err().map(|e| e.kind()), Some(ErrorKind::BrokenPipe));
    let mut question = String::new();
    theirs.read_to_string(&mut question).unwrap();
    theirs.write_all(b"answer").unwrap();
    drop(theirs);
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
}

#[test]
fn unaccepted_streams_end_with_their_listener() {
    let lab = Lab::new("unaccepted");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    let mut taken = a.connect_with("node-b", 5000, b"!").unwrap();
    let mut accepted = listener.accept_timeout(Duration::from_secs(5)).unwrap();
    let left: Vec<_> = (0..3).map(|_| a.connect("node-b", 5000).unwrap()).collect();
    drop(listener);
    for mut stream in left {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(stream.read(&mut [0]).err().map(|e| e.kind()), Some(ErrorKind::ConnectionReset));
    }
    accepted.write_all(b"?").unwrap();
    let mut one = [0];
    taken.read_exact(&mut one).unwrap();
    accepted.read_exact(&mut one).unwrap();
    assert_eq!(one, *b"!", "an accepted stream goes on");
    assert_eq!(a.connect("node-b", 5000).err().map(|e| e.kind()), Some(ErrorKind::ConnectionRefused));
}

#[test]
fn streams_above_the_backlog_wait_until_threads_accept() {
    const MORE: usize = 76;
    let lab = Lab::new("backlog");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    let (count, standing) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..1024 + MORE as u16 {
                let stream = a.connect_with("node-b", 5000, &number.to_be_bytes()).unwrap();
                count.send(stream).unwrap();
            }
        });
        let mut asking: Vec<_> = standing.iter().take(1024).collect();
        assert!(standing.recv_timeout(Duration::from_millis(300)).is_err(), "one more is not answered");
        for number in 0..1024 + MORE as u16 {
            let mut stream = listener.accept_timeout(Duration::from_secs(20)).unwrap();
            let mut first = [0; 2];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(u16::from_be_bytes(first), number, "none is lost, and they come in turn");
        }
        asking.extend(standing.iter().take(MORE));
        for mut stream in asking {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "none is reset");
        }
    });
}

#[test]
fn early_data_is_read_first() {
    const LENGTHS: [usize; 5] = [0, 1, 1024, 1025, 300_000];
    let lab = Lab::new("early");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    assert_eq!(
        a.connect_with("node-b", 5001, b"never read").err().map(|e| e.kind()),
        Some(ErrorKind::ConnectionRefused)
    );
    let serving = std::thread::spawn(move || {
        for stream in listener.incoming().flatten().take(LENGTHS.len()) {
            let (mut reader, mut writer) = (stream.clone(), stream);
            std::io::copy(&mut reader, &mut writer).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        }
    });
    for len in LENGTHS {
        let first: Vec<u8> = (0..len).map(|i: usize| (i % 251) as u8).collect();
        let mut stream = a.connect_with("node-b", 5000, &first).unwrap();
        stream.write_all(b"and this").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert!(back.strip_suffix(b"and this") == Some(&first[..]), "{len}");
    }
    serving.join().unwrap();
}

#[test]
fn a_reader_that_stops_blocks_its_writer_and_no_other_stream() {
    let lab = Lab::new("slow");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    let mut stopped = a.connect("node-b", 5000).unwrap();
    let unread = listener.accept().unwrap();
    stopped.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = [7; 65536];
    let mut written = 0;
    let error = loop {
        match stopped.write(&chunk) {
            Ok(n) => written += n,
            Err(e) => break e,
        }
        assert!(written < 8 << 20, "every byte is taken although none is read");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let mut other = a.connect("node-b", 5000).unwrap();
    let mut served = listener.accept().unwrap();
    let echo = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        served.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    other.write_all(&vec![1; 4 << 20]).unwrap();
    drop(other); // written bytes are still delivered
    assert_eq!(echo.join().unwrap(), 4 << 20);
    drop(unread);
}

#[test]
fn a_node_that_ends_tells_its_peers_and_its_own_streams() {
    let mut lab = Lab::new("end");
    let listener = lab.nodes().1.listen(5000).unwrap();
    let mut ours = lab.nodes().0.connect("node-b", 5000).unwrap();
    let theirs = listener.accept().unwrap();
    drop(listener);
    let waiting = std::thread::spawn(move || ours.read(&mut [0; 1]));
    lab.b.take().unwrap().stopper()();
    let error = waiting.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "never a clean end");
    assert_eq!((&theirs).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::NotConnected);
}

/// Threads that ask and answer run the loop in turns; no thread may be forgotten while they do, nor when they stop.
#[test]
fn many_threads_that_ask_and_answer_are_all_served() {
    const THREADS: usize = 6;
    let lab = Lab::new("handover");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    let serving = std::thread::spawn(move || {
        let threads: Vec<_> = (0..=THREADS)
            .map(|_| {
                let mut stream = listener.accept().unwrap();
                std::thread::spawn(move || {
                    let mut ball = [0; 64];
                    while stream.read_exact(&mut ball).is_ok() {
                        stream.write_all(&ball).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    // One thread waits all the time, for bytes that come only at the end.
    let patient = a.connect("node-b", 5000).unwrap();
    let waiter = std::thread::spawn({
        let mut patient = patient.clone();
        move || patient.read_exact(&mut [0; 64]).map(|()| Instant::now())
    });
    let begin = Instant::now();
    let askers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let mut stream = a.connect("node-b", 5000).unwrap();
            std::thread::spawn(move || {
                for i in 0..300usize {
                    let mut ball = [i as u8; 64];
                    stream.write_all(&ball).unwrap();
                    stream.read_exact(&mut ball).unwrap();
                    assert_eq!(ball, [i as u8; 64]);
                    if i % 50 == thread {
                        std::thread::sleep(Duration::from_millis(3)); // longer than a guest waits for this thread
                    }
                }
            })
        })
        .collect();
    askers.into_iter().for_each(|asker| asker.join().unwrap());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let asked = Instant::now();
    (&patient).write_all(&[9; 64]).unwrap();
    let answered = waiter.join().unwrap().unwrap();
    assert!(answered.duration_since(asked) < Duration::from_millis(200));
    drop(patient);
    serving.join().unwrap();
}

#[test]
fn two_readers_of_one_stream_get_every_byte_once_and_no_early_end() {
    const TOTAL: usize = 4 << 20;
    let lab = Lab::new("readers");
    let (a, b) = lab.nodes();
    let listener = b.listen(5000).unwrap();
    let mut ours = a.connect("node-b", 5000).unwrap();
    let theirs = listener.accept().unwrap();
    let readers = [777, 70_000].map(|len| {
        let mut stream = theirs.clone();
        std::thread::spawn(move || {
            let (mut sum, mut bytes, mut buffer) = (0u64, 0, vec![0; len]);
            loop {
                let n = stream.read(&mut buffer).unwrap();
                if n == 0 {
                    return (bytes, sum);
                }
                bytes += n;
                sum += buffer[..n].iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
        })
    });
    let data: Vec<u8> = (0..TOTAL).map(|i| (i % 251) as u8).collect();
    ours.write_all(&data).unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let got = readers.map(|reader| reader.join().unwrap());
    assert_eq!(got[0].0 + got[1].0, TOTAL);
    assert_eq!(got[0].1 + got[1].1, data.iter().map(|byte| u64::from(*byte)).sum::<u64>());
}
