//! `POST /primes`: many numbers, as JSON or as NDJSON.

mod ndjson;

use std::{fmt, pin::Pin, sync::Arc, time::Instant};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use tokio::{task::yield_now, time::timeout_at};
use tonic::Status;
use utoipa::ToSchema;

use super::{
    STREAMED,
    awaited::while_awaited,
    prime::{PrimeAnswer, RequestHeaders, expect_json, expect_plain, parse_number, read_body},
    problems::BulkProblems,
};
use crate::{
    cluster::trace::Trace,
    gateway::{
        Gateway,
        admission::memory::Held,
        bulk::{
            self,
            lines::BYTE_ORDER_MARK,
            window::{Answered, Terms, Window},
        },
        context::patience,
        error::ApiError,
        listener::arrival::Arrival,
    },
    limits::{BODY_TIMEOUT, BULK_CHUNK_BYTES, JSON_BULK_BYTES_MAX, JSON_BULK_NUMBERS_MAX},
    prime::Number,
    scheduler::CheckError,
};
use ndjson::{AnswerLine, Answers, Ndjson, NumberLines};

/// The content type of lines of JSON.
pub const NDJSON: &str = "application/x-ndjson";
/// The names by which clients know it.
const NDJSON_NAMES: [&str; 3] = [NDJSON, "application/ndjson", "application/jsonl"];

/// A body above this is taken apart off the runtime's threads: it takes more than a moment.
const PARSED_INLINE_BYTES_MAX: usize = 16 * 1024;
/// What a body is called that is too large.
pub(super) const JSON_BODY: &str = "a JSON body; send more as application/x-ndjson";
/// Bytes that an answer has beside its digits, with a name of usual length.
const ANSWER_BYTES: usize = 90;

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
    results: Vec<PrimeAnswer<'a>>,
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
        .items(super::prime::number_schema())
        .max_items(Some(JSON_BULK_NUMBERS_MAX))
        .description(Some("Up to 100,000 numbers."))
        .into()
}

/// Are these numbers prime?
///
/// As JSON, all of them are answered, or none: a mistake, or a number without an answer, is named by its place. The body is
/// read as JSON also if it has no content type, or the one that `curl -d` gives it.
///
/// As NDJSON (`application/x-ndjson`, `application/ndjson` or `application/jsonl`) the numbers come one a line, an integer or a
/// string each, without an end if need be, and the answers leave one a line, in order, while the request still goes on; blank
/// lines have no answer. A line that is no number, or whose number has no answer in time, becomes
/// `{"line": 3, "error": {…}}`, and the others are answered all the same. The last line, `{"done": true, "count": 2}`, counts
/// the lines before it: where it is missing the answer is truncated, and where it says `"done": false` the rest is to be sent
/// again, to another node. Whoever does not read is not read from, so read while you send.
#[utoipa::path(
    post, path = "/primes", tag = "numbers", operation_id = "checkPrimes",
    params(RequestHeaders),
    request_body(description = "The numbers", content(
        (inline(PrimesQuestion) = "application/json", example = json!({"numbers": [17, 18, "170141183460469231731687303715884105727"]})),
        (inline(NumberLines) = "application/x-ndjson", example = "17\n18\n\"170141183460469231731687303715884105727\"\n"),
    )),
    responses(
        (status = 200, description = "The answers, in order", content(
            (PrimesAnswer = "application/json"),
            (AnswerLine = "application/x-ndjson", example = "{\"number\":\"17\",\"is_prime\":true,\"processed_by\":\"worker1\",\"certainty\":\"proven\"}\n{\"line\":2,\"error\":{\"code\":\"invalid_argument\",\"grpc_code\":3,\"detail\":\"\\\"abc\\\" is not a decimal integer; only the digits 0-9 are allowed, after an optional minus sign, such as 1000 or -5\"}}\n{\"done\":true,\"count\":2}\n"),
        )),
        BulkProblems,
    )
)]
pub async fn check_primes(
    State(gateway): State<Arc<Gateway>>,
    Extension(trace): Extension<Arc<Trace>>,
    Extension(Arrival { from, .. }): Extension<Arrival>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    let terms = Terms { patience: patience(headers, gateway.config.deadline)?, trace };
    expect_plain(headers)?;
    if is_ndjson(headers) {
        let place = bulk::enter(&gateway, from.ip())?;
        let pieces = pieces_of(headers, body).await;
        return Ok(answer_lines(&gateway, place, terms, pieces));
    }
    expect_json(headers, "application/json or application/x-ndjson")?;
    let hold = || gateway.memory.hold(from.ip());
    answer_json(&gateway, terms, &head, body, [hold(), hold()]).await
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    NDJSON_NAMES.iter().any(|name| essence.eq_ignore_ascii_case(name))
}

/// The pieces of a body as they come.
async fn pieces_of(
    headers: &HeaderMap,
    body: Body,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + Unpin + 'static {
    let mut pieces = body.into_data_stream().peekable();
    if headers.contains_key(header::EXPECT) {
        // hyper says "100 Continue" when the body is first asked for, and no more once the answer has begun. It does so
        // when its turn comes; the first piece may come much later.
        let _ = Pin::new(&mut pieces).peek().now_or_never();
        yield_now().await;
    }
    pieces.map_err(|_| ApiError::invalid("the body ended before it was whole"))
}

fn answer_lines(
    gateway: &Arc<Gateway>,
    place: bulk::BulkPlace,
    terms: Terms,
    pieces: impl Stream<Item = Result<Bytes, ApiError>> + Send + Unpin + 'static,
) -> Response {
    let chunks = bulk::answer(gateway, place, terms, Ndjson::default(), pieces);
    // An error cuts the body off, so that it does not pass for the whole.
    let body = Body::from_stream(chunks.map_err(Status::from));
    ([(header::CONTENT_TYPE, NDJSON)], STREAMED, body).into_response()
}

async fn answer_json(
    gateway: &Arc<Gateway>,
    terms: Terms,
    head: &Parts,
    body: Body,
    [mut held_body, mut held_answer]: [Held; 2],
) -> Result<Response, ApiError> {
    let deadline = Instant::now() + terms.patience;
    let arriving = gateway.in_flight.arrive();
    let body = read_question(&head.headers, body, deadline, &mut held_body).await?;
    drop(arriving);
    let _pass = gateway.enter()?;
    let body_bytes = body.len();
    let numbers = match body_bytes > PARSED_INLINE_BYTES_MAX {
        false => parse_question(&body)?,
        true => off_the_runtime(move || parse_question(&body)).await?,
    };
    let answer_bytes = numbers.len() * ANSWER_BYTES + body_bytes;
    held_answer.grow(answer_bytes)?;
    let answered = answer_numbers(Window::new(Arc::clone(gateway), terms), numbers, answer_bytes);
    let in_time = async {
        let answered = timeout_at(deadline.into(), answered).await;
        answered.map_err(|_| ApiError::from(CheckError::DeadlineExceeded))?
    };
    let answer = while_awaited(&head.extensions, deadline, in_time).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CONTENT_LENGTH, answer.len().into()),
    ];
    Ok((headers, json_body(held_answer, answer)).into_response())
}

/// A large answer counts as held until it has left; a small one is no more than any other.
fn json_body(held: Held, answer: Vec<u8>) -> Body {
    match answer.len() > BULK_CHUNK_BYTES {
        false => Body::from(answer),
        true => Body::from_stream(bulk::send_whole(held, answer).map_err(Status::from)),
    }
}

/// Reads a body whose place grows with it: whoever announces much and sends little holds little.
async fn read_question(
    headers: &HeaderMap,
    body: Body,
    deadline: Instant,
    held: &mut Held,
) -> Result<Vec<u8>, ApiError> {
    let deadline = deadline.min(Instant::now() + BODY_TIMEOUT);
    let mut pieces = body.into_data_stream();
    read_body(headers, &mut pieces, JSON_BULK_BYTES_MAX, JSON_BODY, deadline, held).await
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(ApiError::http(StatusCode::INTERNAL_SERVER_ERROR, "this body met a defect of the node"))
    })
}

fn parse_question(body: &[u8]) -> Result<Vec<Number>, ApiError> {
    let unexpected = |why: String| {
        ApiError::invalid(format!(
            "the body is not the JSON that is expected: {why}; send {{\"numbers\": [17, 18]}}"
        ))
    };
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    // serde would take the items of an array for the fields of a struct.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(unexpected("it is an array".to_owned()));
    }
    let question: PrimesQuestion<'_> =
        serde_json::from_slice(body).map_err(|error| unexpected(error.to_string()))?;
    let items = question.numbers.0.into_iter().enumerate();
    items.map(|(place, item)| parse_number(item.get()).map_err(|error| error.of(ItemPlace(place)))).collect()
}

/// A number as it stands in a line: an integer, or a string.
fn parse_item(item: &[u8]) -> Result<Number, ApiError> {
    let text = str::from_utf8(item)
        .map_err(|_| ApiError::invalid("the line is not UTF-8; write a decimal integer such as 17 or -5"))?;
    parse_number(text)
}

/// A place in the array, counted from 0 as JSON's tools do.
pub(super) struct ItemPlace(pub usize);

impl fmt::Display for ItemPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "numbers[{}]", self.0)
    }
}

async fn answer_numbers(
    mut window: Window,
    numbers: Vec<Number>,
    answer_bytes: usize,
) -> Result<Vec<u8>, ApiError> {
    let mut answers = Answers::begun(b"{\"results\":[", b',', answer_bytes);
    let mut numbers = numbers.into_iter();
    loop {
        while window.has_room()
            && let Some(number) = numbers.next()
        {
            window.push(number);
        }
        if numbers.len() == 0 {
            window.flush();
        }
        if window.is_empty() {
            return Ok(answers.ended(b"]}"));
        }
        window.front_done().await;
        while let Some(answered) = window.next_ready()? {
            put(&mut answers, answered)?;
        }
    }
}

fn put(answers: &mut Answers, answered: Answered) -> Result<(), ApiError> {
    let of = |line: u64, error| ApiError::from(error).of(ItemPlace(line as usize - 1));
    match answered {
        Answered::Batch(lines, batch, outcome) => {
            answers.put_batch(&batch.values, &outcome.map_err(|error| of(lines.at(0), error))?);
        }
        Answered::One(line, number, outcome) => {
            answers.put(&number, &outcome.map_err(|error| of(line, error))?)
        }
        Answered::Bad(_, error) => return Err(error),
    }
    Ok(())
}
