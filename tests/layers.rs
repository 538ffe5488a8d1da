//! The layers: ARCHITECTURE.md says which module is in which layer and where each outside crate has its home, and the code keeps to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules by their path in `src`, as `store/redis`, and their code without comments, texts and tests.
type Sources = BTreeMap<String, String>;

/// Who imports what.
type Imports = BTreeSet<(String, String)>;

/// Rows of a table of ARCHITECTURE.md under a heading: the first cell, and the words in backticks of the second.
fn table(page: &str, heading: &str) -> Vec<(String, Vec<String>)> {
    let part = page.split(&format!("\n## {heading}\n")).nth(1);
    let part = part.unwrap_or_else(|| panic!("ARCHITECTURE.md has no {heading}"));
    let part = part.split("\n## ").next().unwrap_or_default();
    let rows = part.lines().filter(|line| line.starts_with("| "));
    rows.skip(2)
        .map(|row| {
            let mut cells = row.trim_matches('|').split(" | ");
            let first = cells.next().unwrap_or_default().trim().to_owned();
            let second = cells.next().unwrap_or_default();
            let words = second.split('`').skip(1).step_by(2);
            (first, words.map(str::to_owned).collect())
        })
        .collect()
}

/// Returns the code of a file: comments, the contents of texts, and paths in `pub(in …)` are gone, and the tests at its end.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let is_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("pub(in ") {
            // Who may see something is no import.
            at += rest.find(')').map_or(rest.len(), |end| end + 1);
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if !is_word && (rest.starts_with("r\"") || rest.starts_with("r#")) {
            let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = 1 + hashes + 1;
            at += match rest.get(begin..).and_then(|text| text.find(&end)) {
                Some(length) => begin + length + end.len(),
                None => begin,
            };
        } else if rest.starts_with('"') {
            let mut inside = rest.char_indices().skip(1);
            let mut length = rest.len();
            while let Some((nth, c)) = inside.next() {
                match c {
                    '\\' => drop(inside.next()),
                    '"' => {
                        length = nth + 1;
                        break;
                    }
                    _ => {}
                }
            }
            code.push_str("\"\"");
            at += length;
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") || rest.starts_with("'/'") {
            at += rest[2..].find('\'').map_or(2, |end| end + 3);
        } else {
            let c = rest.chars().next().expect("not at the end");
            code.push(c);
            at += c.len_utf8();
        }
    }
    let starts = ["#[cfg(test)]\nmod ", "#[cfg(test)]\npub(crate) mod "];
    let ends = starts.iter().filter_map(|start| code.find(start));
    let end = ends.min().filter(|at| {
        // A module of tests in a file of its own does not end this one.
        code[*at..]
            .split(['{', ';'])
            .next()
            .is_some_and(|head| code[*at + head.len()..].starts_with('{'))
    });
    code.truncate(end.unwrap_or(code.len()));
    code
}

/// Reads every module of a folder.
fn sources(folder: &Path, under: &str, all: &mut Sources) {
    for entry in std::fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a name");
        let module = format!("{under}{name}");
        if path.is_dir() {
            sources(&path, &format!("{module}/"), all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).expect("a file of src");
            all.insert(module, code(&text));
        }
    }
}

/// Removes modules of tests in files of their own, which their parents declare as such.
fn remove_tests(all: &mut Sources) {
    let is_tests = |module: &String| {
        let (parent, name) = module.rsplit_once('/')?;
        let declared = format!("#[cfg(test)]\nmod {name};");
        Some(all.get(parent)?.contains(&declared))
    };
    let tests: Vec<String> = all
        .keys()
        .filter(|module| is_tests(module) == Some(true))
        .cloned()
        .collect();
    for module in tests {
        all.remove(&module);
    }
}

fn top(module: &str) -> &str {
    module.split('/').next().unwrap_or(module)
}

/// Expands the tree of one `use` into paths.
fn expand(tree: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (head, inner) = match tree.split_once('{') {
        Some((head, inner)) => (head, inner.strip_suffix('}')),
        None => (tree, None),
    };
    let mut path = before.to_vec();
    let head = head.split(" as ").next().unwrap_or_default();
    path.extend(
        head.split("::")
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned),
    );
    let Some(inner) = inner else {
        paths.push(path);
        return;
    };
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[from..at].trim().is_empty() {
                    expand(&inner[from..at], &path, paths);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// Every path that a module names: those of its imports, and those with `::` elsewhere.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = code;
    let mut others = String::new();
    while let Some(at) = rest.find("use ") {
        let begins = at == 0
            || !rest.as_bytes()[at - 1].is_ascii_alphanumeric() && rest.as_bytes()[at - 1] != b'_';
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
        if begins {
            others.push_str(&rest[..at]);
            expand(&rest[at + 4..end], &[], &mut paths);
            rest = &rest[end..];
        } else {
            others.push_str(&rest[..at + 4]);
            rest = &rest[at + 4..];
        }
    }
    others.push_str(rest);
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in others.split(|c| !is_path(c)) {
        if word.contains("::") && !word.starts_with(':') {
            paths.push(word.split("::").map(str::to_owned).collect());
        }
    }
    paths
}

/// What each module imports: modules of ours, and outside crates.
fn imports(all: &Sources) -> (Imports, Imports) {
    let (mut ours, mut outside) = (BTreeSet::new(), BTreeSet::new());
    for (module, code) in all {
        let paths = paths(code);
        // Modules of ours that a module imports by their own name.
        let local: BTreeSet<String> = paths
            .iter()
            .filter(|path| matches!(path[0].as_str(), "crate" | "super" | "self"))
            .filter_map(|path| path.last().cloned())
            .collect();
        for path in paths {
            let mut base: Vec<String> = module.split('/').map(str::to_owned).collect();
            let mut path = path.as_slice();
            match path.first().map(String::as_str) {
                Some("crate" | "liangma") => {
                    base.clear();
                    path = &path[1..];
                }
                Some("self") => path = &path[1..],
                Some("super") => {
                    while path.first().is_some_and(|word| word == "super") {
                        base.pop();
                        path = &path[1..];
                    }
                }
                Some(word) if all.contains_key(&format!("{module}/{word}")) => {}
                Some(word) if local.contains(word) => continue,
                Some(word) => {
                    outside.insert((module.clone(), word.replace('_', "-")));
                    continue;
                }
                None => continue,
            }
            base.extend(path.iter().cloned());
            while !base.is_empty() && !all.contains_key(&base.join("/")) {
                base.pop();
            }
            if !base.is_empty() && base.join("/") != *module {
                ours.insert((module.clone(), base.join("/")));
            }
        }
    }
    (ours, outside)
}

/// Returns the cycles of imports: each set of modules that reach each other.
fn cycles(edges: &BTreeSet<(&str, &str)>) -> BTreeSet<BTreeSet<String>> {
    let mut imports: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in edges {
        imports.entry(from).or_default().push(to);
    }
    let reach = |from: &str| {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut next = imports.get(from).cloned().unwrap_or_default();
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(imports.get(module).into_iter().flatten());
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports
        .keys()
        .map(|module| (*module, reach(module)))
        .collect();
    let in_cycles = reached.iter().filter(|(module, all)| all.contains(*module));
    in_cycles
        .map(|(module, all)| {
            let back = |to: &&&str| reached.get(**to).is_some_and(|all| all.contains(module));
            all.iter().filter(back).map(|to| (*to).to_owned()).collect()
        })
        .collect()
}

/// Everything in which the modules do not keep to the page, in words.
fn violations(page: &str, all: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    let mut layer_of: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (nth, (layer, modules)) in table(page, "Layers").into_iter().enumerate() {
        for module in modules {
            if all.contains_key(&module) {
                layer_of.entry(module).or_insert((nth, layer.clone()));
            }
        }
    }
    let (ours, outside) = imports(all);
    for module in all
        .keys()
        .filter(|module| !module.contains('/') && *module != "lib")
    {
        if !layer_of.contains_key(module) {
            found.push(format!("{module} is in no layer"));
        }
    }
    let layer = |module: &str| layer_of.get(top(module));
    for (from, to) in &ours {
        if let (Some((below, _)), Some((above, name))) = (layer(from), layer(to))
            && above < below
        {
            found.push(format!("{from} imports {to}, which is above it, in {name}"));
        }
    }
    let of_tops = ours.iter().map(|(from, to)| (top(from), top(to)));
    for cycle in cycles(&of_tops.filter(|(from, to)| from != to).collect()) {
        found.push(format!("there is a cycle among {cycle:?}"));
    }
    // A module declares its children, and so a child that imports its parent is in a cycle with it.
    let is_child = |from: &str, to: &str| {
        let rest = from.strip_prefix(to);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let (to_parents, of_files): (BTreeSet<_>, BTreeSet<_>) = ours
        .iter()
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .partition(|(from, to)| is_child(from, to));
    for (from, to) in &to_parents {
        found.push(format!("{from} imports its parent {to}"));
    }
    for cycle in cycles(&of_files) {
        found.push(format!("there is a cycle among the files {cycle:?}"));
    }
    for (crates, homes) in table(page, "Homes of outside crates") {
        for name in crates.split(", ").map(|name| name.trim_matches('`')) {
            assert!(!homes.is_empty(), "{name} has no home");
            for (module, _) in outside.iter().filter(|(_, outside)| outside == name) {
                let is_home =
                    |home: &String| module == home || module.starts_with(&format!("{home}/"));
                if !homes.iter().any(is_home) {
                    found.push(format!("{module} imports {name}, whose home is {homes:?}"));
                }
            }
        }
    }
    found
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    std::fs::read_to_string(path).expect("ARCHITECTURE.md")
}

fn tree() -> Sources {
    let mut all = Sources::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        "",
        &mut all,
    );
    remove_tests(&mut all);
    all
}

#[test]
fn every_import_runs_down_and_every_crate_is_at_home() {
    let found = violations(&page(), &tree());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn what_breaks_the_layers_is_seen() {
    for (module, line, expected) in [
        (
            "board",
            "use crate::http::door::Door;\n",
            "board imports http",
        ),
        (
            "http/door",
            "use super::dispatch::answer;\n",
            "there is a cycle among the files",
        ),
        (
            "http/body",
            "use crate::http::Settings;\n",
            "http/body imports its parent http",
        ),
        (
            "desk/audit",
            "use super::grant::organisation;\n",
            "there is a cycle among the files {\"desk/audit\", \"desk/context\", \"desk/grant\"",
        ),
        (
            "seal/ring/part",
            "use super::RingError;\n",
            "seal/ring/part imports its parent seal/ring",
        ),
        (
            "store/redis/follower",
            "fn f() -> Result<(), crate::store::Error> { Ok(()) }\n",
            "store/redis/follower imports its parent store",
        ),
        (
            "refusal",
            "fn f() { crate::desk::f() }\n",
            "refusal imports desk, which is above it",
        ),
        (
            "desk/grant",
            "use super::super::service::{self, Answer};\n",
            "desk/grant imports service",
        ),
        (
            "seal",
            "use crate::{clock, store::{self, Change}};\n",
            "there is a cycle",
        ),
        ("feed", "use redb::Database;\n", "feed imports redb"),
        (
            "store_client",
            "fn f() { redis::f(); }\n",
            "store_client imports redis",
        ),
    ] {
        let mut all = tree();
        all.get_mut(module).expect("a module").insert_str(0, line);
        let found = violations(&page(), &all).join("\n");
        assert!(found.contains(expected), "{module}: {found:?}");
    }
    let mut all = tree();
    all.insert("attic".to_owned(), String::new());
    assert_eq!(violations(&page(), &all), ["attic is in no layer"]);
}

#[test]
fn comments_texts_and_tests_are_no_imports() {
    let code = code(
        "// use a::b;\nlet x = \"use c::d;\";\nlet y = r#\"e::f\"#;\nuse g::h;\n#[cfg(test)]\nmod tests { use i::j; }\n",
    );
    assert_eq!(paths(&code), [["g", "h"]]);
}
