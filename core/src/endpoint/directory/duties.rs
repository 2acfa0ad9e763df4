//! Owns what the rendezvous has to confirm and has not yet: changes of grants, letters that were taken, and the pauses after
//! its refusals.

use crate::control::{Call, GRANTS_MAX, Grant, InboxNumber};
use crate::identity::IdentityKey;
use crate::time::{Duration, Instant};
use alloc::vec::Vec;

/// Bounds of the pause after a refusal that may be over a little later. Source: `docs/trust.md`, "Calls end".
const PAUSE_MIN: Duration = Duration::from_secs(1);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(20);
/// Pause after the word that the recipient's mailbox is full.
const MAILBOX_PAUSE: Duration = Duration::from_secs(10);
/// Most mailboxes that are known to be full. Source: own choice; letters to others are tried.
const FULL_MAILBOXES_MAX: usize = 512;

/// Changes of grants that the rendezvous has not confirmed.
#[derive(Default)]
struct Grants {
    /// All grants are to be told: those of keys above this one are still missing. The first of them ends all former grants.
    whole: Option<Option<IdentityKey>>,
    /// What `whole` becomes when the call that is under way is confirmed; `None`: that call says nothing about it.
    next: Option<Option<Option<IdentityKey>>>,
    /// Keys with grants that may have changed; at most [`GRANTS_MAX`].
    changed: Vec<IdentityKey>,
    /// Those at the front of `changed` that the call under way names.
    sent: usize,
}

/// What the rendezvous has to confirm.
#[derive(Default)]
pub(super) struct Duties {
    grants: Grants,
    taken: Vec<InboxNumber>,
    taken_sent: usize,
    /// Recipients with full mailboxes, and when each is tried again.
    full: Vec<(IdentityKey, Instant)>,
    /// Relays to peers are to be asked for again.
    pub(super) relays: bool,
    /// When something is to be done.
    due: Option<Instant>,
    /// Nothing is begun before.
    quiet_until: Option<Instant>,
    pause: Duration,
}

impl Duties {
    // Getters.

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn has_full_mailbox(&self, to: &IdentityKey) -> bool {
        self.full.iter().any(|(key, _)| key == to)
    }

    // Verbs.

    /// Looks for what can be done at `at`, or earlier.
    pub(super) fn look_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Begins anew with a rendezvous that may have none of our grants. No call with grants is under way.
    pub(super) fn begin(&mut self) {
        let taken = core::mem::take(&mut self.taken);
        *self = Self { grants: Grants { whole: Some(None), ..Grants::default() }, taken, ..Self::default() };
    }

    /// Forgets which letters were taken: the rendezvous delivers them again, perhaps under other numbers.
    pub(super) fn forget_taken(&mut self) {
        (self.taken, self.taken_sent) = (Vec::new(), 0);
    }

    /// True when it is time to look, and no pause holds.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|at| *at <= now);
        self.full.retain(|(_, until)| *until > now);
        if let Some(until) = self.quiet_until.filter(|until| *until > now) {
            self.look_at(until);
            return false;
        }
        self.quiet_until = None;
        self.full.iter().map(|(_, until)| *until).min().into_iter().for_each(|at| self.look_at(at));
        true
    }

    /// The rendezvous has confirmed something: the next refusal begins with the shortest pause.
    pub(super) const fn confirmed(&mut self) {
        self.pause = Duration::ZERO;
    }

    /// The rendezvous could not do something now. The pause doubles, unless the reason was only the number of calls.
    pub(super) fn refused(&mut self, now: Instant, is_crowded: bool) -> Duration {
        let longer = if is_crowded { PAUSE_MIN } else { self.pause * 2 };
        self.pause = longer.clamp(PAUSE_MIN, PAUSE_MAX);
        self.quiet_until = Some(now + self.pause);
        self.look_at(now + self.pause);
        self.pause
    }

    pub(super) fn mailbox_is_full(&mut self, now: Instant, to: IdentityKey) {
        if self.full.len() < FULL_MAILBOXES_MAX && !self.has_full_mailbox(&to) {
            self.full.push((to, now + MAILBOX_PAUSE));
        }
        self.look_at(now + MAILBOX_PAUSE);
    }

    // Grants.

    /// The grant of this key may have changed.
    pub(super) fn grant_changed(&mut self, key: IdentityKey) {
        let grants = &mut self.grants;
        if grants.changed[grants.sent..].contains(&key) {
            return;
        }
        if grants.changed.len() < GRANTS_MAX {
            grants.changed.push(key);
        } else {
            *grants = Grants { whole: Some(None), ..Grants::default() };
        }
    }

    /// The next change to tell; `pins`: the keys of all peers, ascending.
    pub(super) fn next_grant<'a>(
        &mut self,
        pins: impl Iterator<Item = &'a IdentityKey>,
        is_pinned: impl Fn(&IdentityKey) -> bool,
    ) -> Option<Call> {
        let grants = &mut self.grants;
        if let Some(above) = grants.whole {
            let mut rest = pins.filter(|key| above.is_none_or(|above| **key > above)).copied();
            let add: Vec<_> = rest.by_ref().take(GRANTS_MAX).collect();
            let is_last = rest.next().is_none();
            grants.next = Some(add.last().filter(|_| !is_last).map(|key| Some(*key)));
            return Some(Call::Grant(Grant { is_whole: above.is_none(), add, remove: Vec::new() }));
        }
        if grants.changed.is_empty() {
            return None;
        }
        grants.sent = grants.changed.len();
        let (add, remove) = grants.changed.iter().partition(|key| is_pinned(key));
        Some(Call::Grant(Grant { is_whole: false, add, remove }))
    }

    /// The call with the last change has ended.
    pub(super) fn grant_ended(&mut self, is_confirmed: bool) {
        let grants = &mut self.grants;
        let (next, sent) = (grants.next.take(), core::mem::take(&mut grants.sent));
        debug_assert!(sent <= grants.changed.len(), "what was sent is still there");
        if is_confirmed {
            grants.whole = next.unwrap_or(grants.whole);
            grants.changed.drain(..sent);
        }
    }

    // Letters of our mailbox.

    /// A letter has had its effect. Beyond the maximum the letter comes again with the next registration.
    pub(super) fn letter_taken(&mut self, number: InboxNumber) {
        if self.taken.len() < GRANTS_MAX && !self.taken.contains(&number) {
            self.taken.push(number);
        }
    }

    pub(super) fn next_taken(&mut self) -> Option<Call> {
        self.taken_sent = self.taken.len();
        (!self.taken.is_empty()).then(|| Call::Taken(self.taken.clone()))
    }

    pub(super) fn taken_ended(&mut self, is_confirmed: bool) {
        let sent = core::mem::take(&mut self.taken_sent);
        if is_confirmed {
            self.taken.drain(..sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(range: core::ops::Range<u16>) -> Vec<IdentityKey> {
        let key = |n: u16| {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&n.to_be_bytes());
            IdentityKey(key)
        };
        range.map(key).collect()
    }

    /// The grants as a rendezvous that misses every third answer keeps them.
    #[test]
    fn grants_end_equal_to_the_pins_whatever_is_lost() {
        let mut pins = keys(0..2500);
        let (mut duties, mut there, mut calls) = (Duties::default(), Vec::new(), 0);
        duties.begin();
        for round in 0.. {
            let gone = keys(round * 7..round * 7 + 3);
            if round < 200 {
                pins.retain(|key| !gone.contains(key));
                gone.iter().for_each(|key| duties.grant_changed(*key));
            }
            let Some(Call::Grant(grant)) = duties.next_grant(pins.iter(), |key| pins.contains(key)) else { break };
            calls += 1;
            assert!(grant.add.len() + grant.remove.len() <= GRANTS_MAX);
            if round % 3 != 0 {
                if grant.is_whole {
                    there.clear();
                }
                there.retain(|key| !grant.remove.contains(key) && !grant.add.contains(key));
                there.extend(grant.add);
            }
            duties.grant_ended(round % 3 == 1);
        }
        there.sort();
        assert!(there == pins && calls > 100, "{} of {} keys after {calls} calls", there.len(), pins.len());
    }

    #[test]
    fn more_changes_than_a_call_holds_become_all_grants() {
        let mut duties = Duties::default();
        let many = keys(0..GRANTS_MAX as u16 + 1);
        many.iter().for_each(|key| duties.grant_changed(*key));
        let Some(Call::Grant(grant)) = duties.next_grant([].iter(), |_| false) else { panic!("nothing to tell") };
        assert_eq!(grant, Grant { is_whole: true, ..Grant::default() });
        duties.grant_ended(true);
        assert_eq!(duties.next_grant([].iter(), |_| false), None);
    }

    #[test]
    fn pauses_double_to_their_maximum_and_tables_have_one() {
        let mut duties = Duties::default();
        let pauses: Vec<_> = (0..8).map(|_| duties.refused(Instant::ZERO, false).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 20, 20, 20]);
        duties.confirmed();
        assert_eq!(duties.refused(Instant::ZERO, false), PAUSE_MIN);
        keys(0..FULL_MAILBOXES_MAX as u16 + 9).into_iter().for_each(|to| duties.mailbox_is_full(Instant::ZERO, to));
        (0..GRANTS_MAX as u64 + 9).for_each(|number| duties.letter_taken(InboxNumber(number)));
        assert_eq!((duties.full.len(), duties.taken.len()), (FULL_MAILBOXES_MAX, GRANTS_MAX));
        assert!(duties.is_due(Instant::ZERO + PAUSE_MAX), "every pause is over");
        duties.next_taken();
        duties.taken_ended(true);
        assert_eq!((duties.full.len(), duties.taken.len()), (0, 0));
    }
}
