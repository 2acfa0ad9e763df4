//! Owns the way in: a peer's DATA datagram from its tag to its frames.
//!
//! Index → age → tag → replay window → HELLO → frames. Nothing of a datagram counts before its tag has verified
//! (`docs/wire.md`, "Rules").

use super::{Counterpart, Liveness, Peer, REST_AFTER, Role};
use crate::codec::Reader;
use crate::discard::Discard;
use crate::identity::NodeRecord;
use crate::inner::Sink;
use crate::link::Urgency;
use crate::link::frame::{Frame, Frames};
use crate::path::{PathAddr, Prober};
use crate::time::Instant;
use crate::tunnel::session::{Indexes, OpenError};
use crate::wire::{Counter, LocalIndex};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Where and when a DATA datagram came, and what its header says.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) now: Instant,
    pub(crate) from: PathAddr,
    pub(crate) receiver: LocalIndex,
    pub(crate) counter: Counter,
}

/// What a datagram told that the endpoint must know.
#[derive(Default)]
pub(crate) struct Effects {
    /// Messages of the control stream.
    pub(crate) control: Vec<Vec<u8>>,
    /// Messages that came beside it.
    pub(crate) early: Vec<Vec<u8>>,
    /// The peer is another process than before: everything in flight is lost.
    pub(crate) restarted: bool,
    /// A tunnel can be used where none could before: the peer wants to know where this node is.
    pub(crate) is_fresh: bool,
    /// The peer has been told that with the RESP already.
    pub(crate) was_told: bool,
    /// A verified record, new to us, of a peer that is not pinned.
    pub(crate) introduced: Option<Box<NodeRecord>>,
    /// The peer ends the tunnel, for this reason.
    pub(crate) closed: Option<u8>,
    /// A tunnel stands where none stood before.
    pub(crate) established: bool,
    /// The peer's control stream makes no sense any more: the tunnel must end.
    pub(crate) broken: bool,
}

impl Peer {
    /// Opens a DATA datagram and handles its frames. `effects` are valid even when a frame is refused.
    pub(crate) fn handle_data(
        &mut self,
        arrival: Arrival,
        datagram: &mut [u8],
        prober: &mut Prober<'_>,
        sink: &mut dyn Sink,
        effects: &mut Effects,
    ) -> Result<(), Discard> {
        let (Arrival { now, from, receiver, counter }, len) = (arrival, datagram.len());
        let session = self.sessions.find_mut(receiver).ok_or(Discard::UnknownIndex)?;
        if now >= session.reject_at() {
            return Err(Discard::ExpiredSession);
        }
        // Its pin has introduced a peer that is trusted: what overtakes its HELLO counts.
        let introduced = session.introduced || self.role == Role::Trusted;
        let (indexes, is_mixed) = (session.indexes, session.is_mixed());
        let (plaintext, newest) = session.open(counter, datagram).map_err(|e| match e {
            OpenError::Replay => Discard::Replay,
            OpenError::Tag | OpenError::Counter => Discard::Tag,
        })?;
        self.bytes_received += len as u64;
        self.last_received = Some(now);
        self.rest_at.get_or_insert(now + REST_AFTER);
        self.set_away(now, false);
        self.promote(arrival, effects);
        self.note_kem_used(receiver);
        self.paths.on_authentic(now, (from, len), newest, prober);
        let urgency = self.handle_frames(arrival, (indexes, introduced, is_mixed), plaintext, prober, sink, effects)?;
        self.link.on_received(now, receiver, counter, urgency);
        Ok(())
    }

    /// Seals under the session that waits in `next` from now on, if the initiator has used it.
    fn promote(&mut self, Arrival { now, from, receiver, counter }: Arrival, effects: &mut Effects) {
        let Some(session) = self.sessions.take_next(receiver) else { return };
        let (had_keys, was_up, created) = (self.sessions.current().is_some(), self.is_up(now), session.created);
        effects.was_told = self.paths.told_at() >= created;
        self.paths.on_resp_used(now, from, self.stands(now, &session));
        effects.restarted = self.make_current(now, session).1;
        effects.established = !had_keys || effects.restarted;
        effects.is_fresh = !was_up || effects.restarted;
        if counter == Counter(0) {
            self.on_round_trip(from, now.since(created)); // later datagrams may have been lost before
        }
        debug_assert!(self.is_up(now), "a session that just opened a datagram can seal");
    }

    fn handle_frames(
        &mut self,
        Arrival { now, from, .. }: Arrival,
        (Indexes { local, remote }, mut introduced, is_mixed): (Indexes, bool, bool),
        plaintext: &[u8],
        prober: &mut Prober<'_>,
        sink: &mut dyn Sink,
        effects: &mut Effects,
    ) -> Result<Urgency, Discard> {
        let mut urgency = Urgency::None;
        for frame in Frames::new(plaintext) {
            match frame.map_err(|_| Discard::Malformed)? {
                Frame::Padding => {}
                Frame::Ack(ack) => {
                    self.link.on_ack(now, remote, &ack);
                    if self.link.unanswered_probes() == 0
                        && core::mem::replace(&mut self.liveness, Liveness::Answers) == Liveness::Silent
                    {
                        self.paths.on_answering();
                    }
                }
                Frame::Probe(id) => self.paths.on_probe(now, from, id, prober),
                Frame::ProbeOk(id) => {
                    self.paths.on_probe_ok(now, id, from);
                    self.link.on_passed();
                }
                Frame::Hello(hello) => {
                    self.handle_hello(local, hello, effects)?;
                    (introduced, urgency) = (true, Urgency::Normal);
                }
                Frame::Early(message) if self.role == Role::Trusted => effects.early.push(message.into()),
                _ if !introduced => return Err(Discard::BeforeHello),
                Frame::Packet(_) | Frame::PureAck(_) | Frame::Loose(_) if !is_mixed => return Err(Discard::NotMixed),
                Frame::Packet(bytes) => {
                    urgency = Urgency::Normal;
                    sink.packet(self.id, bytes);
                }
                Frame::PureAck(bytes) => {
                    urgency = urgency.max(Urgency::Relaxed);
                    sink.packet(self.id, bytes);
                }
                Frame::Loose(bytes) => {
                    urgency = Urgency::Normal;
                    sink.loose(self.id, bytes);
                }
                Frame::Control { offset, bytes } => {
                    urgency = Urgency::Normal;
                    let messages = self.link.on_control(offset, bytes);
                    effects.broken |= messages.is_none();
                    effects.control.extend(messages.ok_or(Discard::Malformed)?);
                }
                Frame::Ping => urgency = Urgency::Normal,
                Frame::Close(reason) => effects.closed = Some(reason),
                Frame::Early(_) => return Err(Discard::Malformed),
            }
        }
        Ok(urgency)
    }

    /// Takes a HELLO: the peer's signed record, which binds its identity to the key that the key handshake has proven.
    fn handle_hello(&mut self, local: LocalIndex, hello: &[u8], effects: &mut Effects) -> Result<(), Discard> {
        let bytes = Reader::new(hello).bytes(NodeRecord::LEN_MAX).map_err(|_| Discard::Malformed)?;
        // A pin binds both keys already: no signature says more. A record that was verified before needs no second look
        // either, but another process is introduced anew.
        let is_pinned = self.role == Role::Trusted;
        let is_known = is_pinned || self.remote_record == bytes;
        let has_met = matches!(self.counterpart, Counterpart::Met(_));
        if !(is_known && has_met) {
            let parse = if is_known { NodeRecord::parse_unverified } else { NodeRecord::parse };
            let record = parse(bytes).map_err(|_| Discard::Malformed)?;
            if record.static_key != self.static_key || self.identity.is_some_and(|known| known != record.identity) {
                return Err(Discard::WrongIdentity);
            }
            self.identity = Some(record.identity);
            if !is_pinned {
                self.remote_record = bytes.into();
                effects.introduced = Some(Box::new(record));
            }
            self.counterpart.move_to_met();
        }
        if let Some(session) = self.sessions.find_mut(local) {
            session.introduced = true;
        }
        Ok(())
    }
}
