//! 65 processes that share this machine's cores: what each does while it has no leader, all do at once.

use std::time::{Duration, Instant};

use primacy::limits::HEARTBEAT_DEFAULT;
use tokio::time::sleep;

use crate::harness::{Process, Processes, all_alive, check, eventually, within};

const WORKERS: u32 = 64;

/// What the design promises on two cores.
const PROMISED: Duration = Duration::from_secs(10);

/// Whom a node follows, by its log: who asked 65 nodes again and again would keep them from it.
fn leader_of(node: &Process) -> Option<String> {
    let log = node.log();
    let last = log.lines().rev().find(|line| line.contains(" leads (") || line.contains(" is lost ("))?;
    let (words, _) = last.split_once(" leads (")?;
    words.split_whitespace().last().map(str::to_owned)
}

/// The leader that all of these follow, if they do within the promised time.
async fn all_follow_one(nodes: &[Process], since: Instant, what: &str, other_than: Option<&str>) -> String {
    within(PROMISED.saturating_sub(since.elapsed()), what, || async {
        sleep(HEARTBEAT_DEFAULT).await;
        let leader = leader_of(&nodes[0]);
        let is_one = nodes.iter().all(|node| leader_of(node) == leader);
        leader.is_some() && leader.as_deref() != other_than && is_one
    })
    .await;
    eprintln!("{what}: {:?}", since.elapsed());
    leader_of(&nodes[0]).unwrap()
}

async fn all_ready(nodes: &[Process]) {
    for node in nodes {
        all_alive(node.grpc, nodes.len()).await;
        eventually(&format!("{} is ready", node.name), || async {
            reqwest::get(node.url("/readyz")).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "65 processes: it needs the machine for itself"]
async fn many_nodes_that_start_at_once_have_a_leader() {
    let started = Instant::now();
    let mut cluster = Processes::begin(WORKERS);
    let leader = all_follow_one(&cluster.nodes, started, "65 nodes start at once", None).await;
    all_ready(&cluster.nodes).await;

    let place = cluster.nodes.iter().position(|node| node.name == leader).unwrap();
    let mut struck = cluster.nodes.remove(place);
    let killed = Instant::now();
    struck.kill();
    all_follow_one(&cluster.nodes, killed, "their leader is killed", Some(&leader)).await;
    struck.restart();
    cluster.nodes.push(struck);
    // It knows one of them.
    let known = cluster.nodes[7].grpc.to_string();
    cluster.nodes.push(Process::start_with(None, "joiner", &["--peers", &known]));
    all_ready(&cluster.nodes).await;
    assert!(check(cluster.nodes[9].grpc, 17).await.unwrap().is_prime);
}
