//! Prints the table of settings: for a terminal, as a page of docs/, and as a file of settings to start from.

use super::table::{RELOADABLE, SETTINGS};
use super::values::{parse_bytes, parse_count, parse_duration};

/// Returns the unit of a setting's values.
fn unit(name: &str, default: &str, bounds: &str) -> &'static str {
    if parse_duration(default).is_some() {
        "duration"
    } else if name.contains("_bytes")
        || parse_bytes(default).is_some_and(|_| default.ends_with('B'))
    {
        "bytes"
    } else if name.ends_with("_percent") {
        "percent"
    } else if name.ends_with("_ratio") {
        "share"
    } else if name.contains("_per_second") {
        "per second"
    } else if name.contains("_per_hour") {
        "per hour"
    } else if parse_count(default).is_some()
        || name.ends_with("_threads")
        || name == "store_replicas"
    {
        "count"
    } else if bounds.contains("address:port") {
        "address:port"
    } else if bounds.contains("file") || name == "key_ring" {
        "path"
    } else {
        "text"
    }
}

/// Returns all settings for a terminal, four lines each.
pub fn text() -> String {
    let mut page = String::new();
    for (name, default, bounds, meaning) in SETTINGS {
        let reload = if RELOADABLE.contains(name) {
            "SIGHUP"
        } else {
            "restart"
        };
        page += &format!(
            "{name} = {default}\n    {meaning}\n    unit: {}; bounds: {}; a change needs: {reload}\n\n",
            unit(name, default, bounds),
            bounds.replace('`', ""),
        );
    }
    page.truncate(page.trim_end().len());
    page
}

/// Returns the page of docs/.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         Generated from `src/config/table.rs`; see CONTRIBUTING.md before you edit it. `liangma settings` prints the same, and\n\
         `deploy/liangma.toml` has every setting in a comment.\n\n\
         A later source wins: the default, the file that `--config` names (TOML), `LIANGMA_NAME` in the environment, \
         `--set NAME=VALUE` and the flags.\n\
         A duration is a number and `ms`, `s`, `m`, `h` or `d`. A size is a number of bytes, or a number and `KiB`, `MiB`, \
         `GiB` or `TiB`.\n\
         A bad or unknown setting, or a file that a setting names and that cannot be used, stops the start with exit code 78. All of them are \
         named at once. `liangma serve --check` checks the same, opens no door and writes nothing. It compares the key ring with an embedded store that no process has open; it does not look at the store's format.\n\n\
         `reload` says what a changed value needs: `SIGHUP` to the process, or a restart. After SIGHUP the log names each changed setting that \
         needs a restart.\n\n\
         | setting | default | unit | bounds | reload | meaning |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for (name, default, bounds, meaning) in SETTINGS {
        let reload = if RELOADABLE.contains(name) {
            "SIGHUP"
        } else {
            "restart"
        };
        let unit = unit(name, default, bounds);
        page += &format!("| `{name}` | `{default}` | {unit} | {bounds} | {reload} | {meaning} |\n");
    }
    page
}

/// Returns a file of settings in which every setting is a comment.
pub fn toml() -> String {
    let mut page = String::from(
        "# Settings of a liangma node, each with its default. Take the # away from what you change.\n\
         # `liangma serve --check --config FILE` says whether the file is good. A duration is a number and ms, s, m, h or d;\n\
         # a size is a number of bytes, or a number and KiB, MiB, GiB or TiB. Printed by `liangma settings --toml`.\n",
    );
    for (name, default, bounds, meaning) in SETTINGS {
        let reload = if RELOADABLE.contains(name) {
            "; SIGHUP takes up a change"
        } else {
            ""
        };
        let meaning = format!("{meaning}; {}{reload}", bounds.replace('`', ""));
        page.push('\n');
        for line in wrapped(&meaning, 98) {
            page += &format!("# {line}\n");
        }
        let value = match *default {
            // No value is set, and no word stands for that.
            "none" if !bounds.starts_with("none") => String::from("\"\""),
            number if parse_count(number).is_some() => number.to_owned(),
            text => format!("{text:?}"),
        };
        page += &format!("#{name} = {value}\n");
    }
    page
}

/// Returns the lines of a text, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::RawSettings;
    use super::*;

    #[test]
    fn the_generated_page_of_settings_is_current() {
        crate::generated_docs::check("operate/settings.md", &markdown());
    }

    #[test]
    fn the_generated_page_of_the_sample_file_is_current() {
        crate::generated_docs::check("../deploy/liangma.toml", &toml());
    }

    #[test]
    fn the_sample_has_every_setting_with_a_default_that_is_good() {
        let sample = toml();
        for (name, default, ..) in SETTINGS {
            let start = format!("#{name} = ");
            let mut lines = sample.lines().filter_map(|line| line.strip_prefix(&start));
            let value = lines.next().unwrap_or_else(|| panic!("{name}"));
            assert!(lines.next().is_none(), "{name}");
            // What has no default, or one that follows from another setting, is left in the comment.
            if value == "\"\"" || *default == "STORE/keys" {
                continue;
            }
            let mut raw = RawSettings::default();
            raw.load_text(&format!("{name} = {value}"), "sample");
            raw.settings().unwrap_or_else(|bad| panic!("{bad:?}"));
        }
        let mut raw = RawSettings::default();
        raw.load_text(&sample, "sample");
        raw.settings().expect("comments alone");
    }

    #[test]
    fn every_setting_is_listed_with_unit_bounds_and_meaning() {
        let page = text();
        for (name, default, bounds, meaning) in SETTINGS {
            assert!(
                page.contains(&format!("{name} = {default}\n    {meaning}\n")),
                "{name}"
            );
            assert!(!bounds.is_empty() && !unit(name, default, bounds).is_empty());
        }
        let of = |name: &str| {
            let (name, default, bounds, _) =
                SETTINGS.iter().find(|(known, ..)| *known == name).unwrap();
            unit(name, default, bounds)
        };
        for (name, wanted) in [
            ("code_life", "duration"),
            ("head_bytes_max", "bytes"),
            ("store_cache_bytes", "bytes"),
            ("list_bytes_per_second", "bytes"),
            ("gate_threads", "count"),
            ("gate", "address:port"),
            ("agent", "address:port"),
            ("busy_cpu_percent", "percent"),
            ("shows_per_second", "per second"),
            ("guidance_file", "path"),
            ("log", "text"),
        ] {
            assert_eq!(of(name), wanted, "{name}");
        }
    }
}
