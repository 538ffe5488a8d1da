//! The wing that speaks HTTP: doors, what is asked there, how it is answered. A request comes in here and its answer
//! leaves from here; nothing below knows what a header is.

pub mod back;
pub mod bulk;
pub mod desk;
pub mod doors;
pub mod pages;
pub mod query;
pub mod reply;

use crate::answer::Refusal;
use crate::clock::Time;
use crate::desk::Asked as AskedOfDesk;
use crate::desk::roles::Act;
use crate::language::Language;
use crate::service::{Asked, Query, Service};
use bytes::Bytes;
use doors::Seat;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response, StatusCode};
use query::{DeskHead, Door, Head, Route};
use reply::Body;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bounds of what one request may bring, and of the time that it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Lines of a bulk scan at most.
    pub bulk_lines_max: u64,
    /// Bytes of a feed's body at most.
    pub feed_bytes_max: u64,
    /// From a request's head to the last byte of its answer.
    pub answer_timeout: Duration,
    /// The same for a bulk scan or a feed.
    pub bulk_timeout: Duration,
    /// A bulk scan that goes too fast is held up by so much at a time; below the time after which a door ends what stalls.
    pub bulk_pause_max: Duration,
}

/// Bytes of a scan's body: a code, in JSON or bare, and some white space.
const SCAN_BYTES_MAX: usize = 512;

/// Bytes of a log-in's body.
const SESSION_BYTES_MAX: usize = crate::identity::ASSERTION_BYTES_MAX + 256;

/// One request, from its head to its answer.
pub async fn answer(
    service: &Rc<Service>,
    door: Door,
    settings: &Rc<Settings>,
    seat: &Rc<Seat>,
    request: Request<Incoming>,
) -> Response<Body> {
    let started = Instant::now();
    let now = Time::now();
    seat.begin(settings.answer_timeout);
    let (parts, body) = request.into_parts();
    let head = Head::read(door, &parts.method, &parts.uri, &parts.headers);
    let language = head.language;
    let kind = head.route.kind();
    let ask = async |query| {
        let asked = Asked {
            kind,
            query,
            started,
            now,
        };
        reply::response(service.answer(asked).await, language)
    };
    let response = match head.refusal {
        Some(Refusal::MethodNotAllowed) => {
            reply::allowing(ask(Err(Refusal::MethodNotAllowed)).await, head.allow)
        }
        Some(refusal) => ask(Err(refusal)).await,
        None => match head.route {
            Route::Show => {
                let session = head.credential;
                ask(session.map(|session| Query::Show { session, language })).await
            }
            Route::Explain => {
                let session = head.credential;
                ask(session.map(|session| Query::Explain { session, language })).await
            }
            Route::Scan => {
                let body = read(body, SCAN_BYTES_MAX).await;
                let code = match &body {
                    Ok(body) => query::code(body, head.content_type),
                    Err(refusal) => Err(*refusal),
                };
                ask(scan_query(head.credential, &code, language)).await
            }
            Route::OpenSession => {
                let body = read(body, SESSION_BYTES_MAX).await;
                let assertion = body.and_then(|body| query::assertion(&body));
                let query = match &assertion {
                    Ok(assertion) => Ok(Query::OpenSession { assertion }),
                    Err(refusal) => Err(*refusal),
                };
                ask(query).await
            }
            Route::Bulk => {
                seat.begin(settings.bulk_timeout);
                let admitted = head
                    .credential
                    .and_then(|token| service.admit_bulk(token, now, started));
                let fits = |pass| bulk::fits(&body, settings).map(|()| pass);
                match admitted.and_then(fits) {
                    Ok(pass) => {
                        let token = head.credential.unwrap_or_default();
                        // Only a scanner of an organisation has grants to scan; where they cannot be read, codes still can.
                        let gone = Box::pin(service.gone(token, now)).await;
                        let scanner = bulk::Scanner { pass, gone };
                        bulk::response(service, settings, scanner, body, language, started, now)
                    }
                    Err(refusal) => ask(Err(refusal)).await,
                }
            }
            Route::Feed => {
                seat.begin(settings.bulk_timeout);
                let admitted = head
                    .credential
                    .and_then(|token| service.admit_authority(token, now));
                match admitted {
                    Ok(_) => back::feed(service, settings, body, language, started, now).await,
                    Err(refusal) => ask(Err(refusal)).await,
                }
            }
            Route::Desk(act) => {
                let at_desk = DeskHead::read(door, &parts.uri, &parts.headers);
                let bytes_max = match act {
                    Act::DeclareBulk => desk::BULK_BYTES_MAX,
                    _ => desk::BODY_BYTES_MAX,
                };
                let body = read(body, bytes_max).await;
                let query = desk_query(act, head.credential, &at_desk, &body, language);
                let response = ask(query).await;
                match response.status() {
                    StatusCode::METHOD_NOT_ALLOWED => reply::allowing(response, head.allow),
                    _ => response,
                }
            }
            Route::Live => back::live(service, started),
            Route::Ready => back::ready(service, started, now),
            Route::Metrics => back::metrics(service, started, now),
            Route::Page(page) => match service.admit_page(started) {
                Ok(()) => pages::response(service, page, &parts.uri, &parts.headers, started),
                Err(refusal) => ask(Err(refusal)).await,
            },
            Route::None => ask(Err(Refusal::NotFound)).await,
        },
    };
    let leaves = service.rooms.is_draining() && door != Door::Back;
    seat.answering(match leaves || seat.is_last() {
        // Whoever asks again asks another node, or waits for a place.
        true => reply::last(response),
        false => response,
    })
}

/// The credential is judged before the body, so that a stranger learns nothing of codes.
fn scan_query<'q>(
    credential: Result<&'q [u8], Refusal>,
    code: &'q Result<std::borrow::Cow<'q, [u8]>, Refusal>,
    language: Language,
) -> Result<Query<'q>, Refusal> {
    Ok(Query::Scan {
        scanner: credential?,
        code: code.as_deref().map_err(|refusal| *refusal)?,
        language,
    })
}

fn desk_query<'q>(
    act: Act,
    credential: Result<&'q [u8], Refusal>,
    head: &DeskHead<'q>,
    body: &'q Result<Bytes, Refusal>,
    language: Language,
) -> Result<Query<'q>, Refusal> {
    Ok(Query::Desk(AskedOfDesk {
        act,
        credential: credential?,
        id: head.id,
        params: head.params,
        idempotency: head.idempotency?,
        body: body.as_ref().map_err(|refusal| *refusal)?,
        language,
    }))
}

/// A small body, whole.
async fn read(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::TooLarge);
    }
    let mut whole = Bytes::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Malformed)?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > bytes_max {
            return Err(Refusal::TooLarge);
        }
        // Nearly always one piece, which is passed on as it is.
        whole = if whole.is_empty() {
            data
        } else {
            Bytes::from([&whole[..], &data[..]].concat())
        };
    }
    Ok(whole)
}
