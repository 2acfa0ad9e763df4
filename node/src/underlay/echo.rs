//! Owns the echo: the question whether UDP passes to the rendezvous and back, which the socket's shell asks and answers without
//! any session (`docs/wire.md`, "Echo").

use pilot_core::wire::VERSION;

/// First byte of a question. It differs from the answer's, so that two rendezvous cannot be made to answer each other.
const QUESTION: u8 = 6;
/// First byte of an answer.
const ANSWER: u8 = 7;
/// Length of both. Unit: bytes.
pub const ECHO_LEN: usize = 20;

/// A question with this nonce.
pub fn question(nonce: &[u8; 16]) -> [u8; ECHO_LEN] {
    filled(QUESTION, nonce)
}

/// True for the answer to the question with this nonce.
pub fn is_answer(datagram: &[u8], nonce: &[u8; 16]) -> bool {
    *datagram == filled(ANSWER, nonce)
}

/// The answer to a datagram that is a question; `None` for every other.
pub fn echo(datagram: &[u8]) -> Option<[u8; ECHO_LEN]> {
    let nonce = datagram.get(4..)?.try_into().ok()?;
    (*datagram == filled(QUESTION, &nonce)).then(|| filled(ANSWER, &nonce))
}

fn filled(kind: u8, nonce: &[u8; 16]) -> [u8; ECHO_LEN] {
    let mut out = [0; ECHO_LEN];
    (out[0], out[1]) = (kind, VERSION);
    out[4..].copy_from_slice(nonce);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_once_and_an_answer_never() {
        let (nonce, other) = ([7; 16], [8; 16]);
        let answer = echo(&question(&nonce)).expect("a question");
        assert!(is_answer(&answer, &nonce) && !is_answer(&answer, &other));
        assert_eq!(echo(&answer), None);
        for bad in [&question(&nonce)[..19], &[question(&nonce).as_slice(), &[0]].concat(), &[6; 20], &[]] {
            assert_eq!(echo(bad), None, "{bad:?}");
        }
    }
}
