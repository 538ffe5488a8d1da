//! Reads certificates and keys from PEM files. No error quotes what a file holds.

use crate::clock::Time;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use simple_asn1::ASN1Block;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest certificate or key file in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why TLS files cannot be used. Their contents are not quoted, because one holds a key.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum TlsError {
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    #[error("{path}: is longer than 1 MiB", path = .0.display())]
    TooLong(PathBuf),
    #[error("{path}: holds no certificate in PEM", path = .0.display())]
    NoCertificate(PathBuf),
    #[error("{path}: holds no private key in PEM that is not encrypted", path = .0.display())]
    NoKey(PathBuf),
    #[error("{path}: a CA certificate cannot be used: {1}", path = .0.display())]
    Authority(PathBuf, String),
    #[error("{cert} and {key}: {why}", cert = .0.display(), key = .1.display(), why = .2)]
    Pair(PathBuf, PathBuf, String),
    #[error("{path}: the certificate has expired", path = .0.display())]
    Expired(PathBuf),
    #[error("the certificates of this system's authorities cannot be read; name a file")]
    NoSystemAuthorities,
}

/// Reads a file within the limit.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |error| TlsError::Io(path.to_owned(), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    // Allocated in full, because bytes that move leave copies.
    let length = file.metadata().map_err(failed)?.len().min(FILE_BYTES_MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(TlsError::TooLong(path.to_owned())),
        false => Ok(bytes),
    }
}

/// Returns all certificates in a file, at least one.
pub(super) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(TlsError::NoCertificate(path.to_owned())),
    }
}

/// Returns the first private key of a file.
pub(super) fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::NoKey(path.to_owned()))
}

/// Returns the authorities in a file. One unusable entry refuses all: its clients would be refused without explanation.
pub(super) fn authorities(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots
            .add(certificate)
            .map_err(|why| TlsError::Authority(path.to_owned(), why.to_string()))?;
    }
    Ok(roots)
}

/// Returns the end of a certificate's validity; None if it cannot be parsed.
pub(super) fn expires_at(certificate: &[u8]) -> Option<Time> {
    let blocks = simple_asn1::from_der(certificate).ok()?;
    let inside = |block: &ASN1Block| match block {
        ASN1Block::Sequence(_, inside) => Some(inside.clone()),
        _ => None,
    };
    let signed = inside(inside(blocks.first()?)?.first()?)?;
    // The only field with two times.
    let ends = signed.iter().find_map(|part| match &inside(part)?[..] {
        [
            ASN1Block::UTCTime(..) | ASN1Block::GeneralizedTime(..),
            ASN1Block::UTCTime(_, end),
        ] => Some(*end),
        [
            ASN1Block::UTCTime(..) | ASN1Block::GeneralizedTime(..),
            ASN1Block::GeneralizedTime(_, end),
        ] => Some(*end),
        _ => None,
    })?;
    let seconds = u64::try_from(ends.assume_utc().unix_timestamp()).ok()?;
    Some(Time(seconds.saturating_mul(1_000)))
}
