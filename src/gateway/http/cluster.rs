//! `GET /cluster`.

use std::sync::Arc;

use axum::{Json, extract::State, http::header, response::IntoResponse};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problems::ViewProblems;
use crate::{api::cluster::ClusterAnswer, gateway::Gateway, proto};

/// The operations of this file.
pub(super) fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(get_cluster))
}

/// Who is there, and who leads?
#[utoipa::path(
    get, path = "/cluster", tag = "cluster", operation_id = "getCluster",
    responses(
        (status = 200, description = "The cluster as this node sees it", body = ClusterAnswer),
        ViewProblems,
    )
)]
pub async fn get_cluster(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    let answer = ClusterAnswer::from(proto::ClusterView::from(&gateway.cluster.snapshot().view));
    ([(header::CACHE_CONTROL, "no-store")], Json(answer))
}
