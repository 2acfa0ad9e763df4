//! Owns what a node is started with.

use crate::disk::home::socket_path;
use crate::log::sink::LogConfig;
use pilot_core::identity::StaticKey;
use pilot_core::trust::Ports;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where the rendezvous is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RendezvousConfig {
    /// None: only peers known from before, at their last addresses.
    None,
    /// This one.
    At(StaticKey, SocketAddr),
    /// The one that this file names (`KEY@host:port`); the file is read again whenever it cannot be reached.
    File(PathBuf),
}

/// Everything a node is started with. [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder with identity and books; made if missing.
    pub home: PathBuf,
    /// Hostname to register, if it should change.
    pub hostname: Option<String>,
    /// The rendezvous.
    pub rendezvous: RendezvousConfig,
    /// UDP address to bind.
    pub listen: SocketAddr,
    /// IPC socket for other programs; `None`: no IPC.
    pub socket: Option<PathBuf>,
    /// Answer on ports 7, 1000, 1001 and 1002 as the daemon does.
    pub services: bool,
    /// Which of our ports a peer may reach when a request is approved without saying.
    pub default_ports: Ports,
    /// Approve everybody who asks, for [`Config::default_ports`]. Only for closed networks and tests: it gives zero trust up.
    pub approve_all: bool,
    /// Largest ring of a stream, in each direction. Unit: bytes. See `pilot_stack::StackConfig`.
    pub stream_ring_len_max: usize,
    /// Largest UDP datagram that is tried on any path. Unit: bytes of payload. Paths are probed up to it while data flows;
    /// 1216 bytes are always used.
    pub datagram_len_max: usize,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// Where the node writes what it decides; `None`: nowhere.
    pub log: Option<LogConfig>,
}

impl Config {
    /// A node in this folder without rendezvous and IPC.
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
        }
    }

    /// The daemon: services and the IPC socket where users expect it.
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
