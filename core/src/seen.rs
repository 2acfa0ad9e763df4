//! Owns the question from which address a datagram comes, which a rendezvous answers without any session (`docs/wire.md`, "Seen").

use crate::codec::Reader;
use crate::underlay::{parse_endpoint, put_endpoint};
use crate::wire::VERSION;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// First byte of a question. It differs from the answer's, so that two rendezvous cannot be made to answer each other.
const QUESTION: u8 = 8;
/// First byte of an answer.
const ANSWER: u8 = 9;
/// Bytes before the part that tells the address: type, version, zeros, nonce.
const HEAD_LEN: usize = 20;
/// Length of both, so that no answer is longer than its question. Unit: bytes.
pub const SEEN_LEN: usize = 40;

/// What makes an answer belong to a question.
pub type Nonce = [u8; 16];

/// A question with this nonce.
pub fn question(nonce: &Nonce) -> [u8; SEEN_LEN] {
    let mut out = [0; SEEN_LEN];
    (out[0], out[1]) = (QUESTION, VERSION);
    out[4..HEAD_LEN].copy_from_slice(nonce);
    out
}

/// The answer to a datagram that is a question and comes from `from`; `None` for every other.
pub fn answer(datagram: &[u8], from: &SocketAddr) -> Option<[u8; SEEN_LEN]> {
    let nonce = datagram.get(4..HEAD_LEN)?.try_into().ok()?;
    if *datagram != question(&nonce) {
        return None;
    }
    let (mut out, mut addr) = (question(&nonce), Vec::new());
    put_endpoint(&mut addr, Some(from));
    out[0] = ANSWER;
    out[HEAD_LEN..HEAD_LEN + addr.len()].copy_from_slice(&addr);
    Some(out)
}

/// The nonce and the address of an answer; `None` for every other datagram.
pub(crate) fn parse_answer(datagram: &[u8]) -> Option<(Nonce, SocketAddr)> {
    let bytes: &[u8; SEEN_LEN] = datagram.try_into().ok()?;
    let nonce = bytes[4..HEAD_LEN].try_into().ok()?;
    let addr = parse_endpoint(&mut Reader::new(&bytes[HEAD_LEN..])).ok()??;
    (bytes[..4] == [ANSWER, VERSION, 0, 0] && addr.port() != 0).then_some((nonce, addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_its_source_at_its_own_length_and_an_answer_never() {
        for from in ["192.0.2.1:4000", "[2001:db8::1]:65535"] {
            let from = from.parse().expect("an address");
            let told = answer(&question(&[7; 16]), &from).expect("a question");
            assert_eq!(parse_answer(&told), Some(([7; 16], from)));
            assert_eq!((answer(&told, &from), parse_answer(&question(&[7; 16]))), (None, None));
        }
        let from = "192.0.2.1:4000".parse().expect("an address");
        for bad in [&question(&[7; 16])[..39], &[8; SEEN_LEN], &[9; SEEN_LEN], &[]] {
            assert_eq!((answer(bad, &from), parse_answer(bad)), (None, None), "{bad:?}");
        }
    }
}
