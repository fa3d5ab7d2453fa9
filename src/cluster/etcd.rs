//! etcd tells who is there and who leads.
//!
//! ```text
//!                 lists, then watches /primacy/           one call at a time, each with its deadline
//!   etcd ───────────────▶ Watcher ──news──▶ LeaseKeeper ▷ LeaseState (pure) ──────────────▶ etcd
//!                                             │  ▲
//!                           watch<Recognised> ▼  │ orders, and the view: who is fit
//!                                             driver
//! ```
//! What this node is told of the leader holds for as long as its own lease: by its own clock, from when the renewal was
//! sent, less a margin. Without etcd there is no leader, and every node schedules over those that it knows.

mod client;
mod connection;
pub mod wire;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use primacy_election::{
    Identity, Member, Recognised, Status, Time,
    lease::{Fit, LeaseState, News, Next, Step, StepFailure, StepOutcome},
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};
use tonic::Code;

use super::Snapshot;
use crate::{
    clock::Clock,
    limits::{ETCD_ENDPOINTS_MAX, ETCD_NEWS_MAX, ETCD_PAUSE, ETCD_TIMEOUT, LEASE_TTL},
    proto::etcd::etcdserverpb::WatchResponse,
    text::plain,
};
use client::{EtcdClient, EtcdError};
use connection::EtcdConnection;

pub use connection::{Access, EtcdTls};
pub(super) use primacy_election::lease::Order;

/// The driver's side.
pub(super) struct KeeperHandle {
    recognised: watch::Receiver<Recognised>,
    orders: mpsc::Sender<Order>,
}

/// The task that holds the lease.
pub(super) struct LeaseKeeper {
    lease_state: LeaseState,
    me: Arc<Identity>,
    client: Arc<EtcdClient>,
    clock: Clock,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    orders: mpsc::Receiver<Order>,
    recognised: watch::Sender<Recognised>,
    /// At most one.
    calls: JoinSet<(Time, Step, Result<StepOutcome, EtcdError>)>,
    /// What went wrong since something went well, as it was logged: each endpoint has troubles of its own.
    troubles: BTreeSet<String>,
}

/// The task that holds the lease has ended, which it does not by itself.
#[derive(Debug, thiserror::Error)]
#[error("the task that holds the lease has ended")]
pub(super) struct KeeperDied;

/// Tells what etcd stores, again and again from where it was broken off.
struct Watcher {
    client: Arc<EtcdClient>,
    news: mpsc::Sender<News>,
    /// It was not permitted to, and that was logged.
    is_forbidden: bool,
}

/// Orders that wait: a stop, and a transfer or two.
const ORDERS_MAX: usize = 4;

/// Troubles that are logged before something goes well again: some of each endpoint.
const TROUBLES_MAX: usize = 4 * ETCD_ENDPOINTS_MAX;

/// What goes on between the driver and etcd.
pub(super) fn open(
    access: Access,
    me: Arc<Identity>,
    clock: Clock,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> (LeaseKeeper, KeeperHandle) {
    let (to_keeper, orders) = mpsc::channel(ORDERS_MAX);
    let recognised = watch::Sender::new(Recognised::default());
    // What a node draws follows from the number of its process, as in the election.
    let random = StdRng::seed_from_u64(me.boot);
    let handle = KeeperHandle { recognised: recognised.subscribe(), orders: to_keeper };
    let keeper = LeaseKeeper {
        lease_state: LeaseState::new(Arc::clone(&me)),
        me,
        client: Arc::new(EtcdClient::new(access, random)),
        clock,
        snapshots,
        orders,
        recognised,
        calls: JoinSet::new(),
        troubles: BTreeSet::new(),
    };
    (keeper, handle)
}

impl KeeperHandle {
    /// The next that etcd says, or that the task has died; nothing without etcd.
    pub(super) async fn news(handle: &mut Option<Self>) -> Option<Result<Recognised, KeeperDied>> {
        let recognised = &mut handle.as_mut()?.recognised;
        let changed = recognised.changed().await;
        Some(changed.map(|()| recognised.borrow_and_update().clone()).map_err(|_| KeeperDied))
    }

    pub(super) fn order(&self, order: Order) -> Result<(), ()> {
        self.orders.try_send(order).map_err(|_| ())
    }
}

impl LeaseKeeper {
    /// Runs until the driver is gone, or a task of its own has died; the driver hears of that.
    pub(super) async fn run(mut self) {
        let (to_keeper, mut news) = mpsc::channel(ETCD_NEWS_MAX);
        let mut heard = Vec::with_capacity(ETCD_NEWS_MAX);
        let mut watching = JoinSet::new();
        let client = Arc::clone(&self.client);
        watching.spawn(Watcher { client, news: to_keeper, is_forbidden: false }.run());
        loop {
            let wait = self.begin_next();
            self.publish();
            tokio::select! {
                // What comes together is made one list of.
                1.. = news.recv_many(&mut heard, ETCD_NEWS_MAX) => {
                    let now = self.clock.now();
                    heard.drain(..).for_each(|news| self.lease_state.hear(now, news));
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.lease_state.order(order),
                    None => return,
                },
                Some(called) = self.calls.join_next() => {
                    let Ok((sent, step, result)) = called else { return };
                    self.take(sent, &step, result);
                }
                Some(_) = watching.join_next() => return,
                () = sleep_until(wait) => {}
            }
        }
    }

    /// Begins the next step, if none is on its way; returns until when to wait for events.
    fn begin_next(&mut self) -> tokio::time::Instant {
        let now = self.clock.now();
        if !self.calls.is_empty() {
            return self.clock.instant(now + ETCD_TIMEOUT);
        }
        match self.lease_state.next(now, &self.fit()) {
            Next::WaitUntil(time) => self.clock.instant(time),
            Next::Do(step) => {
                let (me, client, snapshots) =
                    (Arc::clone(&self.me), Arc::clone(&self.client), self.snapshots.clone());
                let resignation = self.lease_state.resignations();
                self.calls.spawn(async move {
                    let result = perform(&step, &me, &client, snapshots, resignation).await;
                    (now, step, result)
                });
                self.clock.instant(now + ETCD_TIMEOUT)
            }
        }
    }

    fn publish(&self) {
        let recognised = self.lease_state.recognised(self.clock.now());
        self.recognised.send_if_modified(|before| {
            let is_news = *before != recognised;
            *before = recognised;
            is_news
        });
    }

    fn take(&mut self, sent: Time, step: &Step, result: Result<StepOutcome, EtcdError>) {
        self.log(step, result.as_ref().err());
        let result = result.map_err(|error| match error {
            EtcdError::Refused(_, Code::NotFound) => StepFailure::LeaseGone,
            EtcdError::Refused(_, Code::PermissionDenied | Code::ResourceExhausted) => StepFailure::Refused,
            EtcdError::Refused(..)
            | EtcdError::Unreached(..)
            | EtcdError::Ended(..)
            | EtcdError::TimedOut => StepFailure::Unknown,
        });
        self.lease_state.take(self.clock.now(), sent, step, result);
    }

    /// Each trouble once, and its end.
    fn log(&mut self, step: &Step, error: Option<&EtcdError>) {
        let Some(error) = error else {
            match self.troubles.is_empty() {
                true => tracing::debug!("etcd has done as asked ({step})"),
                false => tracing::info!("calls to etcd succeed again"),
            }
            return self.troubles.clear();
        };
        if self.troubles.len() < TROUBLES_MAX && self.troubles.insert(error.to_string()) {
            tracing::warn!("a call to etcd failed ({step}): {error}");
        }
    }

    /// The candidates that are alive; of the leader's own view, which hears their heartbeats.
    fn fit(&self) -> Vec<Fit> {
        let view = &self.snapshots.borrow().view;
        let is_fit = |member: &&Member| member.id.is_some() && member.status == Status::Alive;
        let fit = view.members.iter().filter(is_fit);
        fit.filter_map(|member| Some(Fit { boot: member.boot?, since: member.since })).collect()
    }
}

async fn perform(
    step: &Step,
    me: &Identity,
    client: &EtcdClient,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    resignation: u64,
) -> Result<StepOutcome, EtcdError> {
    match step {
        Step::Grant => {
            let granted = client.grant(LEASE_TTL).await?;
            let ttl = Duration::from_secs(granted.ttl.max(1).cast_unsigned());
            Ok(StepOutcome::Granted { lease: granted.id, ttl })
        }
        Step::Register { lease } => {
            client.put(wire::registration(me, *lease)).await.map(|()| StepOutcome::Registered)
        }
        Step::Renew { lease } => {
            let (ttl, read) = client.renew(*lease, wire::who_leads()).await?;
            Ok(StepOutcome::Renewed { ttl, told: wire::told(read) })
        }
        Step::Campaign { lease } => {
            let (request, holder) = wire::campaign(me, *lease);
            Ok(StepOutcome::Told(wire::told_by_txn(client.txn(request).await?, holder)))
        }
        Step::HandOver { mine, to } => {
            stands_down(&mut snapshots, resignation).await?;
            let request = wire::hand_over(*mine, to);
            Ok(StepOutcome::Told(wire::told_by_txn(client.txn(request).await?, to.clone())))
        }
        Step::Revoke { lease } => {
            stands_down(&mut snapshots, resignation).await?;
            client.revoke(*lease).await.map(|()| StepOutcome::Revoked)
        }
    }
}

/// Waits until this node no longer calls itself leader; only then the next one may. A view from before the resignation
/// does not count: the driver may be about to publish that this node leads.
async fn stands_down(
    snapshots: &mut watch::Receiver<Arc<Snapshot>>,
    resignation: u64,
) -> Result<(), EtcdError> {
    let stands_down =
        |snapshot: &Arc<Snapshot>| snapshot.task_view.resignations >= resignation && !snapshot.view.leads();
    let stood_down = timeout(ETCD_TIMEOUT, snapshots.wait_for(stands_down)).await;
    stood_down.map_err(|_| EtcdError::TimedOut)?.map(drop).map_err(|_| EtcdError::TimedOut)
}

impl Watcher {
    /// Runs until nobody reads its news.
    async fn run(mut self) {
        let mut from = None;
        while !self.news.is_closed() {
            match self.follow(from).await {
                Ok(next) => from = next,
                Err(error) => {
                    self.log(&error);
                    sleep(ETCD_PAUSE).await;
                }
            }
        }
    }

    /// What else fails for the watch fails for the lease too, and is logged there.
    fn log(&mut self, error: &EtcdError) {
        let is_forbidden = matches!(error, EtcdError::Refused(_, Code::PermissionDenied));
        if is_forbidden && !self.is_forbidden {
            tracing::warn!("a call to etcd failed (list and watch /primacy/): {error}");
        } else {
            tracing::debug!("the watch of etcd has ended: {error}");
        }
        self.is_forbidden |= is_forbidden;
    }

    /// Lists if it does not know from where to watch; then watches until that ends. Returns from where to go on;
    /// nothing if what happened since is lost.
    async fn follow(&mut self, from: Option<i64>) -> Result<Option<i64>, EtcdError> {
        let mut next = match from {
            Some(next) => next,
            None => {
                let listed = self.client.range(wire::everything()).await?;
                let (news, revision) = wire::listed(listed);
                let _ = self.news.send(news).await;
                wire::after(revision)
            }
        };
        let mut watch = self.client.watch(wire::changes_from(next)).await?;
        loop {
            let answer = tokio::select! {
                answer = watch.answers.message() => answer,
                () = watch.connection.left.cancelled() => return Ok(Some(next)),
                () = self.news.closed() => return Ok(None),
            };
            let Ok(Some(answer)) = answer else {
                self.broken(&watch.connection).await;
                return Ok(Some(next));
            };
            if answer.compact_revision > 0 {
                return Ok(None);
            }
            if answer.canceled {
                tracing::debug!("etcd has cancelled the watch: {}", plain(&answer.cancel_reason));
                self.broken(&watch.connection).await;
                return Ok(Some(next));
            }
            if answer.created && answer.header.is_some_and(|header| wire::after(header.revision) < next) {
                tracing::error!(
                    "etcd's revisions went back: it has lost its data, or an older state was restored"
                );
                sleep(ETCD_PAUSE).await;
                return Ok(None);
            }
            self.is_forbidden = false;
            next = next.max(self.tell(answer).await);
        }
    }

    /// Another endpoint may do better.
    async fn broken(&self, connection: &EtcdConnection) {
        self.client.leave(connection);
        sleep(ETCD_PAUSE).await;
    }

    /// Returns from where to go on.
    async fn tell(&self, answer: WatchResponse) -> i64 {
        let mut next = 0;
        for event in answer.events {
            next = next.max(wire::after(wire::revision(&event)));
            if let Some(news) = wire::news(event) {
                let _ = self.news.send(news).await;
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::TaskView;

    #[tokio::test(start_paused = true)]
    async fn who_resigns_waits_until_the_view_knows_it() {
        let snapshots = watch::Sender::new(Arc::new(Snapshot::default()));
        let mut seen = snapshots.subscribe();
        assert!(
            stands_down(&mut seen, 1).await.is_err(),
            "what the driver does meanwhile is not in this view"
        );
        let task_view = TaskView { resignations: 1, ..TaskView::default() };
        snapshots.send_replace(Arc::new(Snapshot { task_view, ..Snapshot::default() }));
        assert!(stands_down(&mut seen, 1).await.is_ok());
    }
}
