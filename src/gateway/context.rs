//! What a request brings beside its number: its deadline, its id, its trace.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    api::error::{ApiError, CheckError},
    cluster::trace::Trace,
    limits::{DEADLINE_MAX, REQUEST_ID_CHARS_MAX},
};

/// The header of a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header of W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const CONNECT_TIMEOUT_MS: HeaderName = HeaderName::from_static("connect-timeout-ms");

/// The ids of a request: what the client named, if it is well formed; the rest is made.
pub fn trace_of(headers: &HeaderMap) -> Arc<Trace> {
    let request_id = text(headers, &REQUEST_ID, is_request_id);
    let traceparent = text(headers, &TRACEPARENT, is_traceparent);
    Arc::new(Trace::new(request_id, traceparent, rand::random()))
}

/// Tells the client the ids of its request.
pub fn echo(trace: &Trace, headers: &mut HeaderMap) {
    let ids = [(REQUEST_ID, trace.request_id()), (TRACEPARENT, trace.traceparent())];
    for (name, text) in ids {
        if let Ok(value) = HeaderValue::try_from(text.as_ref()) {
            headers.insert(name, value);
        }
    }
}

/// The deadline of a request that arrived at `arrived`.
///
/// # Errors
/// See [`patience`].
pub fn deadline(headers: &HeaderMap, arrived: Instant, default: Duration) -> Result<Instant, ApiError> {
    Ok(arrived + patience(headers, default)?)
}

/// How long the client is ready to wait: by `Grpc-Timeout`, or else by `Connect-Timeout-Ms`; at most 300 s.
///
/// # Errors
/// `invalid_argument` when either is malformed, `deadline_exceeded` when it is no time at all.
pub fn patience(headers: &HeaderMap, default: Duration) -> Result<Duration, ApiError> {
    let grpc = timeout(headers, &GRPC_TIMEOUT, parse_grpc_timeout)?;
    let connect = timeout(headers, &CONNECT_TIMEOUT_MS, parse_connect_timeout)?;
    match grpc.or(connect).unwrap_or(default) {
        Duration::ZERO => Err(CheckError::DeadlineExceeded.into()),
        time => Ok(time.min(DEADLINE_MAX)),
    }
}

fn timeout(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: fn(&str) -> Option<Duration>,
) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    parse(text).map(Some).ok_or_else(|| malformed(name.as_str(), text))
}

/// `1*8DIGIT` and a unit of `H M S m u n`, as in the gRPC protocol over HTTP/2.
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value = whole_number(digits, 8)?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// `1*10DIGIT` milliseconds, as in the Connect protocol.
fn parse_connect_timeout(text: &str) -> Option<Duration> {
    whole_number(text, 10).map(Duration::from_millis)
}

/// A limit as it stands in a query, if it is a whole number: `parse` alone would take a sign too.
pub fn parse_limit(text: &str) -> Option<usize> {
    whole_number(text, text.len()).and_then(|limit| usize::try_from(limit).ok())
}

fn whole_number(digits: &str, digits_max: usize) -> Option<u64> {
    let well_formed =
        (1..=digits_max).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    well_formed.then(|| digits.parse().ok())?
}

pub(super) fn malformed(name: &str, text: &str) -> ApiError {
    let shown: String = text.chars().take(20).collect();
    let allowed = match name {
        "grpc-timeout" => "1 to 8 digits and a unit of H, M, S, m, u or n, such as 500m for half a second",
        _ => "1 to 10 digits, such as 500 for half a second",
    };
    ApiError::invalid(format!("the header {name} is malformed: `{shown}`; it takes {allowed}"))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName, is_good: fn(&str) -> bool) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| is_good(text))
}

fn is_request_id(text: &str) -> bool {
    (1..=REQUEST_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Version 00 of W3C Trace Context: `00-{32 hex}-{16 hex}-{2 hex}`, lower case, neither id all zeros.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut next_is = |length: usize, may_be_zero: bool| {
        parts.next().is_some_and(|part| {
            let hex = part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            part.len() == length && hex && (may_be_zero || part.bytes().any(|byte| byte != b'0'))
        })
    };
    text.starts_with("00-")
        && next_is(2, true)
        && next_is(32, false)
        && next_is(16, false)
        && next_is(2, true)
        && text.len() == 55
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_their_protocols_say() {
        assert_eq!(parse_grpc_timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(parse_grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_connect_timeout("1500"), Some(Duration::from_millis(1500)));
        for bad in ["", "m", "5", "5x", "+5S", "-5S", "123456789S", "5 S", "5µ", "0x5S"] {
            assert_eq!(parse_grpc_timeout(bad), None, "{bad}");
        }
        for bad in ["", "5S", "12345678901", "-1", "1.5"] {
            assert_eq!(parse_connect_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_limit_is_digits_and_nothing_else() {
        assert_eq!(parse_limit("1000"), Some(1000));
        for bad in ["", "+1", "-1", " 1", "1.0", "0x1", "18446744073709551616"] {
            assert_eq!(parse_limit(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_deadline_is_never_later_than_the_latest() {
        for (name, value) in
            [("grpc-timeout", "99999999H"), ("grpc-timeout", "301S"), ("connect-timeout-ms", "9999999999")]
        {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            let before = Instant::now();
            let deadline = deadline(&headers, Instant::now(), Duration::from_secs(5)).unwrap();
            assert!((before + DEADLINE_MAX..=Instant::now() + DEADLINE_MAX).contains(&deadline), "{value}");
        }
    }

    #[test]
    fn a_made_traceparent_is_well_formed_and_bad_ones_are_not_taken() {
        assert!(is_traceparent(&Trace::default().traceparent()));
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
