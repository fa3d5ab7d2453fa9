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

use crate::{
    limits::{
        ACCEPT_PAUSE, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, DRAIN, FIRST_BYTE_TIMEOUT, HEAD_BYTES_MAX,
        HEAD_TIMEOUT, LOCAL_RESETS_MAX, PEER_PENDING_RESETS_MAX, PENDING_RESETS_MAX, PING_INTERVAL,
        PING_TIMEOUT, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX, UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX,
        WRITE_TIMEOUT,
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
    places: Arc<Semaphore>,
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
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            unproven: Unproven::default(),
        }
    }

    /// Accepts until `stop`; then lets every connection finish what it holds, within the drain time.
    pub async fn run(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, from)) => self.admit(stream, from, &mut connections, &stop),
                    Err(error) => pause_after(&error).await,
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
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
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
            _place: place,
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
    _place: OwnedSemaphorePermit,
}

impl<S: Answers> Connection<S> {
    async fn serve(self) {
        let first = timeout(FIRST_BYTE_TIMEOUT, first_byte(&self.stream, Arc::clone(&self.slots))).await;
        let Ok(Some(slot)) = first else {
            self.metrics.connections_silent.inc();
            return;
        };
        // A reply is written at once; without this, Nagle's algorithm may hold it for 40 ms.
        let _ = self.stream.set_nodelay(true);
        let slot = Arc::new(Slot::new(slot));
        let (answers, asked) = (TowerToHyperService::new(self.service), Arc::clone(&slot));
        let from = ConnectInfo(self.from);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            asked.release();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(from);
            answers.call(request)
        });
        let mut stream = TimeoutWriter::new(self.stream);
        stream.set_timeout(Some(WRITE_TIMEOUT));
        let stream = TokioIo::new(Box::pin(stream));
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
                () = self.stop.cancelled() => break,
            }
        }
        connection.as_mut().graceful_shutdown();
        // hyper would wait for a first head as long as for an answer; who has not asked by then holds nothing up.
        let ended = timeout(FIRST_BYTE_TIMEOUT, connection.as_mut()).await.is_ok();
        if !ended && slot.is_released() {
            let _ = timeout(DRAIN.saturating_sub(FIRST_BYTE_TIMEOUT), connection).await;
        }
    }
}

/// Waits for one of the address's slots, then for the first byte, which stays to be read.
async fn first_byte(stream: &TcpStream, slots: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let slot = slots.acquire_owned().await.ok()?;
    let read = stream.peek(&mut [0]).await.ok()?;
    (read > 0).then_some(slot)
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

/// The slots of each address for connections that have not completed a first head. A connection beyond them waits for
/// one as long as it may stay silent, so that a burst of honest clients passes, and who trickles heads is held off.
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

/// A connection that was reset before it was accepted is no fault of ours; a want of descriptors passes.
async fn pause_after(error: &io::Error) {
    let resets = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if !resets.contains(&error.kind()) {
        tracing::warn!(%error, "cannot accept connections; trying again");
        sleep(ACCEPT_PAUSE).await;
    }
}
