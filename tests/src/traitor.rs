//! Owns the cipher of a traitor: a machine with valid keys that puts other frames in place of its own now and then, above all
//! broken pieces of the control stream. All else of the machine is honest, so that its sessions stand and stand again.

use pilot_core::aead::{AeadKey, AeadProvider, PORTABLE, TAG_LEN};
use pilot_core::link::control::{MESSAGE_LEN_MAX, WINDOW};
use pilot_core::link::frame::emit_control;
use pilot_core::rng::Rng;

/// The cipher of a traitor.
pub(crate) static TRAITOR: Traitor = Traitor;

/// [`TRAITOR`]'s type.
pub(crate) struct Traitor;

/// Of so many datagrams one is another.
const ONE_OF: u64 = 4;
/// Shortest plaintext that is replaced: a type, an offset and a length, and some bytes. Unit: bytes.
const TEXT_LEN_MIN: usize = 32;
/// What a CONTROL frame needs beside its bytes, at most. Unit: bytes.
const FRAME_OVERHEAD: usize = 13;

impl AeadProvider for Traitor {
    fn key(&self, key: &[u8; 32]) -> Box<dyn AeadKey> {
        Box::new(Key { honest: PORTABLE.key(key), seed: *key })
    }

    fn name(&self) -> &'static str {
        "traitor"
    }
}

struct Key {
    honest: Box<dyn AeadKey>,
    seed: [u8; 32],
}

impl AeadKey for Key {
    fn seal(&self, counter: u64, aad: &[u8], buf: &mut [u8]) {
        let text_len = buf.len() - TAG_LEN;
        // A key that rested is made anew, and goes on where it was.
        let mut seed = self.seed;
        seed[..8].copy_from_slice(&counter.to_le_bytes());
        let mut rng = Rng::new(seed);
        if text_len >= TEXT_LEN_MIN && rng.below(ONE_OF) == 0 {
            betray(&mut rng, &mut buf[..text_len]);
        }
        self.honest.seal(counter, aad, buf);
    }

    fn open(&self, counter: u64, aad: &[u8], buf: &mut [u8]) -> bool {
        self.honest.open(counter, aad, buf)
    }
}

/// Puts other frames in place of these.
fn betray(rng: &mut Rng, text: &mut [u8]) {
    let most = text.len() - FRAME_OVERHEAD;
    let noise: Vec<u8> = (0..most).map(|_| rng.below(256) as u8).collect();
    let len = 1 + rng.below(most as u64) as usize;
    let mut frames = Vec::new();
    match rng.below(6) {
        // Pieces within the window: gaps and overlaps, many small ones or few large ones.
        0 | 1 => emit_control(&mut frames, rng.below(WINDOW), &noise[..len]),
        2 => (0..most / 16).for_each(|_| emit_control(&mut frames, rng.below(WINDOW), &noise[..4])),
        // A message of an impossible length.
        3 => {
            let length = [0, MESSAGE_LEN_MAX as u32 + 1, u32::MAX][rng.below(3) as usize];
            emit_control(&mut frames, 0, &[&length.to_le_bytes()[..], &noise[..len.min(most - 4)]].concat());
        }
        // A piece beyond every window.
        4 => emit_control(&mut frames, u64::MAX >> rng.below(40), &noise[..len]),
        // A damaged byte in honest frames.
        _ => {
            frames.extend_from_slice(text);
            frames[rng.below(text.len() as u64) as usize] ^= 1 + rng.below(255) as u8;
        }
    }
    // Zeros are padding.
    text.fill(0);
    text[..frames.len()].copy_from_slice(&frames);
}
