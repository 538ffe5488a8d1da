//! Issues offline codes and opens them at a door: the signing keys in force and the revoked generations. Takes keys and a
//! holder, returns a code or its holder; no board, store or HTTP.

use super::code::{CodeFault, OFFLINE_CODE_CHARS, OfflineCode};
use super::daily::DayKeys;
use super::ids::ListId;
use super::permutation::Permutation;
use super::sign::{SignatureAlgorithm, SigningKey, VerifyingKey};
use crate::clock::Time;
use crate::person::{MaskedIdentity, ResidentId};
use crate::refusal::Refusal;
use crate::seal::NumberHasher;
use crate::seal::ring::{KeyState, OfflineSource};
use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::json;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

/// Settings of offline codes.
#[derive(Clone, Debug)]
pub struct OfflineSettings {
    /// The issuer: a division of GB/T 2260 as a number.
    pub issuer: u32,
    /// Validity of a code if the caller asks for none.
    pub life: Duration,
    /// Longest validity that a caller may ask for.
    pub life_max: Duration,
    /// Codes that one thread may sign in a second.
    pub codes_per_second: u32,
}

/// The offline keys of a ring, ready for use.
pub struct OfflineKeys {
    /// The permutation that makes list ids.
    pub permutation: Permutation,
    /// The signing key; None with a ring part for doors that only verify.
    pub signing: Option<SigningKey>,
    /// All public keys: the current one, the next one and the previous ones.
    pub verifying: Vec<VerifyingKey>,
    /// The keys of days that seal public list files.
    pub days: DayKeys,
    /// The public keys as a JWKS document.
    pub jwks: Bytes,
    /// The entity tag of the JWKS, in quotes.
    pub jwks_tag: String,
}

impl OfflineKeys {
    /// Returns the keys of a ring; None if the ring was made before offline codes existed.
    pub fn of(ring: &impl OfflineSource, issuer: u32) -> Option<OfflineKeys> {
        let mut secrets = ring.offline()?;
        secrets.signing.sort_by_key(|pair| match pair.state {
            KeyState::Current => 0,
            KeyState::Next => 1,
            KeyState::Previous => 2,
        });
        let current = secrets.signing.first()?;
        let private = current.private;
        let signing = private.and_then(|der| SigningKey::from_pkcs8(current.id, der));
        let verifying = secrets.signing.iter().map(|pair| VerifyingKey {
            id: pair.id,
            algorithm: SignatureAlgorithm::Es256,
            public: pair.public.clone(),
        });
        let verifying: Vec<VerifyingKey> = verifying.collect();
        let jwks = jwks(issuer, &verifying);
        Some(OfflineKeys {
            permutation: Permutation::new(secrets.permutation),
            signing,
            verifying,
            days: DayKeys::new(&secrets.days[..]),
            jwks_tag: etag(&jwks),
            jwks,
        })
    }
}

/// Returns a strong entity tag of `bytes`, in quotes.
pub fn etag(bytes: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let hash = u64::from_be_bytes(hash.as_ref()[..8].try_into().expect("8 of 32"));
    format!("\"{hash:016x}\"")
}

/// Prints public keys as a JWKS (RFC 7517) with the issuer.
fn jwks(issuer: u32, keys: &[VerifyingKey]) -> Bytes {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            // An uncompressed point is the byte 4, then x, then y.
            let (x, y) = key.public[1..].split_at(32);
            json!({
                "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key.id.to_string(),
                "x": BASE64_URL_SAFE_NO_PAD.encode(x), "y": BASE64_URL_SAFE_NO_PAD.encode(y),
            })
        })
        .collect();
    json!({ "issuer": format!("{issuer:06}"), "keys": keys })
        .to_string()
        .into()
}

/// Parses a JWKS that [`OfflineKeys`] printed, and returns the issuer and its keys. Keys of other kinds are skipped; None for
/// any other document.
pub fn read_jwks(bytes: &[u8]) -> Option<(u32, Vec<VerifyingKey>)> {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
    let read: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let issuer = crate::feed::parse_region(read["issuer"].as_str()?)?;
    let part = |key: &serde_json::Value, name: &str| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok()?;
        <[u8; 32]>::try_from(bytes).ok()
    };
    let point = |key: &serde_json::Value| {
        if key["kty"] != "EC" || key["crv"] != "P-256" {
            return None;
        }
        let public = [&[4][..], &part(key, "x")?, &part(key, "y")?].concat();
        Some(VerifyingKey {
            id: key["kid"].as_str()?.parse().ok()?,
            algorithm: SignatureAlgorithm::Es256,
            public: public.into(),
        })
    };
    let keys = read["keys"].as_array()?.iter().filter_map(point);
    Some((issuer, keys.collect()))
}

type Newest = HashMap<u64, u8, BuildHasherDefault<NumberHasher>>;

/// The highest generation. Codes of it are never issued, because it could not be revoked.
pub const LAST_GENERATION: u8 = u8::MAX;

/// The newest revoked generation of each resident. That one and all earlier ones are invalid.
#[derive(Default)]
pub struct Generations {
    newest: ArcSwap<Newest>,
    /// Time up to which all revocations are read, in milliseconds since 1970; 0 before the first reading.
    read_to: AtomicU64,
}

impl Generations {
    /// Returns the newest revoked generation of a resident; None if none was revoked.
    ///
    /// # Errors
    ///
    /// `Warming` until the revocations are read.
    pub fn newest(&self, resident: ResidentId) -> Result<Option<u8>, Refusal> {
        match self.read_to.load(Acquire) {
            0 => Err(Refusal::Warming),
            _ => Ok(self.newest.load().get(&resident.0).copied()),
        }
    }

    /// Returns the generation of a resident's next code.
    ///
    /// # Errors
    ///
    /// `Warming` until the revocations are read, `LimitReached` if no generation is left.
    pub fn current(&self, resident: ResidentId) -> Result<u8, Refusal> {
        let next = match self.newest(resident)? {
            None => Some(0),
            Some(newest) => newest.checked_add(1),
        };
        next.filter(|next| *next < LAST_GENERATION)
            .ok_or(Refusal::LimitReached)
    }

    /// Adds revoked generations. A revocation is never undone.
    pub fn add(&self, revoked: &[(ResidentId, u8)]) {
        let known = self.newest.load();
        let is_news = |(id, generation): &&(ResidentId, u8)| {
            known.get(&id.0).is_none_or(|known| known < generation)
        };
        let news: Vec<_> = revoked.iter().filter(is_news).collect();
        if news.is_empty() {
            return;
        }
        self.newest.rcu(|known| {
            let mut newest = Newest::clone(known);
            for (id, generation) in &news {
                let known = newest.entry(id.0).or_insert(*generation);
                *known = (*known).max(*generation);
            }
            newest
        });
    }

    /// Returns the time up to which all revocations are read; None before the first reading.
    pub fn read_to(&self) -> Option<Time> {
        Some(Time(self.read_to.load(Acquire))).filter(|at| at.0 > 0)
    }

    /// Records that all revocations before `to` were added.
    pub fn was_read(&self, to: Time) {
        self.read_to.fetch_max(to.0.max(1), AcqRel);
    }

    /// Returns each resident with the newest revoked generation.
    pub fn all(&self) -> Vec<(ResidentId, u8)> {
        let newest = self.newest.load();
        let all = newest.iter();
        all.map(|(id, generation)| (ResidentId(*id), *generation))
            .collect()
    }
}

/// Result of issuing or opening an offline code, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOutcome {
    /// A code was issued.
    Issued,
    /// A gate scanned a valid code.
    Opened,
    /// A gate scanned an expired code.
    Expired,
    /// A gate scanned a revoked code.
    Revoked,
    /// A gate scanned a text that is not a genuine code.
    Invalid,
}

impl CodeOutcome {
    /// All outcomes, in the order of the enum.
    pub const ALL: [CodeOutcome; 5] = [
        CodeOutcome::Issued,
        CodeOutcome::Opened,
        CodeOutcome::Expired,
        CodeOutcome::Revoked,
        CodeOutcome::Invalid,
    ];

    /// Returns the value of the label `outcome`.
    pub fn label(self) -> &'static str {
        match self {
            CodeOutcome::Issued => "issued",
            CodeOutcome::Opened => "opened",
            CodeOutcome::Expired => "expired",
            CodeOutcome::Revoked => "revoked",
            CodeOutcome::Invalid => "invalid",
        }
    }
}

/// Issues and opens offline codes of one issuer.
pub struct OfflineIssuer {
    /// Settings of the codes.
    pub settings: OfflineSettings,
    keys: ArcSwap<OfflineKeys>,
    /// The revoked generations.
    pub generations: Generations,
    counts: [AtomicU64; 5],
}

/// An opened offline code and its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedOffline {
    /// The holder.
    pub resident: ResidentId,
    /// The contents of the code.
    pub code: OfflineCode,
}

/// The resident for whom a code is issued.
pub struct OfflineHolder {
    /// The resident.
    pub resident: ResidentId,
    /// The check bits of the resident's status word.
    pub check: u16,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

impl OfflineIssuer {
    /// Returns an issuer with the keys of a ring.
    pub fn new(keys: OfflineKeys, settings: OfflineSettings) -> OfflineIssuer {
        OfflineIssuer {
            settings,
            keys: ArcSwap::from_pointee(keys),
            generations: Generations::default(),
            counts: Default::default(),
        }
    }

    fn count(&self, outcome: CodeOutcome) {
        self.counts[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Returns the number of codes with this result.
    pub fn counted(&self, outcome: CodeOutcome) -> u64 {
        self.counts[outcome as usize].load(Relaxed)
    }

    /// Takes up the keys of a new ring. Returns false, and keeps the keys in force, if the ring has no offline keys.
    pub fn reload(&self, ring: &impl OfflineSource) -> bool {
        let keys = OfflineKeys::of(ring, self.settings.issuer);
        let has_some = keys.is_some();
        if let Some(keys) = keys {
            self.keys.store(Arc::new(keys));
        }
        has_some
    }

    /// Returns the keys in force.
    pub fn keys(&self) -> Arc<OfflineKeys> {
        self.keys.load_full()
    }

    /// Returns the validity in hours that a caller asks for, or the default.
    ///
    /// # Errors
    ///
    /// `Malformed` if the text is not a whole number of hours within the bounds.
    pub fn life(&self, hours: Option<&str>) -> Result<u16, Refusal> {
        let most = self.settings.life_max.as_secs() / 3_600;
        let hours = match hours {
            None => self.settings.life.as_secs() / 3_600,
            // Signs and blanks are refused.
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().map_err(|_| Refusal::Malformed)?
            }
            Some(_) => return Err(Refusal::Malformed),
        };
        match (1..=most).contains(&hours) {
            true => u16::try_from(hours).map_err(|_| Refusal::Malformed),
            false => Err(Refusal::Malformed),
        }
    }

    /// Signs a code.
    ///
    /// # Errors
    ///
    /// `Internal` if the system's random generator fails, `NotFound` if the keys only verify.
    pub fn issue(
        &self,
        holder: &OfflineHolder,
        life_hours: u16,
        now: Time,
    ) -> Result<(String, OfflineCode), Refusal> {
        let generation = self.generations.current(holder.resident)?;
        let keys = self.keys.load();
        let signing = keys.signing.as_ref().ok_or(Refusal::NotFound)?;
        let code = OfflineCode {
            key: signing.id,
            issuer: self.settings.issuer,
            list_id: keys.permutation.list_id(holder.resident, generation),
            generation,
            check: holder.check,
            // Rounded up: a list made before the code does not contain its holder.
            issued_at: Time(now.0.div_ceil(1_000) * 1_000),
            life_hours,
            masked: holder.masked,
        };
        let text = code.sign(signing).ok_or(Refusal::Internal)?;
        self.count(CodeOutcome::Issued);
        Ok((text, code))
    }

    /// Returns the list id of a resident's codes of a generation.
    pub fn list_id(&self, resident: ResidentId, generation: u8) -> ListId {
        self.keys.load().permutation.list_id(resident, generation)
    }

    /// Opens a code that a gate scanned.
    ///
    /// # Errors
    ///
    /// `CodeInvalid` for a text that is not a code of this issuer, `CodeExpired` outside its validity, `CodeRevoked`, and
    /// `Warming` until the revocations are read.
    pub fn open(&self, text: &[u8], now: Time, skew: Duration) -> Result<OpenedOffline, Refusal> {
        let opened = self.read(text, now, skew);
        match &opened {
            Ok(_) => self.count(CodeOutcome::Opened),
            Err(Refusal::CodeExpired) => self.count(CodeOutcome::Expired),
            Err(Refusal::CodeRevoked) => self.count(CodeOutcome::Revoked),
            Err(Refusal::CodeInvalid) => self.count(CodeOutcome::Invalid),
            // It is asked for again.
            Err(_) => {}
        }
        opened
    }

    fn read(&self, text: &[u8], now: Time, skew: Duration) -> Result<OpenedOffline, Refusal> {
        if text.len() != OFFLINE_CODE_CHARS {
            return Err(Refusal::CodeInvalid);
        }
        let text = text.to_ascii_uppercase();
        let keys = self.keys.load();
        let own = self.settings.issuer;
        let keys_of = |issuer| match issuer == own {
            true => &keys.verifying[..],
            false => &[],
        };
        let code = OfflineCode::open(&text, keys_of).map_err(|fault| match fault {
            CodeFault::Form | CodeFault::UnknownKey | CodeFault::Signature => Refusal::CodeInvalid,
        })?;
        // Issue times are rounded up to seconds.
        if now.plus(skew + Duration::from_secs(1)) < code.issued_at || now >= code.expires_at() {
            return Err(Refusal::CodeExpired);
        }
        let resident = keys.permutation.resident(code.list_id, code.generation);
        match self.generations.newest(resident)? {
            Some(newest) if code.generation <= newest => Err(Refusal::CodeRevoked),
            _ => Ok(OpenedOffline { resident, code }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::person::{Assurance, Document, MaskedName};
    use crate::seal::ring::RingFile;

    const NOW: Time = Time(1_795_500_000_400);
    const SKEW: Duration = Duration::from_secs(2);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn issuer_of(ring: &RingFile, issuer: u32) -> OfflineIssuer {
        let settings = OfflineSettings {
            issuer,
            life: 72 * HOUR,
            life_max: 100 * HOUR,
            codes_per_second: 1,
        };
        let issuer = OfflineIssuer::new(OfflineKeys::of(ring, issuer).unwrap(), settings);
        issuer.generations.was_read(NOW);
        issuer
    }

    fn holder() -> OfflineHolder {
        let document = Document::parse("10", "440106199003077211", 20_261_128).unwrap();
        OfflineHolder {
            resident: ResidentId(0x1234_5678_9abc_def0),
            check: 77,
            masked: MaskedIdentity {
                name: MaskedName::of("陈美玲"),
                cert_no: document.mask(),
                assurance: Assurance::RealName,
            },
        }
    }

    #[test]
    fn an_issued_code_leads_back_to_its_holder_until_its_end() {
        let issuer = issuer_of(&RingFile::generate(NOW), 440_000);
        let (text, code) = issuer.issue(&holder(), 1, NOW).unwrap();
        assert_eq!(code.issued_at, Time(1_795_500_001_000));
        let at = |now: Time| issuer.open(text.as_bytes(), now, SKEW);
        assert_eq!(at(NOW).unwrap().resident, holder().resident);
        assert_eq!(at(NOW).unwrap().code.check, 77);
        let lower = text.to_ascii_lowercase();
        assert!(issuer.open(lower.as_bytes(), NOW, SKEW).is_ok());
        assert!(at(Time(code.expires_at().0 - 1)).is_ok());
        assert_eq!(at(code.expires_at()), Err(Refusal::CodeExpired));
        assert_eq!(at(Time(NOW.0 - 10_000)), Err(Refusal::CodeExpired));
    }

    #[test]
    fn what_another_ring_or_issuer_signed_is_invalid() {
        let ring = RingFile::generate(NOW);
        let (text, _) = issuer_of(&ring, 440_000).issue(&holder(), 1, NOW).unwrap();
        for other in [
            issuer_of(&RingFile::generate(NOW), 440_000),
            issuer_of(&ring, 820_000),
        ] {
            let opened = other.open(text.as_bytes(), NOW, SKEW);
            assert_eq!(opened, Err(Refusal::CodeInvalid));
        }
    }

    #[test]
    fn printed_keys_are_read_back() {
        let keys = OfflineKeys::of(&RingFile::generate(NOW), 440_000).unwrap();
        assert_eq!(read_jwks(&keys.jwks), Some((440_000, keys.verifying)));
        for bad in ["", "{}", "[]", "{\"issuer\":\"44\",\"keys\":[]}"] {
            assert_eq!(read_jwks(bad.as_bytes()), None, "{bad:?}");
        }
        let none = b"{\"issuer\":\"440000\",\"keys\":[{\"kty\":\"RSA\"}]}";
        assert_eq!(read_jwks(none), Some((440_000, Vec::new())));
    }

    #[test]
    fn codes_outlive_rotations_until_their_key_leaves() {
        let mut ring = RingFile::generate(NOW);
        let issuer = issuer_of(&ring, 440_000);
        let (text, _) = issuer.issue(&holder(), 1, NOW).unwrap();
        ring.rotate_sign(NOW, HOUR).unwrap();
        assert!(issuer.reload(&ring));
        assert!(issuer.open(text.as_bytes(), NOW, SKEW).is_ok());
        assert_eq!(issuer.issue(&holder(), 1, NOW).unwrap().1.key, 2);
        ring.drop_previous_sign();
        assert!(issuer.reload(&ring));
        let gone = issuer.open(text.as_bytes(), NOW, SKEW);
        assert_eq!(gone, Err(Refusal::CodeInvalid));
    }

    #[test]
    fn a_revoked_generation_is_refused_and_the_next_one_is_another_id() {
        let issuer = issuer_of(&RingFile::generate(NOW), 440_000);
        let (old, before) = issuer.issue(&holder(), 1, NOW).unwrap();
        issuer.generations.add(&[(holder().resident, 0)]);
        let refused = issuer.open(old.as_bytes(), NOW, SKEW);
        assert_eq!(refused, Err(Refusal::CodeRevoked));
        let (new, after) = issuer.issue(&holder(), 1, NOW).unwrap();
        assert_eq!(after.generation, 1);
        assert_ne!(before.list_id, after.list_id);
        assert!(issuer.open(new.as_bytes(), NOW, SKEW).is_ok());
        // An older revocation that is read later changes nothing.
        issuer.generations.add(&[(holder().resident, 0)]);
        assert!(issuer.open(new.as_bytes(), NOW, SKEW).is_ok());
        issuer.generations.add(&[(holder().resident, u8::MAX)]);
        let more = issuer.issue(&holder(), 1, NOW).map(|(_, code)| code);
        assert_eq!(more, Err(Refusal::LimitReached));
    }

    #[test]
    fn nothing_is_told_before_what_was_revoked_is_known() {
        let ring = RingFile::generate(NOW);
        let (text, _) = issuer_of(&ring, 440_000).issue(&holder(), 1, NOW).unwrap();
        let fresh = issuer_of(&ring, 440_000);
        fresh.generations.read_to.store(0, Release);
        let opened = fresh.open(text.as_bytes(), NOW, SKEW);
        assert_eq!(opened, Err(Refusal::Warming));
        let issued = fresh.issue(&holder(), 1, NOW).map(|(_, code)| code);
        assert_eq!(issued, Err(Refusal::Warming));
    }

    #[test]
    fn a_life_is_hours_within_the_longest() {
        let issuer = issuer_of(&RingFile::generate(NOW), 440_000);
        assert_eq!(issuer.life(None), Ok(72));
        assert_eq!(issuer.life(Some("1")), Ok(1));
        assert_eq!(issuer.life(Some("100")), Ok(100));
        for bad in [
            "0",
            "101",
            "-1",
            "+5",
            "",
            "1h",
            " 5",
            "99999999999999999999",
        ] {
            assert_eq!(issuer.life(Some(bad)), Err(Refusal::Malformed), "{bad:?}");
        }
    }
}
