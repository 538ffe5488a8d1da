//! Rewrites the append-only file of every server, because removed data stays in the file until then.

use super::dial::ask;
use super::info::Info;
use super::opened::OpenedRedis;
use super::primaries::replicas_in;
use super::url::Address;
use crate::store::error::Error;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Interval of checks whether a file is written.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Time for the file of one server, whatever its size.
const WRITE_WAIT: Duration = Duration::from_secs(30 * 60);

impl OpenedRedis {
    /// Rewrites the append-only files of primaries and replicas, and waits. Returns the servers with a new file; servers
    /// without such a file are left out.
    ///
    /// # Errors
    ///
    /// A server cannot be reached, fails to write its file, or takes too long.
    /// without such a file is none of them.
    pub async fn rewrite_logs(&self) -> Result<Vec<String>, Error> {
        let mut servers = BTreeSet::new();
        for primary in self.primaries.all().await? {
            let mut link = self.primaries.dial(&primary).await?;
            let role: Value = ask(&mut link, &primary, &redis::cmd("ROLE")).await?;
            servers.extend(replicas_in(&role));
            servers.insert(primary);
        }
        let mut rewritten = Vec::new();
        for server in &servers {
            let mut link = self.primaries.dial(server).await?;
            if rewrite(&mut link, server).await? {
                rewritten.push(server.to_string());
            }
        }
        Ok(rewritten)
    }
}

/// Rewrites one file. Returns false if the server has none.
async fn rewrite(link: &mut MultiplexedConnection, server: &Address) -> Result<bool, Error> {
    let mut info = redis::cmd("INFO");
    info.arg("persistence");
    let started = Instant::now();
    // A running rewrite may have begun before the erasure, so the one after it counts.
    let mut ours = None;
    loop {
        let text: String = ask(link, server, &info).await?;
        let now = Info::of(&text);
        if now.get("aof_enabled") != "1" {
            return Ok(false);
        }
        let is_idle = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"]
            .iter()
            .all(|name| now.get(name) == "0");
        let rewrites: u64 = now.get("aof_rewrites").parse().unwrap_or(0);
        match ours {
            None if is_idle => {
                ours = Some(rewrites + 1);
                let _: Value = ask(link, server, &redis::cmd("BGREWRITEAOF")).await?;
            }
            Some(ours) if is_idle && rewrites >= ours => {
                return match now.get("aof_last_bgrewrite_status") {
                    "ok" => Ok(true),
                    _ => Err(Error::Away(format!(
                        "{server} could not rewrite its append-only file"
                    ))),
                };
            }
            _ => {}
        }
        if started.elapsed() > WRITE_WAIT {
            return Err(Error::Stuck(format!(
                "{server} has not rewritten its append-only file after {WRITE_WAIT:?}"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
