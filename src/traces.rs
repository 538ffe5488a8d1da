//! Traces: spans of requests, sent to a collector over OTLP. Off unless a collector is set.
//! Requests of the desk, acts at the operations door and feeds have a span each. Shows and scans have none.
//!
//! Spans are those of `tracing`. Attributes are set here alone, past the log, and hold no personal data.

pub mod collector;
pub mod queue;
pub mod traceparent;

use crate::meters::TraceFacts;
use crate::refusal::Refusal;
use crate::version::VERSION;
use collector::{Collector, Endpoint};
use opentelemetry::trace::{Status, TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanLimits};
use queue::SpanQueue;
use std::path::PathBuf;
use std::sync::OnceLock;
use tracing::level_filters::LevelFilter;
use tracing::{Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};

/// Settings of traces.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address at which the collector takes spans.
    pub endpoint: Endpoint,
    /// Authorities of the collector's certificate, PEM; None for the system's.
    pub ca: Option<PathBuf>,
    /// Share of the traces that begin here and are sent: 0 to 1. A caller with a trace decides for it.
    pub sample_ratio: f64,
}

/// The layer of the log's subscriber that makes spans for the collector.
pub type TraceLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The queue of ended spans, once traces are switched on.
static QUEUE: OnceLock<SpanQueue> = OnceLock::new();

/// Starts the thread that sends spans, and returns the layer that makes them. To be called once in a process.
///
/// # Errors
///
/// The authorities cannot be read, or the thread cannot be started.
pub fn start(settings: &Settings) -> Result<TraceLayer, String> {
    let resource = resource();
    let collector = Collector::new(&settings.endpoint, settings.ca.clone(), &resource)?;
    let queue = SpanQueue::start(collector).map_err(|error| error.to_string())?;
    let queue = QUEUE.get_or_init(|| queue);
    let here = Sampler::TraceIdRatioBased(settings.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(here)))
        // Without them the environment would say the sampler and the limits.
        .with_span_limits(SpanLimits::default())
        .with_span_processor(queue.clone())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("liangma"))
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false);
    // Spans alone: lines of the log are not events of a span.
    let ours = filter_fn(|what| what.is_span() && what.target().starts_with("liangma"))
        .with_max_level_hint(LevelFilter::DEBUG);
    Ok(layer.with_filter(ours).boxed())
}

/// Checks whether [`start`] can read the CA certificates for the collector.
///
/// # Errors
///
/// They cannot be read.
pub fn check(settings: &Settings) -> Result<(), String> {
    let resource = Resource::builder_empty().build();
    Collector::new(&settings.endpoint, settings.ca.clone(), &resource).map(drop)
}

/// Returns what is said of this process with each batch of spans. Nothing comes from the environment.
fn resource() -> Resource {
    let mut said = vec![
        KeyValue::new("service.name", "liangma"),
        KeyValue::new("service.version", VERSION),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        said.push(KeyValue::new("host.name", name.trim_end().to_owned()));
    }
    Resource::builder_empty().with_attributes(said).build()
}

/// Returns whether traces are switched on.
pub fn is_on() -> bool {
    QUEUE.get().is_some()
}

/// Returns the counts for the metrics. Without traces all are 0.
pub fn facts() -> TraceFacts {
    QUEUE
        .get()
        .map(SpanQueue::counts)
        .unwrap_or_default()
        .facts()
}

/// Waits until the spans that have ended are sent, for a limited time.
pub async fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush().await;
    }
}

/// Makes `span` the span of a request, and starts it: under the caller's trace if `traceparent` is valid, else as a new trace.
pub fn begin(span: &Span, name: String, traceparent: Option<&str>) {
    if !is_on() {
        return;
    }
    let caller = traceparent.and_then(traceparent::parse);
    let parent = caller.map_or_else(Context::new, |caller| {
        Context::new().with_remote_span_context(caller)
    });
    // It fails for a span that has started, which one made a moment ago has not.
    let _ = span.set_parent(parent);
    span.context().span().update_name(name);
}

/// Sets an attribute of a request's span.
pub fn note(span: &Span, key: &'static str, value: impl Into<Value>) {
    if is_on() {
        span.set_attribute(key, value);
    }
}

/// Sets an attribute of the span of the running request, if it has one.
pub fn note_here(key: &'static str, value: impl Into<Value>) {
    if is_on() {
        Span::current().set_attribute(key, value);
    }
}

/// Notes the refusal of the running request.
pub fn note_refusal(refusal: Refusal) {
    note_here(REFUSAL, refusal.code());
}

/// Attribute with the code of a refusal.
pub const REFUSAL: &str = "liangma.refusal";

/// Attribute with the role of the caller.
pub const ROLE: &str = "liangma.role";

/// Notes the status of the answer. A status of the server's faults makes the span one of an error.
pub fn note_status(span: &Span, status: u16) {
    if is_on() {
        span.set_attribute("http.response.status_code", i64::from(status));
        if status >= 500 {
            span.set_status(Status::error(""));
        }
    }
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The body, from the client.
    Body,
    /// The store's answer to a query, with the wait for a permit.
    StoreRead,
    /// A permit to write to the store.
    StorePermit,
    /// The commit of changes: on disk, or by Redis and its replicas, and on the board.
    StoreCommit,
}

/// Returns a span for a wait of the running request; none without a request's span, or without traces.
pub fn waiting(wait: Wait) -> Span {
    if !is_on() || Span::current().is_none() {
        return Span::none();
    }
    match wait {
        Wait::Body => debug_span!("body"),
        Wait::StoreRead => debug_span!("store.read"),
        Wait::StorePermit => debug_span!("store.permit"),
        Wait::StoreCommit => debug_span!("store.commit"),
    }
}
