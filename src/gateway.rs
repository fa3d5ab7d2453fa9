//! The entrances: HTTP and gRPC over one kind of listener. Only they, and `api::error` for errors, make HTTP responses
//! and gRPC statuses.

pub mod admission;
pub mod bulk;
pub mod context;
pub mod encoding;
mod etag;
pub mod files;
pub mod grpc;
pub mod http;
pub mod listener;
pub mod next;
pub mod openapi;
pub mod page;
pub mod ranges;
pub mod strangers;

use std::{net::IpAddr, sync::Arc, time::Duration};

use primacy_election::Status;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    api::error::ApiError,
    cluster::{Cluster, token::Door},
    connection::tls::Tls,
    limits::{BULK_GROUPS_MAX, BULK_LONGS_MAX, BULKS_MAX, HELD_BYTES_MAX, RANGES_MAX, WATCHERS_MAX},
    metrics::{Gauges, Metrics},
    scheduler::Scheduler,
    worker::Worker,
};
use admission::{
    fair::FairQueue,
    gate::{Gate, InFlightPass},
    memory::Memory,
    shares::{Share, Shares},
};
use http::events::Events;
use strangers::Strangers;

/// What every request can reach.
#[derive(Debug)]
pub struct Gateway {
    /// Answers checks.
    pub scheduler: Scheduler,
    /// Who is there.
    pub cluster: Arc<Cluster>,
    /// Does work itself.
    pub worker: Arc<Worker>,
    /// Whom it takes for a peer.
    pub door: Door,
    /// Refuses those who are none.
    pub strangers: Strangers,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What an operator may turn.
    pub config: GatewayConfig,
    /// In which order callers are served.
    pub queue: FairQueue,
    /// Requests in flight.
    pub in_flight: Gate,
    /// Places for clients that watch.
    pub watchers: Arc<Shares>,
    /// What callers make the node hold.
    pub memory: Arc<Memory>,
    /// Places for bulk streams.
    pub bulks: Arc<Shares>,
    /// Places for the long numbers of all bulks.
    pub bulk_longs: Semaphore,
    /// Places for their other groups.
    pub bulk_groups: Semaphore,
    /// Places for ranges.
    pub ranges: Arc<Shares>,
    /// What those over HTTP are shown.
    pub events: Events,
}

/// What an operator may turn.
#[derive(Debug, Clone, Copy)]
pub struct GatewayConfig {
    /// Bytes of a REST body for one number.
    pub body_bytes_max: usize,
    /// Requests in flight.
    pub in_flight_max: usize,
    /// Time for a check whose client names none.
    pub deadline: Duration,
}

impl Gateway {
    /// A gateway in front of these.
    pub fn new(
        config: GatewayConfig,
        scheduler: Scheduler,
        cluster: Arc<Cluster>,
        worker: Arc<Worker>,
        door: Door,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            scheduler,
            cluster,
            worker,
            door,
            strangers: Strangers::new(Arc::clone(&metrics)),
            metrics,
            config,
            queue: FairQueue::default(),
            in_flight: Gate::new(config.in_flight_max),
            watchers: Arc::new(Shares::new(WATCHERS_MAX)),
            memory: Arc::new(Memory::new(HELD_BYTES_MAX)),
            bulks: Arc::new(Shares::new(BULKS_MAX)),
            bulk_longs: Semaphore::new(BULK_LONGS_MAX),
            bulk_groups: Semaphore::new(BULK_GROUPS_MAX),
            ranges: Arc::new(Shares::new(RANGES_MAX)),
            events: Events::default(),
        }
    }

    /// A place among the requests in flight.
    ///
    /// # Errors
    /// `resource_exhausted` when all are taken.
    pub fn enter(&self) -> Result<InFlightPass<'_>, ApiError> {
        self.in_flight.enter().ok_or_else(|| busy(self.config.in_flight_max))
    }

    /// Looks whether there is a place among the requests in flight, for a request that will need one when it is whole.
    ///
    /// # Errors
    /// `resource_exhausted` when all are taken.
    pub fn expect_room(&self) -> Result<(), ApiError> {
        if self.in_flight.is_full() { Err(busy(self.config.in_flight_max)) } else { Ok(()) }
    }

    /// A place among the clients that watch, for one at this address.
    ///
    /// # Errors
    /// `resource_exhausted` when all are taken, and no other address has more of them.
    pub fn watch(&self, from: IpAddr) -> Result<Share, ApiError> {
        self.watchers.enter(from, CancellationToken::new()).ok_or_else(|| {
            let detail =
                format!("{WATCHERS_MAX} clients watch this node, which is its limit; watch another one");
            ApiError::new(Code::ResourceExhausted, detail)
        })
    }

    /// What is read off when somebody asks for the metrics.
    pub fn gauges(&self) -> Gauges {
        let view = &self.cluster.snapshot().view;
        let alive = view.members.iter().filter(|member| member.status == Status::Alive);
        Gauges {
            in_flight: self.in_flight.count(),
            pool_queued: self.worker.queued() as u64,
            completed: self.worker.figures().completed,
            members_alive: alive.count() as u64,
            members: view.members.len() as u64,
            leads: view.leads(),
            certificate_expires: self.door.tls().map(Tls::expires_at),
        }
    }
}

fn busy(max: usize) -> ApiError {
    let detail =
        format!("{max} requests are in flight on this node, which is its limit; try again in a second");
    ApiError::new(Code::ResourceExhausted, detail)
}
