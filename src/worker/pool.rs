//! A fixed number of threads of lowered priority, and bounded queues before them: one thread more than are asked for
//! takes quick checks only, so that a number of 40 digits does not wait for one of 10,000.
//!
//! The threads take checks and segments of ranges in turn, so that neither kind waits for all of the other.

use std::{
    cell::Cell,
    collections::VecDeque,
    hint, io,
    panic::{self, AssertUnwindSafe},
    process,
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
    limits::{POOL_QUEUE_MAX, POOL_TURN},
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

/// What is to be done; it goes on while the function that it is given says so.
type Work = Box<dyn FnOnce(&dyn Fn() -> bool) + Send>;

/// Which queue work waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkKind {
    /// A check of up to [`QUICK_COST_MAX_US`](crate::limits::QUICK_COST_MAX_US).
    QuickCheck,
    /// A longer one.
    SlowCheck,
    /// A part of a range.
    Segment,
}

struct PoolJob {
    work: Work,
    kind: WorkKind,
    stop: Arc<AtomicBool>,
}

impl Pool {
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let pool = Self { queue: Arc::default(), in_flight: Arc::default(), died: CancellationToken::new() };
        for index in 0..threads {
            pool.spawn(format!("long-{index}"), Takes::Any)?;
        }
        pool.spawn("long-quick".to_owned(), Takes::Quick)?;
        Ok(pool)
    }

    fn spawn(&self, name: String, takes: Takes) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        let died = self.died.clone().drop_guard();
        thread::Builder::new().name(name).spawn(move || {
            let _died = died;
            if let Err(error) = lower_priority() {
                tracing::debug!(?error, "the pool keeps its priority");
            }
            work(&queue, takes);
        })?;
        Ok(())
    }

    /// Does work on one of the threads. It ends with `None` only when it was told not to go on, which it is soon after this
    /// future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        kind: WorkKind,
        work: impl FnOnce(&dyn Fn() -> bool) -> Option<T> + Send + 'static,
    ) -> Result<T, PoolError> {
        let in_flight = Counted::new(Arc::clone(&self.in_flight), 1);
        let held = AwaitedWork { stop: Arc::default(), _in_flight: in_flight };
        let (reply, done) = oneshot::channel();
        let work: Work = Box::new(move |go_on| {
            if let Some(done) = work(go_on) {
                // Nobody to take it: the client has gone since.
                let _ = reply.send(done);
            }
        });
        self.queue.push(PoolJob { work, kind, stop: Arc::clone(&held.stop) })?;
        done.await.map_err(|_| PoolError::Defect)
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

/// Work somebody waits for; dropping it stops the computation.
struct AwaitedWork {
    stop: Arc<AtomicBool>,
    _in_flight: Counted<Arc<AtomicU64>>,
}

impl Drop for AwaitedWork {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Which work a thread takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// Of the checks the slow ones first: for the quick ones there is a thread of their own.
    Any,
    Quick,
}

#[derive(Debug, Default)]
struct JobQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    quick_changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    slow: VecDeque<PoolJob>,
    quick: VecDeque<PoolJob>,
    segments: VecDeque<PoolJob>,
    /// Whose turn it is, if both wait.
    is_turn_of_segments: bool,
    closed: bool,
}

impl QueueState {
    fn len(&self) -> usize {
        self.slow.len() + self.quick.len() + self.segments.len()
    }

    fn of_kind(&mut self, kind: WorkKind) -> &mut VecDeque<PoolJob> {
        match kind {
            WorkKind::QuickCheck => &mut self.quick,
            WorkKind::SlowCheck => &mut self.slow,
            WorkKind::Segment => &mut self.segments,
        }
    }

    fn next(&mut self, takes: Takes) -> Option<PoolJob> {
        let Takes::Any = takes else { return self.quick.pop_front() };
        self.is_turn_of_segments = !self.is_turn_of_segments;
        match self.is_turn_of_segments {
            true => self.segments.pop_front().or_else(|| self.next_check()),
            false => self.next_check().or_else(|| self.segments.pop_front()),
        }
    }

    fn next_check(&mut self) -> Option<PoolJob> {
        self.slow.pop_front().or_else(|| self.quick.pop_front())
    }
}

impl std::fmt::Debug for QueueState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("QueueState").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

impl JobQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: PoolJob) -> Result<(), PoolError> {
        let is_quick = job.kind == WorkKind::QuickCheck;
        let mut state = self.lock();
        let jobs = state.of_kind(job.kind);
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
        let QueueState { slow, quick, segments, .. } = &mut *state;
        for job in slow.drain(..).chain(quick.drain(..)).chain(segments.drain(..)) {
            job.stop.store(true, Relaxed);
        }
        self.changed.notify_all();
        self.quick_changed.notify_all();
    }
}

fn work(queue: &JobQueue, takes: Takes) {
    while let Some(PoolJob { work, kind, stop }) = queue.pop(takes) {
        let turn = Cell::new(Instant::now());
        let go_on = || {
            give_way(&turn);
            !stop.load(Relaxed)
        };
        // Work that meets a defect must not take its node down, and then the next node that is asked.
        if panic::catch_unwind(AssertUnwindSafe(|| work(&go_on))).is_err() {
            tracing::error!(?kind, "work on the pool met a defect");
        }
    }
}

/// Makes a system call when a turn is over. A kernel that does not preempt (most servers' are built or set so) takes
/// the core even from an idle thread only at a system call or the next tick, which is up to 4 ms away. To yield would
/// give the core to other idle threads too, in every turn, and each change between them empties the caches.
fn give_way(turn: &Cell<Instant>) {
    if turn.get().elapsed() >= POOL_TURN {
        hint::black_box(process::id());
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

    #[tokio::test]
    async fn work_that_meets_a_defect_leaves_the_thread_to_the_others() {
        let pool = Pool::start(1).unwrap();
        for _ in 0..3 {
            let met: Result<(), _> = pool.run(WorkKind::SlowCheck, |_| panic!("a defect")).await;
            assert_eq!(met, Err(PoolError::Defect));
            assert_eq!(pool.run(WorkKind::SlowCheck, |_| Some(17)).await, Ok(17));
        }
        assert_eq!((pool.in_flight(), pool.died.is_cancelled()), (0, false));
    }

    #[test]
    fn checks_and_segments_take_turns() {
        let mut state = QueueState::default();
        for kind in [WorkKind::Segment, WorkKind::SlowCheck].repeat(3) {
            state.of_kind(kind).push_back(PoolJob { work: Box::new(|_| ()), kind, stop: Arc::default() });
        }
        let kinds: Vec<WorkKind> =
            std::iter::from_fn(|| state.next(Takes::Any)).map(|job| job.kind).collect();
        assert!(kinds.windows(2).all(|pair| pair[0] != pair[1]), "{kinds:?}");
        assert_eq!(kinds.len(), 6);
    }
}
