//! TLS between services that pin each other's public keys, without authorities. Expired certificates are refused.

use super::pem::{TlsError, certificates, private_key, read};
use super::provider::provider;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    SignatureScheme,
};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use x509_parser::time::ASN1Time;

/// SHA-256 of a certificate's public key.
pub type KeyDigest = [u8; 32];

/// The admitted public keys, queried at each handshake, so that the list may change.
#[derive(Clone)]
pub struct AdmittedKeys(pub Arc<dyn Fn(&KeyDigest) -> bool + Send + Sync>);

impl fmt::Debug for AdmittedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdmittedKeys")
    }
}

impl PartialEq for AdmittedKeys {
    fn eq(&self, other: &AdmittedKeys) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for AdmittedKeys {}

/// Returns the digest of a certificate's public key; None if the certificate cannot be parsed.
pub fn key_digest(certificate: &[u8]) -> Option<KeyDigest> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let hash = digest(&SHA256, certificate.public_key().raw);
    hash.as_ref().try_into().ok()
}

/// Returns the digest of the public key of the first certificate in a file.
///
/// # Errors
///
/// The file cannot be read, or has no certificate.
pub fn key_digest_of_file(path: &Path) -> Result<KeyDigest, TlsError> {
    let first = certificates(path, &read(path)?)?.swap_remove(0);
    key_digest(&first).ok_or_else(|| TlsError::NoCertificate(path.to_owned()))
}

/// Verifies a peer by its public key and the dates of its certificate.
#[derive(Debug)]
struct PinnedVerifier {
    keys: AdmittedKeys,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedVerifier {
    fn new(keys: AdmittedKeys) -> Arc<PinnedVerifier> {
        Arc::new(PinnedVerifier {
            keys,
            algorithms: provider().signature_verification_algorithms,
        })
    }

    fn verify(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| bad())?;
        let now = i64::try_from(now.as_secs()).map_err(|_| bad())?;
        let now = ASN1Time::from_timestamp(now).map_err(|_| bad())?;
        let dates = parsed.validity();
        if now < dates.not_before {
            return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if now > dates.not_after {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        let key = key_digest(certificate).ok_or_else(bad)?;
        match (self.keys.0)(&key) {
            true => Ok(()),
            false => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(certificate, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PinnedVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(certificate, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns the verifier of a door's clients.
pub(super) fn client_verifier(keys: AdmittedKeys) -> Arc<dyn ClientCertVerifier> {
    PinnedVerifier::new(keys)
}

/// Returns the TLS settings for a service with one of these public keys, with our client certificate.
///
/// # Errors
///
/// A file cannot be read, or the key does not match the certificate.
pub fn client(cert: &Path, key: &Path, pins: &[KeyDigest]) -> Result<Arc<ClientConfig>, TlsError> {
    let pair = |why: Error| TlsError::Pair(cert.to_owned(), key.to_owned(), why.to_string());
    let pins = pins.to_vec();
    let keys = AdmittedKeys(Arc::new(move |key| pins.contains(key)));
    let chain = certificates(cert, &read(cert)?)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .dangerous()
        .with_custom_certificate_verifier(PinnedVerifier::new(keys))
        .with_client_auth_cert(chain, private_key(key, &read(key)?)?)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sessions must not resume after a key was removed from the trust list.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
