//! The documented interface is the one that is served: its paths, words and shapes, and the examples that integrators copy.

use crate::harness::*;
use crate::sessions;
use jsonwebtoken::Algorithm;
use liangma::desk::roles::{ACT_ROUTES, Act, TableDoor};
use liangma::http::door::Door;
use liangma::http::problem;
use liangma::person::Assurance;
use liangma::refusal::Refusal;
use liangma::status::{Colour, Reason};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

fn interface() -> Value {
    serde_json::from_str(include_str!("../../pages/openapi.json")).expect("JSON")
}

fn door(name: &str) -> Door {
    let found = Door::ALL.into_iter().find(|door| door.name() == name);
    found.expect("a door's name")
}

/// Door, path and method of each operation of the document.
fn operations() -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for (path, item) in interface()["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "delete"] {
            if let Some(asked) = item.get(method) {
                for door in asked["tags"].as_array().unwrap() {
                    let door = door.as_str().unwrap();
                    all.insert((door.to_owned(), path.clone(), method.to_uppercase()));
                }
            }
        }
    }
    all
}

#[test]
fn every_path_is_documented_and_every_documented_path_is_there() {
    let source = include_str!("../../src/http/query.rs");
    let table = source.split("fn find(").nth(1).unwrap();
    let table = table.split("\n    }\n").next().unwrap();
    let flat = table.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut served = BTreeSet::new();
    for arm in flat.split("(Door::").skip(1) {
        let Some((door, rest)) = arm.split_once(", \"") else {
            continue;
        };
        let (path, rest) = rest.split_once('"').unwrap();
        let method = rest.split("Method::").nth(1).unwrap();
        let method = method.split(|c: char| !c.is_ascii_uppercase()).next();
        served.insert((
            door.to_lowercase(),
            path.to_owned(),
            method.unwrap().to_owned(),
        ));
    }
    assert!(served.len() >= 9, "{served:?}");
    // The exchange door is for services, which read another page.
    let services = include_str!("../../docs/integrate/other-issuers.md");
    for (door, path, method) in &served {
        if door == "exchange" {
            assert!(services.contains(&format!("{method} {path}")), "{path}");
        }
    }
    served.retain(|(door, ..)| door != "exchange");
    for route in &served {
        assert!(operations().contains(route), "{route:?} is not documented");
    }
    let node = NodeBuilder::new(&["offline_issuer=440000"]).node();
    until("there is a status list", || {
        node.meter("liangma_list_bytes{file=\"base\"}") > 0.0
    });
    let index = Ask::get("/v1/list/440000")
        .bearer(&node.seals().scanner())
        .at(node.address(Door::Gate));
    let number = index.json()["bases"][0]["number"].clone();
    for (name, path, method) in operations() {
        let path = path.replace("{id}", "AAAAAAAAAAAAAAAAAAAAAAAAAA");
        let path = path.replace("{issuer}", "440000");
        let path = path.replace("{number}", number.as_str().unwrap());
        let answer = Ask::new(&method, &path).at(node.address(door(&name)));
        assert!(
            !matches!(answer.status, 404 | 405),
            "{name} {method} {path}"
        );
    }
}

#[test]
fn every_row_of_the_table_of_acts_is_documented() {
    let page = include_str!("../../docs/integrate/api.md");
    let operations = operations();
    for route in ACT_ROUTES {
        // That records stay is said once for all of them.
        if route.act == Act::ChangeRecord {
            continue;
        }
        let door = match route.door {
            TableDoor::Desk => "desk",
            TableDoor::Ops => "ops",
        };
        let operation = (door.into(), route.path.into(), route.method.into());
        assert!(operations.contains(&operation), "{route:?}");
        let is_told = |line: &str| {
            // A row of the page, or a sentence on it.
            let is_told = |end| line.contains(&format!("{}{end}", route.path));
            ["`", "?"].iter().any(is_told) && line.contains(&format!("`{}", route.method))
        };
        assert!(
            page.lines().any(is_told),
            "{route:?} is not in docs/integrate/api.md"
        );
    }
    assert!(page.contains("record_unchangeable"));
}

#[test]
fn the_words_are_the_codes() {
    let interface = interface();
    let schemas = &interface["components"]["schemas"];
    let words = |list: &Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let codes = Refusal::ALL.map(|refusal| refusal.code().to_owned());
    assert_eq!(
        words(&schemas["Problem"]["properties"]["code"]["enum"]),
        codes
    );
    let reasons = Reason::ALL.map(|reason| reason.word().to_owned());
    assert_eq!(words(&schemas["ReasonCode"]["enum"]), reasons);
    for word in words(&schemas["Assurance"]["enum"]) {
        assert!(Assurance::parse(&word).is_some(), "{word}");
    }
    let colours = [Colour::Green, Colour::Yellow, Colour::Red];
    let states = words(&schemas["State"]["enum"]);
    assert_eq!(states[..3], colours.map(|colour| colour.word().to_owned()));
    assert_eq!(states[3..], ["unknown", "too_old"]);
    let national = colours.map(|colour| colour.national().to_owned());
    assert_eq!(words(&schemas["Status"]["enum"]), national);
    // Each refusal is described where its HTTP status is.
    let responses = interface["components"]["responses"].as_object().unwrap();
    let described: String = responses
        .values()
        .map(|response| response["description"].as_str().unwrap())
        .collect();
    for refusal in Refusal::ALL {
        assert!(described.contains(refusal.code()), "{}", refusal.code());
        assert!(problem::status_of(refusal).as_u16() >= 400);
    }
}

/// Holds a value to a schema: as much of JSON Schema as ours use, and nothing that it does not know.
fn fits(value: &Value, schema: &Value, root: &Value, at: &str) {
    let schema = schema
        .as_object()
        .unwrap_or_else(|| panic!("{at}: no schema"));
    for (keyword, wanted) in schema {
        match keyword.as_str() {
            "$ref" => {
                let path = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                fits(value, root.pointer(path).expect("it is there"), root, at);
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("{at}: {other}"),
                };
                let fits = match wanted.as_array() {
                    Some(any) => any.iter().any(is),
                    None => is(wanted),
                };
                assert!(fits, "{at}: {value} is no {wanted}");
            }
            // The other keywords are of values that are there.
            _ if value.is_null() => {}
            "const" => assert_eq!(value, wanted, "{at}"),
            "enum" => assert!(wanted.as_array().unwrap().contains(value), "{at}: {value}"),
            "minimum" => assert!(value.as_f64() >= wanted.as_f64(), "{at}: {value}"),
            "maximum" => assert!(value.as_f64() <= wanted.as_f64(), "{at}: {value}"),
            "minLength" | "maxLength" | "minItems" | "maxItems" => {
                let length = match value {
                    Value::String(text) => text.chars().count(),
                    other => other.as_array().unwrap().len(),
                } as u64;
                let bound = wanted.as_u64().unwrap();
                let holds = if keyword.starts_with("min") {
                    length >= bound
                } else {
                    length <= bound
                };
                assert!(holds, "{at}: {value}");
            }
            "anyOf" => {
                let fits_one = wanted.as_array().unwrap().iter().any(|one| {
                    let held = || fits(value, one, root, at);
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(held)).is_ok()
                });
                assert!(fits_one, "{at}: {value}");
            }
            "required" => {
                for name in wanted.as_array().unwrap() {
                    assert!(
                        value.get(name.as_str().unwrap()).is_some(),
                        "{at}: no {name} in {value}"
                    );
                }
            }
            "properties" => {
                for (name, part) in value.as_object().unwrap() {
                    match wanted.get(name) {
                        Some(schema) => fits(part, schema, root, &format!("{at}.{name}")),
                        None => assert_ne!(
                            schema.get("additionalProperties"),
                            Some(&Value::Bool(false)),
                            "{at}: {name} is not documented"
                        ),
                    }
                }
            }
            "items" => {
                for part in value.as_array().unwrap() {
                    fits(part, wanted, root, at);
                }
            }
            "format" | "pattern" | "description" | "examples" | "additionalProperties" => {}
            other => panic!("{at}: this test does not know {other}"),
        }
    }
}

#[track_caller]
fn is(answer: &Value, name: &str) {
    let interface = interface();
    let schema = &interface["components"]["schemas"][name];
    fits(answer, schema, &interface, name);
}

#[test]
fn what_is_answered_has_the_documented_shape() {
    let node = Node::start();
    let seals = node.seals();
    let (chen, authority) = (person(1), seals.authority());
    let session = seals.session(&chen);
    let scanner = seals.scanner();
    is(&node.show(&session).json(), "Shown");
    let fed = node.feed(
        &authority,
        &[chen.resident(), chen.set("home_isolation", 1)],
    );
    is(&fed, "Fed");
    is(&node.post_feed(&authority, "rubbish\n").json(), "Fed");
    is(&node.show(&session).json(), "Shown");
    let code = node.code(&session);
    is(&node.scan(&scanner, &code).json(), "Verdict");
    is(
        &node
            .scan(
                &scanner,
                seals.code_of(&person(2), liangma::clock::Time::now()),
            )
            .json(),
        "Verdict",
    );
    is(&node.explain(&session).json(), "Explained");
    is(&node.get(Door::Ops, "/ready").json(), "Ready");
    is(&node.get(Door::Ops, "/live").json(), "Live");
    for refused in [
        node.show("nobody"),
        node.scan(&scanner, "nothing"),
        node.get(Door::Gate, "/nowhere"),
        node.scan(&session, &code),
    ] {
        is(&refused.json(), "Problem");
    }
    let bulk = Ask::post("/v1/scan/bulk", format!("{code}\nnothing\n"))
        .bearer(&scanner)
        .at(node.address(Door::Gate));
    let bulk = text(&bulk.body);
    let lines: Vec<Value> = bulk
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    is(&lines[0], "Verdict");
    is(&lines[1], "Unread");
}

/// Asks and holds the answer to what the document says of its status at this path; a name in braces stands for any part.
#[track_caller]
fn as_documented(
    node: &Node,
    door: Door,
    method: &str,
    path: &str,
    token: &str,
    body: Option<Value>,
) -> Value {
    let mut ask = match body {
        Some(body) => Ask::with_body(method, path, body.to_string()).json(),
        None => Ask::new(method, path),
    };
    ask = ask.bearer(token);
    let answer = ask.at(node.address(door));
    let plain = path.split('?').next().unwrap();
    let fits_template = |template: &&String| {
        let (parts, wanted) = (plain.split('/'), template.split('/'));
        parts.clone().count() == wanted.clone().count()
            && parts
                .zip(wanted)
                .all(|(part, wanted)| part == wanted || wanted == "{id}")
    };
    let interface = interface();
    let paths = interface["paths"].as_object().unwrap();
    // What is named stands before what is any.
    let exact = paths.keys().find(|template| template.as_str() == plain);
    let template = exact
        .or_else(|| paths.keys().find(fits_template))
        .expect(path);
    let operation = &paths[template][method.to_lowercase()];
    let said = &operation["responses"][answer.status.to_string()];
    let said = match said.get("$ref") {
        Some(name) => interface.pointer(&name.as_str().unwrap()[1..]).unwrap(),
        None => said,
    };
    let content = said["content"].as_object();
    let content =
        content.unwrap_or_else(|| panic!("{method} {path}: {} is not documented", answer.status));
    let media_type = answer.header("content-type").unwrap();
    let schema = &content[media_type]["schema"];
    fits(&answer.json(), schema, &interface, path);
    answer.json()
}

#[test]
fn what_the_desk_answers_has_the_documented_shape() {
    let jwks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/identity/jwks.json");
    let (jwks, issuer) = (
        format!("identity_jwks_file={jwks}"),
        "identity_issuer=https://id.example",
    );
    let node = NodeBuilder::new(&[&jwks, issuer, "desk_requests_per_second=1000"]).node();
    let seals = node.seals();
    let (chen, mother) = (person(1), person(2));
    let (session, authority) = (seals.session(&chen), seals.authority());
    let (school, staff) = (
        seals.organisation("gz-no1-school"),
        seals.staff("wang-01", "440100"),
    );
    let paper = |fields: Value| {
        let mut event = json!({ "cert_type": "10", "cert_no": chen.cert_no, "source": "gz-lab", "seq": 1, "at": "2026-11-20T08:00:00+08:00" });
        event
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        event.to_string()
    };
    let lines = [
        chen.resident(),
        chen.set("home_isolation", 1),
        paper(json!({ "event": "temperature", "celsius": 36.5, "region": "440106" })),
        paper(
            json!({ "event": "certificate", "certificate": "nucleic_test", "result": "negative", "number": "粤-7", "until": "2026-11-28" }),
        ),
        paper(
            json!({ "event": "notice", "reason": "close_contact", "number": "粤卫-12", "from": "2026-11-06", "until": "2026-11-20" }),
        ),
        paper(json!({ "event": "trip", "places": ["440100", "420100"] })),
    ];
    node.feed(&authority, &lines);
    let desk = |method: &str, path: &str, token: &str, body: Option<Value>| {
        as_documented(&node, Door::Desk, method, path, token, body)
    };
    let get = |path: &str| desk("GET", path, &session, None);
    let post = |path: &str, body: Value| desk("POST", path, &session, Some(body));
    let declared = json!({ "celsius": 36.4, "symptoms": ["nausea"], "contact": "no", "high_risk_area": false, "places": ["440100"], "residence": "440106" });
    assert_eq!(post("/v1/declarations", declared.clone())["new"], true);
    let mut about = declared.clone();
    about["for"] = json!({ "cert_type": "10", "cert_no": mother.cert_no, "name": "李秀英" });
    assert_eq!(post("/v1/declarations", about)["code"], "no_consent");
    assert_eq!(post("/v1/declarations", json!({}))["code"], "missing_field");
    let mut about = declared.clone();
    about["member"] = json!("A".repeat(26));
    assert_eq!(
        desk("POST", "/v1/declarations", &school, Some(about))["code"],
        "not_on_roster"
    );
    post(
        "/v1/entries",
        json!({ "destination": "440106", "arrives": "2020-05-06", "transport": "train", "number": "G1002",
        "nucleic_test": { "result": "negative", "at": "2020-05-03T08:00:00+08:00" } }),
    );
    post(
        "/v1/entries",
        json!({ "destination": "440106", "arrives": "2020-05-06", "transport": "car", "from": "420100", "departs": "2020-05-05" }),
    );
    let granted = post(
        "/v1/grants",
        json!({ "organisation": "gz-no1-school", "until": "2099-12-31" }),
    );
    assert_eq!(
        post("/v1/grants", json!({ "organisation": "gz-no1-school" }))["code"],
        "missing_field"
    );
    assert_eq!(
        post(
            "/v1/grants",
            json!({ "organisation": "gz-no1-school", "until": "2020-05-04" })
        )["code"],
        "bad_until"
    );
    let assertion = sessions::sign(
        Algorithm::EdDSA,
        Some("ed"),
        &sessions::ed(),
        &sessions::with(&mother, "purpose", json!("family")),
    );
    let member = post("/v1/family", json!({ "assertion": assertion }));
    let member = format!("/v1/family/{}", member["id"].as_str().unwrap());
    post(
        "/v1/appeals",
        json!({ "reason": "home_isolation", "text": "我那天不在那里" }),
    );
    assert_eq!(
        post("/v1/appeals", json!({ "reason": "bad_luck", "text": "x" }))["code"],
        "unknown_reason"
    );
    for path in [
        "/v1/health",
        "/v1/health?limit=1",
        "/v1/trip",
        "/v1/declarations",
        "/v1/entries",
        "/v1/family",
        "/v1/grants",
        "/v1/appeals",
        "/v1/status",
    ] {
        get(path);
    }
    assert_eq!(get("/v1/health?limit=0")["code"], "malformed");
    desk("GET", "/v1/family", &seals.session(&mother), None);
    desk("POST", &format!("{member}/session"), &session, None);
    desk("DELETE", &member, &session, None);
    assert_eq!(desk("DELETE", &member, &session, None)["code"], "not_found");
    desk("GET", "/v1/roster", &school, None);
    let bulk = json!({ "member": granted["id"], "symptoms": ["none"], "contact": "no", "high_risk_area": false });
    assert_eq!(
        desk("POST", "/v1/declarations/bulk", &school, Some(bulk))["applied"],
        1
    );
    desk(
        "GET",
        "/v1/entries?destination=440106&day=2020-05-06&purpose=reception",
        &staff,
        None,
    );
    desk(
        "POST",
        "/v1/registrations",
        &staff,
        Some(
            json!({ "cert_type": "34", "cert_no": "ABC123456789012", "name": "John Smith", "phone": "020-12345" }),
        ),
    );
    desk(
        "POST",
        "/v1/registrations/find",
        &staff,
        Some(json!({ "cert_type": "34", "cert_no": "ABC123456789012", "purpose": "gate-check" })),
    );
    get("/v1/accesses");
    let grant = format!("/v1/grants/{}", granted["id"].as_str().unwrap());
    desk("DELETE", &grant, &session, None);
    let back = |method: &str, path: &str, token: &str, body: Option<Value>| {
        as_documented(&node, Door::Ops, method, path, token, body)
    };
    let appeals = back(
        "GET",
        "/v1/appeals?purpose=appeals-office",
        &authority,
        None,
    );
    let appeal = format!(
        "/v1/appeals/{}",
        appeals["appeals"][0]["id"].as_str().unwrap()
    );
    back(
        "POST",
        &appeal,
        &authority,
        Some(json!({ "state": "upheld", "note": "已核实" })),
    );
    assert_eq!(get("/v1/appeals")["appeals"][0]["state"], "upheld");
    back(
        "POST",
        "/v1/revocations",
        &seals.operator(),
        Some(json!({ "token": school })),
    );
    let unreadable = back(
        "POST",
        "/v1/revocations",
        &seals.operator(),
        Some(json!({ "token": "nonsense" })),
    );
    assert_eq!(unreadable["code"], "code_invalid");
}

#[test]
fn every_door_serves_the_document_and_its_page() {
    let node = Node::start();
    for door in Door::ALL {
        let document = node.get(door, "/openapi.json");
        assert_eq!(document.header("content-type"), Some("application/json"));
        assert_eq!(document.json(), interface());
        assert_eq!(node.get(door, "/interface").status, 200);
    }
}

// ---- the examples

/// The first block of a language in the guide.
fn example(language: &str) -> String {
    nth_example(language, 1)
}

fn nth_example(language: &str, nth: usize) -> String {
    let guide = include_str!("../../docs/integrate/gate.md");
    let fence = format!("```{language}\n");
    let block = guide.split(&fence).nth(nth).expect("an example");
    block.split("```").next().unwrap().to_owned()
}

/// Runs an example at a gate; None where its program is missing, which is said loudly.
fn run(command: &mut Command, node: &Node, token: &str, code: &str) -> Option<String> {
    let gate = node.address(Door::Gate);
    let started = command
        .env("GATE", format!("http://{gate}"))
        .env("HOST", gate.ip().to_string())
        .env("PORT", gate.port().to_string())
        .env("TOKEN", token)
        // A whole roster is no code, and too long for an environment.
        .env("CODE", code.get(..4_096).unwrap_or(code))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        example_is_left_out(&command.get_program().to_string_lossy());
        return None;
    };
    let mut input = child.stdin.take().expect("piped");
    // One that reads nothing may be gone already.
    let _ = writeln!(input, "{code}");
    drop(input);
    Some(text(&child.wait_with_output().expect("it ends").stdout))
}

#[test]
fn the_examples_for_integrators_work_as_they_stand() {
    let node = Node::start();
    let seals = node.seals();
    let (green, red) = (person(1), person(2));
    node.feed(
        &seals.authority(),
        &[
            green.resident(),
            red.resident(),
            red.set("close_contact", 1),
        ],
    );
    let (green, red) = (seals.session(&green), seals.session(&red));
    let scanner = seals.scanner();
    let folder = folder();
    let (script, source, built) = (
        folder.path().join("scan.py"),
        folder.path().join("scan.c"),
        folder.path().join("scan"),
    );
    std::fs::write(&script, example("python")).unwrap();
    std::fs::write(&source, example("c")).unwrap();
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .args([&built, &source])
        .status()
        .expect("a C compiler builds this project too");
    assert!(compiled.success());
    let curl = example("sh");
    let states = [
        (node.code(&green), &scanner, "green", "open", "陈**"),
        (node.code(&red), &scanner, "red", "shut", "陈**"),
        ("nothing".to_owned(), &scanner, "code_invalid", "shut", ""),
        (node.code(&green), &green, "not_permitted", "shut", ""),
    ];
    for (code, token, said, does, name) in &states {
        if let Some(answer) = run(Command::new("sh").args(["-c", &curl]), &node, token, code)
            .filter(|answer| !answer.is_empty() || has_curl())
        {
            let answer: Value = serde_json::from_str(&answer).expect(&answer);
            let heard = answer.get("state").or_else(|| answer.get("code"));
            assert_eq!(heard, Some(&Value::from(*said)));
        }
        let expected = format!("{said} {does} {name}").trim_end().to_owned();
        for command in [
            Command::new("python3").arg(&script),
            &mut Command::new(&built),
        ] {
            if let Some(answer) = run(command, &node, token, code) {
                assert_eq!(answer.trim_end(), expected);
            }
        }
    }
    // A gate that is gone is no colour.
    let code = node.code(&green);
    let gone = NodeBuilder::new(&["pages_per_second=0"]).node();
    gone.signal(libc::SIGSTOP);
    for command in [
        Command::new("python3").arg(&script),
        &mut Command::new(&built),
    ] {
        if let Some(answer) = run(command, &gone, &scanner, &code) {
            assert_eq!(answer.trim_end(), "no_answer shut");
        }
    }
}

#[test]
fn the_examples_of_many_at_once_check_a_whole_roster() {
    let node = Node::start();
    let seals = node.seals();
    let (green, red) = (person(1), person(2));
    node.feed(
        &seals.authority(),
        &[green.resident(), red.set("close_contact", 1)],
    );
    let [green, red] = [&green, &red].map(|person| node.code(&seals.session(person)));
    let roster = format!("{green}\n{red}\r\n{green}\nnothing\n").repeat(25_000);
    let folder = folder();
    let (python, java) = (
        folder.path().join("bulk.py"),
        folder.path().join("Bulk.java"),
    );
    std::fs::write(&python, nth_example("python", 2)).unwrap();
    std::fs::write(&java, example("java")).unwrap();
    for (program, script) in [("python3", python), ("java", java)] {
        let mut command = Command::new(program);
        let told = run(
            command.arg(script),
            &node,
            &seals.scanner(),
            roster.trim_end(),
        );
        if let Some(told) = told {
            let expected = "code_invalid=25000 green=50000 red=25000 unchecked=0";
            assert_eq!(told.trim_end(), expected, "{program}");
        }
    }
}

fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        example_is_left_out("curl");
    }
    found
}

/// Reports that an example is not tried because its program is missing, on whatever machine: a gate need not have every language.
/// Not by eprintln!: that the runner keeps to itself.
pub fn example_is_left_out(program: &str) {
    let said = format!("NO {program} ON THIS MACHINE: AN EXAMPLE FOR INTEGRATORS IS NOT TRIED");
    let _ = writeln!(std::io::stderr(), "\n**** {said} ****\n");
}
