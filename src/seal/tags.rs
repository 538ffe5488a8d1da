//! Tags of statuses at rest, which reveal changes made in the store without the key ring.

use super::derivation;
use crate::person::ResidentId;
use arc_swap::ArcSwap;
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The tags of statuses, with the keys of the ring in force. All clones share one ring.
#[derive(Clone)]
pub struct StatusTags(Arc<ArcSwap<TagRing>>);

/// The tag keys of all keys of data at rest. A tag does not name its key: if the current one does not fit, the others are tried.
pub struct TagRing {
    current: TagKeys,
    others: Vec<TagKeys>,
}

/// The keys of the tags, each for its own kind of message.
struct TagKeys {
    /// Key of the tags of words. An id and a word are one AES block, which is a pseudo-random function of messages of fixed
    /// length. In large batches a block costs nanoseconds: a start reads every word.
    words: EncryptingKey,
    records: hmac::Key,
    changes: hmac::Key,
}

/// The key of the ring under which a tag was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagState {
    /// Under the key that seals now.
    Current,
    /// Under another key of the ring: a previous one, or the next of a node that is ahead.
    Other,
    /// Under none: the tag was made without this ring, or the data was changed.
    Foreign,
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

impl From<TagSecrets> for TagKeys {
    fn from(secrets: TagSecrets) -> TagKeys {
        let words = UnboundCipherKey::new(&AES_128, &secrets.words[..]);
        TagKeys {
            words: words
                .and_then(EncryptingKey::ecb)
                .expect("16 bytes are a key of AES-128"),
            records: hmac::Key::new(hmac::HMAC_SHA256, &secrets.records[..]),
            changes: hmac::Key::new(hmac::HMAC_SHA256, &secrets.changes[..]),
        }
    }
}

impl TagKeys {
    fn word(&self, id: ResidentId, bits: u64) -> u64 {
        let mut block = [0; BLOCK];
        self.fill_blocks(&[(id.0, bits)], &mut block);
        tag_in(&block)
    }

    fn fill_blocks(&self, rows: &[(u64, u64)], blocks: &mut [u8]) {
        for (block, (id, bits)) in blocks.chunks_exact_mut(BLOCK).zip(rows) {
            block[..8].copy_from_slice(&id.to_be_bytes());
            block[8..].copy_from_slice(&bits.to_be_bytes());
        }
        self.words
            .less_safe_encrypt(blocks, EncryptionContext::None)
            .expect("whole blocks can be encrypted");
    }
}

impl TagRing {
    /// Returns the ring of these secrets, each with whether it is the current one, which one of them is.
    pub fn new(secrets: impl Iterator<Item = (bool, TagSecrets)>) -> TagRing {
        let (mut current, mut others) = (None, Vec::new());
        for (is_current, secrets) in secrets {
            match is_current {
                true => current = Some(TagKeys::from(secrets)),
                false => others.push(TagKeys::from(secrets)),
            }
        }
        TagRing {
            current: current.expect("a ring was checked when it was read"),
            others,
        }
    }

    /// Returns under which key a tag was made; `fits` tells whether it was made under one.
    fn state(&self, fits: impl Fn(&TagKeys) -> bool) -> TagState {
        match fits(&self.current) {
            true => TagState::Current,
            false if self.others.iter().any(fits) => TagState::Other,
            false => TagState::Foreign,
        }
    }
}

/// What is held to tell which of many words fit, to be used again.
#[derive(Default)]
pub struct TagScratch {
    blocks: Vec<u8>,
    /// Whether each word fits.
    pub are_own: Vec<bool>,
}

impl StatusTags {
    /// Returns the tags of a ring.
    pub fn new(ring: Arc<TagRing>) -> StatusTags {
        StatusTags(Arc::new(ArcSwap::new(ring)))
    }

    /// Returns the tags of a ring whose one key of data at rest has this secret.
    pub fn of_secret(secret: &[u8; 32]) -> StatusTags {
        let secrets = TagSecrets::of(secret);
        StatusTags::new(Arc::new(TagRing::new([(true, secrets)].into_iter())))
    }

    /// Takes up another ring, for all that hold these tags.
    pub fn reload(&self, ring: Arc<TagRing>) {
        self.0.store(ring);
    }

    /// Returns the tag of one word at its id.
    pub fn word(&self, id: ResidentId, bits: u64) -> u64 {
        self.0.load().current.word(id, bits)
    }

    /// Returns under which key the tag of a word was made.
    pub fn word_state(&self, id: ResidentId, bits: u64, tag: u64) -> TagState {
        self.0.load().state(|keys| keys.word(id, bits) == tag)
    }

    /// Tells of each of these words, by its id and the tag beside it, whether it was tagged under a key of the ring.
    pub fn check_words(&self, rows: &[(u64, u64)], tags: &[u64], scratch: &mut TagScratch) {
        let ring = self.0.load();
        let TagScratch { blocks, are_own } = scratch;
        blocks.resize(rows.len() * BLOCK, 0);
        are_own.clear();
        are_own.resize(rows.len(), false);
        for keys in [&ring.current].into_iter().chain(&ring.others) {
            keys.fill_blocks(rows, blocks);
            let made = blocks.chunks_exact(BLOCK).map(tag_in);
            for (is_own, (made, tag)) in are_own.iter_mut().zip(made.zip(tags)) {
                *is_own |= made == *tag;
            }
            // The others cost nothing where the current key made them all.
            if are_own.iter().all(|is_own| *is_own) {
                break;
            }
        }
    }

    /// Returns the tag of a record at this id beside this word.
    pub fn record(&self, id: ResidentId, bits: u64, record: &[u8]) -> [u8; TAG_BYTES] {
        hash(&self.0.load().current.records, id, bits, record)
    }

    /// Returns under which key the tag of a record was made.
    pub fn record_state(
        &self,
        id: ResidentId,
        bits: u64,
        record: &[u8],
        tag: &[u8; TAG_BYTES],
    ) -> TagState {
        let ring = self.0.load();
        ring.state(|keys| hash(&keys.records, id, bits, record) == *tag)
    }

    /// Returns the tag of a change in a stream: the id, the new word, and its context.
    pub fn change(&self, id: ResidentId, bits: u64, ground: &[u8; 8]) -> [u8; TAG_BYTES] {
        hash(&self.0.load().current.changes, id, bits, ground)
    }

    /// Returns under which key the tag of a change was made.
    pub fn change_state(
        &self,
        id: ResidentId,
        bits: u64,
        ground: &[u8; 8],
        tag: &[u8],
    ) -> TagState {
        let ring = self.0.load();
        ring.state(|keys| hash(&keys.changes, id, bits, ground) == tag)
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

    fn of_two(current: u8, other: u8) -> StatusTags {
        let secrets = [(false, [other; 32]), (true, [current; 32])];
        let secrets = secrets.map(|(is_current, secret)| (is_current, TagSecrets::of(&secret)));
        StatusTags::new(Arc::new(TagRing::new(secrets.into_iter())))
    }

    #[test]
    fn a_tag_is_of_id_word_record_and_key() {
        let (tags, others) = (
            StatusTags::of_secret(&[1; 32]),
            StatusTags::of_secret(&[2; 32]),
        );
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
    fn a_tag_of_another_key_of_the_ring_is_told_from_one_of_no_key() {
        let id = ResidentId(5);
        let made = StatusTags::of_secret(&[1; 32]);
        let (word, record) = (made.word(id, 77), made.record(id, 77, b"record"));
        let change = made.change(id, 77, b"12345678");
        for (tags, expected) in [
            (of_two(1, 2), TagState::Current),
            (of_two(2, 1), TagState::Other),
            (of_two(2, 3), TagState::Foreign),
        ] {
            assert_eq!(tags.word_state(id, 77, word), expected);
            assert_eq!(tags.record_state(id, 77, b"record", &record), expected);
            assert_eq!(tags.change_state(id, 77, b"12345678", &change), expected);
            assert_eq!(tags.word_state(id, 78, word), TagState::Foreign);
            let mut scratch = TagScratch::default();
            tags.check_words(&[(5, 77)], &[word], &mut scratch);
            assert_eq!(scratch.are_own, [expected != TagState::Foreign]);
        }
        // A ring that is taken up later holds for every clone.
        let (tags, held) = {
            let tags = of_two(2, 3);
            (tags.clone(), tags)
        };
        let secrets = [(true, TagSecrets::of(&[1; 32]))];
        tags.reload(Arc::new(TagRing::new(secrets.into_iter())));
        assert_eq!(held.word_state(id, 77, word), TagState::Current);
    }

    #[test]
    fn many_words_are_each_told_as_one_is() {
        let (old, tags) = (StatusTags::of_secret(&[2; 32]), of_two(1, 2));
        let mut scratch = TagScratch::default();
        for count in [300, 0, 7] {
            let rows: Vec<(u64, u64)> = (0..count).map(|n| (n * n, n << 40 | 3)).collect();
            let made = rows.iter().map(|(id, bits)| match id % 3 {
                0 => tags.word(ResidentId(*id), *bits),
                1 => old.word(ResidentId(*id), *bits),
                _ => 7,
            });
            let made: Vec<u64> = made.collect();
            tags.check_words(&rows, &made, &mut scratch);
            let each = rows.iter().zip(&made).map(|((id, bits), tag)| {
                tags.word_state(ResidentId(*id), *bits, *tag) != TagState::Foreign
            });
            assert_eq!(scratch.are_own, each.collect::<Vec<bool>>());
            // Squares leave 0 or 1 when they are divided by three.
            let changed: Vec<u64> = made.iter().map(|tag| tag ^ 1).collect();
            tags.check_words(&rows, &changed, &mut scratch);
            assert!(scratch.are_own.iter().all(|is_own| !is_own));
        }
    }
}
