//! Owns the options of the way to the rendezvous over TLS, at both ends.

use crate::args::{DaemonRun, DaemonStart, RendezvousRun};
use pilot_node::{Code, Config, Failure};
#[cfg(feature = "tls")]
use pilot_node::{ProxySetting, RendezvousHost, TlsConfig};
use pilot_rendezvous::server::Server;
use std::net::SocketAddr;
use std::process::Command;

/// The options of a daemon.
#[derive(Clone, Default)]
pub(crate) struct TlsOptions {
    at: Option<String>,
    proxy: Option<String>,
    verify: bool,
    is_off: bool,
}

impl TlsOptions {
    pub(crate) fn of_start(args: &DaemonStart) -> Self {
        let (at, proxy) = (args.rendezvous_tls.clone(), args.https_proxy.clone());
        Self { at, proxy, verify: args.tls_verify, is_off: args.no_tls }
    }

    pub(crate) fn of_run(args: &DaemonRun) -> Self {
        let (at, proxy) = (args.rendezvous_tls.clone(), args.https_proxy.clone());
        Self { at, proxy, verify: args.tls_verify, is_off: args.no_tls }
    }

    /// Gives them to a daemon that is started. The proxy's password stays off its command line, which every user may read.
    pub(crate) fn pass(&self, command: &mut Command) {
        if let Some(at) = &self.at {
            command.args(["--rendezvous-tls", at]);
        }
        if let Some(proxy) = &self.proxy {
            command.env("HTTPS_PROXY", proxy);
        }
        for (is_given, name) in [(self.verify, "--tls-verify"), (self.is_off, "--no-tls")] {
            if is_given {
                command.arg(name);
            }
        }
    }

    /// Puts them into the settings of a node.
    ///
    /// # Errors
    /// One is malformed, or this build has no TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        let wrong = |text: String| Failure::new(Code::InvalidArgument, text);
        let port = TlsConfig::DEFAULT_PORT;
        config.tls.is_on = !self.is_off;
        config.tls.verify = self.verify;
        if let Some(at) = &self.at {
            let host = RendezvousHost::parse(at, port);
            config.tls.at = Some(host.ok_or_else(|| wrong(format!("--rendezvous-tls: {at:?} is no HOST[:PORT]")))?);
        }
        if let Some(proxy) = &self.proxy {
            config.tls.proxy = ProxySetting::At(proxy.parse().map_err(|e| wrong(format!("--https-proxy: {e}")))?);
        }
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn apply(&self, _: &mut Config) -> Result<(), Failure> {
        if self.at.is_some() || self.proxy.is_some() || self.verify { Err(missing()) } else { Ok(()) }
    }
}

/// Serves nodes by TCP as the options of a rendezvous say; gives the bound addresses for TLS and for plain WebSockets.
///
/// # Errors
/// An address is taken, a file cannot be used, or this build has no TLS.
#[cfg(feature = "tls")]
pub(crate) fn listen(
    server: &mut Server,
    args: &RendezvousRun,
) -> Result<(Option<SocketAddr>, Option<SocketAddr>), Failure> {
    use pilot_rendezvous::Certificate;
    let certificate = match (&args.tls_cert, &args.tls_key) {
        (Some(chain), Some(key)) => Certificate::Files { chain: chain.clone(), key: key.clone() },
        (None, None) => Certificate::Own,
        _ => {
            let text = "--tls-cert and --tls-key belong together";
            return Err(Failure::new(Code::InvalidArgument, text).hint("without both a certificate is made"));
        }
    };
    let mut bind = |addr: Option<SocketAddr>, certificate| {
        let bound = addr.map(|addr| server.listen_tcp(addr, certificate)).transpose();
        bound.map_err(|e| Failure::new(Code::Conflict, e.to_string()).hint("another address, or other files"))
    };
    Ok((bind(args.tls_listen, Some(&certificate))?, bind(args.ws_listen, None)?))
}

#[cfg(not(feature = "tls"))]
pub(crate) fn listen(
    _: &mut Server,
    args: &RendezvousRun,
) -> Result<(Option<SocketAddr>, Option<SocketAddr>), Failure> {
    let is_asked = args.tls_listen.is_some() || args.ws_listen.is_some();
    if is_asked || args.tls_cert.is_some() || args.tls_key.is_some() { Err(missing()) } else { Ok((None, None)) }
}

#[cfg(not(feature = "tls"))]
fn missing() -> Failure {
    Failure::new(Code::InvalidArgument, "this program was built without TLS").hint("the usual build has it")
}
