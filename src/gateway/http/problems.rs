//! The errors in the contract. Each is described there once, and its example is made by the code that makes the real error.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode};
use utoipa::{
    IntoResponses,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, schema::Type,
    },
};

use super::{defect, detail_of, health, prime, primes, results};
use crate::{
    api::{
        error::{ApiError, CheckError},
        primes::ItemPlace,
        ranges::bad_end,
    },
    gateway::{busy, context, next::there_is_none},
    limits::{BODY_BYTES_MAX_DEFAULT, IN_FLIGHT_MAX_DEFAULT, JSON_BULK_BYTES_MAX},
    prime::Direction,
};

/// The id of the request that the examples answer.
pub const EXAMPLE_ID: &str = "9f2c4a51d0b84f0e8f0d3a7c5b6e1d24";

/// An error of the contract.
struct Documented {
    name: &'static str,
    description: &'static str,
    error: ApiError,
}

type Make = fn() -> Documented;

const ALL: [Make; 15] = [
    malformed,
    bad_limit,
    bad_range,
    none,
    not_acceptable,
    late,
    too_large,
    too_many_bytes,
    unsupported,
    too_much,
    internal,
    unavailable,
    unavailable_for_one,
    not_ready,
    overdue,
];

/// The errors of an operation that checks one number.
pub struct CheckProblems;

/// The errors of a body that holds one number.
pub struct BodyProblems;

/// The errors of the operation that checks many numbers.
pub struct BulkProblems;

/// The error of the operation that looks for a prime below a number.
pub struct NoneProblems;

/// The errors of an operation on a range.
pub struct RangeProblems;

/// The errors of the list of results.
pub struct ResultsProblems;

/// The errors of any other operation that is refused when too much is in flight.
pub struct ViewProblems;

/// The errors of the readiness probe.
pub struct ReadyProblems;

/// The errors of an operation that a full node answers too.
pub struct ProbeProblems;

impl IntoResponses for CheckProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[malformed, too_much, internal, unavailable, overdue])
    }
}

impl IntoResponses for BodyProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[late, too_large, unsupported])
    }
}

impl IntoResponses for BulkProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[
            malformed,
            late,
            too_many_bytes,
            unsupported,
            too_much,
            internal,
            unavailable_for_one,
            overdue,
        ])
    }
}

impl IntoResponses for NoneProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[none])
    }
}

impl IntoResponses for RangeProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[bad_range, too_much, internal, unavailable, overdue])
    }
}

impl IntoResponses for ResultsProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[bad_limit, not_acceptable, too_much, internal])
    }
}

impl IntoResponses for ViewProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[not_acceptable, too_much, internal])
    }
}

impl IntoResponses for ReadyProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[not_acceptable, not_ready])
    }
}

impl IntoResponses for ProbeProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[not_acceptable])
    }
}

/// References to these errors, by their statuses, which are different.
fn references(problems: &[Make]) -> BTreeMap<String, RefOr<Response>> {
    let reference = |make: &Make| {
        let Documented { name, error, .. } = make();
        (error.status().as_u16().to_string(), Ref::from_response_name(name).into())
    };
    problems.iter().map(reference).collect()
}

/// The errors that the references name, for the shared part of the contract.
pub fn responses() -> impl Iterator<Item = (&'static str, Response)> {
    ALL.iter().map(|make| {
        let documented = make();
        (documented.name, response(documented))
    })
}

fn response(documented: Documented) -> Response {
    let status = documented.error.status();
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        // A struct of strings and numbers always serialises.
        .example(serde_json::to_value(documented.error.problem(EXAMPLE_ID)).ok());
    let response = ResponseBuilder::new()
        .description(documented.description)
        .content("application/problem+json", content.build());
    if status != StatusCode::TOO_MANY_REQUESTS {
        return response.build();
    }
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
    let header = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds"));
    response.header("Retry-After", header.build()).build()
}

fn malformed() -> Documented {
    Documented {
        name: "Malformed",
        description: "The body, a number or a header is malformed; `detail` says which, and what is allowed",
        error: context::malformed("grpc-timeout", "30"),
    }
}

fn bad_limit() -> Documented {
    Documented {
        name: "BadLimit",
        description: "The query is not `limit`, or not a whole number from 1 to 1,000",
        error: results::bad_limit(),
    }
}

fn bad_range() -> Documented {
    Documented {
        name: "BadRange",
        description: "An end of the range, the limit or a header is malformed, or the range begins after its end; `detail` says which, and what is allowed",
        error: bad_end("from"),
    }
}

fn none() -> Documented {
    Documented {
        name: "NoneBelow",
        description: "There is no prime below the number",
        error: there_is_none(Direction::Previous),
    }
}

fn not_acceptable() -> Documented {
    let status = StatusCode::NOT_ACCEPTABLE;
    Documented {
        name: "NotAcceptable",
        description: "`Accept-Encoding` excludes every encoding that there is",
        error: ApiError::http(status, detail_of(status)),
    }
}

fn late() -> Documented {
    Documented {
        name: "Late",
        description: "The body did not arrive within the deadline, or within 5 s",
        error: prime::late(),
    }
}

fn too_large() -> Documented {
    Documented {
        name: "TooLarge",
        description: "The body is larger than the node takes for one number: 16 KiB, unless its operator says otherwise",
        error: prime::too_large(BODY_BYTES_MAX_DEFAULT, prime::JSON_BODY),
    }
}

fn too_many_bytes() -> Documented {
    Documented {
        name: "TooLargeForJson",
        description: "The JSON is larger than 8 MiB",
        error: prime::too_large(JSON_BULK_BYTES_MAX, primes::JSON_BODY),
    }
}

fn unsupported() -> Documented {
    Documented {
        name: "Unsupported",
        description: "The content type is not one of those that are taken, or the body is encoded",
        error: prime::encoded(&HeaderValue::from_static("gzip")),
    }
}

fn too_much() -> Documented {
    Documented {
        name: "TooMuch",
        description: "Too much is in flight on this node; try again after `Retry-After` seconds, or at another one",
        error: busy(IN_FLIGHT_MAX_DEFAULT),
    }
}

fn internal() -> Documented {
    Documented { name: "Defect", description: "A defect of the node; its log says more", error: defect() }
}

fn unavailable() -> Documented {
    Documented {
        name: "Unavailable",
        description: "Nobody could do the work, or the node stops",
        error: CheckError::NoWorkers.into(),
    }
}

fn unavailable_for_one() -> Documented {
    Documented {
        name: "UnavailableForOne",
        description: "Nobody could do the work for one of the numbers, or the node stops",
        error: ApiError::from(CheckError::NoWorkers).of(ItemPlace(0)),
    }
}

fn not_ready() -> Documented {
    Documented {
        name: "NotReady",
        description: "It cannot, for instance because it is stopping",
        error: health::not_ready(true, false),
    }
}

fn overdue() -> Documented {
    Documented {
        name: "Overdue",
        description: "The deadline passed before there was an answer",
        error: CheckError::DeadlineExceeded.into(),
    }
}
