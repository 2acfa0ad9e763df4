//! Owns the command `info`: a node's own state, and what people should know of the way to its rendezvous.

use crate::clean;
use crate::client::{CALL_TIMEOUT, daemon};
use crate::output::Output;
use crate::path::ago;
use pilot_node::answer::{Info, RendezvousLink, RendezvousState};
use pilot_node::{Failure, Request};

/// Shows the state of the node.
pub(crate) fn info(output: &Output) -> Result<(), Failure> {
    let reply = daemon()?.request(&Request::Info, &[], Some(CALL_TIMEOUT))?;
    output.ok(&reply.data);
    let info: Info = reply.read()?;
    if let Some(link) = &info.rendezvous_link {
        output.note(&text(link, info.rendezvous));
    }
    Ok(())
}

/// The way to the rendezvous on one line.
fn text(link: &RendezvousLink, state: RendezvousState) -> String {
    let way = if link.carrier == "tls" { "TLS" } else { "UDP" };
    let heard = link.heard_s.map_or("never heard".into(), |s| format!("heard {} ago", ago(s)));
    let why = match link.reason.as_str() {
        "udp_silent" => ", since UDP gives no answer",
        "udp_answers" => ", since UDP answers again",
        _ => "",
    };
    let silent = if state == RendezvousState::Silent { "silent, " } else { "" };
    let mut text =
        format!("rendezvous: {silent}{heard}, over {way} to {} for {}{why}", link.address, ago(link.since_s));
    if let Some(failure) = &link.tls_failure {
        text.extend(["; TLS failed: ", failure]);
    }
    clean::cell(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_rendezvous_is_one_line() {
        let mut link = RendezvousLink {
            carrier: "tls".into(),
            address: "rdv.example:443 by the proxy 10.0.0.1:3128".into(),
            since_s: 30.0,
            reason: "udp_silent".into(),
            udp: "blocked".into(),
            heard_s: Some(1.5),
            rtt_ms: None,
            datagram_len: 1216,
            version: Some("0.1.0".into()),
            tls_failure: None,
            tls: None,
        };
        assert_eq!(
            text(&link, RendezvousState::Ready),
            "rendezvous: heard 1.5 s ago, over TLS to rdv.example:443 by the proxy 10.0.0.1:3128 for 30 s, since UDP gives no answer"
        );
        (link.carrier, link.reason, link.heard_s) = ("udp".into(), "usual".into(), Some(95.0));
        link.tls_failure = Some("the proxy wants\na password".into());
        let told = text(&link, RendezvousState::Silent);
        assert!(
            told.starts_with("rendezvous: silent, heard 95 s ago, over UDP to ") && told.lines().count() == 1,
            "{told}"
        );
    }
}
