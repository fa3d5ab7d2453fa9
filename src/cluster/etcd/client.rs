//! A thin client of etcd: a deadline on every call, and to the next endpoint when one fails.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use rand::rngs::StdRng;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_stream::{once, wrappers::ReceiverStream};
use tonic::{Code, Response, Status, Streaming};

use super::connection::{Access, EtcdConnection, EtcdConnections};
use crate::{
    cluster::innermost,
    limits::{ETCD_TIMEOUT, RENEW_TIMEOUT},
    proto::etcd::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest,
        RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
        WatchResponse, kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    text::plain,
};

/// Why a call brought nothing.
#[derive(Debug, Clone, Error)]
pub(super) enum EtcdError {
    /// There is no connection.
    #[error("{0} is not reached: {1}")]
    Unreached(Arc<str>, String),
    /// It ends the connection before it has answered anything. The error differs from time to time: etcd refuses a
    /// certificate only after the handshake.
    #[error("{0} ends connections before it answers: {1}")]
    Ended(Arc<str>, &'static str),
    /// No answer came.
    #[error("no answer in time")]
    TimedOut,
    /// etcd says no.
    #[error("{0}")]
    Refused(String, Code),
}

impl From<&Status> for EtcdError {
    fn from(status: &Status) -> Self {
        // Without a source the status is etcd's own; else the transport made it, and only its source tells why.
        let text = match status.source() {
            Some(source) => plain(&innermost(source).to_string()),
            None if status.code() == Code::PermissionDenied => plain(status.message()) + PERMISSION_NEEDED,
            None => plain(status.message()),
        };
        Self::Refused(text, status.code())
    }
}

/// What etcd tells from a revision on, until it is dropped.
pub(super) struct EtcdWatch {
    pub(super) connection: EtcdConnection,
    pub(super) answers: Streaming<WatchResponse>,
    /// While it is there etcd does not end the call, and when it is gone it does.
    _open: mpsc::Sender<WatchRequest>,
}

/// Shared by those that call.
#[derive(Debug)]
pub(super) struct EtcdClient(Mutex<EtcdConnections>);

impl EtcdClient {
    pub(super) fn new(access: Access, random: StdRng) -> Self {
        Self(Mutex::new(EtcdConnections::new(access, random)))
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, EtcdError> {
        self.call(ETCD_TIMEOUT, async |connection| {
            KvClient::new(connection.service()).range(request).await.map(Response::into_inner)
        })
        .await
    }

    pub(super) async fn put(&self, request: PutRequest) -> Result<(), EtcdError> {
        self.call(ETCD_TIMEOUT, async |connection| {
            KvClient::new(connection.service()).put(request).await.map(Response::into_inner)
        })
        .await
        .map(drop)
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, EtcdError> {
        self.call(ETCD_TIMEOUT, async |connection| {
            KvClient::new(connection.service()).txn(request).await.map(Response::into_inner)
        })
        .await
    }

    pub(super) async fn grant(&self, ttl: Duration) -> Result<LeaseGrantResponse, EtcdError> {
        let ttl = ttl.as_secs().cast_signed();
        let request = LeaseGrantRequest { ttl };
        self.call(ETCD_TIMEOUT, async |connection| {
            LeaseClient::new(connection.service()).lease_grant(request).await.map(Response::into_inner)
        })
        .await
    }

    pub(super) async fn revoke(&self, id: i64) -> Result<(), EtcdError> {
        let request = LeaseRevokeRequest { id };
        self.call(ETCD_TIMEOUT, async |connection| {
            LeaseClient::new(connection.service()).lease_revoke(request).await.map(Response::into_inner)
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
        self.call(RENEW_TIMEOUT, async |connection| {
            // It ends, so that etcd ends the call once it has answered: one that is only dropped is open for ever.
            let request = once(LeaseKeepAliveRequest { id });
            let mut answers =
                LeaseClient::new(connection.service()).lease_keep_alive(request).await?.into_inner();
            let ttl = answers.message().await?.map_or(0, |answer| answer.ttl);
            let read = KvClient::new(connection.service()).range(read).await?.into_inner();
            Ok((Duration::from_secs(ttl.max(0).cast_unsigned()), read))
        })
        .await
    }

    /// Watches from a revision on. The connection is left when a call on it fails.
    pub(super) async fn watch(&self, request: WatchCreateRequest) -> Result<EtcdWatch, EtcdError> {
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
        self.call(ETCD_TIMEOUT, async |connection| {
            let (open, requests) = mpsc::channel(1);
            let _ = open.try_send(request);
            let requests = ReceiverStream::new(requests);
            let answers = WatchClient::new(connection.service()).watch(requests).await?.into_inner();
            Ok(EtcdWatch { connection, answers, _open: open })
        })
        .await
    }

    /// The next call takes another connection.
    pub(super) fn leave(&self, connection: &EtcdConnection) {
        self.connections().leave(connection, false);
    }

    fn connections(&self) -> MutexGuard<'_, EtcdConnections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T>(
        &self,
        time: Duration,
        ask: impl AsyncFnOnce(EtcdConnection) -> Result<T, Status>,
    ) -> Result<T, EtcdError> {
        let until = Instant::now() + time;
        let dial = self.connections().dial();
        let connection = timeout_at(until, dial).await.map_err(|_| self.connections().failure())??;
        let asked = Instant::now();
        match timeout_at(until, ask(connection.clone())).await {
            Ok(Ok(answer)) => {
                connection.is_proven.store(true, Relaxed);
                Ok(answer)
            }
            Ok(Err(status)) => {
                match status.code() {
                    // It says no, and another endpoint would too.
                    Code::NotFound | Code::OutOfRange | Code::PermissionDenied => {}
                    // With either code etcd refuses a token: with the second one when its users have changed.
                    Code::Unauthenticated | Code::InvalidArgument => {
                        self.connections().leave(&connection, true)
                    }
                    _ => self.leave(&connection),
                }
                Err(EtcdError::from(&status))
            }
            Err(_) => {
                // Most of the time may have gone by before there was a connection.
                if asked.elapsed() >= time / 2 {
                    self.leave(&connection);
                }
                Err(EtcdError::TimedOut)
            }
        }
    }
}

/// What an operator can do when etcd does not permit it.
const PERMISSION_NEEDED: &str = "; a role of its user needs: \
    etcdctl role grant-permission ROLE --prefix=true readwrite /primacy/";
