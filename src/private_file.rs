//! Files and folders that only their owner may read. What root creates belongs to the owner of the folder around it: a command
//! that an operator runs as root leaves nothing beside a node's files that the node, as a user of its own, cannot open.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// User id of root.
const ROOT: u32 = 0;

/// Creates a file of mode 0600, whatever the umask.
///
/// # Errors
///
/// `AlreadyExists` if there is a file, or the error of the system.
pub fn create_new(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    give_to_owner_of_folder(&file, path)?;
    Ok(file)
}

/// Creates a file of mode 0600 if there is none.
///
/// # Errors
///
/// The error of the system.
pub fn create_if_missing(path: &Path) -> io::Result<()> {
    match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

/// Creates a folder of mode 0700, and those above it, if it is missing.
///
/// # Errors
///
/// The error of the system.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // A link that the folder's owner put in its place is not followed: root would give away what it leads to.
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)?;
    give_to_owner_of_folder(&folder, path)
}

/// Gives a new file the owner of the file whose place it takes.
///
/// # Errors
///
/// The error of the system. Only root can give a file away.
pub fn take_owner_of(new: &File, old: &Path) -> io::Result<()> {
    let (has, had) = (new.metadata()?, old.metadata()?);
    if (has.uid(), has.gid()) != (had.uid(), had.gid()) {
        fchown(new, Some(had.uid()), Some(had.gid()))?;
    }
    Ok(())
}

fn give_to_owner_of_folder(new: &File, path: &Path) -> io::Result<()> {
    let around = folder_of(path).metadata()?;
    if new.metadata()?.uid() != ROOT || around.uid() == ROOT {
        return Ok(());
    }
    match fchown(new, Some(around.uid()), Some(around.gid())) {
        // Root without the capability, as in a container that drops all, keeps what it created.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// Returns the folder around a path; that of the process for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    /// A user and a group that nobody has.
    const OTHER: (u32, u32) = (54_321, 54_322);

    #[test]
    fn what_root_creates_belongs_to_the_owner_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        if folder.path().metadata().unwrap().uid() != ROOT {
            eprintln!("LEFT OUT: only root gives files away");
            return;
        }
        let owner = |path: &Path| {
            let metadata = path.metadata().unwrap();
            (metadata.uid(), metadata.gid())
        };
        let path = |name| folder.path().join(name);
        create_new(&path("before")).unwrap();
        assert_eq!(owner(&path("before")).0, ROOT);
        chown(folder.path(), Some(OTHER.0), Some(OTHER.1)).unwrap();
        create_new(&path("file")).unwrap();
        create_if_missing(&path("missing")).unwrap();
        create_if_missing(&path("before")).unwrap();
        create_folder(&path("folder")).unwrap();
        create_folder(&path("folder")).unwrap();
        create_new(&path("folder/file")).unwrap();
        for name in ["file", "missing", "folder", "folder/file"] {
            assert_eq!(owner(&path(name)), OTHER, "{name}");
        }
        assert_eq!(owner(&path("before")).0, ROOT, "what was there stays");
        let file = File::open(path("file")).unwrap();
        take_owner_of(&file, &path("before")).unwrap();
        assert_eq!(owner(&path("file")).0, ROOT);
        take_owner_of(&file, &path("missing")).unwrap();
        assert_eq!(owner(&path("file")), OTHER);
    }
}
