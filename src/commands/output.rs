//! Standard output as a writer whose errors say that the output failed, and not the store or a node.

use std::io::{self, StdoutLock, Write};

/// Why standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written: {0}")]
struct OutputError(io::Error);

/// Standard output, locked.
pub struct Output(StdoutLock<'static>);

impl Output {
    pub fn lock() -> Output {
        Output(io::stdout().lock())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

/// Returns an error of standard output that says so.
pub fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), OutputError(error))
}

/// Returns whether an error says that the reader of standard output has left, as `head` does. A connection that the other side
/// closed is another error.
pub fn reader_has_left(error: &anyhow::Error) -> bool {
    let of_output = |error: &io::Error| {
        error.kind() == io::ErrorKind::BrokenPipe
            && error
                .get_ref()
                .is_some_and(|inner| inner.is::<OutputError>())
    };
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(of_output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_closed_output_is_told_from_a_closed_connection() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let has_left = |error: io::Error| reader_has_left(&anyhow::Error::new(error));
        assert!(has_left(named(broken())));
        assert!(!has_left(broken()));
        assert!(!has_left(named(io::Error::from(
            io::ErrorKind::StorageFull
        ))));
        let within: anyhow::Result<()> = Err(named(broken())).context("row 7");
        assert!(reader_has_left(&within.unwrap_err()));
        let link: anyhow::Result<()> = Err(broken()).context("127.0.0.1:9090");
        assert!(!reader_has_left(&link.unwrap_err()));
    }
}
