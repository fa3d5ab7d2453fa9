//! `GET /prime/{number}/next` and `/previous`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout_at;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    STREAMED,
    awaited::{items_while_awaited, while_awaited},
    prime::{PROBABLE_CACHE, RequestHeaders, number_in_path},
    problems::{CheckProblems, NoneProblems},
    ranges::accepts_lines,
};
use crate::{
    api::{
        error::ApiError,
        next::{FoundLine, NeighbourAnswer, NeighbourError, NeighbourLine, TestedLine},
        primes::NDJSON,
    },
    cluster::trace::Trace,
    gateway::{
        Gateway,
        context::deadline,
        listener::arrival::Arrival,
        next::{SearchStep, find, overdue},
        ranges,
    },
    limits::PROGRESS_INTERVAL,
    prime::{Direction, Number},
};

/// The operations of this file.
pub(super) fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(get_next)).routes(routes!(get_previous))
}

/// Which prime is next?
///
/// The least prime above a number. Candidates are checked on all workers at once. As JSON the answer comes within the deadline;
/// the error of a search that took longer says how far it came. With `Accept: application/x-ndjson` there is no deadline: lines
/// say up to which number none is prime, `{"tested_to": "…"}`, at most every 0.2 s, and the last one is the answer. Whoever loses
/// the stream asks for the prime next to `tested_to`.
#[utoipa::path(
    get, path = "/prime/{number}/next", tag = "numbers", operation_id = "getNextPrime",
    params(
        ("number" = String, Path, description = "A whole number in decimal, up to 10,000 digits", example = "113", pattern = "^(0|-?[1-9][0-9]{0,9999})$"),
        RequestHeaders,
    ),
    responses(
        (status = 200, description = "The least prime above it", content(
            (NeighbourAnswer = "application/json"),
            (NeighbourLine = "application/x-ndjson", example = "{\"tested_to\":\"121\"}\n{\"done\":true,\"number\":\"127\",\"is_prime\":true,\"processed_by\":\"worker1\",\"certainty\":\"proven\",\"distance\":\"14\"}\n"),
        )),
        CheckProblems,
    )
)]
pub async fn get_next(
    state: State<Arc<Gateway>>,
    trace: Extension<Arc<Trace>>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    answer(state, trace, path, request, Direction::Next).await
}

/// Which prime comes before?
///
/// The largest prime below a number; the rest is as for the next one.
#[utoipa::path(
    get, path = "/prime/{number}/previous", tag = "numbers", operation_id = "getPreviousPrime",
    params(
        ("number" = String, Path, description = "A whole number in decimal, up to 10,000 digits", example = "127", pattern = "^(0|-?[1-9][0-9]{0,9999})$"),
        RequestHeaders,
    ),
    responses(
        (status = 200, description = "The largest prime below it", content(
            (NeighbourAnswer = "application/json"),
            (NeighbourLine = "application/x-ndjson", example = "{\"done\":true,\"number\":\"113\",\"is_prime\":true,\"processed_by\":\"worker1\",\"certainty\":\"proven\",\"distance\":\"14\"}\n"),
        )),
        CheckProblems,
        NoneProblems,
    )
)]
pub async fn get_previous(
    state: State<Arc<Gateway>>,
    trace: Extension<Arc<Trace>>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    answer(state, trace, path, request, Direction::Previous).await
}

async fn answer(
    State(gateway): State<Arc<Gateway>>,
    Extension(trace): Extension<Arc<Trace>>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    direction: Direction,
) -> Result<Response, ApiError> {
    let number = number_in_path(path)?;
    let arrival = Arrival::of(request.extensions());
    let deadline = deadline(request.headers(), arrival.at, gateway.config.deadline)?;
    // A long number is work like a range; a short one is done in a moment.
    let place = match number.word() {
        Some(_) => None,
        None => Some(ranges::enter(&gateway, arrival.from.ip())?),
    };
    if accepts_lines(request.headers()) {
        let steps = find(&gateway, place, direction, &number, None, trace);
        let steps = items_while_awaited(request.extensions(), steps);
        let body = Body::from_stream(lines(steps).map(Ok::<_, std::convert::Infallible>));
        return Ok(([(header::CONTENT_TYPE, NDJSON)], STREAMED, body).into_response());
    }
    // The search itself tells of the deadline, a moment before its checks do.
    let steps = find(&gateway, place, direction, &number, Some(deadline + Duration::from_secs(1)), trace);
    while_awaited(request.extensions(), deadline, found(steps, &number, deadline)).await
}

async fn found(
    steps: impl Stream<Item = Result<SearchStep, ApiError>>,
    origin: &Number,
    deadline: Instant,
) -> Result<Response, ApiError> {
    let mut steps = std::pin::pin!(steps);
    let mut tested_to = None;
    loop {
        match timeout_at(deadline.into(), steps.next()).await {
            Ok(Some(Ok(SearchStep::Tested(number)))) => tested_to = Some(number),
            Ok(Some(Ok(SearchStep::Found(neighbour)))) => {
                let answer = Json(NeighbourAnswer::from(&neighbour));
                return Ok(([(header::CACHE_CONTROL, PROBABLE_CACHE)], answer).into_response());
            }
            Ok(Some(Err(error))) => return Err(error),
            Ok(None) | Err(_) => return Err(overdue(tested_to.as_ref(), origin)),
        }
    }
}

/// The lines of a search.
fn lines(
    steps: impl Stream<Item = Result<SearchStep, ApiError>> + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::unfold(Some((Box::pin(steps), Instant::now())), |state| async move {
        let (mut steps, told) = state?;
        loop {
            let (line, goes_on) = match steps.next().await? {
                Ok(SearchStep::Tested(_)) if told.elapsed() < PROGRESS_INTERVAL => continue,
                Ok(SearchStep::Tested(number)) => {
                    (line(&NeighbourLine::Tested(TestedLine { tested_to: number.as_str() })), true)
                }
                Ok(SearchStep::Found(neighbour)) => {
                    let answer = NeighbourAnswer::from(&neighbour);
                    (line(&NeighbourLine::Found(FoundLine { done: true, answer })), false)
                }
                Err(error) => {
                    let error = NeighbourError { done: false, error: error.part() };
                    (line(&NeighbourLine::Error(error)), false)
                }
            };
            return Some((line, goes_on.then(|| (steps, Instant::now()))));
        }
    })
}

fn line(line: &NeighbourLine<'_>) -> Bytes {
    // A struct of strings and a bool always serialises.
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}
