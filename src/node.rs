//! One node: bind, build, spawn, wait, drain. A table of contents.

pub mod descriptors;
pub mod ports;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use primacy_election::{Identity, PeerAddress, Scheme};
use thiserror::Error;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    cluster::{Cluster, IdTaken, introduction::PeerCredentials, token::Door},
    config::{HostPort, NodeConfig},
    connection::{Acceptor, Protocols, tls::Tls},
    gateway::{
        Gateway,
        admission::places::Room,
        grpc,
        http::{self, events::Events},
        listener::Listener,
    },
    limits::{DESCRIPTORS_MIN, DRAIN, LAME_DUCK},
    metrics::Metrics,
    reload,
    scheduler::Scheduler,
    worker::Worker,
};

/// Why a node did not start, or ended by itself.
#[derive(Debug, Error)]
pub enum NodeError {
    /// It could not open the files that it needs.
    #[error(
        "this process may open {0} files at once, and a node needs {DESCRIPTORS_MIN} of them or more; {how}",
        how = descriptors::HOW
    )]
    Descriptors(usize),
    /// An address is taken.
    #[error(
        "cannot listen for {protocol} on {address}: it is taken{by}; stop what holds it, or choose another address with {setting}"
    )]
    Taken {
        /// What was to be spoken there.
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// By whom, if that can be told.
        by: String,
        /// The flag or the variable that changes it.
        setting: String,
    },
    /// An address is not of this machine, or not for this user.
    #[error("cannot listen for {protocol} on {address}: {error}; choose another address with {setting}")]
    Bind {
        /// What was to be spoken there.
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// The flag or the variable that changes it.
        setting: String,
        /// What the system says.
        error: io::Error,
    },
    /// The pool's threads could not be started.
    #[error("cannot start the worker's threads: {0}")]
    Threads(io::Error),
    /// The descriptors that were compiled in cannot be read.
    #[error("cannot serve reflection: {0}")]
    Reflection(#[from] prost::DecodeError),
    /// Another node has its id.
    #[error(transparent)]
    IdTaken(#[from] IdTaken),
    /// A task that runs as long as the node ended before it.
    #[error("the task `{0}` died, and the node with it")]
    TaskDied(&'static str),
}

/// A node that is bound to its addresses and not running yet.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    room: Room,
    grpc: Acceptor,
    http: Acceptor,
}

/// The tasks that end by themselves when the node stops.
const LISTENERS: [&str; 2] = ["gRPC listener", "HTTP listener"];

/// Which task has ended, and why if it could not go on.
type Ended = (&'static str, Option<NodeError>);

/// The tasks of a running node, each by its name.
struct Tasks {
    tasks: JoinSet<Ended>,
    gateway: Arc<Gateway>,
    /// Ends the listeners.
    close: CancellationToken,
    /// Ends the cluster.
    leave: CancellationToken,
}

impl Node {
    /// Binds both listeners; port 0 takes a free one.
    ///
    /// # Errors
    /// [`NodeError::Taken`] names the address that is taken, and what changes it; [`NodeError::Descriptors`] and
    /// [`NodeError::Bind`] say why there is no node here at all.
    pub async fn bind(config: NodeConfig) -> Result<Self, NodeError> {
        let available = descriptors::available();
        let room = descriptors::room(available).ok_or(NodeError::Descriptors(available))?;
        let grpc = bind(config.grpc_addr, "gRPC", config.told.name("--grpc-addr"))?;
        let http = bind(config.http_addr, "HTTP", config.told.name("--http-addr"))?;
        Ok(Self { config, room, grpc, http })
    }

    /// Where it listens for gRPC.
    ///
    /// # Errors
    /// What the system says of its own socket.
    pub fn grpc_addr(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where it listens for HTTP.
    ///
    /// # Errors
    /// What the system says of its own socket.
    pub fn http_addr(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Tells the node its peers, for those who learn their addresses only after binding.
    #[must_use]
    pub fn with_peers(mut self, peers: Vec<PeerAddress>) -> Self {
        self.config.peers = peers;
        self
    }

    /// Serves until `stop` ends; then drains. `hurry` ends the draining.
    ///
    /// # Errors
    /// When one of its tasks died.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<(), NodeError> {
        let mut tasks = self.start().await?;
        let ended = tokio::select! {
            () = stop => Ok(()),
            died = tasks.died() => Err(died),
        };
        if ended.is_ok() {
            tokio::select! {
                () = tasks.drain() => {}
                () = hurry => tracing::warn!("not waiting for what is in flight"),
            }
        }
        tasks.tasks.shutdown().await;
        ended
    }

    async fn start(self) -> Result<Tasks, NodeError> {
        let (close, leave) = (CancellationToken::new(), CancellationToken::new());
        let identity = self.identity();
        tracing::info!(
            "{} serves gRPC on {} and HTTP on {}",
            identity.name,
            identity.grpc_addr,
            identity.http_addr
        );
        let warnings = [self.config.warning(), self.config.tls_warning(), descriptors::warning(self.room)];
        warnings.into_iter().flatten().for_each(|warning| tracing::warn!("{warning}"));
        let Self { config, room, grpc, http } = self;
        let worker = Arc::new(Worker::new(Arc::clone(&config.name)).map_err(NodeError::Threads)?);
        let metrics = Arc::new(Metrics::default());
        let credentials = PeerCredentials { token: config.token.clone(), tls: config.tls.clone() };
        let door = Door::new(credentials.clone(), identity.boot);
        let (cluster, driver) = Cluster::new(
            config.cluster(identity, credentials),
            Arc::clone(&worker),
            Clock::default(),
            leave.clone(),
        );
        let cluster = Arc::new(cluster);
        let scheduler =
            Scheduler::new(Arc::clone(&cluster), Arc::clone(&worker), Arc::clone(&metrics), config.fallback);
        let gateway =
            Gateway::new(config.gateway, scheduler, cluster, Arc::clone(&worker), door, Arc::clone(&metrics));
        let (queue, gateway) = (gateway.queue.clone(), Arc::new(gateway));
        let grpc_service = grpc::service(Arc::clone(&gateway))?;
        let http_service = http::service(Arc::clone(&gateway));
        let grpc = Listener::new(grpc, Protocols::Grpc, grpc_service, Arc::clone(&metrics))
            .with_room(room, queue.clone())
            .with_tls(config.tls.clone());
        let http = Listener::new(http, Protocols::Http, http_service, Arc::clone(&metrics))
            .with_room(room, queue)
            .with_tls(config.tls.clone());

        let mut tasks = JoinSet::new();
        tasks.spawn(async move { ("cluster", driver.await.err().map(NodeError::from)) });
        spawn(&mut tasks, LISTENERS[0], grpc.run(close.clone()));
        spawn(&mut tasks, LISTENERS[1], http.run(close.clone()));
        spawn(&mut tasks, "events", Events::run(Arc::clone(&gateway), leave.clone()));
        spawn(&mut tasks, "reload", reload::run(config.reloads, config.tls, metrics, leave.clone()));
        spawn(&mut tasks, "pool", async move { worker.died().await });
        Ok(Tasks { tasks, gateway, close, leave })
    }

    fn identity(&self) -> Identity {
        let reached_at = |advertised: &Option<HostPort>, listens: io::Result<SocketAddr>, or: SocketAddr| {
            let advertised = advertised.clone();
            advertised.unwrap_or_else(|| HostPort::of_listener(listens.unwrap_or(or))).as_arc()
        };
        let config = &self.config;
        Identity {
            id: config.id,
            name: Arc::clone(&config.name),
            boot: rand::random(),
            grpc_addr: reached_at(&config.advertise_grpc, self.grpc.local_addr(), config.grpc_addr),
            http_addr: reached_at(&config.advertise_http, self.http.local_addr(), config.http_addr),
            version: env!("CARGO_PKG_VERSION").into(),
            scheme: config.tls.as_ref().map_or(Scheme::Http, Tls::scheme),
        }
    }
}

impl Tasks {
    /// Returns when a task has ended, which none does by itself.
    async fn died(&mut self) -> NodeError {
        match self.tasks.join_next().await {
            Some(Ok((_, Some(error)))) => error,
            Some(Ok((name, None))) => NodeError::TaskDied(name),
            Some(Err(_)) | None => NodeError::TaskDied("one that panicked"),
        }
    }

    /// Says that it stops, lets clients move away, then finishes what is in flight within the drain time.
    async fn drain(&mut self) {
        tracing::info!("stopping: no new work, {} requests in flight", self.gateway.in_flight.count());
        self.gateway.cluster.stop_leading().await;
        self.gateway.cluster.stop_taking_work();
        sleep(LAME_DUCK).await;
        self.close.cancel();
        let listeners = async {
            let mut open = LISTENERS.to_vec();
            while !open.is_empty() {
                match self.tasks.join_next().await {
                    Some(Ok((ended, _))) if open.contains(&ended) => open.retain(|name| *name != ended),
                    ended => return tracing::error!(?ended, "a task died while the node was stopping"),
                }
            }
        };
        if timeout(DRAIN + Duration::from_secs(1), listeners).await.is_err() {
            tracing::warn!("some connections did not end within the drain time");
        }
        self.leave.cancel();
        tracing::info!("stopped");
    }
}

fn spawn(tasks: &mut JoinSet<Ended>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        (name, None)
    });
}

fn bind(address: SocketAddr, protocol: &'static str, setting: &str) -> Result<Acceptor, NodeError> {
    let setting = setting.to_owned();
    Acceptor::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            NodeError::Taken { protocol, address, by: ports::held_by(address), setting }
        }
        _ => NodeError::Bind { protocol, address, setting, error },
    })
}
