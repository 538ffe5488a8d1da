//! The three languages in which people are answered.

/// Programs read codes; these are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Hans,
    Hant,
    En,
}

impl Language {
    pub const ALL: [Language; 3] = [Language::Hans, Language::Hant, Language::En];

    /// The first language of an `Accept-Language` value that we speak, by its weight; simplified Chinese otherwise.
    pub fn accepted(header: &str) -> Language {
        let mut best = (0, Language::Hans);
        for range in header.split(',').take(16) {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1000, thousandths);
            if weight > best.0
                && let Some(language) = Language::of_tag(tag)
            {
                best = (weight, language);
            }
        }
        best.1
    }

    /// `zh-Hant`, and Chinese of Taiwan, Hong Kong and Macao, is written in traditional characters.
    fn of_tag(tag: &str) -> Option<Language> {
        let mut parts = tag.split('-');
        let primary = parts.next().unwrap_or_default();
        if primary.eq_ignore_ascii_case("en") {
            return Some(Language::En);
        }
        if tag == "*" || primary.eq_ignore_ascii_case("zh") {
            for part in parts {
                if part.eq_ignore_ascii_case("hans") {
                    return Some(Language::Hans);
                }
                if ["hant", "tw", "hk", "mo"]
                    .iter()
                    .any(|traditional| part.eq_ignore_ascii_case(traditional))
                {
                    return Some(Language::Hant);
                }
            }
            return Some(Language::Hans);
        }
        None
    }

    pub fn tag(self) -> &'static str {
        match self {
            Language::Hans => "zh-Hans",
            Language::Hant => "zh-Hant",
            Language::En => "en",
        }
    }
}

/// A weight of at most three decimals, in thousandths; what cannot be read weighs nothing.
fn thousandths(text: &str) -> u32 {
    text.parse::<f32>()
        .ok()
        .filter(|weight| (0.0..=1.0).contains(weight))
        .map_or(0, |weight| (weight * 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_simplified_chinese_unless_asked() {
        for header in [
            "",
            "fr",
            "de-DE, fr;q=0.8",
            "zh",
            "zh-CN",
            "*",
            ";;;,,,",
            "en;q=0",
        ] {
            assert_eq!(Language::accepted(header), Language::Hans, "{header:?}");
        }
    }

    #[test]
    fn takes_the_weightiest_language_that_it_speaks() {
        assert_eq!(Language::accepted("en"), Language::En);
        assert_eq!(Language::accepted("en-GB,zh;q=0.5"), Language::En);
        assert_eq!(Language::accepted("zh-TW"), Language::Hant);
        assert_eq!(Language::accepted("zh-Hant-HK, en"), Language::Hant);
        assert_eq!(Language::accepted("en;q=0.3, zh-MO;q=0.9"), Language::Hant);
        assert_eq!(Language::accepted("zh-Hans-HK"), Language::Hans);
    }
}
