//! Answers that are given before the body was read: none of them is lost, and none spoils its connection.

use std::time::{Duration, Instant};

use primacy::limits::{
    LINGER, LINGER_BYTES_MAX, LINGER_MAX, STREAM_WINDOW_BYTES, UNREAD_BYTES_MAX, UNREAD_TIMEOUT,
};
use reqwest::Client;
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

use crate::{
    harness::{SOON, TestNode, eventually, longest_number},
    http::{Answer, Raw, goes_on, metric},
    limits::{
        DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PING, RST_STREAM, WINDOW_UPDATE, frame, header_block,
        post_block,
    },
};

/// What is added by a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// A method and path, headers, and the status of the answer to any body.
const REFUSED: [(&str, &str, u16); 18] = [
    ("POST /prime", "", 413),
    ("POST /prime", "Grpc-Timeout: soon\r\n", 400),
    ("POST /prime", "Content-Type: text/plain\r\n", 415),
    ("POST /prime", "Content-Encoding: gzip\r\n", 415),
    ("POST /prime", "Host: another\r\n", 400),
    ("POST /primes", "Content-Type: text/plain\r\n", 415),
    ("POST /primes", "Content-Type: application/x-ndjson\r\nGrpc-Timeout: soon\r\n", 400),
    ("POST /nothing", "", 404),
    ("PUT /prime", "", 405),
    ("POST /livez", "", 405),
    ("OPTIONS /prime", "Origin: http://elsewhere.example\r\nAccess-Control-Request-Method: POST\r\n", 200),
    ("GET /livez", "", 200),
    ("GET /prime/17", "", 200),
    ("GET /prime/x", "", 400),
    ("GET /cluster", "", 200),
    ("GET /", "", 200),
    ("GET /openapi.json", "", 200),
    ("GET /docs/", "", 200),
];

/// A request with a body of so many bytes, of announced length or in chunks.
fn request(line: &str, headers: &str, length: usize, is_chunked: bool) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: test\r\n{headers}");
    let body = "x".repeat(length);
    match is_chunked {
        false => format!("{head}Content-Length: {length}\r\n\r\n{body}"),
        true => format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
    }
    .into_bytes()
}

/// The connection answers an innocent question.
async fn goes_on_over(connection: &mut Raw, after: &str) {
    connection.send("GET /prime/17 HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let answer = connection.answer().await.unwrap_or_else(|| panic!("the connection ended after {after}"));
    assert_eq!((answer.status, &answer.json()["number"]), (200, &"17".into()), "after {after}");
}

fn closes(answer: &Answer) -> bool {
    answer.header("connection").eq_ignore_ascii_case("close")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_read_does_not_cost_the_next_request() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (line, headers, status) in REFUSED {
        let mut connection = Raw::connect(node.http).await;
        for (length, is_chunked) in
            [(1, false), (17_000, false), (17_000, true), (600_000, false), (600_000, true)]
        {
            let what = format!("{line} {headers:?} with {length} bytes, chunked: {is_chunked}");
            connection.send(request(line, headers, length, is_chunked)).await;
            let answer = connection.answer().await.unwrap_or_else(|| panic!("no answer to {what}"));
            // One byte is not too much: it is no JSON.
            let expected = if (status, length) == (413, 1) { 400 } else { status };
            assert_eq!((answer.status, closes(&answer)), (expected, false), "{what}");
            goes_on_over(&mut connection, &what).await;
        }
    }
}

/// The second client sends everything before it reads, as many do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_that_is_not_read_does_not_cost_the_answer() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (line, headers, status) in REFUSED {
        for (length, is_chunked) in [(3_000_000, false), (3_000_000, true), (15_000_000, false)] {
            let what = format!("{line} {headers:?} with {length} bytes, chunked: {is_chunked}");
            let mut connection = Raw::connect(node.http).await;
            assert!(connection.send(request(line, headers, length, is_chunked)).await, "{what}");
            let answer = connection.answer().await.unwrap_or_else(|| panic!("no answer to {what}"));
            assert_eq!((answer.status, closes(&answer)), (status, true), "{what}");
            assert!(connection.closed().await.0.is_empty(), "{what}");
        }
    }
    goes_on(&node, "large bodies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_full_or_stops_refuses_bodies_and_loses_no_answer() {
    let node = TestNode::alone(&["--id", "1", "--in-flight-max", "1"]).await;
    let mut held = Raw::connect(node.http).await;
    held.send(format!(
        "GET /prime/{} HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\n\r\n",
        longest_number()
    ))
    .await;
    eventually("it is full", || async { metric(&node, "primacy_in_flight").await == 1.0 }).await;
    let mut connection = Raw::connect(node.http).await;
    for length in [14, 17_000, 600_000] {
        connection.send(request("POST /prime", "", length, false)).await;
        let answer = connection.answer().await.expect("an answer of a full node");
        answer.problem("a full node", 429, "resource_exhausted");
        connection.send("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(connection.answer().await.expect("the connection goes on").status, 200);
    }
    held.stream.set_zero_linger().unwrap();
    drop(held);
    eventually("there is room", || async { metric(&node, "primacy_in_flight").await == 0.0 }).await;
    let ndjson = "Content-Type: application/x-ndjson\r\n";
    let bodies: Vec<Vec<u8>> = [3, 17_000, 3_000_000, 15_000_000]
        .into_iter()
        .flat_map(|length| {
            [false, true].map(|is_chunked| request("POST /primes", ndjson, length, is_chunked))
        })
        .collect();
    let mut connections = Vec::new();
    for _ in &bodies {
        let mut connection = Raw::connect(node.http).await;
        goes_on_over(&mut connection, "nothing").await;
        connections.push(connection);
    }
    node.stop.cancel();
    eventually("it stops", || async { crate::http::get(&node, "/readyz").await.status == 503 }).await;
    for (connection, body) in connections.iter_mut().zip(bodies) {
        assert!(connection.send(body).await);
        let answer = connection.answer().await.expect("an answer of a node that stops");
        answer.problem("a node that stops", 503, "unavailable");
        assert!(closes(&answer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_leave_to_send_is_refused_without_it() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (line, headers, status) in REFUSED {
        // With a body that is not too large to be asked for it is asked for.
        if (line, headers) == ("POST /prime", "") {
            continue;
        }
        for framing in
            ["Content-Length: 14\r\n", "Content-Length: 17000\r\n", "Transfer-Encoding: chunked\r\n"]
        {
            let mut connection = Raw::connect(node.http).await;
            let head =
                format!("{line} HTTP/1.1\r\nHost: test\r\n{headers}{framing}Expect: 100-continue\r\n\r\n");
            connection.send(head).await;
            let answer = connection.answer().await.unwrap_or_else(|| panic!("no answer to {line} {headers}"));
            assert_eq!((answer.status, closes(&answer)), (status, true), "{line} {headers} {framing}");
            assert!(connection.closed().await.0.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rest_that_does_not_come_holds_the_connection_for_a_limited_time() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (framing, begun) in [
        ("Content-Length: 17000\r\n", "x"),
        ("Content-Length: 1000000000\r\n", "x"),
        ("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n"),
    ] {
        let mut connection = Raw::connect(node.http).await;
        let started = Instant::now();
        connection.send(format!("POST /nothing HTTP/1.1\r\nHost: test\r\n{framing}\r\n{begun}")).await;
        let answer = connection.answer().await.expect("an answer");
        assert_eq!((answer.status, closes(&answer)), (404, true), "{framing}");
        assert!(started.elapsed() < UNREAD_TIMEOUT + SLACK, "{framing}: {:?}", started.elapsed());
        // Somebody who sends on, byte by byte, is told to stop.
        while connection.send(if begun.len() > 1 { begun } else { "x" }).await {
            assert!(
                started.elapsed() < UNREAD_TIMEOUT + LINGER_MAX + SLACK,
                "{framing}: it still takes bytes"
            );
            sleep(Duration::from_millis(20)).await;
        }
        assert!(started.elapsed() > LINGER_MAX / 2, "{framing}: {:?}", started.elapsed());
    }
    goes_on(&node, "slow bodies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_an_end_is_not_read_without_an_end() {
    // What the buffers of two sockets may hold beside what is read.
    const BUFFERED_BYTES_MAX: u64 = 32 << 20;
    let node = TestNode::alone(&["--id", "1"]).await;
    for framing in ["Content-Length: 100000000000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut connection = Raw::connect(node.http).await;
        connection.send(format!("POST /prime HTTP/1.1\r\nHost: test\r\n{framing}\r\n")).await;
        let piece = [b"10000\r\n", "x".repeat(0x10000).as_bytes(), b"\r\n"].concat();
        let started = Instant::now();
        let (reading, mut writing) = connection.stream.into_split();
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while let Ok(written) = writing.write(&piece[sent % piece.len()..]).await {
                sent += written;
            }
            sent as u64
        });
        let mut answer = [0; 12];
        let mut reading = reading;
        timeout(SOON, tokio::io::AsyncReadExt::read_exact(&mut reading, &mut answer))
            .await
            .expect("in time")
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413");
        let sent = timeout(SOON, sending).await.expect("it is told to stop").unwrap();
        assert!(
            sent < UNREAD_BYTES_MAX + LINGER_BYTES_MAX + BUFFERED_BYTES_MAX,
            "{framing}: {sent} bytes were taken"
        );
        assert!(started.elapsed() < UNREAD_TIMEOUT + LINGER + SLACK, "{framing}: {:?}", started.elapsed());
    }
    goes_on(&node, "endless bodies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_ends_its_connection_and_the_answer_says_so() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for line in ["POST /prime", "POST /nothing", "GET /livez"] {
        let mut connection = Raw::connect(node.http).await;
        let head = format!("{line} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.send(format!("{head}3\r\nabc\r\nzz\r\n{}", "x".repeat(100_000))).await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("no answer to {line}"));
        assert!(closes(&answer), "{line}");
        connection.closed().await;
    }
    goes_on(&node, "broken bodies").await;
}

// ── HTTP/2 ──────────────────────────────────────────────────────────────────────────────────────────────────────

fn post_h2(path: &str, stream: u32, more: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[&post_block(path, "application/json"), more].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_body_over_http_2_is_read_and_its_stream_not_reset() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut connection = Http2::connect(node.http).await;
    for (stream, path) in [(1, "/prime"), (3, "/nothing"), (5, "/livez")] {
        let body = [b'x'; 16_384];
        let bytes = [
            post_h2(path, stream, &[]),
            frame(DATA, 0, stream, &body),
            frame(DATA, END_STREAM, stream, b"x"),
        ];
        connection.stream.write_all(&bytes.concat()).await.unwrap();
        while connection.next_of(DATA).await.expect("an answer").flags & END_STREAM == 0 {}
    }
    connection.stream.write_all(&frame(PING, 0, 0, b"are you?")).await.unwrap();
    loop {
        let frame = connection.next().await.expect("the connection goes on");
        assert_ne!(frame.kind, RST_STREAM, "stream {}", frame.stream);
        if frame.kind == PING && frame.flags == 1 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_over_http_2_is_answered_and_its_stream_reset_later() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut connection = Http2::connect(node.http).await;
    let bytes = [
        post_h2("/prime", 1, &header_block("content-length", "100000000")),
        frame(DATA, 0, 1, &[b'x'; 16_384]),
    ];
    connection.stream.write_all(&bytes.concat()).await.unwrap();
    while connection.next_of(DATA).await.expect("an answer").flags & END_STREAM == 0 {}
    let answered = Instant::now();
    let reset = connection.next_of(RST_STREAM).await.expect("the stream ends");
    assert_eq!((reset.stream, reset.payload), (1, vec![0; 4]), "without an error");
    let took = answered.elapsed();
    assert!(took > LINGER && took < LINGER_MAX + SLACK, "{took:?}");

    let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for length in [17_000, 3_000_000, 100_000_000] {
        let request = http2.post(node.url("/prime")).body(vec![b'x'; length]);
        let answer = timeout(SOON, request.send()).await.expect("in time").unwrap();
        assert_eq!(answer.status(), 413);
        let innocent = http2.get(node.url("/prime/17")).send();
        assert_eq!(timeout(SOON, innocent).await.expect("in time").unwrap().status(), 200);
    }
}

/// More than the window of a connection, by bodies that nobody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_read_gives_the_window_of_its_connection_back() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut connection = Http2::connect(node.http).await;
    // The answers have room in any case.
    let room = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes());
    connection.stream.write_all(&room).await.unwrap();
    // What a client may send before it is told of more.
    let mut window = 65_535;
    let part = [b'x'; STREAM_WINDOW_BYTES as usize / 2];
    let cancel = 8_u32.to_be_bytes();
    for stream in (1..2400).step_by(2) {
        while window < STREAM_WINDOW_BYTES {
            let room = connection.next_of(WINDOW_UPDATE).await.expect("the connection goes on");
            if room.stream == 0 {
                window += u32::from_be_bytes(room.payload.try_into().unwrap());
            }
        }
        let head = post_h2("/prime", stream, &header_block("content-length", "100000000"));
        let bytes = [head, frame(DATA, 0, stream, &part).repeat(2)].concat();
        connection.stream.write_all(&bytes).await.unwrap();
        window -= STREAM_WINDOW_BYTES;
        loop {
            let frame = connection.next().await.expect("an answer");
            match frame.kind {
                WINDOW_UPDATE if frame.stream == 0 => {
                    window += u32::from_be_bytes(frame.payload.try_into().unwrap());
                }
                DATA if frame.flags & END_STREAM != 0 => break,
                _ => {}
            }
        }
        connection.stream.write_all(&frame(RST_STREAM, 0, stream, &cancel)).await.unwrap();
    }
}
