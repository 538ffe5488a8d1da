//! Panics: their report, and critical parts. A query that panics fails alone; a critical thread or task ends the node, so that
//! a supervisor restarts it.

use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::watch;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Returns the number of panics since the process started.
pub fn panics() -> u64 {
    PANICS.load(Relaxed)
}

/// Starts to log panics by place and thread. The message is logged only if it is a constant of the source, because it may hold
/// personal data.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Relaxed);
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(
            place,
            thread = thread.name(),
            why = constant(panic),
            "a thread or task panicked: this is a fault of the program"
        );
    }));
}

fn constant(panic: &PanicHookInfo<'_>) -> Option<&'static str> {
    panic.payload().downcast_ref::<&'static str>().copied()
}

/// Returns the channel with the name of the first critical part that panicked.
fn fallen_first() -> &'static watch::Sender<Option<&'static str>> {
    static FALLEN: OnceLock<watch::Sender<Option<&'static str>>> = OnceLock::new();
    FALLEN.get_or_init(|| watch::Sender::new(None))
}

/// Waits until a critical part has panicked, and returns its name.
pub async fn fallen() -> &'static str {
    let mut seen = fallen_first().subscribe();
    match seen.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(name)) => name,
        // The sender lives in a static.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Guard of a critical thread or task: dropped in a panic, it makes [`fallen`] return.
pub struct CriticalTask(pub &'static str);

impl Drop for CriticalTask {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fallen_first().send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(self.0);
                is_first
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_part_that_panics_is_named_and_one_that_ends_is_not() {
        std::thread::spawn(|| drop(CriticalTask("ended")))
            .join()
            .unwrap();
        let ended = tokio::spawn(async {
            let _critical = CriticalTask("aborted");
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        ended.abort();
        assert!(ended.await.unwrap_err().is_cancelled());
        assert_eq!(*fallen_first().borrow(), None);
        let task = tokio::spawn(async {
            let _critical = CriticalTask("a task");
            tokio::task::yield_now().await;
            panic!("a test");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(fallen().await, "a task");
        let thread = std::thread::spawn(|| {
            let _critical = CriticalTask("a thread");
            panic!("a test");
        });
        assert!(thread.join().is_err());
        assert_eq!(fallen().await, "a task", "the first is named");
    }
}
