//! The gRPC server: its services, health and reflection.

mod peer;
mod scheduler;
mod worker;

use std::sync::Arc;

use axum::Router;
use tonic::{Code, Response, Status, service::Routes};
use tonic_health::server::HealthReporter;

use super::{
    Gateway, Pass,
    context::{REQUEST_ID, TRACEPARENT},
    error::ApiError,
};
use crate::{
    cluster::lane::Trace,
    limits::{MESSAGE_BYTES_MAX, PEER_MESSAGE_BYTES_MAX},
    prime::Number,
    proto::{
        FILE_DESCRIPTOR_SET, PrimeRequest, peer_server::PeerServer, scheduler_server::SchedulerServer,
        worker_server::WorkerServer,
    },
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
pub async fn router(
    gateway: Arc<Gateway>,
) -> Result<(Router, HealthReporter), tonic_reflection::server::Error> {
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
    let peer = PeerServer::new(PeerService(gateway)).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let router = Routes::new(scheduler)
        .add_service(worker)
        .add_service(peer)
        .add_service(health_service)
        // grpcurl, evans and Postman each want one of the two.
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .into_axum_router();
    Ok((router, health))
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

fn enter(gateway: &Gateway) -> Result<Pass<'_>, ApiError> {
    gateway.in_flight.enter().ok_or_else(|| {
        let max = gateway.settings.in_flight_max;
        let detail =
            format!("{max} requests are in flight on this node, which is its limit; try again in a second");
        ApiError::new(Code::ResourceExhausted, detail)
    })
}

/// Names the ids of a request to its client, with the answer as with an error.
fn echo<T>(trace: &Trace, answered: Result<T, ApiError>) -> Result<Response<T>, Status> {
    let mut answered = answered.map(Response::new).map_err(Status::from);
    let metadata = match &mut answered {
        Ok(response) => response.metadata_mut(),
        Err(status) => status.metadata_mut(),
    };
    for (name, text) in [(REQUEST_ID, &trace.request_id), (TRACEPARENT, &trace.traceparent)] {
        if let Ok(value) = text.parse() {
            metadata.insert(name, value);
        }
    }
    answered
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
