//! Streams that are held.

use std::io;

use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Duration, sleep, timeout},
};

use crate::{
    attacker::{Attacker, hold},
    frames::{self, END_STREAM},
};

/// Streams of a connection, as many as the server allows.
const STREAMS: usize = 256;
/// The pause after some of them ended: a server that refuses them must not be asked again at once.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a connection is kept whose streams end with it: they are all there by then.
const HELD: Duration = Duration::from_millis(300);

/// Requests that have sent only their head.
pub fn heads_only(attacker: &mut Attacker) {
    attacker.connections(16, attacker.http, |stream| hold_streams(stream, post));
    attacker.connections(16, attacker.grpc, |stream| hold_streams(stream, call));
}

/// The same on connections that end after a while, and all of their streams with them.
pub fn ended(attacker: &mut Attacker) {
    attacker.connections(16, attacker.http, |stream| hold_for_a_while(stream, post));
    attacker.connections(16, attacker.grpc, |stream| hold_for_a_while(stream, call));
}

fn post(id: u32) -> Vec<u8> {
    frames::request(id, 0, "POST", "/prime", &[("content-type", "application/json")])
}

fn call(id: u32) -> Vec<u8> {
    frames::call(id, "/scheduler.Scheduler/CheckPrime", &[("grpc-timeout", "300S")])
}

/// Streams outside of what is counted: unary ones of peers, health, reflection.
pub fn idle(attacker: &mut Attacker) {
    attacker.connections(20, attacker.grpc, |stream| {
        hold_streams(stream, |id| {
            frames::call(id, "/scheduler.Worker/Heartbeat", &[("grpc-timeout", "300S")])
        })
    });
    attacker.connections(20, attacker.grpc, |stream| {
        hold_streams(stream, |id| {
            let all = frames::frame(frames::DATA, END_STREAM, id, &frames::message(0, b""));
            [frames::call(id, "/grpc.health.v1.Health/Watch", &[]), all].concat()
        })
    });
    attacker.connections(20, attacker.grpc, |stream| {
        hold_streams(stream, |id| {
            frames::call(id, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[])
        })
    });
}

/// All that a node has for those who watch.
pub fn watchers(attacker: &mut Attacker) {
    attacker.connections(1, attacker.grpc, |stream| {
        hold_streams(stream, |id| {
            let all = frames::frame(frames::DATA, END_STREAM, id, &frames::message(0, b""));
            [frames::call(id, "/scheduler.Scheduler/WatchCluster", &[]), all].concat()
        })
    });
}

/// Answers that cannot be sent, small and large.
pub fn no_window(attacker: &mut Attacker) {
    attacker.connections(16, attacker.grpc, |stream| {
        hold_unread(stream, |id| {
            let message = frames::message(2, &[8, 17]);
            let data = frames::frame(frames::DATA, END_STREAM, id, &message);
            [frames::call(id, "/scheduler.Scheduler/CheckPrime", &[]), data].concat()
        })
    });
    attacker.connections(16, attacker.http, |stream| {
        hold_unread(stream, |id| frames::request(id, END_STREAM, "GET", "/docs/swagger-ui-bundle.js", &[]))
    });
}

/// The largest file on every stream, with windows for all of it, and nobody reads the connection.
pub fn unread(attacker: &mut Attacker) {
    attacker.connections(16, attacker.http, |mut stream| async {
        stream.write_all(&frames::opening()).await?;
        for id in (1..).step_by(2).take(STREAMS) {
            let get = frames::request(id, END_STREAM, "GET", "/docs/swagger-ui-bundle.js", &[]);
            stream.write_all(&get).await?;
        }
        hold(stream).await
    });
}

async fn hold_unread(stream: TcpStream, open: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    hold_streams_after(stream, frames::opening_unread(), open).await
}

async fn hold_streams(stream: TcpStream, open: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    hold_streams_after(stream, frames::opening(), open).await
}

async fn hold_for_a_while(stream: TcpStream, open: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    timeout(HELD, hold_streams(stream, open)).await.unwrap_or(Ok(()))
}

/// Keeps all streams of a connection open, and opens another one for each that the server ends.
async fn hold_streams_after(
    stream: TcpStream,
    opening: Vec<u8>,
    open: impl Fn(u32) -> Vec<u8>,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    writer.write_all(&opening).await?;
    for id in (1..).step_by(2).take(STREAMS) {
        writer.write_all(&open(id)).await?;
    }
    for id in (1..).step_by(2).skip(STREAMS) {
        loop {
            let frame = frames::read(&mut reader).await?;
            if let Some(owed) = frame.acknowledgement() {
                writer.write_all(&owed).await?;
            }
            if frame.ends() {
                break;
            }
        }
        if id % 64 == 1 {
            sleep(AGAIN).await;
        }
        writer.write_all(&open(id)).await?;
    }
    Ok(())
}
