//! The calls of an election: each once, within its time. A call that fails is an answer too.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Identity,
    election::{Answer, Ballot, Claim, HandOver, Judged, Request, Verdict},
    innermost,
    link::connect,
    membership::{Peer, Time},
    token::{Road, Token},
};
use crate::proto::{
    ElectionRequest, HandOverRequest, VictoryRequest, peer_client::PeerClient, worker_client::WorkerClient,
};

/// A call to a peer.
pub(super) struct Call {
    pub(super) peer: Peer,
    pub(super) request: Request,
    pub(super) me: Arc<Identity>,
    pub(super) token: Token,
    /// The road that is open; else the peer is dialled.
    pub(super) road: Option<Road>,
    pub(super) address: Arc<str>,
    pub(super) heartbeat: Duration,
    pub(super) asked: Time,
}

type Called<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What came of it.
pub(super) enum Reply {
    Answered { round: u64, answer: Option<Answer>, by: Option<Identity> },
    Judged(Option<Judged>),
    HandedOver { ballot: Ballot, accepted: Option<bool> },
}

impl Call {
    pub(super) async fn run(self) -> (Peer, Reply) {
        let reply = match &self.request {
            Request::Question { round, is_candidate } => {
                let answered = self.within(2, self.ask(*is_candidate)).await;
                let (answer, by) = answered.unwrap_or_default();
                Reply::Answered { round: *round, answer, by }
            }
            Request::Victory(claim) => {
                let verdict = self.within(3, self.announce(claim)).await.flatten();
                let (asked, ballot) = (self.asked, claim.ballot);
                Reply::Judged(verdict.map(|verdict| Judged { asked, ballot, verdict }))
            }
            Request::HandOver(offer) => {
                let accepted = self.within(3, self.offer(offer)).await;
                Reply::HandedOver { ballot: offer.ballot, accepted }
            }
        };
        (self.peer, reply)
    }

    async fn within<T>(&self, heartbeats: u32, call: impl Future<Output = Called<T>>) -> Option<T> {
        match timeout(self.heartbeat * heartbeats, call).await {
            Ok(Ok(reply)) => Some(reply),
            Ok(Err(error)) => {
                tracing::debug!("{} does not answer: {}", self.address, innermost(&*error));
                None
            }
            Err(_) => None,
        }
    }

    /// Without a candidate's id it is only a question.
    async fn ask(&self, is_candidate: bool) -> Called<(Option<Answer>, Option<Identity>)> {
        let candidate_id = self.me.id.filter(|_| is_candidate).unwrap_or_default().cast_signed();
        let sender = Some((&*self.me).into());
        let answer = self.worker().await?.election(ElectionRequest { candidate_id, sender }).await?;
        let mut answer = answer.into_inner();
        let by = answer.receiver.take().and_then(|by| Identity::try_from(by).ok());
        Ok((Answer::from_wire(answer), by))
    }

    async fn announce(&self, claim: &Claim) -> Called<Option<Verdict>> {
        let answer = self
            .worker()
            .await?
            .victory(VictoryRequest {
                new_leader_id: claim.ballot.id.cast_signed(),
                new_leader_addr: self.me.grpc_addr.to_string(),
                sender: Some((&*self.me).into()),
                claim: Some(claim.into()),
            })
            .await?;
        Ok(Verdict::from_wire(answer.into_inner().verdict))
    }

    async fn offer(&self, offer: &HandOver) -> Called<bool> {
        let request = HandOverRequest { sender: Some((&*self.me).into()), ..offer.into() };
        let answer = PeerClient::new(self.road().await?).hand_over(request).await?;
        Ok(answer.into_inner().accepted)
    }

    async fn worker(&self) -> Called<WorkerClient<Road>> {
        Ok(WorkerClient::new(self.road().await?))
    }

    async fn road(&self) -> Called<Road> {
        if let Some(road) = &self.road {
            return Ok(road.clone());
        }
        Ok(connect(&self.address, &self.token, self.heartbeat * 2).await?)
    }
}
