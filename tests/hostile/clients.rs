//! Ordinary clients: they ask every 10 ms, verify each answer, and note how long it took.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use tokio_rustls::{client::TlsStream, rustls::ClientConfig};
use tokio_util::either::Either;

use crate::{
    certificates::connect,
    frames::{self, END_STREAM, Frame},
};

/// The time between two requests of a client.
const EVERY: Duration = Duration::from_millis(10);
/// The same for what is asked more rarely: a page that opens, many numbers at once.
const RARELY: Duration = Duration::from_millis(250);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first number that is asked for.
const FIRST: u64 = 1_000_000;

/// Numbers in a bulk.
const BULK: u64 = 20;

/// What the clients saw.
#[derive(Default)]
pub struct Tally {
    /// How long answers took, from when they were due to be asked for.
    pub times: Vec<Duration>,
    pub failures: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failures.extend(other.failures);
    }

    /// Hundredths of a percent would hide one failure among many: the share is rounded down.
    pub fn success(&self) -> f64 {
        let asked = self.times.len() + self.failures.len();
        (self.times.len() as f64 / asked.max(1) as f64 * 1000.0).floor() / 10.0
    }

    /// The time within which so many of a thousand answers came.
    pub fn within(&self, permille: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let place = (times.len() * permille).div_ceil(1000).saturating_sub(1);
        times.get(place).copied().unwrap_or_default()
    }
}

/// How a client asks.
#[derive(Debug, Clone, Copy)]
enum Kind {
    KeptHttp,
    NewHttp,
    KeptGrpc,
    NewGrpc,
    /// A page that opens, and watches.
    Page,
    /// Many numbers as JSON.
    Bulk,
    /// The same as lines.
    Lines,
}

const KINDS: [Kind; 7] =
    [Kind::KeptHttp, Kind::NewHttp, Kind::KeptGrpc, Kind::NewGrpc, Kind::Page, Kind::Bulk, Kind::Lines];

impl Kind {
    fn is_grpc(self) -> bool {
        matches!(self, Self::KeptGrpc | Self::NewGrpc)
    }

    fn is_kept(self) -> bool {
        matches!(self, Self::KeptHttp | Self::KeptGrpc)
    }

    /// A handshake costs the client as much as the node.
    fn every(self, over_tls: bool) -> Duration {
        match self {
            Self::Page | Self::Bulk | Self::Lines => RARELY,
            Self::NewHttp | Self::NewGrpc if over_tls => EVERY * 5,
            _ => EVERY,
        }
    }
}

/// Over TLS, and by what the nodes are believed.
type Tls = Option<Arc<ClientConfig>>;

/// Clients of every kind at each of these nodes, told by name, HTTP and gRPC address; until then.
pub async fn ask(nodes: Vec<(String, SocketAddr, SocketAddr)>, tls: Tls, until: Instant) -> Tally {
    let mut clients = JoinSet::new();
    for (name, http, grpc) in nodes {
        for kind in KINDS {
            let address = if kind.is_grpc() { grpc } else { http };
            clients.spawn(client(name.clone(), kind, address, tls.clone(), until));
        }
    }
    clients.join_all().await.into_iter().fold(Tally::default(), |mut all, tally| {
        all.add(tally);
        all
    })
}

async fn client(node: String, kind: Kind, address: SocketAddr, tls: Tls, until: Instant) -> Tally {
    let (mut tally, mut kept, mut due) = (Tally::default(), None, Instant::now());
    for number in FIRST.. {
        if due.max(Instant::now()) > until {
            break;
        }
        sleep_until(due).await;
        match timeout(PATIENCE, asked(kind, address, &tls, &mut kept, number)).await {
            Ok(Ok(())) => tally.times.push(due.elapsed()),
            failed => {
                kept = None;
                let reason =
                    failed.map_or("no answer in time".to_owned(), |error| error.unwrap_err().to_string());
                tally.failures.push(format!("{kind:?} at {node}: {reason}"));
            }
        }
        // Who is late asks again at once: a stall is felt by all who would have asked meanwhile.
        due = (due + kind.every(tls.is_some())).max(Instant::now() - PATIENCE);
    }
    tally
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection that is kept, and the stream that is next on it.
struct Kept {
    stream: BufReader<Stream>,
    id: u32,
    /// The server has said that it takes no more.
    ending: bool,
}

impl Kept {
    async fn open(address: SocketAddr, tls: &Tls, opening: &[u8]) -> io::Result<Self> {
        let mut stream = match tls {
            Some(config) => Either::Right(Box::new(connect(config, address).await?)),
            None => Either::Left(TcpStream::connect(address).await?),
        };
        let socket = match &stream {
            Either::Left(socket) => socket,
            Either::Right(stream) => stream.get_ref().0,
        };
        socket.set_nodelay(true)?;
        stream.write_all(opening).await?;
        Ok(Self { stream: BufReader::new(stream), id: 1, ending: false })
    }

    /// Whether it can be asked on: as any client, this one looks before it asks.
    async fn is_open(&mut self, kind: Kind) -> bool {
        while !self.ending {
            match self.stream.fill_buf().now_or_never() {
                None => return true,
                Some(Ok([_, ..])) if kind.is_grpc() => self.ending = self.next_frame().await.is_err(),
                Some(_) => self.ending = true,
            }
        }
        false
    }

    async fn next_frame(&mut self) -> io::Result<Frame> {
        let frame = frames::read(&mut self.stream).await?;
        if let Some(owed) = frame.acknowledgement() {
            self.stream.write_all(&owed).await?;
        }
        self.ending |= frame.kind == frames::GOAWAY;
        Ok(frame)
    }
}

async fn asked(
    kind: Kind,
    address: SocketAddr,
    tls: &Tls,
    kept: &mut Option<Kept>,
    number: u64,
) -> io::Result<()> {
    let opening = if kind.is_grpc() { frames::opening() } else { Vec::new() };
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Kept::open(address, tls, &opening).await?,
    };
    if !connection.is_open(kind).await {
        connection = Kept::open(address, tls, &opening).await?;
    }
    match kind {
        Kind::KeptHttp | Kind::NewHttp => over_http(&mut connection, number).await?,
        Kind::KeptGrpc | Kind::NewGrpc => over_grpc(&mut connection, number).await?,
        Kind::Page => first_event(&mut connection).await?,
        Kind::Bulk => {
            let body = format!("{{\"numbers\":[{}]}}", numbers(number).join(","));
            many(&mut connection, "application/json", &body, number).await?;
        }
        Kind::Lines => {
            many(&mut connection, "application/x-ndjson", &numbers(number).join("\n"), number).await?;
        }
    }
    if kind.is_kept() {
        *kept = Some(connection);
    }
    Ok(())
}

async fn over_http(connection: &mut Kept, number: u64) -> io::Result<()> {
    let get = format!("GET /prime/{number} HTTP/1.1\r\nHost: node\r\n\r\n");
    connection.stream.write_all(get.as_bytes()).await?;
    let (head, body) = http_answer(&mut connection.stream).await?;
    connection.ending |= head.to_ascii_lowercase().contains("\r\nconnection: close");
    let expected = format!("\"is_prime\":{}", primacy::is_prime(number));
    let body = String::from_utf8_lossy(&body).into_owned();
    if head.starts_with("HTTP/1.1 200") && body.contains(&expected) {
        return Ok(());
    }
    Err(io::Error::other(format!("{}: {body}", head.lines().next().unwrap_or_default())))
}

/// The numbers of a bulk that begins with this one.
fn numbers(first: u64) -> Vec<String> {
    (first..first + BULK).map(|number| number.to_string()).collect()
}

/// Asks for many numbers, and counts the primes in the answer, to its end.
async fn many(connection: &mut Kept, kind: &str, body: &str, first: u64) -> io::Result<()> {
    let head = format!("POST /primes HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Type: {kind}");
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    connection.stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.stream.read_to_string(&mut answer).await?;
    let expected = (first..first + BULK).filter(|number| primacy::is_prime(*number)).count();
    let primes = answer.matches("\"is_prime\":true").count();
    if answer.starts_with("HTTP/1.1 200") && primes == expected {
        return Ok(());
    }
    Err(io::Error::other(format!("{} and {primes} primes", answer.lines().next().unwrap_or_default())))
}

async fn http_answer(stream: &mut BufReader<Stream>) -> io::Result<(String, Vec<u8>)> {
    let head = http_head(stream).await?;
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.next_back().and_then(|(_, value)| value.trim().parse().ok());
    let mut body = vec![0; length.ok_or_else(|| io::Error::other("an answer without a length"))?];
    stream.read_exact(&mut body).await?;
    Ok((head, body))
}

async fn http_head(stream: &mut BufReader<Stream>) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn over_grpc(connection: &mut Kept, number: u64) -> io::Result<()> {
    let mut value = vec![8];
    let mut rest = number;
    while rest >= 128 {
        value.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    value.push(rest as u8);
    let id = connection.id;
    connection.id += 2;
    let call = frames::call(id, "/scheduler.Scheduler/CheckPrime", &[("grpc-timeout", "5S")]);
    let data = frames::frame(frames::DATA, END_STREAM, id, &frames::message(value.len(), &value));
    connection.stream.write_all(&[call, data].concat()).await?;
    let answer = grpc_answer(connection, id).await?;
    // A boolean that is false is not sent.
    let is_prime = answer.get(5..7) == Some(&[8, 1]);
    if answer.is_empty() || is_prime != primacy::is_prime(number) {
        return Err(io::Error::other(format!("answered {answer:?}")));
    }
    Ok(())
}

/// The message that a call was answered with; empty if it was a failure.
async fn grpc_answer(connection: &mut Kept, id: u32) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let frame = connection.next_frame().await?;
        let ours = frame.stream == id;
        if ours && frame.kind == frames::RST_STREAM || frame.kind == frames::GOAWAY && frame.number() < id {
            return Err(io::Error::other("reset"));
        }
        if ours && frame.kind == frames::DATA {
            message.extend(&frame.payload);
        }
        if ours && frame.ends() {
            return Ok(message);
        }
    }
}

/// What a page that opens needs: the head, and a first event.
async fn first_event(connection: &mut Kept) -> io::Result<()> {
    connection.stream.write_all(b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n").await?;
    let head = http_head(&mut connection.stream).await?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    connection.stream.read_u8().await.map(drop)
}
