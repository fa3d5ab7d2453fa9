//! What every answer of the HTTP listener tells a browser. `docs/browsers.md` says what for.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// For an answer without a policy of its own: it loads nothing, and nobody frames it.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// It is what its type says, and no script or image.
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
/// Other sites ask, which CORS allows, and embed nothing.
const EMBEDDED_BY: HeaderValue = HeaderValue::from_static("same-origin");

/// Adds them.
pub(in crate::gateway) fn guard(headers: &mut HeaderMap) {
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, EMBEDDED_BY);
}
