//! The desk in HTTP: matches paths and methods of the table of acts (`desk/roles`), and parses query parameters.
//! It also parses the idempotency key. None of it is on the hot path.

use super::door::Door;
use crate::desk::Params;
use crate::desk::roles::{ACT_ROUTES, Act, TableDoor};
use crate::refusal::Refusal;
use hyper::HeaderMap;
use std::sync::LazyLock;

/// Largest body in bytes, except for an organisation's declarations.
pub const BODY_BYTES_MAX: usize = 16 << 10;

/// Largest body of an organisation's declarations in bytes: about ten thousand lines.
pub const BULK_BYTES_MAX: usize = 4 << 20;

/// Longest idempotency key in characters.
const IDEMPOTENCY_CHARS_MAX: usize = 64;

/// Methods of a path and their acts.
pub struct RouteEntry<'p> {
    /// Methods with their acts, GET first. Never empty.
    pub methods: &'static [(&'static str, Act)],
    /// Value of `Allow`: the methods that some credentials permit. Empty for records, which never change.
    pub allow: &'static str,
    /// The id in the path.
    pub id: Option<&'p str>,
    /// The path as in the table, with a placeholder for the id.
    pub path: &'static str,
}

/// One path of the table of acts.
struct DeskPath {
    door: TableDoor,
    /// The path as in the table.
    path: &'static str,
    methods: Vec<(&'static str, Act)>,
    allow: String,
}

/// Paths of the table of acts. Paths without an id come first.
static DESK_PATHS: LazyLock<Vec<DeskPath>> = LazyLock::new(|| {
    /// Methods in the order of `Allow`.
    const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let mut paths: Vec<DeskPath> = Vec::new();
    for route in ACT_ROUTES {
        let known = |known: &&mut DeskPath| (known.door, known.path) == (route.door, route.path);
        match paths.iter_mut().find(known) {
            Some(known) => known.methods.push((route.method, route.act)),
            None => paths.push(DeskPath {
                door: route.door,
                path: route.path,
                methods: vec![(route.method, route.act)],
                allow: String::new(),
            }),
        }
    }
    for path in &mut paths {
        let nth = |method: &str| METHODS.iter().position(|known| *known == method);
        path.methods.sort_by_key(|(method, _)| nth(method));
        let permitted = path
            .methods
            .iter()
            .filter(|(_, act)| *act != Act::ChangeRecord);
        let told = permitted.map(|(method, _)| match *method {
            "GET" => "GET, HEAD",
            method => method,
        });
        path.allow = told.collect::<Vec<_>>().join(", ");
    }
    paths.sort_by_key(|path| path.path.contains(ID));
    paths
});

/// Placeholder of an id in the paths of the table.
const ID: &str = "{id}";

impl DeskPath {
    /// Returns whether `path` matches: `Some` with the id in it, if any; None if it does not match.
    fn matches<'p>(&self, path: &'p str) -> Option<Option<&'p str>> {
        let (mut known, mut parts) = (self.path.split('/'), path.split('/'));
        let mut id = None;
        loop {
            match (known.next(), parts.next()) {
                (None, None) => return Some(id),
                (Some(ID), Some(part)) if !part.is_empty() => id = Some(part),
                (Some(known), Some(part)) if known == part && known != ID => {}
                _ => return None,
            }
        }
    }
}

impl RouteEntry<'_> {
    /// Returns the route at a path of a door; None if the table has none.
    pub fn find(door: Door, path: &str) -> Option<RouteEntry<'_>> {
        let door = match door {
            Door::Desk => TableDoor::Desk,
            Door::Ops => TableDoor::Ops,
            Door::Resident | Door::Gate | Door::Exchange => return None,
        };
        let mut paths = DESK_PATHS.iter().filter(|known| known.door == door);
        paths.find_map(|known| {
            Some(RouteEntry {
                id: known.matches(path)?,
                path: known.path,
                methods: &known.methods,
                allow: &known.allow,
            })
        })
    }
}

/// Parses the query parameters. Unknown ones are ignored.
pub fn params(query: Option<&str>) -> Params<'_> {
    let mut params = Params::default();
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match name {
            "after" => &mut params.after,
            "limit" => &mut params.limit,
            "kind" => &mut params.kind,
            "destination" => &mut params.destination,
            "day" => &mut params.day,
            "purpose" => &mut params.purpose,
            _ => continue,
        };
        *place = Some(value);
    }
    params
}

/// Returns the idempotency key; None without the header.
///
/// # Errors
///
/// `Malformed` if the header occurs twice, or its value is empty, too long or not visible ASCII.
pub fn idempotency(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Malformed);
    }
    let value = value.to_str().map_err(|_| Refusal::Malformed)?;
    match (1..=IDEMPOTENCY_CHARS_MAX).contains(&value.len()) {
        true => Ok(Some(value)),
        false => Err(Refusal::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_has_its_methods_and_names_its_paper() {
        let place = RouteEntry::find(Door::Desk, "/v1/family/ABC/session").unwrap();
        assert_eq!((place.id, place.allow), (Some("ABC"), "POST"));
        for (path, id, allow) in [
            ("/v1/health", None, "GET, HEAD"),
            ("/v1/health/A", Some("A"), ""),
            ("/v1/declarations", None, "GET, HEAD, POST"),
            ("/v1/declarations/bulk", None, "POST"),
            ("/v1/declarations/bulky", Some("bulky"), ""),
            ("/v1/family/A", Some("A"), "DELETE"),
            ("/v1/registrations/find", None, "POST"),
        ] {
            let entry = RouteEntry::find(Door::Desk, path).unwrap();
            assert_eq!((entry.id, entry.allow), (id, allow), "{path}");
        }
        let entry = RouteEntry::find(Door::Desk, "/v1/entries").unwrap();
        let methods: Vec<_> = entry.methods.iter().map(|(method, _)| *method).collect();
        assert_eq!(methods, ["GET", "POST", "PUT", "PATCH", "DELETE"]);
        for (door, path) in [
            (Door::Desk, "/v1/family/"),
            (Door::Desk, "/v1/family/A/session/x"),
            (Door::Desk, "/v1/family/A/other"),
            (Door::Gate, "/v1/health"),
            (Door::Desk, "/v1/revocations"),
            (Door::Ops, "/v1/health"),
            (Door::Desk, "/v1"),
        ] {
            assert!(RouteEntry::find(door, path).is_none(), "{path}");
        }
    }

    #[test]
    fn reads_what_it_knows_behind_the_question_mark() {
        let read = params(Some("limit=3&x=1&after=&kind"));
        assert_eq!(
            (read.limit, read.after, read.kind),
            (Some("3"), Some(""), Some(""))
        );
        assert_eq!(params(None), Params::default());
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_a_panic(path in "/v1/[a-z]{0,12}(/[ -~]{0,9}){0,3}", query in "[ -~]{0,30}") {
            let _ = RouteEntry::find(Door::Desk, &path);
            let _ = params(Some(&query));
        }
    }
}
