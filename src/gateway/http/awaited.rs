//! Work for a client that may be gone.

use std::{
    future::{pending, ready},
    time::Instant,
};

use axum::http::Extensions;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::sleep;
use tonic::Code;

use crate::{api::error::ApiError, gateway::listener::arrival::Arrival, limits::HALF_CLOSED_MAX};

/// Does the work for one answer. When the client has ended its input, it goes on for a limited time: whether anybody
/// still waits shows only when something is written.
///
/// # Errors
/// Those of the work; `deadline_exceeded` after that time.
pub(super) async fn while_awaited<T>(
    request: &Extensions,
    deadline: Instant,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match request.get::<Arrival>() {
        Some(arrival) if deadline > arrival.at + HALF_CLOSED_MAX => tokio::select! {
            done = work => done,
            error = has_left(arrival) => Err(error),
        },
        _ => work.await,
    }
}

/// The items of an answer that is streamed, by the same rule: after that time an error is the last one.
pub(super) fn items_while_awaited<T, S>(
    request: &Extensions,
    items: S,
) -> impl Stream<Item = Result<T, ApiError>> + Send + use<T, S>
where
    T: Send,
    S: Stream<Item = Result<T, ApiError>> + Send,
{
    let arrival = request.get::<Arrival>().cloned();
    let left = async move {
        match arrival {
            Some(arrival) => Some(Err(has_left(&arrival).await)),
            None => pending().await,
        }
    };
    // It ends with the items, whether or not the client has left.
    let items = items.map(Some).chain(stream::once(ready(None)));
    stream::select(stream::once(left), items).take_while(|item| ready(item.is_some())).filter_map(ready)
}

async fn has_left(arrival: &Arrival) -> ApiError {
    arrival.input_ended().await;
    sleep(HALF_CLOSED_MAX).await;
    let detail = format!(
        "your side of the connection ended, after which a check goes on for {} s; keep it open to wait for longer",
        HALF_CLOSED_MAX.as_secs()
    );
    ApiError::new(Code::DeadlineExceeded, detail)
}
