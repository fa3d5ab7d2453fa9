//! The one place where a node meets the network: what it listens on, what it accepts, and whom it dials. What is said
//! over a connection is the affair of those who have it.

use std::{io, net::SocketAddr, time::Duration};

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tonic::transport::{self, Channel, ClientTlsConfig, Endpoint};

use crate::limits::{ACCEPT_BACKLOG, HEAD_BYTES_MAX};

/// A bound address, whose connections are accepted one after the other.
#[derive(Debug)]
pub struct Acceptor(TcpListener);

impl Acceptor {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A node that is started again takes its address while connections of the last one are still known.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(ACCEPT_BACKLOG).map(Self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says of its own socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next connection, and where it comes from. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// What the system says; the next one may be accepted all the same.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// Whom to dial, and when to give up.
#[derive(Debug, Clone)]
pub struct Dial<'a> {
    /// `host:port`; a name is resolved anew by each dial.
    pub address: &'a str,
    /// How the other side proves who it is; without it nothing is encrypted.
    pub tls: Option<ClientTlsConfig>,
    /// How long the connection may take.
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
        error: transport::Error,
    },
    /// Nobody was reached.
    #[error(transparent)]
    Unreached(#[from] transport::Error),
}

impl Dial<'_> {
    /// Connects now.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(self) -> Result<Channel, ConnectError> {
        Ok(self.endpoint()?.connect().await?)
    }

    /// A connection that is made when it is first used, and again when it is lost.
    ///
    /// # Errors
    /// [`ConnectError::BadAddress`].
    pub fn connect_lazily(self) -> Result<Channel, ConnectError> {
        Ok(self.endpoint()?.connect_lazy())
    }

    fn endpoint(self) -> Result<Endpoint, ConnectError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let bad = |error| ConnectError::BadAddress { address: self.address.to_owned(), error };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(bad)?
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout)
            .keep_alive_while_idle(self.is_pinged_idle)
            .http2_max_header_list_size(HEAD_BYTES_MAX as u32);
        if let Some(timeout) = self.connect_timeout {
            endpoint = endpoint.connect_timeout(timeout);
        }
        match self.tls {
            Some(tls) => endpoint.tls_config(tls).map_err(bad),
            None => Ok(endpoint),
        }
    }
}
