//! The documents and scripts: every relative link leads to a file and a heading that exist, every page is in the index, and what has
//! the name of a setting is one. The scripts of the load tools start, and measure what they compare once. Every crate has an allowed licence.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file that git tracks or could track: those of the folders that hold documents.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![
        root().join("docs"),
        root().join("deploy"),
        root().join("loadtest"),
        root().join("fuzz"),
        root().join("tests"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            match name {
                Some("node_modules" | "target" | "corpus" | "artifacts" | "results") => {}
                _ if path.is_dir() => folders.push(path),
                Some(name) if name.ends_with(".md") => pages.push(path),
                _ => {}
            }
        }
    }
    for entry in std::fs::read_dir(root()).expect("the project's root") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    pages
}

/// The text without blocks and spans of code, in which brackets are no links.
fn prose(text: &str) -> String {
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        let outside = line.split('`').step_by(2);
        prose.extend(outside);
        prose.push('\n');
    }
    prose
}

/// The targets of inline links and pictures.
fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0.trim().to_owned()))
        .collect()
}

/// The anchors of a page's headings, as GitHub and mdbook make them.
fn anchors(text: &str) -> HashSet<String> {
    let headings = text.lines().filter_map(|line| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then_some(heading)
    });
    headings
        .map(|heading| {
            let kept = heading.trim().to_lowercase();
            let kept = kept.chars().filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            });
            kept.collect()
        })
        .collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("UTF-8");
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = match target.split_once('#') {
                Some((file, anchor)) => (file, Some(anchor)),
                None => (&target[..], None),
            };
            let leads_to = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            let found = match anchor {
                _ if !leads_to.exists() => false,
                Some(anchor) => std::fs::read_to_string(&leads_to)
                    .is_ok_and(|text| anchors(&text).contains(anchor)),
                None => true,
            };
            if !found {
                broken.push(format!(
                    "{}: {target}",
                    page.strip_prefix(root()).unwrap().display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A book holds the files of its folder alone: a link out of it works in the repository, and leads nowhere in the book.
#[test]
fn pages_of_the_book_link_to_its_files_alone() {
    let docs = root().join("docs");
    let book = docs.canonicalize().expect("a folder");
    let mut outside = Vec::new();
    for page in pages().into_iter().filter(|page| page.starts_with(&docs)) {
        let text = std::fs::read_to_string(&page).expect("UTF-8");
        for target in targets(&text) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let leads_to = page.parent().expect("a folder").join(file).canonicalize();
            if leads_to.is_ok_and(|to| !to.starts_with(&book)) {
                outside.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}

/// What a page says in code font in place of a link.
#[test]
fn every_path_of_the_project_that_the_book_names_exists() {
    let folders = ["deploy/", "loadtest/", "pages/", "tests/"];
    let mut missing = Vec::new();
    let mut seen = 0;
    for page in pages() {
        if !page.starts_with(root().join("docs")) {
            continue;
        }
        let text = std::fs::read_to_string(&page).expect("UTF-8");
        for line in text.lines().filter(|line| !line.starts_with("```")) {
            for span in line.split('`').skip(1).step_by(2) {
                let is_path = folders.iter().any(|folder| span.starts_with(folder));
                if !is_path || span.contains([' ', '*', '{', '<']) {
                    continue;
                }
                seen += 1;
                if !root().join(span).exists() {
                    missing.push(format!("{}: {span}", page.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seen > 12, "{seen}");
}

#[test]
fn every_page_of_docs_is_in_the_index() {
    let docs = root().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).expect("an index");
    let listed: HashSet<PathBuf> = targets(&summary)
        .iter()
        .map(|target| docs.join(target))
        .collect();
    let missing: Vec<_> = pages()
        .into_iter()
        .filter(|page| {
            page.starts_with(&docs) && !page.ends_with("SUMMARY.md") && !listed.contains(page)
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_readme_is_short() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a readme");
    assert!(readme.lines().count() <= 110);
}

/// The page says how many, and `tests/container` runs each.
#[test]
fn the_first_node_takes_ten_commands() {
    let page = root().join("docs/operate/first-node.md");
    let page = std::fs::read_to_string(page).expect("a page");
    let begun = page
        .lines()
        .filter(|line| line.trim_start() == "```sh")
        .count();
    assert_eq!(begun, 10);
    assert_eq!(page.matches("```").count(), 2 * begun);
}

/// Files that people run or paste from: all but sources, what was built, and what was measured.
fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        match name.expect("UTF-8") {
            ".git" | "node_modules" | "target" | "corpus" | "artifacts" | "results" | "src" => {}
            _ if path.is_dir() => scripts(&path, found),
            _ => found.push(path),
        }
    }
}

#[test]
fn every_variable_with_the_name_of_a_setting_is_one() {
    let names: HashSet<String> = liangma::config::SETTINGS
        .iter()
        .map(|(name, ..)| name.to_ascii_uppercase())
        .collect();
    // The token of commands; what the book of settings and this test are about; a bad one of a test; what Kubernetes must not set.
    let others = ["TOKEN", "NAME", "", "LOGG", "GATE_PORT"];
    let mut files = Vec::new();
    scripts(root(), &mut files);
    let mut strangers = Vec::new();
    let mut seen = 0;
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        for rest in text.split("LIANGMA_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_uppercase() && !matches!(c, '_' | '0'..='9'));
            let name = &rest[..end.unwrap_or(rest.len())];
            seen += 1;
            if !names.contains(name) && !others.contains(&name) {
                strangers.push(format!("{}: LIANGMA_{name}", file.display()));
            }
        }
    }
    assert!(strangers.is_empty(), "a node refuses these: {strangers:#?}");
    assert!(seen > 8, "{seen}");
}

/// Each finds what it imports, from whatever folder it is started.
#[test]
#[cfg_attr(no_python3, ignore = "no python3 on this machine")]
fn every_script_of_the_load_tools_prints_its_help() {
    let folder = root().join("loadtest");
    let mut started = 0;
    for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
        let script = entry.expect("an entry").path();
        if script.is_dir() || script.extension().is_some() {
            continue;
        }
        let said = std::process::Command::new("python3")
            .arg("-B") // leaves no compiled files
            .args([&script, Path::new("--help")])
            .current_dir(folder.join("shapes"))
            .output()
            .expect("python3 is here");
        let name = script.file_name().and_then(|name| name.to_str());
        let usage = format!("usage: {} ", name.expect("UTF-8"));
        let help = String::from_utf8_lossy(&said.stdout);
        assert!(
            said.status.success() && help.starts_with(&usage),
            "{usage}{said:?}"
        );
        started += 1;
    }
    assert!(started >= 8, "{started}");
}

/// A unit of load that is measured anew for each would compare nothing.
#[test]
#[cfg_attr(no_python3, ignore = "no python3 on this machine")]
fn servers_of_one_kin_share_one_capacity_whichever_comes_first() {
    for names in ["bounded,l7,spare,liangma", "liangma,l7,bounded,spare"] {
        let measure = format!(
            "import runpy, sys; sys.path.insert(0, '.'); storm = runpy.run_path('storm', run_name='storm'); kins = []; \
             known = storm['by_kin']('{names}'.split(','), lambda kin: kins.append(kin) or len(kins)); \
             print(sorted(kins), known['bounded'] == known['spare'] == known['liangma'] != known['l7'])"
        );
        let said = std::process::Command::new("python3")
            .args(["-B", "-c", &measure])
            .current_dir(root().join("loadtest"))
            .output()
            .expect("python3 is here");
        let measured = String::from_utf8_lossy(&said.stdout);
        assert_eq!(measured, "['l7', 'liangma'] True\n", "{said:?}");
    }
}

#[test]
fn links_and_anchors_are_found_as_a_reader_sees_them() {
    let text = "# A b, c\n[x](y.md#z) `[no](no.md)`\n```\n[no](no)\n```\n![p](q.png)\n";
    assert_eq!(targets(text), ["y.md#z", "q.png"]);
    assert!(anchors(text).contains("a-b-c"));
}

/// Returns whether a licence expression is met by allowed licences: one part of each alternative, all parts of each conjunction.
/// Crates write alternatives as ` OR ` or `/`.
fn is_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    // Conjunctions and alternatives outside parentheses.
    let split = |text: &str, by: &str| -> Vec<String> {
        let (mut parts, mut depth) = (vec![String::new()], 0);
        for word in text.split_inclusive(' ') {
            depth += word.matches('(').count() as i32 - word.matches(')').count() as i32;
            match depth == 0 && word.trim() == by {
                true => parts.push(String::new()),
                false => parts.last_mut().expect("one").push_str(word),
            }
        }
        parts
    };
    let expression = expression.trim();
    let alternatives = split(&expression.replace('/', " OR "), "OR");
    if alternatives.len() > 1 {
        return alternatives.iter().any(|one| is_met(one, allowed));
    }
    let parts = split(expression, "AND");
    if parts.len() > 1 {
        return parts.iter().all(|one| is_met(one, allowed));
    }
    match expression
        .strip_prefix('(')
        .and_then(|inner| inner.strip_suffix(')'))
    {
        Some(inner) => is_met(inner, allowed),
        None => allowed(expression),
    }
}

#[test]
fn every_crate_has_a_licence_that_is_allowed_and_comes_from_the_registry() {
    let deny: toml::Table = std::fs::read_to_string(root().join("deny.toml"))
        .expect("deny.toml")
        .parse()
        .expect("TOML");
    let words = |list: &toml::Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|word| word.as_str().expect("a text").to_owned())
            .collect()
    };
    let allowed = words(&deny["licenses"]["allow"]);
    let exceptions = deny["licenses"]["exceptions"].as_array().expect("a list");
    let banned = deny["bans"]["deny"].as_array().expect("a list").iter();
    let banned: Vec<&str> = banned.filter_map(|ban| ban["crate"].as_str()).collect();
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--workspace"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--prefix", "none"])
        .args(["--format", "{p}|{l}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8(tree.stdout).expect("UTF-8");
    let lines: HashSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    assert!(lines.len() > 100, "{tree}");
    let mut wrong = Vec::new();
    for line in lines.into_iter().filter(|line| !line.is_empty()) {
        let (name, licence) = line.split_once('|').expect("a name and a licence");
        let name = name.split(' ').next().expect("a name");
        let excepted = exceptions
            .iter()
            .filter(|one| one["crate"].as_str() == Some(name));
        let excepted: Vec<String> = excepted.flat_map(|one| words(&one["allow"])).collect();
        let is_allowed = |one: &str| allowed.iter().chain(&excepted).any(|known| known == one);
        if !is_met(licence, &is_allowed) {
            wrong.push(format!("{name}: {licence:?}"));
        }
        if banned.contains(&name) {
            wrong.push(format!("{name} is banned"));
        }
    }
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("the lock");
    let sources = lock.lines().filter(|line| line.starts_with("source = "));
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    wrong.extend(sources.filter(|line| *line != registry).map(str::to_owned));
    assert!(wrong.is_empty(), "{wrong:#?}");
    let never = |_: &str| false;
    assert!(!is_met("MIT", &never) && !is_met("(MIT OR ISC) AND NCSA", &|one| one != "NCSA"));
}
