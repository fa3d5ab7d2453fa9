//! Messages of clients and members: what is taken of them is the same after its way over the wire.

use std::sync::OnceLock;

use primacy::{
    decoders::{
        BatchOutcome, Known, Neighbour, NumberRange, Outcome, PrimeAnswer, Recorded, Segment, SegmentFound,
        SegmentOutcome, evidence_from_wire, number_from_wire, segment_from_wire, segment_to_wire,
    },
    limits::LIST_SEGMENT_NUMBERS_MAX,
    prime::{Certainty, Evidence, Number, Proof},
    proto,
};
use prost::Message;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_response::MessageResponse::ErrorResponse,
};

use crate::{check, numbers};

/// A kind, and a question or an answer of that kind.
pub fn check(bytes: &[u8]) {
    let Some((kind, message)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => question(message),
        1 => {
            let Ok(response) = proto::PrimeResponse::decode(message) else { return };
            outcome(&Outcome::from(response));
        }
        2 => {
            let Ok(response) = proto::NeighbourResponse::decode(message) else { return };
            let Ok(neighbour) = Neighbour::try_from(response) else { return };
            outcome(&neighbour.outcome);
            let again = Neighbour::try_from(proto::NeighbourResponse::from(neighbour.clone()));
            assert_eq!(again, Ok(neighbour));
        }
        _ => {
            let Ok(result) = proto::Result::decode(message) else { return };
            let Ok(recorded) = Recorded::try_from(result) else { return };
            check::plain(&recorded.processed_by);
            let wire = proto::Result::from(recorded);
            assert!(numbers::is_number(&wire.number));
            let again = Recorded::try_from(wire.clone()).expect("it was read before");
            assert_eq!(proto::Result::from(again), wire);
        }
    }
}

fn question(message: &[u8]) {
    let Ok(request) = proto::PrimeRequest::decode(message) else { return };
    match number_from_wire(&request) {
        Ok(number) if request.decimal.is_empty() => numbers::same(&number, &request.number.to_string()),
        Ok(number) => {
            assert_eq!(request.number, 0);
            numbers::same(&number, &request.decimal);
        }
        Err(error) => check::refusal(error),
    }
}

/// It says the same again, and can be shown.
fn outcome(outcome: &Outcome) {
    check::plain(&outcome.processed_by);
    assert_eq!(Outcome::from(proto::PrimeResponse::from(outcome.clone())), *outcome);
    match outcome.evidence.as_deref() {
        Some(Evidence::Proof(_)) => {
            assert!(outcome.verdict.is_prime && outcome.verdict.certainty == Certainty::Proven);
        }
        Some(Evidence::Witness(_)) => assert!(!outcome.verdict.is_prime),
        None => {}
    }
    let number = Number::from(17_u64);
    let json = serde_json::to_vec(&PrimeAnswer::new(&number, outcome)).expect("it is JSON");
    serde_json::from_slice::<serde_json::Value>(&json).expect("it is JSON");
}

/// What an answer rests on, by itself: neither nested deeper nor longer than proofs are.
pub fn evidence(bytes: &[u8]) {
    let Ok(response) = proto::PrimeResponse::decode(bytes) else { return };
    let Some(evidence) = response.evidence.and_then(evidence_from_wire) else { return };
    if let Evidence::Proof(proof) = &evidence {
        assert!(depth(proof) <= Proof::DEPTH_MAX);
    }
    assert_eq!(evidence_from_wire((&evidence).into()), Some(evidence));
}

fn depth(proof: &Proof) -> usize {
    let (Proof::Pocklington { factors } | Proof::Morrison { factors, .. }) = proof else { return 0 };
    assert!(factors.len() <= Proof::FACTORS_MAX);
    factors.iter().filter_map(|factor| factor.proof.as_ref()).map(|proof| depth(proof) + 1).max().unwrap_or(0)
}

/// How many were asked, and the answer to a batch: it has one for each.
pub fn batch(bytes: &[u8]) {
    let Some((count, message)) = bytes.split_first() else { return };
    let Ok(response) = proto::BatchResponse::decode(message) else { return };
    let answered = response.are_prime.len();
    match BatchOutcome::from_wire(response, (*count).into()) {
        Ok(outcome) => {
            assert_eq!((answered, outcome.are_prime.len()), ((*count).into(), (*count).into()));
            check::plain(&outcome.processed_by);
            let again = BatchOutcome::from_wire(outcome.clone().into(), (*count).into());
            assert_eq!(again.ok(), Some(outcome));
        }
        Err(error) => {
            assert_ne!(answered, usize::from(*count));
            check::reason(&error.to_string());
        }
    }
}

/// The question for a segment after its length, and the answer: as many primes as the range may have, and none beyond it.
pub fn segment(bytes: &[u8]) {
    let mut bytes = bytes;
    let Ok(request) = proto::SegmentRequest::decode_length_delimited(&mut bytes) else { return };
    let asked = match segment_from_wire(&request) {
        Ok(asked) => asked,
        Err(error) => {
            assert!(request.from > request.to);
            return check::refusal(error);
        }
    };
    assert_eq!(segment_to_wire(asked, request.range_id), request);
    // A node does not ask for more.
    if asked.lists && asked.range.numbers() > LIST_SEGMENT_NUMBERS_MAX {
        return;
    }
    let Ok(response) = proto::SegmentResponse::decode(bytes) else { return };
    match SegmentOutcome::from_wire(response, asked) {
        Ok(outcome) => found(outcome, asked),
        Err(error) => check::reason(&error.to_string()),
    }
}

fn found(outcome: SegmentOutcome, asked: Segment) {
    check::plain(&outcome.processed_by);
    let NumberRange { from, to } = asked.range;
    match &outcome.found {
        SegmentFound::Count(count) => assert!(!asked.lists && *count <= asked.range.numbers()),
        SegmentFound::Primes(primes) => {
            assert!(asked.lists && primes.iter().is_sorted_by(|one, next| one < next));
            assert!(primes.iter().all(|prime| (from..=to).contains(&prime)));
            assert_eq!(primes.iter().count() as u64, primes.count());
        }
    }
    let again = SegmentOutcome::from_wire(outcome.clone().into(), asked);
    assert_eq!(again.ok(), Some(outcome));
}

/// A question of reflection: it is repeated, and what is not found is told in a line.
pub fn reflection(bytes: &[u8]) {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let Ok(request) = ServerReflectionRequest::decode(bytes) else { return };
    let known = KNOWN.get_or_init(|| Known::new().expect("a test excludes it"));
    let response = known.response(request.clone());
    assert_eq!((response.valid_host, response.original_request), (request.host.clone(), Some(request)));
    if let Some(ErrorResponse(error)) = response.message_response {
        check::reason(&error.error_message);
    }
}
