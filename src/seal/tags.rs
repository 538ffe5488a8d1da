//! Tags of statuses at rest, which reveal changes made in the store without the key ring.

use super::derivation;
use crate::person::ResidentId;
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The keys of the tags, one for each kind of message.
#[derive(Clone)]
pub struct StatusTags(Arc<TagKeys>);

struct TagKeys {
    /// Key of the tags of words. An id and a word are one AES block, which is a pseudo-random function of messages of fixed
    /// length. In large batches a block costs nanoseconds: a start reads every word.
    words: EncryptingKey,
    records: hmac::Key,
    changes: hmac::Key,
}

/// Length of a tag in bytes.
pub const TAG_BYTES: usize = 8;

/// Length of an id and a word in bytes.
const BLOCK: usize = 16;

/// The bytes of the keys.
pub struct TagSecrets {
    /// The key of tags over status words.
    pub words: Zeroizing<[u8; 16]>,
    /// The key of tags over records.
    pub records: Zeroizing<[u8; 32]>,
    /// The key of tags over entries of the stream.
    pub changes: Zeroizing<[u8; 32]>,
}

impl TagSecrets {
    /// Derives the keys from the secret of data at rest.
    pub fn of(secret: &[u8; 32]) -> TagSecrets {
        let fill = |purpose: &[u8], key: &mut [u8]| derivation::fill(secret, purpose, key);
        let mut secrets = TagSecrets {
            words: Zeroizing::new([0; 16]),
            records: Zeroizing::new([0; 32]),
            changes: Zeroizing::new([0; 32]),
        };
        fill(b"liangma tag of words 1", &mut secrets.words[..]);
        fill(b"liangma tag of records 1", &mut secrets.records[..]);
        fill(b"liangma tag of changes 1", &mut secrets.changes[..]);
        secrets
    }
}

impl From<TagSecrets> for StatusTags {
    fn from(secrets: TagSecrets) -> StatusTags {
        let words = UnboundCipherKey::new(&AES_128, &secrets.words[..]);
        StatusTags(Arc::new(TagKeys {
            words: words
                .and_then(EncryptingKey::ecb)
                .expect("16 bytes are a key of AES-128"),
            records: hmac::Key::new(hmac::HMAC_SHA256, &secrets.records[..]),
            changes: hmac::Key::new(hmac::HMAC_SHA256, &secrets.changes[..]),
        }))
    }
}

impl StatusTags {
    /// Returns the tag keys of a store for a ring's secret of data at rest.
    pub fn new(secret: &[u8; 32]) -> StatusTags {
        StatusTags::from(TagSecrets::of(secret))
    }

    /// Returns the tag of a word at its id.
    pub fn word(&self, id: ResidentId, bits: u64) -> u64 {
        let mut block = [0; BLOCK];
        self.fill_blocks([(id.0, bits)].iter(), &mut block);
        tag_in(&block)
    }

    /// Writes the tags of words at their ids into `tags`; `blocks` is a buffer to reuse.
    pub fn words(&self, rows: &[(u64, u64)], blocks: &mut Vec<u8>, tags: &mut Vec<u64>) {
        blocks.resize(rows.len() * BLOCK, 0);
        self.fill_blocks(rows.iter(), blocks);
        tags.clear();
        tags.extend(blocks.chunks_exact(BLOCK).map(tag_in));
    }

    fn fill_blocks<'r>(&self, rows: impl Iterator<Item = &'r (u64, u64)>, blocks: &mut [u8]) {
        for (block, (id, bits)) in blocks.chunks_exact_mut(BLOCK).zip(rows) {
            block[..8].copy_from_slice(&id.to_be_bytes());
            block[8..].copy_from_slice(&bits.to_be_bytes());
        }
        self.0
            .words
            .less_safe_encrypt(blocks, EncryptionContext::None)
            .expect("whole blocks can be encrypted");
    }

    /// Returns the tag of a record at this id beside this word.
    pub fn record(&self, id: ResidentId, bits: u64, record: &[u8]) -> [u8; TAG_BYTES] {
        hash(&self.0.records, id, bits, record)
    }

    /// Returns the tag of a change in a stream: the id, the new word, and its context.
    pub fn change(&self, id: ResidentId, bits: u64, ground: &[u8; 8]) -> [u8; TAG_BYTES] {
        hash(&self.0.changes, id, bits, ground)
    }
}

fn hash(key: &hmac::Key, id: ResidentId, bits: u64, rest: &[u8]) -> [u8; TAG_BYTES] {
    let mut context = hmac::Context::with_key(key);
    context.update(&id.0.to_be_bytes());
    context.update(&bits.to_be_bytes());
    context.update(rest);
    let tag = context.sign();
    tag.as_ref()[..TAG_BYTES].try_into().expect("8 of 32")
}

fn tag_in(block: &[u8]) -> u64 {
    u64::from_be_bytes(block[..8].try_into().expect("8 of 16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_of_id_word_record_and_key() {
        let (tags, others) = (StatusTags::new(&[1; 32]), StatusTags::new(&[2; 32]));
        let id = ResidentId(5);
        let word = tags.word(id, 77);
        assert_eq!(word, tags.word(id, 77));
        for other in [
            tags.word(ResidentId(4), 77),
            tags.word(id, 76),
            others.word(id, 77),
        ] {
            assert_ne!(word, other);
        }
        let record = tags.record(id, 77, b"12345678");
        assert_ne!(record, tags.change(id, 77, b"12345678"));
        let record = tags.record(id, 77, b"record");
        assert_eq!(record, tags.record(id, 77, b"record"));
        for other in [
            tags.record(ResidentId(4), 77, b"record"),
            tags.record(id, 76, b"record"),
            tags.record(id, 77, b"recore"),
            others.record(id, 77, b"record"),
        ] {
            assert_ne!(record, other);
        }
    }

    #[test]
    fn many_words_get_the_tags_that_each_gets() {
        let tags = StatusTags::new(&[1; 32]);
        let (mut blocks, mut all) = (vec![9; 3], vec![4]);
        for count in [300, 0, 7] {
            let rows: Vec<(u64, u64)> = (0..count).map(|n| (n * n, n << 40 | 3)).collect();
            tags.words(&rows, &mut blocks, &mut all);
            let each = rows
                .iter()
                .map(|(id, bits)| tags.word(ResidentId(*id), *bits));
            assert_eq!(all, each.collect::<Vec<u64>>());
        }
    }
}
