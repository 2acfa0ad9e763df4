//! Owns the signature of what is posted: HMAC-SHA256 (RFC 2104) over the body, in hexadecimal digits.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt::Write as _;

/// The value of the header `Pilot-Signature`: `sha256=` and 64 digits.
pub(super) fn signature(secret: &str, body: &[u8]) -> String {
    let mut text = String::from("sha256=");
    // HMAC takes keys of every length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return text };
    mac.update(body);
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    debug_assert_eq!(text.len(), "sha256=".len() + 64);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 4231, 4.3, and a key that is longer than a block.
        for (secret, body, wanted) in [
            (
                "Jefe".to_owned(),
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                "k".repeat(100),
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "2bc51c04a41032b5f44910acdb471c67a7b1de64e91089e052761fe59a9dac4b",
            ),
        ] {
            assert_eq!(signature(&secret, body.as_bytes()), format!("sha256={wanted}"));
        }
    }
}
