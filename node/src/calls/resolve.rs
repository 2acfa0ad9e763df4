//! Owns the ways in which people name a node: an address, a node number, a hostname, a key or its fingerprint.

use crate::failure::{Code, Failure};
use pilot_core::Addr;
use pilot_core::control::Query;
use pilot_core::identity::{IdentityKey, NodeRecord, valid_hostname};
use pilot_core::trust::{Pin, TrustBook};

/// The trusted peer that `text` means.
///
/// # Errors
/// `Ambiguous` when several peers fit; `NotFound` when none does, though an untrusted node may have that name.
pub(crate) fn pinned<'a>(book: &'a TrustBook, text: &str) -> Result<&'a Pin, Failure> {
    let fits: Vec<&Pin> = book.pins().filter(|p| is_called(text, p.addr, &p.hostname, &p.identity)).collect();
    // A name inside a group, by the roster: what has ended has no pin.
    let member = book.member_named(text, book.group_time(0)).and_then(|(_, row)| book.pin(&row.identity));
    match fits.as_slice() {
        [] if member.is_some() => member.ok_or_else(|| Failure::new(Code::NotFound, text)),
        [one] => Ok(one),
        [] => Err(Failure::new(Code::NotFound, format!("no trusted peer is called {text}"))),
        many => {
            let list: Vec<String> = many.iter().map(|p| p.addr.to_string()).collect();
            let text = format!("{text} means {} peers: {}", many.len(), list.join(", "));
            Err(Failure::new(Code::Ambiguous, text).hint("use the address"))
        }
    }
}

/// True when a trusted peer with another key has the hostname of `record`.
pub(crate) fn is_taken(book: &TrustBook, record: &NodeRecord) -> bool {
    !record.hostname.is_empty() && book.pins().any(|p| p.hostname == record.hostname && p.identity != record.identity)
}

/// True when a node with these properties may be called `text`.
pub(crate) fn is_called(text: &str, addr: Addr, hostname: &str, key: &IdentityKey) -> bool {
    (!hostname.is_empty() && hostname == text)
        || text.parse() == Ok(addr)
        || text.parse() == Ok(addr.node)
        || text.parse() == Ok(*key)
        || key.fingerprint() == text
}

/// The question to the rendezvous that asks for `text`.
///
/// # Errors
/// `InvalidArgument` when `text` has none of the forms.
pub(crate) fn query(text: &str) -> Result<Query, Failure> {
    if let Ok(addr) = text.parse() {
        return Ok(Query::Addr(addr));
    }
    if let Ok(node) = text.parse() {
        return Ok(Query::Addr(Addr::new(0, node)));
    }
    if let Ok(key) = text.parse() {
        return Ok(Query::Key(key));
    }
    if valid_hostname(text) {
        return Ok(Query::Name(text.into()));
    }
    Err(Failure::new(Code::InvalidArgument, format!("{text:?} is neither a hostname nor an address"))
        .hint("hostnames are 1–63 characters of a–z 0–9 -; addresses look like 0:0000.0001.F00D"))
}
