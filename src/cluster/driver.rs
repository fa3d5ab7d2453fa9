//! The one task that owns the election: feeds it events and time, performs what it wants, publishes the view.

use std::{collections::BTreeMap, fmt::Display, sync::Arc, time::Duration};

use primacy_election::{
    Change, ChangeKind, DialError, Effect, Election, Identity, Member, Orders, Peer, PeerRequest, Rules,
    Status, Time, TransferError, Wanted, timing,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use super::{
    ClusterConfig, ClusterRequest, Coordinator, Event, IdTaken, Lanes, LinkEvent, Snapshot, TaskView,
    calls::{Call, Reply, Twin},
    etcd::{self, Order},
    introduction::PeerCredentials,
    lane::Lane,
    link::Link,
};
use crate::{
    api::cluster::{ClusterView, Leader},
    clock::Clock,
    limits::{CALLS_MAX, CLUSTER_EVENTS_MAX},
    worker::Worker,
};

pub(super) struct Driver {
    election: Election,
    /// The task that asks etcd who leads; none with Bully.
    etcd: Option<etcd::KeeperHandle>,
    me: Arc<Identity>,
    credentials: PeerCredentials,
    clock: Clock,
    heartbeat: Duration,
    worker: Arc<Worker>,
    events: mpsc::Receiver<Event>,
    to_links: mpsc::Sender<Event>,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    orders: BTreeMap<Peer, watch::Sender<Orders>>,
    lanes: BTreeMap<Peer, Lane>,
    links: JoinSet<()>,
    calls: JoinSet<(Peer, Reply)>,
    /// Looks for the node that is said to have this one's id, and when the last look began.
    twin: JoinSet<Result<IdTaken, DialError>>,
    twin_sought: Option<Time>,
    recent: Arc<[Change]>,
    /// Counts what the heartbeats carry to the others: changes at once, figures every ten heartbeats.
    list_version: u64,
    ticks: u64,
    /// It was said that this node's timers come late.
    told_late: bool,
}

/// What came of a turn of the driver.
enum TurnOutcome {
    News,
    NoNews,
    Died,
    Taken(IdTaken),
}

impl Driver {
    /// A driver that has published its first view, and where the gateway sends what it is asked.
    pub(super) fn new(
        config: ClusterConfig,
        worker: Arc<Worker>,
        clock: Clock,
    ) -> (Self, mpsc::Sender<Event>) {
        let ClusterConfig { me, peers, heartbeat, credentials, coordinator } = config;
        let (me, snapshots) = (Arc::new(me), watch::Sender::new(Arc::default()));
        let mut links = JoinSet::new();
        let (election, etcd) = match coordinator {
            Coordinator::Bully => (Election::bully(&me, &peers, heartbeat, Rules::ALL), None),
            Coordinator::Etcd(access) => {
                let (keeper, handle) = etcd::open(access, Arc::clone(&me), clock, snapshots.subscribe());
                links.spawn(keeper.run());
                (Election::appointed(&me, &peers, heartbeat), Some(handle))
            }
        };
        let (to_links, events) = mpsc::channel(CLUSTER_EVENTS_MAX);
        let driver = Self {
            election,
            etcd,
            // Versions begin at a random number, so that followers never take the list of an earlier process for this
            // one's.
            list_version: me.boot | 1,
            me,
            credentials,
            clock,
            heartbeat,
            worker,
            events,
            to_links: to_links.clone(),
            snapshots,
            orders: BTreeMap::new(),
            lanes: BTreeMap::new(),
            twin: JoinSet::new(),
            twin_sought: None,
            links,
            calls: JoinSet::new(),
            recent: Arc::default(),
            ticks: 0,
            told_late: false,
        };
        driver.publish();
        (driver, to_links)
    }

    /// Runs until the node stops, or must not go on; or until a task of it dies, which none does by itself.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), IdTaken> {
        self.perform();
        while !stop.is_cancelled() {
            match self.turn(&stop).await {
                TurnOutcome::News => {}
                TurnOutcome::NoNews => continue,
                TurnOutcome::Died => break,
                TurnOutcome::Taken(taken) => return Err(taken),
            }
            self.perform();
            self.publish();
            self.look_for_twin();
        }
        self.links.shutdown().await;
        self.calls.shutdown().await;
        Ok(())
    }

    /// Takes in one event, or the time.
    async fn turn(&mut self, stop: &CancellationToken) -> TurnOutcome {
        let due = self.clock.instant(self.election.next_deadline());
        tokio::select! {
            () = stop.cancelled() => {}
            Some(event) = self.events.recv() => return self.handle(event),
            () = sleep_until(due) => self.tick(),
            Some(called) = self.calls.join_next() => match called {
                Ok((peer, reply)) => self.take(peer, reply),
                Err(died) => return has_died(&died),
            },
            Some(looked) = self.twin.join_next() => match looked {
                Ok(Ok(taken)) => return TurnOutcome::Taken(taken),
                Ok(Err(error)) => self.doubt_twin(&error),
                Err(died) => return has_died(&died),
            },
            Some(news) = etcd::KeeperHandle::news(&mut self.etcd) => match news {
                Ok(recognised) => self.election.recognise(self.clock.now(), &recognised),
                Err(died) => return has_died(&died),
            },
            Some(Err(died)) = self.links.join_next() => return has_died(&died),
        }
        TurnOutcome::News
    }

    fn handle(&mut self, event: Event) -> TurnOutcome {
        // Mostly an acknowledgement brings figures alone, which are seen at the next tick.
        let may_be_quiet = matches!(event, Event::Link(_, LinkEvent::Acked { .. }));
        match event {
            Event::Link(peer, event) => self.handle_link(peer, event),
            Event::ClusterRequest(request) => self.handle_request(request),
        }
        if may_be_quiet && !self.election.has_effects() { TurnOutcome::NoNews } else { TurnOutcome::News }
    }

    fn handle_link(&mut self, peer: Peer, event: LinkEvent) {
        let (now, election) = (self.clock.now(), &mut self.election);
        match event {
            LinkEvent::LaneUp { kind, identity, lane } => {
                self.lanes.insert(peer, lane);
                election.lane_up(now, peer, kind, &identity);
            }
            LinkEvent::LaneStopping => election.lane_stopping(now, peer),
            LinkEvent::LaneDown(reason) => {
                self.lanes.remove(&peer);
                election.lane_down(now, peer, reason.as_deref());
            }
            LinkEvent::DialFailed(error) => {
                if election.dial_failed(now, peer, &error)
                    && let Some(member) = election.members().member(peer)
                    && member.status != Status::Stopped
                {
                    match error {
                        DialError::Stranger | DialError::Unproven | DialError::Misled => {
                            tracing::warn!("no lane to {}: {error}", member.grpc_addr)
                        }
                        _ => tracing::info!("no lane to {} yet: {error}", member.grpc_addr),
                    }
                }
            }
            LinkEvent::Acked { figures, judged } => election.acked(now, peer, figures, judged),
        }
    }

    /// The caller may have gone since; then nobody reads the answer.
    fn handle_request(&mut self, request: ClusterRequest) {
        let (now, election) = (self.clock.now(), &mut self.election);
        match request {
            ClusterRequest::Question(sender, is_candidate, reply) => {
                drop(reply.send(election.question(now, &sender, is_candidate)));
            }
            ClusterRequest::Heard(sender, reply) => drop(reply.send(election.heard(now, &sender))),
            ClusterRequest::Claimed(sender, claim, list, reply) => {
                drop(reply.send(election.claimed(now, &sender, &claim, list)));
            }
            ClusterRequest::HandOver(sender, offer, reply) => {
                drop(reply.send(election.hand_over(now, &sender, &offer)));
            }
            ClusterRequest::Transfer(to, reply) => drop(reply.send(self.transfer(&to))),
            ClusterRequest::Stop => {
                election.stop(now);
                let _ = self.order(Order::Stop);
            }
        }
    }

    fn transfer(&mut self, to: &str) -> Result<(), TransferError> {
        let peer = self.election.transfer(self.clock.now(), to)?;
        let boot = self.election.members().member(peer).and_then(|member| member.boot);
        boot.map_or(Ok(()), |boot| self.order(Order::Transfer(boot)))
    }

    /// Tells etcd's task, if there is one.
    fn order(&self, order: Order) -> Result<(), TransferError> {
        self.etcd.as_ref().map_or(Ok(()), |handle| handle.order(order)).map_err(|()| TransferError::Busy)
    }

    fn take(&mut self, peer: Peer, reply: Reply) {
        let (now, election) = (self.clock.now(), &mut self.election);
        match reply {
            Reply::Answered { round, answer, by } => {
                if let Some(by) = by {
                    election.met(peer, &by);
                }
                election.answered(now, peer, round, answer);
            }
            Reply::Judged(judged) => election.judged(now, peer, judged),
            Reply::HandedOver { ballot, accepted } => {
                election.hand_over_answered(now, peer, ballot, accepted);
            }
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.election.own_figures(now, self.worker.figures());
        self.election.tick(now);
        self.tell_lateness();
        self.ticks += 1;
        if self.ticks.is_multiple_of(timing::FIGURES) {
            self.list_version += 1;
        }
    }

    /// Once when timers begin to come late, and once when they come in time again.
    fn tell_lateness(&mut self) {
        let late = self.election.members().lateness();
        if !self.told_late && late >= self.heartbeat {
            self.told_late = true;
            tracing::warn!(
                "timers of this node come late, as on a machine that has too much to do: it waits {late:.0?} longer before it \
                 suspects others; this is {} heartbeats at most",
                timing::LATENESS_MAX
            );
        } else if self.told_late && late <= self.heartbeat / timing::IN_TIME_PARTS {
            self.told_late = false;
            tracing::info!("timers of this node come in time again");
        }
    }

    /// Brings the links in line with what the election wants, and sends what it sends.
    fn perform(&mut self) {
        let members = self.election.members();
        self.orders.retain(|peer, _| members.member(*peer).is_some());
        for peer in self.election.members().peers().collect::<Vec<_>>() {
            let wanted = self.election.members().orders(peer);
            match self.orders.get(&peer) {
                Some(orders) => {
                    orders.send_if_modified(|orders| std::mem::replace(orders, wanted) != wanted);
                }
                None => self.start_link(peer, wanted),
            }
        }
        let mut has_changed = false;
        for effect in self.election.drain_effects() {
            has_changed |= matches!(effect, Effect::Changed(_));
            self.effect(effect);
        }
        if has_changed {
            self.list_version += 1;
            self.recent = self.election.members().recent().cloned().collect();
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, request } => self.call(to, request),
            // When this node stops, the others leave it one by one, which nobody needs to read.
            Effect::Changed(_) if self.election.is_stopping() => {}
            Effect::Changed(change) => log(&change),
            Effect::Refused { node, refusal } => {
                tracing::debug!("{refusal}: {} at {}", node.name, node.grpc_addr);
            }
            Effect::MetTwin(at) => {
                tracing::error!("another node with this one's id is alive at {at}; one of them must go");
            }
        }
    }

    fn start_link(&mut self, peer: Peer, wanted: Orders) {
        let Some(sought) = self.election.members().sought(peer) else { return };
        let (orders, receiver) = watch::channel(wanted);
        let link = Link {
            peer,
            sought,
            me: Arc::clone(&self.me),
            credentials: self.credentials.clone(),
            heartbeat: self.heartbeat,
            clock: self.clock,
            orders: receiver,
            snapshots: self.snapshots.subscribe(),
            events: self.to_links.clone(),
        };
        self.orders.insert(peer, orders);
        self.links.spawn(link.run());
    }

    fn call(&mut self, peer: Peer, request: PeerRequest) {
        let Some(sought) = self.election.members().sought(peer) else { return };
        // Too many calls are open; one that is not sent counts as unanswered.
        if self.calls.len() >= CALLS_MAX {
            return;
        }
        let call = Call {
            peer,
            request,
            me: Arc::clone(&self.me),
            credentials: self.credentials.clone(),
            connection: self
                .lanes
                .get(&peer)
                .filter(|_| self.election.members().is_up(peer))
                .map(Lane::connection),
            sought,
            snapshot: Arc::clone(&self.snapshots.borrow()),
            heartbeat: self.heartbeat,
            asked: self.clock.now(),
        };
        self.calls.spawn(call.run());
    }

    /// A peer says that another node has this one's id: that one is asked itself before this one goes, and not again and
    /// again, because a peer may say anything.
    fn look_for_twin(&mut self) {
        let Some(at) = self.election.taken_by().map(Arc::clone) else { return };
        if !self.twin.is_empty() {
            return;
        }
        let (now, time) = (self.clock.now(), self.heartbeat * timing::TWIN);
        if self.twin_sought.is_some_and(|sought| now < sought + time) {
            return self.election.keep_id();
        }
        self.twin_sought = Some(now);
        let (me, credentials) = (Arc::clone(&self.me), self.credentials.clone());
        let scheme = self.snapshots.borrow().scheme_of(&at);
        self.twin.spawn(Twin { at, me, credentials, scheme, time }.find());
    }

    fn doubt_twin(&mut self, error: &DialError) {
        if let Some(at) = self.election.taken_by() {
            tracing::warn!(
                "a peer says that the node at {at} has the id of this node too, but that address does not confirm it: {error}"
            );
        }
        self.election.keep_id();
    }

    fn publish(&self) {
        self.snapshots.send_replace(Arc::new(self.compose()));
    }

    /// What is known at this moment. Lanes are in it only while their peers may be given work.
    fn compose(&self) -> Snapshot {
        let (now, members) = (self.clock.now(), self.election.members());
        let lane_of = |peer: Peer| self.lanes.get(&peer).filter(|_| members.is_up(peer)).cloned();
        let does_work = |peer: &&Peer| members.orders(**peer).wanted == Wanted::Work;
        let workers = self.lanes.keys().filter(does_work).filter_map(|peer| lane_of(*peer));
        let lanes =
            Lanes { leader: self.election.leading_peer().and_then(lane_of), workers: workers.collect() };
        let (shown, ghosts) = members.shown_and_ghosts();
        let task_view = TaskView {
            ghosts,
            claim: self.election.claim(now),
            list_version: self.list_version,
            adopted_version: members.adopted_version(),
            resignations: self.election.resignations(),
            composed: now,
        };
        Snapshot { view: self.view(shown), lanes, task_view }
    }

    fn view(&self, members: Vec<Member>) -> ClusterView {
        let leader = self.election.leader().map(|(member, ballot, since)| Leader {
            id: ballot.id,
            name: Arc::clone(&member.name),
            counter: ballot.counter,
            since,
        });
        ClusterView {
            me: Arc::clone(&self.me),
            clock: self.clock,
            members,
            leader_when_composed: leader,
            leader_until: self.election.recognised_until(),
            recent: Arc::clone(&self.recent),
            version: self.election.members().changes() + self.election.highest().counter,
        }
    }
}

fn has_died(died: &impl Display) -> TurnOutcome {
    tracing::error!(%died, "a task of the cluster has died");
    TurnOutcome::Died
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
