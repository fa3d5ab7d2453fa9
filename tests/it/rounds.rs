//! Real processes and real signals, again and again, under thousands of requests in flight aimed at the survivors: the
//! leader is killed, hung and stopped; every answer is checked, and the time until all survivors agree on the next
//! leader is measured, with Bully and with etcd. The gate runs some rounds with bounds five times the design's;
//! `PRIMACY_ROUNDS=300` makes a bench of it, whose tables are in `bench/README.md`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use primacy::{
    is_prime,
    proto::{PrimeRequest, WatchClusterRequest, scheduler_client::SchedulerClient},
};
use rustix::process::Signal;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    etcd::Etcds,
    harness::{
        Process, Processes, SOON, all_alive, channel, eventually, long_number, run_command, view, within,
    },
    load::{Load, Tally},
};

/// Requests in flight at each node that is asked: thousands in all, so that many are underway at every moment.
const MANY: usize = 700;

/// So few that an answer waits for nothing but the cluster.
const FEW: usize = 10;

/// A bench may want fewer requests in flight, to see the cluster's own times and not those of queues
/// (`PRIMACY_IN_FLIGHT`), and more rounds (`PRIMACY_ROUNDS`).
fn wanted(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |count| count.parse().unwrap())
}

/// A bench may want some kinds of strikes only (`PRIMACY_STRIKES=hang`).
fn strikes() -> Vec<Strike> {
    let all = [Strike::Kill, Strike::Hang, Strike::Stop, Strike::Kill, Strike::Hiccup];
    let Ok(wanted) = std::env::var("PRIMACY_STRIKES") else { return all.to_vec() };
    let is_wanted =
        |strike: &Strike| wanted.split(',').any(|name| format!("{strike:?}").eq_ignore_ascii_case(name));
    let strikes: Vec<Strike> = all.into_iter().filter(is_wanted).collect();
    assert!(!strikes.is_empty(), "PRIMACY_STRIKES={wanted} names none of {all:?}");
    strikes
}

/// Streams that share a connection.
const PER_CONNECTION: usize = 100;

type Client = SchedulerClient<tonic::transport::Channel>;

/// So many requests in flight at each of these nodes.
async fn flood_on(nodes: &[SocketAddr], in_flight: usize) -> Load {
    let mut flood = Load::new();
    for address in nodes {
        let mut client = None;
        for place in 0..in_flight {
            if place.is_multiple_of(PER_CONNECTION) {
                client = Some(SchedulerClient::new(channel(*address).await.unwrap()));
            }
            let client = client.clone().unwrap();
            flood.add(move |number| ask(client.clone(), number));
        }
    }
    flood
}

async fn ask(mut client: Client, number: u64) -> Result<String, String> {
    let request = PrimeRequest { number: number.cast_signed(), decimal: String::new() };
    let answer = client.check_prime(request).await.map_err(|status| status.to_string())?.into_inner();
    if answer.is_prime == is_prime(number) { Ok(answer.processed_by) } else { Err(format!("{answer:?}")) }
}

/// When a node said that it follows this leader.
type Seen = Vec<(Instant, Option<String>)>;

/// What a node says of its leader, from the moment of watching on.
struct Watch {
    name: String,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Watches on a runtime of its own: what it sees must not wait behind the load.
    async fn on(node: &Process, observers: &Runtime) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (write, address) = (Arc::clone(&seen), node.grpc);
        observers.spawn(async move {
            let mut client = SchedulerClient::new(channel(address).await.unwrap());
            let mut views = client.watch_cluster(WatchClusterRequest {}).await.unwrap().into_inner();
            while let Ok(Some(view)) = views.message().await {
                write.lock().unwrap().push((Instant::now(), view.leader.map(|leader| leader.name)));
            }
        });
        let is_watching = || async { !seen.lock().unwrap().is_empty() };
        eventually(&format!("{} is watched", node.name), is_watching).await;
        Self { name: node.name.clone(), seen }
    }

    /// The leader that it follows now, and since when.
    fn leader(&self) -> Option<(Instant, String)> {
        let seen = self.seen.lock().unwrap();
        let (_, last) = seen.last()?;
        let since = seen.iter().rev().take_while(|(_, leader)| leader == last).last()?;
        Some((since.0, last.clone()?))
    }
}

/// When all of them follow one leader other than this one.
async fn agreement(watches: &[Watch], other_than: &str) -> Instant {
    let agreed = || {
        let leaders: Option<Vec<(Instant, String)>> = watches.iter().map(Watch::leader).collect();
        let leaders = leaders?;
        let one = leaders.iter().all(|(_, name)| *name == leaders[0].1 && name != other_than);
        one.then(|| leaders.iter().map(|(at, _)| *at).max().unwrap())
    };
    let polling = async {
        loop {
            if let Some(at) = agreed() {
                return at;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let names = || watches.iter().map(|watch| (&watch.name, watch.leader())).collect::<Vec<_>>();
    timeout(SOON, polling).await.unwrap_or_else(|_| panic!("no agreement: {:?}", names()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strike {
    Kill,
    /// SIGSTOP for longer than the suspicion time.
    Hang,
    /// SIGSTOP for less: nobody is to notice.
    Hiccup,
    Stop,
}

#[derive(Debug, Default)]
struct Figures {
    /// From the signal to the agreement of all survivors.
    agreed: Vec<Duration>,
    slowest: Vec<Duration>,
    answered: u64,
    failed: usize,
}

async fn leader_of(cluster: &Processes) -> usize {
    let mut place = None;
    eventually("all follow one leader", || async {
        let mut names = Vec::new();
        for node in &cluster.nodes {
            names.push(view(node.grpc).await.ok().and_then(|view| Some(view.leader?.name)));
        }
        names.iter().all(|name| name.is_some() && *name == names[0])
    })
    .await;
    if let Ok(view) = view(cluster.nodes[0].grpc).await {
        let name = view.leader.map(|leader| leader.name);
        place = cluster.nodes.iter().position(|node| Some(&node.name) == name.as_ref());
    }
    place.expect("it has just been there")
}

/// Strikes the leader under load at the others, and lets it return.
async fn round(cluster: &mut Processes, strike: Strike, in_flight: usize) -> (Option<Duration>, Tally) {
    let struck = leader_of(cluster).await;
    let name = cluster.nodes[struck].name.clone();
    let survivors: Vec<usize> = (0..cluster.nodes.len()).filter(|place| *place != struck).collect();
    let addresses: Vec<SocketAddr> = survivors.iter().map(|place| cluster.nodes[*place].grpc).collect();
    let observers = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut watches = Vec::new();
    for place in &survivors {
        watches.push(Watch::on(&cluster.nodes[*place], &observers).await);
    }
    let flood = flood_on(&addresses, in_flight).await;
    flood.more(3000).await;
    if leader_of(cluster).await != struck {
        // It has just handed over.
        flood.stop().await;
        return Box::pin(round(cluster, strike, in_flight)).await;
    }
    let struck_at = Instant::now();
    let agreed = match strike {
        Strike::Kill => {
            cluster.nodes[struck].signal(Signal::KILL);
            let agreed = agreement(&watches, &name).await;
            cluster.nodes[struck].ended().await;
            cluster.nodes[struck].restart();
            Some(agreed)
        }
        Strike::Hang => {
            cluster.nodes[struck].signal(Signal::STOP);
            let agreed = agreement(&watches, &name).await;
            flood.more(1000).await;
            cluster.nodes[struck].signal(Signal::CONT);
            Some(agreed)
        }
        Strike::Hiccup => {
            cluster.nodes[struck].signal(Signal::STOP);
            sleep(Duration::from_millis(150)).await;
            cluster.nodes[struck].signal(Signal::CONT);
            None
        }
        Strike::Stop => {
            cluster.nodes[struck].signal(Signal::TERM);
            let agreed = agreement(&watches, &name).await;
            assert!(cluster.nodes[struck].ended().await.success());
            cluster.nodes[struck].restart();
            Some(agreed)
        }
    };
    flood.more(3000).await;
    for node in &cluster.nodes {
        all_alive(node.grpc, cluster.nodes.len()).await;
    }
    if strike == Strike::Hiccup {
        let leads = cluster.nodes[leader_of(cluster).await].name.clone();
        assert_eq!(leads, name, "nobody was to notice");
    }
    let tally = flood.stop().await;
    observers.shutdown_background();
    (agreed.map(|at| at.saturating_duration_since(struck_at)), tally)
}

fn quantile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let place = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
    sorted[place].as_secs_f64() * 1e3
}

fn print(figures: &mut BTreeMap<Strike, Figures>) {
    println!(
        "| signal | rounds | agreed after, ms: p50 | p90 | p99 | worst | slowest answer, ms | answers | failed |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (strike, Figures { agreed, slowest, answered, failed }) in figures {
        agreed.sort();
        slowest.sort();
        let of_agreed = match agreed.is_empty() {
            true => "– | – | – | –".to_owned(),
            false => [0.5, 0.9, 0.99, 1.0].map(|share| format!("{:.0}", quantile(agreed, share))).join(" | "),
        };
        let worst = quantile(slowest, 1.0);
        println!("| {strike:?} | {} | {of_agreed} | {worst:.0} | {answered} | {failed} |", slowest.len());
    }
}

/// Strikes in turn. `bounds` says, in milliseconds, until when all are to agree, and how long an answer may take.
async fn rounds(cluster: &mut Processes, count: usize, in_flight: usize, bounds: fn(Strike) -> (u64, u64)) {
    let mut figures: BTreeMap<Strike, Figures> = BTreeMap::new();
    for (number, strike) in strikes().into_iter().cycle().take(count).enumerate() {
        let (agreed, tally) = round(cluster, strike, in_flight).await;
        eprintln!("round {number}: {strike:?}, agreed after {agreed:?}, slowest {:?}", tally.slowest);
        assert_eq!(tally.failures, Vec::<String>::new(), "round {number}: {strike:?}");
        let (agreed_max, slowest_max) = bounds(strike);
        assert!(agreed <= Some(Duration::from_millis(agreed_max)), "{strike:?}: agreed after {agreed:?}");
        assert!(tally.slowest <= Duration::from_millis(slowest_max), "{strike:?}: {:?}", tally.slowest);
        let figures = figures.entry(strike).or_default();
        figures.agreed.extend(agreed);
        figures.slowest.push(tally.slowest);
        figures.answered += tally.answered();
        figures.failed += tally.failures.len();
    }
    print(&mut figures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "strikes the leader under load, ten times: it needs the machine for itself"]
async fn rounds_of_strikes_at_the_leader() {
    let mut cluster = Processes::start(3).await;
    // Five times what the design promises at most.
    let bounds = |strike| match strike {
        Strike::Kill => (1000, 3000),
        Strike::Hang => (3000, 5000),
        Strike::Stop | Strike::Hiccup => (500, 1500),
    };
    let count = wanted("PRIMACY_ROUNDS", 10);
    rounds(&mut cluster, count, wanted("PRIMACY_IN_FLIGHT", MANY), bounds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "strikes the leader under load; needs etcd (Debian's etcd-server) and the machine for itself"]
async fn rounds_of_strikes_at_the_leader_with_etcd() {
    let etcds = Etcds::start(3).await;
    let mut cluster = Processes::start_over(3, &etcds.coordinator()).await;
    // Five times the lease, where it is the lease that ends. Nobody waits for the next leader.
    let bounds = |strike| match strike {
        Strike::Kill => (15_000, 3000),
        Strike::Hang => (15_000, 5000),
        Strike::Stop | Strike::Hiccup => (5000, 1500),
    };
    // Few in flight: etcd has but what is left of the two cores.
    let count = wanted("PRIMACY_ROUNDS", 5);
    rounds(&mut cluster, count, wanted("PRIMACY_IN_FLIGHT", FEW), bounds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "burns every core for half a minute: it needs the machine for itself"]
async fn a_busy_machine_elects_nobody() {
    let seconds = std::env::var("PRIMACY_BURN_SECONDS").map_or(30, |seconds| seconds.parse().unwrap());
    let cluster = Processes::start(3).await;
    leader_of(&cluster).await;
    let mut before = Vec::new();
    for node in &cluster.nodes {
        before.push(view(node.grpc).await.unwrap().leader.unwrap());
    }
    let burning = Arc::new(AtomicBool::new(true));
    let cores = std::thread::available_parallelism().unwrap().get();
    let burners: Vec<_> = (0..2 * cores)
        .map(|_| {
            let burning = Arc::clone(&burning);
            std::thread::spawn(move || while burning.load(Relaxed) {})
        })
        .collect();
    let addresses: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.grpc).collect();
    let flood = flood_on(&addresses, MANY).await;
    let started = Instant::now();
    within(Duration::from_secs(seconds + 60), "the time is over", || async {
        started.elapsed() > Duration::from_secs(seconds)
    })
    .await;
    let tally = flood.stop().await;
    burning.store(false, Relaxed);
    burners.into_iter().for_each(|burner| burner.join().unwrap());
    assert_eq!(tally.failures, Vec::<String>::new());
    eprintln!("{} answers in {seconds} s, the slowest after {:?}", tally.answered(), tally.slowest);
    for (node, before) in cluster.nodes.iter().zip(before) {
        let after = view(node.grpc).await.unwrap();
        assert_eq!(after.leader, Some(before), "{}: {:?}", node.name, after.recent);
        let lost = after.recent.iter().filter(|change| change.change == "leader lost");
        assert_eq!(lost.count(), 0, "{}: {:?}", node.name, after.recent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "restarts every node under load: it needs the machine for itself"]
async fn a_rolling_restart_fails_nothing() {
    let mut cluster = Processes::start(3).await;
    let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.grpc.to_string()).collect();
    let endpoints = endpoints.join(",");
    let running = Arc::new(AtomicBool::new(true));
    let going_on = Arc::clone(&running);
    let checks = tokio::spawn(async move {
        let mut count = 0;
        while going_on.load(Relaxed) {
            let arguments = ["check", "--endpoints", &endpoints, "17", "18", "9223372036854775783"];
            let ran = run_command(&mut crate::harness::command(&arguments), "").await;
            assert_eq!(ran.code, Some(0), "{} {}", ran.out, ran.err);
            assert_eq!(ran.out.matches("is prime: true").count(), 2, "{}", ran.out);
            count += 1;
        }
        count
    });
    for place in 0..cluster.nodes.len() {
        let others: Vec<SocketAddr> = (0..cluster.nodes.len())
            .filter(|other| *other != place)
            .map(|other| cluster.nodes[other].grpc)
            .collect();
        let flood = flood_on(&others, FEW).await;
        flood.more(2000).await;
        cluster.nodes[place].signal(Signal::TERM);
        assert!(cluster.nodes[place].ended().await.success());
        cluster.nodes[place].restart();
        for node in &cluster.nodes {
            all_alive(node.grpc, cluster.nodes.len()).await;
        }
        flood.more(2000).await;
        let tally = flood.stop().await;
        let name = &cluster.nodes[place].name;
        eprintln!(
            "{name} was restarted: {} answers, the slowest after {:?}",
            tally.answered(),
            tally.slowest
        );
        assert_eq!(tally.failures, Vec::<String>::new(), "{name} was restarted");
        // The design's 100 ms, five times.
        assert!(tally.slowest < Duration::from_millis(500), "{name} was restarted: {:?}", tally.slowest);
    }
    running.store(false, Relaxed);
    assert!(checks.await.unwrap() > 5);
}

/// Some seconds of work in the build that tests make: more than the three heartbeats after which silence is noticed.
const LONG_DIGITS: u32 = 4000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_fails_no_long_check_that_can_end_in_time() {
    let mut cluster = Processes::start(2).await;
    let number = long_number(LONG_DIGITS);
    // The leader is stopped, and then a worker; asked are another node, and the one that stops.
    for stopped in [0, 2] {
        let nodes = [cluster.nodes[1].grpc, cluster.nodes[stopped].grpc];
        let asked: JoinSet<_> = nodes.map(|node| long_check(node, number.clone())).into_iter().collect();
        eventually("both are computed", || async {
            let mut held = 0;
            for node in &cluster.nodes {
                let members = view(node.grpc).await.unwrap().members;
                let own = members.iter().find(|member| member.name == node.name);
                held += own.map_or(0, |own| own.in_flight);
            }
            held == 2
        })
        .await;
        cluster.nodes[stopped].signal(Signal::TERM);
        for answered in asked.join_all().await {
            answered.unwrap();
        }
        let metrics = reqwest::get(cluster.nodes[1].url("/metrics")).await.unwrap().text().await.unwrap();
        assert!(metrics.contains("primacy_given_back_total 0\n"), "none was begun anew: {metrics}");
        assert!(cluster.nodes[stopped].ended().await.success());
        assert!(!cluster.nodes[stopped].has_logged("is lost"), "{}", cluster.nodes[stopped].log());
        cluster.nodes[stopped].restart();
        all_alive(cluster.nodes[1].grpc, 3).await;
    }
}

async fn long_check(node: SocketAddr, decimal: String) -> Result<bool, tonic::Status> {
    let mut request = tonic::Request::new(PrimeRequest { number: 0, decimal });
    request.set_timeout(Duration::from_secs(60));
    let answer = SchedulerClient::new(channel(node).await?).check_prime(request).await?;
    Ok(answer.into_inner().is_prime)
}
