//! The operations door before the node exists: it answers that the process is alive, and why it is not ready.

use super::listener::{BoundListener, bind};
use super::reject::linger;
use super::transport::Transport;
use crate::clock::{Moment, Time};
use crate::http::door::Door;
use crate::http::door_settings::Settings;
use crate::http::{problem, reply};
use crate::refusal::Refusal;
use crate::tls::ServerTls;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Connections at once; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 64;

/// Time for a connection, from its handshake to the end of its one answer.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An operations door whose node does not exist yet.
pub struct WaitingDoor {
    bound: BoundListener,
    accepting: JoinHandle<()>,
}

impl WaitingDoor {
    /// Binds the door and answers there; `state` is the value at `/ready`.
    ///
    /// # Errors
    ///
    /// As for [`bind`].
    pub fn open(settings: Settings, state: &'static str) -> io::Result<WaitingDoor> {
        let bound = bind(Door::Ops, settings)?;
        let listener = TcpListener::from_std(bound.listener.try_clone()?)?;
        let accepting = tokio::spawn(accept(listener, bound.tls.clone(), state));
        Ok(WaitingDoor { bound, accepting })
    }

    /// Stops answering. Later connections wait for the node, which uses these settings.
    pub async fn close(self, settings: Settings) -> BoundListener {
        self.accepting.abort();
        let _ = self.accepting.await;
        BoundListener {
            settings,
            ..self.bound
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<ServerTls>>, state: &'static str) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let _ = tokio::time::timeout(CONNECTION_WAIT, serve(stream, tls, state)).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Shakes hands if the door has TLS, and answers one request.
async fn serve(stream: TcpStream, tls: Option<Arc<ServerTls>>, state: &'static str) {
    match tls {
        None => answer_one(stream, state).await,
        Some(tls) => {
            // An error here concerns the client's connection only.
            if let Ok(stream) = TlsAcceptor::from(tls.config()).accept(stream).await {
                answer_one(stream, state).await;
            }
        }
    }
}

/// Answers one request, and discards its body: closing with unread bytes would lose the answer.
async fn answer_one<T: Transport>(stream: T, state: &'static str) {
    let brings_body = AtomicBool::new(false);
    let respond = service_fn(async |request: Request<Incoming>| {
        brings_body.store(!request.body().is_end_stream(), Relaxed);
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), state))
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).keep_alive(false);
    let mut connection = builder.serve_connection(TokioIo::new(stream), respond);
    // An error here concerns the client's connection only.
    let _ = (&mut connection).await;
    let stream = connection.into_parts().io.into_inner();
    if brings_body.load(Relaxed) {
        linger(stream.into_socket()).await;
    }
}

fn answer(method: &Method, path: &str, state: &'static str) -> Response<Full<Bytes>> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let wait = Refusal::Warming.retry_after().unwrap_or_default();
    let (status, content_type, body) = match path {
        "/live" if is_read => (
            StatusCode::OK,
            "application/json",
            r#"{"state":"live"}"#.to_owned(),
        ),
        "/ready" if is_read => {
            let body = serde_json::json!({
                "state": state, "residents": 0, "as_of": Time(0).to_string(),
                "age_ms": Moment::now().0, "retry_after_ms": wait.as_millis() as u64,
            });
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "application/json",
                body.to_string(),
            )
        }
        "/metrics" if is_read => (
            StatusCode::OK,
            "text/plain; version=0.0.4",
            "# TYPE liangma_ready gauge\nliangma_ready 0\n".to_owned(),
        ),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "application/problem+json",
            problem::problem_text(Refusal::Warming, wait),
        ),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    headers.insert(CACHE_CONTROL, reply::NO_STORE);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, wait.as_secs().max(1).into());
    }
    response
}
