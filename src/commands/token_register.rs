//! The register of tokens: a file beside the key ring with a line for each token made or revoked by commands. It never holds a
//! token.

use crate::clock::Time;
use crate::desk::audit;
use crate::private_file;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Name of the file in the key ring's folder.
const FILE_NAME: &str = "tokens.ndjson";

/// Longest line in bytes.
const LINE_BYTES_MAX: u64 = 4_096;

/// A register file.
pub struct TokenRegister {
    path: PathBuf,
}

/// A line of the register.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum RegisterLine {
    Made(MadeToken),
    Revoked(RevokedTokens),
}

/// A token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MadeToken {
    /// Number of the token, 16 hexadecimal digits, as in the audit log.
    pub number: String,
    pub role: String,
    /// Holder. Absent for residents, whose names are only in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Organisation of a scanner, region of staff, or further sources of an authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
    /// SHA-256 of the required client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Id of the key that sealed it.
    pub key: u8,
    pub made_at: String,
    pub until: String,
    pub by: String,
}

/// A revocation of a number, or of a role and name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevokedTokens {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub revoked_at: String,
    pub by: String,
}

impl RevokedTokens {
    /// Returns whether the revocation covers a token. One of a name covers tokens made before.
    pub fn ends(&self, made: &MadeToken) -> bool {
        match (&self.number, &self.role, &self.name) {
            (Some(number), _, _) => *number == made.number,
            (None, Some(role), Some(name)) => {
                *role == made.role
                    && made.name.as_ref() == Some(name)
                    && made.made_at <= self.revoked_at
            }
            _ => false,
        }
    }
}

/// Contents of a register.
#[derive(Default)]
pub struct RegisterContents {
    pub made: Vec<MadeToken>,
    pub revoked: Vec<RevokedTokens>,
    /// Number of invalid lines.
    pub unreadable: u64,
}

impl TokenRegister {
    /// Returns the register beside a key ring.
    pub fn beside(ring: &Path) -> TokenRegister {
        TokenRegister {
            path: ring.with_file_name(FILE_NAME),
        }
    }

    pub fn at(path: PathBuf) -> TokenRegister {
        TokenRegister { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line durably. Of two simultaneous commands, each writes its line whole.
    pub fn append(&self, line: &RegisterLine) -> io::Result<()> {
        private_file::create_if_missing(&self.path)?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(&self.path)?;
        file.lock()?;
        let mut text = serde_json::to_string(line).map_err(io::Error::other)?;
        text.push('\n');
        // A cut line is ended first.
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                text.insert(0, '\n');
            }
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    /// Reads every line; none if there is no file.
    pub fn read(&self) -> io::Result<RegisterContents> {
        let mut contents = RegisterContents::default();
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(contents),
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?;
            match read {
                0 => return Ok(contents),
                _ if line.trim_ascii().is_empty() => {}
                _ => match serde_json::from_slice(&line) {
                    Ok(RegisterLine::Made(made)) => contents.made.push(made),
                    Ok(RegisterLine::Revoked(revoked)) => contents.revoked.push(revoked),
                    Err(_) => contents.unreadable += 1,
                },
            }
        }
    }
}

/// Returns the user and host of this command.
pub fn by() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}@{}", audit::user(), host.trim())
}

/// Returns a number as the audit log prints it.
pub fn digits(number: u64) -> String {
    format!("{number:016x}")
}

/// Returns the current time in the register's format.
pub fn now() -> String {
    Time::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn revoked(number: &str) -> RegisterLine {
        RegisterLine::Revoked(RevokedTokens {
            number: Some(number.to_owned()),
            role: None,
            name: None,
            revoked_at: now(),
            by: by(),
        })
    }

    #[test]
    fn a_line_that_was_cut_spoils_itself_alone_and_the_file_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let register = TokenRegister::beside(&folder.path().join("keys"));
        assert!(register.read().unwrap().revoked.is_empty());
        register.append(&revoked("1")).unwrap();
        let mut file = OpenOptions::new()
            .append(true)
            .open(register.path())
            .unwrap();
        file.write_all(b"{\"line\":\"made\",\"num").unwrap();
        register.append(&revoked("2")).unwrap();
        file.write_all(&vec![b'x'; 10_000]).unwrap();
        register.append(&revoked("3")).unwrap();
        let read = register.read().unwrap();
        let numbers: Vec<_> = read
            .revoked
            .iter()
            .map(|one| one.number.clone().unwrap())
            .collect();
        assert_eq!(numbers, ["1", "2", "3"]);
        assert!(read.unreadable >= 2);
        let mode = std::fs::metadata(register.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
