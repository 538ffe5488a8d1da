//! TLS: loads certificates and keys from PEM files, for doors and for commands. Returns configurations, and opens no sockets.

mod pem;
pub mod pinned;
mod provider;

pub use pem::TlsError;

use crate::clock::Time;
use crate::hex;
use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use pem::{authorities, certificates, expires_at, private_key, read};
use pinned::AdmittedKeys;
use provider::provider;
use rustls::client::WebPkiServerVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// Files of a door with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate with its chain, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// Authorities of client certificates, PEM. If set, clients without such a certificate are refused.
    pub client_ca: Option<PathBuf>,
    /// Public keys of clients. If set, clients without one of these are refused.
    pub admitted: Option<AdmittedKeys>,
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateDigest([u8; 32]);

impl CertificateDigest {
    /// Returns the digest of a DER certificate.
    pub fn of(certificate: &[u8]) -> CertificateDigest {
        let digest = aws_lc_rs::digest::digest(&SHA256, certificate);
        CertificateDigest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Returns the digest of the first certificate in a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is too long, or has no certificate.
    pub fn of_file(path: &Path) -> Result<CertificateDigest, TlsError> {
        let first = certificates(path, &read(path)?)?.swap_remove(0);
        Ok(CertificateDigest::of(&first))
    }

    /// Returns the digest as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex::text(&self.0)
    }
}

/// Returns a digest of several texts that depends on where each ends.
fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The certificate and key of a door, as last loaded.
pub struct ServerTls {
    files: ServerFiles,
    loaded: ArcSwap<LoadedServer>,
    /// Digest of unusable contents, and whether they were reported.
    refused: Mutex<Option<([u8; 32], bool)>>,
}

struct LoadedServer {
    config: Arc<ServerConfig>,
    /// When the certificate expires; None if its dates cannot be read.
    expires_at: Option<Time>,
    contents: [u8; 32],
}

/// Result of looking at a door's files.
#[derive(Debug)]
pub enum ReloadOutcome {
    /// The files did not change.
    Unchanged,
    /// New connections use the new certificate.
    Replaced,
    /// The files cannot be used, and the certificate in force stays. Each bad state is reported once, after a second look: two
    /// files are not written at the same moment.
    Refused(TlsError),
}

impl ServerTls {
    /// Loads the files of a door. An expired certificate is accepted, because there is no better one at the start.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or the key does not match the certificate.
    pub fn load(files: ServerFiles) -> Result<ServerTls, TlsError> {
        let contents = FileContents::read(&files)?;
        Ok(ServerTls {
            loaded: ArcSwap::from_pointee(contents.load(&files)?),
            files,
            refused: Mutex::new(None),
        })
    }

    /// Returns the configuration for new connections.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.loaded.load().config.clone()
    }

    /// Returns when the certificate in force expires; None if its dates cannot be read.
    pub fn expires_at(&self) -> Option<Time> {
        self.loaded.load().expires_at
    }

    /// Reads the files again, and uses changed ones.
    pub fn reload(&self, now: Time) -> ReloadOutcome {
        let mut refused = self
            .refused
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let read = FileContents::read(&self.files);
        let digest = read.as_ref().map_or([0; 32], FileContents::digest);
        let known = self.loaded.load();
        if digest == known.contents {
            *refused = None;
            return ReloadOutcome::Unchanged;
        }
        let loaded = read.and_then(|contents| contents.load(&self.files));
        let is_over = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let loaded = match loaded {
            Ok(new) if is_over(new.expires_at) && !is_over(known.expires_at) => {
                Err(TlsError::Expired(self.files.cert.clone()))
            }
            loaded => loaded,
        };
        match loaded {
            Ok(new) => {
                self.loaded.store(Arc::new(new));
                *refused = None;
                ReloadOutcome::Replaced
            }
            Err(error) => {
                let (was_seen, was_reported) = match *refused {
                    Some((seen, reported)) => (seen == digest, seen == digest && reported),
                    None => (false, false),
                };
                *refused = Some((digest, was_seen));
                match was_seen && !was_reported {
                    true => ReloadOutcome::Refused(error),
                    false => ReloadOutcome::Unchanged,
                }
            }
        }
    }
}

/// Contents of a door's files.
struct FileContents {
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Zeroizing<Vec<u8>>>,
}

impl FileContents {
    fn read(files: &ServerFiles) -> Result<FileContents, TlsError> {
        Ok(FileContents {
            cert: read(&files.cert)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let client_ca = self.client_ca.as_deref();
        digest_of(&[
            &self.cert,
            &self.key,
            client_ca.map_or(&[][..], Vec::as_slice),
        ])
    }

    fn load(&self, files: &ServerFiles) -> Result<LoadedServer, TlsError> {
        let pair = |why: rustls::Error| unfit_pair(&files.cert, &files.key, &why);
        let chain = certificates(&files.cert, &self.cert)?;
        let expires_at = expires_at(&chain[0]);
        let key = private_key(&files.key, &self.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let mut config = match (&files.client_ca, &self.client_ca, &files.admitted) {
            (_, _, Some(keys)) => {
                builder.with_client_cert_verifier(pinned::client_verifier(keys.clone()))
            }
            (Some(path), Some(pem), None) => {
                let roots = Arc::new(authorities(path, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|why| TlsError::Authority(path.clone(), why.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        }
        .with_single_cert(chain, key)
        .map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // No early data, which could be replayed.
        config.max_early_data_size = 0;
        match files.client_ca.is_some() || files.admitted.is_some() {
            // Sessions of expired certificates, or under an earlier authority, must not resume.
            true => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
            // A returning phone costs no signature.
            false => {
                config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(pair)?;
                config.send_tls13_tickets = 1;
            }
        }
        Ok(LoadedServer {
            config: Arc::new(config),
            expires_at,
            contents: self.digest(),
        })
    }
}

/// Kind of TLS file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Certificates.
    Cert,
    /// Private key.
    Key,
    /// Authorities.
    Authorities,
}

/// Returns all faults of a certificate and its key, and of a file of authorities.
pub fn faults(
    pair: Option<(&Path, &Path)>,
    authorities_file: Option<&Path>,
) -> Vec<(FileKind, TlsError)> {
    let mut found = Vec::new();
    if let Some((cert, key)) = pair {
        let chain = read(cert).and_then(|pem| certificates(cert, &pem));
        let private = read(key).and_then(|pem| private_key(key, &pem));
        match (chain, private) {
            (Ok(chain), Ok(private)) => {
                if let Err(why) = CertifiedKey::from_der(chain, private, &provider()) {
                    found.push((FileKind::Cert, unfit_pair(cert, key, &why)));
                }
            }
            (chain, private) => {
                found.extend(chain.err().map(|why| (FileKind::Cert, why)));
                found.extend(private.err().map(|why| (FileKind::Key, why)));
            }
        }
    }
    if let Some(path) = authorities_file
        && let Err(why) = read(path).and_then(|pem| authorities(path, &pem))
    {
        found.push((FileKind::Authorities, why));
    }
    found
}

/// Returns the error for a certificate and key that do not match.
fn unfit_pair(cert: &Path, key: &Path, why: &rustls::Error) -> TlsError {
    let why = match why {
        rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".into(),
        why => why.to_string(),
    };
    TlsError::Pair(cert.to_owned(), key.to_owned(), why)
}

/// TLS files of a client: a command, the exchange, or the sender of spans.
#[derive(Clone, Debug, Default)]
pub struct ClientFiles {
    /// Authority of the door's certificate; None for the system's authorities.
    pub ca: Option<PathBuf>,
    /// Client certificate and key, if the door asks for one.
    pub cert: Option<(PathBuf, PathBuf)>,
}

impl ClientFiles {
    /// Returns the configuration for a connection to a door.
    ///
    /// # Errors
    ///
    /// A file cannot be read or has no authority, or the system has none.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = Arc::new(match &self.ca {
            Some(path) => authorities(path, &read(path)?)?,
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoSystemAuthorities);
                }
                roots
            }
        });
        let of_ca = |why: String| TlsError::Authority(self.ca.clone().unwrap_or_default(), why);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|why| of_ca(why.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|why| of_ca(why.to_string()))?
            .with_webpki_verifier(verifier);
        let mut config = match &self.cert {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert, &read(cert)?)?;
                builder
                    .with_client_auth_cert(chain, private_key(key, &read(key)?)?)
                    .map_err(|why| TlsError::Pair(cert.clone(), key.clone(), why.to_string()))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::pem::FILE_BYTES_MAX;
    use super::*;
    use std::process::Command;

    /// Makes a certificate that signs itself; `end` is how openssl is told of its life.
    fn pair(folder: &Path, name: &str, end: &[&str]) -> Option<ServerFiles> {
        let (cert, key) = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}.key")),
        );
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
            ])
            .arg(format!("/CN={name}"))
            .args(end)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .ok()?;
        made.status.success().then_some(ServerFiles {
            cert,
            key,
            client_ca: None,
            admitted: None,
        })
    }

    #[test]
    #[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
    fn files_are_reread_when_both_fit_and_a_bad_pair_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let one = pair(folder.path(), "one", &["-days", "10"]).expect("openssl");
        let two = pair(folder.path(), "two", &["-days", "20"]).unwrap();
        let tls = ServerTls::load(one.clone()).unwrap();
        let now = Time::now();
        let days = |tls: &ServerTls| (tls.expires_at().unwrap().0 - now.0 + 3_600_000) / 86_400_000;
        assert_eq!(days(&tls), 10);
        assert!(matches!(tls.reload(now), ReloadOutcome::Unchanged));
        // The certificate of one and the key of another.
        std::fs::copy(&two.cert, &one.cert).unwrap();
        assert!(matches!(tls.reload(now), ReloadOutcome::Unchanged));
        let refused = tls.reload(now);
        assert!(
            matches!(&refused, ReloadOutcome::Refused(TlsError::Pair(..))),
            "{refused:?}"
        );
        assert!(matches!(tls.reload(now), ReloadOutcome::Unchanged));
        assert_eq!(days(&tls), 10);
        std::fs::copy(&two.key, &one.key).unwrap();
        assert!(matches!(tls.reload(now), ReloadOutcome::Replaced));
        assert_eq!(days(&tls), 20);
        // One that has expired never takes the place of one that has not.
        let later = Time(now.0 + 30 * 86_400_000);
        let third = pair(folder.path(), "three", &["-days", "25"]).unwrap();
        std::fs::copy(&third.cert, &one.cert).unwrap();
        std::fs::copy(&third.key, &one.key).unwrap();
        assert!(
            matches!(tls.reload(later), ReloadOutcome::Replaced),
            "both have expired"
        );
        std::fs::remove_file(&one.key).unwrap();
        tls.reload(now);
        assert!(matches!(
            tls.reload(now),
            ReloadOutcome::Refused(TlsError::Io(..))
        ));
    }

    #[test]
    fn a_file_that_is_none_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.pem");
        for text in [
            "",
            "secret",
            "-----BEGIN CERTIFICATE-----\nsecret\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let files = ServerFiles {
                cert: path.clone(),
                key: path.clone(),
                client_ca: None,
                admitted: None,
            };
            let error = ServerTls::load(files).err().unwrap().to_string();
            assert!(
                error.contains("bad.pem") && !error.contains("secret"),
                "{error}"
            );
            let files = ClientFiles {
                ca: Some(path.clone()),
                cert: None,
            };
            let error = files.load().err().unwrap().to_string();
            assert!(
                error.contains("bad.pem") && !error.contains("secret"),
                "{error}"
            );
        }
        std::fs::write(&path, vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(matches!(
            CertificateDigest::of_file(&path),
            Err(TlsError::TooLong(_))
        ));
        assert!(expires_at(b"\x30\x03\x30\x01\x30").is_none());
    }
}
