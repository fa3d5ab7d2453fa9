//! A connection's bytes, in turns.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{places::Usage, turn::Frames};
use crate::limits::{DENSE_READ_BYTES_MAX, WRITE_BYTES_MAX};

/// Slices that are written at once: the heads and chunks of some answers.
const SLICES_MAX: usize = 16;

/// A stream that waits for the next turn when its connection's turn is over. It notes in the usage whether the client
/// reads what is written.
pub(in crate::gateway) struct Metered<S> {
    stream: S,
    usage: Arc<Usage>,
    frames: Frames,
    /// Whether what it writes is what leaves, or waits to be encrypted.
    notes_unread: bool,
}

/// What TLS reads and writes, beneath [`Metered`]: it costs as what it holds does, so that records that hold nothing cost
/// too.
pub(in crate::gateway) struct Encrypted<S> {
    stream: S,
    usage: Arc<Usage>,
    /// What may still be read; nothing when there is no limit.
    bytes_left: Option<usize>,
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// What a new connection sends and is sent.
    pub(in crate::gateway) fn new(stream: S, usage: Arc<Usage>, is_encrypted: bool) -> Self {
        Self { stream, usage, frames: Frames::default(), notes_unread: !is_encrypted }
    }

    /// Reads at most [`DENSE_READ_BYTES_MAX`]: a full buffer of small frames may cost far more than a turn.
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
    fn wrote(&mut self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if self.notes_unread {
            self.usage.set_unread(wrote.is_pending());
        }
        if let Poll::Ready(Ok(bytes)) = wrote {
            self.usage.flow.turn.charge(bytes);
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
        if self.usage.flow.turn.is_over() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = match self.frames.is_dense() {
            true => self.poll_read_little(context, buffer),
            false => Pin::new(&mut self.stream).poll_read(context, buffer),
        };
        let cost = self.frames.read(&buffer.filled()[before..]);
        self.usage.flow.turn.charge(cost);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.usage.flow.turn.is_over() {
            self.usage.set_unread(true);
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
        if self.usage.flow.turn.is_over() {
            self.usage.set_unread(true);
            return Poll::Pending;
        }
        let mut room = [IoSlice::new(&[]); SLICES_MAX];
        let fitting = fitting(slices, &mut room);
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, fitting);
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

impl<S> Encrypted<S> {
    /// Of which so many bytes may be read until the limit is lifted.
    pub(in crate::gateway) fn new(stream: S, usage: Arc<Usage>, bytes_max: usize) -> Self {
        Self { stream, usage, bytes_left: Some(bytes_max) }
    }

    /// The handshake is over.
    pub(in crate::gateway) fn lift_limit(&mut self) {
        self.bytes_left = None;
    }

    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.usage.flow.turn.charge(bytes);
        let Some(left) = &mut self.bytes_left else { return Ok(()) };
        let rest = left.checked_sub(bytes);
        *left =
            rest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the handshake is too long"))?;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.usage.flow.turn.is_over() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.count(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.usage.set_unread(wrote.is_pending());
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.usage.set_unread(wrote.is_pending());
        wrote
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

/// The slices that are written at once: the first of them, and a part of the next, up to [`WRITE_BYTES_MAX`]. Otherwise
/// the head of a chunk and each part of it would cost a call each.
fn fitting<'a, 'b>(slices: &'a [IoSlice<'_>], room: &'b mut [IoSlice<'a>]) -> &'b [IoSlice<'a>] {
    let (mut left, mut count) = (WRITE_BYTES_MAX, 0);
    for (slice, place) in slices.iter().zip(room.iter_mut()) {
        let part = &slice[..slice.len().min(left)];
        if part.is_empty() && left == 0 {
            break;
        }
        *place = IoSlice::new(part);
        left -= part.len();
        count += 1;
    }
    &room[..count]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of what is written at once of slices of these lengths.
    fn written(lengths: &[usize]) -> Vec<usize> {
        let bytes = vec![7; WRITE_BYTES_MAX + 1];
        let slices: Vec<_> = lengths.iter().map(|length| IoSlice::new(&bytes[..*length])).collect();
        let mut room = [IoSlice::new(&[]); SLICES_MAX];
        fitting(&slices, &mut room).iter().map(|slice| slice.len()).collect()
    }

    #[test]
    fn a_head_leaves_with_as_much_of_its_chunk_as_is_written_at_once() {
        assert_eq!(written(&[7, 90_000, 2]), [7, 90_000, 2]);
        assert_eq!(written(&[7, WRITE_BYTES_MAX, 2]), [7, WRITE_BYTES_MAX - 7]);
        assert_eq!(written(&[WRITE_BYTES_MAX + 1]), [WRITE_BYTES_MAX]);
        assert_eq!(written(&[WRITE_BYTES_MAX, 1]), [WRITE_BYTES_MAX]);
        assert_eq!(written(&[0, 3]), [0, 3]);
        assert_eq!(written(&[1; 100]).len(), SLICES_MAX);
        assert!(written(&[]).is_empty());
    }
}
