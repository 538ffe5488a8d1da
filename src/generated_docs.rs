//! Holds pages of docs/ that are generated from tables in the code to those tables, or rewrites them. For tests alone.

use std::path::Path;

/// Panics if the file `docs/PAGE` does not hold `text`. With `UPDATE_DOCS` in the environment it is written instead.
pub fn check(page: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/{page} differs from the code: run `UPDATE_DOCS=1 cargo test --release --locked --lib generated_page` and commit it"
    );
}
