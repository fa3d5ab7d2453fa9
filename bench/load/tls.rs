//! Connections in clear text or over TLS, and how long handshakes take.

use std::{error::Error, fs, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        client::Resumption,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_util::either::Either;

/// A handshake that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;
type Config = Option<Arc<ClientConfig>>;

/// What believes the CAs of this file; clear text without one.
pub fn config(cacert: Option<&str>, resumes: bool) -> Result<Config, Box<dyn Error>> {
    let Some(path) = cacert else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(path)?) {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(Some(Arc::new(config)))
}

pub async fn connect(addr: &str, config: &Config) -> Result<Stream, Box<dyn Error>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let Some(config) = config else { return Ok(Either::Left(stream)) };
    let name = ServerName::IpAddress(addr.parse::<SocketAddr>()?.ip().into());
    Ok(Either::Right(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)))
}

/// One full handshake after the other; how long they took, in microseconds, from the connection of TCP on.
pub async fn handshakes(addr: &str, cacert: &str, lasts: Duration) -> Result<Value, Box<dyn Error>> {
    let (config, began) = (config(Some(cacert), false)?, Instant::now());
    let mut times = Vec::new();
    while began.elapsed() < lasts {
        let started = Instant::now();
        timeout(PATIENCE, connect(addr, &config)).await??;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let of = |percent: usize| times[(times.len() * percent).div_ceil(100).saturating_sub(1)].as_micros();
    Ok(json!({"handshakes": times.len(), "p50_us": of(50), "p99_us": of(99)}))
}
