//! Owns the certificate of a rendezvous over TLS: the owner's, or one that is made at the start. Nodes take any, since the tunnel
//! inside proves the key of the rendezvous, unless their owners ask for more (`docs/paths.md`, "Without UDP").

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, version};
use std::path::PathBuf;
use std::sync::Arc;

/// The certificate of a rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// One that is made at the start and signed by itself.
    Own,
    /// The chain and the private key in these files, in PEM.
    Files {
        /// Certificates, the host's own first.
        chain: PathBuf,
        /// Private key of the first.
        key: PathBuf,
    },
}

impl Certificate {
    /// This side's settings of TLS.
    ///
    /// # Errors
    /// A file cannot be read, or key and certificate do not belong together: a text for people.
    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>, String> {
        let (chain, key) = match self {
            Self::Own => own().map_err(|_| "a certificate cannot be made")?,
            Self::Files { chain, key } => {
                let file = |path: &PathBuf, e: String| format!("{}: {e}", path.display());
                let certificates = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect);
                let certificates: Vec<_> = certificates.map_err(|e| file(chain, e.to_string()))?;
                if certificates.is_empty() {
                    return Err(file(chain, "it has no certificate".into()));
                }
                (certificates, PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, e.to_string()))?)
            }
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&version::TLS13]).map_err(|e| e.to_string())?;
        let config = builder.with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.map_err(|e| format!("certificate and key: {e}"))?;
        config.send_tls13_tickets = 0; // nodes do not resume
        Ok(Arc::new(config))
    }
}

/// DER of one value: tag, length, parts.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let len = body.len();
    debug_assert!(len < 1 << 16);
    let head = match len {
        0..0x80 => vec![tag, len as u8],
        0x80..0x100 => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [head, body].concat()
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const BITS: u8 = 0x03;
const BYTES: u8 = 0x04;
const INTEGER: u8 = 0x02;

/// A certificate (RFC 5280) for the name `pilot` with its key, both new.
fn own() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ring::error::Unspecified> {
    const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    const EC_PUBLIC_KEY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
    const ALTERNATIVE_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)?;
    let mut serial: [u8; 9] = ring::rand::generate(&random)?.expose();
    serial[0] = 1; // positive
    let algorithm = der(SEQUENCE, &[&der(OBJECT, &[&ECDSA_WITH_SHA256])]);
    let common_name = der(SEQUENCE, &[&der(OBJECT, &[&COMMON_NAME]), &der(0x0c, &[b"pilot"])]);
    let name = der(SEQUENCE, &[&der(SET, &[&common_name])]);
    // From the first second of 1970 to the last that a certificate can name.
    let validity = der(SEQUENCE, &[&der(0x17, &[b"700101000000Z"]), &der(0x18, &[b"99991231235959Z"])]);
    let curve = der(SEQUENCE, &[&der(OBJECT, &[&EC_PUBLIC_KEY]), &der(OBJECT, &[&P256])]);
    let public_key = der(SEQUENCE, &[&curve, &der(BITS, &[&[0], key.public_key().as_ref()])]);
    let names = der(BYTES, &[&der(SEQUENCE, &[&der(0x82, &[b"pilot"])])]);
    let extension = der(SEQUENCE, &[&der(OBJECT, &[&ALTERNATIVE_NAME]), &names]);
    let extensions = der(0xa3, &[&der(SEQUENCE, &[&extension])]);
    let version = der(0xa0, &[&der(INTEGER, &[&[2]])]);
    let serial = der(INTEGER, &[&serial]);
    let parts = [&version, &serial, &algorithm, &name, &validity, &name, &public_key, &extensions];
    let content = der(SEQUENCE, &parts.map(Vec::as_slice));
    let signature = key.sign(&random, &content)?;
    let whole = der(SEQUENCE, &[&content, &algorithm, &der(BITS, &[&[0], signature.as_ref()])]);
    Ok((vec![whole.into()], PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_and_files_that_are_none_are_named() {
        assert!(Certificate::Own.config().is_ok(), "TLS finds certificate and key to belong together");
        let folder = std::env::temp_dir().join(format!("pilot-certificate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        let files = Certificate::Files { chain: chain.clone(), key: key.clone() };
        assert!(files.config().expect_err("no file").contains("chain.pem"));
        std::fs::write(&chain, "no certificate").expect("writable");
        assert!(files.config().expect_err("no certificate").contains("it has no certificate"));
        std::fs::remove_dir_all(folder).expect("made above");
    }
}
