//! What an answer rests on comes with it, whichever node is asked and however; the mathematics of it is checked in
//! `crates/prime/tests/evidence.rs` and by `tests/python/test_proofs.py`.

use futures_util::StreamExt;
use primacy::proto::{
    CheckedPrime, PrimeRequest, PrimeResponse, Proof, ProofMethod, Witness, checked_prime,
    prime_response::Evidence, scheduler_client::SchedulerClient, witness::Kind,
};
use serde_json::{Value, json};
use tokio_stream::iter;

use crate::{
    harness::{TestCluster, TestNode, channel},
    http::{client, get, post, send},
};

const MERSENNE: &str = "170141183460469231731687303715884105727";
/// 2¹³⁷ − 1.
const COMPOSITE: &str = "174224571863520493293247799005065324265471";

fn request(number: &str) -> PrimeRequest {
    PrimeRequest { number: 0, decimal: number.to_owned() }
}

fn without_name(mut answer: Value) -> Value {
    let name = answer.as_object_mut().unwrap().remove("processed_by").unwrap();
    assert!(name.as_str().unwrap().starts_with("worker"), "{name}");
    answer
}

async fn over_grpc(node: &TestNode, number: &str) -> PrimeResponse {
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    client.check_prime(request(number)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_says_why() {
    let cluster = TestCluster::start(2).await;
    let (proof, witness) = (json!({"method": "lucas-lehmer"}), json!({"lucas": "-7"}));
    let prime = json!({"number": MERSENNE, "is_prime": true, "certainty": "proven", "proof": proof});
    let composite =
        json!({"number": COMPOSITE, "is_prime": false, "certainty": "proven", "witness": witness});
    for node in &cluster.nodes {
        for (number, expected) in [(MERSENNE, &prime), (COMPOSITE, &composite)] {
            let read = get(node, &format!("/prime/{number}")).await;
            let posted = post(node, format!(r#"{{"number":"{number}"}}"#)).await;
            assert_eq!(
                [read, posted].map(|answer| without_name(answer.json())),
                [expected, expected].map(Value::clone)
            );
        }
        let method = ProofMethod::LucasLehmer.into();
        let proof = Proof { method, factors: Vec::new(), discriminant: 0 };
        assert_eq!(over_grpc(node, MERSENNE).await.evidence, Some(Evidence::Proof(proof)));
        let witness = Witness { kind: Some(Kind::Lucas(-7)) };
        assert_eq!(over_grpc(node, COMPOSITE).await.evidence, Some(Evidence::Witness(witness)));
        assert_eq!(over_grpc(node, "17").await.evidence, None);
    }
}

/// The proof of a factor stands in the proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_are_nested() {
    let cluster = TestCluster::start(1).await;
    // 10²⁹ + 319, found as the next prime, and asked by itself.
    let next = without_name(get(cluster.worker(1), "/prime/99999999999999999999999999999/next").await.json());
    let number = next["number"].as_str().unwrap();
    let asked = without_name(get(cluster.leader(), &format!("/prime/{number}")).await.json());
    assert_eq!((&next["proof"], &next["distance"]), (&asked["proof"], &json!("320")));
    let expected = json!({"method": "pocklington", "factors": [
        {"prime": "2", "base": "7"},
        {"prime": "3557546769822241483571", "base": "7", "proof": {"method": "miller-rabin"}},
    ]});
    assert_eq!(asked["proof"], expected);
    let streamed = client().get(cluster.leader().url("/prime/99999999999999999999999999999/next"));
    let streamed = send(streamed.header("accept", "application/x-ndjson")).await;
    let last: Value = serde_json::from_str(streamed.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["proof"], expected);
    let mut client = SchedulerClient::new(channel(cluster.leader().grpc).await.unwrap());
    let found = client.next_prime(request("99999999999999999999999999999")).await.unwrap().into_inner();
    let proof = found.proof.unwrap();
    assert_eq!((proof.method(), proof.factors.len()), (ProofMethod::Pocklington, 2));
    assert_eq!(proof.factors[1].proof.as_ref().unwrap().method(), ProofMethod::MillerRabin);
}

/// They are as certain, and short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_to_many_do_not_say_why() {
    let cluster = TestCluster::start(1).await;
    let node = cluster.worker(1);
    let fields = ["certainty", "is_prime", "number", "processed_by"];
    let keys = |answer: &Value| answer.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let body = format!(r#"{{"numbers": ["{MERSENNE}", "{COMPOSITE}"]}}"#);
    let answer = send(client().post(node.url("/primes")).body(body)).await.json();
    let lines = client().post(node.url("/primes")).header("content-type", "application/x-ndjson");
    let answered = send(lines.body(format!("{MERSENNE}\n{COMPOSITE}\n"))).await;
    let lines: Vec<Value> = answered.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for answers in [answer["results"].as_array().unwrap(), &lines[..2].to_vec()] {
        let certainties: Vec<&Value> = answers.iter().map(|answer| &answer["certainty"]).collect();
        assert_eq!(certainties, ["proven", "proven"]);
        assert!(answers.iter().all(|answer| keys(answer) == fields), "{answers:?}");
    }
    let mut client = SchedulerClient::new(channel(node.grpc).await.unwrap());
    let answers = client.check_primes(iter([MERSENNE, COMPOSITE].map(request))).await.unwrap().into_inner();
    let answers: Vec<CheckedPrime> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 2);
    for CheckedPrime { outcome } in answers {
        let Some(checked_prime::Outcome::Answer(answer)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(answer.evidence, None);
    }
    for result in get(node, "/results").await.json()["results"].as_array().unwrap() {
        assert!(result.get("proof").is_none() && result.get("witness").is_none(), "{result}");
    }
}
