//! The log of a command, and its filter.

use super::failure::Failure;
use crate::logging::{self, LogFormat, LogQueue, WithPriority};
use crate::traces::TraceLayer;
use std::io;
use std::sync::OnceLock;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::prelude::__tracing_subscriber_SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// The queue of the log, once it is started.
pub(super) static LOG: OnceLock<LogQueue> = OnceLock::new();

/// Starts the log on standard error, so that standard output holds the results only.
pub(super) fn log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    log_beside(None, filter, format)
}

/// Starts the log like [`log`], beside a layer that makes spans.
pub(super) fn log_beside(
    traces: Option<TraceLayer>,
    filter: &str,
    format: LogFormat,
) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::Settings(vec![format!("log = {filter:?}: {error}")]))?;
    let lines = LOG.get_or_init(|| LogQueue::start(io::stderr()).expect("a thread can be started"));
    let beside = tracing_subscriber::registry().with(traces);
    let (filter, handle) = reload::Layer::new(filter);
    let _ = SET_LOG_FILTER.set(Box::new(move |filter| handle.reload(filter).is_ok()));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(lines.clone())
        .log_internal_errors(false);
    let is_on = logging::goes_to_journal();
    match format {
        LogFormat::Text => {
            let format = tracing_subscriber::fmt::format();
            let layer = layer
                .with_ansi(!is_on && std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .event_format(WithPriority { format, is_on });
            let _ = beside.with(layer.with_filter(filter)).try_init();
        }
        LogFormat::Json => {
            let format = tracing_subscriber::fmt::format()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false);
            let layer = layer
                .fmt_fields(JsonFields::new())
                .event_format(WithPriority { format, is_on });
            let _ = beside.with(layer.with_filter(filter)).try_init();
        }
    }
    Ok(())
}

/// Replaces the filter of the log. Returns whether it succeeded.
type SetLogFilter = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// Set once the log is started.
static SET_LOG_FILTER: OnceLock<SetLogFilter> = OnceLock::new();

/// Changes the filter of the log. Returns false if that fails.
pub(super) fn set_log_filter(filter: &str) -> bool {
    let set = EnvFilter::try_new(filter).ok().zip(SET_LOG_FILTER.get());
    set.is_some_and(|(filter, set)| set(filter))
}
