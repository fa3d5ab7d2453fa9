//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446) of a node: what it shows, whom it believes, and what it asks of callers. All of
//! it comes from files, and may be replaced while the node runs; connections that are open stay as they are.

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use primacy_election::Scheme;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
        crypto::ring,
        pki_types::UnixTime,
        server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    server::TlsStream,
};
use x509_cert::der::Decode;

use super::{
    Protocols,
    pem::{self, Pair, PemError},
};
use crate::{limits::TLS_UNREAD_BYTES_MAX, text::plain};

/// The files of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs that peers are believed by.
    pub authorities: Option<PathBuf>,
}

/// Whether a node speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// It takes clear text too, and dials TLS only where the peer takes nothing else: for the time of a change.
    Accept,
    /// It speaks nothing else.
    On,
}

/// Whom a node asks for a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientCertificates {
    /// Callers over gRPC, who may have none
    #[default]
    Ask,
    /// Everybody, on both ports; who has none is not served
    Require,
}

/// TLS of a node: the credentials of this moment, for both directions.
#[derive(Clone)]
pub struct Tls {
    mode: TlsMode,
    /// Whether there is a CA, which does not change.
    has_authority: bool,
    current: Arc<watch::Sender<Arc<Credentials>>>,
}

/// What the files said when they were last read.
pub struct Credentials {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    peers: Arc<ClientConfig>,
    /// Who verifies what callers show.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// When the certificate expires.
    expires: SystemTime,
    /// How long it is good altogether.
    lifetime: Duration,
}

impl TlsFiles {
    /// All of them, in the order in which [`Self::credentials`] takes their contents.
    pub fn paths(&self) -> Vec<PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.authorities).cloned().collect()
    }

    /// What these contents say.
    ///
    /// # Errors
    /// What is wrong with which of the files.
    pub fn credentials(
        &self,
        contents: &[Vec<u8>],
        clients: ClientCertificates,
    ) -> Result<Credentials, PemError> {
        let content = |place: usize| contents.get(place).map(Vec::as_slice).unwrap_or_default();
        let pair = Pair::new((&self.certificate, content(0)), (&self.key, content(1)))?;
        let authorities = self.authorities.as_ref().map(|path| pem::authorities((path, content(2))));
        let authorities = authorities.transpose()?;
        let asks = authorities.clone().map(|roots| self.verifier(roots, clients)).transpose()?;
        let (expires, lifetime) = expiry(&pair);
        let requires = asks.clone().filter(|_| clients == ClientCertificates::Require);
        Ok(Credentials {
            expires,
            lifetime,
            grpc: server(&pair, asks.clone(), &[b"h2"])?,
            // There are clients of HTTP/1.0 that say so.
            http: server(&pair, requires, &[b"h2", b"http/1.1", b"http/1.0"])?,
            // Without a CA it believes nobody.
            peers: Arc::new(pem::client(authorities.unwrap_or_else(RootCertStore::empty), Some(&pair))?),
            verifier: asks,
        })
    }

    fn verifier(
        &self,
        authorities: RootCertStore,
        clients: ClientCertificates,
    ) -> Result<Arc<dyn ClientCertVerifier>, PemError> {
        let builder = WebPkiClientVerifier::builder_with_provider(authorities.into(), pem::provider());
        let builder = match clients {
            ClientCertificates::Ask => builder.allow_unauthenticated(),
            ClientCertificates::Require => builder,
        };
        let path = || self.authorities.clone().unwrap_or_default();
        builder.build().map_err(|error| PemError::BadAuthority(path(), plain(&error.to_string())))
    }
}

fn server(
    pair: &Pair,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, PemError> {
    let builder = ServerConfig::builder_with_provider(pem::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| pair.bad(error))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(pair.chain.clone(), pair.key.clone_key())
        .map_err(|error| pair.bad(error))?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // A session is kept by its client, so that no number of them costs memory here. The key that seals it is drawn anew
    // with each change of the files: what was agreed on by others is not resumed.
    config.ticketer = ring::Ticketer::new().map_err(|error| pair.bad(error))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// When the certificate expires, long ago if it does not say so; and how long it is good altogether.
fn expiry(pair: &Pair) -> (SystemTime, Duration) {
    let certificate = pair.chain.first().and_then(|der| x509_cert::Certificate::from_der(der).ok());
    let ends = certificate.map_or((Duration::ZERO, Duration::ZERO), |certificate| {
        let validity = certificate.tbs_certificate.validity;
        (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration())
    });
    (UNIX_EPOCH + ends.1, ends.1.saturating_sub(ends.0))
}

impl Tls {
    /// With these credentials to begin with.
    pub fn new(mode: TlsMode, credentials: Credentials) -> Self {
        let has_authority = credentials.verifier.is_some();
        Self { mode, has_authority, current: Arc::new(watch::Sender::new(Arc::new(credentials))) }
    }

    /// What new connections take from now on.
    pub fn replace(&self, credentials: Credentials) {
        self.current.send_replace(Arc::new(credentials));
    }

    /// Whether it takes clear text too.
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// What it says that its addresses speak.
    pub fn scheme(&self) -> Scheme {
        match self.mode {
            TlsMode::Accept => Scheme::Http,
            TlsMode::On => Scheme::Https,
        }
    }

    /// Whether callers must show a certificate to count as peers.
    pub fn certifies_peers(&self) -> bool {
        self.mode == TlsMode::On && self.has_authority
    }

    /// When the certificate expires, in seconds since the Unix epoch.
    pub fn expires_at(&self) -> u64 {
        self.credentials().expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// How long until the certificate expires; zero when it has.
    pub fn expires_in(&self, now: SystemTime) -> Duration {
        self.credentials().expires.duration_since(now).unwrap_or_default()
    }

    /// How long the certificate is good altogether.
    pub fn lifetime(&self) -> Duration {
        self.credentials().lifetime
    }

    /// Whether there is a CA, which peers are believed by.
    pub fn has_authority(&self) -> bool {
        self.has_authority
    }

    /// With what a peer is dialled that speaks this; nothing where that is clear text.
    pub fn for_peer(&self, scheme: Scheme) -> Option<Arc<ClientConfig>> {
        let dials = self.mode == TlsMode::On || scheme == Scheme::Https;
        dials.then(|| Arc::clone(&self.credentials().peers))
    }

    /// Agrees on TLS with a caller; says whether that has shown a certificate.
    ///
    /// # Errors
    /// When they do not agree, or the caller's certificate is not believed.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        protocols: Protocols,
        stream: S,
    ) -> io::Result<(TlsStream<S>, bool)> {
        let credentials = self.credentials();
        let config = match protocols {
            Protocols::Grpc => &credentials.grpc,
            Protocols::Http => &credentials.http,
        };
        let mut stream = TlsAcceptor::from(Arc::clone(config)).accept(stream).await?;
        stream.get_mut().1.set_buffer_limit(Some(TLS_UNREAD_BYTES_MAX));
        let is_certified = credentials.certifies(stream.get_ref().1)?;
        Ok((stream, is_certified))
    }

    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.current.borrow())
    }
}

impl Credentials {
    /// Whether the caller has shown a certificate. That of a session that was resumed may have expired since.
    fn certifies(&self, connection: &ServerConnection) -> io::Result<bool> {
        let (Some([leaf, others @ ..]), Some(verifier)) = (connection.peer_certificates(), &self.verifier)
        else {
            return Ok(false);
        };
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            let verified = verifier.verify_client_cert(leaf, others, UnixTime::now());
            verified.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(true)
    }
}

impl fmt::Debug for Tls {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.mode)
    }
}
