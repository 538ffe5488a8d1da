//! Reads all settings into the typed settings of each module; the table of settings is `config/table`.
//!
//! Precedence: defaults < file < environment (`LIANGMA_…`) < command line. All invalid and unknown settings are reported at
//! once.

mod files;
pub mod listing;
mod names;
mod raw;
mod reader;
mod table;
mod typed;
mod values;

pub use raw::RawSettings;
pub use table::{RELOADABLE, SETTINGS};
pub use typed::{Settings, StoreSettings};
pub use values::parse_duration;

use crate::logging::LogFormat;
use crate::paper::Retention;
use crate::{board, desk, http, identity, seal, service, store_client};
use reader::SettingsReader;
use std::collections::BTreeSet;
use std::path::PathBuf;
use values::{days, ms, secs};

impl RawSettings {
    /// Returns the typed settings.
    ///
    /// # Errors
    ///
    /// All faults of the settings.
    pub fn settings(self) -> Result<Settings, Vec<String>> {
        let (settings, read) = self.read();
        read.outcome(settings)
    }

    /// Returns the typed settings, after a check of every file and folder that a node needs.
    ///
    /// # Errors
    ///
    /// All faults of the settings and of those files.
    pub fn checked(self) -> Result<Settings, Vec<String>> {
        let (settings, mut read) = self.read();
        files::check(&mut read, &settings);
        read.outcome(settings)
    }

    /// Reads all settings. A valid value replaces each bad one; the reader holds the faults.
    fn read(self) -> (Settings, SettingsReader) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut read = SettingsReader {
            raw: self,
            bad_names: BTreeSet::new(),
        };
        let store = read.store();
        let keys = match (read.raw("key_ring"), store.folder()) {
            (Some(keys), _) => PathBuf::from(keys),
            (None, Some(folder)) => folder.join("keys"),
            (None, None) => {
                read.bad(
                    "key_ring",
                    "is missing (`--keys FILE`): a store in Redis has no directory to keep it in",
                );
                PathBuf::new()
            }
        };
        let doors = read.doors(cores);
        let bulk_lines_max = read.number("bulk_lines_max", 1..=10_000_000);
        // Half of the time after which a door considers a client stalled.
        let bulk_pause_max = doors
            .iter()
            .map(|(_, door)| door.stall_timeout / 2)
            .min()
            .unwrap_or_default();
        let drain_timeout = read.duration("drain_timeout", ms(0)..=secs(600));
        let stale_after = read.duration("stale_after", ms(100)..=secs(600));
        let too_old_after = read.duration("too_old_after", secs(1)..=secs(3600));
        if stale_after > too_old_after {
            read.bad("stale_after", "is longer than too_old_after");
        }
        let shards = read.number("board_shards", 16..=65_536) as usize;
        if !shards.is_power_of_two() {
            read.bad("board_shards", "is not a power of two");
        }
        let jwks = read.raw("identity_jwks_file").map(PathBuf::from);
        let issuer = read.raw("identity_issuer");
        if jwks.is_some() && issuer.is_none() {
            read.bad("identity_issuer", "is missing beside identity_jwks_file");
        }
        let (offline, offline_life_max) = read.offline();
        let lists = read.lists();
        let agent = read.agent();
        read.addresses(&doors, agent);
        let in_force = read.in_force(&store, &keys);
        let settings = Settings {
            offline_life_max,
            store,
            keys,
            doors,
            agent,
            http: http::Settings {
                balancers: read.number("balancers", 1..=1_000) as u32,
                bulk_pause_max,
                bulk_lines_max,
                feed_bytes_max: read.bytes("feed_bytes_max", 1 << 10..=1 << 40),
                body_bytes_max: read.bytes("body_bytes_max", 1 << 16..=1 << 40) as usize,
                body_timeout: read.duration("body_timeout", ms(100)..=secs(300)),
                head_timeout: read.duration("head_timeout", ms(100)..=secs(300)),
                answer_timeout: read.duration("answer_timeout", ms(100)..=secs(300)),
                bulk_timeout: read.duration("bulk_timeout", ms(100)..=secs(3600)),
            },
            seal: seal::Settings {
                issuer: offline.as_ref().map(|offline| offline.issuer),
                code_life: read.duration("code_life", secs(1)..=secs(600)),
                clock_skew: read.duration("clock_skew", ms(0)..=secs(30)),
            },
            board: board::Settings {
                stale_after,
                too_old_after,
                shards,
            },
            service: service::Settings {
                clock_offset_max: read.duration("clock_offset_max", ms(500)..=secs(3600)),
                session_life: read.duration("session_life", secs(60)..=seal::SESSION_LIFE_MAX),
                store_client: store_client::Settings {
                    store_timeout: read.duration("store_timeout", ms(10)..=secs(300)),
                    store_read_timeout: read.duration("store_read_timeout", ms(10)..=secs(300)),
                    store_in_flight_max: read.number("store_in_flight_max", 1..=65_536) as usize,
                    red_alarm_per_hour: read.number("red_alarm_per_hour", 1..=1_000_000_000),
                    record_cache_bytes: read.bytes("record_cache_bytes", 1 << 20..=1 << 40),
                },
                desk: desk::Settings {
                    session_life: read.duration("session_life", secs(60)..=seal::SESSION_LIFE_MAX),
                    family_members_max: read.number("family_members_max", 0..=64) as usize,
                    member_url: read.page_address("identity_member_url"),
                },
                desk_requests_per_second: read.number("desk_requests_per_second", 1..=10_000)
                    as u32,
                rate_limits: service::RateLimits {
                    shows_per_second: read.number("shows_per_second", 0..=1_000_000) as u32,
                    scans_per_second: read.number("scans_per_second", 0..=1_000_000) as u32,
                    bulk_codes_per_second: read.number("bulk_codes_per_second", 0..=100_000_000)
                        as u32,
                    bulk_scans_per_token: read.number("bulk_scans_per_token", 1..=10_000) as u32,
                    bulk_codes_saved: bulk_lines_max,
                },
                gate_reasons: read.one_of("gate_reasons", &["none", "all"]) == "all",
                offline,
                lists,
                in_force,
                pages_per_second: read.number("pages_per_second", 0..=1_000_000) as u32,
            },
            identity: identity::Settings {
                jwks,
                issuer: issuer.unwrap_or_default(),
                audience: read.text("identity_audience"),
            },
            keep: Retention {
                health: read.duration("retention_health", days(1)..=days(36_500)),
                temperatures: read.duration("retention_temperatures", days(1)..=days(36_500)),
                trips: read.duration("retention_trips", days(1)..=days(36_500)),
                declarations: read.duration("retention_declarations", days(1)..=days(36_500)),
                arrangements: read.duration("retention_arrangements", days(1)..=days(36_500)),
                accesses: read.duration("retention_accesses", days(1)..=days(36_500)),
            },
            retention_sweep_interval: read.duration("retention_sweep_interval", secs(1)..=days(30)),
            recognition: read.recognition(),
            exchange: read.exchange(),
            guidance: read.raw("guidance_file").map(PathBuf::from),
            names: read.raw("names_file").map(PathBuf::from),
            traces: read.traces(),
            store_cache_bytes: read.bytes("store_cache_bytes", 1 << 20..=1 << 40) as usize,
            drain_delay: read.duration("drain_delay", ms(0)..=secs(300)),
            drain_timeout,
            log: read.log(),
            log_format: match read.one_of("log_format", &["text", "json"]) {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
        };
        (settings, read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::RENAMED;
    use crate::config::table::is_known;
    use std::path::Path;

    fn raw(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let mut raw = RawSettings::default();
        for (name, value) in pairs {
            raw.set(name, *value, "test");
        }
        raw.settings()
    }

    #[test]
    fn a_setting_of_an_old_name_is_taken_and_the_new_name_is_told() {
        for (old, new) in RENAMED {
            assert!(!is_known(old), "{old}");
            assert!(is_known(new), "{new}");
            let mut raw = RawSettings::default();
            raw.set(new, "0", "another file");
            raw.set(old, "1", "file");
            assert_eq!(raw.values[*new], ("1".to_owned(), "file".to_owned()));
            assert_eq!(
                raw.renamed,
                [format!("file: {old} is the former name of {new}")]
            );
            assert!(raw.bad.is_empty(), "{:?}", raw.bad);
            // In one place beside the new name it could mean either.
            raw.set(old, "2", "file");
            let both = format!("file: {old} is the former name of {new}, and both are set");
            assert_eq!(raw.bad, [both]);
            assert_eq!(raw.values[*new].0, "1");
        }
        let settings = raw(&[("drain_notice", "7s")]).unwrap();
        assert_eq!(settings.drain_delay, secs(7));
    }

    #[test]
    fn every_default_is_within_its_bounds() {
        let settings = raw(&[]).unwrap();
        assert_eq!(settings.doors.len(), 4);
        assert_eq!(settings.keys, Path::new("./liangma-data/keys"));
        for (name, default, ..) in SETTINGS {
            if !matches!(*default, "none" | "STORE/keys") {
                raw(&[(name, default)]).unwrap();
            }
        }
    }

    #[test]
    fn all_that_is_bad_is_named_at_once() {
        let mut raw = RawSettings::default();
        raw.set("code_life", "forever", "LIANGMA_CODE_LIFE");
        raw.set("gate", "door", "--gate");
        raw.set("gate_thread", "2", "liangma.toml");
        raw.set("stale_after", "40s", "test");
        raw.set("board_shards", "1000", "test");
        raw.set("doors", "gate,window", "--doors");
        raw.set("store", "redis://u:hush@x:y", "--store");
        raw.set_pair("nonsense");
        let bad = raw.settings().unwrap_err();
        let all = bad.join("\n");
        for word in [
            "LIANGMA_CODE_LIFE: code_life = \"forever\" is not a duration such as 60s; it must be within 1s to 10m",
            "--gate: gate = \"door\" is not address:port",
            "liangma.toml: there is no setting gate_thread; is it gate_threads?",
            "stale_after = \"40s\" is longer than too_old_after",
            "is not a power of two",
            "\"window\"",
            "--store: store names a host that is none",
            "NAME=VALUE",
        ] {
            assert!(all.contains(word), "{word} in\n{all}");
        }
        assert!(!all.contains("hush"), "{all}");
        assert_eq!(bad.len(), 8, "{all}");
    }

    #[test]
    fn a_bad_value_is_told_by_what_is_wrong_with_it() {
        for (name, value, wrong) in [
            (
                "code_life",
                "60",
                "needs a unit: 60ms, 60s, 60m, 60h or 60d; it must be within 1s to 10m",
            ),
            (
                "code_life",
                "banana",
                "is not a duration such as 60s; it must be within 1s to 10m",
            ),
            ("code_life", "60h", "is not within 1s to 10m"),
            (
                "family_members_max",
                "8s",
                "is not a whole number without a unit; it must be within ",
            ),
            ("family_members_max", "999999", "is not within "),
            (
                "store_cache_bytes",
                "64MB",
                "is not a number of bytes such as 64MiB; it must be within ",
            ),
            (
                "gate_threads",
                "some",
                "is neither cores nor a whole number; it must be within ",
            ),
        ] {
            let bad = raw(&[(name, value)]).unwrap_err().join("\n");
            assert!(
                bad.contains(&format!("{name} = {value:?} {wrong}")),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_store_in_redis_needs_its_key_ring_named() {
        let redis = ("store", "redis+cluster://a,b");
        let bad = raw(&[redis, ("store_cert_file", "c.pem"), ("store_replicas", "6")]).unwrap_err();
        for name in [
            "key_ring",
            "store_cert_key_file",
            "store_replicas",
            "no TLS",
        ] {
            assert!(
                bad.iter().any(|line| line.contains(name)),
                "{name}: {bad:?}"
            );
        }
        let settings = raw(&[redis, ("key_ring", "ring"), ("store_replicas", "2")]).unwrap();
        let StoreSettings::Redis(redis) = settings.store else {
            panic!("an address of Redis");
        };
        assert_eq!((redis.replicas, redis.changes_kept), (Some(2), 100_000));
    }

    #[test]
    fn settings_in_force_name_their_origin_and_no_secret() {
        let settings = raw(&[
            ("store", "rediss+sentinel://u:hush@a,b/main"),
            ("key_ring", "ring"),
            ("log", "warn"),
        ]);
        let all = settings.unwrap().service.in_force;
        let of = |name| all.0.iter().find(|of| of.name == name).unwrap();
        let (set, others) = (all.line(true), all.line(false));
        assert!(!format!("{all:?}{set}{others}").contains("hush"));
        let place = "rediss+sentinel://a:26379,b:26379/main";
        assert_eq!(
            (&*of("store").value, &of("store").origin),
            (place, &Some("test".into()))
        );
        assert_eq!(
            (&*of("gate").value, &of("gate").origin),
            ("127.0.0.1:8081", &None)
        );
        assert!(set.contains("log=warn") && others.contains("code_life=60s"));
        assert_eq!(all.0.len(), SETTINGS.len());
        for name in RELOADABLE {
            assert!(is_known(name), "{name}");
        }
    }

    #[test]
    fn traces_are_off_unless_a_collector_is_named() {
        for off in [&[][..], &[("otlp_endpoint", "none")]] {
            assert!(raw(off).unwrap().traces.is_none());
        }
        let endpoint = ("otlp_endpoint", "https://collector:4318/v1/traces");
        let traces = raw(&[
            endpoint,
            ("otlp_sample_ratio", "0.25"),
            ("otlp_ca_file", "ca"),
        ]);
        let traces = traces.unwrap().traces.unwrap();
        assert_eq!(traces.sample_ratio, 0.25);
        assert_eq!(traces.ca.as_deref(), Some(Path::new("ca")));
        for (endpoint, named) in [
            ("http://u:hush@collector:4318/v1/traces", "password"),
            ("htps://collector/v1/traces?hush", "is it https?"),
        ] {
            let bad = raw(&[("otlp_endpoint", endpoint)]).unwrap_err().join("\n");
            assert!(bad.contains(named) && !bad.contains("hush"), "{bad}");
        }
        // Without TLS there is nothing to check with it.
        for more in [&[][..], &[("otlp_endpoint", "http://collector/v1/traces")]] {
            let bad = raw(&[&[("otlp_ca_file", "ca")], more].concat()).unwrap_err();
            assert_eq!(
                bad,
                ["test: otlp_ca_file = \"ca\" needs an otlp_endpoint of https://"]
            );
        }
    }

    #[test]
    fn a_number_of_a_file_may_have_a_point() {
        for (text, ratio) in [("0.5", 0.5), ("1", 1.0), ("\"0.125\"", 0.125), ("1.0", 1.0)] {
            let mut raw = RawSettings::default();
            raw.load_text(
                &format!("otlp_endpoint = \"http://a/v1/traces\"\notlp_sample_ratio = {text}\n"),
                "file",
            );
            let traces = raw.settings().unwrap().traces.unwrap();
            assert_eq!(traces.sample_ratio, ratio);
        }
        for (name, number) in [
            ("otlp_sample_ratio", "1.5"),
            ("otlp_sample_ratio", "nan"),
            ("otlp_sample_ratio", "inf"),
            ("otlp_sample_ratio", "-0.5"),
            ("backlog", "77.5"),
            ("code_life", "30.0"),
        ] {
            let mut raw = RawSettings::default();
            raw.load_text(&format!("{name} = {number}\n"), "file");
            let bad = raw.settings().expect_err(number);
            assert!(bad.len() == 1 && bad[0].contains(name), "{bad:?}");
        }
    }

    #[test]
    fn two_doors_have_two_addresses() {
        let bad = raw(&[("gate", "127.0.0.1:8080"), ("agent", "127.0.0.1:9090")]).unwrap_err();
        assert_eq!(
            bad,
            [
                "test: gate = \"127.0.0.1:8080\" is the address of resident too",
                "test: agent = \"127.0.0.1:9090\" is the address of ops too"
            ]
        );
        let free = ("127.0.0.1:0", "127.0.0.1:0");
        raw(&[("gate", free.0), ("desk", free.1)]).unwrap();
        // A door that is not opened needs none.
        raw(&[("doors", "gate"), ("gate", "127.0.0.1:8080")]).unwrap();
    }

    #[test]
    fn later_sources_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("liangma.toml");
        std::fs::write(&file, "code_life = \"30s\"\nbacklog = 77\nlog = \"warn\"\n").unwrap();
        let mut raw = RawSettings::default();
        raw.load_file(&file);
        raw.load_environment(
            [
                ("LIANGMA_CODE_LIFE", "40s"),
                ("LIANGMA_LOG", "debug"),
                ("HOME", "x"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into_iter(),
        );
        raw.set_pair("log=error");
        let settings = raw.settings().unwrap();
        assert_eq!(settings.seal.code_life, secs(40));
        assert_eq!(settings.doors[0].1.backlog, 77);
        assert_eq!(settings.log, "error");
    }

    #[test]
    fn a_bad_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("liangma.toml");
        std::fs::write(&file, "code_life = [1]\nnot toml").unwrap();
        let mut raw = RawSettings::default();
        raw.load_file(&file);
        raw.load_file(&folder.path().join("missing.toml"));
        let bad = raw.settings().unwrap_err();
        assert_eq!(bad.len(), 3, "{bad:?}");
    }

    #[test]
    fn a_line_that_is_none_hides_no_other_and_no_value_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("liangma.toml");
        let text = "store = redis://u:hush@a\ncode_life = \"0s\"\nbacklog = 1\nbacklog = 2\ngate_thread = 1\n";
        std::fs::write(&file, text).unwrap();
        let mut raw = RawSettings::default();
        raw.load_file(&file);
        let all = raw.settings().unwrap_err().join("\n");
        for word in [
            "line 1:",
            "code_life",
            "backlog is set in lines 3 and 4",
            "gate_threads?",
        ] {
            assert!(all.contains(word), "{word} in\n{all}");
        }
        assert!(!all.contains("hush"), "{all}");
    }

    /// Every setting refuses, by its name, a value that is not understood, whatever kind of value it takes.
    #[test]
    fn no_setting_takes_what_it_does_not_understand() {
        for (name, default, ..) in SETTINGS {
            for junk in ["", " ", "\t1", "1s ", "\u{7}"] {
                let bad = raw(&[(name, junk)]).expect_err(name);
                assert!(
                    bad.iter().any(|line| line.contains(name)),
                    "{name}: {bad:?}"
                );
            }
            let takes_a_number =
                default.starts_with(|c: char| c.is_ascii_digit()) && !default.contains(':');
            if !takes_a_number {
                continue;
            }
            let has_unit = default.ends_with(|c: char| c.is_ascii_alphabetic());
            let mut junk = vec![
                "+1",
                "-1",
                "1_000",
                "1e3",
                "0x10",
                "1.5",
                "１",
                "99999999999999999999",
                "1 s",
                "1S",
                "1h30m",
                "1kb",
                "1s;",
                "none",
            ];
            // A time without a unit, a count with one.
            junk.extend(if has_unit && parse_duration(default).is_some() {
                ["1", "1KiB"]
            } else {
                ["1s", "1d"]
            });
            if !has_unit && !name.contains("bytes") {
                junk.push("4KiB");
            }
            for junk in junk {
                let bad = raw(&[(name, junk)]).expect_err(&format!("{name} = {junk}"));
                assert!(
                    bad.iter().any(|line| line.contains(name)),
                    "{name}: {bad:?}"
                );
            }
        }
        for (name, junk) in [
            ("log", "inof"),
            ("log", "liangma"),
            ("log", "info,"),
            ("log", "liangmaa=debug"),
            ("doors", "gate,gate"),
            ("doors", "gate,"),
            ("store_replicas", "+1"),
            ("store_replicas", "none"),
            ("gate_threads", "+1"),
            ("gate", "localhost:1"),
            ("gate", "127.0.0.1"),
            ("otlp_endpoint", "htpp://127.0.0.1:4318/v1/traces"),
            ("otlp_sample_ratio", ".5"),
            ("otlp_sample_ratio", "1."),
            ("otlp_sample_ratio", "0.1.0"),
            ("store", "redis-sentinel://a/m"),
        ] {
            let bad = raw(&[(name, junk)]).expect_err(junk);
            assert!(
                bad.iter().any(|line| line.contains(name)),
                "{name}: {bad:?}"
            );
        }
    }

    #[test]
    fn names_that_are_nearly_ours_are_named() {
        let mut raw = RawSettings::default();
        let variables = [
            "LIANGMA_STOER",
            "liangma_store",
            "LIANMA_STORE",
            "LIANGMA-STORE",
            "LIANGMASTORE",
            "LIANGMA_Store",
            "HOME",
            "LIANG_STORE",
        ];
        raw.load_environment(variables.into_iter().map(|name| (name.into(), "x".into())));
        raw.set_pair("code-life=30s");
        let bad = raw.settings().unwrap_err();
        assert_eq!(bad.len(), 7, "{bad:#?}");
        let all = bad.join("\n");
        for word in ["no setting stoer; is it store?", "is it code_life?"] {
            assert!(all.contains(word), "{word} in\n{all}");
        }
    }
}
