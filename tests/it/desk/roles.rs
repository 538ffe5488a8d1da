//! Who may do what, cell by cell, over the doors.

use crate::harness::*;
use liangma::desk::roles::{Act, Role};
use liangma::http::door::Door;

/// Where and how each act is asked for.
fn way(act: Act) -> (Door, &'static str, &'static str) {
    use Door::*;
    match act {
        Act::Show => (Resident, "GET", "/v1/code"),
        Act::Explain => (Desk, "GET", "/v1/status"),
        Act::Scan => (Gate, "POST", "/v1/scan"),
        Act::ScanBulk => (Gate, "POST", "/v1/scan/bulk"),
        Act::Feed => (Ops, "POST", "/v1/feed"),
        Act::ReadHealth => (Desk, "GET", "/v1/health"),
        Act::ReadTrip => (Desk, "GET", "/v1/trip"),
        Act::ChangeRecord => (Desk, "DELETE", "/v1/health/AAAA"),
        Act::Declare => (Desk, "POST", "/v1/declarations"),
        Act::DeclareBulk => (Desk, "POST", "/v1/declarations/bulk"),
        Act::ReadDeclarations => (Desk, "GET", "/v1/declarations"),
        Act::DeclareEntry => (Desk, "POST", "/v1/entries"),
        Act::ReadEntries => (Desk, "GET", "/v1/entries"),
        Act::AddMember => (Desk, "POST", "/v1/family"),
        Act::ListMembers => (Desk, "GET", "/v1/family"),
        Act::RemoveMember => (Desk, "DELETE", "/v1/family/AAAA"),
        Act::RenewMember => (Desk, "POST", "/v1/family/AAAA/session"),
        Act::Grant => (Desk, "POST", "/v1/grants"),
        Act::ListGrants => (Desk, "GET", "/v1/grants"),
        Act::RevokeGrant => (Desk, "DELETE", "/v1/grants/AAAA"),
        Act::ReadOrganisation => (Desk, "GET", "/v1/organisations/gz-school"),
        Act::ReadRoster => (Desk, "GET", "/v1/roster"),
        Act::Register => (Desk, "POST", "/v1/registrations"),
        Act::FindRegistered => (Desk, "POST", "/v1/registrations/find"),
        Act::Appeal => (Desk, "POST", "/v1/appeals"),
        Act::ReadAppeals => (Ops, "GET", "/v1/appeals"),
        Act::AnswerAppeal => (Ops, "POST", "/v1/appeals/AAAA"),
        Act::ReadAccesses => (Desk, "GET", "/v1/accesses"),
        Act::Revoke => (Ops, "POST", "/v1/revocations"),
        Act::Override => (Ops, "POST", "/v1/overrides"),
        Act::Backup => (Ops, "POST", "/v1/backup"),
        Act::Reseal => (Ops, "POST", "/v1/reseal"),
        Act::EndSessions => (Desk, "POST", "/v1/sessions/revoke"),
        Act::IssueOffline => (Resident, "GET", "/v1/code/offline"),
        Act::RevokeOffline => (Desk, "POST", "/v1/offline-codes/revoke"),
        Act::ReadSettings => (Ops, "GET", "/v1/settings"),
    }
}

#[test]
fn every_cell_of_the_table_is_so_over_the_doors() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    let (seals, chen) = (node.seals(), person(1));
    let token = |role| match role {
        Role::Resident => seals.session(&chen),
        Role::Member => seals.session_of_member(&chen),
        Role::Scanner => seals.scanner(),
        Role::Organisation => seals.organisation("gz-school"),
        Role::Staff => seals.staff("wang-01", "440100"),
        Role::Authority => seals.authority(),
        Role::Operator => seals.operator(),
    };
    for role in Role::ALL {
        let token = token(role);
        for act in Act::ALL {
            let (door, method, path) = way(act);
            let ask = match method {
                "POST" => Ask::with_body(method, path, "{}"),
                _ => Ask::new(method, path),
            };
            let answer = ask.bearer(&token).at(node.address(door));
            let told = format!(
                "{role:?} {act:?}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            let refused = answer.status == 403 && answer.json()["code"] == "not_permitted";
            assert_eq!(refused, !act.is_for(role), "{told}");
            assert_ne!(answer.status, 401, "{told}");
        }
    }
    // Without credentials, and with those of another ring, nothing is anybody's.
    let stranger = Ring::make().seals.session(&chen);
    for act in Act::ALL {
        let (door, method, path) = way(act);
        Ask::with_body(method, path, "{}")
            .at(node.address(door))
            .refuses(401, "unauthorized");
        let ask = Ask::with_body(method, path, "{}").bearer(&stranger);
        ask.at(node.address(door)).refuses(401, "unauthorized");
    }
}

/// What has a path at one door: its methods, each with what it does; None where anybody may ask.
type Place = (Door, &'static str, &'static [(&'static str, Option<Act>)]);

/// Every path that is served, written down a second time.
const PLACES: &[Place] = {
    use Act::*;
    const STAYS: &[(&str, Option<Act>)] = &[
        ("PUT", Some(ChangeRecord)),
        ("PATCH", Some(ChangeRecord)),
        ("DELETE", Some(ChangeRecord)),
    ];
    &[
        (Door::Resident, "/v1/code", &[("GET", Some(Show))]),
        (Door::Gate, "/v1/scan", &[("POST", Some(Scan))]),
        (Door::Gate, "/v1/scan/bulk", &[("POST", Some(ScanBulk))]),
        (Door::Desk, "/v1/sessions", &[("POST", None)]),
        (Door::Desk, "/v1/status", &[("GET", Some(Explain))]),
        (
            Door::Desk,
            "/v1/health",
            &[
                ("GET", Some(ReadHealth)),
                ("PUT", Some(ChangeRecord)),
                ("PATCH", Some(ChangeRecord)),
                ("DELETE", Some(ChangeRecord)),
            ],
        ),
        (Door::Desk, "/v1/health/AAAA", STAYS),
        (Door::Desk, "/v1/trip", &[("GET", Some(ReadTrip))]),
        (
            Door::Desk,
            "/v1/declarations",
            &[
                ("GET", Some(ReadDeclarations)),
                ("POST", Some(Declare)),
                ("PUT", Some(ChangeRecord)),
                ("PATCH", Some(ChangeRecord)),
                ("DELETE", Some(ChangeRecord)),
            ],
        ),
        (
            Door::Desk,
            "/v1/declarations/bulk",
            &[("POST", Some(DeclareBulk))],
        ),
        (Door::Desk, "/v1/declarations/AAAA", STAYS),
        (
            Door::Desk,
            "/v1/entries",
            &[
                ("GET", Some(ReadEntries)),
                ("POST", Some(DeclareEntry)),
                ("PUT", Some(ChangeRecord)),
                ("PATCH", Some(ChangeRecord)),
                ("DELETE", Some(ChangeRecord)),
            ],
        ),
        (Door::Desk, "/v1/entries/AAAA", STAYS),
        (
            Door::Desk,
            "/v1/family",
            &[("GET", Some(ListMembers)), ("POST", Some(AddMember))],
        ),
        (
            Door::Desk,
            "/v1/family/AAAA",
            &[("DELETE", Some(RemoveMember))],
        ),
        (
            Door::Desk,
            "/v1/family/AAAA/session",
            &[("POST", Some(RenewMember))],
        ),
        (
            Door::Desk,
            "/v1/grants",
            &[("GET", Some(ListGrants)), ("POST", Some(Grant))],
        ),
        (
            Door::Desk,
            "/v1/grants/AAAA",
            &[("DELETE", Some(RevokeGrant))],
        ),
        (Door::Desk, "/v1/roster", &[("GET", Some(ReadRoster))]),
        (Door::Desk, "/v1/registrations", &[("POST", Some(Register))]),
        (
            Door::Desk,
            "/v1/registrations/find",
            &[("POST", Some(FindRegistered))],
        ),
        (
            Door::Desk,
            "/v1/sessions/revoke",
            &[("POST", Some(EndSessions))],
        ),
        (
            Door::Desk,
            "/v1/offline-codes/revoke",
            &[("POST", Some(RevokeOffline))],
        ),
        (
            Door::Resident,
            "/v1/code/offline",
            &[("GET", Some(IssueOffline))],
        ),
        (Door::Resident, "/v1/keys", &[("GET", None)]),
        (Door::Gate, "/v1/keys", &[("GET", None)]),
        (Door::Desk, "/v1/accesses", &[("GET", Some(ReadAccesses))]),
        (
            Door::Desk,
            "/v1/appeals",
            &[("GET", Some(ReadAppeals)), ("POST", Some(Appeal))],
        ),
        (Door::Ops, "/v1/appeals", &[("GET", Some(ReadAppeals))]),
        (
            Door::Ops,
            "/v1/appeals/AAAA",
            &[("POST", Some(AnswerAppeal))],
        ),
        (Door::Ops, "/v1/settings", &[("GET", Some(ReadSettings))]),
        (Door::Ops, "/v1/revocations", &[("POST", Some(Revoke))]),
        (Door::Ops, "/v1/backup", &[("POST", Some(Backup))]),
        (Door::Ops, "/v1/reseal", &[("POST", Some(Reseal))]),
        (Door::Ops, "/v1/feed", &[("POST", Some(Feed))]),
        (Door::Ops, "/live", &[("GET", None)]),
        (Door::Ops, "/ready", &[("GET", None)]),
        (Door::Ops, "/metrics", &[("GET", None)]),
    ]
};

/// What a cell's answer must be, by the table of roles and the one above.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    NotFound,
    MethodNotAllowed,
    /// With one of these codes.
    Unauthorized(&'static str),
    NotPermitted,
    /// Whatever comes of it, the credentials are no reason.
    Open,
}

fn cell(door: Door, path: &str, method: &str, comes: &Comes) -> Cell {
    let place = PLACES
        .iter()
        .find(|(known, at, _)| (*known, *at) == (door, path));
    let Some((.., methods)) = place else {
        return Cell::NotFound;
    };
    let method = if method == "HEAD" { "GET" } else { method };
    let Some((_, act)) = methods.iter().find(|(known, _)| *known == method) else {
        return Cell::MethodNotAllowed;
    };
    match (act, comes) {
        (None, _) => Cell::Open,
        (Some(_), Comes::Bad(code)) => Cell::Unauthorized(code),
        (Some(act), Comes::As(role)) if act.is_for(*role) => Cell::Open,
        (Some(_), Comes::As(_)) => Cell::NotPermitted,
    }
}

/// With what somebody comes.
enum Comes {
    As(Role),
    Bad(&'static str),
}

#[test]
fn every_cell_of_doors_paths_methods_and_credentials_is_so_before_a_body_is_looked_at() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000", "scans_per_second=0"]).node();
    let (seals, chen) = (node.seals(), person(1));
    let stranger = Ring::make().seals;
    let code = node.code(&seals.session(&chen));
    let callers = [
        (Comes::Bad("unauthorized"), None),
        (Comes::Bad("unauthorized"), Some("A".repeat(120))),
        (Comes::Bad("unauthorized"), Some(stranger.session(&chen))),
        (Comes::Bad("unauthorized"), Some(stranger.scanner())),
        // A code is sealed by us as well, and is no credential: at some paths of the wrong kind, at others none at all.
        (Comes::Bad(""), Some(code)),
        (Comes::As(Role::Resident), Some(seals.session(&chen))),
        (
            Comes::As(Role::Member),
            Some(seals.session_of_member(&chen)),
        ),
        (Comes::As(Role::Scanner), Some(seals.scanner())),
        (
            Comes::As(Role::Organisation),
            Some(seals.organisation("gz-school")),
        ),
        (
            Comes::As(Role::Staff),
            Some(seals.staff("wang-01", "440100")),
        ),
        (Comes::As(Role::Authority), Some(seals.authority())),
        (Comes::As(Role::Operator), Some(seals.operator())),
    ];
    let mut cells = 0;
    for door in Door::ALL {
        let mut paths: Vec<&str> = PLACES.iter().map(|(_, path, _)| *path).collect();
        paths.extend([
            "/v1",
            "/v1/",
            "/v1/code/",
            "/v1/nowhere",
            "/v1/family/A/B/C",
        ]);
        paths.sort_unstable();
        paths.dedup();
        let mut kept = Connection::to(node.address(door));
        for path in paths {
            for method in [
                "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW",
            ] {
                for (comes, token) in &callers {
                    let ask = || {
                        let ask = Ask::new(method, path);
                        token.iter().fold(ask, |ask, token| ask.bearer(token))
                    };
                    let expected = cell(door, path, method, comes);
                    let told = format!(
                        "{door:?} {method} {path} {}",
                        token.as_deref().unwrap_or("-")
                    );
                    // Without a body, on one connection after the other.
                    kept.send(ask().bytes());
                    let mut answer = kept.head().unwrap_or_else(|| panic!("{told}: no answer"));
                    if method != "HEAD" {
                        let rest = kept.rest(&answer);
                        answer.body = rest;
                    }
                    holds(&answer, method, expected, &told);
                    if answer.header("connection") == Some("close") {
                        kept = Connection::to(node.address(door));
                    }
                    cells += 1;
                    if !matches!(method, "POST" | "PUT") {
                        continue;
                    }
                    // With a body of a wrong type and coding, too large, that does not come.
                    let mut promising = Connection::to(node.address(door));
                    let ask = ask()
                        .header("content-length", "1000000000")
                        .header("content-type", "image/png")
                        .header("content-encoding", "gzip");
                    promising.send(ask.bytes());
                    let answer = promising.answer();
                    holds(&answer, method, expected, &told);
                    if expected == Cell::Open && method == "POST" {
                        answer.refuses(415, "unsupported_media_type");
                    }
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 15_000, "{cells}");
}

#[track_caller]
fn holds(answer: &Answer, method: &str, expected: Cell, told: &str) {
    let status = match expected {
        Cell::NotFound => 404,
        Cell::MethodNotAllowed => 405,
        Cell::Unauthorized(_) => 401,
        Cell::NotPermitted => 403,
        Cell::Open => 200,
    };
    let told = format!(
        "{told}: {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    if expected == Cell::Open {
        assert!(!matches!(answer.status, 401 | 429), "{told}");
        // Somebody may be permitted to ask, and not be on a roster.
        let refused =
            answer.status == 403 && method != "HEAD" && answer.json()["code"] == "not_permitted";
        assert!(!refused, "{told}");
        return;
    }
    if expected == Cell::Unauthorized("") {
        assert!(matches!(answer.status, 401 | 403), "{told}");
        return;
    }
    assert_eq!(answer.status, status, "{told}");
    if method == "HEAD" {
        return;
    }
    let code = match expected {
        Cell::NotFound => "not_found",
        Cell::MethodNotAllowed => "method_not_allowed",
        Cell::Unauthorized(code) => code,
        _ => "not_permitted",
    };
    assert_eq!(answer.json()["code"], code, "{told}");
    assert_eq!(
        answer.header("allow").is_some(),
        expected == Cell::MethodNotAllowed,
        "{told}"
    );
}
