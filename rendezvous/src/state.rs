//! Owns the books: address, name and grants of each node, and the letters that wait.
//!
//! Every change goes to the journal first; memory follows only when the journal has put the change on the disk.

use pilot_core::codec::{Malformed, Put, Reader};
use pilot_core::control::{InboxNumber, LETTER_LEN_MAX, Query, Refusal, SEARCH_MAX};
use pilot_core::identity::{IdentityKey, StaticKey};
use pilot_core::{Addr, NodeRecord};
use std::collections::BTreeMap;

/// Most letters that wait for one node. Source: `docs/trust.md, "Registry"`.
pub const LETTERS_PER_NODE_MAX: usize = 256;
/// Most letters from one sender that wait for one node: requests, answers and revocations together. Source: `docs/trust.md,
/// "Registry"`.
pub const LETTERS_PER_SENDER_MAX: usize = 8;
/// Most registered nodes. Source: `docs/trust.md, "Registry"`.
pub(crate) const NODES_MAX: usize = 1 << 20;

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
    grants: Vec<IdentityKey>,
    /// The record was signed before the node had its address. No node could verify such a record, so no look-up gives it.
    placeholder: bool,
}

#[derive(Clone)]
struct Letter {
    to: IdentityKey,
    from: IdentityKey,
    sealed: Vec<u8>,
}

/// The books of a rendezvous.
#[derive(Default)]
pub struct State {
    nodes: BTreeMap<IdentityKey, Node>,
    names: BTreeMap<String, IdentityKey>,
    addrs: BTreeMap<Addr, IdentityKey>,
    letters: BTreeMap<u64, Letter>,
    next_letter: u64,
}

impl State {
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
                    state.letters.insert(id, parse_letter(&bytes)?);
                    state.next_letter = state.next_letter.max(id + 1);
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

    /// Stores a record of `caller` and returns the address of `caller`, which stays the same from its first registration on.
    pub(crate) fn register(
        &mut self,
        caller: &IdentityKey,
        record: NodeRecord,
        fresh_node: impl FnMut() -> u32,
        journal: &mut dyn Journal,
    ) -> Result<Addr, Refusal> {
        if record.identity != *caller {
            return Err(Refusal::BadRecord);
        }
        if self.names.get(&record.hostname).is_some_and(|owner| owner != caller) {
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
        let node = Node { record, grants, placeholder };
        let row = emit_node(&node, addr);
        journal.commit(&[Change::Node(caller.0, Some(row))]).map_err(|_| Refusal::Storage)?;
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

    fn assign(&self, record: &NodeRecord, mut fresh_node: impl FnMut() -> u32) -> Result<Addr, Refusal> {
        if self.nodes.len() >= NODES_MAX {
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
        self.nodes.insert(key, node);
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
        let allowed = by_name || node.record.public || node.grants.contains(caller) || node.record.identity == *caller;
        if allowed { Ok(node.record.emit()) } else { Err(Refusal::NotFound) }
    }

    pub(crate) fn search(&self, tag: &str) -> Vec<Vec<u8>> {
        let matches =
            |n: &&Node| n.record.public && !n.placeholder && (tag.is_empty() || n.record.tags.iter().any(|t| t == tag));
        self.nodes.values().filter(matches).take(SEARCH_MAX).map(|n| n.record.emit()).collect()
    }

    pub(crate) fn grant(
        &mut self,
        caller: &IdentityKey,
        keys: Vec<IdentityKey>,
        journal: &mut dyn Journal,
    ) -> Result<(), Refusal> {
        let node = self.nodes.get(caller).filter(|n| !n.placeholder).ok_or(Refusal::NotRegistered)?;
        if node.grants != keys {
            let node = Node { grants: keys, ..node.clone() };
            let row = emit_node(&node, node.record.addr);
            journal.commit(&[Change::Node(caller.0, Some(row))]).map_err(|_| Refusal::Storage)?;
            self.nodes.insert(*caller, node);
        }
        Ok(())
    }

    pub(crate) fn may_relay(&self, from: &IdentityKey, to: &IdentityKey) -> bool {
        self.nodes.get(to).is_some_and(|n| n.grants.contains(from))
    }

    pub(crate) fn post(
        &mut self,
        from: &IdentityKey,
        to: &IdentityKey,
        sealed: Vec<u8>,
        journal: &mut dyn Journal,
    ) -> Result<InboxNumber, Refusal> {
        if !self.nodes.contains_key(to) {
            return Err(Refusal::NotFound);
        }
        let waiting = self.letters.values().filter(|l| l.to == *to);
        let (all, same) = waiting.fold((0, 0), |(all, same), l| (all + 1, same + usize::from(l.from == *from)));
        if all >= LETTERS_PER_NODE_MAX || same >= LETTERS_PER_SENDER_MAX {
            return Err(Refusal::Full);
        }
        let (id, letter) = (self.next_letter, Letter { to: *to, from: *from, sealed });
        journal.commit(&[Change::Letter(id, Some(emit_letter(&letter)))]).map_err(|_| Refusal::Storage)?;
        self.next_letter += 1;
        self.letters.insert(id, letter);
        Ok(InboxNumber(id))
    }

    pub(crate) fn letters_for(&self, to: &IdentityKey) -> Vec<(InboxNumber, Vec<u8>)> {
        self.letters.iter().filter(|(_, l)| l.to == *to).map(|(id, l)| (InboxNumber(*id), l.sealed.clone())).collect()
    }

    pub(crate) fn taken(
        &mut self,
        caller: &IdentityKey,
        ids: &[InboxNumber],
        journal: &mut dyn Journal,
    ) -> Result<(), Refusal> {
        let own: Vec<u64> = ids
            .iter()
            .map(|number| number.0)
            .filter(|id| self.letters.get(id).is_some_and(|l| l.to == *caller))
            .collect();
        let changes: Vec<_> = own.iter().map(|id| Change::Letter(*id, None)).collect();
        journal.commit(&changes).map_err(|_| Refusal::Storage)?;
        for id in own {
            self.letters.remove(&id);
        }
        Ok(())
    }
}

/// Emits a node's row: address, grants, record. The address stands beside the record, which may not name it yet.
fn emit_node(node: &Node, addr: Addr) -> Vec<u8> {
    let mut out = Vec::new();
    out.put(&addr.to_bytes());
    out.put_varint(node.grants.len() as u64);
    node.grants.iter().for_each(|key| out.put(&key.0));
    out.put_bytes(&node.record.emit());
    out
}

fn parse_node(bytes: &[u8]) -> Result<Node, Malformed> {
    let mut r = Reader::new(bytes);
    let addr = Addr::from_bytes(r.array()?);
    let grants = (0..r.varint()?).map(|_| Ok(IdentityKey(r.array()?))).collect::<Result<_, Malformed>>()?;
    let mut record = NodeRecord::parse(r.bytes(NodeRecord::LEN_MAX)?)?;
    let placeholder = record.addr != addr;
    record.addr = addr;
    r.finish()?;
    Ok(Node { record, grants, placeholder })
}

fn emit_letter(letter: &Letter) -> Vec<u8> {
    let mut out = Vec::new();
    out.put(&letter.to.0);
    out.put(&letter.from.0);
    out.put_bytes(&letter.sealed);
    out
}

fn parse_letter(bytes: &[u8]) -> Result<Letter, Malformed> {
    let mut r = Reader::new(bytes);
    let letter =
        Letter { to: IdentityKey(r.array()?), from: IdentityKey(r.array()?), sealed: r.bytes(LETTER_LEN_MAX)?.into() };
    r.finish()?;
    Ok(letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilot_core::Identity;
    use pilot_core::identity::Profile;

    fn record(n: u8, addr: Addr, hostname: &str, sequence: u64) -> NodeRecord {
        let profile = Profile { hostname: hostname.into(), ..Profile::default() };
        NodeRecord::sign(&Identity::from_seed([n; 32]), addr, &profile, sequence)
    }

    fn key(n: u8) -> IdentityKey {
        Identity::from_seed([n; 32]).public()
    }

    fn register(state: &mut State, n: u8, name: &str, sequence: u64) -> Result<Addr, Refusal> {
        let mut next = 100 + u32::from(n);
        let mut register = |addr| {
            let fresh = || {
                next += 1;
                next
            };
            state.register(&key(n), record(n, addr, name, sequence), fresh, &mut NoJournal)
        };
        // As nodes do, registers twice: the second record names the address that the first one asked for.
        let addr = register(Addr::default())?;
        register(addr)
    }

    #[test]
    fn a_record_that_no_node_could_verify_is_not_given_out() {
        let mut state = State::default();
        let asking = record(1, Addr::default(), "new", 1);
        let addr = state.register(&key(1), asking, || 7, &mut NoJournal).expect("free");
        assert_eq!(state.lookup(&key(2), &Query::Name("new".into())), Err(Refusal::NotFound));
        assert_eq!(state.grant(&key(1), vec![key(2)], &mut NoJournal), Err(Refusal::NotRegistered));
        assert_eq!(state.register(&key(1), record(1, addr, "new", 1), || 8, &mut NoJournal), Ok(addr));
        let found = state.lookup(&key(2), &Query::Name("new".into())).expect("registered");
        assert_eq!(NodeRecord::parse(&found).expect("signed").addr, addr);
    }

    #[test]
    fn addresses_are_kept_for_life_and_names_are_unique() {
        let mut state = State::default();
        let addr = register(&mut state, 1, "one", 1).expect("free");
        assert_eq!(register(&mut state, 1, "one-renamed", 2), Ok(addr));
        assert_eq!(register(&mut state, 2, "one-renamed", 1), Err(Refusal::NameTaken));
        assert!(register(&mut state, 2, "one", 1).is_ok_and(|a| a != addr), "the old name is free again");
        assert_eq!(register(&mut state, 1, "one-renamed", 1), Err(Refusal::BadRecord), "an older record");
        assert_eq!(
            state.register(&key(3), record(4, Addr::default(), "x", 1), || 9, &mut NoJournal),
            Err(Refusal::BadRecord)
        );
    }

    #[test]
    fn a_node_gets_its_address_back_from_a_fresh_registry_unless_it_is_taken() {
        let mut state = State::default();
        let wanted = Addr::new(0, 777);
        assert_eq!(state.register(&key(1), record(1, wanted, "", 1), || 5, &mut NoJournal), Ok(wanted));
        assert_eq!(state.register(&key(2), record(2, wanted, "", 1), || 5, &mut NoJournal), Ok(Addr::new(0, 5)));
    }

    #[test]
    fn private_nodes_are_found_by_exact_name_or_by_those_they_granted() {
        let mut state = State::default();
        let addr = register(&mut state, 1, "hidden", 1).expect("free");
        register(&mut state, 2, "", 1).expect("free");
        assert!(state.lookup(&key(2), &Query::Name("hidden".into())).is_ok());
        for query in [Query::Addr(addr), Query::Key(key(1))] {
            assert_eq!(state.lookup(&key(2), &query), Err(Refusal::NotFound));
        }
        state.grant(&key(1), vec![key(2)], &mut NoJournal).expect("registered");
        assert!(state.lookup(&key(2), &Query::Addr(addr)).is_ok());
        assert!(state.search("").is_empty());
    }

    #[test]
    fn mailboxes_have_a_maximum_per_sender_and_in_all() {
        let mut state = State::default();
        register(&mut state, 1, "", 1).expect("free");
        let mut post = |from: IdentityKey| state.post(&from, &key(1), vec![1], &mut NoJournal);
        for i in 0..=LETTERS_PER_SENDER_MAX {
            assert_eq!(post(key(2)).is_ok(), i < LETTERS_PER_SENDER_MAX);
        }
        let mut sender = 0u16;
        let accepted = std::iter::repeat_with(|| {
            sender += 1;
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&sender.to_le_bytes());
            post(IdentityKey(bytes))
        })
        .take_while(Result::is_ok)
        .count();
        assert_eq!(accepted, LETTERS_PER_NODE_MAX - LETTERS_PER_SENDER_MAX);
        let ids: Vec<InboxNumber> = state.letters_for(&key(1)).iter().map(|l| l.0).collect();
        state.taken(&key(2), &ids, &mut NoJournal).expect("works");
        assert_eq!(state.letters_for(&key(1)).len(), LETTERS_PER_NODE_MAX, "only their owner takes letters away");
        state.taken(&key(1), &ids, &mut NoJournal).expect("works");
        assert!(state.letters_for(&key(1)).is_empty());
    }

    #[test]
    fn nothing_changes_when_the_journal_fails() {
        struct Broken;
        impl Journal for Broken {
            fn commit(&mut self, _: &[Change]) -> Result<(), StorageFailed> {
                Err(StorageFailed)
            }
        }
        let mut state = State::default();
        let refused = state.register(&key(1), record(1, Addr::default(), "a", 1), || 5, &mut Broken);
        assert_eq!((refused, state.len()), (Err(Refusal::Storage), 0));
        register(&mut state, 1, "a", 1).expect("free");
        assert_eq!(state.post(&key(2), &key(1), vec![1], &mut Broken), Err(Refusal::Storage));
        assert!(state.letters_for(&key(1)).is_empty());
    }

    #[test]
    fn rows_rebuild_the_books() {
        #[derive(Default)]
        struct Rows(Vec<Change>);
        impl Journal for Rows {
            fn commit(&mut self, changes: &[Change]) -> Result<(), StorageFailed> {
                self.0.extend_from_slice(changes);
                Ok(())
            }
        }
        let (mut state, mut rows) = (State::default(), Rows::default());
        let addr = state.register(&key(1), record(1, Addr::default(), "a", 1), || 5, &mut rows).expect("free");
        state.register(&key(1), record(1, addr, "a", 2), || 6, &mut rows).expect("own");
        let _kept = state.post(&key(2), &key(1), vec![7], &mut rows).expect("room");
        let again = State::load(rows.0).expect("own rows");
        assert_eq!(again.lookup(&key(9), &Query::Name("a".into())), state.lookup(&key(9), &Query::Name("a".into())));
        assert_eq!(again.letters_for(&key(1)), state.letters_for(&key(1)));
    }
}
