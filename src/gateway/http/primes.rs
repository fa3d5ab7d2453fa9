//! `POST /primes`: many numbers, as JSON or as NDJSON.

mod ndjson;

use std::{pin::Pin, sync::Arc, time::Instant};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use tokio::{task::yield_now, time::timeout_at};
use tonic::Status;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    STREAMED,
    awaited::while_awaited,
    prime::{RequestHeaders, expect_json, expect_plain, read_body},
    problems::BulkProblems,
};
use crate::{
    api::{
        error::{ApiError, CheckError},
        primes::{AnswerLine, ItemPlace, NDJSON, NumberLines, PrimesAnswer, PrimesQuestion, parse_question},
    },
    cluster::trace::Trace,
    gateway::{
        Gateway,
        admission::memory::Held,
        bulk::{
            self,
            window::{Answered, Terms, Window},
        },
        context::patience,
        listener::arrival::Arrival,
    },
    limits::{BODY_TIMEOUT, BULK_CHUNK_BYTES, JSON_BULK_BYTES_MAX},
    prime::Number,
};
use ndjson::{Answers, Ndjson};

/// The operations of this file.
pub(super) fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(check_primes))
}

/// The names by which clients know it.
pub(super) const NDJSON_NAMES: [&str; 3] = [NDJSON, "application/ndjson", "application/jsonl"];

/// A body above this is taken apart off the runtime's threads: it takes more than a moment.
const PARSED_INLINE_BYTES_MAX: usize = 16 * 1024;
/// What a body is called that is too large.
pub(super) const JSON_BODY: &str = "a JSON body; send more as application/x-ndjson";
/// Bytes that an answer has beside its digits, with a name of usual length.
const ANSWER_BYTES: usize = 90;

/// Are these numbers prime?
///
/// As JSON, all of them are answered, or none: the error names the place of the number that is wrong or has no answer.
/// The body is read as JSON also if it has no content type, or the one that `curl -d` gives it.
///
/// As NDJSON (`application/x-ndjson`, `application/ndjson` or `application/jsonl`) the numbers come one a line, an integer or a
/// string each, without an end if need be, and the answers leave one a line, in order, while the request still goes on; blank
/// lines have no answer. A line that is no number, or whose number has no answer in time, becomes
/// `{"line": 3, "error": {…}}`, and the others are answered all the same. The last line, `{"done": true, "count": 2}`, counts
/// the lines before it: where it is missing the answer is truncated, and where it says `"done": false` the rest is to
/// be sent again, to another node. If the client does not read its answers, the node stops reading from it, so read
/// while you send.
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

/// Charges the caller for the bytes that have come, and not for the length that was announced.
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
        Err(ApiError::http(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this body met an internal error of the node; its log says more",
        ))
    })
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
