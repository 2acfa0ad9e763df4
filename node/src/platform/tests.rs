//! One contract, checked on both implementations.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::{Edges, peer_is_ours};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// True when a descriptor is readable within `limit`.
fn readable(fd: impl AsFd, limit: Duration) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let limit = Timespec::try_from(limit).unwrap();
    poll(&mut fds, Some(&limit)).unwrap() == 1 && fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP)
}

macro_rules! contract {
    ($implementation:ident) => {
        mod $implementation {
            use super::readable;
            use crate::platform::$implementation::{
                AddressWatch, PacketSocket, Signal, StepWatch, StreamSocket, recv_packet, recv_with_fds, send_now,
                send_packet, socket_pair_stream, udp_socket_of_both, udp_socket_shared,
            };
            use rustix::fs::{OFlags, fcntl_getfl};
            use rustix::io::{Errno, FdFlags, fcntl_getfd, ioctl_fionbio};
            use std::collections::VecDeque;
            use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
            use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
            use std::os::unix::net::UnixStream;
            use std::time::Duration;

            const SOON: Duration = Duration::from_secs(10);

            fn is_private(fd: impl AsFd) -> bool {
                fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)
            }

            fn does_not_wait(fd: impl AsFd) -> bool {
                fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
            }

            /// A pair with a waiting end for the client, as clients get it.
            fn packet_pair() -> (PacketSocket, OwnedFd) {
                let (ours, theirs) = PacketSocket::pair().unwrap();
                ioctl_fionbio(&theirs, false).unwrap();
                (ours, theirs)
            }

            #[test]
            fn stream_pairs_do_not_wait_and_are_not_inherited() {
                let (a, b) = socket_pair_stream().unwrap();
                assert!(is_private(&a) && is_private(&b) && does_not_wait(&a) && does_not_wait(&b));
                assert_eq!(send_now(&a, b"hello"), Ok(5));
                let mut buffer = [0; 9];
                assert_eq!(UnixStream::from(b).read(&mut buffer).unwrap(), 5);
                assert_eq!(send_now(&a, b"hello"), Err(Errno::PIPE), "and no signal ended this test");
            }

            #[test]
            fn a_socket_of_both_families_does_not_wait_and_is_not_inherited() {
                let Ok(socket) = udp_socket_of_both(0) else { return }; // a machine without IPv6
                assert!(is_private(&socket) && does_not_wait(&socket));
                assert_eq!(rustix::net::sockopt::ipv6_v6only(&socket), Ok(false));
            }

            #[test]
            fn a_shared_port_is_heard_by_several_programs() {
                let first = std::net::UdpSocket::from(udp_socket_shared(([127, 0, 0, 1], 0).into()).unwrap());
                assert!(is_private(&first) && does_not_wait(&first));
                assert!(udp_socket_shared(first.local_addr().unwrap()).is_ok());
            }

            #[test]
            fn a_stream_pair_carries_all_bytes_and_both_ends() {
                let (mut ours, theirs) = StreamSocket::pair().unwrap();
                let (theirs, mut room) = (UnixStream::from(theirs), [0; 4]);
                assert!(is_private(&ours) && does_not_wait(&ours));
                let read = |ours: &mut StreamSocket, room: &mut [u8]| ours.recv(room, true);
                assert_eq!(read(&mut ours, &mut room), Err(Errno::AGAIN));
                (&theirs).write_all(b"0123456").unwrap();
                assert_eq!((read(&mut ours, &mut room), &room), (Ok(4), b"0123"));
                assert_eq!((read(&mut ours, &mut room), &room[..3]), (Ok(3), &b"456"[..]));
                assert_eq!(read(&mut ours, &mut room), Err(Errno::AGAIN));
                for byte in 0..100 {
                    (&theirs).write_all(&[byte]).unwrap();
                    assert_eq!((read(&mut ours, &mut room[..1]), room[0]), (Ok(1), byte));
                }
                (&theirs).write_all(b"last").unwrap();
                theirs.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!((read(&mut ours, &mut room), &room), (Ok(4), b"last"));
                assert_eq!(read(&mut ours, &mut room), Ok(0));
                assert_eq!(send_now(&ours, b"answer"), Ok(6), "half closed");
                assert!(!ours.takes_reset());
                ours.end();
                drop(ours);
                let mut answer = String::new();
                (&theirs).read_to_string(&mut answer).unwrap();
                assert_eq!(answer, "answer");
            }

            #[test]
            fn a_signal_is_readable_from_its_notice_until_it_is_taken() {
                let signal = Signal::new().unwrap();
                assert!(is_private(&signal) && !readable(&signal, Duration::ZERO));
                signal.drain();
                for _ in 0..3 {
                    signal.notify();
                }
                assert!(readable(&signal, Duration::ZERO));
                signal.drain();
                assert!(!readable(&signal, Duration::ZERO));
                std::thread::scope(|scope| {
                    scope.spawn(|| signal.notify());
                    assert!(readable(&signal, SOON));
                });
            }

            #[test]
            fn a_signal_that_is_never_taken_does_not_block_its_threads() {
                let signal = Signal::new().unwrap();
                for _ in 0..100_000 {
                    signal.notify();
                }
                assert!(readable(&signal, Duration::ZERO));
                signal.drain();
                assert!(!readable(&signal, Duration::ZERO));
            }

            #[test]
            fn packets_keep_their_boundaries_in_both_directions() {
                let (mut ours, theirs) = packet_pair();
                assert!(is_private(&theirs) && is_private(&ours) && PacketSocket::INTEREST.is_readable());
                for packet in [&b"one"[..], b"three", &[7; 60_000]] {
                    ours.send(packet).unwrap();
                }
                let (mut head, mut rest) = ([0; 2], vec![0; 70_000]);
                for expected in [&b"one"[..], b"three", &[7; 60_000]] {
                    let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut rest)];
                    assert_eq!(recv_packet(&theirs, &mut parts), Ok(expected.len()));
                    assert_eq!((&head[..], &rest[..expected.len() - 2]), expected.split_at(2));
                }
                send_packet(&theirs, &[IoSlice::new(b"fo"), IoSlice::new(b"ur")]).unwrap();
                send_packet(&theirs, &[IoSlice::new(b"five")]).unwrap();
                for expected in [b"four", b"five"] {
                    assert_eq!(ours.recv(&mut rest), Ok(4));
                    assert_eq!(&rest[..4], expected);
                }
                assert_eq!(ours.recv(&mut rest), Err(Errno::AGAIN));
            }

            #[test]
            fn a_packet_longer_than_the_buffer_is_cut_and_the_next_one_is_whole() {
                let (mut ours, theirs) = packet_pair();
                for packet in [&b"too long"[..], b"fits"] {
                    ours.send(packet).unwrap();
                    send_packet(&theirs, &[IoSlice::new(packet)]).unwrap();
                }
                let mut buffer = [0; 4];
                for expected in [b"too ", b"fits"] {
                    assert_eq!(recv_packet(&theirs, &mut [IoSliceMut::new(&mut buffer)]), Ok(4));
                    assert_eq!(&buffer, expected);
                    buffer.fill(0);
                    assert_eq!(ours.recv(&mut buffer), Ok(4));
                    assert_eq!(&buffer, expected);
                }
            }

            #[test]
            fn a_full_pair_takes_no_packet_and_goes_on_where_it_was() {
                let (mut ours, theirs) = packet_pair();
                let packet = |number: u32| [&number.to_be_bytes()[..], &[number as u8; 5000]].concat();
                let mut sent = 0;
                while ours.send(&packet(sent)).is_ok() {
                    sent += 1;
                }
                assert!(sent > 1 && ours.send(&packet(sent)) == Err(Errno::AGAIN));
                let mut buffer = vec![0; 9000];
                let receive = |buffer: &mut [u8]| recv_packet(&theirs, &mut [IoSliceMut::new(buffer)]);
                for number in 0..sent {
                    assert_eq!(receive(&mut buffer), Ok(5004));
                    assert_eq!(buffer[..5004], packet(number));
                    // The loop reads when the socket has room again; a rest of a packet leaves then.
                    assert_eq!(ours.recv(&mut [0; 9]), Err(Errno::AGAIN));
                }
                ours.send(b"and on").unwrap();
                assert_eq!(receive(&mut buffer), Ok(6));
            }

            #[test]
            fn packets_of_many_threads_are_not_mixed() {
                let (mut ours, theirs) = packet_pair();
                std::thread::scope(|scope| {
                    for thread in 0..4_u8 {
                        let theirs = &theirs;
                        scope.spawn(move || {
                            for n in 0..200_usize {
                                let bytes = vec![thread; 1 + n * 37 % 3000];
                                send_packet(theirs, &[IoSlice::new(&bytes)]).unwrap();
                            }
                        });
                    }
                    let (mut received, mut buffer) = (0, vec![0; 4000]);
                    while received < 800 {
                        match ours.recv(&mut buffer) {
                            Ok(n) => {
                                assert!(n > 0 && buffer[..n].iter().all(|b| *b == buffer[0]));
                                received += 1;
                            }
                            Err(e) => {
                                assert_eq!(e, Errno::AGAIN);
                                assert!(readable(&ours, SOON));
                            }
                        }
                    }
                });
            }

            #[test]
            fn either_end_sees_that_the_other_is_closed() {
                let (mut ours, theirs) = packet_pair();
                send_packet(&theirs, &[IoSlice::new(b"last")]).unwrap();
                drop(theirs);
                let mut buffer = [0; 9];
                assert!(readable(&ours, SOON));
                assert_eq!((ours.recv(&mut buffer), ours.recv(&mut buffer)), (Ok(4), Ok(0)));
                assert!(matches!(ours.send(b"late"), Err(Errno::PIPE | Errno::CONNRESET)));

                let (ours, theirs) = packet_pair();
                std::thread::scope(|scope| {
                    let waiting = scope.spawn(|| recv_packet(&theirs, &mut [IoSliceMut::new(&mut [0; 9])]));
                    drop(ours);
                    assert_eq!(waiting.join().unwrap(), Ok(0));
                });
                assert!(readable(&theirs, SOON));
                assert!(matches!(send_packet(&theirs, &[IoSlice::new(b"late")]), Err(Errno::PIPE | Errno::CONNRESET)));
            }

            #[test]
            fn a_client_that_must_not_wait_is_told_so() {
                let (mut ours, theirs) = PacketSocket::pair().unwrap();
                let mut buffer = [0; 9];
                assert_eq!(recv_packet(&theirs, &mut [IoSliceMut::new(&mut buffer)]), Err(Errno::AGAIN));
                ours.send(b"now").unwrap();
                assert_eq!(recv_packet(&theirs, &mut [IoSliceMut::new(&mut buffer)]), Ok(3));
                assert!(send_packet(&theirs, &[IoSlice::new(&vec![0; 4 << 20])]) == Err(Errno::MSGSIZE));
            }

            #[test]
            fn a_descriptor_that_came_along_is_not_inherited() {
                let (a, b) = UnixStream::pair().unwrap();
                let (mut fds, mut buffer) = (VecDeque::new(), [0; 9]);
                assert_eq!(recv_with_fds(&b, &mut buffer, &mut fds), Err(Errno::AGAIN));
                let (passed, mut other) = UnixStream::pair().unwrap();
                crate::platform::tests::pass(&a, b"here", &passed);
                assert_eq!(recv_with_fds(&b, &mut buffer, &mut fds), Ok(4));
                let fd = fds.pop_front().unwrap();
                assert!(fds.is_empty() && is_private(&fd) && fd.as_raw_fd() != passed.as_raw_fd());
                UnixStream::from(fd).write_all(b"x").unwrap();
                other.read_exact(&mut buffer[..1]).unwrap();
                drop(a);
                assert_eq!(recv_with_fds(&b, &mut buffer, &mut fds), Ok(0));
            }

            #[test]
            fn addresses_are_told_or_looked_at() {
                let watch = AddressWatch::open().unwrap();
                assert!(watch.descriptor().is_some() != watch.look_every().is_some());
                // News that was under way when the watch was opened.
                watch.drain();
                assert!(!watch.drain(), "nothing is told when nothing happens");
            }

            #[test]
            fn steps_of_the_clock_are_told_or_looked_for() {
                let watch = StepWatch::open().unwrap();
                assert!(watch.descriptor().is_some() != StepWatch::look_every().is_some());
                // With no step, draining does not wait.
                watch.drain();
                assert!(watch.descriptor().is_none_or(|fd| !readable(fd, Duration::ZERO)));
            }
        }
    };
}

contract!(linux);
contract!(portable);

/// Sends bytes with a descriptor.
fn pass(to: &UnixStream, bytes: &[u8], fd: &UnixStream) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(to, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty()).unwrap();
}

#[test]
fn this_process_is_ours() {
    let (a, _b) = UnixStream::pair().unwrap();
    assert!(peer_is_ours(&a));
}

/// True when a descriptor known by its number is readable within `limit`.
fn readable_by_number(fd: RawFd, limit: Duration) -> bool {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1));
    poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE).unwrap();
    poll.poll(&mut events, Some(limit)).unwrap();
    !events.is_empty()
}

#[test]
fn edges_are_readable_after_changes_only() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let edges = Edges::new(&b).unwrap();
    let watched = |limit| readable_by_number(edges.as_raw_fd(), limit);
    assert!(watched(Duration::ZERO), "the socket has room");
    edges.clear().unwrap();
    assert!(!watched(Duration::ZERO));
    a.write_all(b"x").unwrap();
    assert!(watched(Duration::from_secs(10)));
    edges.clear().unwrap();
    assert!(!watched(Duration::ZERO), "nothing changed since");
}

#[test]
fn a_stream_pair_tells_resets_from_ends_both_ways() {
    use super::linux::{StreamSocket, send_now};
    use rustix::io::Errno;
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    let pair = || {
        let (ours, theirs) = StreamSocket::pair().unwrap();
        (ours, UnixStream::from(theirs))
    };
    // The client closes its end and leaves bytes unread; what it wrote before is still read.
    let (mut ours, mut theirs) = pair();
    let mut room = [0; 9];
    theirs.write_all(b"before").unwrap();
    send_now(&ours, b"unread").unwrap();
    drop(theirs);
    assert_eq!(ours.recv(&mut room, true), Ok(6));
    assert_eq!(ours.recv(&mut room, true), Err(Errno::CONNRESET));

    // This end is closed without an end: the client reads what arrived before, then the error; writing fails.
    let (mut ours, mut theirs) = pair();
    theirs.write_all(b"taken").unwrap();
    assert_eq!(ours.recv(&mut room, false), Ok(5));
    send_now(&ours, b"before").unwrap();
    drop(ours);
    assert_eq!(theirs.write(b"x").map_err(|e| e.kind()), Err(ErrorKind::BrokenPipe));
    assert_eq!(theirs.read(&mut room).unwrap(), 6);
    assert_eq!(theirs.read(&mut room).map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
    assert_eq!(theirs.read(&mut room).unwrap(), 0, "the error is told once, as of TCP");
}
