//! Fuzz targets as plain functions: `cargo test` runs them over a corpus and seeded random input, and the programs under
//! `fuzz_targets/` give them to libFuzzer. A target panics when an invariant breaks.
#![forbid(unsafe_code)]

mod announcements;
mod books;
mod control_stream;
mod exchange;
mod filters;
mod inbox;
mod ipc;
mod mapping;
mod operations;
mod pair;
mod rosters;
mod segments;
mod trust;
mod web;
mod world;

pub use announcements::announcements;
pub use books::books;
pub use control_stream::control_stream;
pub use exchange::exchange;
pub use filters::filters;
pub use inbox::inbox;
pub use ipc::ipc;
pub use mapping::mapping;
pub use operations::operations;
pub use rosters::rosters;
pub use segments::segments;
pub use trust::trust;
pub use web::{web, web_examples};
pub use world::world;

use pilot_core::aead::{PORTABLE, TAG_LEN};
use pilot_core::control::Control;
use pilot_core::group::{Row, Talk};
use pilot_core::identity::{NodeRecord, valid_hostname};
use pilot_core::invite::JoinCode;
use pilot_core::link::frame::{Frame, Frames};
use pilot_core::noise::TrafficKeys;
use pilot_core::trust::TrustBook;
use pilot_core::tunnel::session::{Indexes, OpenError, Session, Side};
use pilot_core::wire::{DATA_HEADER_LEN, Datagram, LocalIndex, RemoteIndex};
use pilot_core::{Addr, AddrPort, Instant};

/// Runs every parser of bytes from outside: none may panic, and a parsed value must survive emitting and parsing again.
pub fn parsers(bytes: &[u8]) {
    let _ = Datagram::parse(bytes);
    for frame in Frames::new(bytes) {
        if let Ok(Frame::Ack(ack)) = frame {
            let mut below = u64::MAX;
            for range in ack.ranges() {
                assert!(range.start() <= range.end() && *range.end() < below, "ranges descend and do not touch");
                below = range.start().saturating_sub(1);
            }
        }
    }
    if let Ok(message) = Control::parse(bytes) {
        assert_eq!(Control::parse(&message.emit()).as_ref(), Ok(&message));
    }
    if let Ok(row) = Row::parse(bytes) {
        assert_eq!(row.emit(), bytes, "one form for one content");
    }
    if let Ok(talk) = Talk::parse(bytes) {
        assert_eq!(Talk::parse(&talk.emit()).as_ref(), Ok(&talk));
    }
    if let Ok(record) = NodeRecord::parse(bytes) {
        assert_eq!(NodeRecord::parse(&record.emit()).as_ref(), Ok(&record));
    }
    if let Ok(book) = TrustBook::parse(bytes) {
        assert!(TrustBook::parse(&book.emit()).is_ok());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(addr) = text.parse::<Addr>() {
            assert_eq!(addr.to_string().parse(), Ok(addr));
        }
        if let Ok(addr) = text.parse::<AddrPort>() {
            assert_eq!(addr.to_string().parse(), Ok(addr));
        }
        if let Ok(code) = text.parse::<JoinCode>() {
            let again = match &code {
                JoinCode::Invite(code) => code.emit(),
                JoinCode::Enrolment(code) => code.emit(),
            };
            assert_eq!(again.map(|text| text.parse()), Ok(Ok(code)));
        }
        assert!(!valid_hostname(text) || text.len() <= 63);
    }
}

/// Runs a receiving session against a model: the session opens each sealed datagram exactly once, among replayed and damaged
/// ones. The input is a list of steps of four bytes: the action, a datagram, the place of the damage, the damage.
pub fn session_open(bytes: &[u8]) {
    let keys = |send: u8, receive: u8| TrafficKeys { send: [send; 32], receive: [receive; 32], exporter: [0; 32] };
    let indexes = |local, remote| Indexes { local: LocalIndex(local), remote: RemoteIndex(remote) };
    let mut sender = Session::new(&PORTABLE, &keys(1, 2), indexes(10, 20), Side::Initiator, Instant::ZERO);
    let mut receiver = Session::new(&PORTABLE, &keys(2, 1), indexes(20, 10), Side::Responder, Instant::ZERO);
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    let mut opened = std::collections::BTreeSet::new();
    for step in bytes.chunks_exact(4).take(2000) {
        let [what, which, at, how] = [step[0], step[1], step[2], step[3]];
        if what % 4 == 0 || sealed.is_empty() {
            let mut datagram = vec![how; DATA_HEADER_LEN + usize::from(at) + TAG_LEN];
            assert_eq!(sender.next_counter().0 as usize, sealed.len());
            sender.seal(&mut datagram);
            sealed.push(datagram);
            continue;
        }
        let counter = (usize::from(which) % sealed.len()) as u64;
        let mut datagram = sealed[counter as usize].clone();
        let damaged = what % 4 == 1 && how != 0;
        if damaged {
            let at = usize::from(at) % datagram.len();
            datagram[at] ^= how;
        }
        let Ok(Datagram::Data { receiver: index, counter: named }) = Datagram::parse(&datagram) else { continue };
        if index != LocalIndex(20) {
            continue; // the damage names another session
        }
        match receiver.open(named, &mut datagram) {
            Ok(_) => {
                assert!(!damaged, "a damaged datagram was opened");
                assert!(opened.insert(counter), "a datagram was opened twice");
            }
            Err(OpenError::Replay) => assert!(opened.contains(&counter), "an honest datagram was refused"),
            Err(OpenError::Tag | OpenError::Counter) => assert!(damaged, "an honest datagram did not open"),
        }
    }
}
