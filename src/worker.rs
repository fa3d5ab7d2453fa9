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
use tokio::{sync::Semaphore, task::yield_now};

use crate::{
    api::{
        prime::Outcome,
        ranges::{NumberRange, Segment, SegmentFound},
    },
    limits::{QUICK_COST_MAX_US, SEGMENTS_PER_THREAD, SHORT_CHECKS_BEFORE_YIELD},
    prime::{self, Number, PrimeMap},
};
use pool::{Pool, WorkKind};

pub use pool::PoolError;

/// Checks numbers on this node.
#[derive(Debug)]
pub struct Worker {
    name: Arc<str>,
    pool: Pool,
    threads: usize,
    /// Places for segments: one that is done is followed by another at once, and no more than that wait here.
    segments: Semaphore,
    completed: AtomicU64,
}

impl Worker {
    /// A worker with one thread for each core for long work, and one more for the quick checks among it.
    pub fn new(name: Arc<str>) -> std::io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let segments = Semaphore::new(SEGMENTS_PER_THREAD * threads);
        Ok(Self { name, pool: Pool::start(threads)?, threads, segments, completed: AtomicU64::new(0) })
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
    pub async fn check(&self, number: &Number) -> Result<Outcome, PoolError> {
        if let Some(value) = number.equivalent_word() {
            let is_prime = self.work_now(|| prime::is_prime(value));
            return Ok(Outcome::of_word(is_prime, Arc::clone(&self.name)));
        }
        let is_quick = number.estimated_cost_us() <= QUICK_COST_MAX_US;
        let kind = if is_quick { WorkKind::QuickCheck } else { WorkKind::SlowCheck };
        let number = number.clone();
        let checked = self.pool.run(kind, move |go_on| prime::check_with_evidence(&number, go_on));
        let (verdict, evidence) = checked.await?;
        self.completed.fetch_add(1, Relaxed);
        Ok(Outcome { verdict, evidence: evidence.map(Arc::new), processed_by: Arc::clone(&self.name) })
    }

    /// Threads that work on segments.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Sieves a segment on the pool, where it stops soon after this future is dropped. It waits until it has a place.
    ///
    /// # Errors
    /// [`PoolError::Defect`].
    pub async fn sieve(&self, segment: Segment) -> Result<SegmentFound, PoolError> {
        // It is never closed.
        let _place = self.segments.acquire().await.map_err(|_| PoolError::Defect)?;
        let NumberRange { from, to } = segment.range;
        let found = self.pool.run(WorkKind::Segment, move |go_on| match segment.lists {
            true => PrimeMap::sieve(from..=to, go_on).map(SegmentFound::Primes),
            false => prime::count_primes(from..=to, go_on).map(SegmentFound::Count),
        });
        let found = found.await?;
        self.completed.fetch_add(1, Relaxed);
        Ok(found)
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
