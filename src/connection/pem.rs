//! Certificates and keys in PEM (RFC 7468).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::text::plain;

/// A file that will not do.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum PemError {
    /// It is not PEM, or holds nothing of its kind.
    #[error("{0} holds no {1} in PEM, which begins with -----BEGIN: {2}")]
    NotPem(PathBuf, &'static str, String),
    /// A CA that cannot be believed.
    #[error("{0} holds a certificate that no CA can have: {1}")]
    BadAuthority(PathBuf, String),
    /// They are of two different pairs.
    #[error("the key in {1} does not belong to the certificate in {0}; give the two that were made together")]
    Mismatch(PathBuf, PathBuf),
    /// They cannot be used.
    #[error("the certificate in {0} cannot be used with its key: {1}")]
    BadPair(PathBuf, String),
    /// The system names no CA.
    #[error("this system believes no CA; name the one that signed the certificates of the nodes")]
    NoSystemAuthorities,
}

/// A file that was read, and where it is.
pub type Content<'a> = (&'a PathBuf, &'a [u8]);

/// The files of a client, all in PEM.
#[derive(Debug, Clone)]
pub struct ClientFiles {
    /// The CAs that it believes; without them it believes those of the system.
    pub authorities: Option<PathBuf>,
    /// The certificate that it shows, and its key.
    pub pair: Option<(PathBuf, PathBuf)>,
}

/// A certificate, those between it and the root, and its key.
pub struct Pair {
    /// The certificate comes first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
    paths: (PathBuf, PathBuf),
}

impl ClientFiles {
    /// All of them, in the order in which [`Self::config`] takes their contents.
    pub fn paths(&self) -> Vec<PathBuf> {
        let pair = self.pair.iter().flat_map(|(certificate, key)| [certificate, key]);
        pair.chain(&self.authorities).cloned().collect()
    }

    /// What these contents say.
    ///
    /// # Errors
    /// What is wrong with which of the files.
    pub fn config(&self, contents: &[Vec<u8>]) -> Result<ClientConfig, PemError> {
        let mut contents = contents.iter().map(Vec::as_slice);
        let mut next = || contents.next().unwrap_or_default();
        let pair =
            self.pair.as_ref().map(|(certificate, key)| Pair::new((certificate, next()), (key, next())));
        let pair = pair.transpose()?;
        let authorities = match &self.authorities {
            Some(path) => authorities((path, next()))?,
            None => system_authorities()?,
        };
        client(authorities, pair.as_ref())
    }
}

impl Pair {
    /// That of these two files.
    ///
    /// # Errors
    /// [`PemError::NotPem`]; whether the two fit is known when they are used.
    pub fn new(certificate: Content<'_>, key: Content<'_>) -> Result<Self, PemError> {
        let chain = certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_slice(key.1);
        let private = private.map_err(|error| not_pem(key.0, "private key", &error))?;
        Ok(Self { chain, key: private, paths: (certificate.0.clone(), key.0.clone()) })
    }

    /// What is wrong with it.
    pub fn bad(&self, error: rustls::Error) -> PemError {
        let (certificate, key) = self.paths.clone();
        match error {
            rustls::Error::InconsistentKeys(_) => PemError::Mismatch(certificate, key),
            error => PemError::BadPair(certificate, plain(&error.to_string())),
        }
    }
}

/// What does the cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The CAs of a file.
///
/// # Errors
/// [`PemError::NotPem`] and [`PemError::BadAuthority`].
pub fn authorities(content: Content<'_>) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(content)? {
        let added = roots.add(certificate);
        added.map_err(|error| PemError::BadAuthority(content.0.clone(), plain(&error.to_string())))?;
    }
    Ok(roots)
}

fn system_authorities() -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(PemError::NoSystemAuthorities) } else { Ok(roots) }
}

/// What a client of gRPC shows, and whom it believes.
///
/// # Errors
/// [`PemError::Mismatch`] and [`PemError::BadPair`].
pub fn client(authorities: RootCertStore, pair: Option<&Pair>) -> Result<ClientConfig, PemError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| PemError::BadPair(PathBuf::new(), plain(&error.to_string())))?
        .with_root_certificates(authorities);
    let mut config = match pair {
        Some(pair) => builder
            .with_client_auth_cert(pair.chain.clone(), pair.key.clone_key())
            .map_err(|error| pair.bad(error))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(content: Content<'_>) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content.1).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(PemError::NotPem(content.0.clone(), "certificate", "there is none".to_owned()))
        }
        found => found.map_err(|error| not_pem(content.0, "certificate", &error)),
    }
}

fn not_pem(path: &Path, what: &'static str, error: &impl ToString) -> PemError {
    PemError::NotPem(path.to_owned(), what, plain(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TEXT_CHARS_MAX;

    #[test]
    fn what_is_wrong_is_said_in_a_line_of_bounded_length() {
        let path = PathBuf::from("ca.pem");
        let endless = format!("-----BEGIN {}-----\n", "X".repeat(10_000));
        for (content, says) in [("", "there is none"), ("nonsense", "there is none"), (&endless, "")] {
            let refused = authorities((&path, content.as_bytes())).unwrap_err().to_string();
            assert!(
                refused.starts_with("ca.pem holds no certificate in PEM") && refused.contains(says),
                "{refused}"
            );
            assert!(refused.chars().count() < TEXT_CHARS_MAX + 200 && !refused.contains('\n'), "{refused}");
        }
    }
}
