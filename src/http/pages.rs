//! Pages and assets, served from memory as `build.rs` packed them: plain, gzip or brotli, each with an entity tag. They hold no
//! personal data, so any cache may keep them.

use super::body::Body;
use super::door::Door;
use super::reply;
use crate::meters::{QueryOutcome, RequestKind};
use crate::service::Service;
use bytes::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY,
};
use hyper::{HeaderMap, Response, StatusCode, Uri};
use std::time::Instant;

/// A page or an asset.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The path without its slash.
    pub name: &'static str,
    media_type: &'static str,
    /// Version of the contents. Assets are requested as `NAME?v=VERSION`.
    version: &'static str,
    /// The contents, uncompressed.
    pub whole: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
    /// Strong entity tags of the plain, gzip and brotli contents.
    tags: [&'static str; 3],
}

/// All pages and assets.
pub static PAGES: &[Page] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Content-Security-Policy of pages: everything comes from this origin, and only our files run.
pub const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
const BY_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");

/// Caching of versioned addresses, whose contents never change.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Caching of pages: revalidated after ten minutes in the background; usable for a week while no node answers.
const FOR_MINUTES: HeaderValue = HeaderValue::from_static(
    "public, max-age=600, stale-while-revalidate=86400, stale-if-error=604800",
);
/// Caching of an asset without a version: short, because the page that needs it may come from a node of another release.
const FOR_A_MINUTE: HeaderValue = HeaderValue::from_static("public, max-age=60");
/// The place of an asset, and the beginning of its path.
const ASSETS: &str = "/pages/";

/// Returns the page at a path. A balancer that maps all doors to one host name sends unknown paths to the desk, so the desk has
/// the gate's page too.
pub fn find(door: Door, path: &str) -> Option<&'static Page> {
    let name = match (door, path) {
        (Door::Resident | Door::Desk, "/") => "resident.html",
        (Door::Gate, "/") | (Door::Gate | Door::Desk, "/gate") => "gate.html",
        (Door::Desk, "/organisation") => "organisation.html",
        (Door::Desk, "/staff") => "staff.html",
        (Door::Resident | Door::Desk, "/sw.js") => "sw.js",
        (Door::Resident | Door::Desk, "/manifest.json") => "manifest.json",
        (Door::Ops, "/") => "status.html",
        // A service worker controls the paths at its own place and below.
        (Door::Gate | Door::Desk, "/gate-worker.js") => "gate-worker.js",
        (_, "/interface") => "interface.html",
        (_, "/openapi.json") => "openapi.json",
        (_, path) => path.strip_prefix(ASSETS).filter(|name| {
            !name.ends_with(".html") && !["sw.js", "manifest.json"].contains(name)
        })?,
    };
    PAGES.iter().find(|page| page.name == name)
}

/// Returns the page, or 304 if the caller has it.
pub fn response(
    service: &Service,
    page: &'static Page,
    version: AskedVersion,
    uri: &Uri,
    headers: &HeaderMap,
    started: Instant,
) -> Response<Body> {
    let visit = service.metrics.enter(RequestKind::Page, started);
    visit.leave(QueryOutcome::Done);
    let (nth, encoding) = encoding(headers);
    let has_it = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|tags| names(tags.as_bytes(), page.tags[nth].as_bytes()));
    let (status, content) = match has_it {
        true => (StatusCode::NOT_MODIFIED, &[][..]),
        false => (StatusCode::OK, [page.whole, page.gzip, page.brotli][nth]),
    };
    let media_type = HeaderValue::from_static(page.media_type);
    let content = Body::whole(Bytes::from_static(content));
    let mut response = reply::typed(status, media_type, content);
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static(page.tags[nth]));
    headers.insert(CACHE_CONTROL, keep(version, uri));
    headers.insert(VARY, BY_ENCODING);
    if has_it {
        headers.remove(CONTENT_TYPE);
        return response;
    }
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, NO_REFERRER);
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(HeaderName::from_static(name), SAME_ORIGIN);
    }
    // Only the gate's page uses the camera.
    let permitted = match page.name {
        "gate.html" => "camera=(self), microphone=(), geolocation=()",
        _ => "camera=(), microphone=(), geolocation=()",
    };
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(permitted),
    );
    response
}

/// Returns the redirect from an address with another version to the one without: what is here is kept nowhere under that version.
/// It costs hardly more than a refusal, so that invented versions spend no page's budget. The page of another release works with the
/// assets that are here, as during a rolling upgrade.
pub fn redirect(service: &Service, uri: &Uri, started: Instant) -> Response<Body> {
    let visit = service.metrics.enter(RequestKind::Page, started);
    visit.leave(QueryOutcome::Done);
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, without_query(uri));
    headers.insert(CACHE_CONTROL, reply::NO_STORE);
    response
}

/// Returns the address without its query, relative to it: a balancer may put a path before ours.
fn without_query(uri: &Uri) -> HeaderValue {
    const FOLDER: HeaderValue = HeaderValue::from_static("./");
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    match last {
        "" => FOLDER,
        last => HeaderValue::from_str(last).unwrap_or(FOLDER),
    }
}

fn keep(version: AskedVersion, uri: &Uri) -> HeaderValue {
    match version {
        AskedVersion::Ours => FOR_EVER,
        _ if uri.path().starts_with(ASSETS) => FOR_A_MINUTE,
        _ => FOR_MINUTES,
    }
}

/// The version in the address of a page or an asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedVersion {
    /// None.
    None,
    /// That of the contents. Only callers that loaded the page of an asset know it.
    Ours,
    /// Another: of another release, or of none.
    Other,
}

/// Returns the requested version. Other parameters are ignored.
pub fn version_asked(page: &Page, uri: &Uri) -> AskedVersion {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    match pairs.find_map(|pair| pair.strip_prefix("v=")) {
        None => AskedVersion::None,
        Some(version) if version == page.version => AskedVersion::Ours,
        Some(_) => AskedVersion::Other,
    }
}

/// Returns the smallest encoding that the caller accepts: its index, and its name.
fn encoding(headers: &HeaderMap) -> (usize, Option<&'static str>) {
    let takes = |wanted: &str| {
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let mut coded = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        coded.any(|coded| {
            let (name, weight) = coded.split_once(';').unwrap_or((coded, "q=1"));
            let weight = weight.trim().strip_prefix("q=").unwrap_or("0");
            // A weight of 0 refuses, however it is written.
            name.trim().eq_ignore_ascii_case(wanted)
                && weight.bytes().any(|b| matches!(b, b'1'..=b'9'))
        })
    };
    if takes("br") {
        (2, Some("br"))
    } else if takes("gzip") {
        (1, Some("gzip"))
    } else {
        (0, None)
    }
}

/// Returns whether an `If-None-Match` value names this tag. A cache may have made it weak.
pub(super) fn names(tags: &[u8], tag: &[u8]) -> bool {
    tags.split(|byte| *byte == b',').any(|one| {
        let one = one.trim_ascii();
        one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        [(ACCEPT_ENCODING, HeaderValue::from_static(value))]
            .into_iter()
            .collect()
    }

    #[test]
    fn takes_the_smallest_form_that_is_accepted() {
        for (accepted, encoding_named) in [
            ("", None),
            ("gzip, deflate, br, zstd", Some("br")),
            ("GZIP;q=0.5", Some("gzip")),
            ("br;q=0, gzip", Some("gzip")),
            ("br;q=0.000,gzip;q=0", None),
            ("deflate, *", None),
            ("brr, xgzip", None),
            ("br;level=3", None),
        ] {
            assert_eq!(
                encoding(&accepting(accepted)).1,
                encoding_named,
                "{accepted:?}"
            );
        }
    }

    #[test]
    fn a_tag_is_found_in_a_list_and_when_weakened() {
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(names(tags.as_bytes(), b"\"a\""), "{tags}");
        }
        for tags in ["", "a", "\"aa\"", "\"a-br\""] {
            assert!(!names(tags.as_bytes(), b"\"a\""), "{tags}");
        }
    }

    #[test]
    fn every_form_of_a_page_holds_the_same() {
        use std::io::Read;
        for page in PAGES {
            let mut gzip = Vec::new();
            flate2::read::GzDecoder::new(page.gzip)
                .read_to_end(&mut gzip)
                .unwrap();
            assert!(gzip == page.whole, "{}", page.name);
            let mut plain = Vec::new();
            brotli::BrotliDecompress(&mut &page.brotli[..], &mut plain).unwrap();
            assert!(plain == page.whole, "{}", page.name);
        }
    }

    #[test]
    fn each_door_has_its_page_and_all_have_the_assets() {
        let name = |door, path| find(door, path).map(|page| page.name);
        assert_eq!(name(Door::Resident, "/"), Some("resident.html"));
        assert_eq!(name(Door::Desk, "/"), Some("resident.html"));
        assert_eq!(name(Door::Gate, "/"), Some("gate.html"));
        assert_eq!(name(Door::Desk, "/gate"), Some("gate.html"));
        assert_eq!(name(Door::Desk, "/organisation"), Some("organisation.html"));
        assert_eq!(name(Door::Desk, "/staff"), Some("staff.html"));
        assert_eq!(name(Door::Gate, "/staff"), None);
        assert_eq!(name(Door::Ops, "/"), Some("status.html"));
        assert_eq!(name(Door::Gate, "/gate-worker.js"), Some("gate-worker.js"));
        assert_eq!(name(Door::Resident, "/gate-worker.js"), None);
        for door in Door::ALL {
            assert_eq!(name(door, "/pages/icon.svg"), Some("icon.svg"));
            for none in [
                "/pages/",
                "/pages/none.js",
                "/pages/gate.html",
                "/pages/../icon.svg",
                "/pages/sw.js",
                "/demo",
                "//",
            ] {
                assert_eq!(name(door, none), None, "{none}");
            }
        }
    }
}
