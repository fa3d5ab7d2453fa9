//! Probes and metrics. None of them depends on a leader: a node without one answers all the same.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::IntoResponse,
};

use super::problems::{ProbeProblems, ReadyProblems};
use crate::gateway::{Gateway, error::ApiError};

/// Is the process up?
#[utoipa::path(
    get, path = "/livez", tag = "operation", operation_id = "live",
    responses(
        (status = 200, description = "It is", body = String, content_type = "text/plain", example = "ok"),
        ProbeProblems,
    )
)]
pub async fn live() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], "ok\n")
}

/// Can it answer?
///
/// With `?verbose` the checks are listed, one a line.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", operation_id = "ready",
    params(("verbose" = Option<String>, Query, description = "List the checks", allow_reserved, example = "")),
    responses(
        (status = 200, description = "It can", body = String, content_type = "text/plain", example = "ok"),
        ReadyProblems,
    )
)]
pub async fn ready(
    State(gateway): State<Arc<Gateway>>,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, ApiError> {
    let (is_running, may_go_on) = (gateway.cluster.is_running(), !gateway.cluster.is_stopping());
    if !is_running || !may_go_on {
        return Err(not_ready(is_running, may_go_on));
    }
    let verbose = query.is_some_and(|query| query.starts_with("verbose"));
    let lines = checks(is_running, may_go_on).join("\n");
    let body = if verbose { format!("{lines}\nok\n") } else { "ok\n".to_owned() };
    Ok(([(header::CACHE_CONTROL, "no-store")], body))
}

pub(super) fn not_ready(is_running: bool, may_go_on: bool) -> ApiError {
    ApiError::http(StatusCode::SERVICE_UNAVAILABLE, checks(is_running, may_go_on).join(", "))
}

fn checks(is_running: bool, may_go_on: bool) -> [String; 2] {
    [("the cluster is running", is_running), ("not stopping", may_go_on)]
        .map(|(check, passed)| format!("[{}] {check}", if passed { '+' } else { '-' }))
}

/// What is counted, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses(
        (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text", example = "primacy_requests_ok_total 17\n# EOF\n"),
        ProbeProblems,
    )
)]
pub async fn metrics(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    let text = gateway.metrics.render(gateway.gauges());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
