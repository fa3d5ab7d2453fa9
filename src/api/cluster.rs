//! The cluster as one node sees it, and its members: as the node holds them, on the wire, and in JSON.

use std::{sync::Arc, time::Duration};

use primacy_election::{Change, Figures, Identity, ListedMember, Member, MemberList, Status, Time};
use serde::Serialize;
use utoipa::ToSchema;

use super::election::{scheme_from_wire, scheme_to_wire};
use crate::{
    clock::{Clock, millis},
    limits::MEMBERS_MAX,
    proto,
    text::is_short,
};

/// The cluster as this node sees it at one moment; immutable.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// Whose view it is.
    pub me: Arc<Identity>,
    /// The clock that its times are of.
    pub clock: Clock,
    /// All members by id, this node included, but for ghosts.
    pub members: Vec<Member>,
    /// Who led when it was composed; [`leader`](Self::leader) says whether that still holds.
    pub leader_when_composed: Option<Leader>,
    /// Until when that holds, if it ends by itself: a node that wakes up may be beyond it before it can say so.
    pub leader_until: Option<Time>,
    /// The last changes, the newest first.
    pub recent: Arc<[Change]>,
    /// Counts the changes.
    pub version: u64,
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

impl ClusterView {
    /// Who leads now; `None` while this node reaches no leader.
    pub fn leader(&self, now: Time) -> Option<&Leader> {
        self.leader_when_composed.as_ref().filter(|_| self.leader_until.is_none_or(|until| now < until))
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.leader(self.clock.now()).is_some_and(|leader| Some(leader.id) == self.me.id)
    }

    /// Whether there is a member that could lead after this node.
    pub fn has_successor(&self) -> bool {
        let is_able = |member: &Member| member.id.is_some() && member.status == Status::Alive;
        self.members.iter().any(|member| is_able(member) && member.id != self.me.id)
    }

    /// A member for the wire; when it was heard, as an age.
    pub fn member_to_wire(&self, member: &Member, now: Time) -> proto::Member {
        let leads = self.leader(now).is_some_and(|leader| Some(leader.id) == member.id);
        proto::Member {
            id: member.id.map(u32::cast_signed),
            name: member.name.to_string(),
            grpc_addr: member.grpc_addr.to_string(),
            http_addr: member.http_addr.to_string(),
            role: if leads { proto::Role::Leader } else { proto::Role::Worker }.into(),
            status: proto::MemberStatus::from(member.status).into(),
            last_seen_ms: member.heard.map(|heard| millis(now.since(heard))),
            in_flight: member.figures.in_flight,
            completed: member.figures.completed,
            version: member.version.to_string(),
            scheme: scheme_to_wire(member.scheme),
            boot: member.boot.unwrap_or_default(),
        }
    }
}

// ── The wire ────────────────────────────────────────────────────────────────────────────────────────────────────

impl From<&ClusterView> for proto::ClusterView {
    fn from(view: &ClusterView) -> Self {
        let clock = view.clock;
        let now = clock.now();
        let recent = view.recent.iter().map(|change| proto::Change {
            at_ms: clock.epoch_ms(change.at),
            name: change.name.to_string(),
            change: change.kind.as_str().to_owned(),
            reason: change.reason.clone(),
            duration_ms: millis(change.duration),
        });
        Self {
            leader: view.leader(now).map(|leader| leader.to_wire(clock)),
            members: view.members.iter().map(|member| view.member_to_wire(member, now)).collect(),
            observed_by: view.me.name.to_string(),
            observed_at_ms: clock.epoch_ms(now),
            recent: recent.collect(),
        }
    }
}

impl Leader {
    /// As people and peers are told of it.
    pub fn to_wire(&self, clock: Clock) -> proto::Leader {
        proto::Leader {
            id: self.id.cast_signed(),
            name: self.name.to_string(),
            counter: self.counter,
            since_ms: clock.epoch_ms(self.since),
        }
    }
}

impl From<Status> for proto::MemberStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Alive => Self::Alive,
            Status::Suspect => Self::Suspect,
            Status::Dead => Self::Dead,
            Status::Stopped => Self::Stopped,
        }
    }
}

impl From<proto::MemberStatus> for Status {
    fn from(wire: proto::MemberStatus) -> Self {
        match wire {
            proto::MemberStatus::Alive => Self::Alive,
            proto::MemberStatus::Dead => Self::Dead,
            proto::MemberStatus::Stopped => Self::Stopped,
            proto::MemberStatus::Suspect | proto::MemberStatus::Unspecified => Self::Suspect,
        }
    }
}

impl From<proto::Member> for ListedMember {
    fn from(wire: proto::Member) -> Self {
        let status = wire.status().into();
        let member = Member {
            id: wire.id.and_then(|id| u32::try_from(id).ok()),
            name: wire.name.into(),
            boot: (wire.boot != 0).then_some(wire.boot),
            advertised: wire.grpc_addr.as_str().into(),
            grpc_addr: wire.grpc_addr.into(),
            http_addr: wire.http_addr.into(),
            version: wire.version.into(),
            scheme: scheme_from_wire(&wire.scheme),
            status,
            since: Time::ZERO,
            heard: None,
            figures: Figures { in_flight: wire.in_flight, completed: wire.completed },
        };
        Self { member, heard_ago: wire.last_seen_ms.map(Duration::from_millis) }
    }
}

/// The list that came with a heartbeat; none if it came without a version, or has more members than a cluster may have.
pub fn member_list_from_wire(version: u64, members: Vec<proto::Member>) -> Option<MemberList> {
    let is_list = version != 0 && members.len() <= MEMBERS_MAX;
    let sound = members.into_iter().filter(is_sound);
    is_list.then(|| MemberList { version, members: sound.map(ListedMember::from).collect() })
}

/// The name of a member that the leader has not met is its address.
fn is_sound(member: &proto::Member) -> bool {
    let texts = [&member.name, &member.grpc_addr, &member.http_addr, &member.version];
    texts.into_iter().all(|text| is_short(text))
}

// ── JSON: made of what is on the wire, because `primacy status` has nothing else ───────────────────────────────

/// The cluster as one node sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "leader": {"id": 4, "name": "leader", "counter": 1, "since": 1_790_000_000_000_u64},
    "members": [{
        "id": 1, "name": "worker1", "grpc_addr": "127.0.0.1:50052", "http_addr": "127.0.0.1:8081",
        "role": "worker", "status": "alive", "last_seen_ms": 42, "in_flight": 0, "completed": 12, "version": "0.1.0",
        "scheme": "http"
    }],
    "observed_by": "leader", "observed_at": 1_790_000_000_000_u64,
    "recent": [
        {"at": 1_790_000_000_000_u64, "name": "leader", "change": "leader", "reason": "the first election", "duration_ms": 25},
        {"at": 1_789_999_999_990_u64, "name": "worker1", "change": "alive", "reason": "its lane is open", "duration_ms": 12}
    ]
}))]
pub struct ClusterAnswer {
    /// Who leads; null while this node reaches no leader.
    leader: Option<LeaderAnswer>,
    /// Every member that this node knows, itself included, by id.
    members: Vec<MemberAnswer>,
    /// The name of the node whose view this is.
    #[schema(example = "leader")]
    observed_by: String,
    /// When, in milliseconds since the Unix epoch, by that node's clock.
    #[schema(example = 1_790_000_000_000_u64)]
    observed_at: u64,
    /// The last changes of members and leaders, the newest first; at most 50.
    recent: Vec<ChangeAnswer>,
}

/// A leadership.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeaderAnswer {
    /// The leader's id.
    #[schema(example = 4, minimum = 1)]
    id: i32,
    /// Its name.
    #[schema(example = "leader")]
    name: String,
    /// The counter of its ballot, which every election and hand-over raises.
    #[schema(example = 1, minimum = 1)]
    counter: u64,
    /// When the observer first followed it, in milliseconds since the Unix epoch.
    #[schema(example = 1_790_000_000_000_u64)]
    since: u64,
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberAnswer {
    /// Its id; null for a node without one, and while it is not yet learnt.
    #[schema(example = 1, minimum = 1)]
    id: Option<i32>,
    /// Its name; its address until the name is learnt.
    #[schema(example = "worker1")]
    name: String,
    /// Where gRPC clients reach it.
    #[schema(example = "127.0.0.1:50052")]
    grpc_addr: String,
    /// Where HTTP clients reach it; empty until learnt.
    #[schema(example = "127.0.0.1:8081")]
    http_addr: String,
    /// What it does.
    role: RoleWord,
    /// How it is doing, as the observer knows it.
    status: StatusWord,
    /// Milliseconds since it was last heard of; null if it never was.
    #[schema(example = 42)]
    last_seen_ms: Option<u64>,
    /// Checks that it holds now.
    #[schema(example = 0)]
    in_flight: u64,
    /// Checks that it has answered since it started.
    #[schema(example = 12)]
    completed: u64,
    /// Its version; empty until learnt.
    #[schema(example = "0.1.0")]
    version: String,
    /// What both of its addresses speak: `http` or `https`; `http` until learnt.
    #[schema(example = "http")]
    scheme: &'static str,
}

/// A change of a member or of the leader.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeAnswer {
    /// When it was seen, in milliseconds since the Unix epoch.
    #[schema(example = 1_790_000_000_000_u64)]
    at: u64,
    /// Whom it happened to.
    #[schema(example = "worker1")]
    name: String,
    /// What it became: `alive`, `suspect`, `dead`, `stopped`, `leader` or `leader lost`.
    #[schema(example = "alive")]
    change: String,
    /// Why, in words; of `leader` such as `took over from worker3: connection refused`.
    #[schema(example = "its lane is open")]
    reason: String,
    /// How long the state before had lasted; of `leader`, how long there was none: 0 for a hand-over.
    #[schema(example = 12)]
    duration_ms: u64,
}

/// What a member does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "worker")]
pub enum RoleWord {
    /// It schedules.
    Leader,
    /// It works.
    Worker,
}

/// How a member is doing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "alive")]
pub enum StatusWord {
    /// Heard of lately.
    Alive,
    /// Not met yet, or silent for three heartbeats, or its lane closed.
    Suspect,
    /// It refuses connections, or was unreachable for ten heartbeats.
    Dead,
    /// It said that it stops.
    Stopped,
}

impl From<proto::ClusterView> for ClusterAnswer {
    fn from(view: proto::ClusterView) -> Self {
        Self {
            leader: view.leader.map(LeaderAnswer::from),
            members: view.members.into_iter().map(MemberAnswer::from).collect(),
            observed_by: view.observed_by,
            observed_at: view.observed_at_ms,
            recent: view.recent.into_iter().map(ChangeAnswer::from).collect(),
        }
    }
}

impl From<proto::Leader> for LeaderAnswer {
    fn from(leader: proto::Leader) -> Self {
        let proto::Leader { id, name, counter, since_ms: since } = leader;
        Self { id, name, counter, since }
    }
}

impl From<proto::Member> for MemberAnswer {
    fn from(member: proto::Member) -> Self {
        Self {
            role: match member.role() {
                proto::Role::Leader => RoleWord::Leader,
                proto::Role::Worker => RoleWord::Worker,
            },
            status: match Status::from(member.status()) {
                Status::Alive => StatusWord::Alive,
                Status::Dead => StatusWord::Dead,
                Status::Stopped => StatusWord::Stopped,
                Status::Suspect => StatusWord::Suspect,
            },
            id: member.id,
            name: member.name,
            grpc_addr: member.grpc_addr,
            http_addr: member.http_addr,
            last_seen_ms: member.last_seen_ms,
            in_flight: member.in_flight,
            completed: member.completed,
            version: member.version,
            scheme: scheme_from_wire(&member.scheme).as_str(),
        }
    }
}

impl From<proto::Change> for ChangeAnswer {
    fn from(change: proto::Change) -> Self {
        let proto::Change { at_ms: at, name, change, reason, duration_ms } = change;
        Self { at, name, change, reason, duration_ms }
    }
}
