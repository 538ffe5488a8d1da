//! The task of one connection: HTTP over a watched socket, request after request, until it ends or rests.

use super::transport::Transport;
use crate::http::connection_state::{Asked, ConnectionState, DrainState};
use crate::http::dispatch::answer;
use crate::http::problem;
use crate::kernel;
use crate::language::Language;
use crate::refusal::Refusal;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that one read takes: as much as one piece of a bulk scan.
const READ_BYTES_MAX: usize = 64 << 10;

/// Serves one connection, one request after the other. After some idle time it rests: hyper's buffers, 16 KiB, are freed until
/// bytes arrive.
///
/// Returns what is left to do with it.
pub async fn serve<T: Transport>(mut stream: T, state: &Rc<ConnectionState>) -> ServeEnd<T> {
    let mut ahead = Bytes::new();
    loop {
        // Boxed, so that a resting connection does not hold the memory of an active one.
        match Box::pin(exchange(stream, ahead, state)).await {
            ControlFlow::Continue(resting) => (stream, ahead) = resting,
            ControlFlow::Break(end) => return end,
        }
        if !ahead.is_empty() {
            continue;
        }
        match speaks_again(&stream, state).await {
            RestEnd::Heard => {}
            RestEnd::MustRefuse => return ServeEnd::MustRefuse(stream),
            RestEnd::Over => return ServeEnd::Done,
        }
    }
}

/// What is left to do with a connection that is no longer served.
pub enum ServeEnd<T> {
    /// Nothing.
    Done,
    /// Bytes after a refusal must be read.
    Refused(TcpStream),
    /// A request came while it was frozen: it must be refused.
    MustRefuse(T),
}

/// How the rest of a connection ended.
enum RestEnd {
    /// Bytes came.
    Heard,
    /// Bytes came while the connection was frozen: they must be refused.
    MustRefuse,
    /// The connection must end.
    Over,
}

/// Waits until a resting connection sends bytes, or must end.
async fn speaks_again<T: Transport>(stream: &T, state: &Rc<ConnectionState>) -> RestEnd {
    state.resting.set(true);
    let end = std::future::poll_fn(|cx| {
        if state.closed.get() || state.thread.leaving.get() == DrainState::Now {
            return Poll::Ready(RestEnd::Over);
        }
        state.park(cx.waker());
        if state.frozen.get() {
            match state.ask() {
                Asked::Served => {}
                Asked::MustRefuse => return Poll::Ready(RestEnd::MustRefuse),
                Asked::Later => return Poll::Pending,
            }
        }
        stream.poll_readable(cx).map(|()| RestEnd::Heard)
    })
    .await;
    state.resting.set(false);
    end
}

/// Speaks HTTP until the connection ends or rests. Returns a resting stream, and the bytes that were read and not parsed.
async fn exchange<T: Transport>(
    stream: T,
    ahead: Bytes,
    state: &Rc<ConnectionState>,
) -> ControlFlow<ServeEnd<T>, (T, Bytes)> {
    let thread = &state.thread;
    let watched = TimedStream {
        stream,
        ahead,
        state: state.clone(),
        refused: None,
    };
    let asked = service_fn(|request| async {
        state.turn().await;
        let response = answer(&thread.service, thread.door, &thread.bounds, state, request).await;
        Ok::<_, std::convert::Infallible>(response)
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(READ_BYTES_MAX)
        .max_header_size(thread.settings.head_bytes_max)
        // A half-closed client sends no more requests and still gets its answers, unless it has to make room.
        .half_close(true)
        // Answers are small: a copy behind the head is cheaper than a second write.
        .writev(false)
        .serve_connection(TokioIo::new(watched), asked);
    let mut told = false;
    let end = std::future::poll_fn(|cx| {
        if state.closed.get() {
            return Poll::Ready(ExchangeEnd::Over);
        }
        if state.frozen.get() {
            state.park(cx.waker());
            match state.ask() {
                Asked::Served => {}
                Asked::MustRefuse => return Poll::Ready(ExchangeEnd::MustRefuse),
                Asked::Later => return Poll::Pending,
            }
        }
        state.begin_turn();
        let mut connection = Pin::new(&mut connection);
        if thread.leaving.get() == DrainState::Now && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        if state.rest.take() && state.may_rest() && !told {
            return Poll::Ready(ExchangeEnd::Rest);
        }
        state.park(cx.waker());
        // However the connection ended, the guard of its request has counted it.
        connection.poll(cx).map(|_| ExchangeEnd::Over)
    })
    .await;
    if end == ExchangeEnd::Over && (!state.unread.get() || state.closed.get()) {
        return ControlFlow::Break(ServeEnd::Done);
    }
    let parts = connection.into_parts();
    let stream = parts.io.into_inner().stream;
    match end {
        ExchangeEnd::Over => return ControlFlow::Break(ServeEnd::Refused(stream.into_socket())),
        ExchangeEnd::MustRefuse => return ControlFlow::Break(ServeEnd::MustRefuse(stream)),
        ExchangeEnd::Rest => {}
    }
    // An empty slice would keep the whole buffer alive.
    let ahead = Some(parts.read_buf).filter(|ahead| !ahead.is_empty());
    ControlFlow::Continue((stream, ahead.unwrap_or_default()))
}

/// Why hyper serves the connection no longer.
#[derive(PartialEq, Eq)]
enum ExchangeEnd {
    /// The connection was idle for a while.
    Rest,
    /// A request came while the connection was frozen: it must be refused.
    MustRefuse,
    /// The connection ended, or must end.
    Over,
}

/// A socket that updates the connection's time-outs, and replaces hyper's own refusals by ours.
struct TimedStream<T> {
    stream: T,
    /// Bytes read before the connection rested.
    ahead: Bytes,
    state: Rc<ConnectionState>,
    /// Rest of our refusal that replaces one of hyper.
    refused: Option<&'static [u8]>,
}

/// Returns our response for a refusal that hyper writes by itself, which is a bare status. None for other bytes.
fn bare_refusal(bytes: &[u8]) -> Option<&'static [u8]> {
    if bytes.len() < 12
        || !bytes.starts_with(b"HTTP/1.1 4")
        || memchr::memmem::find(bytes, b"content-type").is_some()
    {
        return None;
    }
    let refusal = match &bytes[9..12] {
        b"431" | b"413" | b"414" => Refusal::TooLarge,
        _ => Refusal::Malformed,
    };
    Some(problem::ready_made(refusal, Language::Hans))
}

impl<T: Transport> AsyncRead for TimedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before
            && self.state.heard()
            && let Some(wait) = kernel::since_heard(self.stream.socket())
        {
            self.state.waited(wait);
        }
        polled
    }
}

impl<T: Transport> AsyncWrite for TimedStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        if me.refused.is_none() {
            me.refused = bare_refusal(bytes);
            if me.refused.is_some() {
                me.state.unread.set(true);
            }
        }
        while let Some(ours) = me.refused {
            match std::task::ready!(Pin::new(&mut me.stream).poll_write(cx, ours))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n if n == ours.len() => {
                    me.refused = None;
                    return Poll::Ready(Ok(bytes.len()));
                }
                n => me.refused = Some(&ours[n..]),
            }
        }
        let written = Pin::new(&mut me.stream).poll_write(cx, bytes);
        // hyper flushes once it has nothing left to write.
        me.state.owes.set(true);
        if written.is_ready() {
            me.state.moved();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A plain socket has nothing to flush; TLS may hold bytes that the socket did not take.
        std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.state.owes.set(false);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_without_words_are_given_ours() {
        assert!(bare_refusal(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").is_some());
        assert!(
            bare_refusal(b"HTTP/1.1 431 x\r\n\r\n").is_some_and(|ours| {
                std::str::from_utf8(ours).unwrap().contains("\"too_large\"")
            })
        );
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\r\n",
            b"HTTP/1.1 4",
        ] {
            assert!(bare_refusal(other).is_none());
        }
    }
}
