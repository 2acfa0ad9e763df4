//! Events for clients that watch: what happened.

use crate::calls::report::warning_text;
use crate::context::Context;
use crate::failure::Failure;
use crate::node_event::{Event, PathState, PeerEvent, Sender, Subject, TrustChange, TrustEvent};
use crate::streams::names::{ends, hostname_of};
use pilot_core::PeerId;
use pilot_core::endpoint::{PathChange, ResetReason, Warning};
use pilot_core::group::GroupId;
use pilot_core::identity::IdentityKey;
use pilot_core::invite::InviteId;
use pilot_core::path::PathAddr;
use pilot_core::trust::{Outcome, Ports};
use pilot_stack::StreamId;

/// The owner of a key, with the name under which people know it.
fn subject(cx: &Context, key: &IdentityKey) -> Subject {
    let trust = cx.stack.endpoint().trust();
    let known = trust
        .pin(key)
        .map(|p| (p.addr, &p.hostname))
        .or_else(|| trust.pending().find(|p| p.record.identity == *key).map(|p| (p.record.addr, &p.record.hostname)));
    Subject {
        node_id: known.map(|(addr, _)| addr.node),
        address: known.map(|(addr, _)| addr.to_string()),
        hostname: known.map(|(_, hostname)| hostname.clone()),
        fingerprint: key.fingerprint(),
    }
}

/// Tells of a change of the trust book.
pub(crate) fn tell_trust(cx: &mut Context, outcome: &Outcome) {
    let (kind, key): (fn(TrustEvent) -> Event, _) = match outcome {
        Outcome::Pending(key) => (Event::TrustRequest, key),
        Outcome::Pinned(key) => (Event::Trusted, key),
        Outcome::Rejected(key) => (Event::TrustRejected, key),
        Outcome::Revoked(key) => (Event::Untrusted, key),
        Outcome::Granted(key) => return tell_change(cx, key, "granted_to_us", None),
        Outcome::Cancelled(key) => return tell_change(cx, key, "taken_back", None),
        Outcome::Wished(key) => return tell_change(cx, key, "asks_for_ports", None),
        Outcome::Declined(key) => return tell_change(cx, key, "ports_declined", None),
        Outcome::Renamed(key, how) if how.is_refused => return tell_change(cx, key, "name_refused", Some(&how.wanted)),
        Outcome::Renamed(key, how) => return tell_change(cx, key, "renamed", Some(&how.former)),
        Outcome::JoinRefused(key, why) => {
            let justification = Some(why.to_string());
            return cx.tell(|cx| Event::TrustRejected(TrustEvent { node: subject(cx, key), justification }));
        }
        Outcome::InviteDead(invite) => {
            let text =
                format!("invite {invite} has ended: too many wrong codes came; pilotctl invite makes another one");
            return cx.tell(|_| Event::Warning { reason: "invite_dead".into(), text });
        }
        Outcome::GroupChanged(id) => return tell_group(cx, id),
        Outcome::OverUsed(id, invite) => return tell_over_used(cx, id, invite),
        Outcome::Discarded(_) => return,
    };
    cx.tell(|cx| {
        let pending = cx.stack.endpoint().trust().pending().find(|p| p.record.identity == *key);
        kind(TrustEvent { node: subject(cx, key), justification: pending.map(|p| p.note.clone()) })
    });
}

/// Tells that the roster of a group has changed.
fn tell_group(cx: &mut Context, id: &GroupId) {
    cx.tell(|cx| {
        let endpoint = cx.stack.endpoint();
        let group = endpoint.trust().groups().find(|group| group.roster.id() == *id);
        let members = group.map(|group| group.roster.judge(endpoint.group_time(cx.now)).members().count());
        Event::Group {
            group: group.map(|group| group.roster.group().name.clone()).unwrap_or_default(),
            id: id.to_string(),
            members: members.unwrap_or_default() as u64,
        }
    });
}

/// Tells that more nodes have enrolled by a code than may.
fn tell_over_used(cx: &mut Context, id: &GroupId, invite: &InviteId) {
    cx.tell(|cx| {
        let group = cx.stack.endpoint().trust().groups().find(|group| group.roster.id() == *id);
        let group = group.map(|group| group.roster.group().name.clone()).unwrap_or_default();
        let text = format!(
            "more nodes have joined {group} by code {invite} than may: pilotctl group members {group}, pilotctl uninvite {invite}"
        );
        Event::Warning { reason: "over_used".into(), text }
    });
}

/// Tells of a change of grants or of a peer's name; `reason` and `name` as in [`TrustChange`].
pub(crate) fn tell_change(cx: &mut Context, key: &IdentityKey, reason: &'static str, name: Option<&str>) {
    cx.tell(|cx| {
        let pin = cx.stack.endpoint().trust().pin(key);
        Event::TrustChanged(TrustChange {
            node: subject(cx, key),
            reason: reason.into(),
            granted: pin.map(|pin| pin.reach().names()).unwrap_or_default(),
            granted_to_us: pin.and_then(|pin| pin.granted.as_ref()).map(Ports::names),
            asks_for: pin.and_then(|pin| pin.wish.as_ref()).map(|wish| wish.ports.names()),
            name: name.map(str::to_owned),
        })
    });
}

/// Tells what the owner should know.
pub(crate) fn tell_warning(cx: &mut Context, warning: Warning) {
    cx.tell(|cx| {
        let reason = match warning {
            Warning::NameTaken => "name_taken",
            Warning::Clock(_) => "clock_skew",
            _ => "identity_elsewhere",
        };
        Event::Warning { reason: reason.into(), text: warning_text(cx, warning) }
    });
}

/// Tells of a peer's tunnel or path, as the kind of event that `kind` makes.
pub(crate) fn tell_peer(cx: &mut Context, peer: PeerId, kind: fn(PeerEvent) -> Event, reason: Option<ResetReason>) {
    let Some(key) = cx.stack.endpoint().identity_of(peer) else { return };
    cx.tell(|cx| {
        let event = peer_event(cx, peer, &key);
        let name = event.node.hostname.as_deref().unwrap_or("the peer");
        let reason = reason.map(|reason| Failure::from_reset(reason, name).message);
        kind(PeerEvent { reason, ..event })
    });
}

/// Tells of another path to a peer; without `change`, of another size of datagrams.
pub(crate) fn tell_path(cx: &mut Context, peer: PeerId, change: Option<PathChange>) {
    let Some(key) = cx.stack.endpoint().identity_of(peer) else { return };
    cx.tell(|cx| {
        let mut event = peer_event(cx, peer, &key);
        if let (Some(PathChange { from, to, why }), Some(path)) = (change, &mut event.path) {
            // Several changes in one turn are told one by one.
            (path.path, path.relay) = (Some(to.to_string()), !to.is_direct());
            (event.from, event.reason) = (Some(from.to_string()), Some(why.name().into()));
        }
        Event::Path(event)
    });
}

fn peer_event(cx: &Context, peer: PeerId, key: &IdentityKey) -> PeerEvent {
    let node = subject(cx, key);
    let path = cx.stack.endpoint().peer_info(cx.now, peer).map(|info| PathState {
        path: info.path.map(|p| p.to_string()),
        relay: matches!(info.path, Some(PathAddr::Relay(_))),
        datagram_len: info.datagram_len as u64,
        srtt_ms: info.srtt.map(|d| d.as_secs_f64() * 1e3),
    });
    PeerEvent { node, path, from: None, reason: None }
}

/// Tells of a message or a file that is on disk now.
pub(crate) fn tell_arrival(cx: &mut Context, stream: StreamId, event: impl FnOnce(Sender) -> Event) {
    cx.tell(|cx| {
        let (_, peer) = ends(&cx.stack, stream);
        let (address, hostname) = (peer.addr.to_string(), hostname_of(&cx.stack, peer.addr));
        event(Sender { node_id: peer.addr.node, address, hostname })
    });
}
