//! Fuzzes what is sealed: codes, sessions, passes and profiles.
//! Holds: bytes that we did not seal never open; what we sealed opens as it was, and not at all after any change.

#![no_main]

use liangma::clock::Time;
use liangma::person::{
    self, Assurance, Document, Identity, MaskedIdentity, MaskedName, Profile, ResidentId,
};
use liangma::refusal::Refusal;
use liangma::seal::ring::{RingFile, TokenKind};
use liangma::seal::{
    AccessToken, Code, CodeClass, NAME_BYTES_MAX, Nonces, Seal, Session, Settings, TOKEN_CHARS_MAX,
    base32,
};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

const NOW: Time = Time(1_790_000_000_000);
/// Codes count their times from here in 40 bits.
const ISSUE_EPOCH_MS: u64 = 1_577_836_800_000;
const MS_40_BITS: u64 = (1 << 40) - 1;
const MS_48_BITS: u64 = (1 << 48) - 1;

const DOCUMENTS: [(&str, &str); 3] = [
    ("10", "440106199003077211"),
    ("14", "H12345678"),
    ("20", "EA1234567"),
];

thread_local! {
    static HOLDER: Holder = Holder::new();
}

fuzz_target!(|bytes: &[u8]| {
    HOLDER.with(|holder| {
        holder.refuses(bytes);
        let mut printed = vec![0; base32::encoded_len(bytes.len())];
        base32::encode(bytes, &mut printed);
        // In our alphabet bytes come as far as the cipher.
        holder.refuses(&printed);
        let mut choices = Unstructured::new(bytes);
        // Choices that ran out end the run: nothing is wrong with that.
        let _ = holder.keeps(&mut choices);
    });
});

struct Holder {
    seal: Seal,
    nonces: Nonces,
}

impl Holder {
    fn new() -> Holder {
        let secret = "07".repeat(32);
        let key = |id, state| {
            format!(
                "[[token]]\nid = {id}\nstate = \"{state}\"\ncreated = 0\nsecret = \"{secret}\"\n"
            )
        };
        let ring: RingFile = toml::from_str(&format!(
            "identity = \"{secret}\"\n[rest]\nid = 1\nsecret = \"{secret}\"\n{}{}",
            key(1, "current"),
            key(2, "next"),
        ))
        .expect("a key ring as its file holds it");
        Holder {
            seal: Seal::new(
                &ring,
                Settings {
                    code_life: Duration::from_secs(60),
                    clock_skew: Duration::from_secs(2),
                    issuer: None,
                },
            ),
            nonces: Nonces::new(),
        }
    }

    /// Nothing that a fuzzer can think of was sealed by us.
    fn refuses(&self, text: &[u8]) {
        let seal = &self.seal;
        assert_eq!(seal.open_code(text, NOW), Err(Refusal::CodeInvalid));
        assert_eq!(seal.open_session(text, NOW), Err(Refusal::Unauthorized));
        for kind in [TokenKind::Scanner, TokenKind::Authority] {
            assert_eq!(seal.open_token(kind, text, NOW), Err(Refusal::Unauthorized));
            assert_eq!(seal.admits(kind, text, NOW), Err(Refusal::Unauthorized));
        }
        let who = Identity::of_hash(&[7; 32]);
        assert_eq!(seal.open_profile(&who, text), None);
        let mut bytes = vec![0; text.len()];
        if let Some(length) = base32::decode(text, &mut bytes) {
            let mut printed = vec![0; base32::encoded_len(length)];
            base32::encode(&bytes[..length], &mut printed);
            assert_eq!(printed, text, "one spelling");
        }
    }

    fn keeps(&self, choices: &mut Unstructured<'_>) -> Result<()> {
        match choices.int_in_range(0..=3)? {
            0 => self.keeps_a_code(choices),
            1 => self.keeps_a_session(choices),
            2 => self.keeps_a_pass(choices),
            _ => self.keeps_a_profile(choices),
        }
    }

    fn keeps_a_code(&self, choices: &mut Unstructured<'_>) -> Result<()> {
        let code = Code {
            resident: ResidentId(choices.arbitrary()?),
            check: choices.arbitrary()?,
            class: CodeClass::Live,
            issued_at: Time(ISSUE_EPOCH_MS + choices.int_in_range(0..=MS_40_BITS)?),
            masked: masked(choices)?,
        };
        let now = code.issued_at;
        let text = self.seal.code(&self.nonces, &code).0;
        assert_eq!(self.seal.open_code(&text, now), Ok(code));
        let late = now.plus(Duration::from_millis(62_001));
        assert_eq!(self.seal.open_code(&text, late), Err(Refusal::CodeExpired));
        assert_eq!(
            self.seal.open_session(&text, now),
            Err(Refusal::NotPermitted)
        );
        if let Some(changed) = change(&text, choices)? {
            // Scanners may send lower case.
            let expected = match changed.eq_ignore_ascii_case(&text) {
                true => Ok(code),
                false => Err(Refusal::CodeInvalid),
            };
            assert_eq!(self.seal.open_code(&changed, now), expected);
        }
        Ok(())
    }

    fn keeps_a_session(&self, choices: &mut Unstructured<'_>) -> Result<()> {
        let session = Session {
            identity: Identity::of_hash(&choices.arbitrary()?),
            steps: choices.arbitrary()?,
            member: choices.arbitrary()?,
            masked: masked(choices)?,
            issued_at: Time(choices.int_in_range(0..=MS_48_BITS)?),
            expires_at: Time(choices.int_in_range(1..=MS_48_BITS)?),
        };
        let before = Time(session.expires_at.0 - 1);
        let text = self.seal.session(&self.nonces, &session);
        let text = text.as_bytes();
        assert!(text.len() <= TOKEN_CHARS_MAX);
        assert_eq!(self.seal.open_session(text, before), Ok(session));
        assert_eq!(
            self.seal.open_session(text, session.expires_at),
            Err(Refusal::SessionExpired)
        );
        assert_eq!(self.seal.open_code(text, before), Err(Refusal::CodeInvalid));
        if let Some(changed) = change(text, choices)? {
            assert_eq!(
                self.seal.open_session(&changed, before),
                Err(Refusal::Unauthorized)
            );
        }
        Ok(())
    }

    fn keeps_a_pass(&self, choices: &mut Unstructured<'_>) -> Result<()> {
        let [kind, other] = match choices.arbitrary()? {
            true => [TokenKind::Scanner, TokenKind::Authority],
            false => [TokenKind::Authority, TokenKind::Scanner],
        };
        let mut name: String = choices.arbitrary()?;
        while name.len() > NAME_BYTES_MAX {
            name.pop();
        }
        let pass = AccessToken {
            name,
            issued_at: Time(choices.int_in_range(0..=MS_48_BITS)?),
            expires_at: Time(choices.int_in_range(1..=MS_48_BITS)?),
        };
        let before = Time(pass.expires_at.0 - 1);
        let text = self.seal.pass(kind, &self.nonces, &pass);
        let text = text.as_bytes();
        assert!(text.len() <= TOKEN_CHARS_MAX);
        assert!(self.seal.admits(kind, text, before).is_ok());
        assert_eq!(
            self.seal.admits(kind, text, pass.expires_at),
            Err(Refusal::SessionExpired)
        );
        assert_eq!(
            self.seal.open_token(other, text, before),
            Err(Refusal::NotPermitted)
        );
        if let Some(changed) = change(text, choices)? {
            assert_eq!(
                self.seal.admits(kind, &changed, before),
                Err(Refusal::Unauthorized)
            );
        }
        assert_eq!(self.seal.open_token(kind, text, before), Ok(pass));
        Ok(())
    }

    fn keeps_a_profile(&self, choices: &mut Unstructured<'_>) -> Result<()> {
        let (document, name, assurance) = papers(choices)?;
        let profile = Profile {
            document,
            name,
            assurance,
        };
        let who = self.seal.identify(&profile.document);
        let sealed = self.seal.profile(&who, &profile);
        assert_eq!(self.seal.profile(&who, &profile), sealed, "the same again");
        assert_eq!(
            self.seal.open_profile(&who, &sealed).as_ref(),
            Some(&profile)
        );
        let stranger = Identity::of_hash(&choices.arbitrary()?);
        if stranger != who {
            assert_eq!(self.seal.open_profile(&stranger, &sealed), None);
        }
        if let Some(changed) = change(&sealed, choices)? {
            assert_eq!(self.seal.open_profile(&who, &changed), None);
        }
        Ok(())
    }
}

fn papers(choices: &mut Unstructured<'_>) -> Result<(Document, Option<String>, Assurance)> {
    let (cert_type, cert_no) = *choices.choose(&DOCUMENTS)?;
    let document = Document::parse(cert_type, cert_no, u32::MAX).expect("a document of its form");
    let name: Option<String> = choices.arbitrary()?;
    let assurances = [
        Assurance::Unverified,
        Assurance::RealName,
        Assurance::RealPerson,
    ];
    let name = name.filter(|name| person::is_name(name));
    Ok((document, name, *choices.choose(&assurances)?))
}

fn masked(choices: &mut Unstructured<'_>) -> Result<MaskedIdentity> {
    let (document, name, assurance) = papers(choices)?;
    Ok(MaskedIdentity {
        name: MaskedName::of(name.as_deref().unwrap_or_default()),
        cert_no: document.mask(),
        assurance,
    })
}

/// The same with some bytes changed, or cut short; None where it is still the same.
fn change(sealed: &[u8], choices: &mut Unstructured<'_>) -> Result<Option<Vec<u8>>> {
    let mut changed = sealed.to_vec();
    for _ in 0..choices.int_in_range(1..=4)? {
        let place = choices.choose_index(changed.len())?;
        changed[place] ^= choices.arbitrary::<u8>()?;
    }
    if choices.ratio(1, 8)? {
        changed.truncate(choices.choose_index(changed.len())?);
    }
    Ok((changed != sealed).then_some(changed))
}
