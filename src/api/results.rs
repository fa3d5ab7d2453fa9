//! An answer that was given: as the node keeps it, on the wire, and in JSON.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::prime::CertaintyWord;
use crate::{
    prime::{Number, NumberError, Verdict},
    proto,
    text::plain,
};

/// An answer that was given.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The number that was asked.
    pub number: Number,
    /// What was answered.
    pub verdict: Verdict,
    /// Who did the work.
    pub processed_by: Arc<str>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long the check took where it was scheduled, in microseconds.
    pub duration_us: u64,
}

impl From<Recorded> for proto::Result {
    fn from(result: Recorded) -> Self {
        Self {
            number: result.number.to_string(),
            is_prime: result.verdict.is_prime,
            processed_by: result.processed_by.to_string(),
            certainty: proto::Certainty::from(result.verdict.certainty).into(),
            at_ms: result.at_ms,
            duration_us: result.duration_us,
        }
    }
}

impl TryFrom<proto::Result> for Recorded {
    type Error = NumberError;

    fn try_from(wire: proto::Result) -> Result<Self, Self::Error> {
        let certainty = wire.certainty().into();
        Ok(Self {
            number: wire.number.parse()?,
            verdict: Verdict { is_prime: wire.is_prime, certainty },
            processed_by: plain(&wire.processed_by).into(),
            at_ms: wire.at_ms,
            duration_us: wire.duration_us,
        })
    }
}

/// The newest answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"results": [{
    "number": "17", "is_prime": true, "processed_by": "worker1", "certainty": "proven",
    "at": 1_790_000_000_000_u64, "duration_us": 140
}]}))]
pub struct ResultsAnswer {
    /// The newest first; of a batch of a bulk the last number only. Fewer than were asked for when their numbers come
    /// to more than 512 KiB.
    results: Vec<ResultAnswer>,
}

/// An answer that was given.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultAnswer {
    /// The number that was asked.
    #[schema(example = "17")]
    number: String,
    /// Whether it is prime.
    #[schema(example = true)]
    is_prime: bool,
    /// The name of the node that did the work.
    #[schema(example = "worker1")]
    processed_by: String,
    /// How sure it is.
    certainty: CertaintyWord,
    /// When it was answered, in milliseconds since the Unix epoch.
    #[schema(example = 1_790_000_000_000_u64)]
    at: u64,
    /// How long the check took where it was scheduled, in microseconds.
    #[schema(example = 140)]
    duration_us: u64,
}

impl From<Vec<Recorded>> for ResultsAnswer {
    fn from(newest: Vec<Recorded>) -> Self {
        Self { results: newest.into_iter().map(ResultAnswer::from).collect() }
    }
}

impl From<Recorded> for ResultAnswer {
    fn from(result: Recorded) -> Self {
        Self {
            number: result.number.to_string(),
            is_prime: result.verdict.is_prime,
            processed_by: result.processed_by.to_string(),
            certainty: result.verdict.certainty.into(),
            at: result.at_ms,
            duration_us: result.duration_us,
        }
    }
}
