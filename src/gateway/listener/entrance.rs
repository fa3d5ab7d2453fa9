//! How a connection begins: in clear text, or with a handshake of TLS.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{
    io::{Join, join},
    net::tcp::OwnedWriteHalf,
    time::timeout,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::socket::{Input, Socket};
use crate::{
    connection::{
        Protocols,
        tls::{Tls, TlsMode},
    },
    gateway::admission::stream::Encrypted,
    limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_COST, HANDSHAKE_TIMEOUT, WRITE_TIMEOUT},
    metrics::Metrics,
};

/// The bytes of a connection, without those that TLS adds.
pub(super) type Stream = Either<Clear, Box<TlsStream<Encrypted<Clear>>>>;
type Clear = Join<Input, Pin<Box<TimeoutWriter<OwnedWriteHalf>>>>;

/// What a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Clear text.
    Clear,
    /// Clear text, where only TLS is taken.
    ClearAtTls,
    /// TLS.
    Tls {
        /// The caller has shown a certificate that is believed.
        is_certified: bool,
    },
}

/// Where the connections of a listener begin.
pub(super) struct Entrance {
    protocols: Protocols,
    tls: Option<Tls>,
    metrics: Arc<Metrics>,
    /// It was logged that a caller spoke the wrong one of the two.
    is_told: AtomicBool,
}

/// A record of TLS that holds a part of a handshake (RFC 8446, section 5.1). No request of HTTP begins so.
const HANDSHAKE: u8 = 22;

impl Entrance {
    pub(super) fn new(protocols: Protocols, tls: Option<Tls>, metrics: Arc<Metrics>) -> Self {
        Self { protocols, tls, metrics, is_told: AtomicBool::new(false) }
    }

    /// Begins a connection whose first byte is this one; nothing if it is not to be served.
    pub(super) async fn open(
        &self,
        first: u8,
        from: SocketAddr,
        socket: &Arc<Socket>,
        output: OwnedWriteHalf,
    ) -> Option<(Stream, Transport)> {
        let mut writer = TimeoutWriter::new(output);
        writer.set_timeout(Some(WRITE_TIMEOUT));
        let clear = join(Input(Arc::clone(socket)), Box::pin(writer));
        match (&self.tls, first == HANDSHAKE) {
            (Some(tls), true) => self.handshake(tls, socket, clear).await,
            (None, true) => {
                self.tell(from, "TLS", "speaks clear text only; --tls-cert and --tls-key make it speak TLS");
                None
            }
            (Some(tls), false) if tls.mode() == TlsMode::On => {
                self.tell(from, "clear text", "takes TLS only; write https://, or set --tls accept");
                // gRPC has no answer that a client without TLS could read.
                (self.protocols == Protocols::Http).then_some((Either::Left(clear), Transport::ClearAtTls))
            }
            (_, false) => Some((Either::Left(clear), Transport::Clear)),
        }
    }

    async fn handshake(&self, tls: &Tls, socket: &Arc<Socket>, clear: Clear) -> Option<(Stream, Transport)> {
        let usage = &socket.place.usage;
        usage.flow.turn.charge(HANDSHAKE_COST);
        let encrypted = Encrypted::new(clear, Arc::clone(usage), HANDSHAKE_BYTES_MAX);
        let agreed = timeout(HANDSHAKE_TIMEOUT, tls.accept(self.protocols, encrypted)).await;
        match agreed.unwrap_or_else(|late| Err(late.into())) {
            Ok((mut stream, is_certified)) => {
                self.metrics.handshakes.inc();
                stream.get_mut().0.lift_limit();
                Some((Either::Right(Box::new(stream)), Transport::Tls { is_certified }))
            }
            Err(error) => {
                self.metrics.handshakes_failed.inc();
                tracing::debug!(%error, "a TLS handshake failed");
                // What says why would be lost if unread bytes were left.
                if error.kind() == io::ErrorKind::InvalidData {
                    socket.linger().await;
                }
                None
            }
        }
    }

    /// Once: anybody can make it happen.
    fn tell(&self, from: SocketAddr, spoken: &str, takes: &str) {
        if !self.is_told.swap(true, Relaxed) {
            tracing::warn!(
                "a caller from {from} speaks {spoken}, and the {} port {takes}; further ones are not logged",
                self.protocols
            );
        }
    }
}
