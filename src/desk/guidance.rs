//! Guidance for the release of a red code (解除指引) by reason and region, from an authority's file that is checked at the start.
//! Built-in texts fill the gaps.

use crate::feed::parse_region;
use crate::language::Language;
use crate::person::is_unprintable;
use crate::status::Reason;
use crate::toml_text::toml_entries;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// Largest number of texts in a file: a province has about 130 divisions and six reasons.
const TEXTS_MAX: usize = 20_000;

/// Longest text in characters.
const CHARS_MAX: usize = 1_000;

/// The telephone line that every text must name.
const LINE: &str = "12345";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GuidanceEntry {
    reason: String,
    /// A division of six digits; None if the text holds everywhere.
    region: Option<String>,
    #[serde(rename = "zh-Hans")]
    hans: String,
    #[serde(rename = "zh-Hant")]
    hant: String,
    en: String,
}

/// Texts by reason and region.
#[derive(Default)]
pub struct Guidance {
    texts: HashMap<(Reason, Option<u32>), [String; 3]>,
}

impl Guidance {
    /// Reads and checks the file. Returns the valid entries, and a message for each invalid one.
    ///
    /// # Errors
    ///
    /// A message: the file cannot be read, is not TOML with `[[guidance]]` entries alone, has more than `TEXTS_MAX` of them, or has
    /// only invalid ones.
    pub fn read(path: &Path) -> Result<(Guidance, Vec<String>), String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let guidance = Guidance::parse(&text);
        guidance.map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<(Guidance, Vec<String>), String> {
        let mut guidance = Guidance::default();
        let passed_over = toml_entries(text, ("guidance", "text"), TEXTS_MAX, |entry| {
            guidance.take(entry)
        })?;
        Ok((guidance, passed_over))
    }

    fn take(&mut self, entry: GuidanceEntry) -> Result<(), String> {
        let reason = Reason::parse(&entry.reason).ok_or("an unknown reason")?;
        let region = match entry.region.as_deref() {
            None => None,
            Some(region) => Some(
                parse_region(region).ok_or("region must be a division of GB/T 2260, six digits")?,
            ),
        };
        let texts = [entry.hans, entry.hant, entry.en];
        for text in &texts {
            if !(1..=CHARS_MAX).contains(&text.chars().count()) || is_unprintable(text) {
                return Err("a text has 1 to 1000 characters, none of them for machines".to_owned());
            }
            if !text.contains(LINE) {
                return Err("a text names the line to call, 12345".to_owned());
            }
        }
        match self.texts.entry((reason, region)) {
            std::collections::hash_map::Entry::Occupied(_) => {
                Err("the same reason and region stand there twice".to_owned())
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(texts);
                Ok(())
            }
        }
    }

    /// Returns the text for a reason in a region: the district's, else the city's, the province's, or the general one.
    pub fn text(&self, reason: Reason, region: Option<u32>, language: Language) -> &str {
        let regions = region.map(|region| [region, region / 100 * 100, region / 10_000 * 10_000]);
        let places = regions.into_iter().flatten().map(Some).chain([None]);
        let mut found = places.filter_map(|region| self.texts.get(&(reason, region)));
        match found.next() {
            Some(texts) => &texts[language as usize],
            None => reason.guidance(language),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(reason: &str, region: &str, text: &str) -> String {
        format!(
            "[[guidance]]\nreason = \"{reason}\"\n{region}\nzh-Hans = \"{text}\"\nzh-Hant = \"{text}\"\nen = \"{text}\"\n"
        )
    }

    #[test]
    fn the_nearest_region_is_told_and_the_houses_own_text_where_there_is_none() {
        let text = [
            entry("home_isolation", "", "everywhere 12345"),
            entry("home_isolation", "region = \"440100\"", "the city 12345"),
            entry(
                "home_isolation",
                "region = \"440106\"",
                "the district 12345",
            ),
        ];
        let (guidance, _) = Guidance::parse(&text.concat()).unwrap();
        let of = |region| guidance.text(Reason::HomeIsolation, region, Language::En);
        assert_eq!(of(Some(440_106)), "the district 12345");
        assert_eq!(of(Some(440_103)), "the city 12345");
        assert_eq!(of(Some(440_300)), "everywhere 12345");
        assert_eq!(of(None), "everywhere 12345");
        let own = Reason::Confirmed.guidance(Language::En);
        assert_eq!(guidance.text(Reason::Confirmed, None, Language::En), own);
    }

    #[test]
    fn a_bad_entry_is_passed_over_by_its_number_and_spoils_no_other() {
        let good = entry("suspected", "", "12345");
        for (text, why) in [
            (entry("hungry", "", "12345"), "unknown reason"),
            (entry("confirmed", "region = \"44\"", "12345"), "six digits"),
            (entry("confirmed", "region = 44", "12345"), "string"),
            (entry("confirmed", "", "call us"), "12345"),
            (entry("confirmed", "", &"1".repeat(1_001)), "1 to 1000"),
            (entry("suspected", "", "12345 "), "twice"),
            (entry("confirmed", "colour = 1", "12345"), "colour"),
        ] {
            let (guidance, passed_over) = Guidance::parse(&[&*good, &text].concat()).unwrap();
            assert_eq!(guidance.texts.len(), 1, "{text}");
            assert!(passed_over.len() == 1, "{passed_over:?}");
            assert!(
                passed_over[0].starts_with("text 2: ") && passed_over[0].contains(why),
                "{passed_over:?}"
            );
        }
        let none = Guidance::parse(&entry("hungry", "", "12345")).err();
        assert!(
            none.expect("none is good")
                .contains("text 1: an unknown reason")
        );
        assert!(Guidance::parse("not toml").is_err());
        let unknown = Guidance::parse("\n[[guidances]]").err();
        let unknown = unknown.expect("no guidance");
        assert!(
            unknown.starts_with("line 2: ") && !unknown.contains('\n'),
            "{unknown}"
        );
    }
}
