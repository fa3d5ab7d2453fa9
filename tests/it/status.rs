//! What people see of an election: `primacy status`, `--watch`, and `primacy transfer`.

use std::{net::SocketAddr, process};

use primacy::{Node, Token, proto::MemberStatus};
use primacy_election::PeerAddress;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Processes, Ran, Running, SOON, TestCluster, TestNode, all_alive, command, config, eventually, piped, run,
    run_command, send_signal, status_of, view,
};

fn endpoints(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
}

async fn transfer(at: SocketAddr, to: &str) -> Ran {
    run(&["transfer", "--to", to, "--endpoints", &at.to_string()]).await
}

fn addresses(cluster: &Processes) -> Vec<SocketAddr> {
    cluster.nodes.iter().map(|node| node.grpc).collect()
}

async fn leads(at: SocketAddr, name: &str) {
    eventually(&format!("{name} leads"), || async {
        view(at).await.is_ok_and(|view| view.leader.is_some_and(|leader| leader.name == name))
    })
    .await;
}

// ── primacy transfer ────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_is_handed_over_by_any_node_and_then_the_member_leads() {
    let cluster = TestCluster::start(2).await;
    let mut before = "leader";
    for (asked, to) in [(2, "worker1"), (2, "worker2"), (2, "leader"), (0, "worker1")] {
        leads(cluster.nodes[asked].grpc, before).await;
        let ran = transfer(cluster.nodes[asked].grpc, to).await;
        assert_eq!((ran.code, &*ran.err), (Some(0), ""));
        assert!(ran.out.starts_with(&format!("{to} leads now (ballot ")), "{ran:?}");
        assert!(ran.out.ends_with(" ms)\n"), "{ran:?}");
        let successor = cluster.nodes.iter().find(|node| node.name == to).unwrap();
        assert_eq!(successor.view().await.leader.unwrap().name, to);
        before = to;
    }
    let again = transfer(cluster.leader().grpc, "worker1").await;
    assert_eq!((again.code, &*again.err), (Some(0), ""));
    assert!(again.out.starts_with("worker1 leads already (ballot "), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_lead_is_told_apart_in_words() {
    let mut cluster = Processes::start(2).await;
    let leader = cluster.nodes[0].grpc;
    let peer = PeerAddress { id: None, grpc_addr: leader.to_string().into() };
    let helper = Node::bind(config(&["--name", "helper"])).await.unwrap().with_peers(vec![peer]);
    let _helper = TestNode::start("helper".to_owned(), helper);
    all_alive(leader, 4).await;
    cluster.nodes[1].kill();
    eventually("it is dead", || async {
        view(leader).await.is_ok_and(|view| status_of(&view, "worker1") == MemberStatus::Dead)
    })
    .await;
    let refused = [
        ("nobody", "no member is called nobody; `primacy status` lists them"),
        ("helper", "helper has no id, so it only works and never leads; choose another member"),
        ("worker1", "worker1 is dead; choose a member that is alive"),
    ];
    for (to, why) in refused {
        let ran = transfer(cluster.nodes[2].grpc, to).await;
        assert_eq!((ran.code, ran.out, ran.err), (Some(1), String::new(), format!("primacy: {why}\n")));
    }
    for wrong in [&[][..], &["--to", ""], &["--to", "worker2", "--token", "with a blank"]] {
        let ran = run(&[&["transfer"], wrong].concat()).await;
        assert_eq!((ran.code, &*ran.out), (Some(2), ""), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_needs_the_token_of_the_cluster() {
    let cluster = TestCluster::start_with(1, |config| config.token = Token::new("swordfish").unwrap()).await;
    let at = cluster.leader().grpc.to_string();
    let to_worker = ["transfer", "--to", "worker1", "--endpoints", &*at];
    let ways = "set PRIMACY_TOKEN, or --token, to the one that its nodes have";
    let none = run(&to_worker).await;
    assert_eq!((none.code, &*none.out), (Some(1), ""));
    assert_eq!(none.err, format!("primacy: the cluster has a token, and none was given; {ways}\n"));
    let wrong = run(&[&to_worker[..], &["--token", "herring"]].concat()).await;
    assert_eq!(wrong.code, Some(1));
    assert_eq!(
        wrong.err,
        format!("primacy: the cluster has a token, and it is not the one that was given; {ways}\n")
    );
    let right = run_command(command(&to_worker).env("PRIMACY_TOKEN", "swordfish"), "").await;
    assert_eq!((right.code, &*right.err), (Some(0), ""));
    assert_eq!(cluster.worker(1).view().await.leader.unwrap().name, "worker1");
}

// ── primacy status ──────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_who_took_over_from_whom_why_and_how_long_it_took() {
    let mut cluster = Processes::start(2).await;
    let observer = cluster.nodes[1].grpc;
    cluster.nodes[0].kill();
    leads(observer, "worker2").await;
    let ran = run(&["status", "--endpoints", &observer.to_string()]).await;
    let (table, told) = ran.out.split_once("\n\n").unwrap();
    assert!(table.starts_with("NAME") && table.lines().count() == 4, "{table}");
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("worker2 has led for "), "{told}");
    assert!(lines[0].ends_with("; observed by worker1"), "{told}");
    assert!(lines[1].starts_with("leader has been "), "{told}");
    assert_eq!(lines[2..4], ["", "last elections"]);
    let (time, election) = lines[4].split_once("Z  ").unwrap();
    assert!(time.len() == "11:29:49".len() && election.starts_with("worker2 took over from leader: "));
    assert!(election.ends_with(" ms"), "{told}");
    assert!(lines[5].contains(" leads: the first election, "), "{told}");
}

fn watch(at: &[SocketAddr], arguments: &[&str]) -> Running {
    Running::start(&mut command(&[&["status", "--watch", "--endpoints", &endpoints(at)], arguments].concat()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_pipe_each_change_is_a_table_and_another_node_goes_on_when_one_dies() {
    let mut cluster = Processes::start(2).await;
    let at = addresses(&cluster);
    let mut watch = watch(&at, &[]);
    watch.out.has("; observed by leader\n").await;
    assert_eq!(transfer(at[1], "worker1").await.code, Some(0));
    watch.out.has("  worker1 took over from leader, as an operator asked\n").await;
    cluster.nodes[0].kill();
    watch.out.has("; observed by worker1\n").await;
    watch.out.has("leader has been dead for ").await;
    let moved =
        format!("primacy: leader at {} does not answer any more; now watching worker1 at {}\n", at[0], at[1]);
    assert_eq!(watch.err.text(), moved);
    send_signal(watch.pid(), Signal::INT);
    assert_eq!(watch.ends_within(SOON).await, Some(0));
    let out = watch.out.text();
    assert!(!out.contains('\x1b') && !out.contains("\n\n\n"), "{out}");
    let tables: Vec<&str> = out.trim_end().split("\n\nNAME ").collect();
    assert!(tables.len() >= 3 && tables.iter().all(|table| table.contains("\nlast elections\n")), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_is_left_for_the_next() {
    let cluster = Processes::start(1).await;
    let mut watch = watch(&addresses(&cluster), &[]);
    watch.out.has("; observed by leader\n").await;
    cluster.nodes[0].signal(Signal::STOP);
    watch.err.has("does not answer any more; now watching worker1 at ").await;
    watch.out.has("; observed by worker1\n").await;
    send_signal(watch.pid(), Signal::TERM);
    assert_eq!(watch.ends_within(SOON).await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_json_each_change_is_a_line_and_a_cluster_that_returns_is_watched_again() {
    let mut cluster = Processes::start(1).await;
    let at = addresses(&cluster);
    let mut watch = watch(&at, &["-o", "json"]);
    watch.out.has("\"observed_by\":\"leader\"").await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    let nobody = format!("primacy: no node answers at {}, {}", at[0], at[1]);
    watch.err.has(&nobody).await;
    cluster.nodes[1].restart();
    watch.err.has(&format!("; now watching worker1 at {}\n", at[1])).await;
    watch.out.has("\"reason\":\"the first election\"").await;
    leads(at[1], "worker1").await;
    watch.out.has("\"name\":\"worker1\",\"change\":\"leader\"").await;
    send_signal(watch.pid(), Signal::INT);
    assert_eq!(watch.ends_within(SOON).await, Some(0));
    let lines: Vec<Value> =
        watch.out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["members"].is_array() && line["recent"].is_array()));
    assert_eq!(lines.last().unwrap()["leader"]["name"], "worker1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_what_is_watched_and_it_ends_well() {
    let cluster = TestCluster::start(1).await;
    let mut watch = watch(&[cluster.leader().grpc], &[]);
    watch.out.has("; observed by leader\n").await;
    watch.out.close().await;
    assert_eq!(transfer(cluster.leader().grpc, "worker1").await.code, Some(0));
    assert_eq!(watch.ends_within(SOON).await, Some(0));
}

/// A terminal by util-linux's `script`, whose input is what is typed there; where it is missing this tests nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_it_is_drawn_in_place_with_colours_unless_unwanted() {
    if process::Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let mut cluster = Processes::start(1).await;
    let at = cluster.nodes[0].grpc;
    cluster.nodes[1].kill();
    eventually("it is dead", || async {
        view(at).await.is_ok_and(|view| status_of(&view, "worker1") == MemberStatus::Dead)
    })
    .await;
    let watch = format!("exec {} status --watch --endpoints {at}", env!("CARGO_BIN_EXE_primacy"));
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut script = piped(process::Command::new("script"));
        let script =
            script.args(["-qec", &watch, "/dev/null"]).env("NO_COLOR", no_color).env("TERM", "xterm");
        let mut terminal = Running::start(script);
        // Nothing changes but the ages: each drawing goes up over the last one.
        let is_redrawn = || async { terminal.out.text().matches("\x1b[9A").count() >= 2 };
        eventually("it is drawn anew", is_redrawn).await;
        assert_eq!(terminal.out.text().contains("\x1b[31mworker1 "), coloured);
        assert!(terminal.write("\x03").await);
        assert_eq!(terminal.ends_within(SOON).await, Some(0));
    }
}
