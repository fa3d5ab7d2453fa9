//! The prime beside a number: the next one, or the one before.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::ErrorPart,
    prime::{Outcome, PrimeAnswer},
};
use crate::{
    prime::{Number, NumberError},
    proto::{self, prime_response},
};

/// The prime beside a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The prime.
    pub prime: Number,
    /// How far it is from the number.
    pub distance: Number,
    /// How sure it is, and who found it.
    pub outcome: Outcome,
}

impl Neighbour {
    /// The prime beside `origin`.
    pub fn new(origin: &Number, prime: Number, outcome: Outcome) -> Self {
        Self { distance: origin.distance(&prime), prime, outcome }
    }
}

impl From<Neighbour> for proto::NeighbourResponse {
    fn from(Neighbour { prime, distance, outcome }: Neighbour) -> Self {
        let proto::PrimeResponse { processed_by, certainty, evidence, .. } = outcome.into();
        let proof = match evidence {
            Some(prime_response::Evidence::Proof(proof)) => Some(proof),
            _ => None,
        };
        Self { prime: prime.to_string(), distance: distance.to_string(), processed_by, certainty, proof }
    }
}

impl TryFrom<proto::NeighbourResponse> for Neighbour {
    type Error = NumberError;

    fn try_from(wire: proto::NeighbourResponse) -> Result<Self, NumberError> {
        let proto::NeighbourResponse { prime, distance, processed_by, certainty, proof } = wire;
        let evidence = proof.map(prime_response::Evidence::Proof);
        let outcome = proto::PrimeResponse { is_prime: true, processed_by, certainty, evidence }.into();
        Ok(Self { prime: prime.parse()?, distance: distance.parse()?, outcome })
    }
}

/// The prime, answered as `/prime` answers, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"number": "127", "is_prime": true, "processed_by": "worker1", "certainty": "proven", "distance": "14"}))]
pub struct NeighbourAnswer<'a> {
    /// The prime that was found.
    #[serde(flatten)]
    pub prime: PrimeAnswer<'a>,
    /// How far it is from the number that was asked.
    pub distance: Cow<'a, str>,
}

impl<'a> From<&'a Neighbour> for NeighbourAnswer<'a> {
    fn from(Neighbour { prime, distance, outcome }: &'a Neighbour) -> Self {
        Self { prime: PrimeAnswer::new(prime, outcome), distance: distance.as_str() }
    }
}

/// A line of a search: how far it has come, the prime, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"tested_to": "121"}))]
pub enum NeighbourLine<'a> {
    /// How far it has come.
    Tested(TestedLine<'a>),
    /// The last line: the prime.
    Found(FoundLine<'a>),
    /// The last line: why it was not found.
    Error(NeighbourError<'a>),
}

/// How far a search has come. Whoever loses the stream asks from there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"tested_to": "121"}))]
pub struct TestedLine<'a> {
    /// From the number that was asked to this one there is no prime.
    pub tested_to: Cow<'a, str>,
}

/// The prime that was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"done": true, "number": "127", "is_prime": true, "processed_by": "worker1", "certainty": "proven", "distance": "14"}))]
pub struct FoundLine<'a> {
    /// Always true.
    pub done: bool,
    /// The prime.
    #[serde(flatten)]
    pub answer: NeighbourAnswer<'a>,
}

/// Why the prime was not found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"done": false, "error": {"code": "unavailable", "grpc_code": 14, "detail": "no workers available"}}))]
pub struct NeighbourError<'a> {
    /// Always false.
    pub done: bool,
    /// Why.
    pub error: ErrorPart<'a>,
}
