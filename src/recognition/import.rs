//! Imports key lists as their publishers print them into an [`IssuerKeyFile`]. Only `liangma trust import` does this, never a
//! node.

use super::format::ForeignFormat;
use super::keys::{IssuerKeyFile, IssuerPublicKey, KeyEntry, base64_any};
use super::pass::{PassKind, PassKinds};
use crate::clock::Time;
use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use x509_parser::der_parser::oid::Oid;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Format of a publisher's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListForm {
    /// The `did.json` of the WHO trust network.
    Gdhcn,
    /// The list of CovPass: a signature in base64, a line feed, the signed JSON.
    Covpass,
    /// A snapshot of the VCI directory of SMART Health Cards.
    Vci,
    /// Certificates in PEM.
    Pem,
}

impl ListForm {
    /// Each format with the word that the command takes.
    pub const ALL: [(&'static str, ListForm); 4] = [
        ("gdhcn", ListForm::Gdhcn),
        ("covpass", ListForm::Covpass),
        ("vci", ListForm::Vci),
        ("pem", ListForm::Pem),
    ];
}

/// Result of an import.
pub struct ImportedKeys {
    /// The key file to write.
    pub file: IssuerKeyFile,
    /// Whether the publisher's signature was checked.
    pub is_signed: bool,
    /// Entries that were skipped, with the reason.
    pub skipped: Vec<String>,
}

/// Why a list is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ImportFault {
    #[error("the list does not have this format: {0}")]
    Form(String),
    #[error("the signature of the list does not verify with this key")]
    Signature,
    #[error("the publisher's key is not a P-256 key in PEM")]
    PublisherKey,
    #[error("lists of this format have no signature that this command can check")]
    NoSignature,
}

fn form(why: impl ToString) -> ImportFault {
    ImportFault::Form(why.to_string())
}

/// Parses a publisher's list. If `publisher` holds the publisher's public key in PEM, the signature is checked first.
///
/// # Errors
///
/// The list does not have the format, or its signature does not verify.
pub fn import(
    form: ListForm,
    bytes: &[u8],
    publisher: Option<&[u8]>,
    source: &str,
    now: Time,
) -> Result<ImportedKeys, ImportFault> {
    let mut keys = Gathered::default();
    let (format, is_signed) = match form {
        ListForm::Covpass => {
            let signed = covpass(bytes, publisher, &mut keys)?;
            (ForeignFormat::Hc1, signed)
        }
        _ if publisher.is_some() => return Err(ImportFault::NoSignature),
        ListForm::Gdhcn => {
            gdhcn(bytes, &mut keys)?;
            (ForeignFormat::Hc1, false)
        }
        ListForm::Pem => {
            certificates(bytes, &mut keys)?;
            (ForeignFormat::Hc1, false)
        }
        ListForm::Vci => {
            vci(bytes, &mut keys)?;
            (ForeignFormat::Shc, false)
        }
    };
    Ok(ImportedKeys {
        file: IssuerKeyFile {
            format: format.word().to_owned(),
            source: source.to_owned(),
            imported_at: now.to_string(),
            keys: keys.keys,
        },
        is_signed,
        skipped: keys.skipped,
    })
}

#[derive(Default)]
struct Gathered {
    keys: Vec<KeyEntry>,
    skipped: Vec<String>,
}

impl Gathered {
    /// Adds the key of a certificate. `kid` is the list's key id, or the one of the HC1 specification.
    fn certificate(&mut self, der: &[u8], kid: Option<Vec<u8>>, issuer: Option<&str>) {
        let hash = digest(&SHA256, der);
        let kid = KeyEntry::hc1_kid(&kid.unwrap_or_else(|| hash.as_ref()[..8].to_vec()));
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
            return self.skipped.push(format!("{kid}: not a certificate"));
        };
        let Some(public) = public_key(certificate.public_key()) else {
            let why = "its key is neither of P-256 nor of RSA with 2048 to 4096 bits";
            return self.skipped.push(format!("{kid}: {why}"));
        };
        let usages = match certificate.extended_key_usage() {
            Ok(usages) => usages.map_or(Vec::new(), |usages| usages.value.other.clone()),
            Err(_) => {
                return self
                    .skipped
                    .push(format!("{kid}: its key usage is said twice"));
            }
        };
        let country = || {
            let mut countries = certificate.subject().iter_country();
            countries.next()?.as_str().ok().map(str::to_owned)
        };
        let issuer = issuer.map(str::to_owned).or_else(country);
        let entry = KeyEntry {
            kid,
            issuer: issuer.unwrap_or_default(),
            kinds: kinds(&usages),
            ..KeyEntry::default()
        };
        self.take(entry.with(&public));
    }

    fn take(&mut self, entry: KeyEntry) {
        let is_same = |known: &KeyEntry| {
            (&known.kid, &known.issuer, known.public())
                == (&entry.kid, &entry.issuer, entry.public())
                && known.kinds == entry.kinds
        };
        if !self.keys.iter().rev().take(64).any(is_same) {
            self.keys.push(entry);
        }
    }
}

/// Returns the kinds that a certificate's extended key usage allows; None if it allows any.
fn kinds(usages: &[Oid<'_>]) -> Option<Vec<String>> {
    let mut named = Vec::new();
    for usage in usages {
        let text = usage.to_id_string();
        // Two object identifiers are in use for each kind.
        let last = ["1.3.6.1.4.1.1847.2021.1.", "1.3.6.1.4.1.0.1847.2021.1."]
            .iter()
            .find_map(|beginning| text.strip_prefix(beginning));
        named.extend(match last {
            Some("1") => Some(PassKind::Tested),
            Some("2") => Some(PassKind::Vaccinated),
            Some("3") => Some(PassKind::Recovered),
            _ => None,
        });
    }
    let words = PassKinds::of(&named).words().map(str::to_owned);
    (!named.is_empty()).then(|| words.collect())
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> Option<IssuerPublicKey> {
    match info.parsed().ok()? {
        PublicKey::EC(point) => {
            match (info.algorithm.parameters.as_ref()?.as_oid(), point.data()) {
                (Ok(curve), [4, point @ ..])
                    if curve.to_id_string() == "1.2.840.10045.3.1.7" && point.len() == 64 =>
                {
                    IssuerPublicKey::of_point(&point[..32], &point[32..])
                }
                _ => None,
            }
        }
        PublicKey::RSA(key) => IssuerPublicKey::of_rsa(key.modulus, key.exponent),
        _ => None,
    }
}

#[derive(Deserialize)]
struct CovpassList {
    certificates: Vec<CovpassCertificate>,
}

#[derive(Deserialize)]
struct CovpassCertificate {
    country: String,
    kid: String,
    #[serde(rename = "rawData")]
    raw: String,
}

fn covpass(
    bytes: &[u8],
    publisher: Option<&[u8]>,
    keys: &mut Gathered,
) -> Result<bool, ImportFault> {
    let end = memchr::memchr(b'\n', bytes).ok_or_else(|| form("it has one line"))?;
    let (signature, signed) = (&bytes[..end], &bytes[end + 1..]);
    if let Some(pem) = publisher {
        let key = publisher_key(pem).ok_or(ImportFault::PublisherKey)?;
        let signature = std::str::from_utf8(signature)
            .ok()
            .and_then(|text| base64_any(text.trim()));
        if !key.verifies(signed, &signature.unwrap_or_default()) {
            return Err(ImportFault::Signature);
        }
    }
    let list: CovpassList = serde_json::from_slice(signed).map_err(form)?;
    for certificate in &list.certificates {
        match (base64_any(&certificate.kid), base64_any(&certificate.raw)) {
            (Some(kid), Some(der)) => keys.certificate(&der, Some(kid), Some(&certificate.country)),
            _ => keys
                .skipped
                .push(format!("{}: not base64", certificate.kid)),
        }
    }
    Ok(publisher.is_some())
}

fn publisher_key(pem: &[u8]) -> Option<IssuerPublicKey> {
    let pem = Pem::iter_from_buffer(pem).next()?.ok()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&pem.contents).ok()?;
    public_key(&info)
}

fn certificates(bytes: &[u8], keys: &mut Gathered) -> Result<(), ImportFault> {
    let mut some = false;
    for pem in Pem::iter_from_buffer(bytes) {
        let pem = pem.map_err(form)?;
        if pem.label == "CERTIFICATE" {
            keys.certificate(&pem.contents, None, None);
            some = true;
        }
    }
    some.then_some(())
        .ok_or_else(|| form("it has no certificate"))
}

fn gdhcn(bytes: &[u8], keys: &mut Gathered) -> Result<(), ImportFault> {
    let document: Value = serde_json::from_slice(bytes).map_err(form)?;
    let methods = document["verificationMethod"].as_array();
    for method in methods.ok_or_else(|| form("it has no verificationMethod"))? {
        let Some(id) = method["id"].as_str() else {
            // A reference to another document.
            continue;
        };
        let (place, fragment) = id.split_once('#').unwrap_or((id, ""));
        let kid = base64_any(&percent_decoded(fragment)).filter(|kid| !kid.is_empty());
        // did:web:HOST:v2:trustlist:-:COUNTRY:DSC
        let mut parts = place.rsplit(':').skip_while(|part| *part != "DSC");
        let country = parts.nth(1).unwrap_or_default();
        let jwk = &method["publicKeyJwk"];
        if let Some(der) = jwk["x5c"][0].as_str().and_then(base64_any) {
            keys.certificate(
                &der,
                kid,
                Some(country).filter(|country| !country.is_empty()),
            );
            continue;
        }
        let entry = KeyEntry {
            kid: KeyEntry::hc1_kid(&kid.unwrap_or_default()),
            issuer: country.to_owned(),
            ..jwk_entry(jwk)
        };
        match entry.public().filter(|_| !entry.kid.is_empty()) {
            Some(public) => keys.take(entry.with(&public)),
            None => keys
                .skipped
                .push(format!("{id}: this type of key is not supported")),
        }
    }
    Ok(())
}

/// Copies the members of a public key, and no others.
fn jwk_entry(jwk: &Value) -> KeyEntry {
    let text = |name: &str| jwk[name].as_str().map(str::to_owned);
    KeyEntry {
        kty: text("kty").unwrap_or_default(),
        crv: text("crv"),
        x: text("x"),
        y: text("y"),
        n: text("n"),
        e: text("e"),
        ..KeyEntry::default()
    }
}

fn percent_decoded(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let byte = rest
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            None => {
                plain.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}

fn vci(bytes: &[u8], keys: &mut Gathered) -> Result<(), ImportFault> {
    let snapshot: Value = serde_json::from_slice(bytes).map_err(form)?;
    let issuers = snapshot["issuerInfo"]
        .as_array()
        .or(snapshot["issuers"].as_array());
    for issuer in issuers.ok_or_else(|| form("it has no issuers"))? {
        let who = match &issuer["issuer"] {
            Value::Object(_) => &issuer["issuer"],
            _ => issuer,
        };
        let Some(address) = who["iss"].as_str() else {
            keys.skipped.push("an issuer without an address".to_owned());
            continue;
        };
        let mut lists: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
        for list in issuer["crls"].as_array().into_iter().flatten() {
            let rids = list["rids"].as_array().into_iter().flatten();
            let rids = rids
                .filter_map(|rid| rid.as_str().map(str::to_owned))
                .collect();
            if let Some(kid) = list["kid"].as_str() {
                let count = &list["ctr"];
                let said = || count.as_str()?.parse().ok();
                let count = count.as_u64().or_else(said).unwrap_or(0);
                lists.insert(kid, (count, rids));
            }
        }
        for jwk in issuer["keys"].as_array().into_iter().flatten() {
            let kid = jwk["kid"].as_str().unwrap_or_default();
            let promised = jwk["crlVersion"].as_u64().unwrap_or(0);
            let list = lists.get(kid);
            let entry = KeyEntry {
                kid: kid.to_owned(),
                issuer: address.to_owned(),
                name: who["name"].as_str().map(str::to_owned),
                revoked: list.map(|(_, rids)| rids.clone()),
                revoked_is_old: list.is_some_and(|(count, _)| *count < promised),
                ..jwk_entry(jwk)
            };
            match entry.public().filter(|_| !kid.is_empty()) {
                Some(public) => keys.take(entry.with(&public)),
                None => keys.skipped.push(format!(
                    "{address} {kid}: this type of key is not supported"
                )),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_out_of_addresses() {
        assert_eq!(percent_decoded("%2B%2fTReQ3yT7E%3D"), "+/TReQ3yT7E=");
        assert_eq!(percent_decoded("a%zz%"), "a%zz%");
    }
}
