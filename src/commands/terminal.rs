//! Lines and progress of commands: results on standard output, notes on standard error, progress on a terminal.

use super::output::Output;
use std::io::{self, Write};

/// Prints a line to standard error. If that fails, the line is dropped.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "liangma: {line}");
}

/// Prints a line to standard output.
pub(super) fn say(line: &str) -> io::Result<()> {
    let mut out = Output::lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Shows progress on a terminal, and nothing elsewhere. `total` is the expected number, if known.
pub(super) fn progress(
    total: Option<u64>,
    what: &'static str,
    bytes: bool,
) -> indicatif::ProgressBar {
    use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressState, ProgressStyle};
    let (bar, count) = match (total, bytes) {
        (Some(total), true) => (ProgressBar::new(total), "{bytes}/{total_bytes}"),
        (Some(total), false) => (ProgressBar::new(total), "{human_pos}/{human_len}"),
        (None, _) => (ProgressBar::new_spinner(), "{human_pos}"),
    };
    // A rate names its unit, and has few digits.
    let rate = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let rate = state.per_sec().round().max(0.0) as u64;
        // A bar that cannot be written is ignored.
        let _ = match bytes {
            true => write!(out, "{}/s", HumanBytes(rate)),
            false => write!(out, "{}/s", HumanCount(rate)),
        };
    };
    let left = if total.is_some() { "ETA {eta}" } else { "" };
    let template = format!("{{prefix}} {{wide_bar}} {count} {{rate}} {{elapsed}} {left} {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.with_key("rate", rate));
    }
    bar.set_prefix(what);
    bar
}
