//! Who is there and who leads, and the lanes to them.
//!
//! ```text
//!   links (one a peer: dial, lane, heartbeats) ──events──▶ driver ──▶ Election ▷ Membership (pure)
//!        ▲                                                   │  ▲
//!        └───────────────────── orders ──────────────────────┤  └── calls (questions, victories, hand-overs)
//!                                                            ▼
//!                            gateway and scheduler read  watch<Snapshot>
//! ```
//! Where an etcd says who leads, [`etcd`] passes that to the driver, and the election keeps to it.

mod calls;
mod driver;
pub mod etcd;
pub mod introduction;
pub mod lane;
mod link;
pub mod token;
pub mod trace;

use std::{error::Error, sync::Arc, time::Duration};

use primacy_election::{
    Claim, ClaimVerdict, DialError, Figures, HandOver, Identity, Judged, Member, MemberList, Peer,
    PeerAddress, QuestionAnswer, Refusal, Scheme, Time, TransferError, Wanted,
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{
        cluster::{ClusterView, Leader},
        error::CallError,
    },
    clock::Clock,
    limits::HAND_OVER_TIMEOUT,
    proto,
    worker::Worker,
};
use driver::Driver;
use introduction::PeerCredentials;
use lane::Lane;

/// What a node says to a lane that it does not open because it is stopping.
pub const STOPPING: &str = "this node is stopping";

/// What the driver knows at one moment; immutable.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What people see of it.
    pub view: ClusterView,
    /// Where work is sent.
    pub lanes: Lanes,
    task_view: TaskView,
}

/// Where work is sent.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    /// The lane on which the leader schedules for this node.
    pub leader: Option<Lane>,
    /// The lanes to those that do work for this node, while it leads or has no leader.
    pub workers: Vec<Lane>,
}

/// What only the cluster's own tasks read.
#[derive(Debug, Clone, Default)]
struct TaskView {
    /// Dead entries of nodes that have returned at other addresses.
    ghosts: Vec<Member>,
    /// What this node's heartbeats claim, if it leads.
    claim: Option<Claim>,
    /// Counts what the heartbeats carry to the others.
    list_version: u64,
    /// The version of the leader's list that this node holds.
    adopted_version: u64,
    /// How many resignations of this node it takes into account.
    resignations: u64,
    /// When it was composed.
    composed: Time,
}

/// What the driver is told.
#[derive(Debug)]
enum Event {
    Link(Peer, LinkEvent),
    ClusterRequest(ClusterRequest),
}

/// What a link tells of its peer.
#[derive(Debug)]
enum LinkEvent {
    LaneUp {
        kind: Wanted,
        identity: Identity,
        lane: Lane,
    },
    LaneStopping,
    /// Without a reason when the driver itself ordered it.
    LaneDown(Option<String>),
    DialFailed(DialError),
    Acked {
        figures: Figures,
        judged: Option<Judged>,
    },
}

/// What the gateway was asked, and waits to answer.
#[derive(Debug)]
enum ClusterRequest {
    Question(Identity, bool, oneshot::Sender<QuestionAnswer>),
    Heard(Identity, oneshot::Sender<Result<(), Refusal>>),
    Claimed(Identity, Claim, Option<MemberList>, oneshot::Sender<Result<ClaimVerdict, Refusal>>),
    HandOver(Identity, HandOver, oneshot::Sender<Result<bool, Refusal>>),
    Transfer(String, oneshot::Sender<Result<(), TransferError>>),
    Stop,
}

/// Why a cluster cannot go on.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error(
    "the node at {by} has the id {id} too, and was there before this one at {me}; give one of them another --id"
)]
pub struct IdTaken {
    /// The id.
    pub id: u32,
    /// Where this node is.
    pub me: Arc<str>,
    /// Where the other is.
    pub by: Arc<str>,
}

/// What the cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// This node.
    pub me: Identity,
    /// The others, and perhaps itself, which is ignored.
    pub peers: Vec<PeerAddress>,
    /// H.
    pub heartbeat: Duration,
    /// What it shows to them, and believes them by.
    pub credentials: PeerCredentials,
    /// How the leader is chosen.
    pub coordinator: Coordinator,
}

/// How the leader is chosen.
#[derive(Debug, Clone, Default)]
pub enum Coordinator {
    /// They agree on it themselves.
    #[default]
    Bully,
    /// An etcd.
    Etcd(etcd::Access),
}

/// A handle to the cluster.
#[derive(Debug)]
pub struct Cluster {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: mpsc::Sender<Event>,
    heartbeat: Duration,
    stopping: CancellationToken,
}

impl Snapshot {
    /// What the node at this address speaks, as far as is known.
    fn scheme_of(&self, address: &str) -> Scheme {
        let member = self.view.members.iter().find(|member| *member.grpc_addr == *address);
        member.map_or_else(Scheme::default, |member| member.scheme)
    }

    /// The member list for followers. Ghosts come first, as dead; the entries with their present addresses follow.
    fn members_to_wire(&self, now: Time) -> Vec<proto::Member> {
        let all = self.task_view.ghosts.iter().chain(&self.view.members);
        all.map(|member| self.view.member_to_wire(member, now)).collect()
    }
}

impl Cluster {
    /// Builds the handle and the task that runs the cluster until `stop`, or until it cannot go on.
    pub fn new(
        config: ClusterConfig,
        worker: Arc<Worker>,
        clock: Clock,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = Result<(), IdTaken>> + Send + 'static) {
        let heartbeat = config.heartbeat;
        let (driver, events) = Driver::new(config, worker, clock);
        let stopping = CancellationToken::new();
        let cluster = Self { snapshots: driver.snapshots.subscribe(), events, heartbeat, stopping };
        (cluster, driver.run(stop))
    }

    /// What is known at this moment. Hold it briefly: it is what the driver replaces.
    pub fn snapshot(&self) -> watch::Ref<'_, Arc<Snapshot>> {
        self.snapshots.borrow()
    }

    /// To wait for the next snapshot.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// A node asks who leads, perhaps as a candidate.
    ///
    /// # Errors
    /// [`CallError::Busy`].
    pub async fn question(&self, sender: Identity, is_candidate: bool) -> Result<QuestionAnswer, CallError> {
        self.request(|reply| ClusterRequest::Question(sender, is_candidate, reply)).await
    }

    /// A member spoke to us.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn heard(&self, sender: Identity) -> Result<(), CallError> {
        Ok(self.request(|reply| ClusterRequest::Heard(sender, reply)).await??)
    }

    /// A leader says that it leads, perhaps with the member list.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn claimed(
        &self,
        sender: Identity,
        claim: Claim,
        list: Option<MemberList>,
    ) -> Result<ClaimVerdict, CallError> {
        Ok(self.request(|reply| ClusterRequest::Claimed(sender, claim, list, reply)).await??)
    }

    /// A leader asks this node to lead after it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn hand_over(&self, sender: Identity, offer: HandOver) -> Result<bool, CallError> {
        Ok(self.request(|reply| ClusterRequest::HandOver(sender, offer, reply)).await??)
    }

    /// An operator wants this member to lead; returns when it does, or after 3 s.
    ///
    /// # Errors
    /// See [`CallError`]; `NotTaken` if the member does not lead in time.
    pub async fn transfer(&self, to: String) -> Result<Leader, CallError> {
        let mut snapshots = self.subscribe();
        let target = to.clone();
        self.request(|reply| ClusterRequest::Transfer(target, reply)).await??;
        let leads = |snapshot: &Arc<Snapshot>| {
            snapshot.view.leader_when_composed.as_ref().is_some_and(|leader| *leader.name == *to)
        };
        match timeout(TRANSFER_TIMEOUT, snapshots.wait_for(leads)).await {
            Ok(Ok(snapshot)) => snapshot.view.leader_when_composed.clone().ok_or(CallError::NoLeader),
            Ok(Err(_)) | Err(_) => Err(CallError::NotTaken(to)),
        }
    }

    /// Hands over, if this node leads and anybody can lead after it, for which it waits 500 ms at most. From now on this
    /// node never leads again.
    pub async fn stop_leading(&self) {
        let mut snapshots = self.subscribe();
        if self.events.send(Event::ClusterRequest(ClusterRequest::Stop)).await.is_ok() {
            let is_done = |snapshot: &Arc<Snapshot>| !snapshot.view.leads() || !snapshot.view.has_successor();
            let _ = timeout(HAND_OVER_TIMEOUT, snapshots.wait_for(is_done)).await;
        }
    }

    async fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> ClusterRequest,
    ) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        let event = Event::ClusterRequest(request(reply));
        self.events.try_send(event).map_err(|_| CallError::Busy)?;
        answer.await.map_err(|_| CallError::Busy)
    }

    /// The version of the leader's member list that this node holds.
    pub fn adopted_version(&self) -> u64 {
        self.snapshot().task_view.adopted_version
    }

    /// Whether the task that runs it is there.
    pub fn is_running(&self) -> bool {
        !self.events.is_closed()
    }

    /// Tells those that have lanes here that this node wants no more work.
    pub fn stop_taking_work(&self) {
        self.stopping.cancel();
    }

    /// Whether it does not want more work.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// H.
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Returns when it does not want more work.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}

/// The cause of all causes: "connection reset by peer", not "transport error".
pub fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// A hand-over takes some milliseconds; after this the operator is told that it failed.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);
