//! The desk on the wire: which path and method asks for what, and what a query and a header say beside it. Nothing here is hot.

use super::door::Door;
use crate::answer::Refusal;
use crate::desk::Params;
use crate::desk::roles::Act;
use hyper::HeaderMap;

/// Bytes of a body, but for the declarations of a whole organisation.
pub const BODY_BYTES_MAX: usize = 16 << 10;

/// Bytes of the declarations of an organisation at once: some ten thousand lines.
pub const BULK_BYTES_MAX: usize = 4 << 20;

/// Characters of an idempotency key.
const IDEMPOTENCY_CHARS_MAX: usize = 64;

/// What a path has: the methods, and what each asks for.
pub struct RouteEntry<'p> {
    pub methods: &'static [(&'static str, Act)],
    /// For `Allow`: what may be asked with hope.
    pub allow: &'static str,
    /// The paper that the path names.
    pub id: Option<&'p str>,
}

impl RouteEntry<'_> {
    /// What a path of a door has; None: nothing of the desk's.
    pub fn find(door: Door, path: &str) -> Option<RouteEntry<'_>> {
        let mut parts = path.strip_prefix("/v1/")?.split('/');
        let noun = parts.next()?;
        let (id, tail) = (parts.next(), parts.next());
        if parts.next().is_some() || id == Some("") {
            return None;
        }
        let desk = door == Door::Desk;
        let (methods, allow, id): (&'static [(&'static str, Act)], _, _) = match (noun, id, tail) {
            ("health", None, None) if desk => (&HEALTH, "GET, HEAD", None),
            ("health", Some(_), None) if desk => (&STAYS, "", id),
            ("trip", None, None) if desk => (&[("GET", Act::ReadTrip)], "GET, HEAD", None),
            ("declarations", None, None) if desk => (&DECLARATIONS, "GET, HEAD, POST", None),
            ("declarations", Some("bulk"), None) if desk => {
                (&[("POST", Act::DeclareBulk)], "POST", None)
            }
            ("declarations", Some(_), None) if desk => (&STAYS, "", id),
            ("entries", None, None) if desk => (&ENTRIES, "GET, HEAD, POST", None),
            ("entries", Some(_), None) if desk => (&STAYS, "", id),
            ("family", None, None) if desk => (&FAMILY, "GET, HEAD, POST", None),
            ("family", Some(_), None) if desk => (&[("DELETE", Act::RemoveMember)], "DELETE", id),
            ("family", Some(_), Some("session")) if desk => {
                (&[("POST", Act::RenewMember)], "POST", id)
            }
            ("grants", None, None) if desk => (&GRANTS, "GET, HEAD, POST", None),
            ("grants", Some(_), None) if desk => (&[("DELETE", Act::RevokeGrant)], "DELETE", id),
            ("roster", None, None) if desk => (&[("GET", Act::ReadRoster)], "GET, HEAD", None),
            ("registrations", None, None) if desk => (&[("POST", Act::Register)], "POST", None),
            ("registrations", Some("find"), None) if desk => {
                (&[("POST", Act::FindRegistered)], "POST", None)
            }
            ("sessions", Some("revoke"), None) if desk => {
                (&[("POST", Act::EndSessions)], "POST", None)
            }
            ("offline-codes", Some("revoke"), None) if desk => {
                (&[("POST", Act::RevokeOffline)], "POST", None)
            }
            ("accesses", None, None) if desk => (&[("GET", Act::ReadAccesses)], "GET, HEAD", None),
            ("appeals", None, None) if desk => (&APPEALS, "GET, HEAD, POST", None),
            ("appeals", None, None) if door == Door::Ops => {
                (&[("GET", Act::ReadAppeals)], "GET, HEAD", None)
            }
            ("appeals", Some(_), None) if door == Door::Ops => {
                (&[("POST", Act::AnswerAppeal)], "POST", id)
            }
            ("revocations", None, None) if door == Door::Ops => {
                (&[("POST", Act::Revoke)], "POST", None)
            }
            ("backup", None, None) if door == Door::Ops => (&[("POST", Act::Backup)], "POST", None),
            ("overrides", None, None) if door == Door::Ops => {
                (&[("POST", Act::Override)], "POST", None)
            }
            _ => return None,
        };
        Some(RouteEntry { methods, allow, id })
    }
}

const HEALTH: [(&str, Act); 4] = [
    ("GET", Act::ReadHealth),
    ("PUT", Act::ChangeRecord),
    ("PATCH", Act::ChangeRecord),
    ("DELETE", Act::ChangeRecord),
];
const STAYS: [(&str, Act); 3] = [
    ("PUT", Act::ChangeRecord),
    ("PATCH", Act::ChangeRecord),
    ("DELETE", Act::ChangeRecord),
];
const DECLARATIONS: [(&str, Act); 5] = [
    ("GET", Act::ReadDeclarations),
    ("POST", Act::Declare),
    ("PUT", Act::ChangeRecord),
    ("PATCH", Act::ChangeRecord),
    ("DELETE", Act::ChangeRecord),
];
const ENTRIES: [(&str, Act); 5] = [
    ("GET", Act::ReadEntries),
    ("POST", Act::DeclareEntry),
    ("PUT", Act::ChangeRecord),
    ("PATCH", Act::ChangeRecord),
    ("DELETE", Act::ChangeRecord),
];
const FAMILY: [(&str, Act); 2] = [("GET", Act::ListMembers), ("POST", Act::AddMember)];
const GRANTS: [(&str, Act); 2] = [("GET", Act::ListGrants), ("POST", Act::Grant)];
const APPEALS: [(&str, Act); 2] = [("GET", Act::ReadAppeals), ("POST", Act::Appeal)];

/// What stands behind the question mark; what we do not know is passed over.
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

/// The caller's own word for what is asked.
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
