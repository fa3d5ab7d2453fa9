//! Bodies that are large, slow, endless or unread, and answers that are dear.

use std::{collections::BTreeMap, io, sync::LazyLock, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::yield_now,
    time::sleep,
};

use crate::{
    attacker::{Attacker, drained, repeat, to_the_end},
    frames::{self, END_STREAM, FRAME_MAX},
    harness::long_number,
};

/// Messages of so many bytes are announced.
const ANNOUNCED: usize = 1_000_000;
/// So many bytes of each are never sent.
const KEPT_BACK: usize = 16;
/// Streams of a connection, as many as the server allows.
const STREAMS: u32 = 256;

/// Messages that the token has not been asked for, of which all but the last bytes is sent.
pub fn heartbeats(attacker: &mut Attacker) {
    attacker.connections(4, attacker.grpc, fill_streams);
}

/// What can still be sent on a connection.
struct Sending {
    initial: usize,
    connection: usize,
    /// By stream: its window, and what is left of its body.
    streams: BTreeMap<u32, (usize, usize)>,
}

async fn fill_streams(stream: TcpStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    writer.write_all(&frames::opening()).await?;
    let mut sending =
        Sending { initial: frames::WINDOW, connection: frames::WINDOW, streams: BTreeMap::new() };
    // The server's windows are to be known before a stream begins with one.
    while !sending.next_frame(&mut reader, &mut writer).await? {}
    let mut ids = (1..).step_by(2);
    loop {
        while sending.streams.len() < STREAMS as usize {
            let id = ids.next().unwrap();
            let prefix = frames::data(id, &frames::message(ANNOUNCED, b""));
            let call = frames::call(id, "/scheduler.Worker/Heartbeat", &[("grpc-timeout", "300S")]);
            writer.write_all(&[call, prefix].concat()).await?;
            sending.begin(id);
        }
        while let Some(bytes) = sending.next() {
            writer.write_all(&bytes).await?;
        }
        sending.next_frame(&mut reader, &mut writer).await?;
    }
}

impl Sending {
    /// Takes what the server says next; returns whether it was its settings.
    async fn next_frame(
        &mut self,
        reader: &mut BufReader<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
    ) -> io::Result<bool> {
        let frame = frames::read(reader).await?;
        if let Some(owed) = frame.acknowledgement() {
            writer.write_all(&owed).await?;
        }
        self.take(&frame);
        Ok(frame.kind == frames::SETTINGS)
    }

    fn begin(&mut self, id: u32) {
        const PREFIX: usize = 5;
        self.connection = self.connection.saturating_sub(PREFIX);
        self.streams.insert(id, (self.initial - PREFIX, ANNOUNCED - KEPT_BACK));
    }

    /// A frame that the windows have room for.
    fn next(&mut self) -> Option<Vec<u8>> {
        let connection = self.connection;
        let room = |window: usize, left: usize| window.min(left).min(connection).min(FRAME_MAX);
        let mut ready = self.streams.iter_mut().filter(|(_, (window, left))| room(*window, *left) > 0);
        let (id, (window, left)) = ready.next()?;
        let length = room(*window, *left);
        *window -= length;
        *left -= length;
        self.connection -= length;
        Some(frames::data(*id, &vec![0; length]))
    }

    fn take(&mut self, frame: &frames::Frame) {
        self.initial = frame.initial_window().unwrap_or(self.initial);
        let more = frame.number() as usize;
        match (frame.kind, self.streams.get_mut(&frame.stream)) {
            (frames::WINDOW_UPDATE, Some((window, _))) => *window += more,
            (frames::WINDOW_UPDATE, None) if frame.stream == 0 => self.connection += more,
            _ if frame.ends() => drop(self.streams.remove(&frame.stream)),
            _ => {}
        }
    }
}

/// Bodies that come in frames of one byte each.
pub fn one_byte_frames(attacker: &mut Attacker) {
    const OPEN: u32 = 50;
    /// Fewer than the longest body has.
    const BYTES: usize = 16_000;
    /// Frames of a stream that are written at once.
    const BURST: usize = 20;
    attacker.connections(20, attacker.http, |stream| async {
        drained(stream, |mut writer| async move {
            writer.write_all(&frames::opening()).await?;
            for first in (1..).step_by(2 * OPEN as usize) {
                let ids = || (first..).step_by(2).take(OPEN as usize);
                let json = [("content-type", "application/json")];
                let heads: Vec<u8> =
                    ids().flat_map(|id| frames::request(id, 0, "POST", "/prime", &json)).collect();
                writer.write_all(&heads).await?;
                let burst: Vec<u8> = ids().flat_map(|id| frames::data(id, b" ").repeat(BURST)).collect();
                for _ in 0..BYTES / BURST {
                    writer.write_all(&burst).await?;
                    yield_now().await;
                }
                let ends: Vec<u8> =
                    ids().flat_map(|id| frames::frame(frames::DATA, END_STREAM, id, b"")).collect();
                writer.write_all(&ends).await?;
            }
            Ok(())
        })
        .await
    });
}

/// The largest file there is, compressed.
pub fn bundle(attacker: &mut Attacker) {
    attacker.connections(4, attacker.http, |stream| fetch(stream, "/docs/swagger-ui-bundle.js"));
}

/// Answers that are made anew, compressed.
pub fn documents(attacker: &mut Attacker) {
    attacker.connections(32, attacker.http, |stream| fetch(stream, "/openapi.json"));
    attacker.connections(32, attacker.http, |stream| fetch(stream, "/results"));
}

async fn fetch(mut stream: TcpStream, path: &str) -> io::Result<()> {
    let get =
        format!("GET {path} HTTP/1.1\r\nHost: node\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
    stream.write_all(get.as_bytes()).await?;
    to_the_end(stream).await
}

/// The largest file, read in pieces of 4 KiB.
pub fn slow_readers(attacker: &mut Attacker) {
    attacker.slow_connections(200, attacker.http, Some(4096), |mut stream| async move {
        stream
            .write_all(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
            .await?;
        let mut piece = [0; 4096];
        while stream.read(&mut piece).await? > 0 {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    });
}

const NDJSON: &str = "POST /primes HTTP/1.1\r\nHost: node\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Bulks of one line that never ends.
pub fn endless_lines(attacker: &mut Attacker) {
    attacker.connections(64, attacker.http, |stream| async {
        drained(stream, |mut writer| async move {
            writer.write_all(NDJSON.as_bytes()).await?;
            repeat(&mut writer, &chunk(&[b'7'; 16_000])).await
        })
        .await
    });
}

/// Bulks whose answers nobody reads.
pub fn unread_bulks(attacker: &mut Attacker) {
    attacker.slow_connections(64, attacker.http, Some(4096), |mut stream| async move {
        stream.write_all(NDJSON.as_bytes()).await?;
        repeat(&mut stream, &chunk(&b"1000003\n".repeat(2000))).await
    });
}

/// JSON bodies of 8 MiB, which are held as a whole.
pub fn json_bulks(attacker: &mut Attacker) {
    const BYTES: usize = 8 * 1024 * 1024;
    const PIECE: usize = 64 * 1024;
    attacker.connections(16, attacker.http, |stream| async {
        drained(stream, |mut writer| async move {
            let head = "POST /primes HTTP/1.1\r\nHost: node\r\nContent-Type: application/json";
            let (first, last) = ("{\"numbers\":[", "17]}");
            writer.write_all(format!("{head}\r\nContent-Length: {BYTES}\r\n\r\n{first}").as_bytes()).await?;
            let mut left = BYTES - first.len() - last.len();
            while left > 0 {
                let piece = left.min(PIECE);
                writer.write_all(&[b' '; PIECE][..piece]).await?;
                left -= piece;
                yield_now().await;
            }
            writer.write_all(last.as_bytes()).await?;
            sleep(Duration::from_secs(1)).await;
            Ok(())
        })
        .await
    });
}

/// Messages that grow when they are decompressed.
pub fn bombs(attacker: &mut Attacker) {
    attacker.connections(20, attacker.grpc, |stream| async {
        drained(stream, |mut writer| async move {
            let message = frames::message_compressed(&bomb(30_000));
            writer.write_all(&frames::opening()).await?;
            for id in (1..).step_by(2) {
                let call = frames::call(id, "/scheduler.Scheduler/CheckPrime", &[("grpc-encoding", "gzip")]);
                let (first, second) = message.split_at(message.len() / 2);
                let last = frames::frame(frames::DATA, END_STREAM, id, second);
                writer.write_all(&[call, frames::data(id, first), last].concat()).await?;
                yield_now().await;
            }
            Ok(())
        })
        .await
    });
}

/// A gzip (RFC 1952) of so many bytes whose content is zeros, 158 times as many: the code for 258 bytes more, 1 byte
/// back, has 13 bits.
fn bomb(bytes: usize) -> Vec<u8> {
    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // The last block, with fixed codes; a zero; and then the code again and again.
    let first = [true, true, false].into_iter().chain([false, false, true, true, false, false, false, false]);
    let code = [true, true, false, false, false, true, false, true, false, false, false, false, false];
    let bits: Vec<bool> = first.chain(code.into_iter().cycle()).take(bytes * 8).collect();
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    HEAD.into_iter().chain(bits.chunks(8).map(byte)).collect()
}

/// Checks that take as long as a client may ask for.
pub fn long_numbers(attacker: &mut Attacker) {
    static BODY: LazyLock<String> = LazyLock::new(|| format!("{{\"number\":{}}}", long_number(10_000)));
    attacker.connections(64, attacker.http, |stream| async {
        drained(stream, |mut writer| async move {
            let head =
                "POST /prime HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nGrpc-Timeout: 300S";
            let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{}", BODY.len(), *BODY);
            writer.write_all(request.as_bytes()).await?;
            sleep(Duration::from_secs(60)).await;
            Ok(())
        })
        .await
    });
}
