//! What is asked, byte for byte: sessions, codes and scanner tokens made of the key ring for the residents of a town.
//! In: a ring, residents. Out: requests. The servers that look at nothing get the very same.

use anyhow::{Context, Result, anyhow, ensure};
use liangma::clock::Time;
use liangma::person::{Assurance, Document, Identity, MaskedIdentity, MaskedName};
use liangma::seal::ring::{RingFile, TokenKind};
use liangma::seal::{AccessToken, Code, CodeClass, Nonces, Seal, Session, Settings};
use liangma::synth::Town;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

/// Sessions and tokens outlive every run.
const LIFE: Duration = Duration::from_secs(86_400);
/// A code is made anew after this; it lives a minute.
const CODE_FRESH_MS: u64 = 20_000;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Show,
    Scan,
    Bulk,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Show, Kind::Scan, Kind::Bulk];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Show => "show",
            Kind::Scan => "scan",
            Kind::Bulk => "bulk",
        }
    }
}

/// A line of a feed, as far as it concerns us.
#[derive(Deserialize)]
struct Line {
    event: String,
    cert_type: String,
    cert_no: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    assurance: String,
}

/// Whose codes these are.
pub enum People<'a> {
    /// The first of this file of feed lines.
    Of(&'a Path),
    /// The first of the synthetic town of this seed.
    Town(u64),
}

struct Resident {
    identity: Identity,
    masked: MaskedIdentity,
    show: Vec<u8>,
    code: Option<(Time, [u8; liangma::seal::CODE_CHARS])>,
}

/// Makes requests.
pub struct Asking {
    seal: Seal,
    nonces: Nonces,
    scanner: String,
    gate: SocketAddrV4,
    close: &'static str,
    bulk_lines: usize,
    residents: Vec<Resident>,
}

pub struct Places {
    pub resident: SocketAddrV4,
    pub gate: SocketAddrV4,
    /// Every request is the last of its connection.
    pub close: bool,
    pub bulk_lines: usize,
}

impl Asking {
    /// Without `keys`, of a ring that no node has: for servers that look at nothing.
    pub fn new(keys: Option<&Path>, people: &People, many: usize, places: &Places) -> Result<Self> {
        let ring = match keys {
            Some(path) => RingFile::read(path)?,
            None => RingFile::generate(Time::now()),
        };
        let settings = Settings {
            code_life: Duration::from_secs(60),
            clock_skew: Duration::from_secs(2),
            issuer: None,
        };
        let (seal, nonces, now) = (Seal::new(&ring, settings), Nonces::new(), Time::now());
        let pass = AccessToken {
            name: "loadtest".into(),
            issued_at: now,
            expires_at: now.plus(LIFE),
        };
        let scanner = seal.pass(TokenKind::Scanner, &nonces, &pass);
        let close = if places.close {
            "Connection: close\r\n"
        } else {
            ""
        };
        let mut residents = Vec::with_capacity(many);
        for (document, masked) in masked_identities(people, many)? {
            let identity = seal.identify(&document);
            let session = Session {
                identity,
                steps: 0,
                member: None,
                masked,
                issued_at: now,
                expires_at: now.plus(LIFE),
            };
            let session = seal.session(&nonces, &session);
            let host = places.resident;
            residents.push(Resident {
                identity,
                masked,
                show: format!("GET /v1/code HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {session}\r\n{close}\r\n").into(),
                code: None,
            });
        }
        ensure!(!residents.is_empty(), "no resident to ask for");
        Ok(Asking {
            seal,
            nonces,
            scanner,
            gate: places.gate,
            close,
            bulk_lines: places.bulk_lines,
            residents,
        })
    }

    pub fn residents(&self) -> usize {
        self.residents.len()
    }

    /// Makes all codes, so that none is made in the first second of a run.
    pub fn make_codes(&mut self) {
        let now = Time::now();
        for nth in 0..self.residents.len() {
            self.code(nth, now);
        }
    }

    /// A show of one resident.
    pub fn show(&self, resident: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.residents[resident].show);
    }

    /// The request of one resident, in place of what `out` held.
    pub fn write(&mut self, kind: Kind, resident: usize, out: &mut Vec<u8>) {
        out.clear();
        let (path, lines) = match kind {
            Kind::Show => return self.show(resident, out),
            Kind::Scan => ("/v1/scan", 1),
            Kind::Bulk => ("/v1/scan/bulk", self.bulk_lines),
        };
        let (now, many) = (Time::now(), self.residents.len());
        let each = liangma::seal::CODE_CHARS + usize::from(kind == Kind::Bulk);
        write!(
            out,
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n",
            self.gate,
            self.scanner,
            each * lines,
            self.close,
        )
        .expect("memory takes it");
        for nth in 0..lines {
            let code = self.code((resident + nth) % many, now);
            out.extend_from_slice(&code);
            if kind == Kind::Bulk {
                out.push(b'\n');
            }
        }
    }

    fn code(&mut self, resident: usize, now: Time) -> [u8; liangma::seal::CODE_CHARS] {
        let of = &mut self.residents[resident];
        if let Some((made, text)) = of.code
            && now.0 < made.0 + CODE_FRESH_MS
        {
            return text;
        }
        let code = Code {
            resident: of.identity.home,
            check: of.identity.check(),
            class: CodeClass::Live,
            issued_at: now,
            masked: of.masked,
        };
        let text = self.seal.code(&self.nonces, &code).0;
        of.code = Some((now, text));
        text
    }
}

fn masked_identities(people: &People, many: usize) -> Result<Vec<(Document, MaskedIdentity)>> {
    let today = Time::now().day();
    let masked = |cert_type: &str, cert_no: &str, name: &str, assurance: Assurance| {
        let document = Document::parse(cert_type, cert_no, today)
            .map_err(|bad| anyhow!("{cert_type} {cert_no}: {bad:?}"))?;
        let masked = MaskedIdentity {
            name: MaskedName::of(name),
            cert_no: document.mask(),
            assurance,
        };
        anyhow::Ok((document, masked))
    };
    match people {
        People::Town(seed) => {
            let town = Town {
                residents: many as u64,
                seed: *seed,
            };
            (0..many as u64)
                .map(|nth| town.resident(nth))
                .map(|r| masked(r.cert_type.code(), &r.cert_no, &r.name, r.assurance))
                .collect()
        }
        People::Of(path) => {
            let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
            let mut found = Vec::with_capacity(many);
            for line in BufReader::new(file).lines() {
                let line: Line = serde_json::from_str(&line?)?;
                if line.event != "resident" {
                    continue;
                }
                let assurance = Assurance::parse(&line.assurance).context("an assurance")?;
                found.push(masked(
                    &line.cert_type,
                    &line.cert_no,
                    &line.name,
                    assurance,
                )?);
                if found.len() == many {
                    break;
                }
            }
            Ok(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(close: bool) -> Asking {
        let place = "127.0.0.1:80".parse().unwrap();
        let places = Places {
            resident: place,
            gate: place,
            close,
            bulk_lines: 3,
        };
        Asking::new(None, &People::Town(1), 10, &places).unwrap()
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let mut asking = asking(true);
        let mut out = Vec::new();
        for kind in Kind::ALL {
            asking.write(kind, 9, &mut out);
            let text = String::from_utf8(out.clone()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let said = head.split("Content-Length: ").nth(1);
            let said = said.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            assert_eq!(body.len(), said, "{kind:?}");
            assert!(head.contains("Bearer ") && head.ends_with("Connection: close"));
            assert_eq!(body.lines().count(), [0, 1, 3][kind as usize]);
        }
    }

    #[test]
    fn its_codes_open_with_its_ring_and_are_kept() {
        let mut asking = asking(false);
        let now = Time::now();
        let code = asking.code(4, now);
        assert!(asking.seal.open_code(&code, now).is_ok());
        assert_eq!(asking.code(4, now), code);
        assert_ne!(asking.code(4, Time(now.0 + CODE_FRESH_MS)), code);
    }
}
