//! Recognition of codes of other issuers: detects the format, checks the code, and returns a pass. Pure functions of a text,
//! the trust list and the time; no board, store, HTTP or network.

pub mod bounds;
pub mod format;
pub mod hc1;
pub mod import;
pub mod inflate;
pub mod keys;
pub mod pass;
pub mod peer;
pub mod recogniser;
pub mod shc;
pub mod trust;

pub use format::ForeignFormat;

#[cfg(test)]
mod tests {
    use super::import::{ListForm, import};
    use super::keys::{IssuerKeyFile, KeyEntry};
    use super::pass::{PassFault, PassKinds};
    use super::trust::{PassSection, TrustList};
    use super::*;
    use crate::clock::Time;
    use serde_json::Value;
    use std::path::Path;
    use std::time::Duration;

    const SKEW: Duration = Duration::from_secs(2);

    fn file(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/recognition");
        std::fs::read_to_string(folder.join(name)).unwrap()
    }

    fn records(name: &str) -> Vec<Value> {
        let lines = file(name);
        let read = |line: &str| serde_json::from_str(line).unwrap();
        lines.lines().map(read).collect()
    }

    /// What a trust list holds for a record.
    fn trust_of(record: &Value, certificates: &Value) -> TrustList {
        let trust = &record["trust"];
        let mut list = TrustList::default();
        let format = match record["format"].as_str() {
            Some("hc1") => ForeignFormat::Hc1,
            _ => ForeignFormat::Shc,
        };
        list.sections.push(PassSection {
            format,
            kinds: PassKinds::ANY,
            policy: None,
        });
        let mut file = IssuerKeyFile {
            format: format.word().to_owned(),
            source: String::new(),
            imported_at: "2026-01-01T00:00:00Z".to_owned(),
            keys: Vec::new(),
        };
        let certificate = trust["certificate"]
            .as_str()
            .map(|name| &certificates[name]);
        let certificate = certificate.unwrap_or(&trust["x509_der_b64"]);
        if let Some(certificate) = certificate.as_str() {
            let pem =
                format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
            let imported = import(ListForm::Pem, pem.as_bytes(), None, "", Time(0)).unwrap();
            file.keys = imported.file.keys;
            let kid = trust["kid"].as_str().unwrap();
            let kid = crate::hex::bytes(kid).unwrap();
            if let Some(key) = file.keys.first_mut() {
                key.kid = KeyEntry::hc1_kid(&kid);
            }
        } else if trust["iss"].is_string() {
            let issuer = serde_json::json!({
                "iss": trust["iss"], "name": "", "keys": [trust["jwk"]], "crls": [record["revocation"]],
            });
            let snapshot = serde_json::json!({ "issuers": [issuer] }).to_string();
            let imported = import(ListForm::Vci, snapshot.as_bytes(), None, "", Time(0)).unwrap();
            assert!(
                imported.skipped.is_empty(),
                "{:?} of {}",
                imported.skipped,
                record["id"]
            );
            file.keys = imported.file.keys;
        }
        let faults = list.add_keys(0, &file);
        assert!(faults.is_empty(), "{faults:?} of {}", record["id"]);
        list
    }

    fn outcome(read: &Result<pass::ForeignPass, PassFault>) -> &'static str {
        match read {
            Ok(_) => "ok",
            Err(PassFault::Undecodable) => "undecodable",
            Err(PassFault::UnsupportedAlgorithm) => "unsupported_algorithm",
            Err(PassFault::UnknownKey) => "unknown_key",
            Err(PassFault::BadSignature) => "bad_signature",
            Err(PassFault::NotEntitled) => "not_entitled",
            Err(PassFault::NotOneStatement) => "not_one_statement",
            Err(PassFault::Expired) => "expired",
            Err(PassFault::NotYetValid) => "not_yet_valid",
            Err(PassFault::Revoked) => "revoked",
        }
    }

    #[test]
    fn every_code_of_the_collection_has_its_outcome() {
        let certificates: Value = serde_json::from_str(&file("hc1-certificates.json")).unwrap();
        let (mut wrong, mut read_of, mut good, mut without_key) = (Vec::new(), 0, 0, 0);
        for record in ["hc1.jsonl", "shc.jsonl", "hostile.jsonl"]
            .iter()
            .flat_map(|name| records(name))
        {
            let list = trust_of(&record, &certificates);
            let now = record["clock"].as_str().map(|clock| {
                let time: jiff::Timestamp = clock.parse().unwrap();
                (Time(time.as_millisecond() as u64), SKEW)
            });
            let text = record["payload"].as_str().unwrap().trim_end();
            let read = match ForeignFormat::told_apart(text.as_bytes()) {
                Some(format) => list.open(format, text.as_bytes(), now),
                None => Err(PassFault::Undecodable),
            };
            let found = outcome(&read);
            let others = record["or"].as_array().into_iter().flatten();
            // Such a key is not taken: RSA of 1024 bits, P-384.
            let has_key = record["format"] == "shc" || list.keys(ForeignFormat::Hc1) > 0;
            if !has_key && record["trust"].is_object() && found == "unknown_key" {
                without_key += 1;
                continue;
            }
            let is_right =
                record["outcome"] == found || others.into_iter().any(|other| other == found);
            if !is_right {
                wrong.push(format!(
                    "{} {} {}: {found}, not {}",
                    record["format"], record["id"], record["name"], record["outcome"]
                ));
            }
            if let (Ok(pass), Some(kind)) = (&read, record["kind"].as_str()) {
                assert_eq!(pass.kind.word(), kind, "{}", record["id"]);
                assert!(!pass.name.is_empty() && pass.name.chars().count() < 12);
                good += 1;
            }
            read_of += 1;
        }
        assert!(
            wrong.is_empty(),
            "{} of {read_of}:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        assert!(without_key <= 4, "{without_key}");
        assert!(read_of > 600 && good > 400, "{read_of} {good}");
    }
}
