//! What only tells: standard output and standard error that are full, closed or not read.

use crate::harness::*;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Every command that prints, with a ring and a store where it needs them.
fn commands(store: &Path) -> Vec<Command> {
    let lines: [&[&str]; 11] = [
        &["--help"],
        &["--version"],
        &["serve", "--help"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["token", "scanner", "--site", "x"],
        &["token", "authority", "--source", "x"],
        &["export"],
        &["audit", "verify"],
        &["import", "/dev/null"],
        &["synth", "--residents", "1000", "--seed", "1"],
    ];
    let with = |words: &[&str]| {
        let mut command = command();
        command.args(words);
        if !words.iter().any(|word| word.starts_with("--")) || words[0] == "token" {
            command.arg("--store").arg(store);
        }
        command
    };
    lines.into_iter().map(with).collect()
}

/// A store with somebody in it, so that every command has something to print.
fn store() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = folder();
    let store = folder.path().join("store");
    let lines = folder.path().join("lines");
    let synth = run(&["synth", "--residents", "1000", "--seed", "1"]);
    std::fs::write(&lines, synth.stdout).unwrap();
    let import = command()
        .arg("import")
        .arg(&lines)
        .arg("--store")
        .arg(&store)
        .output()
        .unwrap();
    assert!(import.status.success(), "{}", text(&import.stderr));
    (folder, store)
}

#[test]
fn a_command_whose_output_is_full_fails_and_says_so_in_a_line() {
    let (_folder, store) = store();
    for mut command in commands(&store) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(!said.contains("panicked"), "{command:?}: {said}");
        let why = "liangma: standard output cannot be written: No space left";
        assert!(said.contains(why), "{command:?}: {said}");
    }
}

#[test]
fn a_command_whose_reader_has_left_ends_well_and_in_silence() {
    let (_folder, store) = store();
    for mut command in commands(&store) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command:?}: {said}");
        assert!(!said.contains("panicked"), "{command:?}: {said}");
    }
}

#[test]
fn a_command_that_nobody_hears_ends_with_the_code_of_its_failure() {
    let folder = folder();
    let store = folder.path().join("store");
    for (words, code) in [
        (&["keys", "list"][..], 1),
        (&["keys", "list", "--set", "code_life=0"], 78),
        (&["nonsense"], 2),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command();
        command.args(words);
        if words[0] == "keys" {
            command.arg("--store").arg(&store);
        }
        let status = command.stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{words:?}");
    }
}

fn serve(store: &Path) -> Command {
    let mut command = command();
    command.arg("serve").arg("--store").arg(store);
    for door in ["resident", "gate", "desk", "ops"] {
        command.args([format!("--{door}"), "127.0.0.1:0".to_owned()]);
    }
    command.args(["--set", "drain_delay=0ms"]);
    command
}

#[test]
fn a_node_whose_doors_cannot_be_printed_fails() {
    let folder = folder();
    for nth in ["full", "gone"] {
        let out: Stdio = match nth {
            "full" => File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
            _ => std::io::pipe().unwrap().1.into(),
        };
        let output = serve(&folder.path().join(nth))
            .stdout(out)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains("doors cannot be printed"), "{said}");
    }
}

#[test]
fn a_node_whose_log_cannot_be_written_serves_and_counts_the_lost_lines() {
    let folder = folder();
    for nth in ["full", "gone", "still"] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut reader = Some(reader);
        let error: Stdio = match nth {
            "full" => File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
            _ => writer.into(),
        };
        if nth == "gone" {
            reader = None;
        }
        let mut command = serve(&folder.path().join(nth));
        command.stdout(Stdio::piped()).stderr(error);
        let mut node = crate::process::spawn(command).unwrap();
        let mut doors = BufReader::new(node.stdout.take().unwrap()).lines();
        let back = doors
            .find_map(|line| Some(line.ok()?.strip_prefix("ops http://")?.to_owned()))
            .expect("the operations door's line");
        let back: std::net::SocketAddr = back.parse().unwrap();
        // Each reload logs a line.
        for _ in 0..20 {
            // SAFETY: a bare system call.
            unsafe { libc::kill(node.id() as i32, libc::SIGHUP) };
            let metrics = Ask::get("/metrics").at(back);
            assert_eq!(metrics.status, 200, "{nth}");
        }
        if nth != "still" {
            until("lost lines are counted", || {
                let metrics = text(&Ask::get("/metrics").at(back).body);
                let line = metrics
                    .lines()
                    .find_map(|line| line.strip_prefix("liangma_log_lines_lost_total "));
                line.is_some_and(|lost| lost != "0")
            });
        }
        // SAFETY: a bare system call.
        unsafe { libc::kill(node.id() as i32, libc::SIGTERM) };
        assert!(node.wait().unwrap().success(), "{nth}");
        drop(reader);
    }
}

#[test]
fn an_import_of_a_file_that_is_not_there_makes_nothing() {
    let folder = folder();
    let store = folder.path().join("store");
    let mut import = command();
    import
        .args(["import", "no-such-file", "--store"])
        .arg(&store);
    let output = import.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no-such-file: "));
    assert!(!store.exists(), "neither a key ring nor a store");
}

#[test]
fn synth_says_how_many_and_how_long() {
    let mut synth = command();
    let output = synth
        .args(["synth", "--residents", "1000", "--seed", "1"])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("1000 residents in "), "{said}");
    assert!(said.contains(" a second"), "{said}");
}

#[test]
fn what_a_load_takes_is_printed_with_the_costs_that_it_follows_from() {
    let load = [
        "--residents",
        "127000000",
        "--shows-per-second",
        "760000",
        "--zones",
        "3",
    ];
    let output = run(&[&["size"], &load[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for word in [
        "nodes",
        "memory of a node",
        "Redis",
        "balancers",
        "network to clients",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    for cost in liangma::capacity::COSTS {
        let line = said.lines().find(|line| line.starts_with(cost.name));
        assert!(
            line.is_some_and(|line| line.contains(cost.date)),
            "{}",
            cost.name
        );
    }
    for bad in [
        &["size"][..],
        &["size", "--residents", "0", "--shows-per-second", "1"],
        &["size", "--residents", "5", "--shows-per-second", "-1"],
        &[
            "size",
            "--residents",
            "5",
            "--shows-per-second",
            "1",
            "--zones",
            "0",
        ],
    ] {
        assert_eq!(run(bad).status.code(), Some(2), "{bad:?}");
    }
}
