//! One redis-server process, which can be killed, frozen, emptied and put back.

use super::tls::Tls;
use crate::harness::{DEADLINE, folder, shifted, until};
use crate::process::{free_port, signal, spawn, threads};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What is kept of a server's data: its folder has nothing else of it.
const DATA: [&str; 2] = ["appendonlydir", "dump.rdb"];

/// One redis-server process on loopback, with a folder of its own; killed when dropped.
pub struct Server {
    folder: TempDir,
    port: u16,
    pub password: Option<String>,
    /// Whether the tests log in as `operator`, not as the default user.
    operated: bool,
    certificates: Option<PathBuf>,
    /// A file that shifts its time of day.
    clock: Option<PathBuf>,
    child: Option<Child>,
}

/// A server's data as it once was.
pub struct Backup(TempDir);

impl Server {
    /// `settings` are lines of a redis.conf, after those that all servers here have.
    #[track_caller]
    pub fn start(settings: &[&str]) -> Server {
        Server::open(None, &[&COMMON, settings].concat())
    }

    /// As [`Server::start`], and it speaks nothing but TLS; `tls` must outlive it.
    #[track_caller]
    pub fn start_tls(tls: &Tls, settings: &[&str]) -> Server {
        Server::open(Some(tls), &[&COMMON, settings].concat())
    }

    /// As [`Server::start`], with a time of day that is shifted by what `clock` says.
    #[track_caller]
    pub fn start_shifted(clock: &Path) -> Server {
        Server::open_at(None, &COMMON, Some(clock))
    }

    #[track_caller]
    pub fn open(tls: Option<&Tls>, settings: &[&str]) -> Server {
        Server::open_at(tls, settings, None)
    }

    #[track_caller]
    fn open_at(tls: Option<&Tls>, settings: &[&str], clock: Option<&Path>) -> Server {
        // A port that was free may be another process's by now; nobody has so much bad luck twenty times.
        for _ in 0..20 {
            let mut server = Server {
                folder: folder(),
                port: free_port(),
                password: password(settings).or(operator(settings)).map(str::to_owned),
                operated: operator(settings).is_some(),
                certificates: tls.map(|tls| tls.folder().to_owned()),
                clock: clock.map(Path::to_owned),
                child: None,
            };
            let door = match tls {
                None => format!("port {}", server.port),
                Some(tls) => tls.settings(server.port).join("\n"),
            };
            let place = server.path("").display().to_string();
            let lines = format!(
                "bind 127.0.0.1\nloglevel warning\ndir {place}\n{door}\n{}\n",
                settings.join("\n")
            );
            fs::write(server.path("redis.conf"), lines).expect("a folder of ours");
            if server.run() {
                return server;
            }
            let log = server.log();
            assert!(log.contains("Failed listening on port"), "{log}");
        }
        panic!("no free port");
    }

    /// Starts the process and waits until it answers; false if it ended instead.
    #[track_caller]
    fn run(&mut self) -> bool {
        let mut log = fs::File::options();
        let log = log.create(true).append(true).open(self.path("redis.log"));
        let log = log.expect("a folder of ours");
        let mut command = Command::new("redis-server");
        command.arg("redis.conf").current_dir(self.path(""));
        let settings = fs::read_to_string(self.path("redis.conf")).expect("it was written");
        if settings.contains("sentinel monitor") {
            command.arg("--sentinel");
        }
        if let Some(clock) = &self.clock {
            command.envs(shifted(clock));
        }
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let child = spawn(command).expect("redis-server runs");
        // On this port another may have come first: it must be ours that answers.
        let ours = format!("\nprocess_id:{}\r", child.id());
        self.child = Some(child);
        until("the redis server answers", || {
            let answers = |info: String| info.contains(&ours) && !info.contains("\nloading:1");
            !self.is_running() || answers(self.info("everything"))
        });
        self.is_running()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn url(&self) -> String {
        let scheme = match self.certificates {
            None => "redis",
            Some(_) => "rediss",
        };
        format!("{scheme}://{}", self.address())
    }

    /// The reply as redis-cli prints it into a pipe: an array's elements one a line, nil as nothing, an error as its text.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> String {
        let reply = self.reply(command, DEADLINE);
        reply.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// None when it does not answer within a second.
    pub fn try_ask(&self, command: &[&str]) -> Option<String> {
        self.reply(command, Duration::from_secs(1)).ok()
    }

    fn reply(&self, command: &[&str], patience: Duration) -> io::Result<String> {
        if let Some(certificates) = &self.certificates {
            return self.reply_by_cli(certificates, command, patience);
        }
        let stream = TcpStream::connect_timeout(&self.address(), patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut stream = BufReader::new(stream);
        if let Some(password) = &self.password {
            let auth = match self.operated {
                true => request(&["AUTH", "operator", password]),
                false => request(&["AUTH", password]),
            };
            stream.get_mut().write_all(&auth)?;
            read_reply(&mut stream)?;
        }
        stream.get_mut().write_all(&request(command))?;
        read_reply(&mut stream)
    }

    /// There is no TLS in the standard library.
    fn reply_by_cli(
        &self,
        certificates: &Path,
        command: &[&str],
        patience: Duration,
    ) -> io::Result<String> {
        let mut cli = Command::new("timeout");
        cli.arg(patience.as_secs().to_string());
        cli.args(["redis-cli", "-p", &self.port.to_string(), "--tls"]);
        for (option, file) in [
            ("--cacert", "ca.crt"),
            ("--cert", "client.crt"),
            ("--key", "client.key"),
        ] {
            cli.arg(option).arg(certificates.join(file));
        }
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        let output = cli.args(command).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("{}: {said}", output.status)));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(said.trim_end_matches('\n').to_owned())
    }

    /// A section of INFO; nothing if it does not answer.
    pub fn info(&self, section: &str) -> String {
        self.try_ask(&["INFO", section]).unwrap_or_default()
    }

    pub fn is_primary(&self) -> bool {
        self.info("replication").contains("role:master")
    }

    /// Whether it is a primary that so many replicas follow, and they have its data.
    pub fn is_followed(&self, replicas: usize) -> bool {
        self.is_primary() && self.info("replication").matches("state=online").count() == replicas
    }

    /// Whether it is a replica that has its primary's data.
    pub fn follows(&self) -> bool {
        self.info("replication").contains("master_link_status:up")
    }

    fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether there is a process of it, frozen or not.
    pub fn is_running(&self) -> bool {
        self.pid()
            .is_some_and(|pid| !threads(pid).iter().all(|state| "ZX".contains(*state)))
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), libc::SIGKILL);
            child.wait().expect("a child of ours");
        }
    }

    /// Starts it anew, if need be after killing it: the same port, the same data.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.run(), "{}", self.log());
    }

    /// Throws its data away.
    #[track_caller]
    pub fn empty(&mut self) {
        assert!(!self.is_running(), "kill it first");
        let [folder, file] = DATA.map(|name| self.path(name));
        if folder.exists() {
            fs::remove_dir_all(folder).expect("a folder of ours");
        }
        if file.exists() {
            fs::remove_file(file).expect("a file of ours");
        }
    }

    /// Stops it where it is: its connections stay, and nothing is answered.
    #[track_caller]
    pub fn freeze(&self) {
        let pid = self.pid().expect("it runs");
        signal(pid, libc::SIGSTOP);
        until("the redis server is frozen", || {
            threads(pid).iter().all(|state| *state == 'T')
        });
    }

    pub fn thaw(&self) {
        signal(self.pid().expect("it runs"), libc::SIGCONT);
    }

    /// A copy of its data at one moment; with `appendfsync always`, of all that it has said yes to.
    #[track_caller]
    pub fn keep(&self) -> Backup {
        let backup = Backup(folder());
        if self.is_running() {
            self.freeze();
        }
        copy_data(self.folder.path(), backup.0.path());
        if self.is_running() {
            self.thaw();
        }
        backup
    }

    /// Puts back data that were kept, of this server or another one; while it is killed.
    #[track_caller]
    pub fn restore(&mut self, backup: &Backup) {
        self.empty();
        copy_data(backup.0.path(), self.folder.path());
    }

    /// What it has logged and printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("redis.log")).expect("it was written")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

const COMMON: [&str; 6] = [
    "save \"\"",
    "appendonly yes",
    "appendfsync always",
    "hash-max-listpack-entries 256",
    "hash-max-listpack-value 1024",
    "repl-diskless-sync-delay 0",
];

pub fn password<'a>(settings: &[&'a str]) -> Option<&'a str> {
    let mut found = settings
        .iter()
        .filter_map(|line| line.strip_prefix("requirepass "));
    found.next_back()
}

/// The password of a user of this name.
fn operator<'a>(settings: &[&'a str]) -> Option<&'a str> {
    let mut lines = settings.iter();
    let line = lines.find_map(|line| line.strip_prefix("user operator on >"))?;
    line.split(' ').next()
}

/// The settings of servers that follow each other.
pub fn among_others(settings: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = settings.iter().map(ToString::to_string).collect();
    lines.extend(password(settings).map(|password| format!("masterauth {password}")));
    lines
}

pub fn start_with(own: &[&str], settings: &[String]) -> Server {
    let settings = settings.iter().map(String::as_str);
    Server::start(&own.iter().copied().chain(settings).collect::<Vec<_>>())
}

fn copy_data(from: &Path, to: &Path) {
    for name in DATA {
        let (from, to) = (from.join(name), to.join(name));
        if from.is_dir() {
            fs::create_dir(&to).expect("a folder of ours");
            for entry in fs::read_dir(from).expect("a folder of ours") {
                let entry = entry.expect("a folder of ours");
                fs::copy(entry.path(), to.join(entry.file_name())).expect("a file of ours");
            }
        } else if from.is_file() {
            fs::copy(from, to).expect("a file of ours");
        }
    }
}

fn request(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len());
    for word in command {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    bytes.into_bytes()
}

fn read_reply(from: &mut impl BufRead) -> io::Result<String> {
    let strange = |line: &str| io::Error::other(format!("a strange reply: {line:?}"));
    let mut line = String::new();
    from.read_line(&mut line)?;
    let Some(line) = line.strip_suffix("\r\n") else {
        return Err(strange(&line));
    };
    let length = || line[1..].parse::<i64>().map_err(|_| strange(line));
    match line.as_bytes().first() {
        Some(b'+' | b'-' | b':') => Ok(line[1..].to_owned()),
        Some(b'$') if length()? < 0 => Ok(String::new()),
        Some(b'$') => {
            let mut bytes = vec![0; length()? as usize + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Some(b'*') => {
            let elements = (0..length()?).map(|_| read_reply(from));
            Ok(elements.collect::<io::Result<Vec<_>>>()?.join("\n"))
        }
        _ => Err(strange(line)),
    }
}

pub fn ports(servers: &[Server]) -> String {
    let addresses = servers.iter().map(|server| server.address().to_string());
    addresses.collect::<Vec<_>>().join(",")
}

#[track_caller]
pub fn tell(server: &Server, command: &[&str]) {
    assert_eq!(server.ask(command), "OK", "{command:?}");
}
