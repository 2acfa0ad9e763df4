//! Owns what is told of the paths to a peer: what is known of each address, and why the peer is not reached directly.

use super::{Origin, Outstanding, PROBE_LIFETIME, Path, PathNews, PathReason, Paths, Standing};
use crate::time::Instant;
use alloc::vec::Vec;

/// Why a peer is not reached directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hindrance {
    /// No tunnel stands, and none is asked for.
    NotInUse,
    /// The rendezvous says that the peer is not connected, and the peer does not answer.
    Away,
    /// A key handshake is under way and has no answer yet.
    NoTunnel,
    /// No address of the peer is known.
    NoAddress,
    /// A round of probes is under way, or about to begin.
    Probing,
    /// No address has answered the probes of the rounds so far.
    NoAnswer,
    /// A direct path answers, but more slowly than the relay.
    Slower,
    /// The direct path in use has fallen silent, and there is no other.
    Silent,
}

impl Hindrance {
    /// Its name in answers: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotInUse => "not_in_use",
            Self::Away => "peer_away",
            Self::NoTunnel => "no_tunnel",
            Self::NoAddress => "no_address",
            Self::Probing => "probing",
            Self::NoAnswer => "no_answer",
            Self::Slower => "slower",
            Self::Silent => "silent",
        }
    }
}

/// What stands between a peer and a direct path, and what is done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Why the peer is not reached directly; `None` when it is.
    pub hindrance: Option<Hindrance>,
    /// Direct addresses that have not answered.
    pub silent_addresses: usize,
    /// Probes that went there.
    pub probes: u32,
    /// Rounds of probes that are over since they began anew.
    pub rounds: usize,
    /// Number of the round that is under way or comes next, and when its next probes leave; `None`: with the next use.
    pub next_round: Option<(usize, Instant)>,
}

impl PathNews {
    /// Why a path was chosen; `None` for other news.
    pub(super) const fn reason(&self) -> Option<PathReason> {
        if let Self::Chosen { why, .. } = self { Some(*why) } else { None }
    }
}

impl Path {
    /// How the address became known.
    pub const fn origin(&self) -> Origin {
        self.history.origin
    }

    /// Why datagrams may be sent there, as a stable word: `heard` (a datagram came from there), `named` (by the peer), `known` (to
    /// this node's configuration or trust book), `proven` (the peer has answered from there).
    pub const fn standing(&self) -> &'static str {
        match self.standing {
            Standing::Heard => "heard",
            Standing::Named => "named",
            Standing::Known => "known",
            Standing::Proven => "proven",
        }
    }

    /// When the newest probe left; `None` before the first one.
    pub const fn probed_at(&self) -> Option<Instant> {
        if self.history.probes == 0 { None } else { Some(self.history.probed_at) }
    }

    /// The part of the probes that have no answer, from 0 to 1, where the answer was due; `None` without such probes.
    pub fn loss(&self) -> Option<f32> {
        let due = self.history.probes.saturating_sub(self.history.awaited);
        let answers = self.history.answers.min(due);
        (due > 0).then(|| 1.0 - f32::from(answers) / f32::from(due))
    }
}

impl Paths {
    /// All paths, for a description.
    pub(crate) fn described(&self, now: Instant) -> Vec<Path> {
        let mut list = self.list.clone();
        for path in &mut list {
            let is_awaited = |probe: &&Outstanding| probe.to == path.addr && now.since(probe.at) < PROBE_LIFETIME;
            path.history.awaited = self.outstanding.iter().filter(is_awaited).count() as u16;
            debug_assert!(path.history.answers <= path.history.probes, "each answer has its probe");
        }
        list
    }

    /// What the table alone says about a direct path.
    pub(crate) fn outlook(&self, now: Instant) -> Outlook {
        let silent = || self.list.iter().filter(|path| path.addr.is_direct() && !path.validated);
        let is_due = self.round.as_ref().is_some_and(|round| round.step > 0 || round.start <= now || self.rounds == 0);
        let hindrance = match self.selected_path() {
            Some(path) if path.addr.is_direct() => (!path.validated).then_some(Hindrance::Silent),
            _ if !self.list.iter().any(|path| path.addr.is_direct()) => Some(Hindrance::NoAddress),
            _ if self.list.iter().any(|path| path.addr.is_direct() && path.validated) => Some(Hindrance::Slower),
            _ if is_due => Some(Hindrance::Probing),
            _ => Some(Hindrance::NoAnswer),
        };
        Outlook {
            hindrance,
            silent_addresses: silent().count(),
            probes: silent().map(|path| u32::from(path.history.probes)).sum(),
            rounds: self.rounds,
            next_round: self
                .round
                .as_ref()
                .filter(|_| hindrance.is_some())
                .map(|round| (self.rounds + 1, round.due_at())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{PathAddr, ProbeBudget, Prober};
    use crate::rng::Rng;
    use crate::time::Duration;
    use crate::wire::Channel;

    fn direct(ip: [u8; 4]) -> PathAddr {
        PathAddr::Direct((ip, 9).into())
    }

    /// Lets rounds of probes pass until `until`; gives the number of the probe that went to `to` last.
    fn pass(paths: &mut Paths, until: Instant, to: PathAddr) -> Option<u64> {
        let (mut rng, mut budget, mut newest) = (Rng::new([1; 32]), ProbeBudget::new(), None);
        while let Some(at) = paths.round.as_ref().map(|round| round.due_at()).filter(|at| *at <= until) {
            paths.handle_timeout(at, true, false, &mut Prober { rng: &mut rng, budget: &mut budget });
            while let Some(probe) = paths.poll_probe() {
                newest = newest.max(Some((at, probe.to == to, probe.id)).filter(|(_, is_its, _)| *is_its));
            }
        }
        newest.map(|(_, _, id)| id)
    }

    #[test]
    fn a_relayed_peer_is_explained_from_the_first_round_to_the_last() {
        let (mut paths, now) = (Paths::default(), Instant::ZERO + Duration::from_secs(9));
        let relay = PathAddr::Relay(Channel(7));
        paths.set_relay(Channel(7));
        paths.on_resp_used(now, relay, false);
        paths.take_news(now);
        assert_eq!(paths.outlook(now).hindrance, Some(Hindrance::NoAddress));
        let (lan, far) = (direct([10, 0, 0, 2]), direct([198, 51, 100, 7]));
        assert!(paths.add(lan) && paths.add(far));
        paths.begin_rounds(now);
        assert_eq!(paths.outlook(now).hindrance, Some(Hindrance::Probing));
        assert_eq!(paths.outlook(now).next_round, Some((1, now)));
        let newest = pass(&mut paths, now + Duration::from_millis(1500), far).expect("a probe");
        let after = now + Duration::from_millis(1500);
        let outlook = paths.outlook(after);
        assert_eq!((outlook.hindrance, outlook.rounds), (Some(Hindrance::NoAnswer), 1));
        assert_eq!((outlook.silent_addresses, outlook.probes), (2, 6));
        assert!(outlook.next_round.is_some_and(|(number, at)| number == 2 && at > after));
        let named = |paths: &Paths, now| {
            paths.described(now).iter().map(|p| (p.origin().name(), p.standing(), p.loss())).collect::<Vec<_>>()
        };
        let [relayed, near, wide] = [("relay", "proven"), ("lan", "named"), ("named", "named")];
        let with = |(source, standing), loss| (source, standing, loss);
        assert_eq!(named(&paths, after), [with(relayed, None), with(near, None), with(wide, None)], "answers may come");
        let later = after + PROBE_LIFETIME;
        assert_eq!(named(&paths, later), [with(relayed, Some(1.0)), with(near, Some(1.0)), with(wide, Some(1.0))]);
        assert_eq!(paths.described(later)[2].probed_at(), Some(now + Duration::from_millis(300)));
        paths.on_probe_ok(after, newest, relay);
        paths.take_news(after);
        let outlook = paths.outlook(after);
        assert_eq!((outlook.hindrance, paths.chosen()), (None, Some((after, crate::path::PathReason::Answered))));
        assert_eq!(outlook.next_round, None);
        assert!(paths.described(later)[2].loss().is_some_and(|loss| (0.6..0.7).contains(&loss)));
    }

    #[test]
    fn a_direct_path_that_is_slower_or_silent_is_told_apart() {
        let (mut paths, now) = (Paths::default(), Instant::ZERO + Duration::from_secs(9));
        paths.add_known(([198, 51, 100, 7], 9).into());
        assert_eq!(paths.described(now)[0].origin(), Origin::Saved);
        paths.on_resp_used(now, direct([198, 51, 100, 8]), false);
        assert_eq!(paths.described(now)[1].origin(), Origin::Heard);
        paths.select_working(direct([198, 51, 100, 7]), false);
        assert_eq!(paths.outlook(now).hindrance, None);
        paths.on_suspect(now);
        assert_eq!(paths.outlook(now).hindrance, Some(Hindrance::Silent));
        paths.set_relay(Channel(7));
        paths.select_working(direct([198, 51, 100, 7]), false);
        paths.select_working(PathAddr::Relay(Channel(7)), false);
        assert_eq!(paths.outlook(now).hindrance, Some(Hindrance::Slower));
    }
}
