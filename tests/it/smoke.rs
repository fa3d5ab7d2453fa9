//! The first things that anybody tries.

use crate::harness::TestCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_sees_the_workers_in_turn() {
    let cluster = TestCluster::start(3).await;
    let mut by = Vec::new();
    for number in 17..26 {
        let answer = cluster.leader().check(number).await;
        assert_eq!(answer.is_prime, [17, 19, 23].contains(&number), "{number}");
        by.push(answer.processed_by);
    }
    for worker in ["worker1", "worker2", "worker3"] {
        assert_eq!(by.iter().filter(|name| *name == worker).count(), 3, "{by:?}");
    }
    assert_eq!(by[..3], by[3..6], "in turn: {by:?}");
}
