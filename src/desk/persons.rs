//! Persons as requests name them, as others see them, and as papers refer to them.

use crate::clock::Time;
use crate::feed::Rejection;
use crate::paper::PaperKey;
use crate::person::{Document, Identity, MaskedIdentity, MaskedName, Profile, is_name};
use crate::refusal::Refusal;
use crate::seal::base32;
use serde::{Deserialize, Serialize};

/// A person named by a caller.
#[derive(Deserialize)]
pub(super) struct NamedPerson {
    pub(super) cert_type: String,
    pub(super) cert_no: String,
    pub(super) name: String,
}

impl NamedPerson {
    /// Returns the document. The name must have the form of one.
    pub(super) fn check(&self, now: Time) -> Result<Document, Rejection> {
        let document = Document::parse(&self.cert_type, &self.cert_no, now.day())?;
        match is_name(&self.name) {
            true => Ok(document),
            false => Err(Rejection::BadName),
        }
    }
}

/// A person as other people see one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MaskedPerson {
    pub(super) name: String,
    pub(super) cert_no: String,
    pub(super) assurance: String,
}

impl From<&MaskedIdentity> for MaskedPerson {
    fn from(masked: &MaskedIdentity) -> MaskedPerson {
        MaskedPerson {
            name: masked.name.print(),
            cert_no: masked.cert_no.print(),
            assurance: masked.assurance.word().to_owned(),
        }
    }
}

/// Returns name and document number of a person on record, masked.
pub(super) fn masked_of(profile: &Profile) -> MaskedIdentity {
    MaskedIdentity {
        name: MaskedName::of(profile.name.as_deref().unwrap_or_default()),
        cert_no: profile.document.mask(),
        assurance: profile.assurance,
    }
}

/// Returns the text of an owner, for use inside a paper.
pub(super) fn write_who(who: &Identity) -> String {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&who.home.0.to_be_bytes());
    bytes[8..].copy_from_slice(&who.claim);
    base32::text(&bytes)
}

/// Parses a text of [`write_who`]; `Internal` for any other text.
pub(super) fn read_who(text: &str) -> Result<Identity, Refusal> {
    let bytes = base32::bytes(text, 24).ok_or(Refusal::Internal)?;
    let (home, claim) = bytes.split_first_chunk::<8>().ok_or(Refusal::Internal)?;
    Ok(Identity {
        home: crate::person::ResidentId(u64::from_be_bytes(*home)),
        claim: claim.try_into().map_err(|_| Refusal::Internal)?,
    })
}

/// Returns the partition of an owner. Long lists are split by it, so that papers of the person and of the list are in one
/// partition of the store.
pub(super) fn partition(who: &Identity) -> u8 {
    (who.home.0 >> 60) as u8
}

/// Sets the partition of a key, so that the key shows which part of a list has it.
pub(super) fn partition_in(mut key: PaperKey, who: &Identity) -> PaperKey {
    key[0] = key[0] & 0x0f | partition(who) << 4;
    key
}
