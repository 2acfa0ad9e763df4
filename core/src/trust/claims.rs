//! Owns which peers claim which names. Claims are not on disk, since every peer shows its record with the next session.

use crate::identity::IdentityKey;
use alloc::string::String;
use litemap::LiteMap;

/// The names that nameless peers have in their records, with the sequences of these records. At most one for each pin.
#[derive(Debug, Default)]
pub(super) struct Claims(LiteMap<IdentityKey, (String, u64)>);

impl Claims {
    /// The record with this sequence has a name that another pin has.
    pub(super) fn add(&mut self, key: IdentityKey, name: &str, sequence: u64) {
        self.0.insert(key, (name.into(), sequence));
    }

    /// The peer has a name, or no pin any more.
    pub(super) fn end(&mut self, key: &IdentityKey) {
        self.0.remove(key);
    }

    /// Takes the claim with the newest record among those that `fits`: the peer, the name, and the record's sequence.
    pub(super) fn take_newest(
        &mut self,
        fits: impl Fn(&IdentityKey, &str) -> bool,
    ) -> Option<(IdentityKey, String, u64)> {
        let fitting = self.0.iter().filter(|(key, (name, _))| fits(key, name));
        let key = *fitting.max_by_key(|(_, (_, sequence))| *sequence)?.0;
        let (name, sequence) = self.0.remove(&key)?;
        Some((key, name, sequence))
    }
}
