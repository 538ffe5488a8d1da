//! The quorum that names primaries. Its voters are all sentinels, or the primaries of a cluster.
//!
//! An isolated or sleeping primary still calls itself one. Its replacement takes more than half of the voters, so while more
//! than half name a server, no other was elected.

use super::dial::{CONNECT_TIMEOUT, Login, Settings, dial, said};
use super::partition::{self, PARTITIONS};
use super::url::{Address, Topology};
use crate::store::error::Error;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// The primary of each partition.
pub type PartitionPrimaries = [Option<Address>; PARTITIONS];

/// What a majority of the voters says.
#[derive(Clone, Debug, Default)]
pub struct Elected {
    pub of: PartitionPrimaries,
    /// A bit for each partition whose primary they call failed.
    pub lost: u16,
}

/// Time for an answer, with the connection.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// Further time for the other voters once a majority agrees.
const REST_WAIT: Duration = Duration::from_millis(20);

/// The voters and their connections.
#[derive(Default)]
pub struct TopologyQuorum {
    links: HashMap<Address, Option<MultiplexedConnection>>,
}

/// The answer of one voter: the primary of each partition, and the voters.
struct Vote {
    of: PartitionPrimaries,
    quorum: Vec<Address>,
    /// A bit for each partition without a live primary.
    lost: u16,
}

impl TopologyQuorum {
    /// Asks all voters, and returns what a majority says.
    pub async fn vote(&mut self, settings: &Settings) -> Result<Elected, Error> {
        if let Topology::Sentinel { .. } = settings.place.topology {
            for host in &settings.place.hosts {
                self.links.entry(host.clone()).or_default();
            }
        }
        let mut answers = JoinSet::new();
        for (elector, link) in &mut self.links {
            // A connection that is not given back is made again.
            let (settings, elector, link) = (settings.clone(), elector.clone(), link.take());
            answers.spawn(async move {
                let vote = ask(&settings, &elector, link).await;
                (elector, vote)
            });
        }
        let mut votes = Vec::new();
        let mut why = "none is known".to_owned();
        let count = self.links.len();
        loop {
            let wait = match agreed(&votes, count) {
                true => REST_WAIT,
                false => ANSWER_WAIT,
            };
            // Sleeping voters are not awaited once a majority agrees.
            let Ok(Some(answer)) = tokio::time::timeout(wait, answers.join_next()).await else {
                break;
            };
            match answer {
                Ok((elector, Ok((vote, link)))) => {
                    self.links.insert(elector, Some(link));
                    votes.push(vote);
                }
                Ok((elector, Err(error))) => why = format!("{elector}: {error}"),
                Err(error) => why = error.to_string(),
            }
        }
        if votes.len() <= count / 2 {
            return Err(Error::Away(format!(
                "only {} of {count} voters answer: {why}",
                votes.len()
            )));
        }
        let of = elected(&votes, count);
        if let Topology::Cluster = settings.place.topology {
            let named = |address: &Address| {
                votes
                    .iter()
                    .filter(|vote| vote.quorum.contains(address))
                    .count()
                    > count / 2
            };
            let all: Vec<Address> = votes.iter().flat_map(|vote| vote.quorum.clone()).collect();
            self.set(all.into_iter().filter(named));
        }
        if of.iter().all(Option::is_none) {
            return Err(Error::Away(format!(
                "no majority of {count} voters names a primary"
            )));
        }
        let lost = lost(&votes, count);
        Ok(Elected { of, lost })
    }

    /// Reads the voters of a cluster from the table of the first node that answers: a seed, or a known one.
    pub async fn find(&mut self, settings: &Settings, turn: usize) -> Result<(), Error> {
        let mut hosts = settings.place.hosts.clone();
        hosts.extend(
            self.links
                .keys()
                .filter(|known| !settings.place.hosts.contains(known))
                .cloned(),
        );
        let first = turn % hosts.len();
        hosts.rotate_left(first);
        let mut why = String::new();
        for host in hosts {
            match ask(settings, &host, None).await {
                Ok((vote, _)) if !vote.quorum.is_empty() => {
                    self.set(vote.quorum.into_iter());
                    return Ok(());
                }
                Ok(_) => why = format!("{host} is not in a cluster with slots"),
                Err(error) => why = said(&host, &error).to_string(),
            }
        }
        Err(Error::Away(why))
    }

    fn set(&mut self, quorum: impl Iterator<Item = Address>) {
        let mut links = HashMap::new();
        for elector in quorum {
            let link = self.links.remove(&elector).flatten();
            links.entry(elector).or_insert(link);
        }
        self.links = links;
    }
}

/// Returns whether a majority answered and names a primary for each partition.
fn agreed(votes: &[Vote], count: usize) -> bool {
    votes.len() > count / 2 && elected(votes, count).iter().all(Option::is_some)
}

/// Returns the primary of each partition that more than half of `count` voters name.
fn elected(votes: &[Vote], count: usize) -> PartitionPrimaries {
    std::array::from_fn(|partition| {
        let named = |address: &Address| {
            votes
                .iter()
                .filter(|vote| vote.of[partition].as_ref() == Some(address))
                .count()
        };
        let mut all = votes.iter().filter_map(|vote| vote.of[partition].as_ref());
        all.find(|address| named(address) > count / 2).cloned()
    })
}

/// Returns the partitions that more than half of `count` voters call failed, by their primaries.
fn lost(votes: &[Vote], count: usize) -> u16 {
    let is_lost = |bit: &u16| votes.iter().filter(|vote| vote.lost & bit != 0).count() > count / 2;
    let bits = (0..PARTITIONS).map(|partition| 1u16 << partition);
    bits.filter(is_lost).fold(0, |all, bit| all | bit)
}

/// Asks one voter, on its connection or a new one.
async fn ask(
    settings: &Settings,
    elector: &Address,
    link: Option<MultiplexedConnection>,
) -> Result<(Vote, MultiplexedConnection), RedisError> {
    let mut link = match (link, &settings.place.topology) {
        (Some(link), _) => link,
        (None, Topology::Sentinel { .. }) if settings.sentinel.is_some() => {
            dial(settings, elector, Login::Sentinel, CONNECT_TIMEOUT).await?
        }
        // Sentinels often have no password although the servers have one.
        (None, Topology::Sentinel { .. }) => {
            match dial(settings, elector, Login::Nobody, CONNECT_TIMEOUT).await {
                Err(error) if error.code() == Some("NOAUTH") => {
                    dial(settings, elector, Login::SentinelAsServer, CONNECT_TIMEOUT).await?
                }
                link => link?,
            }
        }
        (None, _) => dial(settings, elector, Login::Server, CONNECT_TIMEOUT).await?,
    };
    let vote = match &settings.place.topology {
        Topology::Sentinel { name } => {
            let primary: Option<(String, u16)> = redis::cmd("SENTINEL")
                .arg("GET-MASTER-ADDR-BY-NAME")
                .arg(name)
                .query_async(&mut link)
                .await?;
            let primary = primary.map(|(host, port)| Address { host, port });
            Vote {
                of: std::array::from_fn(|_| primary.clone()),
                quorum: Vec::new(),
                lost: 0,
            }
        }
        Topology::Single | Topology::Cluster => {
            let rows = redis::cmd("CLUSTER")
                .arg("SLOTS")
                .query_async(&mut link)
                .await?;
            let asked = redis::cmd("CLUSTER").arg("NODES").to_owned();
            let nodes: String = match asked.query_async(&mut link).await {
                Ok(nodes) => nodes,
                // A user without the right to this command still votes; failed primaries are then unknown.
                Err(error) if error.code() == Some("NOPERM") => String::new(),
                Err(error) => return Err(error),
            };
            vote_of(rows, &failed_of(&nodes), elector)
        }
    };
    Ok((vote, link))
}

/// Returns the ids of nodes that `CLUSTER NODES` marks as failed, by agreement of a majority of primaries.
fn failed_of(nodes: &str) -> Vec<&str> {
    let failed = nodes.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (id, flags) = (words.next()?, words.nth(1)?);
        let mut flags = flags.split(',');
        flags.any(|flag| flag == "fail").then_some(id)
    });
    failed.collect()
}

/// Parses `CLUSTER SLOTS`: first and last slot, primary and replicas of each range. `failed`: ids of failed nodes.
fn vote_of(rows: Vec<Value>, failed: &[&str], asked: &Address) -> Vote {
    let mut vote = Vote {
        of: [const { None }; PARTITIONS],
        quorum: Vec::new(),
        // Until a row names the node.
        lost: u16::MAX,
    };
    for row in rows {
        let Value::Array(parts) = row else {
            continue;
        };
        let [Value::Int(first), Value::Int(last), primary, ..] = &parts[..] else {
            continue;
        };
        let has_failed = id_of(primary).is_some_and(|id| failed.contains(&id));
        let Some(primary) = address_of(primary, asked) else {
            continue;
        };
        for (nth, of) in vote.of.iter_mut().enumerate() {
            if (*first..=*last).contains(&i64::from(partition::slot(nth))) {
                *of = Some(primary.clone());
                if !has_failed {
                    vote.lost &= !(1 << nth);
                }
            }
        }
        if !vote.quorum.contains(&primary) {
            vote.quorum.push(primary);
        }
    }
    vote
}

/// Returns the id of a node in `CLUSTER SLOTS`.
fn id_of(node: &Value) -> Option<&str> {
    match node {
        Value::Array(parts) => match parts.get(2)? {
            Value::BulkString(id) => std::str::from_utf8(id).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// Returns host and port of a node in `CLUSTER SLOTS`. A node that does not know its host has the one by which it was asked.
fn address_of(node: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = node else {
        return None;
    };
    let host = match parts.first()? {
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        _ => String::new(),
    };
    let Value::Int(port) = parts.get(1)? else {
        return None;
    };
    Some(Address {
        host: match host.as_str() {
            "" | "?" => asked.host.clone(),
            _ => host,
        },
        port: u16::try_from(*port).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(port: u16) -> Vote {
        let address = Address {
            host: "h".to_owned(),
            port,
        };
        Vote {
            of: std::array::from_fn(|_| Some(address.clone())),
            quorum: vec![],
            lost: 0,
        }
    }

    fn port_of(votes: &[u16], count: usize) -> Option<u16> {
        let votes: Vec<Vote> = votes.iter().map(|port| vote(*port)).collect();
        elected(&votes, count)[0]
            .as_ref()
            .map(|address| address.port)
    }

    #[test]
    fn a_primary_is_whom_more_than_half_of_all_electors_name() {
        assert_eq!(port_of(&[1, 1, 2], 3), Some(1));
        assert_eq!(port_of(&[2, 2], 3), Some(2));
        assert_eq!(port_of(&[1, 2], 3), None);
        assert_eq!(port_of(&[1], 3), None);
        assert_eq!(port_of(&[1, 1], 4), None);
        assert_eq!(port_of(&[1], 1), Some(1));
        assert_eq!(port_of(&[], 1), None);
    }

    #[test]
    fn a_table_of_slots_names_a_primary_for_each_partition() {
        let node = |host: &str, port| {
            Value::Array(vec![
                Value::BulkString(host.into()),
                Value::Int(port),
                Value::BulkString(b"id".to_vec()),
            ])
        };
        let row = |first, last, port| {
            Value::Array(vec![
                Value::Int(first),
                Value::Int(last),
                node("", port),
                node("r", 9),
            ])
        };
        let asked = Address {
            host: "a".to_owned(),
            port: 1,
        };
        let vote = vote_of(
            vec![row(0, 8191, 1), row(8192, 16_000, 2), Value::Nil],
            &[],
            &asked,
        );
        assert_eq!(vote.lost, 0);
        assert_eq!(
            vote.of[7].as_ref().map(ToString::to_string),
            Some("a:1".to_owned())
        );
        assert_eq!(
            vote.of[8].as_ref().map(ToString::to_string),
            Some("a:2".to_owned())
        );
        assert_eq!(vote.quorum.len(), 2);
        assert!(vote_of(vec![row(0, 100, 1)], &[], &asked).of[0].is_none());
    }

    #[test]
    fn a_partition_is_lost_where_a_majority_says_that_its_primary_has_failed() {
        let row = |first, last, id: &str| {
            let node = Value::Array(vec![
                Value::BulkString(b"h".to_vec()),
                Value::Int(1),
                Value::BulkString(id.into()),
            ]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node])
        };
        let nodes = "one h:1@2 master,fail - 0 0 1 disconnected 0-8191\n\
                     two h:1@2 myself,master - 0 0 2 connected 8192-12000\n\
                     three h:1@2 master,fail? - 0 0 3 connected\n";
        assert_eq!(failed_of(nodes), ["one"]);
        let asked = Address {
            host: "a".to_owned(),
            port: 1,
        };
        let vote = |failed: &[&str]| {
            vote_of(
                vec![row(0, 8191, "one"), row(8192, 12_000, "two")],
                failed,
                &asked,
            )
        };
        // Nobody holds the last five.
        let unheld = 0xf000;
        assert_eq!(vote(&[]).lost, unheld);
        assert_eq!(vote(&failed_of(nodes)).lost, unheld | 0x00ff);
        let votes = [vote(&["one"]), vote(&["one"]), vote(&[])];
        assert_eq!(lost(&votes, 3), unheld | 0x00ff);
        assert_eq!(lost(&votes[1..], 3), unheld);
        assert_eq!(lost(&votes[..1], 3), 0);
    }
}
