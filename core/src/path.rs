//! Owns the ways to one peer: candidates, probes, the selected path and its datagram size.
//!
//! `Relayed (key handshake by relay, data flows) → Probing → Direct (relay kept) → Suspect → Relayed`: data goes first
//! over the path that works; a direct path is an upgrade found by probing. Probes are sealed frames, so that only the
//! peer can answer one, and a path is used only after an answer came over it (`docs/paths.md`, "Shape").

mod budget;
mod candidate;
mod choice;
mod history;
mod meet;
mod nat;
mod plan;
mod reason;
mod relays;
mod round;
mod size;
mod view;
mod way;

pub(crate) use budget::{ProbeBudget, Prober};
use candidate::is_local;
pub(crate) use candidate::{is_acceptable_candidate, is_reserved};
pub use history::Origin;
use nat::Acquaintance;
pub use nat::{Mapping, Nat, Ports};
pub(crate) use nat::{Sample, classify};
pub use plan::Meeting;
pub(crate) use plan::{Plan, Spread, plan};
pub use reason::PathReason;
pub use view::{Hindrance, Outlook};
pub use way::{PathAddr, Source};

use crate::codec::Put as _;
use crate::relay::RelayNumber;
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::timer::{PeerTimer, Soonest};
use crate::wire::{DATA_OVERHEAD, DATAGRAM_LEN_BASE};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;
use history::History;

/// Most paths per peer: 16 candidates of the peer's and 8 found otherwise. Source: `docs/paths.md`, "Rules".
pub const PATHS_MAX: usize = 24;
/// Most of them from other sockets than the node's own one. Source: own choice, twice what is predicted.
const SIDE_PATHS_MAX: usize = 8;
/// What an address that has not answered may be sent for each byte that came from there. Source: RFC 9000 §8.1.
pub(crate) const AMPLIFICATION_MAX: usize = 3;
/// Pause before candidates that are no news begin another round. Source: `docs/paths.md`, "Rules".
const ROUND_AGAIN: Duration = Duration::from_secs(1);
/// Silence after which a NAT may have forgotten a direct path. Source: own choice, below the 30 s that are common.
const STALE_AFTER: Duration = Duration::from_secs(20);
/// Pause after a round before another use of a relayed peer begins one. Source: `docs/paths.md`, "Rules".
const USE_PAUSE: Duration = Duration::from_secs(5);
/// Size of the datagram of a probe, or of its answer, without padding.
const PROBE_LEN: usize = DATA_OVERHEAD + 9;
/// Largest datagram that is ever tried. Unit: bytes. Source: UDP's limit, with room for the relay leg.
pub const DATAGRAM_LEN_MAX: usize = 65_000;
/// Most probes that wait for an answer.
const OUTSTANDING_MAX: usize = 64;
/// Decisions kept for the trace between two turns.
const NEWS_MAX: usize = 8;
/// Time after which an answer to a probe is ignored.
const PROBE_LIFETIME: Duration = Duration::from_secs(3);
/// Time after a probe in which no other one follows because the peer speaks from that address: a NAT of the peer may have lost the
/// probe before the peer opened the way. Source: own choice, above the round trip of most paths.
const MOVED_AGAIN: Duration = Duration::from_millis(200);

/// A decision of [`Paths`], for the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathNews {
    Chosen {
        from: Option<PathAddr>,
        to: PathAddr,
        why: PathReason,
    },
    Silent(PathAddr),
    Size(usize),
    /// So many rounds were in vain before this one, which has found nothing so far either; true in its second half.
    Fruitless(usize, bool),
}

/// Why datagrams may be sent to the address of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// A datagram came from there: any address may be behind it, and nothing is sent but what those datagrams pay for.
    Heard,
    /// A peer named it: any address may be behind it, and a few probes go there.
    Named,
    /// This node's own configuration or trust book has it: a peer answered there before.
    Known,
    /// The peer has answered from there.
    Proven,
}

/// One path, and the results of probing it.
#[derive(Clone, Debug)]
pub struct Path {
    /// Where it leads.
    pub addr: PathAddr,
    /// An authenticated answer came over it.
    pub validated: bool,
    /// Round trip of the newest answered probe.
    pub rtt: Option<Duration>,
    /// Largest datagram proven on it. Unit: bytes.
    pub datagram_len: usize,
    standing: Standing,
    /// The relay that it leads through: 0 is that of the rendezvous.
    relay: RelayNumber,
    /// A RESP of this node went there last: an initiator that uses its keys has shown that it is there.
    answered_init: bool,
    /// Probes sent before anything came from there.
    tries: u8,
    /// What may still be sent there before it has answered. Unit: bytes.
    credit: u32,
    history: History,
    /// Probes in a row that were faster than the path in use.
    faster: u8,
}

impl Path {
    /// Datagrams may be sent there without a limit.
    fn is_open(&self) -> bool {
        !self.addr.is_direct() || matches!(self.standing, Standing::Known | Standing::Proven)
    }

    /// What may be sent there now. Unit: bytes.
    fn allowance(&self) -> usize {
        if self.is_open() { usize::MAX } else { self.credit as usize }
    }
}

/// How an address became known that gets this standing at first.
fn origin_of(addr: PathAddr, standing: Standing) -> Origin {
    match (addr, standing) {
        (PathAddr::Relay(_), _) => Origin::Relay,
        (PathAddr::Side(..), _) => Origin::Met,
        (_, Standing::Known) => Origin::Saved,
        (PathAddr::Direct(addr), Standing::Named) if is_local(&addr) => Origin::Lan,
        (_, Standing::Named) => Origin::Named,
        (_, Standing::Heard | Standing::Proven) => Origin::Heard,
    }
}

/// A probe to be sealed and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) to: PathAddr,
    pub(crate) id: u64,
    /// True for the answer to the peer's probe.
    pub(crate) is_answer: bool,
    /// Size of the whole datagram, reached by padding.
    pub(crate) len: Option<usize>,
}

struct Outstanding {
    id: u64,
    to: PathAddr,
    at: Instant,
    len: Option<usize>,
}

/// All paths to one peer.
pub(crate) struct Paths {
    /// Largest datagram that is tried. Unit: bytes.
    len_max: usize,
    list: Vec<Path>,
    /// The path in use, by its place in the list.
    selected: Option<usize>,
    /// When that came into use, and why.
    chosen: Option<(Instant, PathReason)>,
    outstanding: Vec<Outstanding>,
    ready: Vec<Probe>,
    round: Option<PunchRound>,
    rounds: usize,
    /// The newest round was in vain while nothing used the peer: it goes no further before something does.
    rests: bool,
    size_probe: Option<SizeProbe>,
    /// Sizes from this index on were refused by the selected path.
    size_limit: Option<usize>,
    /// When sizes up to the base are tried again on it.
    size_again_at: Option<Instant>,
    /// Probes to addresses that never answered, since `tries_since`.
    tries: u8,
    tries_since: Instant,
    /// When something last came on the path in use, or when that came into use.
    heard: Instant,
    /// When this node's candidates were last sent to the peer.
    told_at: Instant,
    /// When the newest round began, or is to begin.
    round_at: Instant,
    /// Round trip of the newest key handshake over the relay. Unit: microseconds.
    relay_rtt_us: u32,
    /// Where the peer's newest datagram came from.
    newest_from: Option<PathAddr>,
    /// Newest decisions that the trace has not seen, at most [`NEWS_MAX`].
    news: Vec<PathNews>,
    /// When the peer was last followed from one direct path to another.
    followed_at: Option<Instant>,
    acquaintance: Option<Box<Acquaintance>>,
}

/// A round of probes: when it began, or is to begin, and how many of its steps are done.
struct PunchRound {
    start: Instant,
    step: usize,
}

/// A size that is being tried.
struct SizeProbe {
    index: usize,
    tries: u8,
    /// When the answer is overdue; `None` after that.
    deadline: Option<Instant>,
}

impl Default for Paths {
    fn default() -> Self {
        Self::new(DATAGRAM_LEN_MAX)
    }
}

impl Paths {
    /// An empty table of paths that will carry datagrams of at most `len_max` bytes.
    pub(crate) const fn new(len_max: usize) -> Self {
        Self {
            len_max,
            list: Vec::new(),
            selected: None,
            chosen: None,
            outstanding: Vec::new(),
            ready: Vec::new(),
            round: None,
            rounds: 0,
            rests: false,
            size_probe: None,
            size_limit: None,
            size_again_at: None,
            tries: 0,
            tries_since: Instant::ZERO,
            heard: Instant::ZERO,
            told_at: Instant::ZERO,
            round_at: Instant::ZERO,
            relay_rtt_us: 0,
            newest_from: None,
            news: Vec::new(),
            followed_at: None,
            acquaintance: None,
        }
    }

    /// Frees memory that only probing needs.
    pub(crate) fn rest(&mut self) {
        self.list.shrink_to_fit();
        self.outstanding.shrink_to_fit();
        self.ready.shrink_to_fit();
    }

    #[cfg(test)]
    pub(crate) fn list(&self) -> &[Path] {
        &self.list
    }

    pub(crate) fn selected(&self) -> Option<PathAddr> {
        self.selected_path().map(|path| path.addr)
    }

    fn selected_path(&self) -> Option<&Path> {
        self.list.get(self.selected?)
    }

    /// Size of the datagrams that may be sent on the selected path. Unit: bytes, without the relay leg's header.
    pub(crate) fn datagram_len(&self) -> usize {
        self.selected_path().map_or(DATAGRAM_LEN_BASE, |path| path.datagram_len)
    }

    /// The same on another path.
    pub(crate) fn datagram_len_of(&self, addr: PathAddr) -> usize {
        self.find(addr).map_or(DATAGRAM_LEN_BASE, |path| path.datagram_len)
    }

    fn find(&self, addr: PathAddr) -> Option<&Path> {
        self.list.iter().find(|p| p.addr == addr)
    }

    fn position(&self, addr: PathAddr) -> Option<usize> {
        self.list.iter().position(|p| p.addr == addr)
    }

    fn find_mut(&mut self, addr: PathAddr) -> Option<&mut Path> {
        self.list.iter_mut().find(|p| p.addr == addr)
    }

    /// Adds a path that the peer or the rendezvous names; true when that is news.
    pub(crate) fn add(&mut self, addr: PathAddr) -> bool {
        match self.find_mut(addr) {
            Some(path) => {
                let before = path.standing;
                path.standing = before.max(Standing::Named);
                path.standing != before
            }
            None => self.insert(addr, Standing::Named),
        }
    }

    /// The peer says that a gateway maps this address for it.
    pub(crate) fn note_mapped(&mut self, addr: SocketAddr) {
        self.find_mut(PathAddr::Direct(addr)).into_iter().for_each(|path| path.history.origin = Origin::Mapped);
    }

    /// Adds a path from which a datagram came, if there is none yet.
    fn hear(&mut self, addr: PathAddr) {
        if self.find(addr).is_none() {
            self.insert(addr, Standing::Heard);
        }
    }

    /// Adds a path that is not in the table. A full table forgets the oldest path that never worked, and never the one in use;
    /// false when it has no room even so. Paths from other sockets than the node's own one drive out no others.
    fn insert(&mut self, addr: PathAddr, standing: Standing) -> bool {
        let is_side = |addr: PathAddr| addr.source() != Source::MAIN;
        if is_side(addr) && self.list.iter().filter(|path| is_side(path.addr)).count() >= SIDE_PATHS_MAX {
            return false;
        }
        if self.list.len() == PATHS_MAX {
            let selected = self.selected();
            let may_go = |p: &&Path| Some(p.addr) != selected && p.addr.is_direct() && !p.answered_init;
            let oldest = |f: fn(&Path) -> bool| self.list.iter().filter(may_go).find(|p| f(p)).map(|p| p.addr);
            let useless = oldest(|p| !p.is_open()).or_else(|| oldest(|p| !p.validated)).or_else(|| oldest(|_| true));
            let Some(useless) = useless else { return false };
            self.retain(|path| path.addr != useless);
        }
        if self.list.is_empty() {
            self.list.reserve_exact(1); // most peers have one address, and most are not connected
        }
        let path = Path {
            addr,
            validated: false,
            rtt: None,
            datagram_len: DATAGRAM_LEN_BASE,
            standing,
            relay: 0,
            answered_init: false,
            tries: 0,
            credit: 0,
            history: History::new(origin_of(addr, standing)),
            faster: 0,
        };
        self.list.push(path);
        debug_assert!(self.list.len() <= PATHS_MAX);
        true
    }

    /// Forgets the paths that `keep` refuses.
    fn retain(&mut self, keep: impl FnMut(&Path) -> bool) {
        let selected = self.selected();
        self.list.retain(keep);
        self.selected = selected.and_then(|addr| self.position(addr));
    }

    /// Adds an address that this node's own configuration or trust book names.
    pub(crate) fn add_known(&mut self, addr: SocketAddr) {
        match self.find_mut(PathAddr::Direct(addr)) {
            Some(path) => path.standing = path.standing.max(Standing::Known),
            None => _ = self.insert(PathAddr::Direct(addr), Standing::Known),
        }
    }

    /// Where an INIT may go: an address that never answered is asked by probes only.
    pub(crate) fn open_addrs(&self) -> Vec<PathAddr> {
        self.list.iter().filter(|path| path.is_open()).map(|path| path.addr).collect()
    }

    /// True when the peer has answered from this address, or this node's own books name it.
    pub(crate) fn is_open(&self, addr: PathAddr) -> bool {
        self.find(addr).is_some_and(Path::is_open)
    }

    /// [`Paths::is_open`] for an address, from any socket.
    pub(crate) fn is_open_at(&self, addr: SocketAddr) -> bool {
        self.list.iter().any(|path| path.addr.addr() == Some(addr) && path.is_open())
    }

    /// What may be sent on the selected path now. Unit: bytes.
    #[cfg(test)]
    fn allowance(&self) -> usize {
        self.selected_path().map_or(0, Path::allowance)
    }

    /// True unless the path in use has not answered and may be sent no full datagram before it has: packets are not cut for
    /// that, since some cannot be.
    pub(crate) fn may_send(&self) -> bool {
        self.selected_path().is_some_and(|path| path.allowance() >= path.datagram_len)
    }

    /// Notes that a datagram of `len` bytes leaves; false when it must not, since `to` has not answered.
    pub(crate) fn charge(&mut self, to: PathAddr, len: usize) -> bool {
        let Some(path) = self.find_mut(to) else { return false };
        if path.is_open() {
            return true;
        }
        let left = path.credit.checked_sub(len as u32);
        path.credit = left.unwrap_or(path.credit);
        left.is_some()
    }

    /// Forgets the candidates of a process that is gone. The address in use stays: it may come back.
    pub(crate) fn forget_candidates(&mut self) {
        let selected = self.selected();
        // An address that was tried in vain is remembered: named anew, it gets no more probes than before.
        let was_tried = |p: &Path| !p.is_open() && p.tries > 0;
        self.retain(|p| !p.addr.is_direct() || Some(p.addr) == selected || was_tried(p));
    }

    /// A RESP of this node leaves for `to`.
    pub(crate) fn note_resp(&mut self, to: PathAddr) {
        self.hear(to);
        self.list.iter_mut().for_each(|path| path.answered_init = path.addr == to);
    }

    /// The peer has used the keys of the RESP that [`Paths::note_resp`] noted: it is where that went, wherever its own
    /// datagram, which came from `from`, may claim to be from.
    pub(crate) fn on_resp_used(&mut self, now: Instant, from: PathAddr, stood: bool) {
        self.heard = now;
        let asked = self.list.iter().find(|path| path.answered_init).map(|path| path.addr);
        match asked.or((!from.is_direct()).then_some(from)) {
            Some(addr) => self.select_working(addr, stood),
            None if self.selected.is_none() => self.select_limited(from),
            None => {}
        }
        self.list.iter_mut().for_each(|path| path.answered_init = false);
    }

    /// A RESP of the peer, a datagram of `len` bytes, came from `from`. An address that never answered before is proven by
    /// a probe only: a RESP does not show where it comes from.
    pub(crate) fn on_resp(
        &mut self,
        now: Instant,
        (from, len): (PathAddr, usize),
        stood: bool,
        prober: &mut Prober<'_>,
    ) {
        self.hear(from);
        self.heard = now;
        if self.find(from).is_some_and(Path::is_open) {
            return self.select_working(from, stood);
        }
        self.earn(from, len);
        if self.selected().is_none_or(|selected| selected.is_direct() && !stood) {
            // An INIT went to open addresses alone, so one of them works; a copy of the RESP may come from anywhere.
            let proven = |path: &&Path| path.addr.is_direct() && path.standing == Standing::Proven;
            let proven = self.relay().or_else(|| self.list.iter().find(proven).map(|path| path.addr));
            self.select_limited(proven.unwrap_or(from));
            self.begin_rounds(now);
        }
        self.probe_moved(now, from, prober);
    }

    /// A key handshake finished over this path: it works now. Within a tunnel that `stood` and was answered in before,
    /// a direct path is not given up because the relay was faster this time.
    fn select_working(&mut self, addr: PathAddr, stood: bool) {
        self.hear(addr);
        if let Some(path) = self.find_mut(addr) {
            (path.validated, path.standing) = (true, Standing::Proven);
        }
        let keeps_direct = stood && !addr.is_direct() && self.selected().is_some_and(PathAddr::is_direct);
        if !keeps_direct {
            self.select(addr, PathReason::Handshake);
        }
    }

    /// Uses a path that has not answered, since there is no better one, for what [`Path::allowance`] says.
    fn select_limited(&mut self, addr: PathAddr) {
        self.hear(addr);
        if self.find(addr).is_some() {
            self.select(addr, PathReason::Handshake);
        }
    }

    /// An authentic datagram of `len` bytes came from `from`.
    fn earn(&mut self, from: PathAddr, len: usize) {
        if let Some(path) = self.find_mut(from).filter(|path| !path.is_open()) {
            path.credit = path.credit.saturating_add((AMPLIFICATION_MAX * len) as u32);
        }
    }

    fn select(&mut self, to: PathAddr, why: PathReason) {
        let from = self.selected();
        if from != Some(to) {
            debug_assert!(self.position(to).is_some(), "a path of the table");
            self.note(PathNews::Chosen { from, to, why });
            self.selected = self.position(to);
            (self.size_probe, self.size_limit) = (None, None);
        }
    }

    fn note(&mut self, news: PathNews) {
        if self.news.len() < NEWS_MAX {
            self.news.push(news);
        }
    }

    /// True when [`Paths::take_news`] has some to give.
    pub(crate) const fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Decisions since the last call, oldest first.
    pub(crate) fn take_news(&mut self, now: Instant) -> Vec<PathNews> {
        if let Some(why) = self.news.iter().rev().find_map(PathNews::reason) {
            self.chosen = Some((now, why));
        }
        core::mem::take(&mut self.news)
    }

    /// When the path in use came into use, and why, as far as [`Paths::take_news`] has told.
    pub(crate) const fn chosen(&self) -> Option<(Instant, PathReason)> {
        self.chosen
    }

    /// An authenticated datagram of `len` bytes came from `from`; `is_newest` when none with a higher counter has.
    pub(crate) fn on_authentic(
        &mut self,
        now: Instant,
        (from, len): (PathAddr, usize),
        is_newest: bool,
        prober: &mut Prober<'_>,
    ) {
        if is_newest {
            self.newest_from = Some(from);
        }
        let selected = self.selected_path().filter(|path| path.addr == from);
        match selected.map(Path::is_open) {
            Some(true) => self.heard = now, // the usual case of a tunnel that stands
            Some(false) => {
                self.heard = now;
                self.earn(from, len);
            }
            None => {
                self.hear(from);
                self.earn(from, len);
                if is_newest {
                    self.follow_to_relay(now, from);
                    self.probe_moved(now, from, prober);
                }
            }
        }
    }

    /// The peer's candidates have come and are among the paths now; `has_news` when one was not before. When they came
    /// over the relay although a direct path is in use, the peer has left that path. Both sides probe at the same moment: the
    /// one with candidates of its own that are still under way waits for them.
    pub(crate) fn on_candidates(&mut self, now: Instant, has_news: bool) {
        let uses_direct = self.selected().is_some_and(PathAddr::is_direct);
        let has_left = uses_direct && self.newest_from.is_some_and(|from| !from.is_direct());
        if has_left {
            self.leave(now);
        }
        if has_left || has_news || now.since(self.round_at) >= ROUND_AGAIN {
            self.begin_rounds(now.max(self.told_at + self.tell_time()));
        }
    }

    /// This node's candidates leave for the peer, which begins a round when it has them. So does this side, if it `seeks` a direct
    /// path without waiting for those of the peer.
    pub(crate) fn on_told(&mut self, now: Instant, seeks: bool) {
        self.told_at = now;
        if seeks && !self.has_direct() {
            self.begin_rounds(now + self.tell_time());
        }
    }

    /// When this node's candidates were last sent to the peer.
    pub(crate) const fn told_at(&self) -> Instant {
        self.told_at
    }

    /// When something last came on the path in use, or when that came into use.
    pub(crate) const fn heard(&self) -> Instant {
        self.heard
    }

    /// True when nothing has come on the path in use for so long that a NAT may have forgotten it, or that a relayed peer may be
    /// reached straight by now. Without a relay there is no other way, and no NAT is on the way to a local address.
    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        now.since(self.heard) >= STALE_AFTER
            && self.selected().is_some_and(|selected| match selected.addr() {
                Some(addr) => !is_local(&addr) && self.relay().is_some(),
                None => true,
            })
    }

    /// True when a relayed peer may be reached straight by now: the newest round is over, and nothing has tried since, or it
    /// has waited for the peer to be used.
    pub(crate) fn is_worth_a_round(&self, now: Instant) -> bool {
        let is_relayed = matches!(self.selected(), Some(PathAddr::Relay(_)));
        is_relayed && (self.rests || now.since(self.round_at) >= USE_PAUSE)
    }

    /// Something is to be sent on a path that [`Paths::is_stale`]: it goes over the relay, and a round begins when the peer has
    /// been told.
    pub(crate) fn on_stale(&mut self, now: Instant) {
        if self.selected().is_some_and(PathAddr::is_direct) {
            self.leave(now);
        }
        self.heard = now;
        self.begin_rounds(now + self.tell_time());
    }

    /// Where the peer's newest datagram came from; `None` before the first one.
    pub(crate) const fn newest_from(&self) -> Option<PathAddr> {
        self.newest_from
    }

    /// Probes a path other than the selected one, from which the peer speaks.
    fn probe_moved(&mut self, now: Instant, from: PathAddr, prober: &mut Prober<'_>) {
        let asked = self.outstanding.iter().any(|o| o.to == from && now.since(o.at) < MOVED_AGAIN);
        if !asked && prober.budget.take(now, 1).is_ok() && self.charge(from, PROBE_LEN) {
            self.probe(now, from, None, prober.rng);
        }
    }

    /// The peer probes: answers on the same path, and probes that path itself if it is new.
    pub(crate) fn on_probe(&mut self, now: Instant, from: PathAddr, id: u64, prober: &mut Prober<'_>) {
        if self.find(from).is_none_or(|p| !p.validated) {
            self.probe_moved(now, from, prober);
        }
        if self.ready.len() < OUTSTANDING_MAX && self.charge(from, PROBE_LEN) {
            self.ready.push(Probe { to: from, id, is_answer: true, len: None });
        }
    }

    /// The peer answered a probe.
    pub(crate) fn on_probe_ok(&mut self, now: Instant, id: u64, newest_from: PathAddr) {
        let Some(i) = self.outstanding.iter().position(|o| o.id == id) else { return };
        let probe = self.outstanding.swap_remove(i);
        let Some(path) = self.find_mut(probe.to) else { return };
        let rtt = now.since(probe.at);
        path.history.on_answer();
        (path.validated, path.standing) = (true, Standing::Proven);
        // A relay is probed seldom, and what it showed minutes ago counts less.
        let weight = if probe.to.is_direct() { 7 } else { 1 };
        path.rtt = Some(path.rtt.map_or(rtt, |old| (old * weight + rtt) / (weight + 1)));
        if let Some(len) = probe.len {
            path.datagram_len = path.datagram_len.max(len);
            self.size_probe = None;
            self.note(PathNews::Size(len));
            return;
        }
        self.compare(probe.to, rtt);
        if let Some(why) = self.is_better(now, &probe, newest_from) {
            if why == PathReason::Followed {
                self.followed_at = Some(now);
            }
            self.select(probe.to, why);
            self.heard = now;
            self.list.iter_mut().for_each(|path| path.faster = 0);
        }
    }

    /// The selected path went silent. Falls back to the relay, and looks for a direct path again when the peer can know of it.
    pub(crate) fn on_suspect(&mut self, now: Instant) {
        let had_direct = self.selected().is_some_and(PathAddr::is_direct);
        self.leave(now);
        let falls_back = had_direct && !self.selected().is_some_and(PathAddr::is_direct);
        self.begin_rounds(now + if falls_back { self.tell_time() } else { Duration::ZERO });
    }

    /// The selected path does not work any more: uses a relay, if there is one; another one instead of a relay, if that works.
    fn leave(&mut self, now: Instant) {
        let Some(selected) = self.selected() else { return };
        if let Some(path) = self.find_mut(selected) {
            (path.validated, path.datagram_len) = (false, path.smaller_len());
        }
        (self.size_probe, self.size_limit) = (None, None);
        self.note(PathNews::Silent(selected));
        let relay = self.relay().filter(|relay| selected.is_direct() || self.is_valid(*relay));
        if let Some(relay) = relay {
            self.select(relay, PathReason::Silence);
            self.heard = now;
        }
    }

    /// Our own address changed. The path in use counts as silent, and the round of probes shows the peer our new address.
    /// Addresses that did not answer our old one get another chance.
    pub(crate) fn on_own_move(&mut self, now: Instant) {
        self.forget_tries(now);
        self.leave(now);
        self.begin_rounds(now);
    }

    pub(crate) fn has_direct(&self) -> bool {
        self.selected_path().is_some_and(|path| path.addr.is_direct() && path.validated)
    }

    /// True when an answer has come over this path and it has not gone silent since.
    pub(crate) fn is_valid(&self, addr: PathAddr) -> bool {
        self.find(addr).is_some_and(|path| path.validated)
    }

    fn probe(&mut self, now: Instant, to: PathAddr, len: Option<usize>, rng: &mut Rng) {
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.remove(0);
        }
        let id = rng.u64();
        self.find_mut(to).into_iter().for_each(|path| path.history.on_probe(now));
        self.outstanding.push(Outstanding { id, to, at: now, len });
        self.ready.push(Probe { to, id, is_answer: false, len });
    }

    /// Runs everything that is due. `in_use`: the application has business with the peer; `loaded`: data is in flight.
    pub(crate) fn handle_timeout(&mut self, now: Instant, in_use: bool, loaded: bool, prober: &mut Prober<'_>) {
        self.outstanding.retain(|o| now.since(o.at) < PROBE_LIFETIME);
        self.punch(now, in_use, prober);
        self.probe_size(now, loaded, prober.rng);
    }

    pub(crate) fn poll_probe(&mut self) -> Option<Probe> {
        if self.ready.is_empty() { None } else { Some(self.ready.remove(0)) }
    }

    /// True when [`Paths::poll_probe`] has one to give.
    pub(crate) const fn has_probe(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When [`Paths::handle_timeout`] has something to do, and why; `loaded` as there.
    pub(crate) fn note_deadlines(&self, loaded: bool, soonest: &mut Soonest) {
        soonest.note(PeerTimer::Punch, self.round.as_ref().map(PunchRound::due_at));
        soonest.note(PeerTimer::Size, self.size_deadline(loaded));
    }
}

/// The bytes of a probe frame padded to the wanted datagram size.
pub(crate) fn emit_probe_frames(probe: &Probe, overhead: usize, out: &mut Vec<u8>) {
    let start = out.len();
    crate::link::frame::emit_probe(out, probe.is_answer, probe.id);
    if let Some(len) = probe.len {
        let missing = len.saturating_sub(overhead + out.len() - start);
        out.put(&alloc::vec![0; missing]);
    }
}

#[cfg(test)]
mod tests;
