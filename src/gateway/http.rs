//! The REST layer: its router, and the layers around it.

mod awaited;
pub mod cluster;
pub mod events;
pub(in crate::gateway) mod headers;
mod health;
pub mod host;
mod next;
pub mod prime;
pub mod primes;
pub mod problems;
pub mod ranges;
mod results;

use std::{any::Any, convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    middleware::from_fn,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tonic::Code;
use tower::{Layer, Service, service_fn};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;

use super::{
    Gateway,
    admission::{gate::InFlightPass, places},
    context::{REQUEST_ID, TRACEPARENT, echo, trace_of},
    encoding::negotiate,
    listener::{
        AnswerService,
        arrival::{Arrival, Unread},
        entrance::Transport,
    },
    openapi, page,
};
use crate::{api::error::ApiError, cluster::trace::Trace};

/// Headers of answers that are streamed: no cache keeps them, and no proxy holds them back until there is enough to
/// fill a buffer (nginx and those that do as it does) or to compress.
const STREAMED: [(HeaderName, &str); 2] =
    [(header::CACHE_CONTROL, "no-store, no-transform"), (HeaderName::from_static("x-accel-buffering"), "no")];

/// The operations, and with them the contract. Each file lists its own.
pub fn operations() -> OpenApiRouter<Arc<Gateway>> {
    numbers().merge(others())
}

/// The hot path, whose answers gain nothing from the layers that the others have, and the bulks, which would pay more
/// for compression than for their checks.
fn numbers() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(prime::operations())
        .merge(primes::operations())
        .merge(next::operations())
        .merge(ranges::operations())
}

fn others() -> OpenApiRouter<Arc<Gateway>> {
    results::operations()
        .merge(cluster::operations())
        .merge(events::operations())
        .merge(health::operations())
        .merge(openapi::operations())
}

/// The whole of what the HTTP listener serves.
///
/// These layers stand around the router, because layers on routes are cloned for every request.
pub fn service(gateway: Arc<Gateway>) -> impl AnswerService {
    let router = router(Arc::clone(&gateway));
    let around = service_fn(move |request| Box::pin(around(Arc::clone(&gateway), request, router.clone())));
    let mut answers = cors().layer(around);
    service_fn(move |request: Request| {
        let unread = request.extensions().get().and_then(|Arrival { unread, .. }| unread.clone());
        let is_http1 = request.version() < Version::HTTP_2;
        settle(unread, is_http1, answers.call(request))
    })
}

/// Around everything: what browsers are told; and a body that was answered without being read must not spoil its
/// connection. It is read and dropped as far as that is cheap; else the connection ends, and says so.
async fn settle(
    unread: Option<Arc<Unread>>,
    is_http1: bool,
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Result<Response, Infallible> {
    let mut response = answer.await?;
    headers::guard(response.headers_mut());
    let Some(mut rest) = unread.and_then(|unread| unread.take()) else { return Ok(response) };
    // A body that was late is not waited for once more.
    let is_late = response.status() == StatusCode::REQUEST_TIMEOUT;
    let goes_on = !is_late && rest.drain().await;
    if !goes_on && is_http1 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if !goes_on {
        rest.linger();
    }
    Ok(response)
}

fn router(gateway: Arc<Gateway>) -> Router {
    let (others, numbers) = (others().split_for_parts().0, numbers().split_for_parts().0);
    others
        .merge(openapi::swagger_ui())
        .merge(page::routes())
        .fallback(no_such_path)
        .layer(from_fn(negotiate))
        .merge(numbers)
        .with_state(gateway)
}

/// Any page may ask: nothing here depends on who the user is, and a page goes on with other nodes when its own dies.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::any())
        .allow_methods(AllowMethods::list([Method::GET, Method::POST]))
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID, TRACEPARENT, header::ETAG, header::RETRY_AFTER])
        // Only the answer to a preflight mirrors, and no cache keeps that; all others are the same for every page.
        .vary([])
        .max_age(std::time::Duration::from_secs(3600))
}

/// Around every request: its ids, its place among those in flight, one shape for all errors, and the counting.
async fn around(gateway: Arc<Gateway>, request: Request, router: Router) -> Result<Response, Infallible> {
    let trace = trace_of(request.headers());
    let (is_http1, is_head) = (request.version() < Version::HTTP_2, request.method() == Method::HEAD);
    let is_on_reserved_place = places::is_on_reserved_place(&request);
    let Arrival { from, at: arrived, transport, .. } = *Arrival::of(request.extensions());
    let mut response = match admit(&gateway, &request) {
        Ok(_pass) => match AssertUnwindSafe(answer(&gateway, &trace, request, router)).catch_unwind().await {
            Ok(response) => {
                let held = gateway.memory.hold_answer(from.ip(), response);
                held.unwrap_or_else(|full| ApiError::from(full).into_response())
            }
            Err(panic) => panicked(panic),
        },
        Err(error) => error.into_response(),
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        response = as_problem(response, &trace.request_id());
        if is_head {
            response = without_body(response);
        }
    }
    let headers = response.headers_mut();
    // A cache would show them to others.
    if !may_be_cached(headers) {
        echo(&trace, headers);
    }
    let is_last = is_on_reserved_place || gateway.cluster.is_stopping() || transport == Transport::ClearAtTls;
    if is_http1 && is_last {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    count(&gateway, response.status(), arrived);
    Ok(response)
}

/// The hot path goes past the routes.
async fn answer(gateway: &Gateway, trace: &Arc<Trace>, mut request: Request, mut router: Router) -> Response {
    if request.method() == Method::POST && request.uri().path() == prime::PATH {
        return prime::check(gateway, Arc::clone(trace), request).await.into_response();
    }
    request.extensions_mut().insert(Arc::clone(trace));
    let Ok(response) = router.call(request).await;
    response
}

/// Probes and metrics are answered even by a node that is full.
fn admit<'a>(gateway: &'a Gateway, request: &Request) -> Result<Option<InFlightPass<'a>>, ApiError> {
    host::expect_one(request.version(), request.headers())?;
    expect_tls(request)?;
    if matches!(request.uri().path(), "/livez" | "/readyz" | "/metrics") {
        return Ok(None);
    }
    places::refuse_on_reserved_place(request, Code::ResourceExhausted)?;
    if request.method() == Method::POST {
        // It has its place when its body is whole: who sends slowly takes none from others.
        return gateway.expect_room().map(|()| None);
    }
    gateway.enter().map(Some)
}

fn expect_tls(request: &Request) -> Result<(), ApiError> {
    match Arrival::of(request.extensions()).transport {
        Transport::ClearAtTls => Err(ApiError::http(
            StatusCode::BAD_REQUEST,
            "this port speaks TLS, and this request came in clear text; write https:// instead of http://",
        )),
        Transport::Clear | Transport::Tls { .. } => Ok(()),
    }
}

/// Gives every error the one shape, whoever made it.
fn as_problem(mut response: Response, request_id: &str) -> Response {
    let error = response.extensions_mut().remove::<ApiError>().unwrap_or_else(|| {
        let status = response.status();
        ApiError::http(status, detail_of(status))
    });
    let mut problem = error.into_problem(request_id);
    for kept in [header::ALLOW, header::ACCEPT_ENCODING, header::VARY] {
        if let Some(value) = response.headers_mut().remove(&kept) {
            problem.headers_mut().insert(kept, value);
        }
    }
    problem
}

fn may_be_cached(headers: &HeaderMap) -> bool {
    headers.get(header::CACHE_CONTROL).is_some_and(|control| control.as_bytes().starts_with(b"public"))
}

/// What answers a HEAD says how long its body would be, and has none.
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::empty())
}

/// For errors that a library made.
fn detail_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            "this path does not take that method; the header Allow names those that it takes"
        }
        StatusCode::NOT_ACCEPTABLE => {
            "Accept-Encoding excludes every encoding that there is; accept gzip or identity"
        }
        _ => status.canonical_reason().unwrap_or("the request failed"),
    }
}

fn count(gateway: &Gateway, status: StatusCode, arrived: Instant) {
    let metrics = &gateway.metrics;
    match status {
        StatusCode::TOO_MANY_REQUESTS => metrics.requests_shed.inc(),
        status if status.is_client_error() => metrics.requests_refused.inc(),
        status if status.is_server_error() => metrics.requests_failed.inc(),
        _ => metrics.requests_ok.inc(),
    };
    metrics.latency.observe(arrived.elapsed());
}

async fn no_such_path(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(100).collect();
    ApiError::http(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {path}; the operations are listed at /docs"),
    )
}

/// A request that meets a defect must not take its connection down, and with it the others that share it.
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(message, "a request handler panicked");
    defect().into_response()
}

fn defect() -> ApiError {
    ApiError::http(
        StatusCode::INTERNAL_SERVER_ERROR,
        "this request met an internal error of the node; its log says more",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_problem_that_does_not_show_its_message() {
        for panic in [Box::new("secret") as Box<dyn Any + Send>, Box::new("secret".to_owned()), Box::new(17)]
        {
            let response = as_problem(panicked(panic), "my-request-1");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (&problem["code"], &problem["request_id"]),
                (&"internal".into(), &"my-request-1".into())
            );
            assert!(!problem.to_string().contains("secret"), "{problem}");
        }
    }
}
