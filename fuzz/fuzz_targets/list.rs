//! Fuzzes status lists behind their signature: a publisher whose key is known, and whose files hold anything.
//! In: a byte that says which, and a file without its signature. Holds: no panic, and what is accepted answers for every id.

#![no_main]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use liangma::offline::list::{BaseList, ListChanges};
use liangma::offline::sign::SigningKey;
use liangma::offline::{ListId, ListState};
use libfuzzer_sys::fuzz_target;

/// A P-256 key of this run.
fn key() -> SigningKey {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    SigningKey::from_pkcs8(1, der.expect("random numbers").as_ref()).expect("a key of P-256")
}

thread_local! {
    static KEY: SigningKey = key();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, unsigned)) = bytes.split_first() else {
        return;
    };
    // A head begins with magic, kind, algorithm and key, which a fuzzer need not find.
    let mut file = unsigned.to_vec();
    let kind = which & 1;
    if let Some(head) = file.get_mut(..7) {
        head.copy_from_slice(&[b'L', b'M', b'L', b'1', 1 + kind, 1, 1]);
    }
    KEY.with(|key| {
        file.extend_from_slice(&key.sign(&file).expect("random numbers"));
        let keys = [key.verifying()];
        let ids = (0..64).map(|n: u64| ListId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        match kind {
            0 => {
                if let Ok(list) = BaseList::open(file.into(), &keys) {
                    for id in ids {
                        assert!(ListState::ALL.contains(&list.state(id)));
                    }
                }
            }
            _ => {
                if let Ok(list) = ListChanges::open(&file, &keys) {
                    assert!(list.counts().iter().sum::<usize>() * 8 <= file.len());
                    for id in ids {
                        let _ = list.state(id);
                    }
                }
            }
        }
    });
});
