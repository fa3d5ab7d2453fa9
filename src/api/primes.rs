//! Many numbers: batches between nodes, arrays and lines of JSON.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use thiserror::Error as ThisError;
use utoipa::ToSchema;

use super::{
    error::{ApiError, ErrorPart},
    prime::{PrimeAnswer, number_schema, parse_number, read_object},
};
use crate::{limits::JSON_BULK_NUMBERS_MAX, prime::Number, proto, text::plain};

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Whether each is prime, in the order of the batch; proven, because they are short.
    pub are_prime: Vec<bool>,
    /// The name of the node that did the work.
    pub processed_by: Arc<str>,
}

/// A node answered another number of questions than it was asked.
#[derive(Debug, ThisError)]
#[error("{processed_by} answered {answered} numbers of {count}")]
pub struct WrongCount {
    processed_by: String,
    answered: usize,
    count: usize,
}

impl BatchOutcome {
    /// The answer to a batch of so many.
    ///
    /// # Errors
    /// When there is not one for each.
    pub fn from_wire(response: proto::BatchResponse, count: usize) -> Result<Self, WrongCount> {
        let proto::BatchResponse { are_prime, processed_by } = response;
        let processed_by = plain(&processed_by);
        if are_prime.len() != count {
            return Err(WrongCount { processed_by, answered: are_prime.len(), count });
        }
        let are_prime = are_prime.into_iter().map(|is_prime| is_prime != 0).collect();
        Ok(Self { are_prime, processed_by: processed_by.into() })
    }
}

impl From<BatchOutcome> for proto::BatchResponse {
    fn from(outcome: BatchOutcome) -> Self {
        let are_prime = outcome.are_prime.into_iter().map(u8::from).collect();
        Self { are_prime, processed_by: outcome.processed_by.to_string() }
    }
}

/// The content type of lines of JSON.
pub const NDJSON: &str = "application/x-ndjson";

// ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Numbers to be checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"numbers": [17, "170141183460469231731687303715884105727"]}))]
pub struct PrimesQuestion<'a> {
    /// Up to 100,000 numbers, each as an integer or a string, as in `POST /prime`. For more send NDJSON.
    #[serde(borrow)]
    #[schema(schema_with = numbers_schema)]
    numbers: Items<'a>,
}

/// The answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"results": [
    {"number": "17", "is_prime": true, "processed_by": "worker1", "certainty": "proven"},
    {"number": "18", "is_prime": false, "processed_by": "worker1", "certainty": "proven"}
]}))]
pub struct PrimesAnswer<'a> {
    /// An answer for each number, in order.
    pub results: Vec<PrimeAnswer<'a>>,
}

/// What stands in the array, up to the bound.
#[derive(Debug)]
struct Items<'a>(Vec<&'a RawValue>);

struct ItemsVisitor;

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor).map(Items)
    }
}

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = array.next_element()? {
            if items.len() == JSON_BULK_NUMBERS_MAX {
                let more = format!("more than {JSON_BULK_NUMBERS_MAX} numbers; send so many as {NDJSON}");
                return Err(A::Error::custom(more));
            }
            items.push(item);
        }
        Ok(items)
    }
}

fn numbers_schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    use utoipa::openapi::schema::ArrayBuilder;
    ArrayBuilder::new()
        .items(number_schema())
        .max_items(Some(JSON_BULK_NUMBERS_MAX))
        .description(Some("Up to 100,000 numbers."))
        .into()
}

/// Reads the body of a question for many numbers.
///
/// # Errors
/// What is wrong with it, and what is expected.
pub fn parse_question(body: &[u8]) -> Result<Vec<Number>, ApiError> {
    let question: PrimesQuestion<'_> = read_object(body, r#"{"numbers": [17, 18]}"#)?;
    let items = question.numbers.0.into_iter().enumerate();
    items.map(|(place, item)| parse_number(item.get()).map_err(|error| error.of(ItemPlace(place)))).collect()
}

/// A number as it stands in a line: an integer, or a string.
///
/// # Errors
/// What is wrong with it.
pub fn parse_item(item: &[u8]) -> Result<Number, ApiError> {
    let text = str::from_utf8(item)
        .map_err(|_| ApiError::invalid("the line is not UTF-8; write a decimal integer such as 17 or -5"))?;
    parse_number(text)
}

/// A place in the array, counted from 0 as JSON's tools do.
pub struct ItemPlace(pub usize);

impl fmt::Display for ItemPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "numbers[{}]", self.0)
    }
}

/// Numbers, one a line, each an integer or a string as in JSON; blank lines are passed over.
#[derive(Debug, ToSchema)]
#[schema(example = "17\n18\n\"170141183460469231731687303715884105727\"\n")]
#[expect(dead_code, reason = "it stands in the contract, and is read as it comes")]
pub struct NumberLines(String);

/// A line of the answer: the answer to a number, an error in its place, or the last line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"number": "17", "is_prime": true, "processed_by": "worker1", "certainty": "proven"}))]
pub enum AnswerLine<'a> {
    /// The answer to a number.
    Answer(PrimeAnswer<'a>),
    /// A line without one.
    Error(LineError<'a>),
    /// The last line.
    Last(LastLine<'a>),
}

/// A line that is no number, or whose number has no answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"line": 2, "error": {"code": "invalid_argument", "grpc_code": 3, "detail": "\"abc\" is not a decimal integer; only the digits 0-9 are allowed, after an optional minus sign, such as 1000 or -5"}}))]
pub struct LineError<'a> {
    /// The line, counted from 1, blank ones included.
    pub line: u64,
    /// What was wrong with it.
    pub error: ErrorPart<'a>,
}

/// The last line. Where it is missing, the answer is truncated.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"done": true, "count": 2}))]
pub struct LastLine<'a> {
    /// Whether every line was answered.
    pub done: bool,
    /// The lines that were answered, those with an error included: so many lines came before this one.
    pub count: u64,
    /// Why not all were answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorPart<'a>>,
}
