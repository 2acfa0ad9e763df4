//! Owns three owners that ask, approve, reject and revoke, and a network that delivers their messages in any order, again and
//! again, to anybody, and damaged.

use pilot_core::identity::{IdentityKey, NodeRecord, Profile};
use pilot_core::rng::Rng;
use pilot_core::trust::{Me, Terms, TrustBook};
use pilot_core::{Addr, Identity};
use std::collections::BTreeSet;

const OWNERS: usize = 3;
/// Most steps of one input.
const STEPS_MAX: usize = 400;
/// Most messages that the network keeps for later.
const MESSAGES_MAX: usize = 64;
/// The time of the first step. Unit: seconds since 1970.
const START_S: u64 = 1_700_000_000;

struct Owner {
    identity: Identity,
    record: NodeRecord,
    bytes: Vec<u8>,
    book: TrustBook,
    /// The keys to which this owner has said yes since the last no: by a request or an approval.
    consent: BTreeSet<IdentityKey>,
}

/// Runs three trust books against a model of their owners' will. The input is a list of steps of four bytes: an action, an
/// owner, another owner or a message, a detail.
///
/// Invariants: a book pins no key without its own owner's consent, whatever messages come; a book that was saved and read
/// again has the same pins.
pub fn trust(bytes: &[u8]) {
    let mut owners: Vec<Owner> = (0..OWNERS).map(Owner::new).collect();
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut rng = Rng::new([8; 32]);
    let mut now_s = START_S;
    for step in bytes.chunks_exact(4).take(STEPS_MAX) {
        let [what, who, which, how] = [step[0], step[1], step[2], step[3]];
        let at = usize::from(who) % OWNERS;
        let other = (at + 1 + usize::from(which) % (OWNERS - 1)) % OWNERS;
        match what % 8 {
            0..=3 => {
                messages.extend(act(&mut owners, what % 8, (at, other), now_s, &mut rng));
                messages.truncate(MESSAGES_MAX);
            }
            4 | 5 if !messages.is_empty() => {
                let message = messages[usize::from(which) % messages.len()].clone();
                owners[at].receive(now_s, &message);
            }
            6 if !messages.is_empty() => {
                let mut message = messages[usize::from(which) % messages.len()].clone();
                let place = usize::from(how) % message.len();
                message[place] ^= 1 << (which % 8);
                owners[at].receive(now_s, &message);
            }
            7 if how % 2 == 0 => now_s += u64::from(which) * 600,
            _ => owners[at].save_and_read(),
        }
        owners.iter().for_each(Owner::check);
    }
}

/// Lets an owner act upon another one; returns the message that leaves.
fn act(owners: &mut [Owner], what: u8, (at, other): (usize, usize), now_s: u64, rng: &mut Rng) -> Option<Vec<u8>> {
    let record = owners[other].record.clone();
    let key = record.identity;
    let Owner { identity, bytes, book, consent, .. } = &mut owners[at];
    let me = Me { identity, record: bytes, now_s, common_s: now_s };
    let made = match what {
        0 => book.request(&me, &record, &Terms::default(), rng),
        1 => book.approve(&me, &key, &Terms::default(), rng),
        2 => book.reject(&me, &key, "no", rng),
        _ => book.revoke(&me, &key, rng).map(|(_, message)| message),
    };
    if made.is_ok() {
        if what < 2 {
            consent.insert(key);
        } else if what == 3 || (book.pin(&key).is_none() && book.outgoing().all(|record| record.identity != key)) {
            // A rejection answers the other owner's question; it leaves an own one open, and a pin in force.
            consent.remove(&key);
        }
    }
    // A refusal of the book, such as of an approval without a request, is no fault.
    made.ok()
}

impl Owner {
    fn new(number: usize) -> Self {
        let identity = Identity::from_seed([number as u8 + 1; 32]);
        let record = NodeRecord::sign(&identity, Addr::new(0, number as u32 + 1), &Profile::default(), 1);
        let bytes = record.emit();
        Self { identity, record, bytes, book: TrustBook::default(), consent: BTreeSet::new() }
    }

    fn receive(&mut self, now_s: u64, message: &[u8]) {
        let me = Me { identity: &self.identity, record: &self.bytes, now_s, common_s: now_s };
        // Every outcome is allowed; the invariants are checked afterwards.
        let _ = self.book.receive(&me, message, None);
    }

    fn save_and_read(&mut self) {
        let pins = |book: &TrustBook| book.pins().map(|pin| pin.identity).collect::<Vec<_>>();
        let saved = TrustBook::parse(&self.book.emit()).expect("own form");
        assert_eq!(pins(&saved), pins(&self.book), "a pin was lost or made by saving");
        self.book = saved;
    }

    fn check(&self) {
        let stranger = self.book.pins().find(|pin| !self.consent.contains(&pin.identity));
        assert!(stranger.is_none(), "a key is pinned without its owner's consent");
    }
}
