//! Nodes that join by knowing any one peer, nodes that are copies of others, and the leadership that moves.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use primacy::{
    Node,
    proto::{
        ClusterView, MemberStatus, PrimeRequest, TransferRequest, peer_client::PeerClient,
        scheduler_client::SchedulerClient,
    },
};
use primacy_election::PeerAddress;
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tonic::Code;

use crate::harness::{
    Process, Processes, Running, SOON, TestCluster, TestNode, all_alive, channel, check, command, config,
    eventually, free_address, status_of, view,
};

fn leader(view: &ClusterView) -> &str {
    view.leader.as_ref().map_or("", |leader| &leader.name)
}

async fn follows(grpc: SocketAddr, name: &str) {
    let seen = || async { view(grpc).await.is_ok_and(|view| leader(&view) == name) };
    eventually(&format!("{grpc} follows {name}"), seen).await;
}

async fn joins(peer: SocketAddr, arguments: &[&str]) -> TestNode {
    let peer = peer.to_string();
    let node = Node::bind(config(&[arguments, &["--peers", &peer]].concat())).await.unwrap();
    TestNode::start(arguments[1].to_owned(), node)
}

async fn transfer(node: SocketAddr, to: &str) -> Result<String, tonic::Status> {
    let request = TransferRequest { to: to.to_owned() };
    let answer = PeerClient::new(channel(node).await?).transfer(request).await?;
    Ok(answer.into_inner().leader.unwrap().name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_join_by_any_one_peer_and_work() {
    let cluster = TestCluster::start(2).await;
    let first = joins(cluster.worker(1).grpc, &["--name", "replica1"]).await;
    // Who knows only a replica is led to the leader too.
    let second = joins(first.grpc, &["--name", "replica2"]).await;
    for node in cluster.nodes.iter().chain([&first, &second]) {
        all_alive(node.grpc, 5).await;
        let view = node.view().await;
        assert_eq!(leader(&view), "leader");
        let replica = view.members.iter().find(|member| member.name == "replica2").unwrap();
        assert_eq!(replica.id, None, "it only works");
    }
    let mut by = Vec::new();
    for number in 0..8 {
        by.push(second.check(number).await.processed_by);
    }
    by.sort();
    by.dedup();
    assert_eq!(by, ["replica1", "replica2", "worker1", "worker2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_never_lead_and_follow_the_next_leader() {
    let cluster = TestCluster::start(1).await;
    let replicas = [
        joins(cluster.worker(1).grpc, &["--name", "replica1"]).await,
        joins(cluster.leader().grpc, &["--name", "replica2"]).await,
    ];
    for node in cluster.nodes.iter().chain(&replicas) {
        all_alive(node.grpc, 4).await;
    }
    cluster.leader().stop.cancel();
    for node in [cluster.worker(1), &replicas[0], &replicas[1]] {
        follows(node.grpc, "worker1").await;
    }
    cluster.worker(1).stop.cancel();
    for replica in &replicas {
        eventually("nobody leads", || async { replica.view().await.leader.is_none() }).await;
        let by = replica.check(17).await.processed_by;
        assert!(by.starts_with("replica"), "{by}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_id_that_joins_leads_when_it_has_been_healthy_for_ten_seconds() {
    let cluster = TestCluster::start(2).await;
    let joiner = joins(cluster.worker(2).grpc, &["--name", "joiner", "--id", "9"]).await;
    all_alive(joiner.grpc, 4).await;
    assert_eq!(leader(&joiner.view().await), "leader", "not at once");
    for node in cluster.nodes.iter().chain([&joiner]) {
        follows(node.grpc, "joiner").await;
        let view = node.view().await;
        let change = view.recent.iter().find(|change| change.change == "leader").unwrap();
        assert_eq!(
            (&*change.name, &*change.reason),
            ("joiner", "took over from leader: the highest id leads")
        );
    }
    let counter = joiner.view().await.leader.unwrap().counter;
    assert_eq!(counter, 2, "nobody claimed in between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_moves_the_leadership_and_it_stays() {
    let cluster = TestCluster::start(3).await;
    assert_eq!(transfer(cluster.worker(2).grpc, "worker1").await.unwrap(), "worker1", "asked of a follower");
    for node in &cluster.nodes {
        follows(node.grpc, "worker1").await;
        all_alive(node.grpc, 4).await;
    }
    for (to, code) in [("worker1", Code::FailedPrecondition), ("nobody", Code::NotFound)] {
        assert_eq!(transfer(cluster.leader().grpc, to).await.unwrap_err().code(), code, "{to}");
    }
    let counter = cluster.worker(1).view().await.leader.unwrap().counter;
    // The highest id would lead again after ten seconds, were it not for the operator.
    let healthy = primacy_election::timing::HEALTHY + std::time::Duration::from_secs(2);
    tokio::time::sleep(healthy).await;
    for node in &cluster.nodes {
        let leader = node.view().await.leader.unwrap();
        assert_eq!((&*leader.name, leader.counter), ("worker1", counter));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_gone_or_only_works_does_not_lead() {
    let cluster = TestCluster::start(2).await;
    let replica = joins(cluster.leader().grpc, &["--name", "replica"]).await;
    all_alive(replica.grpc, 4).await;
    let refused = transfer(cluster.leader().grpc, "replica").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("has no id"), "{refused}");
    cluster.worker(1).stop.cancel();
    eventually("worker1 is stopped", || async {
        status_of(&cluster.leader().view().await, "worker1") == MemberStatus::Stopped
    })
    .await;
    let refused = transfer(replica.grpc, "worker1").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "worker1 is stopped; choose a member that is alive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_worker_is_a_full_leader() {
    let mut cluster = Processes::start(3).await;
    cluster.nodes[0].kill();
    for node in &cluster.nodes[1..] {
        follows(node.grpc, "worker3").await;
    }
    let leads = &cluster.nodes[3];
    let page = reqwest::get(leads.url("/")).await.unwrap();
    assert!(page.status().is_success() && page.text().await.unwrap().contains("<title>Primacy"));
    assert!(reqwest::get(leads.url("/docs/")).await.unwrap().status().is_success());
    eventually("it schedules over the others", || async {
        let answer = reqwest::get(leads.url("/prime/17")).await.unwrap().text().await.unwrap();
        answer.contains("worker1") || answer.contains("worker2")
    })
    .await;
    // A follower may do a check itself until its lane to the new leader is open.
    eventually("what followers are asked is among its results", || async {
        let asked = reqwest::get(cluster.nodes[1].url("/prime/19")).await.unwrap();
        assert!(asked.status().is_success());
        reqwest::get(leads.url("/results")).await.unwrap().text().await.unwrap().contains("\"19\"")
    })
    .await;
}

/// The members of this name as the node shows them.
async fn named(grpc: SocketAddr, name: &str) -> Vec<(String, MemberStatus)> {
    let members = view(grpc).await.map(|view| view.members).unwrap_or_default();
    let named = members.into_iter().filter(|member| member.name == name);
    named.map(|member| (member.grpc_addr.clone(), member.status())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_returns_at_another_address_works_there_and_leaves_no_ghost() {
    let cluster = Processes::start(1).await;
    let peers = cluster.nodes[0].grpc.to_string();
    let mut before = Process::start_with(None, "replica", &["--peers", &peers]);
    for _ in 0..2 {
        let others = [cluster.nodes[0].grpc, cluster.nodes[1].grpc];
        eventually("it is there", || async { named(others[0], "replica").await.len() == 1 }).await;
        before.kill();
        let after = Process::start_with(None, "replica", &["--peers", &peers]);
        let there = [(after.grpc.to_string(), MemberStatus::Alive)];
        for observer in others.iter().chain([&after.grpc]) {
            let seen = || async { named(*observer, "replica").await == there };
            eventually(&format!("{observer} shows it at {} alone", after.grpc), seen).await;
        }
        let works = || async { check(others[0], 17).await.unwrap().processed_by == "replica" };
        eventually("it is given work", works).await;
        before = after;
    }
}

/// The same for a node that the others have by its id in their configuration: they dial it where it is, and where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_id_that_returns_at_another_address_works_there_and_may_come_back() {
    let mut cluster = Processes::start(2).await;
    let [leader, other] = [0, 2].map(|place| cluster.nodes[place].grpc);
    let peers = format!("3={leader},2={other}");
    for round in 1..=2 {
        cluster.nodes[1].kill();
        is_seen_dead(&[leader, other]).await;
        let mut moved = Process::start_with(Some(1), "worker1", &["--peers", &peers]);
        works_alone_at(moved.grpc, &[leader, other, moved.grpc], &format!("moved, {round}")).await;
        moved.kill();
        is_seen_dead(&[leader, other]).await;
        cluster.nodes[1].restart();
        let home = cluster.nodes[1].grpc;
        works_alone_at(home, &[leader, other, home], &format!("at home again, {round}")).await;
    }
}

/// While it is alive for them, whoever has its id elsewhere is another node.
async fn is_seen_dead(observers: &[SocketAddr]) {
    for observer in observers {
        let seen = || async {
            named(*observer, "worker1").await.iter().all(|(_, status)| *status == MemberStatus::Dead)
        };
        eventually(&format!("{observer} shows it dead"), seen).await;
    }
}

/// Every observer shows worker1 at this address alone, and the first one gives it work.
async fn works_alone_at(address: SocketAddr, observers: &[SocketAddr], what: &str) {
    let there = [(address.to_string(), MemberStatus::Alive)];
    for observer in observers {
        let seen = || async { named(*observer, "worker1").await == there };
        eventually(&format!("{what}: {observer} shows it at {address} alone"), seen).await;
    }
    let works = || async { check(observers[0], 17).await.unwrap().processed_by == "worker1" };
    eventually(&format!("{what}: it is given work"), works).await;
}

fn copy_of(original: &Process, name: &str, peers: &str) -> Running {
    let (id, grpc, http) = ("1", free_address().to_string(), free_address().to_string());
    let arguments =
        ["node", "--id", id, "--name", name, "--grpc-addr", &grpc, "--http-addr", &http, "--peers", peers];
    assert_ne!(original.grpc.to_string(), grpc);
    Running::start(&mut command(&arguments))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_id_goes_and_names_both_addresses() {
    let cluster = Processes::start(2).await;
    let peers = format!("3={},2={}", cluster.nodes[0].grpc, cluster.nodes[2].grpc);
    let mut copy = copy_of(&cluster.nodes[1], "copy", &peers);
    assert_eq!(copy.ends_within(SOON).await, Some(1));
    let said = copy.err.text();
    assert!(said.contains(&format!("the node at {} has the id 1 too", cluster.nodes[1].grpc)), "{said}");
    assert!(said.contains("give one of them another --id"), "{said}");
    for node in &cluster.nodes {
        all_alive(node.grpc, 3).await;
        assert_eq!(leader(&view(node.grpc).await.unwrap()), "leader");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_suspended_for_long_does_not_lead_when_it_wakes_up() {
    let cluster = Processes::start(3).await;
    cluster.nodes[0].signal(Signal::STOP);
    for node in &cluster.nodes[1..] {
        follows(node.grpc, "worker3").await;
    }
    cluster.nodes[0].signal(Signal::CONT);
    for node in &cluster.nodes {
        follows(node.grpc, "worker3").await;
        all_alive(node.grpc, 4).await;
    }
    let recent = view(cluster.nodes[0].grpc).await.unwrap().recent;
    let led = recent.iter().find(|change| change.change == "leader").unwrap();
    assert_eq!(led.name, "worker3", "{recent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_listed_by_other_names_than_their_own_appear_once() {
    let mut bound = Vec::new();
    for id in 1..=3 {
        let id = id.to_string();
        bound.push(Node::bind(config(&["--id", &id, "--name", &format!("node{id}")])).await.unwrap());
    }
    // They say that they are at 127.0.0.1, and are looked for at localhost, without their ids.
    let port = |node: &Node| node.grpc_addr().unwrap().port();
    let peers: Vec<PeerAddress> = bound
        .iter()
        .map(|node| PeerAddress { id: None, grpc_addr: format!("localhost:{}", port(node)).into() })
        .collect();
    let start = |node: Node| TestNode::start("node".to_owned(), node.with_peers(peers.clone()));
    let nodes: Vec<TestNode> = bound.into_iter().map(start).collect();
    for node in &nodes {
        all_alive(node.grpc, 3).await;
        follows(node.grpc, "node3").await;
        eventually("each is listed once, with its id", || async {
            let members = node.view().await.members;
            members.len() == 3 && members.iter().all(|member| member.id.is_some())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fallback_nothing_fails_while_the_leadership_moves() {
    let cluster = TestCluster::start_with(3, |config| config.fallback = false).await;
    let asked = cluster.worker(1).grpc;
    let running = Arc::new(AtomicBool::new(true));
    let mut client = SchedulerClient::new(channel(asked).await.unwrap());
    let going_on = Arc::clone(&running);
    let asking = tokio::spawn(async move {
        let mut answered = 0;
        while going_on.load(Relaxed) {
            let request = PrimeRequest { number: 17, decimal: String::new() };
            assert!(client.check_prime(request).await.unwrap().into_inner().is_prime);
            answered += 1;
        }
        answered
    });
    for _ in 0..5 {
        for to in ["worker3", "worker2", "leader"] {
            for node in &cluster.nodes {
                all_alive(node.grpc, 4).await;
            }
            eventually(&format!("{to} takes over"), || async { transfer(asked, to).await.is_ok() }).await;
        }
    }
    running.store(false, Relaxed);
    assert!(asking.await.unwrap() > 15);
}

fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since_1970.as_millis()).unwrap()
}

/// A road on which everything takes so much longer, and nothing is lost.
async fn slow_road_to(target: SocketAddr, longer: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(target).await else { continue };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            for (from, to) in [(near_in, far_out), (far_in, near_out)] {
                tokio::spawn(carry(from, to, longer));
            }
        }
    });
    address
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, longer: Duration) {
    let (arrives, mut leaves) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, bytes)) = leaves.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = [0; 16_384];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let _ = arrives.send((Instant::now() + longer, bytes[..read].to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_answers_late_is_reached_while_its_heartbeats_arrive() {
    let at = free_address();
    // Three heartbeats to and fro.
    let slow = slow_road_to(at, Duration::from_millis(150)).await;
    let low = Process::start_with(Some(1), "low", &["--peers", &format!("2={slow}"), "--no-fallback"]);
    let _high = Process::start(2, "high", at, free_address(), &format!("1={}", low.grpc));
    follows(low.grpc, "high").await;
    eventually("the leader schedules for it", || async { check(low.grpc, 17).await.is_ok() }).await;
    // A dial takes a second at most: who is not reached is lost within it, and found again by its heartbeats.
    let follows_for_long = || async {
        let since = view(low.grpc).await.ok().and_then(|view| view.leader).map(|leader| leader.since_ms);
        since.is_some_and(|since| since + 3_000 < now_ms())
    };
    eventually("low follows for three seconds", follows_for_long).await;
    assert!(!low.has_logged("is lost"), "{}", low.log());
}
