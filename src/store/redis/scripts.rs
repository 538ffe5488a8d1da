//! The Lua scripts, the encoding of their arguments and replies, and the tags in these: checked when read, made for a plan. Pure
//! except for the calls.

use super::partition;
use crate::board::ChangeContext;
use crate::paper::Paper;
use crate::person::{Identity, ResidentId};
use crate::seal::tags::{StatusTags, TAG_BYTES, TagScratch, TagState};
use crate::status::{Reasons, VERSION_MAX, Word};
use crate::store::change::ChangeKind;
use crate::store::error::Error;
use crate::store::record::Record;
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
pub static RESEAL: Script = script!("", "scripts/reseal.lua");
pub static RESEAL_PAPERS: Script = script!("", "scripts/pile.lua", "scripts/reseal_papers.lua");
/// Runs even if the server is out of memory, because such a store is still read.
pub static RAISE: Script = script!(" flags=allow-oom", "scripts/raise.lua");
pub static REMOVE: Script = script!("", "scripts/pile.lua", "scripts/remove.lua");
pub static LEASE: Script = script!("", "scripts/lease.lua");
pub static STATE: Script = script!(" flags=no-writes", "scripts/state.lua");

/// Number of the layout of keys and values. A store with another number is refused.
pub const FORMAT: u64 = 5;

/// Largest depth of a partition, as in `take.lua`.
const DEPTH_MAX: u32 = 27;

/// Marker in place of an assertion's length: a paper follows, or an erasure.
const PAPER: u16 = 0xffff;
const ERASE: u16 = 0xfffe;
/// Marker: an assertion follows that replaces the one of the same reason and source.
const OVERRIDE: u16 = 0xfffd;

/// Returns the encoding of a change for `take.lua`.
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

/// Returns home and claim, as scripts and keys of papers have them.
pub fn owner(who: &Identity) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&who.home.0.to_be_bytes());
    bytes[8..].copy_from_slice(&who.claim);
    bytes
}

/// Returns home and claim of an encoded change.
pub fn owner_in(change: &[u8]) -> &[u8] {
    &change[..24]
}

/// Returns whether an encoded change is a paper, which needs no record.
pub fn is_paper(change: &[u8]) -> bool {
    change[26..28] == PAPER.to_be_bytes()
}

/// Returns the owner of the papers under a key; None for another key.
pub fn owner_of(key: &[u8]) -> Option<Identity> {
    let (_, owner) = key.split_last_chunk::<24>()?;
    let (home, claim) = owner.split_first_chunk::<8>()?;
    Some(Identity {
        home: ResidentId(u64::from_be_bytes(*home)),
        claim: claim.try_into().expect("16 of 24"),
    })
}

/// Parses the reply of `papers.lua`: keys and values. `Damaged` if they do not match.
pub fn papers((keys, values): (Vec<Vec<u8>>, Vec<Vec<u8>>)) -> Result<Vec<Paper>, Error> {
    let read = |(key, value): (Vec<u8>, Vec<u8>)| Paper::read(key.try_into().ok()?, &value);
    keys.into_iter()
        .zip(values)
        .map(|row| read(row).ok_or(Error::Damaged("a paper")))
        .collect()
}

/// A word, and what the store knew of the resident before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedChange {
    pub id: ResidentId,
    pub word: Word,
    pub context: ChangeContext,
}

/// Length of a reported change: id, word, context, and their tag.
const TOLD_BYTES: usize = 32;

/// Parses the reply of `take.lua` and the entries of the stream. The first byte of the context holds the reasons, the rest the
/// version. Yields `Damaged` at the first change that no node wrote.
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
            if tags.change_state(id, bits, context, &row[24..]) == TagState::Foreign {
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

/// Length of an id, a word and its tag in replies of `read.lua` with words only.
const WORD_ROW_BYTES: usize = 24;

/// Parses ids and words; None in place of a word that no node wrote at its id.
pub fn words(bytes: &[u8], tags: &StatusTags) -> Result<Vec<(ResidentId, Option<Word>)>, Error> {
    let (rows, rest) = bytes.as_chunks::<WORD_ROW_BYTES>();
    if !rest.is_empty() {
        return Err(Error::Damaged("a list of words"));
    }
    let read: Vec<(u64, u64)> = rows
        .iter()
        .map(|row| (eight(&row[..8]), eight(&row[8..16])))
        .collect();
    let told: Vec<u64> = rows.iter().map(|row| eight(&row[16..])).collect();
    let mut scratch = TagScratch::default();
    tags.check_words(&read, &told, &mut scratch);
    let all = read.into_iter().zip(scratch.are_own);
    Ok(all
        .map(|((id, bits), is_own)| {
            let word = Word::from_bits(bits).filter(|_| is_own);
            (ResidentId(id), word)
        })
        .collect())
}

/// Parses the reply of `word.lua`: a word and its tag. `Damaged` if the tag is wrong.
pub fn word(id: ResidentId, bytes: &[u8], tags: &StatusTags) -> Result<Word, Error> {
    let (bits, tag) = bytes.split_at_checked(8).ok_or(Error::Damaged("a word"))?;
    let bits = eight(bits);
    let tag = tag.try_into().map_err(|_| Error::Damaged("a word"))?;
    if tags.word_state(id, bits, u64::from_be_bytes(tag)) == TagState::Foreign {
        return Err(Error::Damaged("a word that no node wrote"));
    }
    word_of(bits)
}

/// Parses a value of a bucket: word, tag of the word, tag of the record, record. `Damaged` if a tag is wrong.
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

/// Returns the record after two tags; `Damaged` if no node wrote it at this id beside this word.
fn genuine<'b>(
    id: ResidentId,
    bits: u64,
    tagged: &'b [u8],
    tags: &StatusTags,
) -> Result<&'b [u8], Error> {
    let read = || {
        let (word_tag, rest) = tagged.split_first_chunk::<TAG_BYTES>()?;
        let (tag, record) = rest.split_first_chunk::<TAG_BYTES>()?;
        let word_tag = u64::from_be_bytes(*word_tag);
        let is_own = tags.word_state(id, bits, word_tag) != TagState::Foreign
            && tags.record_state(id, bits, record, tag) != TagState::Foreign;
        is_own.then_some(record)
    };
    read().ok_or(Error::Damaged("a record that no node wrote"))
}

/// A value of a bucket: its id and contents, or an error if no node wrote it.
pub type ReadValue = (ResidentId, Result<(Word, Record), Error>);

/// Parses the reply of `read.lua` with whole values: id, length and value of each.
pub fn values(bytes: &[u8], tags: &StatusTags) -> Result<Vec<ReadValue>, Error> {
    let read = |(id, one)| (id, value(id, one, tags));
    Ok(rows(bytes)?.into_iter().map(read).collect())
}

/// Parses the same reply, and leaves each value as it lies in the store.
pub fn rows(mut bytes: &[u8]) -> Result<Vec<(ResidentId, &[u8])>, Error> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(12).ok_or(CUT)?;
        let length = u32::from_be_bytes(head[8..].try_into().expect("4 of 12"));
        let (one, rest) = rest.split_at_checked(length as usize).ok_or(CUT)?;
        all.push((ResidentId(eight(&head[..8])), one));
        bytes = rest;
    }
    Ok(all)
}

/// Result of a call of `take.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Everything was done.
    All,
    /// Nothing was done yet; the call returned a plan.
    Planned,
    /// Nothing was done because other nodes wrote meanwhile.
    Overtaken,
    /// Nothing was done because the record or a paper of the change with this number cannot be parsed.
    Met(usize),
}

impl Done {
    /// Parses the result; `rest` is the last part of the script's reply.
    pub fn from_number(number: u64, rest: &[u8]) -> Result<Done, Error> {
        match (number, rest) {
            (0, _) => Ok(Done::All),
            (1, _) => Ok(Done::Planned),
            (2, _) => Ok(Done::Overtaken),
            (3, [high, low]) => Ok(Done::Met(u16::from_be_bytes([*high, *low]).into())),
            _ => Err(Error::Damaged("a reply")),
        }
    }
}

/// A plan with its tags.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SealedPlan {
    /// Tags of the new values, as `take.lua` takes them.
    pub tags: Vec<u8>,
    /// Indexes of changes whose record is damaged.
    pub damaged: Vec<usize>,
}

/// Checks the records that `take.lua` read, and makes the tags of the new ones.
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
            // What is read by the second call must be what was read for this plan, tags and all.
            let before = old.get(..2 * TAG_BYTES).unwrap_or(&[0; 2 * TAG_BYTES]);
            sealed.tags.extend_from_slice(before);
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

/// State of a partition from `state.lua`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// The epoch: random since the first write, empty before. Another epoch means another store.
    pub epoch: Vec<u8>,
    pub ring: Vec<u8>,
    pub format: u64,
    /// Number of entries ever written to the stream. Each entry has its own number.
    pub seq: u64,
    /// Number of bits of an id that choose a bucket, at least.
    pub depth: u32,
    /// Number of residents.
    pub count: u64,
    /// Id of the newest entry.
    pub last: String,
    /// Whether the stream still has the requested entry.
    pub held: bool,
    /// Whether the stream has older entries, but not the requested one, which then belongs to another history.
    pub forked: bool,
    /// Time of the server's clock, in milliseconds since 1970.
    pub now: u64,
    /// Highest version that was given here, or that a board is known to have.
    pub top: u64,
    /// Highest version that replicas are known to have.
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
        if depth > DEPTH_MAX {
            return Err(redis::RedisError::from((
                redis::ErrorKind::UnexpectedReturnType,
                "the depth of a partition is not as it was written",
            )));
        }
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
