//! TOML files of operators: faults in one line, and arrays of tables read entry by entry. Pure.

use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// Returns the fault of a TOML text in one line, `line N: why`. The parser's message has several lines and quotes the text.
pub fn toml_fault(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    let why = error.message().lines().next().unwrap_or_default();
    format!("line {line}: {why}")
}

/// Parses a TOML text that is one array of tables, `[[table]]`, and passes each entry to `take`. Returns the faults of entries
/// that were refused, as `noun N: why`.
///
/// # Errors
///
/// A message: the text is not such an array, has more than `most` entries, or every entry was refused.
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
            "line {line}: {name} is unknown; [[{table}]] is expected"
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
