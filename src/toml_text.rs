//! Texts of TOML that operators edit: what is wrong with one, in a line, and arrays of tables entry by entry. Pure.

use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// Returns what is wrong with a text of TOML in one line, `line N: why`. The parser's own words are several lines, and quote the text.
pub fn toml_fault(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    let why = error.message().lines().next().unwrap_or_default();
    format!("line {line}: {why}")
}

/// Reads a text of TOML that is one array of tables, `[[table]]`, and hands over each entry. Returns what is wrong with each that was
/// not taken, as `noun N: why`; an error if the text is no such thing, has more than `most` entries, or none was taken.
pub fn toml_entries<E: DeserializeOwned>(
    text: &str,
    (table, noun): (&str, &str),
    most: usize,
    mut take: impl FnMut(E) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut file: HashMap<String, toml::Spanned<toml::Value>> =
        toml::from_str(text).map_err(|error| toml_fault(text, &error))?;
    let entries = file.remove(table);
    if let Some((name, value)) = file.iter().next() {
        let before = text.get(..value.span().start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        return Err(format!(
            "line {line}: {name} is unknown: [[{table}]] is meant"
        ));
    }
    let entries = entries.map(toml::Spanned::into_inner);
    let Some(toml::Value::Array(entries)) = entries else {
        return Err(format!("line 1: there is no [[{table}]]"));
    };
    if entries.len() > most {
        return Err(format!("more than {most} of [[{table}]]"));
    }
    let (mut taken, mut passed_over) = (0, Vec::new());
    for (nth, entry) in entries.into_iter().enumerate() {
        let entry = entry.try_into().map_err(|error: toml::de::Error| {
            let first = error.message().lines().next().unwrap_or_default();
            first.to_owned()
        });
        match entry.and_then(&mut take) {
            Ok(()) => taken += 1,
            Err(why) => passed_over.push(format!("{noun} {}: {why}", nth + 1)),
        }
    }
    match taken == 0 && !passed_over.is_empty() {
        true => Err(passed_over.join("; ")),
        false => Ok(passed_over),
    }
}
