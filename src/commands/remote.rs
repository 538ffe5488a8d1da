//! Sends lines to a running node's feed in batches, and repeats those that a busy node did not take.

use super::node_client::{NodeClient, Problem, problem};
use crate::feed::{IngestReport, REJECTED_LISTED_MAX, Rejection};
use anyhow::{Result, anyhow, bail};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use std::time::Duration;

/// Bytes of one feed. The node commits every few thousand lines; a larger feed only makes a repeat longer.
const FEED_BYTES: usize = 4 << 20;

/// Attempts to send one feed to a busy node.
const TRIES: u32 = 10;

/// Time for a node to answer one feed.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// The feed of a running node.
pub struct Remote {
    client: NodeClient,
    body: Vec<u8>,
    /// Line number of each line of the body in the whole input.
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
    #[serde(default)]
    detail: String,
}

impl Remote {
    pub fn new(client: NodeClient) -> Remote {
        Remote {
            client,
            body: Vec::new(),
            numbers: Vec::new(),
            outcome: IngestReport::default(),
        }
    }

    /// Adds a line; None is a line that is too long to send.
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
                Err(error) if tries >= 3 => return Err(error),
                Err(_) => {}
            }
        };
        self.outcome.applied += answer.applied;
        self.outcome.unchanged += answer.unchanged;
        self.outcome.rejected_unlisted += answer.rejected_unlisted;
        for rejected in answer.rejected {
            let number = numbers.get(rejected.line.wrapping_sub(1)).copied();
            let number =
                number.ok_or_else(|| anyhow!("the node rejects a line that was not sent"))?;
            let why = Rejection::of_answer(&rejected.code, &rejected.detail)
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
        let request = Request::post("/v1/feed").header("content-type", "application/x-ndjson");
        let (status, bytes) = self.client.ask(request, body, ANSWER_WAIT)?;
        Ok(match status {
            StatusCode::OK => Ok(serde_json::from_slice(&bytes)?),
            _ => Err(problem(self.client.authority(), status, &bytes)?),
        })
    }
}
