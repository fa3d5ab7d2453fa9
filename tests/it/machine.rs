//! What a machine lacks or does: few descriptors, a log that nobody reads, a process that is the first of its container.

use std::{
    io::Read,
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use primacy::proto::{WatchClusterRequest, scheduler_client::SchedulerClient};
use rustix::process::Signal;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::{Code, transport::Channel};

use crate::{
    harness::{
        self, Process, Running, SOON, STOPS_WITHIN, Up, all_alive, channel, check, children, command,
        command_line, eventually, free_address, longest_number, piped, primacy, run, run_command,
        send_signal, view, with_files, within,
    },
    http::Raw,
};

/// What waits for nothing takes less than this, and less than any timeout that could end it instead.
const AT_ONCE: Duration = Duration::from_secs(2);

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n";

// ── Descriptors ─────────────────────────────────────────────────────────────────────────────────────────────────

/// A node in a process that may open so many files.
struct Small {
    running: Running,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Small {
    async fn start(soft: u32, hard: u32, more: &[&str]) -> Self {
        let (grpc, http) = (free_address(), free_address());
        let addresses =
            ["--grpc-addr".to_owned(), grpc.to_string(), "--http-addr".to_owned(), http.to_string()];
        let mut arguments = vec!["node", "--id", "1", "--name", "small"];
        arguments.extend(addresses.iter().map(String::as_str));
        arguments.extend(more);
        let running = Running::start(&mut with_files(soft, hard, &arguments));
        all_alive(grpc, 1).await;
        Self { running, grpc, http }
    }

    /// One request on a connection of its own.
    async fn ask(&self, request: &str) -> Option<crate::http::Answer> {
        let mut connection = Raw::connect(self.http).await;
        connection.send(request).await;
        timeout(AT_ONCE, connection.answer()).await.unwrap_or_else(|_| panic!("no answer to {request}"))
    }

    async fn status(&self, request: &str) -> Option<u16> {
        self.ask(request).await.map(|answer| answer.status)
    }

    async fn is_ready(&self) -> bool {
        self.status(READYZ).await == Some(200)
    }
}

const READYZ: &str = "GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n";
const PRIME: &str = "GET /prime/17 HTTP/1.1\r\nHost: test\r\n\r\n";
const EVENTS: &str = "GET /events HTTP/1.1\r\nHost: test\r\n\r\n";

/// Connections that say nothing, and as many that have asked once and stay.
async fn idle(http: SocketAddr, count: usize) -> Vec<Raw> {
    let mut held = Vec::new();
    for place in 0..count {
        let mut connection = Raw::connect(http).await;
        if place % 2 == 1 {
            connection.send(LIVEZ).await;
            // It may have been refused, as nobody makes room before the first of them is told to.
            let _ = timeout(AT_ONCE, connection.answer()).await.expect("an answer or an end");
        }
        held.push(connection);
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_beyond_all_places_make_room_for_others() {
    for files in [256, 1024] {
        let node = Small::start(files, files, &[]).await;
        let _held = idle(node.http, files as usize + 36).await;
        for _ in 0..20 {
            assert!(node.is_ready().await);
            assert_eq!(node.status(PRIME).await, Some(200), "a new connection is served");
            let checked = timeout(AT_ONCE, check(node.grpc, 17)).await.expect("at once");
            assert!(checked.unwrap().is_prime);
        }
        let log = node.running.err.text();
        assert!(log.contains(&format!("this process may open {files} files at once")), "{log}");
        assert!(log.lines().count() < 8, "a state is told of once: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_grpc_connections_beyond_all_places_make_room_too() {
    let node = Small::start(256, 256, &[]).await;
    let mut held: Vec<Channel> = Vec::new();
    for _ in 0..150 {
        let channel = channel(node.grpc).await.unwrap();
        harness::view_on(channel.clone()).await.unwrap();
        held.push(channel);
    }
    // Some of those that hold a place do not even answer a goodbye.
    let mut silent = Vec::new();
    for _ in 0..150 {
        let mut connection = TcpStream::connect(node.grpc).await.unwrap();
        connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        silent.push(connection);
    }
    // The last of such a burst may find the reserved places taken, too.
    eventually("the burst is over", || async { check(node.grpc, 17).await.is_ok() }).await;
    for _ in 0..5 {
        let checked = timeout(AT_ONCE, check(node.grpc, 17)).await.expect("at once");
        assert!(checked.unwrap().is_prime);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_connections_are_in_use_probes_are_answered_and_others_are_told() {
    let node = Small::start(256, 256, &[]).await;
    let mut streams = Vec::new();
    let full = loop {
        let mut connection = Raw::connect(node.http).await;
        connection.send(EVENTS).await;
        let answer = timeout(AT_ONCE, connection.answer()).await.unwrap().expect("an answer");
        match answer.status {
            200 => streams.push(connection),
            _ => break answer,
        }
    };
    assert!((40..80).contains(&streams.len()), "{}", streams.len());
    let detail = full.problem("all places are in use", 429, "resource_exhausted");
    assert!(detail.contains("every connection that this node has a place for is in use"), "{detail}");
    assert_eq!(full.header("connection"), "close");
    for _ in 0..100 {
        let ready = node.ask(READYZ).await.unwrap();
        assert_eq!((ready.status, ready.header("connection")), (200, "close"));
        assert_eq!(node.status("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await, Some(200));
    }
    assert!(check(node.grpc, 17).await.unwrap().is_prime, "the other listener has places of its own");
    streams.pop();
    eventually("a place is free", || async { node.status(PRIME).await == Some(200) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_grpc_connections_are_in_use_peers_and_probes_are_let_in() {
    let node = Small::start(256, 256, &["--token", "secret"]).await;
    let mut watches = Vec::new();
    let refused = loop {
        let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
        match timeout(AT_ONCE, client.watch_cluster(WatchClusterRequest {})).await.unwrap() {
            Ok(watch) => watches.push((client, watch)),
            Err(status) => break status,
        }
    };
    assert!((40..80).contains(&watches.len()), "{}", watches.len());
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("every connection"), "{refused}");
    let health = run(&["health", "--endpoints", &node.grpc.to_string()]).await;
    assert_eq!(health.code, Some(0), "{health:?}");
    let peer = node.grpc.to_string();
    let peer = Process::start_with(Some(2), "peer", &["--peers", &peer, "--token", "secret"]);
    eventually("the peer follows and is followed", || async {
        view(peer.grpc).await.is_ok_and(|view| view.leader.is_some() && harness::alive(&view) == 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_takes_all_the_descriptors_that_it_may_have() {
    let node = Small::start(64, 4096, &[]).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.running.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["4096", "4096"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_descriptors_are_refused_with_what_to_do() {
    let addresses = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
    let node = run_command(&mut with_files(100, 100, &[&["node"][..], &addresses].concat()), "").await;
    assert_eq!(node.code, Some(1));
    assert!(node.err.contains("this process may open 100 files at once, and a node needs 128"), "{node:?}");
    assert!(node.err.contains("ulimit -n"), "{node:?}");
    let up = ["up", "-n", "64", "--grpc-port", "0", "--http-port", "0"];
    let up = run_command(&mut with_files(256, 256, &up), "").await;
    assert_eq!((up.code, &*up.out), (Some(1), ""));
    assert!(up.err.contains("65 nodes need 324 open files of this process, which may open 256"), "{up:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_starts_with_few_descriptors() {
    let mut up = Running::start(&mut with_files(
        256,
        256,
        &["up", "-n", "12", "--grpc-port", "0", "--http-port", "0"],
    ));
    up.out.has("Ctrl-C stops them all.").await;
    send_signal(up.pid(), Signal::TERM);
    assert_eq!(up.ends_within(STOPS_WITHIN).await, Some(0));
    assert!(!up.err.text().contains("Too many open files"), "{}", up.err.text());
}

// ── The log ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// A node that logs all that it can to a pipe, which nobody reads.
struct Unread {
    child: std::process::Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Unread {
    fn start(id: u32, grpc: SocketAddr, http: SocketAddr, peers: &str) -> Self {
        let (id, grpc_addr, http_addr) = (id.to_string(), grpc.to_string(), http.to_string());
        let arguments = ["node", "--id", &id, "--grpc-addr", &grpc_addr, "--http-addr", &http_addr];
        let mut node = primacy();
        node.args(arguments).args(["--peers", peers]).env("PRIMACY_LOG", "trace");
        let child = node.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, grpc, http }
    }

    async fn drops_lines(&self) {
        // Each check is told of in some 100 lines.
        let drops = || async {
            join_all((0..20).map(|_| check(self.grpc, 17))).await;
            dropped(self.http).await > 0
        };
        eventually("its pipe and its queue are full", drops).await;
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines that the node has dropped; asking makes it log some more.
async fn dropped(http: SocketAddr) -> u64 {
    let Ok(response) = reqwest::get(format!("http://{http}/metrics")).await else { return 0 };
    let text = response.text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("primacy_log_lines_dropped_total ")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_log_nobody_reads_go_on_elect_and_end() {
    let addresses: Vec<(SocketAddr, SocketAddr)> = (0..3).map(|_| (free_address(), free_address())).collect();
    let peers: Vec<String> = (1..).zip(&addresses).map(|(id, (grpc, _))| format!("{id}={grpc}")).collect();
    let mut nodes: Vec<Unread> = (1..)
        .zip(&addresses)
        .map(|(id, (grpc, http))| Unread::start(id, *grpc, *http, &peers.join(",")))
        .collect();
    for node in &nodes {
        all_alive(node.grpc, 3).await;
        node.drops_lines().await;
    }
    let leads = |grpc, id| async move {
        view(grpc).await.is_ok_and(|view| view.leader.is_some_and(|leader| leader.id == id))
    };
    assert!(leads(nodes[0].grpc, 3).await);
    drop(nodes.pop());
    for node in &nodes {
        within(Duration::from_secs(5), "the next one leads", || leads(node.grpc, 2)).await;
        assert!(check(node.grpc, 17).await.unwrap().is_prime);
    }
    let mut node = nodes.pop().unwrap();
    send_signal(node.pid(), Signal::TERM);
    let started = Instant::now();
    while node.child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < STOPS_WITHIN + Duration::from_secs(3), "it waits for its log");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_is_said_when_the_log_is_read_again() {
    let (grpc, http) = (free_address(), free_address());
    let mut node = Unread::start(1, grpc, http, &format!("1={grpc}"));
    all_alive(grpc, 1).await;
    node.drops_lines().await;
    let mut log = node.child.stderr.take().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let (mut text, mut chunk) = (Vec::new(), [0; 65_536]);
        while !String::from_utf8_lossy(&text).contains("lines of the log were dropped before this one") {
            match log.read(&mut chunk).unwrap() {
                0 => panic!("it ended without saying so"),
                read => text.extend(&chunk[..read]),
            }
        }
        text
    });
    let text = timeout(SOON, read).await.expect("it says so").unwrap();
    assert!(text.len() > 64 * 1024, "all that there was room for comes first");
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().next().unwrap().contains("serves gRPC on"), "from the beginning on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_error_reaches_the_log_and_waits_for_no_reader() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // All that it says fits into the pipe; then nothing does.
    for is_full in [false, true] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        if is_full {
            fill(&writer);
        }
        let mut node = primacy();
        node.args(["node", "--grpc-addr", &address]).stdin(Stdio::null()).stderr(writer);
        let mut running = tokio::process::Command::from(node).kill_on_drop(true).spawn().unwrap();
        let ended = timeout(Duration::from_secs(5), running.wait()).await.expect("it ends").unwrap();
        assert_eq!(ended.code(), Some(1));
        if !is_full {
            let mut said = String::new();
            reader.read_to_string(&mut said).unwrap();
            assert!(said.contains("cannot listen for gRPC"), "{said}");
        }
    }
}

/// Leaves no room in a pipe.
fn fill(pipe: &std::io::PipeWriter) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(pipe).unwrap();
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK).unwrap();
    while rustix::io::write(pipe, &[b'.'; 4096]).is_ok() {}
    while rustix::io::write(pipe, b".").is_ok() {}
    fcntl_setfl(pipe, flags).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_of_a_stopped_up_go_on_and_it_says_what_was_dropped() {
    let mut up = command(&["up", "-n", "1", "--grpc-port", "0", "--http-port", "0"]);
    let mut up = Up::of(Running::start(up.env("PRIMACY_LOG", "trace"))).await;
    send_signal(up.running.pid(), Signal::STOP);
    for node in &up.nodes {
        let drops = || async {
            join_all((0..20).map(|_| check(node.grpc, 17))).await;
            dropped(node.http).await > 0
        };
        eventually("the pipe to up is full", drops).await;
        assert!(check(node.grpc, 17).await.unwrap().is_prime);
    }
    send_signal(up.nodes[0].pid, Signal::KILL);
    eventually("the other leads", || async {
        view(up.nodes[1].grpc).await.is_ok_and(|view| view.leader.is_some_and(|leader| leader.id == 1))
    })
    .await;
    send_signal(up.running.pid(), Signal::CONT);
    up.running.err.has("lines of the log were dropped before this one").await;
    up.running.out.has("leader is gone").await;
    send_signal(up.running.pid(), Signal::TERM);
    up.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_up_whose_log_nobody_reads_hears_its_nodes_and_signals() {
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut up = command(&["up", "-n", "1", "--grpc-port", "0", "--http-port", "0"]);
    let mut up = Up::of(Running::start(up.env("PRIMACY_LOG", "trace").stderr(writer))).await;
    for node in &up.nodes {
        // Each is told of in some 100 lines: more than a pipe and a queue hold.
        for _ in 0..300 {
            assert!(check(node.grpc, 17).await.unwrap().is_prime);
        }
        assert_eq!(dropped(node.http).await, 0, "up reads on");
    }
    send_signal(up.nodes[1].pid, Signal::KILL);
    up.running.out.has("worker1 is gone").await;
    send_signal(up.running.pid(), Signal::TERM);
    up.ends_well().await;
}

// ── The first process ───────────────────────────────────────────────────────────────────────────────────────────

/// A command that runs as process 1; the process that waits for it, and its own id here.
async fn as_first(arguments: &[&str]) -> (Running, i32) {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", primacy().get_program().to_str().unwrap()]);
    let running = Running::start(piped(unshare).args(arguments));
    let first = || async {
        children(running.pid())
            .into_iter()
            .find(|(_, command)| command.contains(arguments[0]))
            .map(|(pid, _)| pid)
    };
    eventually(&format!("{arguments:?} runs as process 1"), || async { first().await.is_some() }).await;
    let pid = first().await.unwrap();
    (running, pid)
}

/// Whether the process handles the signal.
fn handles(pid: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
    u64::from_str_radix(caught, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs leave to make a PID namespace, which root has: scripts/test.sh runs it"]
async fn every_command_as_process_1_ends_when_it_is_told_to() {
    let node = Process::start_with(Some(1), "worker1", &[]);
    all_alive(node.grpc, 1).await;
    // It takes connections and answers nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [here, nowhere] = [node.grpc, silent.local_addr().unwrap()].map(|address| address.to_string());
    let [grpc, http] = [(); 2].map(|()| free_address().to_string());
    let long = longest_number();
    let commands: [(&[&str], bool); 8] = [
        (&["check", &long, "--endpoints", &here], false),
        (&["check", "-", "--endpoints", &here], false),
        (&["status", "--endpoints", &nowhere], false),
        (&["transfer", "--to", "worker1", "--endpoints", &nowhere], false),
        (&["health", "--endpoints", &nowhere], false),
        (&["status", "--watch", "--endpoints", &here], true),
        (&["node", "--id", "2", "--grpc-addr", &grpc, "--http-addr", &http], true),
        (&["up", "-n", "1", "--grpc-port", "0", "--http-port", "0"], true),
    ];
    for signal in [Signal::TERM, Signal::INT] {
        let ends = commands.iter().map(|(arguments, in_order)| async move {
            let (mut running, pid) = as_first(arguments).await;
            eventually("it handles the signal", || async { handles(pid, signal) }).await;
            send_signal(pid, signal);
            let code = running.ends_within(STOPS_WITHIN).await;
            let expected = if *in_order { 0 } else { 128 + signal.as_raw() };
            assert_eq!(code, Some(expected), "{arguments:?} at {signal:?}");
        });
        for end in ends {
            end.await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs leave to make a PID namespace, which root has: scripts/test.sh runs it"]
async fn a_command_as_process_1_ends_although_nobody_reads_what_it_prints() {
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", primacy().get_program().to_str().unwrap(), "openapi"]);
    let mut running = Running::start(piped(unshare).stdout(writer));
    let first = || async { children(running.pid()).first().map(|(pid, _)| *pid) };
    eventually("it handles the signal", || async {
        first().await.is_some_and(|pid| command_line(pid).contains("openapi") && handles(pid, Signal::TERM))
    })
    .await;
    send_signal(first().await.unwrap(), Signal::TERM);
    assert_eq!(running.ends_within(STOPS_WITHIN).await, Some(128 + Signal::TERM.as_raw()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_nobody_reads_ends_when_it_is_told_to() {
    let node = Process::start_with(Some(1), "worker1", &[]);
    all_alive(node.grpc, 1).await;
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut watch = command(&["status", "--watch", "--endpoints", &node.grpc.to_string()]);
    let mut watch = Running::start(watch.stdout(writer));
    eventually("it handles the signal", || async { handles(watch.pid(), Signal::INT) }).await;
    send_signal(watch.pid(), Signal::INT);
    assert_eq!(watch.ends_within(STOPS_WITHIN).await, Some(0));
}
