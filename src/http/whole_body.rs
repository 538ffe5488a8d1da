//! Gathers a body that must be complete before it is answered, within limits of bytes, time and the door's budget.

use super::connection_state::ConnectionState;
use crate::lines;
use crate::refusal::Refusal;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use std::rc::Rc;
use std::time::Duration;

/// A complete body. Dropping it returns its bytes to the door's budget.
#[derive(Default)]
pub struct WholeBody {
    bytes: Bytes,
    _held: Option<ReservedBytes>,
}

impl std::ops::Deref for WholeBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes reserved from the door's budget for bodies.
struct ReservedBytes {
    connection: Rc<ConnectionState>,
    bytes: usize,
}

impl ReservedBytes {
    /// Reserves `bytes` in total. Returns false if too few are left.
    fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let taken = self.connection.thread.take_bytes(more);
        self.bytes += if taken { more } else { 0 };
        taken
    }
}

impl Drop for ReservedBytes {
    fn drop(&mut self) {
        self.connection.thread.give_bytes_back(self.bytes);
    }
}

/// Gathers a body of at most `bytes_max` bytes within `wait`, which the connection's time-outs enforce.
///
/// # Errors
///
/// `TooLarge`, `Malformed` if the body breaks off, `Busy` if the door's budget for bodies is used up.
pub async fn gather(
    mut body: Incoming,
    bytes_max: usize,
    wait: Duration,
    connection: &Rc<ConnectionState>,
) -> Result<WholeBody, Refusal> {
    connection.gathers(wait);
    let mut whole = WholeBody::default();
    while let Some(data) = next_data(&mut body).await? {
        if data.len() > bytes_max {
            return Err(Refusal::TooLarge);
        }
        if body.is_end_stream() {
            // Nearly always one piece, which is passed on without a copy.
            whole.bytes = data;
            break;
        }
        if !data.is_empty() {
            whole = gather_rest(data, body, bytes_max, connection).await?;
            break;
        }
    }
    if whole.bytes.starts_with(lines::BYTE_ORDER_MARK) {
        whole.bytes.advance(lines::BYTE_ORDER_MARK.len());
    }
    Ok(whole)
}

async fn gather_rest(
    first: Bytes,
    mut body: Incoming,
    bytes_max: usize,
    connection: &Rc<ConnectionState>,
) -> Result<WholeBody, Refusal> {
    let mut held = ReservedBytes {
        connection: connection.clone(),
        bytes: 0,
    };
    let mut all = BytesMut::new();
    let mut next = Some(first);
    while let Some(data) = next {
        if all.len() + data.len() > bytes_max {
            return Err(Refusal::TooLarge);
        }
        if !held.grow_to(all.len() + data.len()) {
            return Err(Refusal::Busy);
        }
        all.extend_from_slice(&data);
        if !held.grow_to(all.capacity()) {
            return Err(Refusal::Busy);
        }
        next = next_data(&mut body).await?;
    }
    Ok(WholeBody {
        bytes: all.freeze(),
        _held: Some(held),
    })
}

/// Returns the next bytes of a body; None at its end. `Malformed` if it breaks off.
async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| Refusal::Malformed)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
