//! Display names of sources, organisations, sites and offices, from an operator's file that is checked at the start. Answers
//! have the name beside the identifier; without a name the identifier stands alone.

use crate::feed::is_source;
use crate::language::Language;
use crate::person::is_unprintable;
use crate::toml_text::toml_entries;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Largest number of names in a file.
const NAMES_MAX: usize = 100_000;

/// Longest name in characters.
const CHARS_MAX: usize = 64;

/// Words of answers that may stand in the place of an identifier.
const WORDS: [&str; 3] = ["self", "other", "organisation"];

/// Fields of an answer that hold an identifier, and the fields for its name.
const NAMED: [(&str, &str); 4] = [
    ("source", "source_name"),
    ("organisation", "organisation_name"),
    ("by", "by_name"),
    ("registered_by", "registered_by_name"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameEntry {
    id: String,
    #[serde(rename = "zh-Hans")]
    hans: String,
    #[serde(rename = "zh-Hant")]
    hant: String,
    en: String,
}

/// Names by identifier.
#[derive(Default)]
pub struct DisplayNames {
    names: HashMap<String, [String; 3]>,
}

impl DisplayNames {
    /// Reads and checks the file. Returns the valid entries, and a message for each invalid one.
    ///
    /// # Errors
    ///
    /// A message: the file cannot be read, is not TOML with `[[name]]` entries alone, has more than `NAMES_MAX` of them, or has only
    /// invalid ones.
    pub fn read(path: &Path) -> Result<(DisplayNames, Vec<String>), String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        let names = text.and_then(|text| DisplayNames::parse(&text));
        names.map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<(DisplayNames, Vec<String>), String> {
        let mut names = DisplayNames::default();
        let passed_over =
            toml_entries(text, ("name", "name"), NAMES_MAX, |entry| names.take(entry))?;
        Ok((names, passed_over))
    }

    fn take(&mut self, entry: NameEntry) -> Result<(), String> {
        if !is_source(&entry.id) {
            return Err("an id has 1 to 64 letters, digits and . _ -".to_owned());
        }
        if WORDS.contains(&&*entry.id) {
            return Err("this id is a word of answers".to_owned());
        }
        let texts = [entry.hans, entry.hant, entry.en];
        for text in &texts {
            let is_blank = text.trim().is_empty();
            if is_blank || text.chars().count() > CHARS_MAX || is_unprintable(text) {
                let why = "a name must have 1 to 64 characters, no control characters";
                return Err(why.to_owned());
            }
        }
        match self.names.entry(entry.id) {
            std::collections::hash_map::Entry::Occupied(_) => {
                Err("the same id stands there twice".to_owned())
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(texts);
                Ok(())
            }
        }
    }

    /// Returns the name of an identifier; None if the file has none.
    pub fn of(&self, id: &str, language: Language) -> Option<&str> {
        let texts = self.names.get(id)?;
        Some(&texts[language as usize])
    }

    /// Adds the names to an answer, beside each identifier.
    pub fn add(&self, answer: &mut Value, language: Language) {
        if self.names.is_empty() {
            return;
        }
        match answer {
            Value::Array(values) => {
                for value in values {
                    self.add(value, language);
                }
            }
            Value::Object(members) => {
                for (of, told) in NAMED {
                    let id = members.get(of).and_then(Value::as_str);
                    if let Some(name) = id.and_then(|id| self.of(id, language)) {
                        members.insert(told.to_owned(), name.into());
                    }
                }
                for value in members.values_mut() {
                    self.add(value, language);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(id: &str, name: &str) -> String {
        format!(
            "[[name]]\nid = \"{id}\"\nzh-Hans = \"{name}\"\nzh-Hant = \"{name}\"\nen = \"E {name}\"\n"
        )
    }

    #[test]
    fn a_name_stands_beside_each_identifier_and_nowhere_else() {
        let text = [entry("gd-cdc", "疾控"), entry("x", "校")].concat();
        let (names, _) = DisplayNames::parse(&text).unwrap();
        let mut answer = json!({
            "records": [
                { "source": "gd-cdc", "by": "self", "text": "gd-cdc" },
                { "source": "other" },
                { "source": null, "organisation": 7 },
            ],
            "grants": [{ "organisation": "x" }],
            "appeals": [{ "by": "gd-cdc", "state": "upheld" }],
            "accesses": [{ "by": "x", "role": "scanner" }],
            "next": null,
        });
        names.add(&mut answer, Language::En);
        assert_eq!(
            answer,
            json!({
                "records": [
                    { "source": "gd-cdc", "source_name": "E 疾控", "by": "self", "text": "gd-cdc" },
                    { "source": "other" },
                    { "source": null, "organisation": 7 },
                ],
                "grants": [{ "organisation": "x", "organisation_name": "E 校" }],
                "appeals": [{ "by": "gd-cdc", "by_name": "E 疾控", "state": "upheld" }],
                "accesses": [{ "by": "x", "by_name": "E 校", "role": "scanner" }],
                "next": null,
            })
        );
        assert_eq!(names.of("gd-cdc", Language::Hans), Some("疾控"));
        assert_eq!(names.of("gd", Language::Hans), None);
    }

    #[test]
    fn a_bad_entry_is_passed_over_by_its_number_and_spoils_no_other() {
        let good = entry("gd-cdc", "疾控");
        for (text, why) in [
            (entry("a b", "x"), "an id has"),
            (entry("", "x"), "an id has"),
            (entry("self", "x"), "a word of answers"),
            (entry("organisation", "x"), "a word of answers"),
            (entry("x", ""), "1 to 64"),
            (entry("x", " "), "1 to 64"),
            (entry("x", &"长".repeat(65)), "1 to 64"),
            (entry("x", "\\u202e"), "1 to 64"),
            (entry("gd-cdc", "other"), "twice"),
            (entry("x", "y") + "colour = 1\n", "colour"),
            ("[[name]]\nid = 1\n".to_owned(), "string"),
        ] {
            let (names, passed_over) = DisplayNames::parse(&(good.clone() + &text)).unwrap();
            assert_eq!(names.of("gd-cdc", Language::Hans), Some("疾控"), "{text}");
            assert_eq!(names.names.len(), 1, "{text}");
            assert!(passed_over.len() == 1, "{passed_over:?}");
            assert!(
                passed_over[0].starts_with("name 2: ") && passed_over[0].contains(why),
                "{passed_over:?}"
            );
        }
        for none in ["not toml", "[[names]]\nid = \"x\"\n", &entry("a b", "x")] {
            assert!(DisplayNames::parse(none).is_err(), "{none}");
        }
    }
}
