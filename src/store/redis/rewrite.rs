//! Has every server write its append-only file anew: what was removed is in the file until then.

use super::OpenedRedis;
use super::dial::said;
use super::url::Address;
use crate::store::Error;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Between two looks whether a file is written.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// For the file of one server: some hundred megabytes a second.
const WRITE_WAIT: Duration = Duration::from_secs(30 * 60);

impl OpenedRedis {
    /// Has primaries and replicas write their append-only files anew and waits for it. Returns the servers whose files are new.
    pub async fn rewrite_logs(&self) -> Result<Vec<String>, Error> {
        let mut servers = BTreeSet::new();
        for primary in self.primaries.all().await? {
            let mut link = self.primaries.dial(&primary).await?;
            let role: Value = ask(&mut link, &primary, &redis::cmd("ROLE")).await?;
            servers.extend(replicas_in(&role));
            servers.insert(primary);
        }
        for server in &servers {
            let mut link = self.primaries.dial(server).await?;
            rewrite(&mut link, server).await?;
        }
        Ok(servers.iter().map(ToString::to_string).collect())
    }
}

/// The replicas that follow a primary, as its `ROLE` says.
fn replicas_in(role: &Value) -> Vec<Address> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let Value::Array(parts) = role else {
        return Vec::new();
    };
    let Some(Value::Array(replicas)) = parts.get(2) else {
        return Vec::new();
    };
    let address = |replica: &Value| match replica {
        Value::Array(parts) => Some(Address {
            host: text(parts.first()?)?,
            port: text(parts.get(1)?)?.parse().ok()?,
        }),
        _ => None,
    };
    replicas.iter().filter_map(address).collect()
}

async fn ask<T: redis::FromRedisValue>(
    link: &mut MultiplexedConnection,
    server: &Address,
    command: &redis::Cmd,
) -> Result<T, Error> {
    command
        .query_async(link)
        .await
        .map_err(|error| said(server, &error))
}

async fn rewrite(link: &mut MultiplexedConnection, server: &Address) -> Result<(), Error> {
    let field = |info: &str, name: &str| {
        let mut lines = info.lines();
        lines
            .find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')
                    .map(str::to_owned)
            })
            .unwrap_or_default()
    };
    let mut info = redis::cmd("INFO");
    info.arg("persistence");
    let before: String = ask(link, server, &info).await?;
    if field(&before, "aof_enabled") != "1" {
        return Ok(());
    }
    let rewrites = |info: &str| field(info, "aof_rewrites").parse::<u64>().unwrap_or(0);
    let is_idle = |info: &str| {
        field(info, "aof_rewrite_in_progress") == "0" && field(info, "aof_rewrite_scheduled") == "0"
    };
    let started = Instant::now();
    // One that runs already may have begun before the erasure.
    let mut begun = None;
    loop {
        let now: String = ask(link, server, &info).await?;
        match begun {
            None if is_idle(&now) => {
                begun = Some(rewrites(&now) + 1);
                let _: Value = ask(link, server, &redis::cmd("BGREWRITEAOF")).await?;
            }
            Some(wanted) if is_idle(&now) && rewrites(&now) >= wanted => {
                return match field(&now, "aof_last_bgrewrite_status").as_str() {
                    "ok" => Ok(()),
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
