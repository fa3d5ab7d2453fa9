//! One accept loop for both listeners: the place where connections are counted, silent ones are closed, and all are
//! drained within a bound.

pub mod arrival;
mod connection;
pub mod entrance;
mod output;
mod socket;

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use axum::{extract::Request, response::Response};
use hyper_util::{rt::TokioTimer, server::conn::auto::Builder};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinSet, yield_now},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::admission::{
    address::Address,
    fair::{FairQueue, Flow, InTurn, StreamExecutor},
    pending::Pending,
    places::{Places, Room},
};
use crate::{
    connection::{Acceptor, Protocols, tls::Tls},
    limits::{
        ACCEPT_PAUSE, ACCEPT_RECOVERED, ACCEPTS_AT_ONCE_MAX, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX,
        HEAD_BYTES_MAX, HEAD_TIMEOUT, LOCAL_RESETS_MAX, PEER_PENDING_RESETS_MAX, PENDING_INTERVAL,
        PENDING_RESETS_MAX, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
        UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX,
    },
    metrics::Metrics,
};
use connection::Connection;
use entrance::Entrance;

/// What answers the requests of all connections.
pub trait AnswerService:
    Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> AnswerService for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Serves requests on a bound address.
pub struct Listener<S> {
    acceptor: Acceptor,
    service: S,
    protocols: Protocols,
    entrance: Arc<Entrance>,
    metrics: Arc<Metrics>,
    places: Places,
    pending: Pending<PendingConnection>,
    addresses: Addresses,
}

/// A connection that is not served yet.
struct PendingConnection {
    stream: TcpStream,
    from: SocketAddr,
    /// It holds a place.
    place: OwnedSemaphorePermit,
}

impl<S: AnswerService> Listener<S> {
    /// A listener that is ready to run.
    pub fn new(acceptor: Acceptor, protocols: Protocols, service: S, metrics: Arc<Metrics>) -> Self {
        let places = Places::new(Room::MOST, FairQueue::default());
        let (pending, addresses) = (Pending::default(), Addresses::default());
        let entrance = Arc::new(Entrance::new(protocols, None, Arc::clone(&metrics)));
        Self { acceptor, service, protocols, entrance, metrics, places, pending, addresses }
    }

    /// The same over TLS, if there is one.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        let entrance = Entrance::new(self.protocols, tls, Arc::clone(&self.metrics));
        Self { entrance: Arc::new(entrance), ..self }
    }

    /// The same with room for so many connections, whose work waits in this queue.
    #[must_use]
    pub fn with_room(self, room: Room, queue: FairQueue) -> Self {
        Self { places: Places::new(room, queue), ..self }
    }

    /// Accepts until `stop`; then lets every connection finish what it holds, within the drain time.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut connections, mut accepting) = (JoinSet::new(), Accepting::default());
        let mut pause = interval(PENDING_INTERVAL);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut at_once = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                _ = pause.tick(), if !self.pending.is_empty() => self.admit_pending(&mut connections, &stop),
                accepted = self.acceptor.accept() => match accepted {
                    Ok((stream, from)) => {
                        accepting.works();
                        let has_room = self.arrives(stream, from, &mut connections, &stop);
                        at_once += 1;
                        // Connections that were evicted end before the next one is accepted.
                        if at_once == ACCEPTS_AT_ONCE_MAX || !has_room {
                            at_once = 0;
                            yield_now().await;
                        }
                    }
                    Err(error) => accepting.fails(&error).await,
                },
            }
        }
        drop((self.acceptor, self.pending));
        // Each connection has the drain time as a bound of its own.
        while connections.join_next().await.is_some() {}
    }

    /// Begins to serve a connection, or lets it wait; returns whether there was a place of everybody's for it.
    fn arrives(
        &mut self,
        stream: TcpStream,
        from: SocketAddr,
        connections: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> bool {
        self.metrics.connections.inc();
        if self.places.is_full() && self.pending.pop_oldest_of_largest().is_some() {
            self.metrics.connections_refused.inc();
        }
        let address = from.ip().into();
        let must_wait = self.pending.has(address) || self.places.is_crowded_by(address, self.pending.len());
        if let Some(place) = must_wait.then(|| self.places.hold()).flatten() {
            self.pending.push(address, Instant::now(), PendingConnection { stream, from, place });
            return true;
        }
        self.admit(stream, from, None, connections, stop)
    }

    /// Begins to serve one of those that wait, or as many as there is room for without ending another one. At most one
    /// that has waited for too long is closed, so that thousands that came together do not end in one turn.
    fn admit_pending(&mut self, connections: &mut JoinSet<()>, stop: &CancellationToken) {
        if self.pending.pop_overdue(Instant::now()).is_some() {
            self.metrics.connections_refused.inc();
        }
        for _ in 0..ACCEPTS_AT_ONCE_MAX {
            let Some(PendingConnection { stream, from, place }) = self.pending.pop() else { return };
            self.admit(stream, from, Some(place), connections, stop);
            if self.places.is_crowded() {
                return;
            }
        }
    }

    /// Begins to serve a connection, which may hold a place; returns whether there was a place of everybody's for it.
    fn admit(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        held: Option<OwnedSemaphorePermit>,
        connections: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> bool {
        let leave = CancellationToken::new();
        let makes_room = self.places.make_room(self.pending.len());
        let place = self.places.take(from.ip(), held, leave.clone());
        if makes_room {
            self.metrics.connections_evicted.inc();
        }
        let Some(place) = place else {
            self.metrics.connections_refused.inc();
            return false;
        };
        let connection = Connection {
            from,
            entrance: Arc::clone(&self.entrance),
            slots: self.addresses.slots(from.ip()),
            service: self.service.clone(),
            builder: builder(self.protocols, &place.usage.flow),
            metrics: Arc::clone(&self.metrics),
            stop: stop.clone(),
            leave,
            awaits_room: makes_room && place.usage.is_reserved(),
        };
        let usage = Arc::clone(&place.usage);
        let served = InTurn::new(connection.serve(stream, place), Arc::clone(&usage.flow));
        usage.set_task(connections.spawn(served));
        !usage.is_reserved()
    }
}

/// The slots of each address for connections that speak and have not completed a first head. One beyond them waits for a
/// slot as long as it may stay silent, so that a burst of honest clients passes, and who trickles heads is held off.
#[derive(Default)]
struct Addresses(Mutex<HashMap<Address, Weak<Semaphore>>>);

impl Addresses {
    fn slots(&self, address: IpAddr) -> Arc<Semaphore> {
        let (address, mut addresses) =
            (Address::from(address), self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(slots) = addresses.get(&address).and_then(Weak::upgrade) {
            return slots;
        }
        // Bounded by the connections: what an address has lives as long as one of them.
        if addresses.len() > CONNECTIONS_MAX {
            addresses.retain(|_, slots| slots.strong_count() > 0);
        }
        let slots = Arc::new(Semaphore::new(UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX));
        addresses.insert(address, Arc::downgrade(&slots));
        slots
    }
}

fn builder(protocols: Protocols, flow: &Arc<Flow>) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor(Arc::clone(flow)));
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
        // A client that has ended its input may wait for the answer; one that has reset the connection is noticed by
        // its task.
        .half_close(true)
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
