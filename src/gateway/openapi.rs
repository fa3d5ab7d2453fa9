//! The contract: OpenAPI, made from the operations, and Swagger UI over it.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::Request,
    http::header,
    response::{Redirect, Response},
    routing::{MethodRouter, get},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Gateway,
    files::{CONTRACT, DOCS, File},
    http::{
        self,
        prime::CacheHeaders,
        problems::{self, ViewProblems},
    },
};
use crate::api::error::Problem;

/// What Swagger UI needs: its own files, images within its styles, and to ask this node.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Primacy",
        description = "Ask a cluster whether a number is prime. Every node answers; `processed_by` says who did the work.",
    ),
    tags(
        (name = "numbers", description = "Ask, and see what was asked"),
        (name = "cluster", description = "Who is there, and who leads"),
        (name = "operation", description = "Probes, metrics and the contract"),
    ),
    components(schemas(Problem)),
    servers((url = "./", description = "The node that served this page")),
)]
struct Base;

/// The document without its operations.
pub fn base() -> utoipa::openapi::OpenApi {
    let mut base = Base::openapi();
    let components = base.components.get_or_insert_default();
    components
        .responses
        .extend(problems::responses().map(|(name, problem)| (name.to_owned(), problem.into())));
    base
}

/// The document as the code says it, which is committed, and served from there: pretty JSON that ends in a newline.
pub fn json() -> &'static str {
    static JSON: OnceLock<String> = OnceLock::new();
    JSON.get_or_init(|| {
        let contract = http::operations().into_openapi();
        // The document is made of strings and maps with string keys, which always serialise.
        contract.to_pretty_json().unwrap_or_default() + "\n"
    })
}

/// The operations of this file.
pub fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(document))
}

/// The contract itself.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation", operation_id = "openapi",
    params(CacheHeaders),
    responses(
        (status = 200, description = "OpenAPI 3.1", body = serde_json::Value, content_type = "application/json",
            headers(("ETag" = String, description = "Strong; of the encoding that is sent")),
            example = json!({"openapi": "3.1.0"})),
        (status = 304, description = "Not modified: your copy is current"),
        ViewProblems,
    )
)]
pub async fn document(request: Request) -> Response {
    CONTRACT.answer(&request)
}

/// Swagger UI at `/docs`, over the document at `/openapi.json`. A proxy may show both below a path of its own, so that
/// every reference is relative.
pub fn swagger_ui<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let router = Router::new().route("/docs", get(|| async { Redirect::temporary("docs/") }));
    DOCS.iter().fold(router, |router, file| {
        let path = format!("/docs/{}", file.name);
        match file.name {
            "index.html" => router.route("/docs/", page(file)).route(&path, page(file)),
            _ => router.route(&path, file.route()),
        }
    })
}

fn page<S: Clone + Send + Sync + 'static>(file: &'static File) -> MethodRouter<S> {
    get(move |request: Request| async move {
        ([(header::CONTENT_SECURITY_POLICY, POLICY)], file.answer(&request))
    })
}
