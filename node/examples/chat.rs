//! Two people type at the same time: lines go both ways over one stream, and each side ends its half after its last line.
//!
//! `cargo run -p pilot-node --example chat`

mod common;

use common::{Network, Outcome};
use pilot_node::Stream;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::thread;

const PORT: u16 = 4010;

/// Lets both sides talk until both are done.
pub(crate) fn main() -> Outcome<()> {
    let network = Network::start("chat")?;
    let listener = network.bob.listen(PORT)?;
    let called = thread::spawn(move || chat(listener.accept()?, "bob", &["Hello Alice.", "All well here.", "Bye."]));
    let stream = network.alice.connect("bob", PORT)?;
    println!("alice is {}, bob is {}", stream.local_addr(), stream.peer_addr());
    let heard_by_alice = chat(stream, "alice", &["Hello Bob.", "How are you?"])?;
    let heard_by_bob = called.join().map_err(|_| "bob failed")??;
    assert_eq!((heard_by_alice, heard_by_bob), (3, 2));
    Ok(())
}

/// Says the lines and shows those of the other side; gives the number of those.
fn chat(stream: Stream, who: &'static str, lines: &'static [&str]) -> io::Result<usize> {
    let mut writer = stream.try_clone()?;
    let talking = thread::spawn(move || -> io::Result<()> {
        for line in lines {
            writeln!(writer, "{line}")?;
        }
        writer.shutdown(Shutdown::Write)
    });
    let mut count = 0;
    for line in BufReader::new(stream).lines() {
        println!("{who} hears: {}", line?);
        count += 1;
    }
    talking.join().map_err(|_| io::Error::other("talking failed"))??;
    Ok(count)
}
