//! A server that sends back what it reads, as one thread per stream, and a client that checks the echo.
//!
//! `cargo run -p pilot-node --example echo`

mod common;

use common::{Network, Outcome};
use pilot_node::Stream;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::thread;

const PORT: u16 = 4007;

/// Runs server and client until the client has its echo.
pub(crate) fn main() -> Outcome<()> {
    let network = Network::start("echo")?;
    let listener = network.bob.listen(PORT)?;
    thread::spawn(move || {
        // Ends with the node.
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });

    let clients: Vec<_> = (0..4)
        .map(|number: u8| {
            let alice = network.alice.clone();
            thread::spawn(move || -> io::Result<usize> {
                let mut stream = alice.connect("bob", PORT)?;
                let sent = vec![number; 100_000];
                let mut received = Vec::new();
                let mut writer = stream.try_clone()?;
                let bytes = sent.clone();
                let writing =
                    thread::spawn(move || writer.write_all(&bytes).and_then(|()| writer.shutdown(Shutdown::Write)));
                stream.read_to_end(&mut received)?;
                writing.join().map_err(|_| io::Error::other("the writer failed"))??;
                assert!(received == sent, "the echo differs");
                Ok(received.len())
            })
        })
        .collect();
    for client in clients {
        let len = client.join().map_err(|_| "a client failed")??;
        println!("{len} bytes came back");
    }
    Ok(())
}

fn echo(mut stream: Stream) -> io::Result<()> {
    io::copy(&mut stream.try_clone()?, &mut stream)?;
    stream.shutdown(Shutdown::Write)
}
