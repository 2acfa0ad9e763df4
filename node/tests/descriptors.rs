//! A node without descriptors for another connection, in a process of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::ExposeOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn without_descriptors_accepting_waits_and_spins_not() {
    const CLIENTS: usize = 40;
    let lab = Lab::new("descriptors");
    let (a, b) = lab.nodes();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap().to_string();
    let _exposure = b.expose(80, &target, ExposeOptions::default()).unwrap();
    let forward = a.forward("0", "node-b", 80).unwrap();
    // The stream to the peer stands, so that nothing else needs a descriptor later.
    TcpStream::connect(&forward.forward.listen).unwrap();

    let before = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let mut clients = Vec::new();
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + CLIENTS as u64), maximum: before.maximum }).unwrap();
    while let Ok(client) = TcpStream::connect(&forward.forward.listen) {
        clients.push(client);
        assert!(clients.len() <= CLIENTS);
    }
    let begin = processor_time();
    std::thread::sleep(Duration::from_secs(1));
    let spent = processor_time() - begin;
    assert!(spent < Duration::from_millis(400), "{spent:?} of a second in vain");

    setrlimit(Resource::Nofile, before).unwrap();
    for mut client in &clients {
        client.write_all(b"x").unwrap();
    }
    let mut answered = 0;
    // Some were refused at the peer, which had no descriptor for its program.
    server.set_nonblocking(false).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((mut peer, _)) = server.accept() {
                let mut byte = [0];
                if peer.read_exact(&mut byte).is_ok() && byte == *b"q" {
                    return;
                }
                // A client that has gone needs no answer.
                let _ = peer.write_all(b"y");
            }
        });
        for mut client in &clients {
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            answered += usize::from(client.read_exact(&mut [0]).is_ok());
        }
        let mut last = TcpStream::connect(&forward.forward.listen).unwrap();
        last.write_all(b"q").unwrap();
    });
    assert!(answered > 0, "none was accepted after the pause");
}
