//! Owns what needs the rendezvous or the trust book: look-ups, trust requests and their answers, this node's own record.

use super::ops::Then;
use super::state::{pin_json, record_json};
use super::streams::ConnectReply;
use super::{Driver, Reply, emit_profile};
use crate::failure::{Code, Failure};
use crate::resolve;
use crate::store::{Job, Meta, wall_s};
use pilot_core::control::{Answer as DirectoryAnswer, Query, Refusal, Ticket};
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::{IdentityKey, NodeRecord, valid_hostname};
use pilot_core::trust::{Outcome, Terms, TrustError};
use serde_json::{Value, json};

/// Records that were found lately and are remembered.
pub(super) const MET_MAX: usize = 256;

/// What a question to the rendezvous was for.
pub(crate) struct Lookup {
    target: String,
    purpose: Purpose,
}

pub(super) enum Purpose {
    Find(Reply),
    Search(Reply),
    Handshake {
        reply: Reply,
        terms: Terms,
        fingerprint: Option<String>,
    },
    /// Somebody wanted a stream to a node that is not trusted: say whether it exists.
    Explain(ConnectReply),
    ExplainOp(Reply),
}

impl Driver {
    pub(super) fn ask(&mut self, target: &str, purpose: Purpose) {
        let now = self.now();
        let query = match resolve::query(target) {
            Ok(query) => query,
            Err(failure) => return self.lookup_failed(purpose, failure),
        };
        // Private nodes are found by name only; who was found so may then be called by its address.
        if let Query::Addr(addr) = &query
            && let Some(record) = self.met.iter().rev().find(|r| r.addr == *addr).cloned()
        {
            return self.found(target, &record, purpose);
        }
        match self.stack.endpoint_mut().lookup(now, query) {
            Some(ticket) => drop(self.lookups.insert(ticket, Lookup { target: target.into(), purpose })),
            None => self.lookup_failed(purpose, no_rendezvous(target)),
        }
    }

    pub(super) fn find(&mut self, target: &str, reply: Reply) {
        if let Ok(pin) = resolve::pinned(self.stack.endpoint().trust(), target) {
            let data = pin_json(pin);
            return self.reply(reply, Ok(data));
        }
        self.ask(target, Purpose::Find(reply));
    }

    pub(super) fn search(&mut self, tag: String, reply: Reply) {
        let now = self.now();
        match self.stack.endpoint_mut().search(now, tag.clone()) {
            Some(ticket) => drop(self.lookups.insert(ticket, Lookup { target: tag, purpose: Purpose::Search(reply) })),
            None => self.reply(reply, Err(no_rendezvous("other nodes"))),
        }
    }

    /// A stream is wanted to a node that is not trusted.
    pub(super) fn explain_unknown(&mut self, target: &str, reply: ConnectReply) {
        self.ask(target, Purpose::Explain(reply));
    }

    fn lookup_failed(&mut self, purpose: Purpose, failure: Failure) {
        match purpose {
            Purpose::Find(reply)
            | Purpose::Search(reply)
            | Purpose::Handshake { reply, .. }
            | Purpose::ExplainOp(reply) => self.reply(reply, Err(failure)),
            Purpose::Explain(reply) => self.connect_failed(reply, failure),
        }
    }

    pub(super) fn lookup_answered(&mut self, ticket: Ticket, answer: Option<DirectoryAnswer>) {
        let Some(Lookup { target, purpose }) = self.lookups.remove(&ticket) else { return };
        match answer {
            Some(DirectoryAnswer::Found(bytes)) => match NodeRecord::parse(&bytes) {
                Ok(record) => {
                    self.met.retain(|r| r.identity != record.identity);
                    self.met.push_back(record.clone());
                    if self.met.len() > MET_MAX {
                        self.met.pop_front();
                    }
                    self.found(&target, &record, purpose);
                }
                Err(_) => {
                    self.lookup_failed(purpose, Failure::new(Code::Internal, "the rendezvous sent a forged record"))
                }
            },
            Some(DirectoryAnswer::List(list)) => {
                let rows: Vec<Value> =
                    list.iter().filter_map(|b| NodeRecord::parse(b).ok()).map(|r| record_json(&r)).collect();
                if let Purpose::Search(reply) = purpose {
                    self.reply(reply, Ok(json!({"total": rows.len(), "nodes": rows})));
                }
            }
            Some(DirectoryAnswer::Refused(Refusal::NotFound)) => {
                let failure =
                    Failure::new(Code::NotFound, format!("no node is called {target}, or it cannot be found that way"));
                self.lookup_failed(purpose, failure.hint("private nodes are found by their exact hostname"));
            }
            Some(DirectoryAnswer::Refused(why)) => {
                self.lookup_failed(purpose, Failure::new(Code::Conflict, refusal_text(why)))
            }
            _ => self.lookup_failed(purpose, no_rendezvous(&target)),
        }
    }

    fn found(&mut self, target: &str, record: &NodeRecord, purpose: Purpose) {
        let untrusted = || {
            Failure::new(Code::TrustRequired, format!("{target} is not trusted: nothing was sent"))
                .hint(format!("pilotctl handshake {target}"))
        };
        match purpose {
            Purpose::Find(reply) => self.reply(reply, Ok(record_json(record))),
            Purpose::Explain(reply) => self.connect_failed(reply, untrusted()),
            Purpose::ExplainOp(reply) => self.reply(reply, Err(untrusted())),
            Purpose::Search(reply) => {
                self.reply(reply, Err(Failure::new(Code::Internal, "the rendezvous answered another question")))
            }
            Purpose::Handshake { reply, mut terms, fingerprint } => {
                let actual = record.identity.fingerprint();
                if let Some(wanted) = fingerprint {
                    if wanted != actual {
                        let text = format!(
                            "the fingerprint of {target} is {actual}, not {wanted}: somebody else may have its name"
                        );
                        return self.reply(reply, Err(Failure::new(Code::TrustRequired, text)));
                    }
                    terms.verified = true;
                }
                let waiting = self.stack.endpoint().trust().pending().any(|p| p.record.identity == record.identity);
                if waiting {
                    return self.approve_key(&record.identity, &terms, reply); // both sides have asked now
                }
                let now = self.now();
                let data = json!({"status": "sent", "node_id": record.addr.node, "address": record.addr.to_string(),
                    "hostname": record.hostname, "fingerprint": actual, "verified": terms.verified});
                match self.stack.endpoint_mut().request_trust(now, record, &terms) {
                    Ok(()) => self.save_trust(Then::Answer(reply, data)),
                    Err(TrustError::AlreadyTrusted) => {
                        let data = json!({"status": "trusted", "node_id": record.addr.node, "address": record.addr.to_string(),
                            "hostname": record.hostname, "fingerprint": actual});
                        self.reply(reply, Ok(data));
                    }
                    Err(e) => self.reply(reply, Err(trust_failure(e, target))),
                }
            }
        }
    }

    // Trust.

    pub(super) fn handshake(&mut self, op: &Value, target: String, reply: Reply) {
        let terms = match self.terms(op) {
            Ok(terms) => terms,
            Err(failure) => return self.reply(reply, Err(failure)),
        };
        let (name, fingerprint) = match target.split_once('#') {
            Some((name, fingerprint)) => (name.to_owned(), Some(fingerprint.to_owned())),
            None => (target, None),
        };
        if let Ok(pin) = resolve::pinned(self.stack.endpoint().trust(), &name) {
            let mut data = pin_json(pin);
            data["status"] = "trusted".into();
            return self.reply(reply, Ok(data));
        }
        self.ask(&name, Purpose::Handshake { reply, terms, fingerprint });
    }

    fn terms(&self, op: &Value) -> Result<Terms, Failure> {
        let ports = match op["ports"].as_str() {
            None => self.config.default_ports.clone(),
            Some(text) => {
                text.parse().map_err(|_| Failure::new(Code::InvalidArgument, "ports are given as 1000,1001 or all"))?
            }
        };
        let not_after = op["expires_s"].as_u64().map(|s| wall_s() + s);
        Ok(Terms { ports, note: op["note"].as_str().unwrap_or_default().into(), not_after, verified: false })
    }

    fn pending_key(&self, target: &str) -> Result<IdentityKey, Failure> {
        let trust = self.stack.endpoint().trust();
        let fits: Vec<_> = trust
            .pending()
            .filter(|p| resolve::is_called(target, p.record.addr, &p.record.hostname, &p.record.identity))
            .collect();
        match fits.as_slice() {
            [one] => Ok(one.record.identity),
            [] => Err(Failure::new(Code::NotFound, format!("{target} has not asked")).hint("pilotctl pending")),
            _ => Err(Failure::new(Code::Ambiguous, format!("{target} means several requests")).hint("use the address")),
        }
    }

    pub(super) fn approve(&mut self, op: &Value, target: &str, reply: Reply) {
        let terms = self.terms(op).and_then(|terms| Ok((self.pending_key(target)?, terms)));
        match terms {
            Ok((key, terms)) => self.approve_key(&key, &terms, reply),
            Err(failure) => self.reply(reply, Err(failure)),
        }
    }

    fn approve_key(&mut self, key: &IdentityKey, terms: &Terms, reply: Reply) {
        let now = self.now();
        match self.stack.endpoint_mut().approve(now, key, terms) {
            Ok(()) => {
                let mut data = self.stack.endpoint().trust().pin(key).map(pin_json).unwrap_or_default();
                data["status"] = "approved".into();
                self.save_trust(Then::Answer(reply, data));
                self.tell_trust(&Outcome::Pinned(*key));
            }
            Err(e) => self.reply(reply, Err(trust_failure(e, &key.fingerprint()))),
        }
    }

    /// As the configuration says: everybody is approved.
    pub(super) fn approve_unasked(&mut self, key: &IdentityKey) {
        if let Ok(terms) = self.terms(&Value::Null) {
            self.approve_key(key, &terms, Reply::Nobody);
        }
    }

    pub(super) fn reject(&mut self, target: &str, note: &str, reply: Reply) {
        let now = self.now();
        let result = self
            .pending_key(target)
            .and_then(|key| self.stack.endpoint_mut().reject(now, &key, note).map_err(|e| trust_failure(e, target)));
        match result {
            Ok(()) => self.save_trust(Then::Answer(reply, json!({"status": "rejected", "node": target}))),
            Err(failure) => self.reply(reply, Err(failure)),
        }
    }

    pub(super) fn untrust(&mut self, target: &str, reply: Reply) {
        let now = self.now();
        let key = resolve::pinned(self.stack.endpoint().trust(), target).map(|p| p.identity);
        let result =
            key.and_then(|key| self.stack.endpoint_mut().revoke(now, &key).map_err(|e| trust_failure(e, target)));
        match result {
            Ok(pin) => {
                let data = json!({"status": "revoked", "node_id": pin.addr.node, "address": pin.addr.to_string(), "hostname": pin.hostname});
                self.save_trust(Then::Answer(reply, data));
                self.tell_trust(&Outcome::Revoked(pin.identity));
            }
            Err(failure) => self.reply(reply, Err(failure)),
        }
    }

    // Profile.

    pub(super) fn set_profile(&mut self, op: &Value, reply: Reply) {
        if self.profile_change.is_some() {
            let failure = Failure::new(Code::Conflict, "another change of this node's record is under way");
            return self.reply(reply, Err(failure.hint("try again in a moment")));
        }
        let mut profile = self.stack.endpoint().profile().clone();
        if let Some(hostname) = op["hostname"].as_str() {
            if !hostname.is_empty() && !valid_hostname(hostname) {
                let failure = Failure::new(Code::InvalidArgument, format!("{hostname:?} cannot be a hostname"));
                return self.reply(reply, Err(failure.hint("1–63 characters of a–z 0–9 -, not only digits")));
            }
            profile.hostname = hostname.into();
        }
        if let Some(public) = op["public"].as_bool() {
            profile.public = public;
        }
        if let Some(tags) = op["tags"].as_array() {
            profile.tags = tags.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect();
            if profile.tags.len() > NodeRecord::TAGS_MAX {
                return self.reply(reply, Err(Failure::new(Code::InvalidArgument, "set_tags: maximum 3 tags allowed")));
            }
            if !profile.tags.iter().all(|t| valid_hostname(t)) {
                return self.reply(reply, Err(Failure::new(Code::InvalidArgument, "tags are shaped like hostnames")));
            }
        }
        let now = self.now();
        let before = self.stack.endpoint().profile().clone();
        self.stack.endpoint_mut().set_profile(now, profile.clone());
        let data = json!({"hostname": profile.hostname, "public": profile.public, "tags": profile.tags,
            "node_id": self.stack.endpoint().addr().node, "visibility": if profile.public { "public" } else { "private" }});
        if matches!(self.stack.endpoint().directory_state(), DirectoryState::Registering) {
            self.profile_change = Some((reply, data, before));
        } else {
            // Registered as soon as a rendezvous is reached.
            self.submit(Job::Put(Meta::Profile, emit_profile(&profile)), Then::Answer(reply, data));
        }
    }

    /// The rendezvous has agreed to our record, or not: then the old one stands again.
    pub(super) fn profile_settled(&mut self, state: DirectoryState) {
        if matches!(state, DirectoryState::Registering) {
            return;
        }
        let Some((reply, data, before)) = self.profile_change.take() else { return };
        match state {
            DirectoryState::Refused(why) => {
                let now = self.now();
                self.stack.endpoint_mut().set_profile(now, before);
                self.reply(reply, Err(Failure::new(Code::Conflict, refusal_text(why))));
            }
            _ => {
                let profile = emit_profile(self.stack.endpoint().profile());
                self.submit(Job::Put(Meta::Profile, profile), Then::Answer(reply, data));
            }
        }
    }
}

fn no_rendezvous(target: &str) -> Failure {
    Failure::new(
        Code::Unreachable,
        format!("{target} is not a trusted peer, and the rendezvous cannot be reached to look it up"),
    )
    .hint("pilotctl info shows the rendezvous; peers you trust already need none")
}

pub(super) fn refusal_text(why: Refusal) -> &'static str {
    match why {
        Refusal::NameTaken => "the hostname belongs to another node",
        Refusal::BadRecord => "the rendezvous refuses our record: it has a newer one (is the clock right?)",
        Refusal::TooMany => "too many calls; try again in a second",
        Refusal::Full => "the rendezvous has no room",
        Refusal::NotRegistered => "not registered with the rendezvous yet",
        Refusal::Storage => "the rendezvous cannot write to its disk",
        _ => "no such node",
    }
}

fn trust_failure(error: TrustError, who: &str) -> Failure {
    match error {
        TrustError::Unknown => Failure::new(Code::NotFound, format!("{who} is neither trusted nor waiting"))
            .hint("pilotctl trust; pilotctl pending"),
        TrustError::AlreadyTrusted => Failure::new(Code::Conflict, format!("{who} is trusted already")),
        TrustError::Full => Failure::new(Code::Full, "too many requests or peers"),
        TrustError::AddressTaken => {
            Failure::new(Code::Conflict, format!("another trusted peer has the address of {who}"))
                .hint("pilotctl trust; pilotctl untrust")
        }
        TrustError::NoteTooLong => Failure::new(Code::InvalidArgument, "a justification has at most 256 bytes"),
        TrustError::Oneself => Failure::new(Code::InvalidArgument, "that is this node itself"),
    }
}
