//! Copies of a person's data on lists of others: found by the person's own papers, ended where they are in force, then removed.

use super::{appeal, entry, family, grant_record, registration, revocation};
use crate::clock::Time;
use crate::paper::{Paper, PaperKey, PaperKind};
use crate::person::{CertType, Document, Identity};
use crate::refusal::Refusal;
use crate::seal::Seal;
use crate::store::{Change, Error, Store};

/// Copies on lists of others.
#[derive(Default)]
pub struct Copies {
    /// Changes that end grants, memberships, and the sessions of these. They must be stored before anything is removed.
    pub ends: Vec<Change>,
    /// Owners of lists, and the keys to remove there, if present.
    pub lists: Vec<(Identity, Vec<PaperKey>)>,
    /// Number of the person's papers that cannot be opened. Their copies on lists of others are unknown.
    pub unread: usize,
}

impl Copies {
    /// Adds the copies that follow from some of the person's own papers.
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
                let (end, list) = grant_record::ending(seal, who, paper)?;
                self.ends.push(end);
                self.lists.push(list);
            }
            PaperKind::Member => {
                let number = family::membership(&paper.key);
                self.ends
                    .push(revocation::ending_membership(seal, number, now)?);
                let (end, list) = family::ending(seal, who, paper, now)?;
                self.ends.push(end);
                self.lists.push(list);
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds the registrations of a person whose document is a registration number.
    ///
    /// # Errors
    ///
    /// The store fails, or a registration cannot be opened.
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
