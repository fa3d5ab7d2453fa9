//! etcd as coordinator: three real ones, and real nodes that are killed, hung and cut off under load at the others. Every
//! answer is checked, and so is the history of who called itself leader: never two at once.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use primacy::proto::MemberStatus;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use crate::{
    certificates::{Authority, Folder},
    faults::load_on,
    harness::{
        Process, alive, command, eventually, free_address, run_command, send_signal, status_of, view, within,
    },
    load::Load,
};

/// The lease, and what etcd and a busy machine add until it is seen to be gone.
const LEASE_SEEN_GONE: Duration = Duration::from_secs(8);

/// A key as JSON carries it to etcd.
pub fn base64(key: &str) -> String {
    BASE64_STANDARD.encode(key)
}

/// What a node is told of an etcd at these endpoints.
pub fn coordinator_at(endpoints: impl IntoIterator<Item = SocketAddr>) -> String {
    let endpoints: Vec<String> = endpoints.into_iter().map(|address| address.to_string()).collect();
    format!("etcd://{}", endpoints.join(","))
}

/// One etcd of a cluster; it is killed with the test.
pub struct Etcd {
    arguments: Vec<String>,
    pub address: SocketAddr,
    child: Child,
}

impl Etcd {
    fn spawn(arguments: &[String]) -> Child {
        let mut etcd = Command::new("etcd");
        etcd.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        etcd.spawn().expect("etcd is installed: Debian's package etcd-server")
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.child = Self::spawn(&self.arguments);
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(i32::try_from(self.child.id()).unwrap(), signal);
    }

    pub async fn call(&self, path: &str, body: Value) -> Option<Value> {
        let url = format!("http://{}/v3/{path}", self.address);
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        client.post(url).body(body.to_string()).send().await.ok()?.json().await.ok()
    }

    /// A read that a majority vouches for.
    pub async fn revision(&self) -> Option<i64> {
        let answer = self.call("kv/range", json!({"key": base64("/")})).await?;
        answer["header"]["revision"].as_str()?.parse().ok()
    }

    async fn status(&self) -> Value {
        self.call("maintenance/status", json!({})).await.unwrap_or_default()
    }

    pub async fn leads(&self) -> bool {
        let status = self.status().await;
        status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
    }

    /// It answers, and knows a leader, which may be itself.
    pub async fn follows(&self) -> bool {
        self.status().await["leader"].is_string()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of etcds.
pub struct Etcds {
    pub members: Vec<Etcd>,
    folder: PathBuf,
}

impl Etcds {
    pub async fn start(count: usize) -> Self {
        let etcds = Self::spawn(count, "http", &[]);
        etcds.all_answer().await;
        etcds
    }

    /// Without waiting for their answers.
    pub fn spawn(count: usize, scheme: &str, more: &[&str]) -> Self {
        let ports: Vec<(SocketAddr, SocketAddr)> =
            (0..count).map(|_| (free_address(), free_address())).collect();
        let folder = std::env::temp_dir().join(format!("primacy-etcd-{}", ports[0].0.port()));
        let cluster: Vec<String> =
            ports.iter().enumerate().map(|(place, (_, peer))| format!("e{place}=http://{peer}")).collect();
        let start = |(place, (client, peer)): (usize, &(SocketAddr, SocketAddr))| {
            let pairs = [
                ("--name", format!("e{place}")),
                ("--data-dir", folder.join(format!("e{place}")).display().to_string()),
                ("--listen-client-urls", format!("{scheme}://{client}")),
                ("--advertise-client-urls", format!("{scheme}://{client}")),
                ("--listen-peer-urls", format!("http://{peer}")),
                ("--initial-advertise-peer-urls", format!("http://{peer}")),
                ("--initial-cluster", cluster.join(",")),
            ];
            let flags = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
            let arguments: Vec<String> = flags.chain(more.iter().map(|flag| (*flag).to_owned())).collect();
            Etcd { child: Etcd::spawn(&arguments), arguments, address: *client }
        };
        let members = ports.iter().enumerate().map(start).collect();
        Self { members, folder }
    }

    pub async fn all_answer(&self) {
        for member in &self.members {
            eventually("etcd answers", || async { member.revision().await.is_some() }).await;
        }
    }

    /// What a node is told of them.
    pub fn coordinator(&self) -> String {
        coordinator_at(self.addresses())
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }
}

impl Drop for Etcds {
    fn drop(&mut self) {
        self.members.clear();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Open,
    /// Connections break, and new ones too.
    Cut,
    /// Nothing passes, and nobody is told.
    Silent,
}

/// Stands between a node and an etcd.
pub struct Proxy {
    pub address: SocketAddr,
    pub mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn to(etcd: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(Mode::Open);
        let modes = mode.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut modes = modes.clone();
                connections.spawn(async move {
                    if *modes.borrow_and_update() == Mode::Open {
                        let Ok(mut far) = TcpStream::connect(etcd).await else { return };
                        tokio::select! {
                            _ = copy_bidirectional(&mut near, &mut far) => return,
                            _ = modes.changed() => {}
                        }
                    }
                    let _ = modes.wait_for(|mode| *mode != Mode::Silent).await;
                });
            }
        });
        Self { address, mode, _tasks: tasks }
    }

    /// Whether a connection by it is open.
    pub fn is_used(&self) -> bool {
        // Beside the listener's.
        self.mode.receiver_count() > 1
    }
}

/// Four nodes: `nodes[0]` has the highest id and leads, the last has none. Each reaches every etcd by proxies of its own.
struct Cluster {
    nodes: Vec<Process>,
    proxies: Vec<Vec<Proxy>>,
}

impl Cluster {
    async fn start(etcds: &Etcds) -> Self {
        let mut cluster = Self { nodes: Vec::new(), proxies: Vec::new() };
        for (id, name) in [(Some(4), "leader"), (Some(1), "worker1"), (Some(2), "worker2"), (None, "replica")]
        {
            let mut proxies = Vec::new();
            for etcd in etcds.addresses() {
                proxies.push(Proxy::to(etcd).await);
            }
            let coordinator = coordinator_at(proxies.iter().map(|proxy| proxy.address));
            cluster.nodes.push(Process::start_with(id, name, &["--coordinator", &coordinator]));
            cluster.proxies.push(proxies);
        }
        cluster.settled("leader").await;
        cluster
    }

    async fn settled(&self, leader: &str) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.agree(&all, leader).await;
        for node in &self.nodes {
            let sees_all =
                || async { view(node.grpc).await.is_ok_and(|view| alive(&view) == self.nodes.len()) };
            eventually(&format!("{} sees all", node.name), sees_all).await;
        }
    }

    /// Waits until these follow that one; returns for how long.
    async fn agree(&self, places: &[usize], leader: &str) -> Duration {
        let started = Instant::now();
        for place in places {
            let node = &self.nodes[*place];
            eventually(&format!("{} follows {leader}", node.name), || async {
                view(node.grpc).await.is_ok_and(|view| view.leader.is_some_and(|other| other.name == leader))
            })
            .await;
        }
        started.elapsed()
    }

    /// Whether all follow the same leader, whoever it is.
    async fn follow_one(&self) -> bool {
        let mut leaders = Vec::new();
        for node in &self.nodes {
            leaders.push(view(node.grpc).await.ok().and_then(|view| Some(view.leader?.name)));
        }
        leaders[0].is_some() && leaders.iter().all(|leader| *leader == leaders[0])
    }

    async fn leaderless(&self, places: &[usize]) {
        for place in places {
            let node = &self.nodes[*place];
            within(LEASE_SEEN_GONE, &format!("{} has no leader", node.name), || async {
                view(node.grpc).await.is_ok_and(|view| view.leader.is_none())
            })
            .await;
        }
    }

    fn cut(&self, place: usize, mode: Mode) {
        for proxy in &self.proxies[place] {
            proxy.mode.send_replace(mode);
        }
    }

    fn load_at(&self, places: &[usize]) -> Load {
        let urls: Vec<String> = places.iter().map(|place| self.nodes[*place].url("/prime")).collect();
        load_on(&urls)
    }
}

async fn fails_nothing(load: Load) {
    load.more(300).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures, Vec::<String>::new());
    assert!(tally.slowest < Duration::from_secs(3), "somebody waited {:?}", tally.slowest);
}

/// When a node was asked, by its own clock in milliseconds, and whether it said that it leads.
type Said = Vec<(u64, bool)>;

/// Asks every node all the time who leads.
struct History {
    said: Arc<Mutex<BTreeMap<String, Said>>>,
    tasks: JoinSet<()>,
}

impl History {
    fn of(cluster: &Cluster) -> Self {
        let said: Arc<Mutex<BTreeMap<String, Said>>> = Arc::default();
        let mut tasks = JoinSet::new();
        for node in &cluster.nodes {
            let (said, name, url) = (Arc::clone(&said), node.name.clone(), node.url("/cluster"));
            tasks.spawn(async move {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                loop {
                    if let Ok(answer) = client.get(&url).send().await
                        && let Ok(view) = answer.json::<Value>().await
                    {
                        let leads = view["leader"]["name"] == name.as_str();
                        let at = view["observed_at"].as_u64().unwrap();
                        said.lock().unwrap().entry(name.clone()).or_default().push((at, leads));
                    }
                    sleep(Duration::from_millis(3)).await;
                }
            });
        }
        Self { said, tasks }
    }

    /// Nobody called itself leader between two moments at which another one did without a break.
    fn never_two(mut self) {
        self.tasks.abort_all();
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        let terms: Vec<(String, u64, u64)> = said
            .iter()
            .flat_map(|(name, said)| {
                let runs = said.chunk_by(|before, after| before.1 == after.1).filter(|run| run[0].1);
                runs.map(|run| (name.clone(), run[0].0, run[run.len() - 1].0)).collect::<Vec<_>>()
            })
            .collect();
        assert!(!terms.is_empty(), "somebody led");
        for (place, (name, from, until)) in terms.iter().enumerate() {
            for (other, other_from, other_until) in &terms[place + 1..] {
                let apart = until < other_from || other_until < from;
                assert!(name == other || apart, "{name} and {other} led at once: {terms:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn etcd_names_another_leader_when_ours_is_killed() {
    let etcds = Etcds::start(3).await;
    let mut cluster = Cluster::start(&etcds).await;
    let history = History::of(&cluster);
    let load = cluster.load_at(&[1, 2, 3]);
    load.more(300).await;
    cluster.nodes[0].kill();
    cluster.agree(&[1, 2, 3], "worker2").await;
    fails_nothing(load).await;
    let counter = view(cluster.nodes[1].grpc).await.unwrap().leader.unwrap().counter;

    // It returns, and leads again after ten healthy seconds.
    cluster.nodes[0].restart();
    let load = cluster.load_at(&[1, 2, 3]);
    cluster.settled("leader").await;
    fails_nothing(load).await;
    for node in &cluster.nodes {
        assert!(view(node.grpc).await.unwrap().leader.unwrap().counter > counter, "a later revision of etcd");
    }
    history.never_two();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn a_leader_that_hangs_beyond_its_lease_wakes_up_and_does_not_lead() {
    let etcds = Etcds::start(3).await;
    let cluster = Cluster::start(&etcds).await;
    let history = History::of(&cluster);
    let load = cluster.load_at(&[1, 2, 3]);
    load.more(300).await;
    for _ in 0..2 {
        cluster.nodes[0].signal(Signal::STOP);
        cluster.agree(&[1, 2, 3], "worker2").await;
        load.more(300).await;
        cluster.nodes[0].signal(Signal::CONT);
        cluster.settled("worker2").await;
        // The highest id again, after ten seconds.
        cluster.settled("leader").await;
    }
    fails_nothing(load).await;
    history.never_two();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn a_leader_that_is_cut_from_etcd_stands_down_before_the_next_one_leads() {
    let etcds = Etcds::start(3).await;
    let cluster = Cluster::start(&etcds).await;
    let history = History::of(&cluster);
    let load = cluster.load_at(&[0, 1, 2, 3]);
    load.more(300).await;
    for mode in [Mode::Silent, Mode::Cut] {
        cluster.cut(0, mode);
        cluster.leaderless(&[0]).await;
        cluster.agree(&[1, 2, 3], "worker2").await;
        // It still answers, and works for the others.
        load.more(300).await;
        let seen = view(cluster.nodes[2].grpc).await.unwrap();
        assert_eq!(status_of(&seen, "leader"), MemberStatus::Alive, "{mode:?}");
        cluster.cut(0, Mode::Open);
        cluster.settled("leader").await;
    }
    fails_nothing(load).await;
    history.never_two();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn without_a_majority_of_etcd_nobody_leads_and_nothing_fails() {
    let mut etcds = Etcds::start(3).await;
    let cluster = Cluster::start(&etcds).await;
    let history = History::of(&cluster);
    let load = cluster.load_at(&[0, 1, 2, 3]);
    load.more(300).await;
    for place in [0, 1] {
        etcds.members[place].kill();
    }
    cluster.leaderless(&[0, 1, 2, 3]).await;
    load.more(1000).await;
    for node in &cluster.nodes {
        assert_eq!(alive(&view(node.grpc).await.unwrap()), 4, "{} forgets nobody", node.name);
    }
    for place in [0, 1] {
        etcds.members[place].restart();
    }
    cluster.settled("leader").await;
    fails_nothing(load).await;
    history.never_two();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn a_change_of_etcds_own_leader_is_no_change_of_ours() {
    let mut etcds = Etcds::start(3).await;
    let cluster = Cluster::start(&etcds).await;
    let history = History::of(&cluster);
    let before = view(cluster.nodes[0].grpc).await.unwrap().leader.unwrap();
    let load = cluster.load_at(&[0, 1, 2, 3]);
    load.more(300).await;
    let mut leads = Vec::new();
    for member in &etcds.members {
        leads.push(member.leads().await);
    }
    let place = leads.iter().position(|leads| *leads).unwrap();
    etcds.members[place].kill();
    // Its successor is elected within two seconds, and each lease is kept alive by it.
    let other = &etcds.members[(place + 1) % 3];
    eventually("etcd answers", || async { other.revision().await.is_some() }).await;
    cluster.settled("leader").await;
    fails_nothing(load).await;
    let after = view(cluster.nodes[0].grpc).await.unwrap().leader.unwrap();
    assert_eq!(after.counter, before.counter, "the same key of the same lease");
    history.never_two();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn what_was_compacted_while_the_watch_was_broken_is_listed_anew() {
    let etcds = Etcds::start(1).await;
    let mut cluster = Cluster::start(&etcds).await;
    cluster.cut(1, Mode::Cut);
    cluster.leaderless(&[1]).await;
    // Leases end and leaders change, and the history of it is gone.
    cluster.nodes[0].kill();
    cluster.agree(&[2, 3], "worker2").await;
    let revision = etcds.members[0].revision().await.unwrap();
    let compacted = json!({"revision": revision.to_string(), "physical": true});
    etcds.members[0].call("kv/compaction", compacted).await.unwrap();
    cluster.cut(1, Mode::Open);
    cluster.agree(&[1], "worker2").await;
    // And it hears what happens from now on.
    cluster.nodes[2].kill();
    cluster.agree(&[1, 3], "worker1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn a_leader_hands_its_key_over_when_it_stops_or_an_operator_asks() {
    let etcds = Etcds::start(1).await;
    let mut cluster = Cluster::start(&etcds).await;
    let history = History::of(&cluster);
    let load = cluster.load_at(&[0, 2, 3]);
    load.more(300).await;
    let endpoint = cluster.nodes[3].grpc.to_string();
    let arguments = ["transfer", "--endpoints", &endpoint, "--to", "worker1"];
    let ran = run_command(&mut command(&arguments), "").await;
    assert_eq!(ran.code, Some(0), "{} {}", ran.out, ran.err);
    cluster.settled("worker1").await;
    let arguments = ["transfer", "--endpoints", &endpoint, "--to", "replica"];
    let ran = run_command(&mut command(&arguments), "").await;
    assert!(ran.err.contains("never leads"), "{} {}", ran.out, ran.err);

    cluster.nodes[1].signal(Signal::TERM);
    let agreed = cluster.agree(&[0, 2, 3], "leader").await;
    assert!(agreed < Duration::from_secs(1), "a hand-over waits for no lease: {agreed:?}");
    assert!(cluster.nodes[1].ended().await.success());
    fails_nothing(load).await;
    history.never_two();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn an_etcd_that_lost_its_data_has_a_leader_again_and_who_is_gone_is_no_member() {
    let mut etcds = Etcds::start(1).await;
    let mut cluster = Cluster::start(&etcds).await;
    let load = cluster.load_at(&[1, 2, 3]);
    load.more(300).await;
    etcds.members[0].kill();
    std::fs::remove_dir_all(&etcds.folder).unwrap();
    etcds.members[0].restart();
    etcds.all_answer().await;
    // All hear of the new store: its revisions are below those of the lost one.
    let all: Vec<usize> = (0..cluster.nodes.len()).collect();
    eventually("one leads by a key of the new store", || async {
        let holder = etcds.members[0]
            .call("kv/range", json!({"key": base64("/primacy/leader")}))
            .await
            .unwrap_or_default();
        let Some(revision) = holder["kvs"][0]["mod_revision"].as_str().and_then(|text| text.parse().ok())
        else {
            return false;
        };
        let mut counters = Vec::new();
        for place in &all {
            let leader = view(cluster.nodes[*place].grpc).await.ok().and_then(|view| view.leader);
            counters.push(leader.map(|leader| leader.counter));
        }
        counters.iter().all(|counter: &Option<u64>| *counter == Some(revision))
    })
    .await;
    fails_nothing(load).await;

    cluster.nodes[3].kill();
    eventually("the member list is etcd's", || async {
        view(cluster.nodes[1].grpc).await.is_ok_and(|view| view.members.len() == 3)
    })
    .await;
}

pub async fn comes_to_lead(arguments: &[&str]) {
    let node = Process::start_with(Some(4), "alone", arguments);
    let leads = || async { view(node.grpc).await.is_ok_and(|view| view.leader.is_some()) };
    eventually(&format!("it leads: {}", node.log()), leads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn etcd_may_ask_for_a_user() {
    let etcds = Etcds::start(1).await;
    let etcd = &etcds.members[0];
    etcd.call("auth/user/add", json!({"name": "root", "password": "secret"})).await.unwrap();
    etcd.call("auth/user/grant", json!({"user": "root", "role": "root"})).await.unwrap();
    etcd.call("auth/enable", json!({})).await.unwrap();
    let coordinator = etcds.coordinator();
    let stranger = Process::start_with(Some(4), "stranger", &["--coordinator", &coordinator]);
    eventually("etcd refuses a stranger", || async { stranger.has_logged("user name is empty") }).await;
    comes_to_lead(&["--coordinator", &coordinator, "--etcd-user", "root:secret"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn etcd_may_speak_tls_and_its_ca_is_read_again_when_it_changes() {
    let (authority, folder) = (Authority::new("etcd"), Folder::new());
    let paper = authority.issue();
    let (certificate, key) =
        (folder.write("etcd.pem", &paper.certificate), folder.write("etcd.key", &paper.key));
    let etcds = Etcds::spawn(1, "https", &["--cert-file", &certificate, "--key-file", &key]);
    let coordinator = etcds.coordinator();
    let right = folder.write("right.pem", &authority.pem);
    comes_to_lead(&["--coordinator", &coordinator, "--etcd-cacert", &right]).await;
    let changed = folder.write("changed.pem", &Authority::new("another").pem);
    let arguments = ["--coordinator", &coordinator, "--etcd-cacert", &changed];
    let node = Process::start_with(Some(4), "node4", &arguments);
    eventually("it does not believe etcd", || async { node.has_logged("no CA that is believed here") }).await;
    folder.write("changed.pem", &authority.pem);
    eventually("it leads", || async {
        view(node.grpc).await.is_ok_and(|view| view.leader.is_some_and(|leader| leader.name == "node4"))
    })
    .await;
    assert!(node.has_logged("the certificates for etcd were read again"), "{}", node.log());
}

#[tokio::test]
async fn a_coordinator_that_is_none_is_refused_with_what_is_allowed() {
    for (wrong, says) in [
        ("raft", "etcd://127.0.0.1:2379"),
        ("etcd://", "HOST:PORT"),
        ("etcd://a", "HOST:PORT"),
        ("http://a:2379", "bully"),
    ] {
        let ran = crate::harness::run(&["node", "--coordinator", wrong]).await;
        assert_eq!(ran.code, Some(2), "{wrong}: {}", ran.err);
        assert!(ran.err.contains(says), "{wrong}: {}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_reached_etcd_answers_all_the_same() {
    let nowhere = coordinator_at([free_address()]);
    let node = Process::start_with(Some(4), "alone", &["--coordinator", &nowhere]);
    eventually("it answers", || async {
        crate::harness::check(node.grpc, 17).await.is_ok_and(|answer| answer.is_prime)
    })
    .await;
    assert!(view(node.grpc).await.unwrap().leader.is_none());
    eventually("it says why", || async { node.has_logged("is not reached") }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "stops etcd again and again to measure; needs etcd (Debian's etcd-server) and the machine for itself"]
async fn time_until_a_leader_is_there_when_etcd_is_back() {
    let rounds = std::env::var("PRIMACY_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let mut etcds = Etcds::start(3).await;
    let cluster = Cluster::start(&etcds).await;
    let all: Vec<usize> = (0..cluster.nodes.len()).collect();
    let mut back = Vec::new();
    for _ in 0..rounds {
        etcds.members.iter_mut().for_each(Etcd::kill);
        cluster.leaderless(&all).await;
        etcds.members.iter_mut().for_each(Etcd::restart);
        etcds.all_answer().await;
        let answered = Instant::now();
        eventually("all follow one leader", || cluster.follow_one()).await;
        back.push(answered.elapsed());
    }
    back.sort();
    let of = |share: usize| back[(back.len() * share).div_ceil(100).clamp(1, back.len()) - 1];
    println!("{rounds} times all of etcd was gone, until all follow a leader from when etcd answers again:");
    println!("p50 {:?}, p90 {:?}, worst {:?}", of(50), of(90), of(100));
}
