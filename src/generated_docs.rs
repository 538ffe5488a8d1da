//! Compares generated pages of docs/ with their tables in the code, or rewrites them. For tests only.

use std::path::Path;

/// Panics if `docs/PAGE` is not `text`. With `UPDATE_DOCS` in the environment, the page is written instead.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The Prometheus operator takes alerts in a form of its own; they are those of the rules of Prometheus.
    #[test]
    fn the_generated_page_of_alerts_for_kubernetes_is_current() {
        let mut page = String::from(
            "# The alerts of ../../prometheus/rules for the Prometheus operator. Generated: \
             `UPDATE_DOCS=1 cargo test --release --locked --lib generated_page`.\n\
             apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: liangma\nspec:\n  groups:\n",
        );
        for rules in [
            include_str!("../deploy/prometheus/rules/liangma.yml"),
            include_str!("../deploy/prometheus/rules/around.yml"),
        ] {
            let (_, groups) = rules.split_once("\ngroups:\n").expect("rules have groups");
            for line in groups.lines() {
                match line.is_empty() {
                    true => page.push('\n'),
                    false => page += &format!("  {line}\n"),
                }
            }
        }
        check("../deploy/kubernetes/monitoring/rules.yaml", &page);
    }
}
