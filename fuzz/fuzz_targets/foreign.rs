//! Fuzzes what others make: the identity platform's keys and assertions, offline codes and lists, guidance files, grants.
//! In: a byte that says which, and the bytes. Holds: no panic, and nothing that we or the platform did not sign is believed.

#![no_main]

use liangma::clock::Time;
use liangma::desk::guidance::Guidance;
use liangma::identity::{AssertionPurpose, Platform, Settings};
use liangma::offline::code::OfflineCode;
use liangma::offline::list::{BaseList, ListChanges};
use liangma::seal::Seal;
use liangma::seal::ring::RingFile;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::time::Duration;

const NOW: Time = Time(1_790_000_000_000);

thread_local! {
    static SEAL: Seal = Seal::new(
        &RingFile::generate(NOW),
        liangma::seal::Settings {
            code_life: Duration::from_secs(60),
            clock_skew: Duration::from_secs(2),
            issuer: None,
        },
    );
}

/// A file of this process with these bytes.
fn file(bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("liangma-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("the folder of temporary files takes one");
    path
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 5 {
        0 => {
            // Keys, a line end, and an assertion by them.
            let cut = bytes.iter().rposition(|byte| *byte == b'\n');
            let (keys, assertion) = bytes.split_at(cut.unwrap_or(bytes.len()));
            let settings = Settings {
                jwks: Some(file(keys)),
                issuer: "https://id.example".to_owned(),
                audience: "liangma".to_owned(),
            };
            if let Ok(platform) = Platform::read(settings) {
                assert!(platform.is_known());
                let text = std::str::from_utf8(assertion).unwrap_or_default().trim();
                for purpose in [AssertionPurpose::LogIn, AssertionPurpose::Family] {
                    let _ = platform.person(text, purpose, NOW);
                }
            }
        }
        1 => assert!(OfflineCode::open(bytes, |_| &[]).is_err()),
        2 => {
            assert!(BaseList::open(bytes.into(), &[]).is_err());
            assert!(ListChanges::open(bytes, &[]).is_err());
        }
        3 => {
            if let Ok((guidance, _)) = Guidance::read(&file(bytes)) {
                drop(guidance);
            }
        }
        _ => SEAL.with(|seal| assert!(seal.open_grant(bytes, 7, NOW).is_err())),
    }
});
