//! Settings as they are written: collected from a file, the environment and the command line, the later over the earlier.

use super::names::{TOKEN_VARIABLE, nearest, nearly_ours};
use super::table::{is_known, renamed};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Read;
use std::path::Path;

/// Settings as text, from all sources; later ones win.
#[derive(Default)]
pub struct RawSettings {
    pub(super) values: BTreeMap<String, (String, String)>,
    pub(super) bad: Vec<String>,
    /// Uses of old names, with the present ones.
    pub(super) renamed: Vec<String>,
}

impl RawSettings {
    /// Sets one value. `origin` is named if it is bad.
    pub fn set(&mut self, name: &str, value: impl Into<String>, origin: impl Display) {
        let (value, origin) = (value.into(), origin.to_string());
        if let Some(new) = renamed(name) {
            // With two names for one setting in one source, the meant value is unknown.
            let is_twice = (self.values.get(new)).is_some_and(|(_, known)| *known == origin);
            match is_twice {
                true => (self.bad).push(format!(
                    "{origin}: {name} is the former name of {new}, and both are set"
                )),
                false => {
                    (self.renamed).push(format!("{origin}: {name} is the former name of {new}"));
                    self.set(new, value, origin);
                }
            }
            return;
        }
        if !is_known(name) {
            let hint = nearest(name).map_or(String::new(), |near| format!("; is it {near}?"));
            self.bad
                .push(format!("{origin}: there is no setting {name}{hint}"));
            return;
        }
        if value.is_empty() {
            self.bad.push(format!("{origin}: {name} is empty"));
        } else if value.trim() != value || value.contains(char::is_control) {
            self.bad.push(format!(
                "{origin}: {name} begins or ends with a blank, or holds a control character"
            ));
        } else {
            self.values.insert(name.to_owned(), (value, origin));
        }
    }

    /// Reads a TOML file of `name = value` lines.
    ///
    /// Lines that are not TOML are reported, and the others are read all the same. Messages never repeat a value, which may be
    /// a password.
    pub fn load_file(&mut self, path: &Path) {
        let place = path.display().to_string();
        let text = match read_small(path) {
            Ok(text) => text,
            Err(error) => {
                self.bad.push(format!("{place}: {error}"));
                return;
            }
        };
        self.load_text(&text, &place);
    }

    /// Reads the text of such a file; `place` is named if it is bad.
    pub fn load_text(&mut self, text: &str, place: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Ok(table) = text.parse::<toml::Table>() {
            self.load_table(table, place);
            return;
        }
        let mut seen = BTreeMap::new();
        let before = self.bad.len();
        for (nth, line) in text.lines().enumerate() {
            match line.parse::<toml::Table>() {
                Ok(table) => {
                    for name in table.keys() {
                        if let Some(first) = seen.insert(name.clone(), nth + 1) {
                            self.bad.push(format!(
                                "{place}: {name} is set in lines {first} and {}",
                                nth + 1
                            ));
                        }
                    }
                    self.load_table(table, place);
                }
                Err(error) => {
                    let why = error
                        .message()
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    self.bad.push(format!("{place}: line {}: {why}", nth + 1));
                }
            }
        }
        if self.bad.len() == before {
            self.bad
                .push(format!("{place}: is not TOML of NAME = VALUE lines"));
        }
    }

    fn load_table(&mut self, table: toml::Table, place: &str) {
        for (name, value) in table {
            match value {
                toml::Value::String(text) => self.set(&name, text, place),
                toml::Value::Integer(number) => self.set(&name, number.to_string(), place),
                toml::Value::Float(number) => self.set(&name, number.to_string(), place),
                _ => self
                    .bad
                    .push(format!("{place}: {name} is a string or a number")),
            }
        }
    }

    /// Reads the variables of the environment that begin with `LIANGMA_`: the rest of the name is a setting's name in capitals.
    ///
    /// Variables that begin almost like this and go on like a setting are recorded as faults: they would be ignored silently.
    pub fn load_environment(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        for (variable, value) in variables {
            let variable = variable.to_string_lossy();
            let Some(name) = variable.strip_prefix("LIANGMA_") else {
                if let Some(near) = nearly_ours(&variable) {
                    self.bad.push(format!(
                        "{variable}: is it LIANGMA_{}?",
                        near.to_ascii_uppercase()
                    ));
                }
                continue;
            };
            if name == TOKEN_VARIABLE {
                continue;
            }
            if name != name.to_ascii_uppercase() {
                self.bad
                    .push(format!("{variable}: the name is in capitals"));
                continue;
            }
            match value.to_str() {
                Some(value) => self.set(&name.to_ascii_lowercase(), value, &variable),
                None => self.bad.push(format!("{variable}: is not UTF-8")),
            }
        }
    }

    /// Sets `name=value`, the argument of `--set`.
    pub fn set_pair(&mut self, pair: &str) {
        match pair.split_once('=') {
            Some((name, value)) => self.set(name, value, "--set"),
            // Any other text may be an address with a password.
            None => {
                let is_word = pair.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                let shown = if is_word { pair } else { "…" };
                self.bad
                    .push(format!("--set {shown}: NAME=VALUE is expected"));
            }
        }
    }

    /// Returns a line for each use of an old name.
    pub fn renamed(&self) -> &[String] {
        &self.renamed
    }
}

/// Largest file of settings in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read_small(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("is longer than 1 MiB"));
    }
    Ok(text)
}
