//! Who may do what, cell by cell, over the doors.

use crate::harness::*;
use liangma::desk::roles::{Act, Role};
use liangma::http::query::Door;

/// Where and how each act is asked for.
fn way(act: Act) -> (Door, &'static str, &'static str) {
    use Door::*;
    match act {
        Act::Show => (Resident, "GET", "/v1/code"),
        Act::Explain => (Desk, "GET", "/v1/status"),
        Act::Scan => (Gate, "POST", "/v1/scan"),
        Act::ScanBulk => (Gate, "POST", "/v1/scan/bulk"),
        Act::Feed => (Back, "POST", "/v1/feed"),
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
        Act::ReadRoster => (Desk, "GET", "/v1/roster"),
        Act::Register => (Desk, "POST", "/v1/registrations"),
        Act::FindRegistered => (Desk, "POST", "/v1/registrations/find"),
        Act::Appeal => (Desk, "POST", "/v1/appeals"),
        Act::ReadAppeals => (Back, "GET", "/v1/appeals"),
        Act::AnswerAppeal => (Back, "POST", "/v1/appeals/AAAA"),
        Act::ReadAccesses => (Desk, "GET", "/v1/accesses"),
        Act::Revoke => (Back, "POST", "/v1/revocations"),
        Act::EndSessions => (Desk, "POST", "/v1/sessions/revoke"),
    }
}

#[test]
fn every_cell_of_the_table_is_so_over_the_doors() {
    let node = Start::new(&["desk_per_second=10000"]).node();
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
            let told = format!("{role:?} {act:?}: {} {}", answer.status, text(&answer.body));
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
