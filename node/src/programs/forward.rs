//! Owns the forwards: their requests, and the streams that they open for programs.

use crate::answer::{Forward, Forwards};
use crate::calls::{connect, resolve};
use crate::context::Context;
use crate::effect::Opener;
use crate::failure::{Code, Failure};
use crate::programs::entry::{Entry, Kind, Life, Listener};
use crate::programs::joint::Phase;
use crate::programs::joint_id::JointId;
use crate::programs::listen::Listen;
use crate::programs::room::{ENTRIES_MAX, Programs};
use crate::streams::names::name_of;
use pilot_core::identity::IdentityKey;
use pilot_stack::EARLY_LEN_MAX;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long a program's first bytes are waited for, so that they travel with the question for the stream. Own choice: most
/// clients speak within 0.1 ms of connecting.
const EARLY_WAIT: Duration = Duration::from_millis(2);
/// Round trip from which on that pays: one round trip is won, and [`EARLY_WAIT`] may be lost. Own choice.
const EARLY_RTT_MIN: Duration = Duration::from_millis(5);

/// A forward as it was asked for.
pub(crate) struct ForwardTerms {
    pub(crate) listen: String,
    /// The socket beside the request.
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) node: String,
    pub(crate) port: u16,
}

impl Programs {
    /// Sets up a forward, which listens from now on. `must_listen`: otherwise an address that cannot be bound is tried again.
    ///
    /// # Errors
    /// `InvalidArgument`, `Conflict` when the address is taken, `Full`.
    pub(crate) fn forward(
        &mut self,
        cx: &Context,
        terms: ForwardTerms,
        life: Life,
        must_listen: bool,
    ) -> Result<Forward, Failure> {
        let ForwardTerms { listen, fd, node, port } = terms;
        if port == 0 {
            return Err(Failure::new(Code::InvalidArgument, "port 0 belongs to no program"));
        }
        resolve::query(&node)?;
        let listen = Listen::asked(&listen, fd.as_ref(), life == Life::Kept)?;
        let forwards = self.entries.iter().filter(|e| matches!(e.kind, Kind::Forward { .. })).count();
        if forwards >= ENTRIES_MAX {
            return Err(Failure::new(Code::Full, format!("there are {ENTRIES_MAX} forwards")));
        }
        let is_same = |e: &Entry| matches!(&e.kind, Kind::Forward { listener, .. } if listener.listen == listen);
        if self.entries.iter().any(is_same) {
            let failure = Failure::new(Code::Conflict, format!("{listen} is forwarded already"));
            return Err(failure.hint(format!("pilotctl forward --remove {listen}")));
        }
        let number = self.next_number();
        let listener = Listener::begin(listen, fd, must_listen, (cx.now, &self.registry, number))?;
        if listener.door.is_none() {
            self.note_closed(&listener);
        }
        let entry = Entry::new(number, life, Kind::Forward { listener, node, port });
        let answer = entry.as_forward();
        self.entries.push(entry);
        answer.ok_or_else(|| Failure::new(Code::Internal, "a forward of another kind"))
    }

    /// Removes the forward at this address; connections that stand go on.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument`.
    pub(crate) fn unforward(&mut self, listen: &str) -> Result<(Forward, Life), Failure> {
        let listen = Listen::parse(listen)?;
        let is_it = |e: &&Entry| matches!(&e.kind, Kind::Forward { listener, .. } if listener.listen == listen);
        let number = self.entries.iter().find(is_it).map(|e| e.number);
        let removed = number.and_then(|number| self.remove_entry(number));
        let removed = removed.and_then(|entry| Some((entry.as_forward()?, entry.life)));
        removed.ok_or_else(|| {
            Failure::new(Code::NotFound, format!("nothing is forwarded at {listen}")).hint("pilotctl forward --list")
        })
    }

    /// Lists the forwards.
    pub(crate) fn forwards(&self) -> Forwards {
        let forwards: Vec<Forward> = self.entries.iter().filter_map(Entry::as_forward).collect();
        Forwards { total: forwards.len() as u64, forwards }
    }

    /// Opens the stream for a program that has connected, together with the program's first bytes. On a long path these are
    /// waited for first, once.
    pub(super) fn ask_peer(&mut self, cx: &mut Context, id: JointId) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let (number, has_waited) = (joint.entry, joint.has_waited);
        let Phase::Early(wire) = &joint.phase else { return };
        let mut early = vec![0; EARLY_LEN_MAX];
        match recv(&wire.socket, &mut early[..], RecvFlags::DONTWAIT) {
            Ok((_, len)) => early.truncate(len),
            Err(Errno::AGAIN | Errno::INTR) => early.clear(),
            Err(_) => return self.end(id, true), // the program has gone
        }
        let Some(Kind::Forward { node, port, .. }) = self.entry_mut(number).map(|entry| &entry.kind) else {
            return self.end(id, true); // removed meanwhile
        };
        let (node, port) = (node.clone(), *port);
        let trust = cx.stack.endpoint().trust();
        let pin = resolve::pinned(trust, &node).ok().map(|pin| (pin.identity, name_of(pin)));
        if early.is_empty() && !has_waited && pin.as_ref().is_some_and(|(key, _)| is_far(cx, key)) {
            if let Some(joint) = self.joints.get_mut(id) {
                joint.has_waited = true;
            }
            return self.joints.set_deadline(id, Some(cx.now + EARLY_WAIT));
        }
        self.joints.set_deadline(id, None);
        if let Some(joint) = self.joints.get_mut(id)
            && let Phase::Early(wire) = std::mem::replace(&mut joint.phase, Phase::Between)
        {
            joint.phase = Phase::Opening(wire);
        }
        match pin {
            Some((key, name)) => drop(connect::connect_to(cx, &key, (name, port), early, Opener::Program(id))),
            None => connect::connect(cx, &node, port, early, Opener::Program(id)),
        }
    }
}

/// True when the round trip to a peer is so long that a program's first bytes are worth waiting for.
fn is_far(cx: &Context, key: &IdentityKey) -> bool {
    let endpoint = cx.stack.endpoint();
    let rtt = endpoint.peer_by_identity(key).and_then(|peer| endpoint.srtt(peer));
    rtt.is_some_and(|rtt| rtt >= EARLY_RTT_MIN)
}
