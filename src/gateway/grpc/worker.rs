//! `scheduler.Worker`: what the seed's leader calls of its workers. Every node serves it, and answers any client.

use std::sync::Arc;

use primacy_election::{ClaimVerdict, Identity};
use tonic::{Request, Response, Status};

use super::{CallContext, call_of};
use crate::{
    api::{
        cluster::member_list_from_wire,
        election::claim_from_wire,
        error::{ApiError, CheckError},
        prime::number_from_wire,
    },
    gateway::Gateway,
    proto::{self, worker_server::Worker},
};

/// Serves `scheduler.Worker`.
pub struct WorkerService(pub(super) Arc<Gateway>);

#[tonic::async_trait]
impl Worker for WorkerService {
    async fn process_prime(
        &self,
        request: Request<proto::PrimeRequest>,
    ) -> Result<Response<proto::PrimeResponse>, Status> {
        let trace = call_of(&request).trace;
        let answered = self.work(request.get_ref()).await?;
        tracing::debug!(request_id = %trace.request_id(), traceparent = %trace.traceparent(), "processed a check");
        Ok(Response::new(answered))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        let CallContext { from, lacks, .. } = call_of(&request);
        let request = request.into_inner();
        if let Some(lacks) = lacks.filter(|_| is_stamped(&request)) {
            return Err(self.0.strangers.refuse("/scheduler.Worker/Heartbeat", from, lacks).into());
        }
        let figures = self.0.worker.figures();
        let verdict = self.take(request).await?;
        Ok(Response::new(proto::HeartbeatResponse {
            alive: true,
            in_flight: figures.in_flight,
            completed: figures.completed,
            members_version: self.0.cluster.adopted_version(),
            verdict: verdict.map(Into::into),
        }))
    }

    async fn election(
        &self,
        request: Request<proto::ElectionRequest>,
    ) -> Result<Response<proto::ElectionResponse>, Status> {
        let proto::ElectionRequest { candidate_id, sender: from } = request.into_inner();
        let sender = sender(from)?;
        let answer = self.0.cluster.question(sender, candidate_id != 0).await.map_err(ApiError::from)?;
        let receiver = Some((&*self.0.cluster.snapshot().view.me).into());
        Ok(Response::new(proto::ElectionResponse { receiver, ..answer.into() }))
    }

    async fn victory(
        &self,
        request: Request<proto::VictoryRequest>,
    ) -> Result<Response<proto::VictoryResponse>, Status> {
        let proto::VictoryRequest { sender: from, claim, .. } = request.into_inner();
        let sender = sender(from)?;
        let claim = claim.ok_or_else(|| Status::invalid_argument("a victory needs a `claim`"))?;
        let claim = claim_from_wire(claim, &sender).map_err(Status::invalid_argument)?;
        let verdict = self.0.cluster.claimed(sender, claim, None).await.map_err(ApiError::from)?;
        let acknowledged = verdict == ClaimVerdict::Follows;
        Ok(Response::new(proto::VictoryResponse { acknowledged, verdict: Some(verdict.into()) }))
    }
}

impl WorkerService {
    async fn work(&self, message: &proto::PrimeRequest) -> Result<proto::PrimeResponse, ApiError> {
        let worker = &self.0.worker;
        Ok(worker.check(&number_from_wire(message)?).await.map_err(CheckError::from)?.into())
    }

    /// A stamped heartbeat is for the cluster; a plain one, as the seed's leader sends it, changes nothing.
    async fn take(&self, request: proto::HeartbeatRequest) -> Result<Option<ClaimVerdict>, Status> {
        if !is_stamped(&request) {
            return Ok(None);
        }
        let proto::HeartbeatRequest { sender: from, claim, members_version, members, .. } = request;
        let sender = sender(from)?;
        let cluster = &self.0.cluster;
        let Some(claim) = claim else {
            cluster.heard(sender).await.map_err(ApiError::from)?;
            return Ok(None);
        };
        let claim = claim_from_wire(claim, &sender).map_err(Status::invalid_argument)?;
        let list = member_list_from_wire(members_version, members);
        Ok(Some(cluster.claimed(sender, claim, list).await.map_err(ApiError::from)?))
    }
}

/// Whether it says what only peers say.
fn is_stamped(request: &proto::HeartbeatRequest) -> bool {
    request.sender.is_some() || request.claim.is_some() || !request.members.is_empty()
}

/// The sender, without which a call of the election means nothing.
pub(super) fn sender(wire: Option<proto::Identity>) -> Result<Identity, Status> {
    let wire = wire.ok_or_else(|| Status::invalid_argument("a peer's call needs its `sender`"))?;
    Identity::try_from(wire).map_err(Status::invalid_argument)
}
