//! The three languages of texts for people.

/// Language of texts for people; programs read codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Simplified Chinese, the default.
    Hans,
    /// Traditional Chinese.
    Hant,
    /// English.
    En,
}

impl Language {
    /// All languages, in the order of their numbers.
    pub const ALL: [Language; 3] = [Language::Hans, Language::Hant, Language::En];

    /// Returns the supported language with the highest weight in an `Accept-Language` value; simplified Chinese if there is
    /// none.
    pub fn accepted(header: &str) -> Language {
        // Most phones send this first, and nothing after it has a higher weight.
        if header.starts_with("zh-CN") && matches!(header.as_bytes().get(5), None | Some(b',')) {
            return Language::Hans;
        }
        let mut best = (0, Language::Hans);
        for range in header.split(',').take(16) {
            let (tag, weight) = match range.split_once(';') {
                None => (range, 1000),
                Some((tag, weight)) => (tag, thousandths(weight.trim())),
            };
            if weight > best.0
                && let Some(language) = Language::of_tag(tag.trim())
            {
                best = (weight, language);
                if weight == 1000 {
                    break; // nothing after it weighs more
                }
            }
        }
        best.1
    }

    /// Returns the language of a tag; None if it is not supported. `zh-Hant` and Chinese of Taiwan, Hong Kong and Macao are
    /// traditional.
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

    /// Returns the BCP 47 tag.
    pub fn tag(self) -> &'static str {
        match self {
            Language::Hans => "zh-Hans",
            Language::Hant => "zh-Hant",
            Language::En => "en",
        }
    }
}

/// Returns a weight `q=` of at most three decimals, in thousandths; 0 if it is invalid.
fn thousandths(text: &str) -> u32 {
    let weight = match text.strip_prefix("q=").map(str::as_bytes) {
        Some([b'0' | b'1']) => (text.as_bytes()[2] - b'0', &b""[..]),
        Some([whole @ (b'0' | b'1'), b'.', decimals @ ..]) if decimals.len() <= 3 => {
            (whole - b'0', decimals)
        }
        _ => return 0,
    };
    let mut thousandths = u32::from(weight.0) * 1000;
    for (decimal, worth) in weight.1.iter().zip([100, 10, 1]) {
        if !decimal.is_ascii_digit() {
            return 0;
        }
        thousandths += u32::from(decimal - b'0') * worth;
    }
    if thousandths > 1000 { 0 } else { thousandths }
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
    fn weighs_in_thousandths() {
        for (text, weight) in [
            ("q=1", 1000),
            ("q=1.000", 1000),
            ("q=0.7", 700),
            ("q=0.123", 123),
            ("q=0.", 0),
            ("q=0.1234", 0),
            ("q=1.001", 0),
            ("q=2", 0),
            ("q=-1", 0),
            ("q=", 0),
            ("level=1", 0),
        ] {
            assert_eq!(thousandths(text), weight, "{text}");
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
