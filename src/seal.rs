//! Sealing: codes, sessions and tokens that only nodes with the ring can make and read, ids of documents, and profiles at rest.
//! Knows neither board nor store nor HTTP.

mod access_token;
mod anew;
pub mod base32;
mod caller;
mod code;
mod derivation;
mod grant;
mod masked;
mod papers;
mod revoked;
pub mod ring;
mod sealed_text;
mod session;
pub mod tags;

pub use access_token::{
    ACCESS_TOKEN_LIFE_MAX, ACCESS_TOKEN_NAME_BYTES_MAX, AccessToken, AccessTokenId, NAME_BYTES_MAX,
};
pub use anew::{RestSeal, SealedAnew};
pub use caller::Caller;
pub use code::{CODE_CHARS, Code, CodeClass, CodeText};
pub use grant::{GRANT_CHARS, Grant};
pub use masked::{masked_bytes, read_masked};
pub use papers::PLAIN_BYTES_MAX;
pub use revoked::{NumberHasher, Revocation, RevocationSubject, RevocationTable};
pub use sealed_text::{Nonces, Seal, Settings, TOKEN_CHARS_MAX};
pub use session::{SESSION_LIFE_MAX, Session};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::person::Assurance;
    use crate::person::Document;
    use crate::person::Identity;
    use crate::person::MaskedIdentity;
    use crate::person::MaskedName;
    use crate::person::Profile;
    use crate::person::ResidentId;
    use crate::refusal::Refusal;
    use crate::seal::ring::RingFile;
    use crate::seal::ring::TokenKind;
    use proptest::prelude::*;
    use std::time::Duration;

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
