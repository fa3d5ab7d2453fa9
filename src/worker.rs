//! The work itself: short checks inline, long ones on a bounded pool off the runtime's threads.

mod pool;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use primacy_election::Figures;
use tokio::task::yield_now;

use crate::{
    limits::SHORT_CHECKS_BEFORE_YIELD,
    prime::{self, Certainty, Number, Verdict},
};
use pool::Pool;

pub use pool::PoolError;

/// Checks numbers on this node.
#[derive(Debug)]
pub struct Worker {
    name: Arc<str>,
    pool: Pool,
    completed: AtomicU64,
}

impl Worker {
    /// A worker with one thread for each core for long checks, and one more for the quick ones among them.
    pub fn new(name: Arc<str>) -> std::io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { name, pool: Pool::start(threads, prime::check_while)?, completed: AtomicU64::new(0) })
    }

    /// The name that its answers carry as `processed_by`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Does something short here and now, such as to decide a number that fits a word: some microseconds at most.
    pub fn work_now<T>(&self, work: impl FnOnce() -> T) -> T {
        let done = work();
        self.completed.fetch_add(1, Relaxed);
        done
    }

    /// Decides a batch of such numbers, yielding every so many.
    pub async fn check_batch(&self, values: &[u64]) -> Vec<bool> {
        let mut are_prime = Vec::with_capacity(values.len());
        for chunk in values.chunks(SHORT_CHECKS_BEFORE_YIELD) {
            if !are_prime.is_empty() {
                yield_now().await;
            }
            are_prime.extend(chunk.iter().map(|value| prime::is_prime(*value)));
            self.completed.fetch_add(chunk.len() as u64, Relaxed);
        }
        are_prime
    }

    /// Decides any number; a long one on the pool, where it stops soon after this future is dropped.
    ///
    /// # Errors
    /// [`PoolError::Full`] when too many long checks wait already.
    pub async fn check(&self, number: &Number) -> Result<Verdict, PoolError> {
        if let Some(value) = number.equivalent_word() {
            let is_prime = self.work_now(|| prime::is_prime(value));
            return Ok(Verdict { is_prime, certainty: Certainty::Proven });
        }
        let verdict = self.pool.check(number.clone()).await?;
        self.completed.fetch_add(1, Relaxed);
        Ok(verdict)
    }

    /// What it holds and has done.
    pub fn figures(&self) -> Figures {
        Figures { in_flight: self.pool.in_flight(), completed: self.completed.load(Relaxed) }
    }

    /// Long checks that wait for a thread.
    pub fn queued(&self) -> usize {
        self.pool.queued()
    }

    /// Returns when a thread of the pool has died, which none does by itself.
    pub async fn died(&self) {
        self.pool.died().await;
    }
}
