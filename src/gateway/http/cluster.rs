//! `GET /cluster`.

use std::sync::Arc;

use axum::{Json, extract::State, http::header, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::problems::ViewProblems;
use crate::{gateway::Gateway, proto};

/// The cluster as one node sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "leader": {"id": 4, "name": "leader", "counter": 1, "since": 1_790_000_000_000_u64},
    "members": [{
        "id": 1, "name": "worker1", "grpc_addr": "127.0.0.1:50052", "http_addr": "127.0.0.1:8081",
        "role": "worker", "status": "alive", "last_seen_ms": 42, "in_flight": 0, "completed": 12, "version": "0.1.0"
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

/// Who is there, and who leads?
#[utoipa::path(
    get, path = "/cluster", tag = "cluster", operation_id = "getCluster",
    responses(
        (status = 200, description = "The cluster as this node sees it", body = ClusterAnswer),
        ViewProblems,
    )
)]
pub async fn get_cluster(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    let answer = ClusterAnswer::from(proto::ClusterView::from(&**gateway.cluster.view()));
    ([(header::CACHE_CONTROL, "no-store")], Json(answer))
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
            status: match member.status() {
                proto::MemberStatus::Alive => StatusWord::Alive,
                proto::MemberStatus::Dead => StatusWord::Dead,
                proto::MemberStatus::Stopped => StatusWord::Stopped,
                proto::MemberStatus::Suspect | proto::MemberStatus::Unspecified => StatusWord::Suspect,
            },
            id: member.id,
            name: member.name,
            grpc_addr: member.grpc_addr,
            http_addr: member.http_addr,
            last_seen_ms: member.last_seen_ms,
            in_flight: member.in_flight,
            completed: member.completed,
            version: member.version,
        }
    }
}

impl From<proto::Change> for ChangeAnswer {
    fn from(change: proto::Change) -> Self {
        let proto::Change { at_ms: at, name, change, reason, duration_ms } = change;
        Self { at, name, change, reason, duration_ms }
    }
}
