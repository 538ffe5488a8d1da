//! What a node tells the service manager (systemd, `Type=notify`): that it is up, and that it ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable in which systemd names its socket; absent under anything else.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The doors are open.
    Serving,
    /// All that this machine alone decides is done, and the node waits for its store. `systemctl start` must not wait with it: an
    /// upgrade while the store is away would never end.
    WaitingForStore,
    /// The node drains.
    Draining,
}

impl Notice {
    fn text(self) -> &'static str {
        match self {
            Notice::Serving => "READY=1\nSTATUS=The doors are open.",
            Notice::WaitingForStore => "READY=1\nSTATUS=Waiting for the store.",
            Notice::Draining => "STOPPING=1\nSTATUS=Draining.",
        }
    }
}

/// Tells the service manager, if there is one. A failure is logged: the node serves without it.
pub fn tell(notice: Notice) {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    if let Err(error) = send(socket.as_encoded_bytes(), notice) {
        tracing::warn!(%error, socket = %socket.display(), "a notice cannot be sent to the service manager");
    }
}

/// Sends a notice to a socket: a path, or `@` and an abstract name.
fn send(socket: &[u8], notice: Notice) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read holds up no node.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(notice.text().as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_arrives_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@liangma-test-{}", std::process::id());
        let named = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        for (receiver, socket) in [
            (UnixDatagram::bind(&path), path.to_str().unwrap()),
            (UnixDatagram::bind_addr(&named), name.as_str()),
        ] {
            let receiver = receiver.unwrap();
            for notice in [Notice::Serving, Notice::WaitingForStore, Notice::Draining] {
                send(socket.as_bytes(), notice).unwrap();
                let mut text = [0; 128];
                let length = receiver.recv(&mut text).unwrap();
                assert_eq!(&text[..length], notice.text().as_bytes());
            }
        }
        assert!(send(b"/there/is/none", Notice::Serving).is_err());
    }
}
