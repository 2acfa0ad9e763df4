//! Owns the course of connections with a filter: what follows when their bytes were moved.

use crate::context::Context;
use crate::effect::Effect;
use crate::failure::{Code, Failure};
use crate::programs::dial::Dialed;
use crate::programs::entry::Expose;
use crate::programs::filter::Filter;
use crate::programs::http::{Exposed, HEAD_TIME, Peer};
use crate::programs::joint::{Phase, local_address};
use crate::programs::joint_id::JointId;
use crate::programs::proxy_protocol;
use crate::programs::relay::{End, Moved, Relay, Server};
use crate::programs::room::Programs;
use crate::programs::target::Target;
use crate::streams::names::{ends, name_of};
use crate::streams::socket::FdStream;
use pilot_core::identity::IdentityKey;
use pilot_stack::StreamId;
use std::time::Duration;

/// How long a refused client may still speak, so that the last bytes to it arrive. Own choice.
const CLOSING_TIME: Duration = Duration::from_secs(2);
/// Steps of one call before the loop goes on with others. Own choice.
const STEPS_MAX: usize = 16;

/// The filter between a peer's stream and the program behind an exposed port, and the bytes that the program gets first;
/// `None` when the program wants neither.
pub(super) fn introduce(
    cx: &Context,
    expose: &Expose,
    stream: StreamId,
    key: &IdentityKey,
) -> Option<(Filter, Vec<u8>)> {
    if !expose.http && !expose.proxy_protocol {
        return None;
    }
    let (ours, theirs) = ends(&cx.stack, stream);
    let name = cx.stack.endpoint().trust().pin(key).map(name_of).unwrap_or_default();
    let (address, fingerprint) = (theirs.addr.to_string(), key.fingerprint());
    let first = match expose.proxy_protocol {
        true => proxy_protocol::header(theirs, ours, &fingerprint, &name),
        false => Vec::new(),
    };
    if !expose.http {
        return Some((Filter::Raw, first));
    }
    let host = match &expose.target {
        Target::Unix(_) => "localhost".to_owned(),
        target => target.to_string(),
    };
    let peer = Peer { name: &name, address: &address, fingerprint: &fingerprint };
    Some((Filter::exposed(Exposed::new(host, &peer, expose.a2a)), first))
}

impl Programs {
    /// Moves the bytes of a connection with a filter, and does what follows.
    pub(super) fn move_relay(&mut self, cx: &mut Context, id: JointId) {
        for _ in 0..STEPS_MAX {
            let Some(relay) = self.relay(id) else { return };
            let moved = relay.pump(&mut cx.stack);
            if !self.follow(cx, id, moved) {
                return self.set_patience(cx, id);
            }
        }
        self.again.push(id);
    }

    /// Does what an unusual step asks for, and moves on.
    fn go_on(&mut self, cx: &mut Context, id: JointId, step: Result<(), Moved>) {
        let goes_on = match step {
            Ok(()) => true,
            Err(moved) => self.follow(cx, id, moved),
        };
        if goes_on {
            self.move_relay(cx, id);
        }
    }

    fn relay(&mut self, id: JointId) -> Option<&mut Relay> {
        match self.joints.get_mut(id).map(|joint| &mut joint.phase) {
            Some(Phase::Relayed(relay)) => Some(relay),
            _ => None,
        }
    }

    /// Does what the last step asks for; true when another step may follow at once.
    fn follow(&mut self, cx: &mut Context, id: JointId, moved: Moved) -> bool {
        match moved {
            Moved::On(has_more) => {
                if has_more {
                    self.again.push(id);
                }
                false
            }
            Moved::Wants(to, waits) => {
                let moved = self.reach(cx, id, &to, waits);
                self.follow(cx, id, moved)
            }
            Moved::Raw => {
                self.unfilter(cx, id);
                false
            }
            Moved::Closing(why) => {
                self.let_server_go(cx, id, why.as_deref());
                true
            }
            Moved::Finished => {
                self.end_relay(cx, id, false);
                false
            }
            Moved::Broken(why) => {
                if let Some(entry) = self.joints.get_mut(id).map(|joint| joint.entry) {
                    self.note_failure(cx, entry, &why);
                }
                self.end_relay(cx, id, true);
                false
            }
        }
    }

    fn end_relay(&mut self, cx: &mut Context, id: JointId, is_reset: bool) {
        let stream = self.joints.get_mut(id).and_then(|joint| joint.stream);
        self.end(id, is_reset);
        cx.out.extend(stream.map(if is_reset { Effect::Abort } else { Effect::Close }));
    }

    /// Lets the server of a client go that gets its last bytes: in order, or with a reset when there is a reason.
    fn let_server_go(&mut self, cx: &mut Context, id: JointId, why: Option<&str>) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Relayed(relay) = &mut joint.phase else { return };
        let entry = joint.entry;
        if let Server::Joined(End::Stream(_)) = std::mem::replace(&mut relay.server, Server::Nowhere) {
            let effect = if why.is_some() { Effect::Abort } else { Effect::Close };
            cx.out.extend(joint.stream.take().map(effect));
        }
        self.joints.set_deadline(id, Some(cx.now + CLOSING_TIME));
        if let Some(why) = why {
            self.note_failure(cx, entry, why);
        }
    }

    /// Lets the bytes of a connection pass unseen from now on.
    fn unfilter(&mut self, cx: &mut Context, id: JointId) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Relayed(relay) = std::mem::replace(&mut joint.phase, Phase::Between) else { return };
        if let Some(socket) = relay.into_socket() {
            joint.phase = Phase::Joined(FdStream::new(socket));
        }
        debug_assert!(matches!(joint.phase, Phase::Joined(_)), "one end is a socket and the other a stream");
        cx.out.extend(joint.stream.map(Effect::Ready));
        self.joints.set_deadline(id, None);
    }

    /// Sets the end of the patience with a client, and with a server that is called.
    fn set_patience(&mut self, cx: &Context, id: JointId) {
        let Some(relay) = self.relay(id) else { return };
        if relay.is_closing() || matches!(relay.server, Server::Dialing(_)) {
            return;
        }
        let due = relay.awaited_since(cx.now).map(|since| since + HEAD_TIME);
        self.joints.set_deadline(id, due);
    }

    /// The kernel has reported readiness of one of the sockets.
    pub(super) fn relay_ready(&mut self, cx: &mut Context, id: JointId, (readable, writable): (bool, bool)) {
        let Some(relay) = self.relay(id) else { return };
        relay.note(readable, writable);
        match relay.server {
            Server::Dialing(_) => self.dial_server(cx, id),
            _ => self.move_relay(cx, id),
        }
    }

    /// Goes on with the call of a server.
    pub(super) fn dial_server(&mut self, cx: &mut Context, id: JointId) {
        let token = Self::joint_token(id);
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Relayed(relay) = &mut joint.phase else { return };
        let Server::Dialing(dial) = &mut relay.server else { return };
        let moved = match dial.progress(cx.now, &self.registry, token) {
            Dialed::Waits(until) => {
                self.joints.set_deadline(id, Some(until));
                return self.move_relay(cx, id);
            }
            Dialed::Connected(socket) => {
                joint.local = local_address(&socket);
                relay.joined(End::socket(socket))
            }
            Dialed::Failed(why) => {
                let text = format!("the program behind this port cannot be reached: {why}");
                Err(relay.unreached(&Failure::new(Code::ConnectionRefused, text)))
            }
        };
        self.go_on(cx, id, moved);
    }

    /// The stream to the server that a client wants stands.
    pub(super) fn relay_opened(&mut self, cx: &mut Context, id: JointId, stream: StreamId) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Relayed(relay) = &mut joint.phase else { return };
        joint.stream = Some(stream);
        let moved = relay.joined(End::Stream(stream));
        self.go_on(cx, id, moved);
    }

    /// The server that a client wants cannot be reached.
    pub(super) fn relay_not_opened(&mut self, cx: &mut Context, id: JointId, failure: &Failure) {
        let Some(relay) = self.relay(id) else { return };
        let moved = relay.unreached(failure);
        self.go_on(cx, id, Err(moved));
    }

    /// The end of the patience has come.
    pub(super) fn relay_due(&mut self, cx: &mut Context, id: JointId) {
        let Some(relay) = self.relay(id) else { return };
        if relay.is_closing() {
            return self.end_relay(cx, id, false);
        }
        if matches!(relay.server, Server::Dialing(_)) {
            return self.dial_server(cx, id);
        }
        let moved = relay.too_slow();
        self.go_on(cx, id, Err(moved));
    }
}
