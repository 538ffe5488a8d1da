//! Sends lines to a running node's feed, so many at a time, and sends again what a busy node did not take.

use crate::feed::{IngestReport, REJECTED_LISTED_MAX, Rejection};
use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::time::Duration;
use tokio::net::TcpStream;

/// Bytes of one feed. The node commits after each few thousand lines anyway; more here only makes a repeat longer.
const FEED_BYTES: usize = 4 << 20;

/// Times that one feed is sent before giving up on a busy node.
const TRIES: u32 = 10;

/// A node does not take longer to answer a feed of this size.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// A running node's feed.
pub struct Remote {
    runtime: tokio::runtime::Runtime,
    authority: String,
    token: String,
    sender: Option<SendRequest<Full<Bytes>>>,
    body: Vec<u8>,
    /// The number, in all that is read, of each line of the body.
    numbers: Vec<u64>,
    outcome: IngestReport,
}

#[derive(Deserialize)]
struct FeedReply {
    applied: u64,
    unchanged: u64,
    rejected: Vec<RejectedLine>,
    #[serde(default)]
    rejected_unlisted: u64,
}

#[derive(Deserialize)]
struct RejectedLine {
    line: usize,
    code: String,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    retry_after_ms: Option<u64>,
}

impl Remote {
    pub fn new(to: &str, token: &str) -> Result<Remote> {
        let uri: Uri = to.parse().with_context(|| format!("--to {to}"))?;
        let authority = uri.authority().map(ToString::to_string);
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
            bail!("--to {to}: it takes http://HOST:PORT");
        }
        Ok(Remote {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            authority: authority.ok_or_else(|| anyhow!("--to {to}: it takes http://HOST:PORT"))?,
            token: token.to_owned(),
            sender: None,
            body: Vec::new(),
            numbers: Vec::new(),
            outcome: IngestReport::default(),
        })
    }

    /// One more line; None is one that is too long to send.
    pub fn line(&mut self, number: u64, line: Option<&[u8]>) -> Result<()> {
        let Some(line) = line else {
            self.outcome.reject(number, Rejection::LineTooLong);
            return Ok(());
        };
        self.body.extend_from_slice(line);
        self.body.push(b'\n');
        self.numbers.push(number);
        if self.body.len() >= FEED_BYTES {
            self.send()?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<IngestReport> {
        if !self.body.is_empty() {
            self.send()?;
        }
        self.outcome.rejected.sort_by_key(|(line, _)| *line);
        Ok(self.outcome)
    }

    fn send(&mut self) -> Result<()> {
        let body = Bytes::from(std::mem::take(&mut self.body));
        let numbers = std::mem::take(&mut self.numbers);
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            match self.try_send(body.clone()) {
                Ok(Ok(answer)) => break answer,
                Ok(Err(problem)) => match problem.retry_after_ms {
                    Some(wait) if tries < TRIES => {
                        std::thread::sleep(Duration::from_millis(wait.min(30_000)));
                    }
                    _ => bail!("the node refuses the feed: {}", problem.code),
                },
                Err(error) => {
                    self.sender = None;
                    if tries >= 3 {
                        return Err(error);
                    }
                }
            }
        };
        self.outcome.applied += answer.applied;
        self.outcome.unchanged += answer.unchanged;
        self.outcome.rejected_unlisted += answer.rejected_unlisted;
        for rejected in answer.rejected {
            let number = numbers.get(rejected.line.wrapping_sub(1)).copied();
            let number =
                number.ok_or_else(|| anyhow!("the node rejects a line that was not sent"))?;
            let why = Rejection::of_code(&rejected.code)
                .ok_or_else(|| anyhow!("the node rejects line {number}: {}", rejected.code))?;
            if self.outcome.rejected.len() < REJECTED_LISTED_MAX {
                self.outcome.reject(number, why);
            } else {
                self.outcome.rejected_unlisted += 1;
            }
        }
        Ok(())
    }

    fn try_send(&mut self, body: Bytes) -> Result<Result<FeedReply, Problem>> {
        let request = Request::post("/v1/feed")
            .header("host", &self.authority)
            .header("content-type", "application/x-ndjson")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(body))
            .map_err(|_| anyhow!("the token holds what no header may"))?;
        let (authority, sender) = (&self.authority, &mut self.sender);
        // The library calls a request canceled whose connection has ended.
        let closed = |error: hyper::Error| match error.is_canceled() || error.is_closed() {
            true => anyhow!("{authority} closed the connection before it answered"),
            false => anyhow!("{authority}: {error}"),
        };
        self.runtime.block_on(async {
            let exchange = async {
                if sender.as_ref().is_none_or(SendRequest::is_closed) {
                    let stream = TcpStream::connect(authority)
                        .await
                        .with_context(|| format!("no node at {authority}"))?;
                    let (new, connection) = handshake(TokioIo::new(stream)).await?;
                    tokio::spawn(connection);
                    *sender = Some(new);
                }
                let sender = sender.as_mut().expect("just connected");
                sender.ready().await.map_err(closed)?;
                let response = sender.send_request(request).await.map_err(closed)?;
                let status = response.status();
                let bytes = response.into_body().collect().await?.to_bytes();
                Ok(match status {
                    StatusCode::OK => Ok(serde_json::from_slice(&bytes)?),
                    _ => Err(serde_json::from_slice(&bytes).with_context(|| {
                        format!("{authority} answers {status}: is it a operations door?")
                    })?),
                })
            };
            tokio::time::timeout(ANSWER_WAIT, exchange)
                .await
                .map_err(|_| anyhow!("the node at {authority} does not answer"))?
        })
    }
}
