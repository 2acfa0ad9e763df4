//! Runs the fuzz targets over seeded random and half-valid input, in every `cargo test`.

use pilot_core::control::{Call, Candidates, Control, Query, Ticket};
use pilot_core::extensions::Extensions;
use pilot_core::identity::Profile;
use pilot_core::rng::Rng;
use pilot_core::{Addr, Identity, NodeRecord};

/// Valid encodings, which mutation turns into nearly valid ones.
fn corpus() -> Vec<Vec<u8>> {
    let record = NodeRecord::sign(&Identity::from_seed([1; 32]), Addr::new(0, 5), &Profile::default(), 7).emit();
    let addr = "192.0.2.1:9".parse().expect("an address");
    // The rows of a roster, and codes of both versions.
    let rows = include_str!("../../core/src/group/golden.txt").lines().map(unhex);
    let codes = [include_str!("../../core/src/invite/golden.txt"), include_str!("../../core/src/invite/enrolment.txt")];
    let codes = codes.into_iter().flat_map(str::lines).map(|code| code.as_bytes().to_vec());
    let own = vec![
        record.clone(),
        Control::Call(Ticket(1), Call::Register(record), Extensions::NONE).emit(),
        Control::Call(Ticket(2), Call::Lookup(Query::Name("worker-node".into())), Extensions::NONE).emit(),
        Control::Candidates(Candidates { list: vec![addr], mapped: vec![addr], ..Candidates::default() }).emit(),
        pilot_core::trust::TrustBook::default().emit(),
        vec![1, 100, 0, 2, 10, 3, 4, 5, 6, 4, 1, 2, 3],
        b"0:0000.0001.F00D:1000".to_vec(),
    ];
    own.into_iter().chain(rows).chain(codes).collect()
}

fn unhex(line: &str) -> Vec<u8> {
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).expect("digits"), 16).expect("a byte");
    line.as_bytes().chunks_exact(2).map(byte).collect()
}

fn mutated(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = corpus[rng.below(corpus.len() as u64) as usize].clone();
    for _ in 0..rng.below(4) {
        let at = rng.below(bytes.len().max(1) as u64) as usize;
        match rng.below(3) {
            0 if !bytes.is_empty() => bytes[at] = rng.u32() as u8,
            1 => bytes.truncate(at),
            _ => bytes.insert(at.min(bytes.len()), rng.u32() as u8),
        }
    }
    bytes
}

#[test]
fn parsers_survive_mutations() {
    let (corpus, mut rng) = (corpus(), Rng::new([1; 32]));
    corpus.iter().for_each(|bytes| pilot_fuzz::parsers(bytes));
    for _ in 0..20_000 {
        pilot_fuzz::parsers(&mutated(&corpus, &mut rng));
    }
}

#[test]
fn segments_of_a_hostile_peer_break_nothing() {
    let mut rng = Rng::new([3; 32]);
    for _ in 0..200 {
        let steps: Vec<u8> = (0..8 * rng.below(200)).map(|_| rng.u32() as u8).collect();
        pilot_fuzz::segments(&steps);
    }
}

#[test]
fn session_open_survives_random_schedules() {
    let mut rng = Rng::new([2; 32]);
    for _ in 0..100 {
        let steps: Vec<u8> = (0..4 * rng.below(500)).map(|_| rng.u32() as u8).collect();
        pilot_fuzz::session_open(&steps);
    }
}

/// Requests of clients and attackers, behind the byte that cuts them.
fn requests() -> Vec<Vec<u8>> {
    let texts = [
        "GET /a HTTP/1.1\r\nHost: b\r\nPilot-Peer: x\r\nPilot_Peer_Address: y\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nabcdeGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nPilot-Peer: x\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "GET http://a:1/x HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET http://c/ HTTP/1.1\r\nHost: c\r\n\r\n",
        "CONNECT worker-node.pilot:443 HTTP/1.1\r\nHost: a\r\n\r\n\u{16}\u{3}\u{1}",
        "\u{5}\u{1}\0\u{5}\u{1}\0\u{3}\u{2}ab\0\u{50}bytes",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    texts.iter().enumerate().map(|(at, text)| [&[at as u8 * 9], text.as_bytes()].concat()).collect()
}

#[test]
fn filters_let_no_forged_header_through() {
    let (corpus, mut rng) = (requests(), Rng::new([4; 32]));
    corpus.iter().for_each(|bytes| pilot_fuzz::filters(bytes));
    for _ in 0..5_000 {
        pilot_fuzz::filters(&mutated(&corpus, &mut rng));
        let (a, b) = (mutated(&corpus, &mut rng), mutated(&corpus, &mut rng));
        pilot_fuzz::filters(&[a, b].concat());
    }
}

#[test]
fn what_comes_by_tls_means_the_same_however_it_is_cut() {
    let (corpus, mut rng) = (pilot_fuzz::web_examples(), Rng::new([5; 32]));
    corpus.iter().for_each(|bytes| pilot_fuzz::web(bytes));
    for _ in 0..5_000 {
        pilot_fuzz::web(&mutated(&corpus, &mut rng));
        let (a, b) = (mutated(&corpus, &mut rng), mutated(&corpus, &mut rng));
        pilot_fuzz::web(&[a, b].concat());
    }
}

/// A fuzz target.
type Target = fn(&[u8]);

/// Runs a target over its committed corpus, then over seeded random steps; returns how many inputs there were.
fn run(name: &str, target: Target, inputs: u64, len_max: u64) -> usize {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = files.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    for path in &paths {
        println!("{}", path.display());
        target(&std::fs::read(path).expect("readable"));
    }
    for seed in 0..inputs {
        println!("{name}, seed {seed}");
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = Rng::new(bytes);
        let steps: Vec<u8> = (0..rng.below(len_max)).map(|_| rng.u32() as u8).collect();
        target(&steps);
    }
    paths.len()
}

#[test]
fn what_is_read_was_written_whatever_applications_and_network_do() {
    assert!(run("operations", pilot_fuzz::operations, 300, 4 * 150) > 0);
}

#[test]
fn an_attacker_between_two_friends_delays_their_keys_at_most() {
    assert!(run("exchange", pilot_fuzz::exchange, 300, 4 * 200) > 0);
}

#[test]
fn no_message_makes_a_pin_without_its_owners_consent() {
    assert!(run("trust", pilot_fuzz::trust, 300, 4 * 300) > 0);
}

#[test]
fn members_that_hear_each_other_have_one_roster() {
    assert!(run("rosters", pilot_fuzz::rosters, 100, 4 * 200) > 0);
}

#[test]
fn books_recover_from_failures_power_cuts_and_decay() {
    assert!(run("books", pilot_fuzz::books, 2000, 4 * 200) > 0);
}

#[test]
fn a_world_works_again_once_its_faults_are_over() {
    assert!(run("world", pilot_fuzz::world, 10, 2 * 30) > 0);
}

#[test]
fn a_control_stream_is_whole_or_broken_and_holds_little() {
    assert!(run("control_stream", pilot_fuzz::control_stream, 300, 4 * 2000) > 0);
}

#[test]
fn what_local_programs_say_is_read_alike_in_any_pieces() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/ipc");
    let files = std::fs::read_dir(&folder).expect("the corpus").map(|entry| entry.expect("readable").path());
    let corpus: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).expect("readable")).collect();
    let mut rng = Rng::new([6; 32]);
    for _ in 0..5_000 {
        pilot_fuzz::ipc(&mutated(&corpus, &mut rng));
    }
    assert!(run("ipc", pilot_fuzz::ipc, 300, 2000) > 0);
}

#[test]
fn a_gateway_that_says_anything_maps_nothing_harmful() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/mapping");
    let files = std::fs::read_dir(&folder).expect("the corpus").map(|entry| entry.expect("readable").path());
    let corpus: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).expect("readable")).collect();
    let mut rng = Rng::new([8; 32]);
    for _ in 0..5_000 {
        pilot_fuzz::mapping(&mutated(&corpus, &mut rng));
    }
    assert!(run("mapping", pilot_fuzz::mapping, 300, 2000) > 0);
}

#[test]
fn announcements_are_heard_by_those_they_are_for_and_cost_little() {
    assert!(run("announcements", pilot_fuzz::announcements, 300, 4 * 400) > 0);
}

#[test]
fn books_with_any_rows_accept_and_give_messages() {
    assert!(run("inbox", pilot_fuzz::inbox, 300, 2000) > 0);
}

#[test]
fn the_corpora_of_the_other_targets_hold() {
    let targets: [(&str, Target); 5] = [
        ("parsers", pilot_fuzz::parsers),
        ("session_open", pilot_fuzz::session_open),
        ("segments", pilot_fuzz::segments),
        ("filters", pilot_fuzz::filters),
        ("web", pilot_fuzz::web),
    ];
    for (name, target) in targets {
        assert!(run(name, target, 0, 1) > 0, "{name} has no corpus");
    }
}
