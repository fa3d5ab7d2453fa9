//! How nodes reach an etcd that asks who they are, or of which some endpoints do not answer.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    etcd::{Etcd, Etcds, Proxy, base64, comes_to_lead, coordinator_at},
    harness::{Process, eventually, free_address, view, within},
};

/// Keys and certificates of one test.
struct Papers(PathBuf);

impl Papers {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("primacy-papers-{}", free_address().port()));
        std::fs::create_dir_all(&folder).unwrap();
        let extensions = "[req]\ndistinguished_name=dn\n[dn]\n\
            [ca]\nbasicConstraints=critical,CA:TRUE\n\
            [leaf]\nbasicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n";
        std::fs::write(folder.join("openssl.cnf"), extensions).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn openssl(&self, words: &str, more: &[&str]) {
        let ran = Command::new("openssl").args(words.split(' ')).args(more).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    fn certificate(&self, name: &str, section: &str, more: &[&str]) {
        let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1";
        let (subject, config) = (format!("/CN={name}"), self.path("openssl.cnf"));
        let (out, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let flags =
            ["-subj", &subject, "-config", &config, "-extensions", section, "-out", &out, "-keyout", &key];
        self.openssl(words, &[&flags, more].concat());
    }

    fn authority(&self, name: &str) {
        self.certificate(name, "ca", &[]);
    }

    fn signed_by(&self, authority: &str, name: &str) {
        let (certificate, key) =
            (self.path(&format!("{authority}.pem")), self.path(&format!("{authority}.key")));
        self.certificate(name, "leaf", &["-CA", &certificate, "-CAkey", &key]);
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks as root; the answer of etcd, errors included.
async fn as_root(etcd: &Etcd, path: &str, body: Value) -> Value {
    let root = json!({"name": "root", "password": "secret"});
    let token = etcd.call("auth/authenticate", root).await.unwrap_or_default()["token"].clone();
    let url = format!("http://{}/v3/{path}", etcd.address);
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    let request = client.post(url).header("Authorization", token.as_str().unwrap_or_default());
    request.body(body.to_string()).send().await.unwrap().json().await.unwrap()
}

/// The user `node` with the password `word`, and the role `primacy` that it does not have yet.
async fn asks_for_users(etcd: &Etcd) {
    for (path, body) in [
        ("auth/user/add", json!({"name": "root", "password": "secret"})),
        ("auth/user/grant", json!({"user": "root", "role": "root"})),
        ("auth/user/add", json!({"name": "node", "password": "word"})),
        ("auth/role/add", json!({"name": "primacy"})),
        // As etcdctl role grant-permission primacy --prefix=true readwrite /primacy/
        (
            "auth/role/grant",
            json!({"name": "primacy", "perm":
                {"permType": "READWRITE", "key": base64("/primacy/"), "range_end": base64("/primacy0")}}),
        ),
        ("auth/enable", json!({})),
    ] {
        let answer = etcd.call(path, body).await.unwrap();
        assert!(answer["error"].is_null(), "{path}: {answer}");
    }
}

async fn gets_the_role(etcd: &Etcd) {
    let answer = as_root(etcd, "auth/user/grant", json!({"user": "node", "role": "primacy"})).await;
    assert!(answer["error"].is_null(), "{answer}");
}

/// How often etcd has answered the method with this code.
async fn answered(etcd: &Etcd, method: &str, code: &str) -> u64 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let Ok(answer) = client.get(format!("http://{}/metrics", etcd.address)).send().await else { return 0 };
    let (method, code) = (format!("grpc_method=\"{method}\""), format!("grpc_code=\"{code}\""));
    let text = answer.text().await.unwrap_or_default();
    let line = text.lines().find(|line| {
        line.starts_with("grpc_server_handled_total") && line.contains(&method) && line.contains(&code)
    });
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

async fn answered_more(etcd: &Etcd, method: &str, code: &str, more: u64) {
    let before = answered(etcd, method, code).await;
    let has = || async { answered(etcd, method, code).await >= before + more };
    eventually(&format!("{more} of {method} with {code}"), has).await;
}

fn node_as(etcds: &Etcds, user: &str) -> Process {
    let arguments = ["--coordinator", &etcds.coordinator(), "--etcd-user", user];
    Process::start_with(Some(4), "node", &arguments)
}

/// The counter of the ballot by which the node follows a leader.
async fn counter(node: &Process) -> Option<u64> {
    Some(view(node.grpc).await.ok()?.leader?.counter)
}

async fn leads(node: &Process) -> u64 {
    eventually(&format!("{} follows a leader", node.name), || async { counter(node).await.is_some() }).await;
    counter(node).await.unwrap()
}

fn warnings(node: &Process, text: &str) -> usize {
    node.log().lines().filter(|line| line.contains("WARN") && line.contains(text)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openssl, and etcd of Debian's etcd-server: scripts/test.sh installs them"]
async fn etcd_may_ask_for_a_certificate() {
    let papers = Papers::new();
    papers.authority("authority");
    papers.authority("another");
    for name in ["server", "node"] {
        papers.signed_by("authority", name);
    }
    papers.signed_by("another", "stranger");
    let path = |name: &str| papers.path(name);
    let (authority, certificate, key) = (path("authority.pem"), path("server.pem"), path("server.key"));
    let tls = ["--cert-file", &certificate, "--key-file", &key];
    let asks = ["--client-cert-auth", "--trusted-ca-file", &authority];
    let etcds = Etcds::spawn(1, "https", &[tls.as_slice(), asks.as_slice()].concat());
    let coordinator = etcds.coordinator();
    let trusts =
        |authority: &str| ["--coordinator", &coordinator, "--etcd-cacert", authority].map(str::to_owned);
    let refused_with = async |arguments: &[String], text: &str| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let node = Process::start_with(Some(4), "refused", &arguments);
        eventually(&format!("it says {text}"), || async { warnings(&node, text) > 0 }).await;
        assert_eq!(counter(&node).await, None);
    };

    let mine = ["--etcd-cert", &path("node.pem"), "--etcd-key", &path("node.key")].map(str::to_owned);
    let welcome = [trusts(&authority).as_slice(), mine.as_slice()].concat();
    comes_to_lead(&welcome.iter().map(String::as_str).collect::<Vec<_>>()).await;
    refused_with(&trusts(&authority), "it may ask for a certificate, and ETCDCTL_CERT is not set").await;
    let stranger =
        ["--etcd-cert", &path("stranger.pem"), "--etcd-key", &path("stranger.key")].map(str::to_owned);
    let stranger = [trusts(&authority).as_slice(), stranger.as_slice()].concat();
    refused_with(&stranger, "it may not accept the certificate of ETCDCTL_CERT").await;
    refused_with(&trusts(&authority)[..2], "it may speak TLS, and ETCDCTL_CACERT is not set").await;
    let misled = [trusts(&path("another.pem")).as_slice(), mine.as_slice()].concat();
    refused_with(&misled, "no CA that is believed here has signed its certificate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn a_user_of_the_prefix_alone_may_do_all_that_nodes_do() {
    let etcds = Etcds::start(1).await;
    let etcd = &etcds.members[0];
    asks_for_users(etcd).await;
    gets_the_role(etcd).await;
    let coordinator = etcds.coordinator();
    let arguments = ["--coordinator", &coordinator, "--etcd-user", "node:word"];
    let follows = async |node: &Process, leader: &str| {
        eventually(&format!("{} follows {leader}", node.name), || async {
            view(node.grpc).await.is_ok_and(|view| view.leader.is_some_and(|other| other.name == leader))
        })
        .await;
    };
    let mut high = Process::start_with(Some(2), "high", &arguments);
    follows(&high, "high").await;
    let low = Process::start_with(Some(1), "low", &arguments);
    follows(&low, "high").await;
    // It hands over and revokes its lease.
    high.signal(Signal::TERM);
    follows(&low, "low").await;
    assert!(high.ended().await.success());
    let mine = json!({"key": base64("/primacy/members/"), "range_end": base64("/primacy/members0")});
    eventually("one is registered", || async {
        as_root(etcd, "kv/range", mine.clone()).await["count"] == "1"
    })
    .await;
    for node in [&high, &low] {
        assert_eq!(warnings(node, "a call to etcd failed"), 0, "{}", node.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openssl, and etcd of Debian's etcd-server: scripts/test.sh installs them"]
async fn a_token_that_ends_is_replaced_and_the_lead_is_kept() {
    let papers = Papers::new();
    let (key, public) = (papers.path("jwt.key"), papers.path("jwt.pem"));
    papers.openssl("genrsa -out", &[&key, "2048"]);
    papers.openssl("rsa -pubout -in", &[&key, "-out", &public]);
    let jwt = |time| format!("jwt,pub-key={public},priv-key={key},sign-method=RS256,ttl={time}");
    for (tokens, ends_by_itself) in [("simple".to_owned(), false), (jwt("1h"), false), (jwt("3s"), true)] {
        let mut etcds = Etcds::spawn(1, "http", &["--auth-token", &tokens]);
        etcds.all_answer().await;
        let etcd = &etcds.members[0];
        let node = node_as(&etcds, "node:word");
        // Users may be told of before etcd asks for them.
        let before = leads(&node).await;
        asks_for_users(etcd).await;
        gets_the_role(etcd).await;
        answered_more(etcd, "Range", "OK", 3).await;
        assert_eq!(counter(&node).await, Some(before), "{}", node.log());
        if ends_by_itself {
            answered_more(etcd, "Authenticate", "OK", 3).await;
        }
        // The auth revision changes, and tokens of a user whose password changes end.
        for round in 0..3 {
            let name = format!("user{round}");
            as_root(etcd, "auth/user/add", json!({"name": name, "password": "x"})).await;
            as_root(etcd, "auth/user/changepw", json!({"name": "node", "password": "word"})).await;
            answered_more(etcd, "Range", "OK", 3).await;
        }
        assert_eq!(counter(&node).await, Some(before), "{tokens}: {}", node.log());

        etcds.members[0].kill();
        etcds.members[0].restart();
        let etcd = &etcds.members[0];
        eventually("it answers", || async { answered(etcd, "Range", "OK").await >= 5 }).await;
        leads(&node).await;
        if tokens == jwt("1h") {
            assert_eq!(answered(etcd, "Authenticate", "OK").await, 0, "a signed token is shown again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn a_wrong_password_is_said_and_not_tried_without_end() {
    let etcds = Etcds::start(1).await;
    let etcd = &etcds.members[0];
    asks_for_users(etcd).await;
    gets_the_role(etcd).await;
    let node = node_as(&etcds, "node:wrong");
    eventually("it says so", || async { warnings(&node, "invalid user ID or password") == 1 }).await;
    // Each costs etcd some 0.1 s of a core. The pauses are 0.5 to 1 s, 1 to 2 s, 2 to 4 s.
    let started = Instant::now();
    eventually("it tries", || async { answered(etcd, "Authenticate", "InvalidArgument").await >= 4 }).await;
    assert!(started.elapsed() > Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(warnings(&node, "a call to etcd failed"), 1, "{}", node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn what_a_user_may_not_is_said_once_and_what_it_needs() {
    let etcds = Etcds::start(1).await;
    let etcd = &etcds.members[0];
    asks_for_users(etcd).await;
    let node = node_as(&etcds, "node:word");
    for method in ["Put", "Range"] {
        answered_more(etcd, method, "PermissionDenied", 10).await;
    }
    let needs = "etcdctl role grant-permission ROLE --prefix=true readwrite /primacy/";
    for what in ["register this node", "list and watch /primacy/"] {
        let line = format!("a call to etcd failed ({what}): etcdserver: permission denied");
        assert_eq!(warnings(&node, &line), 1, "{}", node.log());
    }
    assert_eq!(warnings(&node, needs), 2, "{}", node.log());
    gets_the_role(etcd).await;
    leads(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn an_endpoint_that_hangs_costs_no_lease() {
    for with_user in [false, true] {
        an_endpoint_hangs(with_user).await;
    }
}

async fn an_endpoint_hangs(with_user: bool) {
    let etcds = Etcds::start(3).await;
    if with_user {
        asks_for_users(&etcds.members[0]).await;
        gets_the_role(&etcds.members[0]).await;
    }
    let mut proxies = Vec::new();
    for address in etcds.addresses() {
        proxies.push(Proxy::to(address).await);
    }
    let coordinator = coordinator_at(proxies.iter().map(|proxy| proxy.address));
    let mut arguments = vec!["--coordinator", &coordinator];
    arguments.extend(with_user.then_some(["--etcd-user", "node:word"]).into_iter().flatten());
    let node = Process::start_with(Some(4), "node", &arguments);
    let before = leads(&node).await;
    let used = || (0..3).filter(|place| proxies[*place].is_used()).collect::<Vec<_>>();
    for _ in 0..2 {
        // Nothing keeps the connection that was left.
        eventually("one is used", || async { used().len() == 1 }).await;
        let place = used()[0];
        let etcd = &etcds.members[place];
        // An election of etcd itself would take another two seconds.
        if etcd.leads().await {
            let other = etcds.members[(place + 1) % 3].call("maintenance/status", json!({})).await.unwrap();
            let to = json!({"targetID": other["header"]["member_id"]});
            etcd.call("maintenance/transfer-leadership", to).await.unwrap();
            eventually("another one leads etcd", || async { !etcd.leads().await }).await;
        }
        etcd.signal(Signal::STOP);
        let next = || used().into_iter().find(|other| *other != place);
        eventually("the node uses another one", || async { next().is_some() }).await;
        answered_more(&etcds.members[next().unwrap()], "Range", "OK", 3).await;
        assert_eq!(counter(&node).await, Some(before), "{}", node.log());
        etcd.signal(Signal::CONT);
        eventually("etcd is whole", || async { etcd.follows().await }).await;
    }
    assert!(!node.has_logged("is lost"), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn a_lease_that_is_kept_alive_leaves_no_call_open() {
    let etcds = Etcds::start(1).await;
    let etcd = &etcds.members[0];
    let node = Process::start_with(Some(4), "node", &["--coordinator", &etcds.coordinator()]);
    leads(&node).await;
    answered_more(etcd, "LeaseKeepAlive", "OK", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn one_endpoint_that_works_is_found() {
    let etcds = Etcds::start(1).await;
    // Accepts, by the system's queue, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (silent.local_addr().unwrap(), silent);
    let coordinator = coordinator_at([free_address(), silent.0, etcds.members[0].address]);
    let arguments = ["--coordinator", &coordinator, "--etcd-user", "node:word"];
    for with_user in [false, true] {
        if with_user {
            asks_for_users(&etcds.members[0]).await;
            gets_the_role(&etcds.members[0]).await;
        }
        // It begins at any of them.
        for round in 0..4 {
            let arguments = if with_user { &arguments[..] } else { &arguments[..2] };
            let node = Process::start_with(Some(4), &format!("node{round}"), arguments);
            let leads = || async { counter(&node).await.is_some() };
            within(Duration::from_secs(12), &format!("it leads: {}", node.log()), leads).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd, of Debian's etcd-server: scripts/test.sh installs it"]
async fn nodes_with_a_password_come_back_to_etcd_together() {
    let count = std::env::var("PRIMACY_NODES").map_or(12, |count| count.parse().unwrap());
    let mut etcds = Etcds::start(1).await;
    asks_for_users(&etcds.members[0]).await;
    gets_the_role(&etcds.members[0]).await;
    let coordinator = etcds.coordinator();
    let arguments = ["--coordinator", &coordinator, "--etcd-user", "node:word"];
    let start = |id| Process::start_with(Some(id), &format!("node{id}"), &arguments);
    let nodes: Vec<Process> = (1..=count).map(start).collect();
    let follow_one = || async {
        let counters = futures_util::future::join_all(nodes.iter().map(counter)).await;
        counters.iter().all(|other| other.is_some() && *other == counters[0])
    };
    eventually("all follow one", follow_one).await;
    etcds.members[0].kill();
    let alone = || async {
        let counters = futures_util::future::join_all(nodes.iter().map(counter)).await;
        counters.iter().all(Option::is_none)
    };
    eventually("nobody leads", alone).await;

    etcds.members[0].restart();
    let etcd = &etcds.members[0];
    eventually("etcd answers", || async { answered(etcd, "Check", "OK").await > 0 }).await;
    let back = Instant::now();
    eventually("all follow one again", follow_one).await;
    // Each password costs etcd some 0.1 s of a core, and none is shown in vain.
    let shown = answered(etcd, "Authenticate", "OK").await;
    println!("{count} nodes follow one after {:?}, and {shown} passwords were shown", back.elapsed());
    assert_eq!(shown, u64::from(count));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_troubles_of_several_endpoints_are_said_once_each() {
    let (mut addresses, mut tasks) = (Vec::new(), JoinSet::new());
    let tried = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        let tried = Arc::clone(&tried);
        tasks.spawn(async move {
            // Closes each at once.
            while listener.accept().await.is_ok() {
                tried.fetch_add(1, Relaxed);
            }
        });
    }
    let coordinator = coordinator_at(addresses.iter().copied());
    let node = Process::start_with(Some(4), "node", &["--coordinator", &coordinator]);
    eventually("each was tried again and again", || async { tried.load(Relaxed) > 30 }).await;
    for address in addresses {
        let times = warnings(&node, &address.to_string());
        assert!((1..=4).contains(&times), "{times} times {address}: {}", node.log());
    }
}
