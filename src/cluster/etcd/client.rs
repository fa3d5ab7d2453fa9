//! A thin client of etcd: one connection at a time, to the next endpoint when a call fails, a deadline on every call.

use std::{fmt, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tokio_stream::{StreamExt, once, pending};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    cluster::{innermost, plain},
    limits::{ETCD_DIAL_TIMEOUT, ETCD_PING_INTERVAL, ETCD_TIMEOUT, RENEW_TIMEOUT},
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
    channel: Channel,
    token: Option<AsciiMetadataValue>,
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

#[derive(Debug)]
struct Roads {
    /// The endpoint to dial next.
    next: usize,
    road: Option<Road>,
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
        Self { access, roads: Mutex::new(Roads { next, road: None }) }
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
            let request = once(LeaseKeepAliveRequest { id }).chain(pending());
            let mut answers = LeaseClient::new(road.service()).lease_keep_alive(request).await?.into_inner();
            let ttl = answers.message().await?.map_or(0, |answer| answer.ttl);
            let read = KvClient::new(road.service()).range(read).await?.into_inner();
            Ok((Duration::from_secs(ttl.max(0).cast_unsigned()), read))
        })
        .await
    }

    /// Watches from a revision on. The road is left when a call on it fails.
    pub(super) async fn watch(
        &self,
        request: WatchCreateRequest,
    ) -> Result<(Road, Streaming<WatchResponse>), EtcdError> {
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
        self.call(ETCD_TIMEOUT, async |road| {
            let request = once(request).chain(pending());
            let answers = WatchClient::new(road.service()).watch(request).await?.into_inner();
            Ok((road, answers))
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
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => {
                // It says no, and another endpoint would too.
                if !matches!(status.code(), Code::NotFound | Code::OutOfRange | Code::PermissionDenied) {
                    road.left.cancel();
                }
                Err(refused(&status))
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
        roads.road = None;
        let address = Arc::clone(&self.access.endpoints[roads.next]);
        roads.next = (roads.next + 1) % self.access.endpoints.len();
        let road = self.dial(&address).await?;
        roads.road = Some(road.clone());
        Ok(road)
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
        let token = match &self.access.user {
            Some((name, password)) => Some(authenticate(channel.clone(), name, password).await?),
            None => None,
        };
        Ok(Road { channel, token, left: CancellationToken::new() })
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

async fn authenticate(channel: Channel, name: &str, password: &str) -> Result<AsciiMetadataValue, EtcdError> {
    let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
    let answer = AuthClient::new(channel).authenticate(request).await.map_err(|status| refused(&status))?;
    let token = answer.into_inner().token;
    token.parse().map_err(|_| EtcdError::Refused("its token is none".to_owned(), Code::Internal))
}

fn refused(status: &Status) -> EtcdError {
    EtcdError::Refused(plain(status.message()), status.code())
}
