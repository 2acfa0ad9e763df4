//! Owns the way in which a descriptor travels: beside the first bytes of its frame (SCM_RIGHTS).

use crate::platform::QUIET;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;

/// Writes what a socket has room for, with a descriptor.
pub(crate) fn send_with_fd(socket: impl AsFd, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, QUIET)?)
}
