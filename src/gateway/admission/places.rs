//! Who has a place at a listener. When all are taken, the connection that is idle for longest makes room; until it has,
//! and for as long as none is idle, the newest ones have one of a few reserved places, at which only probes and peers are
//! answered.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{error::ApiError, listener::arrival::Arrival};
use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_RESERVED, PLACE_TIMEOUT};

/// How many connections a listener has places for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Those of everybody.
    pub places: usize,
    /// Those beyond them.
    pub reserved: usize,
}

impl Room {
    /// As much as a listener ever takes.
    pub const MOST: Self = Self { places: CONNECTIONS_MAX, reserved: CONNECTIONS_RESERVED };

    /// What a listener takes of so many descriptors.
    pub fn within(descriptors: usize) -> Self {
        let reserved = (descriptors / 4).min(Self::MOST.reserved);
        Self { places: (descriptors - reserved).min(Self::MOST.places), reserved }
    }
}

/// Whether the request came on a connection beyond all places.
pub(super) fn is_crowded(request: &Request) -> bool {
    request.extensions().get().is_some_and(Arrival::is_crowded)
}

/// Refuses such a request with this code.
pub(super) fn refuse_crowded(request: &Request, code: Code) -> Result<(), ApiError> {
    if is_crowded(request) {
        let detail = "every connection that this node has a place for is in use; ask another node, or try again in a second";
        return Err(ApiError::new(code, detail));
    }
    Ok(())
}

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    taken: Arc<Taken>,
    count: AtomicU64,
}

/// The connections that have a place of everybody's, by numbers that are never used again.
type Taken = Mutex<HashMap<u64, Arc<Usage>>>;

/// A connection's place, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) usage: Arc<Usage>,
    permit: Mutex<OwnedSemaphorePermit>,
    free: Arc<Semaphore>,
    taken: Arc<Taken>,
    number: u64,
}

/// What a connection does.
#[derive(Debug)]
pub(super) struct Usage {
    is_reserved: AtomicBool,
    /// Requests that are not answered to the end.
    requests: AtomicUsize,
    /// There is more to write than the client has read.
    is_unread: AtomicBool,
    connected: Instant,
    /// Microseconds from then to the end of the last answer.
    answered: AtomicU64,
    leave: CancellationToken,
}

impl Places {
    pub(super) fn new(room: Room) -> Self {
        let [free, reserved] = [room.places, room.reserved].map(|places| Arc::new(Semaphore::new(places)));
        Self { free, reserved, taken: Arc::default(), count: AtomicU64::new(0) }
    }

    /// A place for a new connection; none if the reserved ones are taken too. `leave` tells the connection to end.
    pub(super) fn take(&self, leave: CancellationToken) -> Option<Place> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok();
        let is_reserved = free.is_none();
        let permit = free.or_else(|| Arc::clone(&self.reserved).try_acquire_owned().ok())?;
        let number = self.count.fetch_add(1, Relaxed);
        let (free, taken, usage) =
            (Arc::clone(&self.free), Arc::clone(&self.taken), Usage::new(is_reserved, leave));
        let place = Place { usage: Arc::new(usage), permit: Mutex::new(permit), free, taken, number };
        if !is_reserved {
            place.enter();
        }
        Some(place)
    }

    /// Tells the connection that is idle for longest to end, if there is one.
    pub(super) fn make_room(&self) -> bool {
        let taken = lock(&self.taken);
        let idle = taken.values().filter_map(|usage| Some((usage.idle_since()?, usage)));
        let longest = idle.min_by_key(|(since, _)| *since);
        longest.inspect(|(_, usage)| usage.leave.cancel()).is_some()
    }
}

impl Place {
    /// Returns when an idle connection has made room for this one, or none did so in time.
    pub(super) async fn settle_soon(&self) {
        let _ = timeout(PLACE_TIMEOUT, self.settle()).await;
    }

    /// Changes a reserved place for one of everybody's as soon as one is free.
    pub(super) async fn settle(&self) {
        if let Ok(permit) = Arc::clone(&self.free).acquire_owned().await {
            *lock(&self.permit) = permit;
            self.usage.is_reserved.store(false, Relaxed);
            self.enter();
        }
    }

    fn enter(&self) {
        lock(&self.taken).insert(self.number, Arc::clone(&self.usage));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Usage {
    fn new(is_reserved: bool, leave: CancellationToken) -> Self {
        Self {
            is_reserved: AtomicBool::new(is_reserved),
            requests: AtomicUsize::new(0),
            is_unread: AtomicBool::new(false),
            connected: Instant::now(),
            answered: AtomicU64::new(0),
            leave,
        }
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved.load(Relaxed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Relaxed) == 0 && !self.is_unread.load(Relaxed)
    }

    /// Since when it has been idle; nothing if it is not, or was told to end.
    fn idle_since(&self) -> Option<Instant> {
        let answered = Duration::from_micros(self.answered.load(Relaxed));
        (self.is_idle() && !self.leave.is_cancelled()).then(|| self.connected + answered)
    }

    /// Counts a request until what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>) -> InUse {
        self.requests.fetch_add(1, Relaxed);
        InUse(Arc::clone(self))
    }
}

/// A request that is not answered to the end.
pub(super) struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        let since = self.0.connected.elapsed().as_micros();
        self.0.answered.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// The body of an answer; as long as it lasts the connection is in use.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) _in_use: InUse,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream of which its connection's usage knows whether it takes what is written.
pub(super) struct Written<S> {
    stream: S,
    usage: Arc<Usage>,
}

impl<S> Written<S> {
    pub(super) fn new(stream: S, usage: Arc<Usage>) -> Self {
        Self { stream, usage }
    }

    fn note<T>(&self, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.usage.is_unread.store(wrote.is_pending(), Relaxed);
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Written<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Written<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(wrote)
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
