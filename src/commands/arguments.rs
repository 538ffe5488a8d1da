//! Arguments that several commands take: a document, and values that others must not see.

use crate::clock::Time;
use crate::person::{BadDocument, Document};
use clap::Args;
use std::io::{self, BufRead, Read};

/// Arguments that name a person.
#[derive(Args)]
pub(super) struct DocumentArgs {
    /// 10 identity card, 14 travel permit of HK and Macao residents, 20 PRC passport
    #[arg(long, value_name = "TYPE")]
    pub(super) cert_type: String,
    /// Number of the document; `@FILE` or `-` reads it, so that it is not among the arguments that others see
    #[arg(long, value_name = "N|@FILE|-", value_parser = private_value)]
    pub(super) cert_no: String,
}

impl DocumentArgs {
    /// Returns the document, or what is wrong with it by the name of the flag.
    pub(super) fn document(&self, now: Time) -> anyhow::Result<Document> {
        Document::parse(&self.cert_type, &self.cert_no, now.day()).map_err(|bad| {
            anyhow::anyhow!(match bad {
                BadDocument::OfflineRegistration =>
                    "--cert-type: documents of this type get no code; register with staff",
                BadDocument::Form => "--cert-no: not the form of a number of this type",
                BadDocument::BirthDate => "--cert-no: no such day of birth",
                BadDocument::CheckDigit => "--cert-no: the check digit is wrong",
            })
        })
    }
}

/// Longest value read from a file, in bytes.
const PRIVATE_BYTES_MAX: u64 = 4_096;

/// Returns a value that should not be among the arguments: for `@FILE` the first line of a file, for `-` the next line of
/// standard input, else the value itself. Errors name the file, never the value.
pub(super) fn private_value(text: &str) -> Result<String, String> {
    let mut line = String::new();
    let read = if text == "-" {
        let input = io::stdin().lock();
        input.take(PRIVATE_BYTES_MAX).read_line(&mut line)
    } else if let Some(path) = text.strip_prefix('@') {
        let file = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
        io::BufReader::new(file.take(PRIVATE_BYTES_MAX)).read_line(&mut line)
    } else {
        return Ok(text.to_owned());
    };
    read.map_err(|error| format!("{text}: {error}"))?;
    let value = line.trim_end_matches(['\r', '\n']);
    match value.is_empty() || line.len() as u64 == PRIVATE_BYTES_MAX {
        true => Err(format!("{text}: no line of 1 to {PRIVATE_BYTES_MAX} bytes")),
        false => Ok(value.to_owned()),
    }
}
