//! The one task that owns the membership: feeds it events and time, performs its commands, publishes the view.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    Clock, ClusterView, Event, Identity, Leader,
    lane::Lane,
    link::{Link, Orders},
    membership::{Change, ChangeKind, Command, Membership, Peer, Status, Wanted},
};
use crate::{proto, worker::Worker};

pub(super) struct Driver {
    pub(super) membership: Membership,
    pub(super) me: Arc<Identity>,
    pub(super) clock: Clock,
    pub(super) heartbeat: Duration,
    pub(super) worker: Arc<Worker>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) view: watch::Sender<Arc<ClusterView>>,
    pub(super) orders: BTreeMap<Peer, watch::Sender<Orders>>,
    pub(super) knocks: BTreeMap<Peer, Arc<Notify>>,
    pub(super) lanes: BTreeMap<Peer, Lane>,
    pub(super) links: JoinSet<()>,
    /// Where the peers are dialled, as configured.
    pub(super) addresses: Vec<Arc<str>>,
    pub(super) recent: Arc<[Change]>,
    /// Counts what the heartbeats carry to the others: changes at once, figures every ten heartbeats.
    pub(super) list_version: u64,
    pub(super) ticks: u64,
}

/// Heartbeats between two refreshments of the figures in the member list.
const FIGURES_HEARTBEATS: u64 = 10;

impl Driver {
    /// Runs until the node stops, or until a link dies, which none does by itself.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut ticker = interval(self.heartbeat);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = self.events.recv() => {
                    // What an acknowledgement brings is seen at the next tick.
                    let is_news = !matches!(event, Event::Acked { .. });
                    self.handle(event);
                    if !is_news {
                        continue;
                    }
                }
                _ = ticker.tick() => self.tick(),
                Some(ended) = self.links.join_next() => {
                    tracing::error!(?ended, "a link has died");
                    break;
                }
            }
            self.perform();
            self.publish();
        }
        self.links.shutdown().await;
    }

    /// Starts a link a peer; each waits for its orders.
    pub(super) fn start_links(&mut self, events: &mpsc::Sender<Event>) {
        for (peer, address) in self.membership.peers().zip(&self.addresses) {
            let wanted = self.membership.wanted(peer);
            let (orders, receiver) = watch::channel(Orders { wanted, attempt: 0 });
            let knocks = Arc::new(Notify::new());
            let link = Link {
                peer,
                knocks: Arc::clone(&knocks),
                address: Arc::clone(address),
                me: Arc::clone(&self.me),
                heartbeat: self.heartbeat,
                orders: receiver,
                view: self.view.subscribe(),
                events: events.clone(),
            };
            self.orders.insert(peer, orders);
            self.knocks.insert(peer, knocks);
            self.links.spawn(link.run());
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::LaneUp { peer, kind, identity, lane } => {
                self.lanes.insert(peer, lane);
                self.membership.lane_up(now, peer, kind, &identity);
            }
            Event::LaneStopping { peer } => self.membership.lane_stopping(now, peer),
            Event::LaneDown { peer, reason } => {
                self.lanes.remove(&peer);
                self.membership.lane_down(now, peer, reason.as_deref());
            }
            Event::DialFailed { peer, error } => {
                let reason = error.to_string();
                if self.membership.dial_failed(now, peer, error) {
                    tracing::info!("no lane to {} yet: {reason}", self.addresses[peer.0]);
                }
            }
            Event::Acked { peer, figures } => self.membership.acked(now, peer, figures),
            Event::Heard { sender, announcement } => {
                self.membership.heard(now, &sender, announcement.as_ref());
            }
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.membership.own_figures(now, self.worker.figures());
        self.membership.tick(now);
        self.ticks += 1;
        if self.ticks.is_multiple_of(FIGURES_HEARTBEATS) {
            self.list_version += 1;
        }
    }

    fn perform(&mut self) {
        for command in self.membership.drain_commands() {
            match command {
                Command::Redial(peer) => self.orders[&peer].send_modify(|orders| orders.attempt += 1),
                Command::Knock(peer) => self.knocks[&peer].notify_one(),
            }
        }
        for (&peer, orders) in &self.orders {
            let wanted = self.membership.wanted(peer);
            orders.send_if_modified(|orders| {
                let changed = orders.wanted != wanted;
                orders.wanted = wanted;
                changed
            });
        }
        let changes = self.membership.drain_changes();
        if !changes.is_empty() {
            self.list_version += 1;
            self.recent = self.membership.recent().cloned().collect();
        }
        changes.iter().for_each(log);
    }

    pub(super) fn publish(&self) {
        self.view.send_replace(Arc::new(self.compose()));
    }

    /// The view of this moment. Lanes are in it only while their peers may be given work.
    fn compose(&self) -> ClusterView {
        let leading = self.membership.leading_peer();
        let usable = |peer: &Peer| self.membership.is_up(*peer);
        let lane_of = |peer: Peer| self.lanes.get(&peer).filter(|_| usable(&peer)).cloned();
        let does_work = |peer: &&Peer| self.membership.wanted(**peer) == Wanted::Work;
        let workers = self.lanes.keys().filter(does_work).filter_map(|peer| lane_of(*peer));
        let leader = self.membership.leader().map(|(member, since)| Leader {
            id: member.id.unwrap_or_default(),
            name: Arc::clone(&member.name),
            counter: 0,
            since,
        });
        ClusterView {
            me: Arc::clone(&self.me),
            clock: self.clock,
            members: self.membership.members(),
            leader,
            leader_lane: leading.and_then(lane_of),
            workers: workers.collect(),
            recent: Arc::clone(&self.recent),
            version: self.membership.version(),
            list_version: self.list_version,
            adopted_version: self.membership.adopted_version(),
        }
    }
}

/// The seed's words stay to be found: "Worker worker2 is DEAD".
fn log(change: &Change) {
    let Change { name, kind, reason, .. } = change;
    match kind {
        ChangeKind::Status(Status::Alive) => tracing::info!("Worker {name} is alive ({reason})"),
        ChangeKind::Status(Status::Suspect) => tracing::warn!("Worker {name} is suspect ({reason})"),
        ChangeKind::Status(Status::Dead | Status::Stopped) => {
            tracing::warn!("Worker {name} is DEAD ({reason})");
        }
        ChangeKind::Leads => tracing::info!("{name} leads ({reason})"),
        ChangeKind::LeaderLost => {
            tracing::warn!("Leader {name} is lost ({reason}); every node schedules for itself meanwhile");
        }
    }
}

impl ClusterView {
    /// The member list as heartbeats and watchers carry it; what was heard, as its age.
    pub fn members_to_wire(&self) -> Vec<proto::Member> {
        let now = self.clock.now();
        self.members.iter().map(|member| self.member_to_wire(member, now)).collect()
    }

    fn member_to_wire(&self, member: &super::Member, now: Duration) -> proto::Member {
        let status = match member.status {
            Status::Alive => proto::MemberStatus::Alive,
            Status::Suspect => proto::MemberStatus::Suspect,
            Status::Dead => proto::MemberStatus::Dead,
            Status::Stopped => proto::MemberStatus::Stopped,
        };
        let role = if self.is_leader(member) { proto::Role::Leader } else { proto::Role::Worker };
        proto::Member {
            id: member.id.map(u32::cast_signed),
            name: member.name.to_string(),
            grpc_addr: member.grpc_addr.to_string(),
            http_addr: member.http_addr.to_string(),
            role: role.into(),
            status: status.into(),
            last_seen_ms: member.heard.map(|heard| super::millis(now.saturating_sub(heard))),
            in_flight: member.figures.in_flight,
            completed: member.figures.completed,
            version: member.version.to_string(),
        }
    }
}
