//! How many connections each front of HAProxy takes, in every place that sets it: no front takes the places of another, and each tells
//! newcomers that it is busy before it takes no more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sizes by the name of their variable.
type Sizes = BTreeMap<String, u64>;

/// The configuration beside `common.cfg`.
const ALL: &[&str] = &["l4.cfg", "l7.cfg"];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).expect("a file of the project")
}

/// The sizes that a text sets: each name of one that a number follows.
fn sizes_in(text: &str) -> Sizes {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let set = words.windows(2).filter_map(|pair| {
        let front = pair[0].strip_suffix("_MAX");
        let front = front.or_else(|| pair[0].strip_suffix("_FULL"));
        let is_size = pair[0] == "MAX"
            || front.is_some_and(|front| {
                front.starts_with("L4_") || ["L7", "BUSY", "METERS"].contains(&front)
            });
        Some((pair[0].to_owned(), pair[1].parse().ok()?)).filter(|_| is_size)
    });
    set.collect()
}

/// The variable of each front's own limit.
fn limits_of_fronts(files: &[&str]) -> Vec<String> {
    let mut limits = Vec::new();
    for file in ["common.cfg"].iter().chain(files) {
        let text = read(&format!("deploy/haproxy/{file}"));
        for front in text.split("\nfrontend ").skip(1) {
            let own = front.lines().skip(1);
            let own = own.take_while(|line| line.starts_with('\t') || line.is_empty());
            let limit = own.filter_map(|line| line.strip_prefix("\tmaxconn \"${"));
            let limit: Vec<_> = limit.filter_map(|rest| rest.strip_suffix("}\"")).collect();
            let name = front.lines().next();
            assert_eq!(limit.len(), 1, "{file}: limits of the front {name:?}");
            limits.push(limit[0].to_owned());
        }
    }
    limits
}

/// Checks what a place sets, over the defaults of `common.cfg`, for HAProxy with these files.
#[track_caller]
fn check(place: &str, set: &Sizes, files: &[&str]) {
    let defaults = sizes_in(&read("deploy/haproxy/common.cfg"));
    assert!(defaults.len() >= 11, "{defaults:?}");
    let mut sizes = defaults.clone();
    sizes.extend(set.clone());
    for full in defaults.keys().filter(|name| name.ends_with("_FULL")) {
        let most = full.replace("_FULL", "_MAX");
        assert!(sizes[full] < sizes[&most], "{place}: {full} of {sizes:?}");
        let is_left = set.contains_key(&most) && !set.contains_key(full);
        assert!(!is_left, "{place} sets {most} and not {full}");
    }
    let all: u64 = limits_of_fronts(files).iter().map(|name| sizes[name]).sum();
    assert!(all <= sizes["MAX"], "{place}: {all} in all of {sizes:?}");
}

#[test]
fn no_front_of_haproxy_takes_places_of_another_and_each_tells_before_it_is_full() {
    check("common.cfg", &Sizes::new(), ALL);
    let compose = sizes_in(&read("deploy/compose.yaml"));
    assert!(!compose.is_empty());
    check("compose.yaml", &compose, ALL);
    let printed = |arguments: &[String]| {
        let mut sizes = Command::new(project("deploy/haproxy/sizes"));
        sizes.args(arguments).output().expect("a shell")
    };
    for bad in ["", "0", "00099", "1e5", "12345678901"] {
        assert_eq!(printed(&[bad.to_owned()]).status.code(), Some(2), "{bad}");
    }
    assert_eq!(
        printed(&["4000", "200"].map(str::to_owned)).status.code(),
        Some(1)
    );
    let three = [1_000, 1_024, 4_096, 18_999, 65_536, 1 << 20].map(|descriptors| (descriptors, 3));
    for (descriptors, nodes) in three.into_iter().chain([(4_000, 24), (65_536, 1_000)]) {
        let printed = printed(&[descriptors, nodes].map(|number: u64| number.to_string()));
        assert!(printed.status.success(), "{printed:?}");
        let sizes = sizes_in(&String::from_utf8_lossy(&printed.stdout));
        check(&format!("sizes {descriptors}"), &sizes, ALL);
        // As HAProxy asks for, with three nodes and with 24: 64 and 569 beside the connections.
        let needed = sizes["MAX"] * 2 + 24 * nodes + 100;
        assert!(needed <= descriptors, "{descriptors}: {sizes:?}");
    }
}

#[test]
#[cfg_attr(no_python3, ignore = "no python3 on this machine")]
fn no_front_of_the_load_tools_haproxy_takes_places_of_another() {
    for name in ["l4", "l7"] {
        for has_gates in ["True", "False"] {
            for descriptors in [4_096, 20_000, 65_536, 1 << 20] {
                let sizes = format!(
                    "import runpy, sys; sys.path.insert(0, '.'); storm = runpy.run_path('storm', run_name='storm'); \
                     print(storm['balancer_sizes']('{name}', {has_gates}, {descriptors}))"
                );
                let printed = Command::new("python3")
                    .args(["-B", "-c", &sizes])
                    .current_dir(project("loadtest"))
                    .output()
                    .expect("python3 is here");
                assert!(printed.status.success(), "{printed:?}");
                let sizes = sizes_in(&String::from_utf8_lossy(&printed.stdout));
                let place = format!("storm: {name}, gates {has_gates}, {descriptors}");
                check(&place, &sizes, &[&format!("{name}.cfg")]);
                assert!(sizes["MAX"] * 2 < descriptors, "{place}: {sizes:?}");
            }
        }
    }
}

/// A further file that sets sizes belongs into the tests above.
#[test]
fn sizes_of_haproxy_are_set_nowhere_else() {
    let mut places = Vec::new();
    let mut folders = ["deploy", "loadtest", "tests"].map(PathBuf::from).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(project("").join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let (path, name) = (folder.join(entry.file_name()), entry.file_name());
            match name.to_str().expect("UTF-8") {
                "node_modules" | "target" | "results" => {}
                _ if entry.path().is_dir() => folders.push(path),
                name if name.ends_with(".md") || name.ends_with(".rs") => {}
                _ => {
                    let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    let names = ["L4_RESIDENT_MAX", "L4_GATE_MAX", "L4_DESK_MAX", "L7_MAX"];
                    if names.iter().any(|name| text.contains(name)) {
                        places.push(path.to_str().expect("UTF-8").to_owned());
                    }
                }
            }
        }
    }
    places.sort();
    let known = [
        "deploy/compose.yaml",
        "deploy/haproxy/common.cfg",
        "deploy/haproxy/l4.cfg",
        "deploy/haproxy/l7.cfg",
        "loadtest/storm",
    ];
    assert_eq!(places, known);
}
