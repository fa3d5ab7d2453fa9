//! TLS towards nodes, by the names that curl has for its parts; and endpoints, which may name it.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use clap::Args;
use primacy_election::Scheme;
use thiserror::Error;
use tokio_rustls::rustls::ClientConfig;

use crate::{
    config::{AddressError, HostPort, TlsArg},
    connection::pem::{ClientFiles, PemError},
    reload,
};

/// What is shown to nodes, and whom they are believed by.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct ClientTlsArgs {
    /// The CAs that nodes are believed by, in PEM [default: those of this system]. With it, endpoints that name no
    /// scheme are asked over TLS
    #[arg(long, env = "PRIMACY_TLS_CA", value_name = "FILE")]
    pub(in crate::cli) cacert: Option<PathBuf>,
    /// The certificate to show to nodes that ask for one, in PEM
    #[arg(long, env = "PRIMACY_TLS_CERT", value_name = "FILE")]
    pub(in crate::cli) cert: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, env = "PRIMACY_TLS_KEY", value_name = "FILE")]
    pub(in crate::cli) key: Option<PathBuf>,
    /// How the nodes of this environment use it.
    #[arg(long, env = "PRIMACY_TLS", hide = true, value_enum)]
    pub(in crate::cli) tls: Option<TlsArg>,
}

/// Settings of TLS that cannot be.
#[derive(Debug, Error)]
pub(in crate::cli) enum ClientTlsError {
    #[error("--cert and --key belong together: give both, or neither")]
    Half,
    #[error("{0}")]
    Unreadable(String),
    #[error(transparent)]
    File(#[from] PemError),
}

/// Where a node is asked: `host:port`, perhaps after `http://` or `https://`.
#[derive(Debug, Clone)]
pub(in crate::cli) struct EndpointArg {
    scheme: Option<Scheme>,
    pub(super) address: HostPort,
}

/// An endpoint that is none.
#[derive(Debug, Error)]
pub(in crate::cli) enum EndpointError {
    #[error("{0}; it may begin with https:// or http://")]
    Address(#[from] AddressError),
    #[error("`{0}` is no scheme of an endpoint; write https:// or http://")]
    Scheme(String),
}

impl ClientTlsArgs {
    /// What TLS is made of.
    pub(in crate::cli) fn config(&self) -> Result<Arc<ClientConfig>, ClientTlsError> {
        if self.cert.is_some() != self.key.is_some() {
            return Err(ClientTlsError::Half);
        }
        let pair = self.cert.clone().zip(self.key.clone());
        let files = ClientFiles { authorities: self.cacert.clone(), pair };
        let contents = reload::read(&files.paths()).map_err(ClientTlsError::Unreadable)?;
        Ok(Arc::new(files.config(&contents)?))
    }
}

impl EndpointArg {
    /// What is spoken there: what it names, else TLS if a CA was named and the nodes of this environment speak it.
    pub(super) fn scheme(&self, tls: &ClientTlsArgs) -> Scheme {
        let is_encrypted = tls.cacert.is_some() && tls.tls != Some(TlsArg::Off);
        let default = if is_encrypted { Scheme::Https } else { Scheme::Http };
        self.scheme.unwrap_or(default)
    }
}

impl FromStr for EndpointArg {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, address) = match text.split_once("://") {
            None => (None, text),
            Some(("http", address)) => (Some(Scheme::Http), address),
            Some(("https", address)) => (Some(Scheme::Https), address),
            Some((other, _)) => return Err(EndpointError::Scheme(other.chars().take(40).collect())),
        };
        let address = address.strip_suffix('/').unwrap_or(address).parse()?;
        Ok(Self { scheme, address })
    }
}

impl fmt::Display for EndpointArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{}://", scheme.as_str())?;
        }
        self.address.fmt(f)
    }
}
