//! One accept loop for both listeners: the place where connections are counted, silent ones are closed, and all are
//! drained within a bound.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::places::{Answer, Crowded, Place, Places, Room, Written};
use crate::{
    limits::{
        ACCEPT_PAUSE, ACCEPT_RECOVERED, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, DRAIN,
        FIRST_BYTE_RESERVED_TIMEOUT, FIRST_BYTE_TIMEOUT, GOODBYE_TIMEOUT, HEAD_BYTES_MAX, HEAD_TIMEOUT,
        LOCAL_RESETS_MAX, PEER_PENDING_RESETS_MAX, PENDING_RESETS_MAX, PING_INTERVAL, PING_TIMEOUT,
        STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX, UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX, WRITE_TIMEOUT,
    },
    metrics::Metrics,
};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1, or HTTP/2 where the client begins with its preface.
    Http,
    /// HTTP/2 only.
    Grpc,
}

/// What answers the requests of all connections.
pub trait Answers:
    Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Answers for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Serves requests on a socket.
pub struct Listener<S> {
    socket: TcpListener,
    service: S,
    builder: Builder<TokioExecutor>,
    metrics: Arc<Metrics>,
    places: Places,
    unproven: Unproven,
}

impl<S: Answers> Listener<S> {
    /// A listener that is ready to run.
    pub fn new(socket: TcpListener, protocols: Protocols, service: S, metrics: Arc<Metrics>) -> Self {
        Self {
            socket,
            service,
            builder: builder(protocols),
            metrics,
            places: Places::new(Room::MOST),
            unproven: Unproven::default(),
        }
    }

    /// The same with room for so many connections.
    #[must_use]
    pub fn with_room(self, room: Room) -> Self {
        Self { places: Places::new(room), ..self }
    }

    /// Accepts until `stop`; then lets every connection finish what it holds, within the drain time.
    pub async fn run(self, stop: CancellationToken) {
        let (mut connections, mut accepting) = (JoinSet::new(), Accepting::default());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, from)) => {
                        accepting.works();
                        self.admit(stream, from, &mut connections, &stop);
                    }
                    Err(error) => accepting.fails(&error).await,
                },
            }
        }
        drop(self.socket);
        // Each connection has the drain time as a bound of its own.
        while connections.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        connections: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        self.metrics.connections.inc();
        let leave = stop.child_token();
        let place = self.places.take(leave.clone());
        if place.as_ref().is_none_or(|place| place.usage.is_reserved()) && self.places.make_room() {
            self.metrics.connections_evicted.inc();
        }
        let Some(place) = place else {
            self.metrics.connections_refused.inc();
            return;
        };
        let connection = Connection {
            stream,
            from,
            slots: self.unproven.slots(from.ip()),
            service: self.service.clone(),
            builder: self.builder.clone(),
            metrics: Arc::clone(&self.metrics),
            stop: stop.clone(),
            leave,
            place,
        };
        connections.spawn(connection.serve());
    }
}

struct Connection<S> {
    stream: TcpStream,
    from: SocketAddr,
    slots: Arc<Semaphore>,
    service: S,
    builder: Builder<TokioExecutor>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// Ends this connection, with all others or to make room.
    leave: CancellationToken,
    place: Place,
}

impl<S: Answers> Connection<S> {
    async fn serve(self) {
        self.place.settle_soon().await;
        let may_be_silent =
            if self.place.usage.is_reserved() { FIRST_BYTE_RESERVED_TIMEOUT } else { FIRST_BYTE_TIMEOUT };
        let first = timeout(may_be_silent, first_byte(&self.stream, Arc::clone(&self.slots)));
        let Some(Ok(Some(slot))) = self.leave.run_until_cancelled(first).await else {
            self.metrics.connections_silent.inc();
            return;
        };
        // A reply is written at once; without this, Nagle's algorithm may hold it for 40 ms.
        let _ = self.stream.set_nodelay(true);
        let slot = Arc::new(Slot::new(slot));
        let (answers, asked) = (TowerToHyperService::new(self.service), Arc::clone(&slot));
        let (from, usage) = (ConnectInfo(self.from), Arc::clone(&self.place.usage));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            asked.release();
            let in_use = usage.request();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(from);
            if usage.is_reserved() {
                request.extensions_mut().insert(Crowded);
            }
            let answer = answers.call(request);
            async move { Ok::<_, Infallible>(answer.await?.map(|body| Answer { body, _in_use: in_use })) }
        });
        let mut stream = TimeoutWriter::new(self.stream);
        stream.set_timeout(Some(WRITE_TIMEOUT));
        let stream = TokioIo::new(Written::new(Box::pin(stream), Arc::clone(&self.place.usage)));
        let mut connection = pin!(self.builder.serve_connection(stream, service));
        let mut overdue = pin!(sleep(HEAD_TIMEOUT));
        let mut has_asked = false;
        loop {
            tokio::select! {
                // How a connection ends is the client's affair.
                _ = connection.as_mut() => return,
                // From then on this branch and the next cost nothing.
                () = slot.released.notified(), if !has_asked => has_asked = true,
                // hyper waits without end for a preface of HTTP/2 (its #3756).
                () = &mut overdue, if !has_asked => {
                    self.metrics.connections_silent.inc();
                    return;
                }
                () = self.place.settle(), if self.place.usage.is_reserved() => {}
                () = self.leave.cancelled() => break,
            }
        }
        connection.as_mut().graceful_shutdown();
        // One that makes room was idle; what it asks meanwhile, or was slow to read, it still gets.
        while !self.stop.is_cancelled() {
            tokio::select! {
                _ = connection.as_mut() => return,
                () = self.stop.cancelled() => {}
                () = sleep(GOODBYE_TIMEOUT) => if self.place.usage.is_idle() { return },
            }
        }
        // hyper would wait for a first head as long as for an answer; who has not asked by then holds nothing up.
        let ended = timeout(FIRST_BYTE_TIMEOUT, connection.as_mut()).await.is_ok();
        if !ended && slot.is_released() {
            let _ = timeout(DRAIN.saturating_sub(FIRST_BYTE_TIMEOUT), connection).await;
        }
    }
}

/// Waits for the first byte, which stays to be read, then for one of the address's slots: who is silent needs none.
async fn first_byte(stream: &TcpStream, slots: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    match stream.peek(&mut [0]).await {
        Ok(1..) => slots.acquire_owned().await.ok(),
        Ok(0) | Err(_) => None,
    }
}

/// An address's slot, held until the connection's first head is complete.
struct Slot {
    is_released: AtomicBool,
    released: Notify,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Slot {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        let (is_released, released) = (AtomicBool::new(false), Notify::new());
        Self { is_released, released, permit: Mutex::new(Some(permit)) }
    }

    fn is_released(&self) -> bool {
        self.is_released.load(Relaxed)
    }

    fn release(&self) {
        if !self.is_released.swap(true, Relaxed) {
            self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.released.notify_one();
        }
    }
}

/// The slots of each address for connections that speak and have not completed a first head. One beyond them waits for a
/// slot as long as it may stay silent, so that a burst of honest clients passes, and who trickles heads is held off.
#[derive(Default)]
struct Unproven(Mutex<HashMap<IpAddr, Weak<Semaphore>>>);

impl Unproven {
    fn slots(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = addresses.get(&address).and_then(Weak::upgrade) {
            return slots;
        }
        // Bounded by the connections: the slots of an address live as long as one of them.
        if addresses.len() > CONNECTIONS_MAX {
            addresses.retain(|_, slots| slots.strong_count() > 0);
        }
        let slots = Arc::new(Semaphore::new(UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX));
        addresses.insert(address, Arc::downgrade(&slots));
        slots
    }
}

fn builder(protocols: Protocols) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let pending_resets_max = match protocols {
        Protocols::Http => PENDING_RESETS_MAX,
        Protocols::Grpc => {
            builder = builder.http2_only();
            PEER_PENDING_RESETS_MAX
        }
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        // No `pipeline_flush`: hyper would then never send its answer to a malformed head, nor the one before it.
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(pending_resets_max)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Whether connections can be accepted; said when that changes.
#[derive(Default)]
struct Accepting {
    /// The first failure of those that are not over, and the last one.
    failed: Option<(Instant, Instant)>,
}

impl Accepting {
    fn works(&mut self) {
        if let Some((first, last)) = self.failed
            && last.elapsed() >= ACCEPT_RECOVERED
        {
            self.failed = None;
            tracing::info!("connections are accepted again; the first failure was {:?} ago", first.elapsed());
        }
    }

    /// A connection that was reset before it was accepted is no fault of ours; a want of descriptors passes.
    async fn fails(&mut self, error: &io::Error) {
        let resets = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
        if resets.contains(&error.kind()) {
            return;
        }
        let now = Instant::now();
        let first = self.failed.map(|(first, _)| first);
        if first.is_none() {
            tracing::warn!(%error, "cannot accept connections; trying again, silently until it works");
        }
        self.failed = Some((first.unwrap_or(now), now));
        sleep(ACCEPT_PAUSE).await;
    }
}
