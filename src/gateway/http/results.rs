//! `GET /results`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{prime::CertaintyWord, problems::ResultsProblems};
use crate::{
    gateway::{Gateway, error::ApiError},
    limits::{RESULTS_BYTES_MAX, RESULTS_KEPT},
    scheduler::results::Recorded,
};

/// Results in an answer when none are named.
const LIMIT_DEFAULT: usize = 100;

/// How many results are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ResultsQuery {
    /// How many at most, 1 to 1,000; 100 by default.
    #[param(example = 10, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The newest answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"results": [{
    "number": "17", "is_prime": true, "processed_by": "worker1", "certainty": "proven",
    "at": 1_790_000_000_000_u64, "duration_us": 140
}]}))]
pub struct ResultsAnswer {
    /// The newest first; of a batch of a bulk the last number only. Fewer than were asked for when their numbers come to more than 512 KiB.
    results: Vec<ResultAnswer>,
}

/// An answer that was given.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultAnswer {
    /// The number that was asked.
    #[schema(example = "17")]
    number: String,
    /// Whether it is prime.
    #[schema(example = true)]
    is_prime: bool,
    /// The name of the node that did the work.
    #[schema(example = "worker1")]
    processed_by: String,
    /// How sure it is.
    certainty: CertaintyWord,
    /// When it was answered, in milliseconds since the Unix epoch.
    #[schema(example = 1_790_000_000_000_u64)]
    at: u64,
    /// How long the check took where it was scheduled, in microseconds.
    #[schema(example = 140)]
    duration_us: u64,
}

/// What was answered of late?
///
/// The answers that passed through the leader; those of the node asked while it reaches no leader.
#[utoipa::path(
    get, path = "/results", tag = "numbers", operation_id = "getResults",
    params(ResultsQuery),
    responses(
        (status = 200, description = "The newest answers", body = ResultsAnswer),
        ResultsProblems,
    )
)]
pub async fn get_results(
    State(gateway): State<Arc<Gateway>>,
    query: Result<Query<ResultsQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(query) = query.map_err(|_| bad_limit())?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=RESULTS_KEPT).contains(&limit) {
        return Err(bad_limit());
    }
    let newest = gateway.scheduler.newest_results(limit, RESULTS_BYTES_MAX).await;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(ResultsAnswer::from(newest))))
}

pub(super) fn bad_limit() -> ApiError {
    ApiError::invalid("the query takes `limit`, a whole number from 1 to 1000, such as ?limit=10")
}

impl From<Vec<Recorded>> for ResultsAnswer {
    fn from(newest: Vec<Recorded>) -> Self {
        Self { results: newest.into_iter().map(ResultAnswer::from).collect() }
    }
}

impl From<Recorded> for ResultAnswer {
    fn from(result: Recorded) -> Self {
        Self {
            number: result.number.to_string(),
            is_prime: result.verdict.is_prime,
            processed_by: result.processed_by.to_string(),
            certainty: result.verdict.certainty.into(),
            at: result.at_ms,
            duration_us: result.duration_us,
        }
    }
}
