use super::*;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// What a gateway of these tests does with a connection.
type Serve = Box<dyn FnMut(&mut TcpStream, &str) + Send>;

/// A gateway on this machine.
pub(in crate::mapping::upnp) struct Igd {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

const DESCRIPTION: &str = "<root><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
                           <controlURL>/ctl</controlURL></service></root>";

impl Igd {
    fn serving(mut serve: Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let (at, heard) = (listener.local_addr().expect("bound"), Arc::new(Mutex::new(Vec::new())));
        let log = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut room = [0; 4096];
                let len = stream.read(&mut room).unwrap_or(0);
                let text = String::from_utf8_lossy(&room[..len]).into_owned();
                let action = text.split_once('#').and_then(|(_, rest)| rest.split('"').next()).unwrap_or("GET");
                log.lock().expect("a list").push(action.to_owned());
                serve(&mut stream, action);
            }
        });
        Self { at, heard }
    }

    /// One that maps what it is asked for, and says that it has this external address.
    pub(in crate::mapping::upnp) fn saying(ip: &'static str) -> Self {
        Self::serving(Box::new(move |stream, action| {
            let body = match action {
                "GET" => DESCRIPTION.to_owned(),
                "GetExternalIPAddress" => format!("<NewExternalIPAddress>{ip}</NewExternalIPAddress>"),
                action => format!("<u:{action}Response/>"),
            };
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }))
    }

    pub(in crate::mapping::upnp) fn honest() -> Self {
        Self::saying("203.0.113.9")
    }

    pub(in crate::mapping::upnp) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("a list").clone()
    }
}

/// The service of a gateway, as its description would give it.
pub(in crate::mapping::upnp) fn described(gateway: &Igd) -> Service {
    service(format!("HTTP/1.0 200 OK\r\n\r\n{DESCRIPTION}").as_bytes(), gateway.at).expect("a service")
}

fn job(before: Option<Mapped>) -> Job {
    let client = "127.0.0.1:5000".parse().expect("one");
    Job { gateway: [127, 0, 0, 1].into(), client, before }
}

fn end() -> Instant {
    Instant::now() + JOB_TIME
}

#[test]
fn a_gateway_is_found_described_and_asked() {
    let gateway = Igd::honest();
    let searched = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = searched.local_addr().expect("bound");
    let at = gateway.at;
    let answers = std::thread::spawn(move || {
        let mut room = [0; 1500];
        let (len, from) = searched.recv_from(&mut room).expect("a search");
        assert!(room[..len].starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
        let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{at}/desc\r\n\r\n");
        searched.send_to(answer.as_bytes(), from).expect("sent");
    });
    let job = job(None);
    let found = job.find(to, end()).expect("found");
    answers.join().expect("answered");
    assert_eq!(found, (at, "/desc".into()));
    let service = service(&exchange(at, &request(at, "/desc", None), end()).expect("read"), at).expect("a service");
    let mapped = job.map(service, 5000, end()).expect("mapped");
    assert_eq!(mapped.external, "203.0.113.9:5000".parse().expect("one"));
    assert_eq!(gateway.heard(), ["GET", "GetExternalIPAddress", "AddPortMapping"]);
}

#[test]
fn another_port_is_asked_for_when_another_machine_has_it() {
    let mut refusals = 2;
    let gateway = Igd::serving(Box::new(move |stream, action| {
        let body = match action {
            "GetExternalIPAddress" => "<NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>",
            _ if refusals > 0 => {
                refusals -= 1;
                let _ = write!(stream, "HTTP/1.0 500 Error\r\n\r\n<errorCode>718</errorCode>");
                return;
            }
            _ => "<u:AddPortMappingResponse/>",
        };
        let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{body}");
    }));
    let mapped = job(None).map(described(&gateway), 5000, end()).expect("mapped");
    assert_eq!(mapped.external.port(), 5000 + 2 * 7919);
    let refusing = Igd::serving(Box::new(|stream, action| {
        let body = if action == "AddPortMapping" { "" } else { "<NewExternalIPAddress>1.1.1.1</NewExternalIPAddress>" };
        let _ = write!(stream, "HTTP/1.0 {} x\r\n\r\n{body}", if body.is_empty() { 500 } else { 200 });
    }));
    assert!(job(None).map(described(&refusing), 5000, end()).is_err());
}

#[test]
fn a_gateway_that_is_hostile_costs_time_and_little_memory() {
    let endless: Serve = Box::new(|stream, _| {
        let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    let endless_head: Serve = Box::new(|stream, _| while stream.write_all(b"HTTP/1.0 200 OK\r\nX: y\r\n").is_ok() {});
    let html: Serve = Box::new(|stream, _| drop(write!(stream, "HTTP/1.1 200 OK\r\n\r\n<html>login</html>")));
    let elsewhere: Serve = Box::new(|stream, _| {
        let _ = write!(stream, "HTTP/1.1 302 Found\r\nLocation: http://203.0.113.1/\r\n\r\n");
    });
    let garbage: Serve = Box::new(|stream, _| drop(stream.write_all(&[0xff; 300])));
    let ends: Serve = Box::new(|_, _| {});
    for (name, serve) in [
        ("endless", endless),
        ("endless head", endless_head),
        ("html", html),
        ("elsewhere", elsewhere),
        ("garbage", garbage),
        ("ends", ends),
    ] {
        let gateway = Igd::serving(serve);
        let begin = Instant::now();
        if let Ok(answer) = exchange(gateway.at, &request(gateway.at, "/d", None), end()) {
            assert!(answer.len() <= ANSWER_LEN_MAX, "{name}");
            assert_eq!(service(&answer, gateway.at), None, "{name}");
        }
        assert!(job(None).map(described(&gateway), 5000, end()).is_err(), "{name}");
        assert!(begin.elapsed() < 2 * JOB_TIME, "{name}");
    }
}

#[test]
fn a_gateway_that_is_slow_is_left_after_a_while() {
    let gateway = Igd::serving(Box::new(|stream, _| {
        while stream.write_all(b"H").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }));
    let (begin, time) = (Instant::now(), Duration::from_millis(200));
    assert!(exchange(gateway.at, &request(gateway.at, "/d", None), begin + time).is_err());
    let mapped = Mapped { external: "203.0.113.9:5000".parse().expect("one"), service: described(&gateway) };
    mapped.end(time);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(job(None).find("127.0.0.1:1".parse().expect("one"), begin + time).is_err());
}
