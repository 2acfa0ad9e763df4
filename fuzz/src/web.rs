//! What comes by TLS from a proxy, a rendezvous or a client of one: messages of WebSocket, and the heads of HTTP before them.

use pilot_node::probe::{Kind, put_web_messages, web_head, web_messages};

/// Reads the bytes as messages of both sides, and as both heads. The first byte of the input says where the rest is cut in pieces.
/// Invariants: cuts change nothing; messages mean the same when written again; a head that is whole does not change when more
/// follows.
pub fn web(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let cut = usize::from(*cut).min(bytes.len());
    for mask in [None, Some([0; 4]), Some([1, 2, 3, 4])] {
        let whole = web_messages(mask.is_some(), &[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(web_messages(mask.is_some(), &[&bytes[..cut], &bytes[cut..]]), whole, "in two pieces");
        assert_eq!(web_messages(mask.is_some(), &single), whole, "byte by byte");
        let again = web_messages(mask.is_some(), &[&put_web_messages(&whole.messages, mask)]);
        assert_eq!((again.messages, again.is_malformed), (whole.messages, false));
    }
    for is_question in [false, true] {
        let whole = web_head(is_question, bytes);
        let early = web_head(is_question, &bytes[..cut]);
        assert!(early.is_none() || early == whole, "{early:?} became {whole:?}");
    }
}

/// Inputs from which a run without libFuzzer starts: what is sent in practice, and what is almost that.
pub fn web_examples() -> Vec<Vec<u8>> {
    let messages = [
        (Kind::Datagram, vec![1; 157]),
        (Kind::Control(1), vec![2; 8]),
        (Kind::Datagram, vec![3; 41]),
        (Kind::Control(3), vec![]),
    ];
    let heads = [
        "GET /pilot HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: pilot-pn1\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n\u{1}\u{2}",
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n<html>",
        "HTTP/1.0 200\r\n\r\n",
    ];
    let messages = [None, Some([1, 2, 3, 4])].map(|mask| put_web_messages(&messages, mask));
    let fragments = [&[0x02, 2, 1, 2][..], &[0x89, 1, 9], &[0x00, 1, 3], &[0x80, 1, 4]].concat();
    let all = heads.map(|head| head.as_bytes().to_vec()).into_iter().chain(messages).chain([fragments]);
    all.enumerate().map(|(at, bytes)| [&[at as u8 * 9][..], &bytes].concat()).collect()
}
