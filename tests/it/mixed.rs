//! Short checks beside long ones that fill every pool: what they wait.
//!
//! The gate has a bound ten times the design's. For figures:
//! `PRIMACY_MIXED_SECONDS=2 cargo test --release --test it short_checks_beside -- --ignored --nocapture`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use primacy::proto::{PrimeRequest, scheduler_client::SchedulerClient};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tonic::transport::Channel;

use crate::harness::{Process, Processes, channel, eventually, long_number};

/// In flight at once: more than the threads of all pools.
const LONG_IN_FLIGHT: usize = 24;
const LONG_DIGITS: u32 = 2000;
/// The largest prime below 2⁶³.
const SHORT: &str = "9223372036854775783";
/// 2¹²⁷ − 1: microseconds of work, on the pool.
const QUICK: &str = "170141183460469231731687303715884105727";

/// Long checks in flight at the leader without a pause; they end with it.
struct LongLoad {
    running: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl LongLoad {
    async fn start(leader: &Process) -> Self {
        let (running, answered) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicU64>::default());
        let mut clients = JoinSet::new();
        let number = long_number(LONG_DIGITS);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for _ in 0..LONG_IN_FLIGHT {
            let (running, answered) = (Arc::clone(&running), Arc::clone(&answered));
            let (client, url, number) = (client.clone(), leader.url("/prime"), number.clone());
            clients.spawn(async move {
                while running.load(Relaxed) {
                    assert!(!ask_over_http(&client, &url, &number).await);
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        let load = Self { running, answered, clients };
        eventually("long checks are answered", || async { load.answered.load(Relaxed) > 6 }).await;
        load
    }

    async fn stop(self) -> u64 {
        self.running.store(false, Relaxed);
        self.clients.join_all().await;
        self.answered.load(Relaxed)
    }
}

async fn ask_over_http(client: &reqwest::Client, url: &str, number: &str) -> bool {
    let body = format!("{{\"number\": \"{number}\"}}");
    let response = client.post(url).header("grpc-timeout", "100S").body(body).send().await.unwrap();
    let answer: serde_json::Value = response.json().await.unwrap();
    answer["is_prime"].as_bool().unwrap_or_else(|| panic!("{answer}"))
}

/// One connection to a node.
#[derive(Clone)]
enum Client {
    Http(reqwest::Client, String),
    Grpc(SchedulerClient<Channel>),
}

impl Client {
    fn http(node: &Process) -> Self {
        Self::Http(reqwest::Client::builder().no_proxy().build().unwrap(), node.url("/prime"))
    }

    async fn grpc(node: &Process) -> Self {
        Self::Grpc(SchedulerClient::new(channel(node.grpc).await.unwrap()))
    }

    /// Has a prime checked.
    async fn ask(&self, prime: &str) {
        let is_prime = match self {
            Self::Http(client, url) => ask_over_http(client, url, prime).await,
            Self::Grpc(client) => {
                let request = PrimeRequest { number: 0, decimal: prime.to_owned() };
                client.clone().check_prime(request).await.unwrap().into_inner().is_prime
            }
        };
        assert!(is_prime, "{prime}");
    }
}

/// How checks are asked for.
#[derive(Clone, Copy)]
enum Pace {
    /// The next when the last is answered.
    OneByOne,
    /// So many a second, whether the ones before are answered or not.
    PerSecond(u32),
}

/// How long each check took, for about so much time, at least 100 of them.
async fn times(client: &Client, prime: &'static str, pace: Pace, time: Duration) -> Vec<Duration> {
    match pace {
        Pace::OneByOne => times_one_by_one(client, prime, time).await,
        Pace::PerSecond(rate) => times_at_rate(client, prime, rate, time).await,
    }
}

async fn times_one_by_one(client: &Client, prime: &str, time: Duration) -> Vec<Duration> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < time || times.len() < 100 {
        let started = Instant::now();
        client.ask(prime).await;
        times.push(started.elapsed());
    }
    times
}

async fn times_at_rate(client: &Client, prime: &'static str, rate: u32, time: Duration) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut checks = JoinSet::new();
    let count = (time.as_secs_f64() * f64::from(rate)) as usize;
    for _ in 0..count.max(100) {
        ticks.tick().await;
        let client = client.clone();
        let started = Instant::now();
        checks.spawn(async move {
            client.ask(prime).await;
            started.elapsed()
        });
    }
    checks.join_all().await
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

async fn roads(cluster: &Processes) -> Vec<(String, Client)> {
    let mut roads = Vec::new();
    for node in &cluster.nodes[..2] {
        roads.push((format!("HTTP, {}", node.name), Client::http(node)));
        roads.push((format!("gRPC, {}", node.name), Client::grpc(node).await));
    }
    roads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_short_check_waits_for_long_ones() {
    let cluster = Processes::start(3).await;
    let roads = roads(&cluster).await;
    let load = LongLoad::start(&cluster.nodes[0]).await;
    for (name, client) in &roads {
        let mut best = Duration::MAX;
        // Beside other tests one try may be late, not every one.
        for _ in 0..5 {
            let mut times = times(client, SHORT, Pace::OneByOne, Duration::from_millis(200)).await;
            best = best.min(quantile(&mut times, 0.99));
            if best < Duration::from_millis(50) {
                break;
            }
        }
        assert!(best < Duration::from_millis(50), "{name}: p99 {best:?}");
    }
    load.stop().await;
}

/// Rounds of alone and beside, in turn, so that a drift of the machine meets both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn short_checks_beside_long_ones() {
    const ROUNDS: usize = 3;
    let seconds = std::env::var("PRIMACY_MIXED_SECONDS").map_or(0.2, |seconds| seconds.parse().unwrap());
    let cluster = Processes::start(3).await;
    let mut kinds = Vec::new();
    for (name, client) in roads(&cluster).await {
        kinds.push((format!("{name}, one by one"), client.clone(), SHORT, Pace::OneByOne));
        kinds.push((format!("{name}, 500 a second"), client, SHORT, Pace::PerSecond(500)));
    }
    let leader = Client::http(&cluster.nodes[0]);
    kinds.push(("39 digits, HTTP, leader, one by one".to_owned(), leader, QUICK, Pace::OneByOne));
    let (mut alone, mut beside) = (vec![Vec::new(); kinds.len()], vec![Vec::new(); kinds.len()]);
    let (mut answered, mut busy) = (0, Duration::ZERO);
    for _ in 0..ROUNDS {
        measure(&kinds, &mut alone, seconds).await;
        let load = LongLoad::start(&cluster.nodes[0]).await;
        let started = Instant::now();
        measure(&kinds, &mut beside, seconds).await;
        answered += load.stop().await;
        busy += started.elapsed();
    }
    println!(
        "{answered} checks of {LONG_DIGITS} digits in {:.1} s, {LONG_IN_FLIGHT} in flight",
        busy.as_secs_f64()
    );
    println!("| short checks | alone: p50 | p99 | p99.9 | beside long ones: p50 | p99 | p99.9 | checks |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (((name, ..), mut alone), mut beside) in kinds.into_iter().zip(alone).zip(beside) {
        let count = format!("{} / {}", alone.len(), beside.len());
        let figures = [&mut alone, &mut beside].map(|times| {
            [0.5, 0.99, 0.999]
                .map(|share| format!("{:.2}", quantile(times, share).as_secs_f64() * 1e3))
                .join(" | ")
        });
        println!("| {name} | {} | {count} |", figures.join(" | "));
    }
}

type Kind = (String, Client, &'static str, Pace);

async fn measure(kinds: &[Kind], all: &mut [Vec<Duration>], seconds: f64) {
    for ((_, client, prime, pace), all) in kinds.iter().zip(all) {
        all.extend(times(client, prime, *pace, Duration::from_secs_f64(seconds)).await);
    }
}
