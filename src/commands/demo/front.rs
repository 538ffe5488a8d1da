//! One address for the resident, gate and desk doors of the demonstration, as a balancer would give them; and its first page.
//! The first page has a link for each role.

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

/// Idle time of a browser's connection. After it the browser opens a new one.
const QUIET_MAX: Duration = Duration::from_secs(60);

/// Path of the first page.
pub const FIRST: &str = "/demo";

/// Path of the links of the first page.
const LINKS: &str = "/demo/links.json";

/// Body of an answer: of the front itself, or of a door.
type FrontBody = Either<Full<Bytes>, Incoming>;

/// Routes of the paths under the one name.
#[derive(Clone)]
pub struct Front {
    /// The links of the first page, as JSON.
    pub links: Bytes,
    pub resident: SocketAddr,
    pub gate: SocketAddr,
    pub desk: SocketAddr,
}

impl Front {
    /// Opens the front as long as the runtime lives, on a free port if `port` is taken. Returns its address. `everywhere` opens
    /// it to the network of this machine.
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
                    // Without descriptors, existing connections must end first.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(address)
    }

    async fn serve(self, stream: TcpStream) {
        let pass = service_fn(move |request| self.clone().pass(request));
        // A client that leaves is not an error.
        let _ = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(QUIET_MAX)
            .serve_connection(TokioIo::new(stream), pass)
            .await;
    }

    /// Forwards a request over a new connection. If a door closes it without an answer, the browser's connection is closed too.
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

    /// Returns the front's own pages: the first page and its links.
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

    /// Returns the door of a path, as deploy/haproxy maps them: everything except shows and scans goes to the desk, pages too.
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
