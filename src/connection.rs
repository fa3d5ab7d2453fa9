//! The one place where a node meets the network: what it listens on, what it accepts, and whom it dials. What is said
//! over a connection is the affair of those who have it.

mod dial;
pub mod pem;
pub mod tls;

use std::{fmt, io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::limits::ACCEPT_BACKLOG;

pub use dial::{ConnectError, Dial};

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1, or HTTP/2 where the client begins with its preface.
    Http,
    /// HTTP/2 only.
    Grpc,
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Grpc => "gRPC",
        })
    }
}

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
