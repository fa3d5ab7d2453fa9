//! `grpc.health.v1`: a node serves until it stops.

use std::{future::ready, sync::Arc};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::sleep;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::call_of;
use crate::{gateway::Gateway, limits::LAME_DUCK};

/// The services that are known; the empty name is the whole node.
const SERVICES: [&str; 3] = ["", "scheduler.Scheduler", "scheduler.Worker"];

/// Serves `grpc.health.v1.Health`.
pub struct HealthService(pub(super) Arc<Gateway>);

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status(&service) {
            ServingStatus::ServiceUnknown => Err(unknown(&service)),
            status => Ok(Response::new(response(status))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let place = self.0.watch(call_of(&request).from.ip())?;
        let status = self.status(&request.into_inner().service);
        let stopping = self.0.cluster.stopping();
        let stopped = async move {
            stopping.cancelled().await;
            (status == ServingStatus::Serving).then_some(ServingStatus::NotServing)
        };
        // After [`LAME_DUCK`] the connection takes no new calls. If the stream ended earlier, a client that watches
        // again at once would call in a loop.
        let closed = async {
            sleep(LAME_DUCK).await;
            None
        };
        let statuses =
            stream::once(ready(Some(status))).chain(stream::once(stopped)).chain(stream::once(closed));
        let responses = statuses.filter_map(ready).map(|status| Ok(response(status)));
        Ok(Response::new(place.hold(responses)))
    }
}

impl HealthService {
    fn status(&self, service: &str) -> ServingStatus {
        match SERVICES.contains(&service) {
            false => ServingStatus::ServiceUnknown,
            true if self.0.cluster.is_stopping() => ServingStatus::NotServing,
            true => ServingStatus::Serving,
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn unknown(service: &str) -> Status {
    let [_, known @ ..] = SERVICES;
    let (known, service) = (known.join(" and "), service.chars().take(100).collect::<String>());
    Status::not_found(format!(
        "the service `{service}` is not known; ask for {known}, or leave the name empty for the whole node"
    ))
}
