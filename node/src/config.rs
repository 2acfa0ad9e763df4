//! Owns the settings with which a node is started.

pub use crate::host::RendezvousHost;
use crate::ipc::place::socket_path;
use crate::log::sink::LogConfig;
use crate::webhook::Webhook;
use pilot_core::identity::StaticKey;
use pilot_core::trust::Ports;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The place of the rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RendezvousConfig {
    /// No rendezvous: the node reaches only peers that it trusts already, at their last addresses.
    None,
    /// The rendezvous with this key at this address.
    At(StaticKey, SocketAddr),
    /// The rendezvous with this key at one of these places, which are tried in turn; names are looked up again whenever it does
    /// not answer. At most [`RendezvousConfig::HOSTS_MAX`].
    Hosts(StaticKey, Vec<RendezvousHost>),
    /// The rendezvous that this file names (`KEY@host:port`). The file is read again while the rendezvous cannot be reached.
    File(PathBuf),
}

/// The way to the rendezvous over TLS, for networks that let no UDP pass: it is tried when UDP gives no answer, and left when UDP
/// works. The rendezvous must serve it (`--tls-listen`).
#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Whether this way is tried at all.
    pub is_on: bool,
    /// Where the rendezvous serves it; `None`: on its hosts, at port 443. Towards this machine itself it is tried only when it is
    /// given here.
    pub at: Option<RendezvousHost>,
    /// The proxy on the way.
    pub proxy: ProxySetting,
    /// Whether the certificate must be one that the system's authorities have signed. The tunnel inside proves the key of the
    /// rendezvous in any case; where this is false every certificate is taken.
    pub verify: bool,
}

#[cfg(feature = "tls")]
impl Default for TlsConfig {
    fn default() -> Self {
        Self { is_on: true, at: None, proxy: ProxySetting::Environment, verify: false }
    }
}

#[cfg(feature = "tls")]
impl TlsConfig {
    /// Port of a place that names none.
    pub const DEFAULT_PORT: u16 = 443;
}

/// The proxy on the way to the rendezvous.
#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
pub enum ProxySetting {
    /// The one that `HTTPS_PROXY` names, if any, unless `NO_PROXY` has the host.
    Environment,
    /// This one, unless `NO_PROXY` has the host.
    At(crate::underlay::tls::Proxy),
    /// This one for every host.
    Always(crate::underlay::tls::Proxy),
    /// None.
    None,
}

#[cfg(feature = "tls")]
impl ProxySetting {
    /// The proxy on the way to this host, if there is one.
    ///
    /// # Errors
    /// The text that names it is none.
    pub(crate) fn proxy_for(&self, host: &str) -> Result<Option<crate::underlay::tls::Proxy>, String> {
        use crate::underlay::tls::{Proxy, is_exempt};
        match self {
            Self::Always(proxy) => Ok(Some(proxy.clone())),
            Self::None => Ok(None),
            Self::Environment | Self::At(_) if is_exempt(host) => Ok(None),
            Self::At(proxy) => Ok(Some(proxy.clone())),
            Self::Environment => Proxy::of_environment().transpose(),
        }
    }
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
    /// Further rendezvous that relay for this node and for peers that use them too, and do nothing else; three at most, each with
    /// a key of its own.
    pub relays: Vec<RendezvousConfig>,
    /// The way to the rendezvous over TLS.
    #[cfg(feature = "tls")]
    pub tls: TlsConfig,
    /// UDP address to bind. `[::]` (the default) is every address of both families, and on a machine without IPv6 every IPv4
    /// address; `0.0.0.0` is every IPv4 address.
    pub listen: SocketAddr,
    /// Whether the gateways of this machine's networks are asked to map the UDP port (PCP, NAT-PMP, UPnP).
    pub port_mapping: bool,
    /// Whether the node announces itself on its networks to peers that it cannot reach, and hears their announcements.
    pub lan: bool,
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
    /// Whether the node is for this run alone: when it ends, it gives its address, its name and its mailbox back to the rendezvous, for
    /// which it waits up to four seconds. Its folder is removed by its owner.
    pub ephemeral: bool,
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
            relays: Vec::new(),
            #[cfg(feature = "tls")]
            tls: TlsConfig::default(),
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            port_mapping: true,
            lan: true,
            socket: None,
            services: false,
            default_ports: Ports::default(),
            approve_all: false,
            stream_ring_len_max: 32 << 20,
            datagram_len_max: pilot_core::path::DATAGRAM_LEN_MAX,
            connect_timeout: Duration::from_secs(30),
            log: None,
            accept_loss: false,
            ephemeral: false,
            webhook: None,
        }
    }

    /// The daemon: with services, and with the IPC socket at its usual path.
    pub fn daemon(home: impl Into<PathBuf>) -> Self {
        Self { services: true, socket: Some(socket_path()), ..Self::new(home) }
    }
}

impl RendezvousConfig {
    /// Most places of one rendezvous.
    pub const HOSTS_MAX: usize = 8;
    /// Port of a place that names none.
    pub const DEFAULT_PORT: u16 = RendezvousHost::UDP_PORT;
}

impl std::str::FromStr for RendezvousConfig {
    type Err = String;

    /// Reads `KEY@host[:port][,host[:port]…]`. A host is a name, an IPv4 address, or an IPv6 address in brackets. Nothing is
    /// looked up.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a rendezvous is given as KEY@host[:port][,host[:port]…]";
        let (key, hosts) = text.trim().split_once('@').ok_or(FORM)?;
        let key = key.parse().map_err(|_| format!("{FORM}; KEY is 64 hexadecimal digits"))?;
        let host = |host: &str| host.parse().map_err(|()| format!("{FORM}; {host:?} is no host"));
        let hosts: Vec<RendezvousHost> = hosts.split(',').map(host).collect::<Result<_, _>>()?;
        if hosts.len() > Self::HOSTS_MAX {
            return Err(format!("{FORM}; at most {} hosts", Self::HOSTS_MAX));
        }
        Ok(match &hosts[..] {
            [RendezvousHost { name, port }] if let Ok(ip) = name.parse() => Self::At(key, SocketAddr::new(ip, *port)),
            _ => Self::Hosts(key, hosts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_rendezvous_are_read_and_malformed_ones_refused() {
        let key = "01".repeat(32);
        let parse = |hosts: &str| format!("{key}@{hosts}").parse::<RendezvousConfig>();
        let at = |addr: &str| RendezvousConfig::At(StaticKey([1; 32]), addr.parse().expect(addr));
        assert_eq!(parse("192.0.2.1:7"), Ok(at("192.0.2.1:7")));
        assert_eq!(parse("192.0.2.1\n"), Ok(at("192.0.2.1:9000")));
        assert_eq!(parse("[2001:db8::1]"), Ok(at("[2001:db8::1]:9000")));
        assert_eq!(parse("[2001:db8::1]:7"), Ok(at("[2001:db8::1]:7")));
        let host = |name: &str, port| RendezvousHost { name: name.into(), port };
        let several = vec![host("rdv.example", 9000), host("192.0.2.1", 7), host("2001:db8::1", 8)];
        let hosts = RendezvousConfig::Hosts(StaticKey([1; 32]), several);
        assert_eq!(parse("rdv.example,192.0.2.1:7,[2001:db8::1]:8"), Ok(hosts));
        for bad in [
            "",
            ",",
            "a,",
            ":7",
            "a:0",
            "a:65536",
            "a:b",
            "2001:db8::1",
            "[2001:db8::1",
            "[a]:7",
            "[::1]7",
            "a b",
            "a/b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&["a"; 9].join(",")).is_err() && "zz@a".parse::<RendezvousConfig>().is_err());
    }
}
