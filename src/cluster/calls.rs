//! The calls of an election: each once, within its time. A call that fails is an answer too.

use std::{error::Error, sync::Arc, time::Duration};

use primacy_election::{
    Ballot, Claim, ClaimVerdict, DialError, HandOver, Identity, Judged, Peer, PeerRequest, QuestionAnswer,
    Scheme, Sought, Time, timing,
};
use tokio::time::timeout;

use super::{
    IdTaken, innermost,
    introduction::{Introduction, PeerCredentials, identify, introduce},
    token::PeerConnection,
};
use crate::{
    api::election::{answer_from_wire, verdict_from_wire},
    cluster::Snapshot,
    proto::{self, peer_client::PeerClient, worker_client::WorkerClient},
};

/// A call to a peer.
pub(super) struct Call {
    pub(super) peer: Peer,
    pub(super) request: PeerRequest,
    pub(super) me: Arc<Identity>,
    pub(super) credentials: PeerCredentials,
    /// The connection that is open; else the peer is dialled.
    pub(super) connection: Option<PeerConnection>,
    pub(super) sought: Sought,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) heartbeat: Duration,
    pub(super) asked: Time,
}

type Called<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What came of it.
pub(super) enum Reply {
    Answered { round: u64, answer: Option<QuestionAnswer>, by: Option<Identity> },
    Judged(Option<Judged>),
    HandedOver { ballot: Ballot, accepted: Option<bool> },
}

impl Call {
    pub(super) async fn run(self) -> (Peer, Reply) {
        let reply = match &self.request {
            PeerRequest::Question { round, is_candidate } => {
                let answered = self.within(timing::ANSWER, self.ask(*is_candidate)).await;
                let (answer, by) = answered.unwrap_or_default();
                Reply::Answered { round: *round, answer, by }
            }
            PeerRequest::Victory(claim) => {
                let verdict = self.within(timing::VICTORY, self.announce(claim)).await.flatten();
                let (asked, ballot) = (self.asked, claim.ballot);
                Reply::Judged(verdict.map(|verdict| Judged { asked, ballot, verdict }))
            }
            PeerRequest::HandOver(offer) => {
                let accepted = self.within(timing::VICTORY, self.offer(offer)).await;
                Reply::HandedOver { ballot: offer.ballot, accepted }
            }
        };
        (self.peer, reply)
    }

    async fn within<T>(&self, heartbeats: u32, call: impl Future<Output = Called<T>>) -> Option<T> {
        match timeout(self.heartbeat * heartbeats, call).await {
            Ok(Ok(reply)) => Some(reply),
            Ok(Err(error)) => {
                tracing::debug!("{} does not answer: {}", self.sought.address, innermost(&*error));
                None
            }
            Err(_) => None,
        }
    }

    /// Without a candidate's id it is only a question.
    async fn ask(&self, is_candidate: bool) -> Called<(Option<QuestionAnswer>, Option<Identity>)> {
        let candidate_id = self.me.id.filter(|_| is_candidate).unwrap_or_default().cast_signed();
        let sender = Some((&*self.me).into());
        let Introduction { connection, proven } = match self.connection().await {
            // The address is another name of this node: its entry is not needed.
            Err(DialError::Itself) => return Ok((None, Some(Identity::clone(&self.me)))),
            introduction => introduction?,
        };
        let answer =
            WorkerClient::new(connection).election(proto::ElectionRequest { candidate_id, sender }).await?;
        let mut answer = answer.into_inner();
        let says = answer.receiver.take().and_then(|by| Identity::try_from(by).ok());
        Ok((answer_from_wire(answer), proven.map(|(identity, _)| identity).or(says)))
    }

    async fn announce(&self, claim: &Claim) -> Called<Option<ClaimVerdict>> {
        let answer = self
            .worker()
            .await?
            .victory(proto::VictoryRequest {
                new_leader_id: claim.ballot.id.cast_signed(),
                new_leader_addr: self.me.grpc_addr.to_string(),
                sender: Some((&*self.me).into()),
                claim: Some(claim.into()),
            })
            .await?;
        Ok(verdict_from_wire(answer.into_inner().verdict))
    }

    async fn offer(&self, offer: &HandOver) -> Called<bool> {
        let request = proto::HandOverRequest { sender: Some((&*self.me).into()), ..offer.into() };
        let answer = PeerClient::new(self.connection().await?.connection).hand_over(request).await?;
        Ok(answer.into_inner().accepted)
    }

    async fn worker(&self) -> Called<WorkerClient<PeerConnection>> {
        Ok(WorkerClient::new(self.connection().await?.connection))
    }

    /// The connection that is open, or a new one.
    async fn connection(&self) -> Result<Introduction, DialError> {
        if let Some(connection) = self.connection.clone() {
            return Ok(Introduction { connection, proven: None });
        }
        let (address, time) = (&self.sought.address, self.heartbeat * timing::ANSWER);
        let channel = self.credentials.connect(address, self.snapshot.scheme_of(address), time).await?;
        introduce(channel, &self.credentials.token, &self.sought, &self.snapshot).await
    }
}

/// The node that is said to have our id too.
pub(super) struct Twin {
    pub(super) at: Arc<str>,
    pub(super) me: Arc<Identity>,
    pub(super) credentials: PeerCredentials,
    pub(super) scheme: Scheme,
    pub(super) time: Duration,
}

impl Twin {
    /// Asks it itself, on a connection of its own: it has the id if it says so, where there is a token with a proof.
    pub(super) async fn find(self) -> Result<IdTaken, DialError> {
        let asked = async {
            let channel = self.credentials.connect(&self.at, self.scheme, self.time).await?;
            identify(channel, &self.credentials.token).await
        };
        let (found, _) = timeout(self.time, asked).await.map_err(|_| DialError::TimedOut)??;
        match self.me.id {
            Some(id) if found.id == Some(id) && found.boot != self.me.boot => {
                Ok(IdTaken { id, me: Arc::clone(&self.me.grpc_addr), by: self.at })
            }
            _ => Err(DialError::Misled),
        }
    }
}
