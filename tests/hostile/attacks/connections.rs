//! Connections that are many, slow, silent or short.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::{
    attacker::{Attacker, drained, hold, repeat, to_the_end},
    frames::{self, END_STREAM},
};

/// As many as a listener has places.
const PLACES: usize = 4096;
/// The time between two bytes of a slow writer.
const SLOW: Duration = Duration::from_millis(50);

/// All places of both listeners, after one request each.
pub fn held(attacker: &mut Attacker) {
    attacker.connections(PLACES, attacker.http, |mut stream| async {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await?;
        to_the_end(stream).await
    });
    attacker.connections(PLACES, attacker.grpc, |mut stream| async {
        let get = frames::request(1, END_STREAM, "GET", "/livez", &[]);
        stream.write_all(&[frames::opening(), get].concat()).await?;
        to_the_end(stream).await
    });
}

/// The same from many addresses, so that no share of one binds.
pub fn crowd(attacker: &mut Attacker) {
    attacker.spread(64);
    held(attacker);
}

/// Half as many again as there are places, each of which sends as much as the system takes, behind a request.
pub fn overfull(attacker: &mut Attacker) {
    attacker.spread(4);
    for to in [attacker.http, attacker.grpc] {
        attacker.connections(PLACES * 3 / 2, to, |stream| {
            drained(stream, |mut writer| async move {
                writer.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await?;
                repeat(&mut writer, &[b' '; 16 * 1024]).await
            })
        });
    }
}

/// Bulks that send nothing.
pub fn bulks(attacker: &mut Attacker) {
    attacker.connections(100, attacker.http, |mut stream| async {
        let head = "POST /primes HTTP/1.1\r\nHost: node\r\nContent-Type: application/x-ndjson";
        stream.write_all(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes()).await?;
        to_the_end(stream).await
    });
}

/// Readers of `/events` that read nothing.
pub fn events(attacker: &mut Attacker) {
    attacker.slow_connections(600, attacker.http, Some(2048), |mut stream| async {
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n").await?;
        hold(stream).await
    });
}

/// Heads and bodies that come a byte at a time.
pub fn slow_writers(attacker: &mut Attacker) {
    attacker.connections(250, attacker.http, |stream| slowly(stream, "GET /livez HTTP/1.1\r\nx-slow: "));
    attacker.connections(250, attacker.http, |stream| {
        slowly(stream, "POST /prime HTTP/1.1\r\nHost: node\r\nContent-Length: 16000\r\n\r\n")
    });
}

async fn slowly(stream: TcpStream, first: &str) -> io::Result<()> {
    drained(stream, |mut writer| async move {
        writer.write_all(first.as_bytes()).await?;
        loop {
            writer.write_all(b" ").await?;
            sleep(SLOW).await;
        }
    })
    .await
}

/// Requests whose client ends its side and does not read.
pub fn half_closed(attacker: &mut Attacker) {
    attacker.connections(250, attacker.http, |stream| {
        half_close(stream, b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n".to_vec())
    });
    attacker.connections(250, attacker.grpc, |stream| {
        let call = frames::call(1, "/scheduler.Scheduler/WatchCluster", &[]);
        half_close(stream, [frames::opening(), call].concat())
    });
}

async fn half_close(mut stream: TcpStream, bytes: Vec<u8>) -> io::Result<()> {
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    sleep(Duration::from_secs(1)).await;
    to_the_end(stream).await
}

/// Connections that are reset after a request, or before anything.
pub fn churn(attacker: &mut Attacker) {
    for to in [attacker.http, attacker.grpc] {
        attacker.connections(16, to, |stream| async move { stream.set_zero_linger() });
        attacker.connections(16, to, |mut stream| async move {
            stream.set_zero_linger()?;
            let get = frames::request(1, END_STREAM, "GET", "/livez", &[]);
            stream.write_all(&[frames::opening(), get].concat()).await?;
            stream.read_u8().await.map(drop)
        });
    }
}

/// Clients that take the port for one of TLS.
pub fn tls(attacker: &mut Attacker) {
    // A record of a handshake, a hello in it, TLS 1.2; the rest is of no use to anybody.
    const HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for to in [attacker.http, attacker.grpc] {
        attacker.connections(250, to, |mut stream| async {
            stream.write_all(&[&HELLO[..], &[0x5a; 500]].concat()).await?;
            to_the_end(stream).await
        });
    }
}
