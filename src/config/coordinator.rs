//! `--coordinator`, and what etcd needs beside it.

use std::str::FromStr;

use thiserror::Error;

use super::{
    ConfigError, NodeArgs,
    address::{AddressError, HostPort, list},
};
use crate::{
    cluster::{
        Coordinator,
        etcd::{Access, EtcdTls},
    },
    connection::pem::{ClientFiles, PemError},
    limits::ETCD_ENDPOINTS_MAX,
    reload::{self, Reload},
};

/// A coordinator as it is told: `bully`, or `etcd://HOST:PORT[,HOST:PORT…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorArg {
    /// The nodes themselves.
    Bully,
    /// An etcd at these endpoints.
    Etcd(Vec<HostPort>),
}

/// A coordinator that is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CoordinatorError {
    /// It is neither of the two.
    #[error(
        "`{0}` is no coordinator; write bully, or etcd://HOST:PORT[,HOST:PORT…], such as etcd://127.0.0.1:2379"
    )]
    Unknown(String),
    /// One of its endpoints is no address.
    #[error(
        "an endpoint of etcd is wrong: {0}; it takes etcd://HOST:PORT[,HOST:PORT…], such as etcd://a:2379,b:2379"
    )]
    Endpoint(#[from] AddressError),
    /// There are too many of them.
    #[error("an etcd has at most {ETCD_ENDPOINTS_MAX} endpoints")]
    TooMany,
}

impl FromStr for CoordinatorArg {
    type Err = CoordinatorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text == "bully" {
            return Ok(Self::Bully);
        }
        let unknown = || CoordinatorError::Unknown(text.chars().take(80).collect());
        let endpoints = text.strip_prefix("etcd://").ok_or_else(unknown)?;
        let endpoints = list(endpoints).map(str::parse).collect::<Result<Vec<HostPort>, _>>()?;
        match endpoints.len() {
            0 => Err(unknown()),
            1..=ETCD_ENDPOINTS_MAX => Ok(Self::Etcd(endpoints)),
            _ => Err(CoordinatorError::TooMany),
        }
    }
}

pub(super) fn coordinator(args: &NodeArgs) -> Result<(Coordinator, Option<Reload>), ConfigError> {
    let CoordinatorArg::Etcd(endpoints) = &args.coordinator else { return Ok((Coordinator::Bully, None)) };
    let user = args.etcd_user.as_deref().map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        (name.to_owned(), args.etcd_password.clone().unwrap_or_else(|| password.to_owned()))
    });
    let endpoints = endpoints.iter().map(HostPort::as_arc).collect();
    let (tls, reload) = tls(args)?.unzip();
    Ok((Coordinator::Etcd(Access { endpoints, user, tls }), reload))
}

/// TLS towards etcd, if any of its files is named; and how it is replaced.
fn tls(args: &NodeArgs) -> Result<Option<(EtcdTls, Reload)>, ConfigError> {
    let pair = match (args.etcd_cert.clone(), args.etcd_key.clone()) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(ConfigError::EtcdTls("ETCDCTL_CERT", "ETCDCTL_KEY")),
        (None, Some(_)) => return Err(ConfigError::EtcdTls("ETCDCTL_KEY", "ETCDCTL_CERT")),
    };
    let authorities = args.etcd_cacert.clone();
    match (&authorities, &pair) {
        (Some(_), _) => {}
        (None, Some(_)) => return Err(ConfigError::EtcdTls("ETCDCTL_CERT", "ETCDCTL_CACERT")),
        (None, None) => return Ok(None),
    }
    let files = ClientFiles { authorities, pair };
    let contents = reload::read(&files.paths()).map_err(ConfigError::EtcdFile)?;
    let config = files.config(&contents).map_err(|error| ConfigError::EtcdFile(error.to_string()))?;
    let tls = EtcdTls::new(config, files.pair.is_some());
    let replaced = tls.clone();
    let reload = Reload::new(files.paths(), contents, move |contents| {
        replaced.replace(files.config(contents)?);
        Ok::<_, PemError>("the certificates for etcd were read again; new connections use them".to_owned())
    });
    Ok(Some((tls, reload)))
}
