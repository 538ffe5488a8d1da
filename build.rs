//! Makes the pages as they are served: sources joined, names of assets bound to their contents, each packed by gzip and
//! brotli once here instead of for every phone. Out: a table for `src/http/pages.rs`. Tells the commit too, for `src/version.rs`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Programs that tests drive, as in `tests/tools`.
const TOOLS: [&str; 9] = [
    "redis-server",
    "openssl",
    "haproxy",
    "prometheus",
    "promtool",
    "curl",
    "faketime",
    "python3",
    "node",
];

/// What is served: its name, its media type, the files of `pages/` that it is made of, in order.
/// Scripts of several files become one, in a scope of its own: one request a page, and no bundler. Their comments and
/// indentation stay here.
const ASSETS: &[(&str, &str, &[&str])] = &[
    ("icon.svg", "image/svg+xml", &["icon.svg"]),
    ("icon-180.png", IMAGE, &["icon-180.png"]),
    ("icon-192.png", IMAGE, &["icon-192.png"]),
    ("icon-512.png", IMAGE, &["icon-512.png"]),
    (
        "manifest.json",
        "application/manifest+json",
        &["manifest.json"],
    ),
    ("jsQR.js", SCRIPT, &["vendor/jsQR.js"]),
    ("districts.js", SCRIPT, &["district-names.js"]),
    ("districts-en.js", SCRIPT, &["district-names-en.js"]),
    // Parts of the resident's page that are loaded when they are opened.
    (
        "divisions.js",
        SCRIPT,
        &["division-names.js", "divisions.js"],
    ),
    (
        "desk.js",
        SCRIPT,
        &[
            "from-page.js",
            "purpose-words.js",
            "desk-words.js",
            "records.js",
            "forms.js",
            "family-sheet.js",
        ],
    ),
    (
        "resident.css",
        STYLE,
        &[
            "tokens.css",
            "screen.css",
            "resident.css",
            "resident-offline.css",
        ],
    ),
    (
        "resident.js",
        SCRIPT,
        &[
            "keep.js",
            "words.js",
            "verdict-words.js",
            "resident-words.js",
            "resident-offline-words.js",
            "screen.js",
            "elapsed.js",
            "ask.js",
            "ask-desk.js",
            "qr.js",
            "draw.js",
            "sheet.js",
            "family.js",
            "resident-offline.js",
            "resident.js",
        ],
    ),
    (
        "gate.css",
        STYLE,
        &["tokens.css", "screen.css", "gate.css", "gate-offline.css"],
    ),
    ("gate-worker.js", SCRIPT, &["gate-worker.js"]),
    (
        "gate.js",
        SCRIPT,
        &[
            "keep.js",
            "words.js",
            "verdict-words.js",
            "gate-words.js",
            "gate-offline-words.js",
            "screen.js",
            "elapsed.js",
            "ask.js",
            "sheet.js",
            "sound.js",
            "camera.js",
            "wedge.js",
            "table.js",
            "bulk-scan.js",
            "roster.js",
            "offline-list.js",
            "gate-offline.js",
            "gate.js",
        ],
    ),
    (
        "office.css",
        STYLE,
        &["tokens.css", "screen.css", "office.css"],
    ),
    (
        "organisation.js",
        SCRIPT,
        &[
            "keep.js",
            "words.js",
            "verdict-words.js",
            "organisation-words.js",
            "screen.js",
            "elapsed.js",
            "ask.js",
            "ask-desk.js",
            "table.js",
            "bulk-scan.js",
            "organisation.js",
        ],
    ),
    (
        "staff.js",
        SCRIPT,
        &[
            "keep.js",
            "words.js",
            "verdict-words.js",
            "purpose-words.js",
            "staff-words.js",
            "screen.js",
            "elapsed.js",
            "ask.js",
            "ask-desk.js",
            "table.js",
            "qr.js",
            "draw.js",
            "division-names.js",
            "divisions.js",
            "staff.js",
        ],
    ),
    (
        "demo.css",
        STYLE,
        &["tokens.css", "screen.css", "office.css", "demo.css"],
    ),
    (
        "demo.js",
        SCRIPT,
        &[
            "keep.js",
            "words.js",
            "demo-words.js",
            "screen.js",
            "qr.js",
            "draw.js",
            "demo.js",
        ],
    ),
    ("status.css", STYLE, &["tokens.css", "status.css"]),
    (
        "status.js",
        SCRIPT,
        &["screen.js", "elapsed.js", "exposition.js", "status.js"],
    ),
    ("interface.css", STYLE, &["interface.css"]),
    ("interface.js", SCRIPT, &["screen.js", "interface.js"]),
    ("openapi.json", "application/json", &["openapi.json"]),
];

const PAGES: &[(&str, &str, &[&str])] = &[
    ("resident.html", PAGE, &["resident.html"]),
    ("gate.html", PAGE, &["gate.html"]),
    ("organisation.html", PAGE, &["organisation.html"]),
    ("staff.html", PAGE, &["staff.html"]),
    ("demo.html", PAGE, &["demo.html"]),
    // Behind the page whose version names what it keeps.
    ("sw.js", SCRIPT, &["sw.js"]),
    ("status.html", PAGE, &["status.html"]),
    ("interface.html", PAGE, &["interface.html"]),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PAGE: &str = "text/html; charset=utf-8";
const IMAGE: &str = "image/png";

struct Made {
    name: String,
    media_type: String,
    whole: Vec<u8>,
}

/// Sets `no_redis_server` and the like for the programs in `TEST_MISSING`, so that their tests are ignored and not passed.
fn tell_missing_tools() {
    println!("cargo::rerun-if-env-changed=TEST_MISSING");
    let missing = std::env::var("TEST_MISSING").unwrap_or_default();
    for tool in TOOLS {
        let name = format!("no_{}", tool.replace('-', "_"));
        println!("cargo::rustc-check-cfg=cfg({name})");
        if missing.split_whitespace().any(|one| one == tool) {
            println!("cargo::rustc-cfg={name}");
        }
    }
}

fn main() {
    tell_commit();
    tell_missing_tools();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=pages");
    let mut made: Vec<Made> = Vec::new();
    for (name, media_type, files) in ASSETS.iter().chain(PAGES) {
        if *media_type == IMAGE {
            let path = Path::new("pages").join(files[0]);
            let whole =
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            made.push(Made {
                name: (*name).into(),
                media_type: (*media_type).into(),
                whole,
            });
            continue;
        }
        let mut text = join(media_type, files);
        // `{icon.svg}` in a page or script is the address of that asset, with what it holds as its version.
        for asset in &made {
            let address = format!("pages/{}?v={}", asset.name, tag(&asset.whole));
            text = text.replace(&format!("{{{}}}", asset.name), &address);
        }
        made.push(Made {
            name: (*name).into(),
            media_type: (*media_type).into(),
            whole: text.into_bytes(),
        });
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where"));
    let mut table = String::from("&[\n");
    for page in &made {
        let gzip = gzip(&page.whole);
        let brotli = brotli(&page.whole);
        for (kind, bytes) in [("whole", &page.whole), ("gzip", &gzip), ("brotli", &brotli)] {
            std::fs::write(out.join(format!("{}.{kind}", page.name)), bytes)
                .expect("cargo's folder");
        }
        let tag = tag(&page.whole);
        let include = |kind: &str| {
            format!(
                "include_bytes!({:?})",
                out.join(format!("{}.{kind}", page.name))
            )
        };
        writeln!(
            table,
            "    Page {{ name: {:?}, media_type: {:?}, version: {tag:?}, whole: {}, gzip: {}, brotli: {},\n        tags: [r#\"\"{tag}\"\"#, r#\"\"{tag}-gzip\"\"#, r#\"\"{tag}-br\"\"#] }},",
            page.name, page.media_type, include("whole"), include("gzip"), include("brotli"),
        )
        .expect("a string");
    }
    table.push(']');
    std::fs::write(out.join("pages.rs"), table).expect("cargo's folder");
}

/// Tells the program which commit it is made of: that of SOURCE_COMMIT, or the one that is checked out here, or `unknown`.
fn tell_commit() {
    println!("cargo::rerun-if-env-changed=SOURCE_COMMIT");
    let said = std::env::var("SOURCE_COMMIT").ok();
    let commit = said.or_else(checked_out).unwrap_or_default();
    let digits = commit.trim().get(..12).unwrap_or_default();
    let is_commit = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let commit = if is_commit { digits } else { "unknown" };
    // No name of ours: cargo gives it to what it runs, where it would be taken for a setting.
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
}

/// Returns the commit of this working copy; None without git, or where the folder lies in a working copy of something else.
fn checked_out() -> Option<String> {
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let own = std::env::var_os("CARGO_MANIFEST_DIR")?;
    if Path::new(&root).canonicalize().ok()? != Path::new(&own).canonicalize().ok()? {
        return None;
    }
    // Every commit and checkout adds a line to the log of HEAD, where there is one.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"])
}

fn join(media_type: &str, files: &[&str]) -> String {
    let read = |file: &&str| {
        let path = Path::new("pages").join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let text: String = files.iter().map(read).collect();
    match media_type {
        _ if files.len() == 1 => text,
        SCRIPT => format!("(function () {{\n\"use strict\";\n{}}})();\n", bare(&text)),
        _ => bare(&text),
    }
}

/// Line by line as it was written, without what only its readers need. No string of ours runs over a line.
fn bare(text: &str) -> String {
    let lines = text.lines().map(str::trim_start);
    let is_comment =
        |line: &str| line.starts_with("//") || (line.starts_with("/*") && line.ends_with("*/"));
    let kept = lines.filter(|line| !line.is_empty() && !is_comment(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// FNV-1a: tells contents apart, and nobody gains by making two that it takes for one: all are ours.
fn tag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer
        .write_all(bytes)
        .and_then(|()| packer.finish())
        .expect("memory")
}

fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let params = brotli::enc::BrotliEncoderParams {
        quality: 11,
        ..Default::default()
    };
    brotli::BrotliCompress(&mut &bytes[..], &mut packed, &params).expect("memory");
    packed
}
