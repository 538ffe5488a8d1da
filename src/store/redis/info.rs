//! What a server says of itself: the lines of `INFO`. Pure.

use std::collections::HashMap;

/// `name:value` lines of `INFO`.
pub struct Info<'t>(HashMap<&'t str, &'t str>);

impl Info<'_> {
    pub fn of(text: &str) -> Info<'_> {
        Info(
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .collect(),
        )
    }

    /// Returns a value; nothing where the server does not tell it.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).copied().unwrap_or_default()
    }
}
