//! Owns which trusted peer has which name: no two pins have one hostname.

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
        if !is_taken {
            pin.marks.sequence = record.sequence; // otherwise the same record may get its name later
        }
        if pin.hostname == hostname {
            return None;
        }
        let former = core::mem::replace(&mut pin.hostname, hostname);
        self.changed();
        let renaming = Renaming { former, wanted: record.hostname.clone(), is_refused: is_taken };
        Some(Outcome::Renamed(record.identity, renaming))
    }

    /// Lets the newest record have its name: another pin of that name is called by its address from now on.
    pub(super) fn take_name_away(&mut self, record: &NodeRecord) {
        for (_, pin) in &mut self.pins {
            if pin.identity != record.identity
                && pin.hostname == record.hostname
                && pin.marks.sequence <= record.sequence
            {
                pin.hostname.clear();
            }
        }
    }

    /// True when another pin has the hostname of `record`.
    pub(super) fn is_name_taken(&self, record: &NodeRecord) -> bool {
        let is_other = |pin: &Pin| pin.identity != record.identity && pin.hostname == record.hostname;
        !record.hostname.is_empty() && self.pins.values().any(is_other)
    }
}
