//! A connection to a peer's address: HTTP/1.1 over TCP, or over TLS that the caller chose. Answers are read up to a bound.

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

/// Why a peer gave no answer. No text of a code is in it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum LinkFault {
    #[error("the address is none: {0}")]
    Address(String),
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no TLS: {0}")]
    Tls(#[source] std::io::Error),
    #[error("no answer: {0}")]
    Http(#[source] hyper::Error),
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
    #[error("no answer in time")]
    Late,
}

/// Where something is, and how one comes there.
#[derive(Clone)]
pub struct LinkAddress {
    host: String,
    port: u16,
    /// HOST:PORT, as the head of a request names it.
    pub authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl LinkAddress {
    /// Reads `https://HOST:PORT…`, or `http://…`, where `tls` is not looked at.
    ///
    /// # Errors
    ///
    /// The address has another form, or its TLS could not be made.
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

    /// Connects. The task that moves its bytes ends with the sender.
    ///
    /// # Errors
    ///
    /// The host was not reached, or its TLS did not come about.
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

/// Sends a request and reads the answer whole, up to so many bytes.
///
/// # Errors
///
/// The connection broke, or the answer has too many bytes.
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
