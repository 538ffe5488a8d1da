//! Grants: an organisation checks its roster in bulk, and nobody else can; what was taken back is refused on every node.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use serde_json::{Value, json};

const SCHOOL: &str = "gz-no1-school";

fn give(node: &Node, person: &Person, organisation: &str) -> Value {
    let body = json!({ "organisation": organisation, "until": "2099-12-31" });
    node.put("/v1/grants", &node.seals().session(person), body)
}

fn bulk(node: &Node, scanner: &str, codes: &[String]) -> Vec<Value> {
    let ask = Ask::post("/v1/scan/bulk", codes.join("\n")).bearer(scanner);
    let answer = ask.at(node.address(Door::Gate));
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    let body = text(&answer.body);
    body.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_grant_is_checked_by_its_organisation_alone_and_until_it_is_taken_back() {
    let node = Node::start();
    let (seals, chen, red) = (node.seals(), person(1), person(2));
    node.feed(
        &seals.authority(),
        &[chen.resident(), red.resident(), red.set("confirmed", 1)],
    );
    let scanner = seals.scanner_of(SCHOOL);
    let (one, two) = (give(&node, &chen, SCHOOL), give(&node, &red, SCHOOL));
    let code = one["code"].as_str().unwrap();
    assert!(code.len() <= 128 && code.len() != node.code(&seals.session(&chen)).len());
    let verdict = node.scan(&scanner, code).json();
    assert_eq!(
        (&verdict["state"], &verdict["name"]),
        (&json!("green"), &json!("陈**"))
    );
    assert_eq!(
        node.scan(&scanner, two["code"].as_str().unwrap()).state(),
        "red"
    );
    for other in [seals.scanner(), seals.scanner_of("other-school")] {
        node.scan(&other, code).refuses(422, "code_invalid");
    }
    // Live codes and grants mixed, and rubbish of a grant's length.
    let lines = [
        code.to_owned(),
        node.code(&seals.session(&red)),
        two["code"].as_str().unwrap().to_owned(),
        "A".repeat(code.len()),
    ];
    let verdicts = bulk(&node, &scanner, &lines);
    let states: Vec<_> = verdicts.iter().map(|verdict| &verdict["state"]).collect();
    assert_eq!(
        states,
        [&json!("green"), &json!("red"), &json!("red"), &Value::Null]
    );
    assert_eq!(verdicts[3]["error"], "code_invalid");
    assert_eq!(
        bulk(&node, &seals.scanner(), &lines)[0]["error"],
        "code_invalid"
    );

    let path = format!("/v1/grants/{}", one["id"].as_str().unwrap());
    let session = seals.session(&chen);
    assert_eq!(
        node.read("/v1/grants", &session)["grants"][0]["organisation"],
        SCHOOL
    );
    node.desk("DELETE", &path, &seals.session(&red), None)
        .refuses(404, "not_found");
    assert_eq!(node.desk("DELETE", &path, &session, None).status, 200);
    until("the grant is no more", || {
        node.scan(&scanner, code).status == 422
    });
    node.scan(&scanner, code).refuses(422, "grant_revoked");
    assert_eq!(bulk(&node, &scanner, &lines)[0]["error"], "grant_revoked");
    assert_eq!(node.read("/v1/grants", &session)["grants"], json!([]));
    node.desk("DELETE", &path, &session, None)
        .refuses(404, "not_found");
}

#[test]
fn a_roster_is_fetched_and_scanned_in_bulk_every_morning() {
    const MEMBERS: usize = 120;
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    let seals = node.seals();
    let people: Vec<Person> = (0..MEMBERS).map(person).collect();
    let lines: Vec<String> = people.iter().map(Person::resident).collect();
    node.feed(&seals.authority(), &lines);
    for person in &people {
        give(&node, person, SCHOOL);
    }
    give(&node, &people[0], "other-school");
    let organisation = seals.organisation(SCHOOL);
    let (mut codes, mut ids) = (Vec::new(), Vec::new());
    let mut path = "/v1/roster?limit=50".to_owned();
    loop {
        let page = node.read(&path, &organisation);
        let members = page["members"].as_array().unwrap();
        assert!(members.len() <= 50);
        let id = |member: &Value| member["id"].as_str().unwrap().to_owned();
        ids.extend(members.iter().map(id));
        codes.extend(
            members
                .iter()
                .map(|member| member["code"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/roster?limit=50&after={next}");
    }
    assert_eq!(codes.len(), MEMBERS);
    let verdicts = bulk(&node, &seals.scanner_of(SCHOOL), &codes);
    assert!(
        verdicts.len() == MEMBERS && verdicts.iter().all(|verdict| verdict["state"] == "green")
    );
    assert_eq!(
        node.read("/v1/roster", &seals.organisation("other-school"))["members"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // It declares for those who are on it, by the ids that the roster has for them, and for nobody else.
    let line = |id: &str, celsius: f64| {
        json!({
            "member": id, "celsius": celsius, "symptoms": ["none"], "contact": "no", "high_risk_area": false,
            "key": format!("m-{id}"),
        })
    };
    let others = node.read("/v1/roster", &seals.organisation("other-school"));
    let of_others = others["members"][0]["id"].as_str().unwrap();
    let mut lines: Vec<String> = ids.iter().map(|id| line(id, 36.5).to_string()).collect();
    lines.extend([
        line(of_others, 36.5).to_string(),
        line(&"A".repeat(26), 36.5).to_string(),
        line("nobody", 36.5).to_string(),
        "{".into(),
        line(&ids[0], 99.0).to_string(),
    ]);
    let declare = |lines: &[String]| {
        let ask = Ask::post("/v1/declarations/bulk", lines.join("\n")).bearer(&organisation);
        ask.header("content-type", "application/x-ndjson")
            .at(node.address(Door::Desk))
            .json()
    };
    let codes = |said: &Value| -> Vec<String> {
        let rejected = said["rejected"].as_array().unwrap();
        let codes = rejected
            .iter()
            .map(|line| line["code"].as_str().unwrap().to_owned());
        codes.collect()
    };
    let said = declare(&lines);
    assert_eq!(said["applied"], MEMBERS);
    let mut found = codes(&said);
    found.sort();
    assert_eq!(
        found,
        [
            "bad_temperature",
            "not_json",
            "not_on_roster",
            "not_on_roster",
            "not_on_roster"
        ]
    );
    assert_eq!(declare(&lines)["unchanged"], MEMBERS);
    let told = node.read("/v1/declarations", &seals.session(&people[7]));
    assert_eq!(told["declarations"][0]["declarer"]["organisation"], SCHOOL);
    let single = |body: Value| node.desk("POST", "/v1/declarations", &organisation, Some(&body));
    single(line(of_others, 36.5)).refuses(403, "not_on_roster");
    node.put("/v1/declarations", &organisation, line(&ids[1], 37.0));

    // A number tells nothing of who has it: whoever is named by one is refused alike, with contents and without.
    for person in [&people[0], &person(999)] {
        let named = json!({ "cert_type": "10", "cert_no": person.cert_no, "name": person.name });
        for (mut body, code) in [
            (json!({}), "missing_field"),
            (line(&ids[0], 36.5), "bad_field"),
            (
                json!({ "symptoms": ["none"], "contact": "no", "high_risk_area": false }),
                "missing_field",
            ),
        ] {
            body["for"] = named.clone();
            single(body.clone()).refuses(422, code);
            assert_eq!(codes(&declare(&[body.to_string()])), [code]);
        }
    }
    // Who takes the grant back is on the roster no more.
    let session = seals.session(&people[0]);
    let own = node.read("/v1/grants", &session)["grants"]
        .as_array()
        .unwrap()
        .clone();
    let own = own
        .iter()
        .find(|grant| grant["organisation"] == SCHOOL)
        .unwrap();
    let id = own["id"].as_str().unwrap();
    let path = format!("/v1/grants/{id}");
    assert_eq!(node.desk("DELETE", &path, &session, None).status, 200);
    single(line(id, 36.5)).refuses(403, "not_on_roster");
}

#[test]
fn a_grant_of_the_past_or_to_nobody_is_refused() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    for (body, code) in [
        (
            json!({ "organisation": SCHOOL, "until": "2020-01-01" }),
            "bad_until",
        ),
        (
            json!({ "organisation": SCHOOL, "until": "soon" }),
            "bad_until",
        ),
        (
            json!({ "organisation": "a school", "until": "2099-01-01" }),
            "bad_source",
        ),
    ] {
        node.desk("POST", "/v1/grants", &session, Some(&body))
            .refuses(422, code);
    }
}

#[test]
fn a_person_is_told_which_organisation_scanned_a_grant_once_a_day() {
    let folder = folder();
    let start = || {
        let store = folder.path().join("store");
        NodeBuilder::new(&[]).over(&store).node()
    };
    let node = start();
    let (seals, chen, other) = (node.seals(), person(1), person(2));
    node.feed(&seals.authority(), &[chen.resident(), other.resident()]);
    let (session, scanner) = (seals.session(&chen), seals.scanner_of(SCHOOL));
    let given = give(&node, &chen, SCHOOL);
    let code = given["code"].as_str().unwrap().to_owned();
    let untouched = give(&node, &other, SCHOOL);
    let told = |session: &str| node.read("/v1/accesses", session)["accesses"].clone();
    assert_eq!(told(&session), json!([]));
    // Nobody is told of a scan that was refused, nor of a live code.
    node.scan(&seals.scanner(), &code)
        .refuses(422, "code_invalid");
    node.scan(&scanner, node.code(&session));
    assert_eq!(bulk(&node, &scanner, &vec![code.clone(); 20]).len(), 20);
    until("the person is told", || told(&session) != json!([]));
    assert_eq!(node.scan(&scanner, &code).state(), "green");
    let access = &told(&session)[0];
    assert_eq!(
        (
            &access["by"],
            &access["role"],
            &access["act"],
            &access["grant"]
        ),
        (
            &json!(SCHOOL),
            &json!("scanner"),
            &json!("scan"),
            &given["id"]
        )
    );
    assert_eq!(told(&seals.session(&other)), json!([]));
    // What waits is told before the node ends, and again is nothing new.
    node.scan(&scanner, untouched["code"].as_str().unwrap());
    node.scan(&scanner, &code);
    node.signal(libc::SIGTERM);
    node.end();
    let node = start();
    let told = |session: &str| node.read("/v1/accesses", session)["accesses"].clone();
    assert_eq!(told(&session).as_array().unwrap().len(), 1);
    assert_eq!(told(&seals.session(&other)).as_array().unwrap().len(), 1);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_is_taken_back_on_one_node_is_refused_on_the_other() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let start = || {
        NodeBuilder::new(&[])
            .over_redis(&server.url(), &ring)
            .node()
    };
    let (one, two) = (start(), start());
    let (seals, chen) = (one.seals(), person(1));
    one.feed(&seals.authority(), &[chen.resident()]);
    let scanner = seals.scanner_of(SCHOOL);
    let given = give(&one, &chen, SCHOOL);
    let code = given["code"].as_str().unwrap();
    until("the other node knows the resident", || {
        two.scan(&scanner, code).json()["state"] == "green"
    });
    let path = format!("/v1/grants/{}", given["id"].as_str().unwrap());
    assert_eq!(
        one.desk("DELETE", &path, &seals.session(&chen), None)
            .status,
        200
    );
    until("the other node refuses the grant", || {
        two.scan(&scanner, code).status == 422
    });

    // A token that was revoked by an operator.
    let gate = seals.scanner();
    let live = two.code(&seals.session(&chen));
    assert_eq!(two.scan(&gate, &live).status, 200);
    let ask = Ask::post("/v1/revocations", json!({ "token": gate }).to_string()).json();
    let answer = ask.bearer(&seals.operator()).at(one.address(Door::Ops));
    assert_eq!(answer.status, 201, "{}", text(&answer.body));
    one.scan(&gate, &live).refuses(401, "unauthorized");
    until("the other node refuses the token", || {
        two.scan(&gate, &live).status == 401
    });
    // A node that starts later knows it from the first.
    start().scan(&gate, &live).refuses(401, "unauthorized");
    assert_eq!(two.scan(&scanner, &live).status, 200);
}

#[test]
fn a_bulk_declaration_to_an_ended_service_is_rejected_as_one() {
    let folder = folder();
    let store = folder.path().join("store");
    let node = NodeBuilder::new(&[]).over(&store).node();
    let (seals, chen) = (node.seals(), person(1));
    node.feed(&seals.authority(), &[chen.resident()]);
    give(&node, &chen, SCHOOL);
    let organisation = seals.organisation(SCHOOL);
    let roster = node.read("/v1/roster", &organisation);
    let line = json!({
        "member": roster["members"][0]["id"], "celsius": 36.5, "symptoms": ["none"], "contact": "no",
        "high_risk_area": false,
    });
    node.signal(libc::SIGTERM);
    node.end();
    let place = store.to_str().unwrap();
    let ended = run(&[
        "erase",
        "service",
        "--store",
        place,
        "--name",
        "declarations",
    ]);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let node = NodeBuilder::new(&[]).over(&store).node();
    let ask = Ask::post("/v1/declarations/bulk", line.to_string()).bearer(&organisation);
    let ask = ask.header("content-type", "application/x-ndjson");
    let answer = ask.at(node.address(Door::Desk)).json();
    assert_eq!(answer["rejected"][0]["code"], "service_ended");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_an_organisation_declares_is_not_the_members_own_and_its_keys_are_bound_to_what_they_came_with()
 {
    super::records::over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        node.feed(&seals.authority(), &[chen.resident()]);
        give(node, &chen, SCHOOL);
        let (session, organisation) = (seals.session(&chen), seals.organisation(SCHOOL));
        let roster = node.read("/v1/roster", &organisation);
        let line = |key: &str, celsius: f64| {
            json!({
                "member": roster["members"][0]["id"], "celsius": celsius, "symptoms": ["none"], "contact": "no",
                "high_risk_area": false, "key": key,
            })
            .to_string()
        };
        let own = json!({ "celsius": 36.5, "symptoms": ["none"], "contact": "no", "high_risk_area": false });
        node.put("/v1/declarations", &session, own);
        let post = |lines: &[String]| {
            let ask = Ask::post("/v1/declarations/bulk", lines.join("\n")).bearer(&organisation);
            let ask = ask.header("content-type", "application/x-ndjson");
            ask.at(node.address(Door::Desk)).json()
        };
        let counts = |said: &Value| (said["applied"].clone(), said["unchanged"].clone());
        assert_eq!(counts(&post(&[line("a", 36.1)])), (json!(1), json!(0)));
        assert_eq!(counts(&post(&[line("a", 36.1)])), (json!(0), json!(1)));
        // The same key for something else, in another body and in one.
        let said = post(&[line("a", 39.9), line("b", 36.2), line("b", 39.9)]);
        assert_eq!(counts(&said), (json!(1), json!(0)), "{said}");
        let rejected: Vec<_> = said["rejected"].as_array().unwrap().iter().collect();
        assert!(
            rejected.len() == 2
                && rejected
                    .iter()
                    .all(|one| one["code"] == "idempotency_mismatch"),
            "{said}"
        );
        let told = node.read("/v1/declarations", &session);
        let current: Vec<_> = told["declarations"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["current"] == true)
            .collect();
        assert_eq!(current.len(), 1);
        assert_eq!(
            (&current[0]["by"], &current[0]["celsius"]),
            (&json!("self"), &json!(36.5))
        );
    });
}

/// Lines of an organisation for one member, each with another key.
fn lines(member: &Value, keys: impl Iterator<Item = usize>) -> Vec<String> {
    let line = |key: usize| {
        json!({
            "member": member, "symptoms": ["none"], "contact": "no", "high_risk_area": false, "key": key.to_string(),
        })
        .to_string()
    };
    keys.map(line).collect()
}

fn declare_bulk(node: &Node, organisation: &str, lines: &[String]) -> Value {
    let ask = Ask::post("/v1/declarations/bulk", lines.join("\n")).bearer(organisation);
    let ask = ask.header("content-type", "application/x-ndjson");
    ask.at(node.address(Door::Desk)).json()
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_organisation_declares_so_often_a_day_for_one_member_and_a_repeat_is_no_more() {
    super::records::over_both(|node| {
        let seals = node.seals();
        for nth in [1, 2] {
            give(node, &person(nth), SCHOOL);
            give(node, &person(nth), "o-2");
        }
        let members = |organisation: &str| {
            let roster = node.read("/v1/roster", &seals.organisation(organisation));
            let members = roster["members"].as_array().unwrap().clone();
            [members[0]["id"].clone(), members[1]["id"].clone()]
        };
        let (school, [one, other]) = (seals.organisation(SCHOOL), members(SCHOOL));
        let counts = |said: &Value| {
            let rejected = said["rejected"].as_array().unwrap();
            assert!(rejected.iter().all(|one| one["code"] == "limit_reached"));
            (
                said["applied"].clone(),
                said["unchanged"].clone(),
                rejected.len(),
            )
        };
        // In two bodies and by the single path: together sixteen.
        let said = declare_bulk(node, &school, &lines(&one, 0..10));
        assert_eq!(counts(&said), (json!(10), json!(0), 0));
        let single = |member: &Value, key: &str| {
            let body = json!({ "member": member, "symptoms": ["none"], "contact": "no", "high_risk_area": false });
            let ask = Ask::post("/v1/declarations", body.to_string()).json();
            ask.bearer(&school)
                .header("idempotency-key", key)
                .at(node.address(Door::Desk))
        };
        assert_eq!(single(&one, "single").status, 201);
        let said = declare_bulk(node, &school, &lines(&one, 0..20));
        assert_eq!(counts(&said), (json!(5), json!(10), 5));
        single(&one, "another").refuses(409, "limit_reached");
        assert_eq!(single(&one, "single").json()["new"], false);
        // Neither another member nor another organisation pays for it.
        assert_eq!(single(&other, "other").status, 201);
        let [one, _] = members("o-2");
        let said = declare_bulk(node, &seals.organisation("o-2"), &lines(&one, 0..16));
        assert_eq!(counts(&said), (json!(16), json!(0), 0));
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_key_stands_for_one_line_however_many_came_after_it() {
    super::records::over_both(|node| {
        let seals = node.seals();
        give(node, &person(1), SCHOOL);
        let school = seals.organisation(SCHOOL);
        let roster = node.read("/v1/roster", &school);
        let member = &roster["members"][0]["id"];
        let said = declare_bulk(node, &school, &lines(member, 0..10_000));
        assert_eq!(said["applied"], 16, "{}", said["applied"]);
        // The same keys for something else, each of them.
        let others: Vec<String> = lines(member, 0..10_000)
            .iter()
            .map(|line| line.replace("none", "nausea"))
            .collect();
        let said = declare_bulk(node, &school, &others);
        let rejected = said["rejected"].as_array().unwrap();
        assert_eq!(rejected.len(), 10_000);
        assert!(
            rejected
                .iter()
                .all(|one| one["code"] == "idempotency_mismatch")
        );
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_key_gives_no_grant_that_was_taken_back() {
    super::records::over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        let session = seals.session(&chen);
        let ask = || {
            let body = json!({ "organisation": SCHOOL, "until": "2099-12-31" });
            let ask = Ask::post("/v1/grants", body.to_string()).json();
            ask.bearer(&session)
                .header("idempotency-key", "school")
                .at(node.address(Door::Desk))
        };
        let id = ask().json()["id"].clone();
        assert_eq!(ask().json()["id"], id);
        let path = format!("/v1/grants/{}", id.as_str().unwrap());
        assert_eq!(node.desk("DELETE", &path, &session, None).status, 200);
        ask().refuses(422, "idempotency_mismatch");
    });
}
