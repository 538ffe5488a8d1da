//! Checks the files and folders that settings name, before a door opens. Reads, and writes nothing.

use super::reader::SettingsReader;
use super::typed::{Settings, StoreSettings};
use crate::desk::display_names::DisplayNames;
use crate::desk::guidance::Guidance;
use crate::http::door::Door;
use crate::identity::Platform;
use crate::offline::issue::OfflineKeys;
use crate::recognition::trust;
use crate::seal::ring::{KeyFile, RingError};
use crate::store::embedded;
use crate::tls::{self, FileKind};
use crate::traces;
use std::path::Path;

/// Records everything that `serve` could not use.
pub(super) fn check(read: &mut SettingsReader, settings: &Settings) {
    if let Err(why) = Platform::read(settings.identity.clone()) {
        unusable(read, "identity_jwks_file", &why);
    }
    if let Some(path) = &settings.guidance
        && let Err(why) = Guidance::read(path)
    {
        unusable(read, "guidance_file", &why);
    }
    if let Some(path) = &settings.names
        && let Err(why) = DisplayNames::read(path)
    {
        unusable(read, "names_file", &why);
    }
    if let Some(recognition) = &settings.recognition
        && let Err(faults) = trust::read(&recognition.trust)
    {
        for fault in faults {
            unusable(read, "trust", &fault);
        }
    }
    for (door, of) in &settings.doors {
        let Some(files) = &of.tls else { continue };
        let pair = Some((&*files.cert, &*files.key));
        for (file, why) in tls::faults(pair, files.client_ca.as_deref()) {
            let name = match file {
                FileKind::Cert => "tls_cert",
                FileKind::Key => "tls_key",
                FileKind::Authorities => "client_ca",
            };
            let name = match (door, file) {
                (Door::Exchange, FileKind::Key) => "exchange_cert_key".to_owned(),
                (Door::Exchange, _) => "exchange_cert".to_owned(),
                _ => format!("{}_{name}", door.name()),
            };
            // A missing file is recorded already.
            if !read.is_bad("exchange") {
                unusable(read, &name, &why.to_string());
            }
        }
    }
    if let Some(traces) = &settings.traces
        && let Err(why) = traces::check(traces)
    {
        let name = match traces.ca {
            Some(_) => "otlp_ca_file",
            None => "otlp_endpoint",
        };
        unusable(read, name, &why);
    }
    // Nothing follows from an invalid store.
    if read.is_bad("store") || read.is_bad("key_ring") {
        return;
    }
    match &settings.store {
        StoreSettings::Embedded(folder) => check_folder(read, folder),
        StoreSettings::Redis(redis) => {
            let dial = &redis.dial;
            let pair = dial.cert.as_ref().map(|(cert, key)| (&**cert, &**key));
            for (file, why) in tls::faults(pair, dial.ca.as_deref()) {
                let name = match file {
                    FileKind::Cert => "store_cert_file",
                    FileKind::Key => "store_cert_key_file",
                    FileKind::Authorities => "store_ca_file",
                };
                // A file that cannot be opened is recorded already.
                if !read.is_bad(name) {
                    unusable(read, name, &why.to_string());
                }
            }
        }
    }
    // The default ring is in the folder that cannot be used.
    if !read.is_bad("store") {
        check_ring(read, settings);
    }
}

fn unusable(read: &mut SettingsReader, name: &str, why: &str) {
    read.bad(name, &format!("cannot be used: {why}"));
}

/// Checks that the folder of an embedded store is readable or can be created.
fn check_folder(read: &mut SettingsReader, folder: &Path) {
    if let Err(error) = std::fs::read_dir(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        read.bad(
            "store",
            &format!("cannot be used: {}: {error}", folder.display()),
        );
        return;
    }
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut above = absolute.ancestors().skip_while(|place| !place.exists());
    if let Some(place) = above.next()
        && !place.is_dir()
    {
        let why = format!("cannot be created: {} is not a directory", place.display());
        read.bad("store", &why);
    }
}

/// Checks that the key ring is valid, or that a first start creates one.
fn check_ring(read: &mut SettingsReader, settings: &Settings) {
    let ring = match (KeyFile::read(&settings.keys), settings.store.folder()) {
        (Ok(ring), _) => ring,
        (Err(RingError::Missing(_)), Some(folder)) if embedded::is_in(folder) => {
            let (keys, folder) = (settings.keys.display(), folder.display());
            let why = format!(
                "cannot be used: {keys} is missing, and {folder} has a store: put the ring's copy back; a new ring cannot read what is there"
            );
            read.bad("key_ring", &why);
            return;
        }
        (Err(RingError::Missing(_)), Some(folder)) if settings.keys == folder.join("keys") => {
            return;
        }
        (Err(error), _) => {
            unusable(read, "key_ring", &error.to_string());
            return;
        }
    };
    if let KeyFile::Part(part) = &ring
        && let Some(why) = part.refused(settings.doors.iter().map(|(door, _)| door.name()))
    {
        unusable(read, "key_ring", &why);
    }
    if let Some(offline) = &settings.service.offline
        && OfflineKeys::of(&ring, offline.issuer).is_none()
    {
        let why = "cannot be used: the key ring has no signing keys; `liangma keys rotate --sign` makes them";
        read.bad("offline_issuer", why);
    }
}
