//! Owns the byte of an INIT or RESP that says what its sender is and what it can do: the stance.
//!
//! ```text
//!  bit 0   ChaCha20-Poly1305: offered (INIT), chosen (RESP)
//!  bit 1   AES-256-GCM, reserved
//!  bit 6   the sender is a rendezvous
//!  bit 7   a KEM secret of the pair is held (INIT), is mixed in (RESP)
//! ```
//! The others are reserved. A reader ignores them; like all of the handshake they are in its transcript, so that no bit
//! can be changed on the way.

const CHACHA20_POLY1305: u8 = 1 << 0;
/// All suites, spoken here or not.
const SUITES: u8 = 0b11;
/// The suites that are spoken here.
const SPOKEN: u8 = CHACHA20_POLY1305;
const RENDEZVOUS: u8 = 1 << 6;
const KEM: u8 = 1 << 7;

/// What the sender of an INIT or RESP is and can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stance(pub(crate) u8);

impl Stance {
    /// That of this node: it offers all suites that it speaks.
    pub(crate) const fn new(is_rendezvous: bool) -> Self {
        Self(SPOKEN | if is_rendezvous { RENDEZVOUS } else { 0 })
    }

    /// The same, with the word that a KEM secret is held, or is mixed in.
    pub(crate) const fn with_kem(self, has_kem: bool) -> Self {
        Self(if has_kem { self.0 | KEM } else { self.0 & !KEM })
    }

    /// The answer of a node with the stance `self` to `offer`, without a KEM secret; `None` when it speaks none of the
    /// suites.
    pub(crate) const fn answer(self, offer: Self) -> Option<Self> {
        let common = self.0 & offer.0 & SUITES;
        // Of several the lowest bit is taken, which every processor is quick with.
        let chosen = common & common.wrapping_neg();
        if chosen == 0 { None } else { Some(Self(self.0 & !SUITES | chosen).with_kem(false)) }
    }

    /// True when this can be the answer to `offer`: it names one suite that was offered, and mixes only what is held.
    pub(crate) const fn answers(self, offer: Self) -> bool {
        let chosen = self.0 & SUITES;
        chosen.is_power_of_two() && chosen & offer.0 != 0 && (!self.has_kem() || offer.has_kem())
    }

    pub(crate) const fn is_rendezvous(self) -> bool {
        self.0 & RENDEZVOUS != 0
    }

    pub(crate) const fn has_kem(self) -> bool {
        self.0 & KEM != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_is_chosen_from_those_offered() {
        let (node, rendezvous) = (Stance::new(false), Stance::new(true));
        assert_eq!((node, rendezvous), (Stance(0b0000_0001), Stance(0b0100_0001)));
        assert_eq!(rendezvous.answer(node), Some(rendezvous));
        assert_eq!(node.answer(Stance(0b0000_0010)), None, "a suite that is not spoken here");
        assert_eq!(node.answer(Stance(0b1011_1111)), Some(node), "reserved bits are ignored");
        assert!(rendezvous.answers(node) && !node.answers(Stance(0b10)), "what was not offered is no answer");
        assert!(!Stance(0b11).answers(Stance(0b11)), "one suite is chosen");
        assert!(!Stance(0).answers(node), "none is no answer");
        let with_kem = node.with_kem(true);
        assert_eq!(with_kem, Stance(0b1000_0001));
        assert!(with_kem.answers(with_kem) && node.answers(with_kem) && !with_kem.answers(node));
    }
}
