//! Another health code: who it is, by which keys its offline codes and lists are known, and what a gate says of its codes.

use super::bounds::shown;
use crate::answer::Refusal;
use crate::clock::Time;
use crate::hex;
use crate::offline::ListState;
use crate::offline::code::{CodeFault, OfflineCode};
use crate::offline::gate::{HeldLists, ListAges, OfflineDecision};
use crate::offline::issue::read_jwks;
use crate::offline::list::{BaseList, ListChanges};
use crate::offline::sign::VerifyingKey;
use crate::status::Colour;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a peer's status list comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListPlace {
    /// A folder with `base.lml` and `changes.lml`.
    Folder(PathBuf),
    /// An address, as `https://HOST/v1/list/820000`.
    Address(String),
}

/// A peer, as the trust file names it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Division of GB/T 2260 as a number.
    pub id: u32,
    /// The name of the issuer for people.
    pub name: String,
    /// The keys that sign its offline codes and lists.
    pub keys: Vec<VerifyingKey>,
    /// Where its status list is; None where there is none.
    pub list: Option<ListPlace>,
    /// A file with the scanner's token that the address of the list asks for.
    pub list_token: Option<PathBuf>,
    /// Who signed the certificate at the address of the list; the system's authorities without it.
    pub list_ca: Option<PathBuf>,
    /// Where it answers for its live codes, as `https://HOST:PORT`.
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
    /// Reads a section of a trust file, and the files that it names. Returns them, and everything that is wrong.
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
            faults.push("id: is no division of GB/T 2260, six digits".to_owned());
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
                        "keys: {place}: has no keys as GET /v1/keys gives them"
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
                "list: is no folder, and no address such as https://HOST/v1/list/820000".to_owned(),
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
                None => faults
                    .push("peer: is no SHA-256 of a public key, 64 hexadecimal digits".to_owned()),
            }
        }
        if let Some(exchange) = &words.exchange {
            if !is_address(exchange, false) {
                faults.push("exchange: is no address such as https://HOST:PORT".to_owned());
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

/// Whether a text is an address; `list`: with a path, and plain HTTP will do, because files are signed.
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

/// What a gate is told of a code of a peer. Texts are as answers may show them.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerVerdict {
    /// The division of the issuer, as a number.
    pub issuer: u32,
    /// The name of the issuer for people.
    pub issuer_name: String,
    /// `green`, `yellow`, `red`, `unknown` or `too_old`.
    pub state: &'static str,
    /// The national value, of a colour.
    pub status: Option<&'static str>,
    /// Words and texts, as the issuer says them.
    pub reasons: Vec<(String, String)>,
    /// The masked name of the holder.
    pub name: String,
    /// The masked document number.
    pub cert_no: String,
    /// The word of the level of assurance.
    pub assurance: String,
    /// When the code was made; None where the issuer does not say.
    pub issued_at: Option<Time>,
    /// When the code ends; None where the issuer does not say.
    pub expires_at: Option<Time>,
    /// An offline code, which can be copied.
    pub is_offline: bool,
    /// Whether the issuer was asked; otherwise its list was.
    pub by_exchange: bool,
    /// The time as of which the issuer tells; None where it does not say.
    pub as_of: Option<Time>,
    /// How old the knowledge is.
    pub age: Duration,
    /// Whether it is past the age at which verdicts are marked.
    pub stale: bool,
}

/// Opens an offline code of a peer: the code, or why it is none.
///
/// # Errors
///
/// `CodeInvalid` for another form, `IssuerUnknown` for another key, `SignatureInvalid` for another signature.
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

/// Judges an offline code by the list of its issuer.
///
/// # Errors
///
/// `CodeRevoked`, or `CodeExpired` for a code that is over. What the list does not cover is no error: it has no colour.
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
        // A list that does not reach the code, and one of which no age can be told, say as little as one that is too old.
        OfflineDecision::NotCovered | OfflineDecision::TooOld | OfflineDecision::Clock => {
            ("too_old", None, false)
        }
    };
    // Without a list nothing of the life of a code was judged yet.
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

/// The list of a peer, and the keys by which it was taken.
#[derive(Clone, Debug, Default)]
pub struct PeerLists {
    /// The keys that sign the list.
    pub keys: Vec<VerifyingKey>,
    /// The lists that are held.
    pub held: HeldLists,
    /// Number of the base that is held.
    pub number: Option<u64>,
}

impl PeerLists {
    /// Takes files of a list, where they are of this peer, signed by its keys, and no older than what is held.
    ///
    /// # Errors
    ///
    /// It says in words which file is not taken, and why.
    pub fn take(
        &mut self,
        issuer: u32,
        base: Option<Vec<u8>>,
        changes: Option<Vec<u8>>,
    ) -> Result<(), String> {
        // Either file may be what is wrong: what is held stays as it is then.
        let mut next = self.clone();
        if let Some(base) = base {
            let base =
                BaseList::open(base.into(), &self.keys).map_err(|why| format!("base: {why}"))?;
            if base.head.issuer != issuer {
                return Err(format!("base: it is of {:06}", base.head.issuer));
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
