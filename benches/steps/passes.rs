//! Codes of other issuers for the steps: one of each format from the collection of the tests, and the trust list that opens both.

use liangma::clock::Time;
use liangma::hex;
use liangma::recognition::ForeignFormat;
use liangma::recognition::import::{ListForm, import};
use liangma::recognition::keys::{IssuerKeyFile, KeyEntry};
use liangma::recognition::pass::PassKinds;
use liangma::recognition::trust::{PassSection, TrustList};
use serde_json::{Value, json};
use std::time::Duration;

/// A moment at which the first HC1 of the collection is in force: 2021-06-07T11:11:12Z.
const HC1_AT: Time = Time(1_623_064_272_000);

/// Of a setting's size; here clocks agree.
const SKEW: Duration = Duration::from_secs(2);

/// One code of each format.
pub struct Passes {
    trust: TrustList,
    hc1: String,
    shc: String,
}

impl Passes {
    pub fn new() -> Passes {
        let mut trust = TrustList::default();
        let hc1 = first(include_str!("../../tests/it/recognition/hc1.jsonl"));
        let certificates: Value = serde_json::from_str(include_str!(
            "../../tests/it/recognition/hc1-certificates.json"
        ))
        .expect("certificates by kid");
        let kid = hc1["trust"]["kid"].as_str().expect("a kid");
        let certificate = certificates[kid].as_str().expect("its certificate");
        let pem =
            format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
        let mut keys = keys(ListForm::Pem, &pem);
        // The record names its key by other bytes than a list would.
        let kid: [u8; 8] = hex::array(kid).expect("16 digits");
        keys.keys[0].kid = KeyEntry::hc1_kid(&kid);
        add(&mut trust, ForeignFormat::Hc1, &keys);

        let shc = first(include_str!("../../tests/it/recognition/shc.jsonl"));
        let issuer =
            json!({ "iss": shc["trust"]["iss"], "name": "", "keys": [shc["trust"]["jwk"]] });
        let snapshot = json!({ "issuers": [issuer] }).to_string();
        add(
            &mut trust,
            ForeignFormat::Shc,
            &self::keys(ListForm::Vci, &snapshot),
        );
        Passes {
            trust,
            hc1: payload(&hc1),
            shc: payload(&shc),
        }
    }

    /// Opens an EU Digital COVID Certificate, signature and all.
    pub fn open_hc1(&self) -> bool {
        let now = Some((HC1_AT, SKEW));
        let opened = self
            .trust
            .open(ForeignFormat::Hc1, self.hc1.as_bytes(), now);
        opened.is_ok()
    }

    /// Opens a SMART Health Card, signature and all.
    pub fn open_shc(&self) -> bool {
        let opened = self
            .trust
            .open(ForeignFormat::Shc, self.shc.as_bytes(), None);
        opened.is_ok()
    }
}

/// The first good record of a file of the collection.
fn first(lines: &str) -> Value {
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a record"))
        .find(|record| record["outcome"] == "ok")
        .expect("a good record")
}

fn payload(record: &Value) -> String {
    record["payload"]
        .as_str()
        .expect("text")
        .trim_end()
        .to_owned()
}

fn keys(form: ListForm, list: &str) -> IssuerKeyFile {
    let imported = import(form, list.as_bytes(), None, "", Time(0));
    imported.expect("a list of keys").file
}

fn add(trust: &mut TrustList, format: ForeignFormat, keys: &IssuerKeyFile) {
    trust.sections.push(PassSection {
        format,
        kinds: PassKinds::ANY,
        policy: None,
    });
    let faults = trust.add_keys(trust.sections.len() - 1, keys);
    assert!(faults.is_empty(), "{faults:?}");
}
