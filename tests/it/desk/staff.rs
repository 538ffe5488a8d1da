//! What is done in an office: offline registration, appeals, guidance by region, an alarm for a list that is too long.

use super::records::over_both;
use crate::harness::*;
use liangma::http::door::Door;
use serde_json::{Value, json};

#[test]
fn a_person_without_an_eligible_document_is_registered_and_looked_up_with_a_purpose() {
    let node = Node::start();
    let seals = node.seals();
    let staff = seals.staff("wang-01", "440100");
    let smith = json!({ "cert_type": "34", "cert_no": "abc123456789012", "name": "John Smith", "nationality": "GBR" });
    let registered = node.put("/v1/registrations", &staff, smith);
    let number = registered["number"].as_str().unwrap();
    let slip = registered["slip"].as_str().unwrap();
    assert!(
        slip.contains(number) && slip.contains("不是通行的唯一凭证"),
        "{slip}"
    );
    let nobody = node.put(
        "/v1/registrations",
        &staff,
        json!({ "cert_type": "none", "name": "无名氏" }),
    );

    let find = |body: Value| node.desk("POST", "/v1/registrations/find", &staff, Some(&body));
    let by_document =
        json!({ "cert_type": "34", "cert_no": "ABC123456789012", "purpose": "gate-check" });
    let found = find(by_document).json();
    assert_eq!(found["registrations"][0]["name"], "John Smith");
    assert!(found["note"].as_str().unwrap().contains("唯一凭证"));
    let found = find(json!({ "number": nobody["number"], "purpose": "gate-check" }));
    assert_eq!(found.json()["registrations"][0]["name"], "无名氏");
    find(json!({ "number": number })).refuses(422, "missing_field");
    find(json!({ "number": number, "purpose": "just because" })).refuses(422, "bad_purpose");
    find(json!({ "number": "AAAAAAAAAA", "purpose": "gate-check" })).refuses(404, "not_found");
    for (body, code) in [
        (
            json!({ "cert_type": "10", "cert_no": person(1).cert_no, "name": "陈" }),
            "bad_document",
        ),
        (
            json!({ "cert_type": "34", "name": "John Smith" }),
            "missing_field",
        ),
        (json!({ "cert_type": "none" }), "missing_field"),
        (
            json!({ "cert_type": "34", "cert_no": "A B", "name": "John" }),
            "bad_document",
        ),
    ] {
        node.desk("POST", "/v1/registrations", &staff, Some(&body))
            .refuses(422, code);
    }
}

#[test]
fn a_colour_is_fed_by_the_number_of_a_registration_and_no_new_one_makes_it_green() {
    let node = Node::start();
    let seals = node.seals();
    let (staff, authority) = (seals.staff("wang-01", "440100"), seals.authority());
    let smith = json!({ "cert_type": "34", "cert_no": "ABC123456789012", "name": "John Smith" });
    let number = node.put("/v1/registrations", &staff, smith.clone())["number"].clone();
    let nobody = json!({ "cert_type": "none", "name": "无名氏" });
    let other = node.put("/v1/registrations", &staff, nobody.clone())["number"].clone();
    assert_ne!(
        node.put("/v1/registrations", &staff, nobody)["number"],
        other
    );
    let find = |body: Value| {
        let mut body = body;
        body["purpose"] = json!("gate-check");
        let answer = node.desk("POST", "/v1/registrations/find", &staff, Some(&body));
        answer.json()["registrations"].clone()
    };
    let said = |number: &Value, action: &str, seq: u64| {
        json!({
            "event": "status", "registration": number, "reason": "close_contact", "action": action,
            "at": "2026-11-20T08:00:00Z", "source": "gd-cdc", "seq": seq,
        })
        .to_string()
    };
    let found = find(json!({ "number": number }));
    assert_eq!(
        (&found[0]["state"], &found[0]["reasons"]),
        (&json!("green"), &json!([]))
    );
    node.feed(&authority, &[said(&number, "set", 1)]);
    // By another spelling, and registered anew: it is the same person.
    let again = json!({ "cert_type": "34", "cert_no": "abc123456789012", "name": "John Smith" });
    assert_eq!(
        node.put("/v1/registrations", &staff, again)["number"],
        number
    );
    for by in [
        json!({ "number": number }),
        json!({ "number": number.as_str().unwrap().to_lowercase() }),
        json!({ "cert_type": "34", "cert_no": "ABC123456789012" }),
    ] {
        let found = find(by);
        assert_eq!(found.as_array().unwrap().len(), 2);
        for one in found.as_array().unwrap() {
            assert_eq!(
                (&one["state"], &one["reasons"]),
                (&json!("red"), &json!(["close_contact"]))
            );
            assert!(one["as_of"].is_string());
        }
    }
    assert_eq!(find(json!({ "number": other }))[0]["state"], "green");
    node.feed(&authority, &[said(&number, "clear", 2)]);
    assert_eq!(find(json!({ "number": number }))[0]["state"], "green");

    // A wrong character is found, and a document that gets no code is named by its number alone.
    let wrong = format!("{}A", &number.as_str().unwrap()[..11]);
    let wrong = match wrong == number.as_str().unwrap() {
        true => format!("{}B", &wrong[..11]),
        false => wrong,
    };
    let by_passport = json!({
        "event": "status", "cert_type": "34", "cert_no": "ABC123456789012", "reason": "close_contact", "action": "set",
        "at": "2026-11-20T08:00:00Z", "source": "gd-cdc", "seq": 3,
    });
    let mut both = by_passport.clone();
    both["registration"] = number.clone();
    let lines = [
        said(&json!(wrong), "set", 3),
        said(&json!("ABC"), "set", 3),
        by_passport.to_string(),
        both.to_string(),
    ];
    let fed = node.post_feed(&authority, lines.join("\n")).json();
    let codes: Vec<&str> = (fed["rejected"].as_array().unwrap().iter())
        .map(|rejected| rejected["code"].as_str().unwrap())
        .collect();
    assert_eq!(
        codes,
        [
            "bad_check_digit",
            "bad_document",
            "offline_registration",
            "bad_document"
        ]
    );
}

#[test]
fn staff_find_and_name_those_of_their_region_and_hide_nobody_of_another() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    let seals = node.seals();
    let (own, other) = (
        seals.staff("wang-01", "440100"),
        seals.staff("li-02", "650100"),
    );
    let province = seals.staff("zhao-03", "440000");
    let smith =
        |name: &str| json!({ "cert_type": "34", "cert_no": "ABC123456789012", "name": name });
    let registered = node.put("/v1/registrations", &own, smith("John Smith"));
    let find = |token: &str, by: Value| {
        let mut body = by;
        body["purpose"] = json!("gate-check");
        node.desk("POST", "/v1/registrations/find", token, Some(&body))
    };
    let by_number = json!({ "number": registered["number"] });
    let by_document = json!({ "cert_type": "34", "cert_no": "ABC123456789012" });
    for by in [&by_number, &by_document] {
        find(&other, by.clone()).refuses(404, "not_found");
    }
    // Registered in another region as well, under another name, and more often than a page holds: sixteen times by each.
    for nth in 0..230 {
        let staff = seals.staff(&format!("li-{}", nth / 16), "650100");
        let again = node.put("/v1/registrations", &staff, smith(&format!("Jack {nth}")));
        assert_eq!(again["number"], registered["number"]);
    }
    let again = Some(smith("Jack"));
    let full = seals.staff("li-0", "650100");
    node.desk("POST", "/v1/registrations", &full, again.as_ref())
        .refuses(409, "limit_reached");
    for (token, name, count) in [
        (&own, "John Smith", 1),
        (&province, "John Smith", 1),
        (&other, "Jack 229", 20),
    ] {
        for by in [&by_number, &by_document] {
            let found = find(token, by.clone()).json()["registrations"].clone();
            assert_eq!(found.as_array().unwrap().len(), count);
            assert_eq!(found[0]["name"], name);
        }
    }
}

#[test]
fn who_was_registered_by_staff_is_exported_and_imported_like_everybody() {
    let folder = folder();
    let (store, file) = (folder.path().join("store"), folder.path().join("all"));
    let node = NodeBuilder::new(&[]).over(&store).node();
    let seals = node.seals();
    let staff = seals.staff("wang-01", "440100");
    let smith = json!({ "cert_type": "34", "cert_no": "ABC123456789012", "name": "John Smith" });
    let number = node.put("/v1/registrations", &staff, smith)["number"].clone();
    let line = json!({
        "event": "status", "registration": number, "reason": "suspected", "action": "set",
        "at": "2026-11-20T08:00:00Z", "source": "gd-cdc", "seq": 1,
    });
    node.feed(&seals.authority(), &[line.to_string()]);
    node.signal(libc::SIGTERM);
    node.end();
    let store = store.to_str().unwrap();
    let exported = run(&["export", "--store", store, "--out", file.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let (twin, keys) = (folder.path().join("twin"), format!("{store}/keys"));
    let import = [
        "import",
        file.to_str().unwrap(),
        "--store",
        twin.to_str().unwrap(),
    ];
    let imported = run(&[&import[..], &["--keys", &keys]].concat());
    assert!(imported.status.success(), "{}", text(&imported.stdout));
    let again = run(&["export", "--store", twin.to_str().unwrap(), "--keys", &keys]);
    assert_eq!(text(&again.stdout), text(&std::fs::read(&file).unwrap()));
    assert!(text(&again.stdout).contains("John Smith"));
}

#[test]
fn an_appeal_is_on_record_with_its_state() {
    let node = Node::start();
    let (seals, chen) = (node.seals(), person(1));
    let (session, authority) = (seals.session(&chen), seals.authority());
    node.feed(&authority, &[chen.set("close_contact", 1)]);
    let body = json!({ "reason": "close_contact", "text": "我那天不在那里" });
    let made = node.put("/v1/appeals", &session, body);
    assert_eq!(
        (&made["state"], &made["call"]),
        (&json!("received"), &json!("12345"))
    );
    let at_back = |ask: Ask| ask.bearer(&authority).at(node.address(Door::Ops));
    at_back(Ask::get("/v1/appeals")).refuses(422, "missing_field");
    let all = at_back(Ask::get("/v1/appeals?purpose=appeals-office")).json();
    assert_eq!(
        (
            &all["appeals"][0]["id"],
            &all["appeals"][0]["person"]["name"]
        ),
        (&made["id"], &json!("陈**"))
    );
    let path = format!("/v1/appeals/{}", made["id"].as_str().unwrap());
    for (state, status) in [("perhaps", 422), ("in_review", 201), ("upheld", 201)] {
        let body = json!({ "state": state, "note": "已核实" }).to_string();
        assert_eq!(at_back(Ask::post(&path, body).json()).status, status);
    }
    let own = node.read("/v1/appeals", &session);
    assert_eq!(
        (&own["appeals"][0]["state"], &own["appeals"][0]["note"]),
        (&json!("upheld"), &json!("已核实"))
    );
    // An appeal changes no colour: only a clear does.
    assert_eq!(node.show(&session).state(), "red");
    assert_eq!(
        node.read("/v1/accesses", &session)["accesses"][0]["purpose"],
        "appeals-office"
    );
    at_back(
        Ask::post(
            "/v1/appeals/AAAAAAAAAAAAAAAAAAAAAAAAAA",
            json!({ "state": "upheld" }).to_string(),
        )
        .json(),
    )
    .refuses(404, "not_found");
}

#[test]
fn guidance_is_that_of_the_region_and_a_change_is_explained_by_its_event() {
    let folder = folder();
    let file = folder.path().join("guidance.toml");
    let words = "请联系天河区防疫办，或拨打12345";
    let entry = format!(
        "[[guidance]]\nreason = \"home_isolation\"\nregion = \"440106\"\nzh-Hans = \"{words}\"\nzh-Hant = \"{words}\"\nen = \"call 12345\"\n"
    );
    std::fs::write(&file, &entry).unwrap();
    let node = NodeBuilder::new(&[&format!("guidance_file={}", file.display())]).node();
    let (seals, chen) = (node.seals(), person(1));
    node.feed(
        &seals.authority(),
        &[chen.set("home_isolation", 1), chen.set("suspected", 1)],
    );
    let session = seals.session(&chen);
    let said = node.explain(&session).json();
    let of = |reason: &str| {
        let reasons = said["reasons"].as_array().unwrap();
        reasons
            .iter()
            .find(|told| told["reason"] == reason)
            .unwrap()["guidance"]
            .clone()
    };
    assert_eq!(of("home_isolation"), words);
    assert!(of("suspected").as_str().unwrap().contains("发热门诊"));
    assert_eq!(said["released"], json!([]));
    node.feed(&seals.authority(), &[chen.clear("suspected", 2)]);
    let said = node.explain(&session).json();
    let released = &said["released"][0];
    assert_eq!(
        (&released["reason"], &released["source"]),
        (&json!("suspected"), &json!("gd-cdc"))
    );

    std::fs::write(&file, entry.replace("home_isolation", "hungry")).unwrap();
    let store = folder.path().join("unused");
    let guidance = format!("guidance_file={}", file.display());
    let bad = run(&[
        "serve",
        "--store",
        store.to_str().unwrap(),
        "--set",
        &guidance,
    ]);
    assert_eq!(bad.status.code(), Some(78));
    assert!(
        text(&bad.stderr).contains("unknown reason"),
        "{}",
        text(&bad.stderr)
    );
}

/// At every place where the desk tells a source, an organisation or who looked: the name stands beside the identifier, in the
/// language that is asked for, and where the file has none nothing does.
#[test]
fn sources_organisations_and_callers_have_their_names_beside_them() {
    let folder = folder();
    let file = folder.path().join("names.toml");
    let entry = |id: &str, hans: &str, en: &str| {
        format!(
            "[[name]]\nid = \"{id}\"\nzh-Hans = \"{hans}\"\nzh-Hant = \"{hans}\"\nen = \"{en}\"\n"
        )
    };
    let names = [
        entry("gd-cdc", "广东省疾控中心", "Guangdong CDC"),
        entry("gz-no1-school", "广州一中", "No. 1 School"),
        entry("wang-01", "王医生", "Dr Wang"),
    ];
    std::fs::write(&file, names.concat()).unwrap();
    let setting = format!("names_file={}", file.display());
    let node = NodeBuilder::new(&[&setting]).node();
    let (seals, chen) = (node.seals(), person(1));
    let authority = seals.authority();
    node.feed(
        &authority,
        &[chen.set("home_isolation", 1), chen.set("suspected", 1)],
    );
    node.feed(&authority, &[chen.clear("suspected", 2)]);
    let session = seals.session(&chen);
    let staff = seals.staff("wang-01", "440100");
    let told = |path: &str| {
        let ask = Ask::get(path).bearer(&session);
        ask.header("accept-language", "en")
            .at(node.address(Door::Desk))
            .json()
    };
    let entered = json!({ "destination": "440106", "arrives": "2020-05-06", "transport": "train" });
    node.put("/v1/entries", &session, entered);
    node.read(
        "/v1/entries?destination=440106&day=2020-05-06&purpose=reception",
        &staff,
    );
    for organisation in ["gz-no1-school", "gz-no2-school"] {
        let grant = json!({ "organisation": organisation, "until": "2099-12-31" });
        let granted = node.put("/v1/grants", &session, grant);
        let is_named = organisation == "gz-no1-school";
        assert_eq!(granted["organisation_name"] == "广州一中", is_named);
    }
    let appealed = json!({ "reason": "home_isolation", "text": "wrong" });
    let id = node.put("/v1/appeals", &session, appealed)["id"].clone();
    let answer = Ask::post(
        &format!("/v1/appeals/{}", id.as_str().unwrap()),
        json!({ "state": "rejected" }).to_string(),
    );
    let answered = answer.json().bearer(&authority).at(node.address(Door::Ops));
    assert_eq!(answered.status, 201);

    let status = told("/v1/status");
    for of in ["reasons", "released"] {
        let (id, name) = (&status[of][0]["source"], &status[of][0]["source_name"]);
        assert_eq!(
            (id, name),
            (&json!("gd-cdc"), &json!("Guangdong CDC")),
            "{of}"
        );
    }
    let grants = told("/v1/grants")["grants"].clone();
    let name_of = |organisation: &str| {
        let grants = grants.as_array().unwrap();
        let grant = grants
            .iter()
            .find(|one| one["organisation"] == organisation);
        grant.unwrap()["organisation_name"].clone()
    };
    assert_eq!(name_of("gz-no1-school"), "No. 1 School");
    assert_eq!(name_of("gz-no2-school"), Value::Null);
    // The same before a grant; an identifier that is none is not found.
    let named = json!({ "organisation": "gz-no1-school", "organisation_name": "No. 1 School" });
    assert_eq!(told("/v1/organisations/gz-no1-school"), named);
    let unnamed = json!({ "organisation": "gz-no2-school" });
    assert_eq!(told("/v1/organisations/gz-no2-school"), unnamed);
    assert_eq!(told("/v1/organisations/a%20b")["code"], "not_found");
    let appeal = told("/v1/appeals")["appeals"][0].clone();
    assert_eq!(appeal["by_name"], "Guangdong CDC");
    let access = told("/v1/accesses")["accesses"][0].clone();
    assert_eq!(
        (&access["by"], &access["by_name"]),
        (&json!("wang-01"), &json!("Dr Wang"))
    );
}

#[test]
fn a_source_that_turns_a_cohort_red_raises_an_alarm_and_is_not_refused() {
    let node = NodeBuilder::new(&["red_alarm_per_hour=10"]).node();
    let authority = node.seals().authority();
    let red = |range: std::ops::Range<usize>| -> Vec<String> {
        range.map(|n| person(n).set("high_risk_area", 1)).collect()
    };
    node.feed(&authority, &red(0..10));
    assert_eq!(node.meter("liangma_red_alarms"), 0.0);
    assert_eq!(node.feed(&authority, &red(0..30))["applied"], 20);
    assert_eq!(node.meter("liangma_red_alarms"), 1.0);
    assert_eq!(node.meter("liangma_red_set_hourly_max"), 30.0);
    until("the log names the source", || node.log().contains("gd-cdc"));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_operator_clears_a_reason_of_a_source_with_a_purpose_that_the_person_is_told() {
    over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        let (session, operator) = (seals.session(&chen), seals.operator());
        let authority = seals.authority();
        let mut of_other: Value = serde_json::from_str(&chen.set("suspected", 7)).unwrap();
        of_other["source"] = json!("gz-cdc");
        node.feed(
            &authority,
            &[
                chen.resident(),
                chen.set("suspected", 900),
                of_other.to_string(),
            ],
        );
        let ask = |token: &str, change: &dyn Fn(&mut Value)| {
            let mut body = json!({
                "cert_type": "10", "cert_no": chen.cert_no, "reason": "suspected", "source": "gd-cdc",
                "purpose": "case-2020-7",
            });
            change(&mut body);
            let ask = Ask::post("/v1/overrides", body.to_string()).json();
            ask.bearer(token).at(node.address(Door::Ops))
        };
        for (field, value, status, code) in [
            ("purpose", Value::Null, 422, "missing_field"),
            ("purpose", json!("a b"), 422, "bad_purpose"),
            ("reason", json!("hungry"), 422, "unknown_reason"),
            ("source", json!("a b"), 422, "bad_source"),
            ("source", json!("any-lab"), 404, "not_found"),
            ("reason", json!("confirmed"), 404, "not_found"),
            ("cert_no", json!(person(9).cert_no), 404, "not_found"),
            ("cert_no", json!("1"), 422, "bad_document"),
            ("registration", json!("AAAAAAAAAAAA"), 422, "bad_document"),
            ("seq", json!(901), 422, "seq_too_high"),
        ] {
            ask(&operator, &|body| body[field] = value.clone()).refuses(status, code);
        }
        ask(&authority, &|_| {}).refuses(403, "not_permitted");
        assert_eq!(node.read("/v1/accesses", &session)["accesses"], json!([]));
        assert_eq!(node.show(&session).state(), "red");

        let cleared = ask(&operator, &|body| body["seq"] = json!(20));
        assert_eq!(cleared.status, 201, "{}", text(&cleared.body));
        assert_eq!(
            (&cleared.json()["state"], &cleared.json()["new"]),
            (&json!("cleared"), &json!(true))
        );
        // Another source still says so.
        assert_eq!(node.show(&session).state(), "red");
        ask(&operator, &|body| body["source"] = json!("gz-cdc"));
        until("nobody says so", || node.show(&session).state() == "green");
        let again = ask(&operator, &|_| {});
        assert_eq!((again.status, &again.json()["new"]), (201, &json!(false)));
        // The person reads by whom and why, and what was cleared.
        let told = node.read("/v1/accesses", &session);
        let told = &told["accesses"][0];
        assert_eq!(
            (&told["by"], &told["role"], &told["act"], &told["purpose"]),
            (
                &json!("ops-1"),
                &json!("operator"),
                &json!("override"),
                &json!("case-2020-7")
            )
        );
        assert_eq!(
            node.explain(&session).json()["released"][0]["reason"],
            "suspected"
        );
        // What the source says with a number above the one that it was left with counts again.
        assert_eq!(
            node.feed(&authority, &[chen.set("suspected", 20)])["unchanged"],
            1
        );
        assert_eq!(
            node.feed(&authority, &[chen.set("suspected", 21)])["applied"],
            1
        );
        until("it is said again", || node.show(&session).state() == "red");
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_appeal_is_read_and_answered_by_who_speaks_for_the_source() {
    over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        node.feed(
            &seals.authority(),
            &[chen.resident(), chen.set("close_contact", 1)],
        );
        let session = seals.session(&chen);
        let appeal = |reason: &str| json!({ "reason": reason, "text": "我那天不在那里" });
        let filed = node.put("/v1/appeals", &session, appeal("close_contact"));
        let path = format!("/v1/appeals/{}", filed["id"].as_str().unwrap());
        let ops = node.address(Door::Ops);
        let read = |token: &str| {
            let ask = Ask::get("/v1/appeals?purpose=office").bearer(token).at(ops);
            ask.json()["appeals"].as_array().unwrap().len()
        };
        let answer = |token: &str| {
            let said = json!({ "state": "rejected" }).to_string();
            Ask::post(&path, said).json().bearer(token).at(ops)
        };
        let stranger = seals.authority_of("clinic-7", None);
        assert_eq!(read(&stranger), 0);
        answer(&stranger).refuses(404, "not_found");
        let told = node.read("/v1/appeals", &session);
        assert_eq!(told["appeals"][0]["state"], "received");
        // Its source's own authority, and an exchange that speaks for that source too.
        let exchange = seals.authority_of("exchange", Some("gd-cdc,clinic-7"));
        for own in [seals.authority(), exchange] {
            assert_eq!(read(&own), 1);
        }
        assert_eq!(answer(&seals.authority()).status, 201);
        // What nobody on record said is anybody's.
        node.put("/v1/appeals", &session, appeal("suspected"));
        assert_eq!(read(&stranger), 1);
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn no_authority_takes_the_last_answer_to_an_appeal_from_another() {
    super::records::over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        let appeal = json!({ "reason": "suspected", "text": "not me" });
        let appeal = node.put("/v1/appeals", &seals.session(&chen), appeal);
        let path = format!("/v1/appeals/{}", appeal["id"].as_str().unwrap());
        let answer = |by: &str, note: &str| {
            let body = json!({ "state": "in_review", "note": note }).to_string();
            let ask = Ask::post(&path, body).json();
            ask.bearer(&seals.authority_of(by, None))
                .at(node.address(Door::Ops))
        };
        for nth in 0..8 {
            assert_eq!(answer("any-lab", &nth.to_string()).status, 201);
        }
        answer("any-lab", "one more").refuses(409, "limit_reached");
        assert_eq!(answer("gd-cdc", "checked").status, 201);
    });
}
