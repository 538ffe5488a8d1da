//! The readers of status lists for devices, in C, Python and JavaScript, against files and codes that are made here, and against a list
//! that an independent implementation built: each must say line by line what ours says.

use crate::harness::*;
use crate::interface::example_is_left_out;
use liangma::clock::Time;
use liangma::offline::code::{CodeFault, OfflineCode};
use liangma::offline::gate::{HeldLists, ListAges, OfflineDecision};
use liangma::offline::issue::OfflineKeys;
use liangma::offline::list::{BaseList, ListChanges};
use liangma::offline::publisher::{ListSource, OnRecord, publish};
use liangma::offline::{ListId, ListState};
use liangma::person::{Assurance, Document, MaskedIdentity, MaskedName, ResidentId};
use liangma::seal::ring::RingFile;
use liangma::status::{Reason, Reasons, Word};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const ISSUER: u32 = 440_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const FIRST: u64 = 1_795_500_000_000;

#[derive(Default)]
struct Town(RefCell<BTreeMap<u64, Word>>);

impl OnRecord for Town {
    fn each(&self, each: &mut dyn FnMut(ResidentId, Word)) {
        for (id, word) in &*self.0.borrow() {
            each(ResidentId(*id), *word);
        }
    }

    fn has(&self, resident: ResidentId) -> bool {
        self.0.borrow().contains_key(&resident.0)
    }
}

impl Town {
    fn put(&self, residents: std::ops::Range<u64>, version: u64, red: u64) {
        let all = residents.map(|nth| {
            let reasons = match nth.is_multiple_of(red) {
                true => Reasons::NONE.with(Reason::CloseContact),
                false => Reasons::NONE,
            };
            (id(nth).0, Word::new(version, 7, reasons))
        });
        self.0.borrow_mut().extend(all);
    }
}

fn id(nth: u64) -> ResidentId {
    ResidentId((nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn code(keys: &OfflineKeys, list_id: ListId, issued_at: u64) -> String {
    let document = Document::parse("10", "440106199003077211", 20_261_128).expect("a document");
    let code = OfflineCode {
        key: 0,
        issuer: ISSUER,
        list_id,
        generation: 0,
        check: 7,
        issued_at: Time(issued_at),
        life_hours: 24,
        masked: MaskedIdentity {
            name: MaskedName::of("陈美玲"),
            cert_no: document.mask(),
            assurance: Assurance::RealName,
        },
    };
    code.sign(keys.signing.as_ref().expect("a whole ring"))
        .expect("the system gives random bytes")
}

/// What ours says of files in their order, and then of codes.
fn ours(keys: &OfflineKeys, now: u64, files: &[Vec<u8>], codes: &[String]) -> Vec<String> {
    let mut held = HeldLists::default();
    let mut said = Vec::new();
    // The readers for devices know one algorithm and one issuer.
    let keys_known = &keys.verifying;
    for file in files {
        let taken = match file.get(4) {
            Some(2) => {
                ListChanges::open(file, keys_known).map(|changes| held.take_changes(changes))
            }
            _ => BaseList::open(file[..].into(), keys_known).map(|base| held.take_base(base)),
        };
        said.push(match taken {
            Ok(Ok(())) => "taken",
            Ok(Err(_)) => "older",
            Err(_) => "bad",
        });
    }
    let mut said: Vec<String> = said.into_iter().map(str::to_owned).collect();
    for code in codes {
        let keys_of = |issuer| match issuer {
            ISSUER => &keys_known[..],
            _ => &[],
        };
        let opened = OfflineCode::open(code.to_ascii_uppercase().as_bytes(), keys_of);
        said.push(match opened {
            Err(CodeFault::Form | CodeFault::UnknownKey | CodeFault::Signature) => {
                "code_invalid fresh".to_owned()
            }
            Ok(code) => {
                let (state, stale) = match held.judge(&code, Time(now), &ListAges::default()) {
                    OfflineDecision::Colour { state, stale } => (state.word(), stale),
                    OfflineDecision::Void => {
                        // Whether the list is stale is no matter of a code that is void; readers say it all the same.
                        let age = now.saturating_sub(held.as_of().expect("a list").0);
                        ("void", age > 30 * MINUTE)
                    }
                    OfflineDecision::NotCovered => ("not_covered", false),
                    OfflineDecision::Expired => ("code_expired", false),
                    OfflineDecision::TooOld => ("too_old", false),
                    OfflineDecision::Clock => ("clock", false),
                };
                let stale = if stale { "stale" } else { "fresh" };
                let (name, number) = (code.masked.name.print(), code.masked.cert_no.print());
                format!("{state} {stale} {name} {number}")
            }
        });
    }
    said
}

/// The readers that can run here: their names, and the command that each is.
fn readers(folder: &Path) -> Vec<(&'static str, Vec<PathBuf>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = root.join("docs/integrate/examples");
    let mut readers = Vec::new();
    let built = folder.join("offline_gate");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .args([&built, &examples.join("offline_gate.c")])
        .arg("-lmbedcrypto")
        .output()
        .expect("a C compiler builds this project too");
    if compiled.status.success() {
        readers.push(("C", vec![built]));
    } else {
        let why = String::from_utf8_lossy(&compiled.stderr).into_owned();
        assert!(why.contains("mbedtls/"), "{why}");
        example_is_left_out("libmbedtls-dev");
    }
    let runs = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let ran = command.args(arguments).stdin(Stdio::null()).output();
        ran.is_ok_and(|output| output.status.success())
    };
    match runs("python3", &["-c", "import cryptography"]) {
        true => readers.push((
            "Python",
            vec!["python3".into(), examples.join("offline_gate.py")],
        )),
        false => example_is_left_out("python3 with cryptography"),
    }
    match runs(
        "node",
        &[
            "-e",
            "process.exit(globalThis.crypto && crypto.subtle ? 0 : 1)",
        ],
    ) {
        true => {
            let (gate, library) = (
                examples.join("offline_gate.js"),
                root.join("pages/offline-list.js"),
            );
            readers.push(("JavaScript", vec!["node".into(), gate, library]));
        }
        false => example_is_left_out("node with WebCrypto"),
    }
    readers
}

/// What it is about, the gate's clock, files in the order in which they are offered, and codes.
type Case<'c> = (&'c str, u64, Vec<Vec<u8>>, Vec<String>);

/// Runs each reader over the files and codes, and holds it against ours.
fn all_agree(keys: &OfflineKeys, cases: &[Case<'_>]) {
    let folder = folder();
    let readers = readers(folder.path());
    let jwks = folder.path().join("keys.json");
    std::fs::write(&jwks, &keys.jwks).expect("a folder of ours");
    for (what, now, files, codes) in cases {
        let wanted = ours(keys, *now, files, codes);
        let paths = files.iter().enumerate().map(|(nth, file)| {
            let path = folder.path().join(format!("{nth}.lml"));
            std::fs::write(&path, file).expect("a folder of ours");
            path
        });
        let paths: Vec<PathBuf> = paths.collect();
        for (name, command) in &readers {
            let mut child = Command::new(&command[0])
                .args(&command[1..])
                .arg(&jwks)
                .arg(now.to_string())
                .args(&paths)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("it ran before");
            let mut input = child.stdin.take().expect("piped");
            let lines = codes.join("\n") + "\n";
            let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
            let said = text(&child.wait_with_output().expect("it ends").stdout);
            writer.join().unwrap().expect("it reads all");
            let said: Vec<&str> = said.lines().collect();
            assert_eq!(said.len(), wanted.len(), "{name}, {what}");
            for (nth, (said, wanted)) in said.iter().zip(&wanted).enumerate() {
                assert_eq!(said, wanted, "{name}, {what}, line {nth}");
            }
        }
    }
}

#[test]
fn readers_for_devices_say_what_ours_says() {
    let keys = OfflineKeys::of(&RingFile::generate(Time(FIRST)), ISSUER).expect("keys");
    let town = Town::default();
    town.put(0..2_000, FIRST - 9, 20);
    let mut revoked = HashMap::from([(id(3).0, 0), (id(20).0, 2), (id(99_999).0, 0)]);
    let edition = |revoked: &HashMap<u64, u8>, so_far: &[BaseList], as_of, rebase| {
        let source = ListSource {
            keys: &keys,
            issuer: ISSUER,
            residents: &town,
            revoked,
            as_of: Time(as_of),
            life: Duration::from_secs(24 * 3_600),
            recent: u64::MAX,
        };
        publish(&source, so_far, rebase).expect("a list")
    };
    let open = |file: &[u8]| BaseList::open(file.into(), &keys.verifying).expect("a base");
    let one = edition(&revoked, &[], FIRST, true);
    let first = one.pairs[0].base.to_vec();
    // Some turn red, some green, some are new, some revoke.
    town.put(400..460, FIRST + 9, 3);
    town.put(2_000..2_040, FIRST + 9, 4);
    revoked.insert(id(5).0, 0);
    let two = edition(&revoked, &[open(&first)], FIRST + 10 * MINUTE, false);
    let three = edition(&revoked, &[open(&first)], FIRST + 20 * MINUTE, true);
    let (changes, second) = (two.pairs[0].changes.to_vec(), three.pairs[0].base.to_vec());
    let later = three.pairs[1].changes.to_vec();
    let new = three.pairs[0].changes.to_vec();
    let of = |nth, generation, at| code(&keys, keys.permutation.list_id(id(nth), generation), at);
    let mut codes: Vec<String> = (0..600).map(|nth| of(nth, 0, FIRST - HOUR)).collect();
    codes.extend((1_990..2_050).map(|nth| of(nth, 0, FIRST + MINUTE)));
    codes.extend((0..4).map(|generation| of(20, generation, FIRST - HOUR)));
    codes.push(of(3, 1, FIRST - HOUR));
    codes.push(of(99_999, 0, FIRST - HOUR));
    // Lower case is the same code; what was changed, cut or is another's is none.
    let good = codes[7].clone();
    codes.push(good.to_ascii_lowercase());
    codes.push(good[..153].to_owned());
    codes.push(format!("{}B", &good[..153]));
    for at in [0, 3, 9, 40, 120] {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'Q' } else { b'A' };
        codes.push(text(&changed));
    }
    codes.push("1".repeat(154));
    let other = OfflineKeys::of(&RingFile::generate(Time(FIRST)), ISSUER).expect("keys");
    codes.push(code(&other, ListId(1), FIRST - HOUR));
    let changed_at = |file: &[u8], at: usize| {
        let mut changed = file.to_vec();
        changed[at] ^= 0x10;
        changed
    };
    let few = codes[..40].to_vec();
    let now = FIRST + 21 * MINUTE;
    let cases = vec![
        ("a base alone", now, vec![first.clone()], codes.clone()),
        (
            "a base and its changes",
            now,
            vec![first.clone(), changes.clone()],
            codes.clone(),
        ),
        (
            "the base after",
            now,
            vec![first.clone(), changes.clone(), second.clone(), new.clone()],
            codes.clone(),
        ),
        (
            "the base before, with the newest changes",
            now,
            vec![first.clone(), later.clone()],
            codes.clone(),
        ),
        (
            "files that are older",
            now,
            vec![second.clone(), new, first.clone(), changes.clone()],
            few.clone(),
        ),
        (
            "changes that are older",
            now,
            vec![first.clone(), later.clone(), changes.clone()],
            few.clone(),
        ),
        (
            "changes of no base",
            now,
            vec![changes.clone(), first.clone()],
            few.clone(),
        ),
        (
            "changes of another base",
            now,
            vec![second, changes.clone()],
            few.clone(),
        ),
        (
            "files that were changed or cut",
            now,
            vec![
                first.clone(),
                changed_at(&first, 20),
                changed_at(&first, 100),
                changed_at(&first, first.len() - 3),
                first[..first.len() - 1].to_vec(),
                first[..90].to_vec(),
                Vec::new(),
                changed_at(&changes, 30),
                changed_at(&changes, 80),
                changes[..changes.len() - 8].to_vec(),
            ],
            few.clone(),
        ),
        ("no file", now, vec![], few.clone()),
        (
            "a list of half an hour",
            FIRST + 30 * MINUTE,
            vec![first.clone()],
            few.clone(),
        ),
        (
            "a stale list",
            FIRST + 31 * MINUTE,
            vec![first.clone()],
            few.clone(),
        ),
        (
            "a list of twelve hours",
            FIRST + 12 * HOUR,
            vec![first.clone()],
            few.clone(),
        ),
        (
            "a list that is too old",
            FIRST + 12 * HOUR + 1,
            vec![first.clone()],
            few.clone(),
        ),
        (
            "a code that is over",
            FIRST + 23 * HOUR,
            vec![first.clone()],
            few.clone(),
        ),
        (
            "a clock that is a little behind",
            FIRST - 5 * MINUTE,
            vec![first.clone()],
            few.clone(),
        ),
        (
            "a clock that was set back",
            FIRST - 5 * MINUTE - 1,
            vec![first],
            few,
        ),
    ];
    // The cases are not all the same.
    let mut said = Vec::new();
    for (_, now, files, codes) in &cases {
        said.extend(ours(&keys, *now, files, codes));
    }
    for word in [
        "taken",
        "older",
        "bad",
        "green fresh",
        "green stale",
        "red fresh",
        "red stale",
        "void",
        "not_covered",
        "code_expired",
        "too_old",
        "clock",
        "code_invalid",
    ] {
        assert!(said.iter().any(|line| line.starts_with(word)), "{word}");
    }
    all_agree(&keys, &cases);
}

#[test]
fn readers_for_devices_read_the_list_of_an_independent_builder() {
    let keys = OfflineKeys::of(&RingFile::generate(Time(FIRST)), ISSUER).expect("keys");
    // Its ribbons, signed by a key of ours, so that there are codes for it.
    let mut file = include_bytes!("offline/base-1m-1000.lml").to_vec();
    file.truncate(file.len() - 64);
    let signing = keys.signing.as_ref().expect("a whole ring");
    assert_eq!(file[6], signing.id);
    let signature = signing.sign(&file).expect("random bytes");
    file.extend_from_slice(&signature);
    let list = BaseList::open(file[..].into(), &keys.verifying).expect("a base");
    let as_of = list.head.as_of.0;
    let ids: serde_json::Value =
        serde_json::from_str(include_str!("offline/ids.json")).expect("JSON");
    let mut codes = Vec::new();
    for (group, ids) in ids.as_object().expect("groups of ids") {
        for id in ids.as_array().expect("ids").iter().take(250) {
            let id = ListId(u64::from_str_radix(id.as_str().expect("text"), 16).expect("hex"));
            let is_listed = list.state(id) != ListState::Green;
            assert_eq!(is_listed, group == "listed");
            codes.push(code(&keys, id, as_of - HOUR));
        }
    }
    // The same list signed otherwise is none that a device reads, and neither is one of a key that is not known.
    let others = [
        include_bytes!("offline/base-1m-1000.ed25519.lml").to_vec(),
        include_bytes!("offline/base-1m-1000.lml").to_vec(),
    ];
    let files = vec![others[0].clone(), others[1].clone(), file];
    let until = list.head.until.0;
    let now = (as_of + MINUTE).min(until);
    all_agree(&keys, &[("an independent list", now, files, codes)]);
}
