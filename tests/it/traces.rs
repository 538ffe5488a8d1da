//! Traces: spans of feeds and of the desk at a collector, none of shows and scans, and a node that no collector can hold up.

use crate::exchange::server_config;
use crate::harness::*;
use crate::tls::{Authority, Pair};
use liangma::http::door::Door;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Said;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message;
use rustls::{ServerConnection, StreamOwned};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// What a collector does with an export.
#[derive(Clone, Debug, PartialEq)]
enum Mood {
    /// Answers with this status and body.
    Answers(u16, Vec<u8>),
    /// Leads elsewhere.
    Redirects(String),
    /// Takes the request and says nothing.
    Hangs,
    /// Answers without an end.
    Pours,
}

/// Takes all that it is sent.
const TAKES: Mood = Mood::Answers(200, Vec::new());

/// The head and the body of an export.
type Export = (String, Vec<u8>);

/// A collector in this process.
struct Collector {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    heard: Arc<Mutex<Vec<Export>>>,
}

impl Collector {
    fn start(mood: Mood) -> Collector {
        Collector::start_over(mood, None)
    }

    fn start_over(mood: Mood, pair: Option<&Pair>) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let tls = pair.map(server_config);
        let collector = Collector {
            address: listener.local_addr().expect("bound"),
            mood: Arc::new(Mutex::new(mood)),
            heard: Arc::default(),
        };
        let (mood, heard) = (collector.mood.clone(), collector.heard.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let (mood, heard, tls) = (mood.clone(), heard.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => hear(stream, &mood, &heard),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).expect("a configuration");
                        hear(StreamOwned::new(connection, stream), &mood, &heard);
                    }
                });
            }
        });
        collector
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn setting(&self) -> String {
        format!("otlp_endpoint=http://{}/v1/traces", self.address)
    }

    /// All that was sent, as it came.
    fn bytes(&self) -> Vec<u8> {
        let heard = self.heard.lock().unwrap();
        let all = heard
            .iter()
            .flat_map(|(head, body)| [head.as_bytes(), body]);
        all.collect::<Vec<_>>().concat()
    }

    fn resources(&self) -> Vec<ResourceSpans> {
        let heard = self.heard.lock().unwrap();
        let exports = heard.iter().map(|(_, body)| {
            ExportTraceServiceRequest::decode(&body[..]).expect("an export in Protobuf")
        });
        exports.flat_map(|export| export.resource_spans).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let scopes = (self.resources().into_iter()).flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

/// Reads one export, and does as the mood is.
fn hear(stream: impl Read + Write, mood: &Mutex<Mood>, heard: &Mutex<Vec<Export>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = (lower.lines()).find_map(|line| line.strip_prefix("content-length: "));
    let length = length.expect("a length").parse().expect("a number");
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    heard.lock().unwrap().push((head, body));
    let mood = mood.lock().unwrap().clone();
    let answer = match &mood {
        Mood::Hangs => {
            // Until the node gives up.
            let _ = stream.read(&mut [0]);
            return;
        }
        Mood::Pours => {
            let stream = stream.get_mut();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 4_096]).is_ok() {}
            return;
        }
        Mood::Answers(status, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} So\r\ncontent-length: {length}\r\n\r\n");
            [head.as_bytes(), body].concat()
        }
        Mood::Redirects(to) => {
            format!("HTTP/1.1 307 So\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
        }
    };
    let _ = stream.get_mut().write_all(&answer);
    let _ = stream.get_mut().flush();
}

/// The value of an attribute.
fn said(all: &[KeyValue], key: &str) -> Option<Said> {
    let found = all.iter().find(|one| one.key == key)?;
    match &found.value {
        Some(AnyValue { value }) => value.clone(),
        None => None,
    }
}

fn word(text: &str) -> Option<Said> {
    Some(Said::StringValue(text.to_owned()))
}

fn number(number: i64) -> Option<Said> {
    Some(Said::IntValue(number))
}

/// Tests ask until something is seen.
const OFTEN: &str = "desk_requests_per_second=10000";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    liangma::hex::text(bytes)
}

fn declaration() -> serde_json::Value {
    json!({
        "celsius": 36.4, "symptoms": ["cold_like"], "contact": "no",
        "high_risk_area": false, "places": ["440300"], "residence": "440106",
    })
}

#[test]
fn feeds_and_the_desk_are_spans_under_their_callers_trace_and_shows_and_scans_are_none() {
    let collector = Collector::start(TAKES);
    // Settings come from the settings alone.
    let node = NodeBuilder::new(&[&collector.setting()])
        .with_environment(&[
            ("OTEL_SERVICE_NAME", "whisper"),
            ("OTEL_RESOURCE_ATTRIBUTES", "whisper=whisper"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "whisper=whisper"),
        ])
        .node();
    let (seals, chen) = (node.seals(), person(1));
    let (session, authority, scanner) = (seals.session(&chen), seals.authority(), seals.scanner());
    let operator = seals.operator();
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let lines = [chen.resident(), chen.set("confirmed", 5), "rubbish".into()];
    let fed = Ask::post("/v1/feed", lines.join("\n"))
        .bearer(&authority)
        .header("traceparent", &parent)
        .header("tracestate", "vendor=whisper")
        .header("x-request-id", "feed-1")
        .at(node.address(Door::Ops));
    assert_eq!(fed.status, 200);
    let code = node.code(&session);
    assert_eq!(node.scan(&scanner, &code).status, 200);
    let declared = Ask::post("/v1/declarations", declaration().to_string())
        .json()
        .bearer(&session)
        .header("traceparent", &parent)
        .at(node.address(Door::Desk));
    assert_eq!(declared.status, 201, "{}", text(&declared.body));
    let declared = declared.json();
    let paper = declared["id"].as_str().expect("an id");
    // A trace that is none, or occurs twice, is ignored.
    let desk = |ask: Ask| ask.bearer(&session).at(node.address(Door::Desk)).status;
    let torn = format!("00-{TRACE}-{PARENT}");
    assert_eq!(
        desk(Ask::get("/v1/health").header("traceparent", &torn)),
        200
    );
    let twice = Ask::get("/v1/health").header("traceparent", &parent);
    assert_eq!(desk(twice.header("traceparent", &parent)), 200);
    // An id in a path, a method that is none, parameters, a refusal, and callers without a session.
    assert_eq!(desk(Ask::new("DELETE", "/v1/family/whisper-id")), 404);
    assert_eq!(desk(Ask::new("WHISPER", "/v1/health?kind=whisper")), 405);
    assert_eq!(node.desk("GET", "/v1/health", "whisper", None).status, 401);
    assert_eq!(node.explain(&session).status, 200);
    let settings = Ask::get("/v1/settings").bearer(&operator);
    assert_eq!(settings.at(node.address(Door::Ops)).status, 200);
    // A caller that does not record its trace decides for its request.
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    assert_eq!(
        desk(Ask::get("/v1/trip").header("traceparent", &unsampled)),
        200
    );
    // Neither pages nor what is asked every few seconds.
    assert_eq!(node.get(Door::Desk, "/").status, 200);
    assert_eq!(node.get(Door::Ops, "/ready").status, 200);
    node.signal(libc::SIGTERM);
    assert_eq!(node.end().code(), Some(0));

    let spans = collector.spans();
    let mut requests: Vec<&Span> = (spans.iter())
        .filter(|span| span.kind == SpanKind::Server as i32)
        .collect();
    requests.sort_by_key(|span| span.start_time_unix_nano);
    let told: Vec<_> = requests
        .iter()
        .map(|span| {
            let of = |key: &str| match said(&span.attributes, key) {
                Some(Said::StringValue(text)) => text,
                _ => String::new(),
            };
            let status = said(&span.attributes, "http.response.status_code");
            let Some(Said::IntValue(status)) = status else {
                panic!("no status: {span:?}");
            };
            let name = span.name.clone();
            assert_eq!(
                name,
                format!("{} {}", of("http.request.method"), of("http.route"))
            );
            assert!(!of("request_id").is_empty(), "{span:?}");
            let is_under = hex(&span.trace_id) == TRACE;
            assert_eq!(is_under, hex(&span.parent_span_id) == PARENT);
            assert_eq!(is_under, !span.parent_span_id.is_empty());
            let refusal = of("liangma.refusal");
            (
                name,
                of("liangma.door"),
                of("liangma.role"),
                refusal,
                status,
                is_under,
            )
        })
        .collect();
    let row = |name: &str, door: &str, role: &str, refusal: &str, status: i64, under: bool| {
        let [name, door, role, refusal] = [name, door, role, refusal].map(str::to_owned);
        (name, door, role, refusal, status, under)
    };
    let own = "resident";
    let expected = [
        row("POST /v1/feed", "ops", "authority", "", 200, true),
        row("POST /v1/declarations", "desk", own, "", 201, true),
        row("GET /v1/health", "desk", own, "", 200, false),
        row("GET /v1/health", "desk", own, "", 200, false),
        row(
            "DELETE /v1/family/{id}",
            "desk",
            own,
            "not_found",
            404,
            false,
        ),
        row("_OTHER /v1/health", "desk", "", "", 405, false),
        row("GET /v1/health", "desk", "", "unauthorized", 401, false),
        row("GET /v1/status", "desk", own, "", 200, false),
        row("GET /v1/settings", "ops", "operator", "", 200, false),
    ];
    assert_eq!(told, expected);

    let feed = &requests[0].attributes;
    assert_eq!(said(feed, "request_id"), word("feed-1"));
    for (key, count) in [
        ("lines", 3),
        ("applied", 2),
        ("unchanged", 0),
        ("rejected", 1),
    ] {
        assert_eq!(
            said(feed, &format!("liangma.feed.{key}")),
            number(count),
            "{key}"
        );
    }
    // What a request waited for is beneath it.
    let waits = |of: &Span| {
        let beneath = spans
            .iter()
            .filter(|span| span.parent_span_id == of.span_id);
        let mut names: Vec<&str> = beneath
            .inspect(|span| assert_eq!(span.trace_id, of.trace_id))
            .map(|span| span.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    assert_eq!(waits(requests[0]), ["store.commit", "store.permit"]);
    let declared = waits(requests[1]);
    for wait in ["body", "store.commit"] {
        assert!(declared.contains(&wait), "{declared:?}");
    }
    assert_eq!(waits(requests[2]), ["store.read"]);
    let is_of_a_request = |span: &&Span| {
        let mut above = requests.iter().map(|request| &request.span_id);
        span.kind == SpanKind::Server as i32 || above.any(|id| *id == span.parent_span_id)
    };
    assert_eq!(spans.iter().filter(is_of_a_request).count(), spans.len());

    let resource = collector
        .resources()
        .remove(0)
        .resource
        .expect("a resource");
    assert_eq!(said(&resource.attributes, "service.name"), word("liangma"));
    let version = word(liangma::version::VERSION);
    assert_eq!(said(&resource.attributes, "service.version"), version);

    // Nothing of persons, credentials or what callers write, in whatever field.
    let bytes = collector.bytes();
    for secret in [
        &*chen.cert_no,
        chen.name,
        &chen.mask(),
        &session,
        &authority,
        &scanner,
        &operator,
        &code,
        paper,
        "whisper",
        "WHISPER",
        "vendor",
        "east-gate",
        "gd-cdc",
        "ops-1",
        "confirmed",
        "cold_like",
        "440300",
        "36.4",
    ] {
        let found = memchr::memmem::find(&bytes, secret.as_bytes());
        assert_eq!(found, None, "{secret}");
    }
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_collector_is_asked_over_tls_and_known_by_its_authority() {
    let authority = Authority::make();
    let pair = authority.signs("collector");
    let collector = Collector::start_over(TAKES, Some(&pair));
    let endpoint = format!("otlp_endpoint=https://{}/v1/traces", collector.address);
    let ca = |authority: &Authority| format!("otlp_ca_file={}", authority.own.cert.display());
    let node = NodeBuilder::new(&[&endpoint, &ca(&authority)]).node();
    let session = node.seals().session(&person(1));
    assert_eq!(node.explain(&session).status, 200);
    until("the collector has the span", || {
        collector
            .spans()
            .iter()
            .any(|span| span.name == "GET /v1/status")
    });
    // Under another authority it is nobody.
    let other = Authority::make();
    let node = NodeBuilder::new(&[&endpoint, &ca(&other), OFTEN]).node();
    let session = node.seals().session(&person(1));
    until("the collector is refused", || {
        assert_eq!(node.explain(&session).status, 200);
        node.meter(r#"liangma_span_exports_total{outcome="unreachable"}"#) > 0.0
    });
    assert_eq!(
        node.meter(r#"liangma_span_exports_total{outcome="done"}"#),
        0.0
    );
}

#[test]
fn a_bad_collector_costs_spans_and_nothing_else() {
    let elsewhere = Collector::start(TAKES);
    let to = format!("http://{}/v1/traces", elsewhere.address);
    let long = Mood::Answers(200, vec![b'x'; 100 << 10]);
    for (mood, outcome) in [
        (Mood::Answers(500, Vec::new()), "refused"),
        (Mood::Answers(413, b"too large".to_vec()), "refused"),
        (Mood::Redirects(to), "refused"),
        (
            Mood::Answers(200, b"<html>welcome</html>".to_vec()),
            "invalid",
        ),
        (long, "invalid"),
        (Mood::Pours, "invalid"),
        (Mood::Hangs, "late"),
    ] {
        let collector = Collector::start(mood.clone());
        let node = NodeBuilder::new(&[&collector.setting(), OFTEN]).node();
        let (seals, chen) = (node.seals(), person(1));
        let (session, authority) = (seals.session(&chen), seals.authority());
        node.feed(&authority, &[chen.resident()]);
        let exports = format!("liangma_span_exports_total{{outcome={outcome:?}}}");
        until("two exports have failed", || {
            assert_eq!(node.explain(&session).status, 200, "{mood:?}");
            assert_eq!(node.show(&session).status, 200, "{mood:?}");
            node.meter(&exports) >= 2.0
        });
        assert!(node.meter(r#"liangma_spans_total{outcome="export_failed"}"#) >= 3.0);
        assert_eq!(node.meter(r#"liangma_spans_total{outcome="sent"}"#), 0.0);
        let lines = |words: &str| node.log().matches(words).count();
        assert_eq!(lines("spans cannot be sent"), 1, "{mood:?}: {}", node.log());
        collector.set(TAKES);
        until("the collector takes spans again", || {
            assert_eq!(node.explain(&session).status, 200, "{mood:?}");
            lines("the collector takes spans again") == 1
        });
        assert!(node.meter(r#"liangma_spans_total{outcome="sent"}"#) >= 1.0);
        assert_eq!(lines("spans cannot be sent"), 1, "{mood:?}: {}", node.log());
        collector.set(mood);
        assert_eq!(node.explain(&session).status, 200);
        node.signal(libc::SIGTERM);
        assert_eq!(node.end().code(), Some(0));
    }
    assert_eq!(elsewhere.bytes(), b"", "redirects are not followed");
}

#[test]
fn a_collector_that_is_away_is_counted_and_what_it_refuses_of_a_batch_too() {
    let collector = Collector::start(TAKES);
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let away = free.local_addr().expect("bound");
    drop(free);
    let endpoint = format!("otlp_endpoint=http://{away}/v1/traces");
    let node = NodeBuilder::new(&[&endpoint]).node();
    let session = node.seals().session(&person(1));
    assert_eq!(node.explain(&session).status, 200);
    until("the export has failed", || {
        node.meter(r#"liangma_span_exports_total{outcome="unreachable"}"#) > 0.0
    });
    node.signal(libc::SIGTERM);
    assert_eq!(node.end().code(), Some(0));

    let partial = |rejected_spans| {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "whisper".to_owned(),
        });
        let answer = ExportTraceServiceResponse { partial_success };
        Mood::Answers(200, answer.encode_to_vec())
    };
    let node = NodeBuilder::new(&[&collector.setting()]).node();
    let session = node.seals().session(&person(1));
    let refused = r#"liangma_spans_total{outcome="refused"}"#;
    // A count below none, or beyond the batch, is none, or the batch.
    for (rejected, counts) in [(-7, false), (1, true), (i64::MAX, true)] {
        collector.set(partial(rejected));
        let before = node.meter(refused);
        let exports = r#"liangma_span_exports_total{outcome="done"}"#;
        let done = node.meter(exports);
        assert_eq!(node.explain(&session).status, 200);
        until("the batch is sent", || node.meter(exports) > done);
        let more = node.meter(refused) - before;
        assert_eq!(more > 0.0, counts, "{rejected}: {more}");
        assert!(more <= 8.0, "{rejected}: {more}");
    }
    assert!(!node.log().contains("whisper"));
}

#[test]
fn a_full_queue_drops_spans_and_a_hung_collector_holds_up_no_drain() {
    let collector = Collector::start(Mood::Hangs);
    let node = NodeBuilder::new(&[&collector.setting(), "drain_timeout=5m"]).node();
    let ask = Ask::get("/v1/health").bearer("nobody").bytes();
    let mut desk = Connection::to(node.address(Door::Desk));
    until("spans are dropped", || {
        for _ in 0..64 {
            desk.send(&ask);
        }
        for _ in 0..64 {
            desk.answer().refuses(401, "unauthorized");
        }
        node.meter(r#"liangma_spans_total{outcome="queue_full"}"#) > 0.0
    });
    let session = node.seals().session(&person(1));
    assert_eq!(node.show(&session).status, 200);
    node.signal(libc::SIGTERM);
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_share_of_traces_is_sent_and_a_callers_trace_decides_for_its_request() {
    let collector = Collector::start(TAKES);
    let node = NodeBuilder::new(&[&collector.setting(), "otlp_sample_ratio=0"]).node();
    let session = node.seals().session(&person(1));
    let explain = |flags: &str| {
        let ask = Ask::get("/v1/status").bearer(&session);
        let ask = ask.header("traceparent", &format!("00-{TRACE}-{PARENT}-{flags}"));
        assert_eq!(ask.at(node.address(Door::Desk)).status, 200);
    };
    assert_eq!(node.explain(&session).status, 200);
    explain("00");
    explain("01");
    node.signal(libc::SIGTERM);
    assert_eq!(node.end().code(), Some(0));
    let spans = collector.spans();
    let requests = spans.iter().filter(|span| span.name == "GET /v1/status");
    assert_eq!(requests.count(), 1);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
}

#[test]
fn settings_of_traces_are_refused_by_name_and_none_means_none() {
    let folder = folder();
    let not_pem = folder.path().join("ca.pem");
    std::fs::write(&not_pem, "hush").unwrap();
    let not_pem = format!("otlp_ca_file={}", not_pem.display());
    let good = "otlp_endpoint=https://collector:4318/v1/traces";
    for (settings, named) in [
        (
            &["otlp_endpoint=htpp://a/v1/traces"][..],
            &["otlp_endpoint", "is it http?"][..],
        ),
        (
            &["otlp_endpoint=http://u:hush@a/v1/traces"],
            &["otlp_endpoint", "password"],
        ),
        (&["otlp_endpoint=collector:4317"], &["otlp_endpoint"]),
        (
            &[good, "otlp_sample_ratio=2"],
            &["otlp_sample_ratio", "0 to 1"],
        ),
        (&[good, &not_pem], &["otlp_ca_file", "ca.pem"]),
        (&[&not_pem], &["otlp_ca_file", "https://"]),
    ] {
        for check in [true, false] {
            let mut command = command();
            command.arg("serve").current_dir(folder.path());
            if check {
                command.arg("--check");
            }
            for pair in settings {
                command.args(["--set", pair]);
            }
            let output = command.output().unwrap();
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{settings:?}: {told}");
            assert_eq!(told.lines().count(), 1, "{settings:?}: {told}");
            assert!(named.iter().all(|word| told.contains(word)), "{told}");
            assert!(!told.contains("hush"), "{told}");
        }
    }
    let node = NodeBuilder::new(&["otlp_endpoint=none"]).node();
    assert_eq!(node.explain(&node.seals().session(&person(1))).status, 200);
    let metrics = text(&node.get(Door::Ops, "/metrics").body);
    let counts: Vec<&str> = (metrics.lines())
        .filter(|line| line.starts_with("liangma_span"))
        .collect();
    assert_eq!(counts.len(), 9, "{counts:?}");
    assert!(counts.iter().all(|line| line.ends_with(" 0")), "{counts:?}");
}
