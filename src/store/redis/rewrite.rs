//! Has every server write its append-only file anew: what was removed is in the file until then.

use super::OpenedRedis;
use super::dial::ask;
use super::info::Info;
use super::primaries::replicas_in;
use super::url::Address;
use crate::store::Error;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Between two looks whether a file is written.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// For the file of one server, however large it is.
const WRITE_WAIT: Duration = Duration::from_secs(30 * 60);

impl OpenedRedis {
    /// Has primaries and replicas write their append-only files anew and waits for it. Returns the servers whose files are new; one
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

/// Returns false where the server has no append-only file.
async fn rewrite(link: &mut MultiplexedConnection, server: &Address) -> Result<bool, Error> {
    let mut info = redis::cmd("INFO");
    info.arg("persistence");
    let started = Instant::now();
    // A rewriting that runs already may have begun before the erasure: the number of ours is one more.
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
                        "{server} could not write its append-only file anew"
                    ))),
                };
            }
            _ => {}
        }
        if started.elapsed() > WRITE_WAIT {
            return Err(Error::Stuck(format!(
                "{server} writes its append-only file anew for {WRITE_WAIT:?}"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
