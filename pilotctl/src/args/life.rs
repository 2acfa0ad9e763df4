//! Owns the part of the command line that starts and ends daemons and rendezvous.

use argh::{ArgsInfo, FromArgs};
use pilot_node::{LogFormat, LogLevel};
use std::net::SocketAddr;
use std::path::PathBuf;

/// start, stop or look at the daemon
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "daemon")]
pub(crate) struct Daemon {
    #[argh(subcommand)]
    pub(crate) verb: DaemonVerb,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub(crate) enum DaemonVerb {
    Start(DaemonStart),
    Run(DaemonRun),
    Stop(DaemonStop),
    Status(DaemonStatus),
}

/// start the daemon in the background and wait until it serves
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "start")]
pub(crate) struct DaemonStart {
    /// hostname to register
    #[argh(option)]
    pub(crate) hostname: Option<String>,
    /// rendezvous as KEY@HOST,… where a HOST may have a :PORT; without one, a rendezvous on this machine is used (and started if need be)
    #[argh(option)]
    pub(crate) rendezvous: Option<String>,
    /// join the node that has printed this code, and use the rendezvous in it if none is configured (default: PILOT_JOIN, or the
    /// file that PILOT_JOIN_FILE names)
    #[argh(option)]
    pub(crate) join: Option<String>,
    /// another rendezvous, as KEY@HOST,…, that relays for this node and for peers that name it too; up to three times
    #[argh(option)]
    pub(crate) relay: Vec<String>,
    /// UDP address to bind (default: any port on every address of both families)
    #[argh(option)]
    pub(crate) listen: Option<SocketAddr>,
    /// where the rendezvous serves TLS, as HOST or HOST:PORT, for networks without UDP (default: its hosts, port 443)
    #[argh(option)]
    pub(crate) rendezvous_tls: Option<String>,
    /// proxy on that way, as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT (default: HTTPS_PROXY, which others cannot read)
    #[argh(option)]
    pub(crate) https_proxy: Option<String>,
    /// take only a certificate of the system's authorities there; the key of the rendezvous is proven in any case
    #[argh(switch)]
    pub(crate) tls_verify: bool,
    /// use UDP alone
    #[argh(switch)]
    pub(crate) no_tls: bool,
    /// ask no gateway to map the UDP port
    #[argh(switch)]
    pub(crate) no_port_mapping: bool,
    /// do not announce this node to its peers on the local network
    #[argh(switch)]
    pub(crate) no_lan: bool,
    /// may be found by search
    #[argh(switch)]
    pub(crate) public: bool,
    /// stay in the foreground
    #[argh(switch)]
    pub(crate) foreground: bool,
    /// where the daemon writes its log (default: pilot.log in its folder; in the foreground standard error)
    #[argh(option)]
    pub(crate) log_file: Option<PathBuf>,
    /// be a node for this run alone: nothing is kept here, and the rendezvous forgets name and address at its end
    #[argh(switch)]
    pub(crate) ephemeral: bool,
    /// go on with what is left of damaged books, and with another identity than before
    #[argh(switch)]
    pub(crate) accept_loss: bool,
    /// least important level that is logged: error, warn, info or debug (default: the setting log_level, else info)
    #[argh(option)]
    pub(crate) log_level: Option<LogLevel>,
    /// form of the log's lines: text or json (default text)
    #[argh(option, default = "LogFormat::Text")]
    pub(crate) log_format: LogFormat,
}

/// be the daemon, in the foreground
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "run")]
pub(crate) struct DaemonRun {
    /// hostname to register
    #[argh(option)]
    pub(crate) hostname: Option<String>,
    /// rendezvous as KEY@HOST,… where a HOST may have a :PORT
    #[argh(option)]
    pub(crate) rendezvous: Option<String>,
    /// join the node that has printed this code, and use the rendezvous in it if none is configured (default: PILOT_JOIN, or the
    /// file that PILOT_JOIN_FILE names)
    #[argh(option)]
    pub(crate) join: Option<String>,
    /// another rendezvous, as KEY@HOST,…, that relays for this node and for peers that name it too; up to three times
    #[argh(option)]
    pub(crate) relay: Vec<String>,
    /// file that names the rendezvous
    #[argh(option)]
    pub(crate) rendezvous_file: Option<PathBuf>,
    /// UDP address to bind (default: any port on every address of both families)
    #[argh(option)]
    pub(crate) listen: Option<SocketAddr>,
    /// where the rendezvous serves TLS, as HOST or HOST:PORT, for networks without UDP (default: its hosts, port 443)
    #[argh(option)]
    pub(crate) rendezvous_tls: Option<String>,
    /// proxy on that way, as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT (default: HTTPS_PROXY, which others cannot read)
    #[argh(option)]
    pub(crate) https_proxy: Option<String>,
    /// take only a certificate of the system's authorities there; the key of the rendezvous is proven in any case
    #[argh(switch)]
    pub(crate) tls_verify: bool,
    /// use UDP alone
    #[argh(switch)]
    pub(crate) no_tls: bool,
    /// ask no gateway to map the UDP port
    #[argh(switch)]
    pub(crate) no_port_mapping: bool,
    /// do not announce this node to its peers on the local network
    #[argh(switch)]
    pub(crate) no_lan: bool,
    /// where the daemon writes its log (default: standard error)
    #[argh(option)]
    pub(crate) log_file: Option<PathBuf>,
    /// be a node for this run alone: nothing is kept here, and the rendezvous forgets name and address at its end
    #[argh(switch)]
    pub(crate) ephemeral: bool,
    /// with --ephemeral: the folder that daemon start has made for it; removed at the end (default: a new one)
    #[argh(option)]
    pub(crate) folder: Option<PathBuf>,
    /// go on with what is left of damaged books, and with another identity than before
    #[argh(switch)]
    pub(crate) accept_loss: bool,
    /// least important level that is logged: error, warn, info or debug (default: the setting log_level, else info)
    #[argh(option)]
    pub(crate) log_level: Option<LogLevel>,
    /// form of the log's lines: text or json (default text)
    #[argh(option, default = "LogFormat::Text")]
    pub(crate) log_format: LogFormat,
}

/// end the daemon in order
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "stop")]
pub(crate) struct DaemonStop {
    /// end a daemon that does not answer, too; what it has on disk stays
    #[argh(switch)]
    pub(crate) force: bool,
}

/// say whether the daemon runs
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "status")]
pub(crate) struct DaemonStatus {
    /// exit with status 3 when it does not, and with 6 when it does not answer
    #[argh(switch)]
    pub(crate) check: bool,
}

/// be a rendezvous: registry, mailbox and relay
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "rendezvous")]
pub(crate) struct Rendezvous {
    #[argh(subcommand)]
    pub(crate) verb: RendezvousVerb,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub(crate) enum RendezvousVerb {
    Drain(RendezvousDrain),
    Run(RendezvousRun),
}

/// end a rendezvous of this machine after it has sent its nodes to another address, where the same key serves
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "drain")]
pub(crate) struct RendezvousDrain {
    /// folder of the rendezvous
    #[argh(option)]
    pub(crate) home: PathBuf,
    /// address to which the nodes go, IP:PORT
    #[argh(option)]
    pub(crate) to: SocketAddr,
    /// time over which they leave, at most 3600 (default 30)
    #[argh(option, default = "30")]
    pub(crate) seconds: u32,
}

/// serve until stopped; prints KEY@host:port
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "run")]
pub(crate) struct RendezvousRun {
    /// folder for identity and books
    #[argh(option)]
    pub(crate) home: PathBuf,
    /// UDP address to serve on (default: port 9000 on every address of both families)
    #[argh(option, default = "SocketAddr::from(([0u16; 8], 9000))")]
    pub(crate) listen: SocketAddr,
    /// TCP address at which nodes without UDP are served over TLS, as 0.0.0.0:443
    #[argh(option)]
    pub(crate) tls_listen: Option<SocketAddr>,
    /// certificates for that, in PEM (default: one is made at the start)
    #[argh(option)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// private key of the certificate, in PEM
    #[argh(option)]
    pub(crate) tls_key: Option<PathBuf>,
    /// TCP address at which they are served as WebSockets in plain, for a reverse proxy that ends TLS and says X-Forwarded-For
    #[argh(option)]
    pub(crate) ws_listen: Option<SocketAddr>,
    /// UDP address at which nodes are told what is seen of them, beside --listen; up to three, best also on another IP address
    /// (default: the port above that of --listen)
    #[argh(option)]
    pub(crate) probe_listen: Vec<SocketAddr>,
    /// relay so many bytes in a second at most, shared fairly among the nodes that send
    #[argh(option)]
    pub(crate) relay_bytes_per_second: Option<u64>,
    /// end when no node has been connected for so many seconds
    #[argh(option)]
    pub(crate) idle_exit: Option<u64>,
    /// go on with what is left of damaged books, and with another identity than before
    #[argh(switch)]
    pub(crate) accept_loss: bool,
}
