//! Fuzzes what is read back from a store, a disk or an operator: records, papers, profiles, addresses of stores, settings.
//! In: a byte that says which, and the bytes. Holds: no panic, and what is read is printed and read again as it was.

#![no_main]

use liangma::config::{RawSettings, parse_duration};
use liangma::paper::Paper;
use liangma::person::Profile;
use liangma::store::record::Record;
use liangma::store::redis::url::{StoreLocation, StoreUrl, meant};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match which % 6 {
        0 => {
            if let Some(record) = Record::from_bytes(bytes) {
                assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
            }
        }
        1 => {
            if let Some(paper) = Paper::read([7; 16], bytes) {
                assert_eq!(Paper::read(paper.key, &paper.value()), Some(paper));
            }
        }
        2 => {
            if let Some(profile) = Profile::from_bytes(bytes) {
                let mut again = Vec::new();
                profile.write(&mut again);
                assert_eq!(Profile::from_bytes(&again), Some(profile));
            }
        }
        3 => match meant(text) {
            Ok(StoreLocation::Address(place)) => {
                let printed = StoreUrl::parse(&place.to_string()).expect("an address of ours");
                assert_eq!((printed.hosts, printed.tls), (place.hosts, place.tls));
            }
            Ok(StoreLocation::Directory) => assert!(!text.contains("://")),
            // A password must not come back in what is said of an address.
            Err(why) => assert!(!why.contains("hush") || !text.contains("://")),
        },
        4 => RawSettings::default().load_text(text, "fuzz"),
        _ => {
            let _ = parse_duration(text);
        }
    }
});
