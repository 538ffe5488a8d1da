//! The log: its own thread writes the lines, so that a full, closed or unread standard error blocks nothing.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes the syslog priority before a line, as `<3>`, for the systemd journal.
pub struct WithPriority<F> {
    /// The format of a line.
    pub format: F,
    /// Whether the priority is written.
    pub is_on: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        if self.is_on {
            writer.write_str(priority(*event.metadata().level()))?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// Returns the syslog priority of a level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Returns whether standard error is the journal's stream, by device and inode in `JOURNAL_STREAM`.
pub fn goes_to_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").ok();
    let stderr = std::fs::metadata("/proc/self/fd/2").ok();
    told.zip(stderr)
        .is_some_and(|(told, stderr)| told == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Lines that may wait for standard error. Further ones are lost and counted.
const LINES_WAITING_MAX: usize = 8_192;

/// Time for waiting lines at the end of the process.
const END_WAIT: Duration = Duration::from_millis(500);

/// Lines lost since the start, because the queue was full or writing failed.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Returns the number of lost lines.
pub fn lost() -> u64 {
    LOST.load(Relaxed)
}

enum Message {
    Line(Vec<u8>),
    /// Request to answer once all earlier lines are written.
    Flush(SyncSender<()>),
}

/// Writer of log lines that never waits or fails.
#[derive(Clone)]
pub struct LogQueue {
    sender: SyncSender<Message>,
}

impl LogQueue {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<LogQueue> {
        let (sender, receiver) = sync_channel(LINES_WAITING_MAX);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(out, &receiver))?;
        Ok(LogQueue { sender })
    }

    /// Waits until all lines so far are written, for a limited time.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        let until = Instant::now() + END_WAIT;
        let mut message = Message::Flush(done);
        while let Err(std::sync::mpsc::TrySendError::Full(back)) = self.sender.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn write_all(mut out: impl Write, messages: &Receiver<Message>) {
    // A cut line is ended before the next one begins.
    let mut is_torn = false;
    for message in messages {
        match message {
            Message::Line(mut line) => {
                if is_torn {
                    line.insert(0, b'\n');
                }
                is_torn = out.write_all(&line).is_err();
                LOST.fetch_add(u64::from(is_torn), Relaxed);
            }
            Message::Flush(done) => {
                let _ = out.flush();
                let _ = done.send(());
            }
        }
    }
}

impl Write for LogQueue {
    /// Queues one line. If the queue is full, it is counted as lost.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            LOST.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LogQueue;

    fn make_writer(&'a self) -> LogQueue {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Fails while `broken` is set, after half of a line.
    #[derive(Clone, Default)]
    struct Disk {
        written: Arc<Mutex<Vec<u8>>>,
        broken: Arc<Mutex<bool>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.written.lock().unwrap();
            match *self.broken.lock().unwrap() {
                false => written.extend_from_slice(bytes),
                true if bytes.len() > 4 => {
                    written.extend_from_slice(&bytes[..4]);
                    return Ok(4);
                }
                true => return Err(io::ErrorKind::StorageFull.into()),
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Stands still for good, as a pipe whose reader sleeps.
    struct Blocked(Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost_and_counted_and_stop_nothing() {
        let disk = Disk::default();
        let mut lines = LogQueue::start(disk.clone()).unwrap();
        let before = lost();
        writeln!(lines, "one").unwrap();
        lines.flush();
        *disk.broken.lock().unwrap() = true;
        lines.write_all(b"two, of some length\n").unwrap();
        lines.flush();
        *disk.broken.lock().unwrap() = false;
        lines.write_all(b"three\n").unwrap();
        lines.flush();
        assert!(lost() > before);
        let written = String::from_utf8(disk.written.lock().unwrap().clone()).unwrap();
        // The line that was cut is ended before the next.
        let lines: Vec<&str> = written.lines().collect();
        assert!(
            lines.len() == 3 && lines[1].starts_with("two,"),
            "{written}"
        );
        assert_eq!((lines[0], lines[2]), ("one", "three"));

        let (_reader, sleeping) = sync_channel(0);
        let mut lines = LogQueue::start(Blocked(sleeping)).unwrap();
        let before = lost();
        for _ in 0..LINES_WAITING_MAX + 100 {
            lines.write_all(b"line\n").unwrap();
        }
        lines.flush();
        assert!(lost() - before >= 99, "{}", lost() - before);
    }
}
