//! The build: version and commit, for the log, the metrics and the operations door.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of the build: twelve hexadecimal digits, or `unknown`. Uncommitted changes do not show.
pub const COMMIT: &str = env!("BUILD_COMMIT");

/// Version and commit, as `--version` prints them.
pub const BUILD: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("BUILD_COMMIT"),
    ")"
);
