//! The contract: OpenAPI, made from the operations, and Swagger UI over it.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::Path,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa::OpenApi;

use super::{
    error::Problem,
    http::{
        self,
        problems::{self, ViewProblems},
    },
};

/// How Swagger UI is set up.
const INITIALIZER: &str = include_str!("openapi/swagger-initializer.js");
const SCRIPT: (HeaderName, &str) = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
/// A node that was upgraded serves others.
const REVALIDATED: (HeaderName, &str) = (header::CACHE_CONTROL, "no-cache");

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

/// The document as it is served and as it is committed: pretty JSON that ends in a newline.
pub fn json() -> &'static str {
    static JSON: OnceLock<String> = OnceLock::new();
    JSON.get_or_init(|| {
        let contract = http::operations().into_openapi();
        // The document is made of strings and maps with string keys, which always serialise.
        contract.to_pretty_json().unwrap_or_default() + "\n"
    })
}

/// The contract itself.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation", operation_id = "openapi",
    responses(
        (status = 200, description = "OpenAPI 3.1", body = serde_json::Value, content_type = "application/json", example = json!({"openapi": "3.1.0"})),
        ViewProblems,
    )
)]
pub async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), REVALIDATED], json())
}

/// Swagger UI at `/docs`, over the document at `/openapi.json`. A proxy may show both below a path of its own, so that
/// every reference is relative.
pub fn swagger_ui<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/docs", get(|| async { Redirect::temporary("docs/") }))
        .route("/docs/", get(|| async { swagger_file("index.html") }))
        .route("/docs/swagger-initializer.js", get(|| async { ([SCRIPT, REVALIDATED], INITIALIZER) }))
        .route("/docs/{*file}", get(|Path(file): Path<String>| async move { swagger_file(&file) }))
}

fn swagger_file(path: &str) -> Response {
    match utoipa_swagger_ui::serve(path, Arc::default()) {
        Ok(Some(file)) => {
            ([(header::CONTENT_TYPE, &*file.content_type), REVALIDATED], file.bytes.into_owned())
                .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
