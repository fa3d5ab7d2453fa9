//! Lanes: an answer never reaches the wrong request, and what a lane had not answered is answered elsewhere.

use std::{
    collections::BTreeSet,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream::{self, BoxStream},
};
use primacy::{
    Ask, AskError, Lane, Node, Pass, is_prime,
    limits::FAILURE_PENALTY,
    proto::{
        BatchRequest, BatchResponse, HeartbeatRequest, HeartbeatResponse, Identity, LaneAnswers, LaneAsks,
        MemberStatus, PrimeRequest, PrimeResponse, TransferRequest,
        peer_client::PeerClient,
        peer_server::{Peer, PeerServer},
        scheduler_client::SchedulerClient,
        worker_server::{Worker, WorkerServer},
    },
};
use primacy_election::Wanted;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};

use crate::harness::{SOON, TestNode, all_alive, channel, config, eventually, metric, status_of};

/// How a worker that was not written here treats what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Answers rightly, in any order, in messages of any size.
    Shuffles,
    /// Answers everything twice.
    Repeats,
    /// Answers asks that nobody made.
    Invents,
    /// Answers half of a message, and closes the lane.
    Breaks,
    /// Answers with parts missing.
    Mangles,
    /// Has no place for long checks.
    Busy,
    /// Takes everything and answers nothing; heartbeats only until it hangs. It lets others schedule over it.
    Hangs,
}

#[derive(Clone)]
struct OddWorker {
    id: u32,
    manner: Manner,
    /// How many threads for segments of ranges it says that it has: none, as a node of an older version.
    segment_threads: u32,
    seed: u64,
    lanes: Arc<AtomicUsize>,
    long_checks: Arc<AtomicUsize>,
    /// Asks, batches and long checks that it holds.
    held: Arc<AtomicUsize>,
    is_hung: Arc<AtomicBool>,
}

type Answers = BoxStream<'static, Result<LaneAnswers, Status>>;

#[tonic::async_trait]
impl Peer for OddWorker {
    async fn work(&self, request: Request<Streaming<LaneAsks>>) -> Result<Response<Answers>, Status> {
        let mut asks = request.into_inner();
        asks.message().await?;
        let lane = self.lanes.fetch_add(1, Relaxed);
        let (sender, answers) = mpsc::channel(1);
        let (id, boot) = (Some(self.id.cast_signed()), self.id.into());
        let receiver = Identity { id, name: "odd".into(), boot, ..Identity::default() };
        let segment_threads = self.segment_threads;
        let hello = LaneAnswers { receiver: Some(receiver), segment_threads, ..LaneAnswers::default() };
        let (manner, hung) = (self.manner, Arc::clone(&self.held));
        let mut random = StdRng::seed_from_u64(self.seed + lane as u64);
        tokio::spawn(async move {
            let _ = sender.send(Ok(hello)).await;
            let mut held: Vec<(u64, u64)> = Vec::new();
            while let Ok(Some(batch)) = asks.message().await {
                if manner == Manner::Hangs {
                    hung.fetch_add(batch.values.len(), Relaxed);
                    continue;
                }
                held.extend((batch.first_ask..).zip(batch.values));
                for answers in treat(manner, &mut held, &mut random) {
                    if sender.send(Ok(answers)).await.is_err() {
                        return;
                    }
                }
                if manner == Manner::Breaks {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers).boxed()))
    }

    async fn work_batch(&self, request: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        let mut values = request.into_inner().values;
        match self.manner {
            Manner::Mangles => values.truncate(values.len() / 2),
            Manner::Busy => return Err(Status::resource_exhausted("it has no place")),
            Manner::Breaks => return Err(Status::unavailable("it does no batches")),
            Manner::Hangs => return self.hang().await,
            Manner::Shuffles | Manner::Repeats | Manner::Invents => {}
        }
        let are_prime = values.into_iter().map(|value| is_prime(value).into()).collect();
        Ok(Response::new(BatchResponse { are_prime, processed_by: "odd".to_owned() }))
    }

    async fn schedule(&self, request: Request<Streaming<LaneAsks>>) -> Result<Response<Answers>, Status> {
        match self.manner {
            Manner::Hangs => self.work(request).await,
            _ => Err(Status::unimplemented("it only works")),
        }
    }
}

#[tonic::async_trait]
impl Worker for OddWorker {
    async fn process_prime(&self, _: Request<PrimeRequest>) -> Result<Response<PrimeResponse>, Status> {
        self.long_checks.fetch_add(1, Relaxed);
        match self.manner {
            Manner::Busy => Err(Status::resource_exhausted("its queue is full")),
            Manner::Hangs => self.hang().await,
            _ => Err(Status::unavailable("it does no long checks")),
        }
    }

    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        if self.is_hung.load(Relaxed) {
            return std::future::pending().await;
        }
        Ok(Response::new(HeartbeatResponse { alive: true, ..HeartbeatResponse::default() }))
    }
}

/// The messages that answer what is held, in a manner.
fn treat(manner: Manner, held: &mut Vec<(u64, u64)>, random: &mut StdRng) -> Vec<LaneAnswers> {
    let mut asks: Vec<(u64, u64)> = std::mem::take(held);
    asks.shuffle(random);
    if manner == Manner::Breaks {
        asks.truncate(asks.len() / 2);
    }
    let mut messages = Vec::new();
    while !asks.is_empty() {
        let some = random.random_range(1..=asks.len());
        messages.push(rightly(&asks.split_off(asks.len() - some)));
    }
    match manner {
        Manner::Repeats => {
            messages = messages.iter().flat_map(|message| [message.clone(), message.clone()]).collect()
        }
        Manner::Invents => messages.push(rightly(&[(u64::MAX, 4)])),
        Manner::Mangles => messages.iter_mut().for_each(|message| message.are_prime.clear()),
        Manner::Shuffles | Manner::Breaks | Manner::Busy | Manner::Hangs => {}
    }
    messages
}

fn rightly(asks: &[(u64, u64)]) -> LaneAnswers {
    LaneAnswers {
        asks: asks.iter().map(|(ask, _)| *ask).collect(),
        are_prime: asks.iter().map(|(_, value)| is_prime(*value)).collect(),
        processed_by: vec![0; asks.len()],
        names: vec!["odd".into()],
        ..LaneAnswers::default()
    }
}

impl OddWorker {
    fn new(id: u32, manner: Manner) -> Self {
        Self {
            id,
            manner,
            segment_threads: 0,
            seed: 42,
            lanes: Arc::default(),
            long_checks: Arc::default(),
            held: Arc::default(),
            is_hung: Arc::default(),
        }
    }

    /// Takes it, and never answers.
    async fn hang<T>(&self) -> T {
        self.held.fetch_add(1, Relaxed);
        std::future::pending().await
    }

    /// Serves, and returns where.
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(PeerServer::new(self.clone()))
            .add_service(WorkerServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        address
    }
}

/// A leader over workers at these addresses, with the ids from 1 on.
async fn leader_over(workers: &[SocketAddr], arguments: &[&str]) -> TestNode {
    let peers: Vec<String> = (1..).zip(workers).map(|(id, address)| format!("{id}={address}")).collect();
    let peers = peers.join(",");
    let arguments = [&["--id", "99", "--name", "leader", "--peers", &peers], arguments].concat();
    let leader = TestNode::start("leader".into(), Node::bind(config(&arguments)).await.unwrap());
    all_alive(leader.grpc, workers.len() + 1).await;
    leader
}

/// A leader whose only worker is odd.
async fn leader_of(manner: Manner) -> (TestNode, Arc<AtomicUsize>) {
    let worker = OddWorker::new(1, manner);
    (leader_over(&[worker.start().await], &[]).await, worker.lanes)
}

/// A long check, which travels in a call of its own.
async fn check_long(leader: &TestNode) -> Result<String, Status> {
    let request = PrimeRequest { number: 0, decimal: (1_u128 << 127).to_string() };
    let mut client = SchedulerClient::new(channel(leader.grpc).await?);
    Ok(client.check_prime(request).await?.into_inner().processed_by)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_tried_on_another_worker_three_times_in_all() {
    let workers: Vec<OddWorker> = (1..=5).map(|id| OddWorker::new(id, Manner::Shuffles)).collect();
    let addresses = join_all(workers.iter().map(OddWorker::start)).await;
    let leader = leader_over(&addresses, &["--no-fallback"]).await;
    let failed = check_long(&leader).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::Unavailable, "it does no long checks"));
    let tried: Vec<usize> = workers.iter().map(|worker| worker.long_checks.load(Relaxed)).collect();
    assert_eq!(tried.iter().sum::<usize>(), 3, "{tried:?}");
    assert_eq!(tried.iter().max(), Some(&1), "each once: {tried:?}");

    // A fast failure attracts no work: those that have not failed of late are asked first.
    check_long(&leader).await.unwrap_err();
    let tried: Vec<usize> = workers.iter().map(|worker| worker.long_checks.load(Relaxed)).collect();
    assert!(!tried.contains(&0), "{tried:?}");
}

/// Another node joins and takes the leadership over, so that the lanes of the one that led are retired.
async fn successor_of(leader: &TestNode) -> TestNode {
    let peers = format!("99={}", leader.grpc);
    let arguments = ["--id", "100", "--name", "successor", "--peers", &peers, "--no-fallback"];
    let successor = TestNode::start("successor".into(), Node::bind(config(&arguments)).await.unwrap());
    eventually("it is met", || async { status_of(&leader.view().await, "successor") == MemberStatus::Alive })
        .await;
    successor
}

async fn hand_over(leader: &TestNode, successor: &TestNode) {
    let mut client = PeerClient::new(channel(leader.grpc).await.unwrap());
    client.transfer(TransferRequest { to: successor.name.clone() }).await.unwrap();
    eventually("the one that led follows", || async {
        leader.view().await.leader.is_some_and(|leader| leader.name == successor.name)
    })
    .await;
}

/// A node that follows a leader sends no heartbeats to those that worked for it before, and keeps their lanes until they
/// have answered what they hold: one that hangs would hold it until its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_retired_lane_holds_is_given_back_when_its_peer_falls_silent() {
    let worker = OddWorker::new(1, Manner::Hangs);
    let leader = leader_over(&[worker.start().await], &[]).await;
    let connection = channel(leader.grpc).await.unwrap();
    let check = |decimal: String| {
        let mut request = Request::new(PrimeRequest { number: 0, decimal });
        request.set_timeout(Duration::from_secs(60));
        let mut client = SchedulerClient::new(connection.clone());
        tokio::spawn(async move { client.check_prime(request).await.map(Response::into_inner) })
    };
    let (short, long) = (check("17".to_owned()), check((1_u128 << 127).to_string()));
    let url = leader.url("/primes");
    let batch = tokio::spawn(async move {
        let asked = reqwest::Client::new().post(url).header("grpc-timeout", "60S");
        asked.body("{\"numbers\":[17,18]}").send().await.unwrap().text().await.unwrap()
    });
    eventually("the worker holds all three", || async { worker.held.load(Relaxed) == 3 }).await;
    let successor = successor_of(&leader).await;
    worker.is_hung.store(true, Relaxed);
    hand_over(&leader, &successor).await;

    // The design's 350 ms, many times over, and far below the deadline.
    let answers =
        timeout(Duration::from_secs(10), join_all([short, long])).await.expect("they are given back");
    for answer in answers {
        assert_ne!(answer.unwrap().unwrap().processed_by, "odd");
    }
    let batch = timeout(Duration::from_secs(10), batch).await.expect("the batch is given back").unwrap();
    assert_eq!(batch.matches("\"is_prime\"").count(), 2, "{batch}");
    assert!(metric(&leader, "primacy_given_back_total").await >= 4);
}

/// Whoever else judges the peer, and however late: what a lane holds comes back within 3.5 H, or two H more where the
/// looks were late. The lane itself stays, and is asked again as soon as its peer is heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wanted_lane_gives_back_what_a_silent_peer_holds_and_goes_on_when_it_is_heard() {
    const H: Duration = Duration::from_millis(100);
    let worker = OddWorker::new(1, Manner::Hangs);
    let connection =
        primacy::PeerConnection::new(channel(worker.start().await).await.unwrap(), Pass::default());
    let me = primacy_election::Identity {
        id: None,
        name: "me".into(),
        boot: 17,
        grpc_addr: "127.0.0.1:1".into(),
        http_addr: "127.0.0.1:2".into(),
        version: "".into(),
        ..primacy_election::Identity::default()
    };
    let (lane, driver, _) = Lane::open(connection, Wanted::Work, &me).await.unwrap();
    let (driven, watched) = (tokio::spawn(driver.run(|| {})), lane.clone());
    let watching = tokio::spawn(async move { watched.watch(H).await });
    for round in 1..=2 {
        worker.is_hung.store(true, Relaxed);
        let asked = Instant::now();
        let ask = Ask { value: 17, deadline: asked + Duration::from_secs(60), trace: Arc::default() };
        let call = lane.call(pending::<Result<(), Status>>());
        let (answered, called) = timeout(SOON, join(lane.ask(ask.clone()), call)).await.unwrap();
        let took = asked.elapsed();
        assert!(matches!(answered, Err(AskError::GivenBack)), "{round}: {answered:?}");
        assert!(matches!(called, Err(AskError::GivenBack)), "{round}: {called:?}");
        assert!(took >= 3 * H, "{round}: {took:?}");
        assert!(!lane.is_open(), "{round}: it is not asked while it is silent");
        assert!(matches!(lane.ask(ask).await, Err(AskError::GivenBack)), "{round}");
        worker.is_hung.store(false, Relaxed);
        eventually("it is heard again", || async { lane.is_open() }).await;
    }
    assert!(!driven.is_finished() && !watching.is_finished(), "the lane goes on");
    driven.abort();
    watching.abort();
}

/// Nothing comes over a lane while a long check is computed: signs of life keep it open, for as long as it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_computes_for_long_and_lives_is_not_silent() {
    let worker = OddWorker::new(1, Manner::Hangs);
    let leader = leader_over(&[worker.start().await], &[]).await;
    let mut request = Request::new(PrimeRequest { number: 0, decimal: (1_u128 << 127).to_string() });
    request.metadata_mut().insert("grpc-timeout", "3S".parse().unwrap());
    let mut client = SchedulerClient::new(channel(leader.grpc).await.unwrap());
    let asked = tokio::spawn(async move { client.check_prime(request).await });
    eventually("the worker holds it", || async { worker.held.load(Relaxed) == 1 }).await;
    let successor = successor_of(&leader).await;
    hand_over(&leader, &successor).await;
    let answered = asked.await.unwrap().unwrap_err();
    // Either end may see first that the time is over.
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&answered.code()), "{answered}");
    assert_eq!(metric(&leader, "primacy_given_back_total").await, 0, "it lives, and holds it to the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_no_failure_and_the_one_that_has_room_is_found() {
    let workers: Vec<OddWorker> = (1..=5).map(|id| OddWorker::new(id, Manner::Busy)).collect();
    let mut addresses = join_all(workers.iter().map(OddWorker::start)).await;
    let free = TestNode::alone(&["--name", "free"]).await;
    addresses.push(free.grpc);
    let leader = leader_over(&addresses, &["--no-fallback"]).await;
    for _ in 0..10 {
        assert_eq!(check_long(&leader).await.unwrap(), "free");
    }
    addresses.pop();
    let leader = leader_over(&addresses, &[]).await;
    let shed = check_long(&leader).await.unwrap_err();
    assert_eq!((shed.code(), shed.message()), (Code::ResourceExhausted, "its queue is full"));
}

/// A batch that is answered amiss, or not at all, is answered elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_worker_mangles_or_refuses_is_done_elsewhere() {
    for manner in [Manner::Shuffles, Manner::Mangles, Manner::Breaks, Manner::Busy] {
        let free = TestNode::alone(&["--name", "free"]).await;
        let odd = OddWorker::new(1, manner).start().await;
        let leader = leader_over(&[odd, free.grpc], &["--no-fallback"]).await;
        let numbers = numbers(5, 20_000);
        let by = crate::bulk::ask_lines(leader.http, &numbers).await;
        let expected = match manner {
            Manner::Shuffles => vec!["free", "odd"],
            _ => vec!["free"],
        };
        assert_eq!(by.into_iter().collect::<Vec<_>>(), expected, "{manner:?}");
    }
}

/// Who fails at once has nothing in flight, and is not to be the one to ask next for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_failure_attracts_no_batches() {
    let free = [TestNode::alone(&["--name", "free1"]).await, TestNode::alone(&["--name", "free2"]).await];
    let odd = OddWorker::new(1, Manner::Breaks).start().await;
    let leader = leader_over(&[odd, free[0].grpc, free[1].grpc], &["--no-fallback"]).await;
    let started = Instant::now();
    let numbers = numbers(5, 200_000);
    crate::bulk::ask_lines(leader.http, &numbers).await;
    let penalties = started.elapsed().div_duration_f64(FAILURE_PENALTY).ceil();
    // Those that left before the first failure came back, and then as many each time that a penalty ends.
    let failed = metric(&leader, "primacy_retries_total").await as f64;
    assert!(failed > 0.0 && failed <= 11.0 * 1024.0 * penalties, "{failed} in {penalties} penalties");
}

/// Whether it says so, as a node of an older version, or answers UNIMPLEMENTED; and that is no failure for which it gets less of
/// other work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_no_segments_is_passed_over() {
    for segment_threads in [0, 2] {
        let free = TestNode::alone(&["--name", "free"]).await;
        let odd = OddWorker { segment_threads, ..OddWorker::new(1, Manner::Shuffles) }.start().await;
        let leader = leader_over(&[odd, free.grpc], &["--no-fallback"]).await;
        let counted = crate::http::get(&leader, "/primes/count?from=1&to=2000000000").await.json();
        assert_eq!((&counted["count"], &counted["shares"][0]["name"]), (&json!("98222287"), &json!("free")));
        assert_eq!(counted["shares"].as_array().unwrap().len(), 1, "{counted}");
        let by = ask_all(channel(leader.grpc).await.unwrap(), numbers(5, 50)).await;
        assert_eq!(by.into_iter().collect::<Vec<_>>(), ["free", "odd"]);
    }
    // Where there is no other, the leader does them itself.
    let odd = OddWorker::new(1, Manner::Shuffles).start().await;
    let leader = leader_over(&[odd], &[]).await;
    let listed = crate::http::get(&leader, "/primes?from=1&to=10").await.json();
    assert_eq!(listed["primes"], json!(["2", "3", "5", "7"]));
}

/// Random numbers of all lengths, near half of them primes: a wrong delivery would show at every second one.
fn numbers(seed: u64, count: usize) -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let one = |random: &mut StdRng| {
        let mut number = random.next_u64() >> random.random_range(0..60);
        while random.random_bool(0.9) && !is_prime(number) {
            number = number.wrapping_add(1);
        }
        number
    };
    (0..count).map(|_| one(&mut random)).collect()
}

/// Asks all, many at once; returns who answered. Every answer must be there and right.
async fn ask_all(channel: Channel, numbers: Vec<u64>) -> BTreeSet<String> {
    let asked = stream::iter(numbers).map(|number| {
        let mut client = SchedulerClient::new(channel.clone());
        async move {
            let request = PrimeRequest { number: 0, decimal: number.to_string() };
            let answer =
                client.check_prime(request).await.unwrap_or_else(|status| panic!("{number}: {status}"));
            let answer = answer.into_inner();
            assert_eq!(answer.is_prime, is_prime(number), "{number}");
            answer.processed_by
        }
    });
    asked.buffer_unordered(200).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_any_order_reach_their_own_requests() {
    let (leader, lanes) = leader_of(Manner::Shuffles).await;
    let by = ask_all(channel(leader.grpc).await.unwrap(), numbers(1, 5000)).await;
    assert_eq!(by, BTreeSet::from(["odd".to_owned()]));
    assert_eq!(lanes.load(Relaxed), 1, "the lane never broke");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_answers_amiss_is_broken_off_and_its_asks_are_answered_elsewhere() {
    for manner in [Manner::Repeats, Manner::Invents, Manner::Mangles, Manner::Breaks] {
        let (leader, lanes) = leader_of(manner).await;
        let by = ask_all(channel(leader.grpc).await.unwrap(), numbers(2, 2000)).await;
        assert!(by.contains("leader"), "{manner:?}: what was given back is done by the leader, not {by:?}");
        eventually(&format!("{manner:?}: the lane was broken off and opened anew"), || async {
            lanes.load(Relaxed) > 1
        })
        .await;
    }
}

/// A road that can be cut: connections through it end at once, in both directions.
struct PeerConnection {
    address: SocketAddr,
    cuts: watch::Sender<u64>,
}

async fn road_to(target: SocketAddr) -> PeerConnection {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cuts, cut) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut cut = cut.clone();
            cut.mark_unchanged();
            tokio::spawn(async move {
                let Ok(mut to) = TcpStream::connect(target).await else { return };
                tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut to) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    PeerConnection { address, cuts }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_lost_or_wrong_while_lanes_are_cut_under_load() {
    let mut roads = Vec::new();
    let mut workers = Vec::new();
    for id in 1..=3 {
        let node = Node::bind(config(&["--name", &format!("worker{id}")])).await.unwrap();
        let worker = TestNode::start(format!("worker{id}"), node);
        roads.push(road_to(worker.grpc).await);
        workers.push(worker);
    }
    let addresses: Vec<SocketAddr> = roads.iter().map(|connection| connection.address).collect();
    let leader = leader_over(&addresses, &[]).await;

    let loaded = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&loaded);
    let cutter = tokio::spawn(async move {
        let mut random = StdRng::seed_from_u64(3);
        let mut cuts = 0;
        while still.load(Relaxed) {
            sleep(Duration::from_millis(random.random_range(5..40))).await;
            roads[random.random_range(0..3)].cuts.send_modify(|count| *count += 1);
            cuts += 1;
        }
        (cuts, roads)
    });
    let connection = channel(leader.grpc).await.unwrap();
    for round in 0..10 {
        ask_all(connection.clone(), numbers(10 + round, 2000)).await;
    }
    loaded.store(false, Relaxed);
    let (cuts, _roads) = cutter.await.unwrap();
    assert!(cuts > 10, "only {cuts} cuts: the test was too short to say anything");
    let given_back = crate::harness::metric(&leader, "primacy_given_back_total").await;
    assert!(given_back > 0, "no ask was on a lane when it was cut: the test proves nothing");
    eventually("all are used again", || async { crate::harness::alive(&leader.view().await) == 4 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_road_is_suspected_and_dialled_at_once() {
    let worker = TestNode::start("worker1".into(), Node::bind(config(&["--name", "worker1"])).await.unwrap());
    let connection = road_to(worker.grpc).await;
    let leader = leader_over(&[connection.address], &[]).await;
    connection.cuts.send_modify(|count| *count += 1);
    eventually("it was suspect for a moment", || async {
        leader.view().await.recent.iter().any(|change| change.name == "worker1" && change.change == "suspect")
    })
    .await;
    eventually("it is alive again", || async {
        status_of(&leader.view().await, "worker1") == MemberStatus::Alive
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_reached_and_never_heard_is_not_challenged() {
    // The leader looks for worker1 where nobody is, and so says worker1.
    let leader = TestNode::alone(&["--id", "4", "--name", "leader", "--peers", "1=127.0.0.1:9"]).await;
    let peers = format!("4={}", leader.grpc);
    let arguments = ["--id", "1", "--name", "worker1", "--peers", &peers, "--advertise-grpc", "127.0.0.1:9"];
    let follower = TestNode::alone(&arguments).await;
    eventually("it reaches the leader", || async {
        status_of(&follower.view().await, "leader") == MemberStatus::Alive
    })
    .await;
    for _ in 0..100 {
        let view = follower.view().await;
        assert_eq!(view.leader, None, "it does not hear it, and is told that it is alive");
        assert_eq!(follower.check(17).await.processed_by, "leader", "who is reached works");
        sleep(Duration::from_millis(20)).await;
    }
    let suspected = follower.view().await.recent.into_iter().filter(|change| change.change == "suspect");
    assert_eq!(suspected.count(), 0);
}
