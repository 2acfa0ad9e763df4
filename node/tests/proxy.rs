//! HTTP and SOCKS as programs speak them, on plain sockets of this machine, across two nodes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::answer::{Exposed, Forward, Proxies, Proxy};
use pilot_node::{Code, Failure, Node, Request};
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// The port of a server that gives each connection to `answer`.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(|stream| stream.unwrap()) {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            answer(stream);
        }
    });
    port
}

/// Reads a head with its body of `Content-Length` bytes.
fn message(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap() == 0 {
            return (String::from_utf8(head).unwrap(), Vec::new());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// Answers every request of a connection with the head that came.
fn echo_heads(mut stream: TcpStream) {
    std::thread::spawn(move || {
        loop {
            let (head, body) = message(&mut stream);
            if head.is_empty() {
                return;
            }
            let text = head + &String::from_utf8_lossy(&body);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
}

fn expose(node: &Node, port: u16, target: &str, [http, a2a, proxy_protocol]: [bool; 3]) {
    let request = Request::Expose {
        port,
        target: target.into(),
        http: Some(http),
        a2a: Some(a2a),
        proxy_protocol: Some(proxy_protocol),
        nodes: None,
        temporary: Some(true),
    };
    Exposed::try_from(node.request(request, Vec::new()).unwrap().0).unwrap();
}

fn forward(node: &Node, port: u16) -> String {
    let request = Request::Forward { node: "node-b".into(), port, listen: "0".into(), temporary: Some(true) };
    Forward::try_from(node.request(request, Vec::new()).unwrap().0).unwrap().listen
}

fn proxy(node: &Node, listen: &str, direct: bool, auth_file: Option<String>) -> Result<Proxy, Failure> {
    let request = Request::Proxy { listen: listen.into(), direct: Some(direct), auth_file, temporary: Some(true) };
    Ok(Proxy::try_from(node.request(request, Vec::new())?.0).unwrap())
}

fn connect(listen: &str) -> TcpStream {
    let stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes and reads to the end.
fn ask(listen: &str, bytes: &[u8]) -> String {
    let mut stream = connect(listen);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_server_learns_its_client_from_headers_that_no_client_can_write() {
    let lab = Lab::new("proxy-headers");
    let (a, b) = lab.nodes();
    let port = serve(echo_heads);
    expose(b, 80, &port, [true, false, false]);
    let mut stream = connect(&forward(a, 80));
    let fingerprint = a.info().unwrap().fingerprint;
    for _ in 0..2 {
        stream
            .write_all(b"POST /x HTTP/1.1\r\nHost: b.pilot\r\nPilot-Peer: root\r\nContent-Length: 3\r\n\r\nabc")
            .unwrap();
        let (_, body) = message(&mut stream);
        let body = String::from_utf8(body).unwrap();
        assert!(
            body.starts_with(&format!("POST /x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 3\r\n")),
            "{body}"
        );
        assert!(
            body.contains("\r\nX-Forwarded-Host: b.pilot\r\nPilot-Peer: node-a\r\nPilot-Peer-Address: 0:"),
            "{body}"
        );
        assert!(body.ends_with(&format!("\r\nPilot-Peer-Fingerprint: {fingerprint}\r\n\r\nabc")), "{body}");
        assert!(!body.contains("root"), "{body}");
    }
}

#[test]
fn a_client_reads_why_it_is_refused() {
    let lab = Lab::new("proxy-refused");
    let (a, b) = lab.nodes();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    expose(b, 81, &dead, [true, false, false]);
    let answer = ask(&forward(a, 81), b"GET / HTTP/1.1\r\nHost: b\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    assert!(answer.contains("cannot be reached"), "{answer}");
    let port = serve(echo_heads);
    expose(b, 80, &port, [true, false, false]);
    let listen = forward(a, 80);
    for (bytes, status) in [
        (
            b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            400,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505),
        ([b"GET / HTTP/1.1\r\nHost: b\r\nA: ", &[b'x'; 70_000][..], b"\r\n\r\n"].concat(), 431),
    ] {
        let answer = ask(&listen, &bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[test]
fn an_upgrade_leaves_bytes_both_ways() {
    let lab = Lab::new("proxy-upgrade");
    let (a, b) = lab.nodes();
    let port = serve(|mut stream| {
        let (head, _) = message(&mut stream);
        assert!(head.contains("Pilot-Peer: node-a"), "{head}");
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n").unwrap();
        let mut frame = [0; 4];
        while stream.read_exact(&mut frame).is_ok() {
            stream.write_all(&frame).unwrap();
        }
    });
    expose(b, 80, &port, [true, false, false]);
    let mut stream = connect(&forward(a, 80));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert!(message(&mut stream).0.starts_with("HTTP/1.1 101 "));
    for frame in [*b"\x01\x02\r\n", *b"GET ", *b"\r\n\r\n"] {
        stream.write_all(&frame).unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, frame);
    }
}

#[test]
fn bodies_of_megabytes_pass_the_filter_whole() {
    let lab = Lab::new("proxy-bulk");
    let (a, b) = lab.nodes();
    let body: Vec<u8> = (0..3_000_000u32).map(|at| ((at * 7) >> 3) as u8).collect();
    let expected = body.clone();
    let port = serve(move |mut stream| {
        let (_, got) = message(&mut stream);
        assert!(got == expected, "{} bytes", got.len());
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", got.len()).as_bytes()).unwrap();
        stream.write_all(&got).unwrap();
    });
    expose(b, 80, &port, [true, false, false]);
    let mut stream = connect(&forward(a, 80));
    stream
        .write_all(format!("PUT / HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
        .unwrap();
    stream.write_all(&body).unwrap();
    assert!(message(&mut stream).1 == body);
}

#[test]
fn the_agents_card_names_the_way_that_its_reader_came() {
    let lab = Lab::new("proxy-card");
    let (a, b) = lab.nodes();
    let port = serve(|mut stream| {
        let (head, _) = message(&mut stream);
        assert!(!head.contains("gzip"), "{head}");
        let card = r#"{"url":"http://127.0.0.1:9/rpc"}"#;
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{card}", card.len()).as_bytes())
            .unwrap();
    });
    expose(b, 80, &port, [true, true, false]);
    let listen = forward(a, 80);
    let ask = format!("GET /.well-known/agent-card.json HTTP/1.1\r\nHost: {listen}\r\nAccept-Encoding: gzip\r\n\r\n");
    let mut stream = connect(&listen);
    stream.write_all(ask.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(message(&mut stream).1).unwrap(), format!(r#"{{"url":"http://{listen}/rpc"}}"#));
}

#[test]
fn the_proxy_protocol_comes_before_the_first_byte() {
    let lab = Lab::new("proxy-protocol");
    let (a, b) = lab.nodes();
    let (sender, receiver) = std::sync::mpsc::channel();
    let port = serve(move |mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(b"answer").unwrap();
        sender.send(bytes).unwrap();
    });
    expose(b, 90, &port, [false, false, true]);
    let stream = connect(&forward(a, 90));
    (&stream).write_all(b"question").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    (&stream).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    let bytes = receiver.recv().unwrap();
    assert_eq!(bytes[..14], *b"\r\n\r\n\0\r\nQUIT\n\x21\x21");
    let len = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    assert_eq!(bytes[16 + len..], *b"question");
    let source = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[16..32]).unwrap());
    assert!(source.to_string().starts_with("fd50:494c:4f54::"), "{source}");
    let text = String::from_utf8_lossy(&bytes[52..16 + len]).into_owned();
    assert!(text.contains(&a.info().unwrap().fingerprint) && text.ends_with("node-a"), "{text}");
}

#[test]
fn one_port_speaks_socks_connect_and_http() {
    let lab = Lab::new("proxy-port");
    let (a, b) = lab.nodes();
    let port = serve(echo_heads);
    expose(b, 8080, &port, [false; 3]);
    expose(b, 8081, &port, [true, false, false]);
    let listen = proxy(a, "127.0.0.1:0", false, None).unwrap().listen;

    // Plain HTTP: one connection, two servers, and back.
    let mut stream = connect(&listen);
    for (port, host) in [(8080, "node-b"), (8080, "node-b"), (8081, "Node-B.pilot"), (8080, "node-b")] {
        let head = format!("GET http://{host}:{port}/x HTTP/1.1\r\nHost: y\r\nProxy-Connection: keep-alive\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let (head, body) = message(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let body = String::from_utf8(body).unwrap();
        assert_eq!(body.contains("Pilot-Peer: node-a"), port == 8081, "{body}");
        assert!(!body.contains("Proxy-Connection") && body.contains(&format!("Host: {host}:{port}\r\n")), "{body}");
    }

    // CONNECT.
    let mut stream = connect(&listen);
    stream.write_all(b"CONNECT node-b:8080 HTTP/1.1\r\nHost: node-b:8080\r\n\r\nGET /early HTTP/1.0\r\n\r\n").unwrap();
    assert!(message(&mut stream).0.starts_with("HTTP/1.1 200 "));
    assert!(String::from_utf8(message(&mut stream).1).unwrap().starts_with("GET /early "));

    // SOCKS, with the address as a name and as IPv6.
    let address = b.info().unwrap().address;
    let name = address.replace(':', "-") + ".pilot";
    let v6 = address.parse::<pilot_node::Addr>().unwrap().to_ipv6();
    let by_name = [&[5, 1, 0, 3, name.len() as u8][..], name.as_bytes(), &8080u16.to_be_bytes()].concat();
    let by_ip = [&[5, 1, 0, 4][..], &v6.octets(), &8080u16.to_be_bytes()].concat();
    for request in [by_name, by_ip] {
        let mut stream = connect(&listen);
        stream.write_all(&[5, 1, 0]).unwrap();
        let (mut method, mut reply) = ([0; 2], [0; 10]);
        stream.read_exact(&mut method).unwrap();
        assert_eq!(method, [5, 0]);
        stream.write_all(&request).unwrap();
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..2], [5, 0]);
        stream.write_all(b"GET /socks HTTP/1.0\r\n\r\n").unwrap();
        assert!(String::from_utf8(message(&mut stream).1).unwrap().starts_with("GET /socks "));
    }
}

#[test]
fn the_proxy_reaches_trusted_peers_and_nothing_else() {
    let lab = Lab::new("proxy-closed");
    let (a, _) = lab.nodes();
    let listen = proxy(a, "0", false, None).unwrap().listen;
    assert!(listen.starts_with("127.0.0.1:"), "{listen}");
    let socks = |host: &str| {
        let mut stream = connect(&listen);
        let request = [&[5, 1, 0, 5, 1, 0, 3, host.len() as u8][..], host.as_bytes(), &80u16.to_be_bytes()].concat();
        stream.write_all(&request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    };
    for (request, status) in [
        ("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 403),
        ("GET http://127.0.0.1:22/ HTTP/1.1\r\nHost: node-b\r\n\r\n", 403),
        ("GET http://stranger/ HTTP/1.1\r\nHost: stranger\r\n\r\n", 403),
        ("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 403),
        ("CONNECT node-b\x01:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT node-b:0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 400),
        ("GET http://node-b:4444/ HTTP/1.1\r\nHost: node-b\r\n\r\n", 502),
    ] {
        let answer = ask(&listen, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    assert_eq!(socks("example.com"), [5, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(socks("stranger")[2..4], [5, 2]);
    assert_eq!(ask(&listen, b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00").as_bytes()[0], 0);
    let listed = Proxies::try_from(a.request(Request::Proxies, Vec::new()).unwrap().0).unwrap();
    assert_eq!((listed.total, listed.proxies[0].connections), (1, 0));
    assert!(listed.proxies[0].last_error.is_some());
}

#[test]
fn other_machines_are_asked_for_a_password() {
    let lab = Lab::new("proxy-password");
    let (a, b) = lab.nodes();
    let port = serve(echo_heads);
    expose(b, 80, &port, [false; 3]);
    assert_eq!(proxy(a, "0.0.0.0:0", false, None).unwrap_err().code, Code::InvalidArgument);
    let file = lab.folder.join("users");
    std::fs::write(&file, "# users\nann:secret\n").unwrap();
    let auth = Some(file.to_str().unwrap().to_owned());
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let failure = proxy(a, "0.0.0.0:0", false, auth.clone()).unwrap_err();
    assert!(failure.to_string().contains("chmod 600"), "{failure}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let listen = proxy(a, "0.0.0.0:0", false, auth).unwrap().listen.replace("0.0.0.0", "127.0.0.1");
    let get = "GET http://node-b/ HTTP/1.1\r\nHost: node-b\r\nConnection: close\r\n";
    let answer = ask(&listen, format!("{get}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 407 ") && answer.contains("Proxy-Authenticate: Basic"), "{answer}");
    let mut stream = connect(&listen);
    stream.write_all(format!("{get}Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n").as_bytes()).unwrap();
    let (head, body) = message(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200 ") && !String::from_utf8(body).unwrap().contains("Authorization"), "{head}");
}

#[test]
fn other_hosts_are_reached_only_when_the_owner_says_so() {
    let lab = Lab::new("proxy-direct");
    let (a, b) = lab.nodes();
    let port = serve(echo_heads);
    expose(b, 80, &port, [false; 3]);
    let listen = proxy(a, "0", true, None).unwrap().listen;
    let mut stream = connect(&listen);
    for host in [format!("127.0.0.1:{port}"), "node-b".into(), format!("127.0.0.1:{port}")] {
        stream.write_all(format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let (head, body) = message(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(String::from_utf8(body).unwrap().contains(&format!("Host: {host}\r\n")));
    }
    let mut stream = connect(&listen);
    stream.write_all(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    assert!(message(&mut stream).0.starts_with("HTTP/1.1 200 "));
    stream.write_all(b"GET /direct HTTP/1.0\r\n\r\n").unwrap();
    assert!(String::from_utf8(message(&mut stream).1).unwrap().starts_with("GET /direct "));
}
