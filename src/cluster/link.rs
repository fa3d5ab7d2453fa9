//! The road to one peer: dial, lane, heartbeats; again and again, for as long as the driver wants it.

use std::{error::Error, io, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

use super::{
    ClusterView, Event, Identity, innermost,
    lane::{Lane, LaneDriver},
    membership::{DialError, Peer, Wanted},
};
use crate::{
    limits::{DRAIN, HEAD_BYTES_MAX, PEER_MESSAGE_BYTES_MAX, PING_INTERVAL, PING_TIMEOUT},
    proto::{HeartbeatRequest, worker_client::WorkerClient},
    worker::Figures,
};

/// What the driver wants of a link; any change makes it close what is open and begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) wanted: Wanted,
    /// Counted up to have an open lane closed and the peer dialled at once.
    pub(super) attempt: u64,
}

pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) address: Arc<str>,
    pub(super) me: Arc<Identity>,
    pub(super) heartbeat: Duration,
    pub(super) orders: watch::Receiver<Orders>,
    /// The peer was heard of: no need to wait for the next dial.
    pub(super) knocks: Arc<Notify>,
    pub(super) view: watch::Receiver<Arc<ClusterView>>,
    pub(super) events: mpsc::Sender<Event>,
}

/// Dials are at most this many heartbeats apart, and take at most as long.
const DIAL_HEARTBEATS_MAX: u32 = 10;

impl Link {
    /// Runs until the driver is gone.
    pub(super) async fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            let wanted = self.orders.borrow_and_update().wanted;
            let goes_on = match wanted {
                Wanted::Off => self.orders.changed().await.map(|()| Duration::ZERO).ok(),
                wanted => self.live(wanted, pause).await,
            };
            let Some(next) = goes_on else { return };
            pause = next;
        }
    }

    /// One life of the road, from the dial to the end of the lane; returns the pause before the next, or nothing when
    /// the driver is gone.
    async fn live(&self, wanted: Wanted, pause: Duration) -> Option<Duration> {
        let mut orders = self.orders.clone();
        let dialled = tokio::select! {
            biased;
            changed = orders.changed() => return changed.ok().map(|()| Duration::ZERO),
            dialled = self.dial_after(pause, wanted) => dialled,
        };
        let longer = (pause * 2).clamp(self.heartbeat, self.heartbeat * DIAL_HEARTBEATS_MAX);
        let (lane, driver, identity) = match dialled {
            Ok(opened) => opened,
            Err(error) => {
                self.events.send(Event::DialFailed { peer: self.peer, error }).await.ok()?;
                return Some(longer);
            }
        };
        let up = Event::LaneUp { peer: self.peer, kind: wanted, identity, lane: lane.clone() };
        self.events.send(up).await.ok()?;
        let opened = Instant::now();
        let reason = self.serve(wanted, &lane, driver, orders).await;
        self.events.send(Event::LaneDown { peer: self.peer, reason }).await.ok()?;
        // A lane that held is dialled again at once; one that breaks as soon as it opens, or is silent, is not.
        let held = opened.elapsed() > self.heartbeat * DIAL_HEARTBEATS_MAX;
        Some(if held { Duration::ZERO } else { longer })
    }

    async fn dial_after(
        &self,
        pause: Duration,
        wanted: Wanted,
    ) -> Result<(Lane, LaneDriver, Identity), DialError> {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.knocks.notified() => {}
        }
        self.dial(wanted).await
    }

    async fn dial(&self, wanted: Wanted) -> Result<(Lane, LaneDriver, Identity), DialError> {
        let time = self.heartbeat * DIAL_HEARTBEATS_MAX;
        let opened = async {
            let channel = connect(&self.address, time).await?;
            Lane::open(channel, wanted, &self.me).await
        };
        timeout(time, opened).await.map_err(|_| DialError::TimedOut)?
    }

    /// Runs the lane to its end, or until new orders end it; returns why it ended by itself.
    async fn serve(
        &self,
        wanted: Wanted,
        lane: &Lane,
        driver: LaneDriver,
        mut orders: watch::Receiver<Orders>,
    ) -> Option<String> {
        let on_stopping = || {
            // The driver reads its events faster than lanes end; were it not so, the lane's end says it again.
            let _ = self.events.try_send(Event::LaneStopping { peer: self.peer });
        };
        let mut running = pin!(driver.run(on_stopping));
        tokio::select! {
            end = &mut running => return Some(end.to_string()),
            () = self.send_heartbeats(wanted, lane.channel()) => return None,
            _ = orders.changed() => {}
        }
        if orders.borrow_and_update().wanted == Wanted::Off {
            // Nobody is suspected: the lane may finish what it holds, unless it is wanted again meanwhile.
            lane.retire();
            tokio::select! {
                _ = timeout(DRAIN, running) => {}
                _ = orders.changed() => {}
            }
        }
        None
    }

    /// To everybody but the leader, who sends its own.
    async fn send_heartbeats(&self, wanted: Wanted, channel: Channel) {
        if wanted == Wanted::Schedule {
            return std::future::pending().await;
        }
        let mut client = WorkerClient::new(channel).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let mut ticker = interval(self.heartbeat);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut their_version = 0;
        loop {
            ticker.tick().await;
            let request = self.heartbeat_request(their_version);
            let answer = timeout(self.heartbeat * DIAL_HEARTBEATS_MAX, client.heartbeat(request)).await;
            // A missed heartbeat is no event: the driver hears the silence.
            let Ok(Ok(response)) = answer else { continue };
            let response = response.into_inner();
            their_version = response.members_version;
            let figures = Figures { in_flight: response.in_flight, completed: response.completed };
            if self.events.send(Event::Acked { peer: self.peer, figures }).await.is_err() {
                return;
            }
        }
    }

    fn heartbeat_request(&self, their_version: u64) -> HeartbeatRequest {
        let view = self.view.borrow();
        let leads = view.leads();
        let changed = leads && their_version != view.list_version;
        HeartbeatRequest {
            worker_id: self.me.name.to_string(),
            sender: Some((&*self.me).into()),
            interval_ms: u64::try_from(self.heartbeat.as_millis()).unwrap_or(u64::MAX),
            members_version: if leads { view.list_version } else { 0 },
            members: if changed { view.members_to_wire() } else { Vec::new() },
        }
    }
}

/// Connects; the name is resolved anew each time.
async fn connect(address: &str, time: Duration) -> Result<Channel, DialError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| DialError::Other(format!("{address} is no address: {error}")))?
        .connect_timeout(time)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEAD_BYTES_MAX as u32);
    endpoint.connect().await.map_err(|error| dial_error(&error))
}

fn dial_error(error: &(dyn Error + 'static)) -> DialError {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return DialError::Refused;
        }
        if current.to_string().starts_with("dns error") {
            return DialError::Unresolvable;
        }
        cause = current.source();
    }
    DialError::Other(innermost(error).to_string())
}
