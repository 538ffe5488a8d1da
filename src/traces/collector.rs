//! The collector: its address, and one export to it, as OTLP over HTTP with Protobuf.

use crate::exchange::link::{self, LinkAddress, LinkFault};
use crate::spelling;
use crate::tls::ClientFiles;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use std::path::PathBuf;

/// Longest address of a collector in bytes.
const ENDPOINT_BYTES_MAX: usize = 512;

/// Longest answer of a collector in bytes. It says how many spans were refused, and why.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The address at which a collector takes spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl Endpoint {
    /// Parses `http://HOST:PORT/PATH` or `https://…`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text. The text is not repeated, because it may hold a password.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        const FORM: &str = "an address such as http://127.0.0.1:4318/v1/traces";
        let Some((scheme, rest)) = text.split_once("://") else {
            let near = text.split(':').next().and_then(near_scheme);
            return Err(match near {
                Some(scheme) => format!("is an incomplete address: {scheme}://HOST:PORT/v1/traces"),
                None => format!("is not {FORM}"),
            });
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(match near_scheme(&scheme) {
                Some(near) => format!("has a scheme that is neither http nor https; is it {near}?"),
                None => "has a scheme that is neither http nor https: OTLP goes over HTTP here"
                    .to_owned(),
            });
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("holds a name or a password: none is sent to a collector".to_owned());
        }
        if path.contains(['?', '#']) {
            return Err(format!("has more than a path; it is {FORM}"));
        }
        if path.trim_matches('/').is_empty() {
            return Err("has no path; collectors take spans at /v1/traces".to_owned());
        }
        let uri = format!("{scheme}://{rest}").parse::<Uri>();
        let is_good = |uri: &Uri| {
            let host = uri.host().is_some_and(|host| !host.is_empty());
            let ends = authority.rsplit_once(':');
            // An address of IPv6 has colons in its brackets.
            let has_port = ends.is_some_and(|(_, port)| !port.ends_with(']'));
            let port = uri.port_u16();
            host && has_port == port.is_some() && port != Some(0)
        };
        match uri {
            Ok(uri) if text.len() <= ENDPOINT_BYTES_MAX && is_good(&uri) => Ok(Endpoint(uri)),
            _ => Err(format!("is not {FORM}, of at most 512 bytes")),
        }
    }

    /// Returns whether the collector is asked over TLS.
    pub fn has_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

/// Returns the scheme that was meant, if one is similar.
fn near_scheme(scheme: &str) -> Option<&'static str> {
    spelling::nearest(["http", "https"], &scheme.to_ascii_lowercase(), 2)
}

/// Why an export failed. Holds nothing of the spans or of the collector's answer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ExportFault {
    #[error("the collector cannot be reached: {0}")]
    Unreachable(#[source] LinkFault),
    #[error("the collector did not answer in time")]
    Late,
    #[error("the collector answered {0}")]
    Refused(StatusCode),
    #[error("the collector's answer is not one of OTLP: {0}")]
    Invalid(String),
}

impl ExportFault {
    /// The words for faults in metrics, in the order of [`ExportFault::nth`].
    pub const KINDS: [&str; 4] = ["unreachable", "late", "refused", "invalid"];

    /// Returns the index of the fault's kind.
    pub fn nth(&self) -> usize {
        match self {
            ExportFault::Unreachable(_) => 0,
            ExportFault::Late => 1,
            ExportFault::Refused(_) => 2,
            ExportFault::Invalid(_) => 3,
        }
    }
}

/// A collector.
pub struct Collector {
    address: LinkAddress,
    path: String,
    resource: ResourceAttributesWithSchema,
}

impl Collector {
    /// Returns the collector at an address. `resource` is said of this process with each export.
    ///
    /// # Errors
    ///
    /// The authorities cannot be read.
    pub fn new(
        endpoint: &Endpoint,
        ca: Option<PathBuf>,
        resource: &Resource,
    ) -> Result<Collector, String> {
        let files = ClientFiles { ca, cert: None };
        let tls = || files.load().map_err(|error| error.to_string());
        let address = LinkAddress::read(&endpoint.0, tls).map_err(|error| error.to_string())?;
        Ok(Collector {
            address,
            path: endpoint.0.path().to_owned(),
            resource: resource.into(),
        })
    }

    /// Sends spans over a new connection. Returns how many of them the collector refused.
    ///
    /// # Errors
    ///
    /// The collector has none of them, or says nothing about them.
    pub async fn send(&self, spans: Vec<SpanData>) -> Result<u64, ExportFault> {
        let spans = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(spans, &self.resource),
        };
        let request = Request::post(&self.path)
            .header(HOST, &self.address.authority)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("liangma/", env!("CARGO_PKG_VERSION")))
            .body(Full::from(spans.encode_to_vec()))
            .map_err(|error| ExportFault::Invalid(error.to_string()))?;
        let mut connection = (self.address.connect().await).map_err(ExportFault::Unreachable)?;
        let answered = link::exchange(&mut connection, request, ANSWER_BYTES_MAX).await;
        // Redirects are not followed: spans go where the setting says.
        let (status, answer) = answered.map_err(|fault| ExportFault::Invalid(fault.to_string()))?;
        if !status.is_success() {
            return Err(ExportFault::Refused(status));
        }
        let answer = ExportTraceServiceResponse::decode(answer)
            .map_err(|error| ExportFault::Invalid(error.to_string()))?;
        let partial = answer.partial_success.unwrap_or_default();
        Ok(u64::try_from(partial.rejected_spans).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_and_a_near_miss_is_named() {
        for good in [
            "http://127.0.0.1:4318/v1/traces",
            "HTTPS://collector.example/v1/traces",
            "http://[::1]:4318/v1/traces",
            "http://[::1]/otlp/v1/traces",
        ] {
            let endpoint = Endpoint::parse(good).expect(good);
            assert_eq!(endpoint.has_tls(), good.starts_with("HTTPS"), "{good}");
        }
        let long = format!("http://a/{}", "b".repeat(ENDPOINT_BYTES_MAX));
        for (bad, named) in [
            ("htpp://a:4318/v1/traces", "is it http?"),
            ("htps://a:4318/v1/traces", "is it https?"),
            ("grpc://a:4317", "OTLP goes over HTTP"),
            ("://a/v1/traces", "neither http nor https"),
            ("http:/a:4318/v1/traces", "incomplete address: http://"),
            ("https:a/v1/traces", "incomplete address: https://"),
            ("127.0.0.1:4318", "is not an address such as"),
            ("collector", "is not an address such as"),
            ("http://u:hush@a:4318/v1/traces", "password"),
            ("http://a:4318/v1/traces?key=hush", "more than a path"),
            ("http://a:4318/v1/traces#hush", "more than a path"),
            ("http://a?b/v1/traces", "more than a path"),
            ("http://a:4318", "/v1/traces"),
            ("http://a:4318/", "/v1/traces"),
            ("http:///v1/traces", "is not an address such as"),
            ("http://a:/v1/traces", "is not an address such as"),
            ("http://a:0/v1/traces", "is not an address such as"),
            ("http://a:70000/v1/traces", "is not an address such as"),
            ("http://a b/v1/traces", "is not an address such as"),
            ("http://采集/v1/traces", "is not an address such as"),
            (&long, "at most 512 bytes"),
        ] {
            let why = Endpoint::parse(bad).expect_err(bad);
            assert!(why.contains(named) && !why.contains("hush"), "{bad}: {why}");
        }
    }
}
