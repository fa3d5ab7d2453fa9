//! Long checks: off the runtime's threads, stopped when nobody waits, shed when too many wait.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use primacy::{
    is_prime,
    limits::{POOL_QUEUE_MAX, QUICK_COST_MAX_US},
    prime::Number,
    proto::{HeartbeatRequest, MemberStatus, PrimeRequest, PrimeResponse, worker_client::WorkerClient},
};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    harness::{
        Processes, TestCluster, TestNode, channel, check, eventually, long_number, longest_number, metric,
        status_of, view,
    },
    http::Raw,
};

/// A Mersenne prime: a long check of some microseconds.
const QUICK: &str = "170141183460469231731687303715884105727";

/// A long check of few milliseconds, for which no thread is kept free.
fn slow() -> String {
    let number = long_number(400);
    assert!(number.parse::<Number>().unwrap().estimated_cost_us() > QUICK_COST_MAX_US);
    number
}

async fn process(channel: Channel, decimal: String) -> Result<PrimeResponse, Status> {
    let mut request = Request::new(PrimeRequest { number: 0, decimal });
    request.set_timeout(Duration::from_secs(120));
    WorkerClient::new(channel).process_prime(request).await.map(tonic::Response::into_inner)
}

/// Long checks that the node holds, as a plain heartbeat says.
async fn in_flight(node: &TestNode) -> u64 {
    let mut client = WorkerClient::new(channel(node.grpc).await.unwrap());
    client.heartbeat(HeartbeatRequest::default()).await.unwrap().into_inner().in_flight
}

fn threads() -> usize {
    available_parallelism().unwrap().get()
}

/// Keeps every thread of the node's pool busy, and `more` checks waiting.
async fn occupy(node: &TestNode, more: usize) -> JoinSet<Result<PrimeResponse, Status>> {
    let road = channel(node.grpc).await.unwrap();
    let mut checks = JoinSet::new();
    let number = longest_number();
    // The threads take theirs first: what is asked at once with it would wait, and may find the queue full.
    for (count, waiting) in [(threads(), 0), (more, more as u64)] {
        for _ in 0..count {
            checks.spawn(process(road.clone(), number.clone()));
        }
        let held = checks.len() as u64;
        eventually("the pool is busy", || async {
            in_flight(node).await == held && metric(node, "primacy_pool_queued").await == waiting
        })
        .await;
    }
    checks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_whose_client_has_gone_stops_within_100_ms() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let (road, number) = (channel(node.grpc).await.unwrap(), slow());
    process(road.clone(), number.clone()).await.unwrap();
    let mut best = Duration::MAX;
    // The pool's threads run where nothing else wants to: beside other tests one try may be late, not every one.
    for _ in 0..5 {
        let mut held = occupy(&node, 0).await;
        let waiting = timeout(Duration::from_millis(300), process(road.clone(), number.clone())).await;
        assert!(waiting.is_err(), "every thread is busy, and another did not wait: {waiting:?}");
        held.shutdown().await;
        let left = Instant::now();
        process(road.clone(), number.clone()).await.unwrap();
        best = best.min(left.elapsed());
    }
    assert!(best < Duration::from_millis(100), "a thread was free only after {best:?}");
    eventually("nothing is left", || async { in_flight(&node).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_resets_its_connection_stops_the_work_three_hops_away() {
    let cluster = TestCluster::start(1).await;
    let mut clients = Vec::new();
    for _ in 0..threads() {
        let number = longest_number();
        let mut client = Raw::connect(cluster.worker(1).http).await;
        client
            .send(format!("GET /prime/{number} HTTP/1.1\r\nHost: test\r\nGrpc-Timeout: 100S\r\n\r\n"))
            .await;
        client.stream.set_zero_linger().unwrap();
        clients.push(client);
    }
    let (worker, leader) = (cluster.worker(1), cluster.leader());
    eventually("the worker is at work", || async { in_flight(worker).await == threads() as u64 }).await;
    assert_eq!(in_flight(leader).await, 0, "the leader only schedules");
    drop(clients);
    let number = slow();
    let left = Instant::now();
    let road = channel(worker.grpc).await.unwrap();
    process(road, number).await.unwrap();
    // The design's 100 ms, and what a busy machine adds; the check itself would take many seconds.
    assert!(left.elapsed() < Duration::from_secs(2), "a thread was free only after {:?}", left.elapsed());
    eventually("nothing is left", || async { in_flight(worker).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_that_find_the_queue_full_are_shed_at_once() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let mut held = occupy(&node, POOL_QUEUE_MAX).await;
    let (road, number) = (channel(node.grpc).await.unwrap(), slow());
    let shed = process(road.clone(), number.clone()).await.unwrap_err();
    assert_eq!(shed.code(), Code::ResourceExhausted, "{shed}");
    assert!(shed.message().contains("try again"), "{shed}");
    let body = format!("{{\"number\": \"{number}\"}}");
    let response = reqwest::Client::new().post(node.url("/prime")).body(body).send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    // A short one needs no place in the queue, and a quick one has another.
    assert!(node.check(17).await.is_prime);
    assert!(process(road.clone(), QUICK.into()).await.unwrap().is_prime);
    // Those whose clients have gone make room, each as soon as the node hears of it.
    held.shutdown().await;
    eventually("there is room", || async { process(road.clone(), number.clone()).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_checks_are_spread_by_their_cost() {
    let cluster = TestCluster::start(3).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut clients = JoinSet::new();
    let number = longest_number();
    // All at once: two that saw the same loads would meet at one worker.
    for _ in 0..30 {
        let body = format!("{{\"number\": \"{number}\"}}");
        let request = client.post(cluster.leader().url("/prime")).header("grpc-timeout", "100S").body(body);
        clients.spawn(request.send());
    }
    eventually("each worker has ten", || async {
        let mut held = Vec::new();
        for worker in 1..=3 {
            held.push(in_flight(cluster.worker(worker)).await);
        }
        held == [10, 10, 10]
    })
    .await;
    clients.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_long_checks_of_different_cost_end_together() {
    let cluster = Processes::start(3).await;
    all_work(&cluster).await;
    let sizes = [2000, 3400, 2200, 3200, 2400, 3000, 2600, 2800];
    let numbers = sizes.map(|digits| long_number(digits).parse::<Number>().unwrap());
    let costs = numbers.each_ref().map(Number::estimated_cost_us);
    let mut checks = JoinSet::new();
    let started = Instant::now();
    for (number, cost_us) in numbers.into_iter().zip(costs) {
        let answer = by_whom(&cluster.nodes[0].url("/prime"), number.to_string());
        checks.spawn(async move { (answer.await, cost_us, started.elapsed()) });
    }
    let mut workers = BTreeMap::<String, (u64, Duration)>::new();
    for (worker, cost_us, ended) in checks.join_all().await {
        let (sum_us, last) = workers.entry(worker).or_default();
        (*sum_us, *last) = (*sum_us + cost_us, ended.max(*last));
    }
    assert_eq!(workers.len(), 3, "{workers:?}");
    // Whoever got one had the least load by then: without it, it has no more than any other.
    let sums = || workers.values().map(|(sum_us, _)| *sum_us);
    let apart_us = sums().max().unwrap() - sums().min().unwrap();
    assert!(apart_us <= *costs.iter().max().unwrap(), "{workers:?}");
    let ends = || workers.values().map(|(_, last)| *last);
    assert!(ends().min().unwrap() > ends().max().unwrap() / 4, "{workers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_long_checks_go_past_the_worker_that_has_a_longer_one() {
    let cluster = TestCluster::start(3).await;
    let url = cluster.leader().url("/prime");
    let mut longest = JoinSet::new();
    longest.spawn(by_whom(&url, longest_number()));
    let addresses = [1, 2, 3].map(|worker| cluster.worker(worker).grpc);
    eventually("one of the workers has it", || async { busy_one(addresses).await.is_some() }).await;
    let busy = cluster.worker(1 + busy_one(addresses).await.expect("it takes many seconds")).name.clone();
    let number = long_number(600);
    let several = || async {
        let mut checks = JoinSet::new();
        for _ in 0..12 {
            checks.spawn(by_whom(&url, number.clone()));
        }
        checks.join_all().await
    };
    let workers = several().await;
    assert!(workers.iter().all(|worker| *worker != busy), "{busy} has a longer one: {workers:?}");
    longest.shutdown().await;
    // What nobody waits for any more is no load.
    eventually("it works again", || async { several().await.contains(&busy) }).await;
}

/// Waits until the leader has a lane to every worker.
async fn all_work(cluster: &Processes) {
    let leader = cluster.nodes[0].grpc;
    let answered = || async { check(leader, 17).await.unwrap().processed_by };
    for worker in &cluster.nodes[1..] {
        eventually(&format!("{} works", worker.name), || async { answered().await == worker.name }).await;
    }
}

/// Asks over HTTP, and says who has answered that the number is composite.
fn by_whom(url: &str, number: String) -> impl Future<Output = String> + use<> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = format!("{{\"number\": \"{number}\"}}");
    let request = client.post(url).header("grpc-timeout", "100S").body(body);
    async move {
        let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["is_prime"], false, "{answer}");
        answer["processed_by"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quick_check_does_not_wait_for_slow_ones() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut held = occupy(&node, 8).await;
    let road = channel(node.grpc).await.unwrap();
    for _ in 0..3 {
        assert!(process(road.clone(), QUICK.into()).await.unwrap().is_prime);
    }
    // The slow ones take minutes; none of them has made room.
    assert_eq!(in_flight(&node).await, threads() as u64 + 8);
    held.shutdown().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_pools_threads_leave_the_cores_to_all_others() {
    const SCHED_IDLE: &str = "5";
    let _node = TestNode::alone(&["--id", "1"]).await;
    // The scheduling policy is the 41st field, which is the 39th after the name.
    let policies = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
        stats
            .filter(|stat| stat.contains("(long-"))
            .map(|stat| stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().to_owned())
            .collect::<Vec<String>>()
    };
    eventually("all are idle threads", || async {
        policies().len() >= threads() && policies().iter().all(|policy| policy == SCHED_IDLE)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_checks_pass_by_while_the_pool_is_busy() {
    let cluster = TestCluster::start(1).await;
    let mut held = occupy(cluster.worker(1), 0).await;
    let mut times = Vec::new();
    for number in (0..500).map(|step| 9_223_372_036_854_775_783 - 2 * step) {
        let started = Instant::now();
        let answer = cluster.leader().check(number).await;
        times.push(started.elapsed());
        assert_eq!(answer.is_prime, is_prime(number.unsigned_abs()), "{number}");
        assert_eq!(answer.processed_by, "worker1");
    }
    times.sort_unstable();
    // The design says 5 ms; each check here opens a connection of its own, in a debug build, beside other tests.
    assert!(
        times[times.len() * 9 / 10] < Duration::from_millis(100),
        "p90 {:?}",
        times[times.len() * 9 / 10]
    );
    held.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_check_given_back_by_a_dying_worker_is_answered_elsewhere() {
    let mut cluster = Processes::start(2).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    // A composite of 3,000 digits without small factors: some tenths of a second.
    let body = format!("{{\"number\": \"{}\"}}", long_number(3_000));
    let request = client.post(cluster.nodes[0].url("/prime")).header("grpc-timeout", "100S").body(body);
    let answer = tokio::spawn(request.send());
    let addresses = [cluster.nodes[1].grpc, cluster.nodes[2].grpc];
    eventually("one of the workers has it", || async { busy_one(addresses).await.is_some() }).await;
    let busy = 1 + busy_one(addresses).await.expect("it takes some tenths of a second");
    cluster.nodes[busy].kill();
    let response = answer.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["is_prime"], false);
    assert_ne!(body["processed_by"], cluster.nodes[busy].name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_check_that_reaches_its_deadline_is_not_sent_again() {
    let cluster = TestCluster::start(2).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for node in [cluster.leader(), cluster.worker(1)] {
        for _ in 0..5 {
            let body = format!("{{\"number\": \"{}\"}}", longest_number());
            let request = client.post(node.url("/prime")).header("grpc-timeout", "200m").body(body);
            assert_eq!(request.send().await.unwrap().status(), 504);
        }
    }
    for node in &cluster.nodes {
        for counter in ["primacy_given_back_total", "primacy_fallbacks_total", "primacy_retries_total"] {
            assert_eq!(metric(node, counter).await, 0, "{counter} of {}", node.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_check_of_a_worker_that_freezes_while_it_stops_is_answered_elsewhere() {
    let cluster = Processes::start(2).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = format!("{{\"number\": \"{}\"}}", long_number(6_000));
    let request = client.post(cluster.nodes[0].url("/prime")).header("grpc-timeout", "300S").body(body);
    let answer = tokio::spawn(request.send());
    let addresses = [cluster.nodes[1].grpc, cluster.nodes[2].grpc];
    eventually("one of the workers has it", || async { busy_one(addresses).await.is_some() }).await;
    let busy = &cluster.nodes[1 + busy_one(addresses).await.expect("it takes seconds")];
    busy.signal(rustix::process::Signal::TERM);
    eventually("the leader knows that it stops", || async {
        status_of(&view(cluster.nodes[0].grpc).await.unwrap(), &busy.name) == MemberStatus::Stopped
    })
    .await;
    busy.signal(rustix::process::Signal::STOP);
    let response = timeout(Duration::from_secs(60), answer).await.expect("no answer").unwrap().unwrap();
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["is_prime"], false);
    assert_ne!(body["processed_by"], busy.name);
}

/// Which of the workers holds a long check.
async fn busy_one<const WORKERS: usize>(addresses: [SocketAddr; WORKERS]) -> Option<usize> {
    for (place, address) in addresses.into_iter().enumerate() {
        let mut client = WorkerClient::new(channel(address).await.unwrap());
        let answer = client.heartbeat(HeartbeatRequest::default()).await.unwrap();
        if answer.into_inner().in_flight > 0 {
            return Some(place);
        }
    }
    None
}
