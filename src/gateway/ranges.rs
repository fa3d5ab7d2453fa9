//! Ranges: cut into segments, which are done all over the cluster and joined in order.
//!
//! ```text
//!  range ─▶ Cut ─▶ segments: a window of them in flight, in order ─▶ progress of a count, or primes ─▶ client
//! ```
//! A segment is a task of its own: it is done, and its worker free for others, whether or not the client reads. The next one
//! is begun only as the client reads, and when the client goes, all of them end. What is told is always whole from the
//! beginning of the range on, so that whoever loses it goes on from there at any node.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Code;

use super::{
    Gateway,
    admission::{memory::Held, shares::Share},
    bulk::window::patiently,
};
use crate::{
    api::{
        error::ApiError,
        ranges::{CountProgress, DoneSegment, NumberRange, Segment, SegmentFound, SegmentOutcome},
    },
    cluster::trace::Trace,
    limits::{
        COUNT_WINDOW, DEADLINE_MAX, LIST_SEGMENT_NUMBERS_MAX, LIST_WINDOW, PROGRESS_INTERVAL,
        PROGRESS_TIMEOUT, RANGE_BYTES, RANGES_MAX,
    },
    prime::{PrimeMap, segment_numbers},
    scheduler::segment::SegmentJob,
};

/// A place among the ranges of a node, with room for what it holds.
#[derive(Debug)]
pub struct RangePlace {
    /// The node stops, or an address with fewer ranges has the place.
    stopping: CancellationToken,
    _share: Share,
    _held: Held,
}

impl RangePlace {
    /// Returns when the node stops, or somebody else has the place.
    pub async fn lost(&self) {
        self.stopping.cancelled().await;
    }
}

/// Primes of a list that are whole up to the end of a segment.
#[derive(Debug)]
pub struct ListedSegment {
    /// The segment.
    pub range: NumberRange,
    /// Its primes.
    pub primes: PrimeMap,
    /// The name of the node that did the work.
    pub processed_by: Arc<str>,
}

/// A place among the ranges of a node, for a client at this address.
///
/// # Errors
/// `resource_exhausted` when all are taken and no other address has more of them, `unavailable` when the node stops.
pub fn enter(gateway: &Gateway, from: IpAddr) -> Result<RangePlace, ApiError> {
    if gateway.cluster.is_stopping() {
        return Err(has_ended());
    }
    let stopping = gateway.cluster.stopping().child_token();
    let share = gateway.ranges.enter(from, stopping.clone()).ok_or_else(|| {
        let detail = format!(
            "{RANGES_MAX} ranges are at work on this node, which is its limit; try again in a second, or at another node"
        );
        ApiError::new(Code::ResourceExhausted, detail)
    })?;
    let mut held = gateway.memory.hold(from);
    held.grow(RANGE_BYTES)?;
    Ok(RangePlace { stopping, _share: share, _held: held })
}

/// Counts the primes of a range: progress as it comes, at most every [`PROGRESS_INTERVAL`], and at the end. Nothing follows an
/// error. Dropping the stream ends the work.
pub fn count(
    gateway: &Arc<Gateway>,
    place: RangePlace,
    range: NumberRange,
    trace: Arc<Trace>,
) -> impl Stream<Item = Result<CountProgress, ApiError>> + Send + 'static {
    let cut = Cut { rest: Some(range), lists: false, numbers_max: u64::MAX };
    let done = segments(gateway, place, cut, trace, COUNT_WINDOW);
    let state = (Box::pin(done), CountProgress::default(), Instant::now());
    stream::unfold(Some(state), move |state| async move {
        let (mut done, mut progress, told) = state?;
        progress.segments.clear();
        loop {
            match done.next().await {
                None => return None,
                Some(Err(error)) => return Some((Err(error), None)),
                Some(Ok((segment, outcome))) => add(&mut progress, segment, outcome),
            }
            let has_ended = progress.counted_to == Some(range.to);
            if has_ended || told.elapsed() >= PROGRESS_INTERVAL {
                return Some((Ok(progress.clone()), Some((done, progress, Instant::now()))));
            }
        }
    })
}

fn add(progress: &mut CountProgress, range: NumberRange, outcome: SegmentOutcome) {
    progress.counted_to = Some(range.to);
    progress.count += outcome.found.count();
    progress.segments.push(DoneSegment { range, processed_by: outcome.processed_by });
}

/// Lists the primes of a range, in ascending order, a segment at a time. The first segments are small, so that the first primes
/// are there soon: of some so many primes if that is what is wanted. Nothing follows an error. Dropping the stream ends the work.
pub fn list(
    gateway: &Arc<Gateway>,
    place: RangePlace,
    range: NumberRange,
    primes_wanted: usize,
    trace: Arc<Trace>,
) -> impl Stream<Item = Result<ListedSegment, ApiError>> + Send + 'static {
    let cut = Cut { rest: Some(range), lists: true, numbers_max: numbers_for(range.from, primes_wanted) };
    segments(gateway, place, cut, trace, LIST_WINDOW).map(|done| {
        let (range, SegmentOutcome { found, processed_by }) = done?;
        match found {
            SegmentFound::Primes(primes) => Ok(ListedSegment { range, primes, processed_by }),
            SegmentFound::Count(_) => Err(defect()),
        }
    })
}

/// How many numbers from here on have so many primes, and some more.
fn numbers_for(from: u64, primes: usize) -> u64 {
    let gap = (from.max(10) as f64).ln();
    ((1.25 * gap * primes as f64) as u64).saturating_add(1000)
}

/// Cuts a range into segments.
struct Cut {
    rest: Option<NumberRange>,
    lists: bool,
    /// The most numbers of the next segment; each may have twice as many as the one before.
    numbers_max: u64,
}

impl Iterator for Cut {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let rest = self.rest?;
        let limit = if self.lists { LIST_SEGMENT_NUMBERS_MAX } else { segment_numbers(rest.from) };
        let range = rest.first(limit.min(self.numbers_max));
        self.numbers_max = self.numbers_max.saturating_mul(2);
        self.rest = rest.after(range);
        Some(Segment { range, lists: self.lists })
    }
}

/// What there is in each segment, in order.
fn segments(
    gateway: &Arc<Gateway>,
    place: RangePlace,
    cut: Cut,
    trace: Arc<Trace>,
    window: usize,
) -> impl Stream<Item = Result<(NumberRange, SegmentOutcome), ApiError>> + Send + 'static {
    let (gateway, range_id) = (Arc::clone(gateway), rand::random());
    let running = stream::iter(cut).map(move |segment| {
        let deadline = Instant::now() + DEADLINE_MAX;
        let job = SegmentJob { segment, range_id, deadline, trace: Arc::clone(&trace), forwarded: false };
        let (gateway, range) = (Arc::clone(&gateway), segment.range);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            patiently(job.deadline, || gateway.scheduler.segment(&job)).await
        }));
        task.map(move |done| match done {
            Ok(outcome) => Ok((range, outcome?)),
            // It panicked, and the log says why.
            Err(_) => Err(defect()),
        })
    });
    let state = Some((Box::pin(running.buffered(window)), place));
    stream::unfold(state, |state| async move {
        let (mut done, place) = state?;
        let next = tokio::select! {
            next = timeout(PROGRESS_TIMEOUT, done.next()) => next.unwrap_or_else(|_| Some(Err(stands_still()))),
            () = place.lost() => Some(Err(has_ended())),
        };
        next.map(|next| {
            let state = next.is_ok().then_some((done, place));
            (next, state)
        })
    })
}

/// How long something took, in milliseconds.
pub fn millis_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// How long a client of JSON waits for all of it.
pub fn overdue(patience: Duration, resume: Option<u64>) -> ApiError {
    let done = resume.map_or_else(String::new, |number| format!(", of which all is done up to {number}"));
    let detail = format!(
        "the range took longer than {} s{done}; ask with a longer Grpc-Timeout, up to {} s, or with Accept: application/x-ndjson, which has no deadline",
        patience.as_secs_f64(),
        DEADLINE_MAX.as_secs()
    );
    ApiError::new(Code::DeadlineExceeded, detail)
}

/// That the place is lost.
pub fn has_ended() -> ApiError {
    ApiError::new(
        Code::Unavailable,
        "this node is stopping, or the place of this range was given to another address; ask another node for the rest of the range",
    )
}

/// That nothing was done for too long.
pub fn stands_still() -> ApiError {
    let detail = format!("nothing was done for {} s; ask for the rest again", PROGRESS_TIMEOUT.as_secs());
    ApiError::new(Code::DeadlineExceeded, detail)
}

fn defect() -> ApiError {
    ApiError::new(Code::Internal, "this range met an internal error of the node; its log says more")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(from: u64, to: u64, lists: bool, numbers_max: u64) -> Vec<NumberRange> {
        let range = NumberRange { from, to };
        Cut { rest: Some(range), lists, numbers_max }.map(|segment| segment.range).collect()
    }

    #[test]
    fn segments_follow_each_other_from_end_to_end() {
        for (from, to) in [(0, 0), (1, 3_000_000_000), (u64::MAX - 2_000_000_000, u64::MAX), (7, 7)] {
            let segments = cut(from, to, false, u64::MAX);
            assert_eq!((segments[0].from, segments.last().unwrap().to), (from, to));
            assert!(segments.windows(2).all(|pair| pair[0].to + 1 == pair[1].from), "{segments:?}");
        }
    }

    #[test]
    fn segments_of_a_list_grow_to_what_a_message_holds() {
        let segments = cut(1_000, 100_000_000, true, 1_000);
        let numbers: Vec<u64> = segments.iter().map(|range| range.numbers()).collect();
        assert_eq!(numbers[..3], [1_000, 2_000, 4_000]);
        assert_eq!(numbers.iter().max(), Some(&LIST_SEGMENT_NUMBERS_MAX));
    }
}
