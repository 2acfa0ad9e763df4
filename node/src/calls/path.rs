//! The room of the view of paths: how a peer is reached, why so, and when a direct path is tried next.

use crate::answer::{NatKinds, PeerPath, PeerPaths, RendezvousLink};
use crate::calls::relays::{self, millis};
use crate::calls::resolve;
use crate::context::Context;
use crate::failure::{Code, Failure};
use pilot_core::Instant;
use pilot_core::endpoint::PeerInfo;
use pilot_core::path::{Hindrance, Nat, Origin, Outlook, PathAddr, PathReason};

/// The answer to `path`.
///
/// # Errors
/// `TrustRequired` for a node that is no trusted peer, `Ambiguous` when several fit.
pub(crate) fn report(cx: &Context, node: &str) -> Result<PeerPaths, Failure> {
    let endpoint = cx.stack.endpoint();
    let pin = resolve::pinned(endpoint.trust(), node).map_err(|failure| match failure.code {
        Code::NotFound => {
            Failure::new(Code::TrustRequired, format!("{node} is not trusted: nothing is sent there, on no path"))
                .hint(format!("pilotctl handshake {node}"))
        }
        _ => failure,
    })?;
    let info = endpoint.peer_by_identity(&pin.identity).and_then(|peer| endpoint.peer_info(cx.now, peer));
    let Some(info) = info else {
        return Err(Failure::new(Code::NotFound, format!("nothing is known of paths to {node}")));
    };
    let (outlook, relay) = (info.outlook, matches!(info.path, Some(PathAddr::Relay(_))));
    let not_direct = why_not_direct(cx, &info);
    Ok(PeerPaths {
        node_id: pin.addr.node,
        address: pin.addr.to_string(),
        hostname: pin.hostname.clone(),
        up: info.up,
        path: info.path.map(|path| path.to_string()),
        relay,
        reason: info.chosen.map(|(_, why)| why.name().into()),
        reason_text: info.chosen.map(|(_, why)| reason_text(why).into()),
        chosen_s: info.chosen.map(|(at, _)| cx.now.since(at).as_secs_f64()),
        srtt_ms: millis(info.srtt),
        datagram_len: info.datagram_len as u64,
        not_direct: not_direct.as_ref().map(|(word, _)| (*word).into()),
        not_direct_text: not_direct.map(|(_, text)| text),
        rounds: outlook.rounds as u64,
        next_round: outlook.next_round.map(|(number, _)| number as u64),
        next_round_s: outlook.next_round.map(|(_, at)| at.since(cx.now).as_secs_f64()),
        nat: nat_kinds(endpoint.nat(), info.nat),
        paths: described(cx, &info),
        relays: relays::of_pair(cx, &info),
    })
}

/// The NATs on both sides, as far as they are known.
fn nat_kinds(here: Nat, there: Nat) -> Option<NatKinds> {
    let [here, there] = [here, there].map(kind);
    (here.is_some() || there.is_some()).then_some(NatKinds { here, there })
}

/// A NAT in words; `None` while nothing is known of it.
pub(crate) fn kind(nat: Nat) -> Option<String> {
    (nat != Nat::default()).then(|| nat.to_string())
}

/// Every path to a peer.
pub(crate) fn described(cx: &Context, info: &PeerInfo) -> Vec<PeerPath> {
    let described = |path: &pilot_core::path::Path| PeerPath {
        path: path.addr.to_string(),
        relay: cx.stack.endpoint().relay_address(path.addr).map(|addr| addr.to_string()),
        source: match path.origin() {
            Origin::Relay if cx.carrier.over_tls().is_some() => "relay_tls".into(),
            origin => origin.name().into(),
        },
        standing: path.standing().into(),
        validated: path.validated,
        last_probe_s: path.probed_at().map(|at| cx.now.since(at).as_secs_f64()),
        rtt_ms: millis(path.rtt),
        loss: path.loss(),
        datagram_len: path.datagram_len as u64,
    };
    info.paths.iter().map(described).collect()
}

/// Why a peer is not reached directly, as a stable word and for people; `None` when it is.
fn why_not_direct(cx: &Context, info: &PeerInfo) -> Option<(&'static str, String)> {
    let hindrance = info.outlook.hindrance?;
    let tries = matches!(hindrance, Hindrance::Probing | Hindrance::NoAnswer | Hindrance::NoAddress);
    if tries && cx.carrier.over_tls().is_some() {
        return Some(("udp_blocked", "no UDP passes to the rendezvous, so none is expected to peers".into()));
    }
    if hindrance == Hindrance::NoTunnel && relays::lacks_rendezvous(cx) {
        return Some((hindrance.name(), "neither the peer answers nor the rendezvous, which would relay".into()));
    }
    if hindrance == Hindrance::NoAnswer && cx.stack.endpoint().nat().is_hopeless_with(info.nat) {
        let text = "the routers of both sides choose ports that cannot be predicted";
        return Some(("nats_unpredictable", text.into()));
    }
    Some((hindrance.name(), hindrance_text(cx.now, info, hindrance)))
}

fn hindrance_text(now: Instant, info: &PeerInfo, hindrance: Hindrance) -> String {
    let Outlook { silent_addresses, probes, rounds, .. } = info.outlook;
    match hindrance {
        Hindrance::NotInUse => "there is no tunnel, and no program of this machine asks for one".into(),
        Hindrance::Away => {
            let since = info.away_since.map_or(0, |at| now.since(at).as_secs());
            format!("not connected to the rendezvous for {since} s, and no answer")
        }
        Hindrance::NoTunnel => "the peer has not answered the key handshake yet".into(),
        Hindrance::NoAddress => "the peer has named no address that this node may try".into(),
        Hindrance::Probing => format!("a round of probes to {silent_addresses} addresses is under way"),
        Hindrance::NoAnswer => {
            format!("no answer to {probes} probes to {silent_addresses} addresses in {rounds} rounds")
        }
        Hindrance::Slower => "a direct path answers more slowly than the relay".into(),
        Hindrance::Silent => "the direct path in use has fallen silent, and the rendezvous does not relay".into(),
        _ => "the reason is not known".into(),
    }
}

fn reason_text(why: PathReason) -> &'static str {
    match why {
        PathReason::Handshake => "the key handshake finished over it",
        PathReason::Answered => "it answered a probe",
        PathReason::Followed => "the peer speaks from there",
        PathReason::Faster => "it is faster than the direct path before",
        PathReason::Silence => "the path before gave no answer",
        PathReason::Renumbered => "the rendezvous gave the relay another number",
        _ => "the reason is not known",
    }
}

/// How this node reaches its rendezvous; `None` while it has no address of one.
pub(crate) fn rendezvous(cx: &Context) -> Option<RendezvousLink> {
    let endpoint = cx.stack.endpoint();
    let ((_, address), info) = (endpoint.rendezvous_address()?, endpoint.rendezvous_info(cx.now)?);
    let over_tls = cx.carrier.over_tls();
    Some(RendezvousLink {
        carrier: if over_tls.is_some() { "tls" } else { "udp" }.into(),
        address: over_tls.map_or_else(|| address.to_string(), str::to_owned),
        since_s: cx.now.since(cx.carrier.since()).as_secs_f64(),
        reason: cx.carrier.reason().into(),
        udp: match over_tls {
            Some(_) => "blocked",
            None if info.up && !info.is_overdue => "works",
            None => "unknown",
        }
        .into(),
        heard_s: info.last_received.map(|at| cx.now.since(at).as_secs_f64()),
        rtt_ms: millis(info.srtt),
        datagram_len: info.datagram_len as u64,
        version: endpoint.rendezvous_version().map(str::to_owned),
        tls_failure: Some(&cx.carrier.tls_failure).filter(|text| !text.is_empty()).cloned(),
        tls: cx.carrier.tls.clone(),
    })
}
