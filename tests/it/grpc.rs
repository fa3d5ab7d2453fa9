//! What gRPC's own documents ask of a server beside the methods: content types, health, reflection, compression.

use std::time::{Duration, Instant};

use axum::http::uri::PathAndQuery;
use futures_util::{StreamExt, future::join_all, stream};
use primacy::{
    limits::{LAME_DUCK, MESSAGE_BYTES_MAX, WATCHERS_MAX},
    proto::{
        PrimeRequest, PrimeResponse, WatchClusterRequest, checked_prime::Outcome,
        scheduler_client::SchedulerClient,
    },
};
use reqwest::Method;
use tokio::time::timeout;
use tonic::{Code, Status, client::Grpc, codec::CompressionEncoding::Gzip, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::{SOON, TestNode, channel, check, eventually};

const CHECK_PRIME: &str = "/scheduler.Scheduler/CheckPrime";
/// The number 17, uncompressed.
const SEVENTEEN: [u8; 7] = [0, 0, 0, 0, 2, 8, 17];

fn decimal(decimal: String) -> PrimeRequest {
    PrimeRequest { number: 0, decimal }
}

async fn gzip_client(node: &TestNode) -> SchedulerClient<Channel> {
    SchedulerClient::new(channel(node.grpc).await.unwrap()).send_compressed(Gzip)
}

// ── content types ───────────────────────────────────────────────────────────────────────────────────────────────

/// A request in HTTP/2; the answer if it is whole within its head.
async fn send(node: &TestNode, method: Method, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let request = client.request(method, format!("http://{}{path}", node.grpc)).body(SEVENTEEN.to_vec());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    timeout(SOON, request.send()).await.expect("no answer").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_speak_grpc_is_told_so_in_http() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for good in ["application/grpc", "application/grpc+proto", "Application/gRPC", "application/grpc;x=y"] {
        let answer = send(&node, Method::POST, CHECK_PRIME, &[("content-type", good)]).await;
        assert_eq!(answer.status(), 200, "{good}");
        assert!(!answer.headers().contains_key("grpc-status"), "{good}");
    }
    let mut refused = Vec::new();
    for bad in [
        "application/json",
        "application/grpcx",
        "application/grpc+json",
        "application/grpc-web",
        "text/plain",
        "",
    ] {
        refused.push((Method::POST, CHECK_PRIME, vec![("content-type", bad)], 415, "3"));
    }
    refused.push((Method::POST, CHECK_PRIME, vec![], 415, "3"));
    refused.push((Method::POST, "/no.Such/Method", vec![], 415, "3"));
    for method in [Method::GET, Method::PUT, Method::OPTIONS] {
        refused.push((method.clone(), CHECK_PRIME, vec![("content-type", "application/grpc")], 405, "12"));
        refused.push((method, "/", vec![], 405, "12"));
    }
    for (method, path, headers, status, code) in refused {
        let what = format!("{method} {path} {headers:?}");
        let answer = send(&node, method, path, &[&headers[..], &[("x-request-id", "mine")]].concat()).await;
        let head = answer.headers().clone();
        assert_eq!(
            (answer.status().as_u16(), &head["grpc-status"]),
            (status, &code.parse().unwrap()),
            "{what}"
        );
        assert_eq!(head["content-type"], "application/problem+json", "{what}");
        assert_eq!(head.get("allow").is_some(), status == 405, "{what}");
        let problem: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("JSON over HTTP is at http://{}", node.http)), "{what}: {detail}");
        assert_eq!(problem["request_id"], "mine", "{what}");
    }
    assert!(check(node.grpc, 17).await.unwrap().is_prime);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_grpc_says_what_is_allowed() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let grpc = ("content-type", "application/grpc");
    let cases = [
        ("/scheduler.Scheduler/Nothing", vec![grpc], "12", "reflection lists"),
        ("/no.Such/Method", vec![grpc], "12", "reflection lists"),
        ("/grpc.health.v1.Health/Nothing", vec![grpc], "12", "reflection lists"),
        (
            CHECK_PRIME,
            vec![grpc, ("grpc-encoding", "br")],
            "12",
            "`br` which isn't supported; these encodings are taken: gzip,identity",
        ),
        (
            "/scheduler.Peer/WorkBatch",
            vec![grpc, ("grpc-encoding", "gzip")],
            "12",
            "these encodings are taken: identity",
        ),
        (CHECK_PRIME, vec![grpc, ("grpc-timeout", "5")], "3", "1 to 8 digits and a unit"),
        (CHECK_PRIME, vec![grpc, ("grpc-timeout", "0S")], "4", "ask with a longer one"),
    ];
    for (path, headers, code, text) in cases {
        let head = send(&node, Method::POST, path, &headers).await.headers().clone();
        assert_eq!(head["grpc-status"], code, "{path} {headers:?}: {head:?}");
        let said = head["grpc-message"].to_str().unwrap().replace("%20", " ").replace("%60", "`");
        assert!(said.contains(text), "{path} {headers:?}: {said}");
        assert!(head.contains_key("x-request-id"), "{path} {headers:?}");
    }
    for path in [CHECK_PRIME, "/grpc.health.v1.Health/Check", "/no.Such/Method"] {
        let head = send(&node, Method::POST, path, &[grpc]).await.headers().clone();
        assert_eq!(head["grpc-accept-encoding"], "gzip,identity", "{path}");
    }
}

/// Each message in a frame of its own, as most libraries send them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_for_one_message_takes_one() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (count, code) in
        [(0, Code::Unimplemented), (1, Code::Ok), (2, Code::Unimplemented), (300, Code::Unimplemented)]
    {
        for method in [CHECK_PRIME, "/scheduler.Worker/ProcessPrime"] {
            let mut client = Grpc::new(channel(node.grpc).await.unwrap());
            client.ready().await.unwrap();
            let messages =
                stream::iter(std::iter::repeat_n(PrimeRequest { number: 17, decimal: String::new() }, count));
            let messages = messages.then(|message| async {
                tokio::task::yield_now().await;
                message
            });
            let codec = ProstCodec::<PrimeRequest, PrimeResponse>::default();
            let call = client.client_streaming(
                tonic::Request::new(messages),
                PathAndQuery::from_static(method),
                codec,
            );
            let answered = timeout(SOON, call).await.expect("no answer");
            let status = answered.map_or_else(|status| status, |_| Status::ok(""));
            assert_eq!(status.code(), code, "{count} to {method}: {status}");
            assert!(count == 1 || status.message().contains("takes one message"), "{status}");
        }
    }
}

// ── health ──────────────────────────────────────────────────────────────────────────────────────────────────────

fn health_of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_the_health_says_that_the_node_stops_and_ends() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut client = HealthClient::new(channel(node.grpc).await.unwrap());
    let mut watches = Vec::new();
    for (service, first) in [
        ("", ServingStatus::Serving),
        ("scheduler.Scheduler", ServingStatus::Serving),
        ("scheduler.Worker", ServingStatus::Serving),
        ("no.Such", ServingStatus::ServiceUnknown),
    ] {
        let mut watch = client.watch(health_of(service)).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), first, "{service}");
        watches.push((service, watch));
    }
    let unknown = client.check(health_of("no.Such")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(
        unknown.message().contains("`no.Such`") && unknown.message().contains("scheduler.Worker"),
        "{unknown}"
    );

    node.stop.cancel();
    let stopped = Instant::now();
    for (service, watch) in &mut watches {
        let next = timeout(SOON, watch.message()).await.expect("a change").unwrap();
        match *service {
            "no.Such" => assert!(next.is_none(), "{next:?}"),
            _ => {
                assert_eq!(next.unwrap().status(), ServingStatus::NotServing, "{service}");
                assert!(
                    timeout(SOON, watch.message()).await.expect("an end").unwrap().is_none(),
                    "{service}"
                );
            }
        }
    }
    timeout(SOON, node.task).await.expect("it ends").unwrap().unwrap();
    assert!(stopped.elapsed() < LAME_DUCK + Duration::from_secs(2), "{:?}", stopped.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_watch_are_bounded_whatever_they_watch() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let (road, other) = (channel(node.grpc).await.unwrap(), channel(node.grpc).await.unwrap());
    let watches = (0..WATCHERS_MAX).map(|_| {
        let mut client = HealthClient::new(road.clone());
        async move { client.watch(health_of("")).await.unwrap().into_inner() }
    });
    let mut watches = join_all(watches).await;
    let health = HealthClient::new(other.clone()).watch(health_of("")).await.map(drop);
    let cluster = SchedulerClient::new(other.clone()).watch_cluster(WatchClusterRequest {}).await.map(drop);
    let reflection = reflect(&other, "v1", vec![]).await.map(drop);
    for refused in [health, cluster, reflection] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("256 clients watch this node"), "{refused}");
    }
    watches.pop();
    eventually("a place is free", || async {
        HealthClient::new(other.clone()).watch(health_of("")).await.is_ok()
    })
    .await;
}

// ── reflection ──────────────────────────────────────────────────────────────────────────────────────────────────

/// The answers to questions that are asked on one stream.
async fn reflect(
    road: &Channel,
    version: &str,
    questions: Vec<Option<MessageRequest>>,
) -> Result<Vec<ServerReflectionResponse>, Status> {
    let mut client = Grpc::new(road.clone());
    client.ready().await.unwrap();
    let ask = |message_request| ServerReflectionRequest { host: "me".to_owned(), message_request };
    let requests: Vec<_> = questions.into_iter().map(ask).collect();
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let path = PathAndQuery::try_from(path).unwrap();
    let answers =
        client.streaming(tonic::Request::new(stream::iter(requests)), path, codec).await?.into_inner();
    answers.collect::<Vec<_>>().await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_answers_what_there_is_not_and_goes_on() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let road = channel(node.grpc).await.unwrap();
    let symbol = |name: &str| Some(MessageRequest::FileContainingSymbol(name.to_owned()));
    let file = |name: &str| Some(MessageRequest::FileByFilename(name.to_owned()));
    let numbers = |name: &str| Some(MessageRequest::AllExtensionNumbersOfType(name.to_owned()));
    let extension =
        ExtensionRequest { containing_type: "scheduler.PrimeRequest".to_owned(), extension_number: 100 };
    let questions = vec![
        (symbol("no.Such"), Some(5)),
        (symbol("scheduler.Scheduler"), None),
        (symbol("scheduler.Scheduler.CheckPrime"), None),
        (symbol("scheduler.PrimeRequest"), None),
        (symbol("scheduler.PrimeRequest.decimal"), None),
        (symbol("scheduler.CheckedPrime.outcome"), None),
        (symbol("scheduler.Certainty"), None),
        (symbol("scheduler.PROVEN"), None),
        (symbol("grpc.health.v1.HealthCheckResponse.ServingStatus"), None),
        (symbol("scheduler"), Some(5)),
        (symbol(""), Some(5)),
        (file("scheduler.proto"), None),
        (file("no.proto"), Some(5)),
        (numbers("scheduler.PrimeRequest"), None),
        (numbers("no.Such"), Some(5)),
        (Some(MessageRequest::FileContainingExtension(extension)), Some(5)),
        (None, Some(3)),
        (Some(MessageRequest::ListServices("*".to_owned())), None),
    ];
    for version in ["v1", "v1alpha"] {
        let asked = questions.iter().map(|(question, _)| question.clone()).collect();
        let answers = timeout(SOON, reflect(&road, version, asked)).await.expect("answers").unwrap();
        assert_eq!(answers.len(), questions.len(), "{version}");
        for (answer, (question, code)) in answers.into_iter().zip(&questions) {
            let original = answer.original_request.unwrap();
            assert_eq!((&original.message_request, &original.host[..]), (question, "me"), "{version}");
            assert_eq!(answer.valid_host, "me", "{version}");
            match (answer.message_response.unwrap(), code) {
                (MessageResponse::ErrorResponse(error), Some(code)) => {
                    assert_eq!(error.error_code, *code, "{version} {question:?}");
                    assert!(error.error_message.len() > 20, "{version} {question:?}: {error:?}");
                }
                (MessageResponse::ListServicesResponse(list), None) => {
                    let names: Vec<_> = list.service.iter().map(|service| &service.name[..]).collect();
                    assert_eq!(
                        names,
                        [
                            "grpc.health.v1.Health",
                            "grpc.reflection.v1.ServerReflection",
                            "grpc.reflection.v1alpha.ServerReflection",
                            "scheduler.Peer",
                            "scheduler.Scheduler",
                            "scheduler.Worker"
                        ]
                    );
                }
                (MessageResponse::FileDescriptorResponse(found), None) => {
                    assert_eq!(found.file_descriptor_proto.len(), 1, "{version} {question:?}");
                }
                (MessageResponse::AllExtensionNumbersResponse(none), None) => {
                    assert_eq!(none.base_type_name, "scheduler.PrimeRequest");
                    assert!(none.extension_number.is_empty());
                }
                (answer, code) => panic!("{version} {question:?}: {answer:?} instead of {code:?}"),
            }
        }
    }
}

// ── compression ─────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_messages_are_taken_under_the_same_limit() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut client = gzip_client(&node).await;
    let longest = format!("1{}", "0".repeat(9_999));
    let answer = client.check_prime(decimal(longest.clone())).await.unwrap();
    assert!(!answer.get_ref().is_prime);
    assert!(!answer.metadata().contains_key("grpc-encoding"), "answers are not compressed");

    // Three bytes of length and a tag come before the digits.
    let read = client.check_prime(decimal("7".repeat(MESSAGE_BYTES_MAX - 4))).await.unwrap_err();
    assert_eq!(read.code(), Code::InvalidArgument, "{read}");
    // The last of them is some 50 KiB on the wire: a thousand times its limit, of which no more than that is unpacked.
    for bytes in [MESSAGE_BYTES_MAX - 3, 50 * 1024 * 1024] {
        let refused = client.check_prime(decimal("7".repeat(bytes))).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{bytes}: {refused}");
        assert!(refused.message().contains("65536 bytes"), "{bytes}: {refused}");
    }

    let requests = [decimal(longest), decimal("17".to_owned()), decimal("7".repeat(MESSAGE_BYTES_MAX))];
    let answers = client.check_primes(stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = timeout(SOON, answers.collect()).await.expect("an end");
    let [Ok(longest), Ok(seventeen), Err(too_large)] = &answers[..] else { panic!("{answers:?}") };
    for (answer, is_prime) in [(longest, false), (seventeen, true)] {
        assert!(matches!(&answer.outcome, Some(Outcome::Answer(answer)) if answer.is_prime == is_prime));
    }
    assert_eq!(too_large.code(), Code::ResourceExhausted, "{too_large}");
    assert!(check(node.grpc, 17).await.unwrap().is_prime);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_gzip_is_an_error_and_nothing_more() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for body in [&[1, 0, 0, 0, 2, 8, 17][..], &[1, 0, 0, 0, 0], &[1, 0, 0, 0, 4, 0x1f, 0x8b, 8, 0]] {
        let request = client.post(format!("http://{}{CHECK_PRIME}", node.grpc)).body(body.to_vec());
        let request = request.header("content-type", "application/grpc").header("grpc-encoding", "gzip");
        let answer = timeout(SOON, request.send()).await.expect("no answer").unwrap();
        assert_eq!(answer.headers()["grpc-status"], "13", "{body:?}");
        assert!(answer.headers().contains_key("grpc-message"), "{body:?}");
    }
    assert!(check(node.grpc, 17).await.unwrap().is_prime);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_bulk_that_are_large_when_unpacked_fail_alone() {
    const COUNT: usize = 300;
    let node = TestNode::alone(&["--id", "1"]).await;
    let mut client = gzip_client(&node).await;
    // Some 100 bytes each on the wire, and 60 KB unpacked: too many digits.
    let large = std::iter::repeat_n(decimal("7".repeat(60_000)), COUNT);
    let requests = large.chain([decimal("17".to_owned())]);
    let answers = client.check_primes(stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = timeout(SOON, answers.collect()).await.expect("an end");
    let outcomes: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().outcome.unwrap()).collect();
    assert!(outcomes[..COUNT].iter().all(|outcome| matches!(outcome, Outcome::Failure(_))));
    assert!(matches!(&outcomes[COUNT..], [Outcome::Answer(answer)] if answer.is_prime));
}

/// The methods of `proto/scheduler.proto`, as paths.
fn methods() -> Vec<String> {
    let proto = std::fs::read_to_string("proto/scheduler.proto").unwrap();
    let mut service = "";
    let mut methods = Vec::new();
    for line in proto.lines().map(str::trim_start) {
        match line.split([' ', '(']).collect::<Vec<_>>()[..] {
            ["service", name, ..] => service = name,
            ["rpc", name, ..] => methods.push(format!("/scheduler.{service}/{name}")),
            _ => {}
        }
    }
    methods
}

/// A service that lacked a method would compile, and answer `unimplemented`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_of_the_proto_file_is_served() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let ask = async |path: &str| {
        let request = client.post(format!("http://{}{path}", node.grpc));
        // One message without a field.
        let request =
            request.header("content-type", "application/grpc").header("te", "trailers").body(vec![0; 5]);
        let answer = request.send().await.unwrap();
        // An answer that is no error has its status after its messages.
        answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
    };
    assert_eq!(ask("/scheduler.Worker/Missing").await.as_deref(), Some("12"));
    let methods = methods();
    assert!(methods.len() >= 15, "{methods:?}");
    for path in methods {
        assert_ne!(ask(&path).await.as_deref(), Some("12"), "{path}");
    }
}
