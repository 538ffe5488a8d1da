//! Reads settings one by one into their types, and records what is wrong with each.

use super::raw::RawSettings;
use super::table::{RELOADABLE, SETTINGS, default};
use super::typed::{Settings, StoreSettings};
use super::values::{days, ms, parse_bytes, parse_count, parse_duration, parse_ratio, secs};
use crate::exchange::ExchangeSettings;
use crate::http::door::Door;
use crate::http::doors;
use crate::lists::ListSettings;
use crate::offline::issue::OfflineSettings;
use crate::recognition::recogniser::RecognitionSettings;
use crate::service::in_force::{SettingInForce, SettingsInForce};
use crate::store::redis;
use crate::store::redis::dial::{SentinelLogin, read_password};
use crate::store::redis::url::{StoreLocation, Topology, meant};
use crate::tls::ServerFiles;
use crate::traces::collector::Endpoint;
use crate::{admission, traces};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Formats of codes of other issuers.
const FORMATS: [&str; 3] = ["liangma", "hc1", "shc"];

/// Takes settings one by one, and records their faults.
pub(super) struct SettingsReader {
    pub(super) raw: RawSettings,
    pub(super) bad_names: BTreeSet<String>,
}

impl SettingsReader {
    /// Returns the settings, or all faults.
    pub(super) fn outcome(self, settings: Settings) -> Result<Settings, Vec<String>> {
        match self.raw.bad.is_empty() {
            true => Ok(settings),
            false => Err(self.raw.bad),
        }
    }

    /// Returns whether a fault of the setting is recorded.
    pub(super) fn is_bad(&self, name: &str) -> bool {
        self.bad_names.contains(name)
    }

    /// Returns all settings as written. Of an address, only host, kind and path are shown, because it may hold a password.
    pub(super) fn in_force(&self, store: &StoreSettings, keys: &Path) -> SettingsInForce {
        let all = SETTINGS.iter().map(|(name, default, ..)| {
            let said = self.raw.values.get(*name);
            let value = match (*name, store) {
                ("store", StoreSettings::Embedded(folder)) => folder.display().to_string(),
                ("store", StoreSettings::Redis(redis)) => redis.dial.place.to_string(),
                ("key_ring", _) => keys.display().to_string(),
                _ => said.map_or((*default).to_owned(), |(value, _)| value.clone()),
            };
            SettingInForce {
                name,
                value,
                origin: said.map(|(_, origin)| origin.clone()),
                is_reloadable: RELOADABLE.contains(name),
            }
        });
        SettingsInForce(all.collect())
    }

    /// Records listeners with the same address.
    pub(super) fn addresses(
        &mut self,
        doors: &[(Door, doors::Settings)],
        agent: Option<SocketAddr>,
    ) {
        let doors = doors.iter().map(|(door, of)| (door.name(), of.address));
        let mut seen: Vec<(&str, SocketAddr)> = Vec::new();
        for (name, address) in doors.chain(agent.map(|address| ("agent", address))) {
            let same = seen.iter().find(|(_, known)| *known == address);
            match same {
                // The system gives each a free port.
                Some((other, _)) if address.port() != 0 => {
                    let other = (*other).to_owned();
                    self.bad(name, &format!("is the address of {other} too"));
                }
                _ => seen.push((name, address)),
            }
        }
    }

    /// Returns the value as written; None if it is not set.
    pub(super) fn raw(&self, name: &str) -> Option<String> {
        self.raw.values.get(name).map(|(value, _)| value.clone())
    }

    /// Returns the value as written, or the default.
    pub(super) fn text(&self, name: &str) -> String {
        self.raw(name).unwrap_or_else(|| default(name).to_owned())
    }

    /// Records a fault of a setting.
    pub(super) fn bad(&mut self, name: &str, why: &str) {
        self.bad_names.insert(name.to_owned());
        let raw = self.raw.values.get(name);
        self.raw.bad.push(match raw {
            // An address may hold a password.
            Some((_, origin)) if matches!(name, "store" | "otlp_endpoint") => {
                format!("{origin}: {name} {why}")
            }
            Some((value, origin)) => format!("{origin}: {name} = {value:?} {why}"),
            None => format!("{name} {why}"),
        });
    }

    /// Reads a setting within bounds. A bad one is recorded, and a valid value takes its place, so that all are checked. `form`
    /// describes how the value is written.
    pub(super) fn read<T: PartialOrd + Copy>(
        &mut self,
        name: &str,
        bounds: RangeInclusive<T>,
        parse: impl Fn(&str) -> Option<T>,
        form: &str,
    ) -> T {
        let text = self.text(name);
        let value = parse(&text);
        value
            .filter(|value| bounds.contains(value))
            .unwrap_or_else(|| {
                let knob = SETTINGS.iter().find(|(known, ..)| *known == name);
                let (_, _, range, _) = knob.expect("every knob is listed");
                let wrong = match value {
                    Some(_) => format!("is not within {range}"),
                    None => format!("{form}; it must be within {range}"),
                };
                self.bad(name, &wrong);
                *bounds.start()
            })
    }

    /// Reads a duration within bounds.
    pub(super) fn duration(&mut self, name: &str, bounds: RangeInclusive<Duration>) -> Duration {
        let form = match parse_count(&self.text(name)) {
            Some(number) => {
                &format!("needs a unit: {number}ms, {number}s, {number}m, {number}h or {number}d")
            }
            None => "is not a duration such as 60s",
        };
        self.read(name, bounds, parse_duration, form)
    }

    /// Reads a count without a unit.
    pub(super) fn number(&mut self, name: &str, bounds: RangeInclusive<u64>) -> u64 {
        self.read(
            name,
            bounds,
            parse_count,
            "is not a whole number without a unit",
        )
    }

    /// Reads a share of one.
    fn ratio(&mut self, name: &str) -> f64 {
        self.read(name, 0.0..=1.0, parse_ratio, "is not a share such as 0.1")
    }

    /// Reads the settings of traces; None without a collector.
    pub(super) fn traces(&mut self) -> Option<traces::Settings> {
        let sample_ratio = self.ratio("otlp_sample_ratio");
        let ca = self.raw("otlp_ca_file").map(PathBuf::from);
        let endpoint = self.text("otlp_endpoint");
        let endpoint = (endpoint != "none").then(|| Endpoint::parse(&endpoint));
        let endpoint = match endpoint {
            Some(Err(why)) => {
                self.bad("otlp_endpoint", &why);
                return None;
            }
            Some(Ok(endpoint)) => Some(endpoint),
            None => None,
        };
        if ca.is_some() && !endpoint.as_ref().is_some_and(Endpoint::has_tls) {
            self.bad("otlp_ca_file", "needs an otlp_endpoint of https://");
        }
        Some(traces::Settings {
            endpoint: endpoint?,
            ca,
            sample_ratio,
        })
    }

    /// Reads one of `words`. Any other value is recorded as a fault, and gives the first word.
    pub(super) fn one_of(&mut self, name: &str, words: &[&'static str]) -> &'static str {
        let text = self.text(name);
        words
            .iter()
            .copied()
            .find(|word| *word == text)
            .unwrap_or_else(|| {
                self.bad(name, &format!("is one of {}", words.join(", ")));
                words[0]
            })
    }

    /// Reads the address of a page for people. Only addresses of this machine may lack TLS.
    pub(super) fn page_address(&mut self, name: &str) -> Option<String> {
        let text = self.raw(name)?;
        let is_safe = ["https://", "http://127.0.0.1:", "http://localhost:"]
            .iter()
            .any(|start| text.len() > start.len() && text.starts_with(start));
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic())
            && !text.contains(['#', '"', '\'', '<', '>', '\\']);
        if !is_safe || !is_plain || text.len() > 512 {
            self.bad(
                name,
                "is not an address such as https://id.example/member, of at most 512 characters",
            );
            return None;
        }
        Some(text)
    }

    /// Reads the settings of offline codes; None without an issuer. The longest validity is needed by the key ring in any case.
    pub(super) fn offline(&mut self) -> (Option<OfflineSettings>, Duration) {
        let (hour, year) = (secs(3_600), days(366));
        let life = self.duration("offline_life", hour..=year);
        let life_max = self.duration("offline_life_max", hour..=year);
        if life > life_max {
            self.bad("offline_life", "is longer than offline_life_max");
        }
        for (name, value) in [("offline_life", life), ("offline_life_max", life_max)] {
            if !value.as_millis().is_multiple_of(hour.as_millis()) {
                self.bad(name, "is not a whole number of hours");
            }
        }
        let codes_per_second = self.number("offline_codes_per_second", 1..=1_000_000) as u32;
        let Some(text) = self.raw("offline_issuer") else {
            return (None, life_max);
        };
        let Some(issuer) = crate::feed::parse_region(&text) else {
            self.bad(
                "offline_issuer",
                "is not a division of GB/T 2260, six digits",
            );
            return (None, life_max);
        };
        let settings = OfflineSettings {
            issuer,
            life,
            life_max,
            codes_per_second,
        };
        (Some(settings), life_max)
    }

    /// Reads the settings of recognition; None without a trust file.
    pub(super) fn recognition(&mut self) -> Option<RecognitionSettings> {
        let formats: Vec<String> = self
            .text("formats")
            .split(',')
            .map(|word| word.trim().to_owned())
            .collect();
        if !formats.iter().all(|word| FORMATS.contains(&word.as_str())) {
            self.bad("formats", "is not a list of liangma, hc1, shc");
        }
        Some(RecognitionSettings {
            trust: self.raw("trust")?.into(),
            formats,
        })
    }

    /// Reads the settings of status lists.
    pub(super) fn lists(&mut self) -> ListSettings {
        let lists = ListSettings {
            every: self.duration("list_every", secs(1)..=secs(3_600)),
            base_every: self.duration("list_base_every", secs(1)..=days(1)),
            stale_after: self.duration("list_stale_after", secs(1)..=days(1)),
            too_old_after: self.duration("list_too_old_after", secs(1)..=days(1)),
            bytes_per_second: self.bytes("list_bytes_per_second", 1 << 16..=1 << 30),
        };
        if lists.base_every < lists.every {
            self.bad("list_base_every", "is shorter than list_every");
        }
        if lists.stale_after > lists.too_old_after {
            self.bad("list_stale_after", "is longer than list_too_old_after");
        }
        // A gate must be able to miss one list.
        if lists.too_old_after < lists.every * 2 {
            self.bad("list_too_old_after", "is shorter than two of list_every");
        }
        lists
    }

    /// Reads a size in bytes.
    pub(super) fn bytes(&mut self, name: &str, bounds: RangeInclusive<u64>) -> u64 {
        self.read(
            name,
            bounds,
            parse_bytes,
            "is not a number of bytes such as 64MiB",
        )
    }

    /// Reads the filter of the log. tracing takes an unknown level for the name of a target, and logs nothing.
    pub(super) fn log(&mut self) -> String {
        let text = self.text("log");
        let is_level = |word: &str| {
            let levels = ["off", "error", "warn", "info", "debug", "trace"];
            levels.iter().any(|level| word.eq_ignore_ascii_case(level))
        };
        let is_good = |part: &str| match part.split_once('=') {
            None => is_level(part),
            Some((target, level)) => {
                let ours = target == "liangma" || target.starts_with("liangma::");
                ours && is_level(level)
            }
        };
        if !text.split(',').all(is_good) {
            self.bad("log", "is not a list of LEVEL or liangma::MODULE=LEVEL; levels are off, error, warn, info, debug, trace");
        }
        text
    }

    /// Reads which store there is.
    pub(super) fn store(&mut self) -> StoreSettings {
        let text = self.text("store");
        let file = |read: &SettingsReader, name| read.raw(name).map(PathBuf::from);
        let cert = match (
            file(self, "store_cert_file"),
            file(self, "store_cert_key_file"),
        ) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.bad("store_cert_key_file", "is missing beside store_cert_file");
                None
            }
            (None, Some(_)) => {
                self.bad("store_cert_file", "is missing beside store_cert_key_file");
                None
            }
        };
        let replicas = self.read(
            "store_replicas",
            None..=Some(5),
            |text| match text {
                "auto" => Some(None),
                text => parse_count(text)
                    .and_then(|count| u32::try_from(count).ok())
                    .map(Some),
            },
            "is neither auto nor a whole number",
        );
        let changes_kept = self.number("store_stream_entries_max", 1_000..=100_000_000);
        let open_wait = self.duration("command_store_timeout", ms(0)..=secs(3_600));
        let place = match meant(&text) {
            Ok(StoreLocation::Directory) => return StoreSettings::Embedded(text.into()),
            Ok(StoreLocation::Address(place)) => place,
            Err(why) => {
                self.bad("store", &why);
                return StoreSettings::Embedded(PathBuf::new());
            }
        };
        // An operator who names certificates expects encryption.
        if !place.tls {
            for name in ["store_ca_file", "store_cert_file", "store_cert_key_file"] {
                if self.raw(name).is_some() {
                    self.bad(name, "is of no use: store has no TLS (rediss://…)");
                }
            }
        }
        let own = file(self, "store_sentinel_password_file");
        let user = self.raw("store_sentinel_user");
        if user.is_some() && own.is_none() {
            self.bad(
                "store_sentinel_password_file",
                "is missing beside store_sentinel_user",
            );
        }
        if own.is_some() && !matches!(place.topology, Topology::Sentinel { .. }) {
            self.bad(
                "store_sentinel_password_file",
                "is of no use: store names no sentinels",
            );
        }
        let passwords = [
            ("store_password_file", file(self, "store_password_file")),
            ("store_sentinel_password_file", own.clone()),
        ];
        for (name, path) in passwords {
            if let Some(Err(why)) = path.as_deref().map(read_password) {
                self.bad(name, &format!("cannot be used: {why}"));
            }
        }
        for name in ["store_ca_file", "store_cert_file", "store_cert_key_file"] {
            if let Some(Err(why)) = file(self, name).map(std::fs::File::open) {
                self.bad(name, &format!("cannot be read: {why}"));
            }
        }
        let sentinel = own.map(|password_file| SentinelLogin {
            user,
            password_file,
        });
        let settings = redis::Settings::new(place);
        StoreSettings::Redis(Box::new(redis::Settings {
            dial: redis::dial::Settings {
                password_file: file(self, "store_password_file"),
                sentinel,
                ca: file(self, "store_ca_file"),
                cert,
                ..settings.dial
            },
            replicas,
            changes_kept,
            open_wait: Some(open_wait),
            ..settings
        }))
    }

    /// Reads the address for the agent checks of balancers; None if there is none.
    pub(super) fn agent(&mut self) -> Option<SocketAddr> {
        let text = self.text("agent");
        if text == "none" {
            return None;
        }
        let address = text.parse().ok();
        if address.is_none() {
            self.bad("agent", "is neither none nor address:port");
        }
        address
    }

    /// Reads the TLS files of a door; None for plain HTTP.
    fn door_tls(&mut self, door: &str) -> Option<ServerFiles> {
        let (cert_name, key_name) = (format!("{door}_tls_cert"), format!("{door}_tls_key"));
        let file = |read: &SettingsReader, name: &str| read.raw(name).map(PathBuf::from);
        let client_ca = match door == Door::Ops.name() {
            true => file(self, "ops_client_ca"),
            false => None,
        };
        match (file(self, &cert_name), file(self, &key_name)) {
            (Some(cert), Some(key)) => {
                return Some(ServerFiles {
                    cert,
                    key,
                    client_ca,
                    admitted: None,
                });
            }
            (Some(_), None) => self.bad(&key_name, &format!("is missing beside {cert_name}")),
            (None, Some(_)) => self.bad(&cert_name, &format!("is missing beside {key_name}")),
            // An operator who names authorities expects that other clients are refused.
            (None, None) if client_ca.is_some() => {
                self.bad(&cert_name, "is missing beside ops_client_ca")
            }
            (None, None) => {}
        }
        None
    }

    /// Reads the settings of every door; `cores` is the number of processors.
    pub(super) fn doors(&mut self, cores: usize) -> Vec<(Door, doors::Settings)> {
        let list = self.text("doors");
        let mut opened = Vec::new();
        for name in list.split(',').map(str::trim) {
            match Door::named(name) {
                Some(door) if opened.contains(&door) => {
                    self.bad("doors", &format!("names {name} twice"))
                }
                Some(door) => opened.push(door),
                None => self.bad("doors", &format!("names {name:?}, which is not a door")),
            }
        }
        let backlog = self.number("backlog", 1..=65_535) as u32;
        let niceness = self.number("resident_niceness", 0..=19) as i32;
        let queue_delay_target = self.duration("queue_delay_target", ms(5)..=secs(5));
        let busy_answers_per_second = self.number("busy_answers_per_second", 0..=100_000) as u32;
        let busy_cpu_percent = self.number("busy_cpu_percent", 0..=100);
        let head_timeout = self.duration("head_timeout", ms(100)..=secs(300));
        let idle_timeout = self.duration("idle_timeout", ms(100)..=secs(3600));
        let stall_timeout = self.duration("stall_timeout", ms(100)..=secs(300));
        let head_bytes_max = self.bytes("head_bytes_max", 1024..=65_536) as usize;
        let door_settings = |address, tls, threads, niceness, connections_max| doors::Settings {
            address,
            tls,
            threads,
            niceness,
            admission: admission::AdmissionSettings {
                connections_max,
                queue_delay_target,
                busy: admission::busy::BusySettings {
                    per_second: busy_answers_per_second,
                    share: busy_cpu_percent as f64 / 100.0,
                },
            },
            in_flight_least: admission::window::IN_FLIGHT_LEAST,
            backlog,
            head_timeout,
            idle_timeout,
            stall_timeout,
            head_bytes_max,
        };
        let mut all = Vec::new();
        for door in Door::ALL {
            let name = door.name();
            let address = self.text(name).parse::<SocketAddr>().unwrap_or_else(|_| {
                self.bad(name, "is not address:port");
                SocketAddr::from(([127, 0, 0, 1], 0))
            });
            let threads = self.read(
                &format!("{name}_threads"),
                1..=256,
                |text| match text {
                    "cores" => Some(cores.min(256)),
                    text => parse_count(text).and_then(|count| usize::try_from(count).ok()),
                },
                "is neither cores nor a whole number",
            );
            let connections_max = self.number(&format!("{name}_connections_max"), 1..=1_000_000);
            let tls = self.door_tls(name);
            let niceness = match door {
                Door::Resident | Door::Desk => niceness,
                Door::Gate | Door::Ops | Door::Exchange => 0,
            };
            let mut settings =
                door_settings(address, tls, threads, niceness, connections_max as usize);
            if door == Door::Resident {
                settings.in_flight_least = admission::window::SHORT_REQUESTS_LEAST;
            }
            if opened.contains(&door) {
                all.push((door, settings));
            }
        }
        if let Some(text) = self.raw("exchange").filter(|text| text != "none") {
            let address = text.parse::<SocketAddr>().unwrap_or_else(|_| {
                self.bad("exchange", "is not address:port");
                SocketAddr::from(([127, 0, 0, 1], 0))
            });
            let pair = self.exchange_pair();
            if pair.is_none() {
                self.bad("exchange", "needs exchange_cert and exchange_cert_key");
            }
            for (name, why) in [
                ("trust", "needs trust, which names who may ask"),
                (
                    "offline_issuer",
                    "needs offline_issuer, in whose name codes are shown",
                ),
            ] {
                if self.raw(name).is_none() {
                    self.bad("exchange", why);
                }
            }
            let (cert, key) = pair.unwrap_or_default();
            let files = ServerFiles {
                cert,
                key,
                client_ca: None,
                // The node adds them from its trust list.
                admitted: None,
            };
            // After gates, before residents.
            let niceness = niceness / 2;
            let settings =
                door_settings(address, Some(files), 1, niceness, EXCHANGE_CONNECTIONS_MAX);
            all.push((Door::Exchange, settings));
        }
        all
    }

    /// Returns the certificate and key of the exchange.
    fn exchange_pair(&self) -> Option<(PathBuf, PathBuf)> {
        let file = |name: &str| self.raw(name).map(PathBuf::from);
        file("exchange_cert").zip(file("exchange_cert_key"))
    }

    /// Reads the settings of requests to other issuers.
    pub(super) fn exchange(&mut self) -> ExchangeSettings {
        let cert = self.exchange_pair();
        for (name, other) in [
            ("exchange_cert", "exchange_cert_key"),
            ("exchange_cert_key", "exchange_cert"),
        ] {
            if self.raw(name).is_some() && self.raw(other).is_none() {
                self.bad(other, &format!("is missing beside {name}"));
            }
        }
        ExchangeSettings {
            cert,
            wait: self.duration("exchange_wait", ms(50)..=secs(10)),
            in_flight: self.number("exchange_in_flight", 1..=10_000) as usize,
            per_second: self.number("exchange_per_second", 1..=1_000_000) as u32,
            list_fetch_every: self.duration("list_fetch_every", secs(1)..=secs(3_600)),
            stale_after: self.duration("stale_after", ms(100)..=secs(600)),
            too_old_after: self.duration("too_old_after", secs(1)..=secs(3_600)),
            clock_ahead_max: self.duration("clock_offset_max", ms(500)..=secs(3_600)),
        }
    }
}

/// Connections that the exchange door admits. Each node of a peer keeps eight.
const EXCHANGE_CONNECTIONS_MAX: usize = 1_024;
