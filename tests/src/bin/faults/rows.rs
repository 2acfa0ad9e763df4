//! Owns the proofs: what is run for each row of `docs/faults.md`.

use crate::measured::Measured;
use crate::scenarios::{load, path, process};

/// A test of another target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    pub(crate) package: &'static str,
    /// The words that choose the target, as cargo takes them.
    pub(crate) target: &'static [&'static str],
    pub(crate) name: &'static str,
}

/// One proof of a row.
pub(crate) enum Proof {
    /// A scenario of this program.
    Here(fn() -> Measured),
    /// Real processes for as long as the command line says.
    Churn,
    /// A test elsewhere.
    Elsewhere(Test),
}

impl Proof {
    /// The test elsewhere, if it is one.
    pub(crate) const fn test(&self) -> Option<Test> {
        if let Self::Elsewhere(test) = self { Some(*test) } else { None }
    }
}

const fn lib(package: &'static str, name: &'static str) -> Proof {
    Proof::Elsewhere(Test { package, target: &["--lib"], name })
}

/// A test of one of this project's integration tests.
macro_rules! test {
    ($package:literal, $target:literal, $name:literal) => {
        Proof::Elsewhere(Test { package: $package, target: &["--test", $target], name: $name })
    };
}

/// The proofs of a row; none for a row that has no proof yet.
pub(crate) fn proofs(name: &str) -> &'static [Proof] {
    ROWS.iter().find(|(own, _)| *own == name).map_or(&[], |(_, proofs)| proofs)
}

/// Every row with its proofs.
pub(crate) const ROWS: &[(&str, &[Proof])] = &[
    ("loss", &[Proof::Here(path::loss)]),
    (
        "reorder",
        &[
            Proof::Here(path::reorder),
            test!("pilot-tests", "simulation", "reordering_duplication_and_bit_flips_harm_nothing"),
        ],
    ),
    ("nat", &[Proof::Here(path::nat)]),
    ("restart", &[Proof::Here(process::restart)]),
    (
        "kill-inbox",
        &[
            test!("pilotctl", "session", "kills_at_random_moments_lose_and_double_no_message"),
            test!("pilotctl", "session", "what_was_acknowledged_survives_kill_minus_nine_of_the_receiver"),
        ],
    ),
    (
        "power",
        &[
            lib("pilot-node", "disk::tests::power::no_power_cut_or_failure_loses_what_was_confirmed_or_shows_it_twice"),
            test!("pilot-tests", "power", "approval_survives_a_power_cut_at_every_moment"),
        ],
    ),
    ("rendezvous-away", &[Proof::Here(process::rendezvous_away)]),
    ("clock", &[]),
    (
        "disk-full",
        &[
            lib("pilot-node", "event_loop::rooms::tests::a_failed_disk_fails_the_call_and_sends_nothing"),
            lib("pilot-node", "disk::files::tests::a_full_disk_is_told_as_such"),
        ],
    ),
    ("descriptors", &[]),
    ("garbage", &[Proof::Here(load::garbage)]),
    ("init-flood", &[]),
    ("replay", &[Proof::Here(load::replay)]),
    ("stopped-reader", &[Proof::Here(load::stopped_reader)]),
    ("streams", &[Proof::Here(load::streams)]),
    ("restarts", &[Proof::Here(process::restarts)]),
    ("malicious", &[test!("pilot-fuzz", "smoke", "segments_of_a_hostile_peer_break_nothing")]),
    ("one-home", &[]),
    ("churn", &[Proof::Churn]),
    ("S1", &[]),
    ("S2", &[]),
    ("S3", &[]),
    ("S4", &[]),
    ("S5", &[]),
    ("S6", &[]),
    ("S7", &[]),
    ("S8", &[]),
    ("S9", &[]),
    ("S10", &[]),
    ("S11", &[]),
    ("S12", &[]),
    ("S13", &[]),
    ("S14", &[]),
    ("S15", &[]),
    ("T1", &[]),
    ("T2", &[]),
    ("T4", &[]),
    ("T5", &[]),
    ("T6", &[]),
    ("T7", &[]),
    ("P2", &[]),
    ("P3", &[]),
    ("P4", &[]),
    ("R1", &[]),
    ("R2", &[]),
    ("R5", &[]),
    ("R6", &[]),
    ("R7", &[]),
    ("R8", &[test!("pilot-tests", "grants", "grants_with_an_end_reset_streams_at_their_end")]),
    ("R10", &[]),
    ("R12", &[]),
    ("R13", &[Proof::Here(path::late)]),
    ("R14", &[Proof::Here(path::rise)]),
    ("R15", &[]),
    ("R16", &[]),
];
