//! Fetches the status lists of other issuers on a schedule, never because of a scan.

use super::link::{LinkAddress, LinkFault, exchange};
use crate::critical::CriticalTask;
use crate::offline::list::FILE_BYTES_MAX;
use crate::recognition::peer::{ListPlace, Peer};
use crate::recognition::recogniser::Recogniser;
use crate::tls::{ClientFiles, TlsError};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri};
use rustls::ClientConfig;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Time for one file, with the connection.
const FILE_WAIT: Duration = Duration::from_secs(60);

/// Largest index of a list, in bytes.
const INDEX_BYTES_MAX: usize = 64 << 10;

/// Largest token file, in bytes.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// Longest pause after a failed fetch.
const RETRY_MOST: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct ListIndex {
    issuer: String,
    bases: Vec<ListBase>,
}

#[derive(Deserialize)]
struct ListBase {
    /// Numbers are sent as text: some languages read large JSON numbers inexactly.
    number: String,
}

/// Returns the pinned TLS settings for a peer's list; None for the system's authorities.
pub type PinnedConfig =
    Arc<dyn Fn(&Peer) -> Option<Result<Arc<ClientConfig>, TlsError>> + Send + Sync>;

/// Fetches the lists of all peers again and again.
pub async fn run(recogniser: Arc<Recogniser>, every: Duration, pinned: PinnedConfig) {
    let _critical = CriticalTask("the fetcher of other issuers' lists");
    let mut failing = HashSet::new();
    loop {
        let list = recogniser.list();
        for peer in list.peers.values() {
            let issuer = peer.id;
            let Some(ListPlace::Address(address)) = &peer.list else {
                continue;
            };
            match fetch(&recogniser, peer, address, &pinned).await {
                Ok(()) if failing.remove(&issuer) => {
                    tracing::info!(
                        issuer,
                        "the status list of another issuer can be fetched again"
                    );
                }
                Ok(()) => {}
                Err(why) if failing.insert(issuer) => {
                    tracing::warn!(
                        issuer,
                        why,
                        "the status list of another issuer cannot be fetched"
                    );
                }
                Err(why) => {
                    tracing::debug!(
                        issuer,
                        why,
                        "the status list of another issuer cannot be fetched"
                    )
                }
            }
        }
        let wait = match failing.is_empty() {
            true => every,
            false => every.min(RETRY_MOST),
        };
        // A changed trust file is noticed soon.
        let slept = tokio::time::timeout(wait, changed(&recogniser, &list)).await;
        drop(slept);
    }
}

/// Waits until another trust list is in force.
async fn changed(recogniser: &Recogniser, known: &Arc<crate::recognition::trust::TrustList>) {
    while Arc::ptr_eq(&recogniser.list(), known) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn fetch(
    recogniser: &Recogniser,
    peer: &Peer,
    address: &str,
    pinned: &PinnedConfig,
) -> Result<(), String> {
    let uri: Uri = address
        .parse()
        .map_err(|_| "the address is none".to_owned())?;
    let tls = || {
        let is_exchange = peer.exchange.as_ref().is_some_and(|exchange| {
            let exchange: Option<Uri> = exchange.parse().ok();
            exchange.is_some_and(|exchange| exchange.authority() == uri.authority())
        });
        let own = is_exchange.then(|| pinned(peer)).flatten();
        let config = own.unwrap_or_else(|| {
            let files = ClientFiles {
                ca: peer.list_ca.clone(),
                cert: None,
            };
            files.load()
        });
        config.map_err(|error| error.to_string())
    };
    let place = LinkAddress::read(&uri, tls).map_err(|why| why.to_string())?;
    let token = peer.list_token.as_deref().map(read_token).transpose()?;
    let path = uri.path().trim_end_matches('/');
    let get = async |path: String, bytes_max| {
        let whole = get(&place, &path, token.as_deref(), bytes_max);
        match tokio::time::timeout(FILE_WAIT, whole).await {
            Err(_) => Err(LinkFault::Late.to_string()),
            Ok(Err(why)) => Err(why.to_string()),
            Ok(Ok((StatusCode::OK, bytes))) => Ok(bytes),
            Ok(Ok((status, _))) => Err(format!("the answer is {status}")),
        }
    };
    let index = get(path.to_owned(), INDEX_BYTES_MAX).await?;
    let index: ListIndex = serde_json::from_slice(&index).map_err(|_| "the index is none")?;
    if index.issuer != format!("{:06}", peer.id) {
        return Err("the index is of another issuer".to_owned());
    }
    let first = index.bases.first().ok_or("the index names no base")?;
    let number: u64 = first
        .number
        .parse()
        .map_err(|_| "the index names no base")?;
    let held = recogniser.lists_of(peer.id);
    let has_base = held.is_some_and(|held| held.number == Some(number) && held.keys == peer.keys);
    let base = match has_base {
        true => None,
        false => Some(get(format!("{path}/base"), FILE_BYTES_MAX).await?.to_vec()),
    };
    let changes = get(format!("{path}/changes-{number}"), FILE_BYTES_MAX).await?;
    recogniser.take_lists(peer.id, base, Some(changes.to_vec()))
}

fn read_token(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut text = String::new();
    file.take(TOKEN_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let token = text.lines().next().unwrap_or_default().trim().to_owned();
    Some(token)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| format!("{}: is empty", path.display()))
}

async fn get(
    place: &LinkAddress,
    path: &str,
    token: Option<&str>,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), LinkFault> {
    let mut sender = place.connect().await?;
    let mut request = Request::get(path).header("host", &place.authority);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .body(Full::default())
        .map_err(|_| LinkFault::Address("the token holds what no head may".to_owned()))?;
    exchange(&mut sender, request, bytes_max).await
}
