//! A request as it arrives: from whom, over which connection, and what is left of its body when it is answered.

use std::{
    fmt,
    future::{pending, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{Extensions, Version, header},
};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::{sleep, timeout};

use super::{entrance::Transport, socket::Socket};
use crate::limits::{LINGER, LINGER_BYTES_MAX, UNREAD_BYTES_MAX, UNREAD_TIMEOUT};

/// What the listener knows of a request, among its extensions.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// When its head was there.
    pub at: Instant,
    /// Who asks.
    pub from: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// What is left of its body, if it has one.
    pub unread: Option<Arc<Unread>>,
    socket: Arc<Socket>,
    is_http1: bool,
}

impl Arrival {
    /// The request as its handlers take it.
    pub(super) fn take(
        request: hyper::Request<Incoming>,
        from: SocketAddr,
        transport: Transport,
        socket: &Arc<Socket>,
    ) -> Request {
        let (head, body) = request.into_parts();
        let unread = (!body.is_end_stream()).then(Arc::default);
        let body = match &unread {
            None => {
                socket.request_ended();
                Body::empty()
            }
            Some(unread) => {
                let awaits_leave = head.headers.contains_key(header::EXPECT);
                let rest = Rest { body, socket: Arc::clone(socket), awaits_leave, state: BodyState::Coming };
                Body::new(Arriving { rest: Some(rest), unread: Arc::clone(unread) })
            }
        };
        let is_http1 = head.version < Version::HTTP_2;
        let mut request = Request::from_parts(head, body);
        let at = Instant::now();
        let socket = Arc::clone(socket);
        request.extensions_mut().insert(Self { at, from, transport, unread, socket, is_http1 });
        request
    }

    /// That of this request.
    ///
    /// # Panics
    /// If it did not come by a listener.
    pub fn of(request: &Extensions) -> &Self {
        request.get().expect("the listener says who calls")
    }

    /// Whether it came on a connection beyond all places.
    pub fn is_on_reserved_place(&self) -> bool {
        self.socket.place.usage.is_reserved()
    }

    /// It is of a node, whose connection's work is not behind that of clients.
    pub fn mark_of_peer(&self) {
        self.socket.place.usage.flow.mark_of_peer();
    }

    /// Returns when the client has ended its side of the connection, after which it may be gone. Over HTTP/2 the
    /// connection ends with that.
    pub async fn input_ended(&self) {
        match self.is_http1 {
            true => self.socket.input_ended().await,
            false => pending().await,
        }
    }
}

/// Where a body goes that was not read to its end.
#[derive(Debug, Default)]
pub struct Unread(Mutex<Option<Rest>>);

impl Unread {
    /// What is left, unless the body has ended or is still being read.
    pub fn take(&self) -> Option<Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body, or the rest of it.
pub struct Rest {
    body: Incoming,
    socket: Arc<Socket>,
    /// The client may be waiting for "100 Continue", which hyper says when the body is first read.
    awaits_leave: bool,
    state: BodyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    Coming,
    Ended,
    /// It will not come to its end.
    Broken,
}

impl Rest {
    /// Reads and drops it. Returns whether that was all of it, so that the connection can go on.
    pub async fn drain(&mut self) -> bool {
        // A client that waits for leave to send (`Expect: 100-continue`) is not made to send.
        if self.state == BodyState::Broken
            || self.awaits_leave
            || self.body.size_hint().lower() > UNREAD_BYTES_MAX
        {
            return false;
        }
        let skipped = timeout(UNREAD_TIMEOUT, skip(&mut self.body, UNREAD_BYTES_MAX)).await;
        let ended = skipped == Ok(BodyState::Ended);
        if ended {
            self.socket.request_ended();
        }
        ended
    }

    /// Goes on dropping it after the answer, before its stream of HTTP/2 is reset: there are clients that forget the
    /// answer when the reset comes with it. HTTP/1 reads no further, and lingers when the connection ends.
    pub fn linger(self) {
        let Self { mut body, socket, state, .. } = self;
        if state == BodyState::Broken {
            return;
        }
        socket.keep(async move {
            if skip(&mut body, LINGER_BYTES_MAX).await == BodyState::Coming {
                // A client that reads the answer while it sends has time for it.
                sleep(LINGER).await;
            }
        });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.awaits_leave = false;
        if self.state == BodyState::Ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if matches!(frame, Some(Err(_))) {
            self.state = BodyState::Broken;
        } else if (frame.is_none() || self.body.is_end_stream()) && self.state == BodyState::Coming {
            self.state = BodyState::Ended;
            self.socket.request_ended();
        }
        Poll::Ready(frame)
    }
}

/// Reads and drops a body, up to so many bytes; returns whether more is coming.
async fn skip(body: &mut Incoming, bytes_max: u64) -> BodyState {
    let mut bytes = 0;
    while !body.is_end_stream() {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return BodyState::Ended,
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => return BodyState::Broken,
        }
        if bytes > bytes_max {
            return BodyState::Coming;
        }
    }
    BodyState::Ended
}

impl fmt::Debug for Rest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rest").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A body that its handler reads. When it is dropped, its rest is not.
struct Arriving {
    rest: Option<Rest>,
    unread: Arc<Unread>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.rest.as_mut().map_or(Poll::Ready(None), |rest| rest.poll(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or(SizeHint::with_exact(0), |rest| rest.body.size_hint())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let rest = self.rest.take_if(|rest| rest.state != BodyState::Ended);
        if rest.is_some() {
            *self.unread.0.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        }
    }
}
