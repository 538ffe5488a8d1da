//! Unknown names of settings and variables: which setting an operator may have meant.

use super::table::SETTINGS;
use crate::spelling;

/// `LIANGMA_TOKEN` is not a setting: commands that connect to a running node read their token from it.
pub(super) const TOKEN_VARIABLE: &str = "TOKEN";

/// Returns the setting with the most similar name, if one is similar.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let known = || SETTINGS.iter().map(|(known, ..)| *known);
    let by_letters = spelling::nearest(known(), &name, 3.min(name.len() / 2));
    by_letters.or_else(|| {
        known()
            .filter(|known| name.len() > 3 && (known.contains(&name) || name.contains(known)))
            .max_by_key(|known| known.len().min(name.len()))
    })
}

/// Returns the setting that a variable names, if neither the beginning `LIANGMA_` nor the name differs in more than one letter.
pub(super) fn nearly_ours(variable: &str) -> Option<&'static str> {
    let plain = variable.to_ascii_uppercase().replace('-', "_");
    let (prefix, rest) = match plain.split_once('_') {
        Some(parts) => parts,
        None => plain.split_at_checked("LIANGMA".len())?,
    };
    if strsim::osa_distance(prefix, "LIANGMA") > 1 {
        return None;
    }
    let rest = rest.trim_start_matches('_').to_ascii_lowercase();
    let known = SETTINGS.iter().map(|(known, ..)| *known);
    known
        .into_iter()
        .find(|known| strsim::osa_distance(known, &rest) <= 1)
}
