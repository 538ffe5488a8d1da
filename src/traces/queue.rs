//! The queue of ended spans, and the thread that sends them in batches. A full queue drops spans, and a failed export drops its
//! batch: nothing waits for the collector.

use super::collector::{Collector, ExportFault};
use crate::meters::TraceFacts;
use opentelemetry::Context;
use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Spans that may wait to be sent: a few megabytes. Further ones are dropped and counted.
const SPANS_WAITING_MAX: usize = 2_048;

/// Spans of one export.
const BATCH_SPANS_MAX: usize = 512;

/// Time from the first span of a batch until it is sent.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// Time for one export, from the connection to the end of the answer.
const EXPORT_WAIT: Duration = Duration::from_secs(5);

/// Time for waiting spans at the end of the process.
const END_WAIT: Duration = Duration::from_secs(2);

/// Interval of attempts to reach a full queue at the end of the process.
const END_RETRY: Duration = Duration::from_millis(5);

/// Threads that ask for the collector's address by its name. One may hang.
const RESOLVERS_MAX: usize = 2;

/// What becomes of a span.
#[derive(Clone, Copy)]
enum SpanOutcome {
    /// The collector has it.
    Sent,
    /// The queue was full.
    QueueFull,
    /// The export of its batch failed.
    ExportFailed,
    /// The collector took the batch and refused the span.
    Refused,
}

/// Counts of spans and exports since the start.
#[derive(Debug, Default)]
pub struct TraceCounts {
    spans: [AtomicU64; 4],
    /// Exports by outcome: first those that succeeded, then each kind of fault.
    exports: [AtomicU64; 1 + ExportFault::KINDS.len()],
}

enum Message {
    Ended(Box<SpanData>),
    /// Request to answer once all earlier spans are sent, or dropped.
    Flush(oneshot::Sender<()>),
}

/// The sending end of the queue. It never waits or fails.
#[derive(Clone, Debug)]
pub struct SpanQueue {
    sender: SyncSender<Message>,
    counts: Arc<TraceCounts>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl SpanQueue {
    /// Starts the thread that sends spans to a collector.
    ///
    /// # Errors
    ///
    /// The thread or its runtime cannot be started.
    pub fn start(collector: Collector) -> io::Result<SpanQueue> {
        let (sender, receiver) = sync_channel(SPANS_WAITING_MAX);
        let counts = Arc::new(TraceCounts::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVERS_MAX)
            .build()?;
        let exporter = Exporter {
            collector,
            runtime,
            counts: counts.clone(),
            is_failing: false,
        };
        std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || exporter.run(&receiver))?;
        Ok(SpanQueue { sender, counts })
    }

    /// Waits until all spans so far are sent or dropped, for a limited time.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        let asked = async {
            let mut message = Message::Flush(done);
            while let Err(TrySendError::Full(back)) = self.sender.try_send(message) {
                message = back;
                tokio::time::sleep(END_RETRY).await;
            }
            sent.await
        };
        let _ = tokio::time::timeout(END_WAIT, asked).await;
    }

    /// Returns the counts of spans and exports.
    pub fn counts(&self) -> Arc<TraceCounts> {
        self.counts.clone()
    }
}

impl TraceCounts {
    fn add(&self, outcome: SpanOutcome, spans: u64) {
        self.spans[outcome as usize].fetch_add(spans, Relaxed);
    }

    /// Returns the counts for the metrics.
    pub fn facts(&self) -> TraceFacts {
        let TraceCounts { spans, exports } = self;
        let [sent, queue_full, failed, refused] = spans.each_ref().map(|it| it.load(Relaxed));
        let faults = ExportFault::KINDS.iter().zip(&exports[1..]);
        let faults = faults.map(|(kind, count)| (*kind, count.load(Relaxed)));
        TraceFacts {
            spans: vec![
                ("sent", sent),
                ("queue_full", queue_full),
                ("export_failed", failed),
                ("refused", refused),
            ],
            exports: [("done", exports[0].load(Relaxed))]
                .into_iter()
                .chain(faults)
                .collect(),
        }
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    /// Queues a span. If the queue is full, the span is counted as dropped.
    fn on_end(&self, mut span: SpanData) {
        if span.parent_span_id == SpanId::INVALID || span.parent_span_is_remote {
            span.span_kind = SpanKind::Server;
        }
        let message = Message::Ended(Box::new(span));
        if self.sender.try_send(message).is_err() {
            self.counts.add(SpanOutcome::QueueFull, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// State of the thread that sends spans.
struct Exporter {
    collector: Collector,
    runtime: Runtime,
    counts: Arc<TraceCounts>,
    /// Whether the last export failed.
    is_failing: bool,
}

impl Exporter {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut batch: Vec<SpanData> = Vec::new();
        let mut due: Option<Instant> = None;
        loop {
            let message = match due {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => messages.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            let mut flushed = None;
            match message {
                Ok(Message::Ended(span)) => {
                    batch.push(*span);
                    let due = *due.get_or_insert_with(|| Instant::now() + BATCH_WAIT);
                    if batch.len() < BATCH_SPANS_MAX && Instant::now() < due {
                        continue;
                    }
                }
                Ok(Message::Flush(done)) => flushed = Some(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            due = None;
            if !batch.is_empty() {
                self.export(std::mem::take(&mut batch));
            }
            if let Some(done) = flushed {
                let _ = done.send(());
            }
        }
    }

    fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        let sent = self.collector.send(batch);
        let sent = self.runtime.block_on(async {
            let sent = tokio::time::timeout(EXPORT_WAIT, sent).await;
            sent.unwrap_or(Err(ExportFault::Late))
        });
        let nth = sent.as_ref().map_or_else(|fault| 1 + fault.nth(), |_| 0);
        self.counts.exports[nth].fetch_add(1, Relaxed);
        match sent {
            Ok(refused) => {
                let refused = refused.min(spans);
                self.counts.add(SpanOutcome::Sent, spans - refused);
                self.counts.add(SpanOutcome::Refused, refused);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(fault) => {
                self.counts.add(SpanOutcome::ExportFailed, spans);
                if !std::mem::replace(&mut self.is_failing, true) {
                    let why = fault.to_string();
                    tracing::warn!(
                        why,
                        "spans cannot be sent: they are dropped until the collector takes them"
                    );
                }
            }
        }
    }
}
