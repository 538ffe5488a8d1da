//! The settings of a door.

use crate::admission::AdmissionSettings;
use crate::tls::ServerFiles;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings of a door.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the listener; port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificate files; None for plain HTTP.
    pub tls: Option<ServerFiles>,
    /// Number of threads that serve connections.
    pub threads: usize,
    /// Niceness of the threads: 0, or more to let others go first.
    pub niceness: i32,
    /// Limits of connections, and refusals beyond them.
    pub admission: AdmissionSettings,
    /// Fewest requests in flight that balancers are told while the door is overloaded.
    pub in_flight_least: usize,
    /// Length of the kernel's accept queue. Clients in a long queue have often left.
    pub backlog: u32,
    /// Time for the rest of a head, and for a TLS handshake.
    pub head_timeout: Duration,
    /// Time between two requests, and before the first.
    pub idle_timeout: Duration,
    /// Time without a byte read or written while a request is answered.
    pub stall_timeout: Duration,
    /// Largest head of a request in bytes.
    pub head_bytes_max: usize,
}
