//! A response's body: whole, in pieces, pulled from a source, or streamed from the store. Dropped, it ends its connection's answer.

use super::connection_state::ConnectionState;
use crate::service::BegunBackup;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What a body pulls its pieces from, one at a time.
pub trait PieceSource {
    /// Returns the next piece; None at the end. An error ends the connection without a last piece.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>>;
}

/// A response's body. When it is dropped its connection is between two requests.
pub struct Body {
    content: Content,
    connection: Option<Rc<ConnectionState>>,
}

enum Content {
    Whole(Bytes),
    /// What a bulk scan answers, pulled piece by piece.
    Pulled(Box<dyn PieceSource>),
    /// What the store sends piece by piece.
    Stream(Box<BegunBackup>),
    /// What is large goes out piece by piece, and other connections of the thread have their turn between two.
    Pieces(Bytes, PiecePause),
}

/// Whether the next piece waits for others first.
#[derive(PartialEq)]
enum PiecePause {
    Before,
    Over,
}

/// Bytes of a piece: some microseconds of copying.
const PIECE_BYTES: usize = 32 << 10;

impl Body {
    /// Returns a body that is sent at once.
    pub fn whole(bytes: impl Into<Bytes>) -> Body {
        Body {
            content: Content::Whole(bytes.into()),
            connection: None,
        }
    }

    /// Returns a body that is sent in pieces.
    pub fn pieces(bytes: Bytes) -> Body {
        Body {
            content: Content::Pieces(bytes, PiecePause::Over),
            connection: None,
        }
    }

    /// Returns a body whose pieces are pulled when the connection can write.
    pub fn pulled(source: Box<dyn PieceSource>) -> Body {
        Body {
            content: Content::Pulled(source),
            connection: None,
        }
    }

    /// Returns a body whose frames the store sends. One that fails ends the connection without a last frame.
    pub fn stream(begun: BegunBackup) -> Body {
        Body {
            content: Content::Stream(Box::new(begun)),
            connection: None,
        }
    }

    /// Returns the bytes of a whole body; None for any other.
    pub(super) fn whole_bytes(&mut self) -> Option<&mut Bytes> {
        match &mut self.content {
            Content::Whole(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn with_connection(mut self, connection: Rc<ConnectionState>) -> Body {
        self.connection = Some(connection);
        self
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.answered();
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Pieces(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            Content::Pieces(_, pause) if *pause == PiecePause::Before => {
                *pause = PiecePause::Over;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Content::Pieces(bytes, pause) => {
                *pause = PiecePause::Before;
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Content::Pulled(source) => source
                .poll_piece(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
            // One that ended early has no last frame: whoever reads it sees that.
            Content::Stream(begun) => begun
                .frames
                .poll_recv(cx)
                .map(|frame| frame.map(|frame| Ok(Frame::data(frame.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) | Content::Pieces(bytes, _) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) | Content::Pieces(bytes, _) => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Content::Pulled(_) | Content::Stream(_) => SizeHint::default(),
        }
    }
}
