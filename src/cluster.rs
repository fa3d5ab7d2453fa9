//! Who is there and who leads, and the lanes to them.
//!
//! ```text
//!   links (one a peer: dial, lane, heartbeats) ──events──▶ driver ──▶ Election ▷ Membership (pure)
//!        ▲                                                   │  ▲
//!        └───────────────────── orders ──────────────────────┤  └── calls (questions, victories, hand-overs)
//!                                                            ▼
//!                            gateway and scheduler read  watch<ClusterView>
//! ```
//! Where an etcd says who leads, [`etcd`] passes that to the driver, and the election keeps to it.

mod calls;
mod driver;
pub mod election;
pub mod etcd;
pub mod introduction;
pub mod lane;
mod link;
pub mod membership;
pub mod timing;
pub mod token;
pub mod trace;
mod wire;

#[cfg(test)]
#[path = "../tests/election/mod.rs"]
mod simulation;

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    limits::HAND_OVER_TIMEOUT,
    text::plain,
    worker::{Figures, Worker},
};
use driver::Driver;
use election::{Claim, ClaimVerdict, HandOver, Judged, QuestionAnswer, TransferError};
use lane::Lane;
use membership::{DialError, MemberList, Peer, Refusal, Time, Wanted};
use token::Token;

pub use membership::{Change, Member, Status};

/// What a node says to a lane that it does not open because it is stopping.
pub const STOPPING: &str = "this node is stopping";

/// Who a node is, in this life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its id, 1 or more; `None` for a node that only works and never leads.
    pub id: Option<u32>,
    /// Its name.
    pub name: Arc<str>,
    /// Drawn anew by every process.
    pub boot: u64,
    /// Where its peers and gRPC clients reach it.
    pub grpc_addr: Arc<str>,
    /// Where HTTP clients reach it.
    pub http_addr: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
}

/// A configured peer: `4=leader:50051`, or without the id, which is then learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its id, if given.
    pub id: Option<u32>,
    /// `host:port`.
    pub grpc_addr: Arc<str>,
}

/// Time since the node started, and how to say it to people. On Linux it goes on while the machine is suspended.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// By the system's clock.
    started: Duration,
    started_at: SystemTime,
}

/// The cluster as this node sees it at one moment; immutable.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// Whose view it is.
    pub me: Arc<Identity>,
    /// The clock that its times are of.
    pub clock: Clock,
    /// All members by id, this node included, but for ghosts.
    pub members: Vec<Member>,
    /// Dead entries of nodes that have returned at other addresses.
    ghosts: Vec<Member>,
    /// Who led when it was composed.
    leader: Option<Leader>,
    /// Until when that holds, if it ends by itself: a node that wakes up may be beyond it before it can say so.
    leader_until: Option<Time>,
    /// The resignation of this node that it was composed after.
    resignations: u64,
    /// The lane on which the leader schedules for this node.
    pub leader_lane: Option<Lane>,
    /// The lanes to those that do work for this node, while it leads or has no leader.
    pub workers: Vec<Lane>,
    /// The last changes, the newest first.
    pub recent: Arc<[Change]>,
    /// Counts the changes.
    pub version: u64,
    /// Counts what the heartbeats carry to the others.
    list_version: u64,
    /// The version of the leader's list that this node holds.
    adopted_version: u64,
    /// What this node's heartbeats claim, if it leads.
    claim: Option<Claim>,
    /// When it was composed.
    composed: Time,
}

/// A leadership, as this node knows it.
#[derive(Debug, Clone)]
pub struct Leader {
    /// The leader's id.
    pub id: u32,
    /// Its name.
    pub name: Arc<str>,
    /// The counter of its ballot.
    pub counter: u64,
    /// When this node first followed it.
    pub since: Time,
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

/// Why the cluster does not answer a peer.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum CallError {
    /// Too many events wait.
    #[error("this node is busy; try again in a moment")]
    Busy,
    /// The sender cannot be a member.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No leader is reached.
    #[error("no leader is reached; try again in a moment")]
    NoLeader,
    /// The leader does not hand over.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The member does not lead in time.
    #[error("{0} did not take over in time, and the leader goes on leading")]
    NotTaken(String),
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
    /// What its peers know.
    pub token: Token,
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
    view: watch::Receiver<Arc<ClusterView>>,
    events: mpsc::Sender<Event>,
    heartbeat: Duration,
    stopping: CancellationToken,
}

impl Cluster {
    /// Builds the handle and the task that runs the cluster until `stop`, or until it cannot go on.
    pub fn new(
        config: ClusterConfig,
        worker: Arc<Worker>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = Result<(), IdTaken>> + Send + 'static) {
        let heartbeat = config.heartbeat;
        let (driver, events) = Driver::new(config, worker);
        let stopping = CancellationToken::new();
        let cluster = Self { view: driver.view.subscribe(), events, heartbeat, stopping };
        (cluster, driver.run(stop))
    }

    /// The view of this moment. Hold it briefly: it is the one that the driver replaces.
    pub fn view(&self) -> watch::Ref<'_, Arc<ClusterView>> {
        self.view.borrow()
    }

    /// To wait for the next view.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.view.clone()
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

    /// An operator wants this member to lead; returns when it does.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn transfer(&self, to: String) -> Result<Leader, CallError> {
        let mut views = self.view.clone();
        let target = to.clone();
        self.request(|reply| ClusterRequest::Transfer(target, reply)).await??;
        let leads = |view: &Arc<ClusterView>| view.leader.as_ref().is_some_and(|leader| *leader.name == *to);
        match timeout(TRANSFER_TIMEOUT, views.wait_for(leads)).await {
            Ok(Ok(view)) => view.leader.clone().ok_or(CallError::NoLeader),
            Ok(Err(_)) | Err(_) => Err(CallError::NotTaken(to)),
        }
    }

    /// Hands over, if this node leads and anybody can lead after it; from now on it never leads again.
    pub async fn stop_leading(&self) {
        let mut views = self.view.clone();
        if self.events.send(Event::ClusterRequest(ClusterRequest::Stop)).await.is_ok() {
            let is_done = |view: &Arc<ClusterView>| !view.leads() || !view.has_successor();
            let _ = timeout(HAND_OVER_TIMEOUT, views.wait_for(is_done)).await;
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
        self.view().adopted_version
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

impl ClusterView {
    /// Who leads now; `None` while this node reaches no leader.
    pub fn leader(&self, now: Time) -> Option<&Leader> {
        self.leader.as_ref().filter(|_| self.leader_until.is_none_or(|until| now < until))
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.leader(self.clock.now()).is_some_and(|leader| Some(leader.id) == self.me.id)
    }

    /// Whether there is a member that could lead after this node.
    fn has_successor(&self) -> bool {
        let is_able = |member: &Member| member.id.is_some() && member.status == Status::Alive;
        self.members.iter().any(|member| is_able(member) && member.id != self.me.id)
    }

    /// Whether the member leads.
    fn is_leader(&self, member: &Member, now: Time) -> bool {
        self.leader(now).is_some_and(|leader| Some(leader.id) == member.id)
    }
}

impl Default for Clock {
    /// A clock that starts now.
    fn default() -> Self {
        Self { started: since_boot(), started_at: SystemTime::now() }
    }
}

impl Clock {
    /// The time since it started.
    pub fn now(&self) -> Time {
        since_boot().saturating_sub(self.started)
    }

    /// When timers, which a suspension only delays, are to go off for a time of this clock: at once if it is past.
    fn instant(&self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::now() + time.saturating_sub(self.now())
    }

    /// Milliseconds since the Unix epoch at a time of this clock.
    pub fn epoch_ms(&self, time: Time) -> u64 {
        let at = self.started_at + time;
        at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
    }
}

/// What a lease is counted by: it must not stand still while etcd's goes on.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// It never goes back, and counts from a moment that is the same for as long as the machine runs.
fn since_boot() -> Duration {
    let time = clock_gettime(CLOCK);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_jump_of_the_clock_what_was_due_is_due_at_once() {
        let mut clock = Clock::default();
        let due = clock.now() + Duration::from_secs(100);
        let far = clock.instant(due) - tokio::time::Instant::now();
        assert!(far > Duration::from_secs(90), "{far:?}");
        // As if the machine had slept for an hour.
        clock.started -= Duration::from_secs(3600).min(clock.started);
        assert!(clock.now() > due);
        assert!(clock.instant(due) <= tokio::time::Instant::now());
        let next = clock.instant(clock.now() + Duration::from_secs(1)) - tokio::time::Instant::now();
        assert!(next <= Duration::from_secs(1), "{next:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_clock_counts_suspensions() {
        // Where nothing was suspended yet both clocks say the same: `unshare --time --boottime 9999` parts them.
        let now = || clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs();
        let (before, read, after) = (now(), since_boot().as_secs(), now());
        assert!((before..=after).contains(&read), "{read} is not from {before} to {after}");
    }
}
