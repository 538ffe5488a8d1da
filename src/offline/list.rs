//! The format of a status list's signed files: the base, and the changes since.
//! A base is made of two ribbon filters over all residents on record.
//!
//! A base tells of each id whether it is listed, that is, not green. The first ribbon accepts all listed ids and one other id
//! in 2^k; the second tells these apart. Planes hold the state of a listed id.

use super::ids::{ListId, ListState};
use super::ribbon::{COLUMN_BITS_MAX, Equation, System, column_bytes};
use super::sign::{SIGNATURE_BYTES, SignatureAlgorithm, SigningKey, VerifyingKey};
use crate::clock::Time;

const MAGIC: &[u8; 4] = b"LML1";
const KIND_BASE: u8 = 1;
const KIND_CHANGES: u8 = 2;

/// Length of the head of both files.
const HEAD_BYTES: usize = 64;

/// Places of the first ribbon and of the others, for each id.
const FIRST_FACTORS: [f64; 5] = [1.03, 1.04, 1.05, 1.06, 1.08];
const SECOND_FACTOR: f64 = 1.06;

/// Number of listed ids from which more than one factor is tried: a ribbon of fewer is seldom too full anywhere.
const LISTED_MANY: usize = 200_000;

/// Ids by which the share that passes the first ribbon is measured.
const MEASURED: u32 = 1 << 18;

/// Largest number of columns of the first ribbon: `floor(log2(2^32)) + 1`.
const COLUMNS_MAX: u32 = 32;

/// Seed of the first ribbon. Its equations are homogeneous, so no seed can contradict.
const FIRST_SEED: u32 = 1;

/// Seeds that are tried before the build fails. With these sizes the first one nearly always works.
const SEEDS_MAX: u32 = 64;

/// Largest size of a file: 36 columns of 2^26 bits, and the head.
pub const FILE_BYTES_MAX: usize = 36 * (COLUMN_BITS_MAX as usize / 8) + 4096;

/// Why a file is not accepted. Such a file replaces nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum FileFault {
    #[error("the file is not a status list of this version")]
    Form,
    #[error("the length of the file does not match its head")]
    Length,
    #[error("no known key of the issuer has the key id in the file")]
    UnknownKey,
    #[error("the signature of the file is wrong")]
    Signature,
}

/// Fields that the heads of both files have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListHead {
    /// The issuer: a division of GB/T 2260 as a number.
    pub issuer: u32,
    /// Number of the base. Numbers rise and never repeat.
    pub number: u64,
    /// Time up to which all acknowledged changes are in the file.
    pub as_of: Time,
    /// Time after which the file must not be used, whatever the gate's settings say.
    pub until: Time,
    /// Number of residents on record at `as_of`.
    pub residents: u32,
}

/// A ribbon in a file: its columns are stored one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ribbon {
    /// Offset of the first column in the file.
    at: usize,
    span: u32,
    seed: u32,
    columns: u32,
}

impl Ribbon {
    fn bytes(&self) -> usize {
        match self.span {
            0 => 0,
            span => self.columns as usize * column_bytes(span),
        }
    }

    /// Returns the first ribbon of a base, whose columns begin at `at` bytes; without a span it has none.
    fn first(at: usize, span: u32, columns: u32) -> Ribbon {
        Ribbon {
            at,
            span,
            seed: FIRST_SEED,
            columns: if span == 0 { 0 } else { columns },
        }
    }

    /// Returns the results of the columns for an id as bits, the first column lowest.
    fn bits(&self, file: &[u8], id: ListId) -> u32 {
        let equation = Equation::of(id, self.seed, self.span);
        let length = column_bytes(self.span);
        (0..self.columns).fold(0, |bits, nth| {
            let from = self.at + nth as usize * length;
            bits | u32::from(equation.dot(&file[from..from + length])) << nth
        })
    }

    /// Returns whether `bits()` is 0, and stops at the first column that says otherwise.
    fn passes(&self, file: &[u8], id: ListId) -> bool {
        let equation = Equation::of(id, self.seed, self.span);
        let length = column_bytes(self.span);
        (0..self.columns as usize).all(|nth| {
            let from = self.at + nth * length;
            !equation.dot(&file[from..from + length])
        })
    }
}

/// A base whose signature was checked.
#[derive(Clone, Debug)]
pub struct BaseList {
    /// The head of the file.
    pub head: ListHead,
    /// Number of listed ids.
    pub listed: u32,
    first: Ribbon,
    second: Ribbon,
    planes: Ribbon,
    file: Box<[u8]>,
}

/// Changes since a base, whose signature was checked.
#[derive(Clone, Debug)]
pub struct ListChanges {
    /// The head of the file; `number` is that of the base.
    pub head: ListHead,
    /// Ids by state in the order of [`ListState::ALL`], each sorted.
    states: [Vec<ListId>; 4],
}

struct FieldReader<'f> {
    rest: &'f [u8],
}

impl FieldReader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*first))
    }

    fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*first))
    }
}

/// The head of a file before its signature is checked.
struct UnsignedHead {
    head: ListHead,
    algorithm: SignatureAlgorithm,
    key: u8,
    planes: u8,
    /// The 20 bytes whose meaning depends on the kind of file.
    own: [u32; 5],
}

fn unsigned_head(file: &[u8], kind: u8) -> Result<UnsignedHead, FileFault> {
    if file.len() < HEAD_BYTES + SIGNATURE_BYTES || file.len() > FILE_BYTES_MAX {
        return Err(FileFault::Form);
    }
    let rest = file.strip_prefix(MAGIC).ok_or(FileFault::Form)?;
    let mut fields = FieldReader { rest };
    let mut head = || {
        let (found, algorithm, key, planes) =
            (fields.u8()?, fields.u8()?, fields.u8()?, fields.u8()?);
        let (issuer, zero) = (fields.u32()?, fields.u32()?);
        let head = ListHead {
            issuer,
            number: fields.u64()?,
            as_of: Time(fields.u64()?),
            until: Time(fields.u64()?),
            residents: fields.u32()?,
        };
        let mut own = [0; 5];
        for place in &mut own {
            *place = fields.u32()?;
        }
        let algorithm = SignatureAlgorithm::from_bits(algorithm)?;
        (found == kind && zero == 0 && planes <= 2).then_some(UnsignedHead {
            head,
            algorithm,
            key,
            planes,
            own,
        })
    };
    head().ok_or(FileFault::Form)
}

/// Checks the signature of a file and returns its head, the number of its planes, and the fields of its kind.
fn read_head(
    file: &[u8],
    kind: u8,
    keys: &[VerifyingKey],
) -> Result<(ListHead, u8, [u32; 5]), FileFault> {
    let read = unsigned_head(file, kind)?;
    let (signed, signature) = file.split_at(file.len() - SIGNATURE_BYTES);
    let key = keys
        .iter()
        .find(|known| known.id == read.key && known.algorithm == read.algorithm)
        .ok_or(FileFault::UnknownKey)?;
    match key.verifies(signed, signature) {
        true => Ok((read.head, read.planes, read.own)),
        false => Err(FileFault::Signature),
    }
}

/// The head of any list file, before its signature is checked.
pub struct ListFile {
    /// The fields that both kinds have.
    pub head: ListHead,
    /// Whether the file is a base; false for changes.
    pub is_base: bool,
    /// Id of the signing key.
    pub key: u8,
    /// Number of listed ids: ids that are not green in a base, or all ids of a changes file.
    pub listed: u64,
}

impl ListFile {
    /// Parses the head of a file.
    ///
    /// # Errors
    ///
    /// The bytes do not begin with the head of a list.
    pub fn read(file: &[u8]) -> Result<ListFile, FileFault> {
        let is_base = file.get(4) == Some(&KIND_BASE);
        let kind = if is_base { KIND_BASE } else { KIND_CHANGES };
        let read = unsigned_head(file, kind)?;
        let own = &read.own;
        Ok(ListFile {
            listed: match is_base {
                true => own[0].into(),
                false => own[..4].iter().map(|count| u64::from(*count)).sum(),
            },
            is_base,
            key: read.key,
            head: read.head,
        })
    }

    /// Returns whether one of `keys` signed the file.
    pub fn is_signed(&self, file: &[u8], keys: &[VerifyingKey]) -> bool {
        let kind = if self.is_base {
            KIND_BASE
        } else {
            KIND_CHANGES
        };
        read_head(file, kind, keys).is_ok()
    }
}

/// Returns the first 64 bytes of either file.
fn write_head(kind: u8, key: u8, planes: u8, head: &ListHead, own: [u32; 5]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEAD_BYTES);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[kind, SignatureAlgorithm::Es256 as u8, key, planes]);
    file.extend_from_slice(&head.issuer.to_be_bytes());
    file.extend_from_slice(&[0; 4]);
    for wide in [head.number, head.as_of.0, head.until.0] {
        file.extend_from_slice(&wide.to_be_bytes());
    }
    file.extend_from_slice(&head.residents.to_be_bytes());
    for field in own {
        file.extend_from_slice(&field.to_be_bytes());
    }
    file
}

impl BaseList {
    /// Parses a file and checks its signature before any of its contents is used.
    ///
    /// # Errors
    ///
    /// The form or length is not that of a base, or the signature does not verify with one of `keys`.
    pub fn open(file: Box<[u8]>, keys: &[VerifyingKey]) -> Result<BaseList, FileFault> {
        let (head, planes, [listed, m1, k, m2, seed2]) = read_head(&file, KIND_BASE, keys)?;
        if m1.max(m2) > COLUMN_BITS_MAX || k > COLUMNS_MAX {
            return Err(FileFault::Form);
        }
        let first = Ribbon::first(HEAD_BYTES, m1, k);
        let second = Ribbon {
            at: first.at + first.bytes(),
            span: m2,
            seed: seed2,
            columns: 1,
        };
        let end = file.len() - SIGNATURE_BYTES;
        let mut at = second.at + second.bytes();
        let mut which = Ribbon {
            at,
            span: 0,
            seed: 0,
            columns: u32::from(planes),
        };
        if planes > 0 {
            let tail = file.get(at..end).ok_or(FileFault::Length)?;
            let mut fields = FieldReader { rest: tail };
            let (span, seed) = fields.u32().zip(fields.u32()).ok_or(FileFault::Length)?;
            if span > COLUMN_BITS_MAX || span == 0 {
                return Err(FileFault::Form);
            }
            at += 8;
            which = Ribbon {
                at,
                span,
                seed,
                ..which
            };
        }
        // A list without a second ribbon has no listed ids. With only a second ribbon, all ids are looked up there.
        if (listed == 0) != (m2 == 0) || at + which.bytes() != end {
            return Err(FileFault::Length);
        }
        Ok(BaseList {
            head,
            listed,
            first,
            second,
            planes: which,
            file,
        })
    }

    /// Returns the state of an id; green if it is not listed. The result is meaningless for an id of no resident on record.
    pub fn state(&self, id: ListId) -> ListState {
        let listed = self.second.span > 0
            && self.first.passes(&self.file, id)
            && self.second.bits(&self.file, id) == 1;
        match listed {
            false => ListState::Green,
            true if self.planes.span == 0 => ListState::Red,
            true => match (self.planes.columns, self.planes.bits(&self.file, id)) {
                (_, 0) => ListState::Red,
                (2, 1) => ListState::Yellow,
                // A value that is never written must not read as a colour.
                _ => ListState::Void,
            },
        }
    }

    /// Returns the bytes of the file.
    pub fn file(&self) -> &[u8] {
        &self.file
    }
}

impl ListChanges {
    /// Parses a file and checks its signature.
    ///
    /// # Errors
    ///
    /// The form or length is not that of changes, or the signature does not verify with one of `keys`.
    pub fn open(file: &[u8], keys: &[VerifyingKey]) -> Result<ListChanges, FileFault> {
        let (head, planes, [green, red, yellow, void, zero]) = read_head(file, KIND_CHANGES, keys)?;
        if planes != 0 || zero != 0 {
            return Err(FileFault::Form);
        }
        let mut rest = &file[HEAD_BYTES..file.len() - SIGNATURE_BYTES];
        let counts = [green, red, yellow, void];
        let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        if all * 8 != rest.len() as u64 {
            return Err(FileFault::Length);
        }
        let states = counts.map(|count| {
            let (own, behind) = rest.split_at(count as usize * 8);
            rest = behind;
            own.as_chunks::<8>()
                .0
                .iter()
                .map(|id| ListId(u64::from_be_bytes(*id)))
                .collect::<Vec<_>>()
        });
        match states.iter().all(|ids| ids.is_sorted_by(|a, b| a < b)) {
            true => Ok(ListChanges { head, states }),
            false => Err(FileFault::Form),
        }
    }

    /// Returns the state of an id since the base; None if the base is still right.
    pub fn state(&self, id: ListId) -> Option<ListState> {
        // The cautious states come first, in case a file holds an id twice.
        [
            ListState::Void,
            ListState::Red,
            ListState::Yellow,
            ListState::Green,
        ]
        .into_iter()
        .find(|state| self.states[*state as usize].binary_search(&id).is_ok())
    }

    /// Returns the number of ids of each state in the order of [`ListState::ALL`].
    pub fn counts(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|nth| self.states[nth].len())
    }

    /// Builds and signs a file. Ids are sorted here; the last entry of an id counts. Returns None if the system's random
    /// generator fails.
    pub fn write(
        head: &ListHead,
        changes: &[(ListId, ListState)],
        key: &SigningKey,
    ) -> Option<Vec<u8>> {
        let last: std::collections::BTreeMap<ListId, ListState> = changes.iter().copied().collect();
        let of = |state| {
            last.iter()
                .filter(move |(_, own)| **own == state)
                .map(|(id, _)| *id)
        };
        let count = |state| of(state).count() as u32;
        let [green, red, yellow, void] = ListState::ALL.map(count);
        let mut file = write_head(KIND_CHANGES, key.id, 0, head, [green, red, yellow, void, 0]);
        for id in ListState::ALL.into_iter().flat_map(of) {
            file.extend_from_slice(&id.0.to_be_bytes());
        }
        sign(file, key)
    }
}

fn sign(mut file: Vec<u8>, key: &SigningKey) -> Option<Vec<u8>> {
    let signature = key.sign(&file)?;
    file.extend_from_slice(&signature);
    Some(file)
}

/// Why no base was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum BuildFault {
    #[error("a file cannot hold so many listed ids")]
    LimitReached,
    #[error("no seed gives solvable equations")]
    NoSeed,
    #[error("the system's random generator failed")]
    Random,
}

/// Builds and signs a base.
///
/// `listed` holds all ids that are not green, each once, sorted. Each call of `everybody` passes the id of every resident on
/// record to its argument, in any order; listed ids may be among them.
///
/// # Errors
///
/// There are too many ids, no seed solves the equations, or the system's random generator fails.
pub fn build_base(
    head: &ListHead,
    listed: &[(ListId, ListState)],
    everybody: impl Fn(&mut dyn FnMut(ListId)),
    key: &SigningKey,
) -> Result<Vec<u8>, BuildFault> {
    debug_assert!(listed.is_sorted_by(|a, b| a.0 < b.0));
    let n = u32::try_from(listed.len()).map_err(|_| BuildFault::LimitReached)?;
    let planes = match () {
        () if listed.iter().any(|(_, state)| *state == ListState::Yellow) => 2,
        () if listed.iter().any(|(_, state)| *state == ListState::Void) => 1,
        () => 0,
    };
    if n == 0 {
        let file = write_head(KIND_BASE, key.id, 0, head, [0; 5]);
        return sign(file, key).ok_or(BuildFault::Random);
    }
    let others = head.residents.saturating_sub(n);
    let k = (others / n).checked_ilog2().unwrap_or(0).min(COLUMNS_MAX);
    let mut random = SplitMix(head.number ^ head.as_of.0.rotate_left(32));
    let (m1, columns) = match k {
        0 => (0, Vec::new()),
        _ => first_ribbon(listed, others, k, &mut random)?,
    };
    let first = Ribbon::first(0, m1, k);
    let is_listed = |id: ListId| listed.binary_search_by_key(&id, |(id, _)| *id).is_ok();
    let mut passers = Vec::new();
    everybody(&mut |id| {
        if first.passes(&columns, id) && !is_listed(id) {
            passers.push(id);
        }
    });
    let m2 = span_of(SECOND_FACTOR, listed.len() + passers.len())?;
    let (seed2, second) = solve(m2, 2, &mut random, |system| {
        listed
            .iter()
            .try_for_each(|(id, _)| system.add(*id, true))?;
        passers.iter().try_for_each(|id| system.add(*id, false))
    })?;
    let own = [n, m1, k, m2, seed2];
    let mut file = write_head(KIND_BASE, key.id, planes, head, own);
    file.extend(columns);
    file.extend(second);
    if planes > 0 {
        let m3 = span_of(SECOND_FACTOR, listed.len())?;
        let value = |state: ListState| match (planes, state) {
            (2, ListState::Yellow) => 1,
            (2, ListState::Void) => 2,
            (1, ListState::Void) => 1,
            _ => 0u8,
        };
        let mut seed = seed2 + 1;
        let which = 'seeds: loop {
            if seed > seed2 + SEEDS_MAX {
                return Err(BuildFault::NoSeed);
            }
            let mut which = Vec::new();
            for plane in 0..planes {
                let mut system = System::new(m3, seed);
                let added = listed
                    .iter()
                    .try_for_each(|(id, state)| system.add(*id, value(*state) >> plane & 1 == 1));
                if added.is_err() {
                    seed += 1;
                    continue 'seeds;
                }
                which.extend(system.solve(|| random.bit()));
            }
            break which;
        };
        file.extend_from_slice(&m3.to_be_bytes());
        file.extend_from_slice(&seed.to_be_bytes());
        file.extend(which);
    }
    sign(file, key).ok_or(BuildFault::Random)
}

/// Returns the number of places of a column for `count` ids.
fn span_of(factor: f64, count: usize) -> Result<u32, BuildFault> {
    let span = factor * count as f64 + 128.0;
    match span <= f64::from(COLUMN_BITS_MAX) {
        true => Ok(span as u32),
        false => Err(BuildFault::LimitReached),
    }
}

/// Solves the first ribbon: its span and its columns. Where many equations fall together, zeros alone solve them, and every id that
/// falls there passes and needs a place in the second ribbon. Of [`FIRST_FACTORS`] it takes the one with the smallest file.
fn first_ribbon(
    listed: &[(ListId, ListState)],
    others: u32,
    k: u32,
    random: &mut SplitMix,
) -> Result<(u32, Vec<u8>), BuildFault> {
    let solve = |factor: f64, random: &mut SplitMix| {
        let span = span_of(factor, listed.len())?;
        let mut system = System::new(span, FIRST_SEED);
        for (id, _) in listed {
            system
                .add(*id, false)
                .expect("homogeneous equations never contradict");
        }
        let columns = (0..k).flat_map(|_| system.solve(|| random.bit())).collect();
        Ok((span, columns))
    };
    if listed.len() < LISTED_MANY {
        return solve(FIRST_FACTORS[0], random);
    }
    let mut best: Option<(f64, (u32, Vec<u8>))> = None;
    for factor in FIRST_FACTORS {
        let (span, columns) = match solve(factor, random) {
            // More places than a file can have.
            Err(_) if best.is_some() => break,
            solved => solved?,
        };
        let ribbon = Ribbon::first(0, span, k);
        let passed = (0..MEASURED)
            .filter(|_| ribbon.passes(&columns, ListId(random.next())))
            .count();
        let passers = passed as f64 / MEASURED as f64 * f64::from(others);
        let bits = f64::from(k) * f64::from(span) + SECOND_FACTOR * passers;
        if best.as_ref().is_none_or(|(least, _)| bits < *least) {
            best = Some((bits, (span, columns)));
        }
    }
    Ok(best.expect("there are factors").1)
}

/// Tries seeds until all equations can be solved. Returns the seed and the column.
fn solve(
    span: u32,
    from: u32,
    random: &mut SplitMix,
    add: impl Fn(&mut System) -> Result<(), super::ribbon::Contradiction>,
) -> Result<(u32, Vec<u8>), BuildFault> {
    for seed in from..from + SEEDS_MAX {
        let mut system = System::new(span, seed);
        if add(&mut system).is_ok() {
            return Ok((seed, system.solve(|| random.bit())));
        }
    }
    Err(BuildFault::NoSeed)
}

/// Pseudo-random bits for free unknowns. They are not secret: the same input gives the same file.
struct SplitMix(u64);

impl SplitMix {
    fn bit(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub fn signing_key(id: u8) -> SigningKey {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let random = aws_lc_rs::rand::SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        SigningKey::from_pkcs8(id, der.as_ref()).unwrap()
    }

    /// A public key of the independent implementation; its lists name key 1.
    pub fn independent_key(name: &str) -> VerifyingKey {
        let keys: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/it/offline/keys.json")).unwrap();
        let text = keys[name].as_str().unwrap();
        let mut bits = 0u32;
        let mut held = 0;
        let mut public = Vec::new();
        for c in text.bytes().filter(|c| *c != b'=') {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                _ => 63,
            };
            bits = bits << 6 | u32::from(value);
            held += 6;
            if held >= 8 {
                held -= 8;
                public.push((bits >> held) as u8);
            }
        }
        VerifyingKey {
            id: 1,
            algorithm: match name {
                "es256" => SignatureAlgorithm::Es256,
                _ => SignatureAlgorithm::Ed25519,
            },
            public: public.into(),
        }
    }

    fn head(residents: usize) -> ListHead {
        ListHead {
            issuer: 440_000,
            number: 9,
            as_of: Time(1_795_500_000_000),
            until: Time(1_795_543_200_000),
            residents: residents as u32,
        }
    }

    fn build(people: &BTreeMap<ListId, ListState>, key: &SigningKey) -> BaseList {
        let listed: Vec<_> = people
            .iter()
            .filter(|(_, state)| **state != ListState::Green)
            .map(|(id, state)| (*id, *state))
            .collect();
        let everybody = |each: &mut dyn FnMut(ListId)| people.keys().for_each(|id| each(*id));
        let file = build_base(&head(people.len()), &listed, everybody, key).unwrap();
        BaseList::open(file.into(), &[key.verifying()]).unwrap()
    }

    #[test]
    fn a_list_of_an_independent_implementation_reads_as_its_builder_says() {
        let ids: BTreeMap<String, Vec<String>> =
            serde_json::from_str(include_str!("../../tests/it/offline/ids.json")).unwrap();
        let files: [(&[u8], &str); 2] = [
            (
                include_bytes!("../../tests/it/offline/base-1m-1000.lml"),
                "es256",
            ),
            (
                include_bytes!("../../tests/it/offline/base-1m-1000.ed25519.lml"),
                "ed25519",
            ),
        ];
        for (file, name) in files {
            let list = BaseList::open(file.into(), &[independent_key(name)]).unwrap();
            assert_eq!((list.listed, list.head.residents), (1_000, 1_000_000));
            let mut asked = 0;
            for (group, ids) in &ids {
                for id in ids {
                    let state = list.state(ListId(u64::from_str_radix(id, 16).unwrap()));
                    assert_eq!(state == ListState::Red, group == "listed", "{group} {id}");
                    asked += 1;
                }
            }
            assert_eq!(asked, 1_000 + 1_923 + 2_000);
        }
    }

    #[test]
    fn no_changed_byte_passes() {
        let key = independent_key("es256");
        let file = include_bytes!("../../tests/it/offline/base-1m-1000.lml");
        for at in 0..file.len() {
            let mut changed = *file;
            changed[at] ^= 0x10;
            assert!(
                BaseList::open(changed.into(), std::slice::from_ref(&key)).is_err(),
                "{at}"
            );
        }
        for length in [0, 63, 127, file.len() - 1] {
            let cut = BaseList::open(file[..length].into(), std::slice::from_ref(&key));
            assert!(cut.is_err(), "{length}");
        }
    }

    #[test]
    fn a_list_as_large_as_the_format_allows_is_not_read_past_its_end() {
        let key = signing_key(1);
        for own in [
            [1, COLUMN_BITS_MAX, 32, 1, 2],
            [1, COLUMN_BITS_MAX + 1, 1, 1, 2],
            [1, 1, 33, 1, 2],
            [0, 0, 0, 1, 2],
            [1, 0, 0, 0, 2],
        ] {
            let file = sign(write_head(KIND_BASE, 1, 0, &head(1), own), &key).unwrap();
            assert!(
                BaseList::open(file.into(), &[key.verifying()]).is_err(),
                "{own:?}"
            );
        }
    }

    fn people(most: usize) -> impl Strategy<Value = BTreeMap<ListId, ListState>> {
        let state = prop_oneof![
            20 => Just(ListState::Green),
            3 => Just(ListState::Red),
            1 => Just(ListState::Yellow),
            1 => Just(ListState::Void),
        ];
        prop::collection::btree_map(any::<u64>().prop_map(ListId), state, 0..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_built_list_says_of_everybody_what_is_so(people in people(600)) {
            let list = build(&people, &signing_key(3));
            for (id, state) in &people {
                prop_assert_eq!(list.state(*id), *state);
            }
        }

        #[test]
        fn colours_alone_need_fewer_planes(people in people(300), keep in 0u8..3) {
            // Without yellow there is one plane, without void as well none.
            let people: BTreeMap<_, _> = people
                .into_iter()
                .filter(|(_, state)| match state {
                    ListState::Yellow => keep > 1,
                    ListState::Void => keep > 0,
                    _ => true,
                })
                .collect();
            let list = build(&people, &signing_key(3));
            for (id, state) in &people {
                prop_assert_eq!(list.state(*id), *state);
            }
        }

        #[test]
        fn changes_say_what_was_written(changes in people(300)) {
            let key = signing_key(4);
            let all: Vec<_> = changes.iter().map(|(id, state)| (*id, *state)).collect();
            let file = ListChanges::write(&head(1_000), &all, &key).unwrap();
            let read = ListChanges::open(&file, &[key.verifying()]).unwrap();
            prop_assert_eq!(read.counts().iter().sum::<usize>(), all.len());
            for (id, state) in &changes {
                prop_assert_eq!(read.state(*id), Some(*state));
            }
            prop_assert_eq!(read.state(ListId(1)), changes.get(&ListId(1)).copied());
        }

        #[test]
        fn rubbish_is_no_file_and_no_panic(mut file in prop::collection::vec(any::<u8>(), 0..400), named: bool) {
            if named && file.len() > 8 {
                file[..4].copy_from_slice(MAGIC);
                file[4] %= 3;
            }
            prop_assert!(ListChanges::open(&file, &[]).is_err());
            prop_assert!(BaseList::open(file.into(), &[]).is_err());
        }
    }

    #[test]
    fn half_of_all_and_everybody_can_be_listed() {
        for part in [1, 2, 3] {
            let people: BTreeMap<ListId, ListState> = (0..900u64)
                .map(|nth| {
                    let state = match nth % part {
                        0 => ListState::Red,
                        _ => ListState::Green,
                    };
                    (ListId(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)), state)
                })
                .collect();
            let list = build(&people, &signing_key(3));
            for (id, state) in &people {
                assert_eq!(list.state(*id), *state);
            }
        }
    }
}
