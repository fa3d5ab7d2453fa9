//! What can go wrong: the errors as the node knows them, as gRPC statuses, and as problem+json (RFC 9457). They are
//! mapped here, once.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use primacy_election::{Refusal, TransferError};
use serde::Serialize;
use thiserror::Error;
use tonic::{Code, Status};
use utoipa::ToSchema;

use crate::{prime::NumberError, text::line};

/// Why a check has no answer.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum CheckError {
    /// Every queue that could take it is full.
    #[error("{0}")]
    Overloaded(String),
    /// The time that the client gave is over.
    #[error("the deadline passed before there was an answer; ask with a longer one, up to 300 s")]
    DeadlineExceeded,
    /// There is no worker, and this node was told not to work itself.
    #[error("no workers available")]
    NoWorkers,
    /// A peer forwarded it to this node, which does not lead any more and reaches no workers.
    #[error("this node does not lead; ask the leader")]
    NotLeading,
    /// Those that were asked could not.
    #[error("{0}")]
    Unavailable(String),
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

/// Why the cluster does not answer a peer.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum CallError {
    /// Too many events wait.
    #[error("this node is busy; try again in a moment")]
    Busy,
    /// The sender cannot be a member.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No leader is reached.
    #[error("no leader is reached; try again in a moment")]
    NoLeader,
    /// The leader does not hand over.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The member does not lead in time.
    #[error("{0} did not take over in time, and the leader goes on leading")]
    NotTaken(String),
}

/// An error on its way out. Made of a gRPC code; the HTTP status follows from it by Connect's table, unless HTTP has
/// a better one.
#[derive(Debug, Clone)]
pub struct ApiError {
    code: Code,
    status: StatusCode,
    detail: String,
}

/// The one shape of an error: RFC 9457, with the gRPC code and the request's id.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status and `code` say what kind it is.
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// The HTTP status in words.
    #[schema(example = "Bad Request")]
    title: String,
    /// The HTTP status.
    #[schema(example = 400, minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong, what is allowed, and what to do.
    #[schema(example = "the query takes `limit`, a whole number from 1 to 1000, such as ?limit=10")]
    detail: String,
    /// The gRPC status in words, as the Connect protocol spells it.
    #[schema(example = "invalid_argument")]
    code: &'static str,
    /// The gRPC status.
    #[schema(example = 3, minimum = 1, maximum = 16)]
    grpc_code: i32,
    /// The request's id; quote it when you report a problem to the operator.
    #[schema(example = "9f2c4a51d0b84f0e8f0d3a7c5b6e1d24")]
    request_id: String,
}

/// An error as a part of an answer: of one number of many.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"code": "deadline_exceeded", "grpc_code": 4, "detail": "the deadline passed before there was an answer; ask with a longer one, up to 300 s"}))]
pub struct ErrorPart<'a> {
    /// The gRPC status in words, as the Connect protocol spells it.
    #[schema(example = "invalid_argument")]
    code: &'static str,
    /// The gRPC status.
    #[schema(example = 3, minimum = 1, maximum = 16)]
    grpc_code: i32,
    /// What was wrong, what is allowed, and what to do.
    detail: &'a str,
}

impl ApiError {
    /// The error as a part of an answer.
    pub fn part(&self) -> ErrorPart<'_> {
        ErrorPart { code: code_name(self.code), grpc_code: self.code.into(), detail: &self.detail }
    }

    /// The same error with a beginning that says of which number it is.
    #[must_use]
    pub fn of(self, which: impl std::fmt::Display) -> Self {
        Self { detail: format!("{which}: {}", self.detail), ..self }
    }

    /// An error by its gRPC code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::with(code, http_status(code), &detail.into())
    }

    /// What the client sent is wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, detail)
    }

    /// An error by its HTTP status.
    pub fn http(status: StatusCode, detail: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
            StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            other if other.is_client_error() => Code::InvalidArgument,
            _ => Code::Internal,
        };
        Self::with(code, status, &detail.into())
    }

    /// The detail may repeat what the client sent, or what another node said.
    fn with(code: Code, status: StatusCode, detail: &str) -> Self {
        Self { code, status, detail: line(detail) }
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the response to a request of this id says.
    pub fn problem(&self, request_id: &str) -> Problem {
        Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Client Closed Request").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: code_name(self.code),
            grpc_code: self.code.into(),
            request_id: request_id.to_owned(),
        }
    }

    /// The response to a request of this id.
    pub fn into_problem(self, request_id: &str) -> Response {
        // A struct of strings and numbers always serialises.
        let body = serde_json::to_vec(&self.problem(request_id)).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// The outermost layer, which knows the request's id, writes the body.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::Busy => Code::ResourceExhausted,
            CallError::NoLeader => Code::Unavailable,
            CallError::NotTaken(_) => Code::Aborted,
            CallError::Refused(Refusal::Listed | Refusal::Absurd) => Code::InvalidArgument,
            CallError::Refused(Refusal::Taken(_)) => Code::AlreadyExists,
            CallError::Refused(Refusal::Full) => Code::ResourceExhausted,
            CallError::Transfer(TransferError::Unknown(_)) => Code::NotFound,
            CallError::Transfer(
                TransferError::NotLeading
                | TransferError::Stopping
                | TransferError::NotReached(_)
                | TransferError::Busy,
            ) => Code::Unavailable,
            CallError::Transfer(_) => Code::FailedPrecondition,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Self::new(error.code, error.detail)
    }
}

impl From<CheckError> for ApiError {
    fn from(error: CheckError) -> Self {
        let code = match &error {
            CheckError::Overloaded(_) => Code::ResourceExhausted,
            CheckError::DeadlineExceeded => Code::DeadlineExceeded,
            CheckError::NotLeading => Code::Aborted,
            CheckError::NoWorkers | CheckError::Unavailable(_) => Code::Unavailable,
            CheckError::Internal(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<NumberError> for ApiError {
    fn from(error: NumberError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Connect's table of gRPC codes to HTTP statuses.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Aborted | Code::AlreadyExists => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The code as the Connect protocol spells it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "canceled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grpc_code_has_the_http_status_of_connects_table() {
        let statuses: Vec<u16> = (0..=16).map(|code| http_status(Code::from(code)).as_u16()).collect();
        let table = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        assert_eq!(statuses, table);
    }
}
