//! Owns the rewriting of an A2A agent's card: its URLs get the scheme and authority that the caller used.

use serde_json::Value;

/// Longest card. Unit: bytes. Own choice: cards have some kilobytes, and with the rewritten one beside it the card is within
/// the bytes that a connection may hold.
pub(super) const CARD_LEN_MAX: usize = 128 * 1024;
/// The lists of a card that name further interfaces, in older and newer revisions of A2A.
const INTERFACES: [&str; 2] = ["additionalInterfaces", "supportedInterfaces"];

/// The card with its URLs at `base` (`http://worker-node.pilot:8080`); `None` for what is no JSON object.
pub(super) fn rewrite(card: &[u8], base: &str) -> Option<Vec<u8>> {
    debug_assert!(card.len() <= CARD_LEN_MAX);
    let Value::Object(mut card) = serde_json::from_slice(card).ok()? else { return None };
    move_url(card.get_mut("url"), base);
    for list in INTERFACES {
        if let Some(Value::Array(interfaces)) = card.get_mut(list) {
            interfaces.iter_mut().for_each(|interface| move_url(interface.get_mut("url"), base));
        }
    }
    Some(Value::Object(card).to_string().into_bytes())
}

fn move_url(url: Option<&mut Value>, base: &str) {
    let Some(Value::String(url)) = url else { return };
    let Some((scheme, rest)) = url.split_once("://") else { return };
    if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        let path = &rest[rest.find(['/', '?']).unwrap_or(rest.len())..];
        *url = format!("{base}{path}");
    }
}
