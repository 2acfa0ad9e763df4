//! The call that opens a stream: from the question to the peer until the stream stands, ends, or takes too long.

use crate::call::{Call, Connect, Purpose};
use crate::calls::{meet, resolve};
use crate::context::Context;
use crate::effect::{Effect, Opener, Ticket};
use crate::failure::{Code, Failure};
use crate::ipc::client_id::{ClientId, RequestNumber};
use crate::streams::names::name_of;
use pilot_core::identity::IdentityKey;
use pilot_core::path::PathAddr;
use pilot_core::{Instant, PeerId};
use pilot_stack::{CommandError, StreamEnd, StreamId};

/// Opens a stream to the node that `target` names. `early`: first bytes, which travel with the question.
pub(crate) fn connect(cx: &mut Context, target: &str, port: u16, early: Vec<u8>, opener: Opener) {
    let pin = resolve::pinned(cx.stack.endpoint().trust(), target);
    match pin.map(|p| (p.identity, name_of(p), p.is_denied(port))) {
        // A peer that has a tunnel has said what this node may reach; another may have changed its mind.
        Ok((key, name, true)) if is_up(cx, &key) => {
            cx.out.push(Effect::NotOpened(opener, Failure::not_granted(&name, port)));
        }
        Ok((key, name, _)) => drop(connect_to(cx, &key, (name, port), early, opener)),
        Err(failure) if failure.code == Code::NotFound => {
            meet::ask(cx, target, Purpose::Connect { port, early, opener });
        }
        Err(failure) => cx.out.push(Effect::NotOpened(opener, failure)),
    }
}

/// True when there is a tunnel to the peer.
pub(crate) fn is_up(cx: &Context, key: &IdentityKey) -> bool {
    let endpoint = cx.stack.endpoint();
    endpoint.peer_by_identity(key).is_some_and(|peer| endpoint.is_up(cx.now, peer))
}

/// Opens a stream to a trusted peer; gives the stream that is being opened. `to`: the peer's name for error texts, and the
/// port.
pub(crate) fn connect_to(
    cx: &mut Context,
    key: &IdentityKey,
    (name, port): (String, u16),
    early: Vec<u8>,
    opener: Opener,
) -> Option<StreamId> {
    let peer = cx.stack.endpoint().peer_by_identity(key).ok_or(CommandError::UnknownPeer);
    match peer.and_then(|peer| cx.stack.connect_with(cx.now, peer, port, early)) {
        Ok(stream) => {
            let deadline = cx.now + cx.config.connect_timeout;
            cx.calls.open_until(Call::Connect(Connect { stream, opener, name, port }), deadline);
            cx.ready(stream);
            Some(stream)
        }
        Err(error) => {
            let failure = match error {
                CommandError::TooMany => Failure::new(Code::Full, "too many streams to this peer"),
                _ => Failure::new(Code::TrustRequired, format!("{name} is not trusted")),
            };
            cx.out.push(Effect::NotOpened(opener, failure));
            None
        }
    }
}

/// A stream that is being opened may have changed.
pub(crate) fn progressed(cx: &mut Context, ticket: Ticket, stream: StreamId) {
    let info = cx.stack.stream_info(stream);
    let ended = info.and_then(|i| i.end);
    let connected = info.is_some_and(|i| i.connected);
    if !connected && ended.is_none() && info.is_some() {
        return;
    }
    let Some(Call::Connect(call)) = cx.calls.take(ticket) else { return };
    debug_assert_eq!(call.stream, stream);
    if connected {
        cx.out.push(Effect::Opened(stream, call.opener));
    } else {
        let key = info.and_then(|info| cx.stack.endpoint().identity_of(info.peer));
        let pin = key.and_then(|key| cx.stack.endpoint().trust().pin(&key));
        let failure = match ended {
            // The peer has told the reason meanwhile.
            Some(StreamEnd::Refused) if pin.is_some_and(|pin| pin.is_denied(call.port)) => {
                Failure::not_granted(&call.name, call.port)
            }
            _ => Failure::from_end(ended.unwrap_or(StreamEnd::Reset), &call.name, call.port),
        };
        cx.stack.close(cx.now, stream);
        cx.out.push(Effect::NotOpened(call.opener, failure));
    }
}

/// The peer has not answered in time.
pub(crate) fn expired(cx: &mut Context, call: Connect) {
    let known = cx.stack.stream_info(call.stream).map(|info| silence(cx, info.peer)).unwrap_or_default();
    let text = format!("{} did not answer on port {} in time{known}", call.name, call.port);
    give_up(cx, call, Failure::new(Code::Timeout, text).hint("pilotctl ping; pilotctl peers"));
}

/// What is known of a peer that does not answer, in words that follow others: how it was reached and heard last, and what the
/// rendezvous says of it.
fn silence(cx: &Context, peer: PeerId) -> String {
    let Some(info) = cx.stack.endpoint().peer_info(cx.now, peer) else { return String::new() };
    let mut text = match info.path {
        None => ": no path is known".to_owned(),
        Some(PathAddr::Direct(addr) | PathAddr::Side(addr, _)) => format!(": reached directly at {addr}"),
        Some(PathAddr::Relay(_)) => ": reached by the relay".to_owned(),
    };
    let mut tell = |what: &str, since: Option<Instant>| {
        if let Some(since) = since {
            text.extend([what, &cx.now.since(since).as_secs().to_string(), " s ago"]);
        }
    };
    tell(", last heard ", info.last_received);
    tell(", not connected to the rendezvous as it said ", info.away_since);
    text
}

/// Gives up the connects of a client: that of one request, or all. Gives their number.
pub(crate) fn cancel(cx: &mut Context, client: ClientId, request: Option<RequestNumber>) -> usize {
    let tickets = cx.calls.tickets(|call| match call {
        Call::Connect(Connect { opener: Opener::Client(of, number), .. }) => {
            *of == client && request.is_none_or(|wanted| wanted == *number)
        }
        Call::Connect(Connect { opener: Opener::Framed(of), .. }) => *of == client && request.is_none(),
        _ => false,
    });
    for ticket in &tickets {
        if let Some(Call::Connect(call)) = cx.calls.take(*ticket) {
            give_up(cx, call, Failure::new(Code::ConnectionReset, "the connect was cancelled"));
        }
    }
    tickets.len()
}

fn give_up(cx: &mut Context, call: Connect, failure: Failure) {
    cx.stack.abort(cx.now, call.stream);
    cx.out.push(Effect::NotOpened(call.opener, failure));
}
