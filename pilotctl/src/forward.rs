//! Owns the commands about programs that know nothing of Pilot: `forward`, `expose`, `whois`.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon};
use crate::output::Output;
use pilot_node::{Code, Failure, Request};
use serde_json::Value;
use std::path::Path;

pub(crate) fn forward(args: args::Forward, output: &Output) -> Result<(), Failure> {
    let args::Forward { list, remove, foreground, from_to } = args;
    let request = match (&from_to[..], remove) {
        ([], Some(listen)) if !list && !foreground => Request::Unforward { listen: whole(&listen)? },
        ([], None) if !foreground => Request::Forwards,
        ([listen, to], None) if !list => {
            let (node, port) = node_and_port(to)?;
            Request::Forward { node, port, listen: whole(listen)?, temporary: foreground.then_some(true) }
        }
        _ => return Err(usage("pilotctl forward LISTENER NODE:PORT, --list, or --remove LISTENER")),
    };
    set_up(&request, foreground, output)
}

pub(crate) fn expose(args: args::Expose, output: &Output) -> Result<(), Failure> {
    let proxy_protocol = match args.proxy_protocol.as_deref() {
        None => None,
        Some("v2" | "2") => Some(true),
        Some(other) => return Err(usage(&format!("--proxy-protocol v2; {other:?} is not supported"))),
    };
    let flag = |flag: bool| flag.then_some(true);
    let request = match (&args.from_to[..], args.remove) {
        ([], Some(port)) if !args.list && !args.foreground => Request::Unexpose { port },
        ([], None) if !args.foreground => Request::Exposes,
        ([port, target], None) if !args.list => Request::Expose {
            port: port.parse().map_err(|_| usage(&format!("{port:?} is no port")))?,
            target: whole(target)?,
            http: flag(args.http),
            a2a: flag(args.a2a),
            proxy_protocol,
            nodes: (!args.ports_for.is_empty()).then_some(args.ports_for),
            temporary: flag(args.foreground),
        },
        _ => return Err(usage("pilotctl expose PORT TARGET, --list, or --remove PORT")),
    };
    set_up(&request, args.foreground, output)
}

pub(crate) fn whois(args: args::Whois, output: &Output) -> Result<(), Failure> {
    set_up(&Request::Whois { local: args.local }, false, output)
}

fn usage(text: &str) -> Failure {
    Failure::new(Code::InvalidArgument, text)
}

/// Makes a request and shows its answer. In the foreground, its outcome lives as long as this command and the daemon do.
fn set_up(request: &Request, is_foreground: bool, output: &Output) -> Result<(), Failure> {
    let mut client = daemon()?;
    let reply = client.request(request, &[], Some(CALL_TIMEOUT))?;
    output.ok(&reply.data);
    if let Some(warning) = reply.data.get("warning").and_then(Value::as_str) {
        output.note(&format!("warning: {warning}"));
    }
    if !is_foreground {
        return Ok(());
    }
    loop {
        client.next_event(None)?;
    }
}

/// Reads `NODE:PORT`; an address as node has colons itself.
fn node_and_port(text: &str) -> Result<(String, u16), Failure> {
    let parts = text.rsplit_once(':').and_then(|(node, port)| Some((node, port.parse::<u16>().ok()?)));
    match parts {
        Some((node, port)) if !node.is_empty() && port > 0 => Ok((node.into(), port)),
        _ => Err(usage(&format!("{text:?} is not NODE:PORT"))),
    }
}

/// An address for the daemon, which works in another folder: a socket's path becomes a whole one.
fn whole(text: &str) -> Result<String, Failure> {
    let Some(path) = text.strip_prefix("unix:") else { return Ok(text.into()) };
    let path = std::path::absolute(Path::new(path)).map_err(|e| usage(&format!("{path:?}: {e}")))?;
    Ok(format!("unix:{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_be_an_address() {
        assert_eq!(node_and_port("worker-node:80"), Ok(("worker-node".into(), 80)));
        assert_eq!(node_and_port("0:0000.0001.F00D:80"), Ok(("0:0000.0001.F00D".into(), 80)));
        for bad in ["", ":80", "worker-node", "worker-node:", "worker-node:0", "worker-node:65536", "a:b"] {
            assert!(node_and_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_of_sockets_are_whole() {
        assert_eq!(whole("unix:/a/b").as_deref(), Ok("unix:/a/b"));
        assert_eq!(whole("127.0.0.1:80").as_deref(), Ok("127.0.0.1:80"));
        assert!(whole("unix:b").is_ok_and(|text| text.starts_with("unix:/") && text.ends_with("/b")));
        assert!(whole("unix:").is_err());
    }
}
