//! A fixed number of threads of lowered priority, and a bounded queue before them.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use thiserror::Error;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    limits::{POOL_NICENESS, POOL_QUEUE_MAX},
    prime::{self, Number, Verdict},
};

/// Why a long check was not done here.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PoolError {
    /// The queue is full.
    #[error("{POOL_QUEUE_MAX} long checks are waiting on this worker already; try again in a second")]
    Full,
    /// The thread that had it is gone; the node follows it.
    #[error("the worker's pool has failed")]
    Died,
}

#[derive(Debug)]
pub(super) struct Pool {
    queue: Arc<Queue>,
    in_flight: Arc<AtomicU64>,
    died: CancellationToken,
}

#[derive(Debug)]
struct Job {
    number: Number,
    stop: Arc<AtomicBool>,
    reply: oneshot::Sender<Verdict>,
}

impl Pool {
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let pool = Self { queue: Arc::default(), in_flight: Arc::default(), died: CancellationToken::new() };
        for index in 0..threads {
            let queue = Arc::clone(&pool.queue);
            let died = pool.died.clone().drop_guard();
            thread::Builder::new().name(format!("long-{index}")).spawn(move || {
                let _died = died;
                lower_priority();
                work(&queue);
            })?;
        }
        Ok(pool)
    }

    pub(super) async fn check(&self, number: Number) -> Result<Verdict, PoolError> {
        let held = Held::new(&self.in_flight);
        let (reply, verdict) = oneshot::channel();
        self.queue.push(Job { number, stop: Arc::clone(&held.stop), reply })?;
        verdict.await.map_err(|_| PoolError::Died)
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

fn work(queue: &Queue) {
    while let Some(job) = queue.pop() {
        if let Some(verdict) = prime::check(&job.number, &job.stop) {
            // Nobody to take it: the client has gone since.
            let _ = job.reply.send(verdict);
        }
    }
}

/// On Linux `setpriority` on a thread's id lowers that thread alone.
#[cfg(target_os = "linux")]
fn lower_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), POOL_NICENESS) {
        tracing::debug!(%error, "the pool keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}
