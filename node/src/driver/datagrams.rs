//! Owns the datagram ports of clients: each is one end of a SOCK_SEQPACKET pair, whose other end a client has.
//!
//! A packet on the pair is `address 6 bytes | port u16 (big-endian) | payload`: on the way to the client the sender's, on the
//! way from it the recipient's. What a client does not read is dropped, as a full socket does, and counted (`info`).

use super::Driver;
use crate::failure::{Code, Failure};
use crate::ipc::server::ClientId;
use crate::resolve;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use pilot_core::Addr;
use pilot_stack::CommandError;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use serde_json::json;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// Datagram ports that may be open at once.
const DATAGRAM_PORTS_MAX: usize = 256;
/// Ports that are given when the client does not care (RFC 6335: dynamic).
const FIRST_DYNAMIC_PORT: u16 = 49_152;
/// Datagrams taken from one port in a row.
const PER_LOOK: usize = 64;
/// Head of a packet on the pair. Unit: bytes.
const HEAD_LEN: usize = 8;

/// A port's end on our side.
pub(crate) struct DatagramPort {
    fd: OwnedFd,
    token: Token,
}

impl Driver {
    /// Opens a port and hands the other end out.
    pub(super) fn open_datagrams(&mut self, client: ClientId, request: u32, port: u16) -> Result<(), Failure> {
        if self.datagrams.len() >= DATAGRAM_PORTS_MAX {
            return Err(Failure::new(Code::Full, "too many datagram ports are open"));
        }
        let port = match port {
            0 => (FIRST_DYNAMIC_PORT..=u16::MAX).find(|p| !self.datagrams.contains_key(p)),
            port => Some(port).filter(|p| !self.datagrams.contains_key(p)),
        };
        let port = port.ok_or_else(|| Failure::new(Code::Conflict, "the port is bound for datagrams already"))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (ours, theirs) = pair.map_err(|_| Failure::new(Code::Full, "no file descriptors are left"))?;
        let token = self.new_token();
        self.registry()
            .register(&mut SourceFd(&ours.as_raw_fd()), token, Interest::READABLE)
            .map_err(|e| Failure::new(Code::Full, e.to_string()))?;
        let _ = self.stack.bind(port); // the node may take every port already
        self.datagram_tokens.insert(token, port);
        self.datagrams.insert(port, DatagramPort { fd: ours, token });
        self.reply_with_fd(client, request, json!({"port": port}), theirs);
        Ok(())
    }

    /// A datagram for a client's port.
    pub(super) fn deliver_datagram(&mut self, from: Addr, source_port: u16, port: u16, payload: &[u8]) {
        let Some(open) = self.datagrams.get(&port) else { return };
        let mut packet = Vec::with_capacity(HEAD_LEN + payload.len());
        packet.extend_from_slice(&from.to_bytes());
        packet.extend_from_slice(&source_port.to_be_bytes());
        packet.extend_from_slice(payload);
        match send(&open.fd, &packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => {}
            Err(Errno::AGAIN) => self.datagrams_dropped += 1,
            Err(_) => self.close_datagrams(port),
        }
    }

    /// Sends what the client has put into its end.
    fn serve_datagrams(&mut self, port: u16) {
        let mut packet = [0; 64 * 1024];
        for _ in 0..PER_LOOK {
            let Some(open) = self.datagrams.get(&port) else { return };
            match recv(&open.fd, &mut packet[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return self.close_datagrams(port),
                Ok((_, n)) => {
                    let Some((head, payload)) = packet[..n].split_first_chunk::<HEAD_LEN>() else { continue };
                    let [a, b, c, d, e, f, high, low] = *head;
                    let (to, to_port) = (Addr::from_bytes([a, b, c, d, e, f]), u16::from_be_bytes([high, low]));
                    // A datagram may be lost; the client that wants to know why asks for it by operation.
                    let _ = self.send_one(&to.to_string(), (port, to_port), payload);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
        self.datagrams_left.insert(port);
    }

    /// Goes on with ports that had more than one look takes.
    pub(super) fn serve_left_datagrams(&mut self) {
        for port in std::mem::take(&mut self.datagrams_left) {
            self.serve_datagrams(port);
        }
    }

    fn close_datagrams(&mut self, port: u16) {
        let Some(open) = self.datagrams.remove(&port) else { return };
        // It is closed right after; a failure here leaves nothing behind.
        let _ = self.registry().deregister(&mut SourceFd(&open.fd.as_raw_fd()));
        self.datagram_tokens.remove(&open.token);
        self.stack.unbind(port);
    }

    /// Sends a datagram to whoever `node` means.
    pub(crate) fn send_one(&mut self, node: &str, ports: (u16, u16), payload: &[u8]) -> Result<(), Failure> {
        let key = resolve::pinned(self.stack.endpoint().trust(), node).map(|p| p.identity);
        let key = key.map_err(|f| match f.code {
            Code::NotFound => Failure::new(Code::TrustRequired, f.message).hint(format!("pilotctl handshake {node}")),
            _ => f,
        })?;
        let peer = self.stack.endpoint().peer_by_identity(&key);
        let sent = peer.ok_or(CommandError::UnknownPeer).and_then(|p| self.stack.send_datagram(p, ports, payload));
        sent.map_err(|e| match e {
            CommandError::TooLong => {
                Failure::new(Code::InvalidArgument, format!("{} bytes do not fit into one datagram", payload.len()))
                    .hint("a stream has no such limit: pilotctl connect")
            }
            _ => Failure::new(Code::Unreachable, format!("{node} cannot be reached now")),
        })
    }
}
