//! Why a key ring cannot be read, changed or written.

use std::path::PathBuf;

/// Why a key ring file cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum RingError {
    #[error("{path}: there is no key ring (`liangma keys new --keys {path}` creates one)", path = .0.display())]
    Missing(PathBuf),
    #[error("{path}: other users can read the key ring (mode {1:03o}): `chmod 600 {path}`, and replace its keys if it was exposed: `liangma keys replace --keys {path}`", path = .0.display())]
    Exposed(PathBuf, u32),
    #[error("{path}: there is a key ring already, which is not overwritten", path = .0.display())]
    Exists(PathBuf),
    #[error("{path}: not a key ring: {1}", path = .0.display())]
    Unreadable(PathBuf, String),
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    #[error("{path}: the file holds the key ring part for {1}, and the whole ring is needed", path = .0.display())]
    Part(PathBuf, String),
    #[error(
        "the key ring is full: credentials of {0} previous keys are still valid; `--drop-previous` drops these keys at once"
    )]
    Full(usize),
    #[error(
        "the ring has {0} previous keys of data at rest: run `liangma keys reseal`, then `liangma keys drop`"
    )]
    RestFull(usize),
    #[error(
        "data at rest may still need the previous keys: run `liangma keys reseal` first; `--unproved` drops them anyway, and everything still sealed with them is lost"
    )]
    RestNeeded,
}
