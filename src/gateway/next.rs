//! The next prime and the one before: candidates are checked all over the cluster, some at a time and in order. When the
//! nearest prime is certain to be the nearest, the checks beyond it end.

use std::{future::pending, sync::Arc, time::Instant};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use super::{
    Gateway,
    bulk::window::patiently,
    ranges::{RangePlace, has_ended, stands_still},
};
use crate::{
    api::{
        error::{ApiError, CheckError},
        next::Neighbour,
    },
    cluster::trace::Trace,
    limits::{DEADLINE_MAX, NEXT_CANDIDATES_TOGETHER, NEXT_WINDOW, PROGRESS_TIMEOUT},
    prime::{Candidates, Direction, Number},
    scheduler::Check,
};

/// How far the search has come.
#[derive(Debug)]
pub enum SearchStep {
    /// No number up to this one is prime.
    Tested(Number),
    /// This is the prime.
    Found(Neighbour),
}

/// Looks for the prime beside a number. Nothing follows an error, or the prime. `place` is held meanwhile; dropping the stream
/// ends the work. Without a deadline each candidate has [`DEADLINE_MAX`], and the search ends when it stands still.
pub fn find(
    gateway: &Arc<Gateway>,
    place: Option<RangePlace>,
    direction: Direction,
    number: &Number,
    deadline: Option<Instant>,
    trace: Arc<Trace>,
) -> impl Stream<Item = Result<SearchStep, ApiError>> + Send + 'static {
    let gateway = Arc::clone(gateway);
    let check = move |number: Number| {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + DEADLINE_MAX);
        let check = Check { number, deadline, trace: Arc::clone(&trace), forwarded: false };
        let gateway = Arc::clone(&gateway);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let outcome = patiently(check.deadline, || gateway.scheduler.check(&check)).await;
            (check.number, outcome)
        }));
        task.map(|done| done.map_err(|_| defect()))
    };
    let checked = candidates(direction, number.clone()).map(check).buffered(NEXT_WINDOW);
    let origin = number.clone();
    stream::unfold(Some((checked.boxed(), place)), move |state| {
        let origin = origin.clone();
        async move {
            let (mut checked, place) = state?;
            let next = tokio::select! {
                next = timeout(PROGRESS_TIMEOUT, checked.next()) => next.unwrap_or_else(|_| Some(Err(stands_still()))),
                () = lost(place.as_ref()) => Some(Err(has_ended())),
            };
            let step = match next {
                Some(Ok((number, Ok(outcome)))) if outcome.verdict.is_prime => {
                    Ok(SearchStep::Found(Neighbour::new(&origin, number, outcome)))
                }
                Some(Ok((number, Ok(_)))) => Ok(SearchStep::Tested(number)),
                Some(Ok((_, Err(error)))) => Err(error.into()),
                Some(Err(error)) => Err(error),
                None => Err(there_is_none(direction)),
            };
            let goes_on = matches!(step, Ok(SearchStep::Tested(_)));
            Some((step, goes_on.then_some((checked, place))))
        }
    })
}

/// Returns when the place is lost; a search without one keeps none from others.
async fn lost(place: Option<&RangePlace>) {
    match place {
        Some(place) => place.lost().await,
        None => pending().await,
    }
}

/// The numbers that may be it, the nearest first. They are sieved off the runtime's threads, for that takes a moment.
fn candidates(direction: Direction, number: Number) -> impl Stream<Item = Number> + Send + 'static {
    stream::unfold(None, move |candidates: Option<Candidates>| {
        let number = number.clone();
        let sieve = move || {
            let mut candidates = candidates.unwrap_or_else(|| Candidates::new(&number, direction));
            let together: Vec<Number> = candidates.by_ref().take(NEXT_CANDIDATES_TOGETHER).collect();
            (together, candidates)
        };
        async move {
            let (together, candidates) = tokio::task::spawn_blocking(sieve).await.ok()?;
            (!together.is_empty()).then(|| (stream::iter(together), Some(candidates)))
        }
    })
    .flatten()
}

/// That there is no such prime.
pub fn there_is_none(direction: Direction) -> ApiError {
    match direction {
        Direction::Next => ApiError::invalid(format!(
            "the next prime has more than {} digits, which is the most of a number",
            Number::DIGITS_MAX
        )),
        Direction::Previous => ApiError::new(Code::NotFound, "there is no prime below 2"),
    }
}

/// That the deadline passed first. Of a long number the distance is told, and not all of its digits.
pub fn overdue(tested_to: Option<&Number>, origin: &Number) -> ApiError {
    let tested = tested_to.map_or_else(String::new, |tested| {
        format!(
            "; no number up to {} from the one that was asked is prime, so ask for what follows",
            origin.distance(tested)
        )
    });
    ApiError::new(Code::DeadlineExceeded, format!("{}{tested}", CheckError::DeadlineExceeded))
}

fn defect() -> ApiError {
    ApiError::new(Code::Internal, "this search met an internal error of the node; its log says more")
}
