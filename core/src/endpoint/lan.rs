//! Owns what nodes of one network announce to each other without a rendezvous: a list of marks, each of which one peer alone
//! recognises (`docs/paths.md`, "Without a rendezvous on one network").

use super::{Endpoint, PeerId};
use crate::codec::Put as _;
use crate::noise::StaticShared;
use crate::path::{PathAddr, is_acceptable_candidate};
use crate::peer::{Peer, Role};
use crate::time::Instant;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// What every announcement begins with.
const MAGIC: [u8; 4] = *b"PNL1";
/// Bytes before the marks: the magic, the slot, a random number, the port.
const HEADER_LEN: usize = 18;
const MARK_LEN: usize = 8;
/// Peers that one announcement is for; with more, chance decides. Source: own choice, what a datagram of 1216 bytes holds.
const MARKS_MAX: usize = 128;
/// The number of marks is a multiple of this, so that it hardly tells how many peers a node has. Source: own choice.
const MARKS_STEP: usize = 8;
/// Time for which an announcement is worth something, before and after its slot as well. Unit: seconds. Source: own choice, clocks
/// of one network agree so far.
const SLOT_S: u64 = 300;
/// Key agreements that one announcement costs, for peers beyond those with a known secret. Source: own choice, a millisecond.
const AGREEMENTS_MAX: usize = 16;
/// Longest announcement. Unit: bytes.
pub const ANNOUNCEMENT_LEN_MAX: usize = HEADER_LEN + MARKS_MAX * MARK_LEN;

impl Endpoint {
    /// An announcement that leaves from `from`, with this node's port, for peers to which there is no direct path; `None`
    /// when there are no such peers.
    pub fn announcement(&mut self, now: Instant, from: SocketAddr) -> Option<Vec<u8>> {
        let mut missed = self.missed(now);
        let len = missed.len();
        missed.rotate_left(self.rng.below(len.max(1) as u64) as usize);
        let mut out = Vec::with_capacity(HEADER_LEN + len.min(MARKS_MAX) * MARK_LEN);
        out.put(&MAGIC);
        out.put(&((self.wall_s(now) / SLOT_S) as u32).to_be_bytes());
        out.put(&self.rng.bytes::<8>());
        out.put(&from.port().to_be_bytes());
        let own = self.identity.static_key().0;
        let (mut marks, mut agreements) = (Vec::new(), 0);
        for id in missed.into_iter().take(MARKS_MAX) {
            let mark = self.pair_secret(id, &mut agreements).map(|secret| mark(secret, &out, from.ip(), &own));
            marks.extend(mark);
        }
        if marks.is_empty() {
            return None;
        }
        while !marks.len().is_multiple_of(MARKS_STEP) {
            let at = self.rng.below(marks.len() as u64 + 1) as usize;
            marks.insert(at, self.rng.bytes());
        }
        marks.iter().for_each(|mark| out.put(mark));
        debug_assert!(out.len() <= ANNOUNCEMENT_LEN_MAX, "an announcement is one datagram");
        Some(out)
    }

    /// Takes an announcement that came from `from`; true when a trusted peer made it for this node, of this address, and lately. The
    /// peer is then sent one INIT there, or probes in a tunnel that stands, as far as an unproven address allows.
    pub fn handle_announcement(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> bool {
        let Some((addr, id)) = self.announcer(now, from, bytes) else { return false };
        let own = self.directory.addresses();
        let is_near = is_link_local(addr.ip()) && addr.port() != 0 && !own.contains(&addr);
        let Some(entry) = self.peers.get_mut(&id).filter(|_| is_near || is_acceptable_candidate(&addr, &own)) else {
            return false;
        };
        let to = PathAddr::Direct(addr);
        let has_news = entry.peer.paths.add(to);
        if entry.peer.is_up(now) {
            entry.peer.paths.on_candidates(now, has_news);
            self.touch(id);
        } else if entry.peer.paths.may_try(now, to) {
            entry.peer.link.ping();
            let is_under_way = entry.peer.handshake().is_some();
            self.touch(id);
            self.tend(now, id); // begins a key handshake if there is none
            if let Some(entry) = self.peers.get_mut(&id)
                && (is_under_way || !entry.peer.paths.is_open(to))
            {
                entry.peer.send_init(to);
            }
        }
        true
    }

    /// The address that an announcement names, and the peer that has made it.
    fn announcer(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Option<(SocketAddr, PeerId)> {
        let (header, marks) = bytes.split_at_checked(HEADER_LEN)?;
        let slot = u64::from(u32::from_be_bytes(header[4..8].try_into().ok()?));
        let is_timely = slot.abs_diff(self.wall_s(now) / SLOT_S) <= 1;
        if header[..4] != MAGIC || !is_timely || bytes.len() > ANNOUNCEMENT_LEN_MAX {
            return None;
        }
        let mut agreements = 0;
        let id = self.missed(now).into_iter().find(|id| {
            let Some(key) = self.peers.get(id).map(|entry| entry.peer.static_key.0) else { return false };
            let secret = self.pair_secret(*id, &mut agreements);
            let expected = secret.map(|secret| mark(secret, header, from.ip(), &key));
            expected.is_some_and(|expected| marks.chunks_exact(MARK_LEN).any(|mark| mark == expected))
        })?;
        let mut addr = from;
        addr.set_port(u16::from_be_bytes([header[16], header[17]]));
        Some((addr, id))
    }

    /// Trusted peers to which there is no direct path now.
    fn missed(&self, now: Instant) -> Vec<PeerId> {
        let is_direct = |peer: &Peer| peer.is_up(now) && peer.paths.selected().is_some_and(PathAddr::is_direct);
        let is_missed = |peer: &Peer| peer.role == Role::Trusted && !is_direct(peer);
        self.peers.iter().filter(|(_, entry)| is_missed(&entry.peer)).map(|(id, _)| *id).collect()
    }

    /// The secret that this node's static key and a peer's share. Computed at most [`AGREEMENTS_MAX`] times, and then known.
    fn pair_secret(&mut self, id: PeerId, agreements: &mut usize) -> Option<&StaticShared> {
        let peer = &mut self.peers.get_mut(&id)?.peer;
        if peer.shared.is_none() && *agreements < AGREEMENTS_MAX {
            *agreements += 1;
            peer.shared = StaticShared::new(self.identity.static_pair(), &peer.static_key.0);
        }
        peer.shared.as_ref()
    }
}

/// The mark by which one peer recognises an announcement with this header that the owner of `static_key` sends from `ip`.
fn mark(secret: &StaticShared, header: &[u8], ip: IpAddr, static_key: &[u8; 32]) -> [u8; MARK_LEN] {
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    secret.mark("pilot lan", &[&header[..HEADER_LEN], &ip.octets(), static_key])
}

const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
