//! A cluster of Redis, whose slots can be moved.

use super::server::{Server, among_others, ports, start_with, tell};
use crate::harness::until;
use std::time::{Duration, Instant};

/// A cluster; its slots are divided evenly among the primaries.
pub struct Cluster {
    /// The primaries of the start, then their replicas: the first of each, the second of each...
    pub servers: Vec<Server>,
}

impl Cluster {
    #[track_caller]
    pub fn start(primaries: usize, replicas: usize, settings: &[&str]) -> Cluster {
        let lines = among_others(settings);
        let own = [
            "cluster-enabled yes",
            "cluster-node-timeout 1500",
            "cluster-announce-ip 127.0.0.1",
            // A replica stays with its primary, whatever happens to the others.
            "cluster-allow-replica-migration no",
        ];
        let count = primaries * (1 + replicas);
        let servers: Vec<Server> = (0..count).map(|_| start_with(&own, &lines)).collect();
        for (index, server) in servers.iter().enumerate() {
            let epoch = (index + 1).to_string();
            tell(server, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            for other in &servers[..index] {
                let port = other.port().to_string();
                tell(server, &["CLUSTER", "MEET", "127.0.0.1", &port]);
            }
            if index < primaries {
                let bound = |index| 16384 * index / primaries;
                let first = bound(index).to_string();
                let last = (bound(index + 1) - 1).to_string();
                tell(server, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
        }
        for (index, replica) in servers.iter().enumerate().skip(primaries) {
            let primary = servers[index % primaries].ask(&["CLUSTER", "MYID"]);
            until("the replica may follow", || {
                // Not before it has heard of its primary.
                replica.ask(&["CLUSTER", "REPLICATE", &primary]) == "OK"
            });
        }
        until("the cluster is whole", || {
            servers.iter().enumerate().all(|(index, server)| {
                let nodes = server.ask(&["CLUSTER", "NODES"]);
                let replicas_told = nodes.matches("slave ").count();
                let linked = nodes.matches(" connected").count();
                let whole = server
                    .ask(&["CLUSTER", "INFO"])
                    .starts_with("cluster_state:ok");
                let placed = match index < primaries {
                    true => server.is_followed(replicas),
                    false => server.follows(),
                };
                whole && placed && linked == count && replicas_told == count - primaries
            })
        });
        Cluster { servers }
    }

    pub fn url(&self) -> String {
        format!("redis+cluster://{}", ports(&self.servers))
    }

    /// The server that takes itself for this slot's primary; of several the newest.
    #[track_caller]
    pub fn primary_of(&self, slot: u16) -> usize {
        let mut primary = None;
        until("a server holds the slot", || {
            let own = self.servers.iter().map(|server| Seen::by(server, "myself"));
            let own = own
                .enumerate()
                .filter_map(|(index, own)| Some((own?, index)));
            let holders = own.filter(|(own, _)| own.is_primary && own.holds(slot));
            primary = holders.map(|(own, index)| (own.epoch, index)).max();
            primary.is_some()
        });
        primary.expect("just seen").1
    }

    /// Makes a replica the primary, even if its own is gone, and waits until all that answer say so and the old one follows.
    #[track_caller]
    pub fn promote(&self, replica: usize) {
        let server = &self.servers[replica];
        let id = server.ask(&["CLUSTER", "MYID"]);
        let old_id = Seen::by(server, "myself").expect("it answers").follows;
        let mut servers = self.servers.iter();
        let old = servers.find(|old| old.try_ask(&["CLUSTER", "MYID"]).as_ref() == Some(&old_id));
        let seen = |id| {
            let servers = self.servers.iter();
            servers.filter_map(move |by| Seen::by(by, id))
        };
        let mut asked: Option<Instant> = None;
        until("the replica is a primary", || {
            // By then it has given up: the others do not vote twice in a row on one primary.
            if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(6)) {
                if server.ask(&["CLUSTER", "FAILOVER"]) != "OK" {
                    server.ask(&["CLUSTER", "FAILOVER", "FORCE"]);
                }
                asked = Some(Instant::now());
            }
            seen(&id).all(|new| new.is_primary && !new.slots.is_empty())
                && old.is_none_or(|old| old.follows() && seen(&old_id).all(|old| !old.is_primary))
        });
    }

    /// Moves a slot with its keys to another primary.
    #[track_caller]
    pub fn move_slot(&self, slot: u16, to: usize) {
        self.begin_move(slot, to);
        self.finish_move(slot, to);
    }

    /// From here on whoever asks for a key that is not there is sent to `to`.
    #[track_caller]
    pub fn begin_move(&self, slot: u16, to: usize) {
        let from = &self.servers[self.primary_of(slot)];
        let to = &self.servers[to];
        let (from_id, to_id) = (from.ask(&["CLUSTER", "MYID"]), to.ask(&["CLUSTER", "MYID"]));
        let slot = slot.to_string();
        tell(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        tell(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    }

    /// Moves so many keys of a slot whose move has begun; how many there were to move.
    #[track_caller]
    pub fn move_keys(&self, slot: u16, to: usize, most: usize) -> usize {
        let from = &self.servers[self.primary_of(slot)];
        let (slot, most) = (slot.to_string(), most.to_string());
        let port = self.servers[to].port().to_string();
        let mut command = vec!["EVAL", MOVE, "0", &slot, &most, &port];
        command.extend(self.servers[to].password.as_deref());
        let moved = from.ask(&command);
        moved.parse().unwrap_or_else(|_| panic!("{moved}"))
    }

    /// Moves what keys are left, and gives the slot away.
    #[track_caller]
    pub fn finish_move(&self, slot: u16, to: usize) {
        let from = self.primary_of(slot);
        while self.move_keys(slot, to, 10) > 0 {}
        let to_id = self.servers[to].ask(&["CLUSTER", "MYID"]);
        let slot = slot.to_string();
        let give = ["CLUSTER", "SETSLOT", &slot, "NODE", &to_id];
        // First to whom it goes, so that it is somebody's at every moment.
        tell(&self.servers[to], &give);
        tell(&self.servers[from], &give);
        for (index, server) in self.servers.iter().enumerate() {
            if ![to, from].contains(&index) {
                // Replicas decline, and hear of it from the primaries.
                server.try_ask(&give);
            }
        }
    }
}

/// Moves keys inside the server, because keys are bytes and not all of them are text. ARGV: slot, how many, port, and a password
/// if there is one. Returns how many there were; those that expired or were deleted in the meantime need no move.
const MOVE: &str = "
local keys = redis.call('CLUSTER', 'GETKEYSINSLOT', ARGV[1], ARGV[2])
if #keys == 0 then
  return 0
end
local command = { 'MIGRATE', '127.0.0.1', ARGV[3], '', 0, 5000 }
if ARGV[4] then
  command[#command + 1] = 'AUTH'
  command[#command + 1] = ARGV[4]
end
command[#command + 1] = 'KEYS'
for _, key in ipairs(keys) do
  command[#command + 1] = key
end
redis.call(unpack(command))
return #keys";

/// What a server of a cluster takes another one for, or itself.
struct Seen {
    is_primary: bool,
    /// Its primary's id; "-" of a primary.
    follows: String,
    epoch: u64,
    slots: Vec<(u16, u16)>,
}

impl Seen {
    /// `whom` is an id or "myself".
    fn by(server: &Server, whom: &str) -> Option<Seen> {
        let nodes = server.try_ask(&["CLUSTER", "NODES"])?;
        // A replica's line names its primary as well.
        let is_of = |line: &&str| line.starts_with(whom) || line.contains(&format!("{whom},"));
        let words: Vec<&str> = nodes.lines().find(is_of)?.split(' ').collect();
        // Those in brackets are on the move.
        let slots = words.get(8..)?.iter().filter(|word| !word.starts_with('['));
        let bounds = slots.map(|word| word.split_once('-').unwrap_or((word, word)));
        let numbers = bounds.map(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        Some(Seen {
            is_primary: words[2].contains("master"),
            follows: words[3].to_owned(),
            epoch: words[6].parse().ok()?,
            slots: numbers.collect::<Option<_>>()?,
        })
    }

    fn holds(&self, slot: u16) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|(first, last)| (*first..=*last).contains(&slot))
    }
}
