//! A node without descriptors for another connection, in a process of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::ExposeOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// The processor time that this process has had. The file is open before no other can be opened.
fn processor_time(stat: &File) -> Duration {
    let mut bytes = [0; 2048];
    let len = stat.read_at(&mut bytes, 0).unwrap();
    let stat = String::from_utf8_lossy(&bytes[..len]);
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn without_descriptors_accepting_waits_and_spins_not() {
    let lab = Lab::new("descriptors");
    let own = getrlimit(Resource::Nofile);
    let (a, b) = lab.nodes();
    assert_eq!(getrlimit(Resource::Nofile), own, "the limit belongs to the program that has the node");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap().to_string();
    let _exposure = b.expose(80, &target, ExposeOptions::default()).unwrap();
    let forward = a.forward("0", "node-b", 80).unwrap();
    let stat = File::open("/proc/self/stat").unwrap();

    let before = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 20), maximum: before.maximum }).unwrap();
    let mut fillers: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    fillers.pop();
    // The client takes the last descriptor, so that the node has none for the other end.
    let mut client = TcpStream::connect(&forward.forward.listen).unwrap();
    assert!(File::open("/dev/null").is_err());
    client.write_all(b"question").unwrap();
    let begin = processor_time(&stat);
    std::thread::sleep(Duration::from_secs(1));
    let spent = processor_time(&stat) - begin;
    assert!(spent < Duration::from_millis(400), "{spent:?} of a second in vain");

    drop(fillers);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut peer, _) = server.accept().unwrap();
    let mut text = [0; 8];
    peer.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"question");
    peer.write_all(b"answer").unwrap();
    client.read_exact(&mut text[..6]).unwrap();
    setrlimit(Resource::Nofile, before).unwrap();
}
