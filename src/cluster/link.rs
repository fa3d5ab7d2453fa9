//! Keeps the connection to one peer: dials, opens the lane, sends heartbeats, again and again, for as long as the driver
//! wants it.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use primacy_election::{
    Ballot, DialError, Figures, Identity, Judged, Orders, Peer, Sought, Time, Wanted, timing,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Event, LinkEvent, Snapshot,
    introduction::{Introduction, PeerCredentials, introduce},
    lane::{Lane, LaneEnd, LaneTask},
    token::TokenValue,
};
use crate::{
    api::election::verdict_from_wire,
    clock::{Clock, millis},
    limits::{DEADLINE_MAX, PEER_MESSAGE_BYTES_MAX, RETIRING_LANES_MAX},
    proto::{self, worker_client::WorkerClient},
};

pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) sought: Sought,
    pub(super) me: Arc<Identity>,
    pub(super) credentials: PeerCredentials,
    pub(super) heartbeat: Duration,
    pub(super) clock: Clock,
    /// What the driver wants.
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) events: mpsc::Sender<Event>,
}

/// How long to wait before the next dial.
#[derive(Debug, Clone, Copy)]
struct Pause {
    wait: Duration,
    /// A lane broke as soon as it was open, and was dialled at once: the next time that waits.
    was_brief: bool,
}

/// A lane that is open, and what runs it.
struct OpenLane {
    lane: Lane,
    task: LaneTask,
    identity: Identity,
    /// What it rests on; nothing without a token.
    rests_on: Option<TokenValue>,
}

type Running = std::pin::Pin<Box<dyn Future<Output = LaneEnd> + Send>>;

impl Link {
    /// Runs until the driver drops its orders: the node stops, or the peer is no member any more.
    pub(super) async fn run(mut self) {
        let mut pause = Pause { wait: Duration::ZERO, was_brief: false };
        let mut retiring = JoinSet::new();
        loop {
            let orders = *self.orders.borrow_and_update();
            let goes_on = match orders.wanted {
                Wanted::Off => {
                    self.orders.changed().await.map(|()| Pause { wait: Duration::ZERO, ..pause }).ok()
                }
                Wanted::Work | Wanted::Schedule => self.live(orders, pause, &mut retiring).await,
            };
            let Some(next) = goes_on else { return };
            pause = next;
            while retiring.try_join_next().is_some() {}
        }
    }

    /// One connection, from the dial to the end of its lane; returns the pause before the next, or nothing when
    /// the driver is gone.
    async fn live(&self, before: Orders, pause: Pause, retiring: &mut JoinSet<()>) -> Option<Pause> {
        let mut orders = self.orders.clone();
        let wanted = before.wanted;
        let began = Instant::now();
        let is_connected = AtomicBool::new(false);
        let mut dialling = pin!(self.dial_after(pause.wait, wanted, &is_connected));
        let dialled = loop {
            tokio::select! {
                biased;
                changed = orders.changed() => {
                    changed.ok()?;
                    let now = *orders.borrow();
                    // When a peer dials this node, that is a hint to dial it too. The hint restarts a dial only if that
                    // has run for a heartbeat and has no connection: otherwise two nodes could restart each other's
                    // dials for ever.
                    let dials_for = began.elapsed().checked_sub(pause.wait);
                    let heeds_hints =
                        !is_connected.load(Relaxed) && dials_for.is_none_or(|time| time >= self.heartbeat);
                    if before.are_ended_by(&now) || (now.reconnect_hints != before.reconnect_hints && heeds_hints) {
                        return Some(Pause { wait: Duration::ZERO, ..pause });
                    }
                }
                dialled = &mut dialling => break dialled,
            }
        };
        let longer = (pause.wait * 2).clamp(self.heartbeat, self.heartbeat * timing::DIAL_MAX);
        let open = match dialled {
            Ok(opened) => opened,
            Err(error) => {
                // The pause is measured between the starts of dials, so the time of this one is subtracted.
                let took = began.elapsed().saturating_sub(pause.wait);
                self.tell(LinkEvent::DialFailed(error)).await?;
                return Some(Pause { wait: longer.saturating_sub(took), was_brief: false });
            }
        };
        let (identity, lane) = (open.identity.clone(), open.lane.clone());
        self.tell(LinkEvent::LaneUp { kind: wanted, identity, lane }).await?;
        let opened = Instant::now();
        let reason = self.serve(before, open, orders, retiring).await;
        // A lane that ends is dialled again at once; one that breaks as soon as it opens, only once.
        let was_brief = reason.is_some() && opened.elapsed() < self.heartbeat * timing::DIAL_MAX;
        self.tell(LinkEvent::LaneDown(reason)).await?;
        let wait = if was_brief && pause.was_brief { longer } else { Duration::ZERO };
        Some(Pause { wait, was_brief })
    }

    async fn tell(&self, event: LinkEvent) -> Option<()> {
        self.events.send(Event::Link(self.peer, event)).await.ok()
    }

    async fn dial_after(
        &self,
        pause: Duration,
        wanted: Wanted,
        is_connected: &AtomicBool,
    ) -> Result<OpenLane, DialError> {
        sleep(pause).await;
        self.dial(wanted, is_connected).await
    }

    async fn dial(&self, wanted: Wanted, is_connected: &AtomicBool) -> Result<OpenLane, DialError> {
        let time = self.heartbeat * timing::DIAL_MAX;
        let opened = async {
            let snapshot = Arc::clone(&self.snapshots.borrow());
            let address = &self.sought.address;
            let channel = self.credentials.connect(address, snapshot.scheme_of(address), time).await?;
            is_connected.store(true, Relaxed);
            let Introduction { connection, proven } =
                introduce(channel, &self.credentials.token, &self.sought, &snapshot).await?;
            let (lane, task, says) = Lane::open(connection, wanted, &self.me).await?;
            let (identity, rests_on) = match proven {
                Some((identity, value)) => (identity, Some(value)),
                None => (says, None),
            };
            Ok(OpenLane { lane, task, identity, rests_on })
        };
        timeout(time, opened).await.map_err(|_| DialError::TimedOut)?
    }

    /// Runs the lane to its end, or until other orders than those before its dial end it, or the token changes; returns
    /// why it ended by itself.
    async fn serve(
        &self,
        before: Orders,
        OpenLane { lane, task, rests_on, .. }: OpenLane,
        mut orders: watch::Receiver<Orders>,
        retiring: &mut JoinSet<()>,
    ) -> Option<String> {
        let (events, peer) = (self.events.clone(), self.peer);
        let on_stopping = move || {
            // If the channel is full this event is lost; `LaneDown` tells the driver later.
            let _ = events.try_send(Event::Link(peer, LinkEvent::LaneStopping));
        };
        let (watched, heartbeat) = (lane.clone(), self.heartbeat);
        let mut running: Running = Box::pin(async move {
            tokio::select! {
                biased;
                end = task.run(on_stopping) => end,
                end = watched.watch(heartbeat) => end,
            }
        });
        let is_other = |orders: &Orders| before.are_ended_by(orders);
        let redials = tokio::select! {
            end = &mut running => return Some(end.to_string()),
            () = self.send_heartbeats(before.wanted, &lane) => return None,
            () = superseded(rests_on.as_ref()) => false,
            changed = orders.wait_for(is_other) => changed.is_ok_and(|orders| orders.redials != before.redials),
        };
        // A peer that is not suspected may finish what it holds; the lane is watched until then, without heartbeats of
        // this node.
        if !redials && retiring.len() < RETIRING_LANES_MAX {
            lane.retire();
            retiring.spawn(async move { drop(timeout(DEADLINE_MAX, running).await) });
        }
        None
    }

    /// To everybody but the leader, who sends its own.
    async fn send_heartbeats(&self, wanted: Wanted, lane: &Lane) {
        if wanted == Wanted::Schedule {
            return std::future::pending().await;
        }
        let mut client =
            WorkerClient::new(lane.connection()).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let mut orders = self.orders.clone();
        let mut their_version = 0;
        let mut sent = None;
        while Self::is_due(&mut orders, sent).await {
            sent = Some(Instant::now());
            let asked = self.clock.now();
            let (request, ballot) = self.heartbeat_request(asked, their_version);
            let answer = timeout(self.heartbeat * timing::DIAL_MAX, client.heartbeat(request)).await;
            // A missed heartbeat is no event: the members are judged by when they were last heard.
            let Ok(Ok(response)) = answer else { continue };
            lane.hear();
            let response = response.into_inner();
            their_version = response.members_version;
            let figures = Figures { in_flight: response.in_flight, completed: response.completed };
            let judged = ballot.zip(verdict_from_wire(response.verdict));
            let judged = judged.map(|(ballot, verdict)| Judged { asked, ballot, verdict });
            if self.tell(LinkEvent::Acked { figures, judged }).await.is_none() {
                return;
            }
        }
    }

    /// Waits until the next heartbeat is due, however their interval changes meanwhile; false when the driver is gone.
    async fn is_due(orders: &mut watch::Receiver<Orders>, sent: Option<Instant>) -> bool {
        let Some(sent) = sent else { return true };
        loop {
            let due = sent + orders.borrow_and_update().interval;
            tokio::select! {
                () = sleep_until(due) => return true,
                changed = orders.changed() => if changed.is_err() { return false },
            }
        }
    }

    fn heartbeat_request(&self, now: Time, their_version: u64) -> (proto::HeartbeatRequest, Option<Ballot>) {
        let snapshot = self.snapshots.borrow();
        let task_view = &snapshot.task_view;
        let claim = task_view.claim.as_ref().filter(|_| snapshot.view.leader(now).is_some());
        let claim = claim.map(|claim| claim.told_at(now, task_view.composed));
        let (leads, ballot) = (claim.is_some(), claim.as_ref().map(|claim| claim.ballot));
        let changed = leads && their_version != task_view.list_version;
        let request = proto::HeartbeatRequest {
            worker_id: self.me.name.to_string(),
            sender: Some((&*self.me).into()),
            interval_ms: millis(self.heartbeat),
            members_version: if leads { task_view.list_version } else { 0 },
            members: if changed { snapshot.members_to_wire(now) } else { Vec::new() },
            claim: claim.as_ref().map(Into::into),
        };
        (request, ballot)
    }
}

async fn superseded(value: Option<&TokenValue>) {
    match value {
        Some(value) => value.superseded().await,
        None => std::future::pending().await,
    }
}
