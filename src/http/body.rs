//! A response body: whole, in pieces, pulled from a source, or streamed from the store. Dropping it ends the answer of its
//! connection.

use super::connection_state::ConnectionState;
use crate::service::MaintenanceStream;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A source of the pieces of a body.
pub trait PieceSource {
    /// Returns the next piece; None at the end. After an error the connection ends without the last chunk.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>>;
}

/// A response body. Once it is dropped, its connection is between two requests.
pub struct Body {
    content: Content,
    connection: Option<Rc<ConnectionState>>,
}

enum Content {
    Whole(Bytes),
    /// The answers of a bulk scan, pulled piece by piece.
    Pulled(Box<dyn PieceSource>),
    /// Frames from the store.
    Stream(Box<MaintenanceStream>),
    /// A large body in pieces; other connections of the thread are served between two pieces.
    Pieces(Bytes, PiecePause),
}

/// Whether the next piece first yields to other connections.
#[derive(PartialEq)]
enum PiecePause {
    Before,
    Over,
}

/// Size of a piece in bytes: a copy takes some microseconds.
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

    /// Returns a body of frames from the store. If the store fails, the connection ends without the last frame.
    pub fn stream(begun: MaintenanceStream) -> Body {
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
            // A backup that ended early has no last frame, which its reader notices.
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
