//! Owns which trusted peer has which name: no two pins have one hostname.
//!
//! A peer whose name another one has is called by its address and has a claim (`claims`): it gets the name as soon as the other has
//! given it up, or is trusted no more.

use super::pin::Pin;
use super::{Outcome, Renaming, TrustBook};
use crate::identity::NodeRecord;
use alloc::string::String;

impl TrustBook {
    /// Takes a newer record of a trusted peer, which may have another name now. A name that another pin has is refused: the
    /// peer is called by its address until the other gives the name up.
    pub(crate) fn refresh(&mut self, record: &NodeRecord) -> Option<Outcome> {
        let is_taken = self.is_name_taken(record);
        let pin = self.pins.get_mut(&record.identity)?;
        if record.sequence <= pin.marks.sequence || record.static_key != pin.static_key {
            return None;
        }
        let hostname = if is_taken { String::new() } else { record.hostname.clone() };
        if is_taken {
            self.claims.add(record.identity, &record.hostname, record.sequence);
        } else {
            pin.marks.sequence = record.sequence; // otherwise the same record may get its name later
            self.claims.end(&record.identity);
        }
        if pin.hostname == hostname {
            return None;
        }
        let former = core::mem::replace(&mut pin.hostname, hostname);
        self.changed();
        let renaming = Renaming { former, wanted: record.hostname.clone(), is_refused: is_taken };
        Some(Outcome::Renamed(record.identity, renaming))
    }

    /// Gives a name that no pin has any more to the peer that claims it, of several to the one with the newest record. To be
    /// called until it gives nothing, after every change of the book.
    pub(crate) fn settle_name(&mut self) -> Option<Outcome> {
        let pins = &self.pins;
        let is_free = |name: &str| !pins.values().any(|pin| pin.hostname == name);
        let (key, wanted, sequence) = self.claims.take_newest(|key, name| pins.contains_key(key) && is_free(name))?;
        let pin = self.pins.get_mut(&key)?;
        debug_assert!(pin.hostname.is_empty(), "a peer with a name claims none");
        (pin.hostname, pin.marks.sequence) = (wanted.clone(), pin.marks.sequence.max(sequence));
        self.changed();
        Some(Outcome::Renamed(key, Renaming { former: String::new(), wanted, is_refused: false }))
    }

    /// Lets the newest record have its name: another pin of that name is called by its address from now on.
    pub(super) fn take_name_away(&mut self, record: &NodeRecord) {
        if record.hostname.is_empty() {
            return;
        }
        for (_, pin) in &mut self.pins {
            if pin.identity != record.identity
                && pin.hostname == record.hostname
                && pin.marks.sequence <= record.sequence
            {
                pin.hostname.clear();
                self.claims.add(pin.identity, &record.hostname, pin.marks.sequence);
                pin.marks.sequence = pin.marks.sequence.saturating_sub(1); // the same record may get its name later
            }
        }
    }

    /// The hostname for a new pin, and the sequence of the record that it is from: no name while another pin has it.
    pub(super) fn name_for(&mut self, record: &NodeRecord) -> (String, u64) {
        if self.is_name_taken(record) {
            self.claims.add(record.identity, &record.hostname, record.sequence);
            return (String::new(), 0);
        }
        self.claims.end(&record.identity);
        (record.hostname.clone(), record.sequence)
    }

    /// True when another pin has the hostname of `record`.
    fn is_name_taken(&self, record: &NodeRecord) -> bool {
        let is_other = |pin: &Pin| pin.identity != record.identity && pin.hostname == record.hostname;
        !record.hostname.is_empty() && self.pins.values().any(is_other)
    }
}
