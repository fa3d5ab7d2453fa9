//! In which order callers are served. The task of a connection is polled when [`queue`] says so: each address may cost
//! as much as any other. All other tasks of a node, such as those of its lanes and its election, are polled when they
//! are ready, so that the cluster's own work comes between the callers'.

pub mod queue;

use std::{
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, task::yield_now};

use super::turn::Turn;
use crate::{
    gateway::admission::address::Address,
    limits::{CONNECTION_COST, STREAM_POLL_COST},
};
use queue::{Queue, Stage, Ticket};

/// The one queue of a node.
#[derive(Debug, Clone)]
pub struct FairQueue(Arc<Mutex<Queue>>);

/// For the threads of the runtime in which it is made.
impl Default for FairQueue {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Queue::new(Handle::current().metrics().num_workers()))))
    }
}

impl FairQueue {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's part in the queue: the line that it waits in, and what is left of its turn. It changes lines when it
/// was answered, shows itself as a node's, or is told to end.
#[derive(Debug)]
pub struct Flow {
    queue: FairQueue,
    address: Address,
    /// Read and written with the queue locked.
    index: AtomicUsize,
    is_new: AtomicBool,
    has_ended: AtomicBool,
    /// What the tasks of its streams have cost since its last turn.
    streams_cost: AtomicUsize,
    /// What is left of its turn.
    pub turn: Turn,
}

impl Flow {
    /// That of a new connection from this address.
    pub fn new(queue: FairQueue, from: IpAddr) -> Self {
        let address = from.into();
        let index = queue.lock().join((address, Stage::New));
        Self {
            queue,
            address,
            index: AtomicUsize::new(index),
            is_new: true.into(),
            has_ended: false.into(),
            streams_cost: AtomicUsize::new(0),
            turn: Turn::new(),
        }
    }

    /// Whether nothing that it asked was answered yet.
    pub fn is_new(&self) -> bool {
        self.is_new.load(Relaxed)
    }

    /// It was answered.
    pub fn mark_answered(&self) {
        self.belongs_to(Stage::Client);
    }

    /// It is of a node.
    pub fn mark_of_peer(&self) {
        self.belongs_to(Stage::Peer);
    }

    /// It is told to end.
    pub fn mark_leaving(&self) {
        self.is_new.store(false, Relaxed);
        self.move_to(Stage::Leaving);
    }

    /// It has ended, and nobody hears what its streams would be answered.
    pub fn mark_ended(&self) {
        self.has_ended.store(true, Relaxed);
    }

    /// Only the first call counts.
    fn belongs_to(&self, stage: Stage) {
        if self.is_new.load(Relaxed) && self.is_new.swap(false, Relaxed) {
            self.move_to(stage);
        }
    }

    fn move_to(&self, stage: Stage) {
        let mut queue = self.queue.lock();
        let index = queue.join((self.address, stage));
        queue.leave(self.index.swap(index, Relaxed));
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.queue.lock().leave(self.index.load(Relaxed));
    }
}

pin_project! {
    /// A task's future, polled when it is its flow's turn, for one turn.
    pub struct InTurn<F> {
        #[pin]
        future: F,
        place: QueuePlace,
    }
}

/// A task's place in the queue.
struct QueuePlace {
    flow: Arc<Flow>,
    ticket: Option<Ticket>,
    /// The last poll has cost so much.
    cost: usize,
}

impl<F> InTurn<F> {
    /// The task of a new connection, charged to this flow.
    pub fn new(future: F, flow: Arc<Flow>) -> Self {
        flow.turn.charge(CONNECTION_COST);
        Self { future, place: QueuePlace { flow, ticket: None, cost: CONNECTION_COST } }
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        ready!(this.place.enter(context));
        let polled = this.future.poll(context);
        this.place.polled();
        let turn = &this.place.flow.turn;
        if polled.is_pending() && turn.is_over() {
            // What is still to be done is done in its next turn.
            wake_after_events(context.waker());
        }
        turn.begin();
        polled
    }
}

impl QueuePlace {
    fn enter(&mut self, context: &Context<'_>) -> Poll<()> {
        let mut queue = self.flow.queue.lock();
        let index = self.flow.index.load(Relaxed);
        if !queue.enter(index, &mut self.ticket, self.cost, context.waker()) {
            queue.wakers().for_each(|waker| wake_after_events(&waker));
            return Poll::Pending;
        }
        if self.ticket.is_none() {
            // It did not have to wait: nobody else does.
            self.flow.turn.extend();
        }
        Poll::Ready(())
    }

    fn polled(&mut self) {
        self.cost = self.flow.turn.cost() + self.flow.streams_cost.swap(0, Relaxed);
        let mut queue = self.flow.queue.lock();
        queue.polled(self.flow.index.load(Relaxed), &mut self.ticket, self.cost);
        queue.wakers().for_each(|waker| wake_after_events(&waker));
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut queue = self.flow.queue.lock();
            queue.give_up(ticket);
            queue.wakers().for_each(|waker| wake_after_events(&waker));
        }
    }
}

/// Spawns the tasks of a connection's streams of HTTP/2. They wait for no turn of their own, but what they cost counts
/// in the connection's next one: a frame of a few bytes may wake all of them.
#[derive(Debug, Clone)]
pub struct StreamExecutor(pub Arc<Flow>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        tokio::spawn(StreamTask { future, flow: Arc::clone(&self.0) });
    }
}

pin_project! {
    /// The task of a stream, which ends with its connection: thousands of them would otherwise make answers for nobody.
    struct StreamTask<F> {
        #[pin]
        future: F,
        flow: Arc<Flow>,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.flow.has_ended.load(Relaxed) {
            return Poll::Ready(());
        }
        this.flow.streams_cost.fetch_add(STREAM_POLL_COST, Relaxed);
        this.future.poll(context)
    }
}

/// Wakes a task when everything that is ready was polled and the runtime has looked for events, so that tasks whose
/// bytes have come meanwhile are polled before it.
fn wake_after_events(waker: &Waker) {
    // The runtime keeps the waker of a task that yields until then.
    let _ = pin!(yield_now()).poll(&mut Context::from_waker(waker));
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::Ipv4Addr};

    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::limits::TURN_ALONE_COST_MAX;

    #[tokio::test]
    async fn whoever_uses_up_a_turn_has_another_one() {
        let flow = Arc::new(Flow::new(FairQueue::default(), Ipv4Addr::LOCALHOST.into()));
        let mut turns = 0;
        let task = poll_fn(|_| {
            flow.turn.charge(TURN_ALONE_COST_MAX + 1);
            turns += 1;
            if turns == 100 { Poll::Ready(()) } else { Poll::Pending }
        });
        InTurn::new(task, Arc::clone(&flow)).await;
        assert_eq!(turns, 100);
    }

    #[tokio::test]
    async fn a_stream_that_is_woken_after_its_connection_makes_no_answer() {
        let flow = Arc::new(Flow::new(FairQueue::default(), Ipv4Addr::LOCALHOST.into()));
        let (wake, woken) = oneshot::channel::<()>();
        let (answer, mut answered) = mpsc::channel(1);
        StreamExecutor(Arc::clone(&flow)).execute(async move {
            let _ = woken.await;
            answer.send(()).await.unwrap();
        });
        yield_now().await;
        flow.mark_ended();
        drop(wake);
        assert_eq!(answered.recv().await, None, "its task is gone");
    }

    #[tokio::test]
    async fn what_streams_cost_counts_in_the_next_turn_of_their_connection() {
        let flow = Arc::new(Flow::new(FairQueue::default(), Ipv4Addr::LOCALHOST.into()));
        for _ in 0..3 {
            StreamExecutor(Arc::clone(&flow)).execute(async {});
        }
        yield_now().await;
        let mut place = QueuePlace { flow, ticket: None, cost: 0 };
        place.polled();
        assert_eq!(place.cost, 3 * STREAM_POLL_COST);
        place.polled();
        assert_eq!(place.cost, 0, "once");
    }
}
