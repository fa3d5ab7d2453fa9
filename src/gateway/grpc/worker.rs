//! `scheduler.Worker`: what the seed's leader calls of its workers. Every node serves it, and answers any client.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{CallContext, call_of, number_of};
use crate::{
    cluster::{
        Identity,
        election::{Claim, ClaimVerdict},
        membership::MemberList,
    },
    gateway::{Gateway, error::ApiError},
    proto::{
        self, ElectionRequest, ElectionResponse, HeartbeatRequest, HeartbeatResponse, PrimeRequest,
        PrimeResponse, VictoryRequest, VictoryResponse, worker_server::Worker,
    },
    scheduler::Outcome,
};

/// Serves `scheduler.Worker`.
pub struct WorkerService(pub(super) Arc<Gateway>);

#[tonic::async_trait]
impl Worker for WorkerService {
    async fn process_prime(&self, request: Request<PrimeRequest>) -> Result<Response<PrimeResponse>, Status> {
        let trace = call_of(&request).trace;
        let answered = self.work(request.get_ref()).await?;
        tracing::debug!(request_id = %trace.request_id(), traceparent = %trace.traceparent(), "processed a check");
        Ok(Response::new(answered))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let CallContext { from, is_peer, .. } = call_of(&request);
        let request = request.into_inner();
        if is_stamped(&request) && !is_peer {
            return Err(self.0.strangers.refuse("/scheduler.Worker/Heartbeat", from).into());
        }
        let figures = self.0.worker.figures();
        let verdict = self.take(request).await?;
        Ok(Response::new(HeartbeatResponse {
            alive: true,
            in_flight: figures.in_flight,
            completed: figures.completed,
            members_version: self.0.cluster.adopted_version(),
            verdict: verdict.map(Into::into),
        }))
    }

    async fn election(
        &self,
        request: Request<ElectionRequest>,
    ) -> Result<Response<ElectionResponse>, Status> {
        let ElectionRequest { candidate_id, sender: from } = request.into_inner();
        let sender = sender(from)?;
        let answer = self.0.cluster.question(sender, candidate_id != 0).await.map_err(ApiError::from)?;
        let receiver = Some((&*self.0.cluster.view().me).into());
        Ok(Response::new(ElectionResponse { receiver, ..answer.into() }))
    }

    async fn victory(&self, request: Request<VictoryRequest>) -> Result<Response<VictoryResponse>, Status> {
        let VictoryRequest { sender: from, claim, .. } = request.into_inner();
        let sender = sender(from)?;
        let claim = claim.ok_or_else(|| Status::invalid_argument("a victory needs a `claim`"))?;
        let claim = Claim::from_wire(claim, &sender).map_err(Status::invalid_argument)?;
        let verdict = self.0.cluster.claimed(sender, claim, None).await.map_err(ApiError::from)?;
        let acknowledged = verdict == ClaimVerdict::Follows;
        Ok(Response::new(VictoryResponse { acknowledged, verdict: Some(verdict.into()) }))
    }
}

impl WorkerService {
    async fn work(&self, message: &PrimeRequest) -> Result<PrimeResponse, ApiError> {
        let worker = &self.0.worker;
        let verdict = worker.check(&number_of(message)?).await?;
        Ok(Outcome { verdict, processed_by: Arc::clone(worker.name()) }.into())
    }

    /// A stamped heartbeat is for the cluster; a plain one, as the seed's leader sends it, changes nothing.
    async fn take(&self, request: HeartbeatRequest) -> Result<Option<ClaimVerdict>, Status> {
        if !is_stamped(&request) {
            return Ok(None);
        }
        let HeartbeatRequest { sender: from, claim, members_version, members, .. } = request;
        let sender = sender(from)?;
        let cluster = &self.0.cluster;
        let Some(claim) = claim else {
            cluster.heard(sender).await.map_err(ApiError::from)?;
            return Ok(None);
        };
        let claim = Claim::from_wire(claim, &sender).map_err(Status::invalid_argument)?;
        let list = MemberList::from_wire(members_version, members);
        Ok(Some(cluster.claimed(sender, claim, list).await.map_err(ApiError::from)?))
    }
}

/// Whether it says what only peers say.
fn is_stamped(request: &HeartbeatRequest) -> bool {
    request.sender.is_some() || request.claim.is_some() || !request.members.is_empty()
}

/// The sender, without which a call of the election means nothing.
pub(super) fn sender(wire: Option<proto::Identity>) -> Result<Identity, Status> {
    let wire = wire.ok_or_else(|| Status::invalid_argument("a peer's call needs its `sender`"))?;
    Identity::try_from(wire).map_err(Status::invalid_argument)
}
