//! Secrets: nothing that a node says to operators holds a name, a number, a token or a key.

use crate::harness::*;
use crate::keys_and_settings::secrets;
use crate::redis::Server;
use liangma::http::door::Door;
use serde_json::json;

#[test]
fn neither_logs_nor_meters_hold_a_name_a_number_a_token_or_a_key() {
    let node = NodeBuilder::new(&["log=debug"]).node();
    let seals = node.seals();
    let people = [person(1), person(2), person(3)];
    let (scanner, authority) = (seals.scanner(), seals.authority());
    let sessions: Vec<String> = people.iter().map(|person| seals.session(person)).collect();
    let old = seals.session_until(&people[0], long_ago());
    node.feed(
        &authority,
        &[people[0].resident(), people[1].set("confirmed", 1)],
    );
    node.post_feed(
        &authority,
        format!("{}x\n{{\"name\":\"陈美玲\"", people[0].resident()),
    );
    let mut codes = Vec::new();
    for session in &sessions {
        codes.push(node.code(session));
        node.explain(session);
        node.scan(session, codes.last().expect("just shown"));
    }
    for code in &codes {
        node.scan(&scanner, code);
        node.scan(&scanner, &code[1..]);
        node.scan(&scanner, json!({ "code": code }).to_string());
    }
    let bulk = Ask::post("/v1/scan/bulk", codes.join("\n")).bearer(&scanner);
    bulk.at(node.address(Door::Gate));
    node.show(&old);
    node.show(&scanner);
    node.post_feed(&sessions[0], people[0].resident());
    let path = format!(
        "/v1/code?session={}&cert_no={}",
        sessions[0], people[0].cert_no
    );
    node.get(Door::Resident, &path);
    node.get(Door::Desk, &format!("/{}", people[0].cert_no));
    let log_in = json!({ "assertion": format!("{}.x.y", sessions[0]) }).to_string();
    Ask::post("/v1/sessions", log_in).at(node.address(Door::Desk));
    let mut rubbish = Connection::to(node.address(Door::Resident));
    rubbish.send(format!("{} {}\r\n\r\n", people[0].cert_no, sessions[0]));
    rubbish.answer();
    node.signal(libc::SIGHUP);
    until("the ring is read", || {
        node.log().contains("the key ring was read again")
    });

    let metrics = node.get(Door::Ops, "/metrics");
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|said| said.starts_with("text/plain"))
    );
    let metrics = text(&metrics.body);
    assert!(metrics.contains("liangma_queries_total"));
    let ring = std::fs::read_to_string(node.store.join("keys")).unwrap();
    node.signal(libc::SIGTERM);
    until("it says that it has ended", || {
        node.log().contains("the node has drained")
    });
    let said = [node.log(), node.out(), metrics].concat();
    let mut secret = secrets(&ring);
    secret.extend([old, scanner, authority, "陈美玲".into()]);
    secret.extend(sessions.into_iter().chain(codes));
    secret.extend(people.iter().map(|person| person.cert_no.clone()));
    for secret in secret {
        let part: String = secret.chars().take(18).collect();
        assert!(!said.contains(&part), "{part} is told");
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_password_among_the_arguments_is_warned_of_and_one_in_a_file_is_not() {
    let (server, ring) = (Server::start(&["requirepass Redis-Passw0rd"]), Ring::make());
    let warning = "the password of Redis is among the arguments";
    let url = format!("redis://:Redis-Passw0rd@127.0.0.1:{}", server.port());
    let node = NodeBuilder::new(&[]).over_redis(&url, &ring).node();
    assert!(node.log().contains(warning), "{}", node.log());
    assert!(!node.log().contains("Redis-Passw0rd"));
    drop(node);
    let place = folder();
    let file = place.path().join("password");
    std::fs::write(&file, "Redis-Passw0rd").unwrap();
    let setting = format!("store_password_file={}", file.display());
    let url = format!("redis://127.0.0.1:{}", server.port());
    let node = NodeBuilder::new(&[&setting]).over_redis(&url, &ring).node();
    assert!(!node.log().contains(warning), "{}", node.log());
}
