//! One connection, from its first byte to its end.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, server::conn::auto::Builder, service::TowerToHyperService};
use tokio::{
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    AnswerService,
    arrival::Arrival,
    entrance::{Entrance, Stream, Transport},
    output::Output,
    socket::Socket,
};
use crate::{
    gateway::admission::{Kept, Metered, fair::StreamExecutor, places::Place},
    limits::{DRAIN, FIRST_BYTE_RESERVED_TIMEOUT, FIRST_BYTE_TIMEOUT, GOODBYE_TIMEOUT, HEAD_TIMEOUT},
    metrics::Metrics,
};

pub(super) struct Connection<S> {
    pub(super) from: SocketAddr,
    pub(super) entrance: Arc<Entrance>,
    /// Slots of its address, for those that have not completed a first head.
    pub(super) slots: Arc<Semaphore>,
    pub(super) service: S,
    pub(super) builder: Builder<StreamExecutor>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
    /// Ends this connection to make room for another one.
    pub(super) leave: CancellationToken,
    /// Another one makes room for it.
    pub(super) awaits_room: bool,
}

impl<S: AnswerService> Connection<S> {
    pub(super) async fn serve(self, stream: TcpStream, place: Place) {
        if self.awaits_room {
            place.settle_soon().await;
        }
        let may_be_silent =
            if place.usage.is_reserved() { FIRST_BYTE_RESERVED_TIMEOUT } else { FIRST_BYTE_TIMEOUT };
        let first = timeout(may_be_silent, first_byte(&stream, Arc::clone(&self.slots)));
        let Some(Ok(Some((first, slot)))) = self.leave.run_until_cancelled(first).await else {
            self.metrics.connections_silent.inc();
            return;
        };
        // A reply is written at once; without this, Nagle's algorithm may hold it for 40 ms.
        let _ = stream.set_nodelay(true);
        let (input, output) = stream.into_split();
        let socket = Arc::new(Socket::new(input, place));
        let opening = self.entrance.open(first, self.from, &socket, output);
        // Nothing was asked yet.
        let opening = self.stop.run_until_cancelled(self.leave.run_until_cancelled(opening));
        let Some(Some(Some((stream, transport)))) = opening.await else { return };
        let may_send = self.converse(&socket, stream, transport, slot).await;
        socket.place.usage.flow.mark_ended();
        if may_send {
            socket.linger().await;
        }
    }

    /// Each signal is polled only when it was woken, and not whenever the connection is polled.
    fn signals<'a>(&'a self, socket: &'a Socket, slot: &'a Slot) -> FuturesUnordered<BoxFuture<'a, Signal>> {
        let signals = FuturesUnordered::new();
        signals.push(slot.released.notified().map(|()| Signal::Asked).boxed());
        signals.push(sleep(HEAD_TIMEOUT).map(|()| Signal::Overdue).boxed());
        signals.push(socket.was_reset().map(|()| Signal::Reset).boxed());
        signals.push(self.leave.cancelled().map(|()| Signal::Leave).boxed());
        signals.push(self.stop.cancelled().map(|()| Signal::Leave).boxed());
        if socket.place.usage.is_reserved() {
            signals.push(socket.place.settle().map(|()| Signal::Settled).boxed());
        }
        signals
    }

    /// Answers requests until either side has had enough; returns whether the client may still have to read an answer.
    async fn converse(
        self,
        socket: &Arc<Socket>,
        stream: Stream,
        transport: Transport,
        slot: OwnedSemaphorePermit,
    ) -> bool {
        let slot = Arc::new(Slot::new(slot));
        let (answers, asked) = (TowerToHyperService::new(self.service.clone()), Arc::clone(&slot));
        let (from, over) = (self.from, Arc::clone(socket));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            asked.release();
            let in_use = over.place.usage.request();
            let answer = answers.call(Arrival::take(request, from, transport, &over));
            async move { Ok::<_, Infallible>(answer.await?.map(|body| Kept::new(body, in_use))) }
        });
        let is_encrypted = matches!(transport, Transport::Tls { .. });
        let metered = Metered::new(Output::new(stream), Arc::clone(&socket.place.usage), is_encrypted);
        let stream = TokioIo::new(metered);
        let mut connection = pin!(self.builder.serve_connection(stream, service));
        let mut signals = self.signals(socket, &slot);
        let mut has_asked = false;
        loop {
            tokio::select! {
                biased;
                // How a connection ends is the client's affair.
                _ = connection.as_mut() => return true,
                Some(signal) = signals.next() => match signal {
                    Signal::Asked => has_asked = true,
                    Signal::Settled => {}
                    Signal::Overdue if has_asked => {}
                    // hyper waits without end for a preface of HTTP/2 (its #3756).
                    Signal::Overdue => {
                        self.metrics.connections_silent.inc();
                        return false;
                    }
                    Signal::Reset => return false,
                    Signal::Leave => break,
                }
            }
        }
        let used = socket.place.usage.last_use();
        connection.as_mut().graceful_shutdown();
        say_goodbye(connection, socket, &slot, &self.stop, used).await
    }
}

/// Lets a connection that was told to end finish what it holds; returns whether the client may still have to read an
/// answer.
async fn say_goodbye<E>(
    mut connection: Pin<&mut impl Future<Output = Result<(), E>>>,
    socket: &Socket,
    slot: &Slot,
    stop: &CancellationToken,
    used: u64,
) -> bool {
    let mut reset = pin!(socket.was_reset());
    // One that makes room was idle; what it asks meanwhile, or was slow to read, it still gets.
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            // A client that has asked nothing more had its answers long ago, and others need the place.
            _ = connection.as_mut() => return socket.place.usage.last_use() != used,
            () = &mut reset => return false,
            () = stop.cancelled() => {}
            () = sleep(GOODBYE_TIMEOUT) => if socket.place.usage.is_idle() { return false },
        }
    }
    // hyper would wait for a first head as long as for an answer; a client that has not asked by then holds nothing up.
    let ended = timeout(FIRST_BYTE_TIMEOUT, connection.as_mut()).await.is_ok();
    if ended || !slot.is_released() {
        return ended;
    }
    tokio::select! {
        ended = timeout(DRAIN.saturating_sub(FIRST_BYTE_TIMEOUT), connection) => ended.is_ok(),
        () = reset => false,
    }
}

/// What a connection is told while it answers.
enum Signal {
    /// Its first head is complete.
    Asked,
    /// The time for that is over.
    Overdue,
    /// The client has reset it, for which hyper does not look while a request of HTTP/1 is answered.
    Reset,
    /// It has a place of everybody's now.
    Settled,
    /// It is to end.
    Leave,
}

/// Waits for the first byte, which stays to be read, then for one of the address's slots: who is silent needs none.
async fn first_byte(stream: &TcpStream, slots: Arc<Semaphore>) -> Option<(u8, OwnedSemaphorePermit)> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1..) => Some((first[0], slots.acquire_owned().await.ok()?)),
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
