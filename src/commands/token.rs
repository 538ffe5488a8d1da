//! `token`: makes credentials with the key ring alone, for residents, scanners and offices; lists and revokes them.

use super::arguments::DocumentArgs;
use super::failure::{CommandResult, Failure};
use super::key_ring::ring;
use super::log::log;
use super::node_client::{NodeClient, RemoteArgs, problem};
use super::sources::{Sources, settings};
use super::stores::{must_exist, open_existing, runtime, started};
use super::terminal::{note, say};
use super::token_register::{
    self, MadeToken, RegisterContents, RegisterLine, RevokedTokens, TokenRegister, digits,
};
use crate::clock::Time;
use crate::config::Settings;
use crate::desk::revocation::{self, RevokedByCommand};
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
use hyper::{Request, StatusCode};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Make a token and print it; list tokens, revoke tokens
///
/// Each token has a number. `tokens.ndjson` beside the key ring keeps number, role, name and expiry of each token, never the
/// token.
#[derive(Args)]
pub struct Token {
    #[command(subcommand)]
    what: TokenAction,
}

#[derive(Subcommand)]
enum TokenAction {
    #[command(flatten)]
    Make(TokenHolder),
    /// List the tokens in force that were made with this key ring, according to the register beside it
    List {
        #[command(flatten)]
        sources: Sources,
        /// List expired and revoked tokens too
        #[arg(long)]
        all: bool,
        /// The register [default: tokens.ndjson beside the key ring]
        #[arg(long, value_name = "FILE")]
        register: Option<PathBuf>,
    },
    /// Revoke a token by its number, or all tokens of a holder; the token's text is not needed
    ///
    /// Effective on all nodes within two seconds. Writes to the store, or with `--to` through a running node, which is required
    /// for an embedded store in use.
    Revoke(RevokeArgs),
}

#[derive(Args)]
struct RevokeArgs {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    whose: RevokedHolder,
    /// The role of the name: scanner, authority, organisation, staff, operator [default: the one in the register]
    #[arg(long, value_name = "ROLE", requires = "name")]
    role: Option<String>,
    /// The register [default: tokens.ndjson beside the key ring]
    #[arg(long, value_name = "FILE")]
    register: Option<PathBuf>,
    /// Operations door of a running node, with an operator's token: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct RevokedHolder {
    /// Number of the token, 16 hexadecimal digits, as in `token list` and the audit log
    #[arg(long, value_name = "N")]
    number: Option<String>,
    /// Holder of tokens: all that were made so far
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The scanners of this site
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
}

#[derive(Subcommand)]
enum TokenHolder {
    /// A resident's session, for tests and for staff who help a resident
    ///
    /// The resident need not be on record: until then the code shows `unknown`.
    Resident {
        #[command(flatten)]
        sources: Sources,
        #[command(flatten)]
        whom: DocumentArgs,
        /// The resident's name; `@FILE` or `-` reads it
        #[arg(long, value_name = "NAME|@FILE|-", value_parser = super::arguments::private_value)]
        name: String,
        /// real_person, real_name or unverified
        #[arg(long, value_name = "WORD")]
        assurance: String,
        /// Validity in hours
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=SESSION_LIFE_MAX.as_secs() / 3_600))]
        hours: u64,
    },
    /// A scanner's token for one site
    Scanner {
        #[command(flatten)]
        sources: Sources,
        /// Site of the scanner
        #[arg(long, value_name = "NAME")]
        site: String,
        /// Organisation whose grants it opens beside live codes
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
        #[command(flatten)]
        life: Lifetime,
    },
    /// An organisation's token: its roster, and declarations for its members
    Organisation {
        #[command(flatten)]
        sources: Sources,
        /// Name of the organisation, as residents state it in their grants
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        life: Lifetime,
    },
    /// A staff member's token: registration of people without an eligible document, entries to a region
    Staff {
        #[command(flatten)]
        sources: Sources,
        /// Holder; recorded with every look at a person
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Division of GB/T 2260 of the staff member, six digits
        #[arg(long, value_name = "REGION")]
        region: String,
        #[command(flatten)]
        life: Lifetime,
    },
    /// An operator's token: it revokes other tokens
    Operator {
        #[command(flatten)]
        sources: Sources,
        /// Holder
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        life: Lifetime,
    },
    /// An authority's token: it feeds as its own source, and as others that are named here
    Authority {
        #[command(flatten)]
        sources: Sources,
        /// Source that it feeds as
        #[arg(long, value_name = "NAME")]
        source: String,
        /// Other sources that it may speak for; separated by commas
        #[arg(long = "for", value_name = "NAMES", value_delimiter = ',')]
        others: Vec<String>,
        /// Client certificate that must come with the token, PEM. Without it, and at a door without `ops_client_ca`, the token
        /// is refused
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        #[command(flatten)]
        life: Lifetime,
    },
}

#[derive(Args)]
struct Lifetime {
    /// Validity in days
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=ACCESS_TOKEN_LIFE_MAX.as_secs() / 86_400))]
    days: u64,
}

/// Returns a seal for making tokens, which needs the ring only.
fn seal(sources: &Sources) -> Result<(Seal, Settings), Failure> {
    let settings = settings(sources.raw())?;
    let seal = Seal::new(&RingFile::read(&settings.keys)?, settings.seal.clone());
    Ok((seal, settings))
}

/// Time for a node to answer a revocation.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(86_400);

impl Token {
    pub fn run(self) -> CommandResult {
        match self.what {
            TokenAction::Make(whose) => {
                let issued = make(whose)?;
                issued.register();
                say(&issued.token)?;
            }
            TokenAction::List {
                sources,
                all,
                register,
            } => list(&sources, all, register)?,
            TokenAction::Revoke(asked) => revoke(&asked)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A token and its line in the register.
struct IssuedToken {
    token: String,
    line: MadeToken,
    ring: PathBuf,
}

impl IssuedToken {
    fn of(
        settings: &Settings,
        kind: TokenKind,
        seal: &Seal,
        token: String,
        pass: &AccessToken,
    ) -> Result<IssuedToken, Failure> {
        let number = match kind {
            TokenKind::Session => {
                let session = seal.open_session(token.as_bytes(), pass.issued_at);
                session.map(|session| session.identity.number())
            }
            kind => {
                let id = seal.admits(kind, token.as_bytes(), pass.issued_at);
                id.map(|id| id.0)
            }
        };
        let number = number.map_err(|_| anyhow!("the token that was made cannot be opened"))?;
        let is_person = kind == TokenKind::Session;
        let line = MadeToken {
            number: digits(number),
            role: revocation::role_of(kind).to_owned(),
            name: (!is_person).then(|| pass.holder().to_owned()),
            bound_to: pass.bound().map(str::to_owned),
            certificate: pass.certificate().map(str::to_owned),
            key: seal.current_key(),
            made_at: pass.issued_at.to_string(),
            until: pass.expires_at.to_string(),
            by: token_register::by(),
        };
        Ok(IssuedToken {
            token,
            line,
            ring: settings.keys.clone(),
        })
    }

    /// Writes the line to the register. A folder that cannot be written to, such as a mounted secret, stops no token.
    fn register(&self) {
        let register = TokenRegister::beside(&self.ring);
        if let Err(error) = register.append(&RegisterLine::Made(self.line.clone())) {
            note(&format!(
                "{}: {error}: the token is not in the register; its number is {}",
                register.path().display(),
                self.line.number
            ));
        }
    }
}

fn register(named: Option<&PathBuf>, settings: &Settings) -> TokenRegister {
    match named {
        Some(path) => TokenRegister::at(path.clone()),
        None => TokenRegister::beside(&settings.keys),
    }
}

fn read(register: &TokenRegister) -> Result<RegisterContents, Failure> {
    let contents = register
        .read()
        .map_err(|error| anyhow!("{}: {error}", register.path().display()))?;
    if contents.unreadable > 0 {
        let path = register.path().display();
        let lines = contents.unreadable;
        note(&format!("{path}: {lines} lines cannot be read"));
    }
    Ok(contents)
}

fn list(sources: &Sources, all: bool, named: Option<PathBuf>) -> Result<(), Failure> {
    let settings = settings(sources.raw())?;
    let ring = RingFile::read(&settings.keys)?;
    let keys: Vec<u8> = ring.lines().iter().map(|key| key.id).collect();
    let contents = read(&register(named.as_ref(), &settings))?;
    let now = token_register::now();
    say("number\trole\tname\tbound to\tmade\tuntil\tstate\tby")?;
    for made in &contents.made {
        // Texts of one time format sort like the times.
        let state = if contents.revoked.iter().any(|one| one.ends(made)) {
            "revoked"
        } else if made.until <= now {
            "expired"
        } else if !keys.contains(&made.key) {
            "key gone"
        } else {
            "in force"
        };
        if !all && state != "in force" {
            continue;
        }
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let bound: Vec<String> = [
            made.bound_to.clone(),
            made.certificate.as_ref().map(|sha| format!("sha256:{sha}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let bound = Some(bound.join(" ")).filter(|bound| !bound.is_empty());
        say(&format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{state}\t{}",
            made.number,
            made.role,
            or_none(&made.name),
            or_none(&bound),
            made.made_at,
            made.until,
            made.by
        ))?;
    }
    Ok(())
}

/// Returns the role of a name in the register.
fn role_in(contents: &RegisterContents, name: &str) -> anyhow::Result<String> {
    let mut roles: Vec<&str> = (contents.made.iter())
        .filter(|made| made.name.as_deref() == Some(name))
        .map(|made| made.role.as_str())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    match roles[..] {
        [role] => Ok(role.to_owned()),
        [] => bail!("the register has no token of this name: say --role"),
        _ => bail!(
            "the register has this name as {}: say --role",
            roles.join(", ")
        ),
    }
}

fn revoke(asked: &RevokeArgs) -> Result<(), Failure> {
    let settings = settings(asked.sources.raw())?;
    let register = register(asked.register.as_ref(), &settings);
    let RevokedHolder { number, name, site } = &asked.whose;
    let what = match (number, name, site) {
        (Some(number), _, _) => {
            let number = revocation::parse_number(&number.to_ascii_lowercase());
            let number = number.ok_or_else(|| anyhow!("--number: 16 hexadecimal digits"))?;
            RevokedByCommand::Number(number)
        }
        (_, _, Some(site)) => RevokedByCommand::Holder("scanner".to_owned(), site.clone()),
        (_, Some(name), _) => {
            let role = match &asked.role {
                Some(role) => role.clone(),
                None => role_in(&read(&register)?, name)?,
            };
            RevokedByCommand::Holder(role, name.clone())
        }
        (None, None, None) => unreachable!("one of them is required"),
    };
    let at = match &asked.to {
        Some(to) => {
            revoke_at_node(&mut asked.remote.client("--to", to)?, &what)?;
            token_register::now()
        }
        None => {
            let now = Time::now();
            revoke_in_store(&settings, &what, now)?;
            now.to_string()
        }
    };
    let mut line = RevokedTokens {
        number: None,
        role: None,
        name: None,
        revoked_at: at.clone(),
        by: token_register::by(),
    };
    match what {
        RevokedByCommand::Number(number) => line.number = Some(digits(number)),
        RevokedByCommand::Holder(role, name) => {
            (line.role, line.name) = (Some(role), Some(name));
        }
    }
    let revoked = match (&line.number, &line.role, &line.name) {
        (Some(number), _, _) => json!({ "revoked": number, "at": at }),
        (None, role, name) => json!({ "revoked": name, "role": role, "at": at }),
    };
    if let Err(error) = register.append(&RegisterLine::Revoked(line)) {
        let path = register.path().display();
        note(&format!(
            "{path}: {error}: the revocation is in force, but not in the register"
        ));
    }
    Ok(say(&revoked.to_string())?)
}

fn revoke_at_node(node: &mut NodeClient, what: &RevokedByCommand) -> Result<(), Failure> {
    let body = match what {
        RevokedByCommand::Number(number) => json!({ "number": digits(*number) }),
        RevokedByCommand::Holder(role, name) => json!({ "role": role, "name": name }),
    };
    let request = Request::post("/v1/revocations").header("content-type", "application/json");
    let (status, bytes) = node.ask(request, body.to_string().into(), ANSWER_WAIT)?;
    match status {
        StatusCode::CREATED => Ok(()),
        _ => {
            let code = problem(node.authority(), status, &bytes)?.code;
            Err(anyhow!("the node refuses the revocation: {code}").into())
        }
    }
}

fn revoke_in_store(settings: &Settings, what: &RevokedByCommand, now: Time) -> Result<(), Failure> {
    log(&settings.log, settings.log_format)?;
    must_exist(settings)?;
    let ring = ring(settings)?;
    let seal = Seal::new(&ring, settings.seal.clone());
    let (changes, end) = revocation::of_command(&seal, what, now)
        .map_err(|_| anyhow!("--role, --name: the role or the name is invalid"))?;
    let runtime = runtime()?;
    let written = runtime.block_on(async {
        let store = started(open_existing(settings, &seal).await?, settings);
        let written = store.apply(changes).await;
        store.close().await;
        written.map_err(Failure::from)
    });
    written?;
    if let Some(end) = end {
        tracing::info!(audit_end = %end, "the revocation is recorded in the audit log");
    }
    Ok(())
}

fn make(whose: TokenHolder) -> Result<IssuedToken, Failure> {
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
                return Err(anyhow!("--name: 1 to 64 characters, no control characters").into());
            }
            let assurance = Assurance::parse(&assurance)
                .ok_or_else(|| anyhow!("--assurance: real_person, real_name or unverified"))?;
            let (seal, settings) = seal(&sources)?;
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
            let token = seal.session(&Nonces::new(), &session);
            let pass = AccessToken {
                name: String::new(),
                issued_at: session.issued_at,
                expires_at: session.expires_at,
            };
            IssuedToken::of(&settings, TokenKind::Session, &seal, token, &pass)
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
) -> Result<IssuedToken, Failure> {
    let pass = AccessToken {
        name,
        issued_at: now,
        expires_at: now.plus(DAY * life.days as u32),
    };
    let (seal, settings) = seal(sources)?;
    let token = seal.pass(kind, &Nonces::new(), &pass);
    IssuedToken::of(&settings, kind, &seal, token, &pass)
}
