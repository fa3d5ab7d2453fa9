//! What hyper writes to. An answer that hyper makes itself, to a head that it cannot read, leaves in the one shape of all
//! errors.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Bytes, to_bytes},
    http::{HeaderMap, StatusCode},
};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    api::error::ApiError,
    gateway::{
        context::{echo, trace_of},
        http::headers::guard,
    },
    limits::HEAD_BYTES_MAX,
};

/// A connection, with what is written to it.
pub(super) struct Output<S> {
    stream: S,
    /// What is still to be written instead of what hyper has made.
    instead: Bytes,
}

impl<S: AsyncWrite + Unpin> Output<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, instead: Bytes::new() }
    }

    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.stream)
    }

    /// Writes all of `instead`; then hyper's answer counts as written.
    fn poll_instead(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let _ = self.instead.split_to(written);
        }
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Output<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Output<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_empty() {
            self.instead = problem(bytes).unwrap_or_default();
        }
        if self.instead.is_empty() {
            return self.stream().poll_write(cx, bytes);
        }
        self.poll_instead(cx, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match parts {
            [head] => self.poll_write(cx, head),
            _ => self.stream().poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

/// What is to be written instead of an error without a body: hyper has made it, for ours have one.
fn problem(head: &[u8]) -> Option<Bytes> {
    const EMPTY: &[u8] = b"\r\ncontent-length: 0\r\n";
    let status = head.strip_prefix(b"HTTP/1.1 ")?.get(..3).filter(|status| status[0] == b'4')?;
    let place = head.windows(EMPTY.len()).position(|part| part == EMPTY)?;
    let status = StatusCode::from_bytes(status).ok()?;
    let trace = trace_of(&HeaderMap::new());
    let mut response = ApiError::http(status, detail(status)).into_problem(&trace.request_id());
    echo(&trace, response.headers_mut());
    guard(response.headers_mut());
    let (ours, body) = response.into_parts();
    // It is there as a whole.
    let body = to_bytes(body, usize::MAX).now_or_never()?.ok()?;
    let mut bytes = [&head[..place], b"\r\ncontent-length: ", body.len().to_string().as_bytes()].concat();
    for (name, value) in &ours.headers {
        bytes.extend([b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()].concat());
    }
    bytes.extend_from_slice(&head[place + EMPTY.len() - b"\r\n".len()..]);
    bytes.extend_from_slice(&body);
    Some(bytes.into())
}

fn detail(status: StatusCode) -> String {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => format!(
            "the head has more than {HEAD_BYTES_MAX} bytes or 100 headers; send a shorter one, and a long number in the body of POST /prime"
        ),
        StatusCode::URI_TOO_LONG => {
            "the target is too long; send a long number in the body of POST /prime".into()
        }
        _ => "this is no request of HTTP/1.1 or HTTP/2 that can be read".into(),
    }
}
