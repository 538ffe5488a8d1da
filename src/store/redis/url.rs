//! Parses the `redis…://` addresses of `--store`. Pure.

use crate::spelling;
use std::fmt;

/// How the primary is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server, which is the primary.
    Single,
    /// Sentinels, whose majority names the primary.
    Sentinel {
        /// Name of the primary at the sentinels.
        name: String,
    },
    /// A cluster, whose nodes name the primary of each slot.
    Cluster,
}

/// A server: host and port, or the path of a Unix socket in `host`, which begins with a slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Host name, IP address, or path.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Returns the path of a Unix socket; None for a host and port.
    pub fn socket(&self) -> Option<&str> {
        self.host.starts_with('/').then_some(&*self.host)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.socket() {
            return f.write_str(path);
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A parsed address: `redis://[user[:password]@]host[:port][/db]`, `rediss://…` for TLS,
/// `redis+sentinel://…host,host…/name[/db]`, `redis+cluster://…host,host…`; with TLS `rediss+sentinel`, `rediss+cluster`; also
/// `valkey` and `valkeys`; `unix:///path[?db=N]`, also `redis+unix` and `redis-socket`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// A single server, sentinels or a cluster.
    pub topology: Topology,
    /// Whether connections use TLS.
    pub tls: bool,
    /// The server, the sentinels, or some nodes of the cluster. Never empty.
    pub hosts: Vec<Address>,
    /// User of the access-control list; None for the default user.
    pub user: Option<String>,
    /// The password; None if the servers ask for none.
    pub password: Option<String>,
    /// Number of the database.
    pub db: i64,
}

/// Printed without the password, because it may be logged.
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = &self.hosts[..]
            && one.socket().is_some()
        {
            return write!(f, "unix://{one}");
        }
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

/// Largest number of hosts in an address.
const HOSTS_MAX: usize = 64;

/// Schemes, with whether each means TLS, and the kind of servers.
const SCHEMES: [(&str, bool, Deployment); 15] = [
    ("redis", false, Deployment::Single),
    ("rediss", true, Deployment::Single),
    ("redis+sentinel", false, Deployment::Sentinel),
    ("rediss+sentinel", true, Deployment::Sentinel),
    ("redis+cluster", false, Deployment::Cluster),
    ("rediss+cluster", true, Deployment::Cluster),
    ("valkey", false, Deployment::Single),
    ("valkeys", true, Deployment::Single),
    ("valkey+sentinel", false, Deployment::Sentinel),
    ("valkeys+sentinel", true, Deployment::Sentinel),
    ("valkey+cluster", false, Deployment::Cluster),
    ("valkeys+cluster", true, Deployment::Cluster),
    ("unix", false, Deployment::Socket),
    ("redis+unix", false, Deployment::Socket),
    ("redis-socket", false, Deployment::Socket),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deployment {
    Single,
    Sentinel,
    Cluster,
    Socket,
}

/// Largest number of a database; servers have 16 by default.
const DB_MAX: i64 = 65_535;

/// The meaning of a store's text.
#[derive(Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// Directory of the embedded store.
    Directory,
    /// Redis servers.
    Address(StoreUrl),
}

/// Parses the setting `store`.
///
/// # Errors
///
/// A message for the operator: what is wrong with the text, or why it is ambiguous. It repeats at most the scheme, because the text
/// may hold a password.
pub fn meant(text: &str) -> Result<StoreLocation, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        let known = |known: &str| scheme.eq_ignore_ascii_case(known);
        return match SCHEMES.iter().any(|(scheme, ..)| known(scheme)) {
            true => Ok(StoreLocation::Address(StoreUrl::parse(text)?)),
            false => Err(unknown_scheme(scheme)),
        };
    }
    let explicit = ["/", "./", "../"]
        .iter()
        .any(|start| text.starts_with(start));
    let scheme = text.split(':').next().unwrap_or_default();
    if text.starts_with("//") {
        return Err("begins with //: an address has its scheme, redis://HOST:PORT, and a directory one slash".to_owned());
    }
    if !explicit {
        const WRITE: &str = "for a directory of this name write ./ before it";
        let lower = text.to_ascii_lowercase();
        let names_servers = ["redis", "valkey", "sentinel"]
            .iter()
            .any(|name| lower.starts_with(name) && !lower.contains([':', '@']));
        if names_servers
            || SCHEMES
                .iter()
                .any(|(known, ..)| scheme.eq_ignore_ascii_case(known))
        {
            return Err(format!(
                "is an incomplete address: redis://HOST:PORT; {WRITE}"
            ));
        }
        if text.contains('\\') {
            return Err("holds a backslash; a directory is named as /var/lib/liangma".to_owned());
        }
        if text.contains([':', '@', ',', ';', '=', '#', '&', '%', '(', ')']) || text.contains("//")
        {
            return Err(format!(
                "looks like an address without its scheme: redis://HOST:PORT; {WRITE}"
            ));
        }
        let first = text.split('/').next().unwrap_or_default();
        // Labels with dots between them are the name of a host as well.
        let is_host = first.contains('.') && first.split('.').all(|label| !label.is_empty());
        if first.eq_ignore_ascii_case("localhost") || is_host {
            return Err(format!(
                "may be a host without a scheme: redis://HOST:PORT; {WRITE}"
            ));
        }
        if text.trim() != text || text.contains(char::is_control) {
            return Err(format!(
                "begins or ends with a space, or holds a control character; {WRITE}"
            ));
        }
        if text.starts_with('~') {
            return Err(
                "begins with ~, which only a shell replaces by the home directory".to_owned(),
            );
        }
        if text.starts_with('-') {
            return Err(format!("begins with a hyphen, as a flag does; {WRITE}"));
        }
    }
    if text.contains(['$', '{', '}', '"', '\'', '`', '*', '?', '<', '>', '|']) {
        return Err("holds a character that only a shell or a template replaces".to_owned());
    }
    Ok(StoreLocation::Directory)
}

fn unknown_scheme(scheme: &str) -> String {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    if scheme.is_empty() || scheme.len() > 32 || !scheme.bytes().all(good) {
        return "is not an address: the text before :// is not a scheme".to_owned();
    }
    let lower = scheme.to_ascii_lowercase();
    if lower == "file" {
        return "has the scheme file; a directory is given by its path alone".to_owned();
    }
    // A word for the kind of servers counts more than similar letters.
    let tls = lower.starts_with("rediss") || lower.starts_with("valkeys");
    let near = match () {
        () if lower.contains("sentinel") => Some(if tls {
            "rediss+sentinel"
        } else {
            "redis+sentinel"
        }),
        () if lower.contains("cluster") => Some(if tls {
            "rediss+cluster"
        } else {
            "redis+cluster"
        }),
        () if lower.contains("unix") || lower.contains("socket") => Some("unix"),
        () if ["tls", "ssl", "https"]
            .iter()
            .any(|word| lower.contains(word)) =>
        {
            Some("rediss")
        }
        () => {
            let known = SCHEMES.iter().map(|(known, ..)| *known);
            spelling::nearest(known, &lower, 2)
        }
    };
    match near {
        Some(near) => format!("has the unknown scheme {scheme}; is it {near}?"),
        None => format!(
            "has the unknown scheme {scheme}: known are redis, rediss, redis+sentinel, redis+cluster, valkey, valkeys, unix"
        ),
    }
}

impl StoreUrl {
    /// Parses an address.
    ///
    /// # Errors
    ///
    /// A message that never repeats the address, which may hold a password.
    pub fn parse(text: &str) -> Result<StoreUrl, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("is not an address")?;
        let found = SCHEMES
            .iter()
            .find(|(known, ..)| scheme.eq_ignore_ascii_case(known));
        let (_, tls, kind) = *found.ok_or("is not an address of Redis")?;
        let (who, rest) = match rest.rsplit_once('@') {
            Some((who, rest)) => (Some(who), rest),
            None => (None, rest),
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
        let (topology, hosts, db) = match kind {
            Deployment::Socket => socket(rest)?,
            Deployment::Single | Deployment::Sentinel | Deployment::Cluster => servers(kind, rest)?,
        };
        Ok(StoreUrl {
            topology,
            tls,
            hosts,
            user,
            password,
            db,
        })
    }
}

type UrlParts = (Topology, Vec<Address>, i64);

/// Parses `host[:port],…[/name][/db]`.
fn servers(kind: Deployment, rest: &str) -> Result<UrlParts, &'static str> {
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains(['?', '#']) || hosts.contains(['?', '#']) {
        return Err("takes no parameters; TLS files and the rest are settings of their own");
    }
    let default_port = if kind == Deployment::Sentinel {
        26_379
    } else {
        6_379
    };
    let hosts = hosts
        .split(',')
        .map(|host| address(host, default_port).ok_or("names a host that is none"))
        .collect::<Result<Vec<_>, _>>()?;
    if hosts.len() > HOSTS_MAX {
        return Err("names more than 64 hosts");
    }
    let is_twice = |(nth, host)| hosts[..nth].contains(host);
    if hosts.iter().enumerate().any(is_twice) {
        return Err("names a host twice");
    }
    let (topology, db) = match kind {
        Deployment::Sentinel => {
            let (name, path) = path.split_once('/').unwrap_or((path, ""));
            let name = decoded(name)?;
            if name.is_empty() {
                return Err("lacks the name under which the sentinels watch: …/NAME");
            }
            // The default port of Sentinel.
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if !name.bytes().all(good) {
                return Err("names what sentinels watch by other characters than A-z 0-9 . - _");
            }
            (Topology::Sentinel { name }, database(path)?)
        }
        Deployment::Cluster if path.is_empty() || path == "0" => (Topology::Cluster, 0),
        Deployment::Cluster => return Err("names a database, and a cluster has only one"),
        Deployment::Single | Deployment::Socket if hosts.len() > 1 => {
            return Err("names several hosts: redis+sentinel:// or redis+cluster://?");
        }
        Deployment::Single | Deployment::Socket => (Topology::Single, database(path)?),
    };
    Ok((topology, hosts, db))
}

/// Parses `/path[?db=N]`.
fn socket(rest: &str) -> Result<UrlParts, &'static str> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let host = decoded(path)?;
    // The system allows at most 107 bytes.
    if !host.starts_with('/')
        || host.len() < 2
        || host.len() > 107
        || host.contains(char::is_control)
    {
        return Err("names no socket: unix:///run/redis/redis.sock");
    }
    let db = match query {
        "" => 0,
        query => {
            let number = query.strip_prefix("db=");
            let number = number.or_else(|| query.strip_prefix("database="));
            database(
                number
                    .filter(|number| !number.is_empty())
                    .ok_or("takes one parameter: db")?,
            )?
        }
    };
    Ok((Topology::Single, vec![Address { host, port: 0 }], db))
}

fn database(text: &str) -> Result<i64, &'static str> {
    if text.is_empty() {
        return Ok(0);
    }
    digits(text)
        .and_then(|number| i64::try_from(number).ok())
        .filter(|db| *db <= DB_MAX)
        .ok_or("names a database that is not a number")
}

/// Parses digits without a sign.
fn digits(text: &str) -> Option<u64> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

/// Parses `host`, `host:port`, `[v6]:port`.
fn address(text: &str, default_port: u16) -> Option<Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':')?)),
            }
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if host.is_empty() || host.starts_with(['.', '-']) || !host.bytes().all(good) {
                return None;
            }
            (host, port)
        }
    };
    let port = match port {
        Some(port) => u16::try_from(digits(port)?)
            .ok()
            .filter(|port| *port != 0)?,
        None => default_port,
    };
    Some(Address {
        host: host.to_owned(),
        port,
    })
}

/// Decodes percent-encoding, such as `%40` for `@`.
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
    String::from_utf8(bytes).map_err(|_| "holds a name or password that is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(place: &StoreUrl) -> Vec<String> {
        place.hosts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_what_it_says_it_reads() {
        let place = StoreUrl::parse("redis://localhost").unwrap();
        assert_eq!(
            (place.topology, place.tls, place.db),
            (Topology::Single, false, 0)
        );
        let place = StoreUrl::parse("rediss://liangma:p%40ss%3a@10.0.0.1:7000/3").unwrap();
        assert_eq!(hosts(&place), ["10.0.0.1:7000"]);
        assert_eq!(
            (place.user.as_deref(), place.password.as_deref()),
            (Some("liangma"), Some("p@ss:"))
        );
        assert_eq!((place.tls, place.db), (true, 3));
        let place = StoreUrl::parse("redis+sentinel://:secret@a,b:1,[::1]:2/main").unwrap();
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
        let place = StoreUrl::parse("rediss+cluster://a:1,b:2").unwrap();
        assert_eq!((place.topology, place.tls), (Topology::Cluster, true));
    }

    #[test]
    fn valkey_is_the_same_by_its_own_scheme() {
        for (theirs, ours) in [
            ("valkey://u:p@a:1/2", "redis://u:p@a:1/2"),
            ("valkeys://a", "rediss://a"),
            ("valkey+sentinel://a,b/m", "redis+sentinel://a,b/m"),
            ("valkeys+sentinel://a/m", "rediss+sentinel://a/m"),
            ("valkey+cluster://a", "redis+cluster://a"),
            ("valkeys+cluster://a", "rediss+cluster://a"),
            ("REDIS://a", "redis://a"),
        ] {
            assert_eq!(StoreUrl::parse(theirs), StoreUrl::parse(ours), "{theirs}");
            assert!(StoreUrl::parse(ours).is_ok(), "{ours}");
        }
    }

    #[test]
    fn a_unix_socket_is_one_server() {
        for (text, db) in [
            ("unix:///run/redis.sock", 0),
            ("redis+unix:///run/redis.sock?db=3", 3),
            ("redis-socket://:secret@/run/redis.sock?database=3", 3),
            ("unix://u:secret@/run/redis.sock", 0),
        ] {
            let place = StoreUrl::parse(text).unwrap();
            assert_eq!(place.hosts[0].socket(), Some("/run/redis.sock"), "{text}");
            assert_eq!((place.topology.clone(), place.db), (Topology::Single, db));
            assert_eq!(place.to_string(), "unix:///run/redis.sock");
        }
    }

    #[test]
    fn what_is_not_surely_a_directory_is_refused_and_the_nearest_scheme_named() {
        for (text, said) in [
            ("redis-sentinel://a/m", "is it redis+sentinel?"),
            ("redis-cluster://a", "is it redis+cluster?"),
            ("rediss-cluster://a", "is it rediss+cluster?"),
            ("valky://a", "is it valkey?"),
            ("redi://a", "is it redis?"),
            ("redis+tls://a", "is it rediss?"),
            ("redis+socket:///x", "is it unix?"),
            ("http://a", "unknown scheme http: known are redis"),
            ("file:///var/lib/liangma", "its path alone"),
            ("pass word@x://a", "is not a scheme"),
            ("localhost:6379", "without its scheme"),
            ("redis.internal:6379", "without its scheme"),
            ("C:/data", "without its scheme"),
            ("C:\\data", "backslash"),
            ("u@host", "without its scheme"),
            ("[::1]:6379", "without its scheme"),
            ("redis:/a", "an incomplete address"),
            ("redis", "an incomplete address"),
            ("Valkey", "an incomplete address"),
            ("10.0.0.1", "a host without a scheme"),
            ("10.0.0.1/0", "a host without a scheme"),
            ("redis//host", "an incomplete address"),
            ("redis+cluster//a,b", "an incomplete address"),
            ("redis;//host", "an incomplete address"),
            ("redis:/host", "an incomplete address"),
            ("redis\u{ff1a}//host", "an incomplete address"),
            ("valkeys-1", "an incomplete address"),
            ("redis.internal", "an incomplete address"),
            ("cache.internal", "a host without a scheme"),
            ("LocalHost/0", "a host without a scheme"),
            ("a.b", "a host without a scheme"),
            ("host1,host2", "without its scheme"),
            ("http//host", "without its scheme"),
            ("store=data", "without its scheme"),
            ("data # the store", "without its scheme"),
            ("%APPDATA%", "without its scheme"),
            ("//host/data", "begins with //"),
            (" data", "a space"),
            ("data\n", "a control character"),
            ("::1", "without"),
            ("localhost", "a host without a scheme"),
            ("~/data", "only a shell"),
            ("$HOME/data", "only a shell"),
            ("/data/${NAME}", "only a shell"),
            ("\"/data\"", "only a shell"),
            ("--keys", "as a flag does"),
        ] {
            let error = meant(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        for directory in [
            "data",
            "./redis",
            "/var/lib/a:b",
            "../x",
            "liangma-data",
            ".liangma",
            "data/v1.2",
            "./a.b",
            "./a:6379",
        ] {
            assert_eq!(
                meant(directory),
                Ok(StoreLocation::Directory),
                "{directory}"
            );
        }
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
            "redis://a:+1",
            "redis://a/-1",
            "redis://a/+1",
            "redis://a/1/",
            "redis://a/65536",
            "redis://[::1]x",
            "redis://::1",
            "redis://a:1:2",
            "redis://-a",
            "redis+cluster://a,a",
            "redis+cluster://a,,b",
            "redis+sentinel://a/m m",
            "unix://run/redis.sock",
            "unix:///",
            "unix:///a?db=",
            "unix:///a?db=-1",
            "unix:///a?x=1",
        ] {
            assert!(StoreUrl::parse(bad).is_err(), "{bad}");
        }
        let place = StoreUrl::parse("redis://u:secret@a").unwrap();
        assert!(!format!("{place:?} {place}").contains("secret"));
    }

    proptest! {
        #[test]
        fn rubbish_is_no_place_and_no_panic(text in "((redis|valkey)(s)?(\\+sentinel|\\+cluster)?|unix)://[a-z0-9:@%/?=,\\[\\]]{0,40}") {
            let _ = StoreUrl::parse(&text);
            let _ = meant(&text);
        }

        #[test]
        fn what_is_printed_is_read_again(hosts in proptest::collection::vec(("[a-z]{1,8}", 1u16..), 1..4), tls: bool) {
            let place = StoreUrl {
                topology: if hosts.len() == 1 { Topology::Single } else { Topology::Cluster },
                tls,
                hosts: hosts.into_iter().map(|(host, port)| Address { host, port }).collect(),
                user: None, password: None, db: 0,
            };
            prop_assert_eq!(StoreUrl::parse(&place.to_string()), Ok(place));
        }
    }
}
