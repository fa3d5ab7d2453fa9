//! The header `Host`, which a request of HTTP/1.1 has exactly once (RFC 9112, 3.2). HTTP/2 has `:authority` instead.

use axum::http::{HeaderMap, Version, header};

use crate::api::error::ApiError;

/// Expects exactly one good `Host` in a request of HTTP/1.1.
///
/// # Errors
/// `invalid_argument` when it is missing, there twice, or no host with an optional port.
pub fn expect_one(version: Version, headers: &HeaderMap) -> Result<(), ApiError> {
    if version >= Version::HTTP_2 {
        return Ok(());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Err(ApiError::invalid(
            "the header Host is missing; HTTP/1.1 wants it, such as `Host: localhost:8080`",
        )),
        (_, Some(_)) => Err(ApiError::invalid("the header Host is there more than once; send it once")),
        (Some(host), None) if !is_host(host.as_bytes()) => Err(ApiError::invalid(
            "the header Host is malformed; it takes a name or an address with an optional port, such as localhost:8080 or [::1]:8080",
        )),
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]` of RFC 3986; empty for a target that has no host.
fn is_host(text: &[u8]) -> bool {
    let (host, port) = match text.iter().rposition(|byte| [b':', b']'].contains(byte)) {
        Some(place) if text[place] == b':' => (&text[..place], &text[place + 1..]),
        _ => (text, &[][..]),
    };
    port.iter().all(u8::is_ascii_digit)
        && match host {
            [b'[', address @ .., b']'] => {
                !address.is_empty() && address.iter().all(|byte| is_name(*byte) || *byte == b':')
            }
            name => name.iter().all(|byte| is_name(*byte)),
        }
}

/// What a name, or an address inside brackets, is made of beside colons.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in [
            "",
            "localhost",
            "localhost:8080",
            "a.b-c_d:",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "[fe80::1%25eth0]",
            "x%20y",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b",
            "user@host",
            "a/b",
            "http://a",
            "a:b",
            "a:1:2",
            "::1",
            "[]",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:x",
            "a,b:c",
            "a#",
            "a?",
            "\"a\"",
            "a\\b",
            "\u{e9}",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
