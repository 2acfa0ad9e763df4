//! Owns the rows: what happens to which network, and what is to be reached.

use crate::traffic::{Fared, Traffic};
use pilot_tests::netlab::daemons::Daemons;
use pilot_tests::netlab::router::Kind;
use pilot_tests::netlab::{Lab, Outcome, Side};
use std::time::{Duration, Instant};

/// Time in which traffic flows undisturbed before a fault.
const CALM: Duration = Duration::from_secs(3);
/// Time for which a direct path is kept that counts: one that is broken is noticed sooner.
const KEPT: Duration = Duration::from_secs(2);
/// Longest wait for a direct path where none is due sooner.
const PATIENCE: Duration = Duration::from_secs(70);

/// One fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    kinds: [Kind; 2],
    /// Longest stall of the stream, or time to the first byte.
    pub(crate) stall: Duration,
    /// Time from the fault's end to a direct path, or to UDP where there is none, where it is to be found again.
    pub(crate) direct: Option<Duration>,
    act: fn(&mut Scene<'_>) -> Outcome<()>,
}

/// What a fault came to.
#[derive(Clone, Debug)]
pub(crate) struct Result {
    pub(crate) fared: Fared,
    /// From the fault's end to the moment at which both sides said that they use a direct path, or UDP where there is none.
    pub(crate) direct: Option<Duration>,
}

/// Where a fault happens.
struct Scene<'a> {
    lab: &'a Lab,
    daemons: Daemons<'a>,
    traffic: Option<Traffic>,
    fared: Option<Fared>,
    direct: Option<Duration>,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const PORTS: [Kind; 2] = [Kind::Port, Kind::Port];
const RANDOM: [Kind; 2] = [Kind::Random, Kind::Random];

/// All rows. Source of the goals: `docs/paths.md`, "Times to reach".
pub(crate) const ALL: &[Fault] = &[
    Fault { name: "router-restarts", kinds: PORTS, stall: ms(1000), direct: Some(ms(1000)), act: router_restarts },
    Fault { name: "address-changes", kinds: PORTS, stall: ms(1000), direct: Some(ms(1000)), act: address_changes },
    Fault { name: "roam", kinds: PORTS, stall: ms(250), direct: Some(ms(1000)), act: roam },
    Fault { name: "cut-both-ways", kinds: PORTS, stall: ms(500), direct: None, act: cut_both_ways },
    Fault { name: "cut-a-to-b", kinds: PORTS, stall: ms(500), direct: None, act: cut_a_to_b },
    Fault { name: "cut-b-to-a", kinds: PORTS, stall: ms(500), direct: None, act: cut_b_to_a },
    Fault { name: "udp-blocked", kinds: PORTS, stall: ms(1500), direct: Some(ms(65_000)), act: udp_blocked },
    Fault {
        name: "udp-blocked-relayed",
        kinds: RANDOM,
        stall: ms(1500),
        direct: Some(ms(65_000)),
        act: relayed_without_udp,
    },
    Fault { name: "udp-blocked-first-byte", kinds: PORTS, stall: ms(1000), direct: None, act: first_byte_without_udp },
    Fault { name: "proxy-alone-first-byte", kinds: PORTS, stall: ms(1000), direct: None, act: first_byte_by_proxy },
    Fault { name: "rendezvous-away", kinds: RANDOM, stall: ms(62_000), direct: None, act: rendezvous_away },
    Fault { name: "relay-killed", kinds: RANDOM, stall: ms(1000), direct: None, act: relay_killed },
    Fault { name: "rest", kinds: PORTS, stall: ms(200), direct: Some(ms(500)), act: rest },
];

/// Lets one fault happen in a laboratory of its own.
pub(crate) fn run(number: usize, fault: &Fault, delay: Duration) -> Outcome<Result> {
    let lab = Lab::new(number, fault.kinds, delay)?;
    let daemons = Daemons::start(&lab)?;
    daemons.befriend()?;
    let mut scene = Scene { lab: &lab, daemons, traffic: None, fared: None, direct: None };
    scene.traffic = Some(Traffic::start(&scene.daemons)?);
    if fault.kinds.map(|kind| kind.meets(kind)) == [true; 2] {
        scene.direct_within(PATIENCE)?;
    }
    std::thread::sleep(CALM);
    (fault.act)(&mut scene)?;
    if fault.direct.is_some() && scene.direct.is_none() {
        scene.direct = scene.direct_within(PATIENCE).ok();
    }
    let fared = match scene.traffic.take() {
        Some(traffic) => traffic.finish()?,
        None => scene.fared.clone().ok_or("the row has no traffic")?,
    };
    Ok(Result { fared, direct: scene.direct })
}

impl Scene<'_> {
    /// Waits until both sides use a direct path and keep it; gives the time until they had it.
    fn direct_within(&self, patience: Duration) -> Outcome<Duration> {
        let begin = Instant::now();
        let mut since = None;
        while begin.elapsed() < patience {
            let looked = begin.elapsed();
            let peers = [self.daemons.peer(Side::A)?, self.daemons.peer(Side::B)?].map(Option::unwrap_or_default);
            if peers.iter().all(|peer| peer["relay"] == false && peer["encrypted"] == true) {
                let since = *since.get_or_insert(looked);
                if looked - since >= KEPT {
                    return Ok(since);
                }
            } else {
                since = None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("no direct path within {patience:?}"))
    }

    /// Ends the traffic that runs.
    fn quiet(&mut self) -> Outcome<()> {
        self.fared = self.traffic.take().map(Traffic::finish).transpose()?;
        Ok(())
    }

    /// Opens a stream, and notes the time to its first byte as the only stall.
    fn first_byte(&mut self, begin: Instant) -> Outcome<()> {
        self.daemons.echo()?.exchange("first")?;
        self.fared = Some(Fared { longest_stall: begin.elapsed(), lost: 0, end: None });
        Ok(())
    }
}

/// A router forgets every flow, and maps ports otherwise.
fn router_restarts(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.lab.restart_router(Side::A)
}

/// A router gets another public address.
fn address_changes(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.lab.change_address(Side::A)
}

/// A host moves to another address behind its router.
fn roam(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.lab.roam(Side::A)
}

/// Nothing passes on the direct way.
fn cut_both_ways(scene: &mut Scene<'_>) -> Outcome<()> {
    Side::BOTH.into_iter().try_for_each(|side| scene.lab.cut(side))?;
    std::thread::sleep(CALM);
    Ok(())
}

/// What side a sends does not pass on the direct way.
fn cut_a_to_b(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.lab.cut(Side::A)?;
    std::thread::sleep(CALM);
    Ok(())
}

/// What side b sends does not pass on the direct way.
fn cut_b_to_a(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.lab.cut(Side::B)?;
    std::thread::sleep(CALM);
    Ok(())
}

/// The network of side a lets no UDP pass for twenty seconds.
fn udp_blocked(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.lab.block_udp(Side::A)?;
    std::thread::sleep(Duration::from_secs(20));
    scene.lab.unblock(Side::A)
}

/// The network of a side of a relayed pair lets no UDP pass for a minute and more, so that it is tried again several times.
fn relayed_without_udp(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.lab.block_udp(Side::A)?;
    std::thread::sleep(Duration::from_secs(70));
    scene.lab.unblock(Side::A)?;
    let begin = Instant::now();
    while scene.direct.is_none() && begin.elapsed() < PATIENCE {
        scene.direct = (scene.daemons.carrier(Side::A)? == "udp").then(|| begin.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A node starts where no UDP passes: from its start to the first byte.
fn first_byte_without_udp(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.quiet()?;
    scene.daemons.ask(Side::A, &["daemon", "stop"])?;
    scene.lab.block_udp(Side::A)?;
    let begin = Instant::now();
    scene.daemons.start_daemon(Side::A)?;
    scene.first_byte(begin)
}

/// A node starts where nothing passes but what an HTTPS proxy lets out: from its start to the first byte.
fn first_byte_by_proxy(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.quiet()?;
    scene.daemons.ask(Side::A, &["daemon", "stop"])?;
    scene.daemons.add_proxy()?;
    scene.lab.block_all_but_proxy(Side::A)?;
    let begin = Instant::now();
    scene.daemons.start_daemon(Side::A)?;
    scene.first_byte(begin)
}

/// The rendezvous, which relays, is away for a minute.
fn rendezvous_away(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.daemons.kill_rendezvous();
    std::thread::sleep(Duration::from_secs(60));
    scene.daemons.start_rendezvous()
}

/// Of two relays that both nodes use, the process of the one that carries the stream is killed.
fn relay_killed(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.quiet()?;
    scene.daemons.add_spare()?;
    scene.traffic = Some(Traffic::start(&scene.daemons)?);
    std::thread::sleep(CALM);
    scene.daemons.kill_rendezvous();
    std::thread::sleep(CALM);
    Ok(())
}

/// The pair says nothing for ten minutes, in which routers forget.
fn rest(scene: &mut Scene<'_>) -> Outcome<()> {
    scene.quiet()?;
    std::thread::sleep(Duration::from_secs(600));
    let begin = Instant::now();
    scene.first_byte(begin)?;
    let opened = begin.elapsed();
    scene.direct = scene.direct_within(PATIENCE).ok().map(|took| opened + took);
    Ok(())
}
