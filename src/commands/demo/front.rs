//! One name for the resident, gate and desk doors of the demonstration, as a balancer gives them in earnest: so a person has
//! the desk a tap away from the code. And its first page, with a link for each who comes.

use crate::http::pages::{PAGES, POLICY};
use crate::http::query::plain_path;
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue,
};
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

/// Of the first page, under the one name.
pub const FIRST: &str = "/demo";

/// The links of the first page, which it asks for.
const LINKS: &str = "/demo/links.json";

/// The body of an answer: of the front itself, or of a door.
type FrontBody = Either<Full<Bytes>, Incoming>;

/// Where the paths of the one name lead.
#[derive(Clone)]
pub struct Front {
    /// The links of the first page, as JSON.
    pub links: Bytes,
    pub resident: SocketAddr,
    pub gate: SocketAddr,
    pub desk: SocketAddr,
}

impl Front {
    /// Opens it, for as long as the runtime lives; on a free port where `port` is taken. Returns its address.
    /// `everywhere` opens it to the network of this machine.
    pub async fn open(self, port: u16, everywhere: bool) -> io::Result<SocketAddr> {
        let host = match everywhere {
            true => Ipv4Addr::UNSPECIFIED,
            false => Ipv4Addr::LOCALHOST,
        };
        let at = |port| TcpListener::bind((host, port));
        let listener = match at(port).await {
            Ok(listener) => listener,
            Err(_) => at(0).await?,
        };
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(self.clone().serve(stream))),
                    // Out of descriptors: those who have some give them back.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(address)
    }

    async fn serve(self, stream: TcpStream) {
        let pass = service_fn(move |request| self.clone().pass(request));
        // Whoever leaves in the middle is nobody's fault.
        let _ = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(QUIET_MAX)
            .serve_connection(TokioIo::new(stream), pass)
            .await;
    }

    /// A connection of its own for each question. A door that closes it without an answer has the browser's closed too.
    async fn pass(self, mut request: Request<Incoming>) -> anyhow::Result<Response<FrontBody>> {
        if let Some(own) = self.own(&plain_path(request.uri().path())) {
            return Ok(own);
        }
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
        Ok(response.map(Either::Right))
    }

    /// What the front has itself: the first page and its links.
    fn own(&self, path: &str) -> Option<Response<FrontBody>> {
        let (media_type, body) = match path {
            FIRST => {
                let page = PAGES.iter().find(|page| page.name == "demo.html")?;
                ("text/html; charset=utf-8", Bytes::from_static(page.whole))
            }
            LINKS => ("application/json", self.links.clone()),
            _ => return None,
        };
        let mut response = Response::new(Either::Left(Full::new(body)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    /// As deploy/haproxy maps them: what is neither shown nor scanned is the desk's, pages too.
    fn door(&self, path: &str) -> SocketAddr {
        let path = plain_path(path);
        match &*path {
            "/v1/code" | "/v1/code/offline" | "/v1/keys" => self.resident,
            "/v1/scan" => self.gate,
            _ if path.starts_with("/v1/scan/") => self.gate,
            _ => self.desk,
        }
    }
}
