//! Many numbers in one request: in order, in bounded memory, whoever dies and whoever does not read.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use primacy::{
    is_prime,
    limits::{
        BODY_TIMEOUT, BULK_IDLE_TIMEOUT, BULK_LONGS_MAX, BULK_STOP_TIMEOUT, BULK_WINDOW, BULKS_MAX, DRAIN,
        JSON_BULK_BYTES_MAX, JSON_BULK_NUMBERS_MAX, LAME_DUCK, LINE_BYTES_MAX, MESSAGE_BYTES_MAX,
    },
    proto::{CheckedPrime, PrimeRequest, checked_prime::Outcome, scheduler_client::SchedulerClient},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::Client;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};

use crate::{
    harness::{
        Processes, Running, SOON, TestCluster, TestNode, channel, check, command, eventually, longest_number,
        within,
    },
    http::Answer,
};

const MERSENNE_127: &str = "170141183460469231731687303715884105727";

// ── a client that sends and reads as it is told ─────────────────────────────────────────────────────────────────

/// A bulk over HTTP/1.1.
struct Bulk {
    status: u16,
    to: OwnedWriteHalf,
    answers: Answers,
}

/// What comes back, in chunks.
struct Answers {
    from: BufReader<OwnedReadHalf>,
    /// What is read and not taken.
    read: Vec<u8>,
    taken: usize,
}

impl Bulk {
    async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, "").await
    }

    /// With further headers, each with its end of line; waits for the head of the answer.
    async fn open_with(address: SocketAddr, headers: &str) -> Self {
        let (from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
        let head = "POST /primes HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\n";
        to.write_all(format!("{head}{headers}transfer-encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
        let mut answers = Answers { from: BufReader::new(from), read: Vec::new(), taken: 0 };
        let status = answers.head_line().await.split(' ').nth(1).unwrap().parse().unwrap();
        while !answers.head_line().await.is_empty() {}
        Self { status, to, answers }
    }

    async fn send(&mut self, text: &str) {
        send(&mut self.to, text).await.unwrap();
    }

    async fn end(&mut self) {
        self.to.write_all(b"0\r\n\r\n").await.unwrap();
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.answers.line().await.expect("a line")).unwrap()
    }

    /// Sends chunk after chunk for as long as it is read from; returns how many were taken, the last in part, and what
    /// was left of that.
    async fn send_until_blocked(&mut self, chunk: &[u8]) -> (usize, Vec<u8>) {
        let mut sent = 0;
        loop {
            match timeout(Duration::from_secs(1), self.to.write(&chunk[sent % chunk.len()..])).await {
                Ok(written) => sent += written.unwrap(),
                Err(_) => return (sent / chunk.len() + 1, chunk[sent % chunk.len()..].to_vec()),
            }
        }
    }
}

impl Answers {
    async fn head_line(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(SOON, self.from.read_line(&mut line)).await.expect("a line in time");
        // The connection may be gone.
        let _ = read;
        line.trim_end().to_owned()
    }

    /// The next line; nothing when the answer ends, orderly or not.
    async fn line(&mut self) -> Option<String> {
        loop {
            let rest = &self.read[self.taken..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(rest[..end].to_vec()).unwrap();
                self.taken += end + 1;
                return Some(line);
            }
            self.read.drain(..std::mem::take(&mut self.taken));
            let size = usize::from_str_radix(&self.head_line().await, 16).unwrap_or_default();
            let mut data = vec![0; size + 2];
            let read = timeout(SOON, self.from.read_exact(&mut data)).await.expect("a chunk in time");
            if size == 0 || read.is_err() {
                return None;
            }
            self.read.extend_from_slice(&data[..size]);
        }
    }

    /// All lines that are left.
    async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }
}

async fn send(to: &mut OwnedWriteHalf, text: &str) -> std::io::Result<()> {
    to.write_all(chunk(text).as_bytes()).await
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn lines_of(numbers: impl IntoIterator<Item = u64>) -> String {
    let mut text = String::new();
    for number in numbers {
        let _ = writeln!(text, "{number}");
    }
    text
}

/// Sends a whole text while it reads the answers.
async fn ask_text(address: SocketAddr, text: String) -> Vec<String> {
    let Bulk { status, mut to, mut answers } = Bulk::open(address).await;
    assert_eq!(status, 200);
    let sending = tokio::spawn(async move {
        for piece in text.as_bytes().chunks(100_000) {
            send(&mut to, std::str::from_utf8(piece).unwrap()).await.unwrap();
        }
        to.write_all(b"0\r\n\r\n").await.unwrap();
        // Dropping it would be a half-close.
        to
    });
    let lines = answers.rest().await;
    sending.await.unwrap();
    lines
}

/// Has all answered over HTTP, every answer right and in order; returns by whom.
pub async fn ask_lines(address: SocketAddr, numbers: &[u64]) -> BTreeSet<String> {
    let lines = ask_text(address, lines_of(numbers.iter().copied())).await;
    all_answered(&lines, numbers)
}

fn all_answered(lines: &[String], numbers: &[u64]) -> BTreeSet<String> {
    assert_eq!(lines.len(), numbers.len() + 1, "{:?}", lines.last());
    let by = lines.iter().zip(numbers).map(|(line, number)| answered(line, *number)).collect();
    assert_eq!(lines[numbers.len()], done(numbers.len()));
    by
}

/// It is the answer to the number; returns by whom.
fn answered(line: &str, number: u64) -> String {
    let start = format!("{{\"number\":\"{number}\",\"is_prime\":{},\"processed_by\":\"", is_prime(number));
    let rest = line.strip_prefix(&start).and_then(|rest| rest.strip_suffix("\",\"certainty\":\"proven\"}"));
    rest.unwrap_or_else(|| panic!("this is not the answer to {number}: {line}")).to_owned()
}

fn done(count: usize) -> String {
    format!("{{\"done\":true,\"count\":{count}}}")
}

fn random_numbers(seed: u64, count: usize) -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.next_u64() >> (1 + random.next_u32() % 50)).collect()
}

async fn post(node: &TestNode, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let client = Client::builder().no_proxy().no_gzip().build().unwrap();
    let mut request = client.post(node.url("/primes")).body(body);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    let response = timeout(SOON, request.send()).await.expect("no answer").unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

async fn metric(http: SocketAddr, name: &str) -> u64 {
    let Ok(response) = reqwest::get(format!("http://{http}/metrics")).await else { return 0 };
    let text = response.text().await.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

// ── NDJSON ──────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_has_its_answer_in_order_and_a_bad_one_is_bad_alone() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let blanks = " ".repeat(LINE_BYTES_MAX + 1);
    let text = format!(
        "17\n\"18\"\n\n \t\n19\r\n -5 \nabc\n18446744073709551615\n{MERSENNE_127}\n017\n\"17\n{{\"number\":17}}\n{blanks}\n17 18\nnull\n20"
    );
    let answer = |number: &str, is_prime, certainty| json!({"number": number, "is_prime": is_prime, "processed_by": "worker1", "certainty": certainty});
    let expected = [
        answer("17", true, "proven"),
        answer("18", false, "proven"),
        answer("19", true, "proven"),
        answer("-5", false, "proven"),
        json!(7),
        answer("18446744073709551615", false, "proven"),
        answer(MERSENNE_127, true, "proven"),
        json!(10),
        json!(11),
        json!(12),
        json!(13),
        json!(14),
        json!(15),
        answer("20", false, "proven"),
        json!({"done": true, "count": 14}),
    ];
    for end in ["", "\n", "\r\n", "\n\n"] {
        let lines = ask_text(node.http, format!("{text}{end}")).await;
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, expected) in lines.iter().zip(&expected) {
            let line: Value = serde_json::from_str(line).unwrap();
            match expected.as_u64() {
                None => assert_eq!(&line, expected),
                Some(number) => {
                    assert_eq!(line["line"], number, "{line}");
                    assert_eq!(
                        (&line["error"]["code"], &line["error"]["grpc_code"]),
                        (&json!("invalid_argument"), &json!(3))
                    );
                    assert!((1..400).contains(&line["error"]["detail"].as_str().unwrap().len()), "{line}");
                }
            }
        }
    }
    assert_eq!(ask_text(node.http, String::new()).await, [done(0)]);
    assert_eq!(ask_text(node.http, "\n \n".to_owned()).await, [done(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_numbers_are_answered_as_a_sieve_says_and_by_all_workers() {
    const COUNT: usize = 1_000_000;
    let mut sieve = vec![true; COUNT];
    sieve[..2].fill(false);
    for factor in 2..1000 {
        if sieve[factor] {
            (factor * factor..COUNT).step_by(factor).for_each(|multiple| sieve[multiple] = false);
        }
    }
    let cluster = TestCluster::start(3).await;
    let lines = ask_text(cluster.leader().http, lines_of(0..COUNT as u64)).await;
    let mut by = BTreeSet::new();
    for (number, line) in lines[..COUNT].iter().enumerate() {
        let start = format!("{{\"number\":\"{number}\",\"is_prime\":{},", sieve[number]);
        assert!(line.starts_with(&start), "{line}");
        by.insert(line.split('"').nth(9).unwrap());
    }
    assert_eq!(lines[COUNT..], [done(COUNT)]);
    assert_eq!(by, BTreeSet::from(["worker1", "worker2", "worker3"]));
    assert_eq!(metric(cluster.leader().http, "primacy_batch_numbers_total").await, COUNT as u64);
    let worked = (1..=3).map(|worker| metric(cluster.worker(worker).http, "primacy_checks_completed"));
    assert_eq!(join_all(worked).await.iter().sum::<u64>(), COUNT as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_answered_while_the_request_goes_on() {
    let cluster = TestCluster::start(1).await;
    for node in &cluster.nodes {
        let mut bulk = Bulk::open(node.http).await;
        for number in 17..30 {
            // In two pieces: a line that is not whole is no number yet.
            bulk.send("1").await;
            bulk.send(&format!("{number}\n")).await;
            let line = bulk.answers.line().await.unwrap();
            answered(&line, 100 + number);
        }
        bulk.send("5\n6\n7").await;
        answered(&bulk.answers.line().await.unwrap(), 5);
        answered(&bulk.answers.line().await.unwrap(), 6);
        bulk.end().await;
        answered(&bulk.answers.line().await.unwrap(), 7);
        assert_eq!(bulk.answers.rest().await, [done(16)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_leave_to_send_gets_it() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    let head = "POST /primes HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\ncontent-length: 3\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut leave = [0; 25];
    timeout(SOON, stream.read_exact(&mut leave)).await.expect("leave").unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"17\n").await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(&done(1)), "{answer}");
}

/// Whether or not its client waits for leave to send it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_line_may_come_as_late_as_any_other() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut plain = Bulk::open(node.http).await;
    // Leave comes at once, and the head of the answer without waiting for a line.
    let mut waiting = Bulk::open_with(node.http, "expect: 100-continue\r\n").await;
    assert_eq!(waiting.status, 100);
    assert_eq!(waiting.answers.head_line().await, "HTTP/1.1 200 OK");
    while !waiting.answers.head_line().await.is_empty() {}
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let late = stream::once(async {
        sleep(BODY_TIMEOUT + Duration::from_secs(1)).await;
        seventeen()
    });
    let mut answers = client.check_primes(late).await.unwrap().into_inner();
    assert!(matches!(next(&mut answers).await, Outcome::Answer(answer) if answer.is_prime));
    for bulk in [&mut plain, &mut waiting] {
        bulk.send("17\n").await;
        bulk.end().await;
        all_answered(&bulk.answers.rest().await, &[17]);
    }
}

/// Compression would hold back what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_not_compressed() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut bulk = Bulk::open_with(node.http, "accept-encoding: gzip\r\n").await;
    bulk.send(&lines_of(0..5000)).await;
    bulk.end().await;
    all_answered(&bulk.answers.rest().await, &Vec::from_iter(0..5000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_travel_over_http2_too() {
    let cluster = TestCluster::start(1).await;
    let numbers = random_numbers(11, 100_000);
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let request = client.post(cluster.leader().url("/primes")).header("content-type", "application/x-ndjson");
    let response = request.body(lines_of(numbers.iter().copied())).send().await.unwrap();
    let text = timeout(SOON, response.text()).await.expect("an answer").unwrap();
    all_answered(&text.lines().map(str::to_owned).collect::<Vec<_>>(), &numbers);
}

/// The pools' places are for those who ask for one number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_of_long_numbers_leaves_room_for_others() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut bulks = Vec::new();
    for _ in 0..8 {
        let mut bulk = Bulk::open_with(node.http, "grpc-timeout: 300S\r\n").await;
        bulk.send(&format!("{}\n", longest_number()).repeat(20)).await;
        bulks.push(bulk);
    }
    let threads = std::thread::available_parallelism().unwrap().get();
    let of_bulks = BULK_LONGS_MAX.saturating_sub(threads) as u64;
    let queued = || async { metric(node.http, "primacy_pool_queued").await };
    eventually("the bulks have their places", || async { queued().await >= of_bulks }).await;
    // The threads take theirs in a moment.
    eventually("they have no more", || async { queued().await == of_bulks }).await;
    let one_more = PrimeRequest { number: 0, decimal: longest_number() };
    let mut call = Request::new(one_more);
    call.set_timeout(Duration::from_secs(300));
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let waiting = tokio::spawn(async move { client.check_prime(call).await });
    eventually("one more has one", || async { waiting.is_finished() || queued().await > of_bulks }).await;
    assert!(!waiting.is_finished(), "it is refused: {:?}", waiting.await);
    assert!(queued().await <= of_bulks + 1);
    ask_lines(node.http, &random_numbers(12, 10_000)).await;
    waiting.abort();
}

/// Somebody else's long numbers have all of their places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_are_no_words_and_not_long_wait_for_no_long_ones() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut hog = Bulk::open_with(node.http, "grpc-timeout: 300S\r\n").await;
    hog.send(&format!("{}\n", longest_number()).repeat(BULK_LONGS_MAX + 4)).await;
    let threads = std::thread::available_parallelism().unwrap().get();
    let of_hog = BULK_LONGS_MAX.saturating_sub(threads) as u64;
    eventually("the hog has its places", || async {
        metric(node.http, "primacy_pool_queued").await == of_hog
    })
    .await;
    let lines = ask_text(node.http, format!("{MERSENNE_127}\n-5\n")).await;
    assert!(lines[0].contains("\"is_prime\":true") && lines[1].contains("\"is_prime\":false"), "{lines:?}");
    let answer = post(&node, "", format!("{{\"numbers\":[{MERSENNE_127},-5]}}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // One that is long waits as long as it was asked to, and no longer.
    let mut late = Bulk::open_with(node.http, "grpc-timeout: 300m\r\n").await;
    late.send(&format!("{}\n", longest_number())).await;
    let started = Instant::now();
    assert_eq!(late.json().await["error"]["code"], "deadline_exceeded");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// They would otherwise wait behind the whole windows of all bulks that came before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_that_comes_late_waits_for_its_turn_and_not_for_the_end_of_all_others() {
    const BULKS: usize = 8;
    let node = TestNode::alone(&["--id", "1"]).await;
    let some_milliseconds = format!("{}\n", (num_bigint::BigUint::from(1_u8) << 2203_u32) - 1_u8);
    let started = Instant::now();
    let mut bulks = Vec::new();
    for _ in 0..BULKS {
        let mut bulk = Bulk::open(node.http).await;
        bulk.send(&some_milliseconds.repeat(BULK_WINDOW)).await;
        bulks.push(bulk);
    }
    let queued = || async { metric(node.http, "primacy_pool_queued").await };
    eventually("they take all places", || async { queued().await > 0 }).await;
    let late = Instant::now();
    assert_eq!(ask_text(node.http, some_milliseconds.clone()).await.len(), 2);
    let waited = late.elapsed();
    for bulk in &mut bulks {
        bulk.end().await;
        assert_eq!(bulk.answers.rest().await.len(), BULK_WINDOW + 1);
    }
    let all = started.elapsed();
    assert!(waited < all / 2, "it waited {waited:?} of {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_bulks_of_short_patience_wait_for_each_other_and_do_not_fail() {
    let cluster = Processes::start(3).await;
    for place in [0, 1] {
        let address = cluster.nodes[place].http;
        let bulks = (0..BULKS_MAX as u64).map(|seed| async move {
            let Bulk { mut to, mut answers, .. } = Bulk::open_with(address, "grpc-timeout: 300m\r\n").await;
            let numbers = random_numbers(seed, 80_000);
            let text = lines_of(numbers.iter().copied());
            let sending = tokio::spawn(async move {
                send(&mut to, &text).await.unwrap();
                to.write_all(b"0\r\n\r\n").await.unwrap();
                to
            });
            let lines = answers.rest().await;
            sending.await.unwrap();
            all_answered(&lines, &numbers);
        });
        join_all(bulks.map(tokio::spawn)).await.into_iter().for_each(|bulk| bulk.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_number_holds_up_its_own_line_only_and_fails_alone() {
    let cluster = TestCluster::start(2).await;
    let long = longest_number();
    let leader = cluster.leader();
    let mut bulk = Bulk::open_with(leader.http, "grpc-timeout: 1500m\r\n").await;
    let started = Instant::now();
    bulk.send(&format!("17\n{long}\n{}", lines_of(0..10_000))).await;
    answered(&bulk.answers.line().await.unwrap(), 17);
    // Those behind it are computed meanwhile, and others are served.
    eventually("those behind are computed", || async {
        metric(leader.http, "primacy_batch_numbers_total").await == 10_001
    })
    .await;
    assert!(check(leader.grpc, 19).await.unwrap().is_prime);
    ask_lines(leader.http, &[20, 21, 22]).await;
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    let failed = bulk.json().await;
    assert_eq!(
        (&failed["line"], &failed["error"]["code"]),
        (&json!(2), &json!("deadline_exceeded")),
        "{failed}"
    );
    for number in 0..10_000 {
        answered(&bulk.answers.line().await.unwrap(), number);
    }
    bulk.end().await;
    assert_eq!(bulk.answers.rest().await, [done(10_002)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_cannot_says_so_line_by_line() {
    let node = TestNode::alone(&["--id", "1", "--no-fallback"]).await;
    let lines = ask_text(node.http, "17\n\n18\nabc\n".to_owned()).await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let unavailable = json!({"code": "unavailable", "grpc_code": 14, "detail": "no workers available"});
    assert_eq!(
        lines[..2],
        [json!({"line": 1, "error": unavailable}), json!({"line": 3, "error": unavailable})]
    );
    assert_eq!((&lines[2]["line"], &lines[3]), (&json!(4), &json!({"done": true, "count": 3})));
}

// ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_body_is_answered_as_a_whole() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let body = format!(r#"{{"numbers": [17, "18", -5, {MERSENNE_127}, 0]}}"#);
    for content_type in
        ["", "application/json", "application/x-www-form-urlencoded", "Application/JSON; charset=utf-8"]
    {
        let answer = post(&node, content_type, body.clone()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{answer:?}");
        let of = |number: &str, is_prime, certainty| json!({"number": number, "is_prime": is_prime, "processed_by": "worker1", "certainty": certainty});
        let results = [
            of("17", true, "proven"),
            of("18", false, "proven"),
            of("-5", false, "proven"),
            of(MERSENNE_127, true, "proven"),
            of("0", false, "proven"),
        ];
        assert_eq!(answer.json(), json!({ "results": results }));
    }
    assert_eq!(post(&node, "", r#"{"numbers": []}"#).await.json(), json!({"results": []}));
    for content_type in ["application/ndjson", "application/jsonl", "application/x-ndjson; charset=utf-8"] {
        let answer = post(&node, content_type, "17\n").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
        assert_eq!(answer.header("cache-control"), "no-store, no-transform");
        assert_eq!(answer.header("x-accel-buffering"), "no");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_body_with_a_mistake_is_refused_and_the_mistake_named() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (body, says) in [
        ("", "EOF"),
        ("[17]", "it is an array"),
        ("17", "invalid type"),
        (r#"{"number": 17}"#, "unknown field `number`"),
        (r#"{"numbers": [17], "x": 1}"#, "unknown field `x`"),
        (r#"{"numbers": [17], "numbers": [18]}"#, "duplicate field `numbers`"),
        (r#"{"numbers": 17}"#, "an array of numbers"),
        (r#"{"numbers": [17] } x"#, "trailing characters"),
        (r#"{"numbers": [17, 18,]}"#, "trailing comma"),
        (r#"{"numbers": [17, "x"]}"#, "numbers[1]: \"x\" is not a decimal integer"),
        (r#"{"numbers": [17, 18, 1e3]}"#, "numbers[2]: \"1e3\" is not a decimal integer"),
        (r#"{"numbers": [null]}"#, "numbers[0]: \"null\" is not"),
        (r#"{"numbers": [-0]}"#, "numbers[0]: -0"),
        (r#"{"numbers": [[17]]}"#, "numbers[0]: \"[17]\" is not"),
        (r#"{"numbers": ["\ud800"]}"#, "numbers[0]: the string is not well formed"),
    ] {
        let detail = post(&node, "", body).await.problem(body, 400, "invalid_argument");
        assert!(detail.contains(says), "{body}: {detail}");
    }
    for content_type in ["text/plain", "application/xml", "application/x-ndjsonx"] {
        let detail = post(&node, content_type, "17").await.problem(content_type, 415, "invalid_argument");
        assert!(detail.contains("application/json or application/x-ndjson"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_body_has_its_limits_and_those_are_reached() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let body = |count: usize| format!("{{\"numbers\":[{}]}}", vec!["7"; count].join(","));
    let answer = post(&node, "", body(JSON_BULK_NUMBERS_MAX)).await;
    assert_eq!(answer.json()["results"].as_array().unwrap().len(), JSON_BULK_NUMBERS_MAX);
    let detail =
        post(&node, "", body(JSON_BULK_NUMBERS_MAX + 1)).await.problem("more", 400, "invalid_argument");
    assert!(detail.contains("more than 100000 numbers; send so many as application/x-ndjson"), "{detail}");
    let large = format!("{}{}", body(1), " ".repeat(JSON_BULK_BYTES_MAX));
    let detail = post(&node, "", large[..JSON_BULK_BYTES_MAX].to_owned()).await;
    assert_eq!(detail.status, 200, "blanks do no harm");
    post(&node, "", large).await.problem("larger", 413, "resource_exhausted");
    // An answer holds its share of what the node has until it is read, or its reader goes.
    let whole = body(JSON_BULK_NUMBERS_MAX);
    let mut unread = Vec::new();
    let refused = loop {
        let (status, stream) = post_unread(node.http, &whole).await;
        if status != "200" {
            break status;
        }
        unread.push(stream);
        assert!(unread.len() < 16, "the places have no end");
    };
    assert_eq!((refused.as_str(), unread.len() > 1), ("429", true));
    let mut first = String::new();
    drop(unread.split_off(1));
    timeout(SOON, unread[0].read_to_string(&mut first)).await.expect("the rest").unwrap();
    assert!(first.ends_with("}]}"));
    drop(unread);
    eventually("the places come back", || async {
        post(&node, "", whole.clone()).await.status == 200
            && post(&node, "", whole.clone()).await.status == 200
    })
    .await;
}

/// Returns the status, and the connection with what was not read.
async fn post_unread(address: SocketAddr, body: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST /primes HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
    let mut status = [0; 12];
    timeout(SOON, stream.read_exact(&mut status)).await.expect("a head in time").unwrap();
    (String::from_utf8_lossy(&status[9..]).into_owned(), stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_bodies_that_do_not_come_hold_no_places() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut held = Vec::new();
    for length in ["transfer-encoding: chunked".to_owned(), format!("content-length: {JSON_BULK_BYTES_MAX}")]
    {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(node.http).await.unwrap();
            let head = format!("POST /primes HTTP/1.1\r\nhost: test\r\n{length}\r\n\r\nb\r\n{{\"numbers\":");
            stream.write_all(head.as_bytes()).await.unwrap();
            held.push(stream);
        }
    }
    eventually("all are there", || async { metric(node.http, "primacy_in_flight").await == 20 }).await;
    let whole = format!("{{\"numbers\":[{}]}}", vec!["7"; JSON_BULK_NUMBERS_MAX].join(","));
    assert_eq!(post(&node, "", whole).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_of_a_json_body_without_an_answer_fails_it_by_its_place() {
    let node = TestNode::alone(&["--id", "1", "--no-fallback"]).await;
    let detail = post(&node, "", r#"{"numbers": [17, 18]}"#).await.problem("nobody", 503, "unavailable");
    assert_eq!(detail, "numbers[0]: no workers available");
    let node = TestNode::alone(&["--id", "1"]).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let body = format!("{{\"numbers\": [17, {}]}}", longest_number());
    let asked = client.post(node.url("/primes")).header("grpc-timeout", "200m").body(body);
    assert_eq!(asked.send().await.unwrap().status().as_u16(), 504);
    eventually("nothing is computed any more", || async {
        metric(node.http, "primacy_in_flight").await == 0
    })
    .await;
}

// ── deaths ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// Streams half a million numbers through a node and kills another in the middle: nothing is lost, repeated or wrong.
async fn survives(cluster: &mut Processes, through: usize, killed: usize) -> BTreeSet<String> {
    const COUNT: usize = 500_000;
    let numbers = random_numbers(killed as u64, COUNT);
    let text = lines_of(numbers.iter().copied());
    let Bulk { mut to, mut answers, .. } = Bulk::open(cluster.nodes[through].http).await;
    let sending = tokio::spawn(async move {
        for piece in text.as_bytes().chunks(50_000) {
            send(&mut to, std::str::from_utf8(piece).unwrap()).await.unwrap();
        }
        to.write_all(b"0\r\n\r\n").await.unwrap();
        to
    });
    let mut lines = Vec::new();
    while lines.len() < COUNT / 5 {
        lines.push(answers.line().await.unwrap());
    }
    cluster.nodes[killed].kill();
    lines.extend(answers.rest().await);
    sending.await.unwrap();
    all_answered(&lines, &numbers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_killed_in_the_middle_of_a_bulk() {
    let mut cluster = Processes::start(3).await;
    let by = survives(&mut cluster, 0, 2).await;
    assert_eq!(by, BTreeSet::from(["worker1", "worker2", "worker3"].map(str::to_owned)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_in_the_middle_of_a_bulk_through_a_worker() {
    let mut cluster = Processes::start(3).await;
    let by = survives(&mut cluster, 1, 0).await;
    assert!(by.is_superset(&BTreeSet::from(["worker2", "worker3"].map(str::to_owned))), "{by:?}");
    assert!(metric(cluster.nodes[1].http, "primacy_batch_numbers_total").await >= 500_000);
}

/// `primacy check -` over the nodes in this order, with a file of these numbers for standard input.
fn check_file(cluster: &Processes, order: [usize; 4], file: fs::File) -> Running {
    let endpoints = order.map(|node| cluster.nodes[node].grpc.to_string()).join(",");
    Running::start(command(&["check", "-", "-o", "json", "--endpoints", &endpoints]).stdin(file))
}

fn file_of(name: &str, text: &str) -> fs::File {
    let path = std::env::temp_dir().join(format!("primacy-{}-{name}", std::process::id()));
    fs::write(&path, text).unwrap();
    let file = fs::File::open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_goes_on_at_the_next_endpoint_when_its_own_is_killed_or_stops() {
    const COUNT: usize = 150_000;
    for signal in [Signal::KILL, Signal::TERM] {
        let cluster = Processes::start(3).await;
        let numbers = random_numbers(7, COUNT);
        let file = file_of(&format!("{signal:?}"), &lines_of(numbers.iter().copied()));
        let mut running = check_file(&cluster, [1, 0, 2, 3], file);
        for (killed, answered) in [(1, COUNT / 10), (0, COUNT / 2)] {
            let enough = || async { running.out.text().lines().count() > answered };
            eventually("some are answered", enough).await;
            cluster.nodes[killed].signal(signal);
        }
        assert_eq!((running.ends_within(SOON * 3).await, running.err.text()), (Some(0), String::new()));
        let out = running.out.text();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), COUNT, "{signal:?}");
        lines.iter().zip(numbers).for_each(|(line, number)| drop(answered(line, number)));
    }
}

// ── back-pressure ───────────────────────────────────────────────────────────────────────────────────────────────

/// Buffers of the sockets on both ways, and what a bulk may hold.
const ACCEPTED_BYTES_MAX: usize = 40 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_not_read_from_and_holds_up_nobody() {
    let cluster = Processes::start(2).await;
    let leader = &cluster.nodes[0];
    let before = resident_kib(leader.pid());
    let text = chunk(&lines_of(1_000_000..1_010_000));
    let mut stalled = Bulk::open(leader.http).await;
    let (chunks, rest) = stalled.send_until_blocked(text.as_bytes()).await;
    assert!(chunks * text.len() < ACCEPTED_BYTES_MAX, "{chunks} chunks were taken");

    // Half of the places are held by others like it.
    let mut others: Vec<Bulk> = Vec::new();
    for _ in 0..BULKS_MAX / 2 {
        others.push(Bulk::open(leader.http).await);
    }
    join_all(others.iter_mut().map(|other| other.send_until_blocked(text.as_bytes()))).await;
    assert!(check(leader.grpc, 17).await.unwrap().is_prime);
    let started = Instant::now();
    ask_lines(leader.http, &random_numbers(3, 200_000)).await;
    assert!(started.elapsed() < SOON);
    let grown = resident_kib(leader.pid()).saturating_sub(before);
    assert!(grown < 80 * 1024, "the node has grown by {grown} KiB");

    // Whoever begins to read gets all, in order.
    let Bulk { mut to, mut answers, .. } = stalled;
    let sending = tokio::spawn(async move {
        to.write_all(&[&rest[..], b"0\r\n\r\n"].concat()).await.unwrap();
        to
    });
    let numbers: Vec<u64> = (0..chunks).flat_map(|_| 1_000_000..1_010_000).collect();
    all_answered(&answers.rest().await, &numbers);
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulks_beyond_the_places_are_refused_at_once_and_places_come_back() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut bulks = Vec::new();
    for _ in 0..BULKS_MAX {
        let bulk = Bulk::open(node.http).await;
        assert_eq!(bulk.status, 200);
        bulks.push(bulk);
    }
    let refused = post(&node, "application/x-ndjson", "17\n").await;
    let detail = refused.problem("one more", 429, "resource_exhausted");
    assert!(detail.contains("64 bulk streams"), "{detail}");
    assert_eq!(refused.header("retry-after"), "1");
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let status = client.check_primes(stream::iter([seventeen()])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(post(&node, "", r#"{"numbers": [17]}"#).await.status, 200, "a JSON body is no stream");
    assert!(check(node.grpc, 17).await.unwrap().is_prime);
    // One ends well, one is broken off.
    bulks[0].end().await;
    assert_eq!(bulks[0].answers.rest().await, [done(0)]);
    bulks.truncate(BULKS_MAX - 1);
    for _ in 0..2 {
        eventually("a place is free again", || async {
            post(&node, "application/x-ndjson", "17\n").await.status == 200
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_leaves_no_work_behind() {
    let cluster = TestCluster::start(1).await;
    for node in &cluster.nodes {
        let mut bulk = Bulk::open_with(node.http, "grpc-timeout: 300S\r\n").await;
        bulk.send(&format!("{}\n", longest_number()).repeat(BULK_WINDOW / 2)).await;
        let computes = || async {
            let view = cluster.leader().view().await;
            view.members.iter().any(|member| member.name == "worker1" && member.in_flight > 0)
        };
        eventually("the worker computes", computes).await;
        drop(bulk);
        eventually("it stops", || async { !computes().await }).await;
        eventually("the place is free", || async { metric(node.http, "primacy_in_flight").await == 0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: scripts/test.sh runs it"]
async fn a_bulk_that_stays_idle_or_unread_gives_its_place_back() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let text = chunk(&lines_of(0..10_000));
    let mut idle = Bulk::open(node.http).await;
    idle.send("17\n").await;
    answered(&idle.answers.line().await.unwrap(), 17);
    let started = Instant::now();
    let mut unread = Vec::new();
    for _ in 1..BULKS_MAX {
        unread.push(Bulk::open(node.http).await);
    }
    join_all(unread.iter_mut().map(|bulk| bulk.send_until_blocked(text.as_bytes()))).await;
    let refused = post(&node, "application/x-ndjson", "17\n").await;
    refused.problem("one more", 429, "resource_exhausted");
    // Of another node, because the bulks of one address leave no room here for what is as large. Over HTTP/2 a
    // connection is alive whose streams are not read.
    let other = TestNode::alone(&["--id", "1"]).await;
    let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let whole = format!("{{\"numbers\":[{}]}}", vec!["7"; JSON_BULK_NUMBERS_MAX].join(","));
    let mut unread_whole = Vec::new();
    while let answer = http2.post(other.url("/primes")).body(whole.clone()).send().await.unwrap()
        && answer.status() == 200
    {
        unread_whole.push(answer);
        assert!(unread_whole.len() < 16, "the places have no end");
    }

    let ended = timeout(BULK_IDLE_TIMEOUT + SOON, idle.answers.from.fill_buf()).await;
    assert!(!ended.expect("it ends").unwrap().is_empty());
    assert!(started.elapsed() >= BULK_IDLE_TIMEOUT, "{:?}", started.elapsed());
    let last = idle.json().await;
    assert_eq!((&last["done"], &last["count"]), (&json!(false), &json!(1)), "{last}");
    assert_eq!(last["error"]["code"], "deadline_exceeded", "{last}");
    assert_eq!(idle.answers.line().await, None);
    eventually("the other places are free too", || async {
        metric(node.http, "primacy_in_flight").await == 0
    })
    .await;
    ask_lines(node.http, &[17, 18]).await;
    eventually("so are those of JSON", || async { post(&other, "", whole.clone()).await.status == 200 })
        .await;
    unread_whole.truncate(1);
    let rest = timeout(SOON, unread_whole.remove(0).bytes()).await.expect("an end");
    rest.expect_err("what was not read is cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_ends_its_bulks_in_time_and_says_how_much_it_answered() {
    let cluster = TestCluster::start(1).await;
    for place in [1, 0] {
        let node = &cluster.nodes[place];
        let mut quiet = Bulk::open(node.http).await;
        quiet.send("17\n").await;
        answered(&quiet.answers.line().await.unwrap(), 17);
        // It would go on for ever.
        let Bulk { mut to, mut answers, .. } = Bulk::open(node.http).await;
        let endless = tokio::spawn(async move { while send(&mut to, &lines_of(0..10_000)).await.is_ok() {} });
        // Nobody can wait for it.
        let mut long = Bulk::open_with(node.http, "grpc-timeout: 300S\r\n").await;
        long.send(&format!("19\n{}\n", format!("{}1\n", "9".repeat(9_990)).repeat(4))).await;
        answered(&long.answers.line().await.unwrap(), 19);

        answers.line().await.unwrap();
        node.stop.cancel();
        let started = Instant::now();
        let told = |lines: Vec<String>, before: usize| {
            let last: Value = serde_json::from_str(lines.last().expect("a last line")).unwrap();
            let count = before + lines.len() - 1;
            assert_eq!((&last["done"], &last["count"]), (&json!(false), &json!(count)), "{last}");
            assert_eq!(last["error"]["code"], "unavailable", "{last}");
        };
        // A connection that ends with much unread takes the last lines with it.
        let (quiet, lines, long) = tokio::join!(quiet.answers.rest(), answers.rest(), long.answers.rest());
        told(quiet, 1);
        for (place, line) in lines[..lines.len() - 1].iter().enumerate() {
            answered(line, (place as u64 + 1) % 10_000);
        }
        told(lines, 1);
        told(long, 1);
        endless.await.unwrap();
        eventually("the node has ended", || async { node.task.is_finished() }).await;
        assert!(started.elapsed() < LAME_DUCK + DRAIN + Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

/// It goes on reading when the bulk's own time is over, and what it read until then comes in a chunk at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_a_node_that_stops_misses_no_line_in_between() {
    let one = |read_before: usize| async move {
        let node = TestNode::alone(&["--id", "1"]).await;
        let mut slow = Bulk::open(node.http).await;
        slow.send_until_blocked(chunk(&lines_of(1_000_000..1_010_000)).as_bytes()).await;
        node.stop.cancel();
        let Bulk { to, mut answers, .. } = slow;
        sleep(Duration::from_millis(500)).await;
        let mut lines = Vec::new();
        while lines.len() < read_before {
            lines.push(answers.line().await.unwrap());
        }
        sleep(BULK_STOP_TIMEOUT + Duration::from_millis(500)).await;
        lines.extend(answers.rest().await);
        let last: Value = serde_json::from_str(&lines.pop().unwrap()).unwrap();
        for (place, line) in lines.iter().enumerate() {
            answered(line, 1_000_000 + (place as u64) % 10_000);
        }
        assert_eq!((&last["done"], &last["count"]), (&json!(false), &json!(lines.len())), "{last}");
        drop(to);
    };
    join_all((1..6).map(|part| one(part * 5000))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_ends_whole_bulks_well_and_refuses_new_ones() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut whole = Bulk::open(node.http).await;
    // It takes about a second.
    whole.send(&format!("17\n{}\n19\n", crate::harness::long_number(3000))).await;
    whole.end().await;
    answered(&whole.answers.line().await.unwrap(), 17);
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    // Meanwhile the end of the other is read, on whichever thread that is.
    let ended = Instant::now();
    while ended.elapsed() < Duration::from_millis(200) {
        assert_eq!(post(&node, "application/x-ndjson", "17\n").await.status, 200);
    }
    node.stop.cancel();
    eventually("new ones are refused", || async {
        post(&node, "application/x-ndjson", "17\n").await.status == 503
    })
    .await;
    let status = client.check_primes(stream::iter([seventeen()])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let lines = whole.answers.rest().await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    answered(&lines[1], 19);
    assert_eq!(lines[2], done(3));
}

// ── gRPC ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn seventeen() -> PrimeRequest {
    PrimeRequest { number: 17, decimal: String::new() }
}

async fn next(answers: &mut Streaming<CheckedPrime>) -> Outcome {
    let checked = timeout(SOON, answers.message()).await.expect("an answer in time").unwrap();
    checked.expect("an answer").outcome.expect("an outcome")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_primes_answers_in_order_while_the_call_goes_on() {
    let cluster = TestCluster::start(2).await;
    for node in &cluster.nodes {
        let (requests, sent) = mpsc::channel(100);
        let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
        let mut call = Request::new(ReceiverStream::new(sent));
        call.set_timeout(Duration::from_millis(700));
        let mut answers = client.check_primes(call).await.unwrap().into_inner();
        let decimal = |decimal: &str| PrimeRequest { number: 0, decimal: decimal.to_owned() };
        for (request, is_prime) in [
            (seventeen(), true),
            (decimal("18"), false),
            (decimal("-7"), false),
            (decimal(MERSENNE_127), true),
        ] {
            requests.send(request.clone()).await.unwrap();
            let Outcome::Answer(answer) = next(&mut answers).await else { panic!("{request:?} failed") };
            assert_eq!(answer.is_prime, is_prime, "{request:?}");
            assert!(answer.processed_by.starts_with("worker"), "{answer:?}");
        }
        // Failures are of one number each. The time that was asked for is that of each number.
        sleep(Duration::from_millis(800)).await;
        let both = PrimeRequest { number: 1, decimal: "1".to_owned() };
        for request in [both, decimal("x"), decimal(&longest_number()), seventeen()] {
            requests.send(request).await.unwrap();
        }
        for code in [Code::InvalidArgument, Code::InvalidArgument, Code::DeadlineExceeded] {
            let Outcome::Failure(failure) = next(&mut answers).await else { panic!("no failure") };
            assert_eq!(Code::from(failure.code), code, "{failure:?}");
            assert!(!failure.message.is_empty());
        }
        assert!(matches!(next(&mut answers).await, Outcome::Answer(_)));
        drop(requests);
        assert_eq!(answers.message().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_primes_takes_more_than_fits_and_waits_for_its_reader() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let numbers = random_numbers(9, 200_000);
    let requests = numbers
        .clone()
        .into_iter()
        .map(|number| PrimeRequest { number: number.cast_signed(), decimal: String::new() });
    let answers = client.check_primes(stream::iter(requests)).await.unwrap().into_inner();
    // Its time for a single number passes, and nobody reads.
    sleep(Duration::from_secs(1)).await;
    assert!(check(node.grpc, 17).await.unwrap().is_prime);
    let answers: Vec<_> = answers.collect().await;
    assert_eq!(answers.len(), numbers.len());
    for (answer, number) in answers.into_iter().zip(numbers) {
        let Some(Outcome::Answer(answer)) = answer.unwrap().outcome else { panic!("{number} failed") };
        assert_eq!(answer.is_prime, is_prime(number), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_primes_answers_what_came_before_a_message_that_breaks_the_call() {
    const GOOD: usize = 1000;
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let oversize = PrimeRequest { number: 0, decimal: "1".repeat(MESSAGE_BYTES_MAX) };
    let requests = stream::iter(std::iter::repeat_n(seventeen(), GOOD).chain([oversize]));
    let answers = client.check_primes(requests).await.unwrap().into_inner();
    let mut answers: Vec<_> = timeout(SOON, answers.collect()).await.expect("an end");
    let status = answers.pop().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(answers.len(), GOOD);
    assert!(answers.iter().all(Result::is_ok));
    eventually("it is counted", || async { metric(node.http, "primacy_bulks_broken_total").await == 1 })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_primes_is_refused_by_a_node_that_is_full() {
    let node = TestNode::alone(&["--id", "1", "--in-flight-max", "1"]).await;
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let mut call = Request::new(PrimeRequest { number: 0, decimal: longest_number() });
    call.set_timeout(Duration::from_secs(300));
    let mut other = client.clone();
    let long = tokio::spawn(async move { other.check_prime(call).await });
    eventually("it is full", || async { metric(node.http, "primacy_in_flight").await == 1 }).await;
    let status = client.check_primes(stream::iter([seventeen()])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    long.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: scripts/test.sh runs it"]
async fn check_primes_that_was_not_read_does_not_end_well() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let requests = stream::repeat_with(seventeen).take(3_000_000);
    let answers = client.check_primes(requests).await.unwrap().into_inner();
    let broken = || async { metric(node.http, "primacy_bulks_broken_total").await == 1 };
    within(BULK_IDLE_TIMEOUT + SOON, "it is broken off", broken).await;
    let answers: Vec<_> = answers.collect().await;
    assert!(answers.len() < 3_000_000);
    let status = answers.into_iter().next_back().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}
