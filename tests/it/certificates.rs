//! CAs, certificates and clients over TLS, for tests.

#![allow(dead_code)]

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::harness::free_address;

/// A CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Paper {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this machine.
    pub fn issue(&self) -> Paper {
        self.issue_with(&["localhost", "127.0.0.1"], |_| {})
    }

    /// One for these hosts, changed.
    pub fn issue_with(&self, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Paper {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Paper { certificate, key: key.serialize_pem() }
    }

    /// One that expires so long from now.
    pub fn issue_for(&self, time: Duration) -> Paper {
        self.issue_with(&["127.0.0.1"], |params| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            params.not_after = date_time_ymd(1970, 1, 1) + now + time;
        })
    }

    /// One that expired long ago.
    pub fn issue_expired(&self) -> Paper {
        self.issue_with(&["127.0.0.1"], |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
        })
    }
}

/// A folder of files, which goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("primacy-files-{}", free_address().port()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// With what a node needs: its pair and its CA.
    pub fn with(paper: &Paper, authorities: &str) -> Self {
        let folder = Self::new();
        folder.replace(paper, authorities);
        folder
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    pub fn replace(&self, paper: &Paper, authorities: &str) {
        self.write("node.pem", &paper.certificate);
        self.write("node-key.pem", &paper.key);
        self.write("ca.pem", authorities);
    }

    /// The arguments of a node that shows and believes what is here.
    pub fn arguments(&self) -> Vec<String> {
        let files = [("--tls-cert", "node.pem"), ("--tls-key", "node-key.pem"), ("--tls-ca", "ca.pem")];
        files.iter().flat_map(|(flag, file)| [(*flag).to_owned(), self.path(file)]).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a client believes and shows.
pub fn client_config(authorities: &str, shows: Option<&Paper>) -> ClientConfig {
    config_of(&[&TLS12, &TLS13], authorities, shows)
}

/// The same with these versions of TLS.
pub fn config_of(
    versions: &[&'static SupportedProtocolVersion],
    authorities: &str,
    shows: Option<&Paper>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let Some(Paper { certificate, key }) = shows else { return builder.with_no_client_auth() };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
}

/// A client of HTTP/1.1, with a connection for each request.
#[derive(Clone)]
pub struct Https(Arc<ClientConfig>);

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub head: String,
    pub body: String,
}

pub fn https(authorities: &str, shows: Option<&Paper>) -> Https {
    Https(Arc::new(client_config(authorities, shows)))
}

impl Https {
    pub async fn get(&self, address: SocketAddr, path: &str) -> io::Result<Answer> {
        self.ask(address, "GET", path, "").await
    }

    pub async fn post(&self, address: SocketAddr, path: &str, body: &str) -> io::Result<Answer> {
        self.ask(address, "POST", path, body).await
    }

    async fn ask(&self, address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut stream = connect(&self.0, address).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Answer { head: head.to_owned(), body: body.to_owned() })
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A connection of TLS, once the other side has agreed.
pub async fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// A connection of gRPC.
pub async fn channel(
    address: SocketAddr,
    authorities: &str,
    shows: Option<&Paper>,
) -> Result<Channel, Status> {
    let mut config = client_config(authorities, shows);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let connector = service_fn(move |_| {
        let config = Arc::clone(&config);
        async move { connect(&config, address).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| Status::unavailable(format!("{error:?}")))
}
