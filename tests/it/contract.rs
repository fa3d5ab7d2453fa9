//! The examples of errors in the contract are what a node really answers.

use std::time::Duration;

use primacy::{
    Node,
    limits::{BODY_BYTES_MAX_DEFAULT, IN_FLIGHT_MAX_DEFAULT, JSON_BULK_BYTES_MAX},
};
use serde_json::Value;

use crate::{
    harness::{TestCluster, TestNode, config, eventually, longest_number, metric},
    http::{Answer, Raw, contract, example, operations, resolved},
};

/// A node of each kind that is asked.
struct Nodes {
    good: TestNode,
    full: TestNode,
    alone: TestNode,
    stopping: TestNode,
    /// What makes the full one full.
    _held: Raw,
}

impl Nodes {
    async fn start() -> Self {
        let [good, full, alone, stopping] = [
            &["--id", "1"][..],
            &["--id", "1", "--in-flight-max", "1"],
            &["--id", "1", "--no-fallback"],
            &["--id", "1"],
        ]
        .map(|arguments| Node::bind(config(arguments)));
        let start = |node: Node| TestNode::start("node".to_owned(), node);
        let (good, full) = (start(good.await.unwrap()), start(full.await.unwrap()));
        let (alone, stopping) = (start(alone.await.unwrap()), start(stopping.await.unwrap()));
        let mut held = Raw::connect(full.http).await;
        let head = "Host: test\r\nGrpc-Timeout: 300S";
        held.send(format!("GET /prime/{} HTTP/1.1\r\n{head}\r\n\r\n", longest_number())).await;
        // Whoever asked for anything else meanwhile could take its place.
        eventually("it is full", || async { metric(&full, "primacy_in_flight").await == 1 }).await;
        Self { good, full, alone, stopping, _held: held }
    }

    /// The node that answers with an error of this name, and what its request has more, and instead of its body.
    fn asked_for(&self, error: &str) -> Option<(&TestNode, String, Option<String>)> {
        let (good, none) = (&self.good, String::new);
        let announced = |bytes: usize| Some((good, format!("Content-Length: {bytes}\r\n"), Some(none())));
        match error {
            "Malformed" => Some((good, "Grpc-Timeout: 30\r\n".to_owned(), None)),
            "BadLimit" | "BadRange" | "NoneBelow" => Some((good, none(), None)),
            "NotAcceptable" => Some((good, "Accept-Encoding: identity;q=0\r\n".to_owned(), None)),
            "Late" => Some((
                good,
                "Connect-Timeout-Ms: 50\r\nContent-Length: 14\r\n".to_owned(),
                Some("{\"numb".to_owned()),
            )),
            "TooLarge" => announced(BODY_BYTES_MAX_DEFAULT + 1),
            "TooLargeForJson" => announced(JSON_BULK_BYTES_MAX + 1),
            "Unsupported" => Some((good, "Content-Encoding: gzip\r\n".to_owned(), None)),
            "TooMuch" => Some((&self.full, none(), None)),
            "Unavailable" | "UnavailableForOne" => Some((&self.alone, none(), None)),
            "NotReady" => Some((&self.stopping, none(), None)),
            "Overdue" => Some((good, "Grpc-Timeout: 0S\r\n".to_owned(), None)),
            // It takes a defect, and `http.rs` has a test that makes one.
            "Defect" => None,
            other => panic!("{other} is in the contract, and nobody knows how to ask for it"),
        }
    }

    /// What the node answers; nothing if nobody knows how to ask for this error.
    async fn answer(&self, good: &Good, error: &str, request_id: &str) -> Option<Answer> {
        let (node, headers, body) = self.asked_for(error)?;
        let Good { method, path, query, body: good } = good;
        let query = match error {
            "BadLimit" => "?limit=0",
            "BadRange" => "",
            _ => query,
        };
        let path = if error == "NoneBelow" { "/prime/2/previous" } else { path };
        let (length, body) = match (body, good) {
            (Some(body), _) => (String::new(), body),
            (None, Some(body)) => (format!("Content-Length: {}\r\n", body.len()), body.clone()),
            (None, None) => (String::new(), String::new()),
        };
        let head = format!("Host: test\r\nX-Request-Id: {request_id}\r\n{headers}{length}");
        let request = format!("{method} {path}{query} HTTP/1.1\r\n{head}\r\n{body}");
        loop {
            let mut connection = Raw::connect(node.http).await;
            connection.send(&request).await;
            let answer = connection.answer().await;
            let answer = answer.unwrap_or_else(|| panic!("{error}: closed without an answer to {request}"));
            // It stops in its own time, and says so for a second.
            if error != "NotReady" || answer.status != 200 {
                return Some(answer);
            }
            node.stop.cancel();
        }
    }
}

/// The request that the contract has as an example.
struct Good {
    method: String,
    path: String,
    /// What it must have.
    query: String,
    body: Option<String>,
}

impl Good {
    fn new(contract: &Value, (method, path, said): &(String, String, Value)) -> Self {
        let number = said["parameters"].as_array().into_iter().flatten().find(|given| given["in"] == "path");
        let number = number.and_then(|given| example(contract, given)).unwrap_or_default();
        let path = path.replace("{number}", number.as_str().unwrap_or_default());
        let parameters = said["parameters"].as_array().into_iter().flatten();
        let required = parameters.filter(|given| given["in"] == "query" && given["required"] == true);
        let pairs: Vec<String> = required
            .map(|given| {
                let value = example(contract, given).unwrap();
                format!("{}={}", given["name"].as_str().unwrap(), value.as_str().unwrap())
            })
            .collect();
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        let body = &said["requestBody"]["content"]["application/json"];
        let body = example(contract, body).map(|body| body.to_string());
        Self { method: method.clone(), path, query, body }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_of_the_contract_is_answered_as_its_example_has_it() {
    let (contract, nodes) = (contract(), Nodes::start().await);
    let mut asked = 0;
    for operation in operations(&contract) {
        let good = Good::new(&contract, &operation);
        let what = format!("{} {}", good.method, good.path);
        for (status, response) in operation.2["responses"].as_object().unwrap() {
            let Some(reference) = response["$ref"].as_str() else {
                assert!(status.as_str() < "400", "{what}: each error is said once, for all: {response}");
                continue;
            };
            let name = reference.strip_prefix("#/components/responses/").unwrap();
            let shared = resolved(&contract, response);
            let example = &shared["content"]["application/problem+json"]["example"];
            assert_eq!(example["status"].to_string(), *status, "{what}: {name}");
            let id = example["request_id"].as_str().unwrap();
            let Some(answer) = nodes.answer(&good, name, id).await else { continue };
            asked += 1;
            // How many a node takes is its operator's to say.
            let max = IN_FLIGHT_MAX_DEFAULT.to_string();
            let expected = match name {
                "TooMuch" => example.to_string().replace(&format!("{max} requests"), "1 requests"),
                _ => example.to_string(),
            };
            let expected: Value = serde_json::from_str(&expected).unwrap();
            assert_eq!(answer.json(), expected, "{what}: {name}");
            assert_eq!(answer.status.to_string(), *status, "{what}: {name}");
            for (header, _) in shared["headers"].as_object().into_iter().flatten() {
                assert_ne!(answer.header(&header.to_lowercase()), "", "{what}: {name}");
            }
        }
    }
    assert!(asked > 30, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_within_an_answer_are_those_of_the_examples() {
    let (contract, cluster) = (contract(), TestCluster::start(1).await);
    let url = cluster.leader().url("/primes");
    let lines = async |body: String, time: &str| {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(&url).header("content-type", "application/x-ndjson");
        let request = request.header("grpc-timeout", time).timeout(Duration::from_secs(60)).body(body);
        request.send().await.unwrap().text().await.unwrap()
    };
    let answers = &contract["paths"]["/primes"]["post"]["responses"]["200"]["content"];
    let answered = lines("17\nabc\n".to_owned(), "5S").await;
    assert_eq!(answered, answers["application/x-ndjson"]["example"].as_str().unwrap());

    let schemas = &contract["components"]["schemas"];
    let line = |answered: &str, number: usize| -> Value {
        serde_json::from_str(answered.lines().nth(number).unwrap()).unwrap()
    };
    assert_eq!(line(&answered, 1), schemas["LineError"]["example"]);
    assert_eq!(line(&answered, 2), schemas["LastLine"]["example"]);
    let overdue = lines(longest_number(), "1m").await;
    assert_eq!(line(&overdue, 0)["error"], schemas["ErrorPart"]["example"]);
}
