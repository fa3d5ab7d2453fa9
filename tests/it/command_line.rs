//! The command line of the real binary: what it prints, how it ends, and that it leaves nothing behind.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::pipe,
    net::{SocketAddr, TcpListener},
    ops::Range,
    process,
    sync::Arc,
};

use primacy::{
    Acceptor, Listener, Protocols, is_prime,
    proto::{MemberStatus, WatchClusterRequest, scheduler_client::SchedulerClient},
};
use reqwest::{Client, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{
        self, Process, Processes, Ran, Running, SOON, STOPS_WITHIN, TestCluster, TestNode, Up, all_alive,
        channel, children, command, eventually, free_address, long_number, longest_number, piped, processes,
        run, run_command, send_signal, status_of, view,
    },
    http::Raw,
};

const FREE_PORTS: [&str; 4] = ["--grpc-port", "0", "--http-port", "0"];
const COMMANDS: [&str; 8] = ["up", "node", "check", "status", "transfer", "health", "openapi", "completions"];
/// 2^127 - 1.
const MERSENNE: &str = "170141183460469231731687303715884105727";

async fn get(url: &str) -> Value {
    let Ok(response) = reqwest::get(url).await else { return Value::Null };
    response.json().await.unwrap_or_default()
}

async fn ask(http: SocketAddr, body: &str) -> Response {
    Client::new().post(format!("http://{http}/prime")).body(body.to_owned()).send().await.unwrap()
}

async fn holds_one(http: SocketAddr) {
    eventually("one request is in flight", || async {
        let metrics = reqwest::get(format!("http://{http}/metrics")).await.unwrap().text().await.unwrap();
        metrics.contains("primacy_in_flight 1\n")
    })
    .await;
}

/// Asks for what takes longer than anybody here waits.
async fn ask_long(grpc: SocketAddr, http: SocketAddr) -> Running {
    let number = longest_number();
    let asking = Running::start(&mut command(&["check", &number, "--endpoints", &grpc.to_string()]));
    holds_one(http).await;
    asking
}

fn endpoints(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
}

/// `primacy check` at these nodes.
async fn check(at: &[SocketAddr], arguments: &[&str]) -> Ran {
    run(&[&["check", "--endpoints", &endpoints(at)], arguments].concat()).await
}

/// `primacy check -` at these nodes.
fn check_lines(at: &[SocketAddr]) -> Command {
    command(&["check", "-", "--endpoints", &endpoints(at)])
}

/// Who processed each of the numbers from the first one on, by lines that say of them what is true.
fn processed_by(lines: &str, first: u64) -> Vec<&str> {
    let numbered = lines.lines().zip(first..);
    let by = numbered.map(|(line, number)| {
        let start = format!("{number} is prime: {} (processed by ", is_prime(number));
        let rest = line.strip_prefix(&start).and_then(|rest| rest.strip_suffix(')'));
        rest.unwrap_or_else(|| panic!("this is not the answer for {number}: {line:?}"))
    });
    by.collect()
}

// ── primacy up ──────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_command_runs_a_cluster_of_four_processes() {
    let up = Up::start(&[]).await;
    let names: Vec<&str> = up.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["leader", "worker1", "worker2", "worker3"]);
    for node in &up.nodes {
        assert_eq!(get(&format!("http://{}/cluster", node.http)).await["observed_by"], node.name);
        assert!(harness::check(node.grpc, 17).await.unwrap().is_prime);
    }
    let out = up.running.out.text();
    let http = format!("http://localhost:{}", up.nodes[0].http.port());
    for url in [format!("{http}/docs\n"), format!("{http}/prime\n")] {
        assert!(out.contains(&url), "{out}");
    }
    assert!(reqwest::get(format!("http://{}/docs", up.nodes[0].http)).await.unwrap().status().is_success());
    let answer: Value = ask(up.nodes[0].http, r#"{"number": 17}"#).await.json().await.unwrap();
    assert_eq!(answer["is_prime"], true);
    assert!(out.contains(&format!("localhost:{} ", up.nodes[0].grpc.port())), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_carry_the_nodes_names_and_no_escape_codes() {
    let up = Up::start(&["up", "-n", "1"]).await;
    let (out, err) = (&up.running.out, &up.running.err);
    for (prefix, text) in [("leader  | ", "leader serves gRPC"), ("worker1 | ", "worker1 serves gRPC")] {
        err.has(text).await;
        let said = err.text().lines().any(|line| line.starts_with(prefix) && line.contains(text));
        assert!(said, "{}", err.text());
    }
    let stray = err.text().lines().find(|line| !line.contains(" | ")).map(str::to_owned);
    assert_eq!(stray, None);
    assert!(!(out.text() + &err.text()).contains('\x1b'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_stops_all_nodes_soon_although_clients_stay_connected() {
    for sign in [Signal::INT, Signal::TERM] {
        let mut up = Up::start(&["up", "-n", "2"]).await;
        let browser = Client::new();
        let mut watches = Vec::new();
        for node in &up.nodes {
            let cluster = browser.get(format!("http://{}/cluster", node.http)).send().await.unwrap();
            assert!(cluster.json::<Value>().await.unwrap().is_object());
            let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
            watches.push(client.watch_cluster(WatchClusterRequest {}).await.unwrap().into_inner());
        }
        send_signal(up.running.pid(), sign);
        up.ends_well().await;
        let last_words = up.running.err.text().lines().filter(|line| line.ends_with("INFO stopped")).count();
        assert_eq!(last_words, 3, "each node's log is shown to its end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_stops_before_it_is_ready_too() {
    let mut running = Running::start(command(&["up", "-n", "5"]).args(FREE_PORTS));
    running.err.has("serves gRPC").await;
    let nodes = children(running.pid());
    send_signal(running.pid(), Signal::TERM);
    assert_eq!(running.ends_within(STOPS_WITHIN).await, Some(0));
    let pids: Vec<i32> = nodes.into_iter().map(|(pid, _)| pid).collect();
    let left = |(pid, command): &(i32, String)| pids.contains(pid) && command.contains("--exit-with-stdin");
    assert_eq!(processes().into_iter().find(left), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_that_is_told_twice_does_not_wait_for_what_is_in_flight() {
    let mut up = Up::start(&["up", "-n", "1"]).await;
    let _asking = ask_long(up.nodes[0].grpc, up.nodes[0].http).await;
    send_signal(up.running.pid(), Signal::INT);
    up.running.err.has("no new work, 1 requests").await;
    send_signal(up.running.pid(), Signal::INT);
    up.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_that_is_killed_leaves_no_orphans() {
    let mut up = Up::start(&["up", "-n", "2"]).await;
    up.running.child.kill().await.unwrap();
    up.leaves_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_stays_dead_until_the_printed_command_brings_it_back() {
    let mut up = Up::start(&["up"]).await;
    let (leader, worker) = (up.nodes[0].grpc, &up.nodes[2]);
    send_signal(worker.pid, Signal::KILL);
    up.running.out.has("worker2 is gone (signal: 9 (SIGKILL)); the others carry on").await;
    eventually("it is dead", || async {
        view(leader).await.is_ok_and(|view| status_of(&view, "worker2") == MemberStatus::Dead)
    })
    .await;
    assert_eq!(children(up.running.pid()).len(), 3);
    let answers = check(&[leader], &["17", "18", "19", "20"]).await;
    assert_eq!((answers.code, answers.out.contains("worker2")), (Some(0), false), "{answers:?}");

    let out = up.running.out.text();
    let printed = out.lines().find(|line| line.contains(" node --id 2 ")).unwrap();
    let mut again =
        Running::start(piped(process::Command::new("sh")).args(["-c", &format!("exec {printed}")]));
    all_alive(leader, 4).await;
    send_signal(up.running.pid(), Signal::TERM);
    assert_eq!(up.running.ends_within(STOPS_WITHIN).await, Some(0));
    assert!(harness::check(worker.grpc, 17).await.unwrap().is_prime, "whoever started it stops it");
    send_signal(again.pid(), Signal::TERM);
    assert_eq!(again.ends_within(STOPS_WITHIN).await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_command_works_for_a_path_with_blanks_and_a_program_that_was_replaced() {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("it's a $HOME {}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (program, next) = (folder.join("primacy"), folder.join("next"));
    for path in [&program, &next] {
        fs::copy(env!("CARGO_BIN_EXE_primacy"), path).unwrap();
    }
    let mut up = process::Command::new(&program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PRIMACY_")) {
        up.env_remove(name);
    }
    up.args(["up", "-n", "1"]).args(FREE_PORTS).env("PRIMACY_HEARTBEAT", "200").env("PRIMACY_ID", "");
    let up = Up::of(Running::start(&mut piped(up))).await;
    fs::rename(&next, &program).unwrap();
    let leader = up.nodes[0].grpc;
    send_signal(up.nodes[1].pid, Signal::KILL);
    up.running.out.has("in another terminal with the same PRIMACY_HEARTBEAT:").await;
    up.running.out.has(" node --id 1 ").await;
    let out = up.running.out.text();
    let printed = out.lines().find(|line| line.contains(" node --id 1 ")).unwrap();
    let mut shell = process::Command::new("sh");
    shell.args(["-c", &format!("exec {printed}")]).env("PRIMACY_HEARTBEAT", "200");
    let again = Running::start(&mut piped(shell));
    all_alive(leader, 2).await;
    drop(again);
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_ends_by_itself_when_no_node_is_left() {
    let mut up = Up::start(&["up", "-n", "1"]).await;
    up.nodes.iter().for_each(|node| send_signal(node.pid, Signal::KILL));
    up.running.ends_within(STOPS_WITHIN).await;
    assert!(up.running.out.text().ends_with("no node is left\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_carry_on_when_nobody_reads_what_up_prints() {
    let mut up = Up::start(&["up", "-n", "2"]).await;
    up.running.out.close().await;
    up.running.err.close().await;
    let leader = up.nodes[0].grpc;
    send_signal(up.nodes[1].pid, Signal::KILL);
    eventually("it is reaped, so that up knows", || async { children(up.running.pid()).len() == 2 }).await;
    let answers = check(&[leader], &["17", "18", "19"]).await;
    assert_eq!(answers.code, Some(0), "{answers:?}");
    let health = run(&["health", "--endpoints", &leader.to_string()]).await;
    assert_eq!(health.code, Some(0), "it does not stop for that: {health:?}");
    send_signal(up.running.pid(), Signal::TERM);
    up.ends_well().await;
}

/// A terminal by util-linux's `script`, whose input is what is typed there; where it is missing this tests nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_names_have_colours_unless_unwanted_and_ctrl_c_stops_all() {
    if process::Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let up = format!("exec {} up -n 1 {}", env!("CARGO_BIN_EXE_primacy"), FREE_PORTS.join(" "));
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut script = piped(process::Command::new("script"));
        let mut terminal = Running::start(script.args(["-qec", &up, "/dev/null"]).env("NO_COLOR", no_color));
        terminal.out.has("Ctrl-C stops them all.").await;
        assert_eq!(terminal.out.text().contains("\x1b[36mleader  |\x1b[0m"), coloured);
        assert_eq!(terminal.out.text().contains('\x1b'), coloured);
        assert!(terminal.write("\x03").await);
        assert_eq!(terminal.ends_within(STOPS_WITHIN).await, Some(0));
    }
}

/// As the kernel calls the process of this test.
fn myself() -> String {
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    format!("{} (process {})", name.trim_end(), process::id())
}

/// A port that is taken and the free one before it.
fn taken_port() -> (TcpListener, u16) {
    loop {
        let port = free_address().port();
        if let Ok(taken) = TcpListener::bind(("127.0.0.1", port + 1)) {
            return (taken, port + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_names_the_port_that_is_taken_and_starts_nothing() {
    let (_taken, port) = taken_port();
    for (flag, base, other, name, protocol) in [
        ("--grpc-port", port, "--http-port", "leader", "gRPC"),
        ("--http-port", port - 1, "--grpc-port", "worker1", "HTTP"),
    ] {
        let ran = run(&["up", "-n", "2", flag, &base.to_string(), other, "0"]).await;
        assert_eq!((ran.code, &*ran.out), (Some(1), ""), "{ran:?}");
        let says =
            format!("primacy: port {port}, which {name} needs for {protocol}, is taken by {}", myself());
        assert!(ran.err.starts_with(&says) && ran.err.contains(flag), "{ran:?}");
        let left = processes().into_iter().find(|(_, command)| command.contains(&format!(":{port}")));
        assert_eq!(left, None);
    }
    for (grpc, http) in [("9000", "9002"), ("9003", "9000"), ("9000", "9000")] {
        let ran = run(&["up", "-n", "3", "--grpc-port", grpc, "--http-port", http]).await;
        assert_eq!((ran.code, &*ran.out), (Some(1), ""), "{ran:?}");
        let says =
            format!("--grpc-port {grpc} and --http-port {http} overlap: each takes 4 ports from there on");
        assert!(ran.err.contains(&says) && ran.err.contains("4 or more apart"), "{ran:?}");
    }
    let ran = run(&["up", "--grpc-port", "65535", "--http-port", "0"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("--grpc-port 65535 leaves no port for worker1"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_shows_why_a_node_does_not_start() {
    let mut up = command(&["up", "-n", "1"]);
    let ran = run_command(up.args(FREE_PORTS).env("PRIMACY_HEARTBEAT", "5"), "").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let ended = ran.err.lines().find_map(|line| line.strip_prefix("primacy: ")?.split_once(" ended before"));
    let (name, _) = ended.unwrap_or_else(|| panic!("{ran:?}"));
    let why = |line: &str| line.starts_with(name) && line.contains("5 is not in 10..=5000");
    assert!(ran.err.lines().any(why), "{ran:?}");
}

// ── primacy node ────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_names_the_address_that_is_taken() {
    let (taken, _) = taken_port();
    let taken = taken.local_addr().unwrap().to_string();
    for (flag, other, protocol) in
        [("--grpc-addr", "--http-addr", "gRPC"), ("--http-addr", "--grpc-addr", "HTTP")]
    {
        let ran = run(&["node", flag, &taken, other, "127.0.0.1:0"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let says = format!("primacy: cannot listen for {protocol} on {taken}: it is taken by {};", myself());
        assert!(ran.err.contains(&says) && ran.err.contains(flag), "{ran:?}");
        let variable = format!("PRIMACY_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
        let mut told = command(&["node", other, "127.0.0.1:0"]);
        let ran = run_command(told.env(&variable, &taken), "").await;
        assert!(ran.err.contains(&says) && ran.err.contains(&format!("with {variable}")), "{ran:?}");
    }
    let port = taken.rsplit_once(':').unwrap().1;
    let ran = run_command(command(&["node", "--insecure"]).env("PORT", port), "").await;
    assert!(ran.err.contains("choose another address with PORT"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_was_lent_to_an_outgoing_connection_is_told_with_where_it_goes() {
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let lent = socket.connect(far.local_addr().unwrap()).await.unwrap();
    let address = lent.local_addr().unwrap();
    let ran = run(&["node", "--grpc-addr", &address.to_string(), "--http-addr", "127.0.0.1:0"]).await;
    let says =
        format!("{address}: it is taken by {}, with a connection to {}", myself(), far.local_addr().unwrap());
    assert!(ran.code == Some(1) && ran.err.contains(&says), "{ran:?}");
}

async fn lonely_node() -> Process {
    let (grpc, http) = (free_address(), free_address());
    let node = Process::start(1, "worker1", grpc, http, &format!("1={grpc}"));
    all_alive(grpc, 1).await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_stop_answers_what_it_holds_and_ends_well() {
    let mut node = lonely_node().await;
    let mut asking = Raw::connect(node.http).await;
    asking.send("POST /prime HTTP/1.1\r\nHost: test\r\nContent-Length: 14\r\n\r\n{\"number\": 17").await;
    holds_one(node.http).await;
    node.signal(Signal::TERM);
    eventually("it drains", || async { TcpListener::bind(node.http).is_ok() }).await;
    asking.send("}").await;
    assert_eq!(asking.answer().await.unwrap().json()["processed_by"], "worker1");
    assert_eq!(node.ended().await.code(), Some(0));
    eventually("it said so", || async { node.has_logged("no new work, 1 requests in flight") }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_drain_of_a_node() {
    for second in [Signal::TERM, Signal::INT] {
        let mut node = lonely_node().await;
        let _asking = ask_long(node.grpc, node.http).await;
        node.signal(Signal::TERM);
        eventually("it drains", || async { TcpListener::bind(node.http).is_ok() }).await;
        node.signal(second);
        let ended = timeout(STOPS_WITHIN, node.ended()).await;
        assert_eq!(ended.map(|status| status.code()), Ok(Some(0)));
        eventually("it says so", || async { node.has_logged("not waiting for what is in flight") }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_its_settings_from_the_environment_and_flags_win() {
    let [grpc, http, peer, other] = [(); 4].map(|()| free_address());
    let mut node = command(&["node", "--name", "told-by-flag"]);
    node.env("PRIMACY_NAME", "told-by-environment").env("PRIMACY_ID", "7").env("PRIMACY_LOG", "error");
    node.env("PRIMACY_GRPC_ADDR", grpc.to_string()).env("PRIMACY_HTTP_ADDR", http.to_string());
    node.env("PRIMACY_ADVERTISE_GRPC", "localhost:1").env("PRIMACY_ADVERTISE_HTTP", "localhost:2");
    node.env("PRIMACY_PEERS", format!("3={peer},{other}")).env("PRIMACY_HEARTBEAT", "250");
    node.env("PRIMACY_NO_FALLBACK", "1").env("PRIMACY_BODY_MAX", "99").env("PRIMACY_IN_FLIGHT_MAX", "9");
    let node = Running::start(&mut node);
    let url = format!("http://{http}/cluster");
    eventually("it answers", || async { get(&url).await.is_object() }).await;
    let members = get(&url).await["members"].clone();
    let member = |name: &str| {
        let found = members.as_array().unwrap().iter().find(|member| member["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("{members}"))
    };
    let me = member("told-by-flag");
    assert_eq!(
        (&me["id"], &me["grpc_addr"], &me["http_addr"]),
        (&7.into(), &"localhost:1".into(), &"localhost:2".into())
    );
    assert_eq!(member(&peer.to_string())["id"], 3);
    assert_eq!(member(&other.to_string())["id"], Value::Null);
    assert_eq!(ask(http, r#"{"number": 17}"#).await.status(), 503, "no fallback");
    assert_eq!(ask(http, &"1".repeat(100)).await.status(), 413, "of 99 bytes");
    assert_eq!(node.err.text(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_understands_the_environment_of_the_seeds_workers() {
    let (grpc, http) = (free_address(), free_address());
    let mut node = command(&["node", "--http-addr", &http.to_string()]);
    node.env("WORKER_ID", "worker2").env("PORT", grpc.port().to_string()).env("PRIMACY_DEADLINE", "1");
    // As the seed's workers it listens beyond loopback.
    node.env("PRIMACY_TOKEN", "secret");
    let _node = Running::start(&mut node);
    all_alive(grpc, 1).await;
    let view = view(grpc).await.unwrap();
    assert_eq!((view.members[0].id, &*view.members[0].name), (Some(2), "worker2"));
    assert_eq!(check(&[grpc], &["17"]).await.out, "17 is prime: true (processed by worker2)\n");
    let long = reqwest::get(format!("http://{http}/prime/{}", long_number(4_000))).await.unwrap();
    assert_eq!(long.status(), 504, "a deadline of 1 ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_cannot_be_are_refused_with_what_is_allowed() {
    let long_name = "a".repeat(65);
    for (flag, value, allowed) in [
        ("--peers", "1=a:1,2=b:1,1=c:1", "a:1 and c:1 have the same id 1; every node needs an id of its own"),
        ("--peers", "0=a:1", "a whole number from 1 to 2147483647"),
        ("--peers", "leader", "HOST:PORT, such as worker1:50052"),
        ("--name", "a b", "1 to 64 letters, digits, dots, dashes and underscores"),
        ("--name", &long_name, "1 to 64 letters"),
        ("--id", "0", "1..=2147483647"),
        ("--grpc-addr", "localhost:50051", "IP:PORT, such as 127.0.0.1:50051"),
        ("--http-addr", "127.0.0.1:65536", "IP:PORT, such as 127.0.0.1:50051"),
        ("--advertise-grpc", "http://a:1", "HOST:PORT, such as worker1:50052"),
        ("--advertise-http", "a:0", "HOST:PORT, such as worker1:50052"),
        ("--heartbeat", "9", "10..=5000"),
        ("--deadline", "0", "1..=300000"),
        ("--deadline", "300001", "1..=300000"),
        ("--in-flight-max", "0", "1..=1048576"),
        ("--in-flight-max", "99999999999999999999", "number too large"),
        ("--body-max", "0", "64..=8388608"),
        ("--body-max", "99999999999", "64..=8388608"),
        ("--coordinator", "etcd://", "write bully, or etcd://HOST:PORT"),
        ("--insecure", "perhaps", "value was not a boolean"),
    ] {
        let ran = run(&["node", &format!("{flag}={value}")]).await;
        assert_eq!((ran.code, &*ran.out), (Some(2), ""), "{ran:?}");
        let variable = variable_of(flag);
        let by_environment = run_command(command(&["node"]).env(&variable, value), "").await;
        assert_eq!(by_environment.code, Some(2), "{by_environment:?}");
        for (ran, named, other) in [(ran, flag, &*variable), (by_environment, &variable, flag)] {
            // A flag that is a switch takes no value at all.
            assert!(ran.err.contains(allowed) || flag == "--insecure", "{ran:?}");
            assert!(ran.err.contains(named) && !ran.err.contains(other), "{ran:?}");
        }
    }
}

fn variable_of(flag: &str) -> String {
    format!("PRIMACY_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_that_was_typed_is_named_although_its_variable_is_set() {
    let ran = run_command(command(&["node", "--id", "0"]).env("PRIMACY_ID", "7"), "").await;
    assert!(ran.err.contains("'0' for '--id <ID>'"), "{ran:?}");
    for (arguments, named) in [
        (&["node"][..], "PRIMACY_TOKEN: the token has a blank"),
        (&["node", "--token", "a b"], "--token: the token"),
    ] {
        let ran = run_command(command(arguments).env("PRIMACY_TOKEN", "secret word"), "").await;
        assert!(ran.code == Some(2) && ran.err.contains(named) && !ran.err.contains("secret"), "{ran:?}");
    }
    let mut transfer = command(&["transfer", "--to", "worker1"]);
    let ran = run_command(transfer.env("PRIMACY_TOKEN", "secret word"), "").await;
    assert!(ran.code == Some(2) && ran.err.contains("PRIMACY_TOKEN: the token has a blank"), "{ran:?}");
    let same = ["--http-addr", "0.0.0.0:7000"];
    let mut node = command(&[&["node"], &same[..]].concat());
    let ran = run_command(node.env("PRIMACY_GRPC_ADDR", "127.0.0.1:7000"), "").await;
    assert!(ran.err.contains("PRIMACY_GRPC_ADDR and --http-addr are both at port 7000"), "{ran:?}");
    let mut node = command(&["node"]);
    let ran = run_command(node.env("WORKER_ID", "a b"), "").await;
    assert!(ran.code == Some(2) && ran.err.contains("WORKER_ID, and no --name was given"), "{ran:?}");
}

/// Every variable that the help of a command names.
async fn variables_of(name: &str) -> Vec<String> {
    let help = run(&[name, "--help"]).await.out;
    let named = help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap().to_owned());
    named.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_variable_is_as_unset() {
    let settings = variables_of("node").await;
    assert!(settings.len() >= 15, "{settings:?}");
    let hidden = [
        "WORKER_ID",
        "PORT",
        "PRIMACY_EXIT_WITH_STDIN",
        "PRIMACY_SEGMENT_THREADS",
        "ETCDCTL_CACERT",
        "ETCDCTL_CERT",
        "ETCDCTL_KEY",
    ];
    let [grpc, http] = [(); 2].map(|()| free_address());
    for value in ["", " "] {
        let flags = ["--grpc-addr", &grpc.to_string(), "--http-addr", &http.to_string()];
        let mut node = command(&[&["node"], &flags[..]].concat());
        let empty =
            settings.iter().map(String::as_str).chain(hidden).chain(["ETCDCTL_USER", "ETCDCTL_PASSWORD"]);
        let mut node = Running::start(node.envs(empty.map(|name| (name, value))).env("PRIMACY_LOG", value));
        all_alive_or_alone(grpc).await;
        let mut asking = command(&["check", "17"]);
        let endpoints = run_command(asking.env("PRIMACY_ENDPOINTS", value), "").await;
        assert!(
            endpoints.code == Some(0) || endpoints.err.contains("127.0.0.1:50054"),
            "the default: {endpoints:?}"
        );
        let mut transfer = command(&["transfer", "--to", "nobody", "--endpoints", &grpc.to_string()]);
        let transfer = run_command(transfer.env("PRIMACY_TOKEN", value), "").await;
        assert_eq!(transfer.code, Some(1), "{transfer:?}");
        send_signal(node.pid(), Signal::TERM);
        assert_eq!(node.ends_within(STOPS_WITHIN).await, Some(0));
    }
}

/// A node without an id leads nobody.
async fn all_alive_or_alone(grpc: SocketAddr) {
    eventually("it answers", || async { view(grpc).await.is_ok_and(|view| harness::alive(&view) == 1) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blanks_and_a_comma_at_the_end_of_a_list_are_taken() {
    let node = TestNode::alone(&["--id", "1", "--peers", " 1=127.0.0.1:1, 127.0.0.1:2 ,"]).await;
    assert_eq!(node.view().await.members.len(), 2, "one of the two is itself");
    let list = format!(" {} , {},", free_address(), node.grpc);
    let ran = run(&["check", "17", "--endpoints", &list]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run_command(command(&["check", "17"]).env("PRIMACY_ENDPOINTS", &list), "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(&["check", "17", "--endpoints", " ,"]).await;
    assert!(ran.code == Some(2) && ran.err.contains("--endpoints names none"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_level_is_told_of_and_the_default_is_used() {
    for wrong in ["warning", "verbose", "info,loud", "primacy=loud"] {
        let [grpc, http] = [(); 2].map(|()| free_address().to_string());
        let mut node = command(&["node", "--id", "1", "--grpc-addr", &grpc, "--http-addr", &http]);
        let node = Running::start(node.env("PRIMACY_LOG", wrong));
        node.err.has("serves gRPC on").await;
        let part = wrong.rsplit(',').next().unwrap();
        node.err
            .has(&format!("PRIMACY_LOG has `{part}`, which is no level; the levels are off, error, warn"))
            .await;
    }
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut check = command(&["check", "17", "--endpoints", &node.grpc.to_string()]);
    let ran = run_command(check.env("PRIMACY_LOG", " WARN, h2=error,"), "").await;
    assert_eq!((ran.code, &*ran.err), (Some(0), ""));
}

// ── primacy check ───────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_prints_the_lines_of_the_seed_each_worker_in_turn() {
    let cluster = TestCluster::start(3).await;
    let numbers = ["17", "18", "19", "20", "21", "22", "23", "24", "25"];
    let ran = check(&[cluster.leader().grpc], &numbers).await;
    assert_eq!((ran.code, &*ran.err), (Some(0), ""));
    let by = processed_by(&ran.out, 17);
    assert_eq!(by.len(), 9, "{ran:?}");
    assert_eq!(BTreeSet::from_iter(&by), BTreeSet::from([&"worker1", &"worker2", &"worker3"]));
    assert_eq!((&by[..3], &by[3..6]), (&by[3..6], &by[6..]), "in turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_every_kind_are_answered() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let by = "(processed by worker1)";
    for arguments in [&["-5", "0", "2"][..], &["--", "-5", "0", "2"]] {
        let ran = check(&[node.grpc], arguments).await;
        let lines = format!("-5 is prime: false {by}\n0 is prime: false {by}\n2 is prime: true {by}\n");
        assert_eq!((ran.code, ran.out), (Some(0), lines));
    }
    let probable = format!("1{}289", "0".repeat(96));
    let ran = check(&[node.grpc], &[MERSENNE, &probable, "18446744073709551616"]).await;
    let sure = format!("18446744073709551616 is prime: false {by}\n");
    let unsure = format!("{probable} is prime: true (processed by worker1, probable)\n");
    let lines = format!("{MERSENNE} is prime: true {by}\n{unsure}{sure}");
    assert_eq!((ran.code, ran.out), (Some(0), lines));
    let ran = check(&[node.grpc], &["-o", "json", "17", &probable]).await;
    let answers: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answer = |number: &str, certainty| json!({"number": number, "is_prime": true, "processed_by": "worker1", "certainty": certainty});
    assert_eq!(answers, [answer("17", "proven"), answer(&probable, "probable")]);
    let ran = check(&[node.grpc], &["-o", "json", MERSENNE]).await;
    let answer: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&answer["certainty"], &answer["proof"]),
        (&json!("proven"), &json!({"method": "lucas-lehmer"}))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_number_is_a_mistake_of_usage_and_nothing_is_asked() {
    let long = "1".repeat(10_001);
    for (arguments, says) in [
        (&[][..], "<NUMBER>"),
        (&["abc"], "\"abc\" is not a number; write digits"),
        (&["17", "1.5"], "\"1.5\" is not a number; write digits"),
        (&["17", "-"], "\"-\" is not a decimal integer"),
        (&["-0"], "-0 is not allowed"),
        (&["017"], "leading zeros"),
        (&[""], "empty"),
        (&[&long], "10001 digits; at most 10000"),
        (&["17", "--endpoints", "nowhere"], "HOST:PORT"),
        (&["17", "-o", "xml"], "text, json"),
    ] {
        let ran = run(&[&["check"], arguments].concat()).await;
        assert_eq!((ran.code, &*ran.out), (Some(2), ""), "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reaches_nobody_says_where_it_asked() {
    let nobody = endpoints(&[free_address(), free_address()]);
    for arguments in [
        &["check", "17"][..],
        &["check", "-o", "json", "17"],
        &["status"],
        &["status", "--watch"],
        &["transfer", "--to", "worker1"],
        &["health"],
    ] {
        let flag = run(&[arguments, &["--endpoints", &nobody]].concat()).await;
        assert_eq!((flag.code, &*flag.out), (Some(1), ""), "{flag:?}");
        let says = format!("no node answers at {}", nobody.replace(',', ", "));
        assert!(flag.err.contains(&says), "{flag:?}");
        let environment = run_command(command(arguments).env("PRIMACY_ENDPOINTS", &nobody), "").await;
        assert_eq!((environment.code, environment.err), (Some(1), flag.err));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_of_standard_input_are_named_and_hold_nobody_up() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let mut input = b"17\n\n  18\r\nabc\n19\n".to_vec();
    // A million digits, of which the last piece could be taken for a number.
    input.extend([b'7'].repeat(1_000_005));
    input.extend(b"\n20\n\xff\n\t\n21");
    let ran = run_command(&mut check_lines(&[node.grpc]), input).await;
    assert_eq!(ran.code, Some(1));
    assert_eq!(processed_by(&ran.out, 17).len(), 5, "{ran:?}");
    let starts = ["primacy: line 4: \"abc\" is not", "primacy: line 6: ", "primacy: line 8: "];
    assert_eq!(ran.err.lines().count(), starts.len(), "{ran:?}");
    assert!(ran.err.lines().zip(starts).all(|(line, start)| line.starts_with(start)), "{ran:?}");
    assert!(ran.err.len() < 1000, "a bad line is not repeated in full: {ran:?}");
    let nothing = run_command(&mut check_lines(&[node.grpc]), "\n").await;
    assert_eq!((nothing.code, nothing.out + &nothing.err), (Some(0), String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_answered_before_the_next_is_written() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut running = Running::start(&mut check_lines(&[node.grpc]));
    for number in 17..20 {
        assert!(running.write(format!("{number}\n")).await);
        running.out.has(&format!("{number} is prime: {}", is_prime(number))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_ends_quietly_when_nobody_reads_its_answers() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut running = Running::start(&mut check_lines(&[node.grpc]));
    running.write("17\n").await;
    running.out.has("17 is prime: true").await;
    running.out.close().await;
    // Its input has no end.
    while running.write("18\n").await {}
    assert_eq!(running.ends_within(SOON).await, Some(0));
    assert_eq!(running.err.text(), "");

    let mut running = Running::start(&mut check_lines(&[node.grpc]));
    running.err.close().await;
    running.write("abc\n17\n").await;
    running.input = None;
    assert_eq!(running.ends_within(SOON).await, Some(1), "nobody reads its errors");
    assert!(running.out.text().starts_with("17 is prime: true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_fails_when_it_cannot_read_or_write() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut running = Running::start(check_lines(&[node.grpc]).stdin(File::open("/").unwrap()));
    assert_eq!(running.ends_within(SOON).await, Some(1));
    assert!(running.err.text().starts_with("primacy: cannot read standard input: "));
    assert_eq!(running.err.text().lines().count(), 1, "once");
    let mut unwritable = command(&["check", "17", "--endpoints", &node.grpc.to_string()]);
    let mut running = Running::start(unwritable.stdout(File::create("/dev/full").unwrap()));
    assert_eq!(running.ends_within(SOON).await, Some(1));
    assert!(running.err.text().starts_with("primacy: cannot print: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_endpoint_is_asked_when_one_is_dead_or_silent() {
    let node = TestNode::alone(&["--id", "1"]).await;
    // The system takes connections for it, and it says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for bad in [free_address(), silent.local_addr().unwrap()] {
        let ran = check(&[bad, node.grpc], &["17", "18"]).await;
        assert_eq!((ran.code, ran.out.lines().count(), &*ran.err), (Some(0), 2, ""), "{ran:?}");
    }
}

/// Answers like a proxy that reaches nobody: over HTTP/1 and 2, with a page.
async fn proxy_without_a_server() -> SocketAddr {
    let socket = Acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let page =
        || async { (axum::http::StatusCode::BAD_GATEWAY, axum::response::Html("<h1>502 Bad Gateway</h1>")) };
    let proxy = axum::Router::new().fallback(page).with_state(());
    tokio::spawn(Listener::new(socket, Protocols::Http, proxy, Arc::default()).run(CancellationToken::new()));
    address
}

/// Answers whatever it is sent like an old web server.
async fn web_server() -> SocketAddr {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    address
}

/// Knows no call of ours.
async fn another_grpc_server() -> SocketAddr {
    let socket = Acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let services = tonic::service::Routes::new(health).into_axum_router().with_state(());
    tokio::spawn(
        Listener::new(socket, Protocols::Grpc, services, Arc::default()).run(CancellationToken::new()),
    );
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_node_was_not_reached() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let http = format!("{} is the HTTP port of worker1, whose gRPC port is {}", node.http, node.grpc);
    let (proxy, web, other) =
        (proxy_without_a_server().await, web_server().await, another_grpc_server().await);
    for (bad, says) in [
        (node.http, http),
        (proxy, format!("{proxy} answers HTTP 502, not gRPC: is it the HTTP port of a node?")),
        (web, format!("{web} answers HTTP 400, not gRPC: is it the HTTP port of a node?")),
        (other, String::new()),
    ] {
        for (arguments, input) in [
            (&["check", "17"][..], ""),
            (&["check", "-"], "17\n18\n"),
            (&["status"], ""),
            (&["transfer", "--to", "worker1"], ""),
            (&["health"], ""),
        ] {
            let at = |at: &[SocketAddr]| {
                let mut command = command(arguments);
                command.args(["--endpoints", &endpoints(at)]);
                command
            };
            let both = run_command(&mut at(&[bad, node.grpc]), input).await;
            // The other server knows `health`.
            assert_eq!((both.code, &*both.err), (Some(0), ""), "{arguments:?}: {both:?}");
            if bad == other && arguments == ["health"] {
                continue;
            }
            let alone = run_command(&mut at(&[bad]), input).await;
            assert_eq!((alone.code, &*alone.out), (Some(1), ""), "{arguments:?}: {alone:?}");
            assert!(
                alone.err.contains(&says) && alone.err.contains("no node answers at"),
                "{arguments:?}: {alone:?}"
            );
            assert!(!alone.err.contains("compression flag"), "{alone:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_watch_passes_over_what_is_no_node() {
    let node = TestNode::alone(&["--id", "1", "--name", "worker1"]).await;
    let at = endpoints(&[node.http, node.grpc]);
    let running = Running::start(&mut command(&["status", "--watch", "--endpoints", &at]));
    running.out.has("observed by worker1").await;
}

fn lines(numbers: Range<u64>) -> String {
    numbers.map(|number| format!("{number}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_in_the_middle_of_a_stream_loses_nothing() {
    let mut cluster = Processes::start(3).await;
    for asked in [1, 0] {
        let mut addresses: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.grpc).collect();
        addresses.rotate_left(asked);
        let mut running = Running::start(&mut check_lines(&addresses));
        running.write(lines(0..3000)).await;
        eventually("some are answered", || async { running.out.text().lines().count() > 200 }).await;
        cluster.nodes[asked].kill();
        running.write(lines(3000..4000)).await;
        running.input = None;
        assert_eq!((running.ends_within(SOON).await, running.err.text()), (Some(0), String::new()));
        assert_eq!(processed_by(&running.out.text(), 0).len(), 4000);
    }
}

// ── The others ──────────────────────────────────────────────────────────────────────────────────────────────────

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_the_members_in_columns_and_as_get_cluster_does() {
    let cluster = TestCluster::start(2).await;
    let observer = cluster.worker(2);
    let at = ["--endpoints", &observer.grpc.to_string()];
    let ran = run(&[&["status"], &at[..]].concat()).await;
    let lines: Vec<&str> = ran.out.lines().collect();
    let header = "NAME ID ADDRESS STATUS ROLE COUNTER IN-FLIGHT LAST-SEEN VERSION";
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>().join(" "), header);
    assert_eq!((lines[4], lines[6], lines[7]), ("", "", "last elections"));
    assert!(lines[5].starts_with("leader has led for ") && lines[5].ends_with("; observed by worker2"));
    for (name, row) in ["worker1", "worker2", "leader"].into_iter().zip(&lines[1..]) {
        assert!(row.starts_with(name), "{row}");
        for column in ["NAME", "ADDRESS", "STATUS", "ROLE", "VERSION"] {
            let place = lines[0].find(column).unwrap();
            assert!(place == 0 || row[..place].ends_with("  "), "{column}: {}", ran.out);
            assert!(!row[place..].starts_with(' '), "{column}: {}", ran.out);
        }
        for number in ["ID", "COUNTER", "IN-FLIGHT", "LAST-SEEN"] {
            let end = lines[0].find(number).unwrap() + number.len();
            assert!(!row[..end].ends_with(' ') && row[end..].starts_with("  "), "{number}: {}", ran.out);
        }
    }
    let json: Value =
        serde_json::from_str(&run(&[&["status", "-o", "json"], &at[..]].concat()).await.out).unwrap();
    let cluster = get(&observer.url("/cluster")).await;
    for part in ["", "/leader", "/members/0", "/members/2", "/recent/0"] {
        let [printed, served] = [&json, &cluster].map(|value| keys(value.pointer(part).unwrap()));
        assert_eq!(printed, served);
    }
    assert_eq!((&json["observed_by"], &json["leader"]), (&"worker2".into(), &cluster["leader"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_a_node_that_serves_from_one_that_stops() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let health = ["health", "--endpoints", &node.grpc.to_string()];
    let ran = run(&health).await;
    assert_eq!((ran.code, ran.out + &ran.err), (Some(0), String::new()));
    node.stop.cancel();
    eventually("it is not healthy", || async { run(&health).await.code == Some(1) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_and_the_completions_are_printed() {
    let ran = run(&["openapi"]).await;
    assert!(ran.out == fs::read_to_string("openapi/openapi.json").unwrap());
    for (shell, start) in
        [("bash", "_primacy()"), ("zsh", "#compdef primacy"), ("fish", "complete -c primacy")]
    {
        let ran = run(&["completions", shell]).await;
        assert_eq!(ran.code, Some(0));
        assert!(ran.out.contains(start), "{}", ran.out);
        for command in COMMANDS {
            assert!(ran.out.contains(command), "{shell} does not know {command}");
        }
    }
    for arguments in [&["completions", "bash"][..], &["openapi"]] {
        let mut running = Running::start(command(arguments).stdout(pipe().unwrap().1));
        assert_eq!(running.ends_within(SOON).await, Some(0), "nobody reads {arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_has_its_help_and_version_and_refuses_what_it_does_not_know() {
    for command in COMMANDS.map(|command| vec![command]).into_iter().chain([vec![]]) {
        let with = |flag: &'static str| [&command[..], &[flag]].concat();
        for flag in ["--help", "-h"] {
            let ran = run(&with(flag)).await;
            assert_eq!((ran.code, &*ran.err), (Some(0), ""));
            assert!(ran.out.contains(&format!("Usage: primacy {}", command.concat())), "{ran:?}");
        }
        let version = run(&with("--version")).await;
        assert_eq!(version.code, Some(0), "{version:?}");
        assert!(version.out.ends_with(concat!(" ", env!("CARGO_PKG_VERSION"), "\n")), "{version:?}");
        let unknown = run(&with("--unknown")).await;
        assert_eq!((unknown.code, &*unknown.out), (Some(2), ""));
        assert!(unknown.err.contains("'--unknown'"), "{unknown:?}");
    }
    let ran = run(&["--help"]).await;
    assert!(COMMANDS.iter().all(|command| ran.out.contains(&format!("\n  {command} "))), "{ran:?}");
    for wrong in [&["unknown"][..], &["-n", "2", "status"], &["up", "-n", "0"], &["completions", "tcsh"]] {
        assert_eq!(run(wrong).await.code, Some(2), "{wrong:?}");
    }
}
