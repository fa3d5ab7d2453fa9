//! Writes the seeds that are messages, from real values: `PRIMACY_FUZZ=seeds`, in `fuzz/`. The others are texts, and are
//! written by hand.

use std::fs;

use primacy::{
    decoders::{etcd, number_to_wire},
    prime::{Number, check_with_evidence},
    proto::{
        self, BatchResponse, Claim, ClusterView, ElectionResponse, HandOverRequest, HeartbeatRequest,
        LaneAnswers, LaneAsks, PrimeResponse, SegmentRequest, SegmentResponse, VictoryRequest,
        etcd::{
            etcdserverpb::{RangeResponse, ResponseHeader},
            mvccpb::{Event, KeyValue},
        },
        prime_response::Evidence,
    },
};
use primacy_election::Identity;
use prost::Message;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};

use crate::lanes::{framed, hello};

/// Seeds of a target by their names.
type Seeds = Vec<(&'static str, Vec<u8>)>;

pub fn write() {
    for (target, seeds) in [
        ("check", checks()),
        ("evidence", evidence()),
        ("batch", batches()),
        ("segment", segments()),
        ("reflection", questions()),
        ("lane-asks", asks()),
        ("lane-answers", answers()),
        ("members", vec![("leader", heartbeat(1, 100).encode_to_vec())]),
        ("election", elections()),
        ("replies", replies()),
        ("etcd", stored()),
        ("status", vec![("view", view().encode_to_vec())]),
    ] {
        let folder = format!("seeds/{target}");
        fs::create_dir_all(&folder).expect("seeds/ is here");
        seeds
            .iter()
            .for_each(|(name, bytes)| fs::write(format!("{folder}/{name}"), bytes).expect("it is written"));
    }
}

fn of_kind(kind: u8, message: &impl Message) -> Vec<u8> {
    [&[kind][..], &message.encode_to_vec()].concat()
}

fn number(text: &str) -> Number {
    text.parse().expect("it is one")
}

fn response(text: &str) -> PrimeResponse {
    let (verdict, evidence) = check_with_evidence(&number(text), &|| true).expect("nothing stops it");
    let evidence = evidence.as_ref().map(Evidence::from);
    let certainty = proto::Certainty::from(verdict.certainty).into();
    PrimeResponse { is_prime: verdict.is_prime, processed_by: "worker1".to_owned(), certainty, evidence }
}

fn checks() -> Seeds {
    let long = "170141183460469231731687303715884105727";
    let neighbour = proto::NeighbourResponse {
        prime: "127".to_owned(),
        distance: "14".to_owned(),
        processed_by: "worker1".to_owned(),
        ..proto::NeighbourResponse::default()
    };
    let result = proto::Result { number: long.to_owned(), at_ms: 1, ..proto::Result::default() };
    vec![
        ("short-question", of_kind(0, &number_to_wire(&number("17")))),
        ("long-question", of_kind(0, &number_to_wire(&number(long)))),
        ("answer", of_kind(1, &response(long))),
        ("neighbour", of_kind(2, &neighbour)),
        ("result", of_kind(3, &result)),
    ]
}

fn evidence() -> Seeds {
    let of = |text| response(text).encode_to_vec();
    vec![
        ("lucas-lehmer", of("170141183460469231731687303715884105727")),
        ("pocklington", of("1000000000000000000000000000057")),
        ("miller-rabin", of("18446744073709551629")),
        ("witness", of("18446744073709551617")),
        ("factors", of("340282366920938463463374607431768211507")),
    ]
}

fn batches() -> Seeds {
    let response = BatchResponse { are_prime: vec![1, 0, 1], processed_by: "worker1".to_owned() };
    vec![("three", of_kind(3, &response)), ("wrong-count", of_kind(4, &response))]
}

fn segments() -> Seeds {
    let seed = |lists, count, primes: &[u8]| {
        let asked = SegmentRequest { from: 31, to: 100, lists, range_id: 7 };
        let found = SegmentResponse { count, primes: primes.to_vec(), processed_by: "worker1".to_owned() };
        [asked.encode_length_delimited_to_vec(), found.encode_to_vec()].concat()
    };
    vec![("count", seed(false, 15, &[])), ("list", seed(true, 15, &[0b1101_1111, 0b1110_1101, 0b0000_0001]))]
}

fn questions() -> Seeds {
    let ask = |question| {
        let request =
            ServerReflectionRequest { host: "localhost".to_owned(), message_request: Some(question) };
        request.encode_to_vec()
    };
    vec![
        ("services", ask(MessageRequest::ListServices(String::new()))),
        ("symbol", ask(MessageRequest::FileContainingSymbol("scheduler.Scheduler".to_owned()))),
        ("file", ask(MessageRequest::FileByFilename("scheduler.proto".to_owned()))),
        ("extensions", ask(MessageRequest::AllExtensionNumbersOfType("scheduler.PrimeRequest".to_owned()))),
    ]
}

fn asks() -> Seeds {
    let trace = proto::LaneTrace {
        ask: 5,
        request_id: "my-request-1".to_owned(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
    };
    let asks = LaneAsks {
        first_ask: 4,
        values: vec![17, 18, u64::MAX],
        timeouts_ms: vec![5000, 1, u32::MAX],
        traces: vec![trace],
        sender: Some(node()),
    };
    let last = LaneAsks { first_ask: u64::MAX, values: vec![17], ..LaneAsks::default() };
    vec![("three", asks.encode_to_vec()), ("last", last.encode_to_vec())]
}

fn answers() -> Seeds {
    let answers = LaneAnswers {
        asks: vec![0, 1],
        are_prime: vec![true, false],
        processed_by: vec![0, 0],
        names: vec!["worker3".to_owned()],
        failures: vec![proto::LaneFailure { ask: 2, code: 14, message: "no workers available".to_owned() }],
        ..LaneAnswers::default()
    };
    let stopping = LaneAnswers { stopping: true, ..LaneAnswers::default() };
    let messages = [hello(node()), answers, stopping];
    vec![("lane", messages.iter().flat_map(framed).collect())]
}

fn node() -> proto::Identity {
    proto::Identity {
        id: Some(3),
        name: "worker3".to_owned(),
        boot: 0xab,
        grpc_addr: "127.0.0.1:50054".to_owned(),
        http_addr: "127.0.0.1:8083".to_owned(),
        version: "0.1.0".to_owned(),
        scheme: "https".to_owned(),
    }
}

fn claim(counter: u64) -> Claim {
    Claim {
        ballot: Some(proto::Ballot { counter, id: 3 }),
        succeeds: vec![proto::Ballot { counter: 1, id: 4 }],
        followers: 2,
        reason: "took over from leader: connection refused".to_owned(),
        took_ms: 41,
        interval_ms: 100,
    }
}

fn heartbeat(counter: u64, interval_ms: u64) -> HeartbeatRequest {
    HeartbeatRequest {
        worker_id: "worker3".to_owned(),
        sender: Some(node()),
        interval_ms,
        members_version: counter,
        members: vec![member()],
        claim: Some(claim(counter)),
    }
}

fn member() -> proto::Member {
    let proto::Identity { name, boot, grpc_addr, http_addr, version, .. } = node();
    let status = proto::MemberStatus::Alive.into();
    let member =
        proto::Member { name, boot, grpc_addr, http_addr, version, status, ..proto::Member::default() };
    proto::Member { id: Some(1), last_seen_ms: Some(42), completed: 12, ..member }
}

fn elections() -> Seeds {
    let joins = HeartbeatRequest { sender: Some(node()), interval_ms: 100, ..HeartbeatRequest::default() };
    let all = [joins, heartbeat(5, 100), heartbeat(5, 400), heartbeat(6, 9000)];
    vec![("leader", all.iter().flat_map(Message::encode_length_delimited_to_vec).collect())]
}

fn replies() -> Seeds {
    let verdict = proto::Verdict { kind: 2, ballot: Some(proto::Ballot { counter: 1, id: 4 }) };
    let answer = ElectionResponse { answer: 1, leader: Some(node()), ..ElectionResponse::default() };
    let taken =
        ElectionResponse { answer: 5, taken_by: "127.0.0.1:1".to_owned(), ..ElectionResponse::default() };
    let Claim { ballot, succeeds, reason, .. } = claim(7);
    let offer = HandOverRequest { sender: Some(node()), ballot, succeeds, reason, transferred: true };
    let victory = VictoryRequest { sender: Some(node()), claim: Some(claim(1)), ..VictoryRequest::default() };
    vec![
        ("verdict", of_kind(0, &verdict)),
        ("leader-alive", of_kind(1, &answer)),
        ("taken", of_kind(1, &taken)),
        ("hand-over", of_kind(2, &offer)),
        ("victory", of_kind(3, &victory)),
    ]
}

fn stored() -> Seeds {
    let node = Identity::try_from(node()).expect("it is good");
    let put = etcd::registration(&node, 5);
    let member =
        KeyValue { key: put.key, value: put.value, lease: 5, mod_revision: 9, ..KeyValue::default() };
    let value = proto::LeaderKey { holder: Some((&node).into()), transferred: true }.encode_to_vec();
    let key = b"/primacy/leader".to_vec();
    let leader = KeyValue { key, value, lease: 5, mod_revision: 10, ..KeyValue::default() };
    let header = Some(ResponseHeader { revision: 10 });
    let list = RangeResponse { header, kvs: vec![leader.clone(), member.clone()] };
    let events = [(0, &member), (0, &leader), (1, &leader), (1, &member)];
    let event = |(kind, kv): (i32, &KeyValue)| Event { r#type: kind, kv: Some(kv.clone()) };
    let events = events.into_iter().flat_map(|of| event(of).encode_length_delimited_to_vec());
    vec![("list", of_kind(0, &list)), ("watch", [2].into_iter().chain(events).collect())]
}

fn view() -> ClusterView {
    let change = proto::Change {
        at_ms: 1,
        name: "worker3".to_owned(),
        change: "leader".to_owned(),
        reason: "the first election".to_owned(),
        duration_ms: 25,
    };
    ClusterView {
        leader: Some(proto::Leader { id: 3, name: "worker3".to_owned(), counter: 1, since_ms: 1 }),
        members: vec![member()],
        observed_by: "worker1".to_owned(),
        observed_at_ms: 60_000,
        recent: vec![change],
    }
}
