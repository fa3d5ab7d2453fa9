//! The limits of the listeners, each by its effect; hostile bytes; and the stop.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, http::uri::PathAndQuery};
use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use primacy::{
    Acceptor, Listener, Protocols,
    limits::{
        CONNECTIONS_CROWDED, CONNECTIONS_MAX, DRAIN, FIRST_BYTE_TIMEOUT, HEAD_BYTES_MAX, HEAD_TIMEOUT,
        HELD_BYTES_MAX, LAME_DUCK, MESSAGE_BYTES_MAX, PEER_MESSAGE_BYTES_MAX, PENDING_INTERVAL,
        STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX, UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX, WRITE_TIMEOUT,
    },
    proto::{PrimeRequest, PrimeResponse, WatchClusterRequest, scheduler_client::SchedulerClient},
};
use prost::Message;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, client::Grpc};
use tonic_prost::ProstCodec;

use crate::{
    harness::{
        Process, Processes, SOON, TestNode, all_alive, channel, check, eventually, free_address,
        longest_number,
    },
    http::{Raw, get, goes_on, post},
};

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n";

/// What a limit does "at once" takes less than this, and less than any timeout that could do it instead.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The time within which a connection that stays silent is closed.
fn is_first_byte_timeout(took: Duration) -> bool {
    (FIRST_BYTE_TIMEOUT - Duration::from_millis(500)..Duration::from_secs(10)).contains(&took)
}

/// Both entrances go on.
async fn both_go_on(node: &TestNode, after: &str) {
    goes_on(node, after).await;
    assert!(check(node.grpc, 17).await.unwrap().is_prime, "after {after}");
}

// ── HTTP/2, frame by frame ──────────────────────────────────────────────────────────────────────────────────────

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GO_AWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A POST without Huffman codes and without the dynamic table, as the names stand in HPACK's static table.
pub fn post_block(path: &str, content_type: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let (post, http) = (0x83, 0x86);
    [&[post, http, 0x04][..], &text(path), &[0x01], &text("test"), &[0x0f, 0x10], &text(content_type)]
        .concat()
}

/// One more header of a block, by its name.
pub fn header_block(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[0x00][..], &text(name), &text(value)].concat()
}

pub struct Http2 {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Http2 {
    /// Begins as a client does.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self { stream, read: Vec::new() }
    }

    /// The next frame; `None` when the connection ends.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let [high, middle, low, kind, flags, a, b, c, d, rest @ ..] = &self.read[..] {
                let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let stream = u32::from_be_bytes([*a, *b, *c, *d]);
                    let frame = Frame { kind: *kind, flags: *flags, stream, payload: payload.to_vec() };
                    self.read.drain(..9 + length);
                    return Some(frame);
                }
            }
            match timeout(SOON, self.stream.read_buf(&mut self.read)).await.expect("no frame") {
                Ok(read) if read > 0 => {}
                _ => return None,
            }
        }
    }

    /// The next frame of a kind.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

/// The two entrances, and a request to each that is not whole yet.
fn entrances(node: &TestNode) -> [(SocketAddr, Vec<u8>); 2] {
    [
        (node.http, post_block("/prime", "application/json")),
        (node.grpc, post_block("/scheduler.Scheduler/CheckPrime", "application/grpc")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_256_streams_and_refuses_one_more() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (address, block) in entrances(&node) {
        let mut connection = Http2::connect(address).await;
        let settings = connection.next_of(SETTINGS).await.unwrap().payload;
        let settings: Vec<(u16, u32)> = settings
            .chunks(6)
            .map(|one| {
                (u16::from_be_bytes([one[0], one[1]]), u32::from_be_bytes([one[2], one[3], one[4], one[5]]))
            })
            .collect();
        let (max_streams, max_header_list) = (3, 6);
        assert!(settings.contains(&(max_streams, STREAMS_PER_CONNECTION_MAX)), "{address}: {settings:?}");
        assert!(settings.contains(&(max_header_list, HEAD_BYTES_MAX as u32)), "{address}: {settings:?}");

        let ids = (0..=STREAMS_PER_CONNECTION_MAX).map(|place| 2 * place + 1);
        let heads: Vec<u8> = ids.flat_map(|id| frame(HEADERS, END_HEADERS, id, &block)).collect();
        connection.stream.write_all(&heads).await.unwrap();
        let refused = connection.next_of(RST_STREAM).await.unwrap();
        let refused_stream = 7_u32.to_be_bytes();
        assert_eq!(refused.stream, 2 * STREAMS_PER_CONNECTION_MAX + 1, "{address}");
        assert_eq!(refused.payload, refused_stream, "{address}");
        both_go_on(&node, "257 streams").await;
    }
}

/// An error code of HTTP/2 (RFC 9113, section 7).
const ENHANCE_YOUR_CALM: [u8; 4] = 11_u32.to_be_bytes();

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_harm_nobody_else() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (address, block) in entrances(&node) {
        let mut connection = Http2::connect(address).await;
        let cancel = 8_u32.to_be_bytes();
        let resets = |first: u32| {
            (first..first + 2_000).flat_map(|place| {
                let head = frame(HEADERS, END_HEADERS | END_STREAM, 2 * place + 1, &block);
                head.into_iter().chain(frame(RST_STREAM, 0, 2 * place + 1, &cancel))
            })
        };
        for burst in 0..5 {
            let bytes: Vec<u8> = resets(burst * 2_000).collect();
            if connection.stream.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = connection.stream.write_all(&frame(PING, 0, 0, b"resets..")).await;
        // Resets that come before their requests are taken up end the connection, whose end may overtake the word of
        // it. Where its turns let each request be taken up in time, nothing waits, and it goes on.
        while let Some(frame) = connection.next().await {
            match frame.kind {
                GO_AWAY => assert_eq!(frame.payload[4..8], ENHANCE_YOUR_CALM, "{address}"),
                PING if frame.payload == b"resets.." => break,
                _ => {}
            }
        }
        both_go_on(&node, "rapid resets").await;
    }
}

/// A client that goes away takes up to 32 calls between the nodes with it, all reset at once: no rapid reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_on_a_bulk_break_no_lane() {
    let cluster = Processes::start(3).await;
    let mut random = StdRng::seed_from_u64(5);
    let lines: String = (0..40_000).map(|_| format!("{}\n", random.next_u64() >> 1)).collect();
    let head = "POST /primes HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\n";
    let request = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{lines}\r\n", lines.len());
    for node in &cluster.nodes[..2] {
        let hang_ups = (0..24).map(|seed| {
            let (address, request) = (node.http, request.clone());
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(seed);
                for _ in 0..60 {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    // Whether all of it is taken does not matter.
                    let _ = timeout(Duration::from_secs(1), stream.write_all(request.as_bytes())).await;
                    sleep(Duration::from_micros(random.random_range(0..8_000))).await;
                }
            })
        });
        join_all(hang_ups).await.into_iter().for_each(Result::unwrap);
    }
    for node in &cluster.nodes {
        assert!(!node.has_logged("its lane broke"), "{}", node.log());
        check(node.grpc, 17).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_message_does_not_arrive_ends_with_its_deadline() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for method in
        ["/scheduler.Scheduler/CheckPrime", "/scheduler.Worker/ProcessPrime", "/scheduler.Worker/Heartbeat"]
    {
        let mut client = Grpc::new(channel(node.grpc).await.unwrap());
        client.ready().await.unwrap();
        let mut request = Request::new(stream::pending::<PrimeRequest>());
        // By `grpc-timeout` the client would end the call itself.
        request.metadata_mut().insert("connect-timeout-ms", "300".parse().unwrap());
        let codec = ProstCodec::<PrimeRequest, PrimeResponse>::default();
        let call = client.client_streaming(request, PathAndQuery::from_static(method), codec);
        let status = timeout(SOON, call).await.expect("no answer").unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{method}: {status}");
    }
    both_go_on(&node, "calls without a message").await;
}

/// The clock stands still and jumps: 75 s take no time.
#[tokio::test(start_paused = true)]
async fn a_first_head_takes_no_longer_than_its_time_whatever_it_begins_with() {
    let http1 = &b"GET / HTTP/1.1\r\nHost"[..];
    let begun = [
        (Protocols::Http, &b"P"[..]),
        (Protocols::Http, &PREFACE[..20]),
        (Protocols::Http, PREFACE),
        (Protocols::Http, http1),
        (Protocols::Grpc, b"P"),
        (Protocols::Grpc, PREFACE),
    ];
    for (protocols, begun) in begun {
        let socket = Acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let listener = Listener::new(socket, protocols, Router::new().with_state(()), Arc::default());
        let running = tokio::spawn(listener.run(stop.clone()));
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(begun).await.unwrap();
        let started = tokio::time::Instant::now();
        let _ = connection.read_to_end(&mut Vec::new()).await;
        let took = started.elapsed();
        let expected = FIRST_BYTE_TIMEOUT * 2..HEAD_TIMEOUT + Duration::from_secs(1);
        assert!(expected.contains(&took), "{protocols:?} {:?}: {took:?}", String::from_utf8_lossy(begun));
        stop.cancel();
        running.await.unwrap();
    }
}

/// Most gRPC libraries send each message in a frame of its own. Their calls wait, and h2's defence against small frames
/// does not end the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_that_wait_do_not_end_their_connection() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut connection = Http2::connect(node.grpc).await;
    // Before it is told so, a client may send no more than 65,535 bytes.
    connection.next_of(WINDOW_UPDATE).await.expect("room");
    let decimal = longest_number();
    let long = PrimeRequest { number: 0, decimal }.encode_to_vec();
    let first = [&[0], &u32::try_from(long.len()).unwrap().to_be_bytes()[..], &long].concat();
    let short = message(2, &[0x08, 17]);
    let head = post_block("/scheduler.Scheduler/CheckPrimes", "application/grpc");
    // As many as the window takes, on as many streams as it is said to have room for.
    let room = (STREAM_WINDOW_BYTES as usize - first.len()) / short.len();
    for stream in (1..=27).step_by(2) {
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
        bytes.extend(frame(DATA, 0, stream, &first));
        bytes.extend(frame(DATA, 0, stream, &short).repeat(room));
        connection.stream.write_all(&bytes).await.unwrap();
    }
    let ping = *b"are you?";
    connection.stream.write_all(&frame(PING, 0, 0, &ping)).await.unwrap();
    let answered = async {
        loop {
            let frame = connection.next().await.expect("the connection goes on");
            assert_ne!(frame.kind, GO_AWAY, "{}", String::from_utf8_lossy(&frame.payload));
            if frame.kind == PING && frame.payload == ping {
                return;
            }
        }
    };
    timeout(SOON, answered).await.expect("an answer to the ping");
    let check = post_block("/scheduler.Scheduler/CheckPrime", "application/grpc");
    let bytes = [frame(HEADERS, END_HEADERS, 29, &check), frame(DATA, END_STREAM, 29, &short)].concat();
    connection.stream.write_all(&bytes).await.unwrap();
    while connection.next_of(DATA).await.expect("the connection goes on").stream != 29 {}
}

/// A bulk that is not read takes no more than its own window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_that_is_not_read_holds_up_no_other_call_on_its_connection() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let road = channel(node.grpc).await.unwrap();
    let seventeen = || PrimeRequest { number: 17, decimal: String::new() };
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let requests = stream::repeat_with(move || {
        counted.fetch_add(1, Relaxed);
        seventeen()
    });
    let mut bulk = SchedulerClient::new(road.clone());
    let answers = bulk.check_primes(requests).await.unwrap();
    eventually("it is read from no more", || async {
        let before = sent.load(Relaxed);
        sleep(Duration::from_millis(300)).await;
        before > 0 && sent.load(Relaxed) == before
    })
    .await;
    let mut request = Request::new(seventeen());
    request.set_timeout(SOON);
    let answer = SchedulerClient::new(road).check_prime(request).await.expect("an answer");
    assert!(answer.into_inner().is_prime);
    drop(answers);
}

/// The clock stands still and jumps.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_read_is_closed() {
    let socket = Acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let large = Router::new().route("/", axum::routing::get(|| async { vec![0; 64 << 20] }));
    let listener = Listener::new(socket, Protocols::Http, large.with_state(()), Arc::default());
    let running = tokio::spawn(listener.run(stop.clone()));
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    sleep(WRITE_TIMEOUT + Duration::from_secs(1)).await;
    let mut read = Vec::new();
    let _ = connection.read_to_end(&mut read).await;
    assert!(!read.is_empty() && read.len() < 64 << 20, "{} bytes came", read.len());
    stop.cancel();
    running.await.unwrap();
}

// ── connections ─────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_closed() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let silent =
        [node.http, node.grpc].map(|address| async move { Raw::connect(address).await.closed().await });
    for (sent, took) in join_all(silent).await {
        assert!(is_first_byte_timeout(took), "{took:?}");
        assert!(sent.is_empty(), "{sent:?}");
    }
    both_go_on(&node, "silence").await;
}

/// Some thousands of descriptors more than the test harness has by itself; false where the system has not got them.
fn can_open(descriptors: u64) -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= descriptors);
    let raised = Rlimit { current: maximum, maximum };
    enough(current) || enough(maximum) && setrlimit(Resource::Nofile, raised).is_ok()
}

/// A node in a process of its own, whose descriptors are its own, and where it listens for gRPC and HTTP; none on a
/// system that does not let a process open so many files.
async fn node_for(files: usize) -> Option<(Process, SocketAddr, SocketAddr)> {
    if !can_open(files as u64) {
        println!("left out: this system does not let a process open {files} files");
        return None;
    }
    let (grpc, http) = (free_address(), free_address());
    let node = Process::start(1, "worker1", grpc, http, &format!("1={grpc}"));
    all_alive(grpc, 1).await;
    Some((node, grpc, http))
}

/// So many connections of one address, each answered once, that the address with most loses one for each that comes.
async fn crowd(http: SocketAddr) -> Vec<Raw> {
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_CROWDED {
        let mut connection = Raw::connect(http).await;
        assert!(is_alive(&mut connection).await);
        held.push(connection);
    }
    held
}

/// Many of the places are there for whoever comes; past them the address that has most loses its idlest connection, and
/// nobody else does, however long that one has been idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_many_places_are_taken_the_address_with_most_of_them_loses_the_one_that_is_idle_for_longest() {
    let Some((_node, grpc, http)) = node_for(2 * CONNECTIONS_MAX).await else { return };
    let mut other = connect_from([127, 0, 0, 2], http).await;
    assert!(is_alive(&mut other).await);
    let mut held = crowd(http).await;
    let (sent, took) = held[0].closed().await;
    assert!(sent.is_empty() && took < AT_ONCE, "{took:?}");
    let existing = &mut held[1];
    existing.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let metrics = existing.answer().await.unwrap();
    for counted in ["primacy_connections_refused_total 0\n", "primacy_connections_evicted_total 1\n"] {
        assert!(metrics.text().contains(counted), "{}", metrics.text());
    }
    assert!(is_alive(&mut other).await, "who has one connection keeps it");
    assert!(check(grpc, 17).await.unwrap().is_prime, "the other listener has places of its own");
}

/// As behind a proxy whose clients all return at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_at_once_from_one_address_is_served() {
    const CROWD: usize = CONNECTIONS_CROWDED * 4 / 3;
    let Some((_node, _, http)) = node_for(2 * CROWD).await else { return };
    let crowd: JoinSet<bool> = (0..CROWD)
        .map(|_| async move {
            let mut connection = Raw::connect(http).await;
            is_alive(&mut connection).await
        })
        .collect();
    let served = crowd.join_all().await.into_iter().filter(|is_served| *is_served).count();
    assert_eq!(served, CROWD);
}

/// An address that has most connections, all idle, is served its next ones one after the other, and others meanwhile at
/// once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_with_most_connections_waits_for_more_of_them_and_nobody_else_does() {
    const MORE: usize = 300;
    let Some((_node, _, http)) = node_for(2 * CONNECTIONS_MAX).await else { return };
    let _held = crowd(http).await;
    let started = Instant::now();
    let more: JoinSet<(Duration, Raw)> = (0..MORE)
        .map(|_| async move {
            let mut connection = Raw::connect(http).await;
            assert!(is_alive(&mut connection).await);
            (started.elapsed(), connection)
        })
        .collect();
    let mut other = connect_from([127, 0, 0, 2], http).await;
    assert!(is_alive(&mut other).await);
    let (of_another, all) =
        (started.elapsed(), more.join_all().await.iter().map(|(took, _)| *took).max().unwrap());
    // Beside the first of them, one comes in each interval, and the one of another address among them.
    assert!(all >= PENDING_INTERVAL * (MORE - 20) as u32, "{all:?}");
    assert!(of_another < all / 2, "another address waited {of_another:?} of {all:?}");
}

/// Beyond all places those go that wait for longest, and what the node is asked from elsewhere is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_wait_take_no_place_from_another_address() {
    let Some((_node, grpc, http)) = node_for(3 * CONNECTIONS_MAX).await else { return };
    let mut held = crowd(http).await;
    for _ in 0..CONNECTIONS_MAX {
        held.push(Raw::connect(http).await);
    }
    for _ in 0..50 {
        let mut other = connect_from([127, 0, 0, 2], http).await;
        assert!(is_alive(&mut other).await);
    }
    assert!(check(grpc, 17).await.unwrap().is_prime);
}

async fn is_alive(connection: &mut Raw) -> bool {
    connection.send(LIVEZ).await;
    connection.answer().await.is_some_and(|answer| answer.status == 200)
}

async fn connect_from(address: [u8; 4], to: SocketAddr) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(address), 0).into()).unwrap();
    Raw::on(socket.connect(to).await.unwrap())
}

/// A request from some address of this machine.
async fn livez_from(address: [u8; 4], node: &TestNode) -> Option<Duration> {
    let started = Instant::now();
    let mut connection = connect_from(address, node.http).await;
    connection.send(LIVEZ).await;
    let answer = connection.answer().await?;
    assert_eq!(answer.status, 200);
    Some(started.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_trickles_heads_keeps_out_nobody_else() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut proven = Raw::connect(node.http).await;
    proven.send(LIVEZ).await;
    assert_eq!(proven.answer().await.unwrap().status, 200);

    let mut slow = Vec::new();
    for _ in 0..UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX {
        let mut connection = Raw::connect(node.http).await;
        connection.send("GET /livez HTTP/1.1\r\nHost: test\r\nX-Slow: ").await;
        slow.push(connection);
    }
    let mine = Ipv4Addr::LOCALHOST.octets();
    eventually("every slot of the address is taken", || async {
        timeout(Duration::from_millis(300), livez_from(mine, &node)).await.is_err()
    })
    .await;
    let beyond = join_all((0..20).map(|_| async {
        let mut connection = Raw::connect(node.http).await;
        connection.send(LIVEZ).await;
        connection.closed().await
    }));
    let meanwhile = async {
        let took = livez_from([127, 0, 0, 2], &node).await.unwrap();
        assert!(took < AT_ONCE, "another address waited {took:?}");
        proven.send(LIVEZ).await;
        assert_eq!(proven.answer().await.unwrap().status, 200);
    };
    let (beyond, ()) = tokio::join!(beyond, meanwhile);
    for (sent, took) in beyond {
        assert!(sent.is_empty() && is_first_byte_timeout(took), "{took:?}");
    }
    // A head that is completed is answered, and makes room for one more.
    slow[0].send("y\r\n\r\n").await;
    assert_eq!(slow[0].answer().await.unwrap().status, 200);
    assert!(livez_from(mine, &node).await.unwrap() < AT_ONCE);
}

// ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn http2() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_beyond_16_kib_is_refused_on_http_1_and_on_http_2() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (length, status) in [(15_000, 200), (HEAD_BYTES_MAX + 1, 431), (60_000, 431)] {
        let large = "y".repeat(length);
        let mut connection = Raw::connect(node.http).await;
        connection.send(format!("GET /livez HTTP/1.1\r\nHost: test\r\nX-Large: {large}\r\n\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().status, status, "{length} on HTTP/1");
        let answer = http2().get(node.url("/livez")).header("x-large", &large).send().await;
        assert_eq!(answer.unwrap().status(), status, "{length} on HTTP/2");
    }
    both_go_on(&node, "large heads").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_body_is_what_the_operator_says() {
    let node = TestNode::alone(&["--id", "1", "--body-max", "100"]).await;
    let padded = |length: usize| format!("{:length$}", r#"{"number": 17}"#);
    assert_eq!(post(&node, padded(100)).await.status, 200);
    let detail = post(&node, padded(101)).await.problem("101 bytes", 413, "resource_exhausted");
    assert!(detail.contains("100 bytes"), "{detail}");
    for (length, status) in [(100, 200), (101, 413)] {
        let mut connection = Raw::connect(node.http).await;
        let body = padded(length);
        let head = "POST /prime HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection
            .send(format!("{head}32\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", &body[..50], length - 50, &body[50..]))
            .await;
        assert_eq!(connection.answer().await.unwrap().status, status, "{length} in chunks");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_may_be_in_flight_are_refused_at_once() {
    let node = TestNode::alone(&["--id", "1", "--in-flight-max", "2"]).await;
    let half =
        "POST /prime HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\nContent-Length: 14\r\n\r\n{\"numb";
    let whole =
        format!("GET /prime/{} HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\n\r\n", longest_number());
    let hold = async |request: &str| {
        let mut connection = Raw::connect(node.http).await;
        connection.send(request).await;
        connection
    };
    let mut parts = Vec::new();
    for _ in 0..5 {
        parts.push(hold(half).await);
    }
    let in_flight = |count: u32| {
        let node = &node;
        async move { get(node, "/metrics").await.text().contains(&format!("primacy_in_flight {count}\n")) }
    };
    eventually("they are there", || in_flight(5)).await;
    assert_eq!(get(&node, "/prime/17").await.status, 200, "who sends a part takes no place");
    let held = [hold(&whole).await, hold(&whole).await];
    eventually("two more are in flight", || in_flight(7)).await;
    let started = Instant::now();
    for path in ["/prime/17", "/cluster", "/results", "/openapi.json", "/docs/", "/nothing"] {
        let answer = get(&node, path).await;
        let detail = answer.problem(path, 429, "resource_exhausted");
        assert_eq!(answer.header("retry-after"), "1", "{path}");
        assert!(detail.starts_with("2 requests are in flight"), "{detail}");
    }
    let refused = check(node.grpc, 17).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(&node, path).await.status, 200, "{path}");
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert!(get(&node, "/metrics").await.text().contains("primacy_requests_shed_total 7\n"));

    for connection in held {
        // Only a reset says that the client is gone.
        connection.stream.set_zero_linger().unwrap();
    }
    eventually("there is room", || in_flight(5)).await;
    for connection in &mut parts {
        connection.send("er\": 17}").await;
        assert_eq!(connection.answer().await.unwrap().json()["is_prime"], true);
    }
    eventually("none is in flight", || in_flight(0)).await;
    both_go_on(&node, "the rush").await;
}

/// A body that begins and never ends.
struct Beginning(Option<Bytes>);

impl hyper::body::Body for Beginning {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes)))))
    }
}

/// A message is held as a whole before anybody looks at it, so its announcement counts; past half of what a node holds
/// for its callers, the address that sends most is refused, and the others are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announced_messages_count_as_held_and_leave_room_for_other_addresses() {
    const ANNOUNCED: u32 = 1_000_000;
    let node = TestNode::alone(&["--id", "1"]).await;
    let url = format!("http://{}/scheduler.Worker/Heartbeat", node.grpc);
    let client = |last| {
        let builder = reqwest::Client::builder().no_proxy().http2_prior_knowledge();
        builder.local_address(IpAddr::from([127, 0, 0, last])).build().unwrap()
    };
    let send = |client: &reqwest::Client, body: reqwest::Body| {
        let request = client.post(&url).header("content-type", "application/grpc");
        request.header("grpc-timeout", "300S").body(body).send()
    };
    let head = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
    let (many, other) = (client(2), client(3));
    let max = HELD_BYTES_MAX * 2 / 3 / ANNOUNCED as usize;
    let mut announced: FuturesUnordered<_> = (0..max + 10)
        .map(|_| send(&many, reqwest::Body::wrap(Beginning(Some(head(ANNOUNCED).into())))))
        .collect();
    for _ in 0..10 {
        let refused = timeout(SOON, announced.next()).await.expect("the rest is refused").unwrap().unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8", "{refused:?}");
    }
    let whole = [head(ANNOUNCED), vec![0xff; ANNOUNCED as usize]].concat();
    let read = send(&other, whole.into()).await.unwrap();
    assert_ne!(read.headers()["grpc-status"], "8", "it is read, and is no message: {read:?}");
    assert!(check(node.grpc, 17).await.unwrap().is_prime);
    drop(announced);
    eventually("the room comes back", || async {
        let pieces = [head(ANNOUNCED), vec![0xff; ANNOUNCED as usize]].concat();
        send(&many, pieces.into()).await.is_ok_and(|read| read.headers()["grpc-status"] != "8")
    })
    .await;
}

// ── hostile bytes ───────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_its_connection_on_both_listeners() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let noise: Vec<u8> =
        (0..20_000_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on\r\n\r\n";
    let long_frame = [PREFACE, &frame(SETTINGS, 0, 0, &[]), b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"].concat();
    let bad_hpack =
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_HEADERS, 1, &[0xff; 40])].concat();
    let zeros = vec![0; 1000];
    for bytes in [&noise, &tls_hello.to_vec(), &long_frame, &bad_hpack, &zeros] {
        for address in [node.http, node.grpc] {
            let mut connection = Raw::connect(address).await;
            connection.send(bytes).await;
            let (_, took) = connection.closed().await;
            assert!(took < AT_ONCE, "{address}: {took:?} after {:?}…", &bytes[..20]);
        }
        both_go_on(&node, "garbage").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_ends_at_the_grpc_port() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut connection = Raw::connect(node.grpc).await;
    connection.send(LIVEZ).await;
    let (sent, took) = connection.closed().await;
    assert!(took < AT_ONCE && !sent.starts_with(b"HTTP/1"), "{took:?}: {sent:?}");
    both_go_on(&node, "HTTP/1 to the gRPC port").await;
}

/// What a gRPC call of these bytes is answered with; a success says so in its trailers, which do not show here.
async fn grpc_status(node: &TestNode, method: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Option<Code> {
    let request = http2().post(format!("http://{}{method}", node.grpc)).body(body);
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = timeout(SOON, request.send()).await.expect("no answer").unwrap();
    assert_eq!(answer.status(), 200, "{method}");
    let status = answer.headers().get("grpc-status")?.to_str().unwrap().parse().unwrap();
    assert!(answer.headers().get("grpc-message").is_some_and(|text| text.len() > 20), "{method}: {answer:?}");
    Some(Code::from_i32(status))
}

const CHECK_PRIME: &str = "/scheduler.Scheduler/CheckPrime";

fn message(announced: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0], &announced.to_be_bytes()[..], bytes].concat()
}

/// A message whose field of this number is a text of that length.
fn text_message(field: u8, length: usize) -> Vec<u8> {
    let varint = [length as u8 & 0x7f | 0x80, (length >> 7) as u8 & 0x7f | 0x80, (length >> 14) as u8];
    let bytes = [&[field << 3 | 2][..], &varint, "7".repeat(length).as_bytes()].concat();
    message(bytes.len() as u32, &bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_grpc_call_is_an_error_and_nothing_more() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let seventeen = || message(2, &[8, 17]);
    assert_eq!(grpc_status(&node, CHECK_PRIME, &[], seventeen()).await, None);
    for unknown in ["/scheduler.Scheduler/Nothing", "/no.Service/CheckPrime", "/", "/prime"] {
        assert_eq!(
            grpc_status(&node, unknown, &[], seventeen()).await,
            Some(Code::Unimplemented),
            "{unknown}"
        );
    }
    for method in [CHECK_PRIME, "/scheduler.Worker/ProcessPrime"] {
        for bad in ["5", "5x", "-5S", "123456789S", "1.5S", "S"] {
            let status = grpc_status(&node, method, &[("grpc-timeout", bad)], seventeen()).await;
            assert_eq!(status, Some(Code::InvalidArgument), "{method}: {bad}");
        }
        assert_eq!(grpc_status(&node, method, &[("grpc-timeout", "99999999H")], seventeen()).await, None);
    }
    let broken = [
        ("a truncated message", message(10, &[8, 17]), Code::Internal),
        ("a truncated prefix", vec![0, 0], Code::Internal),
        ("no message", vec![], Code::Unimplemented),
        ("two messages", seventeen().repeat(2), Code::Unimplemented),
        ("a message and a truncated one", [seventeen(), vec![0]].concat(), Code::Internal),
        ("no protobuf", message(2, &[0xff, 0xff]), Code::Internal),
        ("a text that is not UTF-8", message(3, &[82, 1, 0xff]), Code::Internal),
        ("a message that is compressed, nobody says how", vec![1, 0, 0, 0, 2, 8, 17], Code::Internal),
        ("an unknown flag", vec![9, 0, 0, 0, 2, 8, 17], Code::Internal),
    ];
    for (what, body, code) in broken {
        for method in [CHECK_PRIME, "/scheduler.Worker/ProcessPrime"] {
            assert_eq!(grpc_status(&node, method, &[], body.clone()).await, Some(code), "{method}: {what}");
        }
    }
    both_go_on(&node, "bad calls").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_message_that_is_too_large_is_refused_unread() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let too_large = Some(Code::ResourceExhausted);
    let announced = |length: u32| message(length, &[8, 17]);
    assert_eq!(grpc_status(&node, CHECK_PRIME, &[], announced(u32::MAX)).await, too_large);
    assert_eq!(
        grpc_status(&node, CHECK_PRIME, &[], announced(MESSAGE_BYTES_MAX as u32 + 1)).await,
        too_large
    );
    assert_eq!(grpc_status(&node, CHECK_PRIME, &[], text_message(10, MESSAGE_BYTES_MAX)).await, too_large);
    // What the limit lets pass is read: it is a number of too many digits.
    let read = grpc_status(&node, CHECK_PRIME, &[], text_message(10, MESSAGE_BYTES_MAX - 4)).await;
    assert_eq!(read, Some(Code::InvalidArgument));

    let heartbeat = "/scheduler.Worker/Heartbeat";
    assert_eq!(grpc_status(&node, heartbeat, &[], text_message(1, PEER_MESSAGE_BYTES_MAX - 4)).await, None);
    assert_eq!(grpc_status(&node, heartbeat, &[], text_message(1, PEER_MESSAGE_BYTES_MAX)).await, too_large);
    assert_eq!(grpc_status(&node, heartbeat, &[], announced(u32::MAX)).await, too_large);
    both_go_on(&node, "large messages").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_is_too_large_is_refused() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let request = http2().post(format!("http://{}{CHECK_PRIME}", node.grpc)).body(message(2, &[8, 17]));
    let request = request.header("content-type", "application/grpc").header("x-large", "y".repeat(20_000));
    assert_eq!(request.send().await.unwrap().status(), 431);
    both_go_on(&node, "large metadata").await;
}

// ── the stop ────────────────────────────────────────────────────────────────────────────────────────────────────

/// Waits for the node's end, and says how long that took.
async fn end_of(node: TestNode) -> Duration {
    let started = Instant::now();
    timeout(LAME_DUCK + DRAIN + Duration::from_secs(2), node.task).await.expect("it ends").unwrap().unwrap();
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_at_the_stop_is_answered() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut half_sent = Raw::connect(node.http).await;
    half_sent.send("POST /prime HTTP/1.1\r\nHost: test\r\nContent-Length: 14\r\n\r\n{\"numb").await;
    // A prime of 2,993 digits.
    let mersenne = ((num_bigint::BigUint::from(1_u8) << 9941_u32) - 1_u8).to_string();
    let mut computing = Raw::connect(node.http).await;
    computing
        .send(format!("GET /prime/{mersenne} HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\n\r\n"))
        .await;
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let mut request = tonic::Request::new(PrimeRequest { number: 0, decimal: mersenne });
    request.set_timeout(Duration::from_secs(300));
    let call = tokio::spawn(async move { client.check_prime(request).await });
    eventually("all are in flight", || async {
        get(&node, "/metrics").await.text().contains("primacy_in_flight 3\n")
    })
    .await;

    node.stop.cancel();
    eventually("the listener is closed", || async { TcpStream::connect(node.http).await.is_err() }).await;
    half_sent.send("er\": 17}").await;
    let answer = half_sent.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    assert_eq!(computing.answer().await.unwrap().json()["is_prime"], true);
    assert!(call.await.unwrap().unwrap().into_inner().is_prime);
    assert!(end_of(node).await < AT_ONCE, "nothing is left to wait for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_has_not_begun_does_not_hold_the_stop() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut held = Vec::new();
    for (address, begun) in [
        (node.http, &b""[..]),
        (node.grpc, b""),
        (node.http, b"P"),
        (node.http, b"PRI * HTTP"),
        (node.grpc, b"PRI * HTTP"),
        (node.http, PREFACE),
        (node.grpc, PREFACE),
        (node.http, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "),
    ] {
        let mut connection = Raw::connect(address).await;
        connection.send(begun).await;
        held.push(connection);
    }
    let mut idle = Raw::connect(node.http).await;
    idle.send(LIVEZ).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    let idle_grpc = channel(node.grpc).await.unwrap();
    let mut watching = SchedulerClient::new(idle_grpc.clone());
    let mut views = watching.watch_cluster(WatchClusterRequest {}).await.unwrap().into_inner();
    assert!(views.message().await.unwrap().is_some());

    node.stop.cancel();
    let started = Instant::now();
    while let Ok(Some(_)) = timeout(SOON, views.message()).await.expect("the stream ends") {}
    assert!(started.elapsed() < LAME_DUCK + AT_ONCE, "{:?}", started.elapsed());
    let took = end_of(node).await;
    assert!(took < LAME_DUCK + FIRST_BYTE_TIMEOUT + AT_ONCE, "{took:?}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_not_end_holds_the_stop_for_the_drain_time_only() {
    let node = TestNode::alone(&["--id", "1"]).await;
    // More than the pool computes in the drain time, however many threads it has.
    let count = 4 * available_parallelism().unwrap().get();
    let mut computing = Vec::new();
    for _ in 0..count {
        let mut connection = Raw::connect(node.http).await;
        let path = format!("/prime/{}", longest_number());
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\n\r\n")).await;
        computing.push(connection);
    }
    eventually("all are in flight", || async {
        get(&node, "/metrics").await.text().contains(&format!("primacy_in_flight {count}\n"))
    })
    .await;
    node.stop.cancel();
    let took = end_of(node).await;
    assert!(took > LAME_DUCK + DRAIN - Duration::from_secs(1), "it did not wait: {took:?}");
}
