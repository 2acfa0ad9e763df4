//! The webhook: events of a real daemon, posted to servers that fail in every way.
#![cfg(feature = "webhook")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node, until};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// One request as the server got it.
struct Got {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn event(&self) -> String {
        self.json()["event"]["event"].as_str().unwrap().to_owned()
    }
}

/// A server on this machine that answers with these statuses, then with 200.
struct Server {
    addr: SocketAddr,
    got: Receiver<Got>,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answers: &[&str]) -> Self {
        Self::start_with(answers, |stream, answer, got| serve(&mut &*stream, answer, got))
    }

    fn start_with(answers: &[&str], serve: impl Fn(&TcpStream, &str, &Sender<Got>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, (sender, got)) = (listener.local_addr().unwrap(), channel());
        let answers = Arc::new(Mutex::new(answers.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()));
        let left = answers.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut left = left.lock().unwrap();
                let answer = if left.is_empty() { "200 OK".to_owned() } else { left.remove(0) };
                drop(left);
                serve(&stream, &answer, &sender);
            }
        });
        Self { addr, got, answers }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?a=b", self.addr)
    }

    /// The next request that posts an event of this kind, or any.
    fn next(&self, kind: &str) -> Got {
        loop {
            let got = self.got.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no event {kind}"));
            if kind.is_empty() || got.event() == kind {
                return got;
            }
        }
    }
}

/// Reads one request and answers it.
fn serve(stream: &mut (impl Read + Write), answer: &str, got: &Sender<Got>) {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    let headers: BTreeMap<String, String> =
        lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let len: usize = headers["content-length"].parse().unwrap();
    let mut body = bytes[head..].to_vec();
    body.resize(len, 0);
    stream.read_exact(&mut body[bytes.len() - head..]).unwrap();
    let _ = write!(stream, "HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let _ = stream.flush();
    let _ = got.send(Got { line, headers, body });
}

fn message(from: &Node, text: &str) {
    from.ok(&["send-message", "worker-node", "--data", text, "--timeout", "20"]);
}

fn state(node: &Node) -> Value {
    node.json(&["info"])["webhook"].clone()
}

#[test]
fn arrivals_are_posted_with_id_and_signature_also_after_a_restart() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let server = Server::start(&[]);
    let set = b.json(&["set-webhook", &server.url()]);
    assert_eq!((set["webhook"].as_str(), set["applied"].as_bool()), (Some(&*server.url()), Some(true)));
    let secret = set["secret"].as_str().unwrap().to_owned();
    message(&a, "first");
    let got = server.next("message");
    assert_eq!(got.line, "POST /hook?a=b HTTP/1.1");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(&got.body);
    let wanted: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(got.headers["pilot-signature"], format!("sha256={wanted}"));
    assert_eq!((&*got.headers["pilot-attempt"], &*got.headers["content-type"]), ("1", "application/json"));
    let body = got.json();
    assert_eq!((&body["id"], &body["node"]), (&json!(got.headers["pilot-event-id"]), &b.json(&["info"])["address"]));
    assert_eq!((&body["event"]["hostname"], &body["event"]["id"]), (&json!("primary-node"), &json!(1)));

    let file = lab.folder.join("report.txt");
    std::fs::write(&file, "report").unwrap();
    a.ok(&["send-file", "worker-node", file.to_str().unwrap()]);
    assert_eq!(server.next("file").json()["event"]["bytes"], 6);
    let c = lab.node("other-node");
    c.ok(&["handshake", "worker-node", "please"]);
    assert_eq!(server.next("trust_request").json()["event"]["justification"], "please");

    b.kill();
    b.start();
    message(&a, "second");
    assert_eq!(server.next("message").json()["event"]["id"], 2);
    until("the delivery is counted", || state(&b)["delivered"].as_u64() >= Some(1));
    assert!(!b.ok(&["info"]).contains(&secret), "the secret is told once");
    b.ok(&["clear-webhook"]);
    message(&a, "third");
    assert_eq!(state(&b), Value::Null);
    // What was under way before the webhook was cleared may still come, and nothing after it.
    while let Ok(got) = server.got.recv_timeout(Duration::from_millis(300)) {
        assert!(got.event() != "message", "a message that came after the webhook was cleared");
    }
}

#[test]
fn a_server_that_fails_is_asked_again_and_one_that_refuses_is_not() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let elsewhere = Server::start(&[]);
    let redirect = format!("302 Found\r\nLocation: {}", elsewhere.url());
    let server = Server::start(&["500 Oops", &redirect, "200 OK", "400 Bad Request"]);
    let secret = lab.folder.join("secret");
    std::fs::write(&secret, "a secret of the owner\n").unwrap();
    let set = b.json(&["set-webhook", &server.url(), "--secret-file", secret.to_str().unwrap()]);
    assert_eq!(set.get("secret"), None);
    message(&a, "first");
    let attempts = [(); 3].map(|()| server.next(""));
    for (n, got) in attempts.iter().enumerate() {
        assert_eq!((got.headers["pilot-attempt"].clone(), &got.body), ((n + 1).to_string(), &attempts[0].body));
    }
    until("it is delivered", || state(&b)["delivered"].as_u64() >= Some(1));
    message(&a, "second");
    until("one is refused", || state(&b)["lost"] == 1);
    message(&a, "third");
    server.next("message");
    until("nothing waits", || state(&b)["waiting"] == 0);
    assert!(server.answers.lock().unwrap().is_empty());
    assert!(elsewhere.got.try_recv().is_err(), "redirects are not followed");
    let log = std::fs::read_to_string(b.home.join("pilot.log")).unwrap();
    assert!(log.contains("warn webhook_failed reason=\"status 500\" lost=0"), "{log}");
    assert!(log.contains("warn webhook_failed reason=\"status 400\" lost=1"), "{log}");
}

#[test]
fn urls_and_secrets_are_checked() {
    let mut lab = Lab::new();
    let node = lab.node("primary-node");
    let secret = lab.folder.join("secret");
    std::fs::write(&secret, "short\n").unwrap();
    let secret = secret.to_str().unwrap();
    for words in [
        &["http://example.org/"][..],
        &["ftp://example.org/"],
        &["example.org"],
        &["https://example.org/", "--secret-file", secret],
        &["https://example.org/", "--secret-file", "/nonexistent"],
    ] {
        node.fails(&[&["set-webhook"], words].concat(), 2, "invalid_argument");
    }
    assert_eq!(state(&node), Value::Null);
    // The discard port of a network that leads nowhere (RFC 5737).
    node.ok(&["set-webhook", "http://192.0.2.1:9/", "--insecure"]);
    assert_eq!(state(&node)["url"], "http://192.0.2.1:9/");
    assert_eq!(node.json(&["clear-webhook"])["webhook"], "");
}

/// Makes an official request; gives the command of the reply and its payload.
fn official(node: &Node, command: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut socket = UnixStream::connect(node.home.join("pilot.sock")).unwrap();
    let len = (payload.len() as u32 + 1).to_be_bytes();
    socket.write_all(&[&len[..], &[command], payload].concat()).unwrap();
    let mut head = [0; 5];
    socket.read_exact(&mut head).unwrap();
    let mut reply = vec![0; u32::from_be_bytes(*head.first_chunk().unwrap()) as usize - 1];
    socket.read_exact(&mut reply).unwrap();
    (head[4], reply)
}

#[test]
fn the_official_call_sets_and_clears_the_webhook() {
    const SET_WEBHOOK: u8 = 0x1b;
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let server = Server::start(&[]);
    let (command, reply) = official(&b, SET_WEBHOOK, server.url().as_bytes());
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!((command, &reply["webhook"], &reply["applied"]), (SET_WEBHOOK + 1, &json!(server.url()), &json!(true)));
    assert_eq!(reply["secret"].as_str().map(str::len), Some(64));
    message(&a, "hello");
    server.next("message");
    let (command, reply) = official(&b, SET_WEBHOOK, b"http://example.org/");
    assert_eq!((command, String::from_utf8_lossy(&reply).contains("would show")), (0x0a, true));
    assert_eq!(state(&b)["url"], server.url(), "a URL that is refused changes nothing");
    let (_, reply) = official(&b, SET_WEBHOOK, b"");
    assert_eq!(serde_json::from_slice::<Value>(&reply).unwrap()["webhook"], "");
    assert_eq!(state(&b), Value::Null);
}

#[test]
fn https_needs_a_certificate_that_the_system_trusts() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let server = Server::start_with(&[], move |stream, answer, got| {
        let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
        serve(&mut rustls::Stream::new(&mut tls, &mut &*stream), answer, got);
    });
    let url = format!("https://localhost:{}/", server.addr.port());
    b.ok(&["set-webhook", &url]);
    message(&a, "first");
    until("the certificate is refused", || {
        state(&b)["last_error"].as_str().is_some_and(|text| text.to_lowercase().contains("certificate"))
    });
    assert_eq!(state(&b)["delivered"], 0);
    assert!(server.got.try_recv().is_err(), "nothing was said to a server that was not checked");
    b.ok(&["daemon", "stop"]);
    let trusted = lab.folder.join("ca.pem");
    std::fs::write(&trusted, made.cert.pem()).unwrap();
    b.start_with(&[("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    message(&a, "second");
    assert_eq!(server.next("message").json()["event"]["id"], 2);
}
