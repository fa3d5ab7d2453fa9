//! A connection on which only gRPC counts as an answer. A proxy answers by itself when it reaches nobody, and a web
//! server answers whatever it is asked.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use thiserror::Error as ThisError;
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response, StatusCode, header::CONTENT_TYPE},
    transport,
};
use tower::Service;

/// A connection to an endpoint, which is made when it is first used.
#[derive(Clone)]
pub(in crate::cli) struct Channel(transport::Channel);

impl Channel {
    pub(in crate::cli) fn new(channel: transport::Channel) -> Self {
        Self(channel)
    }
}

/// What answered was no gRPC server.
#[derive(Debug, ThisError)]
#[error("it answers HTTP {0}, not gRPC")]
struct NotGrpc(u16);

type BoxError = Box<dyn Error + Send + Sync>;

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async { judge(answer.await?) })
    }
}

fn judge(response: Response<Body>) -> Result<Response<Body>, BoxError> {
    let headers = response.headers();
    let is_grpc =
        headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let has_status = response.status() == StatusCode::OK || headers.contains_key(Status::GRPC_STATUS);
    match is_grpc && has_status {
        true => Ok(response),
        false => Err(NotGrpc(response.status().as_u16()).into()),
    }
}
