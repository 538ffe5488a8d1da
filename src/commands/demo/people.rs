//! The people of the demonstration: papers, a family with a white code, a grant and an appeal.
//! All are written through the doors, as any client would.

use crate::clock::Time;
use crate::http::door::Door;
use crate::identity::stand_in::{StandIn, StandInPerson};
use crate::node::Node;
use crate::person::Assurance;
use crate::synth::{Resident, Town};
use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The organisation to which people of the town gave grants.
pub const SCHOOL: &str = "demo-school";

/// Source of the town's authorities in feeds.
pub const SOURCE: &str = "demo-cdc";

/// Display names of the town, as in an operator's file.
pub const NAMES: &str = r#"[[name]]
id = "demo-cdc"
zh-Hans = "示范市疾控中心"
zh-Hant = "示範市疾控中心"
en = "Demo CDC"

[[name]]
id = "gd-cdc"
zh-Hans = "广东省疾控中心"
zh-Hant = "廣東省疾控中心"
en = "Guangdong CDC"

[[name]]
id = "demo-school"
zh-Hans = "示范学校"
zh-Hant = "示範學校"
en = "Demo School"

[[name]]
id = "demo-school-gate"
zh-Hans = "示范学校门口"
zh-Hant = "示範學校門口"
en = "Demo School, gate"

[[name]]
id = "demo-staff"
zh-Hans = "示范街道登记处"
zh-Hant = "示範街道登記處"
en = "Demo registration office"
"#;

/// People with a grant for the school, beside those who are shown.
const PUPILS: u64 = 40;

/// People who are shown, by their purpose.
pub struct DemoPeople {
    pub green: Resident,
    pub red: Resident,
    /// A minor without a face check.
    pub white: Resident,
    /// A family member of the green resident.
    pub relative: Resident,
}

impl DemoPeople {
    /// Chooses the people from a town; None if it lacks a kind.
    pub fn of(town: Town) -> Option<DemoPeople> {
        let all = || (0..town.residents).map(move |nth| town.resident(nth));
        let has_card = |someone: &Resident| someone.cert_type.code() == "10";
        let is_red = |someone: &Resident| someone.reason.is_some() && !someone.cleared;
        let born = |someone: &Resident| someone.cert_no.get(6..10).unwrap_or_default().to_owned();
        let plain = |someone: &Resident| has_card(someone) && someone.reason.is_none();
        let mut adults = all().filter(|someone| plain(someone) && *born(someone) < *"2000");
        let (green, relative) = (adults.next()?, adults.next()?);
        // Residents without a checked face: a code shows the assurance on record.
        let is_white = |someone: &Resident| {
            plain(someone) && *born(someone) > *"2012" && someone.assurance == Assurance::Unverified
        };
        let white = all().find(is_white)?;
        Some(DemoPeople {
            green,
            red: all().find(|someone| has_card(someone) && is_red(someone))?,
            white,
            relative,
        })
    }
}

/// Tokens for writing the papers.
pub struct PeopleTokens {
    pub authority: String,
    pub green: String,
    pub red: String,
    pub pupils: Vec<String>,
}

/// Returns the number of pupils of a town.
pub fn pupils(town: Town) -> u64 {
    PUPILS.min(town.residents)
}

/// Writes all papers. A second start writes the same, which changes nothing.
pub async fn file(
    node: &Node,
    people: &DemoPeople,
    tokens: &PeopleTokens,
    stand_in: &StandIn,
) -> Result<()> {
    let doors = DoorClient { node };
    let now = Time::now();
    doors.feed(&tokens.authority, &papers(people, now)).await?;
    for (member, student) in [(&people.relative, None), (&people.white, Some(true))] {
        let known = StandInPerson {
            cert_type: member.cert_type.code(),
            cert_no: &member.cert_no,
            name: &member.name,
            assurance: member.assurance.word(),
        };
        let mut content = json!({ "assertion": stand_in.member(&known, now)? });
        if let Some(student) = student {
            content["student"] = student.into();
        }
        doors
            .desk("/v1/family", &tokens.green, "", &content)
            .await?;
    }
    let declared = json!({
        "celsius": 36.4, "symptoms": ["none"], "contact": "no", "high_risk_area": false, "residence": "440106", "places": ["420100"],
    });
    doors
        .desk("/v1/declarations", &tokens.green, "demo", &declared)
        .await?;
    let entry = json!({
        "destination": "440106", "arrives": "2030-05-06", "from": "420100", "transport": "train", "number": "G1002",
        "nucleic_test": { "result": "negative", "at": "2020-05-03T08:00:00+08:00" },
    });
    doors
        .desk("/v1/entries", &tokens.green, "demo", &entry)
        .await?;
    let grant = json!({ "organisation": SCHOOL, "until": "2099-12-31" });
    for pupil in tokens.pupils.iter().chain([&tokens.green, &tokens.red]) {
        doors.desk("/v1/grants", pupil, "demo", &grant).await?;
    }
    if let Some(reason) = people.red.reason {
        let appeal = json!({ "reason": reason.word(), "text": "我那天不在那里，请核实。" });
        doors
            .desk("/v1/appeals", &tokens.red, "demo", &appeal)
            .await?;
    }
    Ok(())
}

/// Returns the authorities' feed lines about the people.
fn papers(people: &DemoPeople, now: Time) -> String {
    let of = |someone: &Resident, event: &str, days: u64, seq: u64, more: Value| {
        let at = Time(now.0.saturating_sub(86_400_000 * days));
        let mut line = json!({
            "event": event, "cert_type": someone.cert_type.code(), "cert_no": someone.cert_no, "at": at.to_string(), "source": SOURCE, "seq": seq,
        });
        if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
            line.extend(more.clone());
        }
        format!("{line}\n")
    };
    let green = &people.green;
    let set = json!({ "reason": "close_contact", "action": "set", "region": "440106" });
    let notice = json!({ "reason": "close_contact", "number": "粤卫-12", "from": "2020-04-20", "until": "2020-05-04", "region": "440106" });
    let test = json!({ "certificate": "nucleic_test", "result": "negative", "number": "粤-7", "until": "2030-05-10", "region": "440106" });
    let trip = json!({ "places": ["440100", "420100", "440306"] });
    let mut lines = vec![
        of(green, "status", 30, 1, set),
        of(green, "notice", 10, 2, notice),
        of(green, "certificate", 2, 3, test),
        of(green, "trip", 1, 4, trip),
    ];
    for day in 0..14 {
        let celsius = [36.2, 36.3, 36.5, 36.4][(day % 4) as usize];
        let warm = json!({ "celsius": celsius, "region": "440106" });
        lines.push(of(green, "temperature", day, 100 - day, warm));
    }
    lines.concat()
}

struct DoorClient<'n> {
    node: &'n Node,
}

impl DoorClient<'_> {
    async fn feed(&self, token: &str, lines: &str) -> Result<()> {
        let head = [("content-type", "application/x-ndjson")];
        self.ask(Door::Ops, "/v1/feed", token, &head, lines.to_owned())
            .await
    }

    /// Sends a request to the desk, once for each idempotency key.
    async fn desk(&self, path: &str, token: &str, word: &str, content: &Value) -> Result<()> {
        let mut head = vec![("content-type", "application/json")];
        if !word.is_empty() {
            head.push(("idempotency-key", word));
        }
        self.ask(Door::Desk, path, token, &head, content.to_string())
            .await
    }

    /// Sends a request to a door and waits for the answer. Refusals, for example of existing papers, are ignored.
    async fn ask(
        &self,
        door: Door,
        path: &str,
        token: &str,
        head: &[(&str, &str)],
        body: String,
    ) -> Result<()> {
        let address = self.node.address_of(door).context("the door is not open")?;
        let stream = TcpStream::connect(address)
            .await
            .context("a door of the demonstration")?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", address.to_string())
            .header("authorization", format!("Bearer {token}"));
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        let response = sender
            .send_request(request.body(Full::new(Bytes::from(body)))?)
            .await?;
        response.into_body().collect().await?;
        Ok(())
    }
}
