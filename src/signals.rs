//! Signals: requests to end, to end at once, or to reload.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals of a node.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Meaning of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalAction {
    /// SIGTERM or SIGINT: drain; the second time, end at once.
    End,
    /// SIGHUP: reload.
    Reload,
}

impl Signals {
    /// Starts to listen for signals.
    ///
    /// # Errors
    ///
    /// A handler cannot be installed.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::End,
            _ = self.interrupt.recv() => SignalAction::End,
            _ = self.hangup.recv() => SignalAction::Reload,
        }
    }
}
