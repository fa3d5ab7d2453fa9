//! `GET /primes/count` and `GET /primes`: how many primes there are in a range, and which.

mod lines;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::time::timeout_at;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    STREAMED,
    awaited::{items_while_awaited, while_awaited},
    prime::RequestHeaders,
    primes::NDJSON_NAMES,
    problems::RangeProblems,
};
use crate::{
    api::{
        error::ApiError,
        primes::NDJSON,
        ranges::{
            CountAnswer, CountLine, CountProgress, ListLine, NumberRange, PrimesPage, WorkShares, parse_end,
        },
    },
    cluster::trace::Trace,
    gateway::{
        Gateway,
        context::{self, patience},
        listener::arrival::Arrival,
        ranges::{self, ListedSegment, millis_since, overdue},
    },
    limits::{PAGE_PRIMES_DEFAULT, PAGE_PRIMES_MAX},
};

/// The operations of this file.
pub(super) fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(count_primes)).routes(routes!(list_primes))
}

/// The ends of a range.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RangeQuery {
    /// The first number, from 0 to 2^64 - 1, in decimal digits
    #[param(required = true, value_type = String, example = "1", pattern = "^[0-9]{1,20}$")]
    from: Option<String>,
    /// The last number, which is counted too
    #[param(required = true, value_type = String, example = "1000000", pattern = "^[0-9]{1,20}$")]
    to: Option<String>,
}

/// The ends of a range, and how many of its primes are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The first number, from 0 to 2^64 - 1, in decimal digits
    #[param(required = true, value_type = String, example = "1", pattern = "^[0-9]{1,20}$")]
    from: Option<String>,
    /// The last number, which is listed too if it is prime
    #[param(required = true, value_type = String, example = "100", pattern = "^[0-9]{1,20}$")]
    to: Option<String>,
    /// How many primes at most, 1 to 100,000. A page of JSON has 1,000 by default; lines have all that there are, and may be
    /// limited to more
    #[param(value_type = Option<u64>, example = 1000, minimum = 1, maximum = 100000)]
    limit: Option<String>,
}

/// What both operations need of a request.
struct Question {
    range: NumberRange,
    patience: Duration,
    is_streamed: bool,
    trace: Arc<Trace>,
}

/// How many primes are there in a range?
///
/// The range is cut into segments, which all workers sieve. As JSON the answer comes when all is counted, within the deadline.
///
/// With `Accept: application/x-ndjson` there is no deadline: a line says how far the count has come, at most every 0.2 s, and the
/// last line, `{"done": true, …}`, how it ended. Where the last line is missing, or says `"done": false`, ask any node for what
/// follows `counted_to`, and add. Without progress the stream ends after 60 s. The work ends when the client goes.
#[utoipa::path(
    get, path = "/primes/count", tag = "numbers", operation_id = "countPrimes",
    params(RangeQuery, RequestHeaders),
    responses(
        (status = 200, description = "How many there are", content(
            (CountAnswer = "application/json"),
            (CountLine = "application/x-ndjson", example = "{\"counted_to\":\"1000000000\",\"count\":\"50847534\",\"segments\":[{\"from\":\"1\",\"to\":\"1000000000\",\"processed_by\":\"worker1\"}]}\n{\"done\":true,\"count\":\"50847534\",\"took_ms\":160}\n"),
        )),
        RangeProblems,
    )
)]
pub async fn count_primes(
    State(gateway): State<Arc<Gateway>>,
    Extension(trace): Extension<Arc<Trace>>,
    query: Result<Query<RangeQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Query(RangeQuery { from, to }) = query.map_err(|_| bad_query("`from` and `to`"))?;
    let asked = question(&gateway, trace, [from, to], request.headers())?;
    let arrival = Arrival::of(request.extensions());
    let place = ranges::enter(&gateway, arrival.from.ip())?;
    let progress = ranges::count(&gateway, place, asked.range, Arc::clone(&asked.trace));
    if asked.is_streamed {
        return Ok(streamed(lines::of_count(items_while_awaited(request.extensions(), progress))));
    }
    let deadline = arrival.at + asked.patience;
    let counted = counted(progress, asked.range, deadline, asked.patience);
    while_awaited(request.extensions(), deadline, counted).await
}

/// Which primes are there in a range?
///
/// As JSON, a page of them; `next` says where the next page is.
///
/// With `Accept: application/x-ndjson` there is no deadline: the primes come one a line, `{"prime": "2"}`, in ascending order, and
/// between them how far the list has come, `{"listed_to": "…"}`. The last line, `{"done": true, "count": "25"}`, counts the primes
/// before it; where it is missing, or says `"done": false`, ask any node for what follows the last line. If the client does not
/// read, the cluster stops working for it; the work ends when the client goes.
#[utoipa::path(
    get, path = "/primes", tag = "numbers", operation_id = "listPrimes",
    params(ListQuery, RequestHeaders),
    responses(
        (status = 200, description = "The primes, in ascending order", content(
            (PrimesPage = "application/json"),
            (ListLine = "application/x-ndjson", example = "{\"prime\":\"2\"}\n{\"prime\":\"3\"}\n{\"listed_to\":\"4\"}\n{\"done\":true,\"count\":\"2\"}\n"),
        )),
        RangeProblems,
    )
)]
pub async fn list_primes(
    State(gateway): State<Arc<Gateway>>,
    Extension(trace): Extension<Arc<Trace>>,
    query: Result<Query<ListQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Query(ListQuery { from, to, limit }) = query.map_err(|_| bad_query("`from`, `to` and `limit`"))?;
    let asked = question(&gateway, trace, [from, to], request.headers())?;
    let limit = parse_limit(limit.as_deref(), asked.is_streamed)?;
    let arrival = Arrival::of(request.extensions());
    let place = ranges::enter(&gateway, arrival.from.ip())?;
    let wanted = limit.unwrap_or(PAGE_PRIMES_DEFAULT);
    let listed = ranges::list(&gateway, place, asked.range, wanted, Arc::clone(&asked.trace));
    if asked.is_streamed {
        let listed = items_while_awaited(request.extensions(), listed);
        return Ok(streamed(lines::of_list(listed, limit.unwrap_or(usize::MAX))));
    }
    let deadline = arrival.at + asked.patience;
    let page = page(listed, asked.range, wanted, deadline, asked.patience);
    while_awaited(request.extensions(), deadline, page).await
}

fn question(
    gateway: &Gateway,
    trace: Arc<Trace>,
    [from, to]: [Option<String>; 2],
    headers: &HeaderMap,
) -> Result<Question, ApiError> {
    let range = NumberRange::new(parse_end("from", from.as_deref())?, parse_end("to", to.as_deref())?)?;
    let patience = patience(headers, gateway.config.deadline)?;
    Ok(Question { range, patience, is_streamed: accepts_lines(headers), trace })
}

/// Whether the client names lines of JSON among what it accepts.
pub fn accepts_lines(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_excluded = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        !is_excluded && NDJSON_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
    })
}

/// The most primes that are wanted, as it stands in a query.
///
/// # Errors
/// `invalid_argument` if it is no whole number from 1 on, or more than a page may have.
pub fn parse_limit(limit: Option<&str>, is_streamed: bool) -> Result<Option<usize>, ApiError> {
    let Some(text) = limit else { return Ok(None) };
    let max = if is_streamed { usize::MAX } else { PAGE_PRIMES_MAX };
    match context::parse_limit(text) {
        Some(limit) if (1..=max).contains(&limit) => Ok(Some(limit)),
        _ if is_streamed => {
            Err(ApiError::invalid("`limit` takes a whole number from 1 on, such as &limit=1000"))
        }
        _ => Err(ApiError::invalid(format!(
            "`limit` takes a whole number from 1 to {PAGE_PRIMES_MAX}, such as &limit=1000; with Accept: {NDJSON} there may be more"
        ))),
    }
}

fn bad_query(takes: &str) -> ApiError {
    ApiError::invalid(format!("the query takes {takes}, each once, such as ?from=1&to=100"))
}

fn streamed(lines: impl Stream<Item = axum::body::Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
    ([(header::CONTENT_TYPE, NDJSON)], STREAMED, body).into_response()
}

/// The next item, by the deadline of the client, who is told how far it came.
async fn next_in_time<T>(
    items: &mut (impl Stream<Item = Result<T, ApiError>> + Unpin),
    deadline: Instant,
    patience: Duration,
    done_to: Option<u64>,
) -> Result<Option<T>, ApiError> {
    match timeout_at(deadline.into(), items.next()).await {
        Ok(next) => next.transpose(),
        Err(_) => Err(overdue(patience, done_to)),
    }
}

async fn counted(
    progress: impl Stream<Item = Result<CountProgress, ApiError>>,
    NumberRange { from, to }: NumberRange,
    deadline: Instant,
    patience: Duration,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let mut progress = std::pin::pin!(progress);
    let (mut last, mut shares) = (CountProgress::default(), WorkShares::default());
    while let Some(next) = next_in_time(&mut progress, deadline, patience, last.counted_to).await? {
        shares.add(&next.segments);
        last = next;
    }
    let answer = CountAnswer {
        from: from.to_string(),
        to: to.to_string(),
        count: last.count.to_string(),
        took_ms: millis_since(began),
        shares: shares.parts(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

async fn page(
    listed: impl Stream<Item = Result<ListedSegment, ApiError>>,
    range: NumberRange,
    limit: usize,
    deadline: Instant,
    patience: Duration,
) -> Result<Response, ApiError> {
    let mut listed = std::pin::pin!(listed);
    let mut primes: Vec<u64> = Vec::new();
    let mut done_to = None;
    while primes.len() <= limit
        && let Some(segment) = next_in_time(&mut listed, deadline, patience, done_to).await?
    {
        done_to = Some(segment.range.to);
        // One more shows that there is a next page.
        primes.extend(segment.primes.into_iter().take(limit + 1 - primes.len()));
    }
    let next = primes.get(limit).map(|next| format!("/primes?from={next}&to={}&limit={limit}", range.to));
    primes.truncate(limit);
    let page = PrimesPage {
        from: range.from.to_string(),
        to: range.to.to_string(),
        primes: primes.iter().map(u64::to_string).collect(),
        next,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response())
}
