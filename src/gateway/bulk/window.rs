//! The groups of a bulk that are in flight, in order.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    api::{
        error::{ApiError, CheckError},
        prime::Outcome,
        primes::BatchOutcome,
    },
    cluster::trace::Trace,
    gateway::{Gateway, bulk::defect},
    limits::{BATCH_MAX, BULK_IDLE_TIMEOUT, BULK_PAUSE, BULK_WINDOW, QUICK_COST_MAX_US},
    prime::Number,
    scheduler::{Check, job::Batch},
};

/// What holds for every number of a bulk.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How long each group may take: a long number from when it is read; any other group from when it has its place,
    /// for which it waits up to [`BULK_IDLE_TIMEOUT`].
    pub patience: Duration,
    /// By which the request is found again.
    pub trace: Arc<Trace>,
}

/// A group that is done, and the lines that it came from; they count from 1, as people and editors do.
#[derive(Debug)]
pub enum Answered {
    /// A run of short numbers.
    Batch(LineNumbers, Batch, Result<BatchOutcome, CheckError>),
    /// A number by itself.
    One(u64, Number, Result<Outcome, CheckError>),
    /// A line that is no number.
    Bad(u64, ApiError),
}

/// The lines of a batch: one after the other, but for blank ones in between.
#[derive(Debug, Default)]
pub struct LineNumbers {
    first: u64,
    /// Before which places of the batch there was a blank line, in order.
    blanks: Vec<usize>,
}

/// What is read and not answered yet.
#[derive(Debug)]
pub struct Window {
    gateway: Arc<Gateway>,
    terms: Terms,
    /// One group of each kind at a time waits for a place among those of all bulks, so that another bulk's next group
    /// comes after one of these and not after all of them.
    next: Arc<NextGroups>,
    /// The lines so far.
    line: u64,
    /// The batch that has not left.
    open: Vec<u64>,
    open_lines: LineNumbers,
    groups: VecDeque<Group>,
}

/// Which group of a bulk may wait for a place.
#[derive(Debug)]
struct NextGroups {
    long: Semaphore,
    other: Semaphore,
}

impl Default for NextGroups {
    fn default() -> Self {
        Self { long: Semaphore::new(1), other: Semaphore::new(1) }
    }
}

#[derive(Debug)]
enum Group {
    Working(AbortOnDropHandle<Answered>),
    Done(Answered),
    /// Its task panicked.
    Lost,
}

impl Answered {
    /// How many numbers it answers.
    pub fn count(&self) -> usize {
        if let Self::Batch(_, batch, _) = self { batch.values.len() } else { 1 }
    }
}

impl LineNumbers {
    /// The line of a place in the batch.
    pub fn at(&self, place: usize) -> u64 {
        let blanks = self.blanks.partition_point(|before| *before <= place);
        self.first + (place + blanks) as u64
    }
}

impl Window {
    /// A window with nothing in it.
    pub fn new(gateway: Arc<Gateway>, terms: Terms) -> Self {
        let (open, open_lines, groups) = (Vec::new(), LineNumbers::default(), VecDeque::new());
        Self { gateway, terms, next: Arc::default(), line: 0, open, open_lines, groups }
    }

    /// Whether it takes one more line.
    pub fn has_room(&self) -> bool {
        self.groups.len() < BULK_WINDOW
    }

    /// Whether all is answered.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.open.is_empty()
    }

    /// Takes a number that fits a word; it joins those before it.
    pub fn push_word(&mut self, word: u64) {
        self.line += 1;
        if self.open.is_empty() {
            self.open.reserve_exact(BATCH_MAX);
            self.open_lines.first = self.line;
        }
        self.open.push(word);
        if self.open.len() == BATCH_MAX {
            self.flush();
        }
    }

    /// Takes any number.
    pub fn push(&mut self, number: Number) {
        if let Some(word) = number.word() {
            return self.push_word(word);
        }
        self.flush();
        self.line += 1;
        let (line, gateway, next) = (self.line, Arc::clone(&self.gateway), Arc::clone(&self.next));
        let Terms { patience, trace } = self.terms.clone();
        let mut check = Check { number, deadline: Instant::now() + patience, trace, forwarded: false };
        self.start(async move {
            let is_long = check.number.estimated_cost_us() > QUICK_COST_MAX_US;
            let place = match is_long {
                // The deadline includes the wait, because slow numbers queue behind each other.
                true => place(&next.long, &gateway.bulk_longs, check.deadline).await,
                false => place_of_group(&next.other, &gateway, patience, &mut check.deadline).await,
            };
            let outcome = match place {
                Ok(_place) => patiently(check.deadline, || gateway.scheduler.check(&check)).await,
                Err(late) => Err(late),
            };
            // Who asks many numbers wants answers that are short.
            let outcome = outcome.map(|outcome| Outcome { evidence: None, ..outcome });
            Answered::One(line, check.number, outcome)
        });
    }

    /// Takes a line that is no number.
    pub fn push_bad(&mut self, error: ApiError) {
        self.flush();
        self.line += 1;
        self.groups.push_back(Group::Done(Answered::Bad(self.line, error)));
    }

    /// Counts a blank line.
    pub fn pass_blank(&mut self) {
        self.line += 1;
        if self.open.is_empty() {
            return;
        }
        self.open_lines.blanks.push(self.open.len());
        if self.open_lines.blanks.len() == BATCH_MAX {
            self.flush();
        }
    }

    /// Sends the open batch.
    pub fn flush(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let (values, lines) = (mem::take(&mut self.open), mem::take(&mut self.open_lines));
        let (gateway, next) = (Arc::clone(&self.gateway), Arc::clone(&self.next));
        let Terms { patience, trace } = self.terms.clone();
        let mut batch = Batch { values, deadline: Instant::now() + patience, trace, forwarded: false };
        self.start(async move {
            let outcome = match place_of_group(&next.other, &gateway, patience, &mut batch.deadline).await {
                Ok(_place) => patiently(batch.deadline, || gateway.scheduler.check_batch(&batch)).await,
                Err(late) => Err(late),
            };
            Answered::Batch(lines, batch, outcome)
        });
    }

    /// Gives up what is in flight.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.open.clear();
    }

    fn start(&mut self, group: impl Future<Output = Answered> + Send + 'static) {
        self.groups.push_back(Group::Working(AbortOnDropHandle::new(tokio::spawn(group))));
    }

    /// The first group, if it is done.
    ///
    /// # Errors
    /// A defect; nothing is left then, because what follows would be taken for the answer to what is lost.
    pub fn next_ready(&mut self) -> Result<Option<Answered>, ApiError> {
        let Some(()) = self.front_done().now_or_never() else { return Ok(None) };
        match self.groups.pop_front() {
            None => Ok(None),
            Some(Group::Done(answered)) => Ok(Some(answered)),
            Some(Group::Working(_) | Group::Lost) => {
                self.clear();
                Err(defect())
            }
        }
    }

    /// Returns when the first group is done, or there is none. Dropping the future loses nothing.
    pub async fn front_done(&mut self) {
        if let Some(front) = self.groups.front_mut()
            && let Group::Working(working) = front
        {
            *front = working.await.map_or(Group::Lost, Group::Done);
        }
    }
}

/// A place for what is no long number; its time counts from then.
async fn place_of_group<'a>(
    next: &Semaphore,
    gateway: &'a Gateway,
    patience: Duration,
    deadline: &mut Instant,
) -> Result<SemaphorePermit<'a>, CheckError> {
    let place = place(next, &gateway.bulk_groups, Instant::now() + BULK_IDLE_TIMEOUT).await?;
    *deadline = Instant::now() + patience;
    Ok(place)
}

/// A place for the bulk's next group, first come, first served among the bulks: none takes all of them from the others.
async fn place<'a>(
    next: &Semaphore,
    places: &'a Semaphore,
    deadline: Instant,
) -> Result<SemaphorePermit<'a>, CheckError> {
    let place = async {
        let _next = next.acquire().await?;
        places.acquire().await
    };
    // They are never closed.
    timeout_at(deadline.into(), place).await.ok().and_then(Result::ok).ok_or(CheckError::DeadlineExceeded)
}

/// Asks again while every worker is full.
pub(in crate::gateway) async fn patiently<T, F>(
    deadline: Instant,
    ask: impl Fn() -> F,
) -> Result<T, CheckError>
where
    F: Future<Output = Result<T, CheckError>>,
{
    loop {
        match ask().await {
            Err(CheckError::Overloaded(_)) if Instant::now() + BULK_PAUSE < deadline => {
                sleep(BULK_PAUSE).await;
            }
            answered => return answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_blank_ones_too() {
        let lines = LineNumbers { first: 3, blanks: vec![1, 1, 4] };
        let at: Vec<u64> = (0..5).map(|place| lines.at(place)).collect();
        assert_eq!(at, [3, 6, 7, 8, 10]);
    }
}
