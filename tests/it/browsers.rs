//! What answers tell a browser, and what another site can do through its visitor's: `docs/browsers.md`.

use primacy::limits::{BODY_BYTES_MAX_DEFAULT, HEAD_BYTES_MAX};
use reqwest::{Client, Method, RequestBuilder};

use crate::{
    harness::{TestCluster, TestNode, eventually, longest_number, view},
    http::{Answer, Raw, client, contract, get, metric, operations, send},
};

const ELSEWHERE: &str = "Origin: http://elsewhere.example\r\n";
/// Of an answer that loads nothing.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

async fn raw(node: &TestNode, request: &str) -> Answer {
    let mut connection = Raw::connect(node.http).await;
    connection.send(request).await;
    connection.answer().await.unwrap_or_else(|| panic!("no answer to {request:.80}"))
}

/// A request of HTTP/1.1 with a header or none.
fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")
}

/// It says what every answer says; returns its policy.
fn guards<'a>(answer: &'a Answer, what: &str) -> &'a str {
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{what}");
    for name in ["x-content-type-options", "cross-origin-resource-policy", "content-security-policy"] {
        assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{what}: {name}");
    }
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; "), "{what}: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
    policy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_answer_tells_browsers_what_it_is_not() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let (too_large, late) = (BODY_BYTES_MAX_DEFAULT + 1, "Connect-Timeout-Ms: 50\r\nContent-Length: 14\r\n");
    let preflight = format!("{ELSEWHERE}Access-Control-Request-Method: POST\r\n");
    let long_head = format!("X-Long: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
    for (line, headers, status) in [
        ("GET /prime/17", "", 200),
        ("GET /prime/17", "If-None-Match: *\r\n", 304),
        ("GET /prime/x", "", 400),
        ("POST /prime", "", 400),
        ("POST /prime", "Content-Type: text/plain\r\nContent-Length: 0\r\n", 415),
        ("POST /prime", &format!("Content-Length: {too_large}\r\n"), 413),
        ("POST /prime", late, 408),
        ("POST /primes", "Content-Type: application/x-ndjson\r\nContent-Length: 0\r\n", 200),
        ("OPTIONS /prime", &preflight, 200),
        ("PUT /prime", "", 405),
        ("GET /cluster", ELSEWHERE, 200),
        ("GET /events", "", 200),
        ("GET /results", "", 200),
        ("GET /results?limit=0", "", 400),
        ("GET /livez", "", 200),
        ("GET /readyz", "", 200),
        ("GET /metrics", "", 200),
        ("GET /openapi.json", "", 200),
        ("GET /openapi.json", "Accept-Encoding: identity;q=0\r\n", 406),
        ("GET /app.js", "", 200),
        ("GET /docs", "", 307),
        ("GET /nothing", "", 404),
        ("GET /docs/nothing", "", 404),
        ("GET /cluster", "Host: another\r\n", 400),
        // hyper answers these.
        ("GET /cluster", &long_head, 431),
        ("GET  /", "", 400),
    ] {
        let what = format!("{line} {headers:.60}");
        let answer = raw(&node, &request(line, headers)).await;
        assert_eq!((answer.status, guards(&answer, &what)), (status, POLICY), "{what}");
    }
    let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for path in ["/prime/17", "/nothing"] {
        assert_eq!(guards(&send(http2.get(node.url(path))).await, path), POLICY);
        assert_eq!(guards(&send(http2.head(node.url(path))).await, path), POLICY);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_full_or_stops_says_it_too() {
    let node = TestNode::alone(&["--id", "1", "--in-flight-max", "1"]).await;
    let mut held = Raw::connect(node.http).await;
    held.send(request(&format!("GET /prime/{}", longest_number()), "Grpc-Timeout: 300S\r\n")).await;
    eventually("it is full", || async { metric(&node, "primacy_in_flight").await == 1.0 }).await;
    let refused = get(&node, "/prime/17").await;
    assert_eq!((refused.status, guards(&refused, "full")), (429, POLICY));
    node.stop.cancel();
    eventually("it stops", || async { get(&node, "/readyz").await.status == 503 }).await;
    assert_eq!(guards(&get(&node, "/readyz").await, "stopping"), POLICY);
}

/// The page and Swagger UI have policies of their own, by which they work; `tests/python` tries that in a browser.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_and_swagger_ui_cannot_be_framed() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for path in ["/", "/docs/", "/docs/index.html"] {
        let answer = get(&node, path).await;
        let policy = guards(&answer, path);
        for part in ["script-src 'self';", "connect-src 'self'", "base-uri 'none'", "form-action 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("script-src 'self' "),
            "{path}: {policy}"
        );
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        // The policy allows no script within it.
        let scripts = answer.text().matches("<script").count();
        assert_eq!(scripts, answer.text().matches(" src=\"").count() - images(answer.text()), "{path}");
        assert!(!answer.text().contains(" onload="), "{path}");
    }
}

fn images(page: &str) -> usize {
    page.matches("<img").count()
}

// ── Another site ────────────────────────────────────────────────────────────────────────────────────────────────

/// As a page of another site asks, and one whose name leads to this node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_site_can_ask() {
    let cluster = TestCluster::start(1).await;
    let node = cluster.leader();
    for (host, origin) in [
        (node.http.to_string(), "http://elsewhere.example"),
        ("elsewhere.example:8080".to_owned(), "http://elsewhere.example:8080"),
        (node.http.to_string(), "null"),
    ] {
        let asks = |request: RequestBuilder| send(request.header("host", &host).header("origin", origin));
        for path in ["/cluster", "/results", "/prime/17", "/metrics", "/openapi.json", "/"] {
            let answer = asks(client().get(node.url(path))).await;
            assert_eq!(answer.status, 200, "{path} by {host} from {origin}");
            assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
            // No browser then shows an answer to a request that had cookies or a password.
            assert_eq!(answer.header("access-control-allow-credentials"), "", "{path}");
        }
        let question = client().post(node.url("/prime")).body(r#"{"number": 17}"#);
        let answer = asks(question.header("content-type", "application/json")).await;
        assert_eq!((answer.status, &answer.json()["is_prime"]), (200, &true.into()));
        // As a form does, without a preflight.
        let question = client().post(node.url("/prime")).body(r#"{"number": 17}"#);
        let answer = asks(question.header("content-type", "application/x-www-form-urlencoded")).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"));
    }
}

/// Whatever method and path: the cluster is the same after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_site_can_change_nothing_over_http() {
    let contract = contract();
    let questions = ["POST /prime", "POST /primes"];
    let operations = operations(&contract);
    for (method, path, _) in &operations {
        let is_question = questions.contains(&&*format!("{method} {path}"));
        assert!(method == "GET" || is_question, "{method} {path}: does it only ask?");
    }

    let cluster = TestCluster::start(1).await;
    let before = view(cluster.leader().grpc).await.unwrap();
    let (site, node) = ("http://elsewhere.example", cluster.leader());
    let paths = operations.iter().map(|(_, path, _)| path.replace("{number}", "17"));
    for path in paths.chain(PEER_PATHS.map(str::to_owned)) {
        for method in ["PUT", "PATCH", "DELETE", "POST"] {
            let method: Method = method.parse().unwrap();
            let request = client().request(method.clone(), node.url(&path)).header("origin", site);
            let answer = send(request.header("content-type", "application/grpc").body("\0\0\0\0\0")).await;
            assert!([400, 404, 405, 415].contains(&answer.status), "{method} {path}: {}", answer.status);
        }
    }
    let after = view(node.grpc).await.unwrap();
    assert_eq!((after.leader, after.members.len()), (before.leader, before.members.len()));
}

/// What changes something.
const PEER_PATHS: [&str; 3] =
    ["/scheduler.Peer/Transfer", "/scheduler.Worker/Election", "/scheduler.Worker/Victory"];

/// A browser speaks HTTP/2 only over TLS, and so says nothing that this port understands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_browser_sends_to_the_port_of_grpc_is_not_answered() {
    let cluster = TestCluster::start(1).await;
    let before = view(cluster.leader().grpc).await.unwrap();
    for path in PEER_PATHS {
        for content_type in ["application/grpc", "text/plain"] {
            let mut browser = Raw::connect(cluster.leader().grpc).await;
            let headers = format!("{ELSEWHERE}Content-Type: {content_type}\r\nContent-Length: 5\r\n");
            browser.send(request(&format!("POST {path}"), &headers) + "\0\0\0\0\0").await;
            let (answered, _) = browser.closed().await;
            assert!(!answered.starts_with(b"HTTP/"), "{path}: {}", String::from_utf8_lossy(&answered));
        }
    }
    // A client's hello in TLS 1.3 begins so.
    let mut browser = Raw::connect(cluster.leader().grpc).await;
    browser.send([&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0; 506]].concat()).await;
    assert_ne!(browser.closed().await.0.first(), Some(&0x16));
    assert_eq!(view(cluster.leader().grpc).await.unwrap().leader, before.leader);
}

/// Nor where a proxy takes TLS from it: what needs no preflight is no gRPC, and a preflight is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_not_allowed_to_speak_grpc() {
    let cluster = TestCluster::start(1).await;
    let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for path in PEER_PATHS {
        let url = format!("http://{}{path}", cluster.leader().grpc);
        let preflight = http2.request(Method::OPTIONS, &url).header("origin", "http://elsewhere.example");
        let preflight = preflight.header("access-control-request-method", "POST");
        let refused = send(preflight.header("access-control-request-headers", "content-type")).await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (405, ""), "{path}");
        for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            let simple = http2.post(&url).header("content-type", simple).body("\0\0\0\0\0");
            assert_eq!(send(simple).await.status, 415, "{path}");
        }
    }
}
