//! Clients that were not written here: gRPC, a browser, others over HTTP and TLS, also through a proxy, Prometheus, and
//! one that tries the contract.

use std::{env, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::harness::Processes;

/// Each wait in the tests there is bounded; most of them take a second or less.
const GRPC_MAX: Duration = Duration::from_secs(180);
const BROWSER_MAX: Duration = Duration::from_secs(500);
const PROXY_MAX: Duration = Duration::from_secs(180);
const PROMETHEUS_MAX: Duration = Duration::from_secs(60);
const CLIENTS_MAX: Duration = Duration::from_secs(180);
const TLS_MAX: Duration = Duration::from_secs(180);
const CONTRACT_MAX: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs grpcio from PyPI: scripts/test.sh installs it"]
async fn a_client_not_written_here() {
    let cluster = Processes::start(3).await;
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.grpc.to_string()).collect();
    let sites: Vec<String> = cluster.nodes.iter().map(|node| node.http.to_string()).collect();
    let mut pytest = pytest(&["test_grpc.py", "test_proofs.py"]);
    pytest.env("PRIMACY_GRPC", addresses.join(",")).env("PRIMACY_HTTP", sites.join(","));
    passes(&mut pytest, GRPC_MAX).await;
}

#[tokio::test]
#[ignore = "needs Chromium, and Playwright from PyPI: scripts/test.sh installs them"]
async fn a_real_browser() {
    // The tests there kill nodes, and start their own.
    let binary = env!("CARGO_BIN_EXE_primacy");
    passes(
        pytest(&["test_docs.py", "test_page.py", "test_other_site.py"]).env("PRIMACY_BINARY", binary),
        BROWSER_MAX,
    )
    .await;
}

#[tokio::test]
#[ignore = "needs nginx, Chromium, and Playwright from PyPI: scripts/test.sh installs them"]
async fn a_real_browser_behind_a_real_proxy() {
    let binary = env!("CARGO_BIN_EXE_primacy");
    passes(pytest(&["test_page_behind_proxy.py"]).env("PRIMACY_BINARY", binary), PROXY_MAX).await;
}

#[tokio::test]
#[ignore = "needs Prometheus, and Playwright from PyPI: scripts/test.sh installs them"]
async fn a_real_prometheus() {
    let binary = env!("CARGO_BIN_EXE_primacy");
    passes(pytest(&["test_metrics.py"]).env("PRIMACY_BINARY", binary), PROMETHEUS_MAX).await;
}

#[tokio::test]
#[ignore = "needs nginx, curl, netcat, socat and Go from Debian, httpx and urllib3 from PyPI: scripts/test.sh installs them"]
async fn real_clients_and_proxies_over_http() {
    let binary = env!("CARGO_BIN_EXE_primacy");
    passes(pytest(&["test_proxies.py"]).env("PRIMACY_BINARY", binary), CLIENTS_MAX).await;
}

#[tokio::test]
#[ignore = "needs nginx, Caddy, curl, openssl, Chromium and certutil, and Playwright, httpx and grpcio from PyPI: scripts/test.sh installs them"]
async fn real_clients_and_proxies_over_tls() {
    let binary = env!("CARGO_BIN_EXE_primacy");
    let files = ["test_tls.py", "test_tls_proxies.py", "test_page_over_tls.py"];
    passes(pytest(&files).env("PRIMACY_BINARY", binary), TLS_MAX).await;
}

#[tokio::test]
#[ignore = "needs Schemathesis from PyPI: scripts/test.sh installs it"]
async fn a_client_that_tries_the_contract() {
    let binary = env!("CARGO_BIN_EXE_primacy");
    passes(pytest(&["test_contract.py"]).env("PRIMACY_BINARY", binary), CONTRACT_MAX).await;
}

fn pytest(files: &[&str]) -> Command {
    let mut pytest = Command::new(env::var("PRIMACY_PYTHON").unwrap_or_else(|_| "python3".to_owned()));
    // Without the files that Python and pytest leave beside what they read.
    pytest.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]);
    pytest.args(files.iter().map(|file| format!("tests/python/{file}")));
    pytest
}

async fn passes(pytest: &mut Command, max: Duration) {
    let ended = timeout(max, pytest.kill_on_drop(true).status()).await.expect("pytest ends").unwrap();
    assert!(ended.success(), "{ended}");
}
