//! Ranges of numbers: how many primes there are in one, and which.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorPart};
use crate::{prime::PrimeMap, proto, text::plain};

/// The numbers from `from` to `to`, both included; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberRange {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// A part of a range, to be done by one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its numbers.
    pub range: NumberRange,
    /// Whether the primes are wanted, and not only their number.
    pub lists: bool,
}

/// What there is in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentFound {
    /// So many primes.
    Count(u64),
    /// These primes.
    Primes(PrimeMap),
}

/// The answer to a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentOutcome {
    /// What there is in it.
    pub found: SegmentFound,
    /// The name of the node that did the work.
    pub processed_by: Arc<str>,
}

/// A part of a range that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneSegment {
    /// Its numbers.
    pub range: NumberRange,
    /// The name of the node that did the work.
    pub processed_by: Arc<str>,
}

/// How far a count has come: the primes of the range up to a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountProgress {
    /// Up to this number all are counted; nothing before the first segment is done.
    pub counted_to: Option<u64>,
    /// How many there are.
    pub count: u64,
    /// What was done since the progress before this one, in order.
    pub segments: Vec<DoneSegment>,
}

/// A node answered something else than it was asked.
#[derive(Debug, Error)]
#[error("{0} answered something else than the segment that it was asked for")]
pub struct WrongSegment(String);

impl NumberRange {
    /// The range of these ends.
    ///
    /// # Errors
    /// `invalid_argument` if it begins after its end.
    pub fn new(from: u64, to: u64) -> Result<Self, ApiError> {
        if from > to {
            return Err(ApiError::invalid(format!(
                "the range begins at {from}, after its end {to}; write the smaller number first"
            )));
        }
        Ok(Self { from, to })
    }

    /// How many numbers there are; of all below 2⁶⁴, one less.
    pub fn numbers(self) -> u64 {
        (self.to - self.from).saturating_add(1)
    }

    /// Its first numbers, at most so many, which is more than none.
    #[must_use]
    pub fn first(self, numbers: u64) -> Self {
        Self { to: self.to.min(self.from.saturating_add(numbers - 1)), ..self }
    }

    /// What follows a part of it, if anything does.
    pub fn after(self, part: Self) -> Option<Self> {
        (part.to < self.to).then(|| Self { from: part.to + 1, ..self })
    }
}

impl SegmentFound {
    /// How many primes there are.
    pub fn count(&self) -> u64 {
        match self {
            Self::Count(count) => *count,
            Self::Primes(primes) => primes.count(),
        }
    }
}

// ── The wire ────────────────────────────────────────────────────────────────────────────────────────────────────

/// The range of a request.
///
/// # Errors
/// `invalid_argument` if it begins after its end.
pub fn range_from_wire(wire: &proto::Range) -> Result<NumberRange, ApiError> {
    NumberRange::new(wire.from, wire.to)
}

/// A segment of the range that has this id.
pub fn segment_to_wire(segment: Segment, range_id: u64) -> proto::SegmentRequest {
    let Segment { range: NumberRange { from, to }, lists } = segment;
    proto::SegmentRequest { from, to, lists, range_id }
}

/// The segment that a peer asks for.
///
/// # Errors
/// `invalid_argument` if it begins after its end.
pub fn segment_from_wire(wire: &proto::SegmentRequest) -> Result<Segment, ApiError> {
    Ok(Segment { range: NumberRange::new(wire.from, wire.to)?, lists: wire.lists })
}

impl From<SegmentOutcome> for proto::SegmentResponse {
    fn from(SegmentOutcome { found, processed_by }: SegmentOutcome) -> Self {
        let count = found.count();
        let primes = if let SegmentFound::Primes(primes) = found { primes.into_bytes() } else { Vec::new() };
        Self { count, primes, processed_by: processed_by.to_string() }
    }
}

impl SegmentOutcome {
    /// The answer to this segment.
    ///
    /// # Errors
    /// When it is the answer to something else.
    pub fn from_wire(wire: proto::SegmentResponse, asked: Segment) -> Result<Self, WrongSegment> {
        let proto::SegmentResponse { count, primes, processed_by } = wire;
        let processed_by = plain(&processed_by);
        let NumberRange { from, to } = asked.range;
        let found = match asked.lists {
            false => Some(SegmentFound::Count(count)).filter(|_| count <= asked.range.numbers()),
            true => PrimeMap::from_bytes(from..=to, primes).map(SegmentFound::Primes),
        };
        match found {
            Some(found) => Ok(Self { found, processed_by: processed_by.into() }),
            None => Err(WrongSegment(processed_by)),
        }
    }
}

impl From<CountProgress> for proto::RangeProgress {
    fn from(CountProgress { counted_to, count, segments }: CountProgress) -> Self {
        Self { counted_to, count, segments: segments.into_iter().map(Into::into).collect() }
    }
}

impl From<DoneSegment> for proto::DoneSegment {
    fn from(DoneSegment { range: NumberRange { from, to }, processed_by }: DoneSegment) -> Self {
        Self { from, to, processed_by: processed_by.to_string() }
    }
}

// ── Questions over HTTP ───────────────────────────────────────────────────────────────────────────────────────────

/// An end of a range, as it stands in a query.
///
/// # Errors
/// `invalid_argument` if it is no whole number below 2⁶⁴.
pub fn parse_end(name: &str, text: Option<&str>) -> Result<u64, ApiError> {
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.filter(is_number).and_then(|text| text.parse().ok()).ok_or_else(|| bad_end(name))
}

/// That an end of a range is no number.
pub fn bad_end(name: &str) -> ApiError {
    ApiError::invalid(format!(
        "`{name}` takes a whole number in decimal digits, from 0 to {}, such as ?from=1&to=100",
        u64::MAX
    ))
}

// ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// How many primes there are.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"from": "1", "to": "100", "count": "25", "took_ms": 3, "shares": [{"name": "worker1", "numbers": "100"}]}))]
pub struct CountAnswer<'a> {
    /// The first number of the range.
    pub from: String,
    /// The last.
    pub to: String,
    /// How many of them are prime.
    pub count: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Who did how much of it.
    pub shares: Vec<CountShare<'a>>,
}

/// How much of a range a node has done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"name": "worker1", "numbers": "100"}))]
pub struct CountShare<'a> {
    /// The name of the node.
    pub name: Cow<'a, str>,
    /// How many numbers of the range it has looked at.
    pub numbers: String,
}

/// A line of a count: how far it has come, or the last line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"counted_to": "1000000000", "count": "50847534", "segments": [{"from": "1", "to": "1000000000", "processed_by": "worker1"}]}))]
pub enum CountLine<'a> {
    /// How far it has come.
    Progress(ProgressLine<'a>),
    /// The last line.
    Last(LastCountLine<'a>),
}

/// How far a count has come. Whoever loses the stream asks for what follows `counted_to`, and adds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"counted_to": "1000000000", "count": "50847534", "segments": [{"from": "1", "to": "1000000000", "processed_by": "worker1"}]}))]
pub struct ProgressLine<'a> {
    /// Up to this number all are counted; absent before the first segment is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_to: Option<String>,
    /// How many primes there are from the beginning of the range to there.
    pub count: String,
    /// What was done since the line before, in order.
    pub segments: Vec<SegmentPart<'a>>,
}

/// A part of a range, and who did it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"from": "1", "to": "1000000000", "processed_by": "worker1"}))]
pub struct SegmentPart<'a> {
    /// Its first number.
    pub from: String,
    /// Its last.
    pub to: String,
    /// The name of the node that did the work.
    pub processed_by: Cow<'a, str>,
}

/// The last line of a count. Where it is missing, the answer is truncated.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"done": true, "count": "25", "took_ms": 3}))]
pub struct LastCountLine<'a> {
    /// Whether the whole range is counted.
    pub done: bool,
    /// How many primes there are from the beginning of the range to `counted_to` of the line before, which is its end if it
    /// is done.
    pub count: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why not all of it is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorPart<'a>>,
}

/// The primes of a range, or the first of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"from": "1", "to": "100", "primes": ["2", "3", "5"], "next": "/primes?from=6&to=100&limit=3"}))]
pub struct PrimesPage {
    /// The first number of the range.
    pub from: String,
    /// The last.
    pub to: String,
    /// The primes in ascending order, at most as many as the limit.
    #[schema(schema_with = primes_schema)]
    pub primes: Vec<String>,
    /// Where the next ones are; null if these are all.
    pub next: Option<String>,
}

fn primes_schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
    let prime = ObjectBuilder::new().schema_type(Type::String).description(Some("A prime.")).build();
    ArrayBuilder::new()
        .items(prime)
        .description(Some("The primes in ascending order, at most as many as the limit."))
        .into()
}

/// The beginning and the end of the line of a prime, between which its digits stand: the line is written by hand, for there
/// are millions.
pub const PRIME_LINE: [&[u8]; 2] = [b"{\"prime\":\"", b"\"}\n"];

/// A line of a list: a prime, how far it has come, or the last line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"prime": "1000000000000037"}))]
pub enum ListLine<'a> {
    /// A prime.
    #[expect(dead_code, reason = "it stands in the contract, and is written by hand")]
    Prime(PrimeLine),
    /// How far it has come.
    Progress(ListedLine),
    /// The last line.
    Last(LastListLine<'a>),
}

/// A prime.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"prime": "1000000000000037"}))]
pub struct PrimeLine {
    /// It.
    pub prime: String,
}

/// How far a list has come. Whoever loses the stream asks for what follows `listed_to`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"listed_to": "1000000015728639"}))]
pub struct ListedLine {
    /// Up to this number all primes are listed.
    pub listed_to: String,
}

/// The last line of a list. Where it is missing, the answer is truncated.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"done": true, "count": "25"}))]
pub struct LastListLine<'a> {
    /// Whether all of the range is listed, or as many as the limit.
    pub done: bool,
    /// How many primes came before this line.
    pub count: String,
    /// Why not all of it is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorPart<'a>>,
}

/// Who did how much, in the order of their names.
#[derive(Debug, Default)]
pub struct WorkShares(std::collections::BTreeMap<Arc<str>, u64>);

impl WorkShares {
    /// Counts what was done.
    pub fn add(&mut self, segments: &[DoneSegment]) {
        for DoneSegment { range, processed_by } in segments {
            let numbers = self.0.entry(Arc::clone(processed_by)).or_default();
            *numbers = numbers.saturating_add(range.numbers());
        }
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, numbers)| (&**name, *numbers))
    }

    /// As they stand in the answer.
    pub fn parts(&self) -> Vec<CountShare<'_>> {
        self.iter()
            .map(|(name, numbers)| CountShare { name: name.into(), numbers: numbers.to_string() })
            .collect()
    }
}

impl<'a> From<&'a CountProgress> for ProgressLine<'a> {
    fn from(progress: &'a CountProgress) -> Self {
        let CountProgress { counted_to, count, segments } = progress;
        let part = |DoneSegment { range, processed_by }: &'a DoneSegment| SegmentPart {
            from: range.from.to_string(),
            to: range.to.to_string(),
            processed_by: Cow::Borrowed(processed_by),
        };
        Self {
            counted_to: counted_to.map(|number| number.to_string()),
            count: count.to_string(),
            segments: segments.iter().map(part).collect(),
        }
    }
}
