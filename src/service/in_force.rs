//! The settings in force for operators: in a log line, in an answer of the operations door, and compared at a reload. No value
//! here is a secret.

use serde_json::json;

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingInForce {
    /// The name of the setting.
    pub name: &'static str,
    /// The value as written; addresses without user and password.
    pub value: String,
    /// The file, variable or option that set it; None for the default.
    pub origin: Option<String>,
    /// Whether a reload can change it.
    pub is_reloadable: bool,
}

/// All settings, in the order of their table.
#[derive(Clone, Debug, Default)]
pub struct SettingsInForce(pub Vec<SettingInForce>);

impl SettingsInForce {
    /// Returns where a setting comes from; None for a default.
    pub fn origin(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|setting| setting.name == name);
        found?.origin.as_deref()
    }

    /// Returns `name=value` pairs of the settings that were set (or of the others), separated by blanks.
    pub fn line(&self, set: bool) -> String {
        let of_kind = self.0.iter().filter(|of| of.origin.is_some() == set);
        let pairs: Vec<String> = of_kind
            .map(|of| match of.value.contains([' ', '"']) {
                true => format!("{}={:?}", of.name, of.value),
                false => format!("{}={}", of.name, of.value),
            })
            .collect();
        pairs.join(" ")
    }

    /// Returns the settings as JSON for the operations door.
    pub fn to_json(&self) -> serde_json::Value {
        let all = self.0.iter().map(|of| {
            json!({
                "name": of.name,
                "value": of.value,
                "origin": of.origin.as_deref().unwrap_or("default"),
                "reloadable": of.is_reloadable,
            })
        });
        all.collect()
    }

    /// Returns the settings of `newer` whose values differ.
    pub fn changed<'n>(&self, newer: &'n SettingsInForce) -> Vec<&'n SettingInForce> {
        let known = |name| self.0.iter().find(|of| of.name == name);
        let is_other =
            |of: &&SettingInForce| known(of.name).is_none_or(|old| old.value != of.value);
        newer.0.iter().filter(is_other).collect()
    }

    /// Replaces the setting with the same name.
    pub fn put(&mut self, newer: &SettingInForce) {
        if let Some(old) = self.0.iter_mut().find(|of| of.name == newer.name) {
            *old = newer.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &'static str, value: &str, origin: Option<&str>) -> SettingInForce {
        SettingInForce {
            name,
            value: value.into(),
            origin: origin.map(Into::into),
            is_reloadable: false,
        }
    }

    #[test]
    fn the_line_tells_set_and_default_apart_and_a_change_is_one_of_the_value() {
        let old = SettingsInForce(vec![
            setting("log", "info", None),
            setting("store", "a b", Some("--store")),
        ]);
        assert_eq!(old.line(true), "store=\"a b\"");
        assert_eq!(old.line(false), "log=info");
        let mut newer = old.clone();
        // The same value from another place is not a change.
        newer.put(&setting("log", "info", Some("--set")));
        assert!(old.changed(&newer).is_empty());
        newer.put(&setting("log", "warn", Some("--set")));
        assert_eq!(old.changed(&newer), [&newer.0[0]]);
        assert_eq!(newer.to_json()[0]["origin"], "--set");
    }
}
