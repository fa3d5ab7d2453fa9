//! Headers: each value comes as a line.

use std::{sync::OnceLock, time::Duration};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{ACCEPT_ENCODING, HOST},
};
use primacy::{
    Token,
    decoders::{ApiError, Door, Encoding, IDENTIFY, PeerCredentials, echo, expect_one, patience, trace_of},
    limits::{DEADLINE_MAX, REQUEST_ID_CHARS_MAX, TOKEN_CHARS_MAX},
};
use primacy_election::Identity;
use tonic::{Code, Status, metadata::MetadataMap};

use crate::check;

/// The header with each of the lines as a value; nothing if one of them can be none.
pub fn values(name: HeaderName, lines: &[u8]) -> Option<HeaderMap> {
    let lines = lines.split(|byte| *byte == b'\n');
    lines.map(|line| Some((name.clone(), HeaderValue::from_bytes(line).ok()?))).collect()
}

/// One header of this name.
fn one(name: &'static str, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(HeaderName::from_static(name), value)]))
}

/// `Grpc-Timeout` or `Connect-Timeout-Ms`: what its protocol says, read digit by digit, and 300 s at most.
pub fn timeout(bytes: &[u8]) {
    let Some((kind, value)) = bytes.split_first() else { return };
    let is_grpc = kind % 2 == 0;
    let name = if is_grpc { "grpc-timeout" } else { "connect-timeout-ms" };
    let Some(headers) = one(name, value) else { return };
    let default = Duration::from_secs(5);
    match (patience(&headers, default), nanoseconds(value, is_grpc)) {
        (Ok(time), Some(expected)) => {
            assert_eq!(time.as_nanos(), expected.min(DEADLINE_MAX.as_nanos()));
            assert!(expected > 0);
        }
        (Err(error), Some(0)) => assert_eq!(Status::from(error).code(), Code::DeadlineExceeded),
        (Err(error), None) => check::refusal(error),
        (patience, expected) => panic!("{patience:?} for {expected:?} ns"),
    }
}

fn nanoseconds(value: &[u8], is_grpc: bool) -> Option<u128> {
    let (digits, unit) = match value {
        [digits @ .., b'H'] if is_grpc => (digits, 3_600_000_000_000),
        [digits @ .., b'M'] if is_grpc => (digits, 60_000_000_000),
        [digits @ .., b'S'] if is_grpc => (digits, 1_000_000_000),
        [digits @ .., b'm'] if is_grpc => (digits, 1_000_000),
        [digits @ .., b'u'] if is_grpc => (digits, 1000),
        [digits @ .., b'n'] if is_grpc => (digits, 1),
        digits if !is_grpc => (digits, 1_000_000),
        _ => return None,
    };
    let digits_max = if is_grpc { 8 } else { 10 };
    let is_number = (1..=digits_max).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |number, digit| number * 10 + u128::from(digit - b'0')) * unit)
}

/// Two lines, `X-Request-Id` and `traceparent`: good ones are kept, others are made, and what is echoed is good.
pub fn trace(bytes: &[u8]) {
    let (id, parent) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b""[..]),
    };
    let mut headers = one("x-request-id", id).unwrap_or_default();
    headers.extend(one("traceparent", parent).unwrap_or_default());
    let trace = trace_of(&headers);
    let is_good_id = (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    assert_eq!(is_good_id, trace.request_id().as_bytes() == id);
    assert_eq!(is_traceparent(parent), trace.traceparent().as_bytes() == parent);
    assert!(is_traceparent(trace.traceparent().as_bytes()));
    assert_eq!(trace.is_named(), is_good_id || is_traceparent(parent));
    let mut echoed = HeaderMap::new();
    echo(&trace, &mut echoed);
    assert_eq!(echoed.len(), 2);
    let again = trace_of(&echoed);
    assert_eq!((again.request_id(), again.traceparent()), (trace.request_id(), trace.traceparent()));
}

/// The pattern, byte by byte.
fn is_traceparent(text: &[u8]) -> bool {
    const PATTERN: &[u8; 55] = b"00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    let fits = |(byte, pattern): (&u8, &u8)| match pattern {
        b'x' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        pattern => byte == pattern,
    };
    let is_some = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    text.len() == PATTERN.len()
        && text.iter().zip(PATTERN).all(fits)
        && is_some(&text[3..35])
        && is_some(&text[36..52])
}

/// A version and lines of `Host`: HTTP/1.1 has exactly one, of characters that cannot be taken for another part of a URI.
pub fn host(bytes: &[u8]) {
    let Some((kind, lines)) = bytes.split_first() else { return };
    let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][usize::from(kind % 3)];
    let Some(headers) = values(HOST, lines) else { return };
    let given: Vec<&[u8]> = headers.get_all(HOST).iter().map(HeaderValue::as_bytes).collect();
    match expect_one(version, &headers) {
        Ok(()) => assert!(version == Version::HTTP_2 || matches!(given[..], [host] if is_host(host))),
        Err(error) => {
            assert!(version != Version::HTTP_2 && !matches!(given[..], [host] if is_plain_host(host)));
            check::refusal(error);
        }
    }
    assert_eq!(expect_one(version, &HeaderMap::new()).is_err(), version == Version::HTTP_11);
}

/// What every host is: a name, or an address in brackets, and then at most a colon and digits.
fn is_host(host: &[u8]) -> bool {
    let end = match host.strip_prefix(b"[") {
        Some(_) => host.iter().position(|byte| *byte == b']').map(|end| end + 1),
        None => host.iter().position(|byte| *byte == b':'),
    };
    let is_part_of_path = |byte: &u8| b"/?#@\\\"<>^`{|}".contains(byte) || !byte.is_ascii_graphic();
    let is_port = match &host[end.unwrap_or(host.len())..] {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_port && !host.iter().any(is_part_of_path)
}

/// What is certainly one.
fn is_plain_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.')
}

/// What is preferred does not depend on how the list is cut into lines, on case or on blanks.
pub fn encoding(bytes: &[u8]) {
    let Some(headers) = values(ACCEPT_ENCODING, bytes) else { return };
    let preferred = Encoding::preferred(&headers);
    let Ok(text) = str::from_utf8(bytes) else { return };
    // A line that is not ASCII counts as a whole as not sent.
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\n') {
        return;
    }
    for same in [text.replace('\n', ","), text.replace(',', "\n"), text.replace(',', " , ")] {
        for same in [same.to_uppercase(), same.to_lowercase()] {
            let headers = values(ACCEPT_ENCODING, same.as_bytes()).expect("it is ASCII");
            assert_eq!(Encoding::preferred(&headers), preferred, "{same:?}");
        }
    }
}

/// A token or its proof: only who knows the token is admitted, and where there is none nobody who brings one.
pub fn token(header: &[u8]) {
    const BOOT: u64 = 7;
    const WORK: &str = "/scheduler.Peer/Work";
    static PASS: OnceLock<(Token, Vec<u8>)> = OnceLock::new();
    let (token, pass) = PASS.get_or_init(|| {
        let (token, mut metadata) = (Token::new("secret").expect("it is one"), MetadataMap::new());
        token.pass(BOOT).put(&mut metadata);
        let pass = metadata.get("authorization").expect("there is a token").as_bytes().to_vec();
        (token, pass)
    });
    let is_known = header == b"Bearer secret" || header == pass;
    let door_of = |token| Door::new(PeerCredentials { token, tls: None }, BOOT);
    let door = door_of(token.clone());
    assert_eq!(door.admits(WORK, Some(header)), is_known);
    assert_eq!(door.admits(IDENTIFY, Some(header)), is_known);
    assert!(!door_of(Token::default()).admits(WORK, Some(header)));
    let me = Identity { name: "worker1".into(), ..Identity::default() };
    assert!([0, 32].contains(&token.proof(Some(header), &me).len()));
    if let Ok(text) = str::from_utf8(header) {
        let is_good = (1..=TOKEN_CHARS_MAX).contains(&text.len()) && header.iter().all(u8::is_ascii_graphic);
        match Token::new(text) {
            Ok(_) => assert!(is_good),
            Err(error) => {
                assert!(!is_good);
                check::refusal(ApiError::invalid(error.to_string()));
            }
        }
    }
}
