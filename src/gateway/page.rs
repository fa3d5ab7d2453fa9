//! The page: some small files, in the binary.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use super::Gateway;

const INDEX: File = File { media: "text/html; charset=utf-8", text: include_str!("../../web/index.html") };

/// What the page is made of.
const PARTS: [(&str, File); 10] = [
    ("/style.css", File { media: "text/css; charset=utf-8", text: include_str!("../../web/style.css") }),
    ("/favicon.svg", File { media: "image/svg+xml", text: include_str!("../../web/favicon.svg") }),
    ("/app.js", script(include_str!("../../web/app.js"))),
    ("/ask.js", script(include_str!("../../web/ask.js"))),
    ("/connection.js", script(include_str!("../../web/connection.js"))),
    ("/dom.js", script(include_str!("../../web/dom.js"))),
    ("/members.js", script(include_str!("../../web/members.js"))),
    ("/questions.js", script(include_str!("../../web/questions.js"))),
    ("/text.js", script(include_str!("../../web/text.js"))),
    ("/timeline.js", script(include_str!("../../web/timeline.js"))),
];

/// A file in the binary.
#[derive(Clone, Copy)]
struct File {
    media: &'static str,
    text: &'static str,
}

const fn script(text: &'static str) -> File {
    File { media: "text/javascript; charset=utf-8", text }
}

/// The page and what it is made of.
pub fn routes() -> Router<Arc<Gateway>> {
    PARTS
        .into_iter()
        .fold(Router::new(), |router, (path, part)| router.route(path, get(move || async move { part })))
        .route("/", get(index))
}

async fn index(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, policy(&gateway))], INDEX)
}

impl IntoResponse for File {
    /// A node that was upgraded serves another page at once: nothing is kept unasked.
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.media),
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        (headers, self.text).into_response()
    }
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
