//! `token`: a credential for a resident, or for whoever comes in an office, made of the key ring alone.

use super::{CommandResult, DocumentArgs, Failure, Sources, say, settings};
use crate::clock::Time;
use crate::feed::{is_source, parse_region};
use crate::person::{self, Assurance, MaskedIdentity, MaskedName};
use crate::seal::ring::{RingFile, TokenKind};
use crate::seal::{
    ACCESS_TOKEN_LIFE_MAX, ACCESS_TOKEN_NAME_BYTES_MAX, AccessToken, NAME_BYTES_MAX, Nonces,
    SESSION_LIFE_MAX, Seal, Session,
};
use crate::tls::CertificateDigest;
use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Make a token; prints the token and nothing else
#[derive(Args)]
pub struct Token {
    #[command(subcommand)]
    whose: TokenHolder,
}

#[derive(Subcommand)]
enum TokenHolder {
    /// A resident's session, for tests and for staff who help somebody
    ///
    /// The resident need not be on record: until then the code shows `unknown`.
    Resident {
        #[command(flatten)]
        sources: Sources,
        #[command(flatten)]
        whom: DocumentArgs,
        /// The resident's name; `@FILE` or `-` reads it
        #[arg(long, value_name = "NAME|@FILE|-", value_parser = super::private_value)]
        name: String,
        /// real_person, real_name or unverified
        #[arg(long, value_name = "WORD")]
        assurance: String,
        /// How long it is good for
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=SESSION_LIFE_MAX.as_secs() / 3_600))]
        hours: u64,
    },
    /// A scanner's token, for one site
    Scanner {
        #[command(flatten)]
        sources: Sources,
        /// The site where it scans
        #[arg(long, value_name = "NAME")]
        site: String,
        /// The organisation whose grants it opens beside live codes
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
        #[command(flatten)]
        life: Lifetime,
    },
    /// An organisation's token: its roster, and declarations for those who are on it
    Organisation {
        #[command(flatten)]
        sources: Sources,
        /// The organisation, as residents name it in their grants
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        life: Lifetime,
    },
    /// A staff member's token: registration of people without an eligible document, entries of a region
    Staff {
        #[command(flatten)]
        sources: Sources,
        /// Who it is; recorded at every look at a person
        #[arg(long, value_name = "NAME")]
        name: String,
        /// The division of GB/T 2260 that it is for, six digits
        #[arg(long, value_name = "REGION")]
        region: String,
        #[command(flatten)]
        life: Lifetime,
    },
    /// An operator's token: it revokes other tokens
    Operator {
        #[command(flatten)]
        sources: Sources,
        /// Who it is
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        life: Lifetime,
    },
    /// An authority's token: it feeds as its own source, and as others that are named here
    Authority {
        #[command(flatten)]
        sources: Sources,
        /// The source that it feeds as
        #[arg(long, value_name = "NAME")]
        source: String,
        /// Other sources that it may speak for, as an exchange does; separated by commas
        #[arg(long = "for", value_name = "NAMES", value_delimiter = ',')]
        others: Vec<String>,
        /// The certificate with which it comes, PEM: the token is refused without it, and where the operations door asks for none
        /// (`ops_client_ca`)
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        #[command(flatten)]
        life: Lifetime,
    },
}

#[derive(Args)]
struct Lifetime {
    /// How long it is good for
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=ACCESS_TOKEN_LIFE_MAX.as_secs() / 86_400))]
    days: u64,
}

/// A seal that makes tokens: the ring is all that it takes.
fn seal(sources: &Sources) -> Result<Seal, Failure> {
    let settings = settings(sources.raw())?;
    Ok(Seal::new(&RingFile::read(&settings.keys)?, settings.seal))
}

const DAY: Duration = Duration::from_secs(86_400);

impl Token {
    pub fn run(self) -> CommandResult {
        say(&make(self.whose)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn make(whose: TokenHolder) -> Result<String, Failure> {
    let now = Time::now();
    match whose {
        TokenHolder::Resident {
            sources,
            whom,
            name,
            assurance,
            hours,
        } => {
            let document = whom.document(now)?;
            if !person::is_name(&name) {
                return Err(
                    anyhow!("--name: 1 to 64 characters, none of them for machines").into(),
                );
            }
            let assurance = Assurance::parse(&assurance)
                .ok_or_else(|| anyhow!("--assurance: real_person, real_name or unverified"))?;
            let seal = seal(&sources)?;
            let session = Session {
                identity: seal.identify(&document),
                steps: 0,
                member: None,
                masked: MaskedIdentity {
                    name: MaskedName::of(&name),
                    cert_no: document.mask(),
                    assurance,
                },
                issued_at: now,
                expires_at: now.plus(Duration::from_secs(3600 * hours)),
            };
            Ok(seal.session(&Nonces::new(), &session))
        }
        TokenHolder::Scanner {
            sources,
            site,
            organisation,
            life,
        } => {
            if !(1..=NAME_BYTES_MAX).contains(&site.len()) || site.chars().any(char::is_control) {
                return Err(anyhow!("--site: 1 to {NAME_BYTES_MAX} bytes").into());
            }
            if let Some(organisation) = &organisation {
                check_name("--organisation", organisation)?;
            }
            let name = AccessToken::bound_name(&site, organisation.as_deref());
            pass(&sources, TokenKind::Scanner, name, &life, now)
        }
        TokenHolder::Organisation {
            sources,
            name,
            life,
        } => {
            check_name("--name", &name)?;
            pass(&sources, TokenKind::Organisation, name, &life, now)
        }
        TokenHolder::Staff {
            sources,
            name,
            region,
            life,
        } => {
            check_name("--name", &name)?;
            if parse_region(&region).is_none() {
                return Err(anyhow!("--region: a division of GB/T 2260, six digits").into());
            }
            let name = AccessToken::bound_name(&name, Some(&region));
            pass(&sources, TokenKind::Staff, name, &life, now)
        }
        TokenHolder::Operator {
            sources,
            name,
            life,
        } => {
            check_name("--name", &name)?;
            pass(&sources, TokenKind::Operator, name, &life, now)
        }
        TokenHolder::Authority {
            sources,
            source,
            others,
            certificate,
            life,
        } => {
            check_name("--source", &source)?;
            for other in &others {
                check_name("--for", other)?;
            }
            let others = others.join(",");
            let name =
                AccessToken::bound_name(&source, Some(&*others).filter(|named| !named.is_empty()));
            let name = match certificate {
                None => name,
                Some(path) => {
                    let digest = CertificateDigest::of_file(&path)
                        .map_err(|error| anyhow!("--certificate: {error}"))?;
                    AccessToken::with_certificate(&name, &digest.hex())
                }
            };
            if name.len() > ACCESS_TOKEN_NAME_BYTES_MAX {
                let most = ACCESS_TOKEN_NAME_BYTES_MAX + others.len() - name.len();
                return Err(
                    anyhow!("--for: all sources together have {most} bytes at most").into(),
                );
            }
            pass(&sources, TokenKind::Authority, name, &life, now)
        }
    }
}

fn check_name(flag: &str, name: &str) -> anyhow::Result<()> {
    if !is_source(name) {
        bail!("{flag}: 1 to {NAME_BYTES_MAX} letters, digits, dots, hyphens or underscores");
    }
    Ok(())
}

fn pass(
    sources: &Sources,
    kind: TokenKind,
    name: String,
    life: &Lifetime,
    now: Time,
) -> Result<String, Failure> {
    let pass = AccessToken {
        name,
        issued_at: now,
        expires_at: now.plus(DAY * life.days as u32),
    };
    Ok(seal(sources)?.pass(kind, &Nonces::new(), &pass))
}
