//! Owns the target of the control stream's receiver: pieces in any order, honest and not.

use pilot_core::link::control::{ControlReceiver, HELD_LEN_MAX, RANGES_LEN_MAX};

/// Gives a receiver pieces of a stream of messages, each cut where the input says, and forged ones between them. What comes
/// out is the stream's messages in their order as long as no forged byte was taken, and what is held has its maximum. The
/// input is a list of steps of four bytes: the action, the place of the piece (two), its length.
pub fn control_stream(bytes: &[u8]) {
    let messages: Vec<Vec<u8>> = (0..100usize).map(|i| vec![i as u8; 1 + i * 17]).collect();
    let stream: Vec<u8> = messages.iter().flat_map(|m| [&(m.len() as u32).to_le_bytes()[..], m].concat()).collect();
    let (mut receiver, mut got, mut is_honest) = (ControlReceiver::default(), Vec::new(), true);
    for step in bytes.chunks_exact(4).take(5000) {
        let (place, len) = (usize::from(u16::from_le_bytes([step[1], step[2]])) * 2, 1 + usize::from(step[3]) * 8);
        let arrived = if step[0] < 250 {
            let start = place % stream.len();
            receiver.receive(start as u64, &stream[start..(start + len).min(stream.len())])
        } else {
            is_honest = false;
            receiver.receive((place as u64) << (step[0] - 250), &vec![step[3]; len])
        };
        assert!(receiver.held_len() <= 2 * (HELD_LEN_MAX + 2 * RANGES_LEN_MAX), "held: {}", receiver.held_len());
        match arrived {
            Some(new) => got.extend(new),
            None => {
                assert!(!is_honest, "an honest stream was called broken");
                return;
            }
        }
        if is_honest {
            assert!(messages.starts_with(&got), "messages come once and in their order");
        }
    }
}
