//! Addresses, lists of them, and peers, as arguments name them.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use primacy_election::PeerAddress;
use thiserror::Error;

use super::host_name;

/// The parts of a list, which commas separate; blanks around them, and empty ones, mean nothing.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A part of a list as the command line has taken it apart; none if it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListItem<T>(pub Option<T>);

impl<T: FromStr> FromStr for ListItem<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        list(text).next().map(str::parse).transpose().map(Self)
    }
}

/// `host:port`, where the host may be a name that is resolved at every dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort(Arc<str>);

/// A peer as it is told: `[ID=]HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerArg(pub PeerAddress);

/// An address that is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// It is not `ip:port`, which is all that can be listened on.
    #[error("`{0}` is not IP:PORT, such as 127.0.0.1:50051 or 0.0.0.0:50051")]
    NotIpPort(String),
    /// It is not `host:port`.
    #[error("`{0}` is not HOST:PORT, such as worker1:50052 or [::1]:50052")]
    NotHostPort(String),
    /// The part before `=` is no id.
    #[error("`{0}` is no id; write a whole number from 1 to 2147483647, as in 4=leader:50051")]
    BadId(String),
}

impl HostPort {
    /// The address as text.
    pub fn as_arc(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The address that others use for a socket that listens here: by the host's name if it listens everywhere.
    pub fn of_listener(listens: SocketAddr) -> Self {
        let text = match listens.ip().is_unspecified() {
            true => format!("{}:{}", host_name(), listens.port()),
            false => listens.to_string(),
        };
        Self(text.into())
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || AddressError::NotHostPort(text.chars().take(80).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let good_host = bracketed || (!host.is_empty() && host.bytes().all(plain));
        let good_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        if good_host && good_port && text.len() < 256 { Ok(Self(text.into())) } else { Err(wrong()) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PeerArg {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, address) = match text.split_once('=') {
            Some((id, address)) => (Some(parse_id(id)?), address),
            None => (None, text),
        };
        let HostPort(grpc_addr) = address.parse()?;
        Ok(Self(PeerAddress { id, grpc_addr }))
    }
}

pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| AddressError::NotIpPort(text.chars().take(80).collect()))
}

pub(super) fn parse_id(text: &str) -> Result<u32, AddressError> {
    let id = text.parse::<u32>().ok().filter(|id| (1..=i32::MAX as u32).contains(id));
    id.ok_or_else(|| AddressError::BadId(text.chars().take(40).collect()))
}
