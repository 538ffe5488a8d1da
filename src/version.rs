//! The build: version and commit, for the log, the metrics and the operations door.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was checked out when this was built: twelve hexadecimal digits, or `unknown`. Changes that were not committed
/// do not show in it.
pub const COMMIT: &str = env!("BUILD_COMMIT");

/// Both, as `--version` prints them.
pub const BUILD: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("BUILD_COMMIT"),
    ")"
);
