//! Clusters to test against: of nodes in this process, or of processes that can be killed.

#![allow(dead_code)]

use num_bigint::BigUint;
use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use primacy::{
    Node, NodeArgs, NodeConfig, NodeError,
    proto::{
        ClusterView, MemberStatus, PrimeRequest, PrimeResponse, WatchClusterRequest,
        scheduler_client::SchedulerClient,
    },
};
use primacy_election::PeerAddress;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// Within this every condition that a test waits for comes true, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until a condition holds; says what it was if it does not come true.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    within(SOON, what, condition).await;
}

/// The same within a time that a design promises; returns how long it took.
pub async fn within<F: Future<Output = bool>>(
    time: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Duration {
    let started = Instant::now();
    let poll = async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(time, poll).await.is_ok(), "not within {time:?}: {what}");
    started.elapsed()
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    node: NodeArgs,
}

/// The settings that these arguments of `primacy node` give; port 0 unless they say otherwise.
pub fn config(arguments: &[&str]) -> NodeConfig {
    let first = ["node", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
    let parsed = Arguments::try_parse_from(first.iter().chain(arguments)).unwrap();
    NodeConfig::new(parsed.node).unwrap()
}

/// A node in this process.
pub struct TestNode {
    pub name: String,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub stop: CancellationToken,
    pub task: JoinHandle<Result<(), NodeError>>,
}

/// A leader and workers in this process: `nodes[0]` leads, `nodes[k]` is worker k.
pub struct TestCluster {
    pub nodes: Vec<TestNode>,
}

impl TestCluster {
    pub async fn start(workers: u32) -> Self {
        Self::start_with(workers, |_| {}).await
    }

    /// A cluster in which every member is alive; each node's settings may be changed.
    pub async fn start_with(workers: u32, change: impl Fn(&mut NodeConfig)) -> Self {
        let mut bound = Vec::new();
        for place in 0..=workers {
            let (id, name) = name_of(place, workers);
            let mut config = config(&["--id", &id.to_string(), "--name", &name]);
            change(&mut config);
            bound.push((id, name, Node::bind(config).await.unwrap()));
        }
        let peers: Vec<PeerAddress> = bound
            .iter()
            .map(|(id, _, node)| PeerAddress {
                id: Some(*id),
                grpc_addr: node.grpc_addr().unwrap().to_string().into(),
            })
            .collect();
        let start =
            |(_, name, node): (u32, String, Node)| TestNode::start(name, node.with_peers(peers.clone()));
        let cluster = Self { nodes: bound.into_iter().map(start).collect() };
        for node in &cluster.nodes {
            all_alive(node.grpc, cluster.nodes.len()).await;
        }
        cluster
    }

    pub fn leader(&self) -> &TestNode {
        &self.nodes[0]
    }

    pub fn worker(&self, number: usize) -> &TestNode {
        &self.nodes[number]
    }
}

impl TestNode {
    pub fn start(name: String, node: Node) -> Self {
        let (grpc, http) = (node.grpc_addr().unwrap(), node.http_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(node.run(stopped, std::future::pending()));
        Self { name, grpc, http, stop, task }
    }

    /// A node that knows no other.
    pub async fn alone(arguments: &[&str]) -> Self {
        let node = Node::bind(config(arguments)).await.unwrap();
        Self::start("alone".to_owned(), node)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub async fn view(&self) -> ClusterView {
        view(self.grpc).await.unwrap()
    }

    pub async fn check(&self, number: i64) -> PrimeResponse {
        check(self.grpc, number).await.unwrap()
    }
}

fn name_of(place: u32, workers: u32) -> (u32, String) {
    match place {
        0 => (workers + 1, "leader".to_owned()),
        worker => (worker, format!("worker{worker}")),
    }
}

/// Waits until the node sees a leader and that many members alive.
pub async fn all_alive(grpc: SocketAddr, members: usize) {
    eventually(&format!("{grpc} sees {members} alive and a leader"), || async {
        view(grpc).await.is_ok_and(|view| view.leader.is_some() && alive(&view) == members)
    })
    .await;
}

pub fn alive(view: &ClusterView) -> usize {
    view.members.iter().filter(|member| member.status() == MemberStatus::Alive).count()
}

pub fn status_of(view: &ClusterView, name: &str) -> MemberStatus {
    view.members
        .iter()
        .find(|member| member.name == name)
        .map_or(MemberStatus::Unspecified, |member| member.status())
}

pub async fn channel(address: SocketAddr) -> Result<Channel, Status> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint
        .connect_timeout(Duration::from_secs(2))
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))
}

/// The cluster as the node sees it now.
pub async fn view(grpc: SocketAddr) -> Result<ClusterView, Status> {
    view_on(channel(grpc).await?).await
}

/// The same over a connection that is open.
pub async fn view_on(channel: Channel) -> Result<ClusterView, Status> {
    let mut client = SchedulerClient::new(channel);
    let mut views = client.watch_cluster(WatchClusterRequest {}).await?.into_inner();
    views.message().await?.ok_or_else(|| Status::unavailable("no view"))
}

pub async fn check(grpc: SocketAddr, number: i64) -> Result<PrimeResponse, Status> {
    let request = PrimeRequest { number, decimal: String::new() };
    Ok(SchedulerClient::new(channel(grpc).await?).check_prime(request).await?.into_inner())
}

/// A node in a process of its own.
pub struct Process {
    pub name: String,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    arguments: Vec<String>,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// A leader and workers, each in a process of its own: `nodes[0]` leads, `nodes[k]` is worker k.
pub struct Processes {
    pub nodes: Vec<Process>,
}

impl Processes {
    /// A cluster in which every member is alive.
    pub async fn start(workers: u32) -> Self {
        Self::settled(Self::begin(workers).nodes).await
    }

    /// The same with these arguments for each node too.
    pub async fn start_with(workers: u32, arguments: &[&str]) -> Self {
        Self::settled(Self::begin_with(workers, arguments).nodes).await
    }

    /// One that has just been started.
    pub fn begin(workers: u32) -> Self {
        Self::begin_with(workers, &[])
    }

    pub fn begin_with(workers: u32, arguments: &[&str]) -> Self {
        Self::begin_each(workers, |_| arguments.iter().map(ToString::to_string).collect())
    }

    /// With arguments for each, the leader first.
    pub fn begin_each(workers: u32, arguments: impl Fn(usize) -> Vec<String>) -> Self {
        let ports: Vec<(SocketAddr, SocketAddr)> =
            (0..=workers).map(|_| (free_address(), free_address())).collect();
        let peers: Vec<String> = (0..=workers)
            .map(|place| format!("{}={}", name_of(place, workers).0, ports[place as usize].0))
            .collect();
        let peers = peers.join(",");
        let nodes = (0..=workers)
            .map(|place| {
                let (id, name) = name_of(place, workers);
                let (grpc, http) = ports[place as usize];
                let more = arguments(place as usize);
                let more: Vec<&str> =
                    ["--peers", &*peers].into_iter().chain(more.iter().map(String::as_str)).collect();
                Process::start_at(Some(id), &name, grpc, http, &more)
            })
            .collect();
        Self { nodes }
    }

    /// The same with a coordinator instead of peers.
    pub async fn start_over(workers: u32, coordinator: &str) -> Self {
        let start = |place| {
            let (id, name) = name_of(place, workers);
            Process::start_with(Some(id), &name, &["--coordinator", coordinator])
        };
        Self::settled((0..=workers).map(start).collect()).await
    }

    async fn settled(nodes: Vec<Process>) -> Self {
        for node in &nodes {
            all_alive(node.grpc, nodes.len()).await;
        }
        Self { nodes }
    }
}

impl Process {
    pub fn start(id: u32, name: &str, grpc: SocketAddr, http: SocketAddr, peers: &str) -> Self {
        Self::start_at(Some(id), name, grpc, http, &["--peers", peers])
    }

    /// At free addresses, with these arguments too.
    pub fn start_with(id: Option<u32>, name: &str, arguments: &[&str]) -> Self {
        Self::start_at(id, name, free_address(), free_address(), arguments)
    }

    fn start_at(id: Option<u32>, name: &str, grpc: SocketAddr, http: SocketAddr, more: &[&str]) -> Self {
        let (id, grpc_addr, http_addr) = (id.map(|id| id.to_string()), grpc.to_string(), http.to_string());
        let mut flags = vec!["node", "--name", name, "--grpc-addr", &grpc_addr, "--http-addr", &http_addr];
        flags.extend(id.as_deref().into_iter().flat_map(|id| ["--id", id]));
        flags.extend(more);
        let arguments: Vec<String> = flags.into_iter().map(str::to_owned).collect();
        let log = Arc::default();
        let child = spawn(&arguments, &log);
        Self { name: name.to_owned(), grpc, http, arguments, child, log }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends a signal by its number.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end without blocking the runtime.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < SOON, "{} does not end", self.name);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Changes the value of an argument, for the next start.
    pub fn tell(&mut self, flag: &str, value: &str) {
        let place = self.arguments.iter().position(|argument| argument == flag).unwrap();
        self.arguments[place + 1] = value.to_owned();
    }

    /// Starts it again, as it was.
    pub fn restart(&mut self) {
        self.child = spawn(&self.arguments, &self.log);
    }

    pub fn has_logged(&self, text: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(text))
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(arguments: &[String], log: &Arc<Mutex<Vec<String>>>) -> Child {
    let mut child = primacy().args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            log.lock().unwrap().push(line);
        }
    });
    child
}

/// The binary under test, or the one that `PRIMACY_BINARY` names, in an environment without settings.
pub fn primacy() -> Command {
    let program = std::env::var_os("PRIMACY_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_primacy").into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PRIMACY_")) {
        command.env_remove(name);
    }
    command.env_remove("WORKER_ID").env_remove("PORT");
    command
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A command that runs; it is killed with the test.
pub struct Running {
    pub child: tokio::process::Child,
    pub input: Option<tokio::process::ChildStdin>,
    pub out: Printed,
    pub err: Printed,
}

/// What was printed so far.
pub struct Printed {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

/// The binary under test with these arguments.
pub fn command(arguments: &[&str]) -> tokio::process::Command {
    let mut command = piped(primacy());
    command.args(arguments);
    command
}

/// The same where no more than so many files can be open at once: so many at first, and so many if it asks for more.
pub fn with_files(soft: u32, hard: u32, arguments: &[&str]) -> tokio::process::Command {
    let limits = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\"");
    let program = primacy();
    let mut shell = Command::new("sh");
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.arg("-c").arg(limits).arg(program.get_program()).args(arguments);
    piped(shell)
}

/// With pipes to and from the test.
pub fn piped(mut command: Command) -> tokio::process::Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.into()
}

/// Runs the binary to its end.
pub async fn run(arguments: &[&str]) -> Ran {
    run_command(&mut command(arguments), "").await
}

/// Runs a command to its end.
pub async fn run_command(command: &mut tokio::process::Command, input: impl AsRef<[u8]>) -> Ran {
    let mut running = Running::start(command);
    // Whoever fails early reads none of it.
    running.write(input).await;
    running.input = None;
    let code = running.ends_within(SOON).await;
    Ran { code, out: running.out.text(), err: running.err.text() }
}

impl Running {
    pub fn start(command: &mut tokio::process::Command) -> Self {
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let (out, err) = (Printed::of(child.stdout.take()), Printed::of(child.stderr.take()));
        Self { input: child.stdin.take(), child, out, err }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    /// False when nobody reads it.
    pub async fn write(&mut self, input: impl AsRef<[u8]>) -> bool {
        self.input.as_mut().unwrap().write_all(input.as_ref()).await.is_ok()
    }

    /// Waits until it has ended and all that it printed is read; returns its exit code.
    pub async fn ends_within(&mut self, time: Duration) -> Option<i32> {
        let ended = timeout(time, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it still runs after {time:?}")).unwrap();
        let closed = || async { self.out.reader.is_finished() && self.err.reader.is_finished() };
        eventually("nobody else holds its output", closed).await;
        status.code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (what, printed) in [("output", &self.out), ("errors", &self.err)] {
                let text = printed.text();
                let lines: Vec<&str> = text.lines().collect();
                eprintln!("── its {what} ──\n{}", lines[lines.len().saturating_sub(50)..].join("\n"));
            }
        }
    }
}

impl Printed {
    fn of(pipe: Option<impl AsyncRead + Send + Unpin + 'static>) -> Self {
        let text: Arc<Mutex<String>> = Arc::default();
        let read = Arc::clone(&text);
        let reader = tokio::spawn(async move {
            let Some(pipe) = pipe else { return };
            let mut lines = tokio::io::BufReader::new(pipe).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                *read.lock().unwrap() += &(line + "\n");
            }
        });
        Self { text, reader }
    }

    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    pub async fn has(&self, text: &str) {
        let seen = || async { self.reader.is_finished() || self.text().contains(text) };
        eventually(&format!("{text:?} is printed"), seen).await;
        assert!(self.text().contains(text), "it ended without {text:?}");
    }

    /// Goes away, like a reader that has seen enough.
    pub async fn close(&self) {
        self.reader.abort();
        eventually("the pipe is closed", || async { self.reader.is_finished() }).await;
    }
}

pub fn send_signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Every process of this machine and its command line; that of a zombie is empty.
pub fn processes() -> Vec<(i32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid| (pid, command_line(pid))).collect()
}

pub fn command_line(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

/// The processes that this one has started.
pub fn children(of: i32) -> Vec<(i32, String)> {
    let is_child = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; the parent is the second word after it.
        Some(stat.rsplit_once(')')?.1.split_whitespace().nth(1)? == of.to_string())
    };
    processes().into_iter().filter(|(pid, _)| is_child(*pid) == Some(true)).collect()
}

/// A node that stops is a lame duck for one second, and then has nothing to wait for.
pub const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// A `primacy up` that is ready.
pub struct Up {
    pub running: Running,
    pub nodes: Vec<Listed>,
}

/// A node as the announcement lists it, and its process.
#[derive(Debug)]
pub struct Listed {
    pub name: String,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub pid: i32,
}

impl Up {
    pub async fn start(arguments: &[&str]) -> Self {
        Self::of(Running::start(command(arguments).args(["--grpc-port", "0", "--http-port", "0"]))).await
    }

    /// One that was started in another way, when it is ready.
    pub async fn of(running: Running) -> Self {
        running.out.has("Ctrl-C stops them all.").await;
        let children = children(running.pid());
        let nodes: Vec<Listed> =
            running.out.text().lines().filter_map(|line| Listed::new(line, &children)).collect();
        assert_eq!(nodes.len(), children.len(), "a process each: {children:?}");
        Self { running, nodes }
    }

    /// Waits for an orderly end that leaves no process.
    pub async fn ends_well(&mut self) {
        assert_eq!(self.running.ends_within(STOPS_WITHIN).await, Some(0));
        self.leaves_nothing().await;
    }

    pub async fn leaves_nothing(&self) {
        for node in &self.nodes {
            let gone = || async { !command_line(node.pid).contains(&node.grpc.to_string()) };
            within(STOPS_WITHIN, &format!("the process of {} is gone", node.name), gone).await;
        }
    }
}

impl Listed {
    fn new(line: &str, children: &[(i32, String)]) -> Option<Self> {
        let [name, _, pid, grpc, http] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let (grpc, http) = (grpc.parse().ok()?, http.split_once("://")?.1.parse().ok()?);
        let (child, _) =
            children.iter().find(|(_, command)| command.contains(&format!(" --name {name} ")))?;
        assert_eq!(pid, child.to_string(), "the process id of {name}");
        Some(Self { name: name.to_owned(), grpc, http, pid: *child })
    }
}

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// An address that nobody listens at: below the ports that the system gives out by itself, and in each test process
/// from another place on, so that no two tests meet.
pub fn free_address() -> SocketAddr {
    let base = 10_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
    loop {
        let port = base + NEXT_PORT.fetch_add(1, Relaxed) % 2000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The value of a counter in a node's metrics.
pub async fn metric(node: &TestNode, name: &str) -> u64 {
    let text = reqwest::get(node.url("/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).split(' ').nth(1).unwrap().parse().unwrap()
}

/// 2 to a prime, less 1: composite, of 9,998 digits, without a factor below 2²⁰, and it passes the test to base 2, so that a
/// check takes as long as that of a prime, which is ten seconds and more.
pub fn longest_number() -> String {
    ((BigUint::from(1_u8) << 33_211_u32) - 1_u8).to_string()
}

/// A number of so many digits without a factor below 2^20, so that its check takes the long way: the first one above
/// the power of ten, found by a sieve over the offsets.
pub fn long_number(digits: u32) -> String {
    const OFFSETS: u64 = 4000;
    let mut divided = vec![false; OFFSETS as usize];
    for prime in (2..1 << 20).filter(|candidate| primacy::is_prime(*candidate)) {
        let power = power_of_ten(digits - 1, prime);
        let first = (prime - power % prime) % prime;
        for offset in (first..OFFSETS).step_by(usize::try_from(prime).unwrap()) {
            divided[offset as usize] = true;
        }
    }
    let offset = divided.iter().position(|divided| !divided).expect("one in some dozens has no small factor");
    format!("1{offset:0width$}", width = digits as usize - 1)
}

/// 10^exponent modulo a small number.
fn power_of_ten(exponent: u32, modulus: u64) -> u64 {
    let (mut power, mut square, mut left) = (1, 10 % modulus, exponent);
    while left > 0 {
        if left % 2 == 1 {
            power = power * square % modulus;
        }
        square = square * square % modulus;
        left /= 2;
    }
    power
}
