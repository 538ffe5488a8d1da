//! Certificates.

use crate::harness::folder;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A certificate authority, and what it says of a server on 127.0.0.1 and of a client.
pub struct Tls {
    folder: TempDir,
}

impl Tls {
    #[track_caller]
    pub fn make() -> Tls {
        let tls = Tls { folder: folder() };
        let settings = "[req]\ndistinguished_name=name\nprompt=no\n[name]\nO=liangma tests\n\
            [ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
            [leaf]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1\n";
        fs::write(tls.file("openssl.cnf"), settings).expect("a folder of ours");
        for (name, section) in [("ca", "ca"), ("server", "leaf"), ("client", "leaf")] {
            let mut command = Command::new("openssl");
            command.current_dir(tls.folder.path()).stdin(Stdio::null());
            command.args("req -x509 -config openssl.cnf -days 30 -nodes -newkey ec".split(' '));
            command.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
            command.args(["-subj", &format!("/CN=liangma {name}")]);
            command.args(["-extensions", section]);
            command.args(["-keyout", &format!("{name}.key")]);
            command.args(["-out", &format!("{name}.crt")]);
            if section == "leaf" {
                command.args(["-CA", "ca.crt", "-CAkey", "ca.key"]);
            }
            let output = command.output().expect("openssl runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
        tls
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `ca.crt`, `server.crt`, `server.key`, `client.crt` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn settings(&self, port: u16) -> [String; 5] {
        let file = |name| self.file(name).display().to_string();
        [
            "port 0".to_owned(),
            format!("tls-port {port}"),
            format!("tls-cert-file {}", file("server.crt")),
            format!("tls-key-file {}", file("server.key")),
            format!("tls-ca-cert-file {}", file("ca.crt")),
        ]
    }
}
