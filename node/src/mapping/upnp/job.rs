//! Owns the conversation with a gateway that speaks UPnP. It takes seconds, on a thread of its own, and never more than a little
//! memory, whatever the gateway does.

use super::messages::{
    CONFLICT, Service, external_ip, len, location, mapping, no_mapping, outcome, request, search, service,
};
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Where gateways hear a search: a port, and a group. Source: UPnP Device Architecture 1.1, 1.3.2.
const SEARCH_PORT: u16 = 1900;
const SEARCH_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// Pause between two searches of an attempt. Source: own choice; gateways answer within the second that the search names.
const SEARCH_PAUSE: Duration = Duration::from_millis(1200);
/// Time for an answer to the search, for one request, and for all of them together. Source: own choice.
const SEARCH_TIME: Duration = Duration::from_secs(3);
const REQUEST_TIME: Duration = Duration::from_secs(3);
const JOB_TIME: Duration = Duration::from_secs(10);
/// Longest answer. Unit: bytes. Source: own choice; descriptions of gateways have up to 20 KiB.
const ANSWER_LEN_MAX: usize = 64 << 10;
/// Lease that is asked for. Unit: seconds. Source: own choice.
pub(super) const LEASE_S: u32 = 3600;
/// External ports that are tried, when others have them.
const PORTS_TRIED: u16 = 4;

/// A mapping for which a gateway was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) external: SocketAddr,
    pub(super) service: Service,
}

/// What a job is to do.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The gateway.
    pub(super) gateway: IpAddr,
    /// This machine's address there, and the port.
    pub(super) client: SocketAddr,
    /// The mapping that is to be renewed, if there is one.
    pub(super) before: Option<Mapped>,
}

impl Job {
    /// Finds the gateway, unless its service is known, and asks for the mapping. Blocks for [`JOB_TIME`] at most.
    ///
    /// # Errors
    /// No gateway answers, it refuses, or what it says is no answer.
    pub(super) fn run(self) -> Result<Mapped> {
        let end = Instant::now() + JOB_TIME;
        if let Some(Mapped { service, external }) = self.before.clone()
            && let Ok(mapped) = self.map(service, external.port(), end)
        {
            return Ok(mapped);
        }
        let (at, path) = self.find(SocketAddr::new(self.gateway, SEARCH_PORT), end)?;
        let described = exchange(at, &request(at, &path, None), end)?;
        let service = service(&described, at).ok_or_else(no_answer)?;
        self.map(service, self.client.port(), end)
    }

    /// Asks the gateway, and since some hear only that, all gateways, where the description is. Another machine's answer is none.
    fn find(&self, gateway: SocketAddr, end: Instant) -> Result<(SocketAddr, String)> {
        let socket = UdpSocket::bind((self.client.ip(), 0))?;
        let end = end.min(Instant::now() + SEARCH_TIME);
        let (mut room, mut next) = ([0; 1500], Instant::now());
        loop {
            if next <= Instant::now() {
                next += SEARCH_PAUSE;
                for to in [gateway, (SEARCH_GROUP, SEARCH_PORT).into()] {
                    // The network may know no groups.
                    let _ = socket.send_to(search(to).as_bytes(), to);
                }
            }
            socket.set_read_timeout(Some(left(end)?.min(SEARCH_PAUSE)))?;
            if let Ok((len, from)) = socket.recv_from(&mut room)
                && from.ip() == gateway.ip()
                && let Some(found) = location(&room[..len], gateway.ip())
            {
                return Ok(found);
            }
        }
    }

    fn map(&self, service: Service, port: u16, end: Instant) -> Result<Mapped> {
        let ask = |action: &str, arguments: String| {
            exchange(service.at, &request(service.at, &service.path, Some((&service, action, arguments))), end)
        };
        let ip = external_ip(&ask("GetExternalIPAddress", String::new())?).ok_or_else(no_answer)?;
        for n in 0..PORTS_TRIED {
            let port = port.wrapping_add(n.wrapping_mul(7919)).max(1024);
            let answer = ask("AddPortMapping", mapping(port, self.client, LEASE_S))?;
            match outcome(&answer, "AddPortMapping") {
                Ok(()) => return Ok(Mapped { external: SocketAddr::new(ip, port), service }),
                Err(CONFLICT) => {}
                Err(code) => return Err(Error::other(format!("the gateway refuses: {code}"))),
            }
        }
        Err(Error::other("other machines have the ports"))
    }
}

impl Mapped {
    /// Gives the mapping back. Blocks for `time` at most.
    pub(super) fn end(&self, time: Duration) {
        let (at, port) = (self.service.at, self.external.port());
        let text = request(at, &self.service.path, Some((&self.service, "DeletePortMapping", no_mapping(port))));
        // What is not heard ends with its lease.
        let _ = exchange(at, &text, Instant::now() + time);
    }
}

/// Sends a request and reads the answer to its end, or to its maximum.
fn exchange(at: SocketAddr, request: &str, end: Instant) -> Result<Vec<u8>> {
    let end = end.min(Instant::now() + REQUEST_TIME);
    let mut stream = TcpStream::connect_timeout(&at, left(end)?)?;
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut room) = (Vec::new(), [0; 4096]);
    while answer.len() < ANSWER_LEN_MAX && len(&answer).is_none_or(|len| answer.len() < len) {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut room)? {
            0 => return Ok(answer),
            n => answer.extend_from_slice(&room[..n]),
        }
    }
    answer.truncate(ANSWER_LEN_MAX);
    Ok(answer)
}

fn left(end: Instant) -> Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn no_answer() -> Error {
    Error::other("no gateway that speaks UPnP")
}

#[cfg(test)]
pub(super) mod tests;
