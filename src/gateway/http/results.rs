//! `GET /results`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::IntoResponse,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problems::ResultsProblems;
use crate::{
    api::{error::ApiError, results::ResultsAnswer},
    gateway::{Gateway, context::parse_limit},
    limits::{RESULTS_BYTES_MAX, RESULTS_KEPT},
};

/// The operations of this file.
pub(super) fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(get_results))
}

/// Results in an answer when none are named.
const LIMIT_DEFAULT: usize = 100;

/// How many results are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ResultsQuery {
    /// How many at most, 1 to 1,000; 100 by default.
    #[param(value_type = Option<usize>, example = 10, minimum = 1, maximum = 1000)]
    limit: Option<String>,
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
    let limit = query.limit.map_or(Some(LIMIT_DEFAULT), |text| parse_limit(&text));
    let limit = limit.filter(|limit| (1..=RESULTS_KEPT).contains(limit)).ok_or_else(bad_limit)?;
    let newest = gateway.scheduler.newest_results(limit, RESULTS_BYTES_MAX).await;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(ResultsAnswer::from(newest))))
}

pub(super) fn bad_limit() -> ApiError {
    ApiError::invalid("the query takes `limit`, a whole number from 1 to 1000, such as ?limit=10")
}
