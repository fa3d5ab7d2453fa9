//! A fixed number of threads of lowered priority, and a bounded queue before them.

use std::{
    collections::VecDeque,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use thiserror::Error;
use thread_priority::ThreadPriority;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    limits::POOL_QUEUE_MAX,
    prime::{Number, Verdict},
};

/// Why a long check was not done here.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PoolError {
    /// The queue is full.
    #[error("{POOL_QUEUE_MAX} long checks are waiting on this worker already; try again in a second")]
    Full,
    /// It met a defect.
    #[error("this number met a defect of the worker; its log says more")]
    Defect,
}

#[derive(Debug)]
pub(super) struct Pool {
    queue: Arc<Queue>,
    in_flight: Arc<AtomicU64>,
    died: CancellationToken,
}

/// What the threads do: [`prime::check`](crate::prime::check), or what a test puts in its place.
type Check = fn(&Number, &AtomicBool) -> Option<Verdict>;

#[derive(Debug)]
struct Job {
    number: Number,
    stop: Arc<AtomicBool>,
    reply: oneshot::Sender<Verdict>,
}

impl Pool {
    pub(super) fn start(threads: usize, check: Check) -> io::Result<Self> {
        let pool = Self { queue: Arc::default(), in_flight: Arc::default(), died: CancellationToken::new() };
        for index in 0..threads {
            let queue = Arc::clone(&pool.queue);
            let died = pool.died.clone().drop_guard();
            thread::Builder::new().name(format!("long-{index}")).spawn(move || {
                let _died = died;
                if let Err(error) = lower_priority() {
                    tracing::debug!(?error, "the pool keeps its priority");
                }
                work(&queue, check);
            })?;
        }
        Ok(pool)
    }

    pub(super) async fn check(&self, number: Number) -> Result<Verdict, PoolError> {
        let held = Held::new(&self.in_flight);
        let (reply, verdict) = oneshot::channel();
        self.queue.push(Job { number, stop: Arc::clone(&held.stop), reply })?;
        verdict.await.map_err(|_| PoolError::Defect)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.lock().jobs.len()
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
struct Held {
    stop: Arc<AtomicBool>,
    in_flight: Arc<AtomicU64>,
}

impl Held {
    fn new(in_flight: &Arc<AtomicU64>) -> Self {
        in_flight.fetch_add(1, Relaxed);
        Self { stop: Arc::default(), in_flight: Arc::clone(in_flight) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), PoolError> {
        let mut state = self.lock();
        if state.jobs.len() >= POOL_QUEUE_MAX {
            // Those whose client has gone must not keep the others out.
            state.jobs.retain(|job| !job.stop.load(Relaxed));
        }
        if state.jobs.len() >= POOL_QUEUE_MAX {
            return Err(PoolError::Full);
        }
        state.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for job in state.jobs.drain(..) {
            job.stop.store(true, Relaxed);
        }
        self.changed.notify_all();
    }
}

fn work(queue: &Queue, check: Check) {
    while let Some(job) = queue.pop() {
        // One number that meets a defect must not take its node down, and then the next node that is asked.
        match panic::catch_unwind(AssertUnwindSafe(|| check(&job.number, &job.stop))) {
            Ok(None) => {}
            Ok(Some(verdict)) => {
                // Nobody to take it: the client has gone since.
                let _ = job.reply.send(verdict);
            }
            Err(_) => tracing::error!("a check of {} bytes met a defect", job.number.text_len()),
        }
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

    fn check_but_for_13(number: &Number, _: &AtomicBool) -> Option<Verdict> {
        assert_ne!(number.short(), Some(13), "a defect");
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
