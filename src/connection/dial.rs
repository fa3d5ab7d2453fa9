//! Dials, in clear text or over TLS.

use std::{
    error::Error,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, AlertDescription, CertificateError, ClientConfig, pki_types::ServerName},
};
use tonic::{
    codegen::http::Uri,
    transport::{self, Channel, Endpoint},
};
use tower::{Service, service_fn};

use crate::limits::HEAD_BYTES_MAX;

/// Whom to dial, and when to give up.
#[derive(Debug, Clone)]
pub struct Dial<'a> {
    /// `host:port`; a name is resolved anew by each dial.
    pub address: &'a str,
    /// What is shown and whom is believed over TLS; without it nothing is encrypted.
    pub tls: Option<Arc<ClientConfig>>,
    /// How long the connection may take, its handshake included.
    pub connect_timeout: Option<Duration>,
    /// The time between two pings, also while nothing is asked.
    pub ping_interval: Duration,
    /// How long a ping may stay unanswered before the connection counts as lost.
    pub ping_timeout: Duration,
    /// Whether it is pinged while no call is open.
    pub is_pinged_idle: bool,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody can be dialled there.
    #[error("{address} is no address: {error}")]
    BadAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        error: Box<dyn Error + Send + Sync>,
    },
    /// Nobody was reached.
    #[error(transparent)]
    Unreached(#[from] transport::Error),
}

/// Why there is no TLS with whoever answers.
#[derive(Debug, Error)]
enum HandshakeError {
    #[error("it does not speak TLS")]
    NotTls,
    #[error("it ended the TLS handshake, as a port does that speaks no TLS")]
    Ended,
    #[error("no CA that is believed here has signed its certificate")]
    UnknownCa,
    #[error("its certificate is not accepted: {0}")]
    Certificate(CertificateError),
    #[error("it ends TLS, and says why: {0:?}")]
    Refused(AlertDescription),
    #[error("the TLS handshake failed: {0}")]
    Other(io::Error),
}

impl Dial<'_> {
    /// Connects now.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(self) -> Result<Channel, ConnectError> {
        let endpoint = self.endpoint()?;
        Ok(match self.tls_connector()? {
            Some(connector) => endpoint.connect_with_connector(connector).await,
            None => endpoint.connect().await,
        }?)
    }

    /// A connection that is made when it is first used, and again when it is lost.
    ///
    /// # Errors
    /// [`ConnectError::BadAddress`].
    pub fn connect_lazily(self) -> Result<Channel, ConnectError> {
        let endpoint = self.endpoint()?;
        Ok(match self.tls_connector()? {
            Some(connector) => endpoint.connect_with_connector_lazy(connector),
            None => endpoint.connect_lazy(),
        })
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(|error| self.bad(error))?
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout)
            .keep_alive_while_idle(self.is_pinged_idle)
            .http2_max_header_list_size(HEAD_BYTES_MAX as u32);
        if let Some(timeout) = self.connect_timeout {
            endpoint = endpoint.connect_timeout(timeout);
        }
        Ok(endpoint)
    }

    /// Connects as tonic does, and then agrees on TLS with whoever has the name that was dialled.
    fn tls_connector(
        &self,
    ) -> Result<
        Option<impl Service<Uri, Response: Io, Error = DialFailure, Future: Send> + Send + use<>>,
        ConnectError,
    > {
        let Some(config) = &self.tls else { return Ok(None) };
        let name = ServerName::try_from(host(self.address)).map_err(|error| self.bad(error))?.to_owned();
        let tls = TlsConnector::from(Arc::clone(config));
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(self.connect_timeout);
        Ok(Some(service_fn(move |uri| {
            let (connecting, tls, name) = (tcp.call(uri), tls.clone(), name.clone());
            async move {
                let stream = connecting.await?.into_inner();
                let encrypted = tls.connect(name, stream).await.map_err(HandshakeError::from)?;
                Ok::<_, DialFailure>(TokioIo::new(MayEndEarly(encrypted)))
            }
        })))
    }

    fn bad(&self, error: impl Error + Send + Sync + 'static) -> ConnectError {
        ConnectError::BadAddress { address: self.address.to_owned(), error: error.into() }
    }
}

type DialFailure = Box<dyn Error + Send + Sync>;

/// What tonic takes for a connection.
trait Io: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static {}

impl<T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static> Io for T {}

/// A stream that may end without TLS's close_notify (RFC 8446, section 6.1), because a process that is killed sends none.
/// HTTP/2 itself knows which of its messages are whole.
struct MayEndEarly<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for MayEndEarly<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(cx, into)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            // What TLS 1.3 finds wrong with this side's certificate it says after the handshake.
            Err(error) => Poll::Ready(Err(match HandshakeError::from(error) {
                HandshakeError::Other(error) => error,
                refused => io::Error::other(refused),
            })),
            read => Poll::Ready(read),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MayEndEarly<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The name, or the IP address, in `host:port`.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Ended;
        }
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Self::UnknownCa,
            Some(rustls::Error::InvalidCertificate(wrong)) => Self::Certificate(wrong.clone()),
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused(*alert),
            _ => Self::Other(error),
        }
    }
}
