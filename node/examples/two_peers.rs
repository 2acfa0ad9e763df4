//! Two nodes embedded in one program: a rendezvous, identities, trust, and a stream with a request and its answer.
//!
//! `cargo run -p pilot-node --example two_peers`

use pilot_node::answer::RendezvousState;
use pilot_node::{Config, Event, Node, RendezvousConfig, Terms};
use pilot_rendezvous::server::{Server, ServerConfig};
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

const PORT: u16 = 4000;

/// Starts both nodes, lets their owners trust each other, and asks one from the other.
pub(crate) fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = std::env::temp_dir().join(format!("pilot-example-two-peers-{}", std::process::id()));
    let outcome = run(&folder);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn run(folder: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Nodes find each other by a rendezvous. Its address includes its key, so that no other server can take its place.
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let rendezvous = Server::bind(&ServerConfig { home: folder.join("rendezvous"), listen, idle_exit: None })?;
    let ((key, addr), stopper) = (rendezvous.endpoint(), rendezvous.stopper());
    let serving = std::thread::spawn(move || rendezvous.run());
    println!("rendezvous {key}@{addr}");

    // A node lives in a folder, which holds its identity and its books. Its address stays the same across restarts.
    let start = |hostname: &str| {
        let mut config = Config::new(folder.join(hostname));
        config.hostname = Some(hostname.into());
        config.listen = listen;
        config.rendezvous = RendezvousConfig::At(key, addr);
        Node::start(config)
    };
    let (alice, bob) = (start("alice")?, start("bob")?);
    let end = Instant::now() + Duration::from_secs(10);
    for node in [&alice, &bob] {
        while node.info()?.rendezvous != RendezvousState::Ready {
            if Instant::now() > end {
                return Err("the rendezvous does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let info = node.info()?;
        println!("{:10} {} fingerprint {}", info.hostname, info.address, info.fingerprint);
    }

    // Nothing passes between strangers.
    let refused = alice.connect("bob", PORT).map(drop).expect_err("no trust yet");
    println!("refused    {refused}");

    // Alice asks; Bob's owner sees the request and approves it for one port.
    let mut events = bob.events()?;
    alice.trust().handshake("bob", Terms::default().note("the example"))?;
    while !matches!(events.next_timeout(Duration::from_secs(10))?, Some(Event::TrustRequest(_))) {}
    for request in bob.trust().pending()?.pending {
        println!("request    {} says {:?}", request.hostname, request.justification);
        bob.trust().approve(&request.address, Terms::default().ports(PORT.to_string()))?;
    }
    if !alice.trust().wait("bob", Duration::from_secs(10))? {
        return Err("the approval did not arrive".into());
    }

    // From now on there are streams, which look like those of `std::net`.
    let listener = bob.listen(PORT)?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let mut stream = listener.accept()?;
        let mut request = String::new();
        stream.read_to_string(&mut request)?;
        write!(stream, "you said {request:?}")?;
        stream.shutdown(Shutdown::Write)
    });
    let mut stream = alice.connect_with("bob", PORT, b"hello")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("answer     {answer}");
    server.join().map_err(|_| "the server failed")??;
    assert_eq!(answer, "you said \"hello\"");

    // Dropping a node ends it in order.
    drop((stream, alice, bob));
    stopper.stop();
    serving.join().map_err(|_| "the rendezvous failed")??;
    Ok(())
}
