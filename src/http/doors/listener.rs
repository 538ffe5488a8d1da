//! A door that is bound and not served yet.

use crate::http::door::Door;
use crate::http::door_settings::Settings;
use crate::tls::ServerTls;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;

/// A listener that wakes its thread when a connection arrives.
pub(super) type Listener = AsyncFd<std::net::TcpListener>;

/// A door that is bound and not served yet.
pub struct BoundListener {
    /// The door.
    pub door: Door,
    /// The bound address.
    pub address: SocketAddr,
    /// TLS of the door; None for plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    pub(super) listener: std::net::TcpListener,
    pub(super) settings: Settings,
}

/// Binds a door and reads its certificate. Port 0 takes a free one.
///
/// # Errors
///
/// The certificate cannot be loaded, or the address cannot be bound.
pub fn bind(door: Door, settings: Settings) -> io::Result<BoundListener> {
    let tls = settings.tls.clone().map(ServerTls::load);
    let tls = tls.transpose().map_err(io::Error::other)?;
    let domain = socket2::Domain::for_address(settings.address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Connections inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&settings.address.into())?;
    socket.listen(settings.backlog as i32)?;
    let listener: std::net::TcpListener = socket.into();
    Ok(BoundListener {
        door,
        address: listener.local_addr()?,
        tls: tls.map(Arc::new),
        listener,
        settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::AdmissionSettings;
    use crate::admission::busy::BusySettings;
    use std::time::Duration;

    #[test]
    fn small_answers_are_sent_at_once() {
        let settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            tls: None,
            threads: 1,
            niceness: 0,
            admission: AdmissionSettings {
                connections_max: 1,
                queue_delay_target: Duration::from_secs(1),
                busy: BusySettings {
                    per_second: 0,
                    share: 0.0,
                },
            },
            in_flight_least: 1,
            backlog: 1,
            head_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(1),
            head_bytes_max: 1,
        };
        let bound = bind(Door::Resident, settings).expect("bound");
        let socket = socket2::SockRef::from(&bound.listener);
        assert!(socket.tcp_nodelay().expect("an option"));
    }
}
