//! Owns a listener on this machine: its address as people write it, and the socket at which programs connect.

use crate::failure::{Code, Failure};
use crate::platform::{is_listening, peer_is_ours};
use mio::net::{TcpListener, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;

/// The word for a listening socket that a client hands over with its request.
const HANDED: &str = "fd";

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A socket that the client has handed over, bound to this address, perhaps of another network.
    Given(SocketAddr),
}

impl Listen {
    /// Reads what a client asks for: an address, or `fd` for the listening socket beside its request.
    ///
    /// # Errors
    /// As [`Listen::parse`]; `InvalidArgument` for a socket that is missing, superfluous, or no TCP listener, and when what
    /// is set up would outlive the client (`is_kept`).
    pub(super) fn asked(text: &str, fd: Option<&OwnedFd>, is_kept: bool) -> Result<Self, Failure> {
        let invalid = |why: &str| Err(Failure::new(Code::InvalidArgument, why));
        match (text, fd) {
            (HANDED, None) => invalid("no socket came with the request"),
            (HANDED, Some(_)) if is_kept => invalid("a socket that is handed over is for something temporary"),
            (HANDED, Some(fd)) => {
                // A socket of another family has no such address.
                let addr = rustix::net::getsockname(fd).ok().and_then(|addr| SocketAddr::try_from(addr).ok());
                match addr.filter(|_| is_listening(fd)) {
                    Some(addr) => Ok(Self::Given(addr)),
                    None => invalid("what came with the request is no TCP socket that listens"),
                }
            }
            (_, Some(_)) => invalid("a socket came with a request that listens elsewhere"),
            (text, None) => Self::parse(text),
        }
    }

    /// Reads `[HOST:]PORT` or `unix:PATH`. Without a host, the listener is on the loopback address of IPv4.
    ///
    /// # Errors
    /// `InvalidArgument`, also for a host that is no address of a machine, and for a path that does not begin with `/`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::new(Code::InvalidArgument, why).hint("[HOST:]PORT or unix:/PATH");
        if let Some(path) = text.strip_prefix("unix:") {
            return match PathBuf::from(path) {
                path if path.is_absolute() => Ok(Self::Unix(path)),
                _ => Err(invalid(format!("{path:?} is not the whole path of a socket"))),
            };
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
        let port = port.parse::<u16>().map_err(|_| invalid(format!("{port:?} is no port")))?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let ip = match (bare, host) {
            (Some(v6), _) => v6.parse().ok().map(IpAddr::V6),
            (None, "localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            (None, v4) => v4.parse().ok().map(IpAddr::V4),
        };
        let ip = ip.ok_or_else(|| invalid(format!("{host:?} is no address of this machine")))?;
        Ok(Self::Tcp(SocketAddr::new(ip, port)))
    }

    /// A text for the owner when other machines may reach the listener.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Tcp(addr) | Self::Given(addr) if !addr.ip().is_loopback() => {
                Some(format!("other machines that reach {addr} are let through with this node's rights"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Given(addr) => write!(f, "{HANDED}:{addr}"),
        }
    }
}

/// The socket of a listener that is bound.
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// The outcome of [`Door::accept`].
pub(super) enum Came {
    /// A program has connected.
    Socket(OwnedFd),
    /// No program waits.
    Nothing,
    /// The system has no descriptor for the program that waits.
    NoDescriptors,
}

/// A listener, closed when it is dropped.
pub(super) struct Door {
    /// The address that is bound: with a port where the owner gave 0.
    pub(super) listen: Listen,
    socket: Socket,
}

impl Door {
    /// Binds the address. A socket file that no program serves is replaced; the new one has mode 0600.
    ///
    /// # Errors
    /// `Conflict` when another program has the address, or the path is no socket; `InvalidArgument` with the system's text
    /// otherwise.
    pub(super) fn open(listen: &Listen, registry: &Registry, token: Token) -> Result<Self, Failure> {
        let failed = |e: io::Error| {
            let code = if e.kind() == io::ErrorKind::AddrInUse { Code::Conflict } else { Code::InvalidArgument };
            Failure::new(code, format!("cannot listen on {listen}: {e}"))
        };
        let door = match listen {
            Listen::Tcp(addr) => {
                let mut socket = TcpListener::bind(*addr).map_err(failed)?;
                registry.register(&mut socket, token, Interest::READABLE).map_err(failed)?;
                Self { listen: Listen::Tcp(socket.local_addr().unwrap_or(*addr)), socket: Socket::Tcp(socket) }
            }
            Listen::Unix(path) => {
                remove_dead(path).map_err(failed)?;
                let mut socket = UnixListener::bind(path).map_err(failed)?;
                registry.register(&mut socket, token, Interest::READABLE).map_err(failed)?;
                let door = Self { listen: listen.clone(), socket: Socket::Unix(socket, path.clone()) };
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
                door
            }
            Listen::Given(_) => return Err(failed(io::ErrorKind::NotConnected.into())), // its socket is closed for good
        };
        debug_assert!(!matches!(door.listen, Listen::Tcp(addr) if addr.port() == 0), "a bound port has a number");
        Ok(door)
    }

    /// Takes a listening socket that a client has handed over; `listen`: as [`Listen::asked`] gives it.
    ///
    /// # Errors
    /// `Full` when the system cannot watch another socket.
    pub(super) fn take(listen: &Listen, fd: OwnedFd, registry: &Registry, token: Token) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::new(Code::Full, format!("cannot listen on {listen}: {e}"));
        let socket = std::net::TcpListener::from(fd);
        socket.set_nonblocking(true).map_err(failed)?;
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE).map_err(failed)?;
        Ok(Self { listen: listen.clone(), socket: Socket::Tcp(socket) })
    }

    /// Takes the next program that waits. Programs of other users are sent away from a socket file.
    pub(super) fn accept(&self) -> Came {
        loop {
            let accepted = match &self.socket {
                Socket::Tcp(listener) => listener.accept().map(|(socket, _)| OwnedFd::from(socket)),
                Socket::Unix(listener, _) => match listener.accept() {
                    Ok((socket, _)) if !peer_is_ours(&socket) => continue,
                    accepted => accepted.map(|(socket, _)| OwnedFd::from(socket)),
                },
            };
            let error = match accepted {
                Ok(socket) => return Came::Socket(socket),
                Err(e) => Errno::from_io_error(&e).unwrap_or(Errno::IO),
            };
            match error {
                Errno::AGAIN => return Came::Nothing,
                Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => return Came::NoDescriptors,
                _ => {} // the program has gone before it was accepted
            }
        }
    }

    /// Takes the socket out of the loop, before it is dropped.
    pub(super) fn close(mut self, registry: &Registry) {
        // What is closed right after needs no order.
        let _ = match &mut self.socket {
            Socket::Tcp(listener) => registry.deregister(listener),
            Socket::Unix(listener, _) => registry.deregister(listener),
        };
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            // Another program may have removed it; then there is nothing to do.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes a socket file that no program serves. Other files stay, and are an error.
fn remove_dead(path: &PathBuf) -> io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let taken = |text| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    if !found.file_type().is_socket() {
        return taken("a file of that name exists");
    }
    // A server that has no room for another program answers with an error of its own, and lives.
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => taken("another program serves it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_handed_over_is_a_listener_for_something_temporary() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let fd = OwnedFd::from(listener);
        let given = Listen::asked(HANDED, Some(&fd), false).expect("a listener");
        assert_eq!((&given, given.to_string()), (&Listen::Given(addr), format!("fd:{addr}")));
        assert!(given.warning().is_none() && Listen::parse(&given.to_string()).is_err());
        let client = OwnedFd::from(std::net::TcpStream::connect(addr).expect("a connection"));
        let (pair, _other) = rustix::pipe::pipe().expect("a pipe");
        let unix = OwnedFd::from(std::os::unix::net::UnixStream::pair().expect("a pair").0);
        for (text, fd, is_kept) in [
            (HANDED, None, false),
            (HANDED, Some(&fd), true),
            (HANDED, Some(&client), false),
            (HANDED, Some(&pair), false),
            (HANDED, Some(&unix), false),
            ("80", Some(&fd), false),
        ] {
            assert_eq!(Listen::asked(text, fd, is_kept).expect_err(text).code, Code::InvalidArgument);
        }
        assert_eq!(Listen::asked("80", None, true), Listen::parse("80"));
    }

    #[test]
    fn listeners_are_on_the_loopback_unless_a_host_is_named() {
        let tcp = |text: &str| Listen::Tcp(text.parse().expect("an address"));
        for (text, listen) in [
            ("80", tcp("127.0.0.1:80")),
            ("localhost:80", tcp("127.0.0.1:80")),
            ("127.0.0.2:0", tcp("127.0.0.2:0")),
            ("0.0.0.0:65535", tcp("0.0.0.0:65535")),
            ("[::1]:80", tcp("[::1]:80")),
            ("unix:/run/a:b", Listen::Unix("/run/a:b".into())),
        ] {
            let parsed = Listen::parse(text).expect(text);
            assert_eq!(parsed, listen, "{text}");
            assert_eq!(Listen::parse(&parsed.to_string()), Ok(listen), "{text}");
            assert_eq!(parsed.warning().is_some(), text.starts_with("0.0.0.0"), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "*:80",
            "::1:80",
            "[::1]",
            "[127.0.0.1]:80",
            "80x",
            "65536",
            "-1",
            "unix:",
            "unix:a",
            "a.b:80",
        ] {
            assert_eq!(Listen::parse(text).expect_err(text).code, Code::InvalidArgument, "{text}");
        }
    }
}
