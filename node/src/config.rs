//! Owns the settings with which a node is started.

use crate::ipc::place::socket_path;
use crate::log::sink::LogConfig;
use crate::webhook::Webhook;
use pilot_core::identity::StaticKey;
use pilot_core::trust::Ports;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The place of the rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RendezvousConfig {
    /// No rendezvous: the node reaches only peers that it trusts already, at their last addresses.
    None,
    /// The rendezvous with this key at this address.
    At(StaticKey, SocketAddr),
    /// The rendezvous that this file names (`KEY@host:port`). The file is read again while the rendezvous cannot be reached.
    File(PathBuf),
}

/// The settings of a node. [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder with identity and books; made if missing.
    pub home: PathBuf,
    /// Hostname to register, 1 to 63 characters of a–z, 0–9 and `-`; `None`: the one of the last run.
    pub hostname: Option<String>,
    /// The rendezvous.
    pub rendezvous: RendezvousConfig,
    /// UDP address to bind.
    pub listen: SocketAddr,
    /// IPC socket for other programs; `None`: no IPC.
    pub socket: Option<PathBuf>,
    /// Whether the node answers on ports 7, 1000, 1001 and 1002 as the daemon does.
    pub services: bool,
    /// Ports of this node that a peer may reach when its request is approved without a list of ports.
    pub default_ports: Ports,
    /// Whether every request for trust is approved, for [`Config::default_ports`]. Only for closed networks and tests: trust
    /// then means nothing.
    pub approve_all: bool,
    /// Largest ring of a stream, in each direction. Unit: bytes. See `pilot_stack::StackConfig`.
    pub stream_ring_len_max: usize,
    /// Largest UDP datagram that is tried on any path. Unit: bytes of payload. Datagrams of 1216 bytes are always used; longer
    /// ones are probed while data flows.
    pub datagram_len_max: usize,
    /// Longest time that a connect takes.
    pub connect_timeout: Duration,
    /// Where the node writes what it decides; `None`: nowhere.
    pub log: Option<LogConfig>,
    /// Whether the node goes on with what is left of damaged books, and with an identity that is not the one of before.
    pub accept_loss: bool,
    /// Where the node writes its webhook for a worker that posts; `None`: the node has no worker, and refuses to set one.
    pub webhook: Option<Webhook>,
}

impl Config {
    /// A node in this folder without rendezvous, services and IPC.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            hostname: None,
            rendezvous: RendezvousConfig::None,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            socket: None,
            services: false,
            default_ports: Ports::default(),
            approve_all: false,
            stream_ring_len_max: 32 << 20,
            datagram_len_max: pilot_core::path::DATAGRAM_LEN_MAX,
            connect_timeout: Duration::from_secs(30),
            log: None,
            accept_loss: false,
            webhook: None,
        }
    }

    /// The daemon: with services, and with the IPC socket at its usual path.
    pub fn daemon(home: impl Into<PathBuf>) -> Self {
        Self { services: true, socket: Some(socket_path()), ..Self::new(home) }
    }
}

impl std::str::FromStr for RendezvousConfig {
    type Err = String;

    /// Reads `KEY@host:port`; the host is resolved now.
    fn from_str(text: &str) -> Result<Self, String> {
        use std::net::ToSocketAddrs as _;
        let form = "a rendezvous is given as KEY@host:port";
        let (key, host) = text.trim().split_once('@').ok_or(form)?;
        let key = key.parse().map_err(|_| format!("{form}; KEY is 64 hexadecimal digits"))?;
        let mut addrs = host.to_socket_addrs().map_err(|e| format!("{host}: {e}"))?;
        let addr = addrs.find(SocketAddr::is_ipv4).ok_or_else(|| format!("{host} has no IPv4 address"))?;
        Ok(Self::At(key, addr))
    }
}
