//! A peer, another issuer of health codes: its keys, its status list, and verdicts about its codes.

use super::bounds::shown;
use crate::clock::Time;
use crate::hex;
use crate::offline::ListState;
use crate::offline::code::{CodeFault, OfflineCode};
use crate::offline::gate::{HeldLists, ListAges, OfflineDecision};
use crate::offline::issue::read_jwks;
use crate::offline::list::{BaseList, ListChanges};
use crate::offline::sign::VerifyingKey;
use crate::refusal::Refusal;
use crate::status::Colour;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Source of a peer's status list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListPlace {
    /// A folder with `base.lml` and `changes.lml`.
    Folder(PathBuf),
    /// A URL such as `https://HOST/v1/list/820000`.
    Address(String),
}

/// A peer in the trust file.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The issuer: a division of GB/T 2260 as a number.
    pub id: u32,
    /// Name of the issuer for people.
    pub name: String,
    /// Keys that sign its offline codes and lists.
    pub keys: Vec<VerifyingKey>,
    /// Source of its status list; None if it has none.
    pub list: Option<ListPlace>,
    /// File with the scanner token for the list's URL.
    pub list_token: Option<PathBuf>,
    /// File with the certificate authority of the list's URL; None for the system's authorities.
    pub list_ca: Option<PathBuf>,
    /// URL of its exchange door for live codes, as `https://HOST:PORT`.
    pub exchange: Option<String>,
    /// SHA-256 of the public keys of its certificates.
    pub pins: Vec<[u8; 32]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerWords {
    #[serde(rename = "format")]
    _format: String,
    id: toml::Value,
    name: String,
    keys: Option<PathBuf>,
    list: Option<String>,
    list_token: Option<PathBuf>,
    list_ca: Option<PathBuf>,
    exchange: Option<String>,
    peer: Option<toml::Value>,
}

impl Peer {
    /// Parses a section of the trust file and reads the files that it names. Returns the peer, the files, and all faults.
    pub fn read(entry: toml::Value, folder: &Path) -> (Option<Peer>, Vec<PathBuf>, Vec<String>) {
        let words: PeerWords = match entry.try_into() {
            Ok(words) => words,
            Err(error) => {
                return (
                    None,
                    Vec::new(),
                    vec![error.to_string().trim_end().to_owned()],
                );
            }
        };
        let (mut faults, mut files) = (Vec::new(), Vec::new());
        let id = match &words.id {
            toml::Value::Integer(number) => Some(number.to_string()),
            toml::Value::String(text) => Some(text.clone()),
            _ => None,
        };
        let id = id.and_then(|id| crate::feed::parse_region(&id));
        if id.is_none() {
            faults.push("id: is not a division of GB/T 2260, six digits".to_owned());
        }
        let mut keys = Vec::new();
        if let Some(path) = &words.keys {
            let path = folder.join(path);
            files.push(path.clone());
            let place = path.display();
            match super::bounds::read_bounded(&path) {
                Err(why) => faults.push(format!("keys: {place}: {why}")),
                Ok(bytes) => match read_jwks(&bytes) {
                    Some((issuer, _)) if id.is_some_and(|id| id != issuer) => {
                        faults.push(format!("keys: {place}: are of {issuer:06}"));
                    }
                    Some((_, read)) if !read.is_empty() => keys = read,
                    _ => faults.push(format!(
                        "keys: {place}: the file has no keys in the form of GET /v1/keys"
                    )),
                },
            }
        }
        let list = words.list.as_ref().map(|text| match text.contains("://") {
            true => ListPlace::Address(text.trim_end_matches('/').to_owned()),
            false => ListPlace::Folder(folder.join(text)),
        });
        if let Some(ListPlace::Address(text)) = &list
            && !is_address(text, true)
        {
            faults.push(
                "list: is neither a folder nor an address such as https://HOST/v1/list/820000"
                    .to_owned(),
            );
        }
        if list.is_some() && keys.is_empty() {
            faults.push("list: needs keys".to_owned());
        }
        if let Some(ListPlace::Folder(folder)) = &list {
            files.extend(["base.lml", "changes.lml"].map(|name| folder.join(name)));
        }
        let mut pins = Vec::new();
        let said = match &words.peer {
            None => Vec::new(),
            Some(toml::Value::Array(several)) => several.iter().collect(),
            Some(one) => vec![one],
        };
        for one in said {
            let digits = one.as_str().map(|text| text.trim_start_matches("sha256:"));
            match digits.and_then(hex::array) {
                Some(pin) => pins.push(pin),
                None => faults.push(
                    "peer: is not the SHA-256 of a public key, 64 hexadecimal digits".to_owned(),
                ),
            }
        }
        if let Some(exchange) = &words.exchange {
            if !is_address(exchange, false) {
                faults.push("exchange: is not an address such as https://HOST:PORT".to_owned());
            }
            if pins.is_empty() {
                faults.push("exchange: needs peer, the SHA-256 of the public key there".to_owned());
            }
        }
        if keys.is_empty() && words.exchange.is_none() && pins.is_empty() {
            faults.push("has neither keys nor exchange: nothing of it can be checked".to_owned());
        }
        let name = shown(&words.name);
        if name.is_empty() {
            faults.push("name: is empty".to_owned());
        }
        let beside = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        let peer = id.map(|id| Peer {
            id,
            name,
            keys,
            list,
            list_token: beside(words.list_token),
            list_ca: beside(words.list_ca),
            exchange: words
                .exchange
                .map(|text| text.trim_end_matches('/').to_owned()),
            pins,
        });
        (peer, files, faults)
    }
}

/// Returns whether a text is a URL. With `list` a path is required, and plain HTTP is allowed because files are signed.
fn is_address(text: &str, list: bool) -> bool {
    let Ok(uri) = text.parse::<hyper::Uri>() else {
        return false;
    };
    let scheme = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => list,
        _ => false,
    };
    let has_path = !matches!(uri.path(), "" | "/");
    scheme && uri.authority().is_some() && uri.query().is_none() && has_path == list
}

/// Verdict about a code of a peer. Texts are cleaned for answers.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerVerdict {
    /// Number of the issuer.
    pub issuer: u32,
    /// Name of the issuer for people.
    pub issuer_name: String,
    /// `green`, `yellow`, `red`, `unknown` or `too_old`.
    pub state: &'static str,
    /// National value of the colour; None without a colour.
    pub status: Option<&'static str>,
    /// Reasons as the issuer gives them: word and text.
    pub reasons: Vec<(String, String)>,
    /// Masked name of the holder.
    pub name: String,
    /// Masked document number.
    pub cert_no: String,
    /// Level of assurance.
    pub assurance: String,
    /// When the code was made; None if the issuer does not say.
    pub issued_at: Option<Time>,
    /// When the code expires; None if the issuer does not say.
    pub expires_at: Option<Time>,
    /// Whether the code is an offline code, which can be copied.
    pub is_offline: bool,
    /// Whether the issuer's service was asked; otherwise its list was.
    pub by_exchange: bool,
    /// Time up to which the issuer's data is true; None if it does not say.
    pub as_of: Option<Time>,
    /// Age of the issuer's data.
    pub age: Duration,
    /// Whether the data is older than `stale_after`.
    pub stale: bool,
}

/// Opens an offline code of a peer.
///
/// # Errors
///
/// `CodeInvalid` if the text is not an offline code, `IssuerUnknown` for an unknown key, `SignatureInvalid` if the signature does
/// not verify.
pub fn open_offline(peer: &Peer, text: &[u8]) -> Result<OfflineCode, Refusal> {
    let text = text.to_ascii_uppercase();
    let keys_of = |issuer| match issuer == peer.id {
        true => &peer.keys[..],
        false => &[],
    };
    OfflineCode::open(&text, keys_of).map_err(|fault| match fault {
        CodeFault::Form => Refusal::CodeInvalid,
        CodeFault::UnknownKey => Refusal::IssuerUnknown,
        CodeFault::Signature => Refusal::SignatureInvalid,
    })
}

/// Returns the verdict about an offline code by the issuer's list. A code that the list does not cover has no colour.
///
/// # Errors
///
/// `CodeRevoked`, or `CodeExpired` outside the code's validity.
pub fn judge_offline(
    peer: &Peer,
    code: &OfflineCode,
    lists: &HeldLists,
    ages: &ListAges,
    now: Time,
) -> Result<PeerVerdict, Refusal> {
    let (state, status, stale) = match lists.judge(code, now, ages) {
        OfflineDecision::Void => return Err(Refusal::CodeRevoked),
        OfflineDecision::Expired => return Err(Refusal::CodeExpired),
        OfflineDecision::Colour { state, stale } => match state {
            ListState::Green => (Colour::Green.word(), Some(Colour::Green.national()), stale),
            ListState::Red => (Colour::Red.word(), Some(Colour::Red.national()), stale),
            ListState::Yellow => (
                Colour::Yellow.word(),
                Some(Colour::Yellow.national()),
                stale,
            ),
            ListState::Void => return Err(Refusal::CodeRevoked),
        },
        // A list that does not cover the code, or has no known age, counts as too old.
        OfflineDecision::NotCovered | OfflineDecision::TooOld | OfflineDecision::Clock => {
            ("too_old", None, false)
        }
    };
    // Without a list the validity of the code was not checked yet.
    if now >= code.expires_at() {
        return Err(Refusal::CodeExpired);
    }
    let as_of = lists.as_of();
    Ok(PeerVerdict {
        issuer: peer.id,
        issuer_name: peer.name.clone(),
        state,
        status,
        reasons: Vec::new(),
        name: code.masked.name.print(),
        cert_no: code.masked.cert_no.print(),
        assurance: code.masked.assurance.word().to_owned(),
        issued_at: Some(code.issued_at),
        expires_at: Some(code.expires_at()),
        is_offline: true,
        by_exchange: false,
        as_of,
        age: as_of.map_or(Duration::ZERO, |as_of| now.since(as_of)),
        stale,
    })
}

/// The status list of a peer, and the keys that signed it.
#[derive(Clone, Debug, Default)]
pub struct PeerLists {
    /// The keys that sign the list.
    pub keys: Vec<VerifyingKey>,
    /// The files of the list.
    pub held: HeldLists,
    /// Number of the held base.
    pub number: Option<u64>,
}

impl PeerLists {
    /// Takes up files of a list if this peer signed them and they are not older than the held ones.
    ///
    /// # Errors
    ///
    /// A message that says which file is refused, and why. The held files stay.
    pub fn take(
        &mut self,
        issuer: u32,
        base: Option<Vec<u8>>,
        changes: Option<Vec<u8>>,
    ) -> Result<(), String> {
        // Either file may be wrong; then the held files stay.
        let mut next = self.clone();
        if let Some(base) = base {
            let base =
                BaseList::open(base.into(), &self.keys).map_err(|why| format!("base: {why}"))?;
            if base.head.issuer != issuer {
                return Err(format!("base: the issuer is {:06}", base.head.issuer));
            }
            let number = base.head.number;
            next.held
                .take_base(base)
                .map_err(|why| format!("base: {why}"))?;
            next.number = Some(number);
        }
        if let Some(changes) = changes {
            let changes =
                ListChanges::open(&changes, &self.keys).map_err(|why| format!("changes: {why}"))?;
            next.held
                .take_changes(changes)
                .map_err(|why| format!("changes: {why}"))?;
        }
        *self = next;
        Ok(())
    }
}
