//! The gRPC server: its services, health and reflection.

mod peer;
mod primes;
mod scheduler;
mod worker;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, header::AUTHORIZATION},
    response::Response,
};
use tokio::time::timeout_at;
use tonic::{Code, Status, service::Routes};
use tonic_health::server::HealthReporter;
use tower::{Service, service_fn};

use super::{
    Gateway,
    context::{echo, patience, trace_of},
    error::ApiError,
    listener::{Answers, arrival::Arrival},
};
use crate::{
    cluster::trace::Trace,
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

// A name that is only a text would be parsed at every look.
const FORWARDED: HeaderName = HeaderName::from_static(FORWARDED_BY);

/// The methods that answer one check.
const CHECKS: [&str; 2] = ["/scheduler.Scheduler/CheckPrime", "/scheduler.Worker/ProcessPrime"];

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
    let services = Arc::new(Services { gateway, scheduler, others });
    Ok((service_fn(move |request| Box::pin(around(Arc::clone(&services), request))), health))
}

struct Services {
    gateway: Arc<Gateway>,
    /// The hot path goes past the routes.
    scheduler: SchedulerServer<SchedulerService>,
    others: Router,
}

impl Services {
    async fn call(&self, request: Request) -> Response {
        if request.uri().path().starts_with("/scheduler.Scheduler/") {
            let Ok(response) = self.scheduler.clone().call(request).await;
            return response.map(Body::new);
        }
        let Ok(response) = self.others.clone().call(request).await;
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
    arrived: Instant,
    /// When nobody waits any more.
    deadline: Instant,
    from: SocketAddr,
    /// Whoever calls knows the cluster's token.
    is_peer: bool,
    /// A peer had it first.
    is_forwarded: bool,
}

/// What only peers may call: all of `scheduler.Peer`, and the election.
fn is_for_peers(path: &str) -> bool {
    path.starts_with("/scheduler.Peer/")
        || ["/scheduler.Worker/Election", "/scheduler.Worker/Victory"].contains(&path)
}

/// Around every call: its ids, which are echoed with errors too, and its deadline, which holds from the head on: a
/// message that does not arrive is waited for no longer. A stream only has to begin by then; it lasts as long as its
/// client wants.
async fn around(services: Arc<Services>, mut request: Request) -> Result<Response, Infallible> {
    let trace = trace_of(request.headers());
    let is_check = CHECKS.contains(&request.uri().path());
    let mut response = match admit(&services.gateway, &request, Arc::clone(&trace)) {
        Err(error) => Status::from(error).into_http(),
        Ok(call) => {
            let deadline = call.deadline;
            request.extensions_mut().insert(call);
            match timeout_at(deadline.into(), services.call(request)).await {
                Ok(response) => response,
                Err(_) => Status::from(ApiError::from(CheckError::DeadlineExceeded)).into_http(),
            }
        }
    };
    // Nobody looks up the answer to a check by an id that was made here; who writes to us about an error names it.
    let is_error = response.headers().contains_key(Status::GRPC_STATUS);
    if !is_check || is_error || trace.is_named() {
        echo(&trace, response.headers_mut());
    }
    Ok(response)
}

/// What a call brings, if its caller may make it.
fn admit(gateway: &Gateway, request: &Request, trace: Arc<Trace>) -> Result<Call, ApiError> {
    let (headers, path) = (request.headers(), request.uri().path());
    let from = request.extensions().get::<Arrival>().expect("the listener says who calls").from;
    let is_peer = gateway.token.admits(headers.get(AUTHORIZATION).map(HeaderValue::as_bytes));
    let is_forwarded = headers.contains_key(&FORWARDED);
    if (is_forwarded || is_for_peers(path)) && !is_peer {
        return Err(gateway.strangers.refuse(path, from));
    }
    let arrived = Instant::now();
    let deadline = arrived + patience(headers, gateway.settings.deadline)?;
    Ok(Call { trace, arrived, deadline, from, is_peer, is_forwarded })
}

/// What the layer around the services left.
fn call_of<T>(request: &tonic::Request<T>) -> Call {
    request.extensions().get().cloned().expect("the layer is around every service")
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
