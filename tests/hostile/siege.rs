//! One attack: the attacker, the ordinary clients beside it, and what became of them and of the nodes.

use std::{
    io::{BufRead, BufReader, Read},
    net::Ipv4Addr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    attacks::{Attack, handshakes::AUTHORITY},
    certificates::client_config,
    clients::{self, Tally},
    cluster::{Changes, Cluster},
    harness::{self, Process},
};

/// Resident memory of a node, in MiB, that no attacker may take it beyond; a bench counts it.
const MEMORY_MAX: u64 = 128;
/// The same in the gate, on a machine of any speed: that of the smallest container.
const MEMORY_MAX_IN_GATE: u64 = 192;
/// The time within which 99 of 100 answers come; only a bench counts it.
const P99_MAX: Duration = Duration::from_millis(50);
/// The time within which a node that starts must find its leader, and `primacy status` must answer.
const JOIN_MAX: Duration = Duration::from_secs(5);
/// The attacker's address.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The part of an attack after which a node starts and the status is asked for.
const PROBES_AFTER: f64 = 0.3;

/// What an attack did.
pub struct Outcome {
    pub tally: Tally,
    /// Those that the attacker made: many if it was cut off often.
    pub connections: usize,
    pub memory: u64,
    pub descriptors: usize,
    pub changes: Changes,
    pub problems: Vec<String>,
}

/// A process of the attacker, and what it prints; it is killed with this.
struct Attacking {
    process: Child,
    printed: BufReader<ChildStdout>,
}

impl Attacking {
    fn start(attack: &Attack, cluster: &Cluster, time: Duration) -> Self {
        let attacked = cluster.attacked();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("attacker").arg(attack.id);
        command.args([attacked.http.to_string(), attacked.grpc.to_string(), FROM.to_string()]);
        command.arg(time.as_secs_f64().to_string());
        command.envs(cluster.authorities_file().map(|file| (AUTHORITY, file)));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut printed = BufReader::new(process.stdout.take().unwrap());
        // On a busy machine it takes a while to start, which is not to be taken for peace.
        printed.read_line(&mut String::new()).unwrap();
        Self { process, printed }
    }

    /// Tells it to end; returns how many connections it made, and nothing if it had ended by itself.
    fn end(mut self) -> Option<usize> {
        let ended = self.process.try_wait().unwrap().is_some();
        drop(self.process.stdin.take());
        let mut text = String::new();
        self.printed.read_to_string(&mut text).unwrap();
        text.trim().parse().ok().filter(|_| !ended)
    }
}

impl Drop for Attacking {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Attacks for so long, or lets so much time pass without an attack.
pub async fn besiege(cluster: &Cluster, attack: Option<&Attack>, time: Duration, bench: bool) -> Outcome {
    let mark = cluster.mark();
    cluster.forget_memory();
    let attacking = attack.map(|attack| Attacking::start(attack, cluster, time));
    let nodes = cluster.nodes().iter().map(|node| (node.name.clone(), node.http, node.grpc)).collect();
    let tls = cluster.authorities().map(|authorities| Arc::new(client_config(authorities, None)));
    let asking = tokio::spawn(clients::ask(nodes, tls, Instant::now() + time));
    let joins = attack.is_some_and(|attack| attack.joins);
    let (descriptors, status, joined) =
        tokio::join!(most_descriptors(cluster, time), status(cluster, time), guest(cluster, time, joins));
    let tally = asking.await.unwrap();
    let mut problems: Vec<String> = [status, joined].into_iter().filter_map(Result::err).collect();
    let connections = attacking.map_or(Some(0), Attacking::end);
    if connections.is_none() {
        problems.push("the attacker ended by itself".to_owned());
    }
    let (memory, whose) = cluster.memory();
    if memory > if bench { MEMORY_MAX } else { MEMORY_MAX_IN_GATE } {
        problems.push(format!("{whose} had {memory} MiB"));
    }
    problems.extend(cluster.rests().await.err());
    let changes = cluster.changes_since(&mark);
    problems.extend(judged(&tally, &changes, bench));
    Outcome { tally, connections: connections.unwrap_or_default(), memory, descriptors, changes, problems }
}

fn judged(tally: &Tally, changes: &Changes, bench: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(first) = tally.failures.first() {
        problems.push(format!("{} requests failed, first {first}", tally.failures.len()));
    }
    if let Some(first) = changes.lines.first() {
        problems.push(format!("the cluster changed, first {first}"));
    }
    if bench && tally.within(990) > P99_MAX {
        problems.push(format!("99 of 100 answers took up to {:?}", tally.within(990)));
    }
    problems
}

async fn most_descriptors(cluster: &Cluster, time: Duration) -> usize {
    let (until, mut most) = (Instant::now() + time, 0);
    while Instant::now() < until {
        most = most.max(cluster.descriptors());
        sleep(Duration::from_millis(100)).await;
    }
    most
}

/// Asks for the status as an operator does.
async fn status(cluster: &Cluster, time: Duration) -> Result<(), String> {
    sleep(time.mul_f64(PROBES_AFTER)).await;
    let endpoint = cluster.attacked().grpc.to_string();
    let mut command = harness::command(&["status", "--endpoints", &endpoint]);
    command.args(cluster.authorities_file().iter().flat_map(|file| ["--cacert", file]));
    match timeout(JOIN_MAX, command.kill_on_drop(true).output()).await {
        Err(_) => Err("primacy status does not end".to_owned()),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(format!("primacy status: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Ok(Err(error)) => Err(error.to_string()),
    }
}

/// A node that starts meanwhile finds the leader, whom it knows by the attacked address.
async fn guest(cluster: &Cluster, time: Duration, joins: bool) -> Result<(), String> {
    if !joins {
        return Ok(());
    }
    sleep(time.mul_f64(PROBES_AFTER)).await;
    let leader = cluster.attacked().grpc.to_string();
    let files = cluster.arguments();
    let arguments: Vec<&str> = files.iter().map(String::as_str).chain(["--peers", leader.as_str()]).collect();
    let guest = Process::start_with(None, "guest", &arguments);
    let follows = async {
        while !cluster.view(guest.grpc).await.is_ok_and(|view| view.leader.is_some()) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(JOIN_MAX, follows).await.map_err(|_| format!("a new node saw no leader for {JOIN_MAX:?}"))
}
