//! Fuzzes what an authority's feed is made of: bytes cut into lines, lines read as events.
//! In: a body, and in its last byte how it comes in. Holds: no panic, and whatever is accepted reads back the same.

#![no_main]

use liangma::feed::{self, Event, LINE_BYTES_MAX, Rejection};
use liangma::lines::LineSplitter;
use liangma::paper::Paper;
use liangma::person::{CertType, Document, MaskedName, Profile};
use liangma::store::ChangeKind;
use liangma::store::record::Record;
use libfuzzer_sys::fuzz_target;

const TODAY: u32 = 20_261_123;

/// A line, or None where it was too long.
type Cut = (u64, Option<Vec<u8>>);

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, body)) = bytes.split_last() else {
        return;
    };
    // A small bound, so that bodies of a fuzzer's size hold lines that are too long.
    for bytes_max in [usize::from(how >> 3), LINE_BYTES_MAX] {
        let piece = usize::from(how & 7) + 1;
        let whole = cut(bytes_max, [body]);
        assert_eq!(whole, cut_plainly(bytes_max, body), "against the plain way");
        assert_eq!(whole, cut(bytes_max, body.chunks(piece)), "in pieces");
    }
    for (_, line) in cut(LINE_BYTES_MAX, [body]) {
        read(&line.unwrap_or_default());
    }
});

fn cut<'b>(bytes_max: usize, pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<Cut> {
    let mut lines = LineSplitter::new(bytes_max);
    let mut all = Vec::new();
    let mut each = |nth, line: Option<&[u8]>| all.push((nth, line.map(<[u8]>::to_vec)));
    for piece in pieces {
        lines.push(piece, &mut each);
    }
    lines.finish(&mut each);
    all
}

/// What a line is, said without pieces and bounds of memory.
fn cut_plainly(bytes_max: usize, body: &[u8]) -> Vec<Cut> {
    // A byte order mark is no part of the first line.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut lines: Vec<&[u8]> = body.split(|b| *b == b'\n').collect();
    // What follows the last end is a line only if it holds something.
    lines.pop_if(|last| last.is_empty());
    (1..)
        .zip(lines)
        .map(|(nth, line)| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (nth, (line.len() <= bytes_max).then(|| line.to_vec()))
        })
        .collect()
}

fn read(line: &[u8]) {
    match feed::parse(line, TODAY) {
        Ok(Event::Resident(profile)) => {
            assert!(profile.name.is_some());
            check(&profile);
        }
        Ok(Event::Status(standing, profile)) => {
            assert!(profile.name.is_none(), "a status names nobody");
            check(&profile);
            let record = Record::first(
                [7; 16],
                ChangeKind::Status(standing, bytes_of(&profile).into_boxed_slice()),
            )
            .expect("a status makes a record");
            assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        }
        Ok(Event::Notice(standing, profile, _)) => {
            assert!(!standing.active && profile.name.is_none());
            check(&profile);
        }
        // An erased person has no profile to write again. The proof is checked after parsing.
        Ok(Event::Health(..) | Event::Erased(..)) => {}
        Ok(Event::Paper(_, paper)) => {
            assert_eq!(Paper::read(paper.key, &paper.value()), Some(paper));
        }
        Err(why) => {
            let named =
                Rejection::of_answer(why.code(), &why.detail()).expect("a code of the contract");
            assert_eq!(named.code(), why.code());
            assert!(!why.detail().is_empty());
        }
    }
}

fn bytes_of(profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    profile.write(&mut bytes);
    bytes
}

/// What was accepted once is accepted again, and rests without loss.
fn check(profile: &Profile) {
    let document = &profile.document;
    let again = match document.cert_type() {
        CertType::Registration => Document::registration(document.number()),
        cert_type => Document::parse(cert_type.code(), document.number(), TODAY),
    };
    assert_eq!(again.as_ref(), Ok(document));
    assert_eq!(
        Profile::from_bytes(&bytes_of(profile)).as_ref(),
        Some(profile)
    );
    assert_eq!(document.mask().print().len(), document.number().len());
    let name = profile.name.as_deref().unwrap_or_default();
    // The stars of a mask are counted; its first character is the name's.
    let masked = MaskedName::of(name).print();
    assert_eq!(masked.chars().count(), name.chars().count());
    assert_eq!(masked.chars().next(), name.chars().next());
}
