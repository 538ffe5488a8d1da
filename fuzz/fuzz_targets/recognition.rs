//! Fuzzes what other issuers make: their codes, lists of their keys, trust files, and what their services answer.
//! In: a code as it is read, or a byte that says which, and the bytes. Holds: no panic, and nothing that nobody signed is believed.

#![no_main]

use liangma::clock::Time;
use liangma::exchange::dialect::{VerdictAges, read_verdict};
use liangma::offline::code::OfflineCode;
use liangma::recognition::ForeignFormat;
use liangma::recognition::bounds::{cbor_is_bounded, json_is_bounded, shown};
use liangma::recognition::import::{ListForm, import};
use liangma::recognition::trust::{self, TrustList};
use liangma::seal::Seal;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::time::Duration;

const NOW: Time = Time(1_790_000_000_000);

const AGES: VerdictAges = VerdictAges {
    stale_after: Duration::from_secs(2),
    too_old_after: Duration::from_secs(30),
    clock_ahead_max: Duration::from_secs(5),
};

fuzz_target!(|bytes: &[u8]| {
    if let Some(format) = ForeignFormat::told_apart(bytes) {
        let list = TrustList::default();
        for now in [None, Some((NOW, Duration::from_secs(2)))] {
            assert!(list.open(format, bytes, now).is_err());
        }
        return;
    }
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 6 {
        0 => {
            let _ = (OfflineCode::issuer_named(bytes), Seal::issuer_named(bytes));
        }
        1 => {
            let _ = (cbor_is_bounded(bytes), json_is_bounded(bytes));
        }
        2 => {
            for (_, form) in ListForm::ALL {
                if let Ok(imported) = import(form, bytes, None, "", NOW) {
                    assert!(!imported.is_signed);
                    assert!(imported.file.keys.iter().all(|key| key.public().is_some()));
                }
            }
        }
        3 => {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = trust::parse(text, Path::new("/nowhere"));
                assert!(shown(text).chars().count() <= 80);
            }
        }
        4 => {
            // A publisher's key that is none, and a list that nobody signed.
            assert!(import(ListForm::Covpass, bytes, Some(bytes), "", NOW).is_err());
        }
        _ => {
            if let Ok(Ok(told)) = read_verdict(bytes, 820_000, "x", AGES, NOW) {
                let words = [("green", "00"), ("yellow", "01"), ("red", "10")];
                let word = words.iter().find(|(state, _)| *state == told.state);
                assert_eq!(word.map(|(_, status)| *status), told.status);
            }
        }
    }
});
