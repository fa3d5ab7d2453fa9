//! Probes and metrics. None of them depends on a leader: a node without one answers all the same.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problems::{ProbeProblems, ReadyProblems};
use crate::{api::error::ApiError, gateway::Gateway, metrics::text::Format};

/// The operations of this file.
pub(super) fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(metrics))
}

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

/// What is counted, for Prometheus
///
/// In its classic text format, or in OpenMetrics 1.0.0 for whoever accepts that and likes it no less.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses(
        (status = 200, description = "The metrics", content(
        (String = "text/plain", example = "# HELP primacy_requests_ok_total Requests answered well\n# TYPE primacy_requests_ok_total counter\nprimacy_requests_ok_total 17\n"),
        (String = "application/openmetrics-text", example = "# HELP primacy_requests_ok Requests answered well\n# TYPE primacy_requests_ok counter\nprimacy_requests_ok_total 17\n# EOF\n"),
        )),
        ProbeProblems,
    )
)]
pub async fn metrics(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> impl IntoResponse {
    let format = format_for(&headers);
    let text = gateway.metrics.render(gateway.gauges(), format);
    let headers = [
        (header::CONTENT_TYPE, format.content_type()),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept"),
    ];
    (headers, text)
}

/// The classic format, unless OpenMetrics is asked for and liked no less.
fn format_for(headers: &HeaderMap) -> Format {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let (mut classic, mut open) = (0.0_f32, 0.0_f32);
    for range in lines.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (quality, version) = parameters(parts);
        match (&*media, version) {
            ("application/openmetrics-text", None | Some("1.0.0")) | ("application/*", _) => {
                open = open.max(quality);
            }
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => classic = classic.max(quality),
            _ => {}
        }
    }
    if open > 0.0 && open >= classic { Format::OpenMetrics } else { Format::Classic }
}

/// How much a media range is liked, and of which version.
fn parameters<'a>(parts: impl Iterator<Item = &'a str>) -> (f32, Option<&'a str>) {
    let (mut quality, mut version) = (1.0, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().unwrap_or(0.0),
            "version" => version = Some(value.trim().trim_matches('"')),
            _ => {}
        }
    }
    (quality, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let open = [
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "text/plain, application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.9, */*; q=0.9",
            "application/*",
        ];
        let classic = [
            "",
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4",
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.3,text/plain;q=0.7",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=much",
            "application/json",
        ];
        let format_of =
            |accept: &str| format_for(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]));
        for accept in open {
            assert_eq!(format_of(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in classic {
            assert_eq!(format_of(accept), Format::Classic, "{accept}");
        }
        assert_eq!(format_for(&HeaderMap::new()), Format::Classic);
    }
}
