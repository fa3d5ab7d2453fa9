//! What the client commands share: endpoints, and failing over between them.

mod channel;
pub mod identify;
mod tls;

use std::{
    collections::BTreeSet,
    error::Error,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use clap::Args;
use futures_util::future::join_all;
use primacy_election::Scheme;
use thiserror::Error as ThisError;
use tokio::time::sleep;
use tonic::{Code, Status, TimeoutExpired};

use crate::{
    cluster::{innermost, lane::describe},
    config::{HostPort, ListItem},
    connection::{ConnectError, Dial},
};

use tls::EndpointArg;

pub(super) use channel::Channel;
pub(super) use tls::{ClientTlsArgs, ClientTlsError};

/// Where to ask.
#[derive(Debug, Clone, Args)]
pub(super) struct ClientArgs {
    /// The gRPC addresses of nodes; when one does not answer, the next is asked
    #[arg(
        long,
        env = "PRIMACY_ENDPOINTS",
        value_delimiter = ',',
        value_name = "[https://]HOST:PORT,…",
        default_value = "127.0.0.1:50051,127.0.0.1:50052,127.0.0.1:50053,127.0.0.1:50054"
    )]
    endpoints: Vec<ListItem<EndpointArg>>,
    #[command(flatten)]
    tls: ClientTlsArgs,
}

impl ClientArgs {
    /// Whether nodes are asked over TLS, and shown no certificate.
    pub(super) fn lacks_certificate(&self) -> bool {
        let is_encrypted = |endpoint: &ListItem<EndpointArg>| {
            endpoint.0.as_ref().is_some_and(|endpoint| endpoint.scheme(&self.tls) == Scheme::Https)
        };
        self.tls.cert.is_none() && self.endpoints.iter().any(is_encrypted)
    }
}

/// Why nobody can be asked.
#[derive(Debug, ThisError)]
pub(super) enum ClientError {
    #[error("--endpoints names none; it takes HOST:PORT,…, such as 127.0.0.1:50051")]
    NoEndpoints,
    #[error(transparent)]
    Endpoint(#[from] ConnectError),
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
}

/// A node that answers nothing for this long, not even a ping, is left for the next.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Rounds over all endpoints, and the pause between two: a cluster may be between two lives.
const ROUNDS: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Connections to all endpoints; the one that answered last is asked first.
pub(super) struct Client {
    endpoints: Vec<(EndpointArg, Channel)>,
    /// Those that are asked in clear text.
    clear: Vec<HostPort>,
    current: AtomicUsize,
}

impl Client {
    pub(super) fn new(args: ClientArgs) -> Result<Self, ClientError> {
        let given: Vec<EndpointArg> = args.endpoints.into_iter().filter_map(|endpoint| endpoint.0).collect();
        let is_encrypted = |endpoint: &EndpointArg| endpoint.scheme(&args.tls) == Scheme::Https;
        let tls = if given.iter().any(is_encrypted) { Some(args.tls.config()?) } else { None };
        let connect = |endpoint: EndpointArg| {
            let dial = Dial {
                address: &endpoint.address.as_arc(),
                tls: tls.clone().filter(|_| is_encrypted(&endpoint)),
                connect_timeout: Some(CONNECT),
                ping_interval: SILENCE,
                ping_timeout: SILENCE,
                is_pinged_idle: false,
            };
            let channel = dial.connect_lazily()?;
            Ok::<_, ConnectError>((endpoint, Channel::new(channel)))
        };
        let clear = given.iter().filter(|endpoint| !is_encrypted(endpoint));
        let clear = clear.map(|endpoint| endpoint.address.clone()).collect();
        let endpoints = given.into_iter().map(connect).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        Ok(Self { endpoints, clear, current: AtomicUsize::new(0) })
    }

    /// Makes a call to one endpoint after the other until one answers.
    ///
    /// Every call of ours may be made twice: none changes anything, or it changes the same.
    pub(super) async fn call<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut last = Status::unavailable("no endpoints were given");
        for round in 0..ROUNDS {
            if round > 0 {
                sleep(PAUSE).await;
            }
            for _ in &self.endpoints {
                let current = self.current.load(Relaxed);
                let (endpoint, channel) = self.endpoint(current);
                match call(channel.clone()).await {
                    Err(status) if is_unreached(&status) => {
                        last = Status::new(status.code(), format!("{endpoint}: {}", describe(&status)));
                        // Of several calls that fail together, only the first moves on.
                        let _ = self.current.compare_exchange(current, current + 1, Relaxed, Relaxed);
                    }
                    answered => return answered,
                }
            }
        }
        Err(Status::unavailable(self.nobody(last.message()).await))
    }

    /// That no endpoint answers, what the last of them said, and which of them are something else.
    async fn nobody(&self, last: &str) -> String {
        let asked: Vec<String> = self.endpoints.iter().map(|(endpoint, _)| endpoint.to_string()).collect();
        let mut text = format!("no node answers at {} (the last said: {last})", asked.join(", "));
        let identified = join_all(self.clear.iter().map(identify::http)).await;
        let identified: BTreeSet<String> = identified.into_iter().flatten().collect();
        for what in identified {
            text += &format!("; {what}");
        }
        text
    }

    /// The connection to the endpoint that answered last.
    pub(super) fn channel(&self) -> Channel {
        self.endpoint(self.current.load(Relaxed)).1.clone()
    }

    /// The endpoint that answered last.
    pub(super) fn current(&self) -> &EndpointArg {
        &self.endpoint(self.current.load(Relaxed)).0
    }

    /// The current endpoint answers no more: the next one is asked first.
    pub(super) fn leave(&self) {
        self.current.fetch_add(1, Relaxed);
    }

    /// A stream from the current endpoint broke, the last so many in a row: the next endpoint is to go on.
    ///
    /// # Errors
    /// When all have been tried for long enough: that nobody answers.
    pub(super) async fn go_on(&self, broken: &mut usize, status: &Status) -> Result<(), String> {
        *broken += 1;
        let endpoints = self.endpoints.len();
        if *broken == ROUNDS * endpoints {
            return Err(self.nobody(&format!("{}: {}", self.current(), describe(status))).await);
        }
        self.leave();
        if broken.is_multiple_of(endpoints) {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    fn endpoint(&self, count: usize) -> &(EndpointArg, Channel) {
        &self.endpoints[count % self.endpoints.len()]
    }
}

/// Whether another endpoint is to be asked. No other node would answer a call that has used up its time. A server that
/// does not know the call is no node.
fn is_unreached(status: &Status) -> bool {
    let made_here = status.source().is_some();
    matches!(status.code(), Code::Unavailable | Code::Unimplemented)
        || (made_here && !innermost(status).is::<TimeoutExpired>())
}
