//! Owns the letters of a pairing code: base32 without look-alikes, in groups, under a checksum that finds typing errors.
//!
//! The alphabet and the checksum are those of BIP 173 and BIP 350 (bech32m). Its code is a BCH code of distance 4 up to 1023
//! letters: up to three wrong letters are noticed, one wrong letter is found, and so are two neighbours that changed places.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What a code begins with.
pub(super) const PREFIX: &str = "pilot:";
/// The letters by value; neither `1`, `b`, `i` nor `o` is among them. Source: BIP 173.
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// The generator of the checksum. Source: BIP 173.
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
/// The remainder of a right code. Source: BIP 350.
const REMAINDER: u32 = 0x2bc8_30a3;
/// Letters of the checksum. Source: BIP 173.
const CHECK_LEN: usize = 6;
/// Letters of a group. Source: own choice, a code with a rendezvous has 200 characters at most.
const GROUP_LEN: usize = 16;
/// Most letters of a code: the length of the BCH code. Source: BIP 173.
pub(super) const LETTERS_MAX: usize = 1023;

/// A place in a code, as people count it: both numbers begin with 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The group; each has 16 letters but the last.
    pub group: usize,
    /// The letter in the group.
    pub letter: usize,
}

impl Place {
    const fn of(index: usize) -> Self {
        Self { group: index / GROUP_LEN + 1, letter: index % GROUP_LEN + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "letter {} of group {}", self.letter, self.group)
    }
}

/// What is wrong with the letters of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypingError {
    /// The text does not begin with `pilot:`.
    Prefix,
    /// This letter is in no code.
    Foreign(Place, char),
    /// This letter is wrong.
    Wrong(Place),
    /// This letter and the next one have changed places.
    Swapped(Place),
    /// Letters are wrong, missing or too many, and it cannot be told which.
    Several,
}

impl fmt::Display for TypingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => write!(f, "a pairing code begins with {PREFIX}"),
            Self::Foreign(place, letter) => write!(f, "{place} of the code is {letter:?}, which is in no code"),
            Self::Wrong(place) => write!(f, "{place} of the code is wrong"),
            Self::Swapped(place) => write!(f, "{place} of the code and the next one have changed places"),
            Self::Several => f.write_str("letters of the code are wrong, missing or too many"),
        }
    }
}

/// The text of a code with this content.
pub(super) fn emit(bytes: &[u8]) -> String {
    let mut values = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for byte in bytes {
        (bits, held) = (bits << 8 | u32::from(*byte), held + 8);
        while held >= 5 {
            held -= 5;
            values.push((bits >> held) as u8 & 31);
        }
    }
    if held > 0 {
        values.push((bits << (5 - held)) as u8 & 31);
    }
    let zeros = [0; CHECK_LEN];
    let check = remainder(values.iter().chain(&zeros)) ^ REMAINDER;
    values.extend((0..CHECK_LEN).map(|i| (check >> (5 * (CHECK_LEN - 1 - i))) as u8 & 31));
    debug_assert!(values.len() <= LETTERS_MAX, "{} letters", values.len());
    let mut out = String::from(PREFIX);
    for (i, value) in values.iter().enumerate() {
        if i > 0 && i % GROUP_LEN == 0 {
            out.push('-');
        }
        out.push(LETTERS[usize::from(*value)].into());
    }
    out
}

/// Reads what [`emit`] wrote. Case, dashes and white space do not count.
pub(super) fn parse(text: &str) -> Result<Vec<u8>, TypingError> {
    let text = text.trim();
    let head = text.get(..PREFIX.len()).filter(|head| head.eq_ignore_ascii_case(PREFIX)).ok_or(TypingError::Prefix)?;
    let mut values = Vec::new();
    for letter in text[head.len()..].chars().filter(|c| *c != '-' && !c.is_whitespace()) {
        let value = LETTERS.iter().position(|known| char::from(*known) == letter.to_ascii_lowercase());
        if values.len() >= LETTERS_MAX {
            return Err(TypingError::Several);
        }
        values.push(value.ok_or(TypingError::Foreign(Place::of(values.len()), letter))? as u8);
    }
    let syndrome = remainder(values.iter()) ^ REMAINDER;
    if syndrome != 0 {
        return Err(find(&values, syndrome));
    }
    let data = values.len().checked_sub(CHECK_LEN).ok_or(TypingError::Several)?;
    let mut out = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for value in &values[..data] {
        (bits, held) = (bits << 5 | u32::from(*value), held + 5);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    let is_exact = held < 5 && bits & ((1 << held) - 1) == 0;
    if is_exact { Ok(out) } else { Err(TypingError::Several) }
}

/// One step of the division by the generator.
fn step(rest: u32, value: u8) -> u32 {
    let top = rest >> 25;
    let shifted = (rest & 0x01ff_ffff) << 5 ^ u32::from(value);
    GENERATOR.iter().enumerate().filter(|(i, _)| top >> i & 1 == 1).fold(shifted, |rest, (_, term)| rest ^ term)
}

fn remainder<'a>(values: impl Iterator<Item = &'a u8>) -> u32 {
    values.fold(1, |rest, value| step(rest, *value))
}

/// Finds the one wrong letter, or the two neighbours that changed places, that make this syndrome.
fn find(values: &[u8], syndrome: u32) -> TypingError {
    // What an error of each value contributes at the place under consideration, and at the one after it.
    let mut here: [u32; 32] = core::array::from_fn(|error| error as u32);
    let mut after = [0; 32];
    for place in (0..values.len()).rev() {
        let swap = values.get(place + 1).map_or(0, |next| usize::from(values[place] ^ next));
        if swap != 0 && here[swap] ^ after[swap] == syndrome {
            return TypingError::Swapped(Place::of(place));
        }
        if here[1..].contains(&syndrome) {
            return TypingError::Wrong(Place::of(place));
        }
        after = here;
        here = here.map(|contribution| step(contribution, 0));
    }
    TypingError::Several
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::format;
    use std::string::ToString as _;

    /// The letters of a code without prefix and dashes.
    fn letters(text: &str) -> Vec<u8> {
        text[PREFIX.len()..].bytes().filter(|b| *b != b'-').collect()
    }

    fn read(letters: &[u8]) -> Result<Vec<u8>, TypingError> {
        parse(&format!("{PREFIX}{}", core::str::from_utf8(letters).expect("text")))
    }

    #[test]
    fn codes_of_every_length_are_read_back_whatever_their_case_and_breaks() {
        let mut rng = Rng::new([1; 32]);
        for len in 0..300 {
            let bytes: Vec<u8> = (0..len).map(|_| rng.u32() as u8).collect();
            let text = emit(&bytes);
            assert_eq!(parse(&text), Ok(bytes.clone()), "{text}");
            assert_eq!(parse(&text.to_uppercase().replace('-', " \n")), Ok(bytes));
        }
    }

    #[test]
    fn the_checksum_is_that_of_bip_350() {
        // A valid bech32m text of BIP 350 is `a1lqfn3a`: no data, the human-readable part `a`, which is 3, 0, 1 before it.
        let check = b"lqfn3a".map(|c| LETTERS.iter().position(|known| *known == c).expect("a letter") as u8);
        assert_eq!(remainder([3, 0, 1].iter().chain(&check)), REMAINDER);
    }

    #[test]
    fn one_wrong_letter_is_found_wherever_it_is_and_whatever_it_should_be() {
        let right = letters(&emit(&[0x5a; 120]));
        for place in 0..right.len() {
            for letter in LETTERS.iter().filter(|letter| **letter != right[place]) {
                let mut wrong = right.clone();
                wrong[place] = *letter;
                assert_eq!(read(&wrong), Err(TypingError::Wrong(Place::of(place))));
            }
        }
    }

    #[test]
    fn two_neighbours_that_changed_places_are_found() {
        let mut rng = Rng::new([2; 32]);
        let bytes: Vec<u8> = (0..115).map(|_| rng.u32() as u8).collect();
        let right = letters(&emit(&bytes));
        for place in (1..right.len()).filter(|place| right[place - 1] != right[*place]) {
            let mut wrong = right.clone();
            wrong.swap(place - 1, place);
            assert_eq!(read(&wrong), Err(TypingError::Swapped(Place::of(place - 1))));
        }
    }

    #[test]
    fn no_code_is_read_with_three_wrong_letters_or_one_missing() {
        let mut rng = Rng::new([3; 32]);
        let right = letters(&emit(&[7; 100]));
        for _ in 0..20_000 {
            let mut wrong = right.clone();
            for _ in 0..3 {
                wrong[rng.below(right.len() as u64) as usize] = LETTERS[rng.below(32) as usize];
            }
            assert!(wrong == right || read(&wrong).is_err());
        }
        for place in 0..right.len() {
            let mut short = right.clone();
            short.remove(place);
            assert!(read(&short).is_err());
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let text = emit(&[1; 40]);
        let foreign = text.replacen(&text[23..24], "O", 1);
        assert_eq!(parse(&text[1..]), Err(TypingError::Prefix));
        assert!(matches!(parse(&foreign), Err(TypingError::Foreign(_, 'O'))), "{foreign}");
        assert_eq!(Place::of(16).to_string(), "letter 1 of group 2");
        for bad in ["", "pilot", "pilot:", "pilot:qqqqq", "pïlot:qq", "http://example.com"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let long = format!("{PREFIX}{}", "q".repeat(LETTERS_MAX + 1));
        assert_eq!(parse(&long), Err(TypingError::Several));
    }
}
