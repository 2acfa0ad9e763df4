//! Programs that know nothing of Pilot, on plain sockets of this machine, across two nodes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::Request;
use pilot_node::answer::{Exposed, Forward};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// A server whose address is exposed at port 80 of `node-b`, and the address at which `node-a` forwards to the port.
fn ways(lab: &Lab) -> (TcpListener, String) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (a, b) = lab.nodes();
    let expose = Request::Expose {
        port: 80,
        target: server.local_addr().unwrap().port().to_string(),
        http: None,
        a2a: None,
        proxy_protocol: None,
        nodes: None,
        temporary: None,
    };
    Exposed::try_from(b.request(expose, Vec::new()).unwrap().0).unwrap();
    let forward = Request::Forward { node: "node-b".into(), port: 80, listen: "0".into(), temporary: None };
    let forward = Forward::try_from(a.request(forward, Vec::new()).unwrap().0).unwrap();
    (server, forward.listen)
}

fn connect(listen: &str) -> TcpStream {
    let stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn halves_end_one_after_the_other() {
    let lab = Lab::new("halves");
    let (server, listen) = ways(&lab);
    for client_first in [true, false] {
        let client = connect(&listen);
        (&client).write_all(b"question").unwrap();
        let (peer, _) = server.accept().unwrap();
        let (first, second) = if client_first { (&client, &peer) } else { (&peer, &client) };
        let mut first_text = Vec::new();
        if client_first {
            first.shutdown(Shutdown::Write).unwrap();
        } else {
            (&peer).write_all(b"question").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        }
        let mut reader = second;
        reader.read_to_end(&mut first_text).unwrap();
        assert_eq!(first_text, b"question");
        (&*second).write_all(b"answer").unwrap();
        second.shutdown(Shutdown::Write).unwrap();
        let (mut rest, mut reader) = (Vec::new(), first);
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(b"answer"), "{rest:?}");
    }
}
