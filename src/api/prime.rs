//! A number, and whether it is prime: as the node holds it, on the wire, and in JSON.

use std::{borrow::Cow, fmt::Display, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tonic::Status;
use utoipa::ToSchema;

use super::{
    error::ApiError,
    evidence::{ProofAnswer, WitnessAnswer, evidence_from_wire},
};
use crate::{
    prime::{Certainty, Evidence, Number, Verdict},
    proto,
    text::{BYTE_ORDER_MARK, plain},
};

/// The answer to a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is prime, and how sure that is.
    pub verdict: Verdict,
    /// What that rests on, for a long number.
    pub evidence: Option<Arc<Evidence>>,
    /// The name of the node that did the work.
    pub processed_by: Arc<str>,
}

impl Outcome {
    /// The answer to a number of a word, which is proven and rests on the method alone.
    pub fn of_word(is_prime: bool, processed_by: Arc<str>) -> Self {
        let verdict = Verdict { is_prime, certainty: Certainty::Proven };
        Self { verdict, evidence: None, processed_by }
    }
}

// ── The wire ────────────────────────────────────────────────────────────────────────────────────────────────────

/// The number of a request: `number`, or `decimal` where that is set.
pub fn number_from_wire(request: &proto::PrimeRequest) -> Result<Number, ApiError> {
    match (request.number, request.decimal.as_str()) {
        (number, "") => Ok(number.into()),
        (0, decimal) => Ok(decimal.parse()?),
        _ => Err(ApiError::invalid("set `number` or `decimal`, not both")),
    }
}

/// The question for a number: small ones as the seed's clients ask.
pub fn number_to_wire(number: &Number) -> proto::PrimeRequest {
    match number.word().and_then(|word| i64::try_from(word).ok()) {
        Some(number) => proto::PrimeRequest { number, decimal: String::new() },
        None => proto::PrimeRequest { number: 0, decimal: number.to_string() },
    }
}

impl From<proto::PrimeResponse> for Outcome {
    fn from(response: proto::PrimeResponse) -> Self {
        let verdict = Verdict { is_prime: response.is_prime, certainty: response.certainty().into() };
        let evidence = response.evidence.and_then(evidence_from_wire).filter(|evidence| match evidence {
            Evidence::Proof(_) => verdict.is_prime && verdict.certainty == Certainty::Proven,
            Evidence::Witness(_) => !verdict.is_prime,
        });
        let evidence = evidence.map(Arc::new);
        Self { verdict, evidence, processed_by: plain(&response.processed_by).into() }
    }
}

impl From<Outcome> for proto::PrimeResponse {
    fn from(outcome: Outcome) -> Self {
        Self {
            is_prime: outcome.verdict.is_prime,
            processed_by: outcome.processed_by.to_string(),
            certainty: proto::Certainty::from(outcome.verdict.certainty).into(),
            evidence: outcome.evidence.as_deref().map(Into::into),
        }
    }
}

impl From<Certainty> for proto::Certainty {
    fn from(certainty: Certainty) -> Self {
        match certainty {
            Certainty::Proven => Self::Proven,
            Certainty::Probable => Self::Probable,
        }
    }
}

impl From<proto::Certainty> for Certainty {
    /// The seed's workers say nothing: their numbers are short.
    fn from(wire: proto::Certainty) -> Self {
        match wire {
            proto::Certainty::Probable => Self::Probable,
            proto::Certainty::Proven | proto::Certainty::Unspecified => Self::Proven,
        }
    }
}

/// The answer to one of many.
pub fn checked(outcome: Result<Outcome, ApiError>) -> proto::CheckedPrime {
    let outcome = match outcome {
        Ok(outcome) => proto::checked_prime::Outcome::Answer(outcome.into()),
        Err(error) => {
            let status = Status::from(error);
            let (code, message) = (status.code().into(), status.message().to_owned());
            proto::checked_prime::Outcome::Failure(proto::PrimeFailure { code, message })
        }
    };
    proto::CheckedPrime { outcome: Some(outcome) }
}

// ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What a number looks like that is taken: of up to 10,000 digits.
const NUMBER_PATTERN: &str = "^(0|-?[1-9][0-9]{0,9999})$";

/// A number to be checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"number": 17}))]
pub struct PrimeQuestion<'a> {
    /// A whole number in decimal, as a JSON integer or a string: `0|-?[1-9][0-9]*`, up to 10,000 digits. Beyond 2^53
    /// send a string if your JSON library rounds.
    #[serde(borrow)]
    #[schema(schema_with = number_schema)]
    number: &'a RawValue,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "number": "17", "is_prime": true, "processed_by": "worker1", "certainty": "proven"
}))]
pub struct PrimeAnswer<'a> {
    /// The number that was asked, as a string, because JavaScript cannot hold large numbers exactly.
    #[schema(example = "17", pattern = "^(0|-?[1-9][0-9]*)$")]
    number: Cow<'a, str>,
    /// Whether it is prime. Numbers below 2, negative ones included, are not.
    #[schema(example = true)]
    is_prime: bool,
    /// The name of the node that did the work.
    #[schema(example = "worker1")]
    processed_by: Cow<'a, str>,
    /// How sure it is: below 2^64, for every composite, and where there is a proof, proven.
    certainty: CertaintyWord,
    /// Why it is prime; only for a number of 2^64 and above that was asked by itself, where there is a proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<ProofAnswer<'a>>,
    /// Why it is composite; only for a number of 2^64 and above that was asked by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    witness: Option<WitnessAnswer<'a>>,
}

/// How sure an answer is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "proven")]
pub enum CertaintyWord {
    /// There is a proof: the method is exact below 2^64, a composite shows itself, and for some primes beyond a proof is cheap.
    Proven,
    /// It passed Baillie-PSW and more; no composite is known that does.
    Probable,
}

impl<'a> PrimeAnswer<'a> {
    /// The answer to a number.
    pub fn new(number: &'a Number, outcome: &'a Outcome) -> Self {
        let (proof, witness) = match outcome.evidence.as_deref() {
            None => (None, None),
            Some(Evidence::Proof(proof)) => (Some(proof.into()), None),
            Some(Evidence::Witness(witness)) => (None, Some(witness.into())),
        };
        Self {
            number: number.as_str(),
            is_prime: outcome.verdict.is_prime,
            processed_by: Cow::Borrowed(&outcome.processed_by),
            certainty: outcome.verdict.certainty.into(),
            proof,
            witness,
        }
    }
}

impl From<Certainty> for CertaintyWord {
    fn from(certainty: Certainty) -> Self {
        match certainty {
            Certainty::Proven => Self::Proven,
            Certainty::Probable => Self::Probable,
        }
    }
}

/// A number in the contract.
pub fn number_schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
    let integer = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).build();
    let string = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(NUMBER_PATTERN))
        .build();
    OneOfBuilder::new()
        .item(integer)
        .item(string)
        .description(Some(
            "A whole number in decimal, up to 10,000 digits, as a string, or as an integer without fraction and exponent.",
        ))
        .examples([serde_json::json!(17), serde_json::json!("170141183460469231731687303715884105727")])
        .into()
}

/// Reads the body of a question for one number.
///
/// # Errors
/// What is wrong with it, and what is expected.
pub fn parse_question(body: &[u8]) -> Result<Number, ApiError> {
    let question: PrimeQuestion<'_> = read_object(body, r#"{"number": 17}, or the number as a string"#)?;
    parse_number(question.number.get())
}

/// Reads a body that is a JSON object; an error shows what was expected.
pub(super) fn read_object<'a, T: Deserialize<'a>>(body: &'a [u8], expected: &str) -> Result<T, ApiError> {
    let unexpected = |why: &dyn Display| {
        ApiError::invalid(format!("the body is not the JSON that is expected: {why}; send {expected}"))
    };
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    // serde would take the items of an array for the fields of a struct.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(unexpected(&"it is an array"));
    }
    serde_json::from_slice(body).map_err(|error| unexpected(&error))
}

/// A number as it stands in JSON: an integer, or a string.
///
/// # Errors
/// What is wrong with it.
pub fn parse_number(json: &str) -> Result<Number, ApiError> {
    if json.starts_with('"') {
        let text: String = serde_json::from_str(json)
            .map_err(|error| ApiError::invalid(format!("the string is not well formed: {error}")))?;
        return Ok(text.parse()?);
    }
    Ok(json.parse()?)
}
