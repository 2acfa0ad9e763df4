//! HTTP/1.1 over streams: a server that answers two paths, and a client, with `httparse` for the heads of both.
//!
//! `cargo run -p pilot-node --example http_over_stream`

mod common;

use common::{Network, Outcome};
use pilot_node::{Node, Stream};
use std::io::{Read as _, Write as _};
use std::thread;

const PORT: u16 = 80;
/// Longest head of a request or response. Unit: bytes.
const HEAD_LEN_MAX: usize = 8 * 1024;

/// Serves until the client has asked for both paths.
pub(crate) fn main() -> Outcome<()> {
    let network = Network::start("http")?;
    let listener = network.bob.listen(PORT)?;
    let bob = network.bob.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(e) = serve(stream, &bob) {
                eprintln!("a request failed: {e}");
            }
        }
    });

    let (status, body) = get(&network.alice, "bob", "/hello")?;
    println!("GET /hello: {status} {body}");
    assert_eq!((status, body.as_str()), (200, "hello from bob"));
    let (status, _) = get(&network.alice, "bob", "/nothing")?;
    println!("GET /nothing: {status}");
    assert_eq!(status, 404);
    Ok(())
}

/// Answers one request and ends the stream.
fn serve(mut stream: Stream, node: &Node) -> Outcome<()> {
    let mut bytes = Vec::new();
    let path = loop {
        read_more(&mut stream, &mut bytes)?;
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        if request.parse(&bytes)?.is_complete() {
            break request.path.unwrap_or_default().to_owned();
        }
    };
    let (status, body) = match path.as_str() {
        "/hello" => ("200 OK", format!("hello from {}", node.info()?.hostname)),
        _ => ("404 Not Found", String::new()),
    };
    // Dropping the stream ends it after what was written.
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    Ok(())
}

/// Asks a peer for a path and gives the status and the body.
fn get(node: &Node, peer: &str, path: &str) -> Outcome<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n");
    // A request this short travels together with the question for the stream: one round trip for all.
    let mut stream = node.connect_with(peer, PORT, request.as_bytes())?;
    let mut bytes = Vec::new();
    let (status, head_len, body_len) = loop {
        read_more(&mut stream, &mut bytes)?;
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(head_len) = response.parse(&bytes)? {
            let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
            let length = length.ok_or("no Content-Length")?.value;
            break (response.code.unwrap_or(0), head_len, std::str::from_utf8(length)?.parse::<usize>()?);
        }
    };
    let mut body = bytes.split_off(head_len);
    (&mut stream).take(body_len.saturating_sub(body.len()) as u64).read_to_end(&mut body)?;
    Ok((status, String::from_utf8(body)?))
}

fn read_more(stream: &mut Stream, bytes: &mut Vec<u8>) -> Outcome<()> {
    let mut buffer = [0; 1024];
    match stream.read(&mut buffer)? {
        0 => Err("the stream ended in the middle of a head".into()),
        _ if bytes.len() > HEAD_LEN_MAX => Err("the head is too long".into()),
        n => {
            bytes.extend_from_slice(&buffer[..n]);
            Ok(())
        }
    }
}
