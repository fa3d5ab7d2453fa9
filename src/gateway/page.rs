//! The page: four files, in the binary.

use std::sync::Arc;

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

use super::Gateway;

/// The page and what it is made of.
pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/", get(index))
        .route("/app.js", get(|| file("text/javascript; charset=utf-8", include_str!("../../web/app.js"))))
        .route("/style.css", get(|| file("text/css; charset=utf-8", include_str!("../../web/style.css"))))
        .route("/favicon.svg", get(|| file("image/svg+xml", include_str!("../../web/favicon.svg"))))
}

async fn index(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    let policy = [(header::CONTENT_SECURITY_POLICY, policy(&gateway))];
    (policy, file("text/html; charset=utf-8", include_str!("../../web/index.html")).await)
}

/// A node that was upgraded serves another page at once.
async fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text)
}

/// Nothing but the page's own files, and the members that it may have to go on with.
fn policy(gateway: &Gateway) -> String {
    let view = gateway.cluster.view();
    let is_address =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    let addresses = view.members.iter().map(|member| &*member.http_addr);
    let members = addresses.filter(|address| !address.is_empty() && is_address(address));
    let members: String = members.map(|address| format!(" http://{address}")).collect();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{members}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
