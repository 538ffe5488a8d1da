//! A connection to a peer: HTTP/1.1 over TCP, or over TLS chosen by the caller. Answers are bounded.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Why another server (a peer, a node, a collector) gave no usable answer. Holds no text of a code.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum LinkFault {
    #[error("the address is invalid: {0}")]
    Address(String),
    #[error("the peer cannot be reached: {0}")]
    Connect(#[source] std::io::Error),
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] std::io::Error),
    #[error("the peer gave no answer: {0}")]
    Http(#[source] hyper::Error),
    #[error("the peer's answer has more than {0} bytes")]
    TooLong(usize),
    #[error("the peer did not answer in time")]
    Late,
}

/// An address and its transport.
#[derive(Clone)]
pub struct LinkAddress {
    host: String,
    port: u16,
    /// HOST:PORT for the `Host` header.
    pub authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl LinkAddress {
    /// Parses `https://HOST:PORT…`, or `http://…`, for which `tls` is not called.
    ///
    /// # Errors
    ///
    /// The address has another form, or `tls` failed.
    pub fn read(
        uri: &Uri,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<LinkAddress, LinkFault> {
        let none = || LinkFault::Address(uri.to_string());
        let authority = uri.authority().ok_or_else(none)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| none())?;
                (Some((tls().map_err(LinkFault::Address)?, name)), 443)
            }
            _ => return Err(none()),
        };
        Ok(LinkAddress {
            host,
            port: authority.port_u16().unwrap_or(port),
            authority: authority.to_string(),
            tls,
        })
    }

    /// Connects. The task of the connection ends with the sender.
    ///
    /// # Errors
    ///
    /// The host cannot be reached, or the TLS handshake failed.
    pub async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, LinkFault> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(LinkFault::Connect)?;
        stream.set_nodelay(true).map_err(LinkFault::Connect)?;
        match &self.tls {
            None => speak(stream).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(name.clone(), stream).await;
                speak(stream.map_err(LinkFault::Tls)?).await
            }
        }
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, LinkFault> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(LinkFault::Http)?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends a request and reads the whole answer of at most `bytes_max` bytes.
///
/// # Errors
///
/// The connection broke, or the answer is too long.
pub async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), LinkFault> {
    sender.ready().await.map_err(LinkFault::Http)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(LinkFault::Http)?;
    let status = response.status();
    Ok((status, whole(response, bytes_max).await?))
}

async fn whole(
    response: Response<hyper::body::Incoming>,
    bytes_max: usize,
) -> Result<Bytes, LinkFault> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.map_err(LinkFault::Http)?.into_data() {
            if bytes.len() + piece.len() > bytes_max {
                return Err(LinkFault::TooLong(bytes_max));
            }
            bytes.extend_from_slice(&piece);
        }
    }
    Ok(bytes.freeze())
}
