//! The contract: OpenAPI, made from the operations, and Swagger UI over it.

use std::sync::OnceLock;

use axum::{Router, http::header, response::IntoResponse};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    error::Problem,
    http::{
        self,
        problems::{self, ViewProblems},
    },
};

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
    servers((url = "/", description = "The node that served this page")),
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
    ([(header::CONTENT_TYPE, "application/json")], json())
}

/// Swagger UI at `/docs`, over the document at `/openapi.json`.
pub fn swagger_ui<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let config = Config::new(["/openapi.json"])
        .try_it_out_enabled(true)
        .display_request_duration(true)
        // By default the page shows a badge from validator.swagger.io, and tells it where this node is.
        .validator_url("none");
    SwaggerUi::new("/docs").config(config).into()
}
