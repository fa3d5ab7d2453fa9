//! The entrances: HTTP and gRPC over one kind of listener. The only place that makes HTTP types and gRPC statuses.

pub mod bulk;
pub mod context;
pub mod error;
pub mod grpc;
pub mod http;
pub mod listener;
pub mod openapi;
pub mod page;
pub mod places;
pub mod strangers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use error::ApiError;
use http::events::Events;
use strangers::Strangers;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Code;

use crate::{
    cluster::{Cluster, Status, token::Door},
    limits::WATCHERS_MAX,
    metrics::{Gauges, Metrics},
    scheduler::Scheduler,
    worker::Worker,
};

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
    pub settings: Settings,
    /// Requests in flight.
    pub in_flight: Gate,
    /// Places for clients that watch.
    pub watchers: Arc<Semaphore>,
    /// Places for bulk streams.
    pub bulks: Arc<Semaphore>,
    /// Places for the long numbers of all bulks.
    pub bulk_longs: Semaphore,
    /// Places for their other groups.
    pub bulk_groups: Semaphore,
    /// Places for JSON bodies of many numbers, a KiB each.
    pub json_bulks: Arc<Semaphore>,
    /// What those over HTTP are shown.
    pub events: Events,
}

/// What an operator may turn.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of a REST body for one number.
    pub body_bytes_max: usize,
    /// Requests in flight.
    pub in_flight_max: usize,
    /// Time for a check whose client names none.
    pub deadline: Duration,
}

impl Gateway {
    /// A place among the requests in flight.
    ///
    /// # Errors
    /// `resource_exhausted` when all are taken.
    pub fn enter(&self) -> Result<Pass<'_>, ApiError> {
        self.in_flight.enter().ok_or_else(|| busy(self.settings.in_flight_max))
    }

    /// A place among the clients that watch.
    ///
    /// # Errors
    /// `resource_exhausted` when all are taken.
    pub fn watch(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            let detail =
                format!("{WATCHERS_MAX} clients watch this node, which is its limit; watch another one");
            ApiError::new(Code::ResourceExhausted, detail)
        })
    }

    /// What is read off when somebody asks for the metrics.
    pub fn gauges(&self) -> Gauges {
        let view = self.cluster.view();
        let alive = view.members.iter().filter(|member| member.status == Status::Alive);
        Gauges {
            in_flight: self.in_flight.count() as u64,
            pool_queued: self.worker.queued() as u64,
            completed: self.worker.figures().completed,
            members_alive: alive.count() as u64,
            members: view.members.len() as u64,
            leads: view.leads(),
        }
    }
}

fn busy(max: usize) -> ApiError {
    let detail =
        format!("{max} requests are in flight on this node, which is its limit; try again in a second");
    ApiError::new(Code::ResourceExhausted, detail)
}

/// Lets a bounded number in at once.
#[derive(Debug)]
pub struct Gate {
    inside: AtomicUsize,
    max: usize,
}

/// A place inside a [`Gate`], until it is dropped.
#[derive(Debug)]
pub struct Pass<'a>(&'a AtomicUsize);

impl Gate {
    /// A gate that lets in `max` at once.
    pub fn new(max: usize) -> Self {
        Self { inside: AtomicUsize::new(0), max }
    }

    /// A place inside, unless it is full.
    pub fn enter(&self) -> Option<Pass<'_>> {
        let pass = Pass(&self.inside);
        // A pass that comes too many leaves again by being dropped.
        (self.inside.fetch_add(1, Relaxed) < self.max).then_some(pass)
    }

    /// How many are inside.
    pub fn count(&self) -> usize {
        self.inside.load(Relaxed)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
