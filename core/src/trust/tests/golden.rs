//! The frozen bytes of the trust book on disk: each change of its form is seen here, and gets a number of its own.

use super::*;
use std::string::String;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A book with a row of each kind: two pins (one with all of its parts), a request, a question, an own request, epochs, a
/// revocation of an unknown key, and a letter.
fn book() -> TrustBook {
    let (mut a, mut b) = trusting_pair();
    let (key, of_a) = (b.key(), a.key());
    a.book.set_kem(&key, &[9; 32]);
    a.book.set_quota(&key, Some("memory=2MB".parse().expect("a quota"))).expect("a peer");
    a.book.note_endpoint(&key, SocketAddr::from(([10, 0, 0, 2], 4000)));
    a.at(NOW, |book, me, rng| book.regrant(me, &key, &Regrant::Grant(Ports::one(80), Some(NOW + 900)), rng))
        .expect("a peer");
    a.at(NOW, |book, me, rng| book.wish(me, &key, (&Ports::one(22), "mine"), rng)).expect("a peer");
    let wish = b.at(NOW, |book, me, rng| book.wish(me, &of_a, (&Ports::one(443), "theirs"), rng)).expect("a peer");
    assert_eq!(a.receive(&wish), Outcome::Wished(key));
    for n in [3, 4, 5] {
        let mut other = Owner::new(n);
        let request = other.request(&a);
        a.receive(&request);
        if n == 3 {
            a.approve(other.key());
        }
    }
    a.book.pending.get_mut(&Owner::new(5).key()).expect("waits").is_question = true;
    a.book.note_seen();
    a.request(&Owner::new(6));
    a.book.note_revocation(Owner::new(7).key(), 70);
    a.book.add_letter(Owner::new(8).key(), Vec::from(*b"sealed")).expect("room");
    a.book
}

/// `PILOT_BLESS=1` writes the file anew: for a new number of the form only.
#[test]
fn the_book_on_disk_has_the_frozen_form() {
    let bytes = book().emit();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/trust/tests/golden.txt");
    if std::env::var_os("PILOT_BLESS").is_some() {
        std::fs::write(path, hex(&bytes) + "\n").expect("the file is written");
    }
    let frozen = std::fs::read_to_string(path).expect("the frozen book");
    assert_eq!(hex(&bytes), frozen.trim_end(), "{path} differs");
    assert_eq!(TrustBook::parse(&bytes).expect("own form").emit(), bytes);
    for len in 0..bytes.len() {
        assert!(TrustBook::parse(&bytes[..len]).is_err(), "{len} bytes are no book");
    }
}
