//! What is looked at when a store is opened: whether it can be used at all, and what in its settings would lose data.

use super::dial::ask;
use super::info::Info;
use super::partition;
use super::primaries::Primaries;
use super::url::{Address, Topology};
use crate::store::Error;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::sync::Arc;

/// The oldest Redis whose scripts and streams do what we need.
const MAJOR_MIN: u32 = 7;

/// Warns of what each primary's settings would lose. Returns for how many replicas a change is to wait.
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
                "{address} is Redis {version}; {MAJOR_MIN}.0 is the least that will do"
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
            "no replica is waited for: what is acknowledged is lost with the one server that has it (store_replicas)"
        );
    } else if fewest < replicas {
        tracing::warn!(
            fewest,
            replicas,
            "a primary has fewer replicas than a change must reach: feeds are refused until it has (store_replicas)"
        );
    } else if most > replicas {
        tracing::warn!(
            most,
            replicas,
            "a change is acknowledged without a replica that is silent, if the majority still names the primary (store_replicas)"
        );
    }
    Ok(replicas)
}

/// A setting that must have this value, and what happens where it has another.
struct Must {
    setting: &'static str,
    value: &'static str,
    harm: &'static str,
    /// Its field in `INFO` and the value there, where `INFO` has it: reading it takes no further right.
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

/// Settings that must be at least so much, for buckets to stay in their packed form.
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

/// Warns of what `INFO` does not tell. The right to read it (`CONFIG GET`) would also give away the password of replicas, so
/// that the user of the example does not have it.
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
            tracing::info!(%address, %error, "not checked, because this user may not read settings: {}", names.join(", "));
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

/// What our scripts write with, without its key. Redis (7.0.15 was seen to) replays what a script wrote with the rights of the
/// default user, also where nobody can log in as that, and silently leaves out what those do not allow.
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
            tracing::info!(%address, %error, "whether the default user may replay the append-only file is not checked");
            return;
        }
    };
    if let Some(said) = answers.iter().find(|said| *said != "OK") {
        tracing::error!(%address, %said, "a restart loses what is in the append-only file: Redis replays it as the default user, who must be `off ~* &* +@all`");
    }
}
