//! Owns kernel TCP with CUBIC, plain and under TLS 1.3 with our cipher.

use super::task::{Connection, Outcome, Task, await_end, drive_connections, say_end, say_ready, serve_connections};
use pilot_tests::lab::AnyServer;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use std::io;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

impl Connection for TcpStream {
    fn end_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Connection for StreamOwned<ClientConnection, TcpStream> {
    fn end_writing(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        io::Write::flush(self)
    }
}

impl Connection for StreamOwned<ServerConnection, TcpStream> {
    fn end_writing(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        io::Write::flush(self)
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // The machine's default may be another controller.
    Ok(rustix::net::sockopt::set_tcp_congestion(stream, "cubic")?)
}

pub(super) fn serve(bind: IpAddr, tls: bool) -> Outcome<()> {
    let listener = TcpListener::bind((bind, 0))?;
    let config = if tls { Some(server_config()?) } else { None };
    say_ready(&listener.local_addr()?.to_string());
    std::thread::spawn(move || {
        let streams = listener.incoming().flatten().filter(|stream| prepare(stream).is_ok());
        match config {
            None => serve_connections(streams),
            Some(config) => serve_connections(
                streams
                    .filter_map(|stream| Some(StreamOwned::new(ServerConnection::new(config.clone()).ok()?, stream))),
            ),
        }
    });
    await_end()
}

pub(super) fn drive(to: &str, task: Task, count: u64, tls: bool) -> Outcome<()> {
    let connect = || -> Outcome<TcpStream> {
        let stream = TcpStream::connect(to)?;
        prepare(&stream)?;
        Ok(stream)
    };
    fn begun<C: Connection>(mut connection: C, first: &[u8]) -> Outcome<C> {
        connection.write_all(first)?;
        Ok(connection)
    }
    let result = if tls {
        let config = client_config()?;
        drive_connections(task, count, |first| {
            let connection = ClientConnection::new(config.clone(), ServerName::try_from("bench")?)?;
            begun(StreamOwned::new(connection, connect()?), first)
        })?
    } else {
        drive_connections(task, count, |first| begun(connect()?, first))?
    };
    say_end(&result);
    Ok(())
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(provider)
}

fn server_config() -> Outcome<Arc<ServerConfig>> {
    let certified = rcgen::generate_simple_self_signed(vec!["bench".into()])?;
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(Arc::new(builder.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key)?))
}

fn client_config() -> Outcome<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = builder.with_no_client_auth();
    // No session is resumed: every exchange is a full TLS handshake.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
