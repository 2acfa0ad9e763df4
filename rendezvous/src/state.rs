//! Owns the books: address, name and grants of each node, and the letters that wait.
//!
//! Every change goes to the journal first; memory follows only when the journal has put the change on the disk.

use crate::letters::{Letter, Letters, Place};
use crate::limits::{Limits, Sizes};
use pilot_core::codec::{Malformed, Put, Reader};
use pilot_core::control::{Grant, InboxNumber, Query, Refusal, SEARCH_MAX};
use pilot_core::identity::{IdentityKey, StaticKey};
use pilot_core::{Addr, NodeRecord};
use std::collections::BTreeMap;

/// Time without its owner after which a hostname is free for others. Unit: days. Source: `docs/trust.md, "Registry"`.
const NAME_LASTS_DAYS: u32 = 30;
/// Time without it after which a node is forgotten altogether. Unit: days.
const NODE_LASTS_DAYS: u32 = 90;
/// Unit: seconds.
const DAY_S: u64 = 86_400;
/// Nodes that one sweep looks at, and rows that it changes at most.
const SWEEP_NODES: usize = 4096;
const SWEEP_CHANGES_MAX: usize = 256;
/// Length of rows after which a sweep changes no more: nothing else is done while the disk takes them. Unit: bytes.
const SWEEP_LEN_MAX: usize = 1 << 20;

/// One row to be written (`Some`) or removed (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node's row, by identity key.
    Node([u8; 32], Option<Vec<u8>>),
    /// A letter, by number.
    Letter(u64, Option<Vec<u8>>),
}

/// The journal could not write; neither the disk nor the books have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageFailed;

impl std::fmt::Display for StorageFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the journal could not write")
    }
}

impl std::error::Error for StorageFailed {}

/// Storage that makes changes durable.
pub trait Journal {
    /// Puts all of `changes` on the disk, or none. May block.
    ///
    /// # Errors
    /// When the changes are not on the disk.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageFailed>;
}

/// A journal that keeps nothing, for simulations.
pub struct NoJournal;

impl Journal for NoJournal {
    fn commit(&mut self, _: &[Change]) -> Result<(), StorageFailed> {
        Ok(())
    }
}

#[derive(Clone)]
struct Node {
    record: NodeRecord,
    /// Ascending.
    grants: Vec<IdentityKey>,
    /// Day on which the node was last connected, by the clock of the books. Unit: days since 1970.
    seen: u32,
    /// The record was signed before the node had its address. No node could verify such a record, so no look-up gives it.
    placeholder: bool,
}

/// The books of a rendezvous.
#[derive(Default)]
pub struct State {
    nodes: BTreeMap<IdentityKey, Node>,
    names: BTreeMap<String, IdentityKey>,
    addrs: BTreeMap<Addr, IdentityKey>,
    letters: Letters,
    limits: Limits,
    /// Grants of all nodes.
    grants: usize,
    /// The node at which the next sweep begins.
    sweep_from: Option<IdentityKey>,
}

impl State {
    /// The same books with other sizes of the tables.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Rebuilds the books from journal rows.
    ///
    /// # Errors
    /// When a row is damaged.
    pub fn load(rows: impl IntoIterator<Item = Change>) -> Result<Self, Malformed> {
        let mut state = Self::default();
        for row in rows {
            match row {
                Change::Node(_, Some(bytes)) => state.insert_node(parse_node(&bytes)?),
                Change::Letter(id, Some(bytes)) => {
                    state.letters.insert(id, Letter::parse(&bytes)?);
                }
                Change::Node(_, None) | Change::Letter(_, None) => {}
            }
        }
        Ok(state)
    }

    /// The keys that registered nodes use in key handshakes.
    pub(crate) fn static_keys(&self) -> impl Iterator<Item = &StaticKey> {
        self.nodes.values().map(|node| &node.record.static_key)
    }

    /// Counts the registered nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Tells whether no node has registered.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The sizes of the tables.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts the letters that wait.
    pub fn letters(&self) -> usize {
        self.letters.count()
    }

    /// The sizes of the tables here.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            nodes: self.nodes.len(),
            grants: self.grants,
            letters_per_node: self.letters.most_of_a_node(),
            letters_len: self.letters.len(),
            ..Sizes::default()
        }
    }

    pub(crate) fn is_known(&self, key: &IdentityKey) -> bool {
        self.nodes.contains_key(key)
    }

    /// Sequence of the newest record of a node.
    pub(crate) fn sequence(&self, key: &IdentityKey) -> Option<u64> {
        self.nodes.get(key).map(|node| node.record.sequence)
    }

    /// The newest time that a row names; `None` without any row. Unit: seconds since 1970. Work grows with the number of rows.
    pub(crate) fn newest_s(&self) -> Option<u64> {
        let seen = self.nodes.values().map(|node| u64::from(node.seen) * DAY_S).max();
        seen.max(self.letters.newest_s())
    }

    /// Counts the grants of a node.
    pub(crate) fn grants_of(&self, key: &IdentityKey) -> usize {
        self.nodes.get(key).map_or(0, |node| node.grants.len())
    }

    /// Stores a record of `caller` and returns the address of `caller`, which stays the same from its first registration on.
    pub(crate) fn register(
        &mut self,
        caller: &IdentityKey,
        record: NodeRecord,
        fresh_node: impl FnMut() -> u32,
        (today, journal): (u32, &mut dyn Journal),
    ) -> Result<Addr, Refusal> {
        if record.identity != *caller {
            return Err(Refusal::BadRecord);
        }
        let former = self.names.get(&record.hostname).filter(|owner| *owner != caller).copied();
        let has_lost_name = |node: &Node| node.seen.saturating_add(NAME_LASTS_DAYS) < today;
        if former.is_some_and(|owner| !self.nodes.get(&owner).is_some_and(has_lost_name)) {
            return Err(Refusal::NameTaken);
        }
        let addr = match self.nodes.get(caller) {
            Some(known) if record.sequence < known.record.sequence => return Err(Refusal::BadRecord),
            Some(known) if !known.record.addr.is_unassigned() => known.record.addr,
            _ => self.assign(&record, fresh_node)?,
        };
        // A record that does not name the address of its node is a question for that address.
        let grants = self.nodes.get(caller).map(|n| n.grants.clone()).unwrap_or_default();
        let placeholder = record.addr != addr;
        let node = Node { record, grants, seen: today, placeholder };
        let mut changes = vec![Change::Node(caller.0, Some(emit_node(&node, addr)))];
        // The owner that was not seen for long has lost its name: its record, which claims the name, is not given out again.
        changes.extend(former.map(|owner| Change::Node(owner.0, None)));
        journal.commit(&changes).map_err(|_| Refusal::Storage)?;
        former.into_iter().for_each(|owner| self.remove_node(&owner));
        if placeholder {
            self.addrs.insert(addr, *caller);
            let mut node = node;
            node.record.addr = addr;
            self.insert_node(node);
        } else {
            self.insert_node(node);
        }
        Ok(addr)
    }

    /// Forgets `caller`, which says so by a newer record: its row, its name and address, and the letters that wait for it.
    pub(crate) fn leave(
        &mut self,
        caller: &IdentityKey,
        record: &NodeRecord,
        (now_s, journal): (u64, &mut dyn Journal),
    ) -> Result<(), Refusal> {
        let node = self.nodes.get(caller).ok_or(Refusal::NotRegistered)?;
        if record.identity != *caller || record.sequence <= node.record.sequence {
            return Err(Refusal::BadRecord);
        }
        let letters: Vec<u64> = self.letters.of(caller).map(|(number, _)| number).collect();
        let mut changes = vec![Change::Node(caller.0, None)];
        changes.extend(letters.iter().map(|number| Change::Letter(*number, None)));
        journal.commit(&changes).map_err(|_| Refusal::Storage)?;
        letters.into_iter().for_each(|number| self.letters.remove(number, now_s));
        self.remove_node(caller);
        Ok(())
    }

    fn assign(&self, record: &NodeRecord, mut fresh_node: impl FnMut() -> u32) -> Result<Addr, Refusal> {
        if self.nodes.len() >= self.limits.nodes {
            return Err(Refusal::Full);
        }
        // After a loss of the books, nodes register with the addresses they had, and get them back if they are free.
        let wanted = Some(record.addr).filter(|a| !a.is_unassigned() && !self.addrs.contains_key(a));
        let mut random = || Addr::new(0, fresh_node());
        let free = |a: &Addr| !a.is_unassigned() && !self.addrs.contains_key(a);
        Ok(wanted.unwrap_or_else(|| core::iter::repeat_with(&mut random).find(free).unwrap_or_default()))
    }

    fn insert_node(&mut self, node: Node) {
        let key = node.record.identity;
        if let Some(old) = self.nodes.get(&key) {
            self.names.remove(&old.record.hostname);
        }
        debug_assert!(!node.record.addr.is_unassigned(), "a registered node has an address");
        if !node.record.hostname.is_empty() {
            self.names.insert(node.record.hostname.clone(), key);
        }
        self.addrs.insert(node.record.addr, key);
        self.grants += node.grants.len();
        if let Some(old) = self.nodes.insert(key, node) {
            self.grants -= old.grants.len();
        }
    }

    fn remove_node(&mut self, key: &IdentityKey) {
        let Some(node) = self.nodes.remove(key) else { return };
        self.grants -= node.grants.len();
        self.addrs.remove(&node.record.addr);
        if self.names.get(&node.record.hostname) == Some(key) {
            self.names.remove(&node.record.hostname);
        }
    }

    /// Returns the record that a query finds. An exact name finds any node; an address or key finds public nodes, and nodes
    /// that have granted `caller`.
    pub(crate) fn lookup(&self, caller: &IdentityKey, query: &Query) -> Result<Vec<u8>, Refusal> {
        let key = match query {
            Query::Name(name) => self.names.get(name),
            Query::Addr(addr) => self.addrs.get(addr),
            Query::Key(key) => Some(key),
        };
        let node = key.and_then(|key| self.nodes.get(key)).filter(|n| !n.placeholder).ok_or(Refusal::NotFound)?;
        let by_name = matches!(query, Query::Name(_));
        let allowed = by_name || node.record.public || node.grants(caller) || node.record.identity == *caller;
        if allowed { Ok(node.record.emit()) } else { Err(Refusal::NotFound) }
    }

    pub(crate) fn search(&self, tag: &str) -> Vec<Vec<u8>> {
        let matches =
            |n: &&Node| n.record.public && !n.placeholder && (tag.is_empty() || n.record.tags.iter().any(|t| t == tag));
        self.nodes.values().filter(matches).take(SEARCH_MAX).map(|n| n.record.emit()).collect()
    }

    /// Changes which identities may open relay channels to `caller`.
    pub(crate) fn grant(
        &mut self,
        caller: &IdentityKey,
        grant: Grant,
        journal: &mut dyn Journal,
    ) -> Result<(), Refusal> {
        let node = self.nodes.get(caller).filter(|n| !n.placeholder).ok_or(Refusal::NotRegistered)?;
        let mut grants = if grant.is_whole { Vec::new() } else { node.grants.clone() };
        grants.extend(grant.add);
        grants.sort_unstable();
        grants.dedup();
        grants.retain(|key| !grant.remove.contains(key));
        let all = self.grants - node.grants.len() + grants.len();
        if grants.len() > self.limits.grants_per_node || all > self.limits.grants {
            return Err(Refusal::Full);
        }
        if node.grants != grants {
            let node = Node { grants, ..node.clone() };
            let row = emit_node(&node, node.record.addr);
            journal.commit(&[Change::Node(caller.0, Some(row))]).map_err(|_| Refusal::Storage)?;
            self.grants = all;
            self.nodes.insert(*caller, node);
        }
        Ok(())
    }

    pub(crate) fn may_relay(&self, from: &IdentityKey, to: &IdentityKey) -> bool {
        self.nodes.get(to).is_some_and(|n| n.grants(from))
    }

    /// Keeps a letter; `None` for one that was posted before.
    pub(crate) fn post(&mut self, letter: Letter, journal: &mut dyn Journal) -> Result<Option<InboxNumber>, Refusal> {
        let node = self.nodes.get(&letter.to).ok_or(Refusal::NotFound)?;
        let Place::New(number) = self.letters.place(&self.limits, &letter, |key| node.grants(key))? else {
            return Ok(None);
        };
        journal.commit(&[Change::Letter(number.0, Some(letter.emit()))]).map_err(|_| Refusal::Storage)?;
        self.letters.insert(number.0, letter);
        Ok(Some(number))
    }

    pub(crate) fn letters_for(&self, to: &IdentityKey) -> impl Iterator<Item = (InboxNumber, &Letter)> {
        self.letters.of(to).map(|(number, letter)| (InboxNumber(number), letter))
    }

    pub(crate) fn taken(
        &mut self,
        caller: &IdentityKey,
        ids: &[InboxNumber],
        (now_s, journal): (u64, &mut dyn Journal),
    ) -> Result<(), Refusal> {
        let own: Vec<u64> =
            self.letters.of(caller).map(|(number, _)| number).filter(|n| ids.contains(&InboxNumber(*n))).collect();
        self.drop_letters(own, now_s, journal).map_err(|_| Refusal::Storage)
    }

    fn drop_letters(&mut self, gone: Vec<u64>, now_s: u64, journal: &mut dyn Journal) -> Result<(), StorageFailed> {
        if gone.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> = gone.iter().map(|number| Change::Letter(*number, None)).collect();
        journal.commit(&changes)?;
        gone.into_iter().for_each(|number| self.letters.remove(number, now_s));
        Ok(())
    }

    /// Drops letters that are too old, and some of the nodes that have not been seen for long; notes which are here today.
    /// What the disk does not take now is left for the next sweep. Bounded work.
    pub(crate) fn sweep(&mut self, now_s: u64, is_here: impl Fn(&IdentityKey) -> bool, journal: &mut dyn Journal) {
        let old = self.letters.sweep(&self.limits, now_s, SWEEP_CHANGES_MAX);
        let today = day(now_s);
        // Letters that the disk keeps now are dropped by the next sweep.
        let _ = self.drop_letters(old, now_s, journal);
        let from = self.sweep_from.take();
        let some: Vec<IdentityKey> = match from {
            Some(from) => self.nodes.range(from..).take(SWEEP_NODES).map(|(key, _)| *key).collect(),
            None => self.nodes.keys().take(SWEEP_NODES).copied().collect(),
        };
        let (mut here, mut gone, mut len) = (Vec::new(), Vec::new(), 0);
        for key in some {
            if here.len() + gone.len() >= SWEEP_CHANGES_MAX || len >= SWEEP_LEN_MAX {
                break;
            }
            self.sweep_from = Some(key);
            let Some(node) = self.nodes.get(&key) else { continue };
            if is_here(&key) && node.seen < today {
                let node = Node { seen: today, ..node.clone() };
                let row = emit_node(&node, node.record.addr);
                len += row.len();
                here.push((key, Change::Node(key.0, Some(row))));
            } else if !is_here(&key) && node.seen.saturating_add(NODE_LASTS_DAYS) < today {
                gone.push((key, Change::Node(key.0, None)));
            }
        }
        if self.sweep_from.is_some_and(|last| self.nodes.last_key_value().is_some_and(|(key, _)| *key <= last)) {
            self.sweep_from = None;
        }
        // Rows that go make room on a full disk, where those that are written fail.
        for (keys, changes) in [gone, here].map(|rows| rows.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()) {
            if changes.is_empty() || journal.commit(&changes).is_err() {
                continue;
            }
            for (key, change) in keys.iter().zip(&changes) {
                match (change, self.nodes.get_mut(key)) {
                    (Change::Node(_, Some(_)), Some(node)) => node.seen = today,
                    _ => self.remove_node(key),
                }
            }
        }
    }

    /// Rows of all tables, for tests that walk them back to zero.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> usize {
        self.nodes.len() + self.names.len() + self.addrs.len() + self.grants + self.letters.rows()
    }
}

impl Node {
    /// True when `key` may open a relay channel to this node.
    fn grants(&self, key: &IdentityKey) -> bool {
        self.grants.binary_search(key).is_ok()
    }
}

/// The day of a moment. Unit: days since 1970.
pub(crate) const fn day(now_s: u64) -> u32 {
    (now_s / DAY_S) as u32
}

/// Emits a node's row: address, day, grants, record. The address stands beside the record, which may not name it yet.
fn emit_node(node: &Node, addr: Addr) -> Vec<u8> {
    let mut out = Vec::new();
    out.put(&addr.to_bytes());
    out.put_u32(node.seen);
    out.put_varint(node.grants.len() as u64);
    node.grants.iter().for_each(|key| out.put(&key.0));
    out.put_bytes(&node.record.emit());
    out
}

fn parse_node(bytes: &[u8]) -> Result<Node, Malformed> {
    let mut r = Reader::new(bytes);
    let (addr, seen) = (Addr::from_bytes(r.array()?), r.u32()?);
    let grants = (0..r.varint()?).map(|_| Ok(IdentityKey(r.array()?))).collect::<Result<_, Malformed>>()?;
    let mut record = NodeRecord::parse(r.bytes(NodeRecord::LEN_MAX)?)?;
    let placeholder = record.addr != addr;
    record.addr = addr;
    r.finish()?;
    Ok(Node { record, grants, seen, placeholder })
}

#[cfg(test)]
mod tests;
