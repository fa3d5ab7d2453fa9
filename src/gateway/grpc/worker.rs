//! `scheduler.Worker`: what the seed's leader calls of its workers. Every node serves it, and answers any client.

use std::{sync::Arc, time::Instant};

use tokio::time::timeout_at;
use tonic::{Request, Response, Status};

use super::{Call, call_of, number_of};
use crate::{
    cluster::{Identity, lane::Trace},
    gateway::{Gateway, error::ApiError},
    proto::{
        ElectionRequest, ElectionResponse, HeartbeatRequest, HeartbeatResponse, PrimeRequest, PrimeResponse,
        VictoryRequest, VictoryResponse, worker_server::Worker,
    },
    scheduler::{CheckError, Outcome},
};

/// Serves `scheduler.Worker`.
pub struct WorkerService(pub(super) Arc<Gateway>);

#[tonic::async_trait]
impl Worker for WorkerService {
    async fn process_prime(&self, request: Request<PrimeRequest>) -> Result<Response<PrimeResponse>, Status> {
        let Call { trace, deadline } = call_of(&request);
        let answered = self.work(request.get_ref(), deadline).await?;
        let Trace { request_id, traceparent, .. } = &*trace;
        tracing::debug!(request_id, traceparent, "processed a check");
        Ok(Response::new(answered))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let figures = self.0.worker.figures();
        let members_version = self.take(request)?;
        Ok(Response::new(HeartbeatResponse {
            alive: true,
            in_flight: figures.in_flight,
            completed: figures.completed,
            members_version,
        }))
    }

    async fn election(&self, _: Request<ElectionRequest>) -> Result<Response<ElectionResponse>, Status> {
        Err(no_elections())
    }

    async fn victory(&self, _: Request<VictoryRequest>) -> Result<Response<VictoryResponse>, Status> {
        Err(no_elections())
    }
}

impl WorkerService {
    async fn work(&self, message: &PrimeRequest, deadline: Instant) -> Result<PrimeResponse, ApiError> {
        let number = number_of(message)?;
        let worker = &self.0.worker;
        let checked = timeout_at(deadline.into(), worker.check(&number)).await;
        let verdict = checked.map_err(|_| CheckError::DeadlineExceeded)??;
        Ok(Outcome { verdict, processed_by: Arc::clone(worker.name()) }.into())
    }

    /// A stamped heartbeat is for the cluster; a plain one, as the seed's leader sends it, changes nothing.
    fn take(&self, request: HeartbeatRequest) -> Result<u64, Status> {
        let Some(sender) = request.sender.clone() else { return Ok(0) };
        let sender = Identity::try_from(sender).map_err(Status::invalid_argument)?;
        super::peer::admit(&self.0, &sender)?;
        Ok(self.0.cluster.heartbeat(sender, request))
    }
}

fn no_elections() -> Status {
    Status::unimplemented("there are no elections: the highest id of the configured peers leads")
}
