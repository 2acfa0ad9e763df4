//! Puts what the core's trace and trust tell into records that name peers as their owners do.

use crate::log::record::{Cause, Record, Source};
use crate::streams::names::name_of;
use litemap::LiteMap;
use pilot_core::identity::IdentityKey;
use pilot_core::trace::{Field, TrustStep};
use pilot_core::{Level, PeerId, Trace};
use pilot_stack::Stack;

/// Most names of peers that are remembered.
const NAMES_MAX: usize = 1024;

/// The names of peers that the log has told of, for what is told after their pins are gone.
#[derive(Default)]
pub(crate) struct Names {
    peers: LiteMap<PeerId, String>,
    keys: LiteMap<IdentityKey, String>,
}

impl Names {
    pub(crate) fn of_peer(&mut self, stack: &Stack, peer: PeerId) -> String {
        let pin = stack.endpoint().identity_of(peer).and_then(|key| stack.endpoint().trust().pin(&key));
        match pin {
            Some(pin) => {
                let name = name_of(pin);
                remember(&mut self.peers, peer, &name);
                remember(&mut self.keys, pin.identity, &name);
                name
            }
            // Without a pin there is one other peer.
            None => self.peers.get(&peer).cloned().unwrap_or_else(|| "rendezvous".into()),
        }
    }

    fn of_key(&mut self, stack: &Stack, key: &IdentityKey) -> String {
        match name_of_key(stack, key) {
            Some(name) => {
                remember(&mut self.keys, *key, &name);
                name
            }
            None => self.keys.get(key).cloned().unwrap_or_else(|| key.fingerprint()),
        }
    }

    /// The record of a note of the core.
    pub(crate) fn record_of(&mut self, stack: &Stack, trace: &Trace) -> Record {
        let mut record = Record::new(trace.level(), trace.name());
        if let Some(peer) = trace.peer() {
            record = record.with("peer", self.of_peer(stack, peer)).from(Source::Peer(peer), Cause::Known);
        }
        match trace {
            Trace::Trust { key, step } => {
                let cause = if *step == TrustStep::Pending { Cause::Stranger } else { Cause::Known };
                record = record.with("peer", self.of_key(stack, key)).from(Source::Key(*key), cause);
                record.push("key", key.fingerprint());
                record.push("step", step.name());
                return record;
            }
            Trace::Discarded { from, .. } => record = record.from(Source::Address(from.ip()), Cause::Discard),
            _ => {}
        }
        trace.visit(&mut |key, value| match value {
            _ if key == "peer" => {}
            Field::Number(number) => record.push(key, number),
            Field::Word(_) | Field::Text(_) => record.push(key, value.to_string()),
        });
        record
    }
}

fn remember<K: Ord + Copy>(names: &mut LiteMap<K, String>, key: K, name: &str) {
    if names.get(&key).is_some_and(|known| known == name) {
        return;
    }
    if names.len() >= NAMES_MAX
        && let Some(oldest) = names.first().map(|(key, _)| *key)
    {
        names.remove(&oldest);
    }
    names.insert(key, name.into());
    debug_assert!(names.len() <= NAMES_MAX);
}

/// The name of the owner of a key that is trusted, has asked or was asked.
pub(crate) fn name_of_key(stack: &Stack, key: &IdentityKey) -> Option<String> {
    let trust = stack.endpoint().trust();
    if let Some(pin) = trust.pin(key) {
        return Some(name_of(pin));
    }
    let asked = trust.pending().map(|p| &p.record).chain(trust.outgoing());
    let record = asked.into_iter().find(|record| record.identity == *key)?;
    Some(if record.hostname.is_empty() { record.addr.to_string() } else { record.hostname.clone() })
}

/// What this node decided about a key. `name`: that of its owner, if known; `step` and `by`: stable words in snake_case.
pub(crate) fn decision(key: &IdentityKey, name: Option<String>, step: &'static str, by: &'static str) -> Record {
    let name = name.unwrap_or_else(|| key.fingerprint());
    let record = Record::new(Level::Info, "trust").with("peer", name).with("key", key.fingerprint());
    record.with("step", step).with("by", by).from(Source::Key(*key), Cause::Known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peers_have_a_maximum() {
        let mut names = LiteMap::new();
        (0..NAMES_MAX as u32 + 9).for_each(|n| remember(&mut names, n, "a"));
        assert_eq!((names.len(), names.get(&8), names.get(&9).map(String::as_str)), (NAMES_MAX, None, Some("a")));
        remember(&mut names, 9, "b");
        assert_eq!((names.len(), names.get(&9).map(String::as_str)), (NAMES_MAX, Some("b")));
    }
}
