//! Somebody who can write to Redis, and has no key ring, edits statuses: nobody is shown green for a red.

use crate::faults::Town;
use crate::harness::*;
use crate::redis::Server;
use crate::sessions::{claims, ed, sign};
use jsonwebtoken::Algorithm;
use liangma::http::door::Door;
use liangma::store::redis::partition;
use serde_json::json;

/// What is done to the value `v` of one resident: `word`, `tags` and `record` are its parts, `assertions` where the standings
/// begin in the record; `green` is the value of another, who is green.
const EDITS: [(&str, &str); 14] = [
    ("the word", "return cleared(word) .. tags .. record"),
    (
        "the word and what the source said",
        "return cleared(word) .. tags .. record:sub(1, standings - 1) .. string.char(record:byte(standings) % 128) .. record:sub(standings + 1)",
    ),
    (
        "the word, and all that sources said",
        "return cleared(word) .. tags .. record:sub(1, standings - 1)",
    ),
    (
        "whose it is",
        "return word .. tags .. string.char((record:byte(1) + 1) % 256) .. record:sub(2)",
    ),
    (
        "whose it is, and the word",
        "return cleared(word) .. tags .. string.char((record:byte(1) + 1) % 256) .. record:sub(2)",
    ),
    ("all of it for another's", "return green"),
    (
        "the word, with a later version",
        "return cleared(word:sub(1, 5) .. string.char((word:byte(6) + 64) % 256) .. word:sub(7)) .. tags .. record",
    ),
    (
        "the tags",
        "return cleared(word) .. string.rep('\\0', 16) .. record",
    ),
    (
        "all but the tags, which are gone",
        "return cleared(word) .. record",
    ),
    ("all of it, which is empty", "return ''"),
    ("the word, cut short", "return word:sub(1, 5)"),
    (
        "what the source said, cut short",
        "return word .. tags .. record:sub(1, standings + 20)",
    ),
    (
        "the source, cut short",
        "return word .. tags .. record:sub(1, -2)",
    ),
    (
        "the length of the profile",
        "return word .. tags .. record:sub(1, 16) .. '\\255\\255' .. record:sub(19)",
    ),
];

/// Edits the value of the resident with the id `ARGV[1]`, in hexadecimal digits; `ARGV[2]` is another's, who is green.
fn script(edit: &str) -> String {
    format!(
        "local function of(hex) return (hex:gsub('..', function(two) return string.char(tonumber(two, 16)) end)) end
local function cleared(word) return word:sub(1, 7) .. '\\0' end
local found = {{}}
for _, key in ipairs(redis.call('KEYS', 'lm:{{*}}:[0-9]*:*')) do
  for nth, hex in ipairs(ARGV) do
    local value = redis.call('HGET', key, of(hex))
    if value then found[nth] = {{ key, value }} end
  end
end
local v, green = found[1][2], found[2][2]
local word, tags, record = v:sub(1, 8), v:sub(9, 24), v:sub(25)
local standings = 19 + struct.unpack('>I2', record, 17)
local function edit() {edit} end
redis.call('HSET', found[1][1], of(ARGV[1]), edit())
return word:byte(8)"
    )
}

fn id_of(town: &Town, person: &Person) -> String {
    format!("{:016x}", town.ring.seals.who(person).0.home.0)
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_red_that_was_edited_is_green_on_no_node_and_rings_the_alarm() {
    let server = Server::start(&[]);
    let town = Town::with(&server.url(), 1, &[]);
    let green = town.anybody();
    town.feed(&[green.resident()]);
    let reds: Vec<Person> = EDITS.iter().map(|_| town.anybody()).collect();
    let lines: Vec<String> = reds
        .iter()
        .flat_map(|red| [red.resident(), red.set("suspected", 5)])
        .collect();
    town.feed(&lines);
    for ((what, edit), red) in EDITS.iter().zip(&reds) {
        let (id, other) = (id_of(&town, red), id_of(&town, &green));
        let said = server.ask(&["EVAL", &script(edit), "0", &id, &other]);
        assert_ne!(said, "0", "{what}: it was red before");
        assert!(said.parse::<u8>().is_ok(), "{what}: {said}");
    }
    let told = |node: &Node, red: &Person| {
        let shown = node.show(&town.ring.seals.session(red));
        match shown.status {
            200 => shown.state(),
            _ => shown.refuses(503, "upstream_busy")["code"].to_string(),
        }
    };
    let another = town.start_at(&server.url()).node();
    let damaged = |node: &Node| node.meter("liangma_store_damaged_total");
    assert!(damaged(&another) >= 5.0, "{}", damaged(&another));
    assert!(another.log().contains("the store is not as it was written"));
    for ((what, _), red) in EDITS.iter().zip(&reds) {
        assert_eq!(told(&town.nodes[0], red), "red", "{what}");
        assert_ne!(told(&another, red), "green", "{what}");
    }
    assert_eq!(told(&another, &green), "green");
    // A change of whoever was edited is refused, and not acknowledged; those of others in the same feed are taken.
    let mut lines: Vec<String> = reds
        .iter()
        .flat_map(|red| [red.clear("suspected", 6), red.resident()])
        .collect();
    lines.insert(3, green.set("suspected", 1));
    let fed = town.try_feed(&lines);
    assert_eq!(fed.status, 200);
    let fed = fed.json();
    assert_eq!(fed["applied"], 1, "{fed}");
    let rejected = fed["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), 2 * EDITS.len(), "{fed}");
    assert!(rejected.iter().all(|one| one["code"] == "record_damaged"));
    for ((what, _), red) in EDITS.iter().zip(&reds) {
        assert_eq!(told(&town.nodes[0], red), "red", "{what}");
        assert_ne!(told(&another, red), "green", "{what}");
    }
    until("the other node tells it", || {
        told(&another, &green) == "red"
    });
    // What can be read is exported, and what was left out is counted.
    let keys = town.ring.file.to_str().unwrap();
    let export = run(&["export", "--store", &server.url(), "--keys", keys]);
    assert_eq!(export.status.code(), Some(3), "{}", text(&export.stderr));
    assert!(text(&export.stdout).contains(&green.cert_no));
    let left_out = format!("{} records are not as they were written", EDITS.len());
    assert!(text(&export.stderr).contains(&left_out));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_line_of_the_stream_that_no_node_wrote_changes_nothing() {
    let server = Server::start(&[]);
    let mut town = Town::with(&server.url(), 2, &[]);
    let red = town.anybody();
    town.feed(&[red.resident(), red.set("suspected", 5)]);
    town.know(red.clone(), "red");
    let partition = town.partition(&red);
    let damaged = || {
        let count = |node: &Node| node.meter("liangma_store_damaged_total");
        town.nodes.iter().all(|node| count(node) >= 1.0)
    };
    let forged =
        "local id = (ARGV[1]:gsub('..', function(two) return string.char(tonumber(two, 16)) end))
local row = id .. string.rep('\\127', 7) .. '\\0' .. string.rep('\\0', 8) .. string.rep('\\0', 8)
redis.call('XADD', KEYS[1], '*', 'n', redis.call('HINCRBY', KEYS[2], 'seq', 1), 'w', row)
return 1";
    let said = server.ask(&[
        "EVAL",
        forged,
        "2",
        &partition::stream(partition),
        &partition::meta(partition),
        &id_of(&town, &red),
    ]);
    assert_eq!(said, "1");
    until("both nodes noticed", damaged);
    until("every node is fresh again", || town.is_fresh());
    assert!(town.is_told());
    // The stream goes on behind it.
    town.feed(&[red.clear("suspected", 6)]);
    town.know(red, "green");
    until("every node tells it", || town.is_fresh());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_edited_number_of_a_partition_turns_no_red_green_and_ends_no_node() {
    let server = Server::start(&[]);
    let settings = crate::sessions::platform();
    let town = Town::with(&server.url(), 1, &settings);
    let reds: Vec<Person> = (0..4).map(|_| town.anybody()).collect();
    let lines: Vec<String> = reds
        .iter()
        .flat_map(|red| [red.resident(), red.set("suspected", 5)])
        .collect();
    town.feed(&lines);
    let put = |field: &str, value: &str| {
        let script = "for _, key in ipairs(redis.call('KEYS', 'lm:{*}:m')) do redis.call('HSET', key, ARGV[1], ARGV[2]) end return 1";
        assert_eq!(server.ask(&["EVAL", script, "0", field, value]), "1");
    };
    // A log-in writes: it must not make another record.
    let logs_in = |node: &Node, red: &Person| {
        let assertion = sign(Algorithm::EdDSA, Some("ed"), &ed(), &claims(red));
        let body = json!({ "assertion": assertion }).to_string();
        let answer = Ask::post("/v1/sessions", body)
            .json()
            .at(node.address(Door::Desk));
        let shown = node.show(&town.ring.seals.session(red));
        (answer.status, shown)
    };
    for (field, value, restored) in [
        ("depth", "1", "0"),
        ("split", "1", "0"),
        ("depth", "27", "0"),
        ("depth", "28", "0"),
        ("depth", "64", "0"),
        ("depth", "-1", "0"),
        ("split", "1e300", "0"),
    ] {
        put(field, value);
        let what = format!("{field} {value}");
        // A depth that no partition has is refused at the start.
        let is_refused = field == "depth" && !(0..=27).contains(&value.parse::<i64>().unwrap());
        let another = (!is_refused).then(|| town.start_at(&server.url()).warming());
        for red in &reds {
            for node in another.iter().chain(&town.nodes) {
                let (status, shown) = logs_in(node, red);
                assert!([201, 503].contains(&status), "{what}: {status}");
                let is_wrong = shown.status == 200 && shown.state() == "green";
                assert!(!is_wrong, "{what}");
            }
        }
        if let Some(another) = &another {
            until("the damage is counted", || {
                another.meter("liangma_store_damaged_total") > 0.0
            });
        }
        for node in another.iter().chain(&town.nodes) {
            assert_eq!(node.get(Door::Ops, "/live").status, 200, "{what}");
        }
        put(field, restored);
    }
    // Nothing was written in the wrong place.
    let another = town.start_at(&server.url()).node();
    for red in &reds {
        let (status, shown) = logs_in(&another, red);
        assert_eq!((status, shown.state().as_str()), (201, "red"));
    }
}
