//! Reads the header `traceparent` of W3C Trace Context: the trace and the span in which a caller makes its request.

use crate::hex;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Length of the fields in bytes. Versions after 00 may add more behind a dash.
const FIELDS_BYTES: usize = 55;

/// Longest header that is read, in bytes.
const BYTES_MAX: usize = 256;

/// Returns the caller's trace and span; None if the header is not valid. `tracestate` is ignored: it may
/// hold any text.
pub fn parse(header: &str) -> Option<SpanContext> {
    if header.len() > BYTES_MAX || header.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let (fields, rest) = header.split_at_checked(FIELDS_BYTES)?;
    let mut fields = fields.split('-');
    let [version] = hex::array(fields.next()?)?;
    let trace = TraceId::from_bytes(hex::array(fields.next()?)?);
    let span = SpanId::from_bytes(hex::array(fields.next()?)?);
    let [flags] = hex::array(fields.next()?)?;
    let is_known = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    if !is_known || fields.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let caller = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    caller.is_valid().then_some(caller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_header_is_read_and_any_other_is_not() {
        let read = parse(GOOD).unwrap();
        assert_eq!(
            read.trace_id().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(read.span_id().to_string(), "00f067aa0ba902b7");
        assert!(read.is_remote() && read.is_sampled());
        // Flags that this version does not know are ignored, and so is what later versions add.
        let later = GOOD.replacen("00-", "01-", 1);
        for (good, is_sampled) in [
            (GOOD.replace("-01", "-00"), false),
            (GOOD.replace("-01", "-fe"), false),
            (GOOD.replace("-01", "-ff"), true),
            (later.clone(), true),
            (format!("{later}-more"), true),
        ] {
            let read = parse(&good).expect(&good);
            assert_eq!(read.is_sampled(), is_sampled, "{good}");
        }
        for bad in [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}0"),
            format!("{GOOD}-"),
            format!(" {GOOD}"),
            format!("{later}more"),
            format!("{later}-{}", "a".repeat(BYTES_MAX)),
            GOOD.to_uppercase(),
            GOOD.replacen("00-", "ff-", 1),
            GOOD.replacen("00-", "+0-", 1),
            GOOD.replace("4bf92f", "4bf92g"),
            GOOD.replace("-01", "_01"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4736-00f0", "47-3600f0"),
            GOOD.replace("4bf9", "码f"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(header in "\\PC{0,80}", at in 0..GOOD.len(), c: char) {
            let _ = parse(&header);
            let mut near = GOOD.to_owned();
            near.replace_range(at..=at, &c.to_string());
            let _ = parse(&near);
        }
    }
}
