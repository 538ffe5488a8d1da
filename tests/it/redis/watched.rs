//! A primary that sentinels watch.

use super::server::{Server, password, ports, start_with, tell};
use crate::harness::until;

/// Whom replicas and sentinels log in as: a server that does not know them is cut off from both.
const FRIENDS: [&str; 2] = ["mirror", "watcher"];

/// A primary, its replicas and three sentinels.
pub struct Watched {
    /// The first is the primary at the start.
    pub servers: Vec<Server>,
    pub sentinels: Vec<Server>,
}

impl Watched {
    #[track_caller]
    pub fn start(replicas: usize, settings: &[&str]) -> Watched {
        let mut lines: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let secret = password(settings).unwrap_or("friend");
        for friend in FRIENDS {
            lines.push(format!("user {friend} on >{secret} ~* &* +@all"));
        }
        lines.push("masteruser mirror".to_owned());
        lines.push(format!("masterauth {secret}"));
        let mut servers = vec![start_with(&[], &lines)];
        let port = servers[0].port();
        for _ in 0..replicas {
            let replicaof = format!("replicaof 127.0.0.1 {port}");
            servers.push(start_with(&[&replicaof], &lines));
        }
        until("the replicas follow", || {
            servers[0].is_followed(replicas) && servers[1..].iter().all(Server::follows)
        });
        let watch = format!(
            "sentinel monitor liangma 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds liangma 1000\n\
             sentinel failover-timeout liangma 5000\n\
             sentinel auth-user liangma watcher\n\
             sentinel auth-pass liangma {secret}\n"
        );
        let sentinels: Vec<Server> = (0..3).map(|_| Server::open(None, &[&watch])).collect();
        for sentinel in &sentinels {
            // They look and talk more seldom, unless told otherwise. If they talked more often still, they would undo each other's failovers.
            for (what, ms) in [("INFO-PERIOD", "500"), ("PUBLISH-PERIOD", "1000")] {
                tell(sentinel, &["SENTINEL", "DEBUG", what, ms]);
            }
        }
        let watched = Watched { servers, sentinels };
        until("the sentinels know all", || {
            watched.sentinels.iter().all(|sentinel| {
                let said = sentinel.ask(&["SENTINEL", "MASTER", "liangma"]);
                said.contains(&format!("\nnum-slaves\n{replicas}\n"))
                    && said.contains("\nnum-other-sentinels\n2\n")
                    && sentinel
                        .ask(&["SENTINEL", "CKQUORUM", "liangma"])
                        .starts_with("OK 3 ")
            })
        });
        watched
    }

    /// Cuts a server off from replicas and sentinels; nodes reach it as ever. It must want a password: who fails to log in is
    /// nobody.
    pub fn isolate(&self, server: usize) {
        for friend in FRIENDS {
            self.servers[server].ask(&["ACL", "SETUSER", friend, "off"]);
            self.servers[server].ask(&["CLIENT", "KILL", "USER", friend]);
        }
    }

    pub fn rejoin(&self, server: usize) {
        for friend in FRIENDS {
            self.servers[server].ask(&["ACL", "SETUSER", friend, "on"]);
        }
    }

    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/liangma", ports(&self.sentinels))
    }

    /// Which server a sentinel takes for the primary.
    fn told_by(&self, sentinel: &Server) -> Option<usize> {
        let said = sentinel.try_ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "liangma"])?;
        let port: u16 = said.strip_prefix("127.0.0.1\n")?.parse().ok()?;
        self.servers.iter().position(|server| server.port() == port)
    }

    /// As the majority of the sentinels says; None while there is none.
    pub fn try_primary(&self) -> Option<usize> {
        let told = self.sentinels.iter().map(|sentinel| self.told_by(sentinel));
        let told: Vec<usize> = told.flatten().collect();
        let votes = |index| told.iter().filter(|told| **told == index).count();
        (0..self.servers.len()).find(|index| votes(*index) > self.sentinels.len() / 2)
    }

    #[track_caller]
    pub fn primary(&self) -> usize {
        let mut primary = None;
        until("the sentinels agree on a primary", || {
            primary = self.try_primary();
            primary.is_some()
        });
        primary.expect("just seen")
    }

    /// Makes another server the primary once all follow the old one, and waits until the sentinels say so and it acts as one; its index.
    #[track_caller]
    pub fn fail_over(&self) -> usize {
        self.settled();
        let before = self.primary();
        let knows = |sentinel: &&Server| self.told_by(sentinel) == Some(before);
        let leader = self.sentinels.iter().find(knows).expect("most know");
        self.changed_by(before, || {
            // It declines while a failover is under way, and may give one up.
            if knows(&leader) {
                leader.ask(&["SENTINEL", "FAILOVER", "liangma"]);
            }
        })
    }

    /// Waits until another server than this one is the primary; its index.
    #[track_caller]
    pub fn changed(&self, before: usize) -> usize {
        self.changed_by(before, || ())
    }

    #[track_caller]
    fn changed_by(&self, before: usize, act: impl Fn()) -> usize {
        let mut primary = before;
        until("another server is the primary", || {
            act();
            primary = self.try_primary().unwrap_or(before);
            primary != before && self.servers[primary].is_primary()
        });
        primary
    }

    /// Waits until every running server but the primary follows it.
    #[track_caller]
    pub fn settled(&self) {
        let running = self.servers.iter().filter(|server| server.is_running());
        let running = running.count();
        until("the replicas follow the primary", || {
            let primary = self.try_primary();
            primary.is_some_and(|index| self.servers[index].is_followed(running - 1))
        });
    }
}
