//! Owns what an endpoint does about the paths of its peers: which change is told, and when this node's candidates leave.

use super::{Endpoint, Event, PathChange, PeerId};
use crate::control::{Candidates, Control};
use crate::path::{PathAddr, PathNews};
use crate::peer::Role;
use crate::time::{Duration, Instant};
use crate::trace::{Level, Trace};

/// Shortest pause between two lists of candidates for a peer that a lost path causes. Source: `docs/paths.md`, "Rules".
const TELL_PAUSE: Duration = Duration::from_secs(1);

impl Endpoint {
    /// Acts on what the paths of a peer have decided. What was under way on a path that was given up goes again at once, and after
    /// the loss of a direct path both sides tell each other where they are.
    pub(super) fn follow_paths(&mut self, now: Instant, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id).filter(|entry| entry.peer.paths.has_news()) else { return };
        let (mut has_changed, mut has_size, mut has_lost_direct, mut fruitless) = (false, false, false, None);
        for news in entry.peer.paths.take_news(now) {
            let trace = match news {
                PathNews::Chosen { from, to, why } => Trace::PathChosen { peer: id, from, to, why },
                PathNews::Silent(path) => Trace::PathSilent { peer: id, path },
                PathNews::Size(len) => Trace::PathSize { peer: id, len },
                PathNews::Fruitless(round, is_late) => {
                    fruitless = Some((round, is_late));
                    continue;
                }
            };
            self.events.trace.push(Level::Info, || trace);
            if let PathNews::Chosen { from: Some(from), to, why } = news {
                has_changed = true;
                self.events.push_back(Event::PathChanged(id, Some(PathChange { from, to, why })));
                if !entry.peer.paths.is_valid(from) {
                    entry.peer.link.on_path_lost();
                }
                has_lost_direct |= from.is_direct() && !to.is_direct();
            }
            has_size |= matches!(news, PathNews::Size(_));
        }
        let (key, path) = (entry.peer.identity, entry.peer.paths.selected());
        if has_size && !has_changed {
            self.events.push_back(Event::PathChanged(id, None));
        }
        if has_size || has_changed {
            self.follow_rendezvous(id);
            if let (Some(key), Some(PathAddr::Direct(addr))) = (key, path) {
                self.directory.note_endpoint(&key, addr);
            }
        }
        if has_lost_direct {
            self.seek_direct(now, id);
        }
        if let Some(fruitless) = fruitless {
            self.on_fruitless(now, id, fruitless);
        }
        self.tidy_sources(id);
    }

    /// Leaves a path that a NAT may have forgotten while the rendezvous relays.
    pub(super) fn leave_stale_path(&mut self, now: Instant, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id).filter(|_| self.directory.is_ready()) else { return };
        if entry.peer.leave_stale_path(now) {
            self.seek_direct(now, id);
        }
    }

    /// Tells a peer where this node is, and asks the rendezvous where it sees this node: both may have changed unnoticed.
    fn seek_direct(&mut self, now: Instant, id: PeerId) {
        let peer = self.peers.get(&id).map(|entry| &entry.peer).filter(|peer| peer.role == Role::Trusted);
        let Some(told_at) = peer.map(|peer| peer.paths.told_at()) else { return };
        if now.since(told_at) >= TELL_PAUSE {
            self.send_candidates(now, id, false);
        }
        if self.directory.asks_where(now)
            && let Some(rendezvous) = self.rendezvous_peer()
        {
            // Its newest datagram shows the rendezvous where this node is, which tells what is news.
            self.peers.get_mut(&rendezvous).into_iter().for_each(|entry| entry.peer.link.ping());
            self.touch(rendezvous);
        }
    }

    /// Tells a trusted peer this node's candidates; `seeks` as in [`Paths::on_told`](crate::path::Paths::on_told).
    pub(super) fn send_candidates(&mut self, now: Instant, id: PeerId, seeks: bool) {
        let Some(entry) = self.peers.get_mut(&id).filter(|entry| entry.peer.role == Role::Trusted) else { return };
        entry.peer.paths.on_told(now, seeks);
        self.send_control(id, &self.candidates_to_tell());
    }

    /// Tells a peer together with the RESP that leaves over a relay what it needs next, and offers a key where the pair has no
    /// KEM secret: half a round trip earlier than its first datagram under the new keys would ask for that.
    pub(super) fn tell_early(&mut self, now: Instant, id: PeerId, to: PathAddr) {
        self.offer_kem_early(id, to);
        let message = self.candidates_to_tell().emit();
        let Some(entry) = self.peers.get_mut(&id) else { return };
        if entry.peer.say_early(to, &message) {
            entry.peer.paths.on_told(now, false);
        }
    }

    /// Tells a peer what [`Endpoint::tell_early`] has told, since that may have been lost.
    pub(super) fn repeat_candidates(&mut self, id: PeerId) {
        self.send_control(id, &self.candidates_to_tell());
    }

    fn candidates_to_tell(&self) -> Control {
        let (list, mapped) = (self.directory.candidates(), self.directory.mapped().to_vec());
        Control::Candidates(Candidates { list, mapped, nat: self.nat() })
    }
}
