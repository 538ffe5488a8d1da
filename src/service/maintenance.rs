//! Work on the whole store that an operator asks for: backups, and sealing anew.

use super::state::AppState;
use super::thread::Service;
use crate::admission::concurrency::ConcurrencyGuard;
use crate::clock::Time;
use crate::desk::roles::Act;
use crate::refusal::Refusal;
use crate::seal::Caller;
use crate::store::reseal::{ResealReport, until_settled};
use crate::store::{self, StoreStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines of a walk that wait for its reader; those that find no room are left out.
const RESEAL_LINES_MAX: usize = 4;

/// Interval of lines about the progress of a walk.
const RESEAL_REPORT: Duration = Duration::from_secs(1);

/// Seals data at rest anew, and sends lines: how far the walk is, and at the end its outcome. A stream without the outcome was cut
/// off.
async fn reseal(app: Arc<AppState>, lines: tokio::sync::mpsc::Sender<Vec<u8>>) {
    let told_at = std::sync::Mutex::new(Instant::now());
    let tell = |report: &ResealReport| {
        let mut told_at = told_at
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if told_at.elapsed() >= RESEAL_REPORT {
            *told_at = Instant::now();
            let _ = lines.try_send(line_of(report));
        }
        !lines.is_closed() && !app.is_draining()
    };
    match until_settled(&*app.store, &|| app.seal.rest_seal(), &tell).await {
        Ok(outcome) => {
            tracing::info!(
                key = outcome.key,
                sealed_anew = outcome.report.sealed_anew,
                unopened = outcome.report.unopened.values().sum::<u64>(),
                "data at rest was sealed anew"
            );
            let _ = lines.send(line_of(&outcome)).await;
        }
        Err(store::Error::Closed) => {
            tracing::info!(
                "sealing data at rest anew ended early: its reader closed the connection, or the node drains"
            )
        }
        Err(error) => tracing::warn!(%error, "data at rest could not be sealed anew"),
    }
}

fn line_of(told: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(told).expect("numbers and words");
    line.push(b'\n');
    line
}

/// A backup or a walk that seals anew, in progress. There is only one at a time.
pub struct MaintenanceStream {
    /// The frames of the backup, or the lines of progress.
    pub frames: StoreStream,
    _under_way: ConcurrencyGuard,
}

impl Service {
    /// Takes the one place for work on the whole store, and records who asked for it.
    ///
    /// # Errors
    ///
    /// `NotPermitted` for a session, `Busy` while the place is taken, and the refusals of the store client while the act is recorded.
    async fn enter_maintenance(
        &self,
        caller: &Caller,
        act: Act,
        now: Time,
    ) -> Result<ConcurrencyGuard, Refusal> {
        let Caller::Token(_, operator, _) = caller else {
            return Err(Refusal::NotPermitted);
        };
        let under_way = self.app.backups.enter(0).ok_or(Refusal::Busy)?;
        self.desk(now).record_operation(operator, act).await?;
        Ok(under_way)
    }

    /// Starts a backup of the store, and records who asked for it.
    ///
    /// # Errors
    ///
    /// As for [`Service::enter_maintenance`]; `NotFound` if the store has its own means, `UpstreamBusy` if it cannot start a backup.
    pub async fn begin_backup(
        &self,
        caller: &Caller,
        now: Time,
    ) -> Result<MaintenanceStream, Refusal> {
        let under_way = self.enter_maintenance(caller, Act::Backup, now).await?;
        match self.app.store.backup().await {
            Ok(Some(frames)) => Ok(MaintenanceStream {
                frames,
                _under_way: under_way,
            }),
            Ok(None) => Err(Refusal::NotFound),
            Err(error) => {
                tracing::warn!(%error, "the store cannot start a backup");
                Err(Refusal::UpstreamBusy)
            }
        }
    }

    /// Begins to seal data at rest anew, and records who asked for it. It ends with its reader, and with the node.
    ///
    /// # Errors
    ///
    /// As [`Service::enter_maintenance`].
    pub async fn begin_reseal(
        &self,
        caller: &Caller,
        now: Time,
    ) -> Result<MaintenanceStream, Refusal> {
        let under_way = self.enter_maintenance(caller, Act::Reseal, now).await?;
        let (lines, frames) = tokio::sync::mpsc::channel(RESEAL_LINES_MAX);
        tokio::spawn(reseal(self.app.clone(), lines));
        Ok(MaintenanceStream {
            frames,
            _under_way: under_way,
        })
    }
}
