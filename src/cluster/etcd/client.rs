//! A thin client of etcd: one connection at a time, to the next endpoint when a call fails, a deadline on every call.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, timeout_at},
};
use tokio_stream::{once, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    cluster::{innermost, plain},
    limits::{ETCD_DENIED_PAUSE, ETCD_DIAL_TIMEOUT, ETCD_PING_INTERVAL, ETCD_TIMEOUT, RENEW_TIMEOUT},
    proto::etcd::etcdserverpb::{
        AuthenticateRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
        LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
        WatchCreateRequest, WatchRequest, WatchResponse, auth_client::AuthClient, kv_client::KvClient,
        lease_client::LeaseClient, watch_client::WatchClient, watch_request::RequestUnion,
    },
};

/// How an etcd is reached.
#[derive(Clone, Default)]
pub struct Access {
    /// `host:port` each, at least one.
    pub endpoints: Vec<Arc<str>>,
    /// Name and password, if it asks for them.
    pub user: Option<(String, String)>,
    /// With TLS.
    pub tls: Option<Tls>,
}

/// PEM texts.
#[derive(Clone)]
pub struct Tls {
    /// Who signs the certificates of etcd.
    pub authority: Vec<u8>,
    /// This node's certificate and key, if etcd asks for them.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Access {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd at {}", self.endpoints.join(","))
    }
}

/// Why a call brought nothing.
#[derive(Debug, Clone, Error)]
pub(super) enum EtcdError {
    /// There is no connection.
    #[error("{0} is not reached: {1}")]
    Unreached(Arc<str>, String),
    /// It ends the connection before it has answered anything, for a reason that differs from time to time: that it
    /// does not like this node's certificate, it says only after the handshake.
    #[error("{0} ends connections before it answers: {1}")]
    Ended(Arc<str>, &'static str),
    /// No answer came.
    #[error("no answer in time")]
    TimedOut,
    /// etcd says no.
    #[error("{0}")]
    Refused(String, Code),
}

/// A connection, and what each call on it carries.
#[derive(Debug, Clone)]
pub(super) struct Road {
    address: Arc<str>,
    channel: Channel,
    token: Option<AsciiMetadataValue>,
    has_answered: Arc<AtomicBool>,
    /// Cancelled when a call on it has failed.
    pub(super) left: CancellationToken,
}

type Service = InterceptedService<Channel, Stamp>;

/// What each call carries: who calls, and that a member of etcd without a leader is not to answer.
#[derive(Debug, Clone)]
pub(super) struct Stamp(Option<AsciiMetadataValue>);

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
        if let Some(token) = &self.0 {
            metadata.insert("token", token.clone());
        }
        Ok(request)
    }
}

/// What etcd tells from a revision on, until it is dropped.
pub(super) struct Watch {
    pub(super) road: Road,
    pub(super) answers: Streaming<WatchResponse>,
    /// While it is there etcd does not end the call, and when it is gone it does.
    _open: mpsc::Sender<WatchRequest>,
}

#[derive(Debug)]
struct Roads {
    /// The endpoint to dial next.
    next: usize,
    road: Option<Road>,
    /// Until when name and password are not shown again, and what was said to them.
    denied: Option<(Instant, EtcdError)>,
}

/// Shared by those that call.
#[derive(Debug)]
pub(super) struct Client {
    access: Access,
    roads: Mutex<Roads>,
}

impl Client {
    pub(super) fn new(access: Access) -> Self {
        // Not all nodes at the same endpoint.
        let next = rand::random_range(0..access.endpoints.len());
        Self { access, roads: Mutex::new(Roads { next, road: None, denied: None }) }
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, EtcdError> {
        self.call(ETCD_TIMEOUT, async |road| {
            KvClient::new(road.service()).range(request).await.map(Response::into_inner)
        })
        .await
    }

    pub(super) async fn put(&self, request: PutRequest) -> Result<(), EtcdError> {
        self.call(ETCD_TIMEOUT, async |road| {
            KvClient::new(road.service()).put(request).await.map(Response::into_inner)
        })
        .await
        .map(drop)
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, EtcdError> {
        self.call(ETCD_TIMEOUT, async |road| {
            KvClient::new(road.service()).txn(request).await.map(Response::into_inner)
        })
        .await
    }

    pub(super) async fn grant(&self, ttl: Duration) -> Result<LeaseGrantResponse, EtcdError> {
        let ttl = ttl.as_secs().cast_signed();
        let request = LeaseGrantRequest { ttl };
        self.call(ETCD_TIMEOUT, async |road| {
            LeaseClient::new(road.service()).lease_grant(request).await.map(Response::into_inner)
        })
        .await
    }

    pub(super) async fn revoke(&self, id: i64) -> Result<(), EtcdError> {
        let request = LeaseRevokeRequest { id };
        self.call(ETCD_TIMEOUT, async |road| {
            LeaseClient::new(road.service()).lease_revoke(request).await.map(Response::into_inner)
        })
        .await
        .map(drop)
    }

    /// Keeps the lease alive, then reads; on one connection, so that the second vouches for the first: an endpoint that
    /// is cut off with an old leader of etcd cannot read. Returns the time that etcd grants; none if there is no lease.
    pub(super) async fn renew(
        &self,
        id: i64,
        read: RangeRequest,
    ) -> Result<(Duration, RangeResponse), EtcdError> {
        self.call(RENEW_TIMEOUT, async |road| {
            // It ends, so that etcd ends the call once it has answered: one that is only dropped is open for ever.
            let request = once(LeaseKeepAliveRequest { id });
            let mut answers = LeaseClient::new(road.service()).lease_keep_alive(request).await?.into_inner();
            let ttl = answers.message().await?.map_or(0, |answer| answer.ttl);
            let read = KvClient::new(road.service()).range(read).await?.into_inner();
            Ok((Duration::from_secs(ttl.max(0).cast_unsigned()), read))
        })
        .await
    }

    /// Watches from a revision on. The road is left when a call on it fails.
    pub(super) async fn watch(&self, request: WatchCreateRequest) -> Result<Watch, EtcdError> {
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
        self.call(ETCD_TIMEOUT, async |road| {
            let (open, requests) = mpsc::channel(1);
            let _ = open.try_send(request);
            let requests = ReceiverStream::new(requests);
            let answers = WatchClient::new(road.service()).watch(requests).await?.into_inner();
            Ok(Watch { road, answers, _open: open })
        })
        .await
    }

    async fn call<T>(
        &self,
        time: Duration,
        ask: impl AsyncFnOnce(Road) -> Result<T, Status>,
    ) -> Result<T, EtcdError> {
        let until = Instant::now() + time;
        let road = timeout_at(until, self.road()).await.map_err(|_| EtcdError::TimedOut)??;
        match timeout_at(until, ask(road.clone())).await {
            Ok(Ok(answer)) => {
                road.has_answered.store(true, Relaxed);
                Ok(answer)
            }
            Ok(Err(status)) => {
                // It says no, and another endpoint would too.
                if !matches!(status.code(), Code::NotFound | Code::OutOfRange | Code::PermissionDenied) {
                    road.left.cancel();
                }
                Err(self.failed(&road, &status))
            }
            Err(_) => {
                road.left.cancel();
                Err(EtcdError::TimedOut)
            }
        }
    }

    /// The connection, which is made if there is none. Who waits for it meanwhile has a deadline.
    async fn road(&self) -> Result<Road, EtcdError> {
        let mut roads = self.roads.lock().await;
        if let Some(road) = roads.road.as_ref().filter(|road| !road.left.is_cancelled()) {
            return Ok(road.clone());
        }
        if let Some((until, error)) = &roads.denied
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        roads.road = None;
        let address = Arc::clone(&self.access.endpoints[roads.next]);
        roads.next = (roads.next + 1) % self.access.endpoints.len();
        let dialled = self.dial(&address).await;
        match &dialled {
            Ok(road) => roads.road = Some(road.clone()),
            // Of what is asked on the way only that can be wrong.
            Err(error @ EtcdError::Refused(_, Code::InvalidArgument)) => {
                roads.denied = Some((Instant::now() + ETCD_DENIED_PAUSE, error.clone()));
            }
            Err(_) => {}
        }
        dialled
    }

    async fn dial(&self, address: &Arc<str>) -> Result<Road, EtcdError> {
        let unreached = |error: &tonic::transport::Error| {
            EtcdError::Unreached(Arc::clone(address), plain(&innermost(error).to_string()))
        };
        let scheme = if self.access.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| unreached(&error))?
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ETCD_PING_INTERVAL)
            .keep_alive_timeout(ETCD_DIAL_TIMEOUT);
        if let Some(tls) = &self.access.tls {
            endpoint = endpoint.tls_config(tls.config()).map_err(|error| unreached(&error))?;
        }
        let connected = tokio::time::timeout(ETCD_DIAL_TIMEOUT, endpoint.connect()).await;
        let channel = connected.map_err(|_| EtcdError::TimedOut)?.map_err(|error| unreached(&error))?;
        let (has_answered, left) = (Arc::default(), CancellationToken::new());
        let road = Road { address: Arc::clone(address), channel, token: None, has_answered, left };
        let token = self.authenticate(&road).await?;
        Ok(Road { token, ..road })
    }

    /// A token; none from an etcd that does not ask for users, or not yet: its clients may be told of them first.
    async fn authenticate(&self, road: &Road) -> Result<Option<AsciiMetadataValue>, EtcdError> {
        let Some((name, password)) = self.access.user.clone() else { return Ok(None) };
        let request = AuthenticateRequest { name, password };
        let token = match AuthClient::new(road.channel.clone()).authenticate(request).await {
            Ok(answer) => answer.into_inner().token,
            Err(status) if status.code() == Code::FailedPrecondition => return Ok(None),
            Err(status) => return Err(self.failed(road, &status)),
        };
        let none = |_| EtcdError::Refused("its token is none".to_owned(), Code::Internal);
        token.parse().map(Some).map_err(none)
    }

    fn failed(&self, road: &Road, status: &Status) -> EtcdError {
        // Without a cause etcd itself says it; else what carries its words, and only the cause tells why.
        let Some(source) = status.source() else {
            let needs = if status.code() == Code::PermissionDenied { PERMISSION_NEEDED } else { "" };
            return EtcdError::Refused(plain(status.message()) + needs, status.code());
        };
        if !road.has_answered.load(Relaxed) {
            return EtcdError::Ended(Arc::clone(&road.address), self.access.perhaps());
        }
        EtcdError::Refused(plain(&innermost(source).to_string()), status.code())
    }
}

impl Access {
    /// Why an etcd mostly ends connections.
    fn perhaps(&self) -> &'static str {
        match &self.tls {
            None => "it may speak TLS, and ETCDCTL_CACERT is not set",
            Some(Tls { identity: None, .. }) => "it may ask for a certificate, and ETCDCTL_CERT is not set",
            Some(Tls { identity: Some(_), .. }) => "it may not accept the certificate of ETCDCTL_CERT",
        }
    }
}

impl Road {
    fn service(&self) -> Service {
        InterceptedService::new(self.channel.clone(), Stamp(self.token.clone()))
    }
}

impl Tls {
    fn config(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.authority));
        match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }
}

/// What an operator can do when etcd does not permit it.
const PERMISSION_NEEDED: &str = "; a role of its user needs: \
    etcdctl role grant-permission ROLE --prefix=true readwrite /primacy/";
