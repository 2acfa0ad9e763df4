//! Owns an HTTPS proxy, which joins a client to the machine that it names by CONNECT: all that some networks let out.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

/// The argument with which a program of this crate becomes the proxy; the address to listen on follows.
pub(super) const ARGUMENT: &str = "--connect-proxy";

/// Serves, if the arguments of this process ask for it; never comes back then.
pub(super) fn become_proxy() {
    let mut arguments = std::env::args().skip_while(|argument| argument != ARGUMENT).skip(1);
    if let Some(listen) = arguments.next() {
        let failed = serve(&listen).err();
        eprintln!("error: the proxy: {failed:?}");
        std::process::exit(1);
    }
}

/// Serves for ever.
fn serve(listen: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    loop {
        let (client, _) = listener.accept()?;
        std::thread::spawn(move || join(&client));
    }
}

/// Joins a client to the machine that its first line names, until both have ended. A client that asks for something else is left.
fn join(client: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let to = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let server = TcpStream::connect(to)?;
    loop {
        let mut header = String::new();
        if lines.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
    }
    (&mut &*client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut back, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let answers = std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    // The reader has what the client sent together with its question.
    let _ = std::io::copy(&mut lines, &mut &server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = answers.join();
    Ok(())
}
