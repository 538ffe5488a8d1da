//! Where Redis is: the `redis…://` addresses that `--store` takes. Pure.

use std::fmt;

/// How one finds the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server, which is the primary.
    Single,
    /// Sentinels, a majority of which names it.
    Sentinel { name: String },
    /// A cluster, whose nodes name the primary of each slot.
    Cluster,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `redis://[user[:password]@]host[:port][/db]`, `rediss://…` for TLS, `redis+sentinel://…host,host…/name[/db]`,
/// `redis+cluster://…host,host…`; with TLS `rediss+sentinel`, `rediss+cluster`.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    pub topology: Topology,
    pub tls: bool,
    /// The server, the sentinels, or some nodes of the cluster; never empty.
    pub hosts: Vec<Address>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub db: i64,
}

/// Without the password: it has no business in a log.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let kind = match self.topology {
            Topology::Single => "",
            Topology::Sentinel { .. } => "+sentinel",
            Topology::Cluster => "+cluster",
        };
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "{scheme}{kind}://{}", hosts.join(","))?;
        match &self.topology {
            Topology::Sentinel { name } => write!(f, "/{name}"),
            Topology::Single | Topology::Cluster => Ok(()),
        }
    }
}

/// Hosts of one address at most.
const HOSTS_MAX: usize = 64;

impl Place {
    /// Whether a text is meant to be such an address, good or bad.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("redis") && text.contains("://")
    }

    /// The error never repeats the text: it may hold a password.
    pub fn parse(text: &str) -> Result<Place, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("is no address")?;
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (
                false,
                scheme
                    .strip_prefix("redis")
                    .ok_or("is no address of Redis")?,
            ),
        };
        let (who, rest) = match rest.rsplit_once('@') {
            Some((who, rest)) => (Some(who), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains(['?', '#']) || hosts.contains(['?', '#']) {
            return Err("takes no parameters; TLS files and the rest are settings of their own");
        }
        let default_port = if kind == "+sentinel" { 26_379 } else { 6_379 };
        let hosts = hosts
            .split(',')
            .map(|host| address(host, default_port).ok_or("names a host that is none"))
            .collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > HOSTS_MAX {
            return Err("names more than 64 hosts");
        }
        let db = |text: &str| match text {
            "" => Ok(0),
            text => text
                .parse()
                .map_err(|_| "names a database that is no number"),
        };
        let (topology, db) = match kind {
            "" if hosts.len() > 1 => {
                return Err("names several hosts: redis+sentinel:// or redis+cluster://?");
            }
            "" => (Topology::Single, db(path)?),
            "+sentinel" => {
                let (name, path) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err("lacks the name under which the sentinels watch: …/NAME");
                }
                let name = name.to_owned();
                (Topology::Sentinel { name }, db(path)?)
            }
            "+cluster" if path.is_empty() || path == "0" => (Topology::Cluster, 0),
            "+cluster" => return Err("names a database, and a cluster has only one"),
            _ => {
                return Err("is of a kind that is not known: redis, redis+sentinel, redis+cluster");
            }
        };
        let (user, password) = match who {
            None => (None, None),
            Some(who) => {
                let (user, password) = match who.split_once(':') {
                    Some((user, password)) => (user, Some(decoded(password)?)),
                    None => (who, None),
                };
                (
                    Some(decoded(user)?).filter(|user| !user.is_empty()),
                    password,
                )
            }
        };
        Ok(Place {
            topology,
            tls,
            hosts,
            user,
            password,
            db,
        })
    }
}

/// `host`, `host:port`, `[v6]:port`.
fn address(text: &str, default_port: u16) -> Option<Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let good = !host.is_empty()
        && (host.bytes())
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => default_port,
    };
    good.then(|| Address {
        host: host.to_owned(),
        port,
    })
}

/// `%40` for `@` and the like.
fn decoded(text: &str) -> Result<String, &'static str> {
    const BAD: &str = "has a % without two hexadecimal digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || (rest.next()? as char).to_digit(16);
                let (high, low) = (digit().ok_or(BAD)?, digit().ok_or(BAD)?);
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "holds a name or password that is no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(place: &Place) -> Vec<String> {
        place.hosts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_what_it_says_it_reads() {
        let place = Place::parse("redis://localhost").unwrap();
        assert_eq!(
            (place.topology, place.tls, place.db),
            (Topology::Single, false, 0)
        );
        let place = Place::parse("rediss://liangma:p%40ss%3a@10.0.0.1:7000/3").unwrap();
        assert_eq!(hosts(&place), ["10.0.0.1:7000"]);
        assert_eq!(
            (place.user.as_deref(), place.password.as_deref()),
            (Some("liangma"), Some("p@ss:"))
        );
        assert_eq!((place.tls, place.db), (true, 3));
        let place = Place::parse("redis+sentinel://:secret@a,b:1,[::1]:2/main").unwrap();
        assert_eq!(hosts(&place), ["a:26379", "b:1", "[::1]:2"]);
        assert_eq!(
            place.topology,
            Topology::Sentinel {
                name: "main".to_owned()
            }
        );
        assert_eq!(
            (place.user, place.password.as_deref()),
            (None, Some("secret"))
        );
        let place = Place::parse("rediss+cluster://a:1,b:2").unwrap();
        assert_eq!((place.topology, place.tls), (Topology::Cluster, true));
    }

    #[test]
    fn says_what_is_wrong_and_never_the_password() {
        for bad in [
            "redis://",
            "redis://a b",
            "redis://a:0",
            "redis://a:99999",
            "redis://a,b",
            "redis://a/x",
            "redis://a?protocol=resp3",
            "redis+sentinel://a",
            "redis+cluster://a/1",
            "redis+moon://a",
            "redis://u:%zz@a",
            "redis://[::1",
            "redisx://a",
        ] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
        let place = Place::parse("redis://u:secret@a").unwrap();
        assert!(!format!("{place:?} {place}").contains("secret"));
    }

    proptest! {
        #[test]
        fn rubbish_is_no_place_and_no_panic(text in "redis(s)?(\\+sentinel|\\+cluster)?://[a-z0-9:@%/,\\[\\]]{0,40}") {
            let _ = Place::parse(&text);
        }

        #[test]
        fn what_is_printed_is_read_again(hosts in proptest::collection::vec(("[a-z]{1,8}", 1u16..), 1..4), tls: bool) {
            let place = Place {
                topology: if hosts.len() == 1 { Topology::Single } else { Topology::Cluster },
                tls,
                hosts: hosts.into_iter().map(|(host, port)| Address { host, port }).collect(),
                user: None, password: None, db: 0,
            };
            prop_assert_eq!(Place::parse(&place.to_string()), Ok(place));
        }
    }
}
