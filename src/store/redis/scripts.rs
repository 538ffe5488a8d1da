//! The scripts that run inside Redis, and the bytes that go in and come out. Pure, but for the sending.

use super::partition;
use crate::board::ChangeContext;
use crate::paper::Paper;
use crate::person::{Identity, ResidentId};
use crate::status::{Reasons, VERSION_MAX, Word};
use crate::store::record::Record;
use crate::store::{ChangeKind, Error};
use std::sync::LazyLock;

macro_rules! script {
    ($flags:literal $(, $file:literal)+) => {
        LazyLock::new(|| {
            redis::Script::new(concat!(
                "#!lua",
                $flags,
                "\n",
                include_str!("scripts/bucket.lua"),
                $(include_str!($file)),+
            ))
        })
    };
}

pub type Script = LazyLock<redis::Script>;

pub static TAKE: Script = script!("", "scripts/pile.lua", "scripts/take.lua");
pub static FIND: Script = script!(" flags=no-writes", "scripts/find.lua");
pub static WORD: Script = script!(" flags=no-writes", "scripts/word.lua");
pub static READ: Script = script!(" flags=no-writes", "scripts/read.lua");
pub static PAPERS: Script = script!(" flags=no-writes", "scripts/pile.lua", "scripts/papers.lua");
pub static SWEEP: Script = script!("", "scripts/pile.lua", "scripts/sweep.lua");
/// A store that is out of memory is read too.
pub static RAISE: Script = script!(" flags=allow-oom", "scripts/raise.lua");
pub static LEASE: Script = script!("", "scripts/lease.lua");
pub static STATE: Script = script!(" flags=no-writes", "scripts/state.lua");

/// The layout of keys and values; another is refused.
pub const FORMAT: u64 = 2;

/// In the place of a standing's length: a paper follows, or everything of this owner goes.
const PAPER: u16 = 0xffff;
const ERASE: u16 = 0xfffe;
/// A standing follows that replaces the one of the same reason and source.
const OVERRIDE: u16 = 0xfffd;

/// A change as `take.lua` reads it.
pub fn pack(who: &Identity, what: &ChangeKind) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160);
    bytes.extend_from_slice(&owner(who));
    bytes.extend_from_slice(&who.check().to_be_bytes());
    let length = bytes.len();
    bytes.extend_from_slice(&[0; 2]);
    let assertion = match what {
        ChangeKind::Profile(profile) => {
            bytes.extend_from_slice(profile);
            0
        }
        ChangeKind::Status(assertion, profile) => {
            assertion.write(&mut bytes);
            let assertion = (bytes.len() - length - 2) as u16;
            bytes.extend_from_slice(profile);
            assertion
        }
        ChangeKind::Paper(paper) => {
            bytes.extend_from_slice(&paper.kind.most().to_be_bytes());
            bytes.extend_from_slice(&paper.key);
            paper.write(&mut bytes);
            PAPER
        }
        ChangeKind::Override(assertion) => {
            assertion.write(&mut bytes);
            OVERRIDE
        }
        ChangeKind::Erase => ERASE,
    };
    bytes[length..length + 2].copy_from_slice(&assertion.to_be_bytes());
    bytes
}

/// Home and claim, as scripts and the keys of papers have them.
pub fn owner(who: &Identity) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&who.home.0.to_be_bytes());
    bytes[8..].copy_from_slice(&who.claim);
    bytes
}

/// The owner whose papers are under this key.
pub fn owner_of(key: &[u8]) -> Option<Identity> {
    let (_, owner) = key.split_last_chunk::<24>()?;
    let (home, claim) = owner.split_first_chunk::<8>()?;
    Some(Identity {
        home: ResidentId(u64::from_be_bytes(*home)),
        claim: claim.try_into().expect("16 of 24"),
    })
}

/// What `papers.lua` answers: the keys, and their values.
pub fn papers((keys, values): (Vec<Vec<u8>>, Vec<Vec<u8>>)) -> Result<Vec<Paper>, Error> {
    let read = |(key, value): (Vec<u8>, Vec<u8>)| Paper::read(key.try_into().ok()?, &value);
    keys.into_iter()
        .zip(values)
        .map(|row| read(row).ok_or(Error::Damaged("a paper")))
        .collect()
}

/// A word, and what the store knew of the resident when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedChange {
    pub id: ResidentId,
    pub word: Word,
    pub context: ChangeContext,
}

/// What `take.lua` answers and the stream's entries hold: id, word and ground, 24 bytes each. Of the ground the first byte
/// is the reasons, the rest the version.
pub fn told(bytes: &[u8]) -> Result<Vec<ReportedChange>, Error> {
    let (rows, rest) = bytes.as_chunks::<24>();
    if !rest.is_empty() {
        return Err(Error::Damaged("a list of changes"));
    }
    rows.iter()
        .map(|row| {
            Ok(ReportedChange {
                id: ResidentId(eight(&row[..8])),
                word: word_of(eight(&row[8..16]))?,
                context: ChangeContext {
                    before: eight(&row[16..]) & VERSION_MAX,
                    held: Reasons::from_bits(row[16]).ok_or(Error::Damaged("reasons"))?,
                },
            })
        })
        .collect()
}

/// Ids and words, 16 bytes each, as `read.lua` answers where words alone are wanted.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = Result<(ResidentId, Word), Error>> {
    let (rows, rest) = bytes.as_chunks::<16>();
    let whole = rest.is_empty();
    rows.iter()
        .map(|row| {
            let (id, word) = row.split_at(8);
            Ok((ResidentId(eight(id)), word_of(eight(word))?))
        })
        .chain((!whole).then_some(Err(Error::Damaged("a list of words"))))
}

/// A value of a bucket: the word, and the record behind it.
pub fn value(bytes: &[u8]) -> Result<(Word, Record), Error> {
    let (word, record) = bytes
        .split_at_checked(8)
        .ok_or(Error::Damaged("a record"))?;
    Ok((
        word_of(eight(word))?,
        Record::from_bytes(record).ok_or(Error::Damaged("a record"))?,
    ))
}

/// What `read.lua` answers where whole values are wanted: id, length and value of each.
pub fn values(mut bytes: &[u8]) -> Result<Vec<(ResidentId, Word, Record)>, Error> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(12).ok_or(CUT)?;
        let length = u32::from_be_bytes(head[8..].try_into().expect("4 of 12"));
        let (one, rest) = rest.split_at_checked(length as usize).ok_or(CUT)?;
        let (word, record) = value(one)?;
        all.push((ResidentId(eight(&head[..8])), word, record));
        bytes = rest;
    }
    Ok(all)
}

const CUT: Error = Error::Damaged("a list of records");

pub fn word_of(bits: u64) -> Result<Word, Error> {
    Word::from_bits(bits).ok_or(Error::Damaged("a word"))
}

pub fn eight(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes were cut off"))
}

/// A partition as `state.lua` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// Random, from the first write on; empty before. Another one is another store.
    pub epoch: Vec<u8>,
    pub ring: Vec<u8>,
    pub format: u64,
    /// Entries ever written to the stream; each carries its own number.
    pub seq: u64,
    /// Bits of the id that choose a bucket, at least.
    pub depth: u32,
    /// Residents.
    pub count: u64,
    /// The newest entry of the stream.
    pub last: String,
    /// Whether the entry that was asked for is still there.
    pub held: bool,
    /// Whether it is not, although older ones are: it was written in another past.
    pub forked: bool,
    /// By the server's clock, in milliseconds.
    pub now: u64,
    /// The highest version that was given here, or that a board is known to know.
    pub top: u64,
    /// The highest version that is known to be on replicas.
    pub acked: u64,
}

impl PartitionState {
    pub async fn of(
        link: &mut redis::aio::MultiplexedConnection,
        partition: usize,
        entry: &str,
    ) -> Result<PartitionState, redis::RedisError> {
        let (epoch, ring, format, seq, depth, count, last, held, forked, now, top, acked) = STATE
            .key(partition::meta(partition))
            .arg(entry)
            .invoke_async(link)
            .await?;
        Ok(PartitionState {
            epoch,
            ring,
            format,
            seq,
            depth,
            count,
            last,
            held,
            forked,
            now,
            top,
            acked,
        })
    }
}
