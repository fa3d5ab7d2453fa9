//! A gRPC client that was not written here.

use std::{env, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::harness::Processes;

/// The tests there take some seconds, and each of their waits is bounded.
const PYTEST_MAX: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs grpcio from PyPI: scripts/test.sh installs it"]
async fn a_client_not_written_here() {
    let cluster = Processes::start(3).await;
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.grpc.to_string()).collect();
    let python = env::var("PRIMACY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    // Without the files that Python and pytest leave beside what they read.
    let pytest = Command::new(python)
        .args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/python/test_grpc.py"])
        .env("PRIMACY_GRPC", addresses.join(","))
        .kill_on_drop(true)
        .status();
    let ended = timeout(PYTEST_MAX, pytest).await.expect("pytest ends").unwrap();
    assert!(ended.success(), "{ended}");
}
