//! Probes and metrics. None of them depends on a leader: a node without one answers all the same.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::IntoResponse,
};

use crate::gateway::{
    Gateway,
    error::{ApiError, Problem},
};

/// Is the process up?
#[utoipa::path(
    get, path = "/livez", tag = "operation", operation_id = "live",
    responses((status = 200, description = "It is", body = String, content_type = "text/plain", example = "ok"))
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
        (status = 503, description = "It cannot, for instance because it is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn ready(
    State(gateway): State<Arc<Gateway>>,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, ApiError> {
    let checks = [
        ("the cluster is running", gateway.cluster.is_running()),
        ("not stopping", !gateway.cluster.is_stopping()),
    ];
    let lines = checks.map(|(check, passed)| format!("[{}] {check}", if passed { '+' } else { '-' }));
    let verbose = query.is_some_and(|query| query.starts_with("verbose"));
    if checks.iter().any(|(_, passed)| !passed) {
        return Err(ApiError::http(StatusCode::SERVICE_UNAVAILABLE, lines.join(", ")));
    }
    let body = if verbose { format!("{}\nok\n", lines.join("\n")) } else { "ok\n".to_owned() };
    Ok(([(header::CACHE_CONTROL, "no-store")], body))
}

/// What is counted, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text", example = "primacy_requests_ok_total 17\n# EOF\n"))
)]
pub async fn metrics(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    let text = gateway.metrics.render(gateway.gauges());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
