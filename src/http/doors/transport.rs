//! Transports of HTTP: a plain socket, or TLS. Each has its own compiled code, so a plain socket pays nothing for TLS.

use crate::http::connection_state::{ConnectionState, DrainState};
use crate::http::door::Door;
use crate::meters::HandshakeOutcome;
use crate::tls::CertificateDigest;
use crate::tls::pinned::key_digest;
use rustls::{ServerConfig, ServerConnection};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A byte stream for HTTP.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Waits until a read would not block.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Returns the socket beneath.
    fn socket(&self) -> &TcpStream;

    /// Returns the socket; bytes buffered above it are lost.
    fn into_socket(self) -> TcpStream;

    /// Returns the socket and the TLS above it; None for plain HTTP.
    fn into_parts(self) -> (TcpStream, Option<Box<ServerConnection>>);
}

impl Transport for TcpStream {
    #[inline]
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(drop)
    }

    #[inline]
    fn socket(&self) -> &TcpStream {
        self
    }

    #[inline]
    fn into_socket(self) -> TcpStream {
        self
    }

    fn into_parts(self) -> (TcpStream, Option<Box<ServerConnection>>) {
        (self, None)
    }
}

impl Transport for TlsStream<TcpStream> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (socket, session) = self.get_ref();
        // Decrypted bytes that were not read yet, and the end of the session, do not show at the socket.
        match session.wants_read() {
            true => socket.poll_read_ready(cx).map(drop),
            false => Poll::Ready(()),
        }
    }

    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }

    fn into_socket(self) -> TcpStream {
        self.into_inner().0
    }

    fn into_parts(self) -> (TcpStream, Option<Box<ServerConnection>>) {
        let (socket, tls) = self.into_inner();
        (socket, Some(Box::new(tls)))
    }
}

/// Performs the TLS handshake of one connection before its first request. `head_timeout` limits it. Returns None if the handshake
/// failed.
pub async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    state: &ConnectionState,
) -> Option<TlsStream<TcpStream>> {
    let mut accept = TlsAcceptor::from(config).accept(stream);
    let ended = std::future::poll_fn(|cx| {
        if state.closed.get() || state.thread.leaving.get() == DrainState::Now {
            return Poll::Ready(None);
        }
        state.park(cx.waker());
        if state.frozen.get() {
            return Poll::Pending;
        }
        Pin::new(&mut accept).poll(cx).map(Some)
    })
    .await;
    let (outcome, stream) = match ended {
        None => (HandshakeOutcome::Closed, None),
        Some(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            (HandshakeOutcome::Failed, None)
        }
        Some(Ok(stream)) => (HandshakeOutcome::Done, Some(stream)),
    };
    state.thread.shook_hands(outcome);
    let stream = stream?;
    state.handshake_done();
    let certificates = stream.get_ref().1.peer_certificates();
    if let Some([own, ..]) = certificates {
        state.certificate.set(Some(CertificateDigest::of(own)));
        if state.thread.door == Door::Exchange {
            state.key.set(key_digest(own));
        }
    }
    Some(stream)
}
