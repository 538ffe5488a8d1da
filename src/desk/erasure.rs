//! What lists of others hold of a person: found by the person's own papers, ended where it still works, and then removed.

use super::{appeal, entry, family, grant, registration};
use crate::answer::Refusal;
use crate::clock::Time;
use crate::paper::{Paper, PaperKey, PaperKind};
use crate::person::{CertType, Document, Identity};
use crate::seal::Seal;
use crate::store::{Change, Error, Store};

/// What is on lists of others.
#[derive(Default)]
pub struct Copies {
    /// Ends grants and memberships; to be filed before anything is removed.
    pub ends: Vec<Change>,
    /// Owners of lists, and keys of what is to be removed there, as far as it is there.
    pub lists: Vec<(Identity, Vec<PaperKey>)>,
    /// Papers of the person that cannot be opened: what others have of them is not known.
    pub unread: usize,
}

impl Copies {
    /// Adds what others have of some of a person's own papers.
    pub fn add(&mut self, seal: &Seal, who: &Identity, papers: &[Paper], now: Time) {
        for paper in papers {
            if self.add_one(seal, who, paper, now).is_err() {
                self.unread += 1;
            }
        }
    }

    fn add_one(
        &mut self,
        seal: &Seal,
        who: &Identity,
        paper: &Paper,
        now: Time,
    ) -> Result<(), Refusal> {
        match paper.kind {
            PaperKind::Appeal => self.lists.push(appeal::on_list(seal, who, paper)),
            PaperKind::Entry => self.lists.push(entry::on_list(seal, who, paper)?),
            PaperKind::Grant => {
                let (end, list) = grant::ending(seal, who, paper)?;
                self.ends.push(end);
                self.lists.push(list);
            }
            PaperKind::Member => {
                let (end, list) = family::ending(seal, who, paper, now)?;
                self.ends.push(end);
                self.lists.push(list);
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds the registrations of whom the number of a registration stands for.
    pub async fn add_registrations(
        &mut self,
        store: &dyn Store,
        seal: &Seal,
        document: &Document,
    ) -> Result<(), Error> {
        if document.cert_type() == CertType::Registration {
            let number = document.number();
            self.lists
                .extend(registration::on_lists(store, seal, number).await?);
        }
        Ok(())
    }
}
