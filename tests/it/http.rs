//! The REST contract, route by route, and what it answers to bad input.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::stream;
use primacy::{
    Node,
    prime::Number,
    proto::{PrimeRequest, scheduler_client::SchedulerClient},
};
use primacy_election::PeerAddress;
use reqwest::{
    Client, Method, RequestBuilder, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Request, metadata::MetadataMap};

use crate::harness::{
    SOON, TestCluster, TestNode, all_alive, channel, config, eventually, free_address, longest_number,
    primacy,
};

const MERSENNE_127: &str = "170141183460469231731687303715884105727";

// ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Is the one shape of an error, whole and consistent; returns its detail.
    pub fn problem(&self, what: &str, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{what}: {}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json", "{what}");
        assert_eq!(self.header("cache-control"), "no-store", "{what}");
        let problem = self.json();
        let keys: Vec<&str> = problem.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            BTreeSet::from_iter(keys),
            BTreeSet::from(["type", "title", "status", "detail", "code", "grpc_code", "request_id"]),
            "{what}"
        );
        assert_eq!(problem["type"], "about:blank", "{what}");
        assert_eq!(problem["status"], status, "{what}");
        assert_eq!(problem["code"], code, "{what}: {problem}");
        assert_eq!(problem["grpc_code"], grpc_code(code), "{what}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{what}");
        assert!(!problem["title"].as_str().unwrap().is_empty(), "{what}");
        assert_ne!(self.header("x-request-id"), "", "{what}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && detail.chars().count() < 400, "{what}: {detail}");
        detail.to_owned()
    }
}

fn grpc_code(code: &str) -> i32 {
    match code {
        "invalid_argument" => 3,
        "deadline_exceeded" => 4,
        "not_found" => 5,
        "resource_exhausted" => 8,
        "unimplemented" => 12,
        "internal" => 13,
        "unavailable" => 14,
        other => panic!("{other} is no code that is expected here"),
    }
}

/// A client that asks for nothing by itself: no proxy, no compression.
pub fn client() -> Client {
    Client::builder().no_proxy().no_gzip().build().unwrap()
}

pub async fn send(request: RequestBuilder) -> Answer {
    let response = timeout(SOON, request.send()).await.expect("no answer").unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

pub async fn get(node: &TestNode, path: &str) -> Answer {
    send(client().get(node.url(path))).await
}

/// Posts a body without a content type.
pub async fn post(node: &TestNode, body: impl Into<reqwest::Body>) -> Answer {
    send(client().post(node.url("/prime")).body(body)).await
}

/// The node answers a good request.
pub async fn goes_on(node: &TestNode, after: &str) {
    let answer = post(node, r#"{"number": 17}"#).await;
    assert_eq!((answer.status, &answer.json()["is_prime"]), (200, &json!(true)), "after {after}");
}

/// A connection on which every byte is ours.
pub struct Raw {
    pub stream: TcpStream,
    pub read: Vec<u8>,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap())
    }

    pub fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends it; whether the other end still takes it shows in what it answers.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The next response, by its content length; `None` when the connection ends before it is whole.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, length)) = parse(&self.read) {
                self.read.drain(..length);
                return Some(answer);
            }
            match timeout(SOON, self.stream.read_buf(&mut self.read)).await.expect("no answer") {
                Ok(read) if read > 0 => {}
                _ => return None,
            }
        }
    }

    /// Reads until the other end closes; returns what was still sent, and how long that took.
    pub async fn closed(&mut self) -> (Vec<u8>, Duration) {
        let started = Instant::now();
        let reading =
            async { while self.stream.read_buf(&mut self.read).await.is_ok_and(|read| read > 0) {} };
        timeout(SOON, reading).await.expect("the connection is not closed");
        (std::mem::take(&mut self.read), started.elapsed())
    }
}

/// One response, and how many bytes it took.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_length]).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HeaderMap = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| {
            (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value.trim()).unwrap())
        })
        .collect();
    let body_length =
        headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let body = bytes.get(head_length..head_length + body_length)?.to_vec();
    Some((Answer { status, headers, body }, head_length + body_length))
}

/// One request in bytes of ours, and the first response to it.
async fn raw(node: &TestNode, request: impl AsRef<[u8]>) -> Option<Answer> {
    let mut connection = Raw::connect(node.http).await;
    connection.send(request).await;
    connection.answer().await
}

fn post_head(headers: &str) -> String {
    format!("POST /prime HTTP/1.1\r\nHost: test\r\n{headers}\r\n")
}

// ── POST /prime ─────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_answered_exactly() {
    let cluster = TestCluster::start(1).await;
    let answer = post(cluster.leader(), r#"{"number": 17}"#).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(
        answer.json(),
        json!({"number": "17", "is_prime": true, "processed_by": "worker1", "certainty": "proven"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_every_kind_are_decided_as_integers_and_as_strings() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let longest = format!("1{}", "0".repeat(9_999));
    let longest_negative = format!("-{longest}");
    let numbers = [
        ("9223372036854775783", true, "proven"),
        ("9223372036854775807", false, "proven"),
        ("18446744073709551557", true, "proven"),
        ("18446744073709551556", false, "proven"),
        ("9007199254740993", false, "proven"),
        (MERSENNE_127, true, "proven"),
        ("170141183460469231731687303715884105729", false, "proven"),
        ("0", false, "proven"),
        ("1", false, "proven"),
        ("2", true, "proven"),
        ("-1", false, "proven"),
        ("-7", false, "proven"),
        ("-9223372036854775808", false, "proven"),
        (&longest, false, "proven"),
        (&longest_negative, false, "proven"),
    ];
    for (number, is_prime, certainty) in numbers {
        let expected = json!({
            "number": number, "is_prime": is_prime, "processed_by": "worker1", "certainty": certainty
        });
        for body in [format!(r#"{{"number": {number}}}"#), format!(r#"{{"number":"{number}"}}"#)] {
            let answer = post(&node, body.clone()).await;
            let mut answered = answer.json();
            // What it rests on has tests of its own.
            answered.as_object_mut().unwrap().retain(|field, _| field != "proof" && field != "witness");
            assert_eq!((answer.status, answered), (200, expected.clone()), "{body}");
        }
    }
    for body in [
        r#"{"number":"\u0031\u0037"}"#,
        r#"{"\u006eumber":17}"#,
        "\r\n\t {\n \"number\" :\t17\r\n} \n",
        "\u{feff}{\"number\":17}",
        "\u{feff} {\"number\":17}",
    ] {
        assert_eq!(post(&node, body).await.json()["number"], "17", "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_read_with_curls_content_type_or_none_and_nothing_else_is() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let typed = |content_type: &[u8]| {
        let content_type = HeaderValue::from_bytes(content_type).unwrap();
        let request = client().post(node.url("/prime")).body(r#"{"number": 17}"#);
        send(request.header("content-type", content_type))
    };
    for good in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
    ] {
        assert_eq!(typed(good.as_bytes()).await.json()["number"], "17", "{good}");
    }
    for bad in [
        &b"text/plain"[..],
        b"application/xml",
        b"application/jsonx",
        b"application/problem+json",
        b"application/x-ndjson",
        b"multipart/form-data; boundary=x",
        b"json",
        b"\xff\xfe",
    ] {
        let what = String::from_utf8_lossy(bad);
        let detail = typed(bad).await.problem(&what, 415, "invalid_argument");
        assert!(detail.contains("application/json"), "{what}: {detail}");
    }
    goes_on(&node, "wrong content types").await;
}

/// 65,000 zero bytes.
const GZIP_MEMBER: &str = "1f8b0800000000000203edc101010000008220ffaf6e48400100000000000000000000000000000000000000\
    000000000000000000000000000000000000000000000000000000000000000000006f0683520bc9e8fd0000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoded_body_is_refused_unread() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let member: Vec<u8> = (0..GZIP_MEMBER.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(&GZIP_MEMBER[place..place + 2], 16).unwrap())
        .collect();
    // Some 10 MB when unpacked, in a body that the limit lets pass.
    let bomb = member.repeat(160);
    assert!(bomb.len() < 16 * 1024);
    for (encoding, body) in
        [("gzip", bomb.clone()), ("gzip", member.clone()), ("br", member), ("gzip, gzip", bomb.clone())]
    {
        let request = client().post(node.url("/prime")).header("content-encoding", encoding).body(body);
        let detail = send(request).await.problem(encoding, 415, "invalid_argument");
        assert!(detail.contains("send it as it is"), "{detail}");
    }
    post(&node, bomb).await.problem("a gzip bomb that does not say so", 400, "invalid_argument");
    let as_it_is = |encodings: &[&str]| {
        let request = client().post(node.url("/prime")).body(r#"{"number":17}"#);
        send(
            encodings.iter().fold(request, |request, encoding| request.header("content-encoding", *encoding)),
        )
    };
    for encodings in
        [&["identity"][..], &["Identity"], &["IDENTITY, identity"], &[""], &["identity", "identity"]]
    {
        assert_eq!(as_it_is(encodings).await.status, 200, "{encodings:?}");
    }
    for encodings in [&["identity, gzip"][..], &["identity", "gzip"], &["identityx"]] {
        as_it_is(encodings).await.problem(&format!("{encodings:?}"), 415, "invalid_argument");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_number_is_refused_and_the_answer_says_what_is_allowed() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let too_long = format!("1{}", "0".repeat(10_000));
    let too_long_string = format!("\"-{too_long}\"");
    let deep = "[".repeat(8000);
    let deep_closed = format!("{deep}{}", "]".repeat(8000));
    let deep_object = r#"{"a":"#.repeat(2000);
    let numbers: &[(&str, &str)] = &[
        (&too_long, "10001 digits; at most 10000 are allowed"),
        (&too_long_string, "10001 digits; at most 10000 are allowed"),
        ("-0", "write zero as 0"),
        ("\"-0\"", "write zero as 0"),
        ("+7", "expected"),
        ("\"+7\"", "only the digits 0-9"),
        ("1e3", "only the digits 0-9"),
        ("\"1e3\"", "only the digits 0-9"),
        ("1E400", "only the digits 0-9"),
        ("1.0", "only the digits 0-9"),
        ("17.", "{\"number\": 17}"),
        ("NaN", "{\"number\": 17}"),
        ("\"NaN\"", "only the digits 0-9"),
        ("Infinity", "{\"number\": 17}"),
        ("0x11", "{\"number\": 17}"),
        ("\"0x11\"", "only the digits 0-9"),
        ("017", "{\"number\": 17}"),
        ("\"017\"", "leading zeros"),
        ("\"00\"", "leading zeros"),
        ("null", "only the digits 0-9"),
        ("true", "only the digits 0-9"),
        ("false", "only the digits 0-9"),
        ("[17]", "only the digits 0-9"),
        ("{}", "only the digits 0-9"),
        (r#"{"number": 17}"#, "only the digits 0-9"),
        ("\"\"", "empty"),
        ("\" 17\"", "only the digits 0-9"),
        ("\"17\\n\"", "only the digits 0-9"),
        ("\"1\\u00007\"", "only the digits 0-9"),
        ("\"１７\"", "only the digits 0-9"),
        ("\"−7\"", "only the digits 0-9"),
        ("\"1_000\"", "only the digits 0-9"),
        ("\"\\ud800\"", "not well formed"),
        ("\"\\udc00\\ud800\"", "not well formed"),
        ("\"17", "{\"number\": 17}"),
        ("", "{\"number\": 17}"),
        (&deep, "{\"number\": 17}"),
        (&deep_closed, "only the digits 0-9"),
        (&deep_object, "{\"number\": 17}"),
    ];
    for (number, told) in numbers {
        let shown: String = number.chars().take(50).collect();
        let answer = post(&node, format!(r#"{{"number": {number}}}"#)).await;
        let detail = answer.problem(&shown, 400, "invalid_argument");
        assert!(detail.contains(told), "{shown}: {detail}");
    }
    goes_on(&node, "bad numbers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_body_is_refused_and_the_answer_says_what_is_expected() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let bodies: &[&[u8]] = &[
        b"",
        b" \r\n",
        b"17",
        b"\"17\"",
        b"null",
        b"[17]",
        b"[]",
        b"{}",
        b"{\"number\": 17",
        b"{\"number\" 17}",
        b"{\"number\": 17,}",
        b"{'number': 17}",
        b"{number: 17}",
        b"number=17",
        b"{\"Number\": 17}",
        b"{\"number\": 17, \"number\": 17}",
        b"{\"number\": 17, \"\\u006eumber\": 18}",
        b"{\"number\": 17, \"base\": 10}",
        b"{\"base\": 10, \"number\": 17}",
        b"{\"number\": 17} x",
        b"{\"number\": 17}{\"number\": 18}",
        b"{\"number\": 17}\0",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf{\"number\": 17}",
        b" \xef\xbb\xbf{\"number\": 17}",
        b"\xff\xfe{\0\"\0",
        b"{\"number\": \"\xff\"}",
        b"{\"number\": \"\xed\xa0\x80\"}",
        b"{\"num\xffber\": 17}",
        b"{\"number\": 17, \"\\ud800\": 1}",
        b"\0",
    ];
    for body in bodies {
        let what = String::from_utf8_lossy(body).into_owned();
        let detail = post(&node, body.to_vec()).await.problem(&what, 400, "invalid_argument");
        assert!(detail.contains("{\"number\": 17}"), "{what}: {detail}");
    }
    goes_on(&node, "bad bodies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let million_digits = format!(r#"{{"number": {}}}"#, "7".repeat(1_000_000));
    let deep = "[".repeat(100_000);
    let announced =
        |body: &str| format!("{}{body}", post_head(&format!("Content-Length: {}\r\n", body.len())));
    let chunked = |body: &str| {
        format!("{}{:x}\r\n{body}\r\n0\r\n\r\n", post_head("Transfer-Encoding: chunked\r\n"), body.len())
    };
    let requests = [
        ("a million digits", announced(&million_digits)),
        ("a million digits in a chunk", chunked(&million_digits)),
        ("depth 100,000", announced(&deep)),
        ("depth 100,000 in a chunk", chunked(&deep)),
        ("an announced exabyte", post_head("Content-Length: 1000000000000000000\r\n")),
    ];
    for (what, request) in requests {
        for _ in 0..10 {
            let answer = raw(&node, &request).await.unwrap_or_else(|| panic!("{what}: no answer"));
            let detail = answer.problem(what, 413, "resource_exhausted");
            assert!(detail.contains("16384 bytes"), "{what}: {detail}");
        }
        goes_on(&node, what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn depth_that_a_larger_limit_lets_pass_does_not_overflow_the_stack() {
    let node = TestNode::alone(&["--id", "1", "--body-max", "1000000"]).await;
    let (opened, closed) = ("[".repeat(100_000), "]".repeat(100_000));
    let objects = r#"{"a":"#.repeat(100_000);
    for body in [
        format!(r#"{{"number": {opened}{closed}}}"#),
        format!(r#"{{"number": {opened}}}"#),
        format!(r#"{{"number": {objects}"#),
        opened.clone(),
        objects.clone(),
    ] {
        post(&node, body).await.problem("depth", 400, "invalid_argument");
    }
    goes_on(&node, "depth").await;
}

// ── the way a body arrives ──────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trickled_body_ends_with_the_deadline_or_before() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let chunked = ("Transfer-Encoding: chunked", "1\r\n \r\n");
    let counted = ("Content-Length: 1000", " ");
    // A body takes no longer than 5 s, however long its client would wait for the answer.
    for ((framing, piece), deadline_ms, least_ms) in
        [(chunked, 300, 300), (counted, 300, 300), (counted, 300_000, 5000)]
    {
        let started = Instant::now();
        let mut connection = Raw::connect(node.http).await;
        connection.send(post_head(&format!("{framing}\r\nConnect-Timeout-Ms: {deadline_ms}\r\n"))).await;
        let (mut reading, mut writing) = connection.stream.into_split();
        let trickle = tokio::spawn(async move {
            while writing.write_all(piece.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut read = Vec::new();
        while parse(&read).is_none() {
            assert_ne!(timeout(SOON, reading.read_buf(&mut read)).await.unwrap().unwrap(), 0, "no answer");
        }
        trickle.abort();
        let (answer, _) = parse(&read).unwrap();
        answer.problem(framing, 408, "deadline_exceeded");
        assert_eq!(answer.header("connection"), "close", "{framing}");
        assert!(started.elapsed() >= Duration::from_millis(least_ms), "{framing}: {:?}", started.elapsed());
        goes_on(&node, framing).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_expects_100_continue_is_told_before_it_sends_a_body() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let body = r#"{"number": 17}"#;
    let mut connection = Raw::connect(node.http).await;
    let head = |length: usize| post_head(&format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"));
    connection.send(head(body.len())).await;
    assert_eq!(connection.answer().await.unwrap().status, 100);
    connection.send(body).await;
    assert_eq!(connection.answer().await.unwrap().json()["is_prime"], true);

    let answer = raw(&node, head(1_000_000)).await.unwrap();
    answer.problem("expecting to send too much", 413, "resource_exhausted");
    let wrong = post_head("Content-Length: 14\r\nExpect: 100-continue\r\nContent-Type: text/plain\r\n");
    raw(&node, wrong).await.unwrap().problem("a wrong type", 415, "invalid_argument");
    goes_on(&node, "Expect").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_cut_off_is_no_question() {
    let node = TestNode::alone(&["--id", "1"]).await;
    // Each would be a good question if what has arrived were taken for the whole.
    for (what, request) in [
        ("a truncated length", format!("{}{{\"number\": 17}}", post_head("Content-Length: 100\r\n"))),
        (
            "a missing last chunk",
            format!("{}e\r\n{{\"number\": 17}}\r\n", post_head("Transfer-Encoding: chunked\r\n")),
        ),
        (
            "a bad chunk",
            format!("{}zz\r\n{{\"number\": 17}}\r\n", post_head("Transfer-Encoding: chunked\r\n")),
        ),
    ] {
        let mut connection = Raw::connect(node.http).await;
        connection.send(request).await;
        connection.stream.shutdown().await.unwrap();
        if let Some(answer) = connection.answer().await {
            answer.problem(what, 400, "invalid_argument");
        }
        connection.closed().await;
        goes_on(&node, what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_body_is_another_request() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut connection = Raw::connect(node.http).await;
    let question = |number: u32| format!("{}{{\"number\": {number}}}", post_head("Content-Length: 14\r\n"));
    // Three at once, in order.
    connection.send([17, 18, 19].map(question).concat()).await;
    for (number, is_prime) in [("17", true), ("18", false), ("19", true)] {
        let answer = connection.answer().await.unwrap().json();
        assert_eq!((&answer["number"], &answer["is_prime"]), (&json!(number), &json!(is_prime)));
    }
    // A length that is too small: the first is answered, the rest is garbage, and ends the connection.
    connection.send(question(23) + "}}}\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().json()["number"], "23");
    let (rest, _) = connection.closed().await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&rest));
    for ambiguous in [
        "Content-Length: 14\r\nContent-Length: 15\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 14x\r\n",
        "Transfer-Encoding: gzip\r\n",
    ] {
        let answer = raw(&node, post_head(ambiguous) + "{\"number\": 17}").await;
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 400), "{ambiguous}: {answer:?}");
    }
    goes_on(&node, "ambiguous lengths").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_gives_its_place_back() {
    let node = TestNode::alone(&["--id", "1", "--in-flight-max", "1"]).await;
    let mut connection = Raw::connect(node.http).await;
    connection
        .send(format!("GET /prime/{} HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 300S\r\n\r\n", longest_number()))
        .await;
    eventually("it is in flight", || async { metric(&node, "primacy_in_flight").await == 1.0 }).await;
    drop(connection);
    eventually("it is not", || async { metric(&node, "primacy_in_flight").await == 0.0 }).await;
    eventually("the work has stopped", || async {
        get(&node, "/cluster").await.json()["members"][0]["in_flight"] == 0
    })
    .await;
    goes_on(&node, "a client that went away").await;
}

// ── heads ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_is_refused_and_ends_its_connection() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let headers: String = (0..1000).map(|place| format!("X-{place}: y\r\n")).collect();
    let one_header = format!("X-Large: {}\r\n", "y".repeat(20_000));
    for (what, request) in [
        ("1000 headers", format!("GET /livez HTTP/1.1\r\nHost: test\r\n{headers}\r\n")),
        ("a large header", format!("GET /livez HTTP/1.1\r\nHost: test\r\n{one_header}\r\n")),
        ("a long path", format!("GET /prime/{} HTTP/1.1\r\nHost: test\r\n\r\n", "7".repeat(20_000))),
        ("a longer path", format!("GET /prime/{} HTTP/1.1\r\nHost: test\r\n\r\n", "7".repeat(70_000))),
        ("no HTTP", "nothing that is known\r\n\r\n".to_owned()),
        ("another version", "GET /livez HTTP/9.9\r\nHost: test\r\n\r\n".to_owned()),
        ("a blank in a name", "GET /livez HTTP/1.1\r\nHost : test\r\n\r\n".to_owned()),
    ] {
        let mut connection = Raw::connect(node.http).await;
        connection.send(request).await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
        let status = answer.status;
        assert!([400, 414, 431].contains(&status), "{what}: {status}");
        answer.problem(what, status, "invalid_argument");
        assert_eq!(answer.header("connection"), "close", "{what}");
        assert!(!answer.header("date").is_empty(), "{what}");
        connection.closed().await;
        goes_on(&node, what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_http_1_1_has_one_host() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let ask = async |line: &str, headers: &str| {
        let mut connection = Raw::connect(node.http).await;
        connection.send(format!("{line}\r\n{headers}\r\n")).await;
        connection.answer().await.unwrap_or_else(|| panic!("no answer to {line} {headers}"))
    };
    for path in ["/prime/17", "/livez", "/nothing", "/"] {
        for headers in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a\r\nHost: b\r\n",
            "Host: a b\r\n",
            "Host: http://a\r\n",
            "Host: a@b\r\n",
        ] {
            let answer = ask(&format!("GET {path} HTTP/1.1"), headers).await;
            let detail = answer.problem(headers, 400, "invalid_argument");
            assert!(detail.contains("Host"), "{headers}: {detail}");
        }
    }
    for (line, headers) in [
        ("GET /prime/17 HTTP/1.1", "Host: localhost:8080\r\n"),
        ("GET /prime/17 HTTP/1.1", "Host: [::1]:8080\r\n"),
        ("GET /prime/17 HTTP/1.1", "Host: my_host\r\n"),
        ("GET /prime/17 HTTP/1.1", "Host:\r\n"),
        ("GET http://elsewhere.example/prime/17 HTTP/1.1", "Host: elsewhere.example\r\n"),
        ("GET /prime/17 HTTP/1.0", ""),
        ("GET /prime/17 HTTP/1.0", "Host: a\r\n"),
    ] {
        assert_eq!(ask(line, headers).await.status, 200, "{line} {headers}");
    }
    for headers in ["Host: a\r\nHost: b\r\n", "Host: a b\r\n"] {
        assert_eq!(ask("GET /prime/17 HTTP/1.0", headers).await.status, 400, "{headers}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_deadline_is_refused_and_a_longer_one_than_the_longest_is_not() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (name, bad) in [
        ("grpc-timeout", "5"),
        ("grpc-timeout", "5x"),
        ("grpc-timeout", "-5S"),
        ("grpc-timeout", "123456789S"),
        ("grpc-timeout", "1.5S"),
        ("grpc-timeout", ""),
        ("connect-timeout-ms", "5S"),
        ("connect-timeout-ms", "-1"),
        ("connect-timeout-ms", "12345678901"),
        ("connect-timeout-ms", "soon"),
    ] {
        for request in
            [client().get(node.url("/prime/17")), client().post(node.url("/prime")).body("{\"number\":17}")]
        {
            let detail = send(request.header(name, bad)).await.problem(bad, 400, "invalid_argument");
            assert!(detail.contains(name) && detail.contains("digits"), "{name}: {bad}: {detail}");
        }
    }
    for (name, good) in
        [("grpc-timeout", "99999999H"), ("connect-timeout-ms", "9999999999"), ("Grpc-Timeout", "300S")]
    {
        let answer = send(client().get(node.url("/prime/17")).header(name, good)).await;
        assert_eq!(answer.status, 200, "{name}: {good}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_takes_too_long_is_a_504() {
    let cluster = TestCluster::start(1).await;
    let number = longest_number();
    let body = format!(r#"{{"number": {number}}}"#);
    for node in &cluster.nodes {
        let of_get = client().get(node.url(&format!("/prime/{number}"))).header("Grpc-Timeout", "1m");
        let of_post =
            client().post(node.url("/prime")).body(body.clone()).header("Connect-Timeout-Ms", "100");
        for request in [of_get, of_post] {
            let started = Instant::now();
            let detail = send(request).await.problem(&node.name, 504, "deadline_exceeded");
            assert!(detail.contains("deadline"), "{detail}");
            assert!(started.elapsed() < Duration::from_secs(3), "{}: {:?}", node.name, started.elapsed());
        }
        goes_on(node, "an expired deadline").await;
    }
    eventually("nobody computes for nobody", || async {
        let members = get(cluster.leader(), "/cluster").await.json()["members"].clone();
        members.as_array().unwrap().iter().all(|member| member["in_flight"] == 0)
    })
    .await;
}

// ── GET /prime/{number} ─────────────────────────────────────────────────────────────────────────────────────────

const FOR_EVER: &str = "public, max-age=31536000, immutable";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_be_cached_for_ever() {
    let cluster = TestCluster::start(1).await;
    let answer = get(cluster.leader(), "/prime/9223372036854775783").await;
    assert_eq!(answer.status, 200);
    let expected = post(cluster.leader(), r#"{"number": 9223372036854775783}"#).await;
    assert_eq!(answer.json(), expected.json());
    assert_eq!(answer.header("cache-control"), FOR_EVER);
    let etag = answer.header("etag");
    assert!(etag.starts_with("W/\"") && etag.ends_with('"') && etag.len() > 8, "{etag}");
    assert_eq!(get(cluster.worker(1), "/prime/9223372036854775783").await.header("etag"), etag);
    assert_ne!(get(cluster.leader(), "/prime/17").await.header("etag"), etag);

    let opaque = &etag[2..];
    for known in [etag, opaque, "*", &format!("\"other\", {etag}"), &format!("W/\"x\" ,{opaque}")] {
        let request = client().get(cluster.leader().url("/prime/9223372036854775783"));
        let answer = send(request.header("if-none-match", known)).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}");
        assert_eq!((answer.header("etag"), answer.header("cache-control")), (etag, FOR_EVER), "{known}");
    }
    for other in ["\"other\"", "W/\"\"", "", &etag[..etag.len() - 1]] {
        let request = client().get(cluster.leader().url("/prime/9223372036854775783"));
        assert_eq!(send(request.header("if-none-match", other)).await.status, 200, "{other}");
    }
}

/// A cache would show them to everybody, and keep an answer for each that it may depend on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_may_be_cached_says_nothing_of_who_asked() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let known = get(&node, "/prime/17").await.header("etag").to_owned();
    for (method, known, status) in
        [("GET", "", 200), ("HEAD", "", 200), ("GET", &*known, 304), ("HEAD", &*known, 304)]
    {
        let request = client().request(method.parse().unwrap(), node.url("/prime/17"));
        let request = request.header("x-request-id", "my-request-1").header("traceparent", PARENT);
        let answer =
            send(request.header("origin", "http://elsewhere.example").header("if-none-match", known)).await;
        assert_eq!((answer.status, answer.header("cache-control")), (status, FOR_EVER), "{method} {known}");
        for header in ["x-request-id", "traceparent", "vary"] {
            assert_eq!(answer.header(header), "", "{method} {known}: {header}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    let refused = send(client().get(node.url("/prime/x")).header("traceparent", PARENT)).await;
    assert_eq!(refused.header("traceparent"), PARENT);
    refused.problem("a bad path", 400, "invalid_argument");
    for path in [
        "/",
        "/app.js",
        "/docs/",
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-initializer.js",
        "/openapi.json",
    ] {
        assert_eq!(get(&node, path).await.header("cache-control"), "no-cache", "{path}");
    }
    for path in ["/cluster", "/results", "/livez", "/readyz", "/metrics"] {
        assert_eq!(get(&node, path).await.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_of_10_000_digits_and_percent_encoded_digits_are_read() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let longest = format!("1{}", "0".repeat(9_999));
    for http in [client(), Client::builder().no_proxy().http2_prior_knowledge().build().unwrap()] {
        for number in [&longest, MERSENNE_127, "-7", "0"] {
            let answer = send(http.get(node.url(&format!("/prime/{number}")))).await;
            assert_eq!((answer.status, &answer.json()["number"]), (200, &json!(number)));
        }
    }
    let answer = raw(&node, "GET /prime/%31%37 HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert_eq!(answer.json()["number"], "17");
    assert_eq!(get(&node, "/prime/17?and=more").await.json()["number"], "17");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_path_is_refused_and_not_cached() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let too_long = format!("1{}", "0".repeat(10_000));
    for bad in [
        "1e3",
        "1.0",
        "-0",
        "+7",
        "0x11",
        "017",
        "NaN",
        "seventeen",
        "%20",
        "%2B7",
        "17%00",
        "%ff",
        "%ed%a0%80",
        "17%2F19",
        "%",
        "%3",
        "１７",
        &too_long,
    ] {
        let request = format!("GET /prime/{bad} HTTP/1.1\r\nHost: test\r\n\r\n");
        let Some(answer) = raw(&node, request).await else { panic!("no answer to {bad}") };
        let plain_400 = answer.status == 400 && answer.body.is_empty() && !bad.is_ascii();
        if !plain_400 {
            answer.problem(bad, 400, "invalid_argument");
        }
    }
    let raw_bytes = raw(&node, b"GET /prime/\xff\xfe HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert_eq!(raw_bytes.status, 400);
    goes_on(&node, "bad paths").await;
}

// ── ids ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_taken_when_well_formed_and_made_when_not() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let longest = "a".repeat(128);
    let paths = [("/cluster", 200), ("/prime/x", 400), ("/nothing", 404), ("/livez", 200), ("/prime", 405)];
    for (path, status) in paths {
        for id in ["my-request-1", &longest, "!~"] {
            let request =
                client().get(node.url(path)).header("x-request-id", id).header("traceparent", PARENT);
            let answer = send(request).await;
            assert_eq!((answer.status, answer.header("x-request-id")), (status, id), "{path}");
            assert_eq!(answer.header("traceparent"), PARENT, "{path}");
            assert!(status == 200 || answer.json()["request_id"] == id, "{path}");
        }
    }
    let mut made = BTreeSet::new();
    let too_long = "a".repeat(129);
    for bad in [&b""[..], too_long.as_bytes(), b"two words", b"\xc3\xa9"] {
        for path in ["/cluster", "/nothing"] {
            let bad = HeaderValue::from_bytes(bad).unwrap();
            let request = client().get(node.url(path)).header("x-request-id", bad);
            let answer = send(request.header("traceparent", "00-bad-bad-00")).await;
            let id = answer.header("x-request-id");
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            let parent = answer.header("traceparent");
            assert!(parent.len() == 55 && parent.starts_with("00-") && parent != PARENT, "{parent}");
            made.insert(id.to_owned());
        }
    }
    made.insert(get(&node, "/livez").await.header("x-request-id").to_owned());
    assert_eq!(made.len(), 9, "each is made anew: {made:?}");
}

/// The answer to a check names only what its client named; an error, and a stream, whose error is to come, both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_errors_and_streams_name_their_ids() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let both = |metadata: &MetadataMap| ["x-request-id", "traceparent"].map(|id| metadata.contains_key(id));
    let number = |number| PrimeRequest { number, decimal: String::new() };
    let answer = client.check_prime(number(17)).await.unwrap();
    assert_eq!(both(answer.metadata()), [false, false]);
    let mut named = Request::new(number(17));
    named.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
    assert_eq!(both(client.check_prime(named).await.unwrap().metadata()), [true, true]);
    let bad = PrimeRequest { number: 0, decimal: "017".to_owned() };
    assert_eq!(both(client.check_prime(bad.clone()).await.unwrap_err().metadata()), [true, true]);
    let bulk = client.check_primes(stream::iter([bad])).await.unwrap();
    assert_eq!(both(bulk.metadata()), [true, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_travel_to_the_node_that_does_the_work() {
    let leader = Node::bind(config(&["--id", "3", "--name", "leader"])).await.unwrap();
    let (follower, worker) =
        (Node::bind(config(&["--id", "2", "--name", "follower"])).await.unwrap(), free_address());
    let peer =
        |id: u32, address: SocketAddr| PeerAddress { id: Some(id), grpc_addr: address.to_string().into() };
    let (leader_addr, follower_addr) = (leader.grpc_addr().unwrap(), follower.grpc_addr().unwrap());
    let peers = vec![peer(3, leader_addr), peer(2, follower_addr), peer(1, worker)];
    let mut child = primacy()
        .args(["node", "--id", "1", "--name", "worker1", "--http-addr", "127.0.0.1:0"])
        .args(["--grpc-addr", &worker.to_string(), "--peers", &format!("3={leader_addr},2={follower_addr}")])
        .env("PRIMACY_LOG", "primacy=debug")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let (lines, logged) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
    std::thread::spawn(move || {
        lines.map_while(Result::ok).for_each(|line| logged.lock().unwrap().push(line))
    });
    let leader = TestNode::start("leader".to_owned(), leader.with_peers(peers.clone()));
    let follower = TestNode::start("follower".to_owned(), follower.with_peers(peers));
    all_alive(leader.grpc, 3).await;
    all_alive(follower.grpc, 3).await;

    let mut asked = 0;
    for (road, node) in [("of-leader", &leader), ("of-follower", &follower)] {
        for (kind, number) in [("short", "17"), ("long", MERSENNE_127)] {
            let mut by = String::new();
            // The leader takes its workers in turn; the follower is one of them.
            for _ in 0..10 {
                asked += 1;
                let request = client().get(node.url(&format!("/prime/{number}")));
                let id = format!("{kind}-{road}-{asked}");
                let answer =
                    send(request.header("x-request-id", &id).header("traceparent", PARENT)).await.json();
                by = answer["processed_by"].as_str().unwrap().to_owned();
                if by == "worker1" {
                    let found =
                        || log.lock().unwrap().iter().any(|line| line.contains(&id) && line.contains(PARENT));
                    eventually(&format!("the log names {id}"), || async { found() }).await;
                    break;
                }
            }
            assert_eq!(by, "worker1", "{kind} {road}");
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

// ── GET /cluster, GET /results ──────────────────────────────────────────────────────────────────────────────────

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_is_shown_as_each_node_sees_it() {
    let cluster = TestCluster::start(2).await;
    for node in &cluster.nodes {
        let answer = get(node, "/cluster").await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
        let view = answer.json();
        assert_eq!(
            keys(&view),
            BTreeSet::from(["leader", "members", "observed_by", "observed_at", "recent"])
        );
        assert_eq!(view["observed_by"], node.name);
        assert!(view["observed_at"].as_u64().unwrap() > 1_700_000_000_000, "{view}");
        let leader = &view["leader"];
        assert_eq!(keys(leader), BTreeSet::from(["id", "name", "counter", "since"]));
        assert_eq!((&leader["id"], &leader["name"]), (&json!(3), &json!("leader")));
        assert!(leader["since"].as_u64().unwrap() <= view["observed_at"].as_u64().unwrap(), "{view}");
        let members = view["members"].as_array().unwrap();
        let ids: Vec<&Value> = members.iter().map(|member| &member["id"]).collect();
        assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
        for member in members {
            let expected = [
                "id",
                "name",
                "grpc_addr",
                "http_addr",
                "role",
                "status",
                "last_seen_ms",
                "in_flight",
                "completed",
                "version",
                "scheme",
            ];
            assert_eq!(keys(member), BTreeSet::from(expected));
            let known = cluster.nodes.iter().find(|known| member["name"] == known.name).unwrap();
            assert_eq!(member["grpc_addr"], known.grpc.to_string());
            assert_eq!(member["http_addr"], known.http.to_string());
            assert_eq!(member["role"], if known.name == "leader" { "leader" } else { "worker" });
            assert_eq!(member["status"], "alive");
            assert_eq!(member["version"], env!("CARGO_PKG_VERSION"));
            assert!(member["last_seen_ms"].is_u64() && member["in_flight"].is_u64(), "{member}");
        }
        let recent = view["recent"].as_array().unwrap();
        assert!(!recent.is_empty());
        for change in recent {
            assert_eq!(keys(change), BTreeSet::from(["at", "name", "change", "reason", "duration_ms"]));
        }
        let times: Vec<u64> = recent.iter().map(|change| change["at"].as_u64().unwrap()).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older), "newest first: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_has_done_is_counted_in_the_cluster() {
    let cluster = TestCluster::start(1).await;
    for _ in 0..5 {
        goes_on(cluster.leader(), "").await;
    }
    eventually("the leader's view counts them", || async {
        get(cluster.leader(), "/cluster").await.json()["members"][0]["completed"] == 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_results_come_first_on_every_node() {
    let cluster = TestCluster::start(2).await;
    assert_eq!(get(cluster.worker(1), "/results").await.json(), json!({"results": []}));
    // Through every node: what the leader remembers is the whole.
    for (node, number) in cluster.nodes.iter().zip(["17", "18", MERSENNE_127]) {
        assert_eq!(get(node, &format!("/prime/{number}")).await.status, 200);
    }
    for node in &cluster.nodes {
        let answer = get(node, "/results").await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
        let results = answer.json()["results"].as_array().unwrap().clone();
        let numbers: Vec<&Value> = results.iter().map(|result| &result["number"]).collect();
        assert_eq!(numbers, [MERSENNE_127, "18", "17"], "{}", node.name);
        let verdicts: Vec<(&Value, &Value)> =
            results.iter().map(|result| (&result["is_prime"], &result["certainty"])).collect();
        let (yes, no, proven) = (json!(true), json!(false), json!("proven"));
        assert_eq!(verdicts, [(&yes, &proven), (&no, &proven), (&yes, &proven)]);
        for result in &results {
            let expected = ["number", "is_prime", "processed_by", "certainty", "at", "duration_us"];
            assert_eq!(keys(result), BTreeSet::from(expected));
            assert!(result["processed_by"].as_str().unwrap().starts_with("worker"), "{result}");
            assert!(result["at"].as_u64().unwrap() > 1_700_000_000_000, "{result}");
        }
        let two = get(node, "/results?limit=2").await.json();
        assert_eq!(two["results"].as_array().unwrap()[..], results[..2]);
        assert_eq!(get(node, "/results?limit=1000").await.json()["results"].as_array().unwrap().len(), 3);
    }
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=%2B1",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=1&limit=2",
        "limits=1",
        "%ff=1",
        "limit=99999999999999999999",
    ] {
        let detail =
            get(cluster.leader(), &format!("/results?{bad}")).await.problem(bad, 400, "invalid_argument");
        assert!(detail.contains("1 to 1000"), "{bad}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_remembers_its_last_thousand_results() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let http = client();
    for number in 0..1003 {
        assert_eq!(send(http.get(node.url(&format!("/prime/{number}")))).await.status, 200);
    }
    let answer = get(&node, "/results?limit=1000").await.json();
    let numbers: Vec<String> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["number"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<String> = (3..1003).rev().map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected);
    assert_eq!(get(&node, "/results").await.json()["results"].as_array().unwrap().len(), 100);
}

// ── operation ───────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_is_alive_but_not_ready_and_closes_its_connections() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let live = get(&node, "/livez").await;
    assert_eq!((live.status, live.text(), live.header("cache-control")), (200, "ok\n", "no-store"));
    assert_eq!(live.header("connection"), "");
    let ready = get(&node, "/readyz").await;
    assert_eq!((ready.status, ready.text()), (200, "ok\n"));
    let verbose = get(&node, "/readyz?verbose").await;
    assert_eq!(verbose.status, 200);
    assert_eq!(verbose.text(), "[+] the cluster is running\n[+] not stopping\nok\n");

    node.stop.cancel();
    eventually("it is not ready", || async { get(&node, "/readyz").await.status == 503 }).await;
    let detail = get(&node, "/readyz?verbose").await.problem("readyz", 503, "unavailable");
    assert!(detail.contains("[-] not stopping"), "{detail}");
    let live = get(&node, "/livez").await;
    assert_eq!((live.status, live.header("connection")), (200, "close"));
    let answer = get(&node, "/prime/17").await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"), "a lame duck still answers");
    timeout(SOON, node.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_probe_needs_a_leader() {
    // It only works, and nobody it knows answers.
    let node = TestNode::alone(&["--name", "replica", "--peers", &free_address().to_string()]).await;
    assert_eq!(get(&node, "/cluster").await.json()["leader"], Value::Null);
    assert_eq!(get(&node, "/livez").await.status, 200);
    assert_eq!(get(&node, "/readyz").await.status, 200);
    goes_on(&node, "a start without a leader").await;
}

/// A sample's value by its name.
pub async fn metric(node: &TestNode, name: &str) -> f64 {
    let text = String::from_utf8(get(node, "/metrics").await.body).unwrap();
    samples(&text)[name]
}

/// What the text of metrics says; whatever breaks the rules of its format panics.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let open = text.strip_suffix("# EOF\n");
    for line in open.unwrap_or(text).lines() {
        if let Some(described) = line.strip_prefix("# ") {
            let mut words = described.splitn(3, ' ');
            let (keyword, family, rest) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match keyword {
                "TYPE" => assert_eq!(kinds.insert(family, rest), None, "{family} twice"),
                "UNIT" => assert!(open.is_some() && family.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => assert!(!rest.is_empty(), "{line}"),
                other => panic!("{other} in {line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let described = kinds.iter().any(|(family, kind)| match *kind {
            "counter" if open.is_none() => bare == *family && bare.ends_with("_total"),
            "counter" => bare == format!("{family}_total"),
            "histogram" => ["_sum", "_count", "_bucket"].iter().any(|end| bare == format!("{family}{end}")),
            _ => bare == *family,
        });
        assert!(described, "{name} is not described before");
        assert_eq!(samples.insert(name.to_owned(), value.parse().unwrap()), None, "{name} twice");
    }
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_open_metrics_for_those_who_ask_for_it() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let as_prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let classic = "text/plain; version=0.0.4; charset=utf-8";
    let mut names = Vec::new();
    for (accept, content_type) in
        [(as_prometheus, open), ("text/plain;version=0.0.4", classic), ("*/*", classic)]
    {
        let answer = send(client().get(node.url("/metrics")).header("accept", accept)).await;
        assert_eq!((answer.header("content-type"), answer.header("vary")), (content_type, "accept"));
        assert_eq!(answer.text().ends_with("# EOF\n"), content_type == open);
        names.push(samples(answer.text()).into_keys().collect::<Vec<_>>());
    }
    assert!(names.iter().all(|all| *all == names[0]), "the same in both formats: {names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let answer = get(&node, "/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    eventually("it leads", || async { node.view().await.leader.is_some() }).await;
    let before = samples(answer.text());
    for _ in 0..3 {
        goes_on(&node, "").await;
    }
    post(&node, "nonsense").await.problem("nonsense", 400, "invalid_argument");
    let late =
        send(client().get(node.url(&format!("/prime/{}", longest_number()))).header("grpc-timeout", "1m"))
            .await;
    assert_eq!(late.status, 504);
    let after = samples(get(&node, "/metrics").await.text());
    let moved = |name: &str| after[name] - before[name];
    // The metrics themselves are a request too.
    assert_eq!(moved("primacy_requests_ok_total"), 4.0);
    assert_eq!(moved("primacy_requests_refused_total"), 1.0);
    assert_eq!(moved("primacy_requests_failed_total"), 1.0);
    assert_eq!(moved("primacy_requests_shed_total"), 0.0);
    assert_eq!(moved("primacy_checks_completed"), 3.0);
    assert_eq!(moved("primacy_request_seconds_count"), 6.0);
    assert!(moved("primacy_connections_total") >= 5.0);
    assert_eq!((after["primacy_leads"], after["primacy_members_alive"]), (1.0, 1.0));
    let buckets: Vec<(f64, f64)> = after
        .iter()
        .filter_map(|(name, count)| {
            Some((name.strip_prefix("primacy_request_seconds_bucket{le=\"")?, *count))
        })
        .map(|(bound, count)| (bound.trim_end_matches("\"}").parse().unwrap(), count))
        .collect();
    let mut by_bound = buckets.clone();
    by_bound.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert!(by_bound.is_sorted_by(|(_, lower), (_, upper)| lower <= upper), "{by_bound:?}");
    assert_eq!(by_bound.last().unwrap().1, after["primacy_request_seconds_count"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_bucket_has_no_bound() {
    let node = TestNode::alone(&["--id", "1"]).await;
    assert!(get(&node, "/metrics").await.text().contains("primacy_request_seconds_bucket{le=\"+Inf\"} "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_path_or_method_is_a_problem_that_helps() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for path in [
        "/nothing",
        "/prime/",
        "/prime/17/",
        "/prime/17/19",
        "/Prime/17",
        "/%ff",
        "/livez/x",
        "/docs/nothing.js",
    ] {
        let answer = get(&node, path).await;
        answer.problem(path, 404, "not_found");
    }
    let methods = [
        (Method::GET, "/prime", "POST"),
        (Method::PUT, "/prime", "POST"),
        (Method::DELETE, "/prime/17", "GET,HEAD"),
        (Method::POST, "/prime/17", "GET,HEAD"),
        (Method::PATCH, "/cluster", "GET,HEAD"),
        (Method::POST, "/results", "GET,HEAD"),
        (Method::POST, "/livez", "GET,HEAD"),
        (Method::POST, "/metrics", "GET,HEAD"),
        (Method::TRACE, "/openapi.json", "GET,HEAD"),
        (Method::from_bytes(b"BREW").unwrap(), "/prime", "POST"),
    ];
    for (method, path, allow) in methods {
        let what = format!("{method} {path}");
        let answer = send(client().request(method, node.url(path))).await;
        assert_eq!(answer.header("allow"), allow, "{what}");
        let detail = answer.problem(&what, 405, "unimplemented");
        assert!(detail.contains("Allow"), "{what}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_get_without_a_body() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for path in
        ["/prime/17", "/prime/x", "/cluster", "/results", "/livez", "/readyz", "/openapi.json", "/nothing"]
    {
        let (got, head) = (get(&node, path).await, send(client().head(node.url(path))).await);
        assert_eq!((head.status, head.body.len()), (got.status, 0), "{path}");
        let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
        assert_eq!(send(http2.head(node.url(path))).await.status, got.status, "{path} over HTTP/2");
        for name in ["content-type", "cache-control", "etag"] {
            assert_eq!(head.header(name), got.header(name), "{path}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_page_may_ask() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let preflight = client()
        .request(Method::OPTIONS, node.url("/prime"))
        .header("origin", "http://elsewhere.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-request-id,connect-timeout-ms");
    let answer = send(preflight).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(answer.header("access-control-allow-methods"), "GET,POST");
    assert_eq!(answer.header("access-control-allow-headers"), "content-type,x-request-id,connect-timeout-ms");
    assert_eq!(answer.header("access-control-max-age"), "3600");
    for path in ["/prime/17", "/prime/x", "/nothing", "/cluster"] {
        let answer = send(client().get(node.url(path)).header("origin", "http://elsewhere.example")).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        let exposed = answer.header("access-control-expose-headers");
        for name in ["x-request-id", "traceparent", "etag", "retry-after"] {
            assert!(exposed.split(',').any(|one| one.trim() == name), "{path}: {exposed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_are_compressed_on_request() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let plain = get(&node, "/openapi.json").await;
    assert_eq!(plain.header("content-encoding"), "");
    let zipped = send(client().get(node.url("/openapi.json")).header("accept-encoding", "gzip")).await;
    assert_eq!((zipped.status, zipped.header("content-encoding")), (200, "gzip"));
    assert_eq!(zipped.header("vary"), "accept-encoding");
    assert!(zipped.body.len() * 2 < plain.body.len(), "{} of {}", zipped.body.len(), plain.body.len());
    let unzipping = Client::builder().no_proxy().build().unwrap();
    assert_eq!(send(unzipping.get(node.url("/openapi.json"))).await.body, plain.body);
    for path in ["/prime/17", "/livez", "/cluster", "/nothing"] {
        let small = send(client().get(node.url(path)).header("accept-encoding", "gzip")).await;
        assert_eq!(small.header("content-encoding"), "", "{path}");
    }
    let refused = send(client().get(node.url("/openapi.json")).header("accept-encoding", "gzip;q=0")).await;
    assert_eq!((refused.header("content-encoding"), &refused.body), ("", &plain.body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_spoken_to_those_who_begin_with_it() {
    let cluster = TestCluster::start(1).await;
    let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let asks = (0..50).map(|number| {
        let request = http2.post(cluster.leader().url("/prime")).body(format!(r#"{{"number": {number}}}"#));
        async move { (number, request.send().await.unwrap()) }
    });
    for (number, response) in futures_util::future::join_all(asks).await {
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        let answer: Value = response.json().await.unwrap();
        assert_eq!(
            (&answer["number"], &answer["is_prime"]),
            (&json!(number.to_string()), &json!(primacy::is_prime(number)))
        );
    }
}

// ── the contract ────────────────────────────────────────────────────────────────────────────────────────────────

pub fn contract() -> Value {
    serde_json::from_str(primacy::openapi::json()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_is_the_committed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == primacy::openapi::json(),
        "openapi/openapi.json is not what the code says; if the change is meant, run\n    \
         cargo run -- openapi > openapi/openapi.json\nand commit it"
    );
    let node = TestNode::alone(&["--id", "1"]).await;
    let served = get(&node, "/openapi.json").await;
    assert_eq!((served.text(), served.header("content-type")), (&*committed, "application/json"));
}

/// Every operation with its method and path.
pub fn operations(contract: &Value) -> Vec<(String, String, Value)> {
    let paths = contract["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap();
        methods.iter().map(|(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
    });
    all.collect()
}

/// Follows a `$ref`.
pub fn resolved<'a>(contract: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => contract.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// The example that Swagger UI would fill in for a parameter, or for a body of some media type.
pub fn example(contract: &Value, described: &Value) -> Option<Value> {
    let schema = resolved(contract, &described["schema"]);
    let first_named = described["examples"].as_object().and_then(|examples| examples.values().next());
    let candidates = [
        described.get("example"),
        first_named.map(|example| &example["value"]),
        schema.get("example"),
        schema["examples"].get(0),
        schema.get("default"),
    ];
    candidates.into_iter().flatten().next().cloned()
}

#[test]
fn the_contract_describes_and_shows_everything() {
    let contract = contract();
    let all = operations(&contract);
    let names: BTreeSet<String> = all.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    for expected in [
        "POST /prime",
        "GET /prime/{number}",
        "GET /cluster",
        "GET /results",
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
    ] {
        assert!(names.contains(expected), "{expected} is not in {names:?}");
    }
    let mut missing = Vec::new();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in &all {
        let mut needs = |what: &str, is_there: bool| {
            if !is_there {
                missing.push(format!("{method} {path}: {what}"));
            }
        };
        needs(
            "a summary or description",
            operation["summary"].is_string() || operation["description"].is_string(),
        );
        needs(
            "an id of its own",
            ids.insert(operation["operationId"].as_str().unwrap_or_default().to_owned()),
        );
        needs("a tag", operation["tags"].get(0).is_some());
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            needs(&format!("a description of {name}"), parameter["description"].is_string());
            needs(&format!("an example of {name}"), example(&contract, parameter).is_some());
        }
        for (media, body) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            needs(&format!("an example of a {media} body"), example(&contract, body).is_some());
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = resolved(&contract, response);
            needs(
                &format!("a description of {status}"),
                response["description"].as_str().is_some_and(|text| !text.is_empty()),
            );
            for (media, body) in response["content"].as_object().into_iter().flatten() {
                needs(&format!("an example of {status} as {media}"), example(&contract, body).is_some());
            }
            for (name, header) in response["headers"].as_object().into_iter().flatten() {
                needs(
                    &format!("a description of the header {name} of {status}"),
                    header["description"].is_string(),
                );
            }
        }
    }
    for (name, schema) in contract["components"]["schemas"].as_object().unwrap() {
        undescribed(&contract, name, schema, &mut missing);
    }
    for (method, path, operation) in &all {
        for (_, body) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            undescribed(&contract, &format!("the body of {method} {path}"), &body["schema"], &mut missing);
        }
    }
    assert!(missing.is_empty(), "the contract lacks:\n{}", missing.join("\n"));
}

/// Notes every schema and field without a description.
fn undescribed(contract: &Value, name: &str, schema: &Value, missing: &mut Vec<String>) {
    if !resolved(contract, schema)["description"].is_string() && !schema["description"].is_string() {
        missing.push(format!("{name}: a description"));
    }
    for (field, of_field) in schema["properties"].as_object().into_iter().flatten() {
        let one_of = of_field["oneOf"].as_array().into_iter().flatten();
        let described = one_of.map(|one| resolved(contract, one)).any(|one| one["description"].is_string());
        let items = &of_field["items"];
        if !described {
            undescribed(contract, &format!("{name}.{field}"), of_field, missing);
        }
        if items.is_object() {
            undescribed(contract, &format!("{name}.{field}[]"), items, missing);
        }
    }
}

/// What somebody gets who opens Swagger UI and presses "Execute" without typing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_works_with_the_examples_of_the_contract() {
    let cluster = TestCluster::start(1).await;
    let contract = contract();
    let as_text = |value: Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    for (method, path, operation) in operations(&contract) {
        let mut url = cluster.leader().url(&path);
        let (mut headers, mut query) = (HeaderMap::new(), Vec::new());
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let value = as_text(example(&contract, parameter).unwrap());
            match parameter["in"].as_str().unwrap() {
                "path" => url = url.replace(&format!("{{{name}}}"), &value),
                "query" => query.push((name.to_owned(), value)),
                "header" => {
                    headers
                        .insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
                }
                other => panic!("a parameter in {other}"),
            }
        }
        let url = Url::parse_with_params(&url, query).unwrap();
        let what = format!("{method} {url}");
        let mut request = client().request(method.parse().unwrap(), url).headers(headers);
        if let Some((media, body)) =
            operation["requestBody"]["content"].as_object().and_then(|content| content.iter().next())
        {
            request = request.header("content-type", media).body(as_text(example(&contract, body).unwrap()));
        }
        if operation["responses"]["200"]["content"].get("text/event-stream").is_some() {
            // A stream does not end by itself: its head says enough.
            let head = timeout(SOON, request.send()).await.expect("a head").unwrap();
            assert_eq!(
                (head.status().as_u16(), &head.headers()["content-type"]),
                (200, &"text/event-stream".parse().unwrap())
            );
            continue;
        }
        let answer = send(request).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let documented = operation["responses"]["200"]["content"].as_object().unwrap();
        let media = answer.header("content-type").split(';').next().unwrap();
        let body =
            documented.get(media).unwrap_or_else(|| panic!("{what}: {media} is not in {documented:?}"));
        let schema = resolved(&contract, &body["schema"]);
        if let Some(properties) = schema["properties"].as_object() {
            let documented: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            let required =
                schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
            let (answer, required) = (answer.json(), required.collect::<BTreeSet<&str>>());
            let answered = keys(&answer);
            assert!(required.is_subset(&answered) && answered.is_subset(&documented), "{what}: {answered:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swagger_ui_is_served_from_the_binary() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let redirect = raw(&node, "GET /docs HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert_eq!((redirect.status, redirect.header("location")), (307, "docs/"), "below whatever path it is");
    let redirected = get(&node, "/docs").await;
    assert_eq!(
        (redirected.status, redirected.header("content-type")),
        (200, "text/html; charset=utf-8"),
        "by way of /docs/"
    );
    let page = redirected.text();
    assert!(page.contains("swagger-ui"), "{page}");
    let mut linked = 0;
    for attribute in ["src=\"", "href=\""] {
        for link in page.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(link.starts_with("./") || !link.contains('/'), "{link}");
            assert_eq!(
                get(&node, &format!("/docs/{}", link.trim_start_matches("./"))).await.status,
                200,
                "{link}"
            );
            linked += 1;
        }
    }
    assert!(linked >= 4, "{page}");
    let settings = get(&node, "/docs/swagger-initializer.js").await;
    let settings = settings.text();
    assert!(settings.contains("url: '../openapi.json'"), "{settings}");
    // Without it the page asks validator.swagger.io wherever it is not opened as localhost.
    assert!(settings.contains("validatorUrl: 'none'"), "{settings}");
    assert!(!settings.contains("http"), "{settings}");
}

#[test]
fn the_long_number_of_these_tests_is_one() {
    let number: Number = longest_number().parse().unwrap();
    assert!(number.estimated_cost_us() > 1_000_000, "{}", number.estimated_cost_us());
}
