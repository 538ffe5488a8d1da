//! Documents of persons: their types, checks and masking, and the resident id that follows from them.

mod text;

use crate::clock;
pub use text::{NAME_CHARS_MAX, is_name, is_text, is_unprintable};

/// Type of document: those with a code, and the number of a registration by staff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertType {
    /// 10: resident identity card of the mainland.
    IdentityCard,
    /// 14: mainland travel permit of Hong Kong and Macao residents.
    TravelPermit,
    /// 20: ordinary passport of the PRC.
    Passport,
    /// The number of a registration by staff. It allows no log-in and has no code.
    Registration,
}

impl CertType {
    /// Returns the two digits of the type.
    pub fn code(self) -> &'static str {
        match self {
            CertType::IdentityCard => "10",
            CertType::TravelPermit => "14",
            CertType::Passport => "20",
            CertType::Registration => "registration",
        }
    }

    pub(crate) fn bits(self) -> u8 {
        match self {
            CertType::IdentityCard => 0,
            CertType::TravelPermit => 1,
            CertType::Passport => 2,
            CertType::Registration => 3,
        }
    }

    pub(crate) fn from_bits(bits: u8) -> Option<CertType> {
        match bits {
            0 => Some(CertType::IdentityCard),
            1 => Some(CertType::TravelPermit),
            2 => Some(CertType::Passport),
            3 => Some(CertType::Registration),
            _ => None,
        }
    }

    /// Returns the length of a number of this type in characters.
    fn length(self) -> usize {
        match self {
            CertType::IdentityCard => 18,
            CertType::TravelPermit | CertType::Passport => 9,
            CertType::Registration => REGISTRATION_CHARS,
        }
    }
}

/// Level of assurance that the phone's holder is the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// Nothing was checked yet, or a minor's face check failed: the white-background code.
    Unverified,
    /// 实名: name and number match.
    RealName,
    /// 实人: the face was checked.
    RealPerson,
}

impl Assurance {
    /// Returns the word that feeds and answers use.
    pub fn word(self) -> &'static str {
        match self {
            Assurance::Unverified => "unverified",
            Assurance::RealName => "real_name",
            Assurance::RealPerson => "real_person",
        }
    }

    /// Returns the level with a name; None for an unknown name.
    pub fn parse(word: &str) -> Option<Assurance> {
        [
            Assurance::Unverified,
            Assurance::RealName,
            Assurance::RealPerson,
        ]
        .into_iter()
        .find(|assurance| assurance.word() == word)
    }

    pub(crate) fn bits(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_bits(bits: u8) -> Option<Assurance> {
        match bits {
            0 => Some(Assurance::Unverified),
            1 => Some(Assurance::RealName),
            2 => Some(Assurance::RealPerson),
            _ => None,
        }
    }
}

/// Why a document is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDocument {
    /// A type that staff register offline.
    OfflineRegistration,
    /// The number does not have the form of its type.
    Form,
    /// GB 11643: the day of birth does not exist, or is in the future.
    BirthDate,
    /// GB 11643: the check character is wrong.
    CheckDigit,
}

/// A checked document number in its canonical spelling.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    cert_type: CertType,
    number: [u8; 18],
}

impl Document {
    /// Checks a document. `today` is `yyyymmdd`, the latest possible day of birth.
    ///
    /// # Errors
    ///
    /// The fault of the type, form, day of birth or check character.
    pub fn parse(cert_type: &str, cert_no: &str, today: u32) -> Result<Document, BadDocument> {
        let cert_type = match cert_type {
            "10" => CertType::IdentityCard,
            "14" => CertType::TravelPermit,
            "20" => CertType::Passport,
            _ => return Err(BadDocument::OfflineRegistration),
        };
        Document::check(cert_type, cert_no, today)
    }

    /// Checks the number of a registration by staff, in upper or lower case.
    ///
    /// # Errors
    ///
    /// `Form` if the number is invalid.
    pub fn registration(number: &str) -> Result<Document, BadDocument> {
        Document::check(CertType::Registration, number, u32::MAX)
    }

    fn check(cert_type: CertType, cert_no: &str, today: u32) -> Result<Document, BadDocument> {
        if cert_no.len() != cert_type.length() {
            return Err(BadDocument::Form);
        }
        let mut number = [0; 18];
        number[..cert_no.len()].copy_from_slice(cert_no.as_bytes());
        number.make_ascii_uppercase();
        let document = Document { cert_type, number };
        match cert_type {
            CertType::IdentityCard => document.check_identity_card(today)?,
            CertType::TravelPermit => document.check_form(b"HM", false)?,
            CertType::Passport => document.check_form(b"EG", true)?,
            CertType::Registration => document.check_registration()?,
        }
        Ok(document)
    }

    /// Returns the type of the document.
    pub fn cert_type(&self) -> CertType {
        self.cert_type
    }

    /// Returns the number of the document.
    pub fn number(&self) -> &str {
        std::str::from_utf8(&self.number[..self.cert_type.length()]).expect("checked to be ASCII")
    }

    /// Returns the day of birth, `yyyymmdd`; None if the number does not hold it.
    pub fn born(&self) -> Option<u32> {
        let digits = &self.number[6..14];
        (self.cert_type == CertType::IdentityCard).then(|| {
            digits
                .iter()
                .fold(0, |born, digit| born * 10 + u32::from(digit - b'0'))
        })
    }

    fn check_identity_card(&self, today: u32) -> Result<(), BadDocument> {
        let (body, last) = (&self.number[..17], self.number[17]);
        if !body.iter().all(u8::is_ascii_digit) || !(last.is_ascii_digit() || last == b'X') {
            return Err(BadDocument::Form);
        }
        let born = self.born().unwrap_or_default();
        if !clock::is_day(born) || born > today {
            return Err(BadDocument::BirthDate);
        }
        if check_digit(body.try_into().expect("17 of 18")) != last {
            return Err(BadDocument::CheckDigit);
        }
        Ok(())
    }

    fn check_registration(&self) -> Result<(), BadDocument> {
        let (body, last) = self.number[..REGISTRATION_CHARS].split_at(REGISTRATION_CHARS - 1);
        let wanted = registration_check(body).ok_or(BadDocument::Form)?;
        match last == [wanted] {
            true => Ok(()),
            false => Err(BadDocument::CheckDigit),
        }
    }

    /// Checks for one character of `first` and eight digits; the second may be a letter in the newer form.
    fn check_form(&self, first: &[u8], second_letter: bool) -> Result<(), BadDocument> {
        let second = self.number[1];
        let good = first.contains(&self.number[0])
            && (second.is_ascii_digit() || second_letter && second.is_ascii_uppercase())
            && self.number[2..9].iter().all(u8::is_ascii_digit);
        good.then_some(()).ok_or(BadDocument::Form)
    }
}

/// Length of a registration number in characters, with the check character.
pub const REGISTRATION_CHARS: usize = 12;

const REGISTRATION_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Returns the check character of a registration number. Odd weights find every wrong character and nearly every swap of two.
/// None if a character is not base32.
pub fn registration_check(body: &[u8]) -> Option<u8> {
    let mut sum = 0;
    for (nth, char) in body.iter().enumerate() {
        let value = REGISTRATION_ALPHABET
            .iter()
            .position(|known| known == char)?;
        sum += (2 * nth + 1) * value;
    }
    Some(REGISTRATION_ALPHABET[sum % 32])
}

/// Returns the check character of seventeen digits: GB 11643 (ISO 7064, MOD 11-2).
pub fn check_digit(body: &[u8; 17]) -> u8 {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = body
        .iter()
        .zip(WEIGHTS)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    b"10X98765432"[(sum % 11) as usize]
}

impl std::fmt::Debug for Document {
    /// Printed masked, because it may be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({})", self.mask().print())
    }
}

/// What is kept about a person beside the status, sealed at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The document that identifies the person.
    pub document: Document,
    /// The name; None if no source gave it yet, for example for a close contact.
    pub name: Option<String>,
    /// Level of assurance.
    pub assurance: Assurance,
}

impl Profile {
    /// Appends type and assurance (1 byte), the number, the name.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.document.cert_type.bits() | self.assurance.bits() << 4);
        bytes.extend_from_slice(self.document.number().as_bytes());
        bytes.extend_from_slice(self.name.as_deref().unwrap_or_default().as_bytes());
    }

    /// Returns the number of bytes that [`Profile::write`] appends.
    pub fn length(&self) -> usize {
        1 + self.document.number().len() + self.name.as_ref().map_or(0, String::len)
    }

    /// Parses the bytes of [`Profile::write`]; None for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Profile> {
        let (&first, rest) = bytes.split_first()?;
        let cert_type = CertType::from_bits(first & 15)?;
        let (number, name) = rest.split_at_checked(cert_type.length())?;
        let cert_no = std::str::from_utf8(number).ok()?;
        let name = std::str::from_utf8(name).ok()?;
        Some(Profile {
            document: Document::check(cert_type, cert_no, u32::MAX).ok()?,
            name: (!name.is_empty()).then(|| name.to_owned()),
            assurance: Assurance::from_bits(first >> 4)?,
        })
    }
}

/// A masked document number: `44**************11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedNumber {
    pub(crate) cert_type: CertType,
    pub(crate) ends: [u8; 4],
}

impl Document {
    /// Returns the number with its middle hidden.
    pub fn mask(&self) -> MaskedNumber {
        let number = self.number().as_bytes();
        let last = number.len() - 2;
        MaskedNumber {
            cert_type: self.cert_type,
            ends: [number[0], number[1], number[last], number[last + 1]],
        }
    }
}

impl MaskedNumber {
    /// Appends the text.
    pub fn write(self, out: &mut impl bytes::BufMut) {
        out.put_slice(&self.ends[..2]);
        out.put_slice(&b"****************"[..self.cert_type.length() - 4]);
        out.put_slice(&self.ends[2..]);
    }

    /// Returns the text.
    pub fn print(self) -> String {
        let mut out = Vec::with_capacity(18);
        self.write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }
}

/// A masked name, `陈**`: its first character in UTF-8, and a star for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedName {
    pub(crate) first: [u8; 4],
    pub(crate) stars: u8,
}

impl MaskedName {
    /// Returns the masked form of a name that [`is_name`] accepts. An empty name gives an empty text.
    pub fn of(name: &str) -> MaskedName {
        let mut first = [0; 4];
        let mut chars = name.chars().filter(|c| text::is_seen_alone(*c));
        if let Some(c) = chars.next() {
            c.encode_utf8(&mut first);
        }
        MaskedName {
            first,
            stars: chars.count().min(NAME_CHARS_MAX) as u8,
        }
    }

    /// Appends the text.
    pub fn write(self, out: &mut impl bytes::BufMut) {
        let length = self.first.iter().position(|b| *b == 0).unwrap_or(4);
        out.put_slice(&self.first[..length]);
        out.put_slice(&[b'*'; NAME_CHARS_MAX][..usize::from(self.stars)]);
    }

    /// Returns the text.
    pub fn print(self) -> String {
        let mut out = Vec::with_capacity(16);
        self.write(&mut out);
        String::from_utf8(out).expect("one character and stars")
    }
}

/// The masked identity in a code, and the assurance of its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedIdentity {
    /// The masked name.
    pub name: MaskedName,
    /// The masked document number.
    pub cert_no: MaskedNumber,
    /// Level of assurance.
    pub assurance: Assurance,
}

/// Id of a resident: the key of the board and of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResidentId(pub u64);

/// The keyed hash of a document: 64 bits of home, 128 bits of claim.
///
/// Feeds and nodes compute it independently. The store keeps the claim, so that two documents with one home get different ids:
/// the later one takes the next free id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The id of the person unless another has it.
    pub home: ResidentId,
    /// Bytes that tell persons with the same home apart.
    pub claim: [u8; 16],
}

/// Ids that are tried from the home on. With 127 million of 2^64, even one step is rare.
pub const PROBES_MAX: u64 = 64;

impl Identity {
    /// Returns the identity of a keyed hash of 32 bytes, of which 24 are used.
    pub fn of_hash(hash: &[u8; 32]) -> Identity {
        Identity {
            home: ResidentId(u64::from_be_bytes(hash[..8].try_into().expect("8 bytes"))),
            claim: hash[8..24].try_into().expect("16 bytes"),
        }
    }

    /// Returns the id `steps` after the home. Only the lower half counts up, so that the id stays in the home's partition.
    pub fn slot(&self, steps: u64) -> ResidentId {
        const LOWER: u64 = u32::MAX as u64;
        ResidentId(self.home.0 & !LOWER | self.home.0.wrapping_add(steps) & LOWER)
    }

    /// Returns 64 bits that identify a person and reveal nothing about the document.
    pub fn number(&self) -> u64 {
        u64::from_be_bytes(self.claim[..8].try_into().expect("8 of 16"))
    }

    /// Returns the 14 check bits, which tell most persons with one home apart without the store; never 0, which means "ask the
    /// store".
    pub fn check(&self) -> u16 {
        let bits = u16::from_be_bytes([self.claim[0], self.claim[1]]) >> 2;
        bits.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TODAY: u32 = 20_261_123;

    #[test]
    fn accepts_what_the_three_documents_look_like() {
        for (cert_type, cert_no) in [
            ("10", "440106199003077211"),
            ("10", "44011820060403092X"),
            ("10", "44011820060403092x"),
            ("14", "H12345678"),
            ("14", "m64909720"),
            ("20", "E13316292"),
            ("20", "EA1234567"),
            ("20", "G12345678"),
        ] {
            let document = Document::parse(cert_type, cert_no, TODAY).unwrap();
            assert_eq!(document.number(), cert_no.to_ascii_uppercase());
        }
    }

    #[test]
    fn a_registration_is_no_document_and_its_number_is_checked() {
        let body = b"K7QX3ABCDEF";
        let check = char::from(registration_check(body).unwrap());
        let number = format!("{}{check}", std::str::from_utf8(body).unwrap());
        let read = Document::registration(&number.to_ascii_lowercase()).unwrap();
        assert_eq!(
            (read.number(), read.cert_type().code()),
            (&*number, "registration")
        );
        assert_eq!(
            Document::parse("registration", &number, TODAY),
            Err(BadDocument::OfflineRegistration)
        );
        for place in 0..REGISTRATION_CHARS {
            let mut wrong = number.clone().into_bytes();
            wrong[place] = if wrong[place] == b'5' { b'6' } else { b'5' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(Document::registration(&wrong), Err(BadDocument::CheckDigit));
        }
        for form in ["", "K7QX3ABCDEF", "K7QX3ABCDE1A", "一一一一"] {
            assert_eq!(Document::registration(form), Err(BadDocument::Form));
        }
        let profile = Profile {
            document: read,
            name: Some("John Smith".into()),
            assurance: Assurance::RealName,
        };
        let mut bytes = Vec::new();
        profile.write(&mut bytes);
        assert_eq!(Profile::from_bytes(&bytes), Some(profile));
    }

    #[test]
    fn refuses_each_bad_document_for_its_own_reason() {
        use BadDocument::*;
        for (cert_type, cert_no, why) in [
            ("10", "440106199003077210", CheckDigit),
            ("10", "44010619900307721", Form),
            ("10", "4401061990030772110", Form),
            ("10", "44010619900307721一", Form),
            ("10", "440106199002307211", BirthDate),
            ("10", "440106209903077211", BirthDate),
            ("10", "", Form),
            ("14", "H1234567X", Form),
            ("14", "H99999999X", Form),
            ("14", "A12345678", Form),
            ("20", "EAA234567", Form),
            ("20", "X12345678", Form),
            ("15", "12345678", OfflineRegistration),
            ("34", "ABC123456789012", OfflineRegistration),
            ("", "440106199003077211", OfflineRegistration),
        ] {
            assert_eq!(
                Document::parse(cert_type, cert_no, TODAY).unwrap_err(),
                why,
                "{cert_type} {cert_no}"
            );
        }
    }

    #[test]
    fn masks_all_but_the_ends() {
        let document = Document::parse("10", "440106199003077211", TODAY).unwrap();
        assert_eq!(document.mask().print(), "44**************11");
        assert_eq!(format!("{document:?}"), "Document(44**************11)");
        assert_eq!(MaskedName::of("陈美玲").print(), "陈**");
        assert_eq!(MaskedName::of("李敏").print(), "李*");
        assert_eq!(MaskedName::of("").print(), "");
        let permit = Document::parse("14", "H12345678", TODAY).unwrap();
        assert_eq!(permit.mask().print(), "H1*****78");
    }

    #[test]
    fn stars_stand_for_what_is_seen() {
        assert_eq!(MaskedName::of("葛\u{e0101}西").print(), "葛*");
        assert_eq!(MaskedName::of("نور\u{200c}الدین").print(), "ن*******");
    }

    proptest! {
        #[test]
        fn a_profile_reads_back_as_it_was_written(name in "[一-龥]{1,6}|[A-Za-z ·]{0,20}", assurance in 0u8..3) {
            let profile = Profile {
                document: Document::parse("20", "EA1234567", TODAY).unwrap(),
                name: (!name.is_empty()).then_some(name),
                assurance: Assurance::from_bits(assurance).unwrap(),
            };
            let mut bytes = Vec::new();
            profile.write(&mut bytes);
            prop_assert_eq!(bytes.len(), profile.length());
            prop_assert_eq!(Profile::from_bytes(&bytes), Some(profile));
        }

        #[test]
        fn any_single_wrong_digit_is_noticed(digits in "[1-9][0-9]{5}", place in 0usize..17, by in 1u8..10) {
            let mut body = [b'0'; 17];
            body[..6].copy_from_slice(digits.as_bytes());
            body[6..].copy_from_slice(b"19900307721");
            let right = check_digit(&body);
            body[place] = b'0' + (body[place] - b'0' + by) % 10;
            prop_assert_ne!(check_digit(&body), right);
        }

        #[test]
        fn rubbish_is_never_a_document_and_never_a_panic(cert_type in ".{0,3}", cert_no in ".{0,20}") {
            let _ = Document::parse(&cert_type, &cert_no, TODAY);
        }
    }
}
