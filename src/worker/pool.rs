//! A fixed number of threads of lowered priority, and bounded queues before them: one thread more than are asked for
//! takes quick checks only, so that a number of 40 digits does not wait for one of 10,000.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use thiserror::Error;
use thread_priority::ThreadPriority;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    counted::Counted,
    limits::{POOL_QUEUE_MAX, POOL_TURN, QUICK_COST_MAX_US},
    prime::{Number, Verdict},
};

/// Why a long check was not done here.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PoolError {
    /// The queue is full.
    #[error("{POOL_QUEUE_MAX} long checks are waiting on this worker already; try again in a second")]
    Full,
    /// It met a defect.
    #[error("this number met an internal error of the worker; its log says more")]
    Defect,
}

#[derive(Debug)]
pub(super) struct Pool {
    queue: Arc<JobQueue>,
    in_flight: Arc<AtomicU64>,
    died: CancellationToken,
}

/// What the threads do: [`prime::check_while`](crate::prime::check_while), or what a test puts in its place.
type CheckFunction = fn(&Number, &dyn Fn() -> bool) -> Option<Verdict>;

#[derive(Debug)]
struct PoolJob {
    number: Number,
    stop: Arc<AtomicBool>,
    reply: oneshot::Sender<Verdict>,
}

impl Pool {
    pub(super) fn start(threads: usize, check: CheckFunction) -> io::Result<Self> {
        let pool = Self { queue: Arc::default(), in_flight: Arc::default(), died: CancellationToken::new() };
        for index in 0..threads {
            pool.spawn(format!("long-{index}"), Takes::Any, check)?;
        }
        pool.spawn("long-quick".to_owned(), Takes::Quick, check)?;
        Ok(pool)
    }

    fn spawn(&self, name: String, takes: Takes, check: CheckFunction) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        let died = self.died.clone().drop_guard();
        thread::Builder::new().name(name).spawn(move || {
            let _died = died;
            if let Err(error) = lower_priority() {
                tracing::debug!(?error, "the pool keeps its priority");
            }
            work(&queue, takes, check);
        })?;
        Ok(())
    }

    pub(super) async fn check(&self, number: Number) -> Result<Verdict, PoolError> {
        let in_flight = Counted::new(Arc::clone(&self.in_flight), 1);
        let held = AwaitedCheck { stop: Arc::default(), _in_flight: in_flight };
        let (reply, verdict) = oneshot::channel();
        self.queue.push(PoolJob { number, stop: Arc::clone(&held.stop), reply })?;
        verdict.await.map_err(|_| PoolError::Defect)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.lock().len()
    }

    pub(super) async fn died(&self) {
        self.died.cancelled().await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A check somebody waits for; dropping it stops the computation.
struct AwaitedCheck {
    stop: Arc<AtomicBool>,
    _in_flight: Counted<Arc<AtomicU64>>,
}

impl Drop for AwaitedCheck {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Which checks a thread takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// The slow ones first: for the quick ones there is a thread of their own.
    Any,
    Quick,
}

#[derive(Debug, Default)]
struct JobQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    quick_changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    slow: VecDeque<PoolJob>,
    quick: VecDeque<PoolJob>,
    closed: bool,
}

impl QueueState {
    fn len(&self) -> usize {
        self.slow.len() + self.quick.len()
    }

    fn next(&mut self, takes: Takes) -> Option<PoolJob> {
        match takes {
            Takes::Any => self.slow.pop_front().or_else(|| self.quick.pop_front()),
            Takes::Quick => self.quick.pop_front(),
        }
    }
}

impl JobQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: PoolJob) -> Result<(), PoolError> {
        let is_quick = job.number.estimated_cost_us() <= QUICK_COST_MAX_US;
        let mut state = self.lock();
        let jobs = if is_quick { &mut state.quick } else { &mut state.slow };
        if jobs.len() >= POOL_QUEUE_MAX {
            // Those whose client has gone must not keep the others out.
            jobs.retain(|job| !job.stop.load(Relaxed));
        }
        if jobs.len() >= POOL_QUEUE_MAX {
            return Err(PoolError::Full);
        }
        jobs.push_back(job);
        self.changed.notify_one();
        if is_quick {
            self.quick_changed.notify_one();
        }
        Ok(())
    }

    fn pop(&self, takes: Takes) -> Option<PoolJob> {
        let changed = match takes {
            Takes::Any => &self.changed,
            Takes::Quick => &self.quick_changed,
        };
        let mut state = self.lock();
        while !state.closed {
            if let Some(job) = state.next(takes) {
                return Some(job);
            }
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let QueueState { slow, quick, .. } = &mut *state;
        for job in slow.drain(..).chain(quick.drain(..)) {
            job.stop.store(true, Relaxed);
        }
        self.changed.notify_all();
        self.quick_changed.notify_all();
    }
}

fn work(queue: &JobQueue, takes: Takes, check: CheckFunction) {
    while let Some(job) = queue.pop(takes) {
        let turn = Cell::new(Instant::now());
        let go_on = || {
            give_way(&turn);
            !job.stop.load(Relaxed)
        };
        // One number that meets a defect must not take its node down, and then the next node that is asked.
        match panic::catch_unwind(AssertUnwindSafe(|| check(&job.number, &go_on))) {
            Ok(None) => {}
            Ok(Some(verdict)) => {
                // Nobody to take it: the client has gone since.
                let _ = job.reply.send(verdict);
            }
            Err(_) => tracing::error!("a check of {} bytes met a defect", job.number.text_len()),
        }
    }
}

/// Makes a system call when a turn is over. A kernel that does not preempt (most servers' are built or set so) takes
/// the core even from an idle thread only at a system call or the next tick, which is up to 4 ms away.
fn give_way(turn: &Cell<Instant>) {
    if turn.get().elapsed() >= POOL_TURN {
        thread::yield_now();
        turn.set(Instant::now());
    }
}

/// An idle thread of Linux runs where nothing else wants to, and gives its core up at once to what does. Niceness alone
/// would let it finish its turn, and a short check wait for that at each hop.
#[cfg(target_os = "linux")]
fn lower_priority() -> Result<(), thread_priority::Error> {
    use thread_priority::{
        NormalThreadSchedulePolicy::Idle, ThreadSchedulePolicy::Normal, set_thread_priority_and_policy,
        thread_native_id,
    };
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, Normal(Idle))
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() -> Result<(), thread_priority::Error> {
    thread_priority::set_current_thread_priority(ThreadPriority::Min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prime::Certainty;

    fn check_but_for_13(number: &Number, _: &dyn Fn() -> bool) -> Option<Verdict> {
        assert_ne!(number.equivalent_word(), Some(13), "a defect");
        Some(Verdict { is_prime: true, certainty: Certainty::Proven })
    }

    #[tokio::test]
    async fn a_number_that_meets_a_defect_leaves_the_thread_to_the_others() {
        let pool = Pool::start(1, check_but_for_13).unwrap();
        for _ in 0..3 {
            assert_eq!(pool.check(Number::from(13_u64)).await, Err(PoolError::Defect));
            assert!(pool.check(Number::from(17_u64)).await.is_ok());
        }
        assert_eq!((pool.in_flight(), pool.died.is_cancelled()), (0, false));
    }
}
