//! Owns the target of the node's socket: frames of local programs, ours and the official ones.

use pilot_node::Request;
use pilot_node::probe::{Heard, frames};

/// Most bytes that are also given one by one.
const SINGLE_MAX: usize = 2000;

/// Reads a client's bytes as the server does. The first byte of the input says where the rest is cut in pieces; the rest is
/// the bytes as they are, or, if the second byte is even, requests on lines, each in a well-formed frame. Invariants: nothing
/// panics, cuts change nothing, and a request that is understood is the same when it is written and read again.
pub fn ipc(bytes: &[u8]) {
    let [cut, kind, rest @ ..] = bytes else { return };
    let framed: Vec<u8>;
    let client = if kind.is_multiple_of(2) {
        framed = rest.split(|byte| *byte == b'\n').enumerate().flat_map(|(n, json)| frame(n as u32, json)).collect();
        &framed[..]
    } else {
        rest
    };
    let whole = frames(&[client]);
    let cut = usize::from(*cut).min(client.len());
    assert_eq!(frames(&[&client[..cut], &client[cut..]]), whole, "in two pieces");
    if client.len() <= SINGLE_MAX {
        let single: Vec<&[u8]> = client.chunks(1).collect();
        assert_eq!(frames(&single), whole, "byte by byte");
    }
    for heard in &whole {
        match heard {
            Heard::Request(_, Ok(request), _) | Heard::Official(request) => {
                let json = request.to_json();
                assert_eq!(Request::from_json(json.as_bytes()).as_ref().ok(), Some(request), "{json}");
            }
            Heard::Request(_, Err(text), _) | Heard::Refused(text) => {
                assert!(!text.is_empty(), "a refusal has a reason")
            }
            Heard::Served | Heard::Malformed | Heard::Impossible(_) => {}
        }
    }
}

/// A frame with a request: `len u32 (big-endian) | 0x80 | number u32 | JSON length u32 | JSON`.
fn frame(number: u32, json: &[u8]) -> Vec<u8> {
    let len = (9 + json.len()) as u32;
    let head = [&len.to_be_bytes()[..], &[0x80], &number.to_be_bytes(), &(json.len() as u32).to_be_bytes()].concat();
    [&head, json].concat()
}
