//! Owns what an endpoint does in meetings: both sides of a relayed pair open a fresh local port, find out how their NATs map it,
//! tell each other over the relay, and probe at one moment. `meetings` holds their table, `survey` asks the rendezvous what it sees.
//!
//! ```text
//!   a round in vain ─▶ Asking ─▶ Invited ─▶ Fired ─▶ over
//!   an invitation   ─▶ Asking ───────────▶ Fired ─▶ over
//! ```

use super::meetings::{Birthday, KEPT_MAX, MEETINGS_MAX, Run, Stage};
use super::survey::{self, Survey};
use super::{Endpoint, PeerId};
use crate::control::Control;
use crate::path::{Mapping, Meeting, Nat, PathAddr, Plan, Ports, Source, is_acceptable_candidate, is_reserved, plan};
use crate::peer::Role;
use crate::time::{Duration, Instant};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Time that the other side may take for its survey and its answer.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Time after the first probes in which a direct path is found, or not.
const FIRED_LASTS: Duration = Duration::from_millis(1500);
/// Shortest pause between two meetings with a peer. Source: `docs/paths.md`, "Meeting".
const MEETING_PAUSE: Duration = Duration::from_secs(1);
/// Shortest pause between two meetings with a peer in which many ports are tried. Source: `docs/paths.md`, "Meeting".
const BIRTHDAY_PAUSE: Duration = Duration::from_secs(600);
/// Time that the side which sprays is ahead of the one with many sockets.
const SPRAY_LEAD: Duration = Duration::from_millis(1000);
/// Pause between two parts of a spray, and the datagrams of a part: 1000 in a second. Source: `docs/paths.md`, "Meeting".
const PART_PAUSE: Duration = Duration::from_millis(10);
const SPRAY_PART: usize = 10;
/// The same for sockets, which wait for all of the spray.
const SOCKETS_PART: usize = 32;
/// How often each socket sends.
const SOCKETS_TIMES: usize = 2;
/// Time in which what was sprayed last may be answered.
const SPRAY_TAIL: Duration = Duration::from_secs(2);

impl Endpoint {
    // Getters.

    /// The NAT of this node, as far as the rendezvous could tell.
    pub fn nat(&self) -> Nat {
        let (mut nat, seen) = (self.meetings.nat(), self.directory.reflexive());
        if nat.mapping == Mapping::Independent && seen.is_some_and(|seen| self.directory.has_port(seen.port())) {
            nat.ports = Ports::Kept;
        }
        nat
    }

    /// The next socket that is not used any more, to be closed.
    pub fn poll_closed_source(&mut self) -> Option<Source> {
        self.meetings.closed.pop_front()
    }

    // Verbs.

    /// A round with a peer was in vain so far. The side with the lower key begins early in a round and the other late, and the other
    /// way round in every second round.
    pub(super) fn on_fruitless(&mut self, now: Instant, id: PeerId, (round, is_late): (usize, bool)) {
        let Some(peer) = self.peers.get(&id).map(|entry| &entry.peer).filter(|peer| peer.is_up(now)) else { return };
        let is_first = (self.identity.static_key() < peer.static_key) != (round % 2 == 1);
        let past = peer.paths.acquaintance();
        let is_hopeless = self.meetings.nat.is_hopeless_with(past.nat);
        let may_begin = peer.role == Role::Trusted && self.directory.is_ready() && !peer.paths.has_direct();
        if may_begin && !is_hopeless && is_first != is_late {
            self.begin_meeting(now, Some(id), None);
        }
    }

    /// Finds out about the NAT of this node, which the rendezvous sees at another address than before. `probes`: where else to
    /// ask.
    pub(super) fn survey(&mut self, now: Instant, probes: &[SocketAddr]) {
        let Some(beacon) = self.directory.beacon() else { return };
        self.meetings.set_probes(beacon, probes);
        if !self.meetings.probes.is_empty() && self.meetings.list.iter().all(|run| run.peer.is_some()) {
            self.begin_meeting(now, None, None);
        }
    }

    /// Another rendezvous is used from now on.
    pub(super) fn forget_probes(&mut self) {
        self.meetings.probes.clear();
    }

    fn begin_meeting(&mut self, now: Instant, peer: Option<PeerId>, theirs: Option<Meeting>) {
        let Some(beacon) = self.directory.beacon().filter(|addr| !is_reserved(addr)) else { return };
        let is_full = self.meetings.list.len() >= MEETINGS_MAX || self.meetings.kept.len() >= KEPT_MAX;
        if is_full || peer.is_some_and(|id| self.meetings.of(id).is_some()) {
            return;
        }
        if let Some(id) = peer {
            let Some(entry) = self.peers.get_mut(&id) else { return };
            let past = entry.peer.paths.acquaintance_mut();
            if past.met_at.is_some_and(|at| now.since(at) < MEETING_PAUSE) {
                return;
            }
            past.met_at = Some(now);
            self.ask_for_relay(now, id); // the answer says where the peer is seen
        }
        let number = theirs.map_or_else(|| self.rng.u32(), |theirs| theirs.number);
        let (meetings, entropy) = (&mut self.meetings, &mut self.entropy);
        let sources = [meetings.fresh(), meetings.fresh()];
        let survey = Survey::new(sources, beacon, &meetings.probes, &mut entropy.generator());
        let due = now + survey::WAIT;
        let run =
            Run { peer, number, survey, ours: None, theirs, seen: None, many: Vec::new(), stage: Stage::Asking, due };
        for (to, question) in run.survey.questions() {
            self.send_stray(to, question);
        }
        self.meetings.list.push(run);
        debug_assert!(self.meetings.list.len() <= MEETINGS_MAX);
    }

    // Input.

    /// The rendezvous has said what it sees.
    pub(super) fn on_seen(&mut self, now: Instant, from: PathAddr, datagram: &[u8]) -> bool {
        let Some((nonce, seen)) = crate::seen::parse_answer(datagram) else { return false };
        let Some(at) = self.meetings.list.iter_mut().position(|run| run.survey.take(from, &nonce, seen)) else {
            return false;
        };
        let probe = self.meetings.probes.iter_mut().find(|(addr, _)| Some(*addr) == from.addr());
        probe.into_iter().for_each(|(_, has_answered)| *has_answered = true);
        if self.meetings.list[at].survey.is_complete() {
            self.on_surveyed(now, at);
        }
        true
    }

    /// The rendezvous sees a peer at this address.
    pub(super) fn on_peer_seen(&mut self, id: PeerId, seen: SocketAddr) {
        self.meetings.of(id).into_iter().for_each(|run| run.seen = Some(seen.ip()));
    }

    /// A peer invites to a meeting, or answers.
    pub(super) fn on_meeting(&mut self, now: Instant, from: PeerId, theirs: Meeting) {
        let Some(entry) = self.peers.get_mut(&from) else { return };
        entry.peer.paths.note_nat(theirs.nat);
        let yields = self.identity.static_key() > entry.peer.static_key;
        let Some(run) = self.meetings.of(from) else {
            if !theirs.is_answer && !entry.peer.paths.has_direct() {
                self.begin_meeting(now, Some(from), Some(theirs));
            }
            return;
        };
        match (&run.stage, theirs.is_answer) {
            (Stage::Told, true) if run.number == theirs.number && run.theirs.is_none() => {
                (run.theirs, run.due) = (Some(theirs), now);
            }
            // Of two that invite each other one answers.
            (Stage::Asking | Stage::Told, false) if run.theirs.is_none() && yields => {
                (run.theirs, run.number) = (Some(theirs), theirs.number);
                if run.ours.is_some() {
                    self.tell_meeting(now, from);
                }
            }
            _ => return,
        }
        self.tend_meetings(now);
    }

    /// The survey of a run has ended: the peer is told, if there is one.
    fn on_surveyed(&mut self, now: Instant, at: usize) {
        let run = &mut self.meetings.list[at];
        let (nat, last, span) = run.survey.result();
        if nat != Nat::default() {
            self.meetings.nat = nat;
        }
        if last.is_some() {
            let silent = run.survey.silent();
            self.meetings.probes.retain(|(addr, has_answered)| *has_answered || !silent.contains(addr));
        }
        let run = &mut self.meetings.list[at];
        let (Some(peer), Some(seen_at)) = (run.peer, last) else { return self.end_meeting(at) };
        let is_answer = run.theirs.is_some();
        run.ours = Some(Meeting { number: run.number, is_answer, nat, at: seen_at, span });
        self.tell_meeting(now, peer);
    }

    /// Sends what this side has to say, and fires when the peer has it, or when the peer has answered.
    fn tell_meeting(&mut self, now: Instant, peer: PeerId) {
        let Some(entry) = self.peers.get(&peer) else { return };
        let tell_time = entry.peer.paths.tell_time();
        let Some(run) = self.meetings.of(peer) else { return };
        let Some(ours) = &mut run.ours else { return };
        (ours.is_answer, ours.number) = (run.theirs.is_some(), run.number);
        let message = Control::Meeting(*ours);
        run.due = now + if ours.is_answer { tell_time } else { ANSWER_WAIT };
        run.stage = Stage::Told;
        self.send_control(peer, &message);
    }

    // Time.

    /// Does what is due by `now`.
    pub(super) fn tend_meetings(&mut self, now: Instant) {
        while let Some(at) = self.meetings.list.iter().position(|run| run.due <= now) {
            let run = &mut self.meetings.list[at];
            match &run.stage {
                Stage::Asking => match run.survey.asks_again(&self.meetings.probes) {
                    Some(questions) => {
                        run.due = now + survey::WAIT;
                        questions.into_iter().for_each(|(to, question)| self.send_stray(to, question));
                    }
                    None => self.on_surveyed(now, at),
                },
                Stage::Told if run.theirs.is_some() => self.fire(now, at),
                Stage::Fired(Some(_)) => self.spray(now, at),
                Stage::Told | Stage::Fired(None) => self.end_meeting(at),
            }
        }
    }

    /// Both sides know each other's NAT: they probe at one moment.
    fn fire(&mut self, now: Instant, at: usize) {
        let own = self.directory.addresses();
        let is_alone = !self.meetings.has_birthday();
        let run = &mut self.meetings.list[at];
        let (stage, due) = (Stage::Fired(None), now + FIRED_LASTS);
        (run.stage, run.due) = (stage, due);
        let (Some(id), Some(ours), Some(theirs)) = (run.peer, run.ours, run.theirs) else { return };
        let Some(entry) = self.peers.get_mut(&id).filter(|entry| !entry.peer.paths.has_direct()) else { return };
        // A peer may name any address: only where the rendezvous sees the peer is it probed.
        if run.seen != Some(theirs.at.ip()) || !is_acceptable_candidate(&theirs.at, &own) {
            return;
        }
        let [source, _] = run.survey.sources();
        let past = entry.peer.paths.acquaintance_mut();
        let may_try_many = is_alone && past.birthday_at.is_none_or(|at| now.since(at) >= BIRTHDAY_PAUSE);
        match plan(ours.nat, &theirs, &mut self.rng) {
            Plan::Probe(list) => {
                let list = list.into_iter().map(|addr| PathAddr::from_source(addr, source));
                entry.peer.paths.meet(now, list);
            }
            Plan::Spray(spread) if may_try_many => {
                past.birthday_at = Some(now);
                (run.stage, run.due) = (Stage::Fired(Some(Birthday::Spray(theirs.at.ip(), spread))), now);
            }
            Plan::Sockets(count) if may_try_many => {
                past.birthday_at = Some(now);
                // A peer behind a NAT that lets in what was not asked for needs no birthday.
                entry.peer.paths.meet(now, core::iter::once(PathAddr::from_source(theirs.at, source)));
                let many = (0..count).map(|_| self.meetings.fresh()).collect();
                let run = &mut self.meetings.list[at];
                (run.many, run.stage) = (many, Stage::Fired(Some(Birthday::Sockets(theirs.at, 0))));
                run.due = now + SPRAY_LEAD;
            }
            Plan::Hopeless | Plan::Spray(_) | Plan::Sockets(_) => {}
        }
        self.touch(id);
    }

    /// Sends the next part of a birthday's datagrams.
    fn spray(&mut self, now: Instant, at: usize) {
        let run = &mut self.meetings.list[at];
        let [source, _] = run.survey.sources();
        let Stage::Fired(Some(birthday)) = &mut run.stage else { return };
        let entry = run.peer.and_then(|id| self.peers.get_mut(&id));
        let Some(entry) = entry.filter(|entry| entry.peer.is_up(now) && !entry.peer.paths.has_direct()) else {
            // Both sides may still find each other on other ports.
            (run.stage, run.due) = (Stage::Fired(None), now + FIRED_LASTS);
            return;
        };
        let paths = &mut entry.peer.paths;
        let is_over = match birthday {
            Birthday::Spray(ip, spread) => {
                for port in spread.by_ref().take(SPRAY_PART) {
                    paths.spray(PathAddr::from_source(SocketAddr::new(*ip, port), source), &mut self.rng);
                }
                spread.is_empty()
            }
            Birthday::Sockets(to, sent) => {
                let all = run.many.iter().cycle().take(run.many.len() * SOCKETS_TIMES);
                for source in all.skip(*sent).take(SOCKETS_PART) {
                    paths.spray(PathAddr::from_source(*to, *source), &mut self.rng);
                    *sent += 1;
                }
                *sent >= run.many.len() * SOCKETS_TIMES
            }
        };
        run.due = now + PART_PAUSE;
        if is_over {
            (run.stage, run.due) = (Stage::Fired(None), now + SPRAY_TAIL);
        }
        let id = entry.peer.id;
        self.touch(id);
    }

    /// Closes the sockets of a run but those that the peer is reached from.
    fn end_meeting(&mut self, at: usize) {
        let run = self.meetings.list.swap_remove(at);
        let sources: Vec<Source> = run.sources().collect();
        let Some(id) = run.peer else { return self.meetings.closed.extend(sources) };
        self.meetings.kept.extend(sources.into_iter().map(|source| (id, source)));
        self.tidy_sources(id);
    }

    /// Closes the sockets from which this peer is not reached any more.
    pub(super) fn tidy_sources(&mut self, id: PeerId) {
        let is_under_way = self.meetings.of(id).is_some();
        let meetings = &mut self.meetings;
        if is_under_way || !meetings.kept.iter().any(|(peer, _)| *peer == id) {
            return;
        }
        let mut paths = self.peers.get_mut(&id).map(|entry| &mut entry.peer.paths);
        meetings.kept.retain(|(peer, source)| {
            let stays = *peer != id || paths.as_ref().is_some_and(|paths| paths.uses(*source));
            if !stays {
                meetings.closed.push_back(*source);
                paths.iter_mut().for_each(|paths| paths.forget_source(*source));
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests;
