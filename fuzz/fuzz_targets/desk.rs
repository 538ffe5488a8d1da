//! Fuzzes what callers with credentials send to the desk: every act, by every role that may, over a real embedded store.
//! In: bytes that say which act and which caller, lines for the query, the path's id and the idempotency key, and the body.
//! Holds: no panic; an answer or a refusal that the act can give; a request that is sent again is not another one.

#![no_main]

use liangma::board::{self, Board};
use liangma::clock::{Moment, Time};
use liangma::desk::audit::Audit;
use liangma::desk::grant::RevokedGrantCache;
use liangma::desk::roles::{Act, Role};
use liangma::desk::{self, Desk, DeskRequest, DeskResponse};
use liangma::http::desk::{BODY_BYTES_MAX, params};
use liangma::identity::{self, Platform};
use liangma::language::Language;
use liangma::person::{Assurance, Document, MaskedIdentity, MaskedName, Profile};
use liangma::refusal::Refusal;
use liangma::seal::ring::{RingFile, TokenKind};
use liangma::seal::{self, AccessToken, AccessTokenId, Caller, Nonces, Seal, Session};
use liangma::store::embedded::{self, OpenedEmbedded};
use liangma::store_client::{self, StoreClient};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

thread_local! {
    static OFFICE: Office = Office::open();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[act, caller], rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    OFFICE.with(|office| office.ask(act, caller, rest));
});

struct Office {
    runtime: tokio::runtime::Runtime,
    seal: Seal,
    store_client: StoreClient,
    platform: Platform,
    audit: Audit,
    revoked_grants: RevokedGrantCache,
    nonces: Nonces,
    settings: desk::Settings,
    callers: Vec<Caller>,
}

impl Office {
    /// A store in memory where there is a folder in memory: a commit waits for its disk.
    fn open() -> Office {
        let base = match Path::new("/dev/shm") {
            shm if shm.is_dir() => shm.to_owned(),
            _ => std::env::temp_dir(),
        };
        let folder = base.join(format!("liangma-fuzz-desk-{}", std::process::id()));
        let now = Time::now();
        let ring = RingFile::generate(now);
        let seal = Seal::new(
            &ring,
            seal::Settings {
                code_life: Duration::from_secs(60),
                clock_skew: Duration::from_secs(2),
                issuer: None,
            },
        );
        let board = Arc::new(Board::new(
            0,
            board::Settings {
                stale_after: Duration::from_secs(2),
                too_old_after: Duration::from_secs(30),
                shards: 16,
            },
        ));
        board.confirm(Moment::now());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let opened = OpenedEmbedded::open(
            embedded::Settings::new(folder.clone()),
            seal.mark(),
            seal.status_tags(),
        );
        let store = runtime.block_on(async {
            opened
                .expect("a store")
                .start(board.clone(), Arc::default())
        });
        // The file lives as long as it is open; nothing is left behind however the run ends.
        let _ = std::fs::remove_dir_all(&folder);
        let store_client = StoreClient::new(
            board,
            Arc::new(store),
            Arc::default(),
            store_client::Settings {
                store_timeout: Duration::from_secs(5),
                store_read_timeout: Duration::from_secs(5),
                store_in_flight_max: 4,
                red_alarm_per_hour: 1_000,
                record_cache_bytes: 1 << 20,
            },
        );
        let platform = Platform::read(identity::Settings {
            jwks: None,
            issuer: String::new(),
            audience: String::new(),
        });
        let mut office = Office {
            runtime,
            seal,
            store_client,
            platform: platform.expect("nothing is read"),
            audit: Audit::default(),
            revoked_grants: RevokedGrantCache::default(),
            nonces: Nonces::new(),
            settings: desk::Settings {
                session_life: Duration::from_secs(86_400),
                family_members_max: 8,
                member_url: None,
            },
            callers: Vec::new(),
        };
        office.callers = office.everybody(now);
        office
    }

    /// One of each role.
    fn everybody(&self, now: Time) -> Vec<Caller> {
        let document =
            Document::parse("10", "440106199003077211", now.day()).expect("a document of its form");
        let profile = Profile {
            document,
            name: Some("张三".to_owned()),
            assurance: Assurance::RealPerson,
        };
        let identity = self.seal.identify(&profile.document);
        let expires_at = now.plus(Duration::from_secs(86_400));
        let desk = self.desk(now);
        let steps = self
            .runtime
            .block_on(desk.register(identity, &profile))
            .expect("a store in memory");
        let session = Session {
            identity,
            steps,
            member: None,
            masked: MaskedIdentity {
                name: MaskedName::of("张三"),
                cert_no: profile.document.mask(),
                assurance: profile.assurance,
            },
            issued_at: now,
            expires_at,
        };
        let token = |kind, name: &str, id| {
            let token = AccessToken {
                name: name.to_owned(),
                issued_at: now,
                expires_at,
            };
            Caller::Token(kind, token, AccessTokenId(id))
        };
        vec![
            Caller::Session(session),
            Caller::Session(Session {
                member: Some(7),
                ..session
            }),
            token(TokenKind::Scanner, "east-gate", 1),
            token(TokenKind::Organisation, "school-1", 2),
            token(TokenKind::Staff, "440106", 3),
            token(TokenKind::Authority, "cdc", 4),
            token(TokenKind::Operator, "duty", 5),
        ]
    }

    fn desk(&self, now: Time) -> Desk<'_> {
        Desk {
            seal: &self.seal,
            store_client: &self.store_client,
            platform: &self.platform,
            audit: &self.audit,
            revoked_grants: &self.revoked_grants,
            nonces: &self.nonces,
            settings: &self.settings,
            offline: None,
            now,
        }
    }

    fn ask(&self, act: u8, caller: u8, rest: &[u8]) {
        let act = Act::ALL[usize::from(act) % Act::ALL.len()];
        let callers = self
            .callers
            .iter()
            .filter(|caller| act.is_for(Role::of(caller)));
        let callers: Vec<_> = callers.collect();
        let Some(caller) = callers.get(usize::from(caller) % callers.len().max(1)) else {
            return;
        };
        let mut lines = rest.splitn(4, |byte| *byte == b'\n');
        let mut line = || {
            let text = std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
            (!text.is_empty()).then_some(text)
        };
        let (query, id, idempotency) = (line(), line(), line());
        let body = lines.next().unwrap_or_default();
        let asked = DeskRequest {
            act,
            id,
            params: params(query),
            body: &body[..body.len().min(BODY_BYTES_MAX)],
            idempotency: idempotency.filter(|word| word.len() <= 64),
            language: Language::Hans,
        };
        let answer = || {
            self.runtime
                .block_on(self.desk(Time::now()).answer(&asked, caller))
        };
        let first = answer();
        match &first {
            Ok(DeskResponse::Found(body) | DeskResponse::Done(body)) => {
                assert!(body.is_object(), "{body}");
            }
            Ok(DeskResponse::Rejected(why)) => assert!(!why.code().is_empty()),
            Err(refusal) => {
                // A store in memory is never away, and whoever comes here was let in.
                assert_ne!(*refusal, Refusal::UpstreamBusy, "{act:?}");
                assert_ne!(*refusal, Refusal::Internal, "{act:?}");
            }
        }
        if asked.idempotency.is_some() && matches!(first, Ok(DeskResponse::Done(_))) {
            assert_ne!(
                answer().err(),
                Some(Refusal::IdempotencyMismatch),
                "{act:?}"
            );
        }
    }
}
