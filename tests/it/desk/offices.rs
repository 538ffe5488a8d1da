//! What is done in an office: offline registration, appeals, guidance by region, an alarm for a list that is too long.

use crate::harness::*;
use liangma::http::query::Door;
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
    let at_back = |ask: Ask| ask.bearer(&authority).at(node.address(Door::Back));
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
    let node = Start::new(&[&format!("guidance={}", file.display())]).node();
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
    let guidance = format!("guidance={}", file.display());
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

#[test]
fn a_source_that_turns_a_cohort_red_raises_an_alarm_and_is_not_refused() {
    let node = Start::new(&["reddened_per_hour=10"]).node();
    let authority = node.seals().authority();
    let red = |range: std::ops::Range<usize>| -> Vec<String> {
        range.map(|n| person(n).set("high_risk_area", 1)).collect()
    };
    node.feed(&authority, &red(0..10));
    assert_eq!(node.meter("liangma_reddened_alarms"), 0.0);
    assert_eq!(node.feed(&authority, &red(0..30))["applied"], 20);
    assert_eq!(node.meter("liangma_reddened_alarms"), 1.0);
    assert_eq!(node.meter("liangma_reddened_per_hour"), 30.0);
    until("the log names the source", || node.log().contains("gd-cdc"));
}
