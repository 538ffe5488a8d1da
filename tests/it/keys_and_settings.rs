//! What a node is told, and the keys that it holds.

use crate::harness::*;
use liangma::clock::Time;
use liangma::http::door::Door;
use liangma::seal::ring::RingFile;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

fn at(store: &Path, args: &[&str]) -> Output {
    command()
        .args(args)
        .arg("--store")
        .arg(store)
        .output()
        .expect("the binary runs")
}

#[test]
fn every_bad_setting_is_named_at_once() {
    let folder = folder();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "code_life = \"0s\"\nbacklogs = 5\ndoors = [1]\n").unwrap();
    let store = folder.path().join("store");
    let mut command = command();
    command.args([
        "serve",
        "--gate",
        "nowhere",
        "--set",
        "gate_threads=0",
        "--set",
        "nonsense",
        "--config",
    ]);
    command.arg(&file).arg("--store").arg(&store);
    command
        .env("LIANGMA_LOGG", "info")
        .env("LIANGMA_DRAIN_DELAY", "soon");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    for named in [
        "code_life",
        "backlogs",
        "doors",
        "--gate: gate",
        "gate_threads",
        "nonsense",
        "LIANGMA_LOGG",
        "LIANGMA_DRAIN_DELAY",
    ] {
        assert!(said.contains(named), "{named} is not named: {said}");
    }
    assert_eq!(output.stdout, b"");
    assert!(!store.exists(), "nothing was begun");
}

/// Makes a file of the folder, and returns its path.
fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary folder");
    path.to_str().expect("UTF-8").to_owned()
}

/// Of every setting that names a file, and of those beside them: a check and a start name file and setting, all at once, and begin nothing.
#[test]
fn whatever_cannot_be_used_is_named_before_a_door_opens() {
    let folder = folder();
    let not_pem = write(&folder, "not.pem", b"no certificate");
    let bad_jwks = write(&folder, "jwks.json", b"{\"keys\":[]}");
    let bad_guidance = write(&folder, "guidance.toml", b"[[guidances]]");
    let bad_names = write(&folder, "names.toml", b"[[name]]\nid = \"a b\"");
    let empty = write(&folder, "empty", b"");
    let missing = folder.path().join("missing").display().to_string();
    let a_file = format!("{empty}/store");
    let good_ring = folder.path().join("ring");
    RingFile::generate(Time::now())
        .write_new(&good_ring)
        .unwrap();
    let good_ring = good_ring.display().to_string();
    let redis = "rediss+sentinel://127.0.0.1:1/main";
    let issuer = ("identity_issuer", "i");
    // What is said, and the settings that must be named, each with its file.
    type Row<'r> = (Vec<(&'r str, &'r str)>, Vec<(&'r str, &'r str)>);
    let rows: Vec<Row> = vec![
        (
            vec![("identity_jwks_file", &missing), issuer],
            vec![("identity_jwks_file", &missing)],
        ),
        (
            vec![("identity_jwks_file", &bad_jwks), issuer],
            vec![("identity_jwks_file", &bad_jwks)],
        ),
        (
            vec![("guidance_file", &missing)],
            vec![("guidance_file", &missing)],
        ),
        (
            vec![("guidance_file", &bad_guidance)],
            vec![("guidance_file", &bad_guidance)],
        ),
        (
            vec![("names_file", &missing)],
            vec![("names_file", &missing)],
        ),
        (
            vec![("names_file", &bad_names)],
            vec![("names_file", &bad_names)],
        ),
        (vec![("key_ring", &missing)], vec![("key_ring", &missing)]),
        (vec![("trust", &missing)], vec![("trust", &missing)]),
        (vec![("trust", &bad_jwks)], vec![("trust", &bad_jwks)]),
        (vec![("key_ring", &empty)], vec![("key_ring", &empty)]),
        (vec![("store", &a_file)], vec![("store", &empty)]),
        (vec![("log", "inof")], vec![("log", "inof")]),
        (
            vec![("gate", "127.0.0.1:8080")],
            vec![("gate", "127.0.0.1:8080")],
        ),
        (
            vec![
                ("store", redis),
                ("key_ring", &good_ring),
                ("store_ca_file", &not_pem),
                ("store_password_file", &empty),
                ("store_sentinel_password_file", &missing),
                ("store_cert_file", &not_pem),
                ("store_cert_key_file", &empty),
                ("identity_jwks_file", &bad_jwks),
                issuer,
                ("guidance_file", &missing),
                ("code_life", "0s"),
            ],
            vec![
                ("store_ca_file", &not_pem),
                ("store_password_file", &empty),
                ("store_sentinel_password_file", &missing),
                ("store_cert_file", &not_pem),
                ("store_cert_key_file", &empty),
                ("identity_jwks_file", &bad_jwks),
                ("guidance_file", &missing),
                ("code_life", "0s"),
            ],
        ),
    ];
    for (told, named) in rows {
        for check in [true, false] {
            let mut command = command();
            command.arg("serve").current_dir(folder.path());
            if check {
                command.arg("--check");
            }
            for (name, value) in &told {
                command.args(["--set", &format!("{name}={value}")]);
            }
            let output = command.output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{told:?}: {said}");
            assert_eq!(said.lines().count(), named.len(), "{told:?}: {said}");
            for (name, value) in &named {
                let is_named = |line: &str| line.contains(name) && line.contains(value);
                assert!(said.lines().any(is_named), "{name} of {value}: {said}");
            }
            assert_eq!(output.stdout, b"");
            assert!(
                !folder.path().join("liangma-data").exists(),
                "nothing was begun"
            );
        }
    }
}

#[test]
fn a_check_of_good_settings_says_so_and_makes_nothing() {
    let folder = folder();
    let store = folder.path().join("store");
    let output = at(&store, &["serve", "--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "the settings are good\n");
    assert!(!store.exists());
    // The store may be held by the node that runs.
    let node = Node::start();
    let output = at(&node.store, &["serve", "--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_start_tells_build_and_settings_in_one_line_and_so_does_the_operations_door() {
    let node = NodeBuilder::new(&["code_life=59s"]).node();
    let log = node.log();
    let line = log.lines().find(|line| line.contains(" starting "));
    let line = line.expect("a line of the start");
    for word in [
        &format!("version=\"{}\"", liangma::version::VERSION),
        &format!("commit=\"{}\"", liangma::version::COMMIT),
        "code_life=59s",
        "clock_skew=2s",
        &format!("store={}", node.store.display()),
    ] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let ask = || Ask::get("/v1/settings");
    ask()
        .at(node.address(Door::Ops))
        .refuses(401, "unauthorized");
    ask()
        .bearer(&node.seals().authority())
        .at(node.address(Door::Ops))
        .refuses(403, "not_permitted");
    let told = ask()
        .bearer(&node.seals().operator())
        .at(node.address(Door::Ops))
        .json();
    assert_eq!(told["commit"], liangma::version::COMMIT);
    let of = |name: &str| {
        let all = told["settings"].as_array().unwrap();
        all.iter().find(|of| of["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (&of("code_life")["value"], &of("code_life")["origin"]),
        (&"59s".into(), &"--set".into())
    );
    assert_eq!(
        (&of("backlog")["value"], &of("backlog")["origin"]),
        (&"1024".into(), &"default".into())
    );
    let all = told["settings"].as_array().unwrap().len();
    assert_eq!(all, liangma::config::SETTINGS.len());
}

#[test]
fn a_reload_takes_up_what_it_can_names_what_needs_a_restart_and_a_bad_file_changes_nothing() {
    let folder = folder();
    let guidance = |words: &str| {
        let text = format!(
            "[[guidance]]\nreason = \"confirmed\"\nzh-Hans = \"{words}\"\nzh-Hant = \"{words}\"\nen = \"{words}\"\n"
        );
        write(&folder, "guidance.toml", text.as_bytes())
    };
    let texts = guidance("12345 before");
    let names = |name: &str| {
        let text = format!(
            "[[name]]\nid = \"gd-cdc\"\nzh-Hans = \"{name}\"\nzh-Hant = \"{name}\"\nen = \"{name}\"\n"
        );
        write(&folder, "names.toml", text.as_bytes())
    };
    let named = names("before");
    let config = |rest: &str| {
        let text = format!("guidance_file = \"{texts}\"\nnames_file = \"{named}\"\n{rest}");
        write(&folder, "liangma.toml", text.as_bytes())
    };
    let file = config("shows_per_second = 1\ncode_life = \"50s\"\nlog = \"info\"\n");
    let node = NodeBuilder::new(&[]).configured(Path::new(&file)).node();
    let reloaded = |times: usize| {
        node.signal(libc::SIGHUP);
        until("the guidance is read", || {
            let log = node.log();
            log.matches("the guidance was read again").count()
                + log.matches("the guidance in force stays").count()
                == times
        });
    };
    let shows = || {
        let session = node.seals().session(&person(1));
        (0..40)
            .filter(|_| node.show(&session).status == 200)
            .count()
    };
    // The settings of the harness are flags and stand over the file.
    let in_force = |name: &str| {
        let told = Ask::get("/v1/settings")
            .bearer(&node.seals().operator())
            .at(node.address(Door::Ops))
            .json();
        let all = told["settings"].as_array().unwrap().clone();
        all.into_iter().find(|of| of["name"] == name).unwrap()["value"].clone()
    };
    assert!(shows() < 40, "ten at once, and one a second");
    config(
        "shows_per_second = 1000\ncode_life = \"40s\"\nbacklog = 99\nlog = \"liangma=debug\"\nresident_connections_max = 77\n",
    );
    guidance("12345 after");
    names("after");
    reloaded(1);
    let red = person(2);
    node.feed(&node.seals().authority(), &[red.set("confirmed", 1)]);
    let name = || {
        let told = node.explain(&node.seals().session(&red)).json();
        told["reasons"][0]["source_name"].clone()
    };
    assert_eq!(name(), "after");
    let log = node.log();
    for name in ["code_life", "backlog"] {
        let is_named = |line: &str| line.contains("needs a restart") && line.contains(name);
        assert!(log.lines().any(is_named), "{name}: {log}");
    }
    assert_eq!(log.matches("needs a restart").count(), 2, "{log}");
    assert_eq!(log.matches("a setting was changed").count(), 3, "{log}");
    until("the door admits what it is told", || {
        let of = |name| node.meter(&format!("liangma_connections_{name}{{door=\"resident\"}}"));
        of("limit_max") == 77.0 && of("limit") == 77.0
    });
    assert_eq!(in_force("shows_per_second"), "1000");
    assert_eq!(in_force("log"), "liangma=debug");
    assert_eq!(in_force("code_life"), "50s");
    until("the new limit is in force", || shows() == 40);
    assert_eq!(node.meter("liangma_last_reload_successful"), 1.0);

    // One bad value, and nothing of the file counts.
    config("shows_per_second = 1\nlog = \"loud\"\n");
    write(&folder, "guidance.toml", b"no TOML");
    write(&folder, "names.toml", b"no TOML");
    reloaded(2);
    let log = node.log();
    assert!(
        log.contains("the settings in force stay") && log.contains("loud"),
        "{log}"
    );
    assert!(log.contains("the guidance in force stays"), "{log}");
    assert!(log.contains("the names file in force stays"), "{log}");
    assert_eq!(name(), "after");
    until("the reload is over", || {
        node.meter("liangma_last_reload_successful") == 0.0
    });
    assert_eq!(in_force("shows_per_second"), "1000");
    // A busy machine may turn some away.
    until("the limit in force stays", || shows() == 40);
    assert_eq!(node.get(Door::Ops, "/ready").status, 200);
}

#[test]
fn the_settings_are_printed_with_default_bounds_unit_and_meaning() {
    let printed = |args: &[&str]| {
        let output = run(&[&["settings"], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let [plain, markdown, sample] = [&[][..], &["--markdown"], &["--toml"]].map(printed);
    for (name, default, bounds, meaning) in liangma::config::SETTINGS {
        assert!(
            plain.contains(&format!("{name} = {default}\n    {meaning}")),
            "{name}"
        );
        assert!(
            markdown.contains(&format!("| `{name}` | `{default}` |")),
            "{name}"
        );
        assert!(
            plain.contains(&bounds.replace('`', "")) && sample.contains(&format!("#{name} = ")),
            "{name}"
        );
    }
    assert_eq!(
        run(&["settings", "--toml", "--markdown"]).status.code(),
        Some(2)
    );
}

#[test]
fn flags_stand_over_the_environment_and_that_over_the_file() {
    let folder = folder();
    let file = folder.path().join("settings.toml");
    std::fs::write(
        &file,
        "code_life = \"bad 1\"\nclock_skew = \"bad 2\"\nlog = \"off\"\n",
    )
    .unwrap();
    let mut command = command();
    command
        .args(["serve", "--set", "code_life=bad 3", "--config"])
        .arg(&file);
    command
        .env("LIANGMA_CODE_LIFE", "bad 4")
        .env("LIANGMA_CLOCK_SKEW", "bad 5");
    let said = text(&command.output().unwrap().stderr);
    assert!(said.contains("--set: code_life = \"bad 3\""), "{said}");
    assert!(
        said.contains("LIANGMA_CLOCK_SKEW: clock_skew = \"bad 5\""),
        "{said}"
    );
    assert!(
        !said.contains("bad 1") && !said.contains("bad 2") && !said.contains("bad 4"),
        "{said}"
    );
}

#[test]
fn a_store_of_redis_and_a_filter_that_is_none_are_bad_settings() {
    for args in [
        ["serve", "--set", "store=redis://localhost"],
        ["serve", "--set", "log=a=b=c"],
    ] {
        let folder = folder();
        let mut command = command();
        let output = command
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    }
}

#[test]
fn a_first_start_makes_a_ring_for_its_owner_alone_and_says_so() {
    let node = Node::start();
    let keys = node.store.join("keys");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&keys), 0o600);
    assert_eq!(
        mode(&node.store) & 0o077,
        0,
        "the store's folder is private"
    );
    assert!(node.log().contains("created a key ring"), "{}", node.log());
    assert_eq!(
        node.out().lines().count(),
        4,
        "standard output holds the doors alone"
    );
}

#[test]
fn a_ring_that_others_can_read_is_refused() {
    let folder = folder();
    let store = folder.path().join("store");
    assert!(at(&store, &["keys", "new"]).status.success());
    let keys = store.join("keys");
    for mode in [0o644, 0o640, 0o604] {
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(mode)).unwrap();
        for (args, code) in [
            (&["serve", "--set", "ops=127.0.0.1:0"][..], 78),
            (&["serve", "--check"], 78),
            (&["token", "scanner", "--site", "x"], 1),
            (&["import", "/dev/null"], 1),
        ] {
            let output = at(&store, args);
            assert_eq!(output.status.code(), Some(code));
            assert!(
                text(&output.stderr).contains("chmod 600"),
                "{}",
                text(&output.stderr)
            );
        }
    }
}

#[test]
fn a_command_that_only_reads_makes_neither_store_nor_ring() {
    let folder = folder();
    let with_ring = folder.path().join("ring");
    assert!(at(&with_ring, &["keys", "new"]).status.success());
    let nowhere = folder.path().join("nowhere");
    for args in [
        &["export"][..],
        &["audit", "verify"],
        &["audit", "list"],
        &[
            "erase",
            "person",
            "--cert-type",
            "10",
            "--cert-no",
            "11010519491231002X",
        ],
    ] {
        for wrong in [&nowhere, &with_ring] {
            let output = at(wrong, args);
            assert_eq!(output.status.code(), Some(1), "{args:?}");
            let said = text(&output.stderr);
            assert!(said.contains("there is no store in"), "{args:?}: {said}");
            assert_eq!(output.stdout, b"", "{args:?}");
        }
        assert!(!nowhere.exists(), "{args:?}");
        assert!(!with_ring.join("liangma.redb").exists(), "{args:?}");
    }
}

#[test]
fn a_ring_is_never_overwritten_nor_made_beside_a_store_that_has_one() {
    let folder = folder();
    let store = folder.path().join("store");
    assert!(at(&store, &["keys", "new"]).status.success());
    let keys = store.join("keys");
    let before = std::fs::read(&keys).unwrap();
    let again = at(&store, &["keys", "new"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("not overwritten"));
    assert_eq!(std::fs::read(&keys).unwrap(), before);

    assert!(at(&store, &["import", "/dev/null"]).status.success());
    assert!(at(&store, &["export"]).status.success());
    std::fs::remove_file(&keys).unwrap();
    let lost = at(&store, &["export"]);
    assert_eq!(lost.status.code(), Some(1));
    assert!(!keys.exists());
    assert!(
        text(&lost.stderr).contains("put the ring's copy back"),
        "{}",
        text(&lost.stderr)
    );
    let named = ["keys", "new", "--keys", keys.to_str().unwrap()];
    for new in [at(&store, &["keys", "new"]), run(&named)] {
        assert_eq!(new.status.code(), Some(1), "another ring is of no use");
        assert!(text(&new.stderr).contains("put the ring's copy back"));
        assert!(!keys.exists());
    }
    RingFile::generate(Time::now()).write_new(&keys).unwrap();
    for (args, code) in [
        (&["export"][..], 1),
        (&["erase", "traces"], 1),
        (&["serve", "--check"], 78),
    ] {
        let foreign = at(&store, args);
        let said = text(&foreign.stderr);
        assert_eq!(foreign.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains("another key ring"), "{args:?}: {said}");
    }
}

#[test]
fn a_ring_that_is_none_is_refused_without_being_quoted() {
    let folder = folder();
    let store = folder.path().join("store");
    assert!(at(&store, &["keys", "new"]).status.success());
    let keys = store.join("keys");
    let good = std::fs::read_to_string(&keys).unwrap();
    let secrets = secrets(&good);
    for bad in [
        good.replace("current", "next"),
        good.replace("identity", "idantity"),
        good[..good.len() - 9].into(),
        "".into(),
    ] {
        std::fs::write(&keys, &bad).unwrap();
        let output = at(&store, &["serve"]);
        assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains("not a key ring"), "{said}");
        assert!(
            !secrets.iter().any(|secret| said.contains(&secret[..16])),
            "{said}"
        );
    }
}

/// The keys of a ring file, as they are written there.
pub fn secrets(ring: &str) -> Vec<String> {
    let words = ring.split(|c: char| !c.is_ascii_hexdigit());
    let secrets: Vec<String> = words
        .filter(|word| word.len() == 64)
        .map(ToOwned::to_owned)
        .collect();
    assert!(secrets.len() >= 4);
    secrets
}

#[test]
fn lists_and_rotations_print_no_secret() {
    let folder = folder();
    let store = folder.path().join("store");
    let made = at(&store, &["keys", "new"]);
    let mut said = [made.stdout, made.stderr].concat();
    let mut all = Vec::new();
    for args in [
        &["keys", "list"][..],
        &["keys", "rotate"],
        &["keys", "rotate", "--drop-previous"],
        &["keys", "list"],
    ] {
        let output = at(&store, args);
        assert!(output.status.success());
        said.extend([output.stdout, output.stderr].concat());
        all.extend(secrets(
            &std::fs::read_to_string(store.join("keys")).unwrap(),
        ));
    }
    let said = text(&said);
    assert!(said.contains("current") && said.contains("next") && said.contains("previous"));
    assert!(!all.iter().any(|secret| said.contains(&secret[..16])));
}

#[test]
fn what_a_dropped_key_sealed_is_refused() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    assert_eq!(node.show(&session).status, 200);
    let rotated = at(&node.store, &["keys", "rotate", "--drop-previous"]);
    assert!(rotated.status.success());
    node.signal(libc::SIGHUP);
    until("the ring is read", || {
        node.log().contains("the key ring was read again")
    });
    node.show(&session).refuses(401, "unauthorized");
    assert_eq!(node.show(&node.seals().session(&person(1))).status, 200);
}

#[test]
fn token_prints_the_token_and_nothing_else() {
    let folder = folder();
    let store = folder.path().join("store");
    assert!(at(&store, &["keys", "new"]).status.success());
    let chen = person(1);
    for args in [
        &["token", "scanner", "--site", "east-gate"][..],
        &["token", "authority", "--source", "gd-cdc", "--days", "1"],
        &[
            "token",
            "resident",
            "--cert-type",
            "10",
            "--cert-no",
            &chen.cert_no,
            "--name",
            chen.name,
            "--assurance",
            "real_name",
        ],
    ] {
        let output = at(&store, args);
        assert!(output.status.success());
        assert_eq!(output.stderr, b"");
        let said = text(&output.stdout);
        let token = said.strip_suffix('\n').unwrap();
        assert!(
            token.len() > 50 && token.chars().all(|c| c.is_ascii_alphanumeric()),
            "{said}"
        );
    }
    for args in [
        &["token", "scanner", "--site", ""][..],
        &["token", "authority", "--source", "gd cdc"],
        &[
            "token",
            "resident",
            "--cert-type",
            "15",
            "--cert-no",
            "1",
            "--name",
            "x",
            "--assurance",
            "real_name",
        ],
        &[
            "token",
            "resident",
            "--cert-type",
            "10",
            "--cert-no",
            "440106199003077210",
            "--name",
            "x",
            "--assurance",
            "real_name",
        ],
        &[
            "token",
            "resident",
            "--cert-type",
            "10",
            "--cert-no",
            &chen.cert_no,
            "--name",
            chen.name,
            "--assurance",
            "sure",
        ],
    ] {
        let output = at(&store, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn doors_may_be_opened_apart_and_a_taken_port_is_named() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = at(
        &folder.path().join("store"),
        &["serve", "--doors", "gate", "--gate", &address],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&address),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_stolen_ring_makes_nothing_that_is_accepted_after_its_keys_were_replaced() {
    let node = Node::start();
    let stolen = std::fs::read(node.store.join("keys")).unwrap();
    let folder = folder();
    let copy = folder.path().join("keys");
    std::fs::write(&copy, &stolen).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).unwrap();
    // The thief turns the copy on, so that the next key seals, too.
    let mut thieves = vec![Credentials::of(
        &liangma::seal::ring::RingFile::read(&copy).unwrap(),
    )];
    let keys = copy.display().to_string();
    let turned = command()
        .args(["keys", "rotate", "--keys", &keys, "--store", "redis://x"])
        .output();
    assert!(turned.unwrap().status.success());
    thieves.push(Credentials::of(
        &liangma::seal::ring::RingFile::read(&copy).unwrap(),
    ));
    let entries = "/v1/entries?destination=440106&day=2026-11-25&purpose=reception";
    let accepted = |seals: &Credentials| {
        let code = seals.code_of(&person(1), liangma::clock::Time::now());
        let scanner = node.seals().scanner();
        [
            node.show(&seals.session(&person(1))).status,
            node.scan(&seals.scanner(), &code).status,
            node.scan(&scanner, &code).status,
            node.post_feed(&seals.authority(), "").status,
            node.desk("GET", "/v1/roster", &seals.organisation("o-1"), None)
                .status,
            node.desk("GET", entries, &seals.staff("s-1", "440106"), None)
                .status,
            // Credentials are judged before what is asked: of a good operator no token is named.
            match Ask::post("/v1/revocations", "{}")
                .json()
                .bearer(&seals.operator())
                .at(node.address(Door::Ops))
                .status
            {
                422 => 200,
                status => status,
            },
        ]
        .map(|status| status == 200)
    };
    for thief in &thieves {
        assert_eq!(accepted(thief), [true; 7]);
    }
    assert!(at(&node.store, &["keys", "replace"]).status.success());
    node.signal(libc::SIGHUP);
    until("the ring is read", || {
        node.log().contains("the key ring was read again")
    });
    for thief in &thieves {
        assert_eq!(accepted(thief), [false; 7]);
    }
    assert_eq!(accepted(&node.seals()), [true; 7]);
}

#[test]
fn a_node_that_holds_keys_leaves_no_core_file() {
    let node = Node::start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let core = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let core: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[..2], ["0", "0"]);
}

#[test]
fn names_and_numbers_are_read_from_files_and_standard_input_as_well() {
    use std::io::Write;
    let node = Node::start();
    let person = person(1);
    let folder = folder();
    let number = folder.path().join("number");
    std::fs::write(&number, format!("{}\r\n", person.cert_no)).unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let ask = |cert_no: &str, name: &str, input: &str| {
        let mut asked = command();
        asked.args(["token", "resident", "--cert-type", "10"]);
        asked.args([
            "--assurance",
            "real_person",
            "--cert-no",
            cert_no,
            "--name",
            name,
        ]);
        asked.arg("--store").arg(&node.store);
        asked.stdin(std::process::Stdio::piped());
        asked.stdout(std::process::Stdio::piped());
        asked.stderr(std::process::Stdio::piped());
        let mut child = asked.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(input.as_bytes()).unwrap();
        drop(pipe);
        child.wait_with_output().unwrap()
    };
    let file = format!("@{}", number.display());
    let both = format!("{}\n{}\n", person.cert_no, person.name);
    for (cert_no, name, input) in [
        (&*file, person.name, ""),
        ("-", person.name, &*person.cert_no),
        (&*file, "-", person.name),
        ("-", "-", &*both),
    ] {
        let made = ask(cert_no, name, input);
        let token = String::from_utf8(made.stdout).unwrap();
        assert!(made.status.success(), "{cert_no} {name}");
        let shown = node.show(token.trim()).json();
        assert_eq!(shown["cert_no"], person.mask(), "{cert_no} {name}");
    }
    let missing = format!("@{}", folder.path().join("none").display());
    let empty = format!("@{}", empty.display());
    for bad in [&*missing, &*empty, "-", "@"] {
        let made = ask(bad, person.name, "");
        assert!(!made.status.success() && made.stdout.is_empty(), "{bad}");
    }
}

#[test]
fn the_operations_door_is_printed_under_the_name_by_which_it_was_asked_for() {
    for (flag, name) in [("--ops", "ops http://"), ("--back", "back http://")] {
        let folder = folder();
        let mut serve = command();
        serve
            .args(["serve", "--store"])
            .arg(folder.path().join("s"));
        serve.args(["--set", "drain_notice=0ms"]);
        for door in ["--resident", "--gate", "--desk", flag] {
            serve.args([door, "127.0.0.1:0"]);
        }
        serve.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = crate::process::spawn(serve).expect("the binary runs");
        let out = gather(child.stdout.take().expect("it is piped"));
        until("all doors are printed", || {
            let printed = text(&out.lock().unwrap());
            printed.lines().count() == 4 && printed.contains(name)
        });
        send(&child, libc::SIGTERM);
        ended(&mut child);
    }
}

#[test]
fn of_those_who_change_a_ring_at_once_none_undoes_what_another_did() {
    let folder = folder();
    let store = folder.path().join("store");
    assert!(at(&store, &["keys", "new"]).status.success());
    let place = store.to_str().unwrap();
    let start = |what: &str| {
        let mut child = command();
        child.args(["keys", what, "--store", place]);
        child.stdout(Stdio::null()).stderr(Stdio::null());
        crate::process::spawn(child).expect("the binary runs")
    };
    let rotating: Vec<_> = (0..4).map(|_| start("rotate")).collect();
    for mut child in rotating {
        assert!(ended(&mut child).success());
    }
    let listed = text(&at(&store, &["keys", "list"]).stdout);
    // Two keys at first, and one more with each rotation.
    assert!(
        listed.contains("\n6\tnext") || listed.contains("6\tnext"),
        "{listed}"
    );
    for _ in 0..4 {
        let before = RingFile::read(&store.join("keys")).unwrap().lines();
        let (mut replacing, mut rotating) = (start("replace"), start("rotate"));
        assert!(ended(&mut replacing).success() && ended(&mut rotating).success());
        // Whichever came first: what was replaced is gone.
        let after = RingFile::read(&store.join("keys")).unwrap().lines();
        let is_left = |key: &&liangma::seal::ring::KeyLine| {
            after
                .iter()
                .any(|known| known.id == key.id && known.created == key.created)
        };
        assert!(
            before.iter().find(is_left).is_none(),
            "a key from before is left"
        );
    }
}
