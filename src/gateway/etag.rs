//! Who has an answer already.

use axum::http::{HeaderMap, HeaderValue, header};

/// Whether an `If-None-Match` names the tag; weakly compared (RFC 9110, 13.1.2).
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|known| names(known, etag))
}

fn names(known: &HeaderValue, etag: &str) -> bool {
    let opaque = etag.trim_start_matches("W/");
    let known = known.to_str().unwrap_or_default();
    known.trim() == "*" || known.split(',').any(|one| one.trim().trim_start_matches("W/") == opaque)
}
