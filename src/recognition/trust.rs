//! The trust list: recognised issuers, their keys, and the site's policy. It is read from files, as a whole or not at all.

use super::bounds::{KEYS_MAX, KEYS_OF_ONE_ID_MAX, read_bounded, shown};
use super::format::ForeignFormat;
use super::hc1::UncheckedHc1;
use super::keys::{IssuerKey, IssuerKeyFile, RevokedCodes, base64_any};
use super::pass::{
    ForeignPass, PassFault, PassKind, PassKinds, PolicyReason, PolicyVerdict, TestFinding, time_of,
};
use super::peer::Peer;
use super::shc::UncheckedShc;
use crate::clock::Time;
use crate::hex;
use crate::toml_text::toml_fault;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A section of passes in a trust file.
#[derive(Clone, Debug)]
pub struct PassSection {
    /// Format of the codes.
    pub format: ForeignFormat,
    /// Kinds of passes that are recognised.
    pub kinds: PassKinds,
    /// The site's policy; None if there is none.
    pub policy: Option<SitePolicy>,
}

/// The site's policy for passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePolicy {
    /// Kinds of passes that are accepted.
    pub kinds: PassKinds,
    /// Issuers that are accepted; None for all.
    pub issuers: Option<Vec<String>>,
    /// Age up to which a test is accepted; None for its whole validity.
    pub tested_for: Option<Duration>,
    /// Age up to which a vaccination is accepted; None for its whole validity.
    pub vaccinated_for: Option<Duration>,
    /// Age up to which a recovery is accepted; None for its whole validity.
    pub recovered_for: Option<Duration>,
    /// Whether the series of doses must be complete.
    pub whole_series: bool,
}

impl SitePolicy {
    /// Returns the decision about a pass. A missing field counts against the pass.
    pub fn judge(&self, pass: &ForeignPass, now: Time) -> PolicyVerdict {
        match self.reason(pass, now) {
            None => PolicyVerdict::Accepted,
            Some(reason) => PolicyVerdict::NotAccepted(reason),
        }
    }

    fn reason(&self, pass: &ForeignPass, now: Time) -> Option<PolicyReason> {
        if !self.kinds.has(pass.kind) {
            return Some(PolicyReason::Kind);
        }
        if let Some(issuers) = &self.issuers
            && !issuers.contains(&pass.issuer)
        {
            return Some(PolicyReason::Issuer);
        }
        if pass.is_covid != Some(true) {
            return Some(PolicyReason::Disease);
        }
        if pass.kind == PassKind::Tested && pass.finding != Some(TestFinding::NotDetected) {
            return Some(PolicyReason::Result);
        }
        if pass.kind == PassKind::Vaccinated && self.whole_series {
            let is_whole = match pass.doses {
                Some((dose, Some(series))) => dose >= series && series > 0,
                // A card that does not give the number of doses in the series lists each dose.
                Some((dose, None)) => dose >= 2,
                None => false,
            };
            if !is_whole {
                return Some(PolicyReason::Dose);
            }
        }
        let age_max = match pass.kind {
            PassKind::Vaccinated => self.vaccinated_for,
            PassKind::Tested => self.tested_for,
            PassKind::Recovered => self.recovered_for,
            PassKind::Statement => None,
        };
        let at = pass.at.as_deref().and_then(time_of);
        let fits = match (age_max, at) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(most), Some(at)) => at <= now && now.since(at) <= most,
        };
        let from = pass.valid_from.as_deref().and_then(time_of);
        // The last day counts as a whole.
        let until = pass
            .valid_until
            .as_deref()
            .and_then(time_of)
            .map(|until| until.plus(DAY));
        let begun = from.is_none_or(|from| from <= now) && until.is_none_or(|until| now < until);
        (!fits || !begun).then_some(PolicyReason::Age)
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// Keys and codes that the operator denies.
#[derive(Clone, Debug, Default)]
pub struct DenyList {
    /// Key ids as trust files write them: base64 or hexadecimal digits for HC1, text for cards.
    kids: HashSet<String>,
    codes: HashSet<String>,
}

impl DenyList {
    /// Returns whether the operator denies the code with this id.
    pub fn has_code(&self, id: &str) -> bool {
        !self.codes.is_empty() && self.codes.contains(id)
    }

    fn has_kid(&self, kid: &str) -> bool {
        !self.kids.is_empty() && self.kids.contains(kid)
    }

    fn has_bytes(&self, kid: &[u8]) -> bool {
        !self.kids.is_empty() && self.kids.contains(&hex::text(kid))
    }
}

/// Contents of a trust file and of the files that it names.
#[derive(Clone, Debug, Default)]
pub struct TrustList {
    hc1: HashMap<Vec<u8>, Vec<IssuerKey>>,
    shc: HashMap<(String, String), IssuerKey>,
    /// Sections of passes, in the order of the file.
    pub sections: Vec<PassSection>,
    /// Peers by the number of their issuer.
    pub peers: BTreeMap<u32, Arc<Peer>>,
    /// Denied keys and codes.
    pub deny: DenyList,
    /// Time of the oldest import among the key files; None without key files.
    pub as_of: Option<Time>,
    /// Files that the trust file names.
    pub files: Vec<PathBuf>,
}

impl TrustList {
    /// Returns the peer that pins the public key with this SHA-256.
    pub fn peer_of_pin(&self, pin: &[u8; 32]) -> Option<&Arc<Peer>> {
        self.peers.values().find(|peer| peer.pins.contains(pin))
    }

    /// Returns the number of keys of a format.
    pub fn keys(&self, format: ForeignFormat) -> usize {
        match format {
            ForeignFormat::Hc1 => self.hc1.values().map(Vec::len).sum(),
            ForeignFormat::Shc => self.shc.len(),
            ForeignFormat::Unread => 0,
        }
    }

    /// Returns each key with its format and id, for printing.
    pub fn all_keys(&self) -> Vec<(ForeignFormat, String, &IssuerKey)> {
        let hc1 = self.hc1.iter().flat_map(|(kid, keys)| {
            let kid = hex::text(kid);
            keys.iter()
                .map(move |key| (ForeignFormat::Hc1, kid.clone(), key))
        });
        let shc = self.shc.iter();
        let shc = shc.map(|((_, kid), key)| (ForeignFormat::Shc, kid.clone(), key));
        let mut all: Vec<_> = hc1.chain(shc).collect();
        all.sort_by(|a, b| (a.0.word(), &a.2.issuer, &a.1).cmp(&(b.0.word(), &b.2.issuer, &b.1)));
        all
    }

    /// Opens a code of another issuer. `now` holds the time and the allowed clock skew; with None, times are not checked.
    ///
    /// # Errors
    ///
    /// The fault of the code: format, key, signature, validity, kind, or revocation.
    pub fn open(
        &self,
        format: ForeignFormat,
        text: &[u8],
        now: Option<(Time, Duration)>,
    ) -> Result<ForeignPass, PassFault> {
        let (mut pass, section) = match format {
            ForeignFormat::Hc1 => {
                let unchecked = UncheckedHc1::read(text)?;
                let keys = self.hc1.get(unchecked.kid());
                let opened = unchecked.open(keys.map_or(&[], |keys| &keys[..]))?;
                let is_denied = self.deny.has_bytes(unchecked.kid())
                    || (opened.id.as_deref()).is_some_and(|id| self.deny.has_code(id));
                if is_denied {
                    return Err(PassFault::Revoked);
                }
                opened.judge(now)?;
                (opened.pass, opened.key.section)
            }
            ForeignFormat::Shc => {
                let unchecked = UncheckedShc::read(text)?;
                let named = (unchecked.issuer().to_owned(), unchecked.kid().to_owned());
                let opened = unchecked.open(self.shc.get(&named))?;
                let is_denied = self.deny.has_kid(&named.1)
                    || (opened.id.as_deref()).is_some_and(|id| self.deny.has_code(id));
                if is_denied {
                    return Err(PassFault::Revoked);
                }
                opened.judge(now)?;
                (opened.pass, opened.key.section)
            }
            ForeignFormat::Unread => return Err(PassFault::UnknownKey),
        };
        if let (Some(policy), Some((now, _))) = (&self.sections[section].policy, now) {
            pass.policy = policy.judge(&pass, now);
        }
        Ok(pass)
    }

    /// Adds the keys of a file to a section. Returns all faults.
    pub fn add_keys(&mut self, section: usize, file: &IssuerKeyFile) -> Vec<String> {
        let mut faults = Vec::new();
        let PassSection { format, kinds, .. } = self.sections[section];
        if file.format != format.word() {
            faults.push(format!(
                "the file has keys of {}, not of {}",
                shown(&file.format),
                format.word()
            ));
            return faults;
        }
        match file.imported_at.parse::<jiff::Timestamp>() {
            Ok(at) => {
                let at = Time(u64::try_from(at.as_millisecond()).unwrap_or(0));
                self.as_of = Some(self.as_of.map_or(at, |known| known.min(at)));
            }
            Err(_) => faults.push("imported_at is not a time".to_owned()),
        }
        for (nth, entry) in file.keys.iter().enumerate() {
            let mut bad = |why: &str| faults.push(format!("key {}: {why}", nth + 1));
            let Some(public) = entry.public() else {
                bad("is neither a P-256 key nor an RSA key of 2048 to 4096 bits");
                continue;
            };
            let own = match &entry.kinds {
                None => Some(PassKinds::ANY),
                Some(words) => {
                    let named: Option<Vec<PassKind>> =
                        words.iter().map(|word| PassKind::named(word)).collect();
                    named.map(|named| PassKinds::of(&named))
                }
            };
            let Some(own) = own else {
                bad("names a kind that there is not");
                continue;
            };
            let key = IssuerKey {
                public,
                issuer: shown(&entry.issuer),
                issuer_name: entry.name.as_deref().map(shown),
                kinds: own.both(kinds),
                revoked: (entry.revoked.as_ref())
                    .map(|ids| RevokedCodes::read(ids, !entry.revoked_is_old)),
                section,
            };
            match format {
                ForeignFormat::Hc1 => match base64_any(&entry.kid) {
                    Some(kid) if (1..=super::bounds::KID_BYTES_MAX).contains(&kid.len()) => {
                        let keys = self.hc1.entry(kid).or_default();
                        match keys.len() < KEYS_OF_ONE_ID_MAX {
                            true => keys.push(key),
                            false => bad("is one of too many with the same kid"),
                        }
                    }
                    _ => bad("its kid must be base64 of 1 to 32 bytes"),
                },
                _ => {
                    let named = (entry.issuer.clone(), entry.kid.clone());
                    if self.shc.insert(named, key).is_some() {
                        bad("is there twice, with the same issuer and kid");
                    }
                }
            }
        }
        let keys: usize = [ForeignFormat::Hc1, ForeignFormat::Shc]
            .map(|format| self.keys(format))
            .iter()
            .sum();
        if keys > KEYS_MAX {
            faults.push(format!("there are {keys} keys; {KEYS_MAX} is the limit"));
        }
        faults
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyWords {
    kinds: Option<Vec<String>>,
    issuers: Option<Vec<String>>,
    tested_hours: Option<u32>,
    vaccinated_days: Option<u32>,
    recovered_days: Option<u32>,
    whole_series: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PassWords {
    format: String,
    trust: PathBuf,
    kinds: Option<Vec<String>>,
    policy: Option<PolicyWords>,
    #[serde(rename = "name")]
    _name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DenyWords {
    kid: Option<String>,
    code: Option<String>,
}

/// Reads a trust file and the files that it names, relative to its folder.
///
/// # Errors
///
/// All faults of the file and of the files that it names.
pub fn read(path: &Path) -> Result<TrustList, Vec<String>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![format!("{}: {error}", path.display())])?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, folder)
}

/// Parses the text of a trust file. Files that it names are relative to `folder`.
///
/// # Errors
///
/// All faults of the text and of the files that it names.
pub fn parse(text: &str, folder: &Path) -> Result<TrustList, Vec<String>> {
    let table: BTreeMap<String, toml::Value> =
        toml::from_str(text).map_err(|error| vec![toml_fault(text, &error)])?;
    let (mut list, mut faults) = (TrustList::default(), Vec::new());
    for (name, value) in table {
        let entries = match value {
            toml::Value::Array(entries) => entries,
            _ => {
                faults.push(format!("{name}: must be a list of sections, [[{name}]]"));
                continue;
            }
        };
        for (nth, entry) in entries.into_iter().enumerate() {
            let place = format!("[[{name}]] {}", nth + 1);
            let found = match name.as_str() {
                "issuer" => read_issuer(&mut list, entry, folder),
                "deny" => read_deny(&mut list.deny, entry),
                _ => vec!["there is no such section".to_owned()],
            };
            faults.extend(found.into_iter().map(|fault| format!("{place}: {fault}")));
        }
    }
    match faults.is_empty() {
        true => Ok(list),
        false => Err(faults),
    }
}

fn read_issuer(list: &mut TrustList, entry: toml::Value, folder: &Path) -> Vec<String> {
    if entry.get("format").and_then(toml::Value::as_str) == Some("liangma") {
        return read_peer(list, entry, folder);
    }
    let words: PassWords = match entry.try_into() {
        Ok(words) => words,
        Err(error) => return vec![error.to_string().trim_end().to_owned()],
    };
    let mut faults = Vec::new();
    let format = match words.format.as_str() {
        "hc1" => ForeignFormat::Hc1,
        "shc" => ForeignFormat::Shc,
        other => {
            faults.push(format!(
                "format: {} is not known; liangma, hc1, shc",
                shown(other)
            ));
            ForeignFormat::Unread
        }
    };
    let mut kinds_of = |place: &str, words: Option<Vec<String>>| {
        let mut kinds = Vec::new();
        for word in words.as_ref()? {
            match PassKind::named(word) {
                Some(kind) => kinds.push(kind),
                None => faults.push(format!("{place}: unknown kind {}", shown(word))),
            }
        }
        Some(PassKinds::of(&kinds))
    };
    let kinds = kinds_of("kinds", words.kinds).unwrap_or(PassKinds::ANY);
    let policy = words.policy.map(|policy| {
        const FACTS: [PassKind; 3] = [PassKind::Vaccinated, PassKind::Tested, PassKind::Recovered];
        let hours = |hours: u32| Duration::from_secs(3_600 * u64::from(hours));
        SitePolicy {
            kinds: kinds_of("policy.kinds", policy.kinds).unwrap_or(PassKinds::of(&FACTS)),
            issuers: policy.issuers,
            tested_for: policy.tested_hours.map(hours),
            vaccinated_for: policy.vaccinated_days.map(|days| DAY * days),
            recovered_for: policy.recovered_days.map(|days| DAY * days),
            whole_series: policy.whole_series.unwrap_or(true),
        }
    });
    let section = list.sections.len();
    list.sections.push(PassSection {
        format,
        kinds,
        policy,
    });
    if format == ForeignFormat::Unread {
        return faults;
    }
    let path = folder.join(&words.trust);
    list.files.push(path.clone());
    match read_keys(&path) {
        Ok(file) => {
            let found = list.add_keys(section, &file);
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| format!("{}: {fault}", path.display())),
            );
        }
        Err(error) => faults.push(format!("{}: {error}", path.display())),
    }
    faults
}

fn read_peer(list: &mut TrustList, entry: toml::Value, folder: &Path) -> Vec<String> {
    let (peer, files, mut faults) = Peer::read(entry, folder);
    list.files.extend(files);
    if let Some(peer) = peer {
        let taken = |pin| list.peers.values().any(|other| other.pins.contains(pin));
        if peer.pins.iter().any(taken) {
            faults.push("peer: another issuer has the same public key".to_owned());
        }
        if list.peers.contains_key(&peer.id) {
            faults.push(format!("id: {:06} is there twice", peer.id));
        }
        list.peers.insert(peer.id, Arc::new(peer));
    }
    faults
}

/// Reads a key file.
///
/// # Errors
///
/// A message: the file cannot be read, or is not a key file.
pub fn read_keys(path: &Path) -> Result<IssuerKeyFile, String> {
    let bytes = read_bounded(path)?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn read_deny(deny: &mut DenyList, entry: toml::Value) -> Vec<String> {
    let words: DenyWords = match entry.try_into() {
        Ok(words) => words,
        Err(error) => return vec![error.to_string().trim_end().to_owned()],
    };
    if words.kid.is_none() && words.code.is_none() {
        return vec!["names neither a kid nor a code".to_owned()];
    }
    if let Some(kid) = words.kid {
        // The id of an HC1 key may be written in base64, as in published lists, or in hexadecimal digits.
        if let Some(bytes) = base64_any(&kid) {
            deny.kids.insert(hex::text(&bytes));
        }
        if kid.bytes().all(|b| b.is_ascii_hexdigit()) {
            deny.kids.insert(kid.to_ascii_lowercase());
        }
        deny.kids.insert(kid);
    }
    deny.codes.extend(words.code);
    Vec::new()
}
