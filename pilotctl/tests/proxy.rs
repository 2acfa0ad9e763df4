//! The command `proxy`, with real daemons.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node, until};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

/// Reaches the echo of the other node through a proxy.
fn echoes(listen: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(listen) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"CONNECT worker-node.pilot:7 HTTP/1.1\r\nHost: worker-node.pilot:7\r\n\r\nhello").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer == "HTTP/1.1 200 Connected\r\n\r\nhello"
}

fn total(node: &Node) -> u64 {
    node.json(&["proxy", "--list"])["total"].as_u64().unwrap()
}

#[test]
fn a_proxy_is_set_up_kept_listed_and_removed() {
    let mut lab = Lab::new();
    let (a, _b) = lab.friends();
    let proxy = a.json(&["proxy", "--listen", "0"]);
    let listen = proxy["listen"].as_str().unwrap().to_owned();
    assert!(listen.starts_with("127.0.0.1:") && proxy["direct"] == false && proxy["temporary"] == false, "{proxy}");
    assert!(echoes(&listen));

    a.kill();
    a.start();
    until("the proxy is there again", || total(&a) == 1);
    assert_eq!(a.json(&["proxy", "--list"])["proxies"][0]["listen"], listen.as_str());
    until("the proxy works again", || echoes(&listen));
    a.fails(&["proxy", "--listen", &listen], 8, "already_exists");

    assert_eq!(a.json(&["proxy", "--remove", &listen])["listen"], listen.as_str());
    assert!(TcpStream::connect(&listen).is_err());
    assert_eq!(total(&a), 0);
    a.fails(&["proxy", "--remove", &listen], 4, "not_found");
    a.kill();
    a.start();
    assert_eq!(total(&a), 0, "also on disk");
}

#[test]
fn a_proxy_in_the_foreground_ends_with_its_command() {
    let mut lab = Lab::new();
    let (a, _b) = lab.friends();
    let mut command = a.command(&["proxy", "--listen", "0", "--direct", "--foreground"]);
    let mut command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it listens", || total(&a) == 1);
    let proxy = a.json(&["proxy", "--list"])["proxies"][0].clone();
    assert!(proxy["temporary"] == true && proxy["direct"] == true, "{proxy}");
    assert!(echoes(proxy["listen"].as_str().unwrap()));
    command.kill().unwrap();
    command.wait().unwrap();
    until("it is gone", || total(&a) == 0);
}

#[test]
fn a_proxy_for_other_machines_needs_a_file_of_users() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    let error = a.fails(&["proxy", "--listen", "0.0.0.0:0"], 2, "invalid_argument");
    assert!(error["hint"].as_str().unwrap().contains("--auth"), "{error}");
    let file = lab.folder.join("users");
    std::fs::write(&file, "ann:secret\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let proxy = a.json(&["proxy", "--listen", "0.0.0.0:0", "--auth", file.to_str().unwrap()]);
    assert_eq!(proxy["auth_file"], file.to_str().unwrap());
    for listen in ["nowhere", "65536", "example.com:80", "unix:here"] {
        a.fails(&["proxy", "--listen", listen], 2, "invalid_argument");
    }
}
