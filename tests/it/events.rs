//! `GET /events` and the page: what watchers are shown, and within which bounds.

use std::{net::IpAddr, time::Instant};

use primacy::limits::{EVENTS_INTERVAL, WATCHERS_MAX};
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    harness::{SOON, TestCluster, TestNode, eventually},
    http::get,
};

/// A stream of server-sent events.
struct Watch {
    response: Response,
    read: String,
}

impl Watch {
    async fn open(node: &TestNode) -> Self {
        let response = Self::try_open(node).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        // A proxy neither holds it back until there is more, nor until there is enough to compress.
        assert_eq!(response.headers()["cache-control"], "no-store, no-transform");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self { response, read: String::new() }
    }

    async fn try_open(node: &TestNode) -> Response {
        reqwest::Client::builder().no_proxy().build().unwrap().get(node.url("/events")).send().await.unwrap()
    }

    /// The next event's kind and data; `None` when the stream ends.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let parsed = field("event: ").zip(field("data: "));
                let parsed =
                    parsed.map(|(kind, data)| (kind.to_owned(), serde_json::from_str(data).unwrap()));
                self.read = rest.to_owned();
                match parsed {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = timeout(SOON, self.response.chunk()).await.expect("no event").ok()??;
            self.read += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// Reads until it ends.
    async fn ends(mut self) {
        let ended = async { while self.next().await.is_some() {} };
        timeout(SOON, ended).await.expect("it ends");
    }

    /// The next event of a kind for whose data something holds.
    async fn until(&mut self, kind: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let (next, data) = self.next().await.expect("the stream goes on");
                if next == kind && holds(&data) {
                    return data;
                }
            }
        };
        timeout(SOON, found).await.unwrap_or_else(|_| panic!("no such event of kind {kind}"))
    }
}

fn status_of(cluster: &Value, name: &str) -> String {
    let members = cluster["members"].as_array().unwrap();
    let member = members.iter().find(|member| member["name"] == name).unwrap();
    member["status"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_shown_everything_at_once_and_then_what_changes() {
    let cluster = TestCluster::start(2).await;
    for node in [cluster.leader(), cluster.worker(1)] {
        node.check(17).await;
        let mut watch = Watch::open(node).await;
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let (kind, data) = watch.next().await.unwrap();
            match &*kind {
                "cluster" => assert_eq!(data["leader"]["name"], "leader"),
                "stats" => assert_eq!(data["members"].as_array().unwrap().len(), 3),
                "results" => assert_eq!(data["results"][0]["number"], "17"),
                other => panic!("{other}"),
            }
            kinds.push(kind);
        }
        assert_eq!(kinds, ["cluster", "stats", "results"]);
        let like = get(node, "/cluster").await.json();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let shown = Watch::open(node).await.until("cluster", |_| true).await;
        assert_eq!(keys(&shown), keys(&like));

        // What passes through another node is shown by all.
        cluster.worker(2).check(7919).await;
        watch.until("results", |data| data["results"][0]["number"] == "7919").await;
        let done = |data: &Value| {
            let members = data["members"].as_array().unwrap().clone();
            members.iter().map(|member| member["completed"].as_u64().unwrap()).sum::<u64>()
        };
        watch.until("stats", |data| done(data) >= 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_shown_as_it_happens_and_the_end_of_the_node_ends_the_stream() {
    let cluster = TestCluster::start(2).await;
    let mut watch = Watch::open(cluster.leader()).await;
    watch.until("cluster", |data| status_of(data, "worker2") == "alive").await;
    cluster.worker(2).stop.cancel();
    let seen = watch.until("cluster", |data| status_of(data, "worker2") != "alive").await;
    assert_eq!(seen["recent"][0]["name"], "worker2");
    assert_ne!(seen["recent"][0]["reason"], "");
    cluster.leader().stop.cancel();
    while watch.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_nothing_to_tell_says_that_it_is_alive() {
    let node = TestNode::alone(&["--id", "1"]).await;
    eventually("it leads", || async { node.view().await.leader.is_some() }).await;
    let mut watch = Watch::open(&node).await;
    for _ in 0..2 {
        assert_eq!(watch.until("alive", |_| true).await, serde_json::json!({}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_load_no_kind_comes_more_than_ten_times_a_second() {
    let cluster = TestCluster::start(2).await;
    let mut watch = Watch::open(cluster.leader()).await;
    let started = Instant::now();
    let load = async {
        for number in 0..1500 {
            cluster.leader().check(number).await;
        }
    };
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    let counting = async {
        while let Some((kind, _)) = watch.next().await {
            *counts.entry(kind).or_default() += 1;
        }
    };
    tokio::select! {
        () = load => {}
        () = counting => panic!("the stream ended"),
    }
    let most = started.elapsed().as_secs_f64() / EVENTS_INTERVAL.as_secs_f64() + 3.0;
    for kind in ["stats", "results"] {
        let count = counts[kind];
        assert!((2.0..most).contains(&f64::from(count)), "{count} of {kind} in {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_has_256_places_for_watchers() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS_MAX {
        watchers.push(Watch::open(&node).await);
    }
    let refused = Watch::try_open(&node).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(node.check(17).await.is_prime);
    let elsewhere = Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, 2])).build().unwrap();
    let other = elsewhere.get(node.url("/events")).send().await.unwrap();
    assert_eq!(other.status(), 200, "an address that has none finds a place");
    watchers.remove(0).ends().await;
    assert_eq!(Watch::try_open(&node).await.status(), 429, "and the one that has most finds none");
    watchers.pop();
    eventually("a place is free again", || async { Watch::try_open(&node).await.status() == 200 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_stalls_nobody() {
    let cluster = TestCluster::start(1).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(Watch::open(cluster.leader()).await);
    }
    let mut watch = Watch::open(cluster.leader()).await;
    for number in 1_000_000..1_000_100 {
        cluster.leader().check(number).await;
    }
    watch.until("results", |data| data["results"][0]["number"] == "1000099").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_small_and_may_reach_the_members_and_nobody_else() {
    let cluster = TestCluster::start(2).await;
    let mut weight = 0;
    for file in std::fs::read_dir("web").unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let (path, media) = match name.rsplit_once('.').unwrap().1 {
            "html" => ("/".to_owned(), "text/html"),
            "css" => (format!("/{name}"), "text/css"),
            "svg" => (format!("/{name}"), "image/svg+xml"),
            _ => (format!("/{name}"), "text/javascript"),
        };
        let served = get(cluster.worker(1), &path).await;
        assert_eq!(served.status, 200, "{path}");
        assert!(served.header("content-type").starts_with(media), "{path}");
        assert_eq!(served.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(served.text(), std::fs::read_to_string(format!("web/{name}")).unwrap(), "{path}");
        weight += served.text().len();
    }
    assert!(weight <= 90_000, "{weight} bytes");
    let policy = get(cluster.worker(1), "/").await.header("content-security-policy").to_owned();
    for node in &cluster.nodes {
        assert!(policy.contains(&format!(" http://{}", node.http)), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
}
