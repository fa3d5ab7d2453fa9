//! The connection to etcd: to one endpoint at a time, and made once for all who wait for it. Its making goes on when
//! their deadlines end, so that what a password costs etcd (bcrypt: some 0.1 s of a core) is not spent in vain, however
//! many nodes come to a busy etcd together.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use rand::{RngExt, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::client::EtcdError;
use crate::{
    cluster::innermost,
    connection::Dial,
    limits::{
        ETCD_AUTHENTICATE_TIMEOUT, ETCD_DENIED_PAUSE, ETCD_DENIED_PAUSE_MAX, ETCD_DIAL_PAUSE_MAX,
        ETCD_DIAL_TIMEOUT, ETCD_PING_INTERVAL, ETCD_PROBE_TIMEOUT, ETCD_TIMEOUT, LEASE_TTL,
    },
    proto::etcd::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient},
    text::plain,
};

/// How an etcd is reached.
#[derive(Clone, Default)]
pub struct Access {
    /// `host:port` each, at least one.
    pub endpoints: Vec<Arc<str>>,
    /// Name and password, if it asks for them.
    pub user: Option<(String, String)>,
    /// With TLS.
    pub tls: Option<EtcdTls>,
}

/// What is shown to etcd, and whom etcd is believed to be, at this moment.
#[derive(Clone)]
pub struct EtcdTls {
    current: Arc<watch::Sender<Arc<ClientConfig>>>,
    shows_certificate: bool,
}

impl fmt::Debug for Access {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd at {}", self.endpoints.join(","))
    }
}

/// A connection, and what each call on it carries.
#[derive(Debug, Clone)]
pub(super) struct EtcdConnection {
    channel: Channel,
    token: Option<AsciiMetadataValue>,
    /// A call on it brought something.
    pub(super) is_proven: Arc<AtomicBool>,
    /// Cancelled when a call on it has failed.
    pub(super) left: CancellationToken,
}

pub(super) type Service = InterceptedService<Channel, Stamp>;

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

/// A connection that is made, or was; polled by whoever waits for it.
pub(super) type SharedDial = Shared<BoxFuture<'static, Result<EtcdConnection, EtcdError>>>;

/// The connection of the moment, and what the next one is made by.
pub(super) struct EtcdConnections {
    access: Arc<Access>,
    /// The endpoint to dial next.
    next: usize,
    dial: Option<SharedDial>,
    /// What let the last connection in: another endpoint may know it too.
    token: Option<AsciiMetadataValue>,
    /// Since when no connection has brought anything, and why there was none.
    failing_since: Option<Instant>,
    failure: Option<EtcdError>,
    /// Times in a row that name or password were wrong.
    denials: u32,
    /// For pauses, so that nodes do not come back together.
    random: StdRng,
}

impl fmt::Debug for EtcdConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.access)
    }
}

impl EtcdConnections {
    pub(super) fn new(access: Access, mut random: StdRng) -> Self {
        // Not all nodes at the same endpoint.
        let next = random.random_range(0..access.endpoints.len());
        Self {
            access: Arc::new(access),
            next,
            dial: None,
            token: None,
            failing_since: None,
            failure: None,
            denials: 0,
            random,
        }
    }

    /// The connection, or the one that is being made; to the next endpoint, if that one has failed or was left.
    pub(super) fn dial(&mut self) -> SharedDial {
        if let Some(dial) = &self.dial {
            match dial.peek() {
                None => return dial.clone(),
                Some(Ok(connection)) if !connection.left.is_cancelled() => return dial.clone(),
                Some(Ok(connection)) => {
                    (self.failure, self.denials) = (None, 0);
                    if connection.is_proven.load(Relaxed) {
                        self.failing_since = None;
                    } else {
                        self.failing_since.get_or_insert_with(Instant::now);
                    }
                }
                Some(Err(error)) => {
                    let is_denied = matches!(error, EtcdError::Refused(_, Code::InvalidArgument));
                    self.denials = if is_denied { self.denials + 1 } else { 0 };
                    self.failure = Some(error.clone());
                    self.failing_since.get_or_insert_with(Instant::now);
                }
            }
        }
        let failing_for = self.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        let pause = self.pause(failing_for).mul_f64(self.random.random_range(0.5..1.0));
        let (access, place, token) = (Arc::clone(&self.access), self.next, self.token.clone());
        self.next = (place + 1) % access.endpoints.len();
        let dial = async move {
            sleep(pause).await;
            access.dial(&access.endpoints[place], token).await
        };
        self.dial.insert(dial.boxed().shared()).clone()
    }

    /// The pause before the next dial. After a wrong password it doubles each time; else there is one before each round
    /// of all endpoints, which grows with the time without a connection. While a lease may still be saved there is no
    /// pause.
    fn pause(&self, failing_for: Duration) -> Duration {
        match self.denials.checked_sub(1) {
            Some(doublings) => ETCD_DENIED_PAUSE_MAX.min(ETCD_DENIED_PAUSE * 2_u32.pow(doublings.min(16))),
            None if self.next == 0 => ETCD_DIAL_PAUSE_MAX.min(failing_for.saturating_sub(LEASE_TTL) / 4),
            None => Duration::ZERO,
        }
    }

    /// Why there is no connection.
    pub(super) fn failure(&self) -> EtcdError {
        self.failure.clone().unwrap_or(EtcdError::TimedOut)
    }

    /// The next call takes another connection. The token is kept, unless it was what etcd did not like.
    pub(super) fn leave(&mut self, connection: &EtcdConnection, is_denied: bool) {
        if !connection.left.is_cancelled() {
            connection.left.cancel();
            self.token.clone_from(&connection.token);
        }
        // The watch may have left it before, without knowing that the token was refused.
        if is_denied && self.token == connection.token {
            self.token = None;
        }
    }
}

impl Access {
    /// A connection that answers, and lets this node in.
    async fn dial(
        &self,
        address: &Arc<str>,
        token: Option<AsciiMetadataValue>,
    ) -> Result<EtcdConnection, EtcdError> {
        let connected = timeout(ETCD_DIAL_TIMEOUT, self.connect(address)).await;
        let channel = connected.map_err(|_| EtcdError::TimedOut)??;
        let probed = timeout(ETCD_PROBE_TIMEOUT, self.probe(address, &channel)).await;
        probed.map_err(|_| EtcdError::TimedOut)??;
        let token = match token {
            Some(token) => Some(token),
            None => {
                let token = timeout(ETCD_AUTHENTICATE_TIMEOUT, self.authenticate(&channel)).await;
                token.map_err(|_| EtcdError::TimedOut)??
            }
        };
        let (is_proven, left) = (Arc::default(), CancellationToken::new());
        Ok(EtcdConnection { channel, token, is_proven, left })
    }

    async fn connect(&self, address: &Arc<str>) -> Result<Channel, EtcdError> {
        let dial = Dial {
            address,
            tls: self.tls.as_ref().map(EtcdTls::current),
            connect_timeout: None,
            ping_interval: ETCD_PING_INTERVAL,
            ping_timeout: ETCD_TIMEOUT,
            is_pinged_idle: false,
        };
        let unreached =
            |error| EtcdError::Unreached(Arc::clone(address), plain(&innermost(&error).to_string()));
        dial.connect().await.map_err(unreached)
    }

    /// Whether it answers at all, before it is given work that takes its time. Any answer will do, unless it says that
    /// etcd has no leader.
    async fn probe(&self, address: &Arc<str>, channel: &Channel) -> Result<(), EtcdError> {
        let mut health = HealthClient::with_interceptor(channel.clone(), Stamp(None));
        match health.check(HealthCheckRequest::default()).await {
            Err(status) if status.source().is_some() => {
                Err(EtcdError::Ended(Arc::clone(address), self.perhaps()))
            }
            Err(status) if status.code() == Code::Unavailable => Err(EtcdError::from(&status)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A token; none while etcd does not ask for users: its clients may be given theirs before etcd asks.
    async fn authenticate(&self, channel: &Channel) -> Result<Option<AsciiMetadataValue>, EtcdError> {
        let Some((name, password)) = self.user.clone() else { return Ok(None) };
        let request = AuthenticateRequest { name, password };
        let mut service = AuthClient::with_interceptor(channel.clone(), Stamp(None));
        let token = match service.authenticate(request).await.map(Response::into_inner) {
            Ok(answer) => answer.token,
            Err(status) if status.code() == Code::FailedPrecondition => return Ok(None),
            Err(status) => return Err(EtcdError::from(&status)),
        };
        let none = |_| EtcdError::Refused("its token is none".to_owned(), Code::Internal);
        token.parse().map(Some).map_err(none)
    }

    /// Why an etcd mostly ends connections.
    fn perhaps(&self) -> &'static str {
        match &self.tls {
            None => "it may speak TLS, and ETCDCTL_CACERT is not set",
            Some(EtcdTls { shows_certificate: false, .. }) => {
                "it may ask for a certificate, and ETCDCTL_CERT is not set"
            }
            Some(EtcdTls { shows_certificate: true, .. }) => {
                "it may not accept the certificate of ETCDCTL_CERT"
            }
        }
    }
}

impl EtcdConnection {
    pub(super) fn service(&self) -> Service {
        InterceptedService::new(self.channel.clone(), Stamp(self.token.clone()))
    }
}

impl EtcdTls {
    /// TLS that begins with this.
    pub fn new(config: ClientConfig, shows_certificate: bool) -> Self {
        Self { current: Arc::new(watch::Sender::new(Arc::new(config))), shows_certificate }
    }

    /// What new connections take from now on.
    pub fn replace(&self, config: ClientConfig) {
        self.current.send_replace(Arc::new(config));
    }

    fn current(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.borrow())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use tonic::transport::Endpoint;

    use super::*;

    fn connections(endpoints: usize) -> EtcdConnections {
        let endpoints = vec!["127.0.0.1:1".into(); endpoints];
        EtcdConnections::new(Access { endpoints, ..Access::default() }, StdRng::seed_from_u64(1))
    }

    fn connection(token: &'static str) -> EtcdConnection {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let token = Some(AsciiMetadataValue::from_static(token));
        EtcdConnection { channel, token, is_proven: Arc::default(), left: CancellationToken::new() }
    }

    #[tokio::test]
    async fn a_token_is_kept_until_etcd_does_not_like_it_whoever_leaves_first() {
        let (mut connections, first) = (connections(1), connection("first"));
        connections.leave(&first, false);
        assert_eq!(connections.token, first.token);
        connections.leave(&first, true);
        assert_eq!(connections.token, None);
        let second = connection("second");
        connections.leave(&second, false);
        connections.leave(&first, true);
        assert_eq!(connections.token, second.token, "that was the one before");
    }

    #[test]
    fn no_pause_costs_a_lease_and_none_grows_without_end() {
        let mut connections = connections(3);
        let mut after = |next, seconds, denials| {
            (connections.next, connections.denials) = (next, denials);
            connections.pause(Duration::from_secs(seconds)).as_millis()
        };
        assert_eq!(
            [0, 1, 3, 4, 5, 9, 3600].map(|seconds| after(0, seconds, 0)),
            [0, 0, 0, 250, 500, 1000, 1000]
        );
        assert_eq!([0, 1, 2].map(|next| after(next, 60, 0)), [1000, 0, 0], "once a round");
        assert_eq!(
            [1, 2, 5, 6, 99].map(|denials| after(1, 60, denials)),
            [1000, 2000, 16_000, 16_000, 16_000]
        );
    }
}
