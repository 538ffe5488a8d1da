//! A visitor of another province in the demonstration: an offline code with its own keys, and the list for gates here.
//! By that list a gate knows the colour of the code.

use crate::clock::Time;
use crate::offline::code::OfflineCode;
use crate::offline::issue::OfflineKeys;
use crate::offline::list::{ListChanges, ListHead, build_base};
use crate::person::{Assurance, Document, MaskedIdentity, MaskedName, ResidentId};
use crate::seal::ring::RingFile;
use anyhow::{Context, anyhow};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The other province: a division of GB/T 2260.
const ISSUER: u32 = 820_000;

/// Validity of the code and the list; a longer demonstration must be restarted.
const LIFE_HOURS: u16 = 12;

/// Writes keys, list and trust file into a folder. Returns the trust file and the visitor's code.
pub fn write(folder: &Path, now: Time) -> anyhow::Result<(PathBuf, String)> {
    let ring = RingFile::generate(now);
    let keys = OfflineKeys::of(&ring, ISSUER).context("a new ring has signing keys")?;
    let signing = keys
        .signing
        .as_ref()
        .context("a new ring has signing keys")?;
    let list_id = keys.permutation.list_id(ResidentId(1), 0);
    let document = Document::parse("14", "M12345678", now.day());
    let document =
        document.map_err(|_| anyhow!("the permit of the demonstration is not a document"))?;
    let as_of = Time(now.0 - now.0 % 1_000);
    let code = OfflineCode {
        key: signing.id,
        issuer: ISSUER,
        list_id,
        generation: 0,
        check: 0,
        issued_at: as_of,
        life_hours: LIFE_HOURS,
        masked: MaskedIdentity {
            name: MaskedName::of("何嘉欣"),
            cert_no: document.mask(),
            assurance: Assurance::RealPerson,
        },
    };
    let head = ListHead {
        issuer: ISSUER,
        number: as_of.0,
        as_of,
        until: as_of.plus(Duration::from_secs(3_600 * u64::from(LIFE_HOURS))),
        residents: 1,
    };
    let base = build_base(&head, &[], |each| each(list_id), signing);
    let base = base.map_err(|why| anyhow!("the list of the other province: {why:?}"))?;
    let changes = ListChanges::write(&head, &[], signing).context("random bytes")?;
    let text = code.sign(signing).context("random bytes")?;
    let trust = format!(
        "# Another province, made up for the demonstration.\n[[issuer]]\nformat = \"liangma\"\nid = {ISSUER}\nname = \"澳门\"\n\
         keys = \"keys.jwks\"\nlist = \".\"\n"
    );
    let at = |name: &str| folder.join(name);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(at("base.lml"), base))
        .and_then(|()| std::fs::write(at("changes.lml"), changes))
        .and_then(|()| std::fs::write(at("keys.jwks"), &keys.jwks))
        .and_then(|()| std::fs::write(at("trust.toml"), trust))
        .with_context(|| folder.display().to_string())?;
    Ok((at("trust.toml"), text))
}
