//! Owns which certificates a node takes from a rendezvous, and what else it says of TLS.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, version};
use std::sync::Arc;

/// Takes every certificate. The tunnel inside proves the key of the rendezvous, which the node was given, and seals everything:
/// TLS only looks like what the network lets pass. So a rendezvous needs no certificate of an authority, and a proxy that opens
/// TLS sees sealed datagrams (`docs/paths.md`, "Without UDP").
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The client's end of TLS to a host. `verify`: its certificate must be one of the system's authorities for the host.
///
/// # Errors
/// The system has no authorities, or the host cannot stand in a certificate: a text for people.
pub(crate) fn client(host: &str, verify: bool) -> Result<ClientConnection, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&version::TLS13]).map_err(|e| e.to_string())?;
    let config = if verify {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this machine has no certificates of authorities (SSL_CERT_FILE may name some)".into());
        }
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider))).with_no_client_auth()
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no host"))?;
    ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())
}
