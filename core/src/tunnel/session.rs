//! Owns one key epoch with a peer: both traffic keys, the send counter and the replay window.

use super::handshake::{Age, Incarnation, Introduction};
use super::replay::ReplayWindow;
use super::{
    COUNTER_MAX, ERASE_AFTER, REJECT_AFTER, REJECT_AFTER_RENDEZVOUS, REKEY_AFTER, REKEY_AFTER_DATAGRAMS,
    REKEY_AFTER_RENDEZVOUS,
};
use crate::aead::{AeadKey, AeadProvider, TAG_LEN};
use crate::noise::TrafficKeys;
use crate::time::{Duration, Instant};
use crate::wire::{Counter, DATA_HEADER_LEN, LocalIndex, RemoteIndex, emit_data_header};
use alloc::boxed::Box;
use core::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// The numbers that both ends gave to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indexes {
    /// Ours.
    pub local: LocalIndex,
    /// The peer's.
    pub remote: RemoteIndex,
}

/// The part of one end in the key handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It sent the INIT; it alone starts the next key handshake.
    Initiator,
    /// It sent the RESP.
    Responder,
}

/// Which ends a session has, which decides how long its keys may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Two nodes.
    #[default]
    Nodes,
    /// A node and its rendezvous.
    Rendezvous,
}

/// One finished key handshake: what is needed to seal and open DATA datagrams.
pub struct Session {
    /// Its numbers.
    pub indexes: Indexes,
    /// True on the side that sent the INIT; it alone starts the next handshake.
    pub side: Side,
    /// When the key handshake finished here.
    pub created: Instant,
    /// The peer's state of the link that this session belongs to.
    pub(crate) incarnation: Incarnation,
    /// The age of that state when the key handshake finished here.
    age: Age,
    /// Our state of the link as the peer was shown it, for a session that the peer began; otherwise that of the peer's entry.
    pub(crate) shown: Option<Box<Incarnation>>,
    ends: Ends,
    /// A KEM secret is in the keys, or need not be: inner packets may be sealed.
    is_mixed: bool,
    /// For the one KEM run that may begin in a session that is not mixed.
    exporter: Option<Box<Zeroizing<[u8; 32]>>>,
    /// The peer's HELLO has come under this session: its other frames may be handled.
    pub(crate) introduced: bool,
    provider: &'static dyn AeadProvider,
    send: Key,
    receive: Key,
    counter: Counter,
    window: ReplayWindow,
}

/// A traffic key, and the cipher's form of it while it is in use, which may be many times as large.
struct Key {
    bytes: [u8; 32],
    ready: Option<Box<dyn AeadKey>>,
}

impl Key {
    const fn new(bytes: [u8; 32]) -> Self {
        Self { bytes, ready: None }
    }

    fn ready(&mut self, provider: &dyn AeadProvider) -> &dyn AeadKey {
        &**self.ready.get_or_insert_with(|| provider.key(&self.bytes))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Why a DATA datagram did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Forged, damaged, or sealed under other keys.
    Tag,
    /// Seen before, or too old to tell.
    Replay,
    /// The counter lies beyond what a session may use.
    Counter,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tag => "the datagram does not open under the session's key",
            Self::Replay => "the datagram was opened before, or is too old to tell",
            Self::Counter => "the counter lies beyond a session's last",
        })
    }
}

impl core::error::Error for OpenError {}

impl Session {
    /// A session from a finished handshake. It has a copy of the keys, which is erased with it.
    pub fn new(
        provider: &'static dyn AeadProvider,
        keys: &TrafficKeys,
        indexes: Indexes,
        side: Side,
        now: Instant,
    ) -> Self {
        Self {
            indexes,
            side,
            created: now,
            incarnation: Incarnation::default(),
            age: Age::default(),
            shown: None,
            ends: Ends::default(),
            is_mixed: true,
            exporter: None,
            introduced: false,
            provider,
            send: Key::new(keys.send),
            receive: Key::new(keys.receive),
            counter: Counter(0),
            window: ReplayWindow::default(),
        }
    }

    /// The same session, with what the `peer` has said of itself.
    pub(crate) fn of(self, peer: Introduction, ends: Ends) -> Self {
        Self { incarnation: peer.incarnation, age: peer.age, ends, ..self }
    }

    /// The latest moment at which the peer's state of the link can have begun.
    pub(crate) fn peer_began(&self) -> Instant {
        self.age.began(self.created)
    }

    /// The same session, with the incarnation of ours that the peer was shown, where that is another one than before.
    pub(crate) fn shown(self, shown: Option<Incarnation>) -> Self {
        Self { shown: shown.map(Box::new), ..self }
    }

    /// The same session, as one of a pinned pair without a KEM secret in its keys: it carries no inner packets.
    pub(crate) fn unmixed(self, keys: &TrafficKeys) -> Self {
        Self { is_mixed: false, exporter: Some(Box::new(Zeroizing::new(keys.exporter))), ..self }
    }

    /// True when inner packets may be sealed and opened.
    pub(crate) const fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    /// The secret for a KEM run, which a session gives once.
    pub(crate) const fn take_exporter(&mut self) -> Option<Box<Zeroizing<[u8; 32]>>> {
        self.exporter.take()
    }

    /// The counter that the next sealed datagram will have.
    pub const fn next_counter(&self) -> Counter {
        self.counter
    }

    /// True while the session may still seal: young enough and its counter not exhausted.
    pub fn usable(&self, now: Instant) -> bool {
        now < self.reject_at() && self.counter.0 < COUNTER_MAX
    }

    /// True when a replacement should be negotiated.
    pub fn wants_rekey(&self, now: Instant) -> bool {
        self.side == Side::Initiator && (now >= self.rekey_at() || self.counter.0 >= REKEY_AFTER_DATAGRAMS)
    }

    /// When the session is to be replaced, if this side initiated it and uses it.
    pub(crate) fn rekey_at(&self) -> Instant {
        match self.ends {
            Ends::Nodes => self.created + REKEY_AFTER,
            // All nodes come back at once to a rendezvous that was restarted; random indexes draw their next key
            // handshakes apart.
            Ends::Rendezvous => {
                let apart = u64::from(self.indexes.local.0) % (REKEY_AFTER_RENDEZVOUS.as_secs() / 10);
                self.created + (REKEY_AFTER_RENDEZVOUS - Duration::from_secs(apart))
            }
        }
    }

    /// When the session neither seals nor opens any more.
    pub(crate) fn reject_at(&self) -> Instant {
        self.created
            + match self.ends {
                Ends::Nodes => REJECT_AFTER,
                Ends::Rendezvous => REJECT_AFTER_RENDEZVOUS,
            }
    }

    /// When the keys are erased though no others have taken their place; `heard` is when the peer last spoke.
    pub(crate) fn erase_at(&self, heard: Option<Instant>) -> Instant {
        match self.ends {
            Ends::Nodes => self.created + ERASE_AFTER,
            Ends::Rendezvous => {
                let heard = heard.map_or(self.created, |at| at.max(self.created));
                self.reject_at().min(heard + ERASE_AFTER)
            }
        }
    }

    /// Frees the cipher's form of the keys, which the next datagram makes again.
    pub(crate) fn rest(&mut self) {
        (self.send.ready, self.receive.ready) = (None, None);
    }

    /// Seals `datagram` in place: 16 bytes of header room, frames, 16 bytes of tag room.
    pub fn seal(&mut self, datagram: &mut [u8]) {
        debug_assert!(self.counter.0 < COUNTER_MAX, "callers ask `usable` first");
        let counter = self.counter;
        self.counter.0 += 1; // a counter is never used twice under a key
        let (header, body) = datagram.split_at_mut(DATA_HEADER_LEN);
        emit_data_header(header, self.indexes.remote, counter);
        self.send.ready(self.provider).seal(counter.0, header, body);
    }

    /// Opens a whole DATA datagram in place and returns its frames and whether it is the newest so far.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing in the session has changed then.
    pub fn open<'a>(&mut self, counter: Counter, datagram: &'a mut [u8]) -> Result<(&'a mut [u8], bool), OpenError> {
        if counter.0 >= COUNTER_MAX {
            return Err(OpenError::Counter);
        }
        let (header, body) = datagram.split_at_mut(DATA_HEADER_LEN);
        // PN1: tag before window, so that a forged counter changes nothing.
        if !self.receive.ready(self.provider).open(counter.0, header, body) {
            return Err(OpenError::Tag);
        }
        let newest = self.window.is_newest(counter);
        if !self.window.accept(counter) {
            return Err(OpenError::Replay);
        }
        let len = body.len() - TAG_LEN;
        Ok((&mut body[..len], newest))
    }
}
