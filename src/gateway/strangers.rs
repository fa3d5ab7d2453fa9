//! Those who speak as peers without the cluster's token, or without a certificate of its CA: refused, counted, and logged
//! now and then.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tonic::Code;

use crate::api::error::ApiError;
use crate::{
    limits::{STRANGERS_CALL_CHARS_MAX, STRANGERS_LOG_INTERVAL},
    metrics::Metrics,
    text::bounded,
};

/// What a stranger lacks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// A certificate of this node's CA.
    Certificate,
    /// This node's token.
    Token,
}

impl Lack {
    fn what(self) -> &'static str {
        match self {
            Self::Certificate => "a certificate of this node's CA",
            Self::Token => "this node's token",
        }
    }

    fn cure(self) -> &'static str {
        match self {
            Self::Certificate => "give it --tls-cert, --tls-key and --tls-ca",
            Self::Token => "give it the same PRIMACY_TOKEN",
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::Certificate => {
                "this call is for peers, and its connection shows no certificate of the cluster's CA; peers dial TLS, \
                 with a certificate of --tls-ca"
            }
            Self::Token => {
                "this call is for peers, and its token is not this node's; PRIMACY_TOKEN must be the same on all nodes"
            }
        }
    }
}

/// Refuses strangers.
#[derive(Debug)]
pub struct Strangers {
    metrics: Arc<Metrics>,
    started: Instant,
    /// Not before then the next one is logged, in milliseconds since `started`.
    quiet_until_ms: AtomicU64,
    unlogged: AtomicU64,
}

impl Strangers {
    /// Counts them in these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let (quiet_until_ms, unlogged) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { metrics, started: Instant::now(), quiet_until_ms, unlogged }
    }

    /// The refusal of a call, such as `/scheduler.Peer/Work`.
    pub fn refuse(&self, path: &str, from: SocketAddr, lacks: Lack) -> ApiError {
        self.metrics.strangers.inc();
        self.unlogged.fetch_add(1, Relaxed);
        if self.is_due() {
            let calls = self.unlogged.swap(0, Relaxed);
            let path = bounded(path, STRANGERS_CALL_CHARS_MAX);
            tracing::warn!(
                "strangers refused: {calls} since the last such line, the newest {path} from {from}, without {}; if that \
                 is a node of this cluster, {}",
                lacks.what(),
                lacks.cure()
            );
        }
        ApiError::new(Code::Unauthenticated, lacks.detail())
    }

    /// Whether the next line of the log is due, for one caller of those that ask at once.
    fn is_due(&self) -> bool {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.quiet_until_ms.load(Relaxed);
        let next_ms = now_ms + STRANGERS_LOG_INTERVAL.as_millis() as u64;
        now_ms >= until_ms
            && self.quiet_until_ms.compare_exchange(until_ms, next_ms, Relaxed, Relaxed).is_ok()
    }
}
