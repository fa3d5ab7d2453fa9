//! The cluster's token: no stranger leads, works along or is believed, and whoever only asks is answered.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::http::uri::PathAndQuery;
use futures_util::{StreamExt, stream};
use primacy::{
    FORWARDED_BY, Token,
    proto::{
        self, Ballot, BatchRequest, Claim, ElectionRequest, HandOverRequest, HeartbeatRequest, Identity,
        LaneAnswers, LaneAsks, MemberStatus, PrimeRequest, RecentResultsRequest, TransferRequest,
        VerdictKind, VictoryRequest, peer_client::PeerClient, scheduler_client::SchedulerClient,
        worker_client::WorkerClient,
    },
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::sleep;
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::harness::{
    Running, STOPS_WITHIN, TestCluster, TestNode, channel, check, children, command, eventually,
    free_address, long_number, metric, run_command, send_signal, view,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const STRANGERS: &str = "primacy_strangers_total";
const OBSERVER: &str = "observer";

fn right() -> Vec<String> {
    vec![format!("Bearer {TOKEN}")]
}

async fn cluster(workers: u32) -> TestCluster {
    TestCluster::start_with(workers, |config| {
        config.token = Token::new(TOKEN).unwrap();
        // So that nobody is suspected because the machine is busy.
        config.heartbeat = Duration::from_millis(500);
    })
    .await
}

async fn json(url: &str) -> Value {
    let Ok(response) = reqwest::get(url).await else { return Value::Null };
    response.json().await.unwrap_or_default()
}

/// Who is there and who leads by which ballot, as a node sees it.
#[derive(Debug, PartialEq)]
struct Standing {
    leader: Option<(i32, String, u64)>,
    members: Vec<(Option<i32>, String, String, MemberStatus)>,
    recent: Vec<(String, String)>,
}

async fn standing(node: &TestNode) -> Standing {
    let view = node.view().await;
    let is_counted = |name: &str| name != OBSERVER;
    let members = view.members.iter().filter(|member| is_counted(&member.name));
    let recent = view.recent.iter().filter(|change| is_counted(&change.name));
    Standing {
        leader: view.leader.clone().map(|leader| (leader.id, leader.name, leader.counter)),
        members: members.map(|m| (m.id, m.name.clone(), m.grpc_addr.clone(), m.status())).collect(),
        recent: recent.map(|change| (change.name.clone(), change.change.clone())).collect(),
    }
}

async fn standings(cluster: &TestCluster) -> Vec<Standing> {
    let mut standings = Vec::new();
    for node in &cluster.nodes {
        standings.push(standing(node).await);
    }
    standings
}

// ── Calls of peers ──────────────────────────────────────────────────────────────────────────────────────────────

/// Every call that only peers may make. What they say would be believed.
#[derive(Debug, Clone, Copy)]
enum Call {
    Work,
    Schedule,
    WorkBatch,
    ScheduleBatch,
    RecentResults,
    HandOver,
    Transfer,
    Election,
    Victory,
    Heartbeat,
    LeadersHeartbeat,
    NamelessHeartbeat,
    ListOfMembers,
    ForwardedHeartbeat,
    ForwardedCheck,
    ForwardedChecks,
    ForwardedWork,
}

const CALLS: [Call; 17] = [
    Call::Work,
    Call::Schedule,
    Call::WorkBatch,
    Call::ScheduleBatch,
    Call::RecentResults,
    Call::HandOver,
    Call::Transfer,
    Call::Election,
    Call::Victory,
    Call::Heartbeat,
    Call::LeadersHeartbeat,
    Call::NamelessHeartbeat,
    Call::ListOfMembers,
    Call::ForwardedHeartbeat,
    Call::ForwardedCheck,
    Call::ForwardedChecks,
    Call::ForwardedWork,
];

fn with<T>(message: T, authorizations: &[String]) -> Request<T> {
    let mut request = Request::new(message);
    for authorization in authorizations {
        request.metadata_mut().append("authorization", authorization.parse().unwrap());
    }
    request
}

fn forwarded<T>(mut request: Request<T>) -> Request<T> {
    request.metadata_mut().insert(FORWARDED_BY, "stranger".parse().unwrap());
    request
}

fn seventeen() -> PrimeRequest {
    PrimeRequest { number: 17, decimal: String::new() }
}

fn batch() -> BatchRequest {
    BatchRequest { values: vec![17] }
}

fn named(id: Option<i32>, name: &str) -> Identity {
    let (grpc_addr, http_addr) = ("127.0.0.1:9".to_owned(), "127.0.0.1:9".to_owned());
    Identity {
        id,
        name: name.to_owned(),
        boot: 99,
        grpc_addr,
        http_addr,
        version: "1".to_owned(),
        scheme: String::new(),
    }
}

fn stranger() -> Identity {
    named(Some(9), "stranger")
}

fn claim(counter: u64, id: i32) -> Claim {
    let reason = "because".to_owned();
    let ballot = Some(Ballot { counter, id });
    Claim { ballot, succeeds: Vec::new(), followers: 1000, reason, took_ms: 0, interval_ms: 100 }
}

fn hello(sender: Option<Identity>) -> LaneAsks {
    LaneAsks { sender, ..LaneAsks::default() }
}

fn heartbeat(sender: Option<Identity>, claim: Option<Claim>) -> HeartbeatRequest {
    HeartbeatRequest { worker_id: "worker1".to_owned(), sender, claim, ..HeartbeatRequest::default() }
}

fn victory(sender: Option<Identity>, claim: Option<Claim>) -> VictoryRequest {
    VictoryRequest { new_leader_id: 9, new_leader_addr: String::new(), sender, claim }
}

fn hand_over(sender: Option<Identity>, counter: u64, id: i32) -> HandOverRequest {
    let ballot = Some(Ballot { counter, id });
    HandOverRequest { sender, ballot, reason: "because".to_owned(), ..HandOverRequest::default() }
}

/// A peer, as far as the authorizations make one.
#[derive(Clone)]
struct Caller {
    channel: Channel,
    authorizations: Vec<String>,
}

impl Caller {
    async fn of(node: &TestNode, authorizations: &[String]) -> Self {
        let authorizations = authorizations.to_vec();
        Self { channel: channel(node.grpc).await.unwrap(), authorizations }
    }

    fn peer(&self) -> PeerClient<Channel> {
        PeerClient::new(self.channel.clone())
    }

    fn worker(&self) -> WorkerClient<Channel> {
        WorkerClient::new(self.channel.clone())
    }

    fn with<T>(&self, message: T) -> Request<T> {
        with(message, &self.authorizations)
    }

    /// The first message of a lane.
    async fn work(&self, sender: Option<Identity>) -> Result<LaneAnswers, Status> {
        let asks = self.with(stream::iter([hello(sender)]));
        Ok(self.peer().work(asks).await?.into_inner().message().await?.unwrap_or_default())
    }

    async fn schedule(&self, sender: Option<Identity>) -> Result<LaneAnswers, Status> {
        let asks = self.with(stream::iter([hello(sender)]));
        Ok(self.peer().schedule(asks).await?.into_inner().message().await?.unwrap_or_default())
    }

    async fn election(&self, sender: Option<Identity>) -> Result<proto::ElectionResponse, Status> {
        let question = ElectionRequest { candidate_id: 9, sender };
        Ok(self.worker().election(self.with(question)).await?.into_inner())
    }

    async fn victory(
        &self,
        sender: Option<Identity>,
        claim: Option<Claim>,
    ) -> Result<proto::VictoryResponse, Status> {
        Ok(self.worker().victory(self.with(victory(sender, claim))).await?.into_inner())
    }

    async fn heartbeat(&self, heartbeat: HeartbeatRequest) -> Result<proto::HeartbeatResponse, Status> {
        Ok(self.worker().heartbeat(self.with(heartbeat)).await?.into_inner())
    }

    async fn hand_over(&self, offer: HandOverRequest) -> Result<bool, Status> {
        Ok(self.peer().hand_over(self.with(offer)).await?.into_inner().accepted)
    }

    async fn transfer(&self, to: &str) -> Result<proto::Leader, Status> {
        let transfer = TransferRequest { to: to.to_owned() };
        Ok(self.peer().transfer(self.with(transfer)).await?.into_inner().leader.unwrap())
    }

    /// Tries one as a node that nobody knows, with the highest id and ballot.
    async fn make(&self, call: Call) -> Result<(), Status> {
        let (me, lead) = (Some(stranger()), Some(claim(1000, 9)));
        let checks = || SchedulerClient::new(self.channel.clone());
        match call {
            Call::Work => self.work(me).await.map(drop),
            Call::Schedule => self.schedule(me).await.map(drop),
            Call::WorkBatch => self.peer().work_batch(self.with(batch())).await.map(drop),
            Call::ScheduleBatch => self.peer().schedule_batch(self.with(batch())).await.map(drop),
            Call::RecentResults => {
                let request = self.with(RecentResultsRequest { limit: 10, bytes_max: 1000 });
                self.peer().recent_results(request).await.map(drop)
            }
            Call::HandOver => self.hand_over(hand_over(me, 1000, 9)).await.map(drop),
            Call::Transfer => self.transfer("worker1").await.map(drop),
            Call::Election => self.election(me).await.map(drop),
            Call::Victory => self.victory(me, lead).await.map(drop),
            Call::Heartbeat => self.heartbeat(heartbeat(me, None)).await.map(drop),
            Call::LeadersHeartbeat => self.heartbeat(heartbeat(me, lead)).await.map(drop),
            Call::NamelessHeartbeat => self.heartbeat(heartbeat(None, lead)).await.map(drop),
            Call::ListOfMembers => {
                let members = vec![proto::Member::default()];
                self.heartbeat(HeartbeatRequest { members, ..heartbeat(None, None) }).await.map(drop)
            }
            Call::ForwardedHeartbeat => {
                self.worker().heartbeat(forwarded(self.with(heartbeat(None, None)))).await.map(drop)
            }
            Call::ForwardedCheck => checks().check_prime(forwarded(self.with(seventeen()))).await.map(drop),
            Call::ForwardedChecks => {
                let numbers = stream::iter([seventeen()]);
                checks().check_primes(forwarded(self.with(numbers))).await.map(drop)
            }
            Call::ForwardedWork => {
                self.worker().process_prime(forwarded(self.with(seventeen()))).await.map(drop)
            }
        }
    }
}

/// Who a node is, in its life: told to a peer that only works.
async fn identity_of(node: &TestNode) -> Identity {
    let caller = Caller::of(node, &right()).await;
    caller.work(Some(named(None, OBSERVER))).await.unwrap().receiver.unwrap()
}

/// What strangers may bring: nothing, or what is nearly right.
fn wrong() -> Vec<Vec<String>> {
    let shorter = &TOKEN[..TOKEN.len() - 1];
    let texts = [
        format!("Bearer {}", "f".repeat(TOKEN.len())),
        format!("Bearer {shorter}"),
        format!("Bearer {TOKEN}0"),
        format!("Bearer  {TOKEN}"),
        format!("Bearer {shorter}g"),
        format!("Basic {TOKEN}"),
        TOKEN.to_owned(),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
        String::new(),
    ];
    let mut wrong: Vec<Vec<String>> = texts.into_iter().map(|text| vec![text]).collect();
    wrong.push(Vec::new());
    wrong.push(vec!["Bearer wrong".to_owned(), format!("Bearer {TOKEN}")]);
    wrong
}

// ── With the token ──────────────────────────────────────────────────────────────────────────────────────────────

/// Who did the work of so many checks at a node, one after the other.
async fn answered_by(node: &TestNode, number: &str, times: usize) -> BTreeSet<String> {
    let mut by = BTreeSet::new();
    for _ in 0..times {
        let answer = json(&node.url(&format!("/prime/{number}"))).await;
        assert!(answer["is_prime"].is_boolean(), "{answer}");
        by.insert(answer["processed_by"].as_str().unwrap().to_owned());
    }
    by
}

async fn led_by(nodes: &[&TestNode], name: &str) {
    for node in nodes {
        let leads = || async { node.view().await.leader.is_some_and(|leader| leader.name == name) };
        eventually(&format!("{} follows {name}", node.name), leads).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_a_token_works_like_one_without() {
    let cluster = cluster(3).await;
    let [leader, worker1, worker2, worker3] = [0, 1, 2, 3].map(|place| &cluster.nodes[place]);
    let workers = BTreeSet::from(["worker1", "worker2", "worker3"].map(str::to_owned));
    assert_eq!(answered_by(worker1, "17", 6).await, workers, "over the leader's lanes");
    assert!(answered_by(worker2, &long_number(300), 6).await.len() > 1, "beside the lanes");
    let results = json(&worker3.url("/results")).await;
    let numbers: Vec<&Value> = results["results"].as_array().unwrap().iter().map(|r| &r["number"]).collect();
    assert!(numbers.contains(&&Value::from("17")), "the leader's: {results}");

    let operator = Caller::of(worker1, &right()).await;
    assert_eq!(operator.transfer("worker2").await.unwrap().name, "worker2", "asked of a follower");
    led_by(&[leader, worker1, worker2, worker3], "worker2").await;
    assert!(answered_by(worker1, "17", 6).await.len() > 1);

    worker2.task.abort();
    led_by(&[leader, worker1, worker3], "leader").await;
    eventually("a follower's checks are spread", || async {
        answered_by(worker1, "17", 6).await == BTreeSet::from(["worker1", "worker3"].map(str::to_owned))
    })
    .await;
    for node in [leader, worker1, worker3] {
        assert_eq!(metric(node, STRANGERS).await, 0, "{}", node.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_gives_its_token_to_all_nodes_and_shows_it_nowhere() {
    let mut up = command(&["up", "-n", "2", "--grpc-port", "0", "--http-port", "0"]);
    let mut up = Running::start(up.env("PRIMACY_TOKEN", TOKEN).env("PRIMACY_LOG", "trace"));
    up.out.has("Ctrl-C stops them all.").await;
    let nodes = children(up.pid());
    assert_eq!(nodes.len(), 3);
    let out = up.out.text();
    let row = out.lines().find(|line| line.trim_start().starts_with("worker1 ")).unwrap();
    let columns: Vec<&str> = row.split_whitespace().collect();
    let (worker, pid): (SocketAddr, i32) = (columns[3].parse().unwrap(), columns[2].parse().unwrap());
    assert!(check(worker, 17).await.unwrap().is_prime);
    let stranger = PeerClient::new(channel(worker).await.unwrap()).transfer(TransferRequest::default()).await;
    assert_eq!(stranger.unwrap_err().code(), Code::Unauthenticated);
    send_signal(pid, Signal::KILL);
    up.out.has("To bring it back, in another terminal with the same PRIMACY_TOKEN:").await;
    send_signal(up.pid(), Signal::TERM);
    assert_eq!(up.ends_within(STOPS_WITHIN).await, Some(0));
    for (what, text) in [("output", up.out.text()), ("log", up.err.text())] {
        assert!(!text.contains(TOKEN), "the {what} has the token");
    }
    assert!(nodes.iter().all(|(_, command)| !command.contains(TOKEN)));
}

// ── Strangers ───────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_whatever_it_calls_and_changes_nothing() {
    let cluster = cluster(2).await;
    let before = standings(&cluster).await;
    for node in &cluster.nodes {
        let completed = metric(node, "primacy_checks_completed").await;
        let mut refused = 0;
        for authorizations in wrong() {
            let stranger = Caller::of(node, &authorizations).await;
            for call in CALLS {
                let error =
                    stranger.make(call).await.expect_err(&format!("{call:?} with {authorizations:?}"));
                assert_eq!(error.code(), Code::Unauthenticated, "{call:?} with {authorizations:?}: {error}");
                assert!(error.message().contains("PRIMACY_TOKEN must be the same"), "{error}");
                assert!(!error.message().contains(TOKEN));
                refused += 1;
            }
        }
        assert_eq!(metric(node, STRANGERS).await, refused, "each is counted");
        assert_eq!(metric(node, "primacy_checks_completed").await, completed, "no work was done");
    }
    // What had been believed would show by now.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(standings(&cluster).await, before);
    assert_eq!(metric(cluster.leader(), "primacy_members").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_calls_are_taken_with_the_token_and_where_there_is_none() {
    let guarded = TestNode::alone(&["--id", "1", "--token", TOKEN]).await;
    let open = TestNode::alone(&["--id", "1"]).await;
    for (node, authorizations) in [(&guarded, right()), (&open, Vec::new())] {
        let peer = Caller::of(node, &authorizations).await;
        for call in CALLS {
            let code = peer.make(call).await.map_or_else(|error| error.code(), |()| Code::Ok);
            assert_ne!(code, Code::Unauthenticated, "{call:?}");
        }
        let members = node.view().await.members;
        assert!(members.iter().any(|member| member.name == "stranger"), "it has joined");
        assert_eq!(metric(node, STRANGERS).await, 0);
    }
    // Who brings a token does not believe those who have none, and is not answered by them either.
    let elsewhere = Caller::of(&open, &right()).await;
    for call in CALLS {
        assert_eq!(elsewhere.make(call).await.unwrap_err().code(), Code::Unauthenticated, "{call:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_seed_is_always_answered_and_changes_nothing() {
    let cluster = cluster(2).await;
    let before = standings(&cluster).await;
    for node in &cluster.nodes {
        for authorizations in [Vec::new(), vec!["Bearer wrong".to_owned()], right()] {
            let client = Caller::of(node, &authorizations).await;
            let answer = client.worker().process_prime(client.with(seventeen())).await.unwrap().into_inner();
            assert!(answer.is_prime && answer.processed_by == node.name);
            let plain = heartbeat(None, None);
            let answer = client.heartbeat(plain).await.unwrap();
            assert!(answer.alive && answer.verdict.is_none());
            let mut checks = SchedulerClient::new(client.channel.clone());
            assert!(checks.check_prime(client.with(seventeen())).await.unwrap().into_inner().is_prime);
        }
        assert_eq!(metric(node, STRANGERS).await, 0);
    }
    assert_eq!(standings(&cluster).await, before);
}

/// A node in a process, in an environment that gives it these.
fn start(id: u32, grpc: SocketAddr, http: SocketAddr, environment: &[(&str, &str)]) -> Running {
    let mut node = command(&["node", "--grpc-addr", &grpc.to_string(), "--http-addr", &http.to_string()]);
    node.env("PRIMACY_ID", id.to_string());
    Running::start(node.envs(environment.iter().copied()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_strangers_is_counted_and_does_not_flood_the_log() {
    let (grpc, http) = (free_address(), free_address());
    let node = start(1, grpc, http, &[("PRIMACY_TOKEN", TOKEN)]);
    let url = format!("http://{http}/livez");
    eventually("it serves", || async { reqwest::get(&url).await.is_ok() }).await;
    let started = Instant::now();
    let channel = channel(grpc).await.unwrap();
    let mut odd = Grpc::new(channel.clone());
    odd.ready().await.unwrap();
    let path: PathAndQuery = format!("/scheduler.Peer/{}", "x".repeat(4000)).parse().unwrap();
    let codec = ProstCodec::<TransferRequest, TransferRequest>::default();
    let refused = odd.unary(Request::new(TransferRequest::default()), path, codec).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);

    let stranger = Caller { channel, authorizations: vec!["Bearer wrong".to_owned()] };
    let calls = stream::iter(0..999).map(|_| stranger.make(Call::Victory)).buffer_unordered(64);
    let refusals = calls.filter(|made| std::future::ready(made.is_err())).count().await;
    assert_eq!(refusals, 999);
    let metrics = reqwest::get(format!("http://{http}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("\nprimacy_strangers_total 1000\n"), "{metrics}");
    node.err.has("strangers refused: 1 since the last such line").await;
    let log = node.err.text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("strangers")).collect();
    assert!(lines.len() as u64 <= 1 + started.elapsed().as_secs() / 10, "{log}");
    assert!(lines[0].contains(" /scheduler.Peer/xxx") && lines[0].contains(" from 127.0.0.1:"), "{log}");
    assert!(lines[0].len() < 400, "a stranger's words are not repeated in full: {log}");
    assert!(!log.contains(TOKEN));
}

/// The node with the highest id has another token than the others, or none: they do not know each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_token_is_left_out_and_its_log_says_why() {
    for token in [Some("another"), None] {
        let [grpc1, grpc2, grpc3] = [(); 3].map(|()| free_address());
        let [http1, http2, http3] = [(); 3].map(|()| free_address());
        let peers = format!("1={grpc1},2={grpc2},3={grpc3}");
        let good = [("PRIMACY_PEERS", &*peers), ("PRIMACY_TOKEN", TOKEN)];
        let bad: Vec<(&str, &str)> =
            [Some(("PRIMACY_PEERS", &*peers)), token.map(|token| ("PRIMACY_TOKEN", token))]
                .into_iter()
                .flatten()
                .collect();
        let odd_one = start(3, grpc3, http3, &bad);
        let others = [start(1, grpc1, http1, &good), start(2, grpc2, http2, &good)];
        let why = |at: SocketAddr| {
            format!(
                "no lane to {at}: it refuses this node as a stranger: PRIMACY_TOKEN is not the same there"
            )
        };
        odd_one.err.has(&why(grpc2)).await;
        for other in &others {
            other.err.has(&why(grpc3)).await;
            other.err.has("if that is a node of this cluster, give it the same PRIMACY_TOKEN").await;
        }
        for grpc in [grpc1, grpc2] {
            eventually("the others are led by the highest of them", || async {
                view(grpc).await.is_ok_and(|view| view.leader.is_some_and(|leader| leader.id == 2))
            })
            .await;
        }
        eventually("the odd one leads itself", || async {
            view(grpc3).await.is_ok_and(|view| view.leader.is_some_and(|leader| leader.id == 3))
        })
        .await;
        eventually("the reason is shown", || async {
            let cluster = json(&format!("http://{http2}/cluster")).await;
            let recent = cluster["recent"].to_string();
            recent.contains("it was unreachable for ten heartbeats: it refuses this node as a stranger")
        })
        .await;
        for (grpc, by) in [(grpc1, "worker1"), (grpc2, "worker1"), (grpc3, "worker3")] {
            assert_eq!(check(grpc, 17).await.unwrap().processed_by, by);
        }
        for (grpc, leader) in [(grpc1, 2), (grpc2, 2), (grpc3, 3)] {
            assert_eq!(view(grpc).await.unwrap().leader.unwrap().id, leader, "nobody is moved");
        }
    }
}

// ── Bad peers ───────────────────────────────────────────────────────────────────────────────────────────────────

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let error = answer.expect_err(words);
    assert_eq!(error.code(), code, "{words}: {error}");
    assert!(error.message().contains(words), "{error}");
}

fn invalid<T: std::fmt::Debug>(answer: Result<T, Status>, words: &str) {
    refused(answer, Code::InvalidArgument, words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_speaks_nonsense_is_told_what_is_wrong_and_changes_nothing() {
    let cluster = cluster(2).await;
    let before = standings(&cluster).await;
    for node in &cluster.nodes {
        let peer = Caller::of(node, &right()).await;
        let me = || Some(stranger());
        let claims = async |claim: Claim, words: &str| {
            invalid(peer.victory(me(), Some(claim.clone())).await, words);
            invalid(peer.heartbeat(heartbeat(me(), Some(claim.clone()))).await, words);
            let Claim { ballot, succeeds, reason, .. } = claim;
            let offer = HandOverRequest { sender: me(), ballot, succeeds, reason, transferred: false };
            invalid(peer.hand_over(offer).await, words);
        };
        claims(claim(1000, 3), "own leadership").await;
        for (counter, id) in [(1 << 63, 9), (u64::MAX, 9), ((1 << 53) + 1, 9), (0, 9), (1000, 0), (1000, -9)]
        {
            claims(claim(counter, id), "a counter from 1 to 2^53 and an id from 1 to 2147483647").await;
        }
        claims(Claim { ballot: None, ..claim(1, 9) }, "has a ballot").await;
        let succeeds = vec![Ballot { counter: 1, id: 3 }; 10_000];
        claims(Claim { succeeds, ..claim(1000, 9) }, "at most 16 leaderships").await;
        let succeeds = vec![Ballot { counter: 1 << 63, id: 3 }];
        claims(Claim { succeeds, ..claim(1000, 9) }, "a counter from 1 to 2^53").await;
        // It would end all elections: nobody could claim above it.
        claims(claim(1 << 53, 9), "so far above all others").await;

        invalid(peer.work(None).await, "`sender`");
        invalid(peer.schedule(None).await, "`sender`");
        invalid(peer.election(None).await, "`sender`");
        invalid(peer.victory(None, Some(claim(1000, 9))).await, "`sender`");
        invalid(peer.hand_over(hand_over(None, 1000, 9)).await, "`sender`");
        invalid(peer.heartbeat(heartbeat(None, Some(claim(1000, 9)))).await, "`sender`");
        invalid(peer.victory(me(), None).await, "`claim`");
        let text = "a node's name has 1 to 64 letters, digits, dots, dashes and underscores";
        for (name, id, words) in [
            ("", Some(9), text),
            ("a\nb", Some(9), text),
            (&*"x".repeat(257), Some(9), text),
            ("stranger", Some(0), "an id is a whole number from 1"),
            ("stranger", Some(-9), "an id is a whole number from 1"),
        ] {
            let sender = || Some(named(id, name));
            invalid(peer.work(sender()).await, words);
            invalid(peer.election(sender()).await, words);
            invalid(peer.heartbeat(heartbeat(sender(), None)).await, words);
            invalid(peer.victory(sender(), Some(claim(1000, 9))).await, words);
            invalid(peer.hand_over(hand_over(sender(), 1000, 9)).await, words);
        }
        assert_eq!(metric(node, STRANGERS).await, 0);
    }
    assert_eq!(standings(&cluster).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_the_id_of_another_is_told_where_that_one_is() {
    let cluster = cluster(2).await;
    let before = standings(&cluster).await;
    for node in &cluster.nodes {
        let peer = Caller::of(node, &right()).await;
        for twin in &cluster.nodes {
            let id = if twin.name == "leader" { 3 } else { twin.name["worker".len()..].parse().unwrap() };
            let sender = || Some(named(Some(id), "twin"));
            let answer = peer.election(sender()).await.unwrap();
            assert_eq!((answer.answer(), answer.ok), (proto::Answer::Taken, false));
            assert_eq!(answer.taken_by, twin.grpc.to_string());
            let words = format!("another node with its id is alive at {}", twin.grpc);
            let taken = |answer: Result<(), Status>| refused(answer, Code::AlreadyExists, &words);
            taken(peer.work(sender()).await.map(drop));
            taken(peer.schedule(sender()).await.map(drop));
            taken(peer.heartbeat(heartbeat(sender(), None)).await.map(drop));
            taken(peer.heartbeat(heartbeat(sender(), Some(claim(1000, id)))).await.map(drop));
            taken(peer.victory(sender(), Some(claim(1000, id))).await.map(drop));
            taken(peer.hand_over(hand_over(sender(), 1000, id)).await.map(drop));
        }
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(standings(&cluster).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_victory_or_hand_over_that_is_said_again_does_nothing() {
    let cluster = cluster(3).await;
    let nodes: Vec<&TestNode> = cluster.nodes.iter().collect();
    let old_leader = identity_of(cluster.leader()).await;
    let counter = cluster.leader().view().await.leader.unwrap().counter;
    let operator = Caller::of(cluster.leader(), &right()).await;
    operator.transfer("worker3").await.unwrap();
    led_by(&nodes, "worker3").await;
    // The identity of the old leader is known to all by now.
    let before = standings(&cluster).await;
    let new_counter = before[1].leader.as_ref().unwrap().2;
    assert!(new_counter > counter);

    let (sender, old) = (|| Some(old_leader.clone()), || Some(claim(counter, 4)));
    for node in &nodes[1..] {
        let peer = Caller::of(node, &right()).await;
        let answer = peer.victory(sender(), old()).await.unwrap();
        assert!(!answer.acknowledged);
        let again = peer.heartbeat(heartbeat(sender(), old())).await.unwrap();
        for verdict in [answer.verdict.unwrap(), again.verdict.unwrap()] {
            assert_eq!(verdict.kind(), VerdictKind::Hears);
            assert_eq!(verdict.ballot, Some(Ballot { counter: new_counter, id: 3 }));
        }
        let accepted = peer.hand_over(hand_over(sender(), counter, 4)).await.unwrap();
        assert_eq!(accepted, node.name == "worker3", "who has taken over says so again");
    }
    let itself = Caller::of(nodes[0], &right()).await;
    invalid(itself.victory(sender(), old()).await, "listed already");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(standings(&cluster).await, before);
}

// ── The command line ────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_others_could_reach_does_not_start_without_a_token() {
    let by_flag = |address: &str| command(&["node", "--grpc-addr", address]);
    let mut as_the_seed = command(&["node"]);
    as_the_seed.env("WORKER_ID", "worker1").env("PORT", "50052");
    let mut by_environment = command(&["node"]);
    by_environment.env("PRIMACY_GRPC_ADDR", "192.0.2.1:1").env("PRIMACY_INSECURE", "false");
    for (mut node, address) in [
        (by_flag("0.0.0.0:0"), "0.0.0.0:0"),
        (by_flag("[::]:0"), "[::]:0"),
        (as_the_seed, "0.0.0.0:50052"),
        (by_environment, "192.0.2.1:1"),
    ] {
        let ran = run_command(&mut node, "").await;
        assert_eq!((ran.code, &*ran.out), (Some(2), ""), "{ran:?}");
        let what = "primacy: without a token this node may listen for gRPC on loopback only, and ";
        assert!(ran.err.starts_with(&format!("{what}{address} is not loopback")), "{ran:?}");
        for way_out in ["PRIMACY_TOKEN", "`openssl rand -hex 16`", "127.0.0.1", "--insecure"] {
            assert!(ran.err.contains(way_out), "{ran:?}");
        }
        assert_eq!(ran.err.lines().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_token_is_refused_and_not_repeated() {
    let long = "Sesame".repeat(43);
    for (token, says) in [
        ("", "the token is empty; to have none, unset PRIMACY_TOKEN, else set it to 1 to 256 visible ASCII"),
        ("open Sesame", "the token has a blank, or a character that is not ASCII; it takes 1 to 256"),
        ("Sesame\n", "the token has a blank"),
        ("Sésame", "the token has a blank, or a character that is not ASCII"),
        (&*long, "a token of 258 characters is too long; it takes 1 to 256"),
    ] {
        for told_by in ["--token", "PRIMACY_TOKEN"] {
            let mut node = match told_by {
                "--token" => command(&["node", told_by, token]),
                // An empty variable is as unset.
                _ if token.is_empty() => continue,
                _ => command(&["node"]),
            };
            if told_by == "PRIMACY_TOKEN" {
                node.env(told_by, token);
            }
            let ran = run_command(&mut node, "").await;
            assert_eq!((ran.code, &*ran.out), (Some(2), ""), "{ran:?}");
            assert!(ran.err.starts_with(&format!("primacy: {told_by}: {says}")), "{ran:?}");
            assert!(ran.err.contains("`openssl rand -hex 16`") && !ran.err.contains("same"), "{ran:?}");
        }
    }
    let help = run_command(command(&["node", "--help"]).env("PRIMACY_TOKEN", TOKEN), "").await;
    assert!(help.out.contains("PRIMACY_TOKEN") && !help.out.contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_warns_of_what_is_open() {
    let insecure = "insecure: there is no token, so whoever reaches 0.0.0.0:0 can lead the cluster";
    let trial = "the token is the trial value `trial`, which everybody knows";
    for (arguments, token, warning) in [
        (&["--grpc-addr", "0.0.0.0:0", "--insecure"][..], None, Some(insecure)),
        (&["--grpc-addr", "0.0.0.0:0"], Some("trial"), Some(trial)),
        (&["--grpc-addr", "127.0.0.1:0"], Some("trial"), Some(trial)),
        (&["--grpc-addr", "0.0.0.0:0"], Some(TOKEN), None),
        (&["--grpc-addr", "127.0.0.1:0"], None, None),
    ] {
        let mut node = command(&[&["node", "--id", "1", "--http-addr", "127.0.0.1:0"], arguments].concat());
        if let Some(token) = token {
            node.env("PRIMACY_TOKEN", token);
        }
        let node = Running::start(&mut node);
        node.err.has("leads (the first election)").await;
        let log = node.err.text();
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
        assert_eq!(warnings.len(), usize::from(warning.is_some()), "{log}");
        assert!(warning.is_none_or(|warning| warnings[0].contains(warning)), "{log}");
        assert!(warnings.iter().all(|line| line.contains("PRIMACY_TOKEN")), "it says what to do: {log}");
    }
}
