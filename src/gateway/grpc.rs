//! The gRPC server: its services, health and reflection.

mod peer;
mod primes;
mod scheduler;
mod worker;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::HeaderValue,
    response::Response,
};
use tokio::time::timeout_at;
use tonic::{Code, Status, service::Routes};
use tonic_health::server::HealthReporter;
use tower::{Service, service_fn};

use super::{
    Gateway,
    context::{deadline, echo, trace_of},
    error::ApiError,
    listener::Answers,
};
use crate::{
    cluster::{token::AUTHORIZATION, trace::Trace},
    limits::{MESSAGE_BYTES_MAX, PEER_MESSAGE_BYTES_MAX},
    prime::Number,
    proto::{
        FILE_DESCRIPTOR_SET, PrimeRequest, peer_server::PeerServer, scheduler_server::SchedulerServer,
        worker_server::WorkerServer,
    },
    scheduler::{CheckError, FORWARDED_BY},
};

pub use peer::PeerService;
pub use scheduler::SchedulerService;
pub use worker::WorkerService;

/// The names that `grpc.health.v1` knows beside the empty one.
const SERVICES: [&str; 2] = ["scheduler.Scheduler", "scheduler.Worker"];

/// The whole of what the gRPC listener serves, and the handle by which it says that it stops.
///
/// # Errors
/// When the descriptors that were compiled in cannot be read, which a test excludes.
pub async fn service(
    gateway: Arc<Gateway>,
) -> Result<(impl Answers, HealthReporter), tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in SERVICES.into_iter().chain([""]) {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let scheduler = SchedulerServer::new(SchedulerService(Arc::clone(&gateway)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    // A heartbeat brings the member list along.
    let worker = WorkerServer::new(WorkerService(Arc::clone(&gateway)))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let peer =
        PeerServer::new(PeerService(Arc::clone(&gateway))).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let others = Routes::new(worker)
        .add_service(peer)
        .add_service(health_service)
        // grpcurl, evans and Postman each want one of the two.
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .into_axum_router()
        // Settles the state once, instead of at each request.
        .with_state(());
    let services = Services { scheduler, others };
    let service =
        service_fn(move |request| Box::pin(around(Arc::clone(&gateway), request, services.clone())));
    Ok((service, health))
}

/// The hot path goes past the routes.
#[derive(Clone)]
struct Services {
    scheduler: SchedulerServer<SchedulerService>,
    others: Router,
}

impl Services {
    async fn call(mut self, request: Request) -> Response {
        if request.uri().path().starts_with("/scheduler.Scheduler/") {
            let Ok(response) = self.scheduler.call(request).await;
            return response.map(Body::new);
        }
        let Ok(response) = self.others.call(request).await;
        response
    }
}

/// Says to those who watch `grpc.health.v1` that this node stops.
pub async fn stop_serving(health: &HealthReporter) {
    for service in SERVICES.into_iter().chain([""]) {
        health.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
    }
}

/// The number of a request: `number`, or `decimal` where that is set.
fn number_of(request: &PrimeRequest) -> Result<Number, ApiError> {
    match (request.number, request.decimal.as_str()) {
        (number, "") => Ok(number.into()),
        (0, decimal) => Ok(decimal.parse()?),
        _ => Err(ApiError::invalid("set `number` or `decimal`, not both")),
    }
}

/// What every call brings beside its message; the layer around the services leaves it to them.
#[derive(Debug, Clone)]
struct Call {
    trace: Arc<Trace>,
    /// When nobody waits any more. Streams have none of their own.
    deadline: Instant,
    from: SocketAddr,
    /// Whoever calls knows the cluster's token.
    is_peer: bool,
}

/// What only peers may call: all of `scheduler.Peer`, and the election.
fn is_for_peers(path: &str) -> bool {
    path.starts_with("/scheduler.Peer/")
        || ["/scheduler.Worker/Election", "/scheduler.Worker/Victory"].contains(&path)
}

/// The methods whose answer is a stream, which lasts as long as its client wants.
const STREAMS: [&str; 7] = [
    "/scheduler.Scheduler/CheckPrimes",
    "/scheduler.Scheduler/WatchCluster",
    "/scheduler.Peer/Work",
    "/scheduler.Peer/Schedule",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Around every call: its ids, which are echoed with errors too, and its deadline, which holds from the head on: a
/// message that does not arrive is waited for no longer.
async fn around(
    gateway: Arc<Gateway>,
    mut request: Request,
    services: Services,
) -> Result<Response, Infallible> {
    let ConnectInfo(from) = *request.extensions().get().expect("the listener says who calls");
    let trace = trace_of(request.headers());
    let token = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let is_peer = gateway.token.admits(token);
    let is_stamped = request.headers().contains_key(FORWARDED_BY) || is_for_peers(request.uri().path());
    let mut response = match deadline(request.headers(), gateway.settings.deadline) {
        _ if is_stamped && !is_peer => {
            Status::from(gateway.strangers.refuse(request.uri().path(), from)).into_http()
        }
        Err(error) => Status::from(error).into_http(),
        Ok(deadline) => {
            let is_stream = STREAMS.contains(&request.uri().path());
            request.extensions_mut().insert(Call { trace: Arc::clone(&trace), deadline, from, is_peer });
            let by = if is_stream { None } else { Some(deadline) };
            within(by, services.call(request))
                .await
                .unwrap_or_else(|| Status::from(ApiError::from(CheckError::DeadlineExceeded)).into_http())
        }
    };
    // Nobody looks up an answer by an id that was made here; who writes to us about an error names it.
    let is_error = response.headers().contains_key(Status::GRPC_STATUS);
    if is_error || trace.is_named() {
        echo(&trace, response.headers_mut());
    }
    Ok(response)
}

/// What the layer around the services left.
fn call_of<T>(request: &tonic::Request<T>) -> Call {
    request.extensions().get().cloned().expect("the layer is around every service")
}

async fn within<T>(deadline: Option<Instant>, answered: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), answered).await.ok(),
        None => Some(answered.await),
    }
}

fn count(gateway: &Gateway, code: Code) {
    let metrics = &gateway.metrics;
    match code {
        Code::Ok => metrics.requests_ok.inc(),
        Code::ResourceExhausted => metrics.requests_shed.inc(),
        Code::InvalidArgument => metrics.requests_refused.inc(),
        _ => metrics.requests_failed.inc(),
    };
}
