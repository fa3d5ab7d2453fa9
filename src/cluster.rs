//! Who is there and who leads, and the lanes to them.
//!
//! ```text
//!   links (one a peer: dial, lane, heartbeats) ──events──▶ driver ──▶ Membership (pure)
//!        ▲                                                   │
//!        └───────────────────── orders ──────────────────────┤
//!                                                            ▼
//!                            gateway and scheduler read  watch<ClusterView>
//! ```

mod driver;
pub mod lane;
mod link;
pub mod membership;

use std::{
    collections::BTreeMap,
    error::Error,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    limits::{CLUSTER_EVENTS_MAX, HEARTBEAT_MAX, HEARTBEAT_MIN, MEMBERS_MAX},
    proto,
    worker::{Figures, Worker},
};
use driver::Driver;
use lane::Lane;
use membership::{Announcement, DialError, Membership, Peer, Time, Wanted};

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

/// Time since the node started, and how to say it to people.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_at: SystemTime,
}

/// The cluster as this node sees it at one moment; immutable.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// Whose view it is.
    pub me: Arc<Identity>,
    /// The clock that its times are of.
    pub clock: Clock,
    /// All members by id, this node included.
    pub members: Vec<Member>,
    /// Who leads; `None` while this node reaches no leader.
    pub leader: Option<Leader>,
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
}

/// A leadership, as this node knows it.
#[derive(Debug, Clone)]
pub struct Leader {
    /// The leader's id.
    pub id: u32,
    /// Its name.
    pub name: Arc<str>,
    /// The ballot's counter: 0 until there are elections.
    pub counter: u64,
    /// When this node first followed it.
    pub since: Time,
}

/// What the driver is told by its links and by the gateway.
#[derive(Debug)]
enum Event {
    LaneUp {
        peer: Peer,
        kind: Wanted,
        identity: Identity,
        lane: Lane,
    },
    LaneStopping {
        peer: Peer,
    },
    /// Without a reason when the driver itself ordered it.
    LaneDown {
        peer: Peer,
        reason: Option<String>,
    },
    DialFailed {
        peer: Peer,
        error: DialError,
    },
    Acked {
        peer: Peer,
        figures: Figures,
    },
    Heard {
        sender: Identity,
        announcement: Option<Announcement>,
    },
}

/// What the cluster is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node.
    pub me: Identity,
    /// The others, and perhaps itself, which is ignored.
    pub peers: Vec<PeerAddress>,
    /// H.
    pub heartbeat: Duration,
}

/// A handle to the cluster.
#[derive(Debug)]
pub struct Cluster {
    view: watch::Receiver<Arc<ClusterView>>,
    events: mpsc::Sender<Event>,
    stopping: CancellationToken,
}

impl Cluster {
    /// Builds the handle and the task that runs the cluster until `stop`.
    pub fn new(
        settings: &Settings,
        worker: Arc<Worker>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let Settings { me, peers, heartbeat } = settings;
        let membership = Membership::new(me, peers, *heartbeat);
        let (events, receiver) = mpsc::channel(CLUSTER_EVENTS_MAX);
        let me = Arc::new(me.clone());
        let mut driver = Driver {
            addresses: peers.iter().map(|peer| Arc::clone(&peer.grpc_addr)).collect(),
            membership,
            me,
            clock: Clock::default(),
            heartbeat: *heartbeat,
            worker,
            events: receiver,
            view: watch::Sender::new(Arc::default()),
            orders: BTreeMap::new(),
            knocks: BTreeMap::new(),
            lanes: BTreeMap::new(),
            links: JoinSet::new(),
            recent: Arc::default(),
            // Followers compare versions: those of another life must not look like ours.
            list_version: settings.me.boot | 1,
            ticks: 0,
        };
        driver.publish();
        let cluster = Self {
            view: driver.view.subscribe(),
            events: events.clone(),
            stopping: CancellationToken::new(),
        };
        let run = async move {
            driver.start_links(&events);
            driver.run(stop).await;
        };
        (cluster, run)
    }

    /// The view of this moment. Hold it briefly: it is the one that the driver replaces.
    pub fn view(&self) -> watch::Ref<'_, Arc<ClusterView>> {
        self.view.borrow()
    }

    /// To wait for the next view.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.view.clone()
    }

    /// Whether a node that calls itself so is configured as a peer, and may open lanes here.
    pub fn knows(&self, sender: &Identity) -> bool {
        let is_it = |member: &Member| match (member.id, sender.id) {
            (Some(known), Some(given)) => known == given,
            _ => member.grpc_addr == sender.grpc_addr,
        };
        self.view().members.iter().any(is_it)
    }

    /// A peer spoke to us.
    pub fn heard(&self, sender: Identity) {
        // A lost knock costs a second at most: the links dial by themselves.
        let _ = self.events.try_send(Event::Heard { sender, announcement: None });
    }

    /// A stamped heartbeat came in; the version of the member list that this node holds now goes back.
    pub fn heartbeat(&self, sender: Identity, request: proto::HeartbeatRequest) -> u64 {
        let version = request.members_version;
        let interval = Duration::from_millis(request.interval_ms).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        let announcement = (version != 0 && request.members.len() <= MEMBERS_MAX).then(|| Announcement {
            interval,
            version,
            members: request.members.into_iter().map(Member::from).collect(),
        });
        // A lost one is followed by the next.
        let _ = self.events.try_send(Event::Heard { sender, announcement });
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

    /// Returns when it does not want more work.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}

impl ClusterView {
    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.leader.as_ref().is_some_and(|leader| Some(leader.id) == self.me.id)
    }

    /// Whether the member leads.
    pub fn is_leader(&self, member: &Member) -> bool {
        self.leader.as_ref().is_some_and(|leader| Some(leader.id) == member.id)
    }
}

impl Default for Clock {
    /// A clock that starts now.
    fn default() -> Self {
        Self { started: Instant::now(), started_at: SystemTime::now() }
    }
}

impl Clock {
    /// The time since it started.
    pub fn now(&self) -> Time {
        self.started.elapsed()
    }

    /// Milliseconds since the Unix epoch at a time of this clock.
    pub fn epoch_ms(&self, time: Time) -> u64 {
        let at = self.started_at + time;
        at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&Identity> for proto::Identity {
    fn from(identity: &Identity) -> Self {
        Self {
            id: identity.id.map(u32::cast_signed),
            name: identity.name.to_string(),
            boot: identity.boot,
            grpc_addr: identity.grpc_addr.to_string(),
            http_addr: identity.http_addr.to_string(),
            version: identity.version.to_string(),
        }
    }
}

/// What a peer calls itself is shown to people and compared: it has bounds.
const IDENTITY_TEXT_MAX: usize = 256;

impl TryFrom<proto::Identity> for Identity {
    type Error = &'static str;

    fn try_from(wire: proto::Identity) -> Result<Self, Self::Error> {
        let texts = [&wire.name, &wire.grpc_addr, &wire.http_addr, &wire.version];
        if wire.name.is_empty() || texts.iter().any(|text| text.len() > IDENTITY_TEXT_MAX) {
            return Err("an identity needs a name, and texts of at most 256 bytes");
        }
        let id = match wire.id.map(u32::try_from) {
            None => None,
            Some(Ok(id)) if id > 0 => Some(id),
            Some(_) => return Err("an id is a whole number from 1 to 2147483647"),
        };
        Ok(Self {
            id,
            name: wire.name.into(),
            boot: wire.boot,
            grpc_addr: wire.grpc_addr.into(),
            http_addr: wire.http_addr.into(),
            version: wire.version.into(),
        })
    }
}

impl From<proto::Member> for Member {
    /// `heard` is the age here, as it was on the wire.
    fn from(wire: proto::Member) -> Self {
        let status = match wire.status() {
            proto::MemberStatus::Alive => Status::Alive,
            proto::MemberStatus::Dead => Status::Dead,
            proto::MemberStatus::Stopped => Status::Stopped,
            proto::MemberStatus::Suspect | proto::MemberStatus::Unspecified => Status::Suspect,
        };
        Self {
            id: wire.id.and_then(|id| u32::try_from(id).ok()),
            name: wire.name.into(),
            boot: None,
            grpc_addr: wire.grpc_addr.into(),
            http_addr: wire.http_addr.into(),
            version: wire.version.into(),
            status,
            since: Time::ZERO,
            heard: wire.last_seen_ms.map(Duration::from_millis),
            figures: Figures { in_flight: wire.in_flight, completed: wire.completed },
        }
    }
}
