//! Certificates, CAs and tokens are replaced, and a cluster moves to TLS and back, while clients are answered.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use primacy::{
    is_prime,
    proto::{ClusterView, PrimeRequest, scheduler_client::SchedulerClient},
};
use rustix::process::Signal;
use tonic::transport::Channel;

use crate::{
    certificates::{Answer, Authority, Folder, Paper, channel, client_config, connect, https},
    harness::{self, Process, Processes, alive, eventually, view_on, within},
    load::Load,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Requests in flight at each node.
const FEW: usize = 4;
/// The design's bound for new files to be taken.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// How a client reaches nodes.
#[derive(Clone)]
enum Way {
    Clear,
    /// Over TLS, with these CAs.
    Tls(String),
}

impl Way {
    async fn channel(&self, address: SocketAddr) -> Result<Channel, tonic::Status> {
        match self {
            Self::Clear => harness::channel(address).await,
            Self::Tls(authorities) => channel(address, authorities, None).await,
        }
    }

    async fn view(&self, address: SocketAddr) -> Result<ClusterView, tonic::Status> {
        view_on(self.channel(address).await?).await
    }

    /// Waits until every node sees all alive, and the same leader.
    async fn settled(&self, nodes: &[Process]) {
        for node in nodes {
            eventually(&format!("{} sees all alive", node.name), || async {
                let view = self.view(node.grpc).await;
                view.is_ok_and(|view| view.leader.is_some() && alive(&view) == nodes.len())
            })
            .await;
        }
    }

    async fn load_on(&self, nodes: &[SocketAddr]) -> Load {
        let mut load = Load::new();
        for address in nodes {
            let client = SchedulerClient::new(self.channel(*address).await.unwrap());
            for _ in 0..FEW {
                let client = client.clone();
                load.add(move |number| ask(client.clone(), number));
            }
        }
        load
    }
}

async fn ask(mut client: SchedulerClient<Channel>, number: u64) -> Result<String, String> {
    let request = PrimeRequest { number: number.cast_signed(), decimal: String::new() };
    let answer = client.check_prime(request).await.map_err(|status| status.to_string())?.into_inner();
    if answer.is_prime == is_prime(number) { Ok(answer.processed_by) } else { Err(format!("{answer:?}")) }
}

async fn fails_nothing(load: Load, when: &str) {
    load.more(500).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures, Vec::<String>::new(), "{when}");
}

fn addresses(nodes: &[Process]) -> Vec<SocketAddr> {
    nodes.iter().map(|node| node.grpc).collect()
}

/// Who leads by which ballot, as all nodes see it.
async fn leaders(nodes: &[Process], way: &Way) -> BTreeSet<(String, u64)> {
    let mut leaders = BTreeSet::new();
    for node in nodes {
        let leader = way.view(node.grpc).await.unwrap().leader.unwrap_or_default();
        leaders.insert((leader.name, leader.counter));
    }
    leaders
}

// ── To TLS and back ─────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "restarts every node four times under load: it needs the machine for itself"]
async fn a_cluster_moves_to_tls_and_back_and_fails_nothing() {
    let authority = Authority::new("here");
    let folder = Folder::with(&authority.issue(), &authority.pem);
    let files = folder.arguments();
    let arguments: Vec<&str> =
        files.iter().map(String::as_str).chain(["--token", TOKEN, "--tls", "off"]).collect();
    let mut cluster = Processes::begin_with(2, &arguments);
    let (clear, tls) = (Way::Clear, Way::Tls(authority.pem.clone()));
    clear.settled(&cluster.nodes).await;
    // How it is asked before and during a step, and after it.
    for (mode, before, after) in
        [("accept", &clear, &clear), ("on", &tls, &tls), ("accept", &tls, &tls), ("off", &clear, &clear)]
    {
        for place in 0..cluster.nodes.len() {
            let others = addresses(&cluster.nodes);
            let others: Vec<SocketAddr> = others.iter().copied().filter(|at| *at != others[place]).collect();
            let load = before.load_on(&others).await;
            load.more(200).await;
            let node = &mut cluster.nodes[place];
            node.signal(Signal::TERM);
            assert!(node.ended().await.success());
            node.tell("--tls", mode);
            node.restart();
            after.settled(&cluster.nodes).await;
            fails_nothing(load, &format!("{} is told {mode}", cluster.nodes[place].name)).await;
        }
    }
}

// ── Certificates and CAs ────────────────────────────────────────────────────────────────────────────────────────

/// A cluster of processes over TLS, each with files of its own.
struct Secured {
    cluster: Processes,
    folders: Vec<Folder>,
}

impl Secured {
    async fn start(workers: u32, authority: &Authority) -> Self {
        let folders: Vec<Folder> =
            (0..=workers).map(|_| Folder::with(&authority.issue(), &authority.pem)).collect();
        let arguments =
            |place: usize| [folders[place].arguments(), vec!["--token".into(), TOKEN.into()]].concat();
        let cluster = Processes::begin_each(workers, arguments);
        Way::Tls(authority.pem.clone()).settled(&cluster.nodes).await;
        Self { cluster, folders }
    }

    /// Gives every node files, and waits until all have taken them.
    async fn replace(&self, paper: impl Fn() -> Paper, authorities: &str, asks: &str) {
        let mut before = Vec::new();
        for node in &self.cluster.nodes {
            before.push(reloads(node, asks).await);
        }
        for folder in &self.folders {
            folder.replace(&paper(), authorities);
        }
        for (node, before) in self.cluster.nodes.iter().zip(before) {
            let taken = || async { reloads(node, asks).await > before };
            within(TAKEN_WITHIN, &format!("{} takes new files", node.name), taken).await;
        }
    }
}

/// Whether a client is answered that shows this. A refusal comes after the client's last message of the handshake.
async fn is_served(node: SocketAddr, authorities: &str, shows: &Paper) -> bool {
    let Ok(channel) = channel(node, authorities, Some(shows)).await else { return false };
    ask(SchedulerClient::new(channel), 17).await.is_ok()
}

async fn reloads(node: &Process, authorities: &str) -> u64 {
    metric(node, authorities, "primacy_reloads_total").await
}

async fn metric(node: &Process, authorities: &str, name: &str) -> u64 {
    let Answer { body, .. } = https(authorities, None).get(node.http, "/metrics").await.unwrap();
    let line = body.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {body}")).split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_their_ca_are_replaced_and_nothing_fails() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let secured = Secured::start(2, &old).await;
    let both = format!("{}{}", old.pem, new.pem);
    let (nodes, way) = (&secured.cluster.nodes, Way::Tls(both.clone()));
    let load = way.load_on(&addresses(nodes)).await;
    let before = leaders(nodes, &way).await;
    secured.replace(|| old.issue(), &old.pem, &both).await;
    secured.replace(|| old.issue(), &both, &both).await;
    secured.replace(|| new.issue(), &both, &both).await;
    secured.replace(|| new.issue(), &new.pem, &both).await;
    fails_nothing(load, "certificates were replaced").await;
    // Connections are made anew by it alone: a node that died would be met by the new CA.
    way.settled(nodes).await;
    assert_eq!(leaders(nodes, &way).await, before, "nobody noticed");
    assert!(https(&old.pem, None).get(nodes[0].http, "/livez").await.is_err(), "the new one is shown");
    assert!(!is_served(nodes[0].grpc, &new.pem, &old.issue()).await, "the old one is believed no more");
    assert!(is_served(nodes[0].grpc, &new.pem, &new.issue()).await);
    let mut cluster = secured.cluster;
    cluster.nodes[0].kill();
    cluster.nodes[0].restart();
    Way::Tls(new.pem.clone()).settled(&cluster.nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_a_ca_that_left_is_not_resumed() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let secured = Secured::start(0, &new).await;
    let node = &secured.cluster.nodes[0];
    let both = format!("{}{}", old.pem, new.pem);
    secured.replace(|| new.issue(), &both, &new.pem).await;
    let mut config = client_config(&new.pem, Some(&old.issue()));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let agrees = || async {
        let Ok(stream) = connect(&config, node.grpc).await else { return false };
        // The server's refusal comes after the client's last message.
        let io = hyper_util::rt::TokioIo::new(stream);
        let endpoint = tonic::transport::Endpoint::from_static("https://localhost");
        let mut io = Some(io);
        let connector = tower::service_fn(move |_| {
            let io = io.take().ok_or(std::io::ErrorKind::NotConnected);
            async move { io.map_err(std::io::Error::from) }
        });
        let Ok(channel) = endpoint.connect_with_connector(connector).await else { return false };
        ask(SchedulerClient::new(channel), 17).await.is_ok()
    };
    assert!(agrees().await && agrees().await);
    secured.replace(|| new.issue(), &new.pem, &new.pem).await;
    assert!(!agrees().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_do_not_fit_are_logged_and_counted_and_the_old_ones_go_on() {
    let authority = Authority::new("here");
    let secured = Secured::start(0, &authority).await;
    let (node, folder) = (&secured.cluster.nodes[0], &secured.folders[0]);
    let failed = || metric(node, &authority.pem, "primacy_reloads_failed_total");
    let (one, other) = (authority.issue(), authority.issue());
    for (count, (name, text, says)) in (1..).zip([
        ("node.pem", &*one.certificate, "does not belong to the certificate"),
        ("node-key.pem", "nonsense", "holds no private key in PEM"),
        ("ca.pem", "", "holds no"),
    ]) {
        folder.write(name, text);
        within(TAKEN_WITHIN, "it is counted", || async { failed().await == count }).await;
        eventually("it is logged", || async { node.has_logged(says) }).await;
    }
    std::fs::remove_file(folder.path("node.pem")).unwrap();
    within(TAKEN_WITHIN, "a file that is gone is counted", || async { failed().await == 4 }).await;
    folder.replace(&other, &authority.pem);
    within(TAKEN_WITHIN, "good ones are taken", || async { reloads(node, &authority.pem).await == 1 }).await;
    assert_eq!(failed().await, 4, "each is said once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_will_expire_is_warned_of() {
    let authority = Authority::new("here");
    for (left, says) in [
        (Duration::from_secs(13 * 24 * 3600 + 60), Some("expires in 13 days")),
        (Duration::ZERO, Some("has expired")),
        (Duration::from_secs(15 * 24 * 3600), None),
    ] {
        let folder = Folder::with(&authority.issue_for(left), &authority.pem);
        let files = folder.arguments();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let node = Process::start_with(Some(1), "alone", &files);
        eventually("it leads", || async { node.has_logged("leads") }).await;
        match says {
            Some(says) => eventually("it warns", || async { node.has_logged(says) }).await,
            None => assert!(!node.has_logged("expire"), "{}", node.log()),
        }
    }
}

// ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_replaced_and_nothing_fails_and_nobody_elects() {
    let folder = Folder::new();
    let file = folder.write("token", "old\n");
    let cluster = Processes::begin_with(2, &["--token-file", &file]);
    let (nodes, way) = (&cluster.nodes, Way::Clear);
    way.settled(nodes).await;
    let before = leaders(nodes, &way).await;
    let load = way.load_on(&addresses(nodes)).await;
    for (count, (text, accepted)) in
        (1..).zip([("old\nnew\n", "2 values"), ("new\nold\n", "2 values"), ("new\n", "1 value")])
    {
        folder.write("token", text);
        for node in nodes {
            let taken = || async { node.log().matches("the token was read again").count() == count };
            within(TAKEN_WITHIN, &format!("{} takes {text:?}", node.name), taken).await;
            assert!(node.has_logged(accepted));
        }
        load.more(500).await;
        way.settled(nodes).await;
    }
    fails_nothing(load, "the token was replaced").await;
    assert_eq!(leaders(nodes, &way).await, before, "one leader all the while");
    for node in nodes {
        assert!(!node.has_logged("strangers refused"), "{}", node.log());
        assert!(!node.has_logged("is lost"), "{}", node.log());
    }
    let transfer = async |token: &str| {
        let endpoint = nodes[0].grpc.to_string();
        harness::run(&["transfer", "--to", "leader", "--token", token, "--endpoints", &endpoint]).await
    };
    assert_eq!(transfer("new").await.code, Some(0));
    assert_eq!(transfer("old").await.code, Some(1));
}

/// A node whose token was withdrawn is one no more, although its lanes were open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_only_a_withdrawn_token_loses_its_lanes() {
    let (ours, theirs) = (Folder::new(), Folder::new());
    let (ours_file, theirs_file) = (ours.write("token", "old\n"), theirs.write("token", "old\n"));
    let cluster = Processes::begin_each(2, |place| {
        let file = if place == 2 { &theirs_file } else { &ours_file };
        vec!["--token-file".to_owned(), file.clone()]
    });
    let nodes = &cluster.nodes;
    Way::Clear.settled(nodes).await;
    ours.write("token", "new\n");
    eventually("the others do not count it as alive any more", || async {
        let view = harness::view(nodes[0].grpc).await.unwrap();
        let other = view.members.iter().find(|member| member.name == nodes[2].name).unwrap();
        alive(&view) == 2 && other.status() != primacy::proto::MemberStatus::Alive
    })
    .await;
    for node in &nodes[..2] {
        let answer = harness::check(node.grpc, 17).await.map_err(|status| status.code());
        assert!(answer.is_ok_and(|answer| answer.is_prime), "{}", node.name);
    }
}
