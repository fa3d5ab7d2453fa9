//! A connection's bytes, in turns.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    places::Usage,
    turn::{Frames, Turn},
};
use crate::limits::{DENSE_READ_BYTES_MAX, REQUEST_COST, WRITE_BYTES_MAX};

/// A stream that gives way to others when its turn is over, and of which its connection's usage knows whether it takes what
/// is written.
pub(in crate::gateway) struct Metered<S> {
    stream: S,
    usage: Arc<Usage>,
    turn: Turn,
    frames: Frames,
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// What a new connection sends and is sent.
    pub(in crate::gateway) fn new(stream: S, usage: Arc<Usage>) -> Self {
        Self { stream, usage, turn: Turn::new(), frames: Frames::new() }
    }

    /// Reads a little: what follows may cost as much as all that would fit.
    fn poll_read_little(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut little = [0; DENSE_READ_BYTES_MAX];
        let size = little.len().min(buffer.remaining());
        let mut part = ReadBuf::new(&mut little[..size]);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut part);
        buffer.put_slice(part.filled());
        read
    }
}

impl<S> Metered<S> {
    /// Whether the turn is over; if so the connection is polled again when the others had theirs.
    fn gives_way(&mut self, context: &Context<'_>) -> bool {
        self.turn.charge(self.usage.take_begun() * REQUEST_COST);
        let ends = self.turn.ends();
        if ends {
            context.waker().wake_by_ref();
        }
        ends
    }

    fn wrote(&mut self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.usage.set_unread(wrote.is_pending());
        if let Poll::Ready(Ok(bytes)) = wrote {
            self.turn.charge(bytes);
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gives_way(context) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = match self.frames.is_dense() {
            true => self.poll_read_little(context, buffer),
            false => Pin::new(&mut self.stream).poll_read(context, buffer),
        };
        match read {
            Poll::Ready(_) => {
                let cost = self.frames.read(&buffer.filled()[before..]);
                self.turn.charge(cost);
            }
            // It waits: whatever comes next is another turn.
            Poll::Pending => self.turn = Turn::new(),
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gives_way(context) {
            return Poll::Pending;
        }
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = fitting(slices);
        if count == 0 {
            return self.poll_write(context, slices.first().map_or(&[], |slice| slice));
        }
        if self.gives_way(context) {
            return Poll::Pending;
        }
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, &slices[..count]);
        self.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// How many of the first slices are written at once as they are.
fn fitting(slices: &[IoSlice<'_>]) -> usize {
    let mut room = WRITE_BYTES_MAX;
    let fit = |slice: &&IoSlice<'_>| {
        let left = room.checked_sub(slice.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    slices.iter().take_while(fit).count()
}
