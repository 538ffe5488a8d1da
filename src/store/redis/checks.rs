//! Checks when a store is opened: whether it can be used, and which of its settings risk data.

use super::dial::ask;
use super::info::Info;
use super::partition;
use super::primaries::Primaries;
use super::url::{Address, Topology};
use crate::store::error::Error;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::sync::Arc;

/// Oldest Redis version with the needed scripts and streams.
const MAJOR_MIN: u32 = 7;

/// Warns about settings of the primaries that risk data. Returns the number of replicas that each change waits for.
///
/// # Errors
///
/// `Refused` if a server is too old, or the store cannot be reached.
pub async fn run(primaries: &Arc<Primaries>, wanted: Option<u32>) -> Result<u32, Error> {
    let (mut fewest, mut most) = (u32::MAX, 0);
    for address in primaries.all().await? {
        let mut link = primaries.dial(&address).await?;
        let info: String = ask(&mut link, &address, &redis::cmd("INFO")).await?;
        let info = Info::of(&info);
        let version = info.get("redis_version");
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        if major.is_none_or(|major: u32| major < MAJOR_MIN) {
            return Err(Error::Refused(format!(
                "{address} is Redis {version}, and {MAJOR_MIN}.0 or later is required"
            )));
        }
        let replicas = info.get("connected_slaves").parse().unwrap_or(0);
        fewest = fewest.min(replicas);
        most = most.max(replicas);
        warn_of_info(&info, &address);
        warn_of_settings(&mut link, &address).await;
        warn_of_replay(&mut link, &address).await;
    }
    let replicas = wanted.unwrap_or(match primaries.place().topology {
        Topology::Single => fewest.min(1),
        Topology::Sentinel { .. } | Topology::Cluster => 1,
    });
    if replicas == 0 {
        tracing::warn!(
            "changes wait for no replica: acknowledged changes are lost with their server (store_replicas)"
        );
    } else if fewest < replicas {
        tracing::warn!(
            fewest,
            replicas,
            "a primary has fewer replicas than each change must reach: feeds are refused until it has enough (store_replicas)"
        );
    } else if most > replicas {
        tracing::warn!(
            most,
            replicas,
            "a primary has more replicas than each change must reach: if one does not answer, changes are acknowledged without it once a majority of the sentinels, or of the cluster's primaries, has confirmed the primary (store_replicas)"
        );
    }
    Ok(replicas)
}

/// A setting that must have a value, and the harm of any other.
struct Must {
    setting: &'static str,
    value: &'static str,
    harm: &'static str,
    /// Field and value in `INFO`, if it has the setting: reading `INFO` needs no further right.
    info: Option<(&'static str, &'static str)>,
}

const MUST: [Must; 4] = [
    Must {
        setting: "appendonly",
        value: "yes",
        harm: "a restart loses everything since the last snapshot",
        info: Some(("aof_enabled", "1")),
    },
    Must {
        setting: "maxmemory-policy",
        value: "noeviction",
        harm: "residents are thrown away when memory is short",
        info: Some(("maxmemory_policy", "noeviction")),
    },
    Must {
        setting: "appendfsync",
        value: "always",
        harm: "a crash of the machine loses what was acknowledged last",
        info: None,
    },
    Must {
        setting: "cluster-allow-reads-when-down",
        value: "no",
        harm: "a server that is cut off from the cluster is believed",
        info: None,
    },
];

/// Settings with a minimum, which keep buckets in their packed form.
const AT_LEAST: [(&str, u64); 2] = [
    ("hash-max-listpack-entries", 256),
    ("hash-max-listpack-value", 1024),
];

fn warn_of_info(info: &Info<'_>, address: &Address) {
    for must in &MUST {
        if let Some((field, value)) = must.info
            && info.get(field) != value
        {
            let Must {
                setting,
                value,
                harm,
                ..
            } = must;
            tracing::warn!(%address, "{setting} is not {value}: {harm}");
        }
    }
}

/// Warns about settings that `INFO` does not show. `CONFIG GET` also reveals the password of replicas, so the example's user
/// may not call it.
async fn warn_of_settings(link: &mut MultiplexedConnection, address: &Address) {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET");
    let unseen = || MUST.iter().filter(|must| must.info.is_none());
    for must in unseen() {
        command.arg(must.setting);
    }
    for (name, _) in AT_LEAST {
        command.arg(name);
    }
    let settings: HashMap<String, String> = match command.query_async(link).await {
        Ok(settings) => settings,
        Err(error) => {
            let names: Vec<&str> = unseen()
                .map(|must| must.setting)
                .chain(AT_LEAST.map(|(name, _)| name))
                .collect();
            tracing::info!(%address, %error, "settings were not checked because this user may not read them: {}", names.join(", "));
            return;
        }
    };
    for Must {
        setting,
        value: wanted,
        harm,
        ..
    } in unseen()
    {
        if let Some(value) = settings.get(*setting).filter(|value| value != wanted) {
            tracing::warn!(%address, "{setting} is {value}, not {wanted}: {harm}");
        }
    }
    for (name, least) in AT_LEAST {
        let value = settings.get(name).and_then(|value| value.parse().ok());
        if let Some(value) = value.filter(|value: &u64| *value < least) {
            tracing::warn!(%address, "{name} is {value}, less than {least}: residents take twice the memory");
        }
    }
}

/// Commands that our scripts write with. Redis (seen in 7.0.15) replays script writes of the append-only file with the rights
/// of the default user, even if nobody can log in as that user, and silently drops what those forbid.
const REPLAYED: [(&str, &[&str]); 5] = [
    ("HSET", &["field", "value"]),
    ("HDEL", &["field"]),
    ("XADD", &["*", "field", "value"]),
    ("SET", &["value"]),
    ("DEL", &[]),
];

async fn warn_of_replay(link: &mut MultiplexedConnection, address: &Address) {
    let mut pipe = redis::pipe();
    for (name, arguments) in REPLAYED {
        pipe.cmd("ACL").arg("DRYRUN").arg("default").arg(name);
        pipe.arg(partition::meta(0)).arg(arguments);
    }
    let answers: Vec<String> = match pipe.query_async(link).await {
        Ok(answers) => answers,
        Err(error) => {
            tracing::info!(%address, %error, "the rights of the default user to replay the append-only file were not checked");
            return;
        }
    };
    if let Some(said) = answers.iter().find(|said| *said != "OK") {
        tracing::error!(%address, %said, "a restart loses what is in the append-only file: Redis replays it as the default user, who must be `off ~* &* +@all`");
    }
}
