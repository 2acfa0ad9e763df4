//! Owns the run of a filter without sockets, for the fuzz targets (`fuzz/`).

use super::filter::{Filter, Out, Refusal};
use super::http::{Exposed, Peer};
use std::sync::Arc;

/// What a filter has made of a client's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// Bytes to the server.
    pub to_server: Vec<u8>,
    /// The hosts that a client of the proxy has asked for, in their order.
    pub wanted: Vec<String>,
    /// The connection was ended.
    pub is_refused: bool,
}

/// Gives a client's bytes piece by piece to the filter of the proxy, or to that of `expose --http`. The server answers as
/// late as it can, with an empty 404. Does not block; any thread may call.
pub fn filter(is_proxy: bool, pieces: &[&[u8]]) -> Filtered {
    let peer = Peer { name: "ann", address: "0:0000.0000.0007", fingerprint: "aa-bb" };
    let mut filter = if is_proxy {
        Filter::proxy(Arc::default())
    } else {
        Filter::exposed(Exposed::new("127.0.0.1:8080".to_owned(), &peer, false))
    };
    let (mut filtered, mut pending) = (Filtered::default(), Vec::new());
    for piece in pieces {
        pending.extend_from_slice(piece);
        match take(&mut filter, &pending, &mut filtered) {
            Ok(used) => drop(pending.drain(..used)),
            Err(_) => {
                filtered.is_refused = true;
                break;
            }
        }
    }
    filtered
}

/// Gives bytes to the filter until it needs more of them; gives their number.
fn take(filter: &mut Filter, bytes: &[u8], filtered: &mut Filtered) -> Result<usize, Refusal> {
    let (mut out, mut used) = (Out::default(), 0);
    let result = loop {
        match filter.push_request(&bytes[used..], &mut out) {
            Err(refusal) => break Err(refusal),
            Ok(len) => used += len,
        }
        let outcome = if let Some((to, _)) = filter.wanted() {
            filtered.wanted.push(to.host.clone());
            filter.connected(&mut out)
        } else if used < bytes.len() && filter.is_held() {
            filter.push_response(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", &mut out)
        } else {
            break Ok(used);
        };
        if let Err(refusal) = outcome {
            break Err(refusal);
        }
    };
    filtered.to_server.extend_from_slice(out.to_server.rest());
    result
}
