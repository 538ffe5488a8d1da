//! The scripts that run inside Redis, and the bytes that go in and come out. Pure, but for the sending.

use super::partition;
use crate::board::ChangeContext;
use crate::paper::Paper;
use crate::person::{Identity, ResidentId};
use crate::seal::tags::{StatusTags, TAG_BYTES};
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
pub static REMOVE: Script = script!("", "scripts/pile.lua", "scripts/remove.lua");
pub static LEASE: Script = script!("", "scripts/lease.lua");
pub static STATE: Script = script!(" flags=no-writes", "scripts/state.lua");

/// The layout of keys and values; another is refused.
pub const FORMAT: u64 = 4;

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

/// Returns home and claim of a change as [`pack`] makes it.
pub fn owner_in(change: &[u8]) -> &[u8] {
    &change[..24]
}

/// Whether a change as [`pack`] makes it is a paper, which meets no record.
pub fn is_paper(change: &[u8]) -> bool {
    change[26..28] == PAPER.to_be_bytes()
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

/// Bytes of a change: id, word, ground, and the tag of these.
const TOLD_BYTES: usize = 32;

/// Reads what `take.lua` answers and the stream's entries hold. Of the ground the first byte is the reasons, the rest the
/// version. Fails with `Damaged` at the first change that no node wrote.
pub fn told<'b>(
    bytes: &'b [u8],
    tags: &'b StatusTags,
) -> impl Iterator<Item = Result<ReportedChange, Error>> + use<'b> {
    let (rows, rest) = bytes.as_chunks::<TOLD_BYTES>();
    let whole = rest.is_empty();
    rows.iter()
        .map(move |row| {
            let (bits, context) = (eight(&row[8..16]), row[16..24].try_into().expect("8 of 32"));
            let id = ResidentId(eight(&row[..8]));
            if tags.change(id, bits, context) != row[24..] {
                return Err(Error::Damaged("a change that no node wrote"));
            }
            Ok(ReportedChange {
                id,
                word: word_of(bits)?,
                context: ChangeContext {
                    before: eight(context) & VERSION_MAX,
                    held: Reasons::from_bits(context[0]).ok_or(Error::Damaged("reasons"))?,
                },
            })
        })
        .chain((!whole).then_some(Err(Error::Damaged("a list of changes"))))
}

/// Bytes of an id, a word and the word's tag, as `read.lua` answers where words alone are wanted.
const WORD_ROW_BYTES: usize = 24;

/// Returns ids and words; None in the place of a word that no node wrote at this id.
pub fn words(bytes: &[u8], tags: &StatusTags) -> Result<Vec<(ResidentId, Option<Word>)>, Error> {
    let (rows, rest) = bytes.as_chunks::<WORD_ROW_BYTES>();
    if !rest.is_empty() {
        return Err(Error::Damaged("a list of words"));
    }
    let read: Vec<(u64, u64)> = rows
        .iter()
        .map(|row| (eight(&row[..8]), eight(&row[8..16])))
        .collect();
    let (mut blocks, mut own) = (Vec::new(), Vec::new());
    tags.words(&read, &mut blocks, &mut own);
    let all = rows.iter().zip(read).zip(own);
    Ok(all
        .map(|((row, (id, bits)), tag)| {
            let word = Word::from_bits(bits).filter(|_| eight(&row[16..]) == tag);
            (ResidentId(id), word)
        })
        .collect())
}

/// Returns the word at an id, as `word.lua` answers it: the word and its tag.
pub fn word(id: ResidentId, bytes: &[u8], tags: &StatusTags) -> Result<Word, Error> {
    let (bits, tag) = bytes.split_at_checked(8).ok_or(Error::Damaged("a word"))?;
    let bits = eight(bits);
    if tag != tags.word(id, bits).to_be_bytes() {
        return Err(Error::Damaged("a word that no node wrote"));
    }
    word_of(bits)
}

/// Reads a value of a bucket: word, tag of the word, tag of the record, record.
pub fn value(id: ResidentId, bytes: &[u8], tags: &StatusTags) -> Result<(Word, Record), Error> {
    let (bits, rest) = bytes
        .split_at_checked(8)
        .ok_or(Error::Damaged("a record"))?;
    let bits = eight(bits);
    let record = genuine(id, bits, rest, tags)?;
    Ok((
        word_of(bits)?,
        Record::from_bytes(record).ok_or(Error::Damaged("a record"))?,
    ))
}

/// Returns the record behind two tags, if some node wrote it at this id beside this word.
fn genuine<'b>(
    id: ResidentId,
    bits: u64,
    tagged: &'b [u8],
    tags: &StatusTags,
) -> Result<&'b [u8], Error> {
    let read = || {
        let (word_tag, rest) = tagged.split_first_chunk::<TAG_BYTES>()?;
        let (tag, record) = rest.split_first_chunk::<TAG_BYTES>()?;
        let is_own = u64::from_be_bytes(*word_tag) == tags.word(id, bits)
            && *tag == tags.record(id, bits, record);
        is_own.then_some(record)
    };
    read().ok_or(Error::Damaged("a record that no node wrote"))
}

/// Reads what `read.lua` answers where whole values are wanted: id, length and value of each.
pub fn values(
    mut bytes: &[u8],
    tags: &StatusTags,
) -> Result<Vec<(ResidentId, Word, Record)>, Error> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(12).ok_or(CUT)?;
        let length = u32::from_be_bytes(head[8..].try_into().expect("4 of 12"));
        let (one, rest) = rest.split_at_checked(length as usize).ok_or(CUT)?;
        let id = ResidentId(eight(&head[..8]));
        let (word, record) = value(id, one, tags)?;
        all.push((id, word, record));
        bytes = rest;
    }
    Ok(all)
}

/// What a call of `take.lua` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// All.
    All,
    /// Nothing yet: it made a plan.
    Planned,
    /// Nothing: others wrote meanwhile.
    Overtaken,
}

impl Done {
    pub fn from_number(number: u64) -> Result<Done, Error> {
        match number {
            0 => Ok(Done::All),
            1 => Ok(Done::Planned),
            2 => Ok(Done::Overtaken),
            _ => Err(Error::Damaged("a reply")),
        }
    }
}

/// What a node makes of a plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SealedPlan {
    /// Tags of what is to change, as `take.lua` takes them.
    pub tags: Vec<u8>,
    /// Numbers of changes that met a record which no node wrote.
    pub damaged: Vec<usize>,
}

/// Checks the records that `take.lua` read, and makes the tags of those that are to change.
pub fn seal_plan(mut rows: &[u8], tags: &StatusTags) -> Result<SealedPlan, Error> {
    const HEAD: usize = 2 + 1 + 8 + 8 + 4 + 8 + 8 + 4;
    let mut sealed = SealedPlan::default();
    while !rows.is_empty() {
        let (head, rest) = rows.split_first_chunk::<HEAD>().ok_or(CUT)?;
        let number = u16::from_be_bytes([head[0], head[1]]);
        let length = |at: usize| {
            let bytes = head[at..at + 4].try_into().expect("4 of the head");
            u32::from_be_bytes(bytes) as usize
        };
        let (old, rest) = rest.split_at_checked(length(19)).ok_or(CUT)?;
        let (new, rest) = rest.split_at_checked(length(39)).ok_or(CUT)?;
        rows = rest;
        let id = ResidentId(eight(&head[3..11]));
        if !old.is_empty() && genuine(id, eight(&head[11..19]), old, tags).is_err() {
            sealed.damaged.push(usize::from(number));
        }
        if head[2] == 1 {
            let bits = eight(&head[23..31]);
            let context = head[31..39].try_into().expect("8 of the head");
            sealed.tags.extend_from_slice(&head[3..19]);
            sealed.tags.extend_from_slice(&bits.to_be_bytes());
            let word_tag = tags.word(id, bits).to_be_bytes();
            sealed.tags.extend_from_slice(&word_tag);
            sealed.tags.extend_from_slice(&tags.record(id, bits, new));
            sealed
                .tags
                .extend_from_slice(&tags.change(id, bits, context));
        }
    }
    Ok(sealed)
}

const CUT: Error = Error::Damaged("a list of records");

fn word_of(bits: u64) -> Result<Word, Error> {
    Word::from_bits(bits).ok_or(Error::Damaged("a word"))
}

fn eight(bytes: &[u8]) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_upgrades_names_this_format() {
        let page = include_str!("../../../docs/operate/upgrade.md");
        assert!(page.contains(&format!("\n| Redis | {FORMAT} |")));
    }
}
