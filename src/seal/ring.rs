//! The key ring: the keys that seal and open, their states, and their file, which only its owner may read.

mod error;
mod expanded;
mod files;
mod offline;
pub mod part;
mod rotation;
mod secret;
mod token_kind;
mod whole;

pub use error::RingError;
pub use expanded::KeyRing;
pub(super) use expanded::RestCiphers;
pub use offline::{OfflineSecrets, OfflineSource, SignKeyPair};
pub use rotation::{KeyLine, KeyState};
pub use token_kind::TokenKind;
pub use whole::RingFile;

use crate::private_file;
use files::{sync_folder, write_beside};
use part::{DoorPart, RingPart};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use whole::HEADER;
use zeroize::Zeroizing;

/// Exclusive lock for a change of a ring, from reading to writing, across processes. Released on drop and when the process
/// ends.
pub struct RingLock {
    path: PathBuf,
    _folder: std::fs::File,
}

impl RingLock {
    /// Waits for the lock of the ring's folder.
    ///
    /// # Errors
    ///
    /// `Missing` if there is no such folder, `Io` if it cannot be locked.
    pub fn of(path: &Path) -> Result<RingLock, RingError> {
        // The folder is locked, because the file is replaced by every change.
        let opened = std::fs::File::open(private_file::folder_of(path));
        let locked = opened.and_then(|folder| folder.lock().map(|()| folder));
        match locked {
            Ok(folder) => Ok(RingLock {
                path: path.to_owned(),
                _folder: folder,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(RingError::Missing(path.to_owned()))
            }
            Err(error) => Err(RingError::Io(path.to_owned(), error)),
        }
    }

    /// Reads the ring to change.
    ///
    /// # Errors
    ///
    /// As for [`RingFile::read`].
    pub fn read(&self) -> Result<RingFile, RingError> {
        RingFile::read(&self.path)
    }
}

/// A file of keys: a whole ring, or a part for some doors.
pub enum KeyFile {
    /// A ring with all keys.
    Whole(Box<RingFile>),
    /// The part of a ring for some doors.
    Part(Box<RingPart>),
}

impl KeyFile {
    /// Reads a ring or a part.
    ///
    /// # Errors
    ///
    /// The file is missing, readable by others, or holds neither.
    pub fn read(path: &Path) -> Result<KeyFile, RingError> {
        let io = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => RingError::Missing(path.to_owned()),
            _ => RingError::Io(path.to_owned(), error),
        };
        let file = std::fs::File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(RingError::Exposed(path.to_owned(), mode));
        }
        let text = Zeroizing::new(std::io::read_to_string(file).map_err(io)?);
        let unreadable = |why: &str| RingError::Unreadable(path.to_owned(), why.to_owned());
        // The parser's message would quote the line, and with it the key.
        let quiet = |error: toml::de::Error| unreadable(error.message());
        if text.lines().any(|line| line.starts_with("doors")) {
            let part: RingPart = toml::from_str(&text).map_err(quiet)?;
            part.check().map_err(unreadable)?;
            return Ok(KeyFile::Part(Box::new(part)));
        }
        let ring: RingFile = toml::from_str(&text).map_err(quiet)?;
        ring.check().map_err(unreadable)?;
        Ok(KeyFile::Whole(Box::new(ring)))
    }
}

impl OfflineSource for KeyFile {
    fn offline(&self) -> Option<OfflineSecrets<'_>> {
        match self {
            KeyFile::Whole(ring) => ring.offline(),
            KeyFile::Part(part) => part.offline(),
        }
    }
}

impl RingFile {
    /// Reads a whole ring.
    ///
    /// # Errors
    ///
    /// The file is missing, readable by others, or holds no whole ring.
    pub fn read(path: &Path) -> Result<RingFile, RingError> {
        match KeyFile::read(path)? {
            KeyFile::Whole(ring) => Ok(*ring),
            KeyFile::Part(part) => Err(RingError::Part(path.to_owned(), part.door_names())),
        }
    }

    /// Returns the part of the ring for nodes with these doors only.
    pub fn part(&self, doors: &[DoorPart]) -> RingPart {
        RingPart::of(self, doors)
    }

    /// Writes the locked ring atomically: a reader or a crash finds the old or the new one. The lock of [`RingLock::read`]
    /// keeps two writers from undoing each other's change.
    ///
    /// # Errors
    ///
    /// `Io` if the new file cannot be written; the old one stays.
    pub fn replace(&self, lock: &RingLock) -> Result<(), RingError> {
        let path = &lock.path;
        // An operator rotates as root, and the node reads the ring as a user of its own.
        let beside = write_beside(self, HEADER, path, Some(path))?;
        std::fs::rename(&beside, path)
            .inspect_err(|_| drop(std::fs::remove_file(&beside)))
            .and_then(|()| sync_folder(path))
            .map_err(|error| RingError::Io(path.to_owned(), error))
    }
}

impl From<&KeyFile> for KeyRing {
    fn from(file: &KeyFile) -> KeyRing {
        match file {
            KeyFile::Whole(ring) => KeyRing::from(&**ring),
            KeyFile::Part(part) => KeyRing::from(&**part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::secret::digits;
    use super::whole::REST_PREVIOUS_MAX;
    use super::*;
    use crate::clock::Time;
    use crate::paper::PaperPurpose;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn a_written_ring_reads_back_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ring = RingFile::generate(Time(1));
        ring.write_new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(RingFile::read(&path).unwrap().identity.0 == ring.identity.0);
        assert!(matches!(ring.write_new(&path), Err(RingError::Exists(_))));
    }

    #[test]
    fn a_rotated_ring_keeps_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut ring = RingFile::generate(Time(1));
        ring.write_new(&path).unwrap();
        let owner = |path: &Path| {
            let metadata = std::fs::metadata(path).unwrap();
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777)
        };
        // As /etc/liangma is: the folder is root's, the ring the node's.
        let given = std::os::unix::fs::chown(&path, Some(54_321), Some(54_322));
        let before = owner(&path);
        assert_eq!(before.0 == 54_321, given.is_ok());
        let lock = RingLock::of(&path).unwrap();
        ring.rotate(Time(2), Duration::ZERO).unwrap();
        ring.replace(&lock).unwrap();
        assert_eq!(owner(&path), before);
    }

    #[test]
    fn a_ring_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        RingFile::generate(Time(1)).write_new(&path).unwrap();
        for mode in [0o640, 0o604, 0o644, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(
                RingFile::read(&path),
                Err(RingError::Exposed(_, m)) if m == mode
            ));
        }
    }

    #[test]
    fn a_spoilt_ring_is_refused_without_quoting_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        RingFile::generate(Time(1)).write_new(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = text.split('"').nth(1).unwrap().to_owned();
        let spoilt = text.replacen(&secret, &format!("{}zz", &secret[..62]), 1);
        std::fs::write(&path, spoilt).unwrap();
        let error = RingFile::read(&path).err().unwrap().to_string();
        assert!(error.contains("64 hexadecimal"), "{error}");
        assert!(!error.contains(&secret[..16]), "{error}");
    }

    #[test]
    fn rotation_keeps_what_still_opens_something_and_drops_the_rest() {
        let mut ring = RingFile::generate(Time(0));
        let keep = Duration::from_millis(100);
        ring.rotate(Time(10), keep).unwrap();
        ring.rotate(Time(50), keep).unwrap();
        let states: Vec<_> = ring.lines().iter().map(|key| (key.id, key.state)).collect();
        assert_eq!(
            states,
            [
                (1, KeyState::Previous),
                (2, KeyState::Previous),
                (3, KeyState::Current),
                (4, KeyState::Next)
            ]
        );
        ring.rotate(Time(120), keep).unwrap();
        assert!(ring.lines().iter().all(|key| key.id != 1));
        assert!(ring.check().is_ok());
    }

    #[test]
    fn a_key_that_was_destroyed_is_gone_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut ring = RingFile::generate(Time(1));
        let secrets = |ring: &RingFile| {
            ring.papers
                .iter()
                .filter(|key| key.secret.is_some())
                .count()
        };
        assert_eq!(secrets(&ring), PaperPurpose::ALL.len());
        assert!(
            ring.destroy(PaperPurpose::Trips, Time(7))
                && ring.destroy(PaperPurpose::Trips, Time(9))
        );
        ring.write_new(&path).unwrap();
        let read = RingFile::read(&path).unwrap();
        assert_eq!(read.destroyed(PaperPurpose::Trips), Some(Time(7)));
        assert_eq!(read.destroyed(PaperPurpose::Health), None);
        assert_eq!(secrets(&read), PaperPurpose::ALL.len() - 1);
        // A ring of before has nothing to destroy.
        ring.papers.clear();
        assert!(!ring.destroy(PaperPurpose::Trips, Time(7)));
        let keys = KeyRing::from(&ring);
        assert!(keys.rest_current().papers.iter().all(Option::is_some));
    }

    #[test]
    fn ids_come_round_without_meeting() {
        let mut ring = RingFile::generate(Time(0));
        for i in 0..600 {
            ring.rotate(Time(i * 10), Duration::from_millis(50))
                .unwrap();
            ring.rotate_sign(Time(i * 10), Duration::from_millis(50))
                .unwrap();
            assert!(ring.check().is_ok());
            let mut lines = ring.lines().into_iter().chain(ring.sign_lines());
            assert!(lines.all(|key| key.id != 0));
        }
    }

    #[test]
    fn signing_keys_rotate_by_themselves_and_a_theft_replaces_them_too() {
        let mut ring = RingFile::generate(Time(0));
        let permutation = ring.offline().unwrap().permutation;
        let tokens = |ring: &RingFile| ring.lines().iter().map(|key| key.id).collect::<Vec<_>>();
        let before = tokens(&ring);
        ring.rotate_sign(Time(10), Duration::from_millis(100))
            .unwrap();
        assert_eq!(tokens(&ring), before);
        let states = |ring: &RingFile| {
            let lines = ring.sign_lines().into_iter();
            lines.map(|key| (key.id, key.state)).collect::<Vec<_>>()
        };
        assert_eq!(
            states(&ring),
            [
                (1, KeyState::Previous),
                (2, KeyState::Current),
                (3, KeyState::Next)
            ]
        );
        ring.replace_token_keys(Time(20));
        assert_eq!(states(&ring), [(4, KeyState::Current), (5, KeyState::Next)]);
        assert!(ring.check().is_ok());
        assert_eq!(ring.offline().unwrap().permutation, permutation);
    }

    #[test]
    fn a_ring_of_before_offline_codes_is_read_and_gets_its_keys_by_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut ring = RingFile::generate(Time(1));
        (ring.offline, ring.sign) = (None, Vec::new());
        ring.write_new(&path).unwrap();
        let mut read = RingFile::read(&path).unwrap();
        assert!(read.offline().is_none());
        read.rotate_sign(Time(2), Duration::ZERO).unwrap();
        read.replace(&RingLock::of(&path).unwrap()).unwrap();
        assert_eq!(
            RingFile::read(&path)
                .unwrap()
                .offline()
                .unwrap()
                .signing
                .len(),
            2
        );
    }

    #[test]
    fn keys_of_what_rests_stay_until_nothing_is_known_to_need_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut ring = RingFile::generate(Time(0));
        let states = |ring: &RingFile| {
            let lines = ring.rest_lines().into_iter();
            lines.map(|key| (key.id, key.state)).collect::<Vec<_>>()
        };
        ring.rotate(Time(5), Duration::ZERO).unwrap();
        ring.rotate_sign(Time(5), Duration::ZERO).unwrap();
        let (current, next) = (KeyState::Current, KeyState::Next);
        assert_eq!(states(&ring), [(1, current), (2, next)]);
        assert!(ring.rotate_rest(Time(10)).unwrap());
        let rotated = [(1, KeyState::Previous), (2, current), (3, next)];
        assert_eq!(states(&ring), rotated);
        // No time lets them go, and no proof of another key.
        let kept = |ring: &mut RingFile| {
            let refused = ring.drop_previous_rest(false);
            matches!(refused, Err(RingError::RestNeeded))
        };
        assert!(kept(&mut ring));
        assert!(!ring.note_resealed(1, Time(11)) && !ring.note_resealed(3, Time(11)));
        assert!(kept(&mut ring));
        assert!(ring.note_resealed(2, Time(12)));
        ring.write_new(&path).unwrap();
        let mut ring = RingFile::read(&path).unwrap();
        assert_eq!(
            (states(&ring), ring.resealed_at()),
            (rotated.to_vec(), Some(Time(12)))
        );
        assert_eq!(ring.clone().drop_previous_rest(false).unwrap(), 1);
        // What was found ends with the next rotation.
        assert!(ring.rotate_rest(Time(20)).unwrap());
        assert_eq!(ring.resealed_at(), None);
        assert!(kept(&mut ring));
        // A theft makes the next key another one, and nothing else of data at rest.
        let before = ring.rest.current().secret.0;
        ring.replace_token_keys(Time(30));
        assert_eq!(ring.rest.current().secret.0, before);
        let ids: Vec<u8> = states(&ring).iter().map(|key| key.0).collect();
        assert_eq!(ids, [1, 2, 3, 5]);
        assert!(ring.check().is_ok());
        let full = (0..9).find_map(|nth| ring.rotate_rest(Time(40 + nth)).err());
        assert!(matches!(full, Some(RingError::RestFull(REST_PREVIOUS_MAX))));
        assert_eq!(ring.drop_previous_rest(true).unwrap(), REST_PREVIOUS_MAX);
    }

    #[test]
    fn a_ring_of_before_the_rotation_of_what_rests_gets_its_next_key_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ring = RingFile::generate(Time(1));
        let text = toml::to_string(&ring).unwrap();
        let (head, rest) = text.split_once("[[rest]]").unwrap();
        let (_, tail) = rest.split_once("[[token]]").unwrap();
        let secret = &*digits(&ring.rest.current().secret.0);
        let text = format!("{head}[rest]\nid = 1\nsecret = \"{secret}\"\n\n[[token]]{tail}");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut old = RingFile::read(&path).unwrap();
        assert!(old.rest.current().secret.0 == ring.rest.current().secret.0);
        assert!(!old.rotate_rest(Time(2)).unwrap());
        let ids = |ring: &RingFile| {
            ring.rest_lines()
                .iter()
                .map(|key| key.id)
                .collect::<Vec<_>>()
        };
        assert_eq!((old.rest_current(), ids(&old)), (1, vec![1, 2]));
        old.replace(&RingLock::of(&path).unwrap()).unwrap();
        let mut old = RingFile::read(&path).unwrap();
        assert!(old.rotate_rest(Time(3)).unwrap());
        assert_eq!((old.rest_current(), ids(&old)), (2, vec![1, 2, 3]));
    }
}
