//! Owns quinn's QUIC as a [`Host`], to be put on the same path and beside our own stack.

use super::Host;
use bytes::{Bytes, BytesMut};
use pilot_core::Instant;
use quinn_proto::congestion::{BbrConfig, CubicConfig};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, ServerConfig,
    StreamEvent, StreamId, TransportConfig, VarInt,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest UDP payload on an Ethernet path. Unit: bytes.
const DATAGRAM_LEN: u16 = 1472;
/// Flow-control windows, large enough never to limit a stream. Unit: bytes.
const WINDOW: u32 = 64 << 20;

/// One of quinn's congestion controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicController {
    /// quinn's default, CUBIC.
    Cubic,
    /// BBR, version 1.
    Bbr,
}

/// One side of one QUIC connection with one stream that is kept full.
pub struct QuicHost {
    endpoint: Endpoint,
    server: Option<Arc<ServerConfig>>,
    connection: Option<(ConnectionHandle, Connection)>,
    peer: SocketAddr,
    /// Start of the standard library's clock, which quinn's machine requires.
    base: std::time::Instant,
    stream: Option<StreamId>,
    replies: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    chunk: Bytes,
    received: Vec<u64>,
    deadline: Option<Instant>,
}

/// Makes a sender and its receiver.
///
/// # Panics
/// When TLS cannot be set up, which would be a bug.
pub fn quic_pair(controller: QuicController) -> [QuicHost; 2] {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certified = rcgen::generate_simple_self_signed(vec!["lab".into()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("key and certificate match");
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    let transport = Arc::new(transport(controller));
    let mut server =
        ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).expect("a QUIC cipher suite")));
    server.transport_config(transport.clone());
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).expect("a QUIC cipher suite")));
    client.transport_config(transport);
    let (server, base) = (Arc::new(server), std::time::Instant::now());
    let mut endpoint_config = EndpointConfig::default();
    endpoint_config.max_udp_payload_size(DATAGRAM_LEN).expect("a legal size");
    let endpoint_config = Arc::new(endpoint_config);
    [0, 1].map(|side: usize| {
        let server = (side == 1).then(|| server.clone());
        let mut endpoint = Endpoint::new(endpoint_config.clone(), server.clone(), false, Some([side as u8 + 1; 32]));
        let peer = super::underlay(1 - side);
        let connection =
            (side == 0).then(|| endpoint.connect(base, client.clone(), peer, "lab").expect("a legal address"));
        QuicHost {
            endpoint,
            server,
            connection,
            peer,
            base,
            stream: None,
            replies: Vec::new(),
            scratch: Vec::new(),
            chunk: Bytes::from(vec![7; 64 * 1024]),
            received: vec![0],
            deadline: Some(Instant::ZERO),
        }
    })
}

fn transport(controller: QuicController) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(WINDOW.into())
        .receive_window(VarInt::from_u32(2 * WINDOW))
        .send_window(2 * u64::from(WINDOW))
        .initial_mtu(DATAGRAM_LEN)
        .min_mtu(DATAGRAM_LEN)
        .mtu_discovery_config(None)
        .max_idle_timeout(None);
    match controller {
        QuicController::Cubic => transport.congestion_controller_factory(Arc::new(CubicConfig::default())),
        QuicController::Bbr => transport.congestion_controller_factory(Arc::new(BbrConfig::default())),
    };
    transport
}

impl QuicHost {
    fn time(&self, now: Instant) -> std::time::Instant {
        self.base + Duration::from_micros(now.as_micros())
    }

    /// Handles events and the application until both rest; tells whether a datagram was made.
    fn turn(&mut self, at: std::time::Instant, send: &mut dyn FnMut(&[u8])) -> bool {
        let Some((handle, connection)) = &mut self.connection else { return false };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected if self.server.is_none() => self.stream = connection.streams().open(Dir::Uni),
                Event::Stream(StreamEvent::Opened { dir }) => self.stream = connection.streams().accept(dir),
                _ => {}
            }
        }
        match self.stream {
            Some(id) if self.server.is_none() => {
                while connection.send_stream(id).write_chunks(&mut [self.chunk.clone()]).is_ok() {}
            }
            Some(id) => {
                if let Ok(mut chunks) = connection.recv_stream(id).read(true) {
                    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                        self.received[0] += chunk.bytes.len() as u64;
                    }
                    let _ = chunks.finalize(); // the poll below sends
                }
            }
            None => {}
        }
        self.scratch.clear();
        let Some(transmit) = connection.poll_transmit(at, 10, &mut self.scratch) else { return false };
        let datagrams = self.scratch[..transmit.size].chunks(transmit.segment_size.unwrap_or(transmit.size));
        datagrams.for_each(send);
        true
    }
}

impl Host for QuicHost {
    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        let (at, mut buffer) = (self.time(now), Vec::new());
        let event = self.endpoint.handle(at, self.peer, None, None, BytesMut::from(&*datagram), &mut buffer);
        match event {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                // A refused connection never stands, and the caller panics for it.
                self.connection = self.endpoint.accept(incoming, at, &mut buffer, self.server.clone()).ok();
            }
            Some(DatagramEvent::Response(transmit)) => self.replies.push(buffer[..transmit.size].to_vec()),
            None => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let at = self.time(now);
        if let Some((_, connection)) = &mut self.connection
            && connection.poll_timeout().is_some_and(|due| due <= at)
        {
            connection.handle_timeout(at);
        }
    }

    fn poll_transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        std::mem::take(&mut self.replies).iter().for_each(|reply| send(reply));
        let at = self.time(now);
        while self.turn(at, send) {}
        let due = self.connection.as_mut().and_then(|(_, connection)| connection.poll_timeout());
        self.deadline = due.map(|at| Instant::from_micros((at - self.base).as_micros() as u64 + 1));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn received(&self) -> &[u64] {
        &self.received
    }

    fn is_ready(&self) -> bool {
        self.stream.is_some()
    }
}

/// Accepts every certificate, but verifies that the server has its key: that cost belongs to the measurement.
#[derive(Debug)]
pub struct AnyServer;

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
