//! `POST /prime` and `GET /prime/{number}`.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use axum::{
    Extension,
    body::{Body, BodyDataStream},
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use tokio::time::timeout_at;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    awaited::while_awaited,
    problems::{BodyProblems, CheckProblems},
};
use crate::{
    api::{
        error::ApiError,
        prime::{Outcome, PrimeAnswer, PrimeQuestion, parse_question},
    },
    cluster::trace::Trace,
    gateway::{
        Gateway, admission::memory::Held, context::deadline, etag::is_known, listener::arrival::Arrival,
    },
    limits::{BODY_BLOCK_BYTES, BODY_TIMEOUT},
    prime::{Certainty, Number},
    scheduler::Check,
};

/// The operations of this file.
pub(super) fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(check_prime)).routes(routes!(get_prime))
}

/// Where a number is asked for.
pub(super) const PATH: &str = "/prime";

/// What a body is called that holds a number.
pub(super) const JSON_BODY: &str = "one number";

/// The headers that every question may have, for the contract; [`crate::gateway::context`] reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it stands for headers in the contract")]
pub(super) struct RequestHeaders {
    /// How long to wait, for each number of NDJSON by itself: 1 to 8 digits and a unit of H, M, S, m, u or n; 5 s by
    /// default, at most 300 s: more counts as 300 s. 0S is over at once, and answered with 504.
    #[param(rename = "Grpc-Timeout", required = false, example = "30S", pattern = "^[0-9]{1,8}[HMSmun]$")]
    grpc_timeout: String,
    /// The same in milliseconds, 1 to 10 digits; ignored if Grpc-Timeout is sent.
    #[param(rename = "Connect-Timeout-Ms", required = false, example = "30000", pattern = "^[0-9]{1,10}$")]
    connect_timeout_ms: String,
    /// An id of yours, 1 to 128 visible ASCII characters; it is echoed, unless a cache may keep the answer.
    /// Anything else is replaced by one that is made here.
    #[param(rename = "X-Request-Id", required = false, example = "my-request-1")]
    request_id: String,
    /// W3C Trace Context, version 00; it is echoed likewise. Anything else is replaced.
    #[param(required = false, example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    traceparent: String,
}

/// The headers of who has an answer already, for the contract.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it stands for headers in the contract")]
pub(in crate::gateway) struct CacheHeaders {
    /// An `ETag` that you have
    #[param(rename = "If-None-Match", required = false, example = "W/\"0\"")]
    if_none_match: String,
}

/// Is this number prime?
///
/// The body is read as JSON if it has no content type, or the one that `curl -d` gives it.
#[utoipa::path(
    post, path = "/prime", tag = "numbers", operation_id = "checkPrime",
    params(
        RequestHeaders,
    ),
    request_body(content = inline(PrimeQuestion), content_type = "application/json", description = "The number",
        examples(
            ("small" = (summary = "A small number", value = json!({"number": 17}))),
            ("63 bits" = (summary = "The largest prime below 2^63", value = json!({"number": "9223372036854775783"}))),
            ("127 bits" = (summary = "A Mersenne prime, which comes with its proof", value = json!({"number": "170141183460469231731687303715884105727"}))),
        )),
    responses(
        (status = 200, description = "The answer", body = PrimeAnswer),
        CheckProblems,
        BodyProblems,
    )
)]
pub async fn check_prime(
    State(gateway): State<Arc<Gateway>>,
    Extension(trace): Extension<Arc<Trace>>,
    request: Request,
) -> Result<Response, ApiError> {
    check(&gateway, trace, request).await
}

/// What the route and the hot path, which goes past the router, both call.
pub(super) async fn check(
    gateway: &Gateway,
    trace: Arc<Trace>,
    request: Request,
) -> Result<Response, ApiError> {
    let (Parts { headers, extensions, .. }, body) = request.into_parts();
    let arrival = Arrival::of(&extensions);
    let deadline = deadline(&headers, arrival.at, gateway.config.deadline)?;
    expect_plain(&headers)?;
    expect_json(&headers, "application/json")?;
    let (mut pieces, max) = (body.into_data_stream(), gateway.config.body_bytes_max);
    let deadline_of_body = deadline.min(arrival.at + BODY_TIMEOUT);
    let mut held = gateway.memory.hold(arrival.from.ip());
    let arriving = gateway.in_flight.arrive();
    let body = read_body(&headers, &mut pieces, max, JSON_BODY, deadline_of_body, &mut held).await?;
    drop(arriving);
    let _pass = gateway.enter()?;
    let number = parse_question(&body)?;
    let check = Check { number, deadline, trace, forwarded: false };
    let outcome = while_awaited(&extensions, deadline, answer(gateway, &check)).await?;
    Ok(json_response(&PrimeAnswer::new(&check.number, &outcome)))
}

/// Is this number prime?
///
/// A proven answer never changes, so that caches may keep it for ever; a probable one they may keep for an hour. It therefore carries no `X-Request-Id` and no
/// `traceparent`, which would be those of whoever asked first; errors carry them.
#[utoipa::path(
    get, path = "/prime/{number}", tag = "numbers", operation_id = "getPrime",
    params(
        ("number" = String, Path, description = "A whole number in decimal, up to 10,000 digits", example = "9223372036854775783", pattern = "^(0|-?[1-9][0-9]{0,9999})$"),
        RequestHeaders,
        CacheHeaders,
    ),
    responses(
        (status = 200, description = "The answer", body = PrimeAnswer, headers(
            ("ETag" = String, description = "Weak; from the number and the verdict"),
            ("Cache-Control" = String, description = "`public, max-age=31536000, immutable`; `public, max-age=3600` where `certainty` is `probable`"))),
        (status = 304, description = "Not modified: your copy is current"),
        CheckProblems,
    )
)]
pub async fn get_prime(
    State(gateway): State<Arc<Gateway>>,
    Extension(trace): Extension<Arc<Trace>>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    let number = number_in_path(path)?;
    let arrived = Arrival::of(request.extensions()).at;
    let deadline = deadline(headers, arrived, gateway.config.deadline)?;
    let check = Check { number, deadline, trace, forwarded: false };
    let outcome = while_awaited(request.extensions(), deadline, answer(&gateway, &check)).await?;
    let etag = etag(&check.number, &outcome);
    let mut response = match is_known(headers, &etag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => json_response(&PrimeAnswer::new(&check.number, &outcome)),
    };
    let cache = match outcome.verdict.certainty {
        Certainty::Proven => "public, max-age=31536000, immutable",
        Certainty::Probable => PROBABLE_CACHE,
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// How long caches keep what may be known better later.
pub(super) const PROBABLE_CACHE: &str = "public, max-age=3600";

/// The number that a path names.
pub(super) fn number_in_path(
    path: Result<RawPathParams, RawPathParamsRejection>,
) -> Result<Number, ApiError> {
    let path =
        path.map_err(|_| ApiError::invalid("the path is not UTF-8; write the number in decimal digits"))?;
    Ok(path.iter().next().map_or("", |(_, number)| number).parse()?)
}

async fn answer(gateway: &Gateway, check: &Check) -> Result<Outcome, ApiError> {
    Ok(gateway.scheduler.check(check).await?)
}

/// A body is read as it is sent.
pub(super) fn expect_plain(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_plain = |encodings: &HeaderValue| {
        let mut encodings = encodings.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        encodings.all(|encoding| encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity"))
    };
    match headers.get_all(header::CONTENT_ENCODING).iter().find(|encodings| !is_plain(encodings)) {
        Some(encodings) => Err(encoded(encodings)),
        None => Ok(()),
    }
}

pub(super) fn encoded(encoding: &HeaderValue) -> ApiError {
    unsupported(format!("a body encoded as {encoding:?} is not read; send it as it is"))
}

/// A person's habit is `curl -d '{"number": 17}'`, which says that it is a form.
pub(super) fn expect_json(headers: &HeaderMap, takes: &str) -> Result<(), ApiError> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let accepted = ["application/json", "application/x-www-form-urlencoded", ""];
    if let Ok(text) = given.to_str()
        && let Some(essence) = text.split(';').next()
        && accepted.iter().any(|accepted| essence.trim().eq_ignore_ascii_case(accepted))
    {
        return Ok(());
    }
    Err(unsupported(format!("the content type {given:?} is not read; send {takes}")))
}

fn unsupported(detail: String) -> ApiError {
    ApiError::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

/// Fails above `max` bytes. Bytes are charged to the caller before they are stored.
pub(super) async fn read_body(
    headers: &HeaderMap,
    pieces: &mut BodyDataStream,
    max: usize,
    holds: &str,
    deadline: Instant,
    held: &mut Held,
) -> Result<Vec<u8>, ApiError> {
    let announced = announced(headers);
    if announced.is_some_and(|length| length > max) {
        return Err(too_large(max, holds));
    }
    let mut read = Blocks::new(announced.unwrap_or_default());
    let whole = async {
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| ApiError::invalid("the body ended before it was whole"))?;
            if read.bytes + piece.len() > max {
                return Err(too_large(max, holds));
            }
            held.grow(read.bytes + piece.len())?;
            read.add(&piece);
        }
        Ok(())
    };
    timeout_at(deadline.into(), whole).await.map_err(|_| late())??;
    Ok(read.whole())
}

/// A body as it comes, in blocks of [`BODY_BLOCK_BYTES`]: equal blocks, so that the memory of one that is given up serves the next.
struct Blocks {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
    bytes: usize,
}

impl Blocks {
    fn new(announced: usize) -> Self {
        Self { full: Vec::new(), last: Vec::with_capacity(announced.min(BODY_BLOCK_BYTES)), bytes: 0 }
    }

    fn add(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len();
        while self.last.len() + piece.len() > BODY_BLOCK_BYTES {
            let (fitting, rest) = piece.split_at(BODY_BLOCK_BYTES - self.last.len());
            self.last.extend_from_slice(fitting);
            self.full.push(std::mem::replace(&mut self.last, Vec::with_capacity(BODY_BLOCK_BYTES)));
            piece = rest;
        }
        self.last.extend_from_slice(piece);
    }

    fn whole(mut self) -> Vec<u8> {
        if self.full.is_empty() {
            return self.last;
        }
        let mut whole = Vec::with_capacity(self.bytes);
        self.full.push(self.last);
        // Each is free as soon as it is copied.
        self.full.into_iter().for_each(|block| whole.extend_from_slice(&block));
        whole
    }
}

/// How long the body is to be, if that is said.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
}

pub(super) fn too_large(max: usize, holds: &str) -> ApiError {
    let detail = format!("the body is larger than {max} bytes, which is the most for {holds}");
    ApiError::http(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

pub(super) fn late() -> ApiError {
    ApiError::http(
        StatusCode::REQUEST_TIMEOUT,
        format!("the body did not arrive within the deadline, or within {} s", BODY_TIMEOUT.as_secs()),
    )
}

fn json_response(answer: &PrimeAnswer<'_>) -> Response {
    // A struct of strings and a bool always serialises.
    let body = serde_json::to_vec(answer).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    // Room for those that are added on its way out.
    headers.reserve(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A weak tag: two answers may differ in who gave them. What is probable may be proven by a later version, and what an earlier
/// version tagged came without what it rests on.
fn etag(number: &Number, outcome: &Outcome) -> String {
    let mut hasher = DefaultHasher::new();
    number.as_str().hash(&mut hasher);
    let sure = match (outcome.verdict.certainty, &outcome.evidence) {
        (Certainty::Probable, _) => "-probable",
        (Certainty::Proven, Some(_)) => "-shown",
        (Certainty::Proven, None) => "",
    };
    format!("W/\"{:016x}-{}{sure}\"", hasher.finish(), outcome.verdict.is_prime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_blocks_is_the_body() {
        let body: Vec<u8> = (0..200_000_u32).map(|place| place.to_le_bytes()[1]).collect();
        for size in [1, 1000, BODY_BLOCK_BYTES - 1, BODY_BLOCK_BYTES, BODY_BLOCK_BYTES + 1, body.len()] {
            let mut blocks = Blocks::new(0);
            body.chunks(size).for_each(|piece| blocks.add(piece));
            assert!(blocks.last.len() <= BODY_BLOCK_BYTES);
            assert_eq!(blocks.whole(), body, "in pieces of {size}");
        }
    }
}
