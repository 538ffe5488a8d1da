//! Rules for names and texts: which characters they may hold, by Unicode properties. Pure.
//!
//! Names must not hold anything that a gate cannot see or sees as something else. Variation selectors choose the form of the
//! character before them (names in Macao and Korea), joiners shape their neighbours (Persian, Mongolian): each is allowed only
//! where it does that.

use icu_properties::props::{
    DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup, JoinControl,
    NoncharacterCodePoint, VariationSelector,
};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Longest name in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// Longest text in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Returns whether a text can be a name: 1 to 64 characters, with a letter or digit and no control characters.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.chars().count())
        && !name.contains(['"', '\\'])
        && name.trim() == name
        && !is_unprintable(name)
        && name.chars().any(is_letter)
}

/// Returns whether a text is suitable for people: 1 to 200 characters, one of them visible, no control characters.
pub fn is_text(text: &str) -> bool {
    (1..=TEXT_CHARS_MAX).contains(&text.chars().count())
        && !is_unprintable(text)
        && text.chars().any(|c| sort_of(c) == Sort::Seen)
}

/// Returns whether a text holds control characters, or invisible ones without an effect on their neighbours.
pub fn is_unprintable(text: &str) -> bool {
    let mut before = Sort::Blank;
    for c in text.chars() {
        let sort = sort_of(c);
        let fits = match sort {
            Sort::Seen => true,
            Sort::Blank => before != Sort::Joiner,
            Sort::Selector => before == Sort::Seen,
            Sort::Joiner => matches!(before, Sort::Seen | Sort::Selector),
            Sort::Machine => false,
        };
        if !fits {
            return true;
        }
        before = sort;
    }
    before == Sort::Joiner
}

/// Returns whether a character is visible by itself and not only shapes its neighbours.
pub(super) fn is_seen_alone(c: char) -> bool {
    matches!(sort_of(c), Sort::Seen | Sort::Blank)
}

/// What a character does in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Seen,
    Blank,
    /// Chooses the form of the character before it.
    Selector,
    /// Shapes its neighbours.
    Joiner,
    /// Controls, changes the direction, or is invisible.
    Machine,
}

/// Separates a vowel from its word in Mongolian.
const MONGOLIAN_VOWEL_SEPARATOR: char = '\u{180e}';

/// A Braille pattern without dots: a symbol in Unicode, and invisible.
const BRAILLE_BLANK: char = '\u{2800}';

fn sort_of(c: char) -> Sort {
    use GeneralCategory as Category;
    // Nearly all characters are of this kind.
    if matches!(c, '!'..='~' | '\u{4e00}'..='\u{9fff}') {
        return Sort::Seen;
    }
    if matches!(c, ' ' | BRAILLE_BLANK) {
        return Sort::Blank;
    }
    if CodePointSetData::new::<VariationSelector>().contains(c) {
        return Sort::Selector;
    }
    if c == MONGOLIAN_VOWEL_SEPARATOR || CodePointSetData::new::<JoinControl>().contains(c) {
        return Sort::Joiner;
    }
    if CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c)
    {
        return Sort::Machine;
    }
    match CodePointMapData::<GeneralCategory>::new().get(c) {
        Category::Control
        | Category::Format
        | Category::Surrogate
        | Category::LineSeparator
        | Category::ParagraphSeparator => Sort::Machine,
        Category::SpaceSeparator => Sort::Blank,
        _ => Sort::Seen,
    }
}

/// Returns whether a character is a letter, a digit or for private use, where registers have rare characters.
fn is_letter(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let some = GeneralCategoryGroup::Letter.union(GeneralCategoryGroup::Number);
    let some = some.union(GeneralCategory::PrivateUse.into());
    // Scripts newer than our tables have letters too.
    let some = some.union(GeneralCategory::Unassigned.into());
    some.contains(category) && sort_of(c) == Sort::Seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_characters_for_machines() {
        for good in [
            "陈美玲",
            "买买提·艾力",
            "Chan Tai Man",
            "O'Neill-João",
            "𠮷野",
            "\u{e863}",
            "D'Água 3",
            // Forms that a selector chooses: of a register in Macao, of the standard, of Korea.
            "葛\u{e0101}西",
            "葛\u{fe00}西",
            "金\u{fe01}",
            // Mongolian: a vowel apart, and a form of a letter.
            "ᠨᠠ\u{180e}ᠠ",
            "ᠰᠠᠢ\u{180b}ᠨ",
            "ᠨᠠᠷᠠ\u{202f}ᠶᠢᠨ",
            // Persian and Hindi joiners.
            "نور\u{200c}الدین",
            "क्\u{200d}ष",
        ] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in [
            "",
            " ",
            " a",
            "a\"b",
            "a\\b",
            "a\nb",
            "\u{202e}陈",
            "陈\u{200b}",
            "陈\u{2060}美",
            "陈\u{ad}美",
            "陈\u{e0041}",
            "陈\u{fff9}",
            "陈\u{fdd0}",
            "陈\u{2028}美",
            // Nothing that is seen.
            "\u{3164}",
            "\u{115f}\u{1160}",
            "\u{ffa0}",
            "\u{2800}",
            "\u{3000}",
            "·",
            "\u{200d}",
            "\u{fe00}",
            // What shapes nothing.
            "\u{fe00}陈",
            "\u{200c}陈",
            "陈\u{200c}",
            "陈 \u{200d}美",
            "陈\u{200d} 美",
            "陈\u{200d}\u{200d}美",
            "陈\u{fe00}\u{fe00}",
            "\u{180e}ᠠ",
            &"长".repeat(65),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_text_may_hold_emoji_and_must_show_something() {
        for good in [
            "我那天不在那里",
            "❤\u{fe0f}\u{200d}🔥",
            "👩\u{200d}🚀",
            "?",
            &"🙂".repeat(200),
        ] {
            assert!(is_text(good), "{good:?}");
        }
        for bad in [
            "",
            "   ",
            "\u{3000}\u{a0}",
            "\u{2800}",
            "\u{3164}",
            "\u{200d}",
            "a\u{202e}b",
            &"长".repeat(201),
        ] {
            assert!(!is_text(bad), "{bad:?}");
        }
    }
}
