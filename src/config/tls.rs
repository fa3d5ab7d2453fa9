//! `--tls` and what belongs to it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use thiserror::Error;

use super::{ConfigError, SettingNames};
use crate::{
    connection::{
        pem::PemError,
        tls::{ClientCertificates, Tls, TlsFiles, TlsMode},
    },
    reload::{self, Reload},
};

/// TLS as it is told.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// Whether both ports speak TLS, and peers are dialled over it [default: on with --tls-cert, else off]
    #[arg(long, env = "PRIMACY_TLS", value_enum, value_name = "MODE")]
    tls: Option<TlsArg>,
    /// This node's certificate in PEM, followed by those between it and the root. It names the hosts that --advertise-grpc
    /// and --peers name, and serves both ends of a connection. Read again when it changes, as the next two are
    #[arg(long, env = "PRIMACY_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, env = "PRIMACY_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The CAs by which peers are believed, in PEM: a node calls, and takes calls of, only nodes with a certificate of
    /// theirs. To change a CA, name the old and the new one for a while
    #[arg(long, env = "PRIMACY_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Whom to ask for a certificate of --tls-ca [default: ask]
    #[arg(long, env = "PRIMACY_TLS_CLIENTS", value_enum, value_name = "WHOM")]
    tls_clients: Option<ClientCertificates>,
}

/// Whether a node speaks TLS, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsArg {
    /// Clear text only
    Off,
    /// Clear text too, for the time of a change: peers are dialled over TLS only when they take nothing else
    Accept,
    /// TLS only
    On,
}

/// Settings of TLS that cannot be. Each names the settings as they were told.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TlsSettingError {
    /// Half of a pair.
    #[error("{0} needs {1} too: give both, or neither")]
    Half(String, &'static str),
    /// TLS without a certificate.
    #[error(
        "{0} needs a certificate and its key; give --tls-cert and --tls-key, such as scripts/certs.sh makes"
    )]
    NoCertificate(String),
    /// Peers that could not be believed.
    #[error(
        "{0} leads to other nodes, and without --tls-ca this node could not tell them from strangers; give --tls-ca, the CA of their certificates"
    )]
    NoAuthority(String),
    /// Callers are to show certificates that nobody could verify.
    #[error("{0} needs --tls-ca, the CA of the certificates that are asked for")]
    NoClientAuthority(String),
    /// Callers in clear text show no certificate.
    #[error(
        "{0} takes callers in clear text, who show no certificate, and {1} refuses them; leave one of the two out"
    )]
    AcceptAndRequire(String, String),
    /// A file will not do.
    #[error("TLS by --tls-cert, --tls-key and --tls-ca: {0}")]
    File(#[from] PemError),
    /// A file cannot be read.
    #[error("TLS by --tls-cert, --tls-key and --tls-ca: {0}")]
    Unreadable(String),
}

/// TLS of a node, and how it is replaced.
pub(super) type ReadTls = Option<(Tls, Reload)>;

impl TlsArgs {
    /// The TLS that was told, if any. `leads_to_peers` is the setting by which there are other nodes.
    pub(super) fn read(
        &self,
        told: &SettingNames,
        leads_to_peers: Option<&str>,
    ) -> Result<ReadTls, ConfigError> {
        Ok(self.judge(told, leads_to_peers)?)
    }

    fn judge(&self, told: &SettingNames, leads_to_peers: Option<&str>) -> Result<ReadTls, TlsSettingError> {
        let name = |flag: &'static str| told.name(flag).to_owned();
        let (certificate, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(_), None) => return Err(TlsSettingError::Half(name("--tls-cert"), "--tls-key")),
            (None, Some(_)) => return Err(TlsSettingError::Half(name("--tls-key"), "--tls-cert")),
            (None, None) => return self.without_certificate(told),
        };
        let mode = match self.tls.unwrap_or(TlsArg::On) {
            TlsArg::Off => return Ok(None),
            TlsArg::Accept => TlsMode::Accept,
            TlsArg::On => TlsMode::On,
        };
        let clients = self.tls_clients.unwrap_or_default();
        if self.tls_ca.is_none() {
            if let Some(setting) = leads_to_peers {
                return Err(TlsSettingError::NoAuthority(setting.to_owned()));
            }
            if self.tls_clients.is_some() {
                return Err(TlsSettingError::NoClientAuthority(name("--tls-clients")));
            }
        }
        if (mode, clients) == (TlsMode::Accept, ClientCertificates::Require) {
            return Err(TlsSettingError::AcceptAndRequire(name("--tls"), name("--tls-clients")));
        }
        let files = TlsFiles { certificate, key, authorities: self.tls_ca.clone() };
        let contents = reload::read(&files.paths()).map_err(TlsSettingError::Unreadable)?;
        let tls = Tls::new(mode, files.credentials(&contents, clients)?);
        Ok(Some((tls.clone(), reload(tls, files, contents, clients))))
    }

    /// Nothing that needs a certificate may be told.
    fn without_certificate(&self, told: &SettingNames) -> Result<ReadTls, TlsSettingError> {
        let needs_one = [
            ("--tls", self.tls.is_some_and(|mode| mode != TlsArg::Off)),
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-clients", self.tls_clients.is_some()),
        ];
        match needs_one.iter().find(|(_, is_told)| *is_told) {
            Some((flag, _)) if self.tls != Some(TlsArg::Off) => {
                Err(TlsSettingError::NoCertificate(told.name(flag).to_owned()))
            }
            _ => Ok(None),
        }
    }
}

fn reload(tls: Tls, files: TlsFiles, contents: Vec<Vec<u8>>, clients: ClientCertificates) -> Reload {
    Reload::new(files.paths(), contents, move |contents| {
        tls.replace(files.credentials(contents, clients)?);
        Ok::<_, PemError>(format!(
            "the certificate in {} and what belongs to it were read again; new connections use them",
            files.certificate.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::config;

    #[test]
    fn settings_that_do_not_go_together_are_refused_with_what_to_do() {
        let pair = ["--tls-cert", "/no/cert", "--tls-key", "/no/key"];
        let with = |more: &[&'static str]| [&pair[..], more].concat();
        for (arguments, says) in [
            (vec!["--tls-cert", "c"], "--tls-cert needs --tls-key too"),
            (vec!["--tls-key", "k"], "--tls-key needs --tls-cert too"),
            (vec!["--tls", "on"], "--tls needs a certificate and its key"),
            (vec!["--tls", "accept"], "--tls needs a certificate and its key"),
            (vec!["--tls-ca", "a"], "--tls-ca needs a certificate and its key"),
            (vec!["--tls-clients", "ask"], "--tls-clients needs a certificate and its key"),
            (with(&["--peers", "a:1"]), "--peers leads to other nodes, and without --tls-ca"),
            (with(&["--tls", "accept", "--peers", "a:1"]), "without --tls-ca"),
            (with(&["--coordinator", "etcd://a:1"]), "--coordinator leads to other nodes"),
            (with(&["--tls-clients", "require"]), "--tls-clients needs --tls-ca"),
            (
                with(&["--tls-ca", "a", "--tls", "accept", "--tls-clients", "require"]),
                "leave one of the two out",
            ),
            (with(&[]), "cannot read /no/cert"),
            (vec!["--token", "a", "--token-file", "b"], "both name the token"),
            (vec!["--token-file", "/no/token"], "--token-file: cannot read /no/token"),
        ] {
            let refused = config(&arguments).map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains(says), "{arguments:?}: {refused}");
        }
        for fine in [vec!["--tls", "off"], with(&["--tls", "off"]), with(&["--tls", "off", "--peers", "a:1"])]
        {
            assert!(config(&fine).is_ok_and(|config| config.tls.is_none()), "{fine:?}");
        }
    }
}
