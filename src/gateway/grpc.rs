//! The gRPC server: its services, health and reflection.

pub mod framing;
mod health;
pub mod peer;
mod primes;
mod ranges;
pub mod reflection;
mod scheduler;
mod worker;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{ALLOW, AUTHORIZATION, CONTENT_TYPE},
    },
    response::Response,
};
use futures_util::FutureExt;
use prost::DecodeError;
use tokio::time::timeout_at;
use tonic::{Code, Status, codec::CompressionEncoding::Gzip, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::pb::v1::server_reflection_server::ServerReflectionServer;
use tower::{Service, service_fn};

use super::{
    Gateway,
    admission::{memory::Held, places},
    context::{echo, patience, trace_of},
    listener::{
        AnswerService,
        arrival::{Arrival, Unread},
        entrance::Transport,
    },
    strangers::Lack,
};
use crate::{
    api::error::{ApiError, CheckError},
    cluster::trace::Trace,
    limits::{MESSAGE_BYTES_MAX, PEER_MESSAGE_BYTES_MAX},
    proto::{peer_server::PeerServer, scheduler_server::SchedulerServer, worker_server::WorkerServer},
    scheduler::FORWARDED_BY,
};
use framing::Framed;
use health::HealthService;
use reflection::ReflectionService;

pub use peer::PeerService;
pub use scheduler::SchedulerService;
pub use worker::WorkerService;

// A name that is only a text would be parsed at every look.
const FORWARDED: HeaderName = HeaderName::from_static(FORWARDED_BY);

/// The methods that answer one check.
const CHECKS: [&str; 2] = ["/scheduler.Scheduler/CheckPrime", "/scheduler.Worker/ProcessPrime"];

/// Peers keep their lanes by it; anybody may call it.
const HEARTBEAT: &str = "/scheduler.Worker/Heartbeat";

/// The methods whose client may send any number of messages.
const STREAMS: [&str; 5] =
    ["/scheduler.Scheduler/CheckPrimes", "/scheduler.Peer/Work", "/scheduler.Peer/Schedule", V1, V1ALPHA];

/// Both versions of reflection have the same messages, and one service answers them: grpcurl, evans and Postman each want
/// one of the two.
const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// The encodings of messages that are read; answers are not compressed, because most are smaller than gzip's own head.
const ENCODINGS: &str = "gzip,identity";
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The whole of what the gRPC listener serves.
///
/// # Errors
/// When the descriptors that were compiled in cannot be read, which a test excludes.
pub fn service(gateway: Arc<Gateway>) -> Result<impl AnswerService, DecodeError> {
    let scheduler = SchedulerServer::new(SchedulerService(Arc::clone(&gateway)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(Gzip);
    // A heartbeat brings the member list along.
    let worker = WorkerServer::new(WorkerService(Arc::clone(&gateway)))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .accept_compressed(Gzip);
    let peer =
        PeerServer::new(PeerService(Arc::clone(&gateway))).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let health = HealthServer::new(HealthService(Arc::clone(&gateway)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(Gzip);
    let reflection = ServerReflectionServer::new(ReflectionService::new(Arc::clone(&gateway))?)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(Gzip);
    let others = Routes::new(worker)
        .add_service(peer)
        .add_service(health)
        .add_service(reflection)
        .into_axum_router()
        // Settles the state once, instead of at each request.
        .with_state(());
    let services = Arc::new(Services { gateway, scheduler, others });
    Ok(service_fn(move |request| Box::pin(around(&services, request))))
}

struct Services {
    gateway: Arc<Gateway>,
    /// The hot path goes past the routes.
    scheduler: SchedulerServer<SchedulerService>,
    others: Router,
}

impl Services {
    /// Begins a call: until when it is answered, and what answers it.
    fn begin(
        &self,
        mut request: Request,
        trace: Arc<Trace>,
    ) -> Result<(Instant, impl Future<Output = Response> + Send + use<>), ApiError> {
        let call = admit(&self.gateway, &request, trace)?;
        let (deadline, is_peer, held) = (call.deadline, call.is_peer(), self.held(&call));
        request.extensions_mut().insert(call);
        Ok((deadline, self.call(request, is_peer, held)))
    }

    /// Nothing yet of what the caller makes the node hold. Whoever has shown the token is no stranger.
    fn held(&self, call: &CallContext) -> Option<Held> {
        let is_stranger = !(call.is_peer() && self.gateway.door.is_set());
        is_stranger.then(|| self.gateway.memory.hold(call.from.ip()))
    }

    fn call(
        &self,
        request: Request,
        is_peer: bool,
        held: Option<Held>,
    ) -> impl Future<Output = Response> + Send + use<> {
        let path = request.uri().path();
        let may_be_many = STREAMS.contains(&path);
        if path.starts_with("/scheduler.Scheduler/") {
            let request = request.map(|body| Framed::new(body, may_be_many, MESSAGE_BYTES_MAX, held));
            let called = self.scheduler.clone().call(request);
            return called.map(|Ok(response)| response.map(Body::new)).left_future();
        }
        let bytes_max = if is_peer { PEER_MESSAGE_BYTES_MAX } else { MESSAGE_BYTES_MAX };
        let is_v1alpha = path == V1ALPHA;
        let mut request = request.map(|body| Body::new(Framed::new(body, may_be_many, bytes_max, held)));
        if is_v1alpha {
            *request.uri_mut() = Uri::from_static(V1);
        }
        // Boxed: checks would carry the room for it.
        self.others.clone().call(request).map(|Ok(response)| response).boxed().right_future()
    }
}

/// What every call brings beside its message; the layer around the services leaves it to them.
#[derive(Debug, Clone)]
struct CallContext {
    trace: Arc<Trace>,
    arrived: Instant,
    /// When nobody waits any more.
    deadline: Instant,
    from: SocketAddr,
    /// What the caller lacks to count as a peer.
    lacks: Option<Lack>,
    /// A peer had it first.
    is_forwarded: bool,
}

impl CallContext {
    fn is_peer(&self) -> bool {
        self.lacks.is_none()
    }
}

/// What only peers may call: all of `scheduler.Peer`, and the election.
fn is_for_peers(path: &str) -> bool {
    path.starts_with("/scheduler.Peer/")
        || ["/scheduler.Worker/Election", "/scheduler.Worker/Victory"].contains(&path)
}

/// Around every call: its ids, which are echoed with errors too, and its deadline, which holds from the head on: a
/// message that does not arrive is waited for no longer. A stream only has to begin by then; it lasts as long as its
/// client wants. What comes before the call is done at once, so that little has to be kept until it is answered.
fn around(
    services: &Services,
    request: Request,
) -> impl Future<Output = Result<Response, Infallible>> + Send + use<> {
    let unread = request.extensions().get().and_then(|Arrival { unread, .. }| unread.clone());
    let trace = trace_of(request.headers());
    let path = request.uri().path();
    let (is_check, is_for_peers) = (CHECKS.contains(&path), is_for_peers(path));
    let begun = match expect_grpc(&services.gateway, &request) {
        Err(error) => Err(in_http(error, &trace)),
        Ok(()) => {
            services.begin(request, Arc::clone(&trace)).map_err(|error| Status::from(error).into_http())
        }
    };
    async move {
        let mut response = match begun {
            Err(refusal) => refusal,
            Ok((deadline, called)) => {
                timeout_at(deadline.into(), called).await.unwrap_or_else(|_| too_late())
            }
        };
        let is_error = response.headers().contains_key(Status::GRPC_STATUS);
        if is_error {
            explain(&mut response);
        }
        if !is_for_peers {
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(ENCODINGS));
        }
        // Nobody looks up the answer to a check by an id that was made here; who writes to us about an error names it.
        if !is_check || is_error || trace.is_named() {
            echo(&trace, response.headers_mut());
        }
        if is_error || !response.status().is_success() {
            drop_unread(unread);
        }
        Ok(response)
    }
}

fn too_late() -> Response {
    Status::from(ApiError::from(CheckError::DeadlineExceeded)).into_http()
}

/// There are clients that forget a refusal when the reset of their stream comes with it: what they still send is dropped
/// for a while before.
fn drop_unread(unread: Option<Arc<Unread>>) {
    if let Some(rest) = unread.and_then(|unread| unread.take()) {
        rest.linger();
    }
}

/// A client that does not speak gRPC would take an error of gRPC, whose HTTP status is 200, for a success.
fn expect_grpc(gateway: &Gateway, request: &Request) -> Result<(), ApiError> {
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_post = request.method() == Method::POST;
    if is_post && is_grpc(content_type) {
        return Ok(());
    }
    let (status, takes) = match is_post {
        false => (StatusCode::METHOD_NOT_ALLOWED, "POST only"),
        true => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type application/grpc or application/grpc+proto",
        ),
    };
    let me = Arc::clone(&gateway.cluster.snapshot().view.me);
    let (scheme, http) = (me.scheme.as_str(), &me.http_addr);
    Err(ApiError::http(
        status,
        format!("this port speaks gRPC and accepts {takes}; JSON over HTTP is at {scheme}://{http}"),
    ))
}

/// With protobuf, which is the default and all that there is.
fn is_grpc(content_type: &[u8]) -> bool {
    if content_type == b"application/grpc" {
        return true;
    }
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|name| essence.eq_ignore_ascii_case(name))
}

/// An error for whoever reads HTTP only, and for whoever looks for a status of gRPC all the same.
fn in_http(error: ApiError, trace: &Trace) -> Response {
    let (status, is_method) = (Status::from(error.clone()), error.status() == StatusCode::METHOD_NOT_ALLOWED);
    let mut response = error.into_problem(&trace.request_id());
    let headers = response.headers_mut();
    if is_method {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    // The text is plain ASCII, but for a name of the node, without which the body still says all.
    let _ = status.add_header(headers);
    response
}

/// Adds what is allowed where tonic does not say it: to a method that it does not know, and to an encoding.
fn explain(response: &mut Response) {
    let headers = response.headers();
    if headers.get(Status::GRPC_STATUS).is_none_or(|code| code != "12") {
        return;
    }
    let text = match headers.get(&ACCEPT_ENCODING).and_then(|accepted| accepted.to_str().ok()) {
        Some(accepted) => {
            let said = response.extensions().get::<Status>().map_or("", Status::message);
            format!("{said}; these encodings are taken: {accepted}")
        }
        None if !headers.contains_key(Status::GRPC_MESSAGE) => {
            "there is no such method; reflection lists those that there are".to_owned()
        }
        None => return,
    };
    let _ = Status::unimplemented(text).add_header(response.headers_mut());
}

/// What a call brings, if its caller may make it.
fn admit(gateway: &Gateway, request: &Request, trace: Arc<Trace>) -> Result<CallContext, ApiError> {
    let (headers, path) = (request.headers(), request.uri().path());
    let arrival = Arrival::of(request.extensions());
    let Arrival { from, at: arrived, transport, .. } = *arrival;
    let lacks = lack(gateway, path, headers, transport);
    let is_peer = lacks.is_none();
    let is_forwarded = headers.contains_key(&FORWARDED);
    if let Some(lacks) = lacks.filter(|_| is_forwarded || is_for_peers(path)) {
        return Err(gateway.strangers.refuse(path, from, lacks));
    }
    // Without a token a peer is told by what it calls.
    let is_of_peer =
        is_peer && (gateway.door.is_set() || is_forwarded || is_for_peers(path) || path == HEARTBEAT);
    if is_of_peer {
        arrival.mark_of_peer();
    } else if !path.starts_with("/grpc.health.v1.Health/") {
        // With this code clients try another node.
        places::refuse_on_reserved_place(request, Code::Unavailable)?;
    }
    let deadline = arrived + patience(headers, gateway.config.deadline)?;
    Ok(CallContext { trace, arrived, deadline, from, lacks, is_forwarded })
}

/// What whoever makes this call lacks to count as a peer.
fn lack(gateway: &Gateway, path: &str, headers: &HeaderMap, transport: Transport) -> Option<Lack> {
    if gateway.door.certifies() && transport != (Transport::Tls { is_certified: true }) {
        return Some(Lack::Certificate);
    }
    let header = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if gateway.door.admits(path, header) { None } else { Some(Lack::Token) }
}

/// What the layer around the services left.
fn call_of<T>(request: &tonic::Request<T>) -> CallContext {
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
