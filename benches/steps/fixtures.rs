//! Fixtures for the steps of the hot path: what a step does once, for the clock and for the counter of instructions alike.
//! In: how many residents the board holds. Out: [`STEPS`], each an operation with the dropping of what it made.

use bytes::{BufMut, BytesMut};
use hyper::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, HOST, USER_AGENT};
use hyper::{HeaderMap, Method, Uri};
use liangma::admission::rate_limit::RateLimiter;
use liangma::board::{self, Board, Found};
use liangma::clock::{Moment, Now, Time};
use liangma::desk;
use liangma::feed;
use liangma::http::door::Door;
use liangma::http::query::Head;
use liangma::http::{problem, reply};
use liangma::identity::{self, Platform};
use liangma::language::Language;
use liangma::lists::ListSettings;
use liangma::meters::{Meters, RequestKind};
use liangma::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use liangma::person::{Assurance, Document, Identity, MaskedIdentity, MaskedName, ResidentId};
use liangma::refusal::Refusal;
use liangma::seal::CodeText;
use liangma::seal::ring::{RingFile, TokenKind};
use liangma::seal::{
    self, AccessToken, Code, CodeClass, Nonces, Revocation, RevocationSubject, RevocationTable,
    Seal, Session,
};
use liangma::service::answer::{ShownCode, Verdict};
use liangma::service::{self, Answer, AppState, Query, Service, TimedQuery};
use liangma::status::{Freshness, ResidentStatus};
use liangma::status::{Reason, Reasons, Word};
use liangma::store::{Change, Error, LocatedRecord, Store};
use liangma::store_client;
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

#[path = "passes.rs"]
mod passes;
use passes::Passes;

/// Every operation happens at this moment, so that nothing expires under a slow measurer.
/// A code of this time is not watched, as 255 of 256 are not; see `sightings`.
const NOW: Time = Time(1_790_000_000_001);
const AT: Now = Now {
    moment: Moment(1_000_000),
    time: NOW,
};

/// Codes that are scanned in turn: more than the processor's caches hold, as at a gate.
const CODES_MAX: u64 = 65_536;

const LINE: &[u8] = r#"{"event":"resident","cert_type":"10","cert_no":"440106199003077211","name":"陈美玲","assurance":"real_person"}"#.as_bytes();
const STATUS_LINE: &[u8] = br#"{"event":"status","cert_type":"10","cert_no":"440106199003077211","reason":"close_contact","action":"set","at":"2020-04-20T08:00:00+08:00","source":"gd-cdc","seq":123,"until":"2020-05-04","region":"440106"}"#;

/// A step and what it does for one query.
#[derive(Clone, Copy)]
pub struct Step {
    pub name: &'static str,
    pub once: fn(&Fixtures),
}

/// In the order of the walk.
pub const STEPS: [Step; 19] = [
    step("query.head", Fixtures::read_head),
    step("seal.open_session", Fixtures::open_session),
    step("seal.admits", Fixtures::admit),
    step("seal.revoked", Fixtures::look_up_revoked),
    step("seal.open_code", Fixtures::open_code),
    step("admission.turn", Fixtures::take_turn),
    step("board.find", Fixtures::find),
    step("seal.code", Fixtures::seal_code),
    step("service.show", Fixtures::show),
    step("service.scan", Fixtures::scan),
    step("reply.shown_green", Fixtures::reply_green),
    step("reply.shown_red", Fixtures::reply_red),
    step("reply.verdict", Fixtures::reply_verdict),
    step("reply.busy", Fixtures::reply_busy),
    step("bulk.line", Fixtures::scan_bulk_line),
    step("feed.resident", Fixtures::take_resident),
    step("feed.status", Fixtures::take_status),
    step("recognition.hc1", Fixtures::open_hc1),
    step("recognition.shc", Fixtures::open_shc),
];

const fn step(name: &'static str, once: fn(&Fixtures)) -> Step {
    Step { name, once }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What the steps need, made ahead: a full board, credentials, a head, codes.
pub struct Fixtures {
    service: Service,
    nonces: Nonces,
    residents: u64,
    headers: HeaderMap,
    uri: Uri,
    session: String,
    scanner: String,
    code: Code,
    codes: Vec<CodeText>,
    started: Instant,
    turns: RateLimiter,
    revoked: RevocationTable,
    /// Goes from one random resident to the next.
    rng: Cell<u64>,
    out: RefCell<BytesMut>,
    passes: Passes,
}

impl Fixtures {
    pub fn new(residents: u64) -> Fixtures {
        let app = app(residents);
        let (seal, board) = (&app.seal, &app.board);
        let document = Document::parse("10", "440106199003077211", u32::MAX).expect("a good card");
        let masked = MaskedIdentity {
            name: MaskedName::of("陈美玲"),
            cert_no: document.mask(),
            assurance: Assurance::RealPerson,
        };
        let identity = seal.identify(&document);
        board.post(identity.home, Word::new(1, identity.check(), Reasons::NONE));
        for nth in 0..residents {
            let id = spread(nth);
            board.post(ResidentId(id), Word::new(1, check_of(id), reasons_of(id)));
        }
        board.fill_done();
        board.confirm(AT.moment);

        let nonces = Nonces::new();
        let code_of = |resident, check| Code {
            resident,
            check,
            class: CodeClass::Live,
            issued_at: NOW,
            masked,
        };
        let codes = (0..residents.min(CODES_MAX))
            .map(|nth| {
                let id = spread(spread(nth) % residents);
                seal.code(&nonces, &code_of(ResidentId(id), check_of(id)))
            })
            .collect();
        let session = seal.session(&nonces, &session(identity, masked));
        let scanner = seal.pass(
            TokenKind::Scanner,
            &nonces,
            &AccessToken {
                name: "gz-baiyun-airport-t2".into(),
                issued_at: NOW,
                expires_at: NOW.plus(Duration::from_secs(86_400)),
            },
        );
        Fixtures {
            residents,
            headers: headers(&session),
            uri: Uri::from_static("/v1/code"),
            code: code_of(identity.home, identity.check()),
            session,
            scanner,
            codes,
            nonces,
            started: Instant::now(),
            // As many places as two cores have; a rate that no bench reaches.
            turns: RateLimiter::new(1_000_000, 1 << 40, 1 << 18, Instant::now()),
            revoked: many_revoked(),
            rng: Cell::new(0),
            out: RefCell::new(BytesMut::with_capacity(1024)),
            passes: Passes::new(),
            service: Service::new(app),
        }
    }

    fn seal(&self) -> &Seal {
        &self.service.app.seal
    }

    fn read_head(&self) {
        let head = Head::read(
            Door::Resident,
            black_box(&Method::GET),
            black_box(&self.uri),
            black_box(&self.headers),
        );
        assert!(head.refusal.is_none());
        black_box(&head);
    }

    fn open_session(&self) {
        let session = self
            .seal()
            .open_session(black_box(self.session.as_bytes()), NOW);
        black_box(session).expect("a session in force");
    }

    fn admit(&self) {
        let admitted =
            self.seal()
                .admits(TokenKind::Scanner, black_box(self.scanner.as_bytes()), NOW);
        black_box(admitted).expect("a scanner in force");
    }

    /// What every credential pays while there are revocations; those of [`Fixtures::open_session`] and the rest pay for one flag.
    fn look_up_revoked(&self) {
        let number = self.rng.get();
        let admitted = self.revoked.admits(black_box(number), NOW);
        self.rng.set(spread(number ^ u64::from(admitted.is_err())));
    }

    fn open_code(&self) {
        let code = self.seal().open_code(black_box(self.next_code()), NOW);
        black_box(code).expect("a code in force");
    }

    /// Another resident each time, at random, and never one too often.
    fn take_turn(&self) {
        let nth = self.rng.get();
        self.rng.set(spread(nth));
        assert!(self.turns.take(black_box(nth), self.started));
    }

    /// The next resident hangs on what was found of the last: a query does not look for the next one ahead of time.
    fn find(&self) {
        let id = spread(self.rng.get() % self.residents);
        let found = self.service.app.board.find(ResidentId(id), check_of(id));
        let Found::Word(word) = found else {
            panic!("a resident on the board");
        };
        // All 64 bits are kept: the outcome alone would soon go round among a few thousand residents.
        self.rng.set(spread(self.rng.get() ^ word.bits()));
    }

    fn seal_code(&self) {
        black_box(self.seal().code(&self.nonces, black_box(&self.code)));
    }

    /// All of a show but HTTP.
    fn show(&self) {
        let query = Query::Show {
            session: black_box(self.session.as_bytes()),
            language: Language::Hans,
        };
        black_box(self.answer(RequestKind::Show, query)).expect("a code");
    }

    /// All of a scan but HTTP.
    fn scan(&self) {
        let token = black_box(self.scanner.as_bytes());
        let scanner = self.service.admit_scan(token, NOW, self.started);
        let scanner = scanner.expect("a token in force");
        let query = Query::Scan {
            scanner,
            code: self.next_code(),
            language: Language::Hans,
        };
        black_box(self.answer(RequestKind::Scan, query)).expect("a verdict");
    }

    fn answer(&self, kind: RequestKind, query: Query<'_>) -> Result<Answer, Refusal> {
        let asked = TimedQuery {
            kind,
            query: Ok(query),
            started: self.started,
            now: AT,
        };
        let answer = pin!(self.service.answer(asked));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("the hot path never waits"),
        }
    }

    fn reply_green(&self) {
        self.reply_shown(Reasons::NONE);
    }

    fn reply_red(&self) {
        self.reply_shown(Reasons::NONE.with(Reason::CloseContact));
    }

    fn reply_shown(&self, reasons: Reasons) {
        let shown = ShownCode {
            status: ResidentStatus::Known(black_box(reasons)),
            masked: self.code.masked,
            code: self.codes[0],
            issued_at: NOW,
            expires_at: NOW.plus(Duration::from_secs(60)),
            freshness: self.service.app.board.freshness(AT),
        };
        let answer = Ok(Answer::Shown(shown, Language::Hans));
        black_box(reply::response(answer, Language::Hans));
    }

    fn reply_verdict(&self) {
        let verdict = Verdict {
            with_reasons: false,
            status: ResidentStatus::Known(black_box(Reasons::NONE)),
            masked: self.code.masked,
            issued_at: NOW,
            freshness: Freshness {
                moment: AT.moment,
                as_of: NOW,
                age: Duration::from_millis(12),
                stale: false,
            },
        };
        self.write(&verdict);
    }

    fn reply_busy(&self) {
        let wait = Some(Duration::from_secs(5));
        black_box(problem::whole(
            black_box(Refusal::Busy),
            black_box(Language::Hans),
            black_box(wait),
        ));
    }

    /// Into the same bytes again, as a bulk scan writes many verdicts into one piece.
    fn write(&self, verdict: &Verdict) {
        let mut out = self.out.borrow_mut();
        out.clear();
        reply::write_verdict(&mut out, black_box(verdict), Language::Hans);
        out.put_u8(b'\n');
        black_box(&out[..]);
    }

    fn scan_bulk_line(&self) {
        let verdict = self.service.scan_now(black_box(self.next_code()), AT);
        self.write(&verdict.expect("a code in force"));
    }

    fn open_hc1(&self) {
        assert!(black_box(&self.passes).open_hc1());
    }

    fn open_shc(&self) {
        assert!(black_box(&self.passes).open_shc());
    }

    fn take_resident(&self) {
        self.take(LINE);
    }

    fn take_status(&self) {
        self.take(STATUS_LINE);
    }

    fn take(&self, line: &[u8]) {
        let event = feed::parse(black_box(line), 20_261_123).expect("a good line");
        black_box(feed::seal_event(event, self.seal()).expect("its service goes on"));
    }

    fn next_code(&self) -> &[u8] {
        let nth = self.rng.get();
        self.rng.set(nth.wrapping_add(1));
        &self.codes[nth as usize % self.codes.len()].0
    }
}

/// As many as all lists of sessions hold.
fn many_revoked() -> RevocationTable {
    let revoked = RevocationTable::default();
    let one = |nth| Revocation {
        what: RevocationSubject::Number(spread(nth)),
        end: NOW,
        until: NOW,
    };
    let all: Vec<Revocation> = (1..=65_536).map(one).collect();
    revoked.learn(&all, Now::read());
    revoked
}

fn app(residents: u64) -> Arc<AppState> {
    // The figures are the defaults of the knobs.
    let board = Board::new(
        residents,
        board::Settings {
            stale_after: Duration::from_secs(2),
            too_old_after: Duration::from_secs(30),
            shards: 8192,
        },
    );
    let seal = Seal::new(
        &RingFile::generate(NOW),
        seal::Settings {
            code_life: Duration::from_secs(60),
            clock_skew: Duration::from_secs(2),
            issuer: None,
        },
    );
    let platform = Platform::read(identity::Settings {
        jwks: None,
        issuer: String::new(),
        audience: String::new(),
    });
    let app = Arc::new(AppState::new(
        Arc::new(board),
        seal,
        Arc::new(Unasked),
        platform.expect("nothing is read"),
        desk::guidance::Guidance::default(),
        Arc::new(Meters::new()),
        service::Settings {
            in_force: Default::default(),
            clock_offset_max: Duration::from_secs(5),
            gate_reasons: false,
            session_life: Duration::from_secs(86_400),
            store_client: store_client::Settings {
                store_timeout: Duration::from_secs(5),
                store_read_timeout: Duration::from_secs(5),
                store_in_flight_max: 1,
                red_alarm_per_hour: 1_000,
                record_cache_bytes: 1 << 20,
            },
            desk: desk::Settings {
                session_life: Duration::from_secs(86_400),
                family_members_max: 8,
                member_url: None,
            },
            desk_requests_per_second: 20,
            // The clock stands still here: a limit would end the first burst for good. Turns are a step of their own.
            pages_per_second: 0,
            offline: None,
            lists: ListSettings {
                every: Duration::from_secs(600),
                base_every: Duration::from_secs(10_800),
                stale_after: Duration::from_secs(1_800),
                too_old_after: Duration::from_secs(43_200),
                bytes_per_second: 0,
            },
            rate_limits: service::RateLimits {
                shows_per_second: 0,
                scans_per_second: 0,
                bulk_codes_per_second: 0,
                bulk_scans_per_token: 2,
                bulk_codes_saved: 1,
            },
        },
    ));
    app.seal.revoked.learn(&[], Now::read()); // nothing is revoked
    app
}

fn session(identity: Identity, masked: MaskedIdentity) -> Session {
    Session {
        identity,
        steps: 0,
        member: None,
        masked,
        issued_at: NOW,
        expires_at: NOW.plus(Duration::from_secs(86_400)),
    }
}

/// The head of a show as a phone sends it.
fn headers(session: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let bearer = format!("Bearer {session}");
    for (name, value) in [
        (HOST, "code.example.org"),
        (
            USER_AGENT,
            "Mozilla/5.0 (Linux; Android 10) AppleWebKit/537.36 Mobile MicroMessenger/7.0.13",
        ),
        (ACCEPT, "application/json"),
        (ACCEPT_LANGUAGE, "zh-CN,zh;q=0.9,en;q=0.8"),
        (AUTHORIZATION, &bearer),
    ] {
        headers.insert(name, value.parse().expect("visible characters"));
    }
    headers
}

/// splitmix64: ids far apart, as keyed hashes are.
fn spread(nth: u64) -> u64 {
    let mut z = nth.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn check_of(id: u64) -> u16 {
    ((id & 0x3fff) as u16).max(1)
}

/// One in 256 is red.
fn reasons_of(id: u64) -> Reasons {
    match id >> 56 {
        0 => Reasons::NONE.with(Reason::HomeIsolation),
        _ => Reasons::NONE,
    }
}

/// The store behind the hot path, which never asks it.
struct Unasked;

#[async_trait::async_trait]
impl Store for Unasked {
    async fn residents(&self) -> Result<u64, Error> {
        Err(Error::Closed)
    }

    async fn fill(&self, _progress: Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error> {
        Err(Error::Closed)
    }

    async fn ingest(
        &self,
        _changes: Vec<Change>,
    ) -> Result<Vec<liangma::store::ChangeOutcome>, Error> {
        Err(Error::Closed)
    }

    async fn find(&self, _who: Identity) -> Result<Option<LocatedRecord>, Error> {
        Err(Error::Closed)
    }

    async fn word(&self, _id: ResidentId) -> Result<Option<Word>, Error> {
        Err(Error::Closed)
    }

    async fn papers(
        &self,
        _owner: Identity,
        _kinds: PaperKinds,
        _after: Option<Cursor>,
        _limit: usize,
    ) -> Result<Vec<Paper>, Error> {
        Err(Error::Closed)
    }

    async fn some(
        &self,
        _owner: Identity,
        _keys: &[PaperKey],
    ) -> Result<Vec<Option<Paper>>, Error> {
        Err(Error::Closed)
    }

    async fn remove(&self, _owner: Identity, _keys: &[PaperKey]) -> Result<u64, Error> {
        Err(Error::Closed)
    }

    async fn sweep(&self, _keep: &Retention, _now: Time, _every: Duration) -> Result<u64, Error> {
        Err(Error::Closed)
    }

    async fn close(&self) {}
}
