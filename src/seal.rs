//! Sealing: codes, sessions and tokens that only nodes with the ring can make and read, ids of documents, and profiles at rest.
//! Knows neither board nor store nor HTTP.
//!
//! A sealed text is `kind and version (1) · key id (1) · nonce (12) · contents · tag (16)` in base32. The first two bytes are
//! authenticated. AES-128-GCM-SIV tolerates a repeated nonce. Nonces are a random prefix of the thread and a counter, because
//! system randomness costs more than the sealing.

mod anew;
pub mod base32;
mod derivation;
mod grant;
mod papers;
mod revoked;
pub mod ring;
pub mod tags;

use crate::clock::Time;
use crate::person::{
    Assurance, CertType, Document, Identity, MaskedIdentity, MaskedName, MaskedNumber, Profile,
    ResidentId,
};
use crate::refusal::Refusal;
use crate::tls::CertificateDigest;
pub use anew::{RestSeal, SealedAnew};
use arc_swap::ArcSwap;
use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
pub use grant::{GRANT_CHARS, Grant};
pub use papers::PLAIN_BYTES_MAX;
pub use revoked::{NumberHasher, Revocation, RevocationSubject, RevocationTable};
use ring::{KeyRing, TokenKind};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tags::StatusTags;

/// Why a key must be present.
const WHOLE: &str = "doors for which a part of a ring has no keys are not opened";

const VERSION: u8 = 1;
const HEAD: usize = 2 + NONCE_LEN;
const TAG: usize = 16;

/// Length of the longest sealed text, in bytes: a token with its names.
const SEALED_MAX: usize = 256;

/// Length of the longest credential, in characters.
pub const TOKEN_CHARS_MAX: usize = base32::encoded_len(SEALED_MAX);

/// Longest validity of a session, by setting or command. Revocations of sessions are kept that long.
pub const SESSION_LIFE_MAX: Duration = Duration::from_secs(90 * 86_400);

/// Longest validity of a token.
pub const ACCESS_TOKEN_LIFE_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// Longest name of a site or source, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Origin of issue times of codes, which count milliseconds in 40 bits until 2054.
const ISSUE_EPOCH_MS: u64 = 1_577_836_800_000; // 2020-01-01

const CODE_BYTES: usize = 25;

/// Bytes at the beginning of a nonce that name the issuer.
const ISSUER_BYTES: usize = 3;

/// Characters that hold kind, key id and issuer.
const ISSUER_CHARS: usize = base32::encoded_len(2 + ISSUER_BYTES);
const _: () = assert!(base32::encoded_len(HEAD + CODE_BYTES + TAG) == CODE_CHARS);
const _: () = assert!(CODE_CHARS <= 128);

/// Settings of codes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Validity of a live code.
    pub code_life: Duration,
    /// Allowed difference of two nodes' clocks.
    pub clock_skew: Duration,
    /// The issuer, a division of GB/T 2260 as a number. Codes and grants hold it in clear, so that a gate of another issuer
    /// knows whom to ask.
    pub issuer: Option<u32>,
}

/// Length of a printed code in characters, all of the QR alphanumeric set.
pub const CODE_CHARS: usize = 88;

/// A printed code.
#[derive(Clone, Copy)]
pub struct CodeText(pub [u8; CODE_CHARS]);

/// Class of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeClass {
    /// Shown by a phone now.
    Live,
}

/// Contents of a live code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The resident.
    pub resident: ResidentId,
    /// Check bits of the resident's word when the code was made. Another resident's word does not match.
    pub check: u16,
    /// Class of the code.
    pub class: CodeClass,
    /// When the code was made.
    pub issued_at: Time,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

/// A resident's session, which the phone holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The person who is shown.
    pub identity: Identity,
    /// Slots from the home to the resident's id, as known at the log-in.
    pub steps: u8,
    /// The membership through which a family member is shown; None for the person's own session.
    pub member: Option<u64>,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// When the session was opened.
    pub issued_at: Time,
    /// When the session expires.
    pub expires_at: Time,
}

impl Session {
    /// Returns the resident id.
    pub fn resident(&self) -> ResidentId {
        self.identity.slot(u64::from(self.steps))
    }
}

/// A token of a scanner, an authority or another office.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The holder, and what the token is bound to: a scanner's site, an authority's source.
    pub name: String,
    /// When the token was made.
    pub issued_at: Time,
    /// When the token expires.
    pub expires_at: Time,
}

/// Longest name of a token with what it is bound to, in bytes.
pub const ACCESS_TOKEN_NAME_BYTES_MAX: usize = SEALED_MAX - HEAD - 12 - TAG;

/// Separator of a token's name and what it is bound to; neither contains it.
const BOUND: char = '\0';

impl AccessToken {
    /// Returns the name of a bound token: a scanner bound to its organisation, staff to their region.
    pub fn bound_name(name: &str, to: Option<&str>) -> String {
        match to {
            None => name.to_owned(),
            Some(to) => format!("{name}{BOUND}{to}"),
        }
    }

    /// Returns the holder.
    pub fn holder(&self) -> &str {
        AccessToken::holder_in(&self.name)
    }

    /// Returns the name of a token that needs a client certificate with this SHA-256 of 64 hexadecimal digits.
    pub fn with_certificate(name: &str, certificate: &str) -> String {
        match name.contains(BOUND) {
            true => format!("{name}{BOUND}{certificate}"),
            false => format!("{name}{BOUND}{BOUND}{certificate}"),
        }
    }

    fn holder_in(name: &str) -> &str {
        name.split(BOUND).next().unwrap_or_default()
    }

    /// Returns whether an authority with this token may speak for a source: its own, or one that the token names.
    pub fn speaks_for(&self, source: &str) -> bool {
        let mut named = self.bound().unwrap_or_default().split(',');
        !source.is_empty() && (self.holder() == source || named.any(|named| named == source))
    }

    /// Returns what the token is bound to.
    pub fn bound(&self) -> Option<&str> {
        self.name.split(BOUND).nth(1).filter(|to| !to.is_empty())
    }

    /// Returns the SHA-256 of the required client certificate, 64 hexadecimal digits; None if none is required.
    pub fn certificate(&self) -> Option<&str> {
        self.name.splitn(3, BOUND).nth(2)
    }

    /// Returns whether the shown certificate satisfies the token.
    pub fn is_of(&self, shown: Option<CertificateDigest>) -> bool {
        match (self.certificate(), shown) {
            (None, _) => true,
            (Some(wanted), Some(shown)) => wanted == shown.hex(),
            (Some(_), None) => false,
        }
    }
}

/// A caller with a genuine credential in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A session of a resident.
    Session(Session),
    /// A token: its kind, contents and number.
    Token(TokenKind, AccessToken, AccessTokenId),
}

/// Number of a token: its nonce with all bits mixed, which no caller can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessTokenId(pub u64);

impl AccessTokenId {
    /// Returns the number of a nonce. Tokens made by one thread differ in the counter only.
    fn of(prefix: u64, count: u32) -> AccessTokenId {
        let mut z = prefix.wrapping_add(u64::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        AccessTokenId(z ^ (z >> 31))
    }
}

/// Nonces of one thread: eight random bytes, and a counter. Not `Sync`, so that counting costs one add.
pub struct Nonces {
    prefix: [u8; 8],
    count: Cell<u32>,
}

impl Nonces {
    /// Returns nonces for one thread.
    pub fn new() -> Nonces {
        let mut random = [0; 12];
        aws_lc_rs::rand::fill(&mut random).expect("the system gives random bytes");
        Nonces {
            prefix: random[..8].try_into().expect("8 of 12"),
            count: Cell::new(u32::from_be_bytes(random[8..].try_into().expect("4 of 12"))),
        }
    }

    fn next(&self) -> [u8; NONCE_LEN] {
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.prefix);
        nonce[8..].copy_from_slice(&count.to_be_bytes());
        nonce
    }
}

impl Default for Nonces {
    fn default() -> Nonces {
        Nonces::new()
    }
}

/// Seals and opens with the ring in force.
pub struct Seal {
    ring: ArcSwap<KeyRing>,
    /// What makes and checks the tags of statuses in the store, which holds a clone.
    tags: StatusTags,
    /// Revoked credentials.
    pub revoked: RevocationTable,
    settings: Settings,
}

impl Seal {
    /// Returns a seal with the keys of a ring.
    pub fn new(file: impl Into<KeyRing>, settings: Settings) -> Seal {
        let ring = file.into();
        Seal {
            tags: StatusTags::new(ring.tags.clone()),
            ring: ArcSwap::from_pointee(ring),
            revoked: RevocationTable::default(),
            settings,
        }
    }

    /// Takes up a rotated ring.
    pub fn reload(&self, file: impl Into<KeyRing>) {
        let ring = file.into();
        self.tags.reload(ring.tags.clone());
        self.ring.store(Arc::new(ring));
    }

    /// Returns the id of the current key.
    pub fn current_key(&self) -> u8 {
        self.ring.load().current_id()
    }

    /// Returns the time since the current key came into use.
    pub fn key_age(&self, now: Time) -> Duration {
        now.since(self.ring.load().current_since)
    }

    /// Returns the validity of a live code.
    pub fn code_life(&self) -> Duration {
        self.settings.code_life
    }

    /// Returns the allowed difference of two nodes' clocks.
    pub fn clock_skew(&self) -> Duration {
        self.settings.clock_skew
    }

    /// Returns the identity of a document, a keyed hash.
    ///
    /// # Panics
    /// Panics with a ring part. No caller has one: its doors take no document, and its operations door no token.
    pub fn identify(&self, document: &Document) -> Identity {
        let ring = self.ring.load();
        let mut context = aws_lc_rs::hmac::Context::with_key(ring.identity.as_ref().expect(WHOLE));
        context.update(document.cert_type().code().as_bytes());
        context.update(document.number().as_bytes());
        let tag = context.sign();
        Identity::of_hash(tag.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Returns a sealed code.
    pub fn code(&self, nonces: &Nonces, code: &Code) -> CodeText {
        let mut bytes = [0; HEAD + CODE_BYTES + TAG];
        let plain = &mut bytes[HEAD..HEAD + CODE_BYTES];
        let issued = code.issued_at.0.saturating_sub(ISSUE_EPOCH_MS);
        plain[..8].copy_from_slice(&code.resident.0.to_be_bytes());
        plain[8..10].copy_from_slice(&code.check.to_be_bytes());
        plain[10..15].copy_from_slice(&issued.to_be_bytes()[3..]);
        plain[15] = match code.class {
            CodeClass::Live => 0,
        } << 4;
        write_masked(&code.masked, &mut plain[15..]);
        self.close(TokenKind::Code, nonces, &mut bytes);
        let mut text = CodeText([0; CODE_CHARS]);
        base32::encode(&bytes, &mut text.0);
        text
    }

    /// Opens a live code that a gate scanned.
    ///
    /// # Errors
    ///
    /// `CodeInvalid` if our keys did not seal it, `CodeExpired` if it has expired or is from the future.
    pub fn open_code(&self, text: &[u8], now: Time) -> Result<Code, Refusal> {
        let mut bytes = [0; HEAD + CODE_BYTES + TAG];
        if text.len() != CODE_CHARS
            || base32::decode_any_case(text, &mut bytes) != Some(bytes.len())
        {
            return Err(Refusal::CodeInvalid);
        }
        let plain = self
            .open(TokenKind::Code, &mut bytes)
            .ok_or(Refusal::CodeInvalid)?;
        let mut issued = [0; 8];
        issued[3..].copy_from_slice(&plain[10..15]);
        let class = match plain[15] >> 4 {
            0 => CodeClass::Live,
            _ => return Err(Refusal::CodeInvalid),
        };
        let code = Code {
            resident: ResidentId(u64::from_be_bytes(plain[..8].try_into().expect("8 bytes"))),
            check: u16::from_be_bytes([plain[8], plain[9]]),
            class,
            issued_at: Time(ISSUE_EPOCH_MS + u64::from_be_bytes(issued)),
            masked: read_masked(&plain[15..]).ok_or(Refusal::CodeInvalid)?,
        };
        let skew = self.settings.clock_skew;
        if code.issued_at > now.plus(skew)
            || now > code.issued_at.plus(self.settings.code_life + skew)
        {
            return Err(Refusal::CodeExpired);
        }
        Ok(code)
    }

    /// Returns the issuer that a text in the form of a live code names in clear, unchecked. Codes of a node without an issuer
    /// hold any number.
    pub fn issuer_named(text: &[u8]) -> Option<u32> {
        let mut bytes = [0; 2 + ISSUER_BYTES];
        let begins = text
            .get(..ISSUER_CHARS)
            .filter(|_| text.len() == CODE_CHARS)?;
        base32::decode_any_case(begins, &mut bytes)?;
        let [kind, _, issuer @ ..] = bytes;
        let is_code = kind == VERSION << 4 | TokenKind::Code as u8;
        let issuer = u32::from_be_bytes([0, issuer[0], issuer[1], issuer[2]]);
        is_code.then_some(issuer)
    }

    /// Returns a sealed session.
    pub fn session(&self, nonces: &Nonces, session: &Session) -> String {
        let mut plain = Vec::with_capacity(64);
        plain.extend_from_slice(&session.issued_at.0.to_be_bytes()[2..]);
        plain.extend_from_slice(&session.expires_at.0.to_be_bytes()[2..]);
        plain.extend_from_slice(&session.identity.home.0.to_be_bytes());
        plain.extend_from_slice(&session.identity.claim);
        plain.push(session.steps);
        let masked = plain.len();
        plain.extend_from_slice(&[0; 10]);
        write_masked(&session.masked, &mut plain[masked..]);
        if let Some(member) = session.member {
            plain.extend_from_slice(&member.to_be_bytes());
        }
        self.print(TokenKind::Session, nonces, &plain)
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if our keys did not seal it or it was revoked, `NotPermitted` for another kind of credential,
    /// `SessionExpired`, and `Warming` until the revocations are read.
    pub fn open_session(&self, text: &[u8], now: Time) -> Result<Session, Refusal> {
        let mut bytes = [0; SEALED_MAX];
        let (times, rest) = self.open_timed(TokenKind::Session, text, &mut bytes, now)?;
        let member = match rest.len() {
            35 => None,
            43 => Some(u64::from_be_bytes(rest[35..].try_into().expect("8 of 43"))),
            _ => return Err(Refusal::Unauthorized),
        };
        let identity = Identity {
            home: ResidentId(u64::from_be_bytes(rest[..8].try_into().expect("8 bytes"))),
            claim: rest[8..24].try_into().expect("16 bytes"),
        };
        self.revoked
            .admits(member.unwrap_or(identity.number()), times.0)?;
        Ok(Session {
            member,
            identity,
            steps: rest[24],
            masked: read_masked(&rest[25..]).ok_or(Refusal::Unauthorized)?,
            issued_at: times.0,
            expires_at: times.1,
        })
    }

    /// Returns a sealed token. Its name and what it is bound to have at most [`NAME_BYTES_MAX`] bytes each.
    pub fn pass(&self, kind: TokenKind, nonces: &Nonces, pass: &AccessToken) -> String {
        debug_assert!(!matches!(
            kind,
            TokenKind::Code | TokenKind::Session | TokenKind::Grant
        ));
        debug_assert!(pass.name.len() <= ACCESS_TOKEN_NAME_BYTES_MAX);
        let mut plain = Vec::with_capacity(12 + pass.name.len());
        plain.extend_from_slice(&pass.issued_at.0.to_be_bytes()[2..]);
        plain.extend_from_slice(&pass.expires_at.0.to_be_bytes()[2..]);
        plain.extend_from_slice(pass.name.as_bytes());
        self.print(kind, nonces, &plain)
    }

    /// Checks that `text` is a token of this kind in force, and returns its number: the check of the hot path, which does not
    /// copy the name.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if our keys did not seal it or it was revoked, `NotPermitted` for another kind of credential,
    /// `SessionExpired`, and `Warming` until the revocations are read.
    pub fn admits(
        &self,
        kind: TokenKind,
        text: &[u8],
        now: Time,
    ) -> Result<AccessTokenId, Refusal> {
        let mut bytes = [0; SEALED_MAX];
        let (times, name) = self.open_timed(kind, text, &mut bytes, now)?;
        let length = name.len();
        self.in_force(kind, times.0, &bytes, length)
    }

    /// Returns the number of an opened token unless it was revoked; its name has `name_length` bytes.
    #[inline]
    fn in_force(
        &self,
        kind: TokenKind,
        issued_at: Time,
        bytes: &[u8; SEALED_MAX],
        name_length: usize,
    ) -> Result<AccessTokenId, Refusal> {
        let nonce = &bytes[2..HEAD];
        let prefix = u64::from_be_bytes(nonce[..8].try_into().expect("8 of 12"));
        let count = u32::from_be_bytes(nonce[8..].try_into().expect("the other 4"));
        let id = AccessTokenId::of(prefix, count);
        let holder = || {
            let name = bytes.get(HEAD + 12..HEAD + 12 + name_length)?;
            std::str::from_utf8(name).ok().map(AccessToken::holder_in)
        };
        self.revoked
            .admits_token(kind, id.0, issued_at, holder)
            .map(|()| id)
    }

    /// Opens any credential.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if our keys did not seal it or it was revoked, `SessionExpired`, and `Warming` until the revocations are
    /// read.
    pub fn open_caller(&self, text: &[u8], now: Time) -> Result<Caller, Refusal> {
        let mut first = [0; SEALED_MAX];
        let length = base32::decode(text, &mut first).ok_or(Refusal::Unauthorized)?;
        let kind = first[..length].first().map(|first| first & 15);
        let kind = TokenKind::ALL
            .into_iter()
            .find(|one| Some(*one as u8) == kind);
        match kind.ok_or(Refusal::Unauthorized)? {
            TokenKind::Session => self.open_session(text, now).map(Caller::Session),
            TokenKind::Code | TokenKind::Grant => Err(Refusal::Unauthorized),
            kind => {
                let id = self.admits(kind, text, now)?;
                let pass = self.open_token(kind, text, now)?;
                Ok(Caller::Token(kind, pass, id))
            }
        }
    }

    /// Opens a token of this kind, with its name.
    ///
    /// # Errors
    ///
    /// As of [`Seal::admits`].
    pub fn open_token(
        &self,
        kind: TokenKind,
        text: &[u8],
        now: Time,
    ) -> Result<AccessToken, Refusal> {
        let mut bytes = [0; SEALED_MAX];
        let (times, name) = self.open_timed(kind, text, &mut bytes, now)?;
        let pass = AccessToken {
            name: std::str::from_utf8(name)
                .map_err(|_| Refusal::Unauthorized)?
                .to_owned(),
            issued_at: times.0,
            expires_at: times.1,
        };
        let length = pass.name.len();
        self.in_force(kind, times.0, &bytes, length)?;
        Ok(pass)
    }

    /// Seals a profile for the store. Panics like [`Seal::identify`]. The nonce follows from the claim: the same profile gives
    /// the same bytes, so that a store notices an unchanged one.
    pub fn profile(&self, identity: &Identity, profile: &Profile) -> Vec<u8> {
        let ring = self.ring.load();
        let mut plain = Vec::with_capacity(profile.length());
        profile.write(&mut plain);
        anew::seal_profile(ring.rest_current(), &identity.claim, &plain).expect(WHOLE)
    }

    /// Opens a profile; None if it was sealed by another ring or for another resident, or was changed.
    pub fn open_profile(&self, identity: &Identity, sealed: &[u8]) -> Option<Profile> {
        let plain = anew::open_profile(&self.ring.load(), &identity.claim, sealed)?;
        Profile::from_bytes(&plain)
    }

    /// Returns the mark by which a store recognises its ring.
    pub fn mark(&self) -> [u8; 16] {
        self.ring.load().mark
    }

    /// Returns the keys of the tags of statuses in the store.
    pub fn status_tags(&self) -> StatusTags {
        self.tags.clone()
    }

    /// Returns the mark of a ring that is not in force.
    pub fn mark_of(file: impl Into<KeyRing>) -> [u8; 16] {
        file.into().mark
    }

    fn print(&self, kind: TokenKind, nonces: &Nonces, plain: &[u8]) -> String {
        let mut bytes = vec![0; HEAD + plain.len() + TAG];
        bytes[HEAD..HEAD + plain.len()].copy_from_slice(plain);
        self.close(kind, nonces, &mut bytes);
        base32::text(&bytes)
    }

    /// Seals the bytes between head and tag, and fills both.
    fn close(&self, kind: TokenKind, nonces: &Nonces, bytes: &mut [u8]) {
        let ring = self.ring.load();
        let (id, key) = ring.current(kind).expect(WHOLE);
        let mut nonce = nonces.next();
        if let (TokenKind::Code | TokenKind::Grant, Some(issuer)) = (kind, self.settings.issuer) {
            nonce[..ISSUER_BYTES].copy_from_slice(&issuer.to_be_bytes()[1..]);
        }
        let (head, rest) = bytes.split_at_mut(HEAD);
        head[0] = VERSION << 4 | kind as u8;
        head[1] = id;
        head[2..].copy_from_slice(&nonce);
        let (plain, tag) = rest.split_at_mut(rest.len() - TAG);
        let sealed = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from([head[0], id]),
                plain,
            )
            .expect("far below the bound of the cipher");
        tag.copy_from_slice(sealed.as_ref());
    }

    fn open<'b>(&self, kind: TokenKind, bytes: &'b mut [u8]) -> Option<&'b [u8]> {
        let (head, rest) = bytes.split_at_mut_checked(HEAD)?;
        if head[0] != VERSION << 4 | kind as u8 {
            return None;
        }
        let ring = self.ring.load();
        let key: &LessSafeKey = ring.key(head[1], kind)?;
        let nonce = Nonce::try_assume_unique_for_key(&head[2..]).ok()?;
        key.open_in_place(nonce, Aad::from([head[0], head[1]]), rest)
            .ok()
            .map(|plain| &*plain)
    }

    /// Opens a credential. Returns its issue and expiry times, and the rest. No clock skew is allowed: credentials are valid
    /// for hours.
    fn open_timed<'b>(
        &self,
        kind: TokenKind,
        text: &[u8],
        bytes: &'b mut [u8; SEALED_MAX],
        now: Time,
    ) -> Result<((Time, Time), &'b [u8]), Refusal> {
        let length = base32::decode(text, bytes).ok_or(Refusal::Unauthorized)?;
        let bytes = &mut bytes[..length];
        let found = bytes.first().map(|first| first & 15);
        let other = TokenKind::ALL
            .into_iter()
            .find(|other| *other != kind && Some(*other as u8) == found);
        if let Some(other) = other {
            return Err(match self.open(other, bytes) {
                Some(_) => Refusal::NotPermitted,
                None => Refusal::Unauthorized,
            });
        }
        let plain = self.open(kind, bytes).ok_or(Refusal::Unauthorized)?;
        let (times, rest) = plain.split_at_checked(12).ok_or(Refusal::Unauthorized)?;
        let (issued_at, expires_at) = (time48(&times[..6]), time48(&times[6..]));
        if now >= expires_at {
            return Err(Refusal::SessionExpired);
        }
        Ok(((issued_at, expires_at), rest))
    }
}

fn time48(bytes: &[u8]) -> Time {
    let mut eight = [0; 8];
    eight[2..].copy_from_slice(bytes);
    Time(u64::from_be_bytes(eight))
}

/// Writes ten bytes: type and assurance in the low half of the first (the caller uses its high half), the ends of the number,
/// the name's first character, its stars.
fn write_masked(masked: &MaskedIdentity, out: &mut [u8]) {
    out[0] |= masked.cert_no.cert_type.bits() | masked.assurance.bits() << 2;
    out[1..5].copy_from_slice(&masked.cert_no.ends);
    out[5..9].copy_from_slice(&masked.name.first);
    out[9] = masked.name.stars;
}

/// Returns a masked identity as papers hold it.
pub fn masked_bytes(masked: &MaskedIdentity) -> [u8; 10] {
    let mut bytes = [0; 10];
    write_masked(masked, &mut bytes);
    bytes
}

/// Parses ten bytes of [`masked_bytes`]; None for other bytes.
pub fn read_masked(bytes: &[u8]) -> Option<MaskedIdentity> {
    Some(MaskedIdentity {
        name: MaskedName {
            first: bytes[5..9].try_into().expect("4 bytes"),
            stars: bytes[9].min(crate::person::NAME_CHARS_MAX as u8),
        },
        cert_no: MaskedNumber {
            cert_type: CertType::from_bits(bytes[0] & 3)?,
            ends: bytes[1..5].try_into().expect("4 bytes"),
        },
        assurance: Assurance::from_bits(bytes[0] >> 2 & 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::ring::RingFile;
    use proptest::prelude::*;

    const NOW: Time = Time(1_790_000_000_000);

    fn seal(ring: &RingFile) -> Seal {
        Seal::new(
            ring,
            Settings {
                code_life: Duration::from_secs(60),
                clock_skew: Duration::from_secs(2),
                issuer: None,
            },
        )
    }

    fn masked() -> MaskedIdentity {
        MaskedIdentity {
            name: MaskedName::of("陈美玲"),
            cert_no: Document::parse("10", "440106199003077211", u32::MAX)
                .unwrap()
                .mask(),
            assurance: Assurance::RealPerson,
        }
    }

    fn code(resident: u64) -> Code {
        Code {
            resident: ResidentId(resident),
            check: 77,
            class: CodeClass::Live,
            issued_at: NOW,
            masked: masked(),
        }
    }

    fn session() -> Session {
        Session {
            identity: Identity::of_hash(&[7; 32]),
            steps: 1,
            member: None,
            masked: masked(),
            issued_at: NOW,
            expires_at: NOW.plus(Duration::from_secs(3600)),
        }
    }

    #[test]
    fn a_code_is_new_at_every_show_and_of_the_qr_alphanumeric_set() {
        let seal = seal(&RingFile::generate(NOW));
        let nonces = Nonces::new();
        let (one, two) = (seal.code(&nonces, &code(5)), seal.code(&nonces, &code(5)));
        assert_ne!(one.0, two.0);
        assert!(
            one.0
                .iter()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        );
    }

    #[test]
    fn a_code_lives_from_its_skew_before_to_its_skew_after() {
        let seal = seal(&RingFile::generate(NOW));
        let text = seal.code(&Nonces::new(), &code(5)).0;
        let at = |ms: i64| seal.open_code(&text, Time(NOW.0.saturating_add_signed(ms)));
        assert_eq!(at(0), Ok(code(5)));
        assert!(at(-2_000).is_ok());
        assert_eq!(at(-2_001), Err(Refusal::CodeExpired));
        assert!(at(62_000).is_ok());
        assert_eq!(at(62_001), Err(Refusal::CodeExpired));
    }

    #[test]
    fn another_rings_code_is_invalid() {
        let text = seal(&RingFile::generate(NOW))
            .code(&Nonces::new(), &code(5))
            .0;
        let other = seal(&RingFile::generate(NOW));
        assert_eq!(other.open_code(&text, NOW), Err(Refusal::CodeInvalid));
    }

    #[test]
    fn a_credential_of_another_kind_is_not_permitted_and_a_forged_one_unauthorized() {
        let seal = seal(&RingFile::generate(NOW));
        let nonces = Nonces::new();
        let pass = AccessToken {
            name: "体育西路地铁站".into(),
            issued_at: NOW,
            expires_at: NOW.plus(Duration::from_secs(60)),
        };
        let scanner = seal.pass(TokenKind::Scanner, &nonces, &pass);
        let token = seal.session(&nonces, &session());
        assert_eq!(seal.open_session(token.as_bytes(), NOW), Ok(session()));
        assert_eq!(
            seal.open_token(TokenKind::Scanner, scanner.as_bytes(), NOW),
            Ok(pass.clone())
        );
        assert_eq!(
            seal.open_session(scanner.as_bytes(), NOW),
            Err(Refusal::NotPermitted)
        );
        assert_eq!(
            seal.admits(TokenKind::Authority, scanner.as_bytes(), NOW),
            Err(Refusal::NotPermitted)
        );
        let shown = seal.code(&nonces, &code(5)).0;
        assert_eq!(seal.open_session(&shown, NOW), Err(Refusal::NotPermitted));
        let mut forged = scanner.clone().into_bytes();
        forged[40] = if forged[40] == b'A' { b'B' } else { b'A' };
        assert_eq!(seal.open_session(&forged, NOW), Err(Refusal::Unauthorized));
        assert_eq!(
            seal.admits(TokenKind::Scanner, scanner.as_bytes(), pass.expires_at),
            Err(Refusal::SessionExpired)
        );
    }

    #[test]
    fn an_authority_speaks_for_the_sources_that_its_pass_names_alone() {
        let longest = ACCESS_TOKEN_NAME_BYTES_MAX - "gd-cdc".len() - 1;
        let long = "x".repeat(longest);
        for (bound, source, speaks) in [
            (None, "gd-cdc", true),
            (None, "gz-cdc", false),
            (None, "gd", false),
            (None, "", false),
            (Some("gz-cdc,fs-cdc"), "gd-cdc", true),
            (Some("gz-cdc,fs-cdc"), "gz-cdc", true),
            (Some("gz-cdc,fs-cdc"), "fs-cdc", true),
            (Some("gz-cdc,fs-cdc"), "fs", false),
            (Some("gz-cdc,fs-cdc"), "gz-cdc,fs-cdc", false),
            (Some("gz-cdc,fs-cdc"), "GZ-CDC", false),
            (Some(long.as_str()), long.as_str(), true),
        ] {
            let seal = seal(&RingFile::generate(NOW));
            let pass = AccessToken {
                name: AccessToken::bound_name("gd-cdc", bound),
                issued_at: NOW,
                expires_at: NOW.plus(Duration::from_secs(60)),
            };
            let token = seal.pass(TokenKind::Authority, &Nonces::new(), &pass);
            assert!(token.len() <= TOKEN_CHARS_MAX);
            let opened = seal.open_token(TokenKind::Authority, token.as_bytes(), NOW);
            let opened = opened.unwrap();
            assert_eq!(opened.holder(), "gd-cdc");
            assert_eq!(opened.speaks_for(source), speaks, "{bound:?} {source}");
        }
    }

    #[test]
    fn what_was_revoked_is_genuine_and_good_no_more() {
        let seal = seal(&RingFile::generate(NOW));
        let nonces = Nonces::new();
        let pass = AccessToken {
            name: AccessToken::bound_name("gate-7", Some("gz-school")),
            issued_at: NOW,
            expires_at: NOW.plus(Duration::from_secs(60)),
        };
        assert_eq!((pass.holder(), pass.bound()), ("gate-7", Some("gz-school")));
        let member = Session {
            member: Some(77),
            ..session()
        };
        let scanner = seal.pass(TokenKind::Scanner, &nonces, &pass);
        let (own, member) = (
            seal.session(&nonces, &session()),
            seal.session(&nonces, &member),
        );
        let id = seal
            .admits(TokenKind::Scanner, scanner.as_bytes(), NOW)
            .unwrap();
        assert_eq!(
            seal.open_caller(scanner.as_bytes(), NOW),
            Ok(Caller::Token(TokenKind::Scanner, pass, id))
        );
        assert_eq!(
            seal.open_session(member.as_bytes(), NOW).unwrap().member,
            Some(77)
        );
        let revoke = |what, end| {
            let until = NOW.plus(SESSION_LIFE_MAX);
            let one = Revocation { what, end, until };
            seal.revoked.add(&one, crate::clock::Now::read());
        };
        revoke(RevocationSubject::Number(id.0), Time(u64::MAX));
        revoke(RevocationSubject::Number(77), NOW);
        let refused = Err(Refusal::Unauthorized);
        assert_eq!(
            seal.admits(TokenKind::Scanner, scanner.as_bytes(), NOW),
            refused
        );
        assert!(
            seal.open_token(TokenKind::Scanner, scanner.as_bytes(), NOW)
                .is_err()
        );
        assert!(seal.open_caller(scanner.as_bytes(), NOW).is_err());
        assert!(seal.open_session(member.as_bytes(), NOW).is_err());
        assert!(seal.open_session(own.as_bytes(), NOW).is_ok());
    }

    #[test]
    fn a_holder_who_was_revoked_comes_with_no_pass_from_before() {
        let seal = seal(&RingFile::generate(NOW));
        let nonces = Nonces::new();
        let kinds = [
            TokenKind::Scanner,
            TokenKind::Authority,
            TokenKind::Organisation,
            TokenKind::Staff,
            TokenKind::Operator,
        ];
        let later = NOW.plus(Duration::from_millis(1));
        for kind in kinds {
            let made = |holder: &str, bound, issued_at| {
                let pass = AccessToken {
                    name: AccessToken::bound_name(holder, bound),
                    issued_at,
                    expires_at: NOW.plus(Duration::from_secs(60)),
                };
                let text = seal.pass(kind, &nonces, &pass);
                move |seal: &Seal| {
                    let all = [
                        seal.admits(kind, text.as_bytes(), NOW).is_ok(),
                        seal.open_token(kind, text.as_bytes(), NOW).is_ok(),
                        seal.open_caller(text.as_bytes(), NOW).is_ok(),
                    ];
                    assert!(all == [all[0]; 3], "{kind:?}: {all:?}");
                    all[0]
                }
            };
            let passes = [
                made("lost", None, NOW),
                made("lost", Some("bound"), NOW),
                made("lost", None, later),
                made("lost2", None, NOW),
                made("other", Some("lost"), NOW),
            ];
            let good = || passes.each_ref().map(|pass| pass(&seal));
            assert_eq!(good(), [true; 5]);
            let one = Revocation {
                what: RevocationSubject::Holder(kind, "lost".into()),
                end: NOW,
                until: NOW.plus(ACCESS_TOKEN_LIFE_MAX),
            };
            seal.revoked.add(&one, crate::clock::Now::read());
            assert_eq!(good(), [false, false, true, true, true], "{kind:?}");
        }
    }

    #[test]
    fn a_pass_is_told_from_all_others_by_its_nonce() {
        let seal = seal(&RingFile::generate(NOW));
        let nonces = Nonces::new();
        let pass = AccessToken {
            name: "体育西路地铁站".into(),
            issued_at: NOW,
            expires_at: NOW.plus(Duration::from_secs(60)),
        };
        let made = || seal.pass(TokenKind::Scanner, &nonces, &pass);
        let id = |text: &str| {
            seal.admits(TokenKind::Scanner, text.as_bytes(), NOW)
                .unwrap()
        };
        let (one, other) = (made(), made());
        assert_eq!(id(&one), id(&one));
        let differ = (id(&one).0 ^ id(&other).0).count_ones();
        assert!((12..52).contains(&differ), "{differ} bits of 64 differ");
    }

    #[test]
    fn rotation_refuses_nothing_that_the_previous_key_sealed() {
        let mut ring = RingFile::generate(NOW);
        let (old, other_node) = (seal(&ring), seal(&ring));
        let nonces = Nonces::new();
        let before = old.code(&nonces, &code(5)).0;
        let token = old.session(&nonces, &session());
        ring.rotate(NOW, Duration::from_secs(86_400)).unwrap();
        old.reload(&ring);
        assert!(old.open_code(&before, NOW).is_ok());
        assert!(old.open_session(token.as_bytes(), NOW).is_ok());
        // A node that has not reloaded yet opens what the rotated one seals.
        let after = old.code(&nonces, &code(5)).0;
        assert!(other_node.open_code(&after, NOW).is_ok());
    }

    #[test]
    fn a_profile_opens_only_for_its_own_resident() {
        let seal = seal(&RingFile::generate(NOW));
        let document = Document::parse("10", "440106199003077211", u32::MAX).unwrap();
        let identity = seal.identify(&document);
        let profile = Profile {
            document,
            name: Some("陈美玲".into()),
            assurance: Assurance::RealPerson,
        };
        let sealed = seal.profile(&identity, &profile);
        assert_eq!(sealed, seal.profile(&identity, &profile));
        assert_eq!(seal.open_profile(&identity, &sealed), Some(profile));
        assert!(!sealed.windows(6).any(|bytes| bytes == "440106".as_bytes()));
        let other = Identity::of_hash(&[1; 32]);
        assert_eq!(seal.open_profile(&other, &sealed), None);
    }

    proptest! {
        #[test]
        fn a_changed_or_cut_code_never_opens(place in 0..CODE_CHARS, to in "[A-Z2-7]", cut in 0..CODE_CHARS) {
            let seal = seal(&RingFile::generate(NOW));
            let text = seal.code(&Nonces::new(), &code(5)).0;
            let mut changed = text;
            changed[place] = to.as_bytes()[0];
            if changed != text {
                prop_assert_eq!(seal.open_code(&changed, NOW), Err(Refusal::CodeInvalid));
            }
            prop_assert_eq!(seal.open_code(&text[..cut], NOW), Err(Refusal::CodeInvalid));
        }

        #[test]
        fn rubbish_never_opens_and_never_panics(text in proptest::collection::vec(any::<u8>(), 0..600)) {
            let seal = seal(&RingFile::generate(NOW));
            prop_assert!(seal.open_code(&text, NOW).is_err());
            prop_assert!(seal.open_session(&text, NOW).is_err());
            prop_assert!(seal.open_token(TokenKind::Scanner, &text, NOW).is_err());
        }
    }
}
