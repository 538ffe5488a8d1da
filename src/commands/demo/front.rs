//! One name for the resident, gate and desk doors of the demonstration, as a balancer gives them in earnest: so a person has
//! the desk a tap away from the code.

use crate::http::query::plain_path;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// A browser keeps connections for the next question; past this it asks on a new one.
const QUIET_MAX: Duration = Duration::from_secs(60);

/// Where the paths of the one name lead.
#[derive(Clone, Copy)]
pub struct Front {
    pub resident: SocketAddr,
    pub gate: SocketAddr,
    pub desk: SocketAddr,
}

impl Front {
    /// Opens it, for as long as the runtime lives; on a free port where `port` is taken. Returns its address.
    pub async fn open(self, port: u16) -> io::Result<SocketAddr> {
        let at = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = match at(port).await {
            Ok(listener) => listener,
            Err(_) => at(0).await?,
        };
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(self.serve(stream))),
                    // Out of descriptors: those who have some give them back.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(address)
    }

    async fn serve(self, stream: TcpStream) {
        let pass = service_fn(move |request| self.pass(request));
        // Whoever leaves in the middle is nobody's fault.
        let _ = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(QUIET_MAX)
            .serve_connection(TokioIo::new(stream), pass)
            .await;
    }

    /// A connection of its own for each question. A door that closes it without an answer has the browser's closed too.
    async fn pass(self, mut request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        let door = self.door(request.uri().path());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(door).await?))
                .await?;
        tokio::spawn(connection);
        request.headers_mut().remove(CONNECTION);
        request
            .headers_mut()
            .insert(HOST, door.to_string().parse()?);
        let mut response = sender.send_request(request).await?;
        response.headers_mut().remove(CONNECTION);
        Ok(response)
    }

    /// As deploy/haproxy maps them: what is neither shown nor scanned is the desk's, pages too.
    fn door(&self, path: &str) -> SocketAddr {
        let path = plain_path(path);
        match &*path {
            "/v1/code" => self.resident,
            "/v1/scan" => self.gate,
            _ if path.starts_with("/v1/scan/") => self.gate,
            _ => self.desk,
        }
    }
}
