//! A command's connection to a running node: HTTP or HTTPS, a token, and a client certificate.

use crate::exchange::link::{LinkAddress, LinkFault};
use crate::tls::ClientFiles;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, StatusCode, Uri};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Time to connect, with TLS.
const CONNECT_WAIT: Duration = Duration::from_secs(15);

/// Largest answer that is read whole, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Variable with the token, if no option names one.
const TOKEN_VARIABLE: &str = "LIANGMA_TOKEN";

/// Options of the connection to a running node.
#[derive(Args)]
pub struct RemoteArgs {
    /// The token; `@FILE` or `-` (the first line of standard input) keeps it out of the arguments [default: the variable
    /// LIANGMA_TOKEN]
    #[arg(long, value_name = "TOKEN|@FILE|-", value_parser = super::arguments::private_value)]
    token: Option<String>,
    /// A file whose first line is the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Authority of the node's certificate, PEM [default: the system's authorities]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client certificate, if the node asks for one, PEM
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Private key of the client certificate
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl RemoteArgs {
    /// Returns a client of the address in the option `flag`.
    pub fn client(&self, flag: &str, address: &str) -> Result<NodeClient> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => super::arguments::private_value(&format!("@{}", path.display()))
                .map_err(|why| anyhow!("--token-file: {why}"))?,
            (None, None) => match std::env::var(TOKEN_VARIABLE) {
                Ok(token) if !token.is_empty() => token,
                _ => bail!("{flag} needs a token: --token, --token-file or {TOKEN_VARIABLE}"),
            },
        };
        let cert = self.client_cert.clone().zip(self.client_key.clone());
        let files = ClientFiles {
            ca: self.ca.clone(),
            cert,
        };
        NodeClient::new(flag, address, token, &files)
    }
}

/// A client of a running node's door.
pub struct NodeClient {
    runtime: tokio::runtime::Runtime,
    token: String,
    link: NodeLink,
}

/// A connection to a node, opened on demand.
struct NodeLink {
    address: LinkAddress,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// A refusal of a node.
#[derive(Deserialize)]
pub struct Problem {
    pub code: String,
    pub retry_after_ms: Option<u64>,
}

impl NodeClient {
    fn new(flag: &str, address: &str, token: String, files: &ClientFiles) -> Result<NodeClient> {
        let uri: Uri = address
            .parse()
            .with_context(|| format!("{flag} {address}"))?;
        let form =
            || anyhow!("{flag} {address}: http://HOST:PORT or https://HOST:PORT is expected");
        if uri.authority().is_none() || !matches!(uri.path(), "" | "/") {
            return Err(form());
        }
        if uri.scheme_str() == Some("http") && (files.ca.is_some() || files.cert.is_some()) {
            bail!("{flag} {address}: certificates need https://");
        }
        let tls = match uri.scheme_str() {
            Some("https") => Some(files.load()?),
            _ => None,
        };
        let address =
            LinkAddress::read(&uri, || tls.ok_or_else(String::new)).map_err(|_| form())?;
        Ok(NodeClient {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            token,
            link: NodeLink {
                address,
                sender: None,
            },
        })
    }

    pub fn authority(&self) -> &str {
        &self.link.address.authority
    }

    /// Sends a request with the token, and reads the whole answer within `wait`. After an error the next request uses a new
    /// connection.
    pub fn ask(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
        wait: Duration,
    ) -> Result<(StatusCode, Bytes)> {
        let request = self.request(request, body)?;
        let authority = self.authority().to_owned();
        let answered = self.runtime.block_on(async {
            let exchange = async {
                let response = self.link.exchange(request).await?;
                let status = response.status();
                let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
                let bytes = body
                    .collect()
                    .await
                    .map_err(|error| anyhow!("{authority}: {error}"))?;
                Ok((status, bytes.to_bytes()))
            };
            tokio::time::timeout(wait, exchange)
                .await
                .map_err(|_| anyhow!("the node at {authority} does not answer"))?
        });
        if answered.is_err() {
            self.link.sender = None;
        }
        answered
    }

    /// Sends a request with the token, and passes each piece of the answer to `each`. Fails if the node sends nothing for
    /// `wait`. If the status is not 200, returns it with the answer.
    pub fn stream(
        &mut self,
        request: hyper::http::request::Builder,
        wait: Duration,
        mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<Result<(), (StatusCode, Bytes)>> {
        let request = self.request(request, Bytes::new())?;
        let authority = self.authority().to_owned();
        let late = || anyhow!("the node at {authority} does not answer");
        let ended = self.runtime.block_on(async {
            let response = tokio::time::timeout(wait, self.link.exchange(request)).await;
            let response = response.map_err(|_| late())??;
            let status = response.status();
            let mut body = response.into_body();
            let mut refused = Vec::new();
            loop {
                let frame = tokio::time::timeout(wait, body.frame()).await;
                let Some(frame) = frame.map_err(|_| late())? else {
                    break;
                };
                let frame = frame.map_err(|error| anyhow!("{authority}: {error}"))?;
                match frame.data_ref() {
                    Some(data) if status == StatusCode::OK => each(data)?,
                    Some(data) if refused.len() < ANSWER_BYTES_MAX => {
                        refused.extend_from_slice(data)
                    }
                    _ => {}
                }
            }
            Ok(match status {
                StatusCode::OK => Ok(()),
                status => Err((status, Bytes::from(refused))),
            })
        });
        // After an early end, the rest of the answer would be in the way.
        self.link.sender = None;
        ended
    }

    fn request(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>> {
        request
            .header("host", self.authority())
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(body))
            .map_err(|_| anyhow!("the token has characters that a header must not have"))
    }
}

impl NodeLink {
    /// Sends a request, over a new connection if there is none.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let authority = &self.address.authority;
        // The library reports a closed connection as a canceled request.
        let closed = |error: hyper::Error| match error.is_canceled() || error.is_closed() {
            true => anyhow!("{authority} closed the connection before it answered"),
            false => anyhow!("{authority}: {error}"),
        };
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let connected = tokio::time::timeout(CONNECT_WAIT, self.address.connect()).await;
            let connected =
                connected.map_err(|_| anyhow!("{authority}: the connection timed out"))?;
            self.sender = Some(match connected {
                Ok(sender) => sender,
                Err(LinkFault::Connect(error)) => {
                    return Err(error)
                        .with_context(|| format!("{authority}: the connection failed"));
                }
                Err(LinkFault::Tls(error)) => {
                    return Err(error)
                        .with_context(|| format!("{authority}: the TLS handshake failed"));
                }
                Err(other) => return Err(other.into()),
            });
        }
        let sender = self.sender.as_mut().expect("just connected");
        sender.ready().await.map_err(closed)?;
        sender.send_request(request).await.map_err(closed)
    }
}

/// Parses a refusal.
pub fn problem(authority: &str, status: StatusCode, bytes: &[u8]) -> Result<Problem> {
    serde_json::from_slice(bytes)
        .with_context(|| format!("{authority} answers {status}: is it an operations door?"))
}
