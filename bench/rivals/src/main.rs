//! quinn and iroh as contestants of `pilot-bench compare`, which builds and starts this program. The protocol with the
//! parent and the tasks are those of `pilot-bench contest`.

use argh::FromArgs;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

type Outcome<T> = Result<T, Box<dyn Error>>;

const CHUNK: usize = 256 * 1024;
const BALL: usize = 64;
const WARMUP_CHUNKS: usize = 256;

/// One side of a contest.
#[derive(FromArgs)]
struct Arguments {
    /// quinn or iroh
    #[argh(positional)]
    who: String,
    /// serve or drive
    #[argh(positional)]
    side: String,
    /// address to serve on
    #[argh(option, default = "IpAddr::from([127, 0, 0, 1])")]
    bind: IpAddr,
    /// what the server said after `ready`
    #[argh(option, default = "String::new()")]
    to: String,
    /// bulk, ping, open or exchange
    #[argh(option, default = "String::new()")]
    task: String,
    /// bytes, or round trips
    #[argh(option, default = "0")]
    count: u64,
}

// One thread: a second one costs more in wake-ups than it saves.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Arguments = argh::from_env();
    match (arguments.who.as_str(), arguments.side.as_str()) {
        ("quinn", "serve") => quic::serve(arguments.bind).await,
        ("quinn", _) => quic::drive(&arguments).await,
        ("iroh", "serve") => n0::serve(arguments.bind).await,
        ("iroh", _) => n0::drive(&arguments).await,
        (who, _) => Err(format!("nobody here is called {who}").into()),
    }
}

/// ChaCha20-Poly1305 for the data; QUIC's first packets are bound to AES-128-GCM.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256];
    Arc::new(provider)
}

async fn serve_stream(mut send: impl AsyncWrite + Unpin, mut recv: impl AsyncRead + Unpin) -> std::io::Result<()> {
    let mut task = [0];
    recv.read_exact(&mut task).await?;
    match &task {
        b"B" => {
            let mut buffer = vec![0; CHUNK];
            while recv.read(&mut buffer).await? > 0 {}
            send.write_all(b".").await?;
        }
        b"P" => {
            let mut ball = [0; BALL];
            while recv.read_exact(&mut ball).await.is_ok() {
                send.write_all(&ball).await?;
            }
        }
        _ => send.write_all(b".").await?,
    }
    send.shutdown().await
}

async fn begin() -> Outcome<()> {
    println!("begin");
    tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;
    Ok(())
}

async fn bulk(mut send: impl AsyncWrite + Unpin, mut recv: impl AsyncRead + Unpin, count: u64) -> Outcome<Value> {
    let chunk = vec![7; CHUNK];
    send.write_all(b"B").await?;
    for _ in 0..WARMUP_CHUNKS {
        send.write_all(&chunk).await?;
    }
    begin().await?;
    let start = Instant::now();
    let mut left = count as usize;
    while left > 0 {
        let len = left.min(CHUNK);
        send.write_all(&chunk[..len]).await?;
        left -= len;
    }
    send.shutdown().await?;
    recv.read_exact(&mut [0]).await?;
    Ok(json!({"seconds": start.elapsed().as_secs_f64(), "bytes": count}))
}

async fn ping(mut send: impl AsyncWrite + Unpin, mut recv: impl AsyncRead + Unpin, count: u64) -> Outcome<Value> {
    let (mut ball, mut times) = ([7; BALL], Histogram::<u64>::new(3)?);
    send.write_all(b"P").await?;
    for i in 0..count + 200 {
        if i == 200 {
            begin().await?;
        }
        let start = Instant::now();
        send.write_all(&ball).await?;
        recv.read_exact(&mut ball).await?;
        if i >= 200 {
            times.record(start.elapsed().as_nanos() as u64)?;
        }
    }
    Ok(quantiles(&times))
}

async fn once(mut send: impl AsyncWrite + Unpin, mut recv: impl AsyncRead + Unpin) -> Outcome<()> {
    send.write_all(b"O").await?;
    recv.read_exact(&mut [0]).await?;
    Ok(())
}

fn quantiles(times: &Histogram<u64>) -> Value {
    let us = |q: f64| times.value_at_quantile(q) as f64 / 1000.0;
    let curve: Vec<_> = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999]
        .iter()
        .map(|q| json!([q, us(*q)]))
        .collect();
    json!({"p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999), "count": times.len(), "curve": curve})
}

/// Keeps serving until the parent closes our standard input.
async fn await_end() -> Outcome<()> {
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Runs a task over `$connect`, an async block that gives a connection of either library.
macro_rules! drive {
    ($arguments:expr, $connect:expr) => {{
        let (task, count) = ($arguments.task.as_str(), $arguments.count);
        let result = match task {
            "bulk" | "ping" => {
                let connection = $connect;
                let (send, recv) = connection.open_bi().await?;
                if task == "bulk" { bulk(send, recv, count).await? } else { ping(send, recv, count).await? }
            }
            "open" => {
                let (connection, mut times) = ($connect, Histogram::<u64>::new(3)?);
                begin().await?;
                for _ in 0..count {
                    let start = Instant::now();
                    let (send, recv) = connection.open_bi().await?;
                    once(send, recv).await?;
                    times.record(start.elapsed().as_nanos() as u64)?;
                }
                quantiles(&times)
            }
            "exchange" => {
                let mut times = Histogram::<u64>::new(3)?;
                begin().await?;
                for _ in 0..count {
                    let start = Instant::now();
                    let connection = $connect;
                    let (send, recv) = connection.open_bi().await?;
                    once(send, recv).await?;
                    times.record(start.elapsed().as_nanos() as u64)?;
                    connection.close(0u32.into(), b"");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                quantiles(&times)
            }
            other => return Err(format!("no task is called {other:?}").into()),
        };
        println!("end {result}");
        Ok(())
    }};
}

mod quic {
    use super::*;
    use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
    use quinn::{ClientConfig, Endpoint, ServerConfig};
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, SignatureScheme};

    pub(super) async fn serve(bind: IpAddr) -> Outcome<()> {
        let certified = rcgen::generate_simple_self_signed(vec!["bench".into()])?;
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)?;
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let endpoint = Endpoint::server(config, SocketAddr::new(bind, 0))?;
        println!("ready {}", endpoint.local_addr()?);
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((send, recv)) = connection.accept_bi().await {
                        tokio::spawn(serve_stream(send, recv));
                    }
                });
            }
        });
        await_end().await
    }

    pub(super) async fn drive(arguments: &Arguments) -> Outcome<()> {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_no_client_auth();
        tls.resumption = rustls::client::Resumption::disabled();
        let to: SocketAddr = arguments.to.parse()?;
        let mut endpoint = Endpoint::client(SocketAddr::from(([0, 0, 0, 0], 0)))?;
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)));
        drive!(arguments, endpoint.connect(to, "bench")?.await?)
    }

    /// The certificate is made anew for every measurement, so accepting it proves nothing and is not measured.
    #[derive(Debug)]
    struct AnyServer;

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
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    }
}

mod n0 {
    use super::*;
    use iroh::endpoint::presets::Minimal;
    use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, TransportAddr};

    const ALPN: &[u8] = b"bench";

    async fn endpoint(bind: SocketAddr) -> Outcome<Endpoint> {
        let builder = Endpoint::builder(Minimal).crypto_provider(provider()).relay_mode(RelayMode::Disabled);
        Ok(builder.alpns(vec![ALPN.to_vec()]).bind_addr(bind)?.bind().await?)
    }

    pub(super) async fn serve(bind: IpAddr) -> Outcome<()> {
        let endpoint = endpoint(SocketAddr::new(bind, 0)).await?;
        let local = endpoint.bound_sockets().into_iter().find(|a| a.ip() == bind).ok_or("not bound as asked")?;
        println!("ready {}@{local}", endpoint.id());
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((send, recv)) = connection.accept_bi().await {
                        tokio::spawn(serve_stream(send, recv));
                    }
                });
            }
        });
        await_end().await
    }

    pub(super) async fn drive(arguments: &Arguments) -> Outcome<()> {
        let (id, addr) = arguments.to.split_once('@').ok_or("ID@ADDRESS")?;
        let (id, addr): (EndpointId, SocketAddr) = (id.parse()?, addr.parse()?);
        let to = EndpointAddr::from_parts(id, [TransportAddr::Ip(addr)]);
        let endpoint = endpoint(SocketAddr::from(([0, 0, 0, 0], 0))).await?;
        drive!(arguments, endpoint.connect(to.clone(), ALPN).await?)
    }
}
