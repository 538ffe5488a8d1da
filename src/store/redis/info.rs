//! Parses the lines of `INFO`. Pure.

use std::collections::HashMap;

/// The `name:value` lines of `INFO`.
pub struct Info<'t>(HashMap<&'t str, &'t str>);

impl Info<'_> {
    pub fn of(text: &str) -> Info<'_> {
        Info(
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .collect(),
        )
    }

    /// Returns a value; empty if the server does not give it.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).copied().unwrap_or_default()
    }
}
