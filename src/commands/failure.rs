//! Why a command fails, and the exit codes that say so.

use std::process::ExitCode;

/// Why a command failed.
pub(super) enum Failure {
    /// Bad settings: all faults.
    Settings(Vec<String>),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Other(error.into())
    }
}

/// The exit code of a command, or why it failed.
pub(super) type CommandResult = Result<ExitCode, Failure>;

/// Exit code if some lines were rejected.
pub(super) const REJECTED: u8 = 3;

/// Exit code for bad settings, `EX_CONFIG` of sysexits.
pub(super) const BAD_SETTINGS: u8 = 78;

/// Returns an error with its causes. A cause that an error names itself does not appear twice.
pub(super) fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            let gap = if text.is_empty() { "" } else { ": " };
            text = text + gap + &cause;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io;

    #[test]
    fn a_cause_that_an_error_names_itself_is_printed_once() {
        let fault = || io::Error::other("no route");
        let twice = anyhow::Error::new(crate::exchange::link::LinkFault::Connect(fault()));
        assert_eq!(causes(&twice), "the peer cannot be reached: no route");
        let within = Err::<(), _>(fault()).context("node:9090").unwrap_err();
        assert_eq!(causes(&within), "node:9090: no route");
    }
}
