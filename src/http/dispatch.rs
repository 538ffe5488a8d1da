//! Answers one request: reads the route, admits the caller, gathers the body, and calls the service.

use super::body::Body;
use super::busy_page::is_page_load;
use super::connection_state::ConnectionState;
use super::door::Door;
use super::identified::IdentifiedRequest;
use super::limits::Settings;
use super::pages::AskedVersion;
use super::query::{self, ContentType, DeskHead, Head, Route};
use super::request_id::RequestId;
use super::whole_body::{WholeBody, gather};
use super::{bulk, desk, exchange, lists, ops, pages, reply};
use crate::clock::Now;
use crate::desk::DeskRequest;
use crate::desk::roles::{Act, Role};
use crate::refusal::Refusal;
use crate::service::{Query, Service, TimedQuery};
use crate::traces::Wait;
use hyper::body::{Body as _, Incoming};
use hyper::header::ACCEPT;
use hyper::{Method, Request, Response, StatusCode};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use tracing::{Instrument, Span};

/// Largest text body of a scan in bytes: the longest code a camera can read, and characters that a scanner adds.
const SCAN_TEXT_BYTES_MAX: usize = query::FOREIGN_CODE_BYTES_MAX + 64;

/// Largest JSON body of a scan in bytes: an escaped character takes six.
const SCAN_JSON_BYTES_MAX: usize = 16 << 10;

/// Largest body of a log-in in bytes.
const SESSION_BYTES_MAX: usize = crate::identity::ASSERTION_BYTES_MAX + 256;

/// Answers one request. Credential and role are checked before a byte of the body is kept.
pub async fn answer(
    service: &Rc<Service>,
    door: Door,
    settings: &Rc<Settings>,
    connection: &Rc<ConnectionState>,
    request: Request<Incoming>,
) -> Response<Body> {
    let started = Instant::now();
    let now = Now::read();
    connection.begin(settings.answer_timeout);
    let (parts, body) = request.into_parts();
    let head = Head::read(door, &parts.method, &parts.uri, &parts.headers);
    let length = body.size_hint();
    let chunked = length.exact().is_none();
    let brings_body = !body.is_end_stream();
    let language = head.language;
    // Shows and scans have no request id and no span, which would cost time.
    let identified = match head.route {
        Route::Feed | Route::Desk(_) | Route::OpenSession | Route::Explain | Route::Settings => {
            let begun = IdentifiedRequest::begin(door, head.route, &parts);
            Some(Box::new(begun))
        }
        _ => None,
    };
    let in_request = || (identified.as_ref()).map_or(Span::none(), |it| it.span());
    let note_role = |word| {
        if let Some(request) = &identified {
            request.note_role(word);
        }
    };
    let waits_for_body = || (identified.as_ref()).map_or(Span::none(), |it| it.waiting(Wait::Body));
    // Notes a refusal of a request with an id.
    let noted = |refusal| {
        if let Some(request) = &identified {
            request.note_refusal(refusal);
        }
        refusal
    };
    // Credential and role are checked before a byte of the body is kept.
    let admit = |act| {
        let certificate = connection.certificate.get();
        let credential = head.credential;
        let admitted = credential.and_then(|it| service.admit_desk(act, it, certificate, now.time));
        admitted.inspect(|caller| note_role(Role::of(caller).word()))
    };
    let kind = head.route.kind();
    // The answer is as of the moment at which the whole request had arrived.
    let whole_at = Cell::new(now);
    let ask = async |query| {
        let asked = TimedQuery {
            kind,
            query,
            started,
            now: whole_at.get(),
        };
        match service.answer(asked).await {
            Err(refusal) if is_page_load(&parts.method, parts.headers.get(ACCEPT)) => {
                reply::refused_page(refusal, language)
            }
            result => reply::response(result, language),
        }
    };
    // What the head says about the body is told to admitted callers only.
    let takes = |bytes_max: u64| match head.body_refusal {
        Some(refusal) => Err(refusal),
        None if length.lower() > bytes_max => Err(Refusal::TooLarge),
        None => Ok(()),
    };
    let mut unread = brings_body;
    let protocol = query::protocol_refusal(parts.version, &parts.headers, chunked);
    let response = match protocol.or(head.refusal) {
        Some(Refusal::MethodNotAllowed) => {
            reply::allowing(ask(Err(Refusal::MethodNotAllowed)).await, head.allow)
        }
        Some(refusal) => ask(Err(refusal)).await,
        None => match head.route {
            Route::Show => {
                let session = head.credential;
                ask(session.map(|session| Query::Show { session, language })).await
            }
            Route::OfflineCode => {
                let hours = query::param(&parts.uri, "hours");
                let session = head.credential;
                ask(session.map(|session| Query::OfflineCode { session, hours })).await
            }
            Route::SigningKeys => match service.admit_keys(started) {
                Ok(()) => lists::keys(service, &parts.headers, started),
                Err(refusal) => ask(Err(refusal)).await,
            },
            Route::List(path) => {
                let admitted = match path.part.is_sealed() {
                    true => service.admit_keys(started),
                    false if door == Door::Exchange => {
                        service.admit_peer(connection.key.get()).map(drop)
                    }
                    false => head
                        .credential
                        .and_then(|token| service.admit_scan(token, now.time, started))
                        .map(drop),
                };
                match admitted.and_then(|()| {
                    lists::list(service, path, &parts.method, &parts.headers, started, now)
                }) {
                    Ok(response) => response,
                    Err(refusal) => ask(Err(refusal)).await,
                }
            }
            Route::Explain => {
                let session = head.credential;
                ask(session.map(|session| Query::Explain { session, language }))
                    .instrument(in_request())
                    .await
            }
            Route::Scan => {
                let bytes_max = match head.content_type {
                    ContentType::Json => SCAN_JSON_BYTES_MAX,
                    _ => SCAN_TEXT_BYTES_MAX,
                };
                let admitted = head
                    .credential
                    .and_then(|token| service.admit_scan(token, now.time, started))
                    .and_then(|scanner| takes(bytes_max as u64).map(|()| scanner));
                match admitted {
                    Ok(scanner) => {
                        let body = gather(body, bytes_max, settings.head_timeout, connection).await;
                        unread = body.is_err();
                        if connection.came_later() {
                            whole_at.set(Now::read());
                        }
                        connection.begin(settings.answer_timeout);
                        let code = match &body {
                            Ok(body) => query::code(body, head.content_type),
                            Err(refusal) => Err(*refusal),
                        };
                        ask(code
                            .as_deref()
                            .map_err(|refusal| *refusal)
                            .map(|code| Query::Scan {
                                scanner,
                                code,
                                language,
                            }))
                        .await
                    }
                    Err(refusal) => ask(Err(refusal)).await,
                }
            }
            Route::Exchange | Route::ExchangeBulk => {
                let is_bulk = head.route == Route::ExchangeBulk;
                let bytes_max = match is_bulk {
                    true => exchange::MANY_BYTES_MAX,
                    false => exchange::ONE_BYTES_MAX,
                };
                let admitted = service.admit_peer(connection.key.get()).and_then(|peer| {
                    if !is_bulk {
                        service.charge_peer(&peer, 1, started)?;
                    }
                    takes(bytes_max as u64).map(|()| peer)
                });
                match admitted {
                    Ok(peer) => {
                        let wait = settings.head_timeout;
                        let body = gather(body, bytes_max, wait, connection).await;
                        unread = body.is_err();
                        connection.begin(settings.answer_timeout);
                        let answered = match body {
                            Ok(body) if is_bulk => {
                                exchange::bulk(service, &peer, &body, language, started).await
                            }
                            Ok(body) => {
                                Ok(exchange::scan(service, &peer, &body, language, started).await)
                            }
                            Err(refusal) => Err(refusal),
                        };
                        match answered {
                            Ok(response) => response,
                            Err(refusal) => ask(Err(refusal)).await,
                        }
                    }
                    Err(refusal) => ask(Err(refusal)).await,
                }
            }
            Route::OpenSession => match takes(SESSION_BYTES_MAX as u64) {
                Ok(()) => {
                    let body = gather(body, SESSION_BYTES_MAX, settings.head_timeout, connection)
                        .instrument(waits_for_body())
                        .await;
                    unread = body.is_err();
                    whole_at.set(Now::read());
                    connection.begin(settings.answer_timeout);
                    let assertion = body.and_then(|body| query::assertion(&body));
                    let query = match &assertion {
                        Ok(assertion) => Ok(Query::OpenSession { assertion }),
                        Err(refusal) => Err(noted(*refusal)),
                    };
                    ask(query).instrument(in_request()).await
                }
                Err(refusal) => ask(Err(noted(refusal))).await,
            },
            Route::Bulk => {
                connection.begin(settings.bulk_timeout);
                let admitted = head
                    .credential
                    .and_then(|token| service.admit_bulk(token, now.time, started));
                let fits = |turn| takes(bulk::bytes_max(settings)).map(|()| turn);
                match admitted.and_then(fits) {
                    Ok(turn) => {
                        unread = false;
                        let token = head.credential.unwrap_or_default();
                        // Only scanners of an organisation have grants to scan.
                        let organisation = service.organisation(token, now).unwrap_or_default();
                        let scanner = bulk::BulkScanner::new(token, turn, organisation);
                        let asked = bulk::BulkRequest {
                            codes: body,
                            language,
                            started,
                            now,
                        };
                        bulk::response(service, settings, connection, scanner, asked)
                    }
                    Err(refusal) => ask(Err(refusal)).await,
                }
            }
            Route::Feed => {
                connection.begin(settings.bulk_timeout);
                let admitted = head.credential.and_then(|token| {
                    service.admit_authority(token, connection.certificate.get(), now.time)?;
                    note_role(Role::Authority.word());
                    takes(settings.feed_bytes_max).map(|()| token)
                });
                match admitted {
                    Ok(token) => {
                        let fed = ops::FeedRequest {
                            token,
                            body,
                            language,
                            started,
                            now: now.time,
                        };
                        let feed = ops::feed(service, settings, connection, fed);
                        let response = feed.instrument(in_request()).await;
                        unread = response.status() != StatusCode::OK;
                        response
                    }
                    Err(refusal) => ask(Err(noted(refusal))).await,
                }
            }
            Route::Desk(Act::Backup) => {
                match admit(Act::Backup).and_then(|caller| takes(0).map(|()| caller)) {
                    Ok(caller) => {
                        connection.begin(settings.answer_timeout);
                        let begun = service.begin_backup(&caller, now.time);
                        let begun = begun.instrument(in_request()).await;
                        connection.begin(ops::BACKUP_WAIT);
                        ops::backup(service, begun.map_err(noted), language, started)
                    }
                    Err(refusal) => ask(Err(noted(refusal))).await,
                }
            }
            Route::Desk(Act::Reseal) => {
                match admit(Act::Reseal).and_then(|caller| takes(0).map(|()| caller)) {
                    Ok(caller) => {
                        connection.begin(settings.answer_timeout);
                        let begun = service.begin_reseal(&caller, now.time);
                        let begun = begun.instrument(in_request()).await;
                        connection.begin(ops::RESEAL_WAIT);
                        ops::reseal(service, begun.map_err(noted), language, started)
                    }
                    Err(refusal) => ask(Err(noted(refusal))).await,
                }
            }
            Route::Desk(act) => {
                match admit(act) {
                    Ok(caller) => {
                        let path = query::plain_path(parts.uri.path());
                        let at_desk =
                            DeskHead::read(door, &path, parts.uri.query(), &parts.headers);
                        let (bytes_max, wait) = match act {
                            Act::DeclareBulk => (desk::BULK_BYTES_MAX, settings.body_timeout),
                            _ => (desk::BODY_BYTES_MAX, settings.head_timeout),
                        };
                        // The path says everything that other methods need.
                        let reads = brings_body && parts.method == Method::POST;
                        let idempotency = takes(if reads { bytes_max as u64 } else { u64::MAX })
                            .and(at_desk.idempotency);
                        let body = match idempotency {
                            Ok(_) if reads => {
                                gather(body, bytes_max, wait, connection)
                                    .instrument(waits_for_body())
                                    .await
                            }
                            Ok(_) => Ok(WholeBody::default()),
                            Err(refusal) => Err(refusal),
                        };
                        unread = brings_body && (body.is_err() || !reads);
                        connection.begin(settings.answer_timeout);
                        if reads {
                            whole_at.set(Now::read());
                        }
                        // The credential may have been revoked while the body arrived.
                        let permits = || {
                            let credential = head.credential.unwrap_or_default();
                            match reads {
                                true => service.still_permits(
                                    act,
                                    credential,
                                    connection.certificate.get(),
                                    whole_at.get().time,
                                ),
                                false => Ok(()),
                            }
                        };
                        let query = match &body {
                            Ok(body) => permits().map_err(noted).map(|()| {
                                let asked = DeskRequest {
                                    act,
                                    id: at_desk.id,
                                    params: at_desk.params,
                                    idempotency: idempotency.unwrap_or_default(),
                                    body,
                                    language,
                                };
                                Query::Desk(Box::new(asked), Box::new(caller))
                            }),
                            Err(refusal) => Err(noted(*refusal)),
                        };
                        let response = ask(query).instrument(in_request()).await;
                        match response.status() {
                            StatusCode::METHOD_NOT_ALLOWED => reply::allowing(response, head.allow),
                            _ => response,
                        }
                    }
                    Err(refusal) => ask(Err(noted(refusal))).await,
                }
            }
            Route::Live => ops::live(service, started),
            Route::Ready => ops::ready(service, settings, started, now),
            Route::Metrics => ops::metrics(service, started, now),
            Route::Settings => match admit(Act::ReadSettings) {
                Ok(_) => ops::settings(service, started),
                Err(refusal) => ask(Err(noted(refusal))).await,
            },
            Route::Page(page) => match pages::version_asked(page, &parts.uri) {
                AskedVersion::Other if service.has_pages() => {
                    pages::redirect(service, &parts.uri, started)
                }
                version => match service.admit_page(version == AskedVersion::Ours, started) {
                    Ok(()) => {
                        let (uri, headers) = (&parts.uri, &parts.headers);
                        pages::response(service, page, version, uri, headers, started)
                    }
                    Err(refusal) => ask(Err(refusal)).await,
                },
            },
            Route::None => ask(Err(Refusal::NotFound)).await,
        },
    };
    let is_fault = response.status() == StatusCode::INTERNAL_SERVER_ERROR;
    let response = match identified {
        None if is_fault => with_id(door, response, &RequestId::of(&parts.headers)),
        Some(request) => {
            let id = request.end(response.status().as_u16());
            with_id(door, response, &id)
        }
        None => response,
    };
    connection.unread.set(unread);
    let is_refused = is_refusal(response.status());
    let is_busy = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    if !is_refused && !is_busy && head.route.needs_credential() {
        connection.known.set(true);
    }
    // A door that fills up keeps its connections for callers with credentials. Phones load their page before they log in.
    let is_for_phones = matches!(door, Door::Resident | Door::Desk);
    let makes_room =
        !connection.known.get() && connection.is_crowded() && (is_refused || !is_for_phones);
    let leaves = service.app.is_draining() && door != Door::Ops;
    // Reading the rest, which hyper needs for the next request, costs more than a new connection.
    let ends = unread && (chunked || length.lower() > SMALL_BYTES) || protocol.is_some();
    let response = match leaves || ends || makes_room {
        // The client should retry at another node, or wait for a free connection.
        true => reply::last(response),
        false => response,
    };
    // When the body is dropped, the connection is idle.
    response.map(|body| body.with_connection(connection.clone()))
}

/// Returns whether a status says that the caller or the path is unknown.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
    )
}

/// Adds the request id to a response, and logs its outcome.
fn with_id(door: Door, response: Response<Body>, id: &RequestId) -> Response<Body> {
    let (door, id_text, status) = (door.name(), id.as_str(), response.status().as_u16());
    match response.status() {
        StatusCode::INTERNAL_SERVER_ERROR => {
            tracing::error!(
                door,
                request_id = id_text,
                "a request was answered with `internal`: see the line before it for the cause"
            );
        }
        // Refusals are counted, so that an unreachable store does not fill the log.
        _ => tracing::debug!(door, request_id = id_text, status, "answered"),
    }
    reply::identified(response, id)
}

/// Size of a body that usually arrived with its head, and that is read after a refusal.
const SMALL_BYTES: u64 = 4_096;
