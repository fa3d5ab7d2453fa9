//! Clients that end their input and wait for the answer, and clients that are gone.

use std::time::{Duration, Instant};

use primacy::limits::{HALF_CLOSED_MAX, INPUT_END_INTERVAL};
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    harness::{SOON, TestCluster, TestNode, eventually, longest_number, within},
    http::{Raw, goes_on, metric},
    limits::{
        DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, Http2, RST_STREAM, frame, header_block, post_block,
    },
};

/// What happens "at once" takes less, and much less than the time after a half-close.
const AT_ONCE: Duration = Duration::from_secs(2);

const GET: &str = "GET /prime/17 HTTP/1.1\r\nHost: test\r\n\r\n";

fn long_get() -> String {
    format!("GET /prime/{} HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\n\r\n", longest_number())
}

fn ndjson(text: &str, headers: &str) -> String {
    let head = "POST /primes HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n";
    format!("{head}{headers}Content-Length: {}\r\n\r\n{text}", text.len())
}

/// A connection over which this is sent, and then nothing more.
async fn half_closed(node: &TestNode, request: &str) -> Raw {
    let mut connection = Raw::connect(node.http).await;
    connection.send(request).await;
    connection.stream.shutdown().await.unwrap();
    connection
}

/// Neither the gateway nor a worker has anything to do.
async fn idle_within(time: Duration, node: &TestNode, after: &str) -> Duration {
    within(time, &format!("it is idle after {after}"), || async {
        let view = node.view().await;
        metric(node, "primacy_in_flight").await == 0.0
            && view.members.iter().all(|member| member.in_flight == 0)
    })
    .await
}

async fn computes(node: &TestNode) {
    eventually("it computes", || async {
        node.view().await.members.iter().any(|member| member.in_flight > 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_ends_its_input_gets_every_answer() {
    let cluster = TestCluster::start(1).await;
    let body = r#"{"number": 17}"#;
    let post = format!("POST /prime HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "POST /prime HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let http_1_0 = "GET /prime/17 HTTP/1.0\r\n\r\n".to_owned();
    let pipelined = [GET, &post, "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n", &chunked, GET].concat();
    let refused =
        format!("POST /prime HTTP/1.1\r\nHost: test\r\nContent-Length: 17000\r\n\r\n{}", "x".repeat(17_000));
    for node in &cluster.nodes {
        for (request, answers) in [
            (GET.to_owned(), 1),
            (post.clone(), 1),
            (chunked.clone(), 1),
            (http_1_0.clone(), 1),
            (pipelined.clone(), 5),
        ] {
            for _ in 0..20 {
                let mut connection = half_closed(node, &request).await;
                for place in 0..answers {
                    let answer = connection
                        .answer()
                        .await
                        .unwrap_or_else(|| panic!("{place}: no answer to {request}"));
                    assert_eq!(answer.status, 200, "{request}");
                }
                assert!(connection.closed().await.0.is_empty(), "{request}");
            }
        }
        let mut connection = half_closed(node, &refused).await;
        assert_eq!(connection.answer().await.expect("an answer").status, 413);
        connection.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_ends_its_input_gets_a_bulk_to_its_last_line_and_events() {
    const COUNT: usize = 50_000;
    let cluster = TestCluster::start(1).await;
    let lines: String = (0..COUNT).map(|number| format!("{number}\n")).collect();
    for node in &cluster.nodes {
        let (answer, _) = half_closed(node, &ndjson(&lines, "")).await.closed().await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(answer.matches("\"is_prime\"").count(), COUNT);
        assert!(
            answer.contains(&format!("{{\"done\":true,\"count\":{COUNT}}}")),
            "{}",
            &answer[answer.len() - 300..]
        );
        assert!(answer.ends_with("\r\n0\r\n\r\n"), "the last chunk is missing");

        let mut watching = half_closed(node, "GET /events HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let events = async {
            while !String::from_utf8_lossy(&watching.read).contains("event: results") {
                let read = tokio::io::AsyncReadExt::read_buf(&mut watching.stream, &mut watching.read).await;
                assert!(read.unwrap() > 0, "the events ended");
            }
        };
        timeout(SOON, events).await.expect("events");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_stops_the_work_at_once() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let long = longest_number();
    let body = format!("{{\"number\": {long}}}");
    let post = format!(
        "POST /prime HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let json = format!("{{\"numbers\": [{long}]}}");
    let many = format!(
        "POST /primes HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    );
    let cases = [
        ("a question", long_get(), false),
        ("a question, half-closed before", long_get(), true),
        ("a question with others behind it", long_get() + &GET.repeat(2000), false),
        ("a body", post, false),
        ("a body of many numbers", many, true),
        ("lines", ndjson(&format!("{long}\n"), "Grpc-Timeout: 300S\r\n"), false),
        ("lines, half-closed before", ndjson(&format!("{long}\n"), "Grpc-Timeout: 300S\r\n"), true),
    ];
    for (what, request, is_half_closed) in cases {
        let mut connection = Raw::connect(node.http).await;
        connection.send(request).await;
        if is_half_closed {
            connection.stream.shutdown().await.unwrap();
        }
        computes(&node).await;
        connection.stream.set_zero_linger().unwrap();
        drop(connection);
        idle_within(AT_ONCE, &node, what).await;
    }
    goes_on(&node, "resets").await;
}

/// The answer says why; who is gone does not read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_end_of_its_input_a_check_goes_on_for_a_limited_time() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let ends = async |what: &str, request: String, is_gone: bool| {
        let mut connection = Raw::connect(node.http).await;
        connection.send(request).await;
        computes(&node).await;
        let started = Instant::now();
        if is_gone {
            drop(connection);
            idle_within(HALF_CLOSED_MAX + INPUT_END_INTERVAL + AT_ONCE, &node, what).await;
        } else {
            connection.stream.shutdown().await.unwrap();
            let answer = connection.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
            let detail = answer.problem(what, 504, "deadline_exceeded");
            assert!(detail.contains("your side of the connection ended"), "{detail}");
        }
        let took = started.elapsed();
        assert!(took > HALF_CLOSED_MAX - Duration::from_millis(100), "{what}: {took:?}");
        assert!(took < HALF_CLOSED_MAX + INPUT_END_INTERVAL + AT_ONCE, "{what}: {took:?}");
    };
    ends("a half-close", long_get(), false).await;
    ends("a close", long_get(), true).await;
    // What follows is not read while the first one is answered, and hides the end of the input from who reads.
    ends("a half-close behind other requests", long_get() + &GET.repeat(2000), false).await;
    goes_on(&node, "half-closes").await;
    // A prime of 2,993 digits, which takes less.
    let mersenne = ((num_bigint::BigUint::from(1_u8) << 9941_u32) - 1_u8).to_string();
    let request = format!("GET /prime/{mersenne} HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\n\r\n");
    assert_eq!(
        half_closed(&node, &request).await.answer().await.expect("an answer").json()["is_prime"],
        true
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_whose_client_is_gone_ends_when_it_writes() {
    let node = TestNode::alone(&["--id", "1"]).await;
    // The first takes about a second, the second much longer.
    let lines = format!("{}\n{}\n", crate::harness::long_number(1500), longest_number());
    let mut connection = Raw::connect(node.http).await;
    connection.send(ndjson(&lines, "Grpc-Timeout: 300S\r\n")).await;
    // What is read and closed without a rest is not reset.
    assert_eq!(connection.answer().await.expect("a head").status, 200);
    drop(connection);
    idle_within(SOON, &node, "the first line").await;
}

// ── HTTP/2 ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// A long check as a client of HTTP/2 asks for it, and ends its stream.
async fn long_check(node: &TestNode) -> Http2 {
    let mut connection = Http2::connect(node.http).await;
    let head = [post_block("/prime", "application/json"), header_block("grpc-timeout", "300S")].concat();
    let body = format!("{{\"number\": {}}}", longest_number());
    let bytes = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, body.as_bytes())].concat();
    connection.stream.write_all(&bytes).await.unwrap();
    computes(node).await;
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_a_reset_stream_or_a_lost_connection_stops_the_work() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut connection = long_check(&node).await;
    let cancel = 8_u32.to_be_bytes();
    connection.stream.write_all(&frame(RST_STREAM, 0, 1, &cancel)).await.unwrap();
    idle_within(AT_ONCE, &node, "a reset stream").await;

    // A connection that is half-closed is lost too: its flow control has ended.
    let mut connection = long_check(&node).await;
    connection.stream.shutdown().await.unwrap();
    idle_within(AT_ONCE, &node, "a half-closed connection").await;

    drop(long_check(&node).await);
    idle_within(AT_ONCE, &node, "a closed connection").await;

    let connection = long_check(&node).await;
    connection.stream.set_zero_linger().unwrap();
    drop(connection);
    idle_within(AT_ONCE, &node, "a reset connection").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_the_end_of_a_stream_and_a_go_away_lose_no_answer() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut connection = Http2::connect(node.http).await;
    let ask = |stream: u32| {
        let head = post_block("/prime", "application/json");
        let body = frame(DATA, END_STREAM, stream, br#"{"number": 17}"#);
        [frame(HEADERS, END_HEADERS, stream, &head), body].concat()
    };
    connection.stream.write_all(&ask(1)).await.unwrap();
    assert!(connection.next_of(DATA).await.expect("an answer").payload.starts_with(b"{\"number\":\"17\""));
    let go_away = frame(GO_AWAY, 0, 0, &[0; 8]);
    connection.stream.write_all(&[ask(3), go_away].concat()).await.unwrap();
    assert!(connection.next_of(DATA).await.expect("an answer").payload.starts_with(b"{\"number\":\"17\""));
}
